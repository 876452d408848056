//! Reads everything that the store holds and names what is not as it should be.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::depot;
use crate::world::files::FileError;

use super::Local;
use super::entry::Entry;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The bytes of a file.
    Blob,
    /// What a key made.
    Entry,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// What.
    pub what: What,
    /// Its digest.
    pub name: String,
    /// In a few words.
    pub why: String,
    /// The files that it stands for, each with its step: `out/o.txt of make`.
    pub of: Vec<String>,
}

impl Local {
    /// Checks everything; says how many files were read, and what is broken.
    pub fn verify(&self) -> Result<(usize, Vec<Broken>), FileError> {
        let mut broken = Vec::new();
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let entries = self.shelves("entries")?;
        let blobs = self.shelves("blobs")?;
        let there: BTreeSet<&str> = blobs.iter().map(|(digest, _)| digest.as_str()).collect();
        for (key, path) in &entries {
            let entry = Entry::read(&self.files.read(path)?).filter(|entry| entry.key == *key);
            let Some(entry) = entry else {
                let why = "its checksum is wrong".to_owned();
                broken.push(Broken { what: What::Entry, name: key.clone(), why, of: Vec::new() });
                continue;
            };
            let mut gone = Vec::new();
            for (name, digest, _) in entry.blobs() {
                let of = format!("{name} of {}", entry.step);
                if !there.contains(digest) {
                    gone.push(of.clone());
                }
                users.entry(digest.to_owned()).or_default().push(of);
            }
            if !gone.is_empty() {
                let why = "bytes of it are gone".to_owned();
                broken.push(Broken { what: What::Entry, name: key.clone(), why, of: gone });
            }
        }
        for (digest, path) in &blobs {
            if self.files.digest(path)? != *digest {
                let of = users.get(digest).cloned().unwrap_or_default();
                let why = "its bytes are not those it is named by".to_owned();
                broken.push(Broken { what: What::Blob, name: digest.clone(), why, of });
            }
        }
        broken.sort();
        Ok((entries.len() + blobs.len(), broken))
    }

    /// Removes what is broken, and the entries that need it; `false` while a flow uses the store.
    pub fn repair(&self, broken: &[Broken]) -> Result<bool, FileError> {
        let lock = self.folder.join("lock");
        let Some(_alone) = depot::Lock::try_take(&lock, depot::Hold::Alone)? else { return Ok(false) };
        for one in broken {
            match one.what {
                What::Blob => self.files.remove(&self.blob(&one.name))?,
                What::Entry => self.files.remove(&self.entry_path(&one.name))?,
            }
        }
        let gone: BTreeSet<&str> =
            broken.iter().filter(|one| one.what == What::Blob).map(|one| one.name.as_str()).collect();
        for (_, path) in self.shelves("entries")? {
            let entry = Entry::read(&self.files.read(&path)?);
            if entry.is_some_and(|entry| entry.blobs().any(|(_, digest, _)| gone.contains(digest))) {
                self.files.remove(&path)?;
            }
        }
        Ok(true)
    }
}
