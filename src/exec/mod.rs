//! Carries a plan out.
//!
//! ```text
//! scheduler ── starts ──▶ units (one a step) ── events ──▶ dispatcher ──▶ journal, logs, reports
//!     ▲                        │
//!     └──────── ends ──────────┘
//! ```
//!
//! The scheduler owns the graph's state and nothing else; a unit owns one
//! step's life; the dispatcher alone writes the journal and feeds the reports,
//! so events have one order. Signals reach units through [`Cancel`] only.

pub mod adopt;
pub mod claim;
pub mod dispatcher;
pub mod finish;
pub mod recover;
pub mod released;
pub mod scheduler;
pub mod signals;
pub mod unit;
pub mod unwind;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::event::{Event, Feed, Message, RunEnded, RunOutcome, RunStarted};
use crate::journal::past::Past;
use crate::journal::releases::ReleaseError;
use crate::journal::replay::RunState;
use crate::journal::sequence::{self, Taken};
use crate::model::change::Action;
use crate::model::names::{FlowName, RunId, StepId, StepName};
use crate::plan::observe::Observed;
use crate::plan::prepare::Prepared;
use crate::plan::scope::RunFacts;
use crate::steps::Answers;
use crate::steps::approve::Keeping;
use crate::world::cancel::Cancel;
use crate::world::clock::Moment;

use self::claim::Claim;
use self::dispatcher::Dispatcher;
use self::released::{End, Released};
use self::scheduler::Scheduler;
use self::signals::Signals;
use self::unit::UnitEnd;

/// How a run is to be carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// `-j`: how many steps at once; `None` for as many programs as there are cores.
    pub jobs: Option<usize>,
    /// `--keep-going`: a failure stops only what depends on it.
    pub keep_going: bool,
    /// Who answers gates.
    pub answers: Answers,
    /// How gates are treated.
    pub keeping: Arc<Keeping>,
}

/// What is needed to start a run.
pub struct Start {
    /// Everything that is the same for all steps.
    pub prepared: Prepared,
    /// The plan.
    pub observed: Observed,
    /// How.
    pub options: Options,
    /// The run's id.
    pub run: RunId,
    /// How long the flow and its steps took before.
    pub past: Past,
    /// The command line that does the same again.
    pub again: String,
    /// When it was asked for: the plan is part of what it takes.
    pub begun: Moment,
    /// The run as far as it came before, when it is resumed; that it is, is recorded already.
    pub resumed: Option<RunState>,
}

/// What is shared by all units of a run.
#[derive(Debug)]
pub struct Shared {
    /// Everything that is the same for all steps.
    pub prepared: Prepared,
    /// The plan and what is known of each step.
    pub observed: Observed,
    /// How.
    pub options: Options,
    /// The run's id.
    pub run: RunId,
    /// How long the flow and its steps took before.
    pub past: Past,
    /// Where events go.
    pub sender: mpsc::Sender<Message>,
    /// What the steps are run for.
    pub stage: Stage,
    /// The run's number, taken by its first effect.
    pub claim: Arc<Claim>,
}

/// What steps are run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// For what was asked for: a deploy, or a rollback to a release.
    Wanted,
    /// To take back what this run did.
    Unwinding,
}

impl Shared {
    /// Whether recorded states are returned to: then a failure stops only what depends on it.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        self.stage == Stage::Unwinding || self.prepared.back.is_some()
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: RunOutcome,
    /// Exit code.
    pub exit: u8,
}

/// How many events may wait for the dispatcher: a program that writes faster than the sinks take
/// it is held up instead of filling memory.
const QUEUE: usize = 1024;

/// Carries a plan out and records it.
pub async fn run(start: Start, dispatcher: Dispatcher, cancel: Cancel, signals: Signals) -> Ended {
    let Start { mut prepared, observed, options, run, past, again, begun, resumed } = start;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let began = resumed.as_ref().and_then(|state| state.began);
    prepared.values.run = RunFacts::of(&run, began.unwrap_or_else(|| prepared.world.clock.now()));
    let stage = Stage::Wanted;
    let claim = Arc::new(claim(&prepared, &observed, &run));
    let shared = Arc::new(Shared { prepared, observed, options, run, past, sender, stage, claim });
    let dispatching = tokio::spawn(dispatcher.run(receiver));
    let feed = Feed::new(StepId::plain(StepName::new("")), shared.sender.clone());
    let work = async {
        let before = resumed.as_ref().map(|state| recover::ends(state, &shared));
        if resumed.is_none() && feed.store(Event::RunStarted(started(&shared, again))).await.is_err() {
            // Nothing was done; the dispatcher has said why.
            return Ended { outcome: RunOutcome::Failed, exit: finish::exit_code(RunOutcome::Failed) };
        }
        announce_settled(&shared, &feed).await;
        if let Err(error) = adopt::first(&shared) {
            return unrecorded(&error, &feed, begun.elapsed()).await;
        }
        let mut ends = before.unwrap_or_default();
        // What was being taken back is taken back further.
        if !resumed.is_some_and(|state| state.unwinding) {
            ends.extend(Scheduler::new(Arc::clone(&shared), cancel.clone(), false).run().await);
        }
        finish(&shared, ends, &cancel, &feed, begun.elapsed()).await
    };
    let ended = tokio::select! {
        biased;
        never = signals.tell(&feed) => match never {},
        ended = work => ended,
    };
    drop((shared, feed));
    // The dispatcher ends when the last sender is gone; what it could not write it has said.
    let _ = dispatching.await;
    ended
}

