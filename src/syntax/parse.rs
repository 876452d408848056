//! Bytes of a file to its node tree, with every syntax error.

use kdl::KdlDocument;

use super::convert::Convert;
use super::problem::{Problem, Problems};
use super::source::{FileId, Span};
use super::tree::Node;

/// Reads one file.
#[must_use]
pub fn parse(bytes: &[u8], file: FileId) -> (Vec<Node>, Problems) {
    let mut problems = Problems::default();
    let Ok(text) = std::str::from_utf8(bytes) else {
        return (Vec::new(), problems);
    };
    let nodes = match KdlDocument::parse(text) {
        Ok(document) => {
            let mut convert = Convert { file, text, offset: 0, problems: &mut problems };
            convert.document(&document)
        }
        Err(error) => {
            for d in error.diagnostics {
                let span = Span {
                    file,
                    start: d.span.offset() as u32,
                    end: (d.span.offset() + d.span.len()) as u32,
                };
                problems.push(Problem::at(span, d.message.unwrap_or_default()));
            }
            Vec::new()
        }
    };
    (nodes, problems)
}
