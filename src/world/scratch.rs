//! Files for secrets, for what programs hand back, and notes of programs that
//! run, and copies of sources: mode 0600, in the one folder `.flow/tmp` of mode 0700, gone when dropped.
//!
//! One folder for all steps, because making one each costs more than starting
//! a program on some file systems. The name of a file begins with the process
//! that made it, so that what a killed one left is found by the next run.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;

use super::files::{FileError, Files};

/// The files and folders of one step. Dropped, they are removed.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    made: Vec<tempfile::TempPath>,
    folders: Vec<tempfile::TempDir>,
}

impl Scratch {
    /// No files yet.
    #[must_use]
    pub fn new(files: &Files) -> Self {
        Self { folder: folder(files), made: Vec::new(), folders: Vec::new() }
    }

    /// Makes a file that only its owner can read, and says where. `name` is the start of its name.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<PathBuf, FileError> {
        self.write_as(name, "", bytes)
    }

    /// The same with an end of its name, which some programs go by: `.json`.
    pub fn write_as(&mut self, name: &str, end: &str, bytes: &[u8]) -> Result<PathBuf, FileError> {
        let prefix = format!("{}-{name}-", std::process::id());
        let make = |folder: &std::path::Path| {
            tempfile::Builder::new().prefix(&prefix).suffix(end).tempfile_in(folder)
        };
        let mut file = self.make(make)?;
        let fault = |source| FileError { what: "cannot write in", path: self.folder.clone(), source };
        file.write_all(bytes).map_err(fault)?;
        let path = file.into_temp_path();
        let place = path.to_path_buf();
        self.made.push(path);
        Ok(place)
    }

    /// Makes an empty folder that only its owner can enter, and says where.
    pub fn folder(&mut self, name: &str) -> Result<PathBuf, FileError> {
        let prefix = format!("{}-{name}-", std::process::id());
        let closed = || std::fs::Permissions::from_mode(0o700);
        let open = |folder: &std::path::Path| {
            tempfile::Builder::new().prefix(&prefix).permissions(closed()).tempdir_in(folder)
        };
        let made = self.make(open)?;
        let place = made.path().to_owned();
        self.folders.push(made);
        Ok(place)
    }

    fn make<T>(&self, make: impl Fn(&std::path::Path) -> io::Result<T>) -> Result<T, FileError> {
        let fault = |source| FileError { what: "cannot write in", path: self.folder.clone(), source };
        match make(&self.folder) {
            // The folder is there for all but the first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let above = self.folder.parent().unwrap_or(&self.folder);
                std::fs::create_dir_all(above).map_err(fault)?;
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(fault)?;
                make(&self.folder)
            }
            outcome => outcome,
        }
        .map_err(fault)
    }

    /// Removes what processes left that are gone, and ends the groups of programs that they left.
    /// For the start of a run.
    pub fn clear(files: &Files) -> Result<(), FileError> {
        let left = match files.list(&folder(files)) {
            Err(error) if error.is_not_found() => return Ok(()),
            listed => listed?,
        };
        for path in left {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let alive = name
                .split_once('-')
                .and_then(|(process, _)| process.parse::<u32>().ok())
                .is_some_and(|process| PathBuf::from(format!("/proc/{process}")).exists());
            if !alive {
                super::process::end_left(&path);
                match files.metadata(&path)? {
                    Some(found) if found.is_dir() => files.remove_dir(&path)?,
                    _ => files.remove(&path)?,
                }
            }
        }
        Ok(())
    }
}

/// The folder that all of them lie in.
pub(super) fn folder(files: &Files) -> PathBuf {
    files.root().join(".flow").join("tmp")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_the_owner_reads_it_and_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path());
        let mut scratch = Scratch::new(&files);
        let file = scratch.write("key", b"secret").unwrap();
        assert_ne!(file, scratch.write("key", b"other").unwrap());
        assert_eq!(files.read_text(&file).unwrap(), "secret");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        let killed = root.path().join(".flow/tmp/4194999-key-x");
        std::fs::write(&killed, "secret").unwrap();
        let (folder, left) = (scratch.folder("copy").unwrap(), root.path().join(".flow/tmp/4194999-copy-x"));
        assert_eq!(mode(&folder), 0o700);
        std::fs::create_dir_all(left.join("below")).unwrap();
        Scratch::clear(&files).unwrap();
        assert!(file.exists() && folder.exists(), "what is in use stays");
        assert!(!killed.exists() && !left.exists(), "only what a process left that is gone");
        drop(scratch);
        assert!(!file.exists() && !folder.exists());
    }
}
