//! The index on disk: `.flow/cache/digests`. Only grows, but for a rewrite now and then.
//!
//! Any number of processes read and write it. A writer holds the file's lock
//! for one write; what it finds half-written then was left by one that was
//! killed, and is cut off. Nothing here is ever waited for: records that cannot
//! be written cost the next run time.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fstat, futimens};

use super::super::crash;
use super::frame::{Broken, Frames, Record, frame, parse};
use super::stamp::Stamp;

/// Below this many records nothing is worth a rewrite.
const FEW: usize = 4096;
/// A record that was of no use for so many rewrites is of a file that is gone.
const OLDEST: u32 = 4;

/// Why the index starts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Restart {
    #[error("it was damaged")]
    Damaged,
    #[error("the clock was set back")]
    Clock,
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    file: File,
    /// As far as it was read, or written by this process.
    end: u64,
    /// How many records there are, and how many there were after the last rewrite.
    records: usize,
    base: usize,
    /// What lies there must go.
    distrusted: bool,
}

/// What was read.
pub(super) struct Opened {
    pub ledger: Ledger,
    pub bytes: Vec<u8>,
    pub frames: Frames,
    pub restart: Option<Restart>,
}

impl Ledger {
    /// Opens the index, or makes it, and reads all of it.
    pub(super) fn open(path: &Path) -> io::Result<Opened> {
        let mut file = open(path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or_default() + 1);
        file.read_to_end(&mut bytes)?;
        let (mut frames, mut restart) = match parse(&bytes, 0) {
            Ok(frames) => (frames, None),
            Err(Broken) => (Frames::default(), Some(Restart::Damaged)),
        };
        // Read after the bytes: nothing in them may be of a later time.
        if !frames.parts.is_empty() && frames.begun > clock(&file)?.0 {
            (frames, restart) = (Frames::default(), Some(Restart::Clock));
        }
        let base = frames.parts.first().map_or(0, |(_, count)| *count);
        let records = frames.records();
        let (path, end, distrusted) = (path.to_owned(), frames.end as u64, restart.is_some());
        let ledger = Self { path, file, end, records, base, distrusted };
        Ok(Opened { ledger, bytes, frames, restart })
    }

    /// The time by the file system's own clock, and which file system that is.
    pub(super) fn clock(&self) -> io::Result<(i64, u64)> {
        clock(&self.file)
    }

    /// Adds records. `false` when another process is writing: try again later.
    pub(super) fn append(&mut self, records: &[Record], begun: i64) -> io::Result<bool> {
        if fstat(&self.file)?.st_nlink == 0 {
            // Somebody rewrote it.
            (self.file, self.end) = (open(&self.path)?, 0);
        }
        match self.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let written = self.catch_up().and_then(|()| {
            let bytes = frame(records, begun);
            self.file.seek(SeekFrom::Start(self.end))?;
            crash::write(&mut self.file, &bytes, &self.path)?;
            self.end += bytes.len() as u64;
            self.records += records.len();
            Ok(true)
        });
        self.file.unlock()?;
        written
    }

    /// Whether so much was added since the last rewrite that most of it may be of no use.
    pub(super) fn is_due(&self) -> bool {
        self.records > FEW + 2 * self.base
    }

    /// Writes the index anew with these records, but those that were of no use for long.
    pub(super) fn rewrite(&mut self, records: impl Iterator<Item = Record>, begun: i64) -> io::Result<()> {
        let kept: Vec<Record> = records.filter(|record| record.age < OLDEST).collect();
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
        crash::write(&mut fresh, &frame(&kept, begun), &self.path)?;
        self.file = fresh.persist(&self.path).map_err(|error| error.error)?;
        self.end = self.file.metadata()?.len();
        (self.records, self.base) = (kept.len(), kept.len());
        Ok(())
    }

    /// Cuts off what a killed writer left, and steps over what others added. For the lock's holder.
    fn catch_up(&mut self) -> io::Result<()> {
        let mut size = self.file.metadata()?.len();
        if self.distrusted {
            crash::room()?;
            self.file.set_len(0)?;
            (self.end, size, self.records, self.base, self.distrusted) = (0, 0, 0, 0, false);
        }
        if size == self.end {
            return Ok(());
        }
        // Who started over made it shorter.
        let from = if size < self.end { 0 } else { self.end };
        self.file.seek(SeekFrom::Start(from))?;
        let mut added = Vec::new();
        self.file.read_to_end(&mut added)?;
        let whole = parse(&added, 0).map_or(0, |frames| {
            self.records += frames.records();
            frames.end as u64
        });
        self.end = from + whole;
        if self.end < size {
            crash::room()?;
            self.file.set_len(self.end)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let open = || File::options().read(true).append(true).create(true).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            open()
        }
        opened => opened,
    }
}

fn clock(file: &File) -> io::Result<(i64, u64)> {
    let time = |nanoseconds| Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    futimens(file, &Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) })?;
    let stamp = Stamp::of(&fstat(file)?);
    Ok((stamp.modified, stamp.device))
}
