//! Folders for secrets and for what programs hand back: mode 0700, files 0600,
//! gone when dropped.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::files::{FileError, Files};

/// A folder that only its owner can read. Dropped, it is removed with all that lies in it.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// A new folder under `.flow/tmp` of the project.
    pub fn new(files: &Files) -> Result<Self, FileError> {
        let above = files.root().join(".flow").join("tmp");
        let fault = |source| FileError { what: "cannot create a folder in", path: above.clone(), source };
        // The folder above it is there for all but the first.
        let make = || {
            let closed = std::fs::Permissions::from_mode(0o700);
            tempfile::Builder::new().permissions(closed).tempdir_in(&above)
        };
        let folder = match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files.create_dir(&files.root().join(".flow"))?;
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&above).map_err(fault)?;
                make()
            }
            outcome => outcome,
        };
        Ok(Self { folder: folder.map_err(fault)? })
    }

    /// Where a name lies in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a file that only its owner can read.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, FileError> {
        let path = self.path(name);
        let written = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes));
        written.map_err(|source| FileError { what: "cannot write", path: path.clone(), source })?;
        Ok(path)
    }

    /// Removes what crashed runs left. For the start of a run, while no other run of the project is there.
    pub fn clear(files: &Files) -> Result<(), FileError> {
        files.remove_dir(&Path::new(files.root()).join(".flow").join("tmp"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_reads_it_and_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path());
        let scratch = Scratch::new(&files).unwrap();
        let file = scratch.write("key", b"secret").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        assert_eq!(mode(&root.path().join(".flow/tmp")), 0o700);
        drop(scratch);
        assert!(!file.exists());
    }
}
