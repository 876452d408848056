//! Digests of files, remembered: a file whose stamp is what it was is not read
//! again.
//!
//! | trusted | because |
//! |---|---|
//! | path, size, both times to the nanosecond, inode, device and mode are equal | whoever changes bytes changes `ctime`, which no program can set |
//! | both times lay clearly before the digest was begun, by the clock of the file's own file system | a later change cannot leave the same `ctime` |
//! | the stamp was the same after the last byte was read | nothing changed meanwhile |
//!
//! A digest that misses one of these is made and used, but not remembered. Nor
//! are those of files on another file system than the index's: its clock is
//! not known. When the clock was set back, or a byte of the index is not what
//! was written, it starts over. Left open: a program that writes through a
//! mapping it made before may change bytes some seconds before their `ctime`.
//!
//! One index a project, read once and only when somebody asks for a digest.

mod content;
mod frame;
mod ledger;
mod stamp;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use self::frame::{Record, mix};
use self::ledger::{Ledger, Opened};
pub use self::stamp::Stamp;
use self::table::Table;
use super::files::{FileError, hex};
use super::parallel;

/// Where the index lies, below the project's root.
const PLACE: &str = ".flow/cache/digests";
/// So many changed files are read at a time before what is known of them is kept.
const BATCH: usize = 4096;

/// From so many bytes on even a few files are read at once.
const LARGE: u64 = 1024 * 1024;

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum(pub [u8; 32]);

impl Sum {
    /// Of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut sum = [0; 32];
        if digits.len() != sum.len() * 2 {
            return None;
        }
        for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self(sum))
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// What it looked like when it held that.
    pub stamp: Stamp,
    /// Of all its bytes.
    pub sum: Sum,
    /// Of each part, when parts were asked for.
    pub parts: Vec<Sum>,
}

/// A file whose digest is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where it lies; no link.
    pub path: PathBuf,
    /// What it looked like a moment ago.
    pub stamp: Stamp,
    /// Also the digest of each part of so many bytes.
    pub part: Option<NonZeroU64>,
}

/// Digests of the files of a project. Cheap to clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct Digests {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    index: OnceLock<Index>,
    notes: Mutex<Vec<String>>,
}

/// What is known, once it was read.
#[derive(Debug, Default)]
struct Index {
    table: Table,
    /// Made by this run.
    fresh: RwLock<HashMap<u64, Record>>,
    /// `None` where nothing can be kept.
    disk: Mutex<Option<Disk>>,
}

#[derive(Debug)]
struct Disk {
    ledger: Ledger,
    /// Not written yet.
    waiting: Vec<Record>,
}

