//! What a release records of an apply.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Terraform;
use crate::model::value::Value;
use crate::steps::Context;
use crate::steps::infra::Kept;

/// An apply, so that it can be done again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct State {
    #[serde(flatten)]
    pub kept: Kept,
    /// `terraform 1.11.4`
    #[serde(default)]
    pub applied_with: String,
    #[serde(default)]
    pub workspace: Option<String>,
    #[serde(default)]
    pub var_files: Vec<String>,
    /// Those that are no secrets.
    #[serde(default)]
    pub vars: BTreeMap<String, Value>,
    /// Keyed digests of those that are.
    #[serde(default)]
    pub secret_vars: BTreeMap<String, String>,
    #[serde(default)]
    pub backend: BTreeMap<String, String>,
    /// All of it was deleted.
    #[serde(default)]
    pub destroyed: bool,
}

impl State {
    /// Of a step whose sources have this digest.
    pub(super) fn of(step: &Terraform, sources: Option<String>, program: &str, cx: &Context) -> Self {
        let mut state = Self {
            kept: Kept::of(&step.common, sources),
            applied_with: program.to_owned(),
            workspace: step.workspace.clone(),
            var_files: step.var_files.clone(),
            vars: BTreeMap::new(),
            secret_vars: BTreeMap::new(),
            backend: step.backend.clone(),
            destroyed: step.common.destroy,
        };
        for (name, value) in &step.vars {
            match value {
                Value::Secret(secret) => {
                    state.secret_vars.insert(name.clone(), cx.sealer.digest(secret.expose()));
                }
                value if value.is_secret() => {
                    state.secret_vars.insert(name.clone(), String::new());
                }
                value => drop(state.vars.insert(name.clone(), value.clone())),
            }
        }
        state
    }
}
