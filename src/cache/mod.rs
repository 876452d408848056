//! What steps that only make files left behind, so that they need not run
//! again.
//!
//! ```text
//! .flow/cache/successes   the last success of each step, one file of lines
//!            /texts/      what is too long for such a line, by its digest
//!            /entries/    what a key made: a manifest and what was handed on
//!            /blobs/      the bytes of files, by their digest
//!            /locks/      one step's outputs are made by one flow at a time
//!            /tmp/        what is not whole yet
//! ```
//!
//! The rule of the whole folder: losing or spoiling any of it costs time, never
//! rightness. Everything is named by its digest or carries a checksum, and is
//! checked before it counts. `plan::fingerprint` says what a key is and asks;
//! `exec` restores and stores.

pub mod local;
pub mod manifest;
pub mod successes;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::names::{EnvName, FlowName, StepId};
use crate::world::World;
use crate::world::depot::{Hold, Lock};
use crate::world::files::{FileError, digest};

use self::local::Local;
use self::successes::Successes;

/// Where it lies, relative to the project's root.
pub const FOLDER: &str = ".flow/cache";

/// The cache of a project on this machine. Cheap to clone; nothing is read before it is asked.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    /// The last success of each step.
    pub successes: Successes,
    /// What was made from which key.
    pub local: Local,
    trouble: Arc<Mutex<Trouble>>,
}

/// What went wrong with the cache itself.
#[derive(Debug, Default)]
struct Trouble {
    first: Option<String>,
    told: bool,
}

/// A step in its flow and environment: whose last success it is.
#[derive(Clone, Debug)]
pub struct Whose<'a> {
    /// The flow.
    pub flow: &'a FlowName,
    /// The environment.
    pub environment: &'a EnvName,
    /// The step.
    pub step: &'a StepId,
}

impl Whose<'_> {
    /// As one text, which no other step has.
    fn label(&self) -> String {
        format!("{}\n{}\n{}", self.flow, self.environment, self.step)
    }
}

impl Cache {
    /// The cache of a project.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let folder = world.files.root().join(FOLDER);
        Self {
            successes: Successes::new(folder.clone()),
            local: Local::new(folder.clone(), world.files.clone()),
            folder,
            trouble: Arc::default(),
        }
    }

    /// The turn to make these outputs; `None` while somebody else makes them. Without outputs a step
    /// of one environment takes turns with itself.
    pub fn turn(&self, whose: &Whose<'_>, outputs: &[String]) -> Result<Option<Lock>, FileError> {
        let mut sorted = outputs.to_vec();
        sorted.sort();
        let name = if sorted.is_empty() { whose.label() } else { sorted.join("\n") };
        Lock::try_take(&self.folder.join("locks").join(digest(name.as_bytes())), Hold::Alone)
    }

    /// Remembers what is wrong with the cache: the run goes on without it. Only the first thing is,
    /// since the others follow from it or look like it.
    pub fn complain(&self, what: impl Into<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.first.get_or_insert_with(|| what.into());
    }

    /// What is wrong, for a plan.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).first.clone()
    }

    /// The same, once, for whoever watches a run.
    #[must_use]
    pub fn new_complaint(&self) -> Option<String> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let first = trouble.first.clone().filter(|_| !trouble.told);
        trouble.told |= first.is_some();
        first
    }
}
