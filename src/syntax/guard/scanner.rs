//! The scan itself: a loop over tokens with a stack of open blocks. No recursion, one pass.

use std::ops::Range;

use super::chars::{forbidden, newline, space, word};
use super::strings::{self, Fault};
use super::words::{self, Word};
use super::{MAX_DEPTH, MAX_PROBLEMS, MAX_SLASHDASH, Raw, Scan};
use crate::syntax::problem::{Problem, Problems, nearest};
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
    pub fn new(text: &'t str, file: FileId, by_indent: bool) -> Self {
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

    pub fn run(mut self) -> Outcome {
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
        let mut depth = 0usize;
        let bytes = self.text.as_bytes();
        let mut at = start;
        loop {
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        break;
                    }
                }
                (Some(_), _) => at += 1,
                (None, _) => {
                    self.problem(start, start + 2, "this comment is never closed", "no */ follows");
                    self.close_all();
                    break;
                }
            }
        }
        self.blank(start..at);
        self.at = at;
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

    fn stray(&mut self, c: char) {
        self.problem(
            self.at,
            self.at + 1,
            format!("\"{c}\" cannot stand here"),
            "brackets mean nothing here",
        );
        self.at += 1;
    }

    /// `["a", "b"]`: a list from elsewhere, all of it one mistake.
    fn list(&mut self) {
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
    fn annotation(&mut self) {
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

    /// `\` at the end of a line.
    fn continued(&mut self) {
        let start = self.at;
        let mut rest = self.rest()[1..].trim_start_matches(space);
        if rest.starts_with("//") {
            rest = &rest[rest.find(newline).unwrap_or(rest.len())..];
        }
        let Some(c) = rest.chars().next() else {
            self.blank(start..self.text.len());
            self.at = self.text.len();
            return;
        };
        if !newline(c) {
            self.problem(start, start + 1, "\"\\\" cannot stand here", "it continues a line, at its end");
            self.blank(start..start + 1);
            self.at = start + 1;
            return;
        }
        let skip = if rest.starts_with("\r\n") { 2 } else { c.len_utf8() };
        self.at = self.text.len() - rest.len() + skip;
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
        let ahead = self.text[end..].trim_start_matches(space);
        let Some(open) = &mut self.current else {
            self.start_node(start, end);
            return;
        };
        open.last = end;
        if open.key.take().is_some() {
            self.end_value(end);
            return;
        }
        if text && ahead.starts_with('=') {
            self.at = self.text.len() - ahead.len() + 1;
            open.key = Some(start..self.at);
            open.last = self.at;
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
        let name = short(self.text[key.clone()].trim_end_matches('=').trim_end());
        let problem = Problem::at(self.span(key.start, key.end), format!("\"{name}=\" has no value"));
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

    fn equals(&mut self) {
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

    fn keyword(&mut self) {
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

    fn word(&mut self) {
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
    fn raw_habit(&mut self) {
        let start = self.at;
        let rest = &self.rest()[1..];
        let Some(found) = strings::string(rest) else { return };
        let end = start + 1 + found.len;
        self.value(end, true);
        self.problem(start, end, "raw strings start with # and not with r", "write #\"…\"#");
    }

    fn string(&mut self) {
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

    /// The rest of the file is inside something that never ends: that its blocks are not closed is
    /// no mistake of its own.
    fn close_all(&mut self) {
        self.end_node();
        while let Some(block) = self.stack.pop() {
            self.leave(block, self.text.len());
            self.end_node();
        }
    }

    fn open(&mut self) {
        let at = self.at;
        if self.stack.len() >= MAX_DEPTH {
            self.refused = true;
            let problem = Problem::at(self.span(at, at + 1), "this file nests too deeply");
            self.problems.0 = vec![problem.label(format!("more than {MAX_DEPTH} blocks inside one another"))];
            return;
        }
        let skipped =
            self.stack.iter().filter(|block| block.node.skipped || block.slashdash.is_some()).count();
        let skips = self.slashdash.is_some() || self.current.as_ref().is_some_and(|open| open.skipped);
        if skipped + usize::from(skips) > MAX_SLASHDASH {
            self.refused = true;
            let problem = Problem::at(self.span(at, at + 1), "\"/-\" nests too deeply");
            self.problems.0 = vec![problem.label(format!("more than {MAX_SLASHDASH} inside one another"))];
            return;
        }
        let closed = self.current.as_ref().is_some_and(|open| open.closed);
        if closed && self.slashdash.is_none() {
            self.problem(at, at + 1, "a node has one block", "this is a second one");
            self.end_node();
        }
        if self.current.is_none() {
            if !closed {
                self.problem(at, at + 1, "a block needs a name before it", "");
            }
            let raw = Raw { name: at..at, header: at..at, bad: true, ..Raw::default() };
            self.current = Some(Open { raw, skipped: true, ..Open::default() });
        }
        let Some(mut node) = self.current.take() else { return };
        self.no_value(&mut node);
        let siblings = std::mem::take(&mut self.nodes);
        let slashdash = self.slashdash.take();
        let indent = if self.fresh { self.indent } else { self.line_indent(at) };
        self.stack.push(Block { node, siblings, open: at, slashdash, indent });
        self.at += 1;
    }

    /// Blanks at the start of the line that `at` stands on.
    fn line_indent(&self, at: usize) -> usize {
        self.text[self.line..at].chars().take_while(|c| space(*c)).count()
    }

    fn close(&mut self) {
        let at = self.at;
        self.dangling();
        self.end_node();
        if self.by_indent && self.fresh && !self.stack.is_empty() {
            if self.stack.last().is_some_and(|block| block.indent < self.indent) {
                self.surplus(at);
                return;
            }
            while self.stack.last().is_some_and(|block| block.indent > self.indent) {
                self.unclosed(Some(at));
                self.end_node();
            }
        }
        match self.stack.pop() {
            Some(block) => {
                self.at += 1;
                self.leave(block, at + 1);
            }
            None => self.surplus(at),
        }
    }

    fn surplus(&mut self, at: usize) {
        self.unbalanced = true;
        self.problem(at, at + 1, "this brace closes nothing", "no { is open here");
        self.at = at + 1;
    }

    /// Ends a block at `end`; its node may still go on.
    fn leave(&mut self, block: Block, end: usize) {
        let children = std::mem::replace(&mut self.nodes, block.siblings);
        let mut node = block.node;
        if let Some(start) = block.slashdash {
            self.blank(start..end);
            node.blocks = true;
        } else {
            node.raw.block = Some(block.open..end);
            node.raw.children = children;
            node.closed = true;
        }
        node.last = 0;
        self.current = Some(node);
    }

    /// Ends the innermost block, whose `}` is missing; `before` is where that shows.
    fn unclosed(&mut self, before: Option<usize>) {
        self.end_node();
        let Some(block) = self.stack.pop() else { return };
        let open = block.open;
        let end = before.unwrap_or(self.text.len());
        self.leave(block, self.text[..end].trim_end().len().max(open + 1));
        let problem = Problem::at(self.span(open, open + 1), "this block is never closed");
        let problem = problem.label("no } for it");
        let problem = match before {
            Some(at) => problem.also(self.span(at, at + 1), "it should end before this"),
            None => problem.also(self.span(end.saturating_sub(1), end), "the file ends here"),
        };
        if let Some(open) = &mut self.current {
            open.raw.incomplete = true;
        }
        let bad = self.current.as_ref().is_some_and(|open| open.raw.bad);
        self.push(problem);
        if let Some(open) = &mut self.current {
            open.raw.bad = bad;
        }
        self.end_node();
    }
}

/// Where one of some characters comes, if that is on the next lines of any human file.
fn near(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    text.char_indices().take(200).find(|(_, c)| wanted(*c)).map(|(at, _)| at)
}

fn comment_starts(text: &str) -> bool {
    text.starts_with("//") || text.starts_with("/*") || text.starts_with("/-")
}

/// At most 40 characters of a text, for messages.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
