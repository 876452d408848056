//! The last success of each step that only makes files, on this machine.
//!
//! One small file a step under `.flow/cache/steps`. A failed or killed run
//! writes none, so what it left half-made is made again. Losing the folder
//! costs time, never rightness.

use crate::model::names::{EnvName, FlowName, StepId};
use crate::world::files::{FileError, digest};
use crate::world::store::Store;

/// Last successes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Successes {
    store: Store,
}

impl Successes {
    /// Successes kept in a folder (`.flow/cache`).
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The last success of a step; one that cannot be read counts as none.
    pub fn get<T: serde::de::DeserializeOwned>(
        &self,
        flow: &FlowName,
        environment: &EnvName,
        step: &StepId,
    ) -> Result<Option<T>, FileError> {
        let bytes = self.store.get(&key(flow, environment, step))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Remembers a success.
    pub fn put<T: serde::Serialize>(
        &self,
        flow: &FlowName,
        environment: &EnvName,
        step: &StepId,
        success: &T,
    ) -> Result<(), FileError> {
        let json = serde_json::to_vec(success).unwrap_or_default();
        self.store.put(&key(flow, environment, step), &json)
    }
}

/// Step names may hold slashes and each values anything: the file is named by digest.
fn key(flow: &FlowName, environment: &EnvName, step: &StepId) -> String {
    format!("steps/{}.json", digest(format!("{flow}\n{environment}\n{step}").as_bytes()))
}
