//! The parser's document to our tree. Only `syntax::parse` calls it.

use kdl::{KdlDocument, KdlEntry, KdlIdentifier, KdlNode, KdlValue};

use super::problem::{Problem, Problems};
use super::source::{FileId, Span, Spanned};
use super::tree::{Literal, Node, Prop, Scalar};

/// Converts a document that was parsed from `text[offset..]`.
pub(super) struct Convert<'a> {
    pub file: FileId,
    /// The whole file, with comments blanked out.
    pub text: &'a str,
    /// Where the parsed piece starts in it.
    pub offset: usize,
    pub problems: &'a mut Problems,
}

impl Convert<'_> {
    pub(super) fn document(&mut self, document: &KdlDocument) -> Vec<Node> {
        document.nodes().iter().map(|node| self.node(node)).collect()
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let at = |i: usize| u32::try_from(i + self.offset).unwrap_or(u32::MAX);
        Span { file: self.file, start: at(start), end: at(end) }
    }

    pub(super) fn node(&mut self, node: &KdlNode) -> Node {
        let name = node.name().span();
        let mut span = self.span(name.offset(), node.span().offset() + node.span().len());
        let text = self.text.get(span.start as usize..span.end as usize).unwrap_or_default();
        span.end -= u32::try_from(text.len() - text.trim_end().len()).unwrap_or(0);
        self.no_type(node.ty());
        let mut made = Node {
            name: Spanned::new(
                node.name().value().to_owned(),
                self.span(name.offset(), name.offset() + name.len()),
            ),
            args: Vec::new(),
            props: Vec::new(),
            children: Vec::new(),
            block: node.children().is_some(),
            span,
            broken: false,
        };
        for entry in node.entries() {
            let value = self.value(entry);
            match entry.name() {
                None => made.args.push(value),
                Some(name) => {
                    let at = name.span();
                    let span = self.span(at.offset(), at.offset() + at.len());
                    made.props.push(Prop { name: Spanned::new(name.value().to_owned(), span), value });
                }
            }
        }
        if let Some(children) = node.children() {
            made.children = self.document(children);
        }
        made
    }

    fn value(&mut self, entry: &KdlEntry) -> Literal {
        let end = entry.span().offset() + entry.span().len();
        let raw = entry.format().map_or("", |format| format.value_repr.as_str());
        let start = end.saturating_sub(raw.len());
        let span = self.span(start, end);
        self.no_type(entry.ty());
        let mut pieces = Vec::new();
        let scalar = match entry.value() {
            KdlValue::String(text) => {
                pieces = Literal::line_up(raw, start + self.offset, text);
                Scalar::Text(text.clone())
            }
            KdlValue::Integer(number) => i64::try_from(*number).map_or_else(
                |_| {
                    self.problems.push(
                        Problem::at(span, "this number is too large").label("at most 9223372036854775807"),
                    );
                    Scalar::Null
                },
                Scalar::Int,
            ),
            KdlValue::Float(number) => Scalar::Float(*number),
            KdlValue::Bool(flag) => Scalar::Bool(*flag),
            KdlValue::Null => Scalar::Null,
        };
        Literal { scalar, span, pieces }
    }

    fn no_type(&mut self, ty: Option<&KdlIdentifier>) {
        if let Some(ty) = ty.map(KdlIdentifier::span) {
            let span = self.span(ty.offset(), ty.offset() + ty.len());
            self.problems.push(Problem::at(span, "type annotations mean nothing here").label("leave it out"));
        }
    }
}
