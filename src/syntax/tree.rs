//! The node tree of one file: names, arguments, properties, children, and where each stands.
//!
//! It is ours and not the parser's, so that it can be kept in the cache by content digest, and so
//! that a broken file still has one: a node that a syntax error cut short is marked [`Node::broken`]
//! and nobody complains about what it lacks. `syntax::parse` makes trees, `model::decode` reads them.

use serde::{Deserialize, Serialize};

use super::source::{FileId, Span, Spanned};

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, and where that stands.
    pub name: Spanned<String>,
    /// Arguments in order.
    pub args: Vec<Literal>,
    /// Properties in order; a name given twice is kept twice, so that it can be reported.
    pub props: Vec<Prop>,
    /// Children in order.
    pub children: Vec<Node>,
    /// Whether a block was written, even an empty one.
    pub block: bool,
    /// From the name to the end of the block.
    pub span: Span,
    /// A syntax error cut it short: what is missing was perhaps written.
    pub broken: bool,
}

/// One property.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prop {
    /// Its name, and where that stands.
    pub name: Spanned<String>,
    /// Its value.
    pub value: Literal,
}

/// A value, and where it stands, quotes included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Literal {
    /// The value.
    pub scalar: Scalar,
    /// Where it stands.
    pub span: Span,
    /// For text: where stretches of the decoded text start in it and in the file. Empty when the
    /// two could not be lined up; then a place inside the text is the whole text.
    pub pieces: Vec<(u32, u32)>,
}

/// What a value can be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// Any kind of string.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// `#true` or `#false`.
    Bool(bool),
    /// `#null`.
    Null,
}

impl Literal {
    /// The text, where it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.scalar {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is called in messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self.scalar {
            Scalar::Text(_) => "a string",
            Scalar::Int(_) | Scalar::Float(_) => "a number",
            Scalar::Bool(_) => "a boolean",
            Scalar::Null => "#null",
        }
    }

    /// Where bytes `start..end` of the decoded text stand in the file.
    #[must_use]
    pub fn place(&self, start: usize, end: usize) -> Span {
        let (Some(from), Some(to)) = (self.source(start), self.source(end.max(start + 1) - 1)) else {
            return self.span;
        };
        let to = if end > start { to + 1 } else { from };
        if from > to || to > self.span.end { self.span } else { Span { start: from, end: to, ..self.span } }
    }

    fn source(&self, offset: usize) -> Option<u32> {
        let offset = u32::try_from(offset).ok()?;
        let next = self.pieces.partition_point(|(decoded, _)| *decoded <= offset);
        let (decoded, source) = self.pieces.get(next.checked_sub(1)?)?;
        source.checked_add(offset - decoded)
    }

    /// Lines `text` up with `raw`, the way it stands in the file from byte `start`.
    pub(super) fn line_up(raw: &str, start: usize, text: &str) -> Vec<(u32, u32)> {
        let mut map = LineUp { text: String::new(), pieces: Vec::new() };
        if map.string(raw, start).is_some() && map.text == text { map.pieces } else { Vec::new() }
    }
}

struct LineUp {
    text: String,
    pieces: Vec<(u32, u32)>,
}

impl LineUp {
    fn string(&mut self, raw: &str, start: usize) -> Option<()> {
        let hashes = raw.bytes().take_while(|b| *b == b'#').count();
        let escapes = hashes == 0;
        let body = raw.get(hashes..raw.len().checked_sub(hashes)?)?;
        if let Some(inner) = body.strip_prefix("\"\"\"").and_then(|b| b.strip_suffix("\"\"\"")) {
            return self.lines(inner, start + hashes + 3, escapes);
        }
        match body.strip_prefix('"').and_then(|b| b.strip_suffix('"')) {
            Some(inner) => self.walk(inner, start + hashes + 1, escapes),
            None => self.walk(raw, start, false),
        }
    }

    /// The lines of a multi-line string, without the blanks that stand before its closing quotes.
    fn lines(&mut self, inner: &str, start: usize, escapes: bool) -> Option<()> {
        let indent = &inner[inner.rfind('\n')? + 1..];
        let mut at = inner.find('\n')? + 1;
        let last = inner.len() - indent.len();
        let mut first = true;
        while at < last {
            let line = inner[at..last].split_inclusive('\n').next()?;
            let content = line.trim_end_matches(['\n', '\r']);
            if !first {
                self.piece(start + at - 1)?;
                self.text.push('\n');
            }
            first = false;
            if !content.trim().is_empty() {
                self.walk(content.strip_prefix(indent)?, start + at + indent.len(), escapes)?;
            }
            at += line.len();
        }
        Some(())
    }

    fn piece(&mut self, source: usize) -> Option<()> {
        self.pieces.push((u32::try_from(self.text.len()).ok()?, u32::try_from(source).ok()?));
        Some(())
    }

    fn walk(&mut self, raw: &str, start: usize, escapes: bool) -> Option<()> {
        self.piece(start)?;
        let mut rest = raw;
        while let Some(at) = rest.find('\\').filter(|_| escapes) {
            self.text.push_str(&rest[..at]);
            let offset = start + raw.len() - rest.len() + at;
            let (decoded, len) = escape(&rest[at..])?;
            self.piece(offset)?;
            self.text.extend(decoded);
            self.piece(offset + len)?;
            rest = &rest[at + len..];
        }
        self.text.push_str(rest);
        Some(())
    }
}

/// What an escape stands for, and how long it is.
fn escape(text: &str) -> Option<(Option<char>, usize)> {
    let next = text[1..].chars().next()?;
    let simple = match next {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        's' => ' ',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '\\' | '"' => next,
        'u' => {
            let end = text.find('}')?;
            let code = u32::from_str_radix(text.get(3..end)?, 16).ok()?;
            return Some((Some(char::from_u32(code)?), end + 1));
        }
        _ if next.is_whitespace() => {
            let rest = text[1..].trim_start();
            return Some((None, text.len() - rest.len()));
        }
        _ => return None,
    };
    Some((Some(simple), 1 + next.len_utf8()))
}

/// Says that all of `nodes` stand in `file`: a tree from the cache may have been another file then.
pub fn move_to(nodes: &mut [Node], file: FileId) {
    for node in nodes {
        node.span.file = file;
        node.name.span.file = file;
        for arg in &mut node.args {
            arg.span.file = file;
        }
        for prop in &mut node.props {
            prop.name.span.file = file;
            prop.value.span.file = file;
        }
        move_to(&mut node.children, file);
    }
}
