//! What a run leaves in the releases: one of its own flow, and one of each flow
//! that went back inside it, as `flow rollback` would have left it.
//!
//! A release is recorded where the run changed something, or where nothing was
//! recorded yet. What the run did not touch is carried over from the release
//! before. What was taken back again stands as the release before says, and
//! what could not be is in the release of the failed run.

use std::collections::BTreeMap;

use crate::event::{RunOutcome, StepOutcome};
use crate::journal::releases::{Recorded, Release, ReleaseError, VERSION};
use crate::model::change::Action;
use crate::model::kind::Nature;
use crate::model::names::{FlowName, StepId};
use crate::plan::graph::Node;
use crate::plan::inside::Inside;
use crate::plan::moved;
use crate::plan::prepare::Prepared;

use super::Shared;
use super::unit::UnitEnd;
use super::unwind::Unwound;

type Ends = BTreeMap<StepId, UnitEnd>;

/// What was recorded at the end of a run.
#[derive(Debug, Default)]
pub struct Released {
    /// The release of its own flow; without one, that of a flow that went back inside.
    pub release: Option<u64>,
    /// What the end of the run says of the flows that went back inside.
    pub notes: Vec<String>,
    /// Why something could not be recorded.
    pub problem: Option<ReleaseError>,
}

/// How a run ended.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// All in all.
    pub outcome: RunOutcome,
    /// Step by step.
    pub ends: &'a Ends,
    /// What was taken back after a failure.
    pub unwound: Option<&'a Unwound>,
    /// From the beginning of the incident until all was healthy, milliseconds.
    pub healthy_after_ms: Option<u64>,
}

/// Records what stands now.
#[must_use]
pub fn record(shared: &Shared, end: End<'_>) -> Released {
    let p = &shared.prepared;
    let mut released = Released::default();
    // The run's own comes last: it is the one that its end names.
    for part in p.inside.values().map(|inside| Part::Inside(inside)).chain([Part::Own]) {
        let Some(release) = release(shared, end, part) else { continue };
        match (p.releases.write_once(release), part) {
            (Ok(written), Part::Inside(inside)) => {
                let to = inside.back.to.id;
                let at = if written.failed { "is not back" } else { "is back" };
                released
                    .notes
                    .push(format!("{} {at} at release {to}: release {}.", written.flow, written.id));
                released.release = Some(written.id);
            }
            (Ok(written), Part::Own) => released.release = Some(written.id),
            (Err(error), _) => released.problem = Some(error),
        }
    }
    released
}

/// Whose steps a release is about.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// The run's flow.
    Own,
    /// A flow that went back inside.
    Inside(&'a Inside),
}

impl Part<'_> {
    /// What a step is called in the releases of this flow; `None` for a step of another.
    fn own_id(self, p: &Prepared, id: &StepId) -> Option<StepId> {
        let node = node_of(p, id);
        if node.is_some_and(|node| node.added) {
            // No file has it.
            return None;
        }
        match (self, node.and_then(|node| node.guest.as_ref())) {
            (Part::Own, None) => Some(id.clone()),
            (Part::Inside(inside), Some(guest)) if guest.host == inside.host => Some(guest.id.clone()),
            _ => None,
        }
    }

    fn flow(self, p: &Prepared) -> FlowName {
        match self {
            Part::Own => p.flow.name.clone(),
            Part::Inside(inside) => inside.flow.name.clone(),
        }
    }

    fn current(self, p: &Prepared) -> Option<&Release> {
        match self {
            Part::Own => p.current.as_ref(),
            Part::Inside(inside) => p.inside.get(&inside.host).map(|inside| &inside.current),
        }
    }

    fn back_to(self, p: &Prepared) -> Option<u64> {
        match self {
            Part::Own => p.back.as_ref().map(|back| back.to.id),
            Part::Inside(inside) => Some(inside.back.to.id),
        }
    }

    fn params(self, shared: &Shared) -> BTreeMap<String, serde_json::Value> {
        match self {
            Part::Own => own_params(&shared.prepared, &shared.observed.plan.selection.params),
            Part::Inside(inside) => {
                inside.params.iter().map(|(name, value)| (name.clone(), value.to_json())).collect()
            }
        }
    }
}

