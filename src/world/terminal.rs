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
/// temporary
pub fn width() -> Option<usize> {
    rustix::termios::tcgetwinsize(std::io::stderr()).ok().map(|s| usize::from(s.ws_col)).filter(|w| *w > 0)
}
/// temporary
pub async fn read_line() -> std::io::Result<Option<String>> {
    tokio::task::spawn_blocking(|| {
        let mut s = String::new();
        std::io::stdin().read_line(&mut s).map(|n| (n > 0).then_some(s))
    })
    .await
    .unwrap_or(Ok(None))
}
