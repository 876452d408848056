//! The runs of a project, newest first, from the first and the last record of each journal.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::log::{self, ReadError, Record};
use crate::event::{Event, RunOutcome};
use crate::model::names::{EnvName, FlowName, RunId};
use crate::world::files::FileError;
use crate::world::store::Store;

/// Runs that ended well, as they were read before: a line each. Nothing is ever added to their
/// journals, so those need not be opened again. It can be lost.
const ENDED_WELL: &str = "runs-ended-well.jsonl";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub id: RunId,
    /// Its flow.
    pub flow: FlowName,
    /// Its environment.
    pub environment: EnvName,
    /// When it began.
    pub started: Timestamp,
    /// How long it took; for an interrupted one up to its last record, absent while it goes on.
    pub duration_ms: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it recorded an end; one that does not and does not go on has died.
    #[serde(skip)]
    pub closed: bool,
    /// The release it recorded.
    pub release: Option<u64>,
    /// The release that it was to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// The flows that went back inside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<FlowName>,
    /// Steps that it was going to run.
    pub to_run: usize,
    /// Commit of the checkout.
    pub commit: Option<String>,
    /// Who.
    pub by: String,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its process lives.
    Running,
    /// Its process is gone and it says no end, or a signal ended it.
    Interrupted,
    /// All that was selected is as wanted.
    Succeeded,
    /// A step failed.
    Failed,
    /// A gate waits.
    Waiting,
    /// A gate was closed, or flow refused.
    Refused,
    /// Somebody else held what a step needs.
    Locked,
    /// An effect of which nobody knows whether it was made.
    Unknown,
    /// It failed, and what was done before is taken back.
    RolledBack,
    /// Something could not be taken back.
    RollbackFailed,
}

impl From<RunOutcome> for Outcome {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Succeeded => Self::Succeeded,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Waiting => Self::Waiting,
            RunOutcome::Refused => Self::Refused,
            RunOutcome::Locked => Self::Locked,
            RunOutcome::Interrupted => Self::Interrupted,
            RunOutcome::Unknown => Self::Unknown,
            RunOutcome::RolledBack => Self::RolledBack,
            RunOutcome::RollbackFailed => Self::RollbackFailed,
        }
    }
}

/// The runs of a store, newest first. Ones whose first record is not whole did nothing and are
/// left out; ones that cannot be read are returned beside, each with its reason.
pub fn list(store: &Store) -> Result<(Vec<RunSummary>, Vec<ReadError>), FileError> {
    let mut runs = Vec::new();
    let mut unreadable = Vec::new();
    let mut ended_well = ended_well(store)?;
    let mut news = Vec::new();
    for name in store.list("runs")? {
        let id = RunId::new(name);
        if let Some(run) = ended_well.remove(&id) {
            runs.push(run);
            continue;
        }
        match summary(store, &id) {
            Ok(run) => {
                news.extend(run.iter().filter(|run| run.outcome == Outcome::Succeeded).map(line));
                runs.extend(run);
            }
            Err(error) => unreadable.push(error),
        }
    }
    if !news.is_empty() {
        // Only a reader's notes: a store that takes none is read the long way.
        let _ = store.grow(ENDED_WELL).and_then(|mut file| file.append(&news.concat()));
    }
    runs.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.id.cmp(&b.id)));
    Ok((runs, unreadable))
}

fn ended_well(store: &Store) -> Result<HashMap<RunId, RunSummary>, FileError> {
    let lines = store.get(ENDED_WELL)?.unwrap_or_default();
    let read = |line: &[u8]| serde_json::from_slice::<RunSummary>(line).ok();
    let runs = lines.split(|byte| *byte == b'\n').filter_map(read);
    Ok(runs.map(|run| (run.id.clone(), RunSummary { closed: true, ..run })).collect())
}

fn line(run: &RunSummary) -> Vec<u8> {
    // The line end first: what a writer that was killed left behind spoils no other line.
    let mut line = vec![b'\n'];
    line.extend(serde_json::to_vec(run).unwrap_or_default());
    line
}

/// Runs of an environment that may have left effects open: they died, or ended not knowing. Those
/// that cannot be read are left out: they are told by [`list`] and cannot be settled.
pub fn unsettled(store: &Store, environment: &EnvName) -> Result<Vec<RunSummary>, FileError> {
    let (runs, _) = list(store)?;
    let open = |run: &RunSummary| match run.outcome {
        Outcome::Interrupted => !run.closed,
        Outcome::Unknown => true,
        _ => false,
    };
    Ok(runs.into_iter().filter(|run| run.environment == *environment && open(run)).collect())
}

