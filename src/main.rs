//! The `flow` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    flow::cli::main().into()
}