fn claim(p: &Prepared, observed: &Observed, run: &RunId) -> Claim {
    let plan = &observed.plan;
    let wanted = |flow: &FlowName, number| {
        let (run, plan, time) = (run.clone(), plan.digest.clone(), p.world.clock.now());
        (flow.clone(), Taken { version: sequence::VERSION, number, run, plan, time })
    };
    let mut all = vec![wanted(&plan.flow, plan.sequence)];
    all.extend(plan.inside.iter().map(|inside| wanted(&inside.flow, inside.sequence)));
    Claim::new(p.world.store.clone(), plan.environment.name.clone(), all)
}

fn started(shared: &Shared, again: String) -> RunStarted {
    let p = &shared.prepared;
    let plan = &shared.observed.plan;
    RunStarted {
        version: crate::event::VERSION,
        flow_version: env!("CARGO_PKG_VERSION").to_owned(),
        run: shared.run.clone(),
        flow: p.flow.name.clone(),
        environment: plan.environment.name.clone(),
        account: plan.environment.account.clone(),
        region: plan.environment.region.clone(),
        plan: plan.digest.clone(),
        live: p.live.as_ref().map(|release| release.id),
        commit: plan.source.commit.clone(),
        dirty: plan.source.dirty,
        params: plan.selection.params.clone(),
        by: p.world.host.operator(),
        break_glass: shared.options.keeping.glass.clone(),
        to_run: plan.steps.iter().filter(|step| step.is_work()).count(),
        unchanged: plan.steps.iter().filter(|step| !step.is_work()).count(),
        planned: plan.steps.iter().filter(|step| step.is_work()).map(|step| step.id.clone()).collect(),
        live_since: p.live.as_ref().map(|release| release.created),
        again,
        back_to: plan.back_to,
        inside: plan.inside.iter().map(|inside| inside.flow.clone()).collect(),
        asked: serde_json::to_value(&p.request).unwrap_or_default(),
        last_duration_ms: shared.past.run_ms,
        target_ms: p.flow.target.map(|target| u64::try_from(target.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// A run that could not record what it found has done nothing.
async fn unrecorded(error: &ReleaseError, feed: &Feed, took: Duration) -> Ended {
    let outcome = RunOutcome::Failed;
    let ended = RunEnded {
        outcome,
        exit: finish::exit_code(outcome),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        release: None,
        summary: Vec::new(),
        notes: vec![format!(
            "What was found before the first change could not be recorded, so nothing was changed: {error}"
        )],
        healthy_after_ms: None,
        barred: None,
    };
    // Whatever keeps the release from being written may keep this from being written too.
    let _ = feed.store(Event::RunEnded(ended)).await;
    Ended { outcome, exit: finish::exit_code(outcome) }
}

async fn announce_settled(shared: &Shared, feed: &Feed) {
    let done = &shared.prepared.done;
    let settled = shared.observed.plan.steps.iter();
    for step in settled.filter(|step| !step.executes() && !done.contains_key(&step.id)) {
        let reason = if step.action == Action::Skipped { step.summary.clone() } else { String::new() };
        feed.send(Event::StepSettled {
            step: step.id.clone(),
            action: step.action,
            reason,
            outputs: step.outputs.clone(),
        })
        .await;
    }
}

/// Runs `finally`, records the release, and says how it ended.
async fn finish(
    shared: &Arc<Shared>,
    mut ends: BTreeMap<StepId, UnitEnd>,
    cancel: &Cancel,
    feed: &Feed,
    took: Duration,
) -> Ended {
    let mut outcome = finish::outcome(shared, &ends, cancel);
    let healthy = finish::healthy_after(shared, outcome);
    let unwound = unwind::unwind(shared, outcome, &ends, cancel, feed).await;
    if let Some(unwound) = &unwound {
        outcome = unwound.outcome;
    }
    let facts = finish::run_facts(shared, outcome, &ends, took);
    let at_end =
        Scheduler::new(Arc::clone(shared), cancel.clone(), true).with_facts(facts.clone()).run().await;
    ends.extend(at_end);
    let end = End { outcome, ends: &ends, unwound: unwound.as_ref(), healthy_after_ms: healthy };
    let Released { release, notes: went_back, problem } = released::record(shared, end);
    let mut outcome = finish::after_finally(shared, outcome, &ends, cancel);
    if let Some(problem) = problem {
        outcome = if outcome == RunOutcome::Succeeded { RunOutcome::Failed } else { outcome };
        feed.send(Event::Warning { text: format!("the release could not be recorded: {problem}") }).await;
    }
    if shared.options.keeping.glass.is_some() {
        let text =
            format!("somebody else has to review this run before the next one: flow review {}", shared.run);
        feed.send(Event::Warning { text }).await;
    }
    let summary = finish::summary(shared, &facts);
    let barred = finish::barred(shared, &ends);
    let ended = RunEnded {
        outcome,
        exit: finish::exit_code(outcome),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        release,
        summary,
        notes: unwound
            .map(|unwound| unwound.notes)
            .unwrap_or_default()
            .into_iter()
            .chain(went_back)
            .collect(),
        healthy_after_ms: healthy,
        barred,
    };
    let exit = ended.exit;
    // A journal that fails here has lost nothing but the last line; the step records are on disk.
    let _ = feed.store(Event::RunEnded(ended)).await;
    Ended { outcome, exit }
}
