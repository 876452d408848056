//! Puts what a key made where it stood.
//!
//! First every file that is missing or differs is copied out of the store and
//! checked; only when all of them are right does the first one take its place.
//! What is right already is not touched. Links to elsewhere are not written
//! through: an output whose folder really lies outside the project is not
//! restored.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cache::manifest::{Made, Manifest, ManifestError};
use crate::world::cancel::Cancel;
use crate::world::depot;
use crate::world::files::FileError;

use super::Local;
use super::entry::Entry;

/// What has to be done so that the outputs are those of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Paths at which something else stands, or nothing.
    pub wrong: Vec<String>,
    /// Paths that an earlier success of the step made and the entry does not have.
    pub stale: Vec<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Files, links and folders that were placed.
    pub placed: usize,
    /// Bytes of them.
    pub size: u64,
    /// Files that were removed.
    pub removed: usize,
}

/// Why nothing was restored. The outputs are as they were, unless a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum NotRestored {
    /// A blob is gone or is not what its name says.
    #[error("what the cache has of {0} is damaged")]
    Damaged(String),
    /// Something stands in the way that nobody of flow made.
    #[error("{0} stands where it would be restored")]
    InTheWay(String),
    /// It would be written outside the project.
    #[error("{0} lies outside the project")]
    Outside(String),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store is being pruned.
    #[error("the cache is being pruned")]
    Busy,
    /// The run is being stopped.
    #[error("interrupted")]
    Stopped,
}

impl Local {
    /// What has to be done for an entry; `before` is what the step's last success made.
    pub fn plan(&self, entry: &Entry, before: Option<&Manifest>) -> Result<Plan, ManifestError> {
        let wrong = entry.made.differing(&self.files)?;
        let mut stale = Vec::new();
        for (name, made) in before.iter().flat_map(|before| &before.rows) {
            let gone = entry.made.rows.contains_key(name)
                || self.files.metadata(&self.files.root().join(name))?.is_none()
                || (*made == Made::Folder && entry.made.is_below(name));
            if !gone {
                stale.push(name.clone());
            }
        }
        Ok(Plan { wrong, stale })
    }

    /// Does it. `before` is what the step's last success made: only that may be removed.
    pub fn restore(
        &self,
        entry: &Entry,
        before: Option<&Manifest>,
        cancel: &Cancel,
    ) -> Result<Restored, NotRestored> {
        let _held = self.in_use()?.ok_or(NotRestored::Busy)?;
        if !entry.made.is_inside() || before.is_some_and(|before| !before.is_inside()) {
            return Err(NotRestored::Outside(entry.step.clone()));
        }
        let plan = self.plan(entry, before).map_err(|error| match error {
            ManifestError::File(error) => NotRestored::File(error),
            other => NotRestored::InTheWay(other.to_string()),
        })?;
        self.check_ways(entry, before, &plan)?;
        let mut staged = Staged { local: self, files: Vec::new() };
        for name in &plan.wrong {
            if cancel.is_stopping() {
                return Err(NotRestored::Stopped);
            }
            if let Some(made) = entry.made.rows.get(name) {
                staged.fetch(name, made)?;
            }
        }
        for name in &plan.stale {
            self.remove(name)?;
        }
        let restored = Restored { removed: plan.stale.len(), ..staged.place(before)? };
        depot::touch(&self.entry_path(&entry.key));
        Ok(restored)
    }

    /// Whether each path can be written: its folders are folders of the project or are still to be
    /// made, and what stands there is a file or was made by flow.
    fn check_ways(&self, entry: &Entry, before: Option<&Manifest>, plan: &Plan) -> Result<(), NotRestored> {
        let root = self.files.real_path(self.files.root())?;
        let mut seen = BTreeSet::new();
        for name in plan.wrong.iter().chain(&plan.stale) {
            for folder in Path::new(name).ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
                if !seen.insert(folder) {
                    break;
                }
                self.check_folder(folder, &root, entry, before)?;
            }
        }
        for name in &plan.wrong {
            let found = self.files.metadata(&self.files.root().join(name))?;
            let makes_folder = entry.made.rows.get(name) == Some(&Made::Folder);
            let ours = before.is_some_and(|before| {
                before.rows.contains_key(name) || before.is_below(name) && self.only_holds(name, before)
            });
            let empty =
                || self.files.list(&self.files.root().join(name)).is_ok_and(|inside| inside.is_empty());
            if found.is_some_and(|found| found.is_dir()) && !makes_folder && !ours && !empty() {
                return Err(NotRestored::InTheWay(format!("the folder {name}")));
            }
        }
        Ok(())
    }

    fn check_folder(
        &self,
        folder: &Path,
        root: &Path,
        entry: &Entry,
        before: Option<&Manifest>,
    ) -> Result<(), NotRestored> {
        let path = self.files.root().join(folder);
        let name = folder.display().to_string();
        match self.files.metadata(&path)? {
            None => Ok(()),
            Some(found) if found.is_dir() => Ok(()),
            Some(found) if found.is_symlink() && !entry.made.rows.contains_key(&name) => {
                // A folder on another disk is all right as long as it is the project's.
                let inside = self.files.real_path(&path).is_ok_and(|real| real.starts_with(root));
                if inside { Ok(()) } else { Err(NotRestored::Outside(name)) }
            }
            Some(_) if before.is_some_and(|before| before.rows.contains_key(&name)) => Ok(()),
            Some(_) => Err(NotRestored::InTheWay(name)),
        }
    }

    /// Whether all that is in a folder was made by an earlier success.
    fn only_holds(&self, folder: &str, before: &Manifest) -> bool {
        Manifest::look(&self.files, &[folder.to_owned()])
            .is_ok_and(|now| now.rows.keys().all(|name| before.rows.contains_key(name)))
    }

    /// Removes a file, and the folders above it that are empty then.
    fn remove(&self, name: &str) -> Result<(), FileError> {
        let path = self.files.root().join(name);
        let found = self.files.metadata(&path)?;
        if found.is_some_and(|found| found.is_dir()) {
            // One that somebody put something into stays.
            let _ = depot::remove_empty(&path);
        } else {
            self.files.remove(&path)?;
        }
        let mut above = Path::new(name).parent();
        while let Some(folder) = above.filter(|folder| *folder != Path::new("")) {
            if !depot::remove_empty(&self.files.root().join(folder)) {
                break;
            }
            above = folder.parent();
        }
        Ok(())
    }
}

