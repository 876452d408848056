//! The plan as data: what `flow plan --json` prints, what is saved and signed,
//! and what its digest covers.
//!
//! The digest can be computed from the JSON alone. It covers what decides what
//! will happen, and nothing that says when or where the plan was made: same
//! world, same digest, on any machine. What a step counts by is its
//! [`Basis`]; a step that does not hang on files that are still to be made
//! counts by what it would do as well. Everything else (summaries, times) is
//! there to be read, and protected by the seal of a saved plan: see
//! [`super::saved`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::model::change::{Action, Change, Reversible};
use crate::model::names::{EnvName, FlowName, GroupName, StepId, StepName};
use crate::model::value::Outputs;
use crate::world::files::digest;
use crate::world::parallel;

use super::basis::{Basis, PlanBasis};
use super::canonical::{Members, write_canonical, write_list, write_text};
use super::gates::PlannedApprovals;
use super::selection::Typed;

/// Version of the JSON.
pub const VERSION: u32 = 1;

/// What a run would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// When the trouble began that it goes back because of; outside the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<jiff::Timestamp>,
    /// The flows that go back inside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<PlannedInside>,
    /// Number of the flow's next run in this environment; its first effect takes it.
    pub sequence: u64,
    /// When it was made; outside the digest.
    pub created: jiff::Timestamp,
    /// Until when it may be run; outside the digest.
    pub expires: Option<jiff::Timestamp>,
    /// flow's own version.
    pub flow_version: String,
    /// Digest of who may approve it, where that is not read from the files alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Who may approve it, and what each gate asks for.
    #[serde(default)]
    pub approvals: PlannedApprovals,
    /// What it was made from; outside the digest.
    pub source: Source,
    /// What was asked for.
    pub selection: PlannedSelection,
    /// What all steps count by.
    pub basis: PlanBasis,
    /// The release that was live; outside the digest.
    #[serde(default)]
    pub live: Option<u64>,
    /// What else to know before saying yes; outside the digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Every selected step, in order of appearance.
    pub steps: Vec<PlannedStep>,
    /// How many steps have each action.
    pub counts: BTreeMap<String, usize>,
}

/// A flow that goes back inside a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedInside {
    /// The `rollback` step; its steps are called `STEP/…`.
    pub step: StepName,
    /// The flow.
    pub flow: FlowName,
    /// The release that it goes back to.
    pub back_to: u64,
    /// Number of that flow's next run in this environment, which the run takes too.
    pub sequence: u64,
}

/// Where a plan acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedEnvironment {
    /// Its name.
    pub name: EnvName,
    /// Twelve digits.
    pub account: Option<String>,
    /// `eu-west-1`
    pub region: Option<String>,
}

/// What a plan was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    /// Full commit id.
    pub commit: Option<String>,
    /// Whether tracked files differ from it.
    pub dirty: Option<bool>,
    /// Digest of the flow files.
    pub files_digest: String,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedSelection {
    /// `--only` and `--skip`.
    #[serde(flatten)]
    pub typed: Typed,
    /// Parameters, given or by default.
    pub params: BTreeMap<String, Json>,
    /// Names of those that were given.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub given: BTreeSet<String>,
    /// Steps outside whose last release counts.
    pub from_release: Vec<StepId>,
    /// `--no-cache`; outside the digest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_cache: bool,
}

/// What a run would do with one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its name and instance.
    pub id: StepId,
    /// Its kind.
    pub kind: String,
    /// The innermost group around it.
    pub group: Option<GroupName>,
    /// The outermost group: the heading it stands under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heading: Option<GroupName>,
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
    /// What it counts by.
    pub basis: Basis,
    /// Digest of what it counts by, and of what would happen where that counts too.
    pub digest: String,
    /// It is up to date, and has something to tidy up all the same.
    #[serde(skip)]
    pub upkeep: bool,
    /// What later steps can already refer to.
    #[serde(skip)]
    pub outputs: Outputs,
    /// What a rollback needs.
    #[serde(skip)]
    pub receipt: Json,
    /// The state that stands now.
    #[serde(skip)]
    pub standing: Json,
    /// The selected steps in front that decide what is known of it; empty for a saved plan.
    #[serde(skip)]
    pub hangs_on: BTreeSet<StepId>,
}

impl PlannedStep {
    /// Whether a run carries out an effect of it.
    #[must_use]
    pub fn executes(&self) -> bool {
        self.action.will_run() || self.upkeep
    }

    /// Whether it does something that somebody may see: it runs, or puts files back.
    #[must_use]
    pub fn is_work(&self) -> bool {
        self.action.will_run() || self.action == Action::Cached
    }

