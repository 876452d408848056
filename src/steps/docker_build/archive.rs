//! Sends a build context as a tar archive, and looks at every file once more on
//! the way: the engine gets what was planned, or an archive that is broken off.

use std::io::{self, Read, Write};
use std::path::Path;

use hyper::body::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::context::{BuildContext, Entry, What};
use crate::world::files::{FileError, Files, hex, is_executable, modified_seconds};

/// How much of the archive is on its way at most: this many pieces of this size.
const PIECES: usize = 8;
const PIECE: usize = 128 * 1024;

/// How the sending ended.
#[derive(Debug)]
pub(super) enum Sent {
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
    /// Writes the archive, digesting every file on the way. Blocks while the receiver is behind.
    pub(super) fn send(&self, files: &Files, pieces: &mpsc::Sender<io::Result<Bytes>>) -> Sent {
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
    fn append(&self, files: &Files, archive: &mut tar::Builder<Pieces>) -> Result<Appended, FileError> {
        let Some(now) = files.metadata(&self.source)? else { return Ok(Appended::Changed) };
        let mut header = tar::Header::new_gnu();
        // Times are sent as they are, because servers answer "not modified" by them; they never
        // decide whether something is built, and BuildKit's own cache leaves them out too.
        header.set_mtime(modified_seconds(&now));
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
            What::File { stamp, sha256 } => {
                let file = files.open(&self.source)?;
                if !now.is_file() || is_executable(&now) != stamp.is_executable() || now.len() != stamp.size {
                    return Ok(Appended::Changed);
                }
                header.set_mode(if stamp.is_executable() { 0o755 } else { 0o644 });
                header.set_size(stamp.size);
                let mut reader =
                    Digesting { inner: file.take(stamp.size), hasher: Sha256::new(), failed: false };
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
struct Digesting<R> {
    inner: io::Take<R>,
    hasher: Sha256,
    /// The file could not be read to the size it had.
    failed: bool,
}

impl<R: Read> Read for Digesting<R> {
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
pub(super) fn pieces() -> (mpsc::Sender<io::Result<Bytes>>, mpsc::Receiver<io::Result<Bytes>>) {
    mpsc::channel(PIECES)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Sends while somebody reads, as it is in a build.
    fn sent(context: &BuildContext, files: &Files) -> (Sent, Result<Vec<u8>, io::Error>) {
        let (sender, mut receiver) = pieces();
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || context.send(files, &sender));
            let mut all = Vec::new();
            let mut broken = None;
            while let Some(piece) = receiver.blocking_recv() {
                match piece {
                    Ok(piece) => all.extend_from_slice(&piece),
                    Err(error) => broken = Some(error),
                }
            }
            (sending.join().unwrap(), broken.map_or(Ok(all), Err))
        })
    }

    #[test]
    fn the_archive_holds_what_was_listed() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        let big = "x".repeat(3 * PIECE + 1);
        for (path, text) in [("Dockerfile", "FROM scratch"), ("big", &big), (&long, "deep")] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("big", folder.path().join("link")).unwrap();
        let files = Files::new(folder.path());
        let context = BuildContext::read(&files, ".", None).unwrap();
        let (outcome, bytes) = sent(&context, &files);
        assert!(matches!(outcome, Sent::All), "{outcome:?}");
        let bytes = bytes.unwrap();
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            if let Some(target) = entry.link_name().unwrap() {
                text = target.to_str().unwrap().to_owned();
            }
            found.insert(path, (entry.header().mode().unwrap(), text));
        }
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, context.entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>());
        assert_eq!(found["big"], (0o644, big));
        assert_eq!(found[&long].1, "deep");
        assert_eq!(found["link"], (0o777, "big".to_owned()));
    }

    #[test]
    fn a_change_breaks_the_archive_off() {
        for change in ["other bytes", "shorter", "longer and more of it", "gone", "a folder"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("Dockerfile"), "FROM scratch").unwrap();
            let file = folder.path().join("file");
            std::fs::write(&file, "first bytes").unwrap();
            let files = Files::new(folder.path());
            let context = BuildContext::read(&files, ".", None).unwrap();
            std::fs::remove_file(&file).unwrap();
            match change {
                "gone" => {}
                "a folder" => std::fs::create_dir(&file).unwrap(),
                text => std::fs::write(&file, text).unwrap(),
            }
            let (outcome, bytes) = sent(&context, &files);
            assert!(matches!(&outcome, Sent::Changed(path) if path == "file"), "{change}: {outcome:?}");
            assert!(bytes.is_err(), "{change}: the reader must not take it for a whole archive");
        }
    }

    #[test]
    fn a_reader_that_is_gone_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Dockerfile"), "FROM scratch").unwrap();
        std::fs::write(folder.path().join("big"), vec![0; 4 * PIECE]).unwrap();
        let files = Files::new(folder.path());
        let context = BuildContext::read(&files, ".", None).unwrap();
        let (sender, receiver) = pieces();
        drop(receiver);
        assert!(matches!(context.send(&files, &sender), Sent::Unread));
    }
}
