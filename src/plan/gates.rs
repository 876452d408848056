//! What stands behind gates: whose word a gate needs, and what nobody has to
//! approve although its environment says that somebody must.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::change::Action;
use crate::model::kind::Nature;
use crate::model::names::{EnvName, StepId};
use crate::model::policy::{Policy, Rule};
use crate::steps::{approve, is_always_gated};

use super::added_gates::{goes_back, is_told};
use super::document::{Plan, PlannedStep};
use super::graph::NodeId;
use super::prepare::Prepared;
use super::scope::{StepScope, StepTable};

/// A step that somebody must agree to and that no gate stands in front of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step} {why}, and no gate stands in front of it{}", show_skipped(.skipped))]
pub struct Ungated {
    /// The step.
    pub step: StepId,
    /// Why somebody must agree.
    pub why: Demand,
    /// Gates in front of it whose condition is false, with the condition.
    pub skipped: Vec<(StepId, String)>,
}

/// Why a step needs a gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Demand {
    /// It changes a protected environment.
    #[error("acts in {0}, which is protected")]
    Protected(EnvName),
    /// Its kind never acts without somebody's word.
    #[error("would {summary} in {environment}")]
    Always {
        /// Where.
        environment: EnvName,
        /// As the plan says.
        summary: String,
    },
    /// It takes infrastructure away, which nobody does by accident.
    #[error("would take infrastructure away in {environment} ({summary})")]
    TakesAway {
        /// Where.
        environment: EnvName,
        /// As the plan says.
        summary: String,
    },
}

fn show_skipped(gates: &[(StepId, String)]) -> String {
    let said: Vec<String> = gates.iter().map(|(gate, why)| format!("{gate} is skipped ({why})")).collect();
    if said.is_empty() { String::new() } else { format!(": {}", said.join(", ")) }
}

/// Who may approve a plan, and what each gate that is asked asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedApprovals {
    /// Of every environment that something behind a gate acts in, the plan's own first.
    pub policies: Vec<Policy>,
    /// The gates that will ask.
    pub gates: Vec<PlannedGate>,
}

/// A gate that will ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedGate {
    /// The gate.
    pub id: StepId,
    /// What it asks for; each policy may ask for more.
    pub rule: Rule,
    /// The environments whose policies it must satisfy.
    pub environments: Vec<EnvName>,
}

impl PlannedApprovals {
    /// The policies that a gate must satisfy.
    #[must_use]
    pub fn policies_of(&self, gate: &PlannedGate) -> Vec<Policy> {
        let wanted = |policy: &&Policy| gate.environments.contains(&policy.environment);
        self.policies.iter().filter(wanted).cloned().collect()
    }
}

/// Who may approve a plan of these steps. A gate whose settings cannot be read is left out: it has
/// been reported as a step that cannot be planned.
#[must_use]
pub fn planned(p: &Prepared, steps: &[PlannedStep], table: &dyn StepTable) -> PlannedApprovals {
    let mut gates = Vec::new();
    for step in steps.iter().filter(|step| step.action == Action::Run) {
        let Some(id) = p.graph.find_id(&step.id) else { continue };
        let node = p.graph.node(id);
        if node.step.kind.nature != Nature::Gate {
            continue;
        }
        let scope = StepScope { values: &p.values, each: &node.each, steps: table };
        let Some(settings) = node.step.settings.resolve(&scope).ok() else { continue };
        let Ok(rule) = approve::rule(&settings) else { continue };
        let environments = policies(p, id).iter().map(|policy| policy.environment.clone()).collect();
        gates.push(PlannedGate { id: step.id.clone(), rule, environments });
    }
    PlannedApprovals { policies: p.policies.all.to_vec(), gates }
}

/// The policies that a gate must satisfy: of every environment that something behind it acts in, the
/// run's own first. Empty for anything but a gate.
#[must_use]
pub fn policies(p: &Prepared, gate: NodeId) -> Arc<[Policy]> {
    let own = &p.cloud.target().environment;
    if p.graph.node(gate).step.kind.nature != Nature::Gate {
        return Arc::default();
    }
    let behind: BTreeSet<EnvName> = behind(&p.graph.followers(), gate)
        .into_iter()
        .filter(|id| p.selection.contains(*id))
        .map(|id| p.cloud_of(id).target().environment.clone())
        .collect();
    let concerned = |policy: &&Policy| policy.environment == *own || behind.contains(&policy.environment);
    p.policies.all.iter().filter(concerned).cloned().collect()
}

