//! The files that a build sees: listed, digested, and sent.
//!
//! Listing and sending go over the same entries, so that what was planned and
//! what the engine gets are the same bytes: sending digests every file again
//! and stops at the first difference. Digests cover path, kind, executable bit,
//! link target and bytes; owners, other mode bits and times never count.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::body::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::ignore::{Ignore, IgnoreError, Matched};
use crate::world::files::{FileError, Files, hex};

/// How much of the archive is on its way at most: this many pieces of this size.
const PIECES: usize = 8;
const PIECE: usize = 128 * 1024;
/// Where a Dockerfile from outside the context lies in the archive.
const OUTSIDE: &str = ".flow.dockerfile";

/// Everything that is sent, sorted by path, folders before what is in them.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// Each with its digest.
    pub entries: Arc<Vec<Entry>>,
    /// Path of the Dockerfile in the archive.
    pub dockerfile: String,
    /// Its text.
    pub dockerfile_text: String,
}

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In the archive, with forward slashes.
    pub path: String,
    source: PathBuf,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Folder,
    File { executable: bool, size: u64, sha256: String },
    Link { target: String },
}

/// A context that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is no such folder.
    #[error("the context {0} is no folder")]
    NoFolder(String),
    /// There is no such file.
    #[error("there is no Dockerfile at {0}")]
    NoDockerfile(String),
    /// Archives and digests are over text.
    #[error("the name of {0} is not UTF-8")]
    Name(String),
    /// A pattern.
    #[error("{file}, {error}")]
    Ignore {
        /// Which file.
        file: String,
        /// What is wrong in it.
        error: IgnoreError,
    },
    /// The Dockerfile is not text.
    #[error("the Dockerfile {0} is not UTF-8")]
    NoText(String),
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
}

/// How the sending ended.
#[derive(Debug)]
pub enum Sent {
    /// The engine got everything, unchanged.
    All,
    /// The engine stopped reading: it failed, or needed no more.
    Unread,
    /// This path is not what was planned; the archive was broken off.
    Changed(String),
    /// It could not be read; the archive was broken off.
    Unreadable(FileError),
}

impl BuildContext {
    /// Lists and digests a context. Blocks while it reads.
    pub fn read(files: &Files, context: &str, dockerfile: Option<&str>) -> Result<Self, ContextError> {
        let mut listed = Self::list(files, context, dockerfile)?;
        let mut entries = Arc::unwrap_or_clone(listed.entries);
        digest_all(files, &mut entries)?;
        listed.entries = Arc::new(entries);
        Ok(listed)
    }

    /// The first path that is there now and was not when this was read, or the other way round.
    pub fn changed_path(
        &self,
        files: &Files,
        context: &str,
        dockerfile: Option<&str>,
    ) -> Result<Option<String>, ContextError> {
        let now = Self::list(files, context, dockerfile)?;
        let differ = |(then, now): (&Entry, &Entry)| {
            (then.path != now.path).then(|| (&then.path).min(&now.path).clone())
        };
        let common = self.entries.iter().zip(now.entries.iter()).find_map(differ);
        let longer = if self.entries.len() > now.entries.len() { &self.entries } else { &now.entries };
        let rest = longer.get(self.entries.len().min(now.entries.len())).map(|entry| entry.path.clone());
        Ok(common.or(rest))
    }

    /// Lists a context without reading its files.
    fn list(files: &Files, context: &str, dockerfile: Option<&str>) -> Result<Self, ContextError> {
        let root = files.locate(context)?;
        if !files.metadata(&root)?.is_some_and(|found| found.is_dir()) {
            return Err(ContextError::NoFolder(context.to_owned()));
        }
        let source = match dockerfile {
            Some(path) => files.locate(path)?,
            None => root.join("Dockerfile"),
        };
        let shown = || source.strip_prefix(files.root()).unwrap_or(&source).display().to_string();
        let bytes = match files.read(&source) {
            Err(error) if error.is_not_found() => return Err(ContextError::NoDockerfile(shown())),
            other => other?,
        };
        let dockerfile_text = String::from_utf8(bytes).map_err(|_| ContextError::NoText(shown()))?;
        let inside = source.strip_prefix(&root).ok().and_then(Path::to_str).map(str::to_owned);

        let ignore = read_ignore(files, &root, &source)?;
        let mut walk = Walk { files, ignore, dockerfile: inside.as_deref(), entries: Vec::new() };
        walk.folder(&root, "", &Matched::default(), false)?;
        let mut entries = walk.entries;
        let dockerfile = inside.unwrap_or_else(|| OUTSIDE.to_owned());
        if !entries.iter().any(|entry| entry.path == dockerfile) {
            let what = look(files, &source)?.ok_or_else(|| ContextError::NoDockerfile(shown()))?;
            entries.push(Entry { path: dockerfile.clone(), source, what });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { entries: Arc::new(entries), dockerfile, dockerfile_text })
    }

