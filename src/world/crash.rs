//! Points at which a test can end flow, or take its disk away.
//!
//! With the feature `crash-points` each point passed is counted, and four
//! variables of flow's own environment decide what happens there:
//!
//! | variable | what it does |
//! |---|---|
//! | `FLOW_CRASH_LIST=FILE` | adds the name of each point to a file |
//! | `FLOW_CRASH_AT=N` | at the N-th point flow ends itself as `kill -9` would |
//! | `FLOW_CRASH_NAME=NAME` | points of this name alone are counted for that |
//! | `FLOW_FULL_AT=N` | the N-th write and all after it find the disk full |
//!
//! Without the feature, which is how flow is shipped, the functions below are
//! empty and the variables mean nothing. Names say where and when:
//! `append journal.jsonl.before`, `aws.UpdateService.after`.

use std::io::{self, Write};
use std::path::Path;

#[cfg(feature = "crash-points")]
mod switched_on;

/// A point between two things that can be told apart from outside.
#[cfg(feature = "crash-points")]
pub fn point(name: impl std::fmt::Display) {
    switched_on::point(&name.to_string());
}

/// A point between two things that can be told apart from outside.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: impl std::fmt::Display) {}

/// Asked before each write to a disk: whether a test wants it full from here on.
#[cfg(feature = "crash-points")]
pub(super) fn room() -> io::Result<()> {
    switched_on::room()
}

/// Asked before each write to a disk: whether a test wants it full from here on.
#[cfg(not(feature = "crash-points"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "a test build has something to say here")]
pub(super) fn room() -> io::Result<()> {
    Ok(())
}

/// A point around what is done with a file: `append journal.jsonl.before`.
pub(super) fn file(what: &str, path: &Path, when: &str) {
    point(format_args!("{what} {}.{when}", Path::new(path.file_name().unwrap_or_default()).display()));
}

/// Writes to a disk. A test build does it in two halves with a point between them: a system that
/// goes down may have written a part.
pub(super) fn write(to: &mut impl Write, bytes: &[u8], path: &Path) -> io::Result<()> {
    file("append", path, "before");
    room()?;
    let half = if cfg!(feature = "crash-points") { bytes.len() / 2 } else { 0 };
    let (first, rest) = bytes.split_at(half);
    to.write_all(first)?;
    file("append", path, "half");
    to.write_all(rest)?;
    file("append", path, "after");
    Ok(())
}
