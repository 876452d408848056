//! What an interrupted run left: which steps are done, and what became of the
//! effects that were announced and have no recorded end.
//!
//! Nothing here changes the world. An open effect is asked about with
//! [`Step::reconcile`]; what came of it is recorded right away, so that a
//! second interruption finds it settled.
//!
//! [`Step::reconcile`]: crate::steps::Step::reconcile

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::event::{
    Event, FailureRecord, Feed, JournalDown, RunEnded, RunOutcome, StepEnded, StepOutcome, Teller,
};
use crate::journal::log::Journal;
use crate::journal::plans;
use crate::journal::releases::{Recorded, Release, ReleaseError, VERSION};
use crate::journal::replay::{Phase, RunState, StepState};
use crate::model::change::Action;
use crate::model::kind::Nature;
use crate::model::names::{RunId, StepId, StepName};
use crate::model::value::Field;
use crate::plan::basis::{Symbolic, definition};
use crate::plan::graph::{Goal, Node};
use crate::plan::known::Table;
use crate::plan::observe::context;
use crate::plan::prepare::{DoneBefore, Prepared};
use crate::plan::propose::{NoProposal, step_of};
use crate::plan::saved;
use crate::plan::scope::{Known, RunFacts, StepScope};
use crate::steps::{Done, FailureClass, Open, Settled, Way};
use crate::world::cancel::Cancel;

use super::released::own_params;
use super::unit::UnitEnd;
use super::{Shared, finish};

/// An effect of which nobody but a person can say whether it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear {
    /// The step.
    pub step: StepId,
    /// Why it cannot be told.
    pub why: String,
}

/// A run whose journal was taken over, while it is being settled.
#[derive(Debug)]
pub struct Recovery {
    /// Its journal.
    pub journal: Journal,
    /// What its journal adds up to.
    pub state: RunState,
    /// What was recorded since it was taken over, for whoever shows it.
    pub news: Vec<(Timestamp, Event)>,
}

/// An effect could not be asked about or its answer could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalDown),
    /// A signal came.
    #[error("interrupted while it was asked what was done; nothing was changed")]
    Interrupted,
    /// What the run had finished cannot be recorded.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

impl Recovery {
    /// Puts an event on disk.
    pub fn record(&mut self, p: Option<&Prepared>, event: Event) -> Result<(), JournalDown> {
        let event = match p {
            Some(p) => event.map_text(&|text| p.world.masker.mask(text).into_owned()),
            None => event,
        };
        let time = self.journal.append(&event, true)?;
        self.state.apply(time, &event);
        self.news.push((time, event));
        Ok(())
    }

    /// Asks about every open effect, one after the other, and records what is said. Returns those of
    /// which nobody can tell.
    pub async fn settle(&mut self, p: &Prepared, cancel: &Cancel) -> Result<Vec<Unclear>, RecoverError> {
        let mut open = self.state.open();
        let place = |id: &StepId| p.graph.find_id(id).map_or(usize::MAX, |id| id.0);
        open.sort_by_key(|(id, ..)| place(id));
        let table = remembered(&self.state, p);
        let mut unclear = Vec::new();
        for (step, intent, notes) in open {
            let open = Open { intent, notes };
            let settled = if self.state.unwinding && !is_program(p, &step) {
                // Its way back begins with a look at the world and is the same however often it is gone.
                let receipt =
                    self.state.steps.get(&step).map(|step| step.receipt.clone()).unwrap_or_default();
                Settled::Done(Done { receipt, ..Done::default() })
            } else {
                self.ask(p, &table, &step, &open, cancel).await?
            };
            if let Settled::Done(done) = &settled {
                let outputs = Arc::new(done.outputs.clone());
                table.set(&step, Known::Outputs { outputs, changed: true });
            }
            if let Settled::Ambiguous(why) = &settled {
                unclear.push(Unclear { step: step.clone(), why: why.clone() });
            }
            self.conclude(p, &step, settled, &Teller::World)?;
        }
        Ok(unclear)
    }

