//! The content-addressed store on this machine: blobs by their digest, entries
//! by the digest of the key that they were made from.
//!
//! An entry is written after all of its blobs, each file appears whole, and
//! everything is checked again when it is used: an entry by its checksum, a
//! blob by its name, in the private copy that is about to be placed. A program
//! of the workspace never gets a file that the store also has: it could write
//! through it.

mod entry;
mod keep;
mod prune;
mod restore;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::world::depot;
use crate::world::files::{FileError, Files};

pub use self::entry::{Entry, Found};
pub use self::keep::NotKept;
pub use self::prune::{Limits, Pruned, Stats};
pub use self::restore::{NotRestored, Plan, Restored};
pub use self::verify::{Broken, What};

/// The store of a project. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Local {
    folder: PathBuf,
    /// The project's files, which outputs belong to.
    files: Files,
    next: Arc<AtomicU64>,
}

impl Local {
    /// The store in a folder.
    #[must_use]
    pub fn new(folder: PathBuf, files: Files) -> Self {
        Self { folder, files, next: Arc::default() }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.shelved("blobs", digest)
    }

    fn entry_path(&self, key: &str) -> PathBuf {
        self.shelved("entries", key)
    }

    /// Two folders deep, so that no folder holds too many.
    fn shelved(&self, kind: &str, name: &str) -> PathBuf {
        let (first, others) = name.split_at_checked(2).unwrap_or(("", name));
        self.folder.join(kind).join(first).join(others)
    }

    /// Held while files of the store are used or added, so that nobody removes them meanwhile.
    fn in_use(&self) -> Result<Option<depot::Lock>, FileError> {
        depot::Lock::try_take(&self.folder.join("lock"), depot::Hold::Shared)
    }

    /// A name in the folder for what is not whole yet; its first part is the process.
    fn temporary(&self) -> Result<PathBuf, FileError> {
        let folder = self.folder.join("tmp");
        if self.files.metadata(&folder)?.is_none() {
            depot::create_dir(&folder)?;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(folder.join(format!("{}-{:p}-{number}", std::process::id(), Arc::as_ptr(&self.next))))
    }

    /// Every file two folders below one of the store's folders, with the name that it stands for.
    fn shelves(&self, kind: &str) -> Result<Vec<(String, PathBuf)>, FileError> {
        let mut found = Vec::new();
        for shelf in list(&self.files, &self.folder.join(kind))? {
            let first = name(&shelf);
            found.extend(
                list(&self.files, &shelf)?.into_iter().map(|path| (format!("{first}{}", name(&path)), path)),
            );
        }
        Ok(found)
    }
}

/// The entries of a folder; none when there is no such folder, or when it is a file.
pub(super) fn list(files: &Files, folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match files.list(folder) {
        Err(error) if error.is_not_found() || error.source.kind() == std::io::ErrorKind::NotADirectory => {
            Ok(Vec::new())
        }
        listed => listed,
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
