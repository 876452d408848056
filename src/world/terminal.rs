//! The terminal flow was started at, if there is one.

use std::io::IsTerminal as _;

/// Whether a person can type an answer.
#[must_use]
pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether messages are read by a person.
#[must_use]
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}
