//! The bytes of one request: a whole file or a part of one.
//!
//! What is small is read at once; the rest flows from the file in [`CHUNK`]s,
//! so that memory does not grow with files or parts. Either way no request ends
//! before all its bytes are known to be those of the plan: the last chunk is
//! held back until the digest is right, and else the request breaks off.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::source::{LocalFile, SourceError, Sum, blocking};
use super::upload::UploadError;
use crate::world::aws::AwsError;
use crate::world::files::{FileError, Files};

/// What is read at a time. A request holds about three of them: one being read, one being sent, one
/// in between.
const CHUNK: u64 = 256 * 1024;

/// A file's bytes from `offset`.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// As messages call the file.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// As planned.
    pub sum: Sum,
    /// Whether the file ends with it, so that nothing may follow.
    pub last: bool,
}

impl Piece {
    /// So many bytes of a file.
    pub(super) fn of(file: &LocalFile, offset: u64, length: u64, sum: Sum) -> Self {
        let (name, path) = (file.relative.clone(), file.path.clone());
        Self { name, path, offset, length, sum, last: offset + length == file.size }
    }
}

/// The body of a request, for as many attempts as it takes.
pub(super) struct Outgoing {
    piece: Arc<Piece>,
    files: Files,
    /// All bytes, when they are few.
    small: Option<Bytes>,
    /// Why an attempt broke off.
    trouble: Arc<OnceLock<Trouble>>,
}

/// Why a body cannot be sent. The transport drops what a body says, so it lies beside.
#[derive(Clone, Debug, thiserror::Error)]
enum Trouble {
    #[error("the file changed")]
    Changed,
    #[error("{0}")]
    Unreadable(Arc<FileError>),
}

impl Outgoing {
    /// Reads it, if it is small.
    pub(super) async fn new(files: &Files, piece: Piece) -> Result<Self, UploadError> {
        let piece = Arc::new(piece);
        let trouble = Arc::new(OnceLock::new());
        let small = if piece.length > CHUNK {
            None
        } else {
            let (files, reading) = (files.clone(), Arc::clone(&piece));
            let read =
                blocking(move || Ok::<_, SourceError>(Reader::open(&files, reading).and_then(Reader::next)));
            let (bytes, _) = read.await?.map_err(|trouble| trouble.into_error(&piece))?;
            Some(bytes)
        };
        Ok(Self { piece, files: files.clone(), small, trouble })
    }

    /// For one attempt.
    pub(super) fn stream(&self) -> ByteStream {
        ByteStream::new(match &self.small {
            Some(bytes) => SdkBody::from(bytes.clone()),
            None => SdkBody::from_body_1_x(Flow::new(self)),
        })
    }

    /// The error of an attempt, or what it broke off for: that is no reason to try again.
    pub(super) fn unless_broken_off<T>(&self, error: AwsError) -> Result<Result<T, UploadError>, AwsError> {
        self.broke_off().map_or(Err(error), |why| Ok(Err(why)))
    }

    fn broke_off(&self) -> Option<UploadError> {
        self.trouble.get().map(|trouble| trouble.clone().into_error(&self.piece))
    }
}

impl Trouble {
    fn into_error(self, piece: &Piece) -> UploadError {
        match self {
            Self::Changed => UploadError::Changed(piece.name.clone()),
            Self::Unreadable(error) => UploadError::Unreadable(error),
        }
    }
}

/// Bytes, and the reader of those after them.
type Read = Result<(Bytes, Option<Reader>), Trouble>;

/// A file being read.
struct Reader {
    file: File,
    piece: Arc<Piece>,
    hasher: Sha256,
    left: u64,
}

impl Reader {
    fn open(files: &Files, piece: Arc<Piece>) -> Result<Self, Trouble> {
        let mut file = files.open(&piece.path).map_err(|error| Trouble::Unreadable(Arc::new(error)))?;
        if piece.offset > 0 {
            file.seek(SeekFrom::Start(piece.offset)).map_err(|error| unreadable(&piece, error))?;
        }
        Ok(Self { file, hasher: Sha256::new(), left: piece.length, piece })
    }

    /// The next bytes, and the reader unless they are the last.
    fn next(mut self) -> Read {
        let wanted = self.left.min(CHUNK);
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        let read = (&mut self.file).take(wanted).read_to_end(&mut bytes);
        let read = read.map_err(|error| unreadable(&self.piece, error))? as u64;
        if read < wanted {
            return Err(Trouble::Changed);
        }
        self.left -= read;
        self.hasher.update(&bytes);
        if self.left > 0 {
            return Ok((bytes.into(), Some(self)));
        }
        // One byte more shows that a file has grown.
        let more =
            self.piece.last && self.file.read(&mut [0]).map_err(|error| unreadable(&self.piece, error))? > 0;
        if more || Sum::finish(self.hasher) != self.piece.sum {
            return Err(Trouble::Changed);
        }
        Ok((bytes.into(), None))
    }
}

