//! `flow resume RUN`

use std::sync::Arc;

use super::Done;
use super::failure::CliError;
use super::launch::{Manner, Ready, permitted, refuse_unknown};
use super::marking::refuse_unsigned;
use super::plan::{prepare_locked, unless_interrupted};
use super::recovery::{request_of, take_over};
use super::saved::{self, Refused};
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::event::{Event, RunOutcome, Subscriber};
use crate::exec::recover::{self, Recovery};
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::journal::locks::Held;
use crate::journal::log;
use crate::journal::replay::RunState;
use crate::journal::runs;
use crate::model::names::{RunId, StepId};
use crate::plan::compare::{Side, differences};
use crate::plan::observe::{Observed, observe};
use crate::plan::prepare::Prepared;
use crate::plan::saved::Refusal;
use crate::report::out;
use crate::world::cancel::{Cancel, Canceller};
use crate::world::clock::Clock;
use crate::world::scratch::Scratch;
use crate::world::store::Store;

/// Go on with a run that was interrupted, failed or waits
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run, or how its id begins
    run: String,

    #[command(flatten)]
    manner: Manner,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Run(&self.run)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let (store, run) = session.store_of_run(&args.run)?;
    let state = RunState::replay(&log::read(&store, &run)?);
    if has_succeeded(&state) {
        out::note(&format!("run {run} has succeeded: there is nothing left to do"));
        return Ok(Exit::Success);
    }
    refuse_unfit(&store, &run, &state)?;
    block_on(async {
        let begun = Clock.moment();
        let canceller = Arc::new(Canceller::new());
        let signals = Signals::listen(Arc::clone(&canceller));
        let cancel = canceller.view();
        let mut report = args.manner.report(session);
        let taken = Box::pin(take_up(session, &store, &run, &state, report.as_mut(), &cancel));
        let Some(Taken { prepared, observed, locks, recovery }) = unless_interrupted(&cancel, taken).await?
        else {
            return Ok(Exit::Unknown);
        };
        let Recovery { journal, state, .. } = recovery;
        let again = state.started.as_ref().map(|started| started.again.clone()).unwrap_or_default();
        let glass = permitted(session, &prepared, &observed, &args.manner, state.started.as_ref()).await?;
        let ready = Ready { prepared, observed, locks, journal, run, report, glass, resumed: Some(state) };
        Box::pin(ready.carry_out(again, &args.manner, (cancel, signals), begun)).await
    })
}

fn has_succeeded(state: &RunState) -> bool {
    state.ended.as_ref().is_some_and(|ended| ended.outcome == RunOutcome::Succeeded)
}

