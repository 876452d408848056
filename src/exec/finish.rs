//! What is left when the last step is over: outcome and summary; the release is
//! in [`super::released`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{RunOutcome, StepOutcome};
use crate::model::kind::Nature;
use crate::model::names::StepId;
use crate::model::units::show_duration;
use crate::model::value::Field;
use crate::plan::graph::Node;
use crate::plan::scope::{RunFacts, StepScope, Values};
use crate::steps::Way;
use crate::world::cancel::Cancel;

use super::Shared;
use super::unit::UnitEnd;

type Ends = BTreeMap<StepId, UnitEnd>;

/// How the run ended, the worst of its steps deciding.
#[must_use]
pub fn outcome(shared: &Shared, ends: &Ends, cancel: &Cancel) -> RunOutcome {
    let has = |outcome| ends.values().any(|end| end.outcome == outcome);
    let goes_back = shared.prepared.back.is_some();
    if has(StepOutcome::Unknown) {
        RunOutcome::Unknown
    } else if cancel.is_stopping()
        || has(StepOutcome::Interrupted)
        || ends.values().any(|end| end.journal_down)
    {
        // What could not be recorded is not done: the run stands where its last record says.
        RunOutcome::Interrupted
    } else if goes_back && (has(StepOutcome::Failed) || half_refused(shared, ends)) {
        RunOutcome::RollbackFailed
    } else if has(StepOutcome::Failed) {
        RunOutcome::Failed
    } else if has(StepOutcome::Locked) {
        RunOutcome::Locked
    } else if has(StepOutcome::Refused) {
        RunOutcome::Refused
    } else if has(StepOutcome::Waiting) {
        RunOutcome::Waiting
    } else if unfinished(shared, ends) {
        // A step that should have run and did not, without any failure, is a defect: no success.
        RunOutcome::Failed
    } else {
        RunOutcome::Succeeded
    }
}

/// Whether something was done and something else was then refused or locked: no gate, which was only
/// closed.
fn half_refused(shared: &Shared, ends: &Ends) -> bool {
    let is_gate = |id: &StepId| node_of(shared, id).is_some_and(|node| node.step.kind.nature == Nature::Gate);
    let met = |outcome| matches!(outcome, StepOutcome::Refused | StepOutcome::Locked);
    let refused = ends.iter().any(|(id, end)| met(end.outcome) && !is_gate(id));
    refused && ends.iter().any(|(id, end)| end.outcome == StepOutcome::Succeeded && !is_gate(id))
}

fn node_of<'a>(shared: &'a Shared, id: &StepId) -> Option<&'a Node> {
    shared.prepared.graph.find_id(id).map(|id| shared.prepared.graph.node(id))
}

/// From the beginning of the incident until now, when a rollback has done all that it should:
/// checks come last in it.
#[must_use]
pub fn healthy_after(shared: &Shared, outcome: RunOutcome) -> Option<u64> {
    let incident = shared.prepared.back.as_ref()?.incident.filter(|_| outcome == RunOutcome::Succeeded)?;
    let now = shared.prepared.world.clock.now();
    u64::try_from(now.as_millisecond() - incident.as_millisecond()).ok()
}

fn unfinished(shared: &Shared, ends: &Ends) -> bool {
    let graph = &shared.prepared.graph;
    shared.observed.plan.to_run().any(|step| {
        let finally = graph.find_id(&step.id).is_some_and(|id| graph.node(id).finally);
        !finally && !ends.contains_key(&step.id)
    })
}

/// How the run ended once `finally` is through too: what went wrong there, and a signal that came
/// meanwhile, leave no success.
#[must_use]
pub fn after_finally(shared: &Shared, before: RunOutcome, ends: &Ends, cancel: &Cancel) -> RunOutcome {
    let unknown = ends.values().any(|end| end.outcome == StepOutcome::Unknown);
    match before {
        RunOutcome::Succeeded => match outcome(shared, ends, cancel) {
            RunOutcome::Succeeded if !any_failed(ends) => RunOutcome::Succeeded,
            // The rollback itself went well.
            RunOutcome::Succeeded | RunOutcome::RollbackFailed => RunOutcome::Failed,
            worse => worse,
        },
        RunOutcome::Failed
        | RunOutcome::Refused
        | RunOutcome::Locked
        | RunOutcome::Waiting
        | RunOutcome::Interrupted
            if unknown =>
        {
            RunOutcome::Unknown
        }
        before => before,
    }
}

/// Whether any step went wrong.
#[must_use]
pub fn any_failed(ends: &Ends) -> bool {
    ends.values().any(|end| !(end.outcome.satisfies() || end.outcome == StepOutcome::Skipped))
}

/// The exit code of an outcome; see the manual's page "Exit codes".
#[must_use]
pub fn exit_code(outcome: RunOutcome) -> u8 {
    match outcome {
        RunOutcome::Succeeded => 0,
        RunOutcome::Failed => 1,
        RunOutcome::Waiting => 3,
        RunOutcome::Locked => 4,
        RunOutcome::Refused => 5,
        RunOutcome::Interrupted => 6,
        RunOutcome::Unknown => 7,
        RunOutcome::RollbackFailed => 8,
        RunOutcome::RolledBack => 9,
    }
}

/// What `run.*` means at the end.
#[must_use]
pub fn run_facts(shared: &Shared, outcome: RunOutcome, ends: &Ends, took: Duration) -> RunFacts {
    let word = match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Interrupted => "interrupted",
        _ => "failed",
    };
    RunFacts {
        outcome: Some(word.to_owned()),
        failed: ends
            .iter()
            .filter(|(_, end)| !(end.outcome.satisfies() || end.outcome == StepOutcome::Skipped))
            .map(|(id, _)| id.to_string())
            .collect(),
        duration: Some(show_duration(took)),
        ..shared.prepared.values.run.clone()
    }
}

/// Why the environment cannot go back to the release that was live before, after what this run did.
#[must_use]
pub fn barred(shared: &Shared, ends: &Ends) -> Option<String> {
    let live = shared.prepared.live.as_ref()?;
    ends.iter().find_map(|(id, end)| {
        let recorded = end.recorded.as_ref()?;
        let to = live.steps.get(id).map(|before| before.receipt.clone());
        crate::steps::barred(&recorded.kind, &Way { now: recorded.receipt.clone(), to })
    })
}

/// The summary rows of the flow. A row that refers to something this run does not know is left out.
#[must_use]
pub fn summary(shared: &Arc<Shared>, facts: &RunFacts) -> Vec<(String, String)> {
    let p = &shared.prepared;
    let values = Values { run: facts.clone(), ..p.values.clone() };
    let scope = StepScope { values: &values, each: &[], steps: &shared.observed.table };
    let mut rows = Vec::new();
    for row in &p.flow.summary {
        let texts: Option<Vec<String>> = row
            .values
            .iter()
            .map(|template| match template.resolve(&scope) {
                Ok(Field::Known(value)) => value.as_text(),
                _ => None,
            })
            .collect();
        if let Some(texts) = texts {
            rows.push((row.name.clone(), texts.join("  ")));
        }
    }
    rows
}
