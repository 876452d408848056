//! What means nothing within a node: blanks, `/* … */`, and `\` with the end of its line.

use super::chars::{newline, space};

/// How much of `text` comes before its first token, its end of line or a comment without an end.
pub(super) fn gap(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let len = match rest.chars().next() {
            Some(c) if space(c) => Some(c.len_utf8()),
            Some('/') => comment(rest),
            Some('\\') => continuation(rest),
            _ => None,
        };
        match len {
            Some(len) => at += len,
            None => return at,
        }
    }
}

/// The length of the comment at the start of `text`, with those that are nested in it. `None` when
/// none starts there, or when it has no end.
pub(super) fn comment(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'/', Some(b'*')) => depth += 1,
            (b'*', Some(b'/')) if depth == 1 => return Some(at + 2),
            (b'*', Some(b'/')) if depth > 1 => depth -= 1,
            _ if depth == 0 => return None,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
}

/// The length of a `\` at the start of `text` with what else stands on its line, the line break
/// included. `None` when that is more than comments.
pub(super) fn continuation(text: &str) -> Option<usize> {
    let mut rest = text.strip_prefix('\\')?;
    loop {
        rest = rest.trim_start_matches(space);
        match comment(rest) {
            Some(len) => rest = &rest[len..],
            None => break,
        }
    }
    if rest.starts_with("//") {
        rest = &rest[rest.find(newline).unwrap_or(rest.len())..];
    }
    let end = match rest.chars().next() {
        None => 0,
        Some(_) if rest.starts_with("\r\n") => 2,
        Some(c) if newline(c) => c.len_utf8(),
        Some(_) => return None,
    };
    Some(text.len() - rest.len() + end)
}