    /// Its digest, computed from all that it covers.
    #[must_use]
    pub fn covered(&self) -> String {
        let mut text = String::new();
        let mut members = Members::begin(&mut text);
        self.basis.write(members.name("basis"));
        let decided = members.name("decided");
        if self.basis.decided {
            let mut decided = Members::begin(decided);
            write_text(self.action.name(), decided.name("action"));
            write_list(&self.changes, decided.name("changes"), write_change);
            decided.end();
        } else {
            decided.push_str("null");
        }
        write_text(&self.id.to_string(), members.name("id"));
        write_text(&self.kind, members.name("kind"));
        write_list(&self.needs, members.name("needs"), |step, text| write_text(&step.to_string(), text));
        members.end();
        digest(text.as_bytes())
    }
}

impl Plan {
    /// Computes the counts and the digests.
    pub fn seal(&mut self) {
        self.counts.clear();
        let digests = self.digests();
        self.digest = self.over(&digests);
        for (step, digest) in self.steps.iter_mut().zip(digests) {
            step.digest = digest;
            match self.counts.get_mut(step.action.name()) {
                Some(count) => *count += 1,
                None => drop(self.counts.insert(step.action.name().to_owned(), 1)),
            }
        }
    }

    /// Its digest, computed from all that it covers.
    #[must_use]
    pub fn covered(&self) -> String {
        self.over(&self.digests())
    }

    fn digests(&self) -> Vec<String> {
        parallel::map(&self.steps, false, PlannedStep::covered)
    }

    /// Its digest, given those of its steps.
    fn over(&self, steps: &[String]) -> String {
        let mut text = String::new();
        let mut members = Members::begin(&mut text);
        let mut add = |name: &str, value: Json| write_canonical(&value, members.name(name));
        add("back_to", json!(self.back_to));
        add("basis", json!(self.basis));
        add("environment", json!(self.environment));
        add("flow", json!(self.flow));
        add("flow_version", json!(self.flow_version));
        add("from_release", json!(self.selection.from_release));
        add("inside", json!(self.inside));
        add("params", json!(self.selection.params));
        add("policy", json!(self.policy));
        add("sequence", json!(self.sequence));
        // There may be a hundred thousand.
        write_list(steps, members.name("steps"), |step, text| write_text(step, text));
        let mut add = |name: &str, value: Json| write_canonical(&value, members.name(name));
        add("typed", json!(self.selection.typed));
        add("version", json!(self.version));
        members.end();
        digest(text.as_bytes())
    }

    /// The steps that a run would execute.
    pub fn to_run(&self) -> impl Iterator<Item = &PlannedStep> {
        self.steps.iter().filter(|step| step.action.will_run())
    }

    /// One step.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }
}

fn write_change(change: &Change, text: &mut String) {
    let mut members = Members::begin(text);
    for (name, value) in [("from", &change.from), ("to", &change.to)] {
        match value {
            Some(value) => write_text(value, members.name(name)),
            None => members.name(name).push_str("null"),
        }
    }
    write_text(&change.what, members.name("what"));
    members.end();
}

#[cfg(test)]
mod tests {

    use super::super::canonical::canonical;
    use super::super::seals::Seals;
    use super::*;
    use crate::world::digests::Sum;

    #[test]
    fn a_steps_digest_can_be_computed_from_its_json_alone() {
        let rows = |name: &str| BTreeMap::from([(format!("{name} \"a\""), "1f".to_owned())]);
        let seals = |name: &str| {
            let mut seals = Seals::default();
            seals.insert(&format!("{name} \"a\""), Sum([0x1f; 32]));
            seals
        };
        let basis = Basis {
            definition: seals("definition"),
            handed: seals("handed"),
            inputs: rows("inputs"),
            tools: rows("tools"),
            baseline: json!({ "b": 1, "a": [null, { "d": "x", "c": true }] }),
            after: Some(StepId::parse("base")),
            decided: true,
            tree: true,
        };
        let full: PlannedStep = serde_json::from_value(json!({
            "id": "service[api]", "kind": "ecs-deploy", "group": null, "needs": ["base", "image[api]"],
            "action": "update", "summary": "", "subject": "", "warnings": [], "reversible": "auto",
            "changes": [{ "what": "memory", "from": "512", "to": null }], "cached": false,
            "basis": basis, "digest": "",
        }))
        .expect("a step");
        let plain = PlannedStep { basis: Basis::default(), needs: Vec::new(), ..full.clone() };
        for step in [full, plain] {
            let decided =
                step.basis.decided.then(|| json!({ "action": step.action, "changes": step.changes }));
            let covered = json!({
                "id": step.id, "kind": step.kind, "needs": step.needs, "basis": step.basis,
                "decided": decided,
            });
            assert_eq!(step.covered(), digest(canonical(&covered).as_bytes()));
        }
    }
}