impl Manifest {
    /// Whether it has something below a folder.
    fn is_below(&self, folder: &str) -> bool {
        let start = format!("{folder}/");
        self.rows.range(start.clone()..).next().is_some_and(|(name, _)| name.starts_with(&start))
    }
}

/// Copies that were checked and wait for their place. Dropped, they are removed.
struct Staged<'a> {
    local: &'a Local,
    files: Vec<(String, Option<PathBuf>, u64)>,
}

impl Staged<'_> {
    fn fetch(&mut self, name: &str, wanted: &Made) -> Result<(), NotRestored> {
        let local = self.local;
        let (digest, bits) = match wanted {
            Made::Folder => {
                self.files.push((name.to_owned(), None, 0));
                return Ok(());
            }
            Made::Link(target) => {
                let temporary = local.temporary()?;
                depot::link(Path::new(target), &temporary)?;
                self.files.push((name.to_owned(), Some(temporary), 0));
                return Ok(());
            }
            Made::File { digest, mode, .. } => (digest, *mode),
        };
        let blob = local.blob(digest);
        let temporary = local.temporary()?;
        let copied = depot::copy(&blob, &temporary);
        self.files.push((name.to_owned(), Some(temporary.clone()), 0));
        match copied {
            Ok(copied) if copied.digest == *digest => {
                if let Some(last) = self.files.last_mut() {
                    last.2 = copied.size;
                }
            }
            Ok(_) => {
                // Nobody else shall meet it.
                let _ = local.files.remove(&blob);
                return Err(NotRestored::Damaged(name.to_owned()));
            }
            Err(error) if error.is_not_found() => return Err(NotRestored::Damaged(name.to_owned())),
            Err(error) => return Err(error.into()),
        }
        Ok(depot::set_mode(&temporary, bits)?)
    }

    fn place(mut self, before: Option<&Manifest>) -> Result<Restored, NotRestored> {
        let mut restored = Restored::default();
        for (name, temporary, size) in &mut self.files {
            let local = self.local;
            let place = local.files.root().join(&*name);
            local.clear_folders(name, before)?;
            match temporary.take() {
                None => {
                    if local.files.metadata(&place)?.is_some_and(|found| !found.is_dir()) {
                        local.files.remove(&place)?;
                    }
                    local.files.create_dir(&place)?;
                }
                Some(staged) => {
                    if local.files.metadata(&place)?.is_some_and(|found| found.is_dir()) {
                        // It was checked: nothing in it is anybody else's.
                        local.files.remove_dir(&place)?;
                    }
                    let moved = depot::rename(&staged, &place);
                    if moved.is_err() {
                        let _ = local.files.remove(&staged);
                    }
                    moved?;
                }
            }
            restored.placed += 1;
            restored.size += *size;
        }
        Ok(restored)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        for staged in self.files.iter().filter_map(|(_, staged, _)| staged.as_ref()) {
            let _ = self.local.files.remove(staged);
        }
    }
}

impl Local {
    /// Makes the folders above a path. Files of an earlier success make room for them.
    fn clear_folders(&self, name: &str, before: Option<&Manifest>) -> Result<(), FileError> {
        let Some(folder) = Path::new(name).parent().filter(|folder| *folder != Path::new("")) else {
            return Ok(());
        };
        let path = self.files.root().join(folder);
        if self.files.metadata(&path)?.is_some_and(|found| found.is_dir()) {
            return Ok(());
        }
        for above in folder.ancestors().filter(|above| *above != Path::new("")) {
            let ours = before.is_some_and(|before| before.rows.contains_key(&above.display().to_string()));
            let place = self.files.root().join(above);
            if ours && self.files.metadata(&place)?.is_some_and(|found| !found.is_dir()) {
                self.files.remove(&place)?;
            }
        }
        self.files.create_dir(&path)
    }
}