/// The parameters of the run's own flow.
pub(super) fn own_params(
    p: &Prepared,
    all: &BTreeMap<String, serde_json::Value>,
) -> BTreeMap<String, serde_json::Value> {
    let own = |name: &String| p.inside.keys().all(|host| moved::own_name(host, name).is_none());
    all.iter().filter(|(name, _)| own(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn node_of<'a>(p: &'a Prepared, id: &StepId) -> Option<&'a Node> {
    p.graph.find_id(id).map(|id| p.graph.node(id))
}

/// The release of one flow, if there is anything to record.
fn release(shared: &Shared, end: End<'_>, part: Part<'_>) -> Option<Release> {
    let p = &shared.prepared;
    let plan = &shared.observed.plan;
    let deploys = |id: &StepId| {
        part.own_id(p, id).is_some()
            && node_of(p, id).is_some_and(|node| node.step.is_deploying(p.cloud.target().protected))
    };
    let succeeded = succeeded(shared, end, part);
    let is_back = |id: &StepId| end.unwound.is_some_and(|unwound| unwound.taken_back.contains(id));
    let changed =
        end.ends.iter().any(|(id, end)| end.outcome == StepOutcome::Succeeded && deploys(id) && !is_back(id));
    let first = part.current(p).is_none() && succeeded && plan.steps.iter().any(|step| deploys(&step.id));
    if !(changed || first) {
        return None;
    }
    let mut steps = stood(shared, part);
    for (id, end) in end.ends.iter().filter(|(id, _)| !is_back(id)) {
        if let (Some(own), Some(recorded)) = (part.own_id(p, id), end.recorded.clone()) {
            steps.insert(own, recorded);
        }
    }
    Some(Release {
        version: VERSION,
        id: 0,
        run: shared.run.clone(),
        flow: part.flow(p),
        environment: p.values.environment.clone(),
        created: p.world.clock.now(),
        failed: !succeeded,
        plan: plan.digest.clone(),
        commit: plan.source.commit.clone(),
        dirty: plan.source.dirty,
        by: p.world.host.operator(),
        adopted: false,
        rolled_back_to: part.back_to(p),
        healthy_after_ms: end.healthy_after_ms.filter(|_| matches!(part, Part::Own)),
        params: part.params(shared),
        steps,
    })
}

/// Whether all went well that the release is about. A flow that went back inside is back when its
/// own steps are, whatever became of the rest of the run.
fn succeeded(shared: &Shared, end: End<'_>, part: Part<'_>) -> bool {
    let p = &shared.prepared;
    if let Part::Own = part {
        return end.outcome == RunOutcome::Succeeded;
    }
    shared.observed.plan.steps.iter().filter(|step| part.own_id(p, &step.id).is_some()).all(|step| {
        let done = match end.ends.get(&step.id) {
            Some(end) => end.outcome.satisfies(),
            None => !step.action.will_run(),
        };
        done && !end.unwound.is_some_and(|unwound| unwound.taken_back.contains(&step.id))
    })
}

/// What was found as wanted.
fn stood(shared: &Shared, part: Part<'_>) -> BTreeMap<StepId, Recorded> {
    let p = &shared.prepared;
    let mut steps = BTreeMap::new();
    for step in shared.observed.plan.steps.iter().filter(|step| step.action == Action::UpToDate) {
        let Some(own) = part.own_id(p, &step.id) else { continue };
        if node_of(p, &step.id).is_some_and(|node| node.step.kind.nature == Nature::Gate) {
            continue;
        }
        let before = part.current(p).and_then(|release| release.steps.get(&own));
        let receipt = match (&step.receipt, before) {
            (serde_json::Value::Null, Some(before)) => before.receipt.clone(),
            (receipt, _) => receipt.clone(),
        };
        let outputs = step.outputs.iter().filter(|(_, value)| !value.is_secret());
        let recorded = Recorded {
            kind: step.kind.clone(),
            outputs: outputs.map(|(name, value)| (name.clone(), value.clone())).collect(),
            receipt,
            adopted: false,
        };
        steps.insert(own, recorded);
    }
    steps
}