    /// How many files, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        self.entries.iter().fold((0, 0), |(count, bytes), entry| match &entry.what {
            What::File { size, .. } => (count + 1, bytes + size),
            _ => (count, bytes),
        })
    }

    /// Writes the archive, digesting every file on the way. Blocks while the receiver is behind.
    pub fn send(&self, files: &Files, pieces: mpsc::Sender<io::Result<Bytes>>) -> Sent {
        let mut archive = tar::Builder::new(Pieces { pieces: pieces.clone(), piece: Vec::new() });
        for entry in self.entries.iter() {
            let trouble = match entry.append(files, &mut archive) {
                Ok(Appended::Same) => continue,
                Ok(Appended::Changed) => Sent::Changed(entry.path.clone()),
                Ok(Appended::Unread) => return Sent::Unread,
                Err(error) => Sent::Unreadable(error),
            };
            // Without this the engine would take the archive for a short but whole one.
            let _ = pieces.blocking_send(Err(io::Error::other("the context changed while it was sent")));
            return trouble;
        }
        match archive.into_inner().and_then(|mut pieces| pieces.flush()) {
            Ok(()) => Sent::All,
            Err(_) => Sent::Unread,
        }
    }
}

impl Entry {
    /// What the content hash and the list of changes see: `644 SHA`, `755 SHA`, `folder`, `link TARGET`.
    #[must_use]
    pub fn digest(&self) -> String {
        match &self.what {
            What::Folder => "folder".to_owned(),
            What::File { executable, sha256, .. } => {
                format!("{} {sha256}", if *executable { "755" } else { "644" })
            }
            What::Link { target } => format!("link {target}"),
        }
    }

    fn fill(&mut self, files: &Files) -> Result<(), FileError> {
        if let What::File { sha256, .. } = &mut self.what {
            *sha256 = files.digest(&self.source)?;
        }
        Ok(())
    }

    fn append(&self, files: &Files, archive: &mut tar::Builder<Pieces>) -> Result<Appended, FileError> {
        let Some(now) = files.metadata(&self.source)? else { return Ok(Appended::Changed) };
        let mut header = tar::Header::new_gnu();
        // Times are sent as they are, because servers answer "not modified" by them; they never
        // decide whether something is built, and BuildKit's own cache leaves them out too.
        header.set_mtime(mtime(&now));
        let written = match &self.what {
            What::Folder => {
                if !now.is_dir() {
                    return Ok(Appended::Changed);
                }
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive.append_data(&mut header, &self.path, io::empty())
            }
            What::Link { target } => {
                if !now.is_symlink() || files.read_link(&self.source)? != Path::new(target) {
                    return Ok(Appended::Changed);
                }
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                archive.append_link(&mut header, &self.path, target)
            }
            What::File { executable, size, sha256 } => {
                let file = files.open(&self.source)?;
                if !now.is_file() || is_executable(&now) != *executable || now.len() != *size {
                    return Ok(Appended::Changed);
                }
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*size);
                let mut reader = Digesting { inner: file.take(*size), hasher: Sha256::new(), failed: false };
                let written = archive.append_data(&mut header, &self.path, &mut reader);
                if reader.failed {
                    return Ok(Appended::Changed);
                }
                let more = reader.inner.into_inner().read(&mut [0]).is_ok_and(|more| more > 0);
                if written.is_ok() && (more || hex(&reader.hasher.finalize()) != *sha256) {
                    return Ok(Appended::Changed);
                }
                written
            }
        };
        // The only writer is the channel, and it fails only when nobody reads any more.
        Ok(if written.is_ok() { Appended::Same } else { Appended::Unread })
    }
}

enum Appended {
    Same,
    Changed,
    Unread,
}

/// Digests what passes through it.
struct Digesting {
    inner: io::Take<std::fs::File>,
    hasher: Sha256,
    /// The file could not be read to the size it had.
    failed: bool,
}

