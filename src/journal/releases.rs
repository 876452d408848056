//! temporary
use crate::model::names::{EnvName, FlowName, RunId, StepId};
use crate::model::value::Outputs;
use crate::world::files::FileError;
use crate::world::store::Store;
use std::collections::BTreeMap;
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Recorded {
    pub kind: String,
    pub outputs: Outputs,
    pub receipt: serde_json::Value,
}
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Draft {
    pub run: RunId,
    pub flow: FlowName,
    pub environment: EnvName,
    pub created: jiff::Timestamp,
    pub failed: bool,
    pub plan: String,
    pub commit: Option<String>,
    pub dirty: bool,
    pub by: String,
    pub steps: BTreeMap<StepId, Recorded>,
}
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Release {
    pub id: u64,
    #[serde(flatten)]
    pub draft: Draft,
}
impl std::ops::Deref for Release {
    type Target = Draft;
    fn deref(&self) -> &Draft {
        &self.draft
    }
}
#[derive(Clone, Debug)]
pub struct Releases {
    store: Store,
}
impl Releases {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
    pub fn live(&self, env: &EnvName, flow: &FlowName) -> Result<Option<Release>, FileError> {
        for name in self.store.list(&format!("releases/{env}"))?.iter().rev() {
            let bytes = self.store.get(&format!("releases/{env}/{name}"))?.unwrap_or_default();
            if let Ok(r) = serde_json::from_slice::<Release>(&bytes) {
                if r.flow == *flow && !r.failed {
                    return Ok(Some(r));
                }
            }
        }
        Ok(None)
    }
    pub fn write(&self, draft: Draft) -> Result<u64, FileError> {
        let id = self.store.list(&format!("releases/{}", draft.environment))?.len() as u64 + 1;
        let key = format!("releases/{}/{id:08}.json", draft.environment);
        self.store.put(&key, &serde_json::to_vec(&Release { id, draft }).unwrap_or_default())?;
        Ok(id)
    }
}
