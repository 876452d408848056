//! What stands at the outputs of a step.
//!
//! A manifest holds every file (permission bits and digest), every link (its
//! target, which is not followed) and every folder that is empty. Paths are
//! relative to the project's root and text: what has another name is not kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::world::depot;
use crate::world::digests::{self, Stamp, Wanted};
use crate::world::files::{FileError, Files};
use crate::world::walk::{GlobError, Matcher, WalkError};

/// What stands at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// A file.
    File {
        /// SHA-256, in hexadecimal.
        digest: String,
        /// Permission bits.
        mode: u32,
        /// Bytes.
        size: u64,
    },
    /// A link and its target.
    Link(String),
    /// A folder with nothing in it.
    Folder,
}

/// What stands at a step's outputs, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Manifest {
    /// By path relative to the root.
    pub rows: BTreeMap<String, Made>,
}

/// Outputs that cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A glob that is none.
    #[error(transparent)]
    Glob(#[from] GlobError),
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// While walking.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A name that cannot be kept.
    #[error("the name of {} is not UTF-8", .0.display())]
    Name(PathBuf),
}

impl Manifest {
    /// What stands at these outputs now. A plain path means the file, or everything under the folder.
    pub fn look(files: &Files, outputs: &[String]) -> Result<Self, ManifestError> {
        let mut manifest = Self::default();
        for output in outputs {
            manifest.add(files, output)?;
        }
        Ok(manifest)
    }

    fn add(&mut self, files: &Files, output: &str) -> Result<(), ManifestError> {
        if output.contains(['*', '?', '[', '{']) {
            let globs = [output.to_owned()];
            for path in Matcher::new(&globs, &[])?.walk(files)? {
                self.visit(files, &path)?;
            }
            return Ok(());
        }
        let plain = output.split('/').filter(|part| !part.is_empty() && *part != ".");
        let relative: PathBuf = plain.collect();
        // What lies elsewhere is looked at, and never kept.
        self.visit(files, if output.starts_with('/') { Path::new(output) } else { &relative })
    }

    fn visit(&mut self, files: &Files, relative: &Path) -> Result<(), ManifestError> {
        if relative.starts_with(".flow") || relative.starts_with(".git") {
            return Ok(());
        }
        let path = files.root().join(relative);
        let Some(found) = files.metadata(&path)? else { return Ok(()) };
        if found.is_dir() {
            let entries = files.list(&path)?;
            for name in entries.iter().filter_map(|entry| entry.file_name()) {
                self.visit(files, &relative.join(name))?;
            }
            if !entries.is_empty() {
                return Ok(());
            }
        }
        let name = relative.to_str().ok_or_else(|| ManifestError::Name(relative.to_owned()))?;
        if let Some(made) = describe(files, &path)? {
            self.rows.insert(name.to_owned(), made);
        }
        Ok(())
    }

    /// The paths at which something else stands now, in order.
    pub fn differing(&self, files: &Files) -> Result<Vec<String>, ManifestError> {
        let mut differing = Vec::new();
        // Bytes are read only where nothing else tells.
        let (mut unread, mut wanted) = (Vec::new(), Vec::new());
        for (name, made) in &self.rows {
            let path = files.root().join(name);
            match Standing::of(made, files, &path)? {
                Standing::Same => {}
                Standing::Other => differing.push(name.clone()),
                Standing::Unread(stamp, digest) => {
                    unread.push((name, digest));
                    wanted.push(Wanted { path, stamp, part: None });
                }
            }
        }
        for ((name, digest), found) in unread.into_iter().zip(files.digests().all(&wanted)?) {
            if found.sum.to_string() != digest {
                differing.push(name.clone());
            }
        }
        differing.sort();
        Ok(differing)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        let sizes = self.rows.values().map(|made| if let Made::File { size, .. } = made { *size } else { 0 });
        sizes.sum()
    }

