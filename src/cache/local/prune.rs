//! What the store holds, and what of it may go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::cache::manifest::Made;
use crate::world::depot;
use crate::world::files::FileError;

use super::entry::Entry;
use super::{Local, list};

/// What may stay.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all blobs together.
    pub max_size: u64,
    /// Since it was made or restored last.
    pub older_than: SignedDuration,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Entries.
    pub entries: usize,
    /// Blobs.
    pub blobs: usize,
    /// Bytes on disk.
    pub freed: u64,
    /// Entries that stay.
    pub left: usize,
    /// Bytes of the blobs that stay.
    pub size: u64,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What keys made.
    pub entries: usize,
    /// Files of them.
    pub blobs: usize,
    /// Bytes of the files.
    pub size: u64,
    /// What they take on disk.
    pub room: u64,
    /// When the oldest entry was made or restored last.
    pub oldest: Option<Timestamp>,
    /// When the newest was.
    pub newest: Option<Timestamp>,
}

struct Shelved {
    key: String,
    path: PathBuf,
    used: Timestamp,
    blobs: BTreeMap<String, u64>,
}

impl Local {
    /// Counts what there is.
    pub fn stats(&self) -> Result<Stats, FileError> {
        let mut stats = Stats::default();
        for (_, path) in self.shelves("entries")? {
            let Some(found) = self.files.metadata(&path)? else { continue };
            stats.entries += 1;
            let used = depot::used(&found);
            stats.oldest = stats.oldest.into_iter().chain(used).min();
            stats.newest = stats.newest.into_iter().chain(used).max();
        }
        for (_, path) in self.shelves("blobs")? {
            let Some(found) = self.files.metadata(&path)? else { continue };
            stats.blobs += 1;
            stats.size += found.len();
            stats.room += depot::room(&found);
        }
        Ok(stats)
    }

    /// Removes what is over the limits, the longest unused first, and what nothing refers to. Age
    /// does not count against `current`, the keys of last successes. `None` while a flow uses the
    /// store.
    pub fn prune(
        &self,
        limits: Limits,
        current: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Option<Pruned>, FileError> {
        let lock = self.folder.join("lock");
        if self.files.metadata(&self.folder)?.is_none() {
            return Ok(Some(Pruned::default()));
        }
        let Some(_alone) = depot::Lock::try_take(&lock, depot::Hold::Alone)? else { return Ok(None) };
        let mut pruned = Pruned::default();
        let mut entries = self.read_all(&mut pruned)?;
        entries.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.key.cmp(&b.key)));
        let mut stays: BTreeMap<String, u64> = BTreeMap::new();
        for entry in entries {
            let old = now.duration_since(entry.used) > limits.older_than && !current.contains(&entry.key);
            let more: u64 =
                entry.blobs.iter().filter(|(blob, _)| !stays.contains_key(*blob)).map(|(_, s)| s).sum();
            if old || pruned.size + more > limits.max_size {
                self.files.remove(&entry.path)?;
                pruned.entries += 1;
            } else {
                pruned.size += more;
                pruned.left += 1;
                stays.extend(entry.blobs);
            }
        }
        for (digest, path) in self.shelves("blobs")? {
            if !stays.contains_key(&digest) {
                pruned.freed += self.files.metadata(&path)?.map_or(0, |found| depot::room(&found));
                pruned.blobs += 1;
                self.files.remove(&path)?;
            }
        }
        // Nobody is in the middle of anything.
        for path in list(&self.files, &self.folder.join("tmp"))? {
            pruned.freed += self.files.metadata(&path)?.map_or(0, |found| depot::room(&found));
            self.files.remove(&path)?;
        }
        Ok(Some(pruned))
    }

    /// Every entry; what is none is removed.
    fn read_all(&self, pruned: &mut Pruned) -> Result<Vec<Shelved>, FileError> {
        let mut entries = Vec::new();
        for (key, path) in self.shelves("entries")? {
            let Some(found) = self.files.metadata(&path)? else { continue };
            let entry = Entry::read(&self.files.read(&path)?).filter(|entry| entry.key == key);
            let Some(entry) = entry else {
                self.files.remove(&path)?;
                pruned.entries += 1;
                continue;
            };
            let used = depot::used(&found).unwrap_or(entry.made_at);
            let blobs = entry.blobs().map(|(_, digest, size)| (digest.to_owned(), size)).collect();
            entries.push(Shelved { key, path, used, blobs });
        }
        Ok(entries)
    }
}

impl Entry {
    /// The files in it: path, digest and size.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.made.rows.iter().filter_map(|(name, made)| match made {
            Made::File { digest, size, .. } => Some((name.as_str(), digest.as_str(), *size)),
            Made::Link(_) | Made::Folder => None,
        })
    }
}