    /// Records what became of an effect.
    pub fn conclude(
        &mut self,
        p: &Prepared,
        step: &StepId,
        settled: Settled,
        by: &Teller,
    ) -> Result<(), JournalDown> {
        let took = self.state.steps.get(step).map(took).unwrap_or_default();
        let undone = is_program(p, step) && self.way_back(step).is_some();
        for mut event in events(step, settled, by, took) {
            if let (Event::StepEnded(ended), true) = (&mut event, undone)
                && ended.outcome == StepOutcome::Succeeded
            {
                ended.outcome = StepOutcome::RolledBack;
            }
            self.record(Some(p), event)?;
        }
        Ok(())
    }

    /// What can be said of an effect; what cannot be asked is nobody's to tell.
    pub async fn ask(
        &self,
        p: &Prepared,
        table: &Table,
        step: &StepId,
        open: &Open,
        cancel: &Cancel,
    ) -> Result<Settled, RecoverError> {
        if let Some(why) = self.acts_elsewhere(p, table, step) {
            return Ok(Settled::Ambiguous(why));
        }
        let about = About { step, way: self.way_back(step), open };
        let asked = ask(p, table, self.journal.run(), about, cancel);
        match cancel.unless_stopped(asked).await {
            Ok(Ok(settled)) => Ok(settled),
            Ok(Err(why)) => Ok(Settled::Ambiguous(why)),
            Err(_) => Err(RecoverError::Interrupted),
        }
    }

    /// Why a step cannot be asked about: by the files of now it acts on something else than it did.
    fn acts_elsewhere(&self, p: &Prepared, table: &Table, step: &StepId) -> Option<String> {
        let started = self.state.started.as_ref()?;
        let found = plans::find(&p.world.store, &started.plan).ok();
        let plan = found.and_then(|(_, bytes)| saved::read(&bytes).ok()?.verify(&p.sealer).ok());
        let Some(plan) = plan else {
            return Some(
                "what it was to act on is not known: its plan is not in the store as it was".to_owned(),
            );
        };
        let now = p.cloud.target();
        let place = &plan.environment;
        let then = plan.steps.iter().find(|planned| planned.id == *step)?;
        let node = node_of(p, step)?;
        let scope = StepScope { values: &p.values, each: &node.each, steps: table };
        let selected = |step: &StepId| p.graph.find_id(step).is_some_and(|id| p.selection.contains(id));
        let symbolic = Symbolic { scope: &scope, selected: &selected };
        let rows = definition(node, &symbolic, &p.world.host, &p.sealer).ok()?;
        let targets = node.step.kind.settings.iter().filter(|setting| setting.target).map(|s| s.name);
        let moved = targets.filter(|name| then.basis.definition.get(name) != rows.get(name));
        let mut others: Vec<&str> = moved.collect();
        if (&place.account, &place.region) != (&now.account, &now.region) {
            others.push("account or region");
        }
        if others.is_empty() {
            return None;
        }
        let files = match &started.commit {
            Some(commit) => format!("the files of then (commit {})", commit.get(..12).unwrap_or(commit)),
            None => "the files of then".to_owned(),
        };
        Some(format!(
            "{} is another one now than when the run began; ask with {files}: flow reconcile {}",
            others.join(", "),
            started.run
        ))
    }

    /// How a step goes back whose effect began to be taken back.
    fn way_back(&self, step: &StepId) -> Option<Way> {
        let step = self.state.steps.get(step).filter(|step| step.undoes.is_some())?;
        let to = step.before.clone().filter(|before| !before.is_null());
        Some(Way { now: step.receipt.clone(), to })
    }

    /// Ends a run that does not go on: what it had finished is recorded as a failed release, so that
    /// nobody takes it for undone.
    pub fn close(
        &mut self,
        p: Option<&Prepared>,
        outcome: RunOutcome,
        notes: Vec<String>,
    ) -> Result<(), RecoverError> {
        let release = match p {
            Some(p) => self.failed_releases(p)?,
            None => None,
        };
        let (began, last) = (self.state.began, self.state.last);
        let duration_ms = began
            .zip(last)
            .and_then(|(began, last)| u64::try_from(last.as_millisecond() - began.as_millisecond()).ok());
        let ended = RunEnded {
            outcome,
            exit: finish::exit_code(outcome),
            duration_ms: duration_ms.unwrap_or_default(),
            release,
            summary: Vec::new(),
            notes,
            healthy_after_ms: None,
            barred: None,
        };
        self.record(p, Event::RunEnded(ended))?;
        Ok(())
    }

