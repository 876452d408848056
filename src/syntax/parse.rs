//! Bytes of a file to its node tree, with every syntax error.
//!
//! The scan of `syntax::guard` finds the nodes, the KDL parser reads them one by one. So a mistake
//! in one node hides nothing in the others, and no file can make the parser recurse.

use std::ops::Range;

use kdl::KdlDocument;

use super::convert::Convert;
use super::guard::{Raw, scan};
use super::problem::{Problem, Problems};
use super::source::{FileId, Span, Spanned};
use super::tree::{Literal, Node, Scalar};

/// Syntax errors of one file that are reported.
pub const MAX_PROBLEMS: usize = 20;

/// Reads one file. The tree holds every node that could be made out, also of a file with mistakes;
/// nodes that a mistake cut short are marked.
#[must_use]
pub fn parse(bytes: &[u8], file: FileId) -> (Vec<Node>, Problems) {
    let mut scan = scan(bytes, file);
    let mut problems = std::mem::take(&mut scan.problems);
    let mut builder = Builder { text: &scan.text, file, problems: &mut problems };
    let nodes = builder.nodes(&scan.nodes);
    problems.sort();
    problems.0.truncate(MAX_PROBLEMS);
    (nodes, problems)
}

struct Builder<'a> {
    text: &'a str,
    file: FileId,
    problems: &'a mut Problems,
}

impl Builder<'_> {
    /// Nests no deeper than the scan allows.
    fn nodes(&mut self, raws: &[Raw]) -> Vec<Node> {
        raws.iter().filter_map(|raw| self.node(raw)).collect()
    }

    fn node(&mut self, raw: &Raw) -> Option<Node> {
        let mut node = if raw.bad { self.rough(raw)? } else { self.header(raw)? };
        if let Some(block) = &raw.block {
            node.block = true;
            node.span.end = offset(block.end);
            node.children = self.nodes(&raw.children);
        }
        node.broken |= raw.incomplete;
        Some(node)
    }

    /// Name and values, read by the parser.
    fn header(&mut self, raw: &Raw) -> Option<Node> {
        let text = self.text.get(raw.header.clone())?;
        let found = match KdlDocument::parse(text) {
            Ok(document) => {
                if let [node] = document.nodes() {
                    let (file, offset) = (self.file, raw.header.start);
                    let mut convert = Convert { file, text: self.text, offset, problems: self.problems };
                    return Some(convert.node(node));
                }
                None
            }
            Err(error) => error.diagnostics.into_iter().next(),
        };
        // The scan let something through that the parser refuses. Spans that start at 0 mean their end.
        let (start, end, message) = found.map_or((0, text.len(), None), |diagnostic| {
            let (start, end) = (diagnostic.span.offset(), diagnostic.span.offset() + diagnostic.span.len());
            (if start == 0 { end.saturating_sub(1) } else { start }, end, diagnostic.message)
        });
        let span = self.span(raw.header.start + start..raw.header.start + end);
        let message = message.unwrap_or_else(|| "this cannot be read".to_owned());
        self.problems.push(Problem::at(span, message));
        self.rough(raw)
    }

    /// What can be said of a node with a mistake in it: its name and its first argument.
    fn rough(&mut self, raw: &Raw) -> Option<Node> {
        let name = self.literal(&raw.name)?;
        let span = name.span;
        let Scalar::Text(text) = name.scalar else { return None };
        Some(Node {
            name: Spanned::new(text, span),
            args: raw.first.iter().filter_map(|range| self.literal(range)).collect(),
            props: Vec::new(),
            children: Vec::new(),
            block: false,
            span: self.span(raw.header.clone()),
            broken: true,
        })
    }

    /// A single string, if it can be read.
    fn literal(&mut self, range: &Range<usize>) -> Option<Literal> {
        let text = self.text.get(range.clone())?;
        // Anything that the scan objected to would be reported twice.
        let document = KdlDocument::parse(&format!("- {text}")).ok()?;
        let [node] = document.nodes() else { return None };
        let [entry] = node.entries() else { return None };
        let value = entry.value().as_string().filter(|_| entry.name().is_none())?;
        Some(Literal {
            scalar: Scalar::Text(value.to_owned()),
            span: self.span(range.clone()),
            pieces: Literal::line_up(text, range.start, value),
        })
    }

    fn span(&self, range: Range<usize>) -> Span {
        Span { file: self.file, start: offset(range.start), end: offset(range.end) }
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