impl RunSummary {
    /// The flows whose releases it is about: its own and those that go back inside it.
    fn flows(&self) -> impl Iterator<Item = &FlowName> {
        std::iter::once(&self.flow).chain(&self.inside)
    }
}

/// A later run that is about the same flow in the same environment and began an effect.
pub fn overtaking(store: &Store, run: &RunSummary) -> Result<Option<RunId>, FileError> {
    let (runs, _) = list(store)?;
    // Newest first.
    let later = runs.into_iter().take_while(|other| other.id != run.id).filter(|other| {
        let same = other.flows().any(|flow| run.flows().any(|own| own == flow));
        same && other.environment == run.environment && other.started >= run.started
    });
    for other in later {
        let Ok(records) = log::read(store, &other.id) else { continue };
        if records.iter().any(|record| matches!(record.event, Event::Intent { .. })) {
            return Ok(Some(other.id));
        }
    }
    Ok(None)
}

/// One run; `None` when it never got to its first record.
pub fn summary(store: &Store, run: &RunId) -> Result<Option<RunSummary>, ReadError> {
    let key = log::key(run);
    // Asked before the end is looked for: a run that ends in between is then seen as ended.
    let alive = store.is_held(&key)?;
    let Some(ends) = store.ends(&key)? else { return Ok(None) };
    let read = |line: &[u8], what: &str| {
        serde_json::from_slice::<Record>(line).map_err(|error| ReadError::Damaged {
            run: run.clone(),
            line: 1,
            what: format!("{what}cannot be read: {error}"),
        })
    };
    let first = read(&ends.first, "")?;
    let last = read(&ends.last, "or the last one ")?;
    let Event::RunStarted(started) = first.event else {
        let what = "does not say what the run is".to_owned();
        return Err(ReadError::Damaged { run: run.clone(), line: 1, what });
    };
    let closed = matches!(last.event, Event::RunEnded(_));
    let so_far = u64::try_from(last.time.as_millisecond() - first.time.as_millisecond()).ok();
    let (outcome, duration_ms, release) = match last.event {
        Event::RunEnded(ended) => (ended.outcome.into(), Some(ended.duration_ms), ended.release),
        _ if alive => (Outcome::Running, None, None),
        _ => (Outcome::Interrupted, so_far, None),
    };
    Ok(Some(RunSummary {
        id: run.clone(),
        flow: started.flow,
        environment: started.environment,
        started: first.time,
        duration_ms,
        outcome,
        closed,
        release,
        back_to: started.back_to,
        inside: started.inside,
        to_run: started.to_run,
        commit: started.commit,
        by: started.by,
    }))
}

/// A run that could not be found by what was typed.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The file system's word.
    #[error(transparent)]
    File(#[from] FileError),
    /// No run begins like this.
    #[error("there is no run {0}")]
    None(String),
    /// Several do.
    #[error("several runs begin with {prefix}: {}", join(found))]
    Several {
        /// What was typed.
        prefix: String,
        /// The runs.
        found: Vec<RunId>,
    },
}

fn join(runs: &[RunId]) -> String {
    runs.iter().map(RunId::as_str).collect::<Vec<_>>().join(", ")
}

