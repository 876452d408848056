//! The plan as data: what `flow plan --json` prints and what its digest covers.
//!
//! Same world, same digest, on any machine: times, paths and the order of
//! answers are not in it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::change::{Action, Change, Reversible};
use crate::model::names::{EnvName, FlowName, GroupName, StepId};
use crate::model::value::Outputs;
use crate::world::files::digest;

use super::gates::PlannedApprovals;
use super::selection::Typed;

/// Version of the JSON.
pub const VERSION: u32 = 1;

/// What a run would do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// [`VERSION`]
    pub version: u32,
    /// The flow.
    pub flow: FlowName,
    /// Where it acts.
    pub environment: PlannedEnvironment,
    /// Digest of all that decides what will happen.
    pub digest: String,
    /// The release that it goes back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// Digest of who may approve it; `null` where nobody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Who may approve it, and what each gate asks for.
    #[serde(default)]
    pub approvals: PlannedApprovals,
    /// Number of the flow's next run in this environment; 0 while plans are not saved.
    pub sequence: u64,
    /// When it was made; outside the digest.
    pub created: jiff::Timestamp,
    /// Until when it may be run; `null` while plans are not saved.
    pub expires: Option<jiff::Timestamp>,
    /// What it was made from.
    pub source: Source,
    /// What was asked for.
    pub selection: PlannedSelection,
    /// Every selected step, in order of appearance.
    pub steps: Vec<PlannedStep>,
    /// How many steps have each action.
    pub counts: BTreeMap<String, usize>,
}

/// Where a plan acts.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedEnvironment {
    /// Its name.
    pub name: EnvName,
    /// Twelve digits.
    pub account: Option<String>,
    /// `eu-west-1`
    pub region: Option<String>,
}

/// What a plan was made from.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// Full commit id.
    pub commit: Option<String>,
    /// Whether tracked files differ from it.
    pub dirty: bool,
    /// Digest of the flow files.
    pub files_digest: String,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedSelection {
    /// `--only` and `--skip`.
    #[serde(flatten)]
    pub typed: Typed,
    /// Parameters, given or by default.
    pub params: BTreeMap<String, serde_json::Value>,
    /// Steps outside whose last release counts.
    pub from_release: Vec<StepId>,
}

/// What a run would do with one step.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    /// Its name and instance.
    pub id: StepId,
    /// Its kind.
    pub kind: &'static str,
    /// The innermost group around it.
    pub group: Option<GroupName>,
    /// What it waits for.
    pub needs: Vec<StepId>,
    /// What would happen.
    pub action: Action,
    /// In a few words.
    pub summary: String,
    /// What it is about.
    pub subject: String,
    /// Every difference.
    pub changes: Vec<Change>,
    /// What to know before saying yes.
    pub warnings: Vec<String>,
    /// Whether it can be taken back.
    pub reversible: Reversible,
    /// Whether its outputs come from a cache.
    pub cached: bool,
    /// Digest of its definition, action, changes and of what was observed.
    pub digest: String,
    /// It is up to date, and has something to tidy up all the same.
    #[serde(skip)]
    pub upkeep: bool,
    /// What was observed, for the check right before the effect.
    #[serde(skip)]
    pub baseline: serde_json::Value,
    /// What later steps can already refer to.
    #[serde(skip)]
    pub outputs: Outputs,
    /// What a rollback needs.
    #[serde(skip)]
    pub receipt: serde_json::Value,
    /// The state that stands now.
    #[serde(skip)]
    pub standing: serde_json::Value,
    /// The outermost group: the heading it stands under.
    #[serde(skip)]
    pub heading: Option<GroupName>,
}

impl PlannedStep {
    /// Whether a run carries out an effect of it.
    #[must_use]
    pub fn executes(&self) -> bool {
        self.action.will_run() || self.upkeep
    }

    /// Computes its digest from its definition's.
    pub fn seal(&mut self, definition: &str) {
        let covered = serde_json::json!({
            "id": self.id, "kind": self.kind, "needs": self.needs, "definition": definition,
            "action": self.action, "changes": self.changes, "baseline": self.baseline,
        });
        self.digest = digest(covered.to_string().as_bytes());
    }
}

impl Plan {
    /// Computes the counts and the digest.
    pub fn seal(&mut self) {
        self.counts.clear();
        for step in &self.steps {
            let name = serde_json::to_value(step.action).ok();
            let name = name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            *self.counts.entry(name).or_default() += 1;
        }
        let steps: Vec<&String> = self.steps.iter().map(|step| &step.digest).collect();
        let covered = serde_json::json!({
            "version": self.version, "flow": self.flow, "environment": self.environment,
            "sequence": self.sequence, "flow_version": env!("CARGO_PKG_VERSION"),
            "params": self.selection.params, "typed": self.selection.typed,
            "from_release": self.selection.from_release, "steps": steps, "back_to": self.back_to, "policy": self.policy,
        });
        self.digest = digest(covered.to_string().as_bytes());
    }

    /// The steps that a run would execute.
    pub fn to_run(&self) -> impl Iterator<Item = &PlannedStep> {
        self.steps.iter().filter(|step| step.action.will_run())
    }
}
