//! Takes what a step made into the store.

use crate::cache::manifest::{Made, Manifest};
use crate::world::depot;
use crate::world::files::FileError;
use crate::world::masker::Masker;

use super::Local;
use super::entry::Entry;

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// The store cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something else writes there.
    #[error("{0} changed while it was stored")]
    Changed(String),
    /// A file holds a secret, which must not lie in a second place.
    #[error("{0} holds a secret")]
    Secret(String),
    /// It lies where it could not be put back.
    #[error("{0} lies outside the project")]
    Outside(String),
    /// The store is being pruned.
    #[error("the cache is being pruned")]
    Busy,
}

/// The largest file in which secrets are looked for.
const SEARCHED: u64 = 64 << 20;

impl Local {
    /// Takes in what stands at the outputs, which the entry's manifest says, and then the entry. With
    /// a masker no file that holds one of its secrets is taken; large ones are not taken at all then.
    pub fn keep(&self, entry: &Entry, secrets: Option<&Masker>) -> Result<(), NotKept> {
        if !entry.made.is_inside() {
            return Err(NotKept::Outside(entry.made.rows.keys().next().cloned().unwrap_or_default()));
        }
        let _held = self.in_use()?.ok_or(NotKept::Busy)?;
        if let Some(masker) = secrets {
            self.refuse_secrets(&entry.made, masker)?;
        }
        for (name, made) in &entry.made.rows {
            if let Made::File { digest, size, .. } = made {
                self.take(name, digest, *size)?;
            }
        }
        Ok(self.write_entry(entry)?)
    }

    fn take(&self, name: &str, digest: &str, size: u64) -> Result<(), NotKept> {
        let blob = self.blob(digest);
        if self.files.metadata(&blob)?.is_some_and(|found| found.len() == size) {
            return Ok(());
        }
        let temporary = self.temporary()?;
        let copied = depot::copy(&self.files.root().join(name), &temporary);
        let taken = match copied {
            Ok(copied) if copied.digest != digest => Err(NotKept::Changed(name.to_owned())),
            Ok(_) => self.shelve(&temporary, &blob).map_err(NotKept::from),
            Err(error) => Err(error.into()),
        };
        if taken.is_err() {
            // What stays is removed when the store is pruned.
            let _ = self.files.remove(&temporary);
        }
        taken
    }

    fn shelve(&self, temporary: &std::path::Path, blob: &std::path::Path) -> Result<(), FileError> {
        depot::set_mode(temporary, 0o400)?;
        if let Some(shelf) = blob.parent()
            && self.files.metadata(shelf)?.is_none()
        {
            depot::create_dir(shelf)?;
        }
        depot::rename(temporary, blob)
    }

    fn refuse_secrets(&self, made: &Manifest, masker: &Masker) -> Result<(), NotKept> {
        for (name, made) in &made.rows {
            let Made::File { size, .. } = made else { continue };
            let holds = *size > SEARCHED || {
                let bytes = self.files.read(&self.files.root().join(name))?;
                let text = String::from_utf8_lossy(&bytes);
                masker.mask(&text) != text
            };
            if holds {
                return Err(NotKept::Secret(name.clone()));
            }
        }
        Ok(())
    }
}
