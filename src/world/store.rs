//! Where a project's records live: releases, journals, build records.
//!
//! Keys are paths with forward slashes. Values are written whole; what is
//! written once is never changed unless its owner says so with [`Store::put`].

use std::path::{Path, PathBuf};

use super::files::{FileError, Files};

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
        self.files.write(&self.path(key), bytes)
    }

    /// Writes a value that must not be there yet; `false` when it is.
    pub fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, FileError> {
        self.files.write_new(&self.path(key), bytes)
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
}