impl Digests {
    /// Those of the project in a folder. Nothing is read before somebody asks.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let (index, notes) = (OnceLock::new(), Mutex::default());
        Self { shared: Arc::new(Shared { root: root.to_owned(), index, notes }) }
    }

    /// What the operator should know: that digests cannot be kept, or were lost. Each is said once.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The digest of a file, links followed. Reads it only when it is not known.
    pub fn of(&self, path: &Path) -> Result<Sum, FileError> {
        let cannot = || FileError::new("cannot read", path);
        let path = std::fs::canonicalize(path).map_err(cannot())?;
        let stamp = stamp(&path)?.ok_or_else(|| cannot()(io::ErrorKind::NotFound.into()))?;
        let all = self.all(&[Wanted { path, stamp, part: None }])?;
        all.first().map(|digested| digested.sum).ok_or_else(|| cannot()(io::ErrorKind::NotFound.into()))
    }

    /// The digests of many files, in their order. Reads those that are not known, several at once.
    pub fn all(&self, wanted: &[Wanted]) -> Result<Vec<Digested>, FileError> {
        let mut found: Vec<Option<Digested>> = wanted.iter().map(|wanted| self.known(wanted)).collect();
        let missing = found.iter().enumerate().filter(|(_, found)| found.is_none()).map(|(at, _)| at);
        let missing: Vec<usize> = missing.collect();
        for batch in missing.chunks(BATCH) {
            let files: Vec<&Wanted> = batch.iter().filter_map(|at| wanted.get(*at)).collect();
            for (at, digested) in batch.iter().zip(self.make(&files)?) {
                if let Some(place) = found.get_mut(*at) {
                    *place = Some(digested);
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The part of a key that all files of a folder share.
    pub(super) fn folder_key(&self, folder: &Path) -> u64 {
        let below = folder.strip_prefix(&self.shared.root).unwrap_or(folder);
        mix(0, below.as_os_str().as_encoded_bytes())
    }

    /// The digest of a file by its folder's key and its name, if it is known.
    pub(super) fn known_in(&self, folder: u64, name: &[u8], stamp: &Stamp) -> Option<Sum> {
        self.index().find(mix(folder, name), stamp)
    }

    fn known(&self, wanted: &Wanted) -> Option<Digested> {
        let index = self.index();
        let key = self.key(&wanted.path);
        let sum = index.find(key, &wanted.stamp)?;
        let Some(part) = wanted.part else {
            return Some(Digested { stamp: wanted.stamp, sum, parts: Vec::new() });
        };
        let parts = (0..wanted.stamp.size.div_ceil(part.get()))
            .map(|number| index.find(part_key(key, part, number), &wanted.stamp));
        Some(Digested { stamp: wanted.stamp, sum, parts: parts.collect::<Option<_>>()? })
    }

    fn key(&self, path: &Path) -> u64 {
        let folder = self.folder_key(path.parent().unwrap_or(Path::new("")));
        mix(folder, path.file_name().unwrap_or_default().as_encoded_bytes())
    }

    /// Reads files, and remembers what may be remembered.
    fn make(&self, files: &[&Wanted]) -> Result<Vec<Digested>, FileError> {
        let index = self.index();
        // Before the first is opened.
        let clock = index.clock();
        let large = files.iter().map(|file| file.stamp.size).sum::<u64>() > LARGE;
        let made = parallel::map(files, large, |file| content::read(&file.path, file.stamp, file.part));
        let mut records = Vec::new();
        if let Some((now, device)) = clock {
            for (file, made) in files.iter().zip(&made) {
                if let Ok(digested) = made
                    && digested.stamp.device == device
                    && digested.stamp.is_settled_at(now)
                {
                    let key = self.key(&file.path);
                    let record = |key, sum| Record { key, stamp: digested.stamp, age: 0, sum };
                    records.push(record(key, digested.sum));
                    if let Some(part) = file.part {
                        let parts = (0..).zip(&digested.parts);
                        records.extend(parts.map(|(number, sum)| record(part_key(key, part, number), *sum)));
                    }
                }
            }
            if let Err(error) = index.keep(records, now) {
                self.note(format!("Digests of files cannot be kept: {error}."));
            }
        }
        made.into_iter().collect()
    }

    fn index(&self) -> &Index {
        self.shared.index.get_or_init(|| match Ledger::open(&self.shared.root.join(PLACE)) {
            Ok(Opened { ledger, bytes, frames, restart }) => {
                if let Some(why) = restart {
                    self.note(format!("The index of file digests starts over: {why}."));
                }
                let disk = Mutex::new(Some(Disk { ledger, waiting: Vec::new() }));
                Index { table: Table::new(bytes, &frames), fresh: RwLock::default(), disk }
            }
            Err(error) => {
                self.note(format!("Digests of files cannot be kept: {error}."));
                Index::default()
            }
        })
    }

    fn note(&self, text: String) {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

impl Index {
    fn find(&self, key: u64, stamp: &Stamp) -> Option<Sum> {
        self.table.find(key, stamp).or_else(|| {
            let fresh = self.fresh.read().unwrap_or_else(PoisonError::into_inner);
            fresh.get(&key).filter(|record| record.stamp == *stamp).map(|record| record.sum)
        })
    }

    fn clock(&self) -> Option<(i64, u64)> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.as_ref().and_then(|disk| disk.ledger.clock().ok())
    }

    /// Remembers digests, now and for later runs.
    fn keep(&self, records: Vec<Record>, begun: i64) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut fresh = self.fresh.write().unwrap_or_else(PoisonError::into_inner);
        fresh.extend(records.iter().map(|record| (record.key, *record)));
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Disk { ledger, waiting }) = disk.as_mut() else { return Ok(()) };
        waiting.extend(records);
        let kept = ledger.append(waiting, begun).and_then(|done| {
            if done {
                waiting.clear();
            }
            if done && ledger.is_due() {
                let old = self.table.records().filter(|(record, _)| !fresh.contains_key(&record.key));
                let old = old.map(|(record, used)| Record {
                    age: if used { 0 } else { record.age.saturating_add(1) },
                    ..record
                });
                ledger.rewrite(old.chain(fresh.values().copied()), begun)?;
            }
            Ok(())
        });
        if kept.is_err() {
            // A full disk does not get better by trying again; this run knows them anyway.
            *disk = None;
        }
        kept
    }
}

/// The stamp of a path, no link followed; `None` when there is nothing.
pub fn stamp(path: &Path) -> Result<Option<Stamp>, FileError> {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Stamp::of(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(FileError::new("cannot look at", path)(error.into())),
    }
}

/// The key of a part of a file.
fn part_key(key: u64, part: NonZeroU64, number: u64) -> u64 {
    mix(key, &[part.get().to_le_bytes(), number.to_le_bytes()].concat())
}
