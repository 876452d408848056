//! Standard output carries data, standard error everything else.
//!
//! A closed pipe means that whoever reads has seen enough: it is no error.

use std::io::{BufWriter, Write as _};

use super::text;
use crate::world::terminal;

/// What goes to standard output at once, in bytes.
const BUFFER: usize = 1 << 16;

/// A line of data.
pub fn data(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Lines of data; there may be very many.
pub fn lines<L: AsRef<str>>(lines: impl IntoIterator<Item = L>) {
    let mut out = BufWriter::with_capacity(BUFFER, std::io::stdout().lock());
    let mut lines = lines.into_iter();
    let written: std::io::Result<()> = lines.try_for_each(|line| writeln!(out, "{}", line.as_ref()));
    let _ = written.and_then(|()| out.flush());
}

/// JSON as data, indented for people and programs alike.
pub fn json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        data(&text);
    }
}

/// A line that says why, for whoever watches: broken at the terminal's width, its indent and a
/// little more in front of what follows. Commands stay whole, to be copied; so does everything that
/// is read by a program.
pub fn reason(line: &str) {
    let columns = terminal::size().map(|(columns, _)| columns).filter(|_| !ends_in_command(line));
    let Some(columns) = columns else { return note(line) };
    for line in text::hanging(line, columns) {
        note(&line);
    }
}

/// `  all runs: flow runs`
fn ends_in_command(line: &str) -> bool {
    line.contains(": flow ") || line.contains("  flow ")
}

/// A line for whoever watches.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
