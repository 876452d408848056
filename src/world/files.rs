//! Files. Every error names the path and what was tried.
//!
//! Paths are given relative to the project root and refused when they leave it
//! by `..`; absolute ones are taken as they are (a store may lie elsewhere).

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::crash;
use super::digests::Digests;

/// Something that could not be done with a file.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {source}", path.display())]
pub struct FileError {
    /// `cannot read`, …
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    pub(super) fn new(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { what, path, source: bare(source) }
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// An error without the path of the temporary file that it is about: that is nobody's to know, and
/// the file whose place it was to take is named anyway.
fn bare(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((words, path)) if error.raw_os_error().is_none() && path.ends_with('"') => {
            io::Error::new(error.kind(), words.to_owned())
        }
        _ => error,
    }
}

/// A path without its `.` and `..`, as text: links are not looked at.
#[must_use]
pub fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

/// The files of a project. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
    digests: Digests,
}

impl Files {
    /// Files under a root folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { digests: Digests::new(&root), root }
    }

    /// The root folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Digests of these files, remembered from run to run.
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Where a path of a flow file lies; refused when it leaves the root.
    pub fn locate(&self, path: &str) -> Result<PathBuf, FileError> {
        let given = Path::new(path);
        if given.is_absolute() {
            return Ok(given.to_owned());
        }
        let mut clean = PathBuf::new();
        for part in given.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    if !clean.pop() {
                        let outside =
                            io::Error::new(io::ErrorKind::InvalidInput, "it lies outside the project");
                        return Err(FileError::new("cannot use", given)(outside));
                    }
                }
                part => clean.push(part),
            }
        }
        Ok(self.root.join(clean))
    }

    /// Everything in a file.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        std::fs::read(path).map_err(FileError::new("cannot read", path))
    }

    /// Everything in a text file.
    pub fn read_text(&self, path: &Path) -> Result<String, FileError> {
        std::fs::read_to_string(path).map_err(FileError::new("cannot read", path))
    }

    /// A file to read from.
    pub fn open(&self, path: &Path) -> Result<std::fs::File, FileError> {
        std::fs::File::open(path).map_err(FileError::new("cannot open", path))
    }

    /// What a path is, links not followed; `None` when there is nothing.
    pub fn metadata(&self, path: &Path) -> Result<Option<std::fs::Metadata>, FileError> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(FileError::new("cannot look at", path)(error)),
        }
    }

    /// Where a link points.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf, FileError> {
        std::fs::read_link(path).map_err(FileError::new("cannot read the link", path))
    }

    /// Where a path really lies, every link followed.
    pub fn real_path(&self, path: &Path) -> Result<PathBuf, FileError> {
        std::fs::canonicalize(path).map_err(FileError::new("cannot follow", path))
    }

    /// The entries of a folder, by name.
    pub fn list(&self, path: &Path) -> Result<Vec<PathBuf>, FileError> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(FileError::new("cannot list", path))? {
            entries.push(entry.map_err(FileError::new("cannot list", path))?.path());
        }
        entries.sort();
        Ok(entries)
    }

    /// Makes a folder and those above it.
    pub fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        std::fs::create_dir_all(path).map_err(FileError::new("cannot create", path))
    }

    /// Writes a file so that a reader sees the old or the new one, whole, also after a crash.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        self.create_dir(folder)?;
        let mut temporary =
            tempfile::NamedTempFile::new_in(folder).map_err(FileError::new("cannot write", path))?;
        crash::write(&mut temporary, bytes, path).map_err(FileError::new("cannot write", path))?;
        temporary.as_file().sync_data().map_err(FileError::new("cannot write", path))?;
        temporary.persist(path).map_err(|error| FileError::new("cannot write", path)(error.error))?;
        crash::file("write", path, "after");
        Ok(())
    }

    /// Writes a file whole or not at all; it need not survive a power failure. For what can be made
    /// again.
    pub fn write_unsynced(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        self.create_dir(folder)?;
        let mut temporary =
            tempfile::NamedTempFile::new_in(folder).map_err(FileError::new("cannot write", path))?;
        crash::write(&mut temporary, bytes, path).map_err(FileError::new("cannot write", path))?;
        temporary.persist(path).map_err(|error| FileError::new("cannot write", path)(error.error))?;
        crash::file("write", path, "after");
        Ok(())
    }

    /// Writes a file that must not exist yet; `false` when it does.
    pub fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        self.create_dir(folder)?;
        let mut temporary =
            tempfile::NamedTempFile::new_in(folder).map_err(FileError::new("cannot write", path))?;
        crash::write(&mut temporary, bytes, path).map_err(FileError::new("cannot write", path))?;
        temporary.as_file().sync_data().map_err(FileError::new("cannot write", path))?;
        match temporary.persist_noclobber(path) {
            Ok(_) => {
                crash::file("write", path, "after");
                Ok(true)
            }
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(FileError::new("cannot write", path)(error.error)),
        }
    }

    /// A file that only grows, made when it does not exist.
    pub fn append(&self, path: &Path) -> Result<std::fs::File, FileError> {
        self.create_dir(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(FileError::new("cannot write", path))
    }

    /// Removes a file; nothing to do when there is none.
    pub fn remove(&self, path: &Path) -> Result<(), FileError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::new("cannot remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a folder and all in it; nothing to do when there is none.
    pub fn remove_dir(&self, path: &Path) -> Result<(), FileError> {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::new("cannot remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// SHA-256 of a file's bytes, in hexadecimal; memory does not grow with the file.
    pub fn digest(&self, path: &Path) -> Result<String, FileError> {
        let mut file = self.open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = file.read(&mut buffer).map_err(FileError::new("cannot read", path))?;
            if read == 0 {
                return Ok(hex(&hasher.finalize()));
            }
            hasher.update(&buffer[..read]);
        }
    }
}

/// SHA-256 of bytes, in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    add_hex(bytes, &mut text);
    text
}

/// Adds bytes in hexadecimal to a text.
pub fn add_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |half: u8| DIGITS[usize::from(half & 0xf)];
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
}

/// Whether anybody may run it.
#[cfg(unix)]
#[must_use]
pub fn is_executable(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    found.mode() & 0o111 != 0
}

/// Whether anybody may run it; never where files do not say.
#[cfg(not(unix))]
#[must_use]
pub fn is_executable(_: &std::fs::Metadata) -> bool {
    false
}

/// When it was last written, in seconds since 1970; 0 where that is not known.
#[must_use]
pub fn modified_seconds(found: &std::fs::Metadata) -> u64 {
    found
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs())
}
