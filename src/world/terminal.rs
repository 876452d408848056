//! The terminal behind standard error, where reports go.

use rustix::termios::{isatty, tcgetwinsize};

/// Columns and rows; `None` when standard error is not a terminal. One that does not know its size
/// counts as 80 by 24.
#[must_use]
pub fn size() -> Option<(usize, usize)> {
    let terminal = std::io::stderr();
    if !isatty(&terminal) {
        return None;
    }
    match tcgetwinsize(&terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Some((usize::from(size.ws_col), usize::from(size.ws_row)))
        }
        _ => Some((80, 24)),
    }
}
