//! What an environment runs before flow changes anything: its release 0.
//!
//! The first run of a flow in an environment records it before its first
//! effect, `flow adopt` does that alone. So a system that was live before flow
//! can be rolled back to, and a selection can stand on it.

use std::collections::BTreeMap;

use crate::journal::releases::{Recorded, Release, ReleaseError, VERSION};
use crate::model::change::Action;
use crate::model::kind::Nature;
use crate::model::names::{RunId, StepId};
use crate::plan::document::{Plan, PlannedStep};
use crate::plan::prepare::Prepared;

use super::{Shared, Stage};

/// Records what was found, if this is the first run and it will change something.
pub fn first(shared: &Shared) -> Result<(), ReleaseError> {
    let p = &shared.prepared;
    let changes = |step: &PlannedStep| step.executes() && deploys(p, &step.id);
    let first = shared.stage == Stage::Wanted && p.current.is_none() && p.back.is_none();
    if first && shared.observed.plan.steps.iter().any(changes) {
        record(p, &shared.observed.plan, shared.run.clone())?;
    }
    Ok(())
}

/// Records what was found. Returns it as written.
pub fn record(p: &Prepared, plan: &Plan, run: RunId) -> Result<Release, ReleaseError> {
    p.releases.write(Release {
        version: VERSION,
        id: 0,
        run,
        flow: p.flow.name.clone(),
        environment: p.values.environment.clone(),
        created: p.world.clock.now(),
        failed: false,
        plan: plan.digest.clone(),
        commit: plan.source.commit.clone(),
        dirty: plan.source.dirty,
        by: p.world.host.operator(),
        adopted: true,
        rolled_back_to: None,
        healthy_after_ms: None,
        params: plan.selection.params.clone(),
        steps: found(p, plan),
    })
}

/// The steps of which something stands already, and what others of them looked up: a selection can
/// stand on either. What differs from the flow hands nothing on: its outputs would be those of what
/// the flow wants.
fn found(p: &Prepared, plan: &Plan) -> BTreeMap<StepId, Recorded> {
    let mut found = BTreeMap::new();
    for step in &plan.steps {
        let is_wanted = step.action == Action::UpToDate;
        let counts = deploys(p, &step.id) || (is_wanted && looks_up(p, step));
        if !counts {
            continue;
        }
        let state = if step.receipt.is_null() { &step.standing } else { &step.receipt };
        if !is_wanted && step.standing.is_null() {
            continue;
        }
        let outputs = step.outputs.iter().filter(|(_, value)| is_wanted && !value.is_secret());
        let recorded = Recorded {
            kind: step.kind.clone(),
            outputs: outputs.map(|(name, value)| (name.clone(), value.clone())).collect(),
            receipt: if is_wanted { state.clone() } else { step.standing.clone() },
            adopted: true,
        };
        found.insert(step.id.clone(), recorded);
    }
    found
}

fn deploys(p: &Prepared, id: &StepId) -> bool {
    p.graph.find_id(id).is_some_and(|id| {
        let node = p.graph.node(id);
        let step = &node.step;
        // What goes back inside the run belongs to the releases of another flow.
        node.guest.is_none()
            && step.kind.nature != Nature::Check
            && step.is_deploying(p.cloud.target().protected)
    })
}

/// Whether a step changes nothing and hands on what it found.
fn looks_up(p: &Prepared, step: &PlannedStep) -> bool {
    let node = p.graph.find_id(&step.id).map(|id| p.graph.node(id));
    node.is_some_and(|node| node.guest.is_none() && node.step.kind.nature == Nature::Check)
        && !step.outputs.is_empty()
}