/// The run of that id, or the only one whose id begins so.
pub fn find(store: &Store, prefix: &str) -> Result<RunId, FindError> {
    let names = store.list("runs")?;
    if names.iter().any(|name| name == prefix) {
        return Ok(RunId::new(prefix));
    }
    let mut found: Vec<RunId> = names
        .into_iter()
        .filter(|name| !prefix.is_empty() && name.starts_with(prefix))
        .map(RunId::new)
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(other), false) => {
            found.push(other);
            Err(FindError::Several { prefix: prefix.to_owned(), found })
        }
        (None, _) => Err(FindError::None(prefix.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::{RunEnded, RunStarted, StepEnded, StepOutcome};
    use crate::journal::log::Journal;
    use crate::model::names::StepId;
    use crate::model::value::Outputs;
    use crate::world::clock::Clock;

    fn started(run: &RunId, flow: &str) -> Event {
        Event::RunStarted(RunStarted {
            version: 1,
            flow_version: "0.1.0".to_owned(),
            run: run.clone(),
            flow: FlowName::new(flow),
            environment: EnvName::new("prod"),
            account: None,
            region: None,
            plan: "7f3a".to_owned(),
            live: None,
            commit: None,
            dirty: None,
            params: BTreeMap::new(),
            by: "ada@build-7".to_owned(),
            break_glass: None,
            to_run: 1,
            unchanged: 0,
            planned: vec![StepId::parse("schema")],
            live_since: None,
            last_duration_ms: None,
            target_ms: None,
            again: String::new(),
            back_to: None,
            inside: Vec::new(),
            asked: serde_json::Value::Null,
        })
    }

    fn step_ended(outcome: StepOutcome, duration_ms: u64) -> Event {
        Event::StepEnded(StepEnded {
            step: StepId::parse("schema"),
            outcome,
            summary: String::new(),
            duration_ms,
            outputs: Outputs::new(),
            receipt: serde_json::Value::Null,
            failure: None,
        })
    }

    fn run_ended(outcome: RunOutcome, duration_ms: u64) -> Event {
        Event::RunEnded(RunEnded {
            outcome,
            exit: 0,
            duration_ms,
            release: Some(18),
            summary: Vec::new(),
            notes: Vec::new(),
            healthy_after_ms: None,
            barred: None,
        })
    }

    /// A run with these records after its first; alive as long as the journal.
    fn run(store: &Store, flow: &str, events: &[Event]) -> Journal {
        let mut journal = Journal::begin(store, Clock).unwrap();
        let first = started(&journal.run().clone(), flow);
        for event in std::iter::once(&first).chain(events) {
            journal.append(event, false).unwrap();
        }
        journal
    }

    #[test]
    fn a_run_without_an_end_goes_on_or_was_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        assert_eq!(list(&store).unwrap().0, []);
        drop(run(&store, "deploy", &[run_ended(RunOutcome::Failed, 2000)]));
        drop(run(&store, "deploy", &[step_ended(StepOutcome::Succeeded, 300)]));
        let alive = run(&store, "deploy", &[]);
        let begun = Journal::begin(&store, Clock).unwrap();

        let (mut runs, unreadable) = list(&store).unwrap();
        assert!(unreadable.is_empty(), "{unreadable:?}");
        assert_eq!(summary(&store, begun.run()).unwrap(), None, "nothing is known of it yet");
        runs.sort_by_key(|run| run.outcome as u8);
        let seen: Vec<_> =
            runs.iter().map(|run| (run.outcome, run.duration_ms.is_some(), run.release)).collect();
        assert_eq!(
            seen,
            [
                (Outcome::Running, false, None),
                (Outcome::Interrupted, true, None),
                (Outcome::Failed, true, Some(18))
            ]
        );
        drop(alive);
        let outcomes: Vec<Outcome> = list(&store).unwrap().0.iter().map(|run| run.outcome).collect();
        assert!(!outcomes.contains(&Outcome::Running), "{outcomes:?}");
    }

    #[test]
    fn a_journal_that_cannot_be_read_hides_no_other_run() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        drop(run(&store, "deploy", &[]));
        store.put("runs/bad1/journal.jsonl", b"nonsense\n").unwrap();
        let (runs, unreadable) = list(&store).unwrap();
        assert_eq!((runs.len(), unreadable.len()), (1, 1));
        assert!(unreadable[0].to_string().starts_with("line 1 of the journal of run bad1 cannot be read"));
    }

    #[test]
    fn a_run_is_found_by_the_beginning_of_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        for id in ["k3f9", "k3g2", "h2x4", "h2x4b"] {
            store.put(&format!("runs/{id}/journal.jsonl"), b"").unwrap();
        }
        for (prefix, expected) in [
            ("k3f9", Ok("k3f9")),
            ("k3g", Ok("k3g2")),
            ("h2x4", Ok("h2x4")),
            ("k", Err("several runs begin with k: k3f9, k3g2")),
            ("z", Err("there is no run z")),
            ("", Err("there is no run ")),
        ] {
            let found = find(&store, prefix).map_err(|error| error.to_string());
            assert_eq!(found.as_ref().map(RunId::as_str).map_err(String::as_str), expected, "{prefix}");
        }
    }
}