/// Every node that waits for this one, directly or not; `followers` as the graph says.
pub(super) fn behind(followers: &[Vec<NodeId>], from: NodeId) -> BTreeSet<NodeId> {
    let mut seen = BTreeSet::new();
    let mut stack = vec![from];
    while let Some(id) = stack.pop() {
        for follower in &followers[id.0] {
            if seen.insert(*follower) {
                stack.push(*follower);
            }
        }
    }
    seen
}

/// Steps that would change a protected environment, or take something away, without anybody's word.
/// A gate whose condition is false stands in front of nothing.
#[must_use]
pub fn ungated(p: &Prepared, plan: &Plan) -> Vec<Ungated> {
    let mut open = Vec::new();
    for step in plan.steps.iter().filter(|step| step.action.will_run()) {
        let Some(id) = p.graph.find_id(&step.id) else { continue };
        let node = p.graph.node(id);
        let cloud = p.cloud_of(id);
        let target = cloud.target();
        let why = if let Some(why) = takes_away(p, id, step) {
            why
        } else if target.protected && !node.step.common.ungated && node.step.is_deploying(true) {
            Demand::Protected(target.environment.clone())
        } else {
            continue;
        };
        let gates = gates_before(p, id);
        let action = |gate: &StepId| plan.steps.iter().find(|step| step.id == *gate);
        // One that was opened before the run was resumed stands open.
        let asks = |gate: &StepId| action(gate).is_some_and(|gate| gate.action == Action::Run);
        if gates.iter().any(|gate| asks(gate) || p.done.contains_key(gate)) {
            continue;
        }
        let skipped = gates.iter().filter_map(action).filter(|gate| gate.action == Action::Skipped);
        open.push(Ungated {
            step: step.id.clone(),
            why,
            skipped: skipped.map(|gate| (gate.id.clone(), gate.summary.clone())).collect(),
        });
    }
    open
}

/// Why somebody must say yes to a step in every environment: it would delete, replace or overwrite
/// what is there because it was told to (`destroy`, `replace`, a state that is imported) or because it
/// goes back. What a change of a configuration replaces is in its plan.
#[must_use]
pub fn takes_away(p: &Prepared, id: NodeId, step: &PlannedStep) -> Option<Demand> {
    if !step.action.will_run() {
        return None;
    }
    let node = p.graph.node(id);
    let (environment, summary) = (p.cloud_of(id).target().environment.clone(), step.summary.clone());
    if is_always_gated(node.step.kind.name) {
        return Some(Demand::Always { environment, summary });
    }
    let goes_back = goes_back(node);
    // Where it goes back, what it says today does not count.
    let told = |setting| !goes_back && is_told(node, setting, &p.values);
    let lost = match step.action {
        // Everything, whatever is known of it before it runs.
        _ if told("destroy") => true,
        Action::Delete => goes_back,
        Action::Replace => goes_back || told("replace"),
        // What stands there is seen only once another step has run.
        _ => (goes_back || told("replace")) && step.basis.after.is_some(),
    };
    (lost && node.step.kind.nature == Nature::Infrastructure)
        .then_some(Demand::TakesAway { environment, summary })
}

/// The gates in front of a node, directly or not.
fn gates_before(p: &Prepared, from: NodeId) -> Vec<StepId> {
    let mut seen = BTreeSet::new();
    let mut gates = Vec::new();
    let mut stack = vec![from];
    while let Some(id) = stack.pop() {
        for edge in &p.graph.node(id).before {
            if seen.insert(edge.to) {
                stack.push(edge.to);
                let node = p.graph.node(edge.to);
                if node.step.kind.nature == Nature::Gate {
                    gates.push(node.id.clone());
                }
            }
        }
    }
    gates
}
