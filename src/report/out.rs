//! Standard output carries data, standard error everything else.
//!
//! A closed pipe means that whoever reads has seen enough: it is no error.

use std::io::Write as _;

/// A line of data.
pub fn data(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// JSON as data, indented for people and programs alike.
pub fn json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        data(&text);
    }
}

/// A line for whoever watches.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
