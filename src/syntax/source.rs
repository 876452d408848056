//! Where text comes from, and how a place in it is named.
//!
//! A [`Span`] is two byte offsets into one file; everything that was read from
//! a flow file keeps the span it came from, so that a mistake found much later
//! (an unknown environment variable, a secret in the wrong place) can still be
//! underlined.

use serde::{Deserialize, Serialize};

/// Index of a file in [`Sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId(pub u32);

/// A range of bytes in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span of `len` bytes that starts `offset` bytes after the start of this one.
    #[must_use]
    pub fn part(self, offset: usize, len: usize) -> Self {
        let start = self.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
        let end = start.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        Self { file: self.file, start: start.min(self.end), end: end.min(self.end) }
    }

    /// The smallest span that covers both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Puts a value and its place together.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place, another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

/// One flow file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path relative to the project root, with forward slashes: what messages show.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// All files of a project, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
    /// For each file where its lines start: thousands of mistakes ask for their lines.
    lines: Vec<Vec<usize>>,
}

impl Sources {
    /// Adds a file and names it.
    pub fn add(&mut self, source: Source) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        let starts = source.text.match_indices('\n').map(|(end, _)| end + 1);
        self.lines.push(std::iter::once(0).chain(starts).collect());
        self.files.push(source);
        id
    }

    /// The file behind an id that [`Sources::add`] gave out.
    #[must_use]
    pub fn get(&self, id: FileId) -> &Source {
        &self.files[id.0 as usize]
    }

    /// All files with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Source)> {
        self.files.iter().enumerate().map(|(i, s)| (FileId(u32::try_from(i).unwrap_or(u32::MAX)), s))
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Line and column (both from 1, columns in characters) of the start of a span.
    #[must_use]
    pub fn position(&self, span: Span) -> (usize, usize) {
        let text = &self.get(span.file).text;
        let mut start = (span.start as usize).min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let lines = &self.lines[span.file.0 as usize];
        let line = lines.partition_point(|first| *first <= start);
        (line, text[lines[line - 1]..start].chars().count() + 1)
    }
}
