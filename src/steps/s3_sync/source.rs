//! The files of a site as they lie in the source folder, with their digests.
//!
//! What changed since it was digested last is read once for the plan. Files
//! above [`LARGE`] also get a digest for each part, so that an upload notices a
//! file that changed since without reading it twice.

use std::io::Read;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use globset::GlobMatcher;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::steps::Failure;
use crate::steps::failure::FailureClass;
use crate::world::digests::{self, Stamp, Wanted};
use crate::world::files::{FileError, Files, hex};
use crate::world::walk::{Folder, Name};

/// From this size on a file goes up in parts.
pub(super) const LARGE: u64 = 16 * 1024 * 1024;
const PART: u64 = 8 * 1024 * 1024;
/// S3 takes no more.
const MOST_PARTS: u64 = 10_000;

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::steps) struct Sum([u8; 32]);

impl Sum {
    /// Of bytes.
    #[cfg(test)]
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of what a hasher has taken.
    pub(super) fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// As the index of digests has it.
    fn from_index(sum: digests::Sum) -> Self {
        Self(sum.0)
    }

    /// As the manifest writes it.
    pub(super) fn hex(&self) -> String {
        hex(&self.0)
    }

    /// As S3 writes it.
    pub(super) fn base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.0)
    }

    /// As S3 writes that of an object sent in parts: of the parts' digests, and their number.
    fn of_parts(parts: &[Self]) -> String {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part.0);
        }
        format!("{}-{}", Self(hasher.finalize().into()).base64(), parts.len())
    }
}

/// One file.
#[derive(Clone, Debug)]
pub(in crate::steps) struct LocalFile {
    /// Relative to the source folder, forward slashes.
    pub relative: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Of all its bytes.
    pub sum: Sum,
    /// Of each part, for large files; else empty.
    pub parts: Vec<Sum>,
}

impl LocalFile {
    /// The checksum that S3 keeps of the object it becomes.
    pub(super) fn kept_sum(&self) -> String {
        if self.parts.is_empty() { self.sum.base64() } else { Sum::of_parts(&self.parts) }
    }

    /// The size of its parts; the last may be smaller.
    pub(super) fn part_size(&self) -> u64 {
        part_size(self.size)
    }
}

fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(MOST_PARTS).next_multiple_of(1024 * 1024))
}

/// Why a source folder cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(in crate::steps) enum SourceError {
    #[error("{0} does not exist")]
    Missing(String),
    #[error("{0} is not a folder")]
    NotAFolder(String),
    #[error("{0} holds no files")]
    Empty(String),
    #[error("the name of {} is not UTF-8, so it cannot be an object's key", .0.display())]
    NotUtf8(PathBuf),
    #[error("{} is a link that leaves the source folder", .0.display())]
    LinkOutside(PathBuf),
    #[error("{} is a link to a folder", .0.display())]
    LinkToFolder(PathBuf),
    #[error("{} is neither a file nor a folder", .0.display())]
    Special(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("reading the source folder was given up")]
    Stopped,
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let reason = error.to_string();
        match error {
            SourceError::Missing(_) | SourceError::NotAFolder(_) => {
                Self::new(reason).help("build the site first, or correct `from`")
            }
            SourceError::Empty(_) => Self::of(FailureClass::Refused, reason)
                .detail("an empty folder would empty the site, so nothing is done")
                .help("build the site first, or correct `from` and `exclude`"),
            SourceError::NotUtf8(_) => {
                Self::new(reason).help("rename the file, or leave it out with `exclude`")
            }
            SourceError::LinkOutside(_) | SourceError::LinkToFolder(_) | SourceError::Special(_) => {
                Self::of(FailureClass::Refused, reason)
                    .help("copy what it stands for, or leave it out with `exclude`")
            }
            SourceError::File(error) => error.into(),
            SourceError::Stopped => Self::of(FailureClass::Interrupted, reason),
        }
    }
}

/// Every file of a folder with its digests, sorted by path.
pub(in crate::steps) async fn read(
    files: &Files,
    from: &str,
    exclude: &[GlobMatcher],
) -> Result<Vec<LocalFile>, SourceError> {
    let root = files.locate(from)?;
    let (files, from, exclude) = (files.clone(), from.to_owned(), exclude.to_vec());
    blocking(move || {
        let walk = Walk { real: files.real_path(&root).ok(), files: &files, root: &root, exclude: &exclude };
        digest(&files, walk.all(&from)?)
    })
    .await
}

/// MD5 in hexadecimal: what S3 answers as the `ETag` of an object sent in one piece. Only compared.
pub(super) fn md5(files: &Files, path: &Path) -> Result<String, FileError> {
    let cannot = |source| FileError { what: "cannot read", path: path.to_owned(), source };
    let mut file = files.open(path)?;
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).map_err(cannot)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// Runs work that blocks on a thread for such work.
pub(super) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, SourceError>
where
    T: Send + 'static,
    E: Into<SourceError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(SourceError::Stopped),
    }
}

struct Found {
    relative: String,
    path: PathBuf,
    stamp: Stamp,
}

struct Walk<'a> {
    files: &'a Files,
    root: &'a Path,
    real: Option<PathBuf>,
    exclude: &'a [GlobMatcher],
}

