//! What the cache does with files: private copies that are digested as they
//! are made, and changes that are whole but need not survive a power cut.
//!
//! Nothing here is synced: whoever reads what a depot keeps checks it, and can
//! do without it. For records that must last there is [`super::store`].

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::crash;
use super::files::{FileError, hex};

/// Bytes that are copied in one go.
const BLOCK: usize = 256 * 1024;

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// SHA-256 of what is in the copy, in hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// Copies a file to a place where there is none; the digest is that of the copy, whatever happens
/// to the original meanwhile. File systems that can share blocks do, until one of the two is written.
pub fn copy(from: &Path, to: &Path) -> Result<Copied, FileError> {
    let mut source = File::open(from).map_err(FileError::new("cannot read", from))?;
    let wrong = || FileError::new("cannot write", to);
    crash::room().map_err(wrong())?;
    let mut target = File::options().read(true).write(true).create_new(true).open(to).map_err(wrong())?;
    let cloned = clone(&source, &target);
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; BLOCK]);
    loop {
        let read = if cloned { target.read(&mut buffer) } else { source.read(&mut buffer) };
        let read = read.map_err(FileError::new("cannot read", from))?;
        let Some(block) = buffer.get(..read).filter(|block| !block.is_empty()) else { break };
        hasher.update(block);
        size += u64::try_from(read).unwrap_or_default();
        if !cloned {
            target.write_all(block).map_err(wrong())?;
        }
    }
    Ok(Copied { digest: hex(&hasher.finalize()), size })
}

#[cfg(target_os = "linux")]
fn clone(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn clone(_from: &File, _to: &File) -> bool {
    false
}

/// Writes a file so that a reader sees the old or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let wrong = || FileError::new("cannot write", path);
    let folder = path.parent().unwrap_or(Path::new("."));
    let make = || tempfile::NamedTempFile::new_in(folder);
    let mut temporary = match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir(folder)?;
            make()
        }
        outcome => outcome,
    }
    .map_err(wrong())?;
    crash::write(&mut temporary, bytes, path).map_err(wrong())?;
    temporary.persist(path).map_err(|error| wrong()(error.error))?;
    crash::file("write", path, "after");
    Ok(())
}

/// Makes a folder of the depot and those above it; only their owner may look into them.
pub fn create_dir(path: &Path) -> Result<(), FileError> {
    let wrong = || FileError::new("cannot create", path);
    crash::room().map_err(wrong())?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong())
}

/// Moves a file or link to a place that it takes, whatever file stood there.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    crash::file("place", to, "before");
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => across(from, to),
        moved => moved,
    }
    .map_err(FileError::new("cannot write", to))?;
    crash::file("place", to, "after");
    Ok(())
}

/// A place on another file system: copied beside it first, so that it appears whole.
fn across(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let found = from.symlink_metadata()?;
    if found.is_symlink() {
        let target = std::fs::read_link(from)?;
        let beside = tempfile::Builder::new()
            .make_in(folder, |path| std::os::unix::fs::symlink(&target, path))?
            .into_temp_path();
        return beside.persist(to).map_err(|error| error.error);
    }
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut File::open(from)?, &mut beside)?;
    beside.as_file().set_permissions(found.permissions())?;
    beside.persist(to).map_err(|error| error.error)?;
    std::fs::remove_file(from)
}

/// Makes a link where there is nothing.
pub fn link(target: &Path, at: &Path) -> Result<(), FileError> {
    std::os::unix::fs::symlink(target, at).map_err(FileError::new("cannot write", at))
}

/// Gives a file its permission bits.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(FileError::new("cannot set the permissions of", path))
}

/// The permission bits of a file.
#[must_use]
pub fn mode(found: &std::fs::Metadata) -> u32 {
    found.mode() & 0o777
}

/// Removes a folder if nothing is in it; says whether it did.
#[must_use]
pub fn remove_empty(path: &Path) -> bool {
    std::fs::remove_dir(path).is_ok()
}

/// Marks a file as used now. Where that is not possible it only looks older than it is.
pub fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// When a file was last written or marked as used; `None` where that is not known.
#[must_use]
pub fn used(found: &std::fs::Metadata) -> Option<Timestamp> {
    Timestamp::try_from(found.modified().ok()?).ok()
}

/// How much of a disk a file takes.
#[must_use]
pub fn room(found: &std::fs::Metadata) -> u64 {
    found.blocks().saturating_mul(512)
}

/// A lock between processes and between steps of one process; the kernel drops it with its holder.
///
/// Whoever holds it alone leaves a mark in the file and takes it away at the end, so that the next
/// one knows when its holder was killed.
#[derive(Debug)]
pub struct Lock {
    file: File,
    hold: Hold,
    abandoned: bool,
}

impl Lock {
    /// Whether the last one who held it alone was killed.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.hold == Hold::Alone {
            // A mark that stays makes the next one look for what a killed one left.
            let _ = self.file.set_len(0);
        }
        // A program that was just started may still have the file: closing it alone might not do.
        let _ = self.file.unlock();
    }
}

/// SHA-256 of what comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The next piece.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces, in hexadecimal.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// With others.
    Shared,
    /// Alone.
    Alone,
}

impl Lock {
    fn marked(mut file: File, hold: Hold) -> io::Result<Self> {
        let abandoned = file.metadata()?.len() > 0;
        if hold == Hold::Alone && !abandoned {
            file.write_all(b"!")?;
        }
        Ok(Self { file, hold, abandoned })
    }