    /// Whether all of it lies inside the project, where it can be put back.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.rows.keys().all(|name| {
            let mut parts = Path::new(name).components();
            parts.all(|part| matches!(part, std::path::Component::Normal(_)))
        })
    }

    /// As bytes, the same for the same manifest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Maps of text, numbers and text always become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What stands at the path of something that was made.
enum Standing<'a> {
    Same,
    Other,
    /// A file of the same length and mode: its bytes tell, which had this digest.
    Unread(Stamp, &'a str),
}

impl<'a> Standing<'a> {
    fn of(made: &'a Made, files: &Files, path: &Path) -> Result<Self, ManifestError> {
        let Some(stamp) = digests::stamp(path)? else { return Ok(Self::Other) };
        let same = match made {
            Made::File { digest, mode, size } => {
                if stamp.is_file() && stamp.size == *size && stamp.permissions() == *mode {
                    return Ok(Self::Unread(stamp, digest));
                }
                false
            }
            // Somebody may have put something into it.
            Made::Folder => stamp.is_folder(),
            Made::Link(target) => stamp.is_link() && files.read_link(path)? == Path::new(target),
        };
        Ok(if same { Self::Same } else { Self::Other })
    }
}

/// What stands at a path; `None` when nothing that can be kept does.
fn describe(files: &Files, path: &Path) -> Result<Option<Made>, ManifestError> {
    let Some(found) = files.metadata(path)? else { return Ok(None) };
    if found.is_dir() {
        return Ok(Some(Made::Folder));
    }
    if found.is_symlink() {
        let target = files.read_link(path)?;
        let text = target.to_str().ok_or_else(|| ManifestError::Name(path.to_owned()))?;
        return Ok(Some(Made::Link(text.to_owned())));
    }
    if !found.is_file() {
        return Ok(None);
    }
    Ok(Some(Made::File { digest: files.digest(path)?, mode: depot::mode(&found), size: found.len() }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn project() -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path());
        for (path, text) in [("out/a", "1"), ("out/deep/b", "2"), ("other", "3")] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir(root.path().join("out/empty")).unwrap();
        std::os::unix::fs::symlink("a", root.path().join("out/link")).unwrap();
        (root, files)
    }

    fn looked(files: &Files, outputs: &[&str]) -> Manifest {
        Manifest::look(files, &outputs.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn everything_under_a_folder_is_there_empty_folders_and_links_too() {
        let (_root, files) = project();
        let made = looked(&files, &["./out/"]);
        assert_eq!(made.rows.keys().collect::<Vec<_>>(), ["out/a", "out/deep/b", "out/empty", "out/link"]);
        assert_eq!(made.rows["out/empty"], Made::Folder);
        assert_eq!(made.rows["out/link"], Made::Link("a".to_owned()));
        assert_eq!(looked(&files, &["out/*", "nothing"]).rows.len(), 3, "a glob finds files and links");
        assert!(made.is_inside());
    }

    #[test]
    fn whatever_is_not_as_it_was_is_named() {
        type Change = (fn(&Path), &'static str);
        let changes: [Change; 5] = [
            (|out| std::fs::write(out.join("a"), "9").unwrap(), "out/a"),
            (|out| std::fs::remove_file(out.join("deep/b")).unwrap(), "out/deep/b"),
            (|out| std::fs::remove_dir(out.join("empty")).unwrap(), "out/empty"),
            (
                |out| {
                    std::fs::remove_file(out.join("link")).unwrap();
                    std::os::unix::fs::symlink("b", out.join("link")).unwrap();
                },
                "out/link",
            ),
            (
                |out| {
                    std::fs::set_permissions(out.join("a"), std::fs::Permissions::from_mode(0o755)).unwrap();
                },
                "out/a",
            ),
        ];
        for (change, path) in changes {
            let (root, files) = project();
            let made = looked(&files, &["out"]);
            assert_eq!(made.differing(&files).unwrap(), Vec::<String>::new());
            change(&root.path().join("out"));
            assert_eq!(made.differing(&files).unwrap(), [path]);
        }
    }
}
