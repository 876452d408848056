//! The `flow` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    match flow::world::process::live_as_guard() {
        Some(code) => code.into(),
        None => flow::cli::main().into(),
    }
}