impl Read for Digesting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            // The archive already says how long the file is.
            Ok(0) if self.inner.limit() > 0 && !buffer.is_empty() => {
                self.failed = true;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(read) => {
                self.hasher.update(buffer.get(..read).unwrap_or_default());
                Ok(read)
            }
            Err(error) => {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

/// Cuts what is written into pieces and hands them on.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A channel for the archive: memory stays within [`PIECES`] × [`PIECE`].
#[must_use]
pub fn pieces() -> (mpsc::Sender<io::Result<Bytes>>, mpsc::Receiver<io::Result<Bytes>>) {
    mpsc::channel(PIECES)
}

/// `NAME.dockerignore` beside the Dockerfile counts before the context's `.dockerignore`.
fn read_ignore(files: &Files, root: &Path, dockerfile: &Path) -> Result<Ignore, ContextError> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), root.join(".dockerignore")] {
        match files.read_text(&path) {
            Ok(text) => {
                return Ignore::parse(&text).map_err(|error| ContextError::Ignore {
                    file: path.strip_prefix(files.root()).unwrap_or(&path).display().to_string(),
                    error,
                });
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Ignore::default())
}

struct Walk<'a> {
    files: &'a Files,
    ignore: Ignore,
    /// Inside the context; sent whatever the patterns say.
    dockerfile: Option<&'a str>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    /// Takes what lies in a folder. `hidden` when the folder itself is left out but may hold
    /// something that is kept: then it is sent only together with that.
    fn folder(
        &mut self,
        folder: &Path,
        below: &str,
        matched: &Matched,
        hidden: bool,
    ) -> Result<(), ContextError> {
        let mut pending = hidden.then(|| (below.to_owned(), folder.to_owned()));
        for source in self.files.list(folder)? {
            let name = source
                .file_name()
                .and_then(|name| name.to_str())
                .ok_or_else(|| ContextError::Name(source.display().to_string()))?;
            // flow's own records change with every run; they are no input of anything.
            if name == ".flow" {
                continue;
            }
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let (out, matched) = self.ignore.look(&path, matched);
            if out && self.dockerfile != Some(path.as_str()) {
                let is_dir = self.files.metadata(&source)?.is_some_and(|found| found.is_dir());
                if is_dir && self.may_keep_below(&path) {
                    self.folder(&source, &path, &matched, true)?;
                }
                continue;
            }
            let Some(what) = look(self.files, &source)? else { continue };
            if let Some((path, source)) = pending.take() {
                self.add_folder(path, source);
            }
            let enter = what == What::Folder;
            self.entries.push(Entry { path: path.clone(), source: source.clone(), what });
            if enter {
                self.folder(&source, &path, &matched, false)?;
            }
        }
        Ok(())
    }

    fn may_keep_below(&self, folder: &str) -> bool {
        let holds = |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.dockerfile.is_some_and(holds) || self.ignore.may_keep_below(folder)
    }

    /// A folder that is sent only because of what is in it, and those above it.
    fn add_folder(&mut self, path: String, source: PathBuf) {
        if path.is_empty() || self.entries.iter().rev().any(|entry| entry.path == path) {
            return;
        }
        if let (Some((above, _)), Some(parent)) = (path.rsplit_once('/'), source.parent()) {
            self.add_folder(above.to_owned(), parent.to_owned());
        }
        self.entries.push(Entry { path, source, what: What::Folder });
    }
}

/// What a path is. Sockets, pipes and devices are none of a build's business, and neither is what
/// vanished while the folder was listed.
fn look(files: &Files, source: &Path) -> Result<Option<What>, ContextError> {
    let Some(found) = files.metadata(source)? else { return Ok(None) };
    Ok(if found.is_dir() {
        Some(What::Folder)
    } else if found.is_symlink() {
        let target = files.read_link(source)?;
        let target = target.to_str().ok_or_else(|| ContextError::Name(source.display().to_string()))?;
        Some(What::Link { target: target.to_owned() })
    } else if found.is_file() {
        Some(What::File { executable: is_executable(&found), size: found.len(), sha256: String::new() })
    } else {
        None
    })
}

/// Fills in the digests, on as many processors as there are.
fn digest_all(files: &Files, entries: &mut [Entry]) -> Result<(), FileError> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
    // Below this a thread costs more than it saves.
    const FEW: usize = 64;
    if entries.len() < FEW || workers == 1 {
        return entries.iter_mut().try_for_each(|entry| entry.fill(files));
    }
    // One after the other, so that a run of large files is shared too.
    let queue = std::sync::Mutex::new(entries.iter_mut());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    std::thread::scope(|scope| {
        let work = || {
            while let Some(entry) = next() {
                entry.fill(files)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(unix)]
fn is_executable(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    found.mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    false
}

fn mtime(found: &std::fs::Metadata) -> u64 {
    found
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs())
}