    /// What it had finished, for each flow that it was about; the number of the last one.
    fn failed_releases(&self, p: &Prepared) -> Result<Option<u64>, ReleaseError> {
        let Some(started) = &self.state.started else { return Ok(None) };
        let done = self.state.steps.iter().filter(|(_, step)| {
            // Only effects have a state that stood before them.
            step.before.is_some() && step.phase == Phase::Ended(StepOutcome::Succeeded)
        });
        let mut by_host: BTreeMap<Option<&StepName>, BTreeMap<StepId, Recorded>> = BTreeMap::new();
        for (id, step) in done {
            let Some(node) = node_of(p, id) else { continue };
            let (outputs, receipt) = (step.outputs.clone(), step.receipt.clone());
            let recorded =
                Recorded { kind: node.step.kind.name.to_owned(), outputs, receipt, adopted: false };
            let guest = node.guest.as_ref();
            let own = guest.map_or(id, |guest| &guest.id);
            by_host.entry(guest.map(|guest| &guest.host)).or_default().insert(own.clone(), recorded);
        }
        let mut last = None;
        // The run's own comes last, as at the end of any run.
        for (host, steps) in by_host.into_iter().rev() {
            let inside = host.and_then(|host| p.inside.get(host));
            let params = match inside {
                Some(one) => one.params.iter().map(|(name, value)| (name.clone(), value.to_json())).collect(),
                None => own_params(p, &started.params),
            };
            let release = Release {
                version: VERSION,
                id: 0,
                run: started.run.clone(),
                flow: inside.map_or(&started.flow, |inside| &inside.flow.name).clone(),
                environment: started.environment.clone(),
                created: p.world.clock.now(),
                failed: true,
                plan: started.plan.clone(),
                commit: started.commit.clone(),
                dirty: started.dirty,
                by: started.by.clone(),
                adopted: false,
                rolled_back_to: inside.map(|inside| inside.back.to.id),
                healthy_after_ms: None,
                params,
                steps,
            };
            last = Some(p.releases.write_once(release)?.id);
        }
        Ok(last)
    }
}

/// What is to be recorded of an effect about which something is known now. Steps whose effect was
/// made end with it: with all that a later reader needs of them.
#[must_use]
pub fn events(step: &StepId, settled: Settled, by: &Teller, duration_ms: u64) -> Vec<Event> {
    let said = |done| Event::StepReconciled { step: step.clone(), done, by: by.clone() };
    let ended = |outcome, done: Done, failure| {
        Event::StepEnded(StepEnded {
            step: step.clone(),
            outcome,
            summary: done.summary,
            duration_ms,
            outputs: done.outputs.into_iter().filter(|(_, value)| !value.is_secret()).collect(),
            receipt: done.receipt,
            failure,
        })
    };
    match settled {
        Settled::Done(done) => vec![said(Some(true)), ended(StepOutcome::Succeeded, done, None)],
        Settled::NotDone => vec![said(Some(false))],
        Settled::Ambiguous(why) => {
            let failure = FailureRecord {
                reason: "nobody can tell whether it was done".to_owned(),
                details: vec![why],
                help: None,
            };
            vec![said(None), ended(StepOutcome::Unknown, Done::default(), Some(failure))]
        }
    }
}

/// An effect that is asked about.
#[derive(Debug)]
pub struct About<'a> {
    /// Its step.
    pub step: &'a StepId,
    /// The way that the step was going back, when that is the effect.
    pub way: Option<Way>,
    /// What is recorded of it.
    pub open: &'a Open,
}

/// Asks whether an effect was made; why that cannot be said otherwise.
pub async fn ask(
    p: &Prepared,
    table: &Table,
    run: &RunId,
    About { step, way, open }: About<'_>,
    cancel: &Cancel,
) -> Result<Settled, String> {
    let Some(id) = p.graph.find_id(step) else { return Err("the flow has no such step any more".to_owned()) };
    let mut node = p.graph.node(id).clone();
    if let Some(way) = way {
        node.goal = Some(Goal::Recorded(Arc::new(way)));
    }
    let node = &node;
    let scope = StepScope { values: &p.values, each: &node.each, steps: table };
    let made = match step_of(node, &scope) {
        Ok(Field::Known(made)) => made,
        Ok(Field::After(other)) => {
            return Err(format!("it refers to what {other} hands on, which is not recorded"));
        }
        Err(NoProposal::Failure(failure)) => return Err(failure.record.reason),
        Err(NoProposal::Unresolved(error)) => return Err(error.why.to_string()),
    };
    let mut cx = context(p, id, Feed::silent(node.id.clone()), cancel.clone());
    cx.run = Some(run.clone());
    made.reconcile(open, &cx).await.map_err(|failure| match failure.class {
        FailureClass::Missing => format!("what it acts on cannot be found: {}", failure.record.reason),
        _ => failure.record.reason,
    })
}