    /// Takes the lock of a file, which is made if there is none; `None` while others hold it.
    pub fn try_take(path: &Path, hold: Hold) -> Result<Option<Self>, FileError> {
        let open = || File::options().create(true).append(true).open(path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dir(path.parent().unwrap_or(Path::new(".")))?;
                open()
            }
            opened => opened,
        }
        .map_err(FileError::new("cannot lock", path))?;
        let taken = match hold {
            Hold::Shared => file.try_lock_shared(),
            Hold::Alone => file.try_lock(),
        };
        match taken {
            Ok(()) => Self::marked(file, hold).map(Some).map_err(FileError::new("cannot lock", path)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(FileError::new("cannot lock", path)(error)),
        }
    }
}

/// A file of lines that several processes add to, each whole.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
}

/// What was read of such a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    file: (u64, u64),
    /// Bytes.
    pub size: u64,
}

impl Lines {
    /// The file at a path; it need not be there.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What stands behind a place, and the place behind that; everything where it is another file
    /// than the one of the place, which is then `None`.
    pub fn read(&self, from: Option<Place>) -> Result<Option<(bool, Vec<u8>, Place)>, FileError> {
        use std::io::Seek as _;
        let wrong = || FileError::new("cannot read", &self.path);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong()(error)),
        };
        let found = file.metadata().map_err(wrong())?;
        let here = (found.dev(), found.ino());
        let before = from.filter(|from| from.file == here && from.size <= found.len());
        let start = before.map_or(0, |before| before.size);
        let mut bytes = Vec::with_capacity(usize::try_from(found.len() - start).unwrap_or_default());
        if start < found.len() {
            file.seek(io::SeekFrom::Start(start)).map_err(wrong())?;
            file.read_to_end(&mut bytes).map_err(wrong())?;
        }
        let size = start + u64::try_from(bytes.len()).unwrap_or_default();
        Ok(Some((before.is_some(), bytes, Place { file: here, size })))
    }

    /// Adds a line. What a process that was killed left unfinished in front of it ends there.
    pub fn add(&self, line: &[u8]) -> Result<(), FileError> {
        let wrong = || FileError::new("cannot write", &self.path);
        loop {
            let open = || File::options().create(true).append(true).open(&self.path);
            let mut file = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    create_dir(self.path.parent().unwrap_or(Path::new(".")))?;
                    open()
                }
                opened => opened,
            }
            .map_err(wrong())?;
            file.lock().map_err(wrong())?;
            let (ours, there) = (file.metadata().map_err(wrong())?, self.path.metadata());
            // Somebody may have put another file in its place before it was locked.
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                let mut bytes = Vec::with_capacity(line.len() + 2);
                bytes.push(b'\n');
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
                let written = crash::write(&mut file, &bytes, &self.path).map_err(wrong());
                let _ = file.unlock();
                return written;
            }
        }
    }

    /// Puts other lines in their place, made from what stands there while nobody adds any.
    pub fn replace(&self, remake: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<(), FileError> {
        let wrong = || FileError::new("cannot write", &self.path);
        let mut file = match File::options().read(true).append(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(wrong()(error)),
        };
        file.lock().map_err(wrong())?;
        let ours = file.metadata().map_err(wrong())?.ino();
        let mut bytes = Vec::new();
        if self.path.metadata().is_ok_and(|there| there.ino() == ours) {
            file.read_to_end(&mut bytes).map_err(wrong())?;
            write(&self.path, &remake(&bytes))?;
        }
        let _ = file.unlock();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_digested_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&from, "text").unwrap();
        let copied = copy(&from, &to).unwrap();
        assert_eq!(copied, Copied { digest: super::super::files::digest(b"text"), size: 4 });
        std::fs::write(&from, "more text").unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "text", "they share nothing that is written");
        assert!(copy(&from, &to).is_err(), "what is there is not written over");
    }

    #[test]
    fn a_lock_is_one_between_files_that_are_open_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/lock");
        let held = Lock::try_take(&path, Hold::Alone).unwrap().unwrap();
        assert!(Lock::try_take(&path, Hold::Shared).unwrap().is_none());
        drop(held);
        let shared = Lock::try_take(&path, Hold::Shared).unwrap().unwrap();
        assert!(Lock::try_take(&path, Hold::Shared).unwrap().is_some());
        assert!(Lock::try_take(&path, Hold::Alone).unwrap().is_none());
        drop(shared);
    }

    #[test]
    fn lines_are_read_from_where_they_were_left() {
        let folder = tempfile::tempdir().unwrap();
        let lines = Lines::new(folder.path().join("deep/lines"));
        assert!(lines.read(None).unwrap().is_none());
        lines.add(b"one").unwrap();
        let (_, bytes, place) = lines.read(None).unwrap().unwrap();
        assert_eq!(bytes, b"\none\n");
        lines.add(b"two").unwrap();
        let (same, bytes, _) = lines.read(Some(place)).unwrap().unwrap();
        assert_eq!((same, bytes.as_slice()), (true, b"\ntwo\n".as_slice()));
        lines.replace(<[u8]>::to_ascii_uppercase).unwrap();
        let (same, bytes, _) = lines.read(Some(place)).unwrap().unwrap();
        assert_eq!((same, bytes.as_slice()), (false, b"\nONE\n\nTWO\n".as_slice()));
    }
}
