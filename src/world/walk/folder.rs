//! One folder: the names in it, and what each is. Names are looked at through
//! the open folder, which is cheaper than by their whole path, and cannot be
//! led elsewhere by somebody who moves a folder meanwhile.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, readlinkat, statat};
use rustix::io::Errno;

use super::super::digests::Stamp;
use super::super::files::FileError;

/// An open folder. Its names are sorted by their bytes.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    dir: Dir,
    names: Vec<(Vec<u8>, FileType)>,
}

/// A name in a folder.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    bytes: &'a [u8],
    /// What the folder says it is; not all file systems tell.
    pub(super) kind: FileType,
}

impl<'a> Name<'a> {
    /// As the file system has it.
    #[must_use]
    pub fn as_os_str(&self) -> &'a OsStr {
        OsStr::from_bytes(self.bytes)
    }

    /// `None` when it is not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes).ok()
    }
}

impl Folder {
    /// Opens a folder and reads its names. `follow`: a link to a folder will do. `None` when there is
    /// no folder.
    pub fn open(path: &Path, follow: bool) -> Result<Option<Self>, FileError> {
        let cannot = |error: Errno| FileError::new("cannot list", path)(error.into());
        let link = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | link;
        let mut dir = match open(path, flags, Mode::empty()).and_then(Dir::new) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            opened => opened.map_err(cannot)?,
        };
        let mut names = Vec::new();
        while let Some(entry) = dir.read() {
            let entry = entry.map_err(cannot)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Some(Self { path: path.to_owned(), dir, names }))
    }

    /// Its names.
    pub fn names(&self) -> impl Iterator<Item = Name<'_>> {
        self.names.iter().map(|(bytes, kind)| Name { bytes, kind: *kind })
    }

    /// Where a name lies.
    #[must_use]
    pub fn path(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// What a name is now, no link followed; `None` when it is gone.
    pub fn look(&self, name: &OsStr) -> Result<Option<Stamp>, FileError> {
        match self.dir.fd().and_then(|dir| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => Ok(Some(Stamp::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(FileError::new("cannot look at", &self.path(name))(error.into())),
        }
    }

    /// Whether a name is a folder, no link.
    pub fn is_folder(&self, name: Name<'_>) -> Result<bool, FileError> {
        match name.kind {
            FileType::Unknown => Ok(self.look(name.as_os_str())?.is_some_and(|stamp| stamp.is_folder())),
            kind => Ok(kind == FileType::Directory),
        }
    }

    /// Where a link points.
    pub fn read_link(&self, name: &OsStr) -> Result<PathBuf, FileError> {
        let target = self.dir.fd().and_then(|dir| readlinkat(dir, name, Vec::new()));
        let target =
            target.map_err(|error| FileError::new("cannot read the link", &self.path(name))(error.into()))?;
        Ok(PathBuf::from(OsStr::from_bytes(target.to_bytes())))
    }
}