impl Walk<'_> {
    /// Every file, sorted by its path.
    fn all(&self, from: &str) -> Result<Vec<Found>, SourceError> {
        let root = digests::stamp(self.real.as_deref().unwrap_or(self.root))?
            .ok_or_else(|| SourceError::Missing(from.to_owned()))?;
        if !root.is_folder() {
            return Err(SourceError::NotAFolder(from.to_owned()));
        }
        let mut found = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(below) = folders.pop() {
            // The source folder itself may be given by a link.
            let Some(folder) = Folder::open(&self.root.join(&below), below.is_empty())? else { continue };
            for name in folder.names() {
                self.visit(&folder, name, &below, &mut folders, &mut found)?;
            }
        }
        if found.is_empty() {
            return Err(SourceError::Empty(from.to_owned()));
        }
        found.sort_by(|a, b| a.relative.cmp(&b.relative));
        Ok(found)
    }

    fn visit(
        &self,
        folder: &Folder,
        name: Name<'_>,
        below: &str,
        folders: &mut Vec<String>,
        found: &mut Vec<Found>,
    ) -> Result<(), SourceError> {
        let path = folder.path(name.as_os_str());
        let Some(text) = name.as_str() else { return Err(SourceError::NotUtf8(path)) };
        let relative = if below.is_empty() { text.to_owned() } else { format!("{below}/{text}") };
        if self.exclude.iter().any(|glob| glob.is_match(&relative)) {
            return Ok(());
        }
        let Some(stamp) = folder.look(name.as_os_str())? else { return Ok(()) };
        if stamp.is_folder() {
            folders.push(relative);
        } else if stamp.is_file() {
            found.push(Found { relative, path, stamp });
        } else if stamp.is_link() {
            let real = self.files.real_path(&path)?;
            // A link may not publish what lies elsewhere on the machine.
            if !self.real.as_ref().is_some_and(|root| real.starts_with(root)) {
                return Err(SourceError::LinkOutside(path));
            }
            match digests::stamp(&real)? {
                Some(stamp) if stamp.is_file() => found.push(Found { relative, path: real, stamp }),
                _ => return Err(SourceError::LinkToFolder(path)),
            }
        } else {
            return Err(SourceError::Special(path));
        }
        Ok(())
    }
}

/// Fills in the digests.
fn digest(files: &Files, found: Vec<Found>) -> Result<Vec<LocalFile>, SourceError> {
    let wanted = found.iter().map(|found| {
        let size = found.stamp.size;
        let part = if size > LARGE { NonZeroU64::new(part_size(size)) } else { None };
        Wanted { path: found.path.clone(), stamp: found.stamp, part }
    });
    let digested = files.digests().all(&wanted.collect::<Vec<_>>())?;
    let all = found.into_iter().zip(digested).map(|(Found { relative, path, .. }, digested)| LocalFile {
        relative,
        path,
        size: digested.stamp.size,
        sum: Sum::from_index(digested.sum),
        parts: digested.parts.into_iter().map(Sum::from_index).collect(),
    });
    Ok(all.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::s3_sync::headers::glob;

    fn folder(entries: &[(&str, &[u8])]) -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::new(folder.path());
        for (name, bytes) in entries {
            files.write(&folder.path().join("dist").join(name), bytes).expect("a file");
        }
        (folder, files)
    }

    #[tokio::test]
    async fn reads_files_sorted_and_leaves_out_what_is_excluded() {
        let (_keep, files) = folder(&[("b/ä.txt", b"2"), ("a.txt", b"1"), ("b/.map", b"3")]);
        let all = read(&files, "dist", &[glob("**/.map").expect("a glob")]).await.expect("files");
        let names: Vec<&str> = all.iter().map(|file| file.relative.as_str()).collect();
        assert_eq!(names, ["a.txt", "b/ä.txt"]);
        assert_eq!(all[0].sum.hex(), crate::world::files::digest(b"1"));
        assert!(all[0].parts.is_empty());
    }

    #[tokio::test]
    async fn large_files_get_a_digest_for_each_part() {
        let bytes = vec![7_u8; usize::try_from(2 * LARGE + 5).expect("fits")];
        let (_keep, files) = folder(&[("big.bin", &bytes)]);
        let all = read(&files, "dist", &[]).await.expect("files");
        let parts: Vec<Sum> = bytes.chunks(usize::try_from(PART).expect("fits")).map(Sum::of).collect();
        assert_eq!(all[0].parts, parts);
        assert_eq!(all[0].sum, Sum::of(&bytes));
    }

    #[test]
    fn never_more_parts_than_s3_takes() {
        for size in [LARGE, 80 * 1024 * 1024 * 1024, 5 * 1024 * 1024 * 1024 * 1024] {
            assert!(size.div_ceil(part_size(size)) <= MOST_PARTS, "{size}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn refuses_what_cannot_be_a_site() {
        use std::os::unix::ffi::OsStrExt as _;
        let (keep, files) = folder(&[("a.txt", b"1")]);
        let dist = keep.path().join("dist");
        assert!(matches!(read(&files, "nosuch", &[]).await, Err(SourceError::Missing(_))));
        assert!(matches!(read(&files, "dist/a.txt", &[]).await, Err(SourceError::NotAFolder(_))));
        let everything = [glob("**").expect("a glob")];
        assert!(matches!(read(&files, "dist", &everything).await, Err(SourceError::Empty(_))));

        std::os::unix::fs::symlink("/etc/hostname", dist.join("link")).expect("a link");
        assert!(matches!(read(&files, "dist", &[]).await, Err(SourceError::LinkOutside(_))));
        files.remove(&dist.join("link")).expect("removed");

        files.write(&dist.join(std::ffi::OsStr::from_bytes(b"\xff.txt")), b"x").expect("a file");
        assert!(matches!(read(&files, "dist", &[]).await, Err(SourceError::NotUtf8(_))));
    }
}
