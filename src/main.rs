//! The `flow` program; everything is in the library.

use std::process::ExitCode;

/// A plan is very many small texts: with the system's allocator a third of its time went there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match flow::world::process::live_as_guard() {
        Some(code) => code.into(),
        None => flow::cli::main().into(),
    }
}
