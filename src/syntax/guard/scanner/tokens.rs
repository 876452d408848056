//! Words, strings and what is taken for one.

use super::super::chars::{newline, word};
use super::super::strings::{self, Fault};
use super::super::words::{self, Word};
use super::{Scanner, short};
use crate::syntax::problem::nearest;

impl Scanner<'_> {
    pub(super) fn stray(&mut self, c: char) {
        self.problem(
            self.at,
            self.at + 1,
            format!("\"{c}\" cannot stand here"),
            "brackets mean nothing here",
        );
        self.at += 1;
    }

    /// `["a", "b"]`: a list from elsewhere, all of it one mistake.
    pub(super) fn list(&mut self) {
        let rest = self.rest();
        let end = near(rest, |c| c == ']' || newline(c)).filter(|end| rest[*end..].starts_with(']'));
        let Some(len) = end else { return self.stray('[') };
        let items: Vec<&str> =
            rest[1..len].split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        let label = format!("write {}", short(&items.join(" ")));
        self.problem(self.at, self.at + len + 1, "a list is written as several values", label);
        self.at += len + 1;
    }

    /// `(type)`, which flow has no use for.
    pub(super) fn annotation(&mut self) {
        let rest = self.rest();
        let len = near(rest, |c| c == ')' || newline(c)).filter(|end| rest[*end..].starts_with(')'));
        match len {
            Some(len) => {
                self.problem(
                    self.at,
                    self.at + len + 1,
                    "type annotations mean nothing here",
                    "leave it out",
                );
                self.blank(self.at..self.at + len + 1);
                self.at += len + 1;
            }
            None => self.stray('('),
        }
    }

    pub(super) fn equals(&mut self) {
        let at = self.at;
        self.at += 1;
        let is_name =
            self.current.as_ref().is_some_and(|open| open.values == 0 && open.key.is_none() && !open.closed);
        let name = self.current.as_ref().map(|open| self.text[open.raw.name.clone()].to_owned());
        match name {
            Some(name) if is_name && name.len() <= 40 => {
                self.problem(at, at + 1, "\"=\" cannot stand here", format!("write {name} \"…\" without it"));
            }
            _ => self.problem(at, at + 1, "\"=\" cannot stand here", "no name stands before it"),
        }
        if let Some(open) = &mut self.current {
            open.last = 0;
        }
    }

    pub(super) fn keyword(&mut self) {
        let rest = &self.rest()[1..];
        let len = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let text = &rest[..len];
        let (start, end) = (self.at, self.at + 1 + len);
        let known = words::keyword(text);
        let naming = self.current.as_ref().is_none_or(|open| open.closed);
        self.value(end.max(start + 1), false);
        if naming {
            self.problem(start, end, "a node cannot be called that", "a name is expected");
        } else if !known {
            let near = nearest(&short(text), ["true", "false", "null"]);
            let label = near.map_or_else(
                || "there are #true, #false and #null".to_owned(),
                |near| format!("did you mean #{near}?"),
            );
            self.problem(start, end, format!("there is no \"#{}\"", short(text)), label);
        }
    }

    pub(super) fn word(&mut self) {
        let start = self.at;
        let rest = self.rest();
        let mut len = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let text = &rest[..len];
        if text == "r" && rest[1..].trim_start_matches('#').starts_with('"') {
            self.raw_habit();
            return;
        }
        // A path without quotes: all of it is one mistake.
        if rest[len..].starts_with('/') && !comment_starts(&rest[len..]) {
            while let Some(slash) = rest[len..].strip_prefix('/').filter(|_| !comment_starts(&rest[len..])) {
                len += 1 + slash.find(|c| !word(c)).unwrap_or(slash.len());
            }
            self.value(start + len, true);
            let path = short(&rest[..len]);
            self.problem(
                start,
                start + len,
                "a text with \"/\" in it needs quotes",
                format!("write \"{path}\""),
            );
            return;
        }
        let naming = self.current.as_ref().is_none_or(|open| open.closed);
        let class = words::word(text);
        self.value(start + len, class == Word::Name);
        let end = start + len;
        match class {
            Word::Name => {}
            _ if naming => self.problem(start, end, "a node cannot be called that", "a name is expected"),
            Word::Number => {}
            Word::NoNumber => {
                let text = short(text);
                self.problem(
                    start,
                    end,
                    format!("\"{text}\" is no number"),
                    format!("write \"{text}\" for text"),
                );
            }
            Word::Bare => {
                self.problem(start, end, format!("\"{text}\" needs a #"), format!("write #{text}"));
            }
        }
    }

    /// `r"…"` of KDL 1.
    pub(super) fn raw_habit(&mut self) {
        let start = self.at;
        let rest = &self.rest()[1..];
        let Some(found) = strings::string(rest) else { return };
        let end = start + 1 + found.len;
        self.value(end, true);
        self.problem(start, end, "raw strings start with # and not with r", "write #\"…\"#");
    }

    pub(super) fn string(&mut self) {
        let start = self.at;
        let Some(found) = strings::string(&self.text[start..]) else { return };
        let end = start + found.len;
        let text = &self.text[start..end];
        self.value(end, true);
        if let Some((at, c)) = text.char_indices().rfind(|(_, c)| newline(*c)) {
            self.line = start + at + c.len_utf8();
        }
        let Some(fault) = found.fault else { return };
        let (from, to, message, label) = match fault {
            Fault::Unclosed { end: to } => {
                (start, start + to, "this string is never closed".to_owned(), "no \" follows")
            }
            Fault::Escape { at, len } => {
                let escape = &text[at..at + len];
                (
                    start + at,
                    start + at + len,
                    format!("\"{escape}\" means nothing in a string"),
                    "write \\\\ for a backslash",
                )
            }
            Fault::Forbidden { at, len } => {
                let c = text[at..].chars().next().unwrap_or_default();
                let message = format!("the character U+{:04X} may not stand in a file", u32::from(c));
                (start + at, start + at + len, message, "write it as \\u{…}")
            }
            Fault::OneLine { at } => {
                let message = "three quotes stand at the end of a line and on a line of their own".to_owned();
                (start + at, start + at + 1, message, "put this on its own line")
            }
            Fault::Indent { at, len } => {
                let message = "this line starts left of the closing quotes".to_owned();
                (start + at, start + at + len, message, "indent it as far as those")
            }
        };
        let swallowed =
            end == self.text.len() && matches!(fault, Fault::Unclosed { .. }) && text.contains("\"\"\"");
        self.problem(from, to, message, label);
        if swallowed {
            self.close_all();
        }
    }
}

/// Where one of some characters comes, if that is on the next lines of any human file.
fn near(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    text.char_indices().take(200).find(|(_, c)| wanted(*c)).map(|(at, _)| at)
}

fn comment_starts(text: &str) -> bool {
    text.starts_with("//") || text.starts_with("/*") || text.starts_with("/-")
}