fn unreadable(piece: &Piece, source: std::io::Error) -> Trouble {
    Trouble::Unreadable(Arc::new(FileError { what: "cannot read", path: piece.path.clone(), source }))
}

/// A body that flows from its file: while a chunk is sent, the next is read.
struct Flow {
    /// `None` at the end.
    reading: Option<JoinHandle<Read>>,
    left: u64,
    trouble: Arc<OnceLock<Trouble>>,
}

impl Flow {
    fn new(outgoing: &Outgoing) -> Self {
        let (files, piece) = (outgoing.files.clone(), Arc::clone(&outgoing.piece));
        let left = piece.length;
        let reading = tokio::task::spawn_blocking(move || Reader::open(&files, piece)?.next());
        Self { reading: Some(reading), left, trouble: Arc::clone(&outgoing.trouble) }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(Some(match read {
            Ok(Ok((bytes, reader))) => {
                self.reading = reader.map(|reader| tokio::task::spawn_blocking(|| reader.next()));
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Ok(Frame::data(bytes))
            }
            Ok(Err(trouble)) => {
                let said = std::io::Error::other(trouble.to_string());
                // An earlier attempt may have said so already.
                let _ = self.trouble.set(trouble);
                Err(said)
            }
            // Only when flow ends: then nobody reads on.
            Err(_) => Err(std::io::ErrorKind::Interrupted.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.reading.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(bytes: &[u8]) -> (tempfile::TempDir, Files, Piece) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::new(folder.path());
        let path = folder.path().join("big.bin");
        files.write(&path, bytes).expect("a file");
        let (length, sum) = (bytes.len() as u64, Sum::of(bytes));
        (folder, files, Piece { name: "big.bin".to_owned(), path, offset: 0, length, sum, last: true })
    }

    fn many(length: u64) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    #[tokio::test]
    async fn every_attempt_gets_all_bytes_whatever_their_number() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7] {
            let bytes = many(length);
            let (_keep, files, piece) = outgoing(&bytes);
            let body = Outgoing::new(&files, piece).await.unwrap_or_else(|error| panic!("{error}"));
            for attempt in 1..=2 {
                let stream = body.stream();
                assert_eq!(stream.size_hint(), (length, Some(length)), "{length}");
                let sent = stream.collect().await.expect("read").into_bytes();
                assert!(sent == bytes, "{length} bytes, attempt {attempt}");
            }
            assert!(body.broke_off().is_none());
        }
    }

    #[tokio::test]
    async fn a_part_is_what_lies_between() {
        let bytes = many(4 * CHUNK);
        let (_keep, files, piece) = outgoing(&bytes);
        let (from, to) = (700_usize, usize::try_from(2 * CHUNK).expect("fits"));
        let part = bytes.get(from..to).expect("inside");
        let piece =
            Piece { offset: 700, length: part.len() as u64, sum: Sum::of(part), last: false, ..piece };
        let body = Outgoing::new(&files, piece).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(body.stream().collect().await.expect("read").into_bytes() == part);
    }

    #[tokio::test]
    async fn a_file_that_is_no_longer_the_planned_one_is_never_sent_whole() {
        let bytes = many(3 * CHUNK);
        let other = [&bytes[1..], b"x"].concat();
        for (name, now) in [
            ("other bytes", other),
            ("shorter", bytes[..bytes.len() - 1].to_vec()),
            ("longer", [&bytes[..], b"x"].concat()),
        ] {
            let (_keep, files, piece) = outgoing(&bytes);
            files.write(&piece.path, &now).expect("changed");
            let body = Outgoing::new(&files, piece).await.unwrap_or_else(|error| panic!("{error}"));
            assert!(body.stream().collect().await.is_err(), "{name}");
            let why = body.broke_off().map(|why| why.to_string());
            assert_eq!(why.as_deref(), Some("big.bin changed since the plan"), "{name}");
        }
    }

    #[tokio::test]
    async fn a_small_file_is_judged_before_anything_is_sent() {
        let (_keep, files, piece) = outgoing(b"planned");
        for now in [&b"plannec"[..], b"planned and more", b"plan", b""] {
            files.write(&piece.path, now).expect("changed");
            let refused = Outgoing::new(&files, piece.clone()).await.err().map(|why| why.to_string());
            assert_eq!(refused.as_deref(), Some("big.bin changed since the plan"));
        }
        files.remove(&piece.path).expect("removed");
        let refused = Outgoing::new(&files, piece.clone()).await.err().map(|why| why.to_string());
        assert!(refused.is_some_and(|why| why.starts_with("cannot open ")));
    }
}
