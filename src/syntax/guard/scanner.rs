//! The scan itself: a loop over tokens with a stack of open blocks. No recursion, one pass.

mod blocks;
mod tokens;

use std::ops::Range;

use super::blanks;
use super::chars::{forbidden, newline, space};
use super::{MAX_PROBLEMS, Raw, Scan};
use crate::syntax::problem::{Problem, Problems};
use crate::syntax::source::{FileId, Span};

/// A scan and whether its braces match.
pub(super) struct Outcome {
    pub scan: Scan,
    pub unbalanced: bool,
}

/// A node whose end was not seen yet.
#[derive(Debug, Default)]
struct Open {
    raw: Raw,
    /// `/-` stands before it.
    skipped: bool,
    /// Its block was closed: only its end may follow.
    closed: bool,
    /// A block of it was left out: only blocks may follow.
    blocks: bool,
    /// End of its last value.
    last: usize,
    /// A key whose value must follow.
    key: Option<Range<usize>>,
    /// Values seen.
    values: usize,
}

/// A block whose end was not seen yet.
struct Block {
    /// The node it belongs to; its siblings before it.
    node: Open,
    siblings: Vec<Raw>,
    /// Where its `{` stands.
    open: usize,
    /// Where the `/-` before the block stands.
    slashdash: Option<usize>,
    /// Blanks at the start of the line of its `{`.
    indent: usize,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts of one scan")]
pub(super) struct Scanner<'t> {
    text: &'t str,
    file: FileId,
    at: usize,
    blanked: Vec<u8>,
    problems: Problems,
    stack: Vec<Block>,
    nodes: Vec<Raw>,
    current: Option<Open>,
    slashdash: Option<usize>,
    /// Believe indentation more than braces.
    by_indent: bool,
    unbalanced: bool,
    refused: bool,
    line: usize,
    /// Only blanks were seen on this line.
    fresh: bool,
    indent: usize,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str, file: FileId, by_indent: bool) -> Self {
        Self {
            text,
            file,
            at: 0,
            blanked: text.as_bytes().to_vec(),
            problems: Problems::default(),
            stack: Vec::new(),
            nodes: Vec::new(),
            current: None,
            slashdash: None,
            by_indent,
            unbalanced: false,
            refused: false,
            line: 0,
            fresh: true,
            indent: 0,
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        if self.text.starts_with('\u{feff}') {
            self.blank(0..3);
            self.at = 3;
            self.line = 3;
        }
        while let Some(c) = self.rest().chars().next() {
            self.step(c);
            if self.refused || self.problems.0.len() >= MAX_PROBLEMS {
                break;
            }
        }
        self.finish()
    }

    fn finish(mut self) -> Outcome {
        if self.refused {
            let scan = Scan { problems: self.problems, ..Scan::default() };
            return Outcome { scan, unbalanced: false };
        }
        self.dangling();
        self.end_node();
        if self.problems.0.len() >= MAX_PROBLEMS {
            self.close_all();
        }
        while !self.stack.is_empty() {
            self.unbalanced = true;
            self.unclosed(None);
        }
        // Blanking writes spaces over whole characters, so this is UTF-8 as before.
        let text = String::from_utf8(self.blanked).unwrap_or_default();
        let scan = Scan { nodes: self.nodes, text, problems: self.problems };
        Outcome { scan, unbalanced: self.unbalanced }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let at = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);
        Span { file: self.file, start: at(start), end: at(end) }
    }

    fn push(&mut self, problem: Problem) {
        match (&mut self.current, self.stack.last_mut()) {
            (Some(open), _) => open.raw.bad = true,
            (None, Some(block)) => block.node.raw.incomplete = true,
            (None, None) => {}
        }
        self.problems.push(problem);
    }

    fn problem(&mut self, start: usize, end: usize, message: impl Into<String>, label: impl Into<String>) {
        let problem = Problem::at(self.span(start, end), message).label(label);
        self.push(problem);
    }

    fn blank(&mut self, range: Range<usize>) {
        if let Some(bytes) = self.blanked.get_mut(range) {
            bytes.fill(b' ');
        }
    }

    /// One token, or the blanks before one.
    fn step(&mut self, c: char) {
        let rest = self.rest();
        if newline(c) {
            self.line_break(c);
        } else if space(c) {
            self.at += c.len_utf8();
        } else if rest.starts_with("//") {
            let len = rest.find(newline).unwrap_or(rest.len());
            self.blank(self.at..self.at + len);
            self.at += len;
        } else if rest.starts_with("/*") {
            self.comment();
        } else {
            if self.fresh {
                self.indent = self.text[self.line..self.at].chars().count();
            }
            self.token(c);
            self.fresh = false;
        }
    }

    fn line_break(&mut self, c: char) {
        if self.current.as_ref().is_some_and(|open| open.key.is_some()) {
            self.slashdash = None;
        }
        if self.slashdash.is_none() {
            self.end_node();
        } else if self.current.is_some() {
            // What is left out may stand on the next line, and is still part of this node.
            self.blank(self.at..self.at + c.len_utf8());
        }
        self.at += c.len_utf8();
        self.line = self.at;
        self.fresh = true;
    }

    /// `/* … */`, nested.
    fn comment(&mut self) {
        let start = self.at;
        let len = blanks::comment(self.rest());
        if len.is_none() {
            self.problem(start, start + 2, "this comment is never closed", "no */ follows");
            self.close_all();
        }
        self.at = len.map_or(self.text.len(), |len| start + len);
        self.blank(start..self.at);
    }

    fn token(&mut self, c: char) {
        let rest = self.rest();
        match c {
            ';' => {
                self.dangling();
                if self.current.is_none() {
                    self.problem(self.at, self.at + 1, "this ; ends nothing", "leave it out");
                    self.blank(self.at..self.at + 1);
                }
                self.end_node();
                self.at += 1;
            }
            '{' => self.open(),
            '}' => self.close(),
            '\\' => self.continued(),
            '=' => self.equals(),
            '"' => self.string(),
            '#' if rest.trim_start_matches('#').starts_with('"') => self.string(),
            '#' => self.keyword(),
            '/' if rest.starts_with("/-") => {
                if self.slashdash.is_some() {
                    self.problem(self.at, self.at + 2, "\"/-\" stands twice", "once is enough");
                }
                if self.current.as_ref().is_some_and(|open| open.key.is_some()) {
                    let why = "leave the whole property out, or nothing";
                    self.problem(
                        self.at,
                        self.at + 2,
                        "\"/-\" cannot stand between a name and its value",
                        why,
                    );
                }
                let block = rest[2..].trim_start_matches(|c| space(c) || newline(c)).starts_with('{');
                if !block {
                    self.before_token();
                }
                self.slashdash.get_or_insert(self.at);
                self.at += 2;
            }
            '(' => self.annotation(),
            '[' => self.list(),
            ']' | ')' => self.stray(c),
            _ if forbidden(c) => {
                let end = self.at + c.len_utf8();
                let message = format!("the character U+{:04X} may not stand in a file", u32::from(c));
                self.problem(self.at, end, message, "leave it out");
                self.blank(self.at..end);
                self.at = end;
            }
            _ => self.word(),
        }
    }

    /// `\` at the end of a line.
    fn continued(&mut self) {
        let start = self.at;
        let len = blanks::continuation(self.rest());
        if len.is_none() {
            self.problem(start, start + 1, "\"\\\" cannot stand here", "it continues a line, at its end");
        }
        self.at = start + len.unwrap_or(1);
        self.blank(start..self.at);
        self.line = self.at;
    }

    /// What must be true before a value, a block or `/-` of the current node.
    fn before_token(&mut self) {
        let at = self.at;
        let Some(open) = &self.current else { return };
        if open.closed || open.blocks {
            // The node itself is whole.
            self.end_node();
            self.problem(at, at + 1, "a new line is missing here", "or a ; before it");
        } else if open.last == at {
            self.problem(at, at + 1, "a blank is missing here", "");
        }
    }

    /// A string or a word that ends at `end`: a name, a key or a value.
    fn value(&mut self, end: usize, text: bool) {
        let start = self.at;
        if self.current.as_ref().is_none_or(|open| open.key.is_none()) {
            self.before_token();
        }
        self.at = end;
        let gap = end..end + blanks::gap(&self.text[end..]);
        let Some(open) = &mut self.current else {
            self.start_node(start, end);
            return;
        };
        open.last = end;
        if open.key.take().is_some() {
            self.end_value(end);
            return;
        }
        if text && self.text[gap.end..].starts_with('=') {
            self.at = gap.end + 1;
            open.key = Some(start..end);
            open.last = self.at;
            self.blank(gap);
            return;
        }
        if open.values == 0 && text && self.slashdash.is_none() {
            open.raw.first = Some(start..end);
        }
        open.values += 1;
        self.end_value(end);
    }

    fn end_value(&mut self, end: usize) {
        if let Some(start) = self.slashdash.take() {
            self.blank(start..end);
        } else if let Some(open) = &mut self.current {
            open.raw.header.end = end;
        }
    }

    fn start_node(&mut self, start: usize, end: usize) {
        if self.by_indent && self.fresh {
            while self.stack.last().is_some_and(|block| block.indent >= self.indent) {
                self.unclosed(Some(start));
            }
        }
        let raw = Raw { name: start..end, header: start..end, ..Raw::default() };
        let skipped = self.slashdash.take().is_some();
        self.current = Some(Open { raw, skipped, last: end, ..Open::default() });
    }

    fn end_node(&mut self) {
        let Some(mut open) = self.current.take() else { return };
        self.no_value(&mut open);
        if !open.skipped {
            self.nodes.push(open.raw);
        }
    }

    /// Reports a key that nothing follows.
    fn no_value(&mut self, open: &mut Open) {
        let Some(key) = open.key.take() else { return };
        let name = short(&self.text[key.clone()]);
        let problem = Problem::at(self.span(key.start, open.last), format!("\"{name}=\" has no value"));
        self.problems.push(problem.label(format!("write {name}=\"…\"")));
        open.raw.bad = true;
    }

    /// Reports a `/-` that nothing follows.
    fn dangling(&mut self) {
        if let Some(start) = self.slashdash.take() {
            self.problem(start, start + 2, "\"/-\" leaves nothing out", "nothing follows");
            self.blank(start..start + 2);
        }
    }
}

/// At most 40 characters of a text, for messages.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
