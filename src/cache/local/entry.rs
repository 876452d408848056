//! What a key made: the manifest of its outputs and what was handed on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::manifest::Manifest;
use crate::model::value::Outputs;
use crate::world::depot;
use crate::world::files::{FileError, digest};

use super::Local;

/// What a step made from one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`Entry::VERSION`]
    pub version: u32,
    /// The digest of the key.
    pub key: String,
    /// The step that made it, for people.
    pub step: String,
    /// When.
    pub made_at: Timestamp,
    /// How long that took, milliseconds.
    pub took_ms: u64,
    /// What stands at its outputs.
    pub made: Manifest,
    /// What it handed on; never a secret.
    pub outputs: Outputs,
}

/// What lies at a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// An entry.
    Entry(Box<Entry>),
    /// Something that is no entry of that key.
    Broken,
}

impl Local {
    /// What lies at a key.
    pub fn entry(&self, key: &str) -> Result<Found, FileError> {
        match self.files.read(&self.entry_path(key)) {
            Ok(bytes) => Ok(Entry::read(&bytes)
                .filter(|entry| entry.key == key)
                .map_or(Found::Broken, |entry| Found::Entry(Box::new(entry)))),
            Err(error) if error.is_not_found() => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Whether something lies at a key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.files.metadata(&self.entry_path(key)).is_ok_and(|found| found.is_some())
    }

    /// Removes what lies at a key.
    pub fn forget(&self, key: &str) -> Result<(), FileError> {
        self.files.remove(&self.entry_path(key))
    }

    pub(super) fn write_entry(&self, entry: &Entry) -> Result<(), FileError> {
        depot::write(&self.entry_path(&entry.key), &entry.to_bytes())
    }
}

impl Entry {
    /// Version of the format; entries of another one count as none.
    pub const VERSION: u32 = 1;

    /// The digest of the rest on a line, then JSON.
    fn to_bytes(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{}\n{json}\n", digest(json.as_bytes())).into_bytes()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (sum, json) = text.split_once('\n')?;
        let json = json.strip_suffix('\n')?;
        let entry: Self = (digest(json.as_bytes()) == sum).then(|| serde_json::from_str(json).ok())??;
        (entry.version == Self::VERSION).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_spoilt_at_any_byte_is_none() {
        let entry = Entry {
            version: Entry::VERSION,
            key: "k".to_owned(),
            step: "make".to_owned(),
            made_at: Timestamp::UNIX_EPOCH,
            took_ms: 1,
            made: Manifest::default(),
            outputs: Outputs::new(),
        };
        let bytes = entry.to_bytes();
        assert_eq!(Entry::read(&bytes), Some(entry));
        for at in 0..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            assert_eq!(Entry::read(&spoilt), None, "{at}");
            assert_eq!(Entry::read(&bytes[..at]), None, "{at}");
        }
    }
}
