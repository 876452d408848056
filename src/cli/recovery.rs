//! What `resume`, `reconcile` and every run do about runs that were interrupted.

use super::failure::CliError;
use super::marking::refuse_unsigned;
use super::session::Session;
use crate::event::{Event, RunOutcome};
use crate::exec::recover::{Recovery, Unclear, facts};
use crate::journal::log::{Journal, Record, ResumeError};
use crate::journal::replay::RunState;
use crate::journal::runs::{self, RunSummary};
use crate::model::names::{EnvName, RunId};
use crate::plan::prepare::{Prepared, Request};
use crate::report::out;
use crate::world::cancel::Cancel;
use crate::world::clock::Clock;
use crate::world::process::show_argv;
use crate::world::store::Store;

/// Takes the journal of a run over whose process is gone.
pub(super) fn take_over(store: &Store, run: &RunId) -> Result<(Recovery, Vec<Record>), CliError> {
    let (journal, records) = Journal::resume(store, Clock, run)?;
    let recovery = Recovery { journal, state: RunState::replay(&records), news: Vec::new() };
    Ok((recovery, records))
}

/// What a run was asked for.
pub(super) fn request_of(run: &RunId, state: &RunState) -> Result<Request, CliError> {
    let started = state.started.as_ref();
    let asked = started.and_then(|started| serde_json::from_value::<Request>(started.asked.clone()).ok());
    let mut request = asked.ok_or_else(|| CliError::NotResumable {
        run: run.clone(),
        why: "it was begun by another version of flow".to_owned(),
        again: started.map(|started| started.again.clone()).unwrap_or_default(),
    })?;
    request.resumes = Some(run.clone());
    // What it goes back to was decided when it began.
    if let (Some(back), Some(to)) = (&mut request.back, started.and_then(|started| started.back_to)) {
        back.to = Some(to);
    }
    Ok(request)
}

/// Prepares what a run was asked for, as that run.
pub(super) async fn prepare_as(
    session: &Session,
    run: &RunId,
    state: &RunState,
    cancel: &Cancel,
) -> Result<Prepared, CliError> {
    let mut prepared = session.prepare(request_of(run, state)?, cancel).await?;
    prepared.values.run = facts(state, run, Clock.now());
    Ok(prepared)
}

/// Settles what other runs left open in an environment: those that died, and those that ended not
/// knowing. Asks, never changes anything; what stays unclear is an error.
pub(super) async fn settle_others(
    session: &Session,
    environment: &EnvName,
    own: Option<&RunId>,
    cancel: &Cancel,
) -> Result<(), CliError> {
    let store = session.store(Some(environment))?;
    for run in runs::unsettled(&store, environment)? {
        if own != Some(&run.id) {
            Box::pin(settle_other(session, &store, &run, cancel)).await?;
        }
    }
    Ok(())
}

async fn settle_other(
    session: &Session,
    store: &Store,
    run: &RunSummary,
    cancel: &Cancel,
) -> Result<(), CliError> {
    let (mut recovery, _) = match take_over(store, &run.id) {
        // It goes on after all, or somebody else settles it.
        Err(CliError::Resume(ResumeError::Alive(_) | ResumeError::Nothing(_))) => return Ok(()),
        taken => taken?,
    };
    let prepared = prepare_as(session, &run.id, &recovery.state, cancel).await;
    if let Ok(prepared) = &prepared {
        refuse_unsigned(session, prepared, &run.id, &mut recovery).await?;
    }
    let open = recovery.state.open();
    let unclear = match &prepared {
        Ok(prepared) => recovery.settle(prepared, cancel).await?,
        Err(error) => open
            .iter()
            .map(|(step, ..)| Unclear {
                step: step.clone(),
                why: format!("what run {} was about cannot be told any more: {error}", run.id),
            })
            .collect(),
    };
    let outcome = if unclear.is_empty() { RunOutcome::Interrupted } else { RunOutcome::Unknown };
    let notes = vec!["It was interrupted; a later run settled what it left open.".to_owned()];
    if unclear.is_empty() || prepared.is_ok() {
        recovery.close(prepared.as_ref().ok(), outcome, notes)?;
    }
    if !unclear.is_empty() {
        return Err(CliError::Unclear { run: run.id.clone(), unclear });
    }
    for (step, ..) in &open {
        let done = recovery.news.iter().find_map(|(_, event)| match event {
            Event::StepReconciled { step: settled, done, .. } if settled == step => *done,
            _ => None,
        });
        let was = if done == Some(true) { "was done" } else { "was not done" };
        out::note(&format!("run {} was interrupted in the middle of {step}: it {was}", run.id));
    }
    Ok(())
}

/// What to type about an effect that nobody can tell.
pub(super) fn mark_commands(run: &RunId, unclear: &[Unclear]) -> Vec<String> {
    let mark = |step: &Unclear, word: &str| {
        let mark = show_argv(&[format!("{}={word}", step.step)]);
        format!("flow reconcile {run} --mark {mark} --reason \"…\"")
    };
    let mut lines = Vec::new();
    for step in unclear {
        lines.push(format!("unknown: nobody can tell whether {} of run {run} was done", step.step));
        lines.push(format!("  {}", step.why));
        lines.push(format!("  it is done      {}", mark(step, "done")));
        lines.push(format!("  it is not done  {}", mark(step, "not-done")));
    }
    lines
}