/// Whether there is something left of a run to go on with, as far as its records say.
pub(super) fn may_go_on(store: &Store, run: &RunId) -> Result<bool, CliError> {
    let state = RunState::replay(&log::read(store, run)?);
    match refuse_unfit(store, run, &state) {
        Ok(()) => Ok(!has_succeeded(&state)),
        Err(CliError::NotResumable { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Some runs are not gone on with, whatever they left.
fn refuse_unfit(store: &Store, run: &RunId, state: &RunState) -> Result<(), CliError> {
    let goes_back = state.started.as_ref().is_some_and(|started| started.back_to.is_some());
    let outcome = state.ended.as_ref().map(|ended| ended.outcome);
    if let (Some(RunOutcome::RolledBack | RunOutcome::RollbackFailed), false) = (outcome, goes_back) {
        return Err(CliError::NotResumable {
            run: run.clone(),
            why: "what it did was taken back".to_owned(),
            again: again(state),
        });
    }
    let Some(summary) = runs::summary(store, run)? else { return Ok(()) };
    if let Some(later) = runs::overtaking(store, &summary)? {
        return Err(CliError::NotResumable {
            run: run.clone(),
            why: format!("run {later} has changed {} since", summary.environment),
            again: again(state),
        });
    }
    Ok(())
}

fn again(state: &RunState) -> String {
    state.started.as_ref().map(|started| started.again.clone()).unwrap_or_default()
}

/// What is left of a run is carried out if it is still what the run began with: the files, and the
/// world of the steps that it has not touched yet.
fn refuse_changed(state: &RunState, prepared: &Prepared, observed: &mut Observed) -> Result<(), CliError> {
    let Some(started) = &state.started else { return Ok(()) };
    let plan = saved::of_run(prepared, &started.plan)?;
    let done = prepared.done.keys().cloned().collect();
    // The numbers that this run may have taken itself.
    observed.plan.sequence = plan.sequence;
    for inside in &mut observed.plan.inside {
        let then = plan.inside.iter().find(|then| then.step == inside.step);
        inside.sequence = then.map_or(inside.sequence, |then| then.sequence);
    }
    observed.plan.seal();
    let mut differences = differences(&plan, &observed.plan, &done);
    let begun = |step: &StepId| state.steps.get(step).is_some_and(|step| step.before.is_some());
    // An effect that was begun may have changed the world itself.
    let any_begun = state.steps.values().any(|step| step.before.is_some());
    differences.retain(|found| match &found.step {
        Some(step) => found.side != Side::World || !begun(step),
        // An effect that was begun can be all that makes the digest another.
        None => !(any_begun && found.what == "plan"),
    });
    if !differences.is_empty() {
        let refusal = Refusal::Changed { created: plan.created, differences };
        let new = Some(started.again.clone()).filter(|again| !again.is_empty());
        return Err(CliError::Refused(Box::new(Refused { refusal, new })));
    }
    // It stays the plan that the run began with, under the number that this run may have taken.
    let fresh = &mut observed.plan;
    (fresh.digest, fresh.sequence, fresh.created, fresh.expires) =
        (plan.digest, plan.sequence, plan.created, plan.expires);
    Ok(())
}

/// A run that was taken up again.
struct Taken {
    prepared: Prepared,
    observed: Observed,
    locks: Vec<Held>,
    recovery: Recovery,
}

/// Settles what the run left open and plans what is left of it; `None` when nobody can tell what
/// became of an effect.
async fn take_up(
    session: &Session,
    store: &Store,
    run: &RunId,
    state: &RunState,
    report: &mut dyn Subscriber,
    cancel: &Cancel,
) -> Result<Option<Taken>, CliError> {
    let request = request_of(run, state)?;
    let (mut prepared, locks) = Box::pin(prepare_locked(session, request, Some(run), cancel)).await?;
    Scratch::clear(&prepared.world.files)?;
    let (mut recovery, records) = take_over(store, run)?;
    recovery.journal = recovery.journal.under(locks.iter().map(Held::fence).collect());
    // Somebody may have gone on with it before the lock was free.
    refuse_unfit(store, run, &recovery.state)?;
    prepared.values.run = recover::facts(&recovery.state, run, Clock.now());
    for record in &records {
        report.recall(record.time, &record.event);
    }

    recovery.record(Some(&prepared), Event::RunResumed { by: session.host.operator() })?;
    refuse_unsigned(session, &prepared, run, &mut recovery).await?;
    let unclear = recovery.settle(&prepared, cancel).await?;
    if !unclear.is_empty() {
        recovery.close(Some(&prepared), RunOutcome::Unknown, Vec::new())?;
    }
    for (time, event) in recovery.news.drain(..) {
        report.event(time, &event);
    }
    if !unclear.is_empty() {
        return Ok(None);
    }
    prepared.done = recover::done(&recovery.state, &prepared);
    let mut observed = observe(&prepared, cancel).await.map_err(CliError::Plan)?;
    refuse_unknown(&observed)?;
    if let Err(refused) = refuse_changed(&recovery.state, &prepared, &mut observed) {
        let note = "It was to go on and was refused, since something has changed.".to_owned();
        recovery.close(Some(&prepared), RunOutcome::Refused, vec![note])?;
        return Err(refused);
    }
    Ok(Some(Taken { prepared, observed, locks, recovery }))
}
