//! Where a string ends, and whether what is in it can be read.

use super::chars::{forbidden, newline, space};

/// What is wrong with a string. Offsets count from its first character.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It has no end; for a string of one line, up to the line's end.
    Unclosed { end: usize },
    /// An escape that means nothing.
    Escape { at: usize, len: usize },
    /// A character that may not stand in a file.
    Forbidden { at: usize, len: usize },
    /// Text behind opening `"""`, or before closing ones.
    OneLine { at: usize },
    /// A line that starts further left than the closing `"""`.
    Indent { at: usize, len: usize },
}

/// A string that starts at the beginning of `text`, with `#` or `"`.
pub(super) struct Found {
    /// How long it is, quotes included.
    pub len: usize,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// Measures a string. `None` when none starts here.
pub(super) fn string(text: &str) -> Option<Found> {
    let hashes = text.bytes().take_while(|b| *b == b'#').count();
    let body = &text[hashes..];
    if !body.starts_with('"') {
        return None;
    }
    Some(if body.starts_with("\"\"\"") { lines(text, hashes) } else { line(text, hashes) })
}

/// A string on one line.
fn line(text: &str, hashes: usize) -> Found {
    let mut fault = None;
    let mut at = hashes + 1;
    while let Some(c) = text[at..].chars().next() {
        if c == '"' && closes(&text[at + 1..], hashes) {
            return Found { len: at + 1 + hashes, fault };
        }
        if newline(c) {
            break;
        }
        let len = if c == '\\' && hashes == 0 { escape(text, at, &mut fault) } else { c.len_utf8() };
        if forbidden(c) {
            fault.get_or_insert(Fault::Forbidden { at, len });
        }
        at += len;
    }
    Found { len: at, fault: Some(Fault::Unclosed { end: at }) }
}

fn closes(rest: &str, hashes: usize) -> bool {
    rest.bytes().take(hashes).filter(|b| *b == b'#').count() == hashes
}

/// The length of an escape; what is wrong with it goes to `fault`.
fn escape(text: &str, at: usize, fault: &mut Option<Fault>) -> usize {
    let rest = &text[at + 1..];
    let Some(next) = rest.chars().next() else { return 1 };
    if newline(next) || space(next) {
        return 1 + rest.find(|c| !newline(c) && !space(c)).unwrap_or(rest.len());
    }
    match next {
        '\\' | '"' | 'b' | 'f' | 'n' | 'r' | 't' | 's' => 2,
        'u' => {
            let digits = rest
                .strip_prefix("u{")
                .map_or(0, |hex| hex.bytes().take(6).take_while(u8::is_ascii_hexdigit).count());
            let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let closed = rest.get(2 + digits..).is_some_and(|rest| rest.starts_with('}'));
            if closed && code.and_then(char::from_u32).is_some() {
                return digits + 4;
            }
            fault.get_or_insert(Fault::Escape { at, len: 2 });
            2
        }
        other => {
            let len = 1 + other.len_utf8();
            fault.get_or_insert(Fault::Escape { at, len });
            len
        }
    }
}

/// A string of several lines.
fn lines(text: &str, hashes: usize) -> Found {
    let start = hashes + 3;
    let first = text[start..].chars().next();
    let mut fault = match first {
        Some(c) if newline(c) => None,
        _ => Some(Fault::OneLine { at: start }),
    };
    let mut at = start;
    let mut end = None;
    while let Some(c) = text[at..].chars().next() {
        if c == '"' && text[at..].starts_with("\"\"\"") && closes(&text[at + 3..], hashes) {
            end = Some(at);
            break;
        }
        let len = if c == '\\' && hashes == 0 { escape(text, at, &mut fault) } else { c.len_utf8() };
        if forbidden(c) {
            fault.get_or_insert(Fault::Forbidden { at, len });
        }
        at += len;
    }
    let Some(end) = end else {
        return Found { len: text.len(), fault: Some(Fault::Unclosed { end: start }) };
    };
    if fault.is_none() {
        fault = indent(&text[start..end], start);
    }
    Found { len: end + 3 + hashes, fault }
}

/// Whether every line starts with the blanks before the closing quotes.
fn indent(inner: &str, start: usize) -> Option<Fault> {
    let last = inner.rfind(newline).map_or(0, |at| at + inner[at..].chars().next().map_or(1, char::len_utf8));
    let prefix = &inner[last..];
    if !prefix.chars().all(space) {
        return Some(Fault::OneLine { at: start + inner.len() });
    }
    let mut at = 0;
    let mut continued = false;
    for line in inner[..last].split_inclusive(newline) {
        let blank = line.chars().all(|c| space(c) || newline(c));
        if at > 0 && !continued && !blank && !line.starts_with(prefix) {
            let blanks = line.find(|c| !space(c)).unwrap_or(0);
            return Some(Fault::Indent { at: start + at, len: blanks.max(1) });
        }
        // Behind a backslash at its end, the next line is part of this one.
        let trimmed = line.trim_end_matches(|c| newline(c) || space(c));
        continued = trimmed.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        at += line.len();
    }
    None
}
