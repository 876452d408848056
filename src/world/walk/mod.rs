//! Files by globs, and what they hold.
//!
//! `*` stays inside one folder, `**` crosses. Hidden and git-ignored files are
//! seen; the project's own `.flow/` and `.git/` never are. Links are not
//! followed: a link counts as its target's text. A folder that is left out as
//! a whole, or that nothing could match in, is not opened.

mod folder;
mod glob;
mod listing;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use globset::{GlobSet, GlobSetBuilder};

pub use self::folder::{Folder, Name};
use self::glob::Pattern;
pub use self::listing::{Difference, Held, Kind, Listing};
use self::tree::Tree;
use super::files::{FileError, Files};

/// What a set of globs matches. Making one costs little: only unusual globs are compiled.
#[derive(Clone, Debug)]
pub struct Matcher {
    include: Globs,
    exclude: Globs,
    bases: BTreeMap<String, bool>,
}

/// Some globs.
#[derive(Clone, Debug, Default)]
struct Globs {
    patterns: Vec<Pattern>,
    /// Those that are not [`Pattern::Simple`].
    compiled: Option<Compiled>,
}

#[derive(Clone, Debug)]
struct Compiled {
    whole: GlobSet,
    stems: GlobSet,
}

/// Where a walk starts.
struct Base<'a> {
    path: &'a str,
    /// A glob names it, so that it counts when it is a file.
    named: bool,
}

/// A glob that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{glob}\" is no glob: {why}")]
pub struct GlobError {
    /// As written.
    pub glob: String,
    /// What is wrong with it.
    pub why: String,
}

/// Something that went wrong while walking.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A file or folder could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that is not UTF-8.
    #[error("the name of {} is not UTF-8", .0.display())]
    Name(PathBuf),
}

/// So many files are few.
const FEW: usize = 8;
/// So many bytes are read in no time.
const SMALL: u64 = 256 * 1024;

/// Whether what lies under these globs is a few small files, or nothing: then looking at them takes
/// no longer than having it done elsewhere.
#[must_use]
pub fn is_little<'a>(globs: impl ExactSizeIterator<Item = &'a String>, files: &Files) -> bool {
    let is_little = |glob: &String| {
        let path = files.root().join(glob);
        !glob.contains(['*', '?', '[', '{', '\\'])
            && std::fs::symlink_metadata(path).map_or(true, |found| !found.is_dir() && found.len() <= SMALL)
    };
    globs.len() <= FEW && globs.into_iter().all(is_little)
}

impl Matcher {
    /// Compiles globs. A plain path means the file, or everything under the folder.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, GlobError> {
        let (include, exclude) = (Globs::new(include)?, Globs::new(exclude)?);
        let mut bases = BTreeMap::new();
        for pattern in &include.patterns {
            *bases.entry(pattern.base().to_owned()).or_default() |= pattern.is_plain();
        }
        Ok(Self { include, exclude, bases })
    }

    /// Whether a path relative to the root counts.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.matches_text(&path.to_string_lossy())
    }

    /// Whether something under a path could count: `frontend/**` and the folder `frontend/dist`.
    #[must_use]
    pub fn touches(&self, path: &Path) -> bool {
        let path = &path.to_string_lossy();
        let below = format!("{path}/_");
        let inside = self.bases.keys().any(|base| Path::new(base).starts_with(&**path) && *base != **path);
        !self.exclude.matches(&below)
            && !self.exclude.matches(path)
            && (inside || self.include.matches(path) || self.include.matches(&below))
    }

    /// The path of every file that counts, relative to the root and sorted. Reads none.
    pub fn walk(&self, files: &Files) -> Result<Vec<PathBuf>, WalkError> {
        let names = Tree { files, matcher: self, digests: None }.walk()?;
        let mut paths: Vec<PathBuf> = names.iter().map(|(path, _)| path.into()).collect();
        paths.sort();
        Ok(paths)
    }

    /// Every file that counts, and what it holds: its bytes and whether its owner may run it, or
    /// where it links. Only files whose digests are not known are read. Blocks.
    pub fn list(&self, files: &Files) -> Result<Listing, WalkError> {
        Tree { files, matcher: self, digests: Some(files.digests()) }.walk()
    }

    /// The same as text by path: `DIGEST`, `DIGEST x` when executable, `link DIGEST`.
    pub fn digests(&self, files: &Files) -> Result<BTreeMap<String, String>, WalkError> {
        Ok(self.list(files)?.iter().map(|(path, held)| (path, held.to_string())).collect())
    }

    fn bases(&self) -> impl Iterator<Item = Base<'_>> {
        let own = |path: &str| [".flow", ".git"].iter().any(|own| Path::new(path).starts_with(own));
        let bases = self.bases.iter().map(|(path, named)| Base { path, named: *named });
        bases.filter(move |base| !own(base.path))
    }

    fn matches_text(&self, path: &str) -> bool {
        self.include.matches(path) && !self.exclude.matches(path)
    }

    /// Whether all that lies below a folder is left out.
    fn leaves_out(&self, folder: &str) -> bool {
        self.exclude.covers(folder)
    }

    /// Whether to go from a folder into this one below it.
    fn enters(&self, folder: &str) -> bool {
        !matches!(folder, ".flow" | ".git")
            // Walked on its own.
            && !self.bases.contains_key(folder)
            && self.include.reaches(folder)
            && !self.leaves_out(folder)
    }
}

impl Globs {
    fn new(texts: &[String]) -> Result<Self, GlobError> {
        let mut globs = Self::default();
        let (mut whole, mut stems) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut any = false;
        for text in texts {
            let wrong =
                |error: globset::Error| GlobError { glob: text.clone(), why: error.kind().to_string() };
            let pattern = Pattern::new(text);
            if let Some((both, stem)) = pattern.globs().map_err(wrong)? {
                any = true;
                for glob in both {
                    whole.add(glob);
                }
                stems.add(stem);
            }
            globs.patterns.push(pattern);
        }
        if any {
            let wrong =
                |error: globset::Error| GlobError { glob: texts.join(" "), why: error.kind().to_string() };
            globs.compiled =
                Some(Compiled { whole: whole.build().map_err(wrong)?, stems: stems.build().map_err(wrong)? });
        }
        Ok(globs)
    }

    fn matches(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(path))
            || self.compiled.as_ref().is_some_and(|compiled| compiled.whole.is_match(path))
    }

    /// Whether all that lies below a folder matches.
    fn covers(&self, folder: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(folder))
            || self.compiled.as_ref().is_some_and(|compiled| compiled.stems.is_match(folder))
    }

    /// Whether something below a folder could match.
    fn reaches(&self, folder: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.reaches(folder))
    }
}
