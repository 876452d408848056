//! How long a flow and its steps took: one small file for each flow and
//! environment, kept up by every run that ran something, so that a run need not
//! read the journals of others. Only an estimate for whoever watches: it can be
//! lost, and what cannot be read or written is passed over.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, RunOutcome, StepOutcome, Subscriber};
use crate::model::names::{EnvName, FlowName, StepId};
use crate::world::store::Store;

/// How long things took before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// The last successful run that changed something, milliseconds.
    pub run_ms: Option<u64>,
    /// Each step, the last time it succeeded, milliseconds.
    pub steps: BTreeMap<StepId, u64>,
}

/// Keeps it up to date with a run.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    key: String,
    past: Past,
    changed: bool,
}

impl Keeper {
    /// What is known of a flow in an environment.
    #[must_use]
    pub fn new(store: Store, flow: &FlowName, environment: &EnvName) -> Self {
        let key = format!("past/{environment}/{flow}.json");
        let bytes = store.get(&key).ok().flatten();
        let past = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { store, key, past, changed: false }
    }

    /// As it was before this run.
    #[must_use]
    pub fn past(&self) -> &Past {
        &self.past
    }
}

impl Subscriber for Keeper {
    fn event(&mut self, _time: Timestamp, event: &Event) {
        match event {
            Event::StepEnded(ended) if ended.outcome == StepOutcome::Succeeded => {
                self.past.steps.insert(ended.step.clone(), ended.duration_ms);
                self.changed = true;
            }
            Event::RunEnded(ended) => {
                if ended.outcome == RunOutcome::Succeeded && ended.release.is_some() {
                    self.past.run_ms = Some(ended.duration_ms);
                    self.changed = true;
                }
                if self.changed {
                    let json = serde_json::to_vec(&self.past).unwrap_or_default();
                    let _ = self.store.remember(&self.key, &json);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, _now: Timestamp) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RunEnded, StepEnded};
    use crate::model::value::Outputs;

    fn step(name: &str, outcome: StepOutcome, duration_ms: u64) -> Event {
        Event::StepEnded(StepEnded {
            step: StepId::parse(name),
            outcome,
            summary: String::new(),
            duration_ms,
            outputs: Outputs::new(),
            receipt: serde_json::Value::Null,
            failure: None,
        })
    }

    fn end(outcome: RunOutcome, duration_ms: u64, release: Option<u64>) -> Event {
        Event::RunEnded(RunEnded {
            outcome,
            exit: 0,
            duration_ms,
            release,
            summary: Vec::new(),
            notes: Vec::new(),
            healthy_after_ms: None,
            barred: None,
        })
    }

    #[test]
    fn estimates_come_from_what_went_well() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let of = |flow: &str| Keeper::new(store.clone(), &FlowName::new(flow), &EnvName::new("prod"));
        let run = |flow: &str, events: &[Event]| {
            let mut keeper = of(flow);
            for event in events {
                keeper.event(Timestamp::UNIX_EPOCH, event);
            }
        };
        let ok = StepOutcome::Succeeded;
        run("deploy", &[step("schema", ok, 300), end(RunOutcome::Succeeded, 2000, Some(18))]);
        run("other", &[step("schema", ok, 900), end(RunOutcome::Succeeded, 9000, Some(19))]);
        run(
            "deploy",
            &[
                step("site", ok, 70),
                step("schema", StepOutcome::Failed, 5),
                end(RunOutcome::Failed, 50, Some(20)),
            ],
        );
        run("deploy", &[step("schema", StepOutcome::UpToDate, 1), end(RunOutcome::Succeeded, 3, None)]);
        let steps = BTreeMap::from([(StepId::parse("schema"), 300), (StepId::parse("site"), 70)]);
        assert_eq!(*of("deploy").past(), Past { run_ms: Some(2000), steps });
        store.put("past/prod/deploy.json", b"nonsense").unwrap();
        assert_eq!(*of("deploy").past(), Past::default());
    }
}
