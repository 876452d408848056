//! Where a project's records live: releases, journals, build records.
//!
//! Keys are paths with forward slashes. Values are written whole; what is
//! written once is never changed unless its owner says so with [`Store::put`].

use std::path::{Path, PathBuf};

use super::crash;
use super::files::{FileError, Files};
use super::growing::{self, Ends, Growing, Tail};

/// A store in a folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    files: Files,
}

impl Store {
    /// A store in a folder; nothing is made before the first write.
    #[must_use]
    pub fn folder(folder: PathBuf) -> Self {
        Self { files: Files::new(&folder), folder }
    }

    /// Where a key lies; for what grows line by line (journals and logs).
    #[must_use]
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(Path::new(key))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, FileError> {
        match self.files.read(&self.path(key)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a value whether or not there is one.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<(), FileError> {
        crash::point("store.put.before");
        self.files.write(&self.path(key), bytes)?;
        crash::point("store.put.after");
        Ok(())
    }

    /// Writes a value that can be made again: it need not survive a power failure.
    pub fn remember(&self, key: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.files.write_unsynced(&self.path(key), bytes)
    }

    /// Writes a value that must not be there yet; `false` when it is.
    pub fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, FileError> {
        crash::point("store.create.before");
        let made = self.files.write_new(&self.path(key), bytes)?;
        crash::point("store.create.after");
        Ok(made)
    }

    /// The names right below a key, sorted.
    pub fn list(&self, key: &str) -> Result<Vec<String>, FileError> {
        match self.files.list(&self.path(key)) {
            Ok(paths) => Ok(paths
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
                .filter(|name| !name.starts_with('.'))
                .collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// A file that only grows.
    pub fn append(&self, key: &str) -> Result<std::fs::File, FileError> {
        self.files.append(&self.path(key))
    }

    /// Makes a file that only grows, and locks it; `None` when the key is taken. Its name lasts from
    /// its first sync on.
    pub fn begin(&self, key: &str) -> Result<Option<Growing>, FileError> {
        let path = self.path(key);
        self.files.create_dir(path.parent().unwrap_or(&self.folder))?;
        Ok(Growing::create_new(&path)?.map(|file| file.fresh_in(self.folders(&path))))
    }

    /// The same with its first bytes: the key appears with them, and locked.
    pub fn begin_with(&self, key: &str, bytes: &[u8]) -> Result<Option<Growing>, FileError> {
        let path = self.path(key);
        self.files.create_dir(path.parent().unwrap_or(&self.folder))?;
        let made = Growing::create_with(&path, bytes)?;
        if made.is_some() {
            self.settle(key)?;
        }
        Ok(made)
    }

    /// Takes the place of the writer of a file made by [`Store::begin`]; `None` while it lives.
    pub fn take_over(&self, key: &str) -> Result<Option<Growing>, FileError> {
        Growing::take_over(&self.path(key))
    }

    /// Goes on with a file that only grows, without a lock.
    pub fn grow(&self, key: &str) -> Result<Growing, FileError> {
        let path = self.path(key);
        self.files.create_dir(path.parent().unwrap_or(&self.folder))?;
        Growing::open(&path)
    }

    /// Reads a file that may still grow.
    #[must_use]
    pub fn tail(&self, key: &str) -> Tail {
        Tail::new(self.path(key))
    }

    /// The first and the last whole line of a file; `None` when there is none.
    pub fn ends(&self, key: &str) -> Result<Option<Ends>, FileError> {
        match growing::ends(&self.path(key)) {
            Err(error) if error.is_not_found() => Ok(None),
            found => found,
        }
    }

    /// Whether the writer of a file made by [`Store::begin`] is alive.
    pub fn is_held(&self, key: &str) -> Result<bool, FileError> {
        growing::is_held(&self.path(key))
    }

    /// Makes the names of a key and of the folders above it last.
    pub fn settle(&self, key: &str) -> Result<(), FileError> {
        self.folders(&self.path(key)).iter().try_for_each(|folder| growing::sync_folder(folder))
    }

    /// The folders from a path up to the store's own.
    fn folders(&self, path: &Path) -> Vec<PathBuf> {
        let inside = path.ancestors().skip(1).take_while(|folder| *folder != self.folder);
        inside.chain([self.folder.as_path()]).map(Path::to_owned).collect()
    }
}
