//! One linear look at a file before it is parsed.
//!
//! The parser below us gives up at the first hard mistake, needs 2ⁿ time for nested `/-` and
//! overflows the stack on deep nesting, long comments and stray brackets. So this scan goes first:
//! it refuses hostile files, finds the nodes (where each starts, where its block is), reports what
//! is wrong with braces, strings and words in words of its own, and blanks comments, `/-` and line
//! continuations. The parser then sees one node's line at a time, and only text that was found to
//! be well formed. Only `syntax::parse` calls it.

mod blanks;
mod chars;
mod scanner;
mod strings;
mod words;

use std::ops::Range;

use super::problem::{Problem, Problems};
use super::source::{FileId, Span};
use scanner::Scanner;

/// The largest file that is read.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting of blocks.
pub(super) const MAX_DEPTH: usize = 64;
/// The deepest nesting of `/-` inside what another `/-` leaves out.
pub(super) const MAX_SLASHDASH: usize = 3;
/// Mistakes after which a scan stops: nobody reads more of them at once.
pub(super) const MAX_PROBLEMS: usize = 40;

/// A node as the scan sees it. Ranges are bytes of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Raw {
    /// Its name.
    pub name: Range<usize>,
    /// The first argument, if that is a string.
    pub first: Option<Range<usize>>,
    /// From the name to the end of its values.
    pub header: Range<usize>,
    /// Its block, braces included.
    pub block: Option<Range<usize>>,
    /// What stands in the block.
    pub children: Vec<Raw>,
    /// Something in the header is wrong and was reported.
    pub bad: bool,
    /// Something in the block, or its end, is wrong and was reported.
    pub incomplete: bool,
}

/// What the scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Top-level nodes; none for a file that was refused.
    pub nodes: Vec<Raw>,
    /// The text with everything blanked that means nothing; every byte stays where it was.
    pub text: String,
    /// What is wrong.
    pub problems: Problems,
}

/// Scans one file.
pub(super) fn scan(bytes: &[u8], file: FileId) -> Scan {
    let refuse = |start: usize, problem: &dyn Fn(Span) -> Problem| {
        let at = u32::try_from(start).unwrap_or(u32::MAX);
        let problem = problem(Span { file, start: at, end: at.saturating_add(1) });
        Scan { problems: Problems(vec![problem]), ..Scan::default() }
    };
    if bytes.len() > MAX_BYTES {
        return refuse(0, &|span| {
            Problem::at(span, format!("this file is too large: {} MiB", bytes.len().div_ceil(MAX_BYTES)))
                .label("a flow file has at most 1 MiB")
        });
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let byte = bytes.get(at).copied().unwrap_or_default();
            return refuse(at, &|span| {
                Problem::at(span, "this file is not UTF-8").label(format!("byte 0x{byte:02x}"))
            });
        }
    };
    let plain = Scanner::new(text, file, false).run();
    if plain.unbalanced {
        // Which brace is missing shows only in how lines are indented.
        return Scanner::new(text, file, true).run().scan;
    }
    plain.scan
}