/// What the journal knows of outputs: enough to say again what an effect was about.
fn remembered(state: &RunState, p: &Prepared) -> Table {
    let table = Table::new(p);
    for (id, step) in &state.steps {
        let outputs = Arc::new(step.outputs.clone());
        match &step.phase {
            Phase::Ended(outcome) if outcome.satisfies() => {
                let changed = matches!(outcome, StepOutcome::Succeeded | StepOutcome::Cached);
                table.set(id, Known::Outputs { outputs, changed });
            }
            Phase::Settled(Action::Skipped) => table.set(id, Known::Skipped(step.summary.clone())),
            Phase::Settled(_) => table.set(id, Known::Outputs { outputs, changed: false }),
            _ => {}
        }
    }
    table
}

/// The steps that a run need not do again. Steps that found nothing to do are looked at again, and
/// steps that handed on secrets are done again: those are recorded nowhere.
#[must_use]
pub fn done(state: &RunState, p: &Prepared) -> BTreeMap<StepId, DoneBefore> {
    let is_done = |id: &StepId, step: &StepState| {
        // What stands in `finally` belongs to the end of a run, of which there may have been one.
        let of_an_end = node_of(p, id).is_some_and(|node| node.finally)
            && state.closed.is_some_and(|closed| step.pass <= closed);
        // What somebody signed may have expired, or the list may be another: such a gate asks again.
        let asks_again = crate::steps::approve::was_signed(&step.receipt);
        step.phase == Phase::Ended(StepOutcome::Succeeded) && !step.hides && !of_an_end && !asks_again
    };
    let done = state.steps.iter().filter(|(id, step)| is_done(id, step));
    done.map(|(id, step)| {
        let before = DoneBefore {
            summary: step.summary.clone(),
            outputs: step.outputs.clone(),
            receipt: step.receipt.clone(),
        };
        (id.clone(), before)
    })
    .collect()
}

/// How the steps of a resumed run ended before: those that are done, and all of them when what the
/// run did was being taken back.
pub(super) fn ends(state: &RunState, shared: &Shared) -> BTreeMap<StepId, UnitEnd> {
    let p = &shared.prepared;
    let end = |outcome, recorded| UnitEnd {
        outcome,
        blocked: false,
        journal_down: false,
        recorded,
        stays: Vec::new(),
    };
    let mut ends = BTreeMap::new();
    if state.unwinding {
        for (id, step) in &state.steps {
            if let Phase::Ended(outcome) = step.phase {
                ends.insert(id.clone(), end(outcome, None));
            }
        }
    }
    for (id, done) in &p.done {
        let Some(node) = node_of(p, id) else { continue };
        let recorded = Recorded {
            kind: node.step.kind.name.to_owned(),
            outputs: done.outputs.clone(),
            receipt: done.receipt.clone(),
            adopted: false,
        };
        ends.insert(id.clone(), end(StepOutcome::Succeeded, Some(recorded)));
    }
    ends
}

/// What `run.id` and `run.time` are for a run that began before.
#[must_use]
pub fn facts(state: &RunState, run: &RunId, now: Timestamp) -> RunFacts {
    RunFacts::of(run, state.began.unwrap_or(now))
}

fn node_of<'a>(p: &'a Prepared, id: &StepId) -> Option<&'a Node> {
    p.graph.find_id(id).map(|id| p.graph.node(id))
}

fn is_program(p: &Prepared, id: &StepId) -> bool {
    node_of(p, id).is_some_and(|node| node.step.kind.nature == Nature::Program)
}

/// How long an effect had been under way when it was begun, in milliseconds.
pub(super) fn took(step: &StepState) -> u64 {
    let since = step.intent.as_ref().map(|intent| intent.since);
    let span = step.began.zip(since).map(|(began, since)| since.as_millisecond() - began.as_millisecond());
    span.and_then(|span| u64::try_from(span).ok()).unwrap_or_default()
}
