//! Files by globs, and what they hold.
//!
//! `*` stays inside one folder, `**` crosses. Hidden and git-ignored files are
//! seen; `.flow/` and `.git/` never are. Links are not followed: a link counts
//! as its target's text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::files::{FileError, Files, digest};

/// What a set of globs matches.
#[derive(Clone, Debug)]
pub struct Matcher {
    include: GlobSet,
    exclude: GlobSet,
    bases: Vec<PathBuf>,
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

impl Matcher {
    /// Compiles globs. A plain path means the file, or everything under the folder.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, GlobError> {
        Ok(Self {
            include: set(include)?,
            exclude: set(exclude)?,
            bases: include.iter().map(|g| base(g)).collect(),
        })
    }

    /// Whether a path relative to the root counts.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.include.is_match(path) && !self.exclude.is_match(path)
    }

    /// Whether something under a path could count: `frontend/**` and the folder `frontend/dist`.
    #[must_use]
    pub fn touches(&self, path: &Path) -> bool {
        let below = path.join("_");
        let inside = self.bases.iter().any(|base| base.starts_with(path) && base != path);
        !self.exclude.is_match(&below)
            && !self.exclude.is_match(path)
            && (inside || self.include.is_match(path) || self.include.is_match(&below))
    }

    /// Every file that counts, by its path relative to the root.
    pub fn walk(&self, files: &Files) -> Result<Vec<PathBuf>, WalkError> {
        let mut found = std::collections::BTreeSet::new();
        for base in &self.bases {
            self.visit(files, base, &mut found)?;
        }
        Ok(found.into_iter().collect())
    }

    fn visit(
        &self,
        files: &Files,
        relative: &Path,
        found: &mut std::collections::BTreeSet<PathBuf>,
    ) -> Result<(), WalkError> {
        if relative.to_str().is_none() {
            return Err(WalkError::Name(relative.to_owned()));
        }
        if relative.starts_with(".flow") || relative.starts_with(".git") {
            return Ok(());
        }
        let path = files.root().join(relative);
        let Some(metadata) = files.metadata(&path)? else { return Ok(()) };
        if !metadata.is_dir() {
            if self.matches(relative) {
                found.insert(relative.to_owned());
            }
            return Ok(());
        }
        // A folder that is excluded as a whole is not entered.
        if self.exclude.is_match(relative.join("_")) && self.exclude.is_match(relative) {
            return Ok(());
        }
        for entry in files.list(&path)? {
            if let Some(name) = entry.file_name() {
                self.visit(files, &relative.join(name), found)?;
            }
        }
        Ok(())
    }

    /// The digest of every file that counts: its bytes, whether it is executable, or where it links.
    pub fn digests(&self, files: &Files) -> Result<BTreeMap<String, String>, WalkError> {
        let mut digests = BTreeMap::new();
        for relative in self.walk(files)? {
            let name = relative.to_str().ok_or_else(|| WalkError::Name(relative.clone()))?.to_owned();
            digests.insert(name, describe(files, &files.root().join(&relative))?);
        }
        Ok(digests)
    }
}

/// What a file holds, as text: `DIGEST`, `DIGEST x` when executable, `link TARGET`.
fn describe(files: &Files, path: &Path) -> Result<String, FileError> {
    use std::os::unix::fs::PermissionsExt as _;
    match files.metadata(path)? {
        None => Ok("missing".to_owned()),
        Some(metadata) if metadata.is_symlink() => {
            Ok(format!("link {}", digest(files.read_link(path)?.as_os_str().as_encoded_bytes())))
        }
        Some(metadata) => {
            let executable = if metadata.permissions().mode() & 0o100 == 0 { "" } else { " x" };
            Ok(format!("{}{executable}", files.digest(path)?))
        }
    }
}

fn set(globs: &[String]) -> Result<GlobSet, GlobError> {
    let mut builder = GlobSetBuilder::new();
    for text in globs {
        let clean = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
        let wrong = |error: globset::Error| GlobError { glob: text.clone(), why: error.kind().to_string() };
        builder.add(GlobBuilder::new(clean).literal_separator(true).build().map_err(wrong)?);
        let below = format!("{clean}/**");
        builder.add(GlobBuilder::new(&below).literal_separator(true).build().map_err(wrong)?);
    }
    builder.build().map_err(|error| GlobError { glob: globs.join(" "), why: error.kind().to_string() })
}

/// The folder or file at which a walk for a glob can start.
fn base(glob: &str) -> PathBuf {
    let clean = glob.strip_prefix("./").unwrap_or(glob);
    clean
        .split('/')
        .filter(|part| !part.is_empty())
        .take_while(|part| !part.contains(['*', '?', '[', '{']))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(include: &[&str], exclude: &[&str]) -> Matcher {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Matcher::new(&owned(include), &owned(exclude)).expect("valid globs")
    }

    #[test]
    fn star_stays_inside_one_folder() {
        let m = matcher(&["src/*.c"], &[]);
        assert!(m.matches(Path::new("src/a.c")));
        assert!(!m.matches(Path::new("src/deep/a.c")));
        assert!(matcher(&["src/**"], &[]).matches(Path::new("src/deep/.hidden")));
    }

    #[test]
    fn a_plain_folder_means_what_is_under_it() {
        assert!(matcher(&["frontend"], &[]).matches(Path::new("frontend/a/b")));
    }

    #[test]
    fn outputs_under_inputs_are_noticed_unless_excluded() {
        assert!(matcher(&["frontend/**"], &[]).touches(Path::new("frontend/dist")));
        assert!(!matcher(&["frontend/**"], &["frontend/dist/**"]).touches(Path::new("frontend/dist")));
        assert!(matcher(&["dist/assets/*.js"], &[]).touches(Path::new("dist")));
        assert!(!matcher(&["backend/*.c"], &[]).touches(Path::new("frontend")));
    }
}
