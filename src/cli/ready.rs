//! `flow run … --check`, `flow rollback … --check`: prove that it could be done
//! now. They change nothing.
//!
//! Every step is looked at as a plan looks at it, and whatever else would stop a
//! run before its first effect is looked at too: the branch, the locks, gates
//! that are missing, a run that nobody reviewed. Whoever may run may also have
//! to go back: a check of a run proves that for the release that is live. Run
//! nightly they say `ready` and `rollback-ready`, or each reason why not.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::Done;
use super::failure::{CliError, words};
use super::launch::{Manner, permitted};
use super::locking::refuse_held;
use super::plan::look;
use super::session::{Session, block_on};
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::journal::releases::Releases;
use crate::model::change::Action;
use crate::model::units::{count, show_duration};
use crate::plan::backwards::{BackError, Wish};
use crate::plan::graph::unresolved;
use crate::plan::observe::{Observed, PlanFailure};
use crate::plan::prepare::{PrepareError, Prepared, Request};
use crate::plan::propose::NoProposal;
use crate::report::look::Look;
use crate::report::out;
use crate::world::cancel::{Cancel, Canceller};
use crate::world::clock::Clock;

/// Version of the JSON object.
const VERSION: u32 = 1;

/// Why it could not be done.
#[derive(Debug, Serialize)]
struct Reason {
    /// The step, or the environment.
    id: String,
    why: Vec<String>,
}

/// What would stop a run.
#[derive(Debug)]
struct Run {
    reasons: Vec<Reason>,
    /// Steps that would run, of how many; absent where no plan could be made.
    running: Option<(usize, usize)>,
    /// What the plan warns of.
    warnings: Vec<String>,
}

/// What would stop a rollback.
#[derive(Debug)]
struct Back {
    /// The release.
    to: u64,
    reasons: Vec<Reason>,
    /// What it would leave as it is.
    stays: Vec<String>,
}

/// `flow run … --check`
pub(super) fn run(session: &Session, request: Request, manner: &Manner, as_json: bool) -> Done {
    checked(|cancel| async move {
        let begun = Clock.moment();
        let (flow, environment) = (request.flow.clone(), request.environment.clone());
        let (run, prepared) = Box::pin(may_run(session, request.clone(), manner, &cancel)).await?;
        let back = may_return(session, request, &prepared, &cancel).await?;
        let ready = run.reasons.is_empty() && back.as_ref().is_none_or(|back| back.reasons.is_empty());
        if as_json {
            let back = back.as_ref().map(|back| {
                let ready = back.reasons.is_empty();
                json!({ "to": back.to, "ready": ready, "reasons": back.reasons, "stays": back.stays })
            });
            out::json(&json!({
                "version": VERSION, "flow": flow, "environment": environment, "ready": ready,
                "reasons": run.reasons, "runs": run.running.map(|(running, _)| running),
                "warnings": run.warnings, "rollback": back,
            }));
        } else {
            let look = session.look();
            let took = show_duration(begun.elapsed());
            let what = match run.running {
                _ if !run.reasons.is_empty() => format!("not ready: {}", count(run.reasons.len(), "reason")),
                Some((running, all)) => format!("ready: {running} of {} would run", count(all, "step")),
                None => "ready".to_owned(),
            };
            out::data(&look.text(&format!("{flow} → {environment}: {what} ({took})")));
            tell(&look, "  ", &run.reasons, &run.warnings);
            match &back {
                Some(back) => {
                    out::data(&look.text(&format!("  {}", back.says())));
                    tell(&look, "    ", &back.reasons, &back.stays);
                }
                None => out::data(&look.text("  no release yet that a rollback could return to")),
            }
        }
        Ok(if ready { Exit::Success } else { Exit::Refused })
    })
}

/// `flow rollback … --check`
pub(super) fn rollback(session: &Session, request: Request, as_json: bool) -> Done {
    checked(|cancel| async move {
        let begun = Clock.moment();
        let (flow, environment) = (request.flow.clone(), request.environment.clone());
        let back = may_go_back(session, request, &cancel).await?;
        let ready = back.reasons.is_empty();
        if as_json {
            out::json(&json!({
                "version": VERSION, "flow": flow, "environment": environment, "to": back.to,
                "ready": ready, "reasons": back.reasons, "stays": back.stays,
            }));
        } else {
            let look = session.look();
            let took = show_duration(begun.elapsed());
            out::data(&look.text(&format!("{flow} → {environment}: {} ({took})", back.says())));
            tell(&look, "  ", &back.reasons, &back.stays);
        }
        Ok(if ready { Exit::Success } else { Exit::Refused })
    })
}

/// Looks, and hears signals meanwhile: no run will record them.
fn checked<F: Future<Output = Done>>(check: impl FnOnce(Cancel) -> F) -> Done {
    block_on(async {
        let canceller = Arc::new(Canceller::new());
        let _signals = Signals::listen(Arc::clone(&canceller));
        Box::pin(check(canceller.view())).await
    })
}

async fn may_run(
    session: &Session,
    request: Request,
    manner: &Manner,
    cancel: &Cancel,
) -> Result<(Run, Prepared), CliError> {
    let mut run = Run { reasons: Vec::new(), running: None, warnings: Vec::new() };
    let prepared = match look(session, request.clone(), cancel).await {
        Ok((prepared, observed)) => {
            run.reasons.extend(unknown(&observed));
            run.running = Some((observed.plan.to_run().count(), observed.plan.steps.len()));
            run.warnings = warnings(&observed).collect();
            let allowed = permitted(session, &prepared, &observed, manner, None).await;
            run.reasons.extend(allowed.err().map(|error| environments(&prepared, session, &error)));
            prepared
        }
        Err(CliError::Plan(failures)) => {
            run.reasons.extend(failures.iter().map(reason));
            session.prepare(request, cancel).await?
        }
        Err(other) => return Err(other),
    };
    let branch = prepared.check_branch().map_err(CliError::from);
    let locks = refuse_held(session, &prepared.changes());
    let stops = [branch, locks].into_iter().filter_map(Result::err);
    run.reasons.extend(stops.map(|error| environments(&prepared, session, &error)));
    Ok((run, prepared))
}

/// Whether what is live could be returned to after the run; `None` where nothing is recorded.
async fn may_return(
    session: &Session,
    request: Request,
    prepared: &Prepared,
    cancel: &Cancel,
) -> Result<Option<Back>, CliError> {
    let releases = Releases::new(prepared.world.store.clone());
    let live = releases.good(&prepared.values.environment, &prepared.flow.name).map_err(BackError::from);
    let Some(live) = live.map_err(|error| CliError::Prepare(error.into()))? else { return Ok(None) };
    // The release says with which values.
    let request =
        Request { back: Some(Wish { to: Some(live.id), incident: None }), params: Vec::new(), ..request };
    match may_go_back(session, request, cancel).await {
        Ok(back) => Ok(Some(back)),
        // It records nothing of what is selected: there is nothing to take back.
        Err(CliError::Prepare(PrepareError::Back(BackError::Empty { .. }))) => {
            Ok(Some(Back { to: live.id, reasons: Vec::new(), stays: Vec::new() }))
        }
        Err(other) => Err(other),
    }
}

async fn may_go_back(session: &Session, request: Request, cancel: &Cancel) -> Result<Back, CliError> {
    let (reasons, stays, to) = match look(session, request.clone(), cancel).await {
        Ok((prepared, observed)) => {
            (unknown(&observed).collect(), stays(&prepared, &observed), prepared.back.clone())
        }
        Err(CliError::Plan(failures)) => {
            let prepared = session.prepare(request, cancel).await?;
            (failures.iter().map(reason).collect(), Vec::new(), prepared.back)
        }
        Err(other) => return Err(other),
    };
    Ok(Back { to: to.map_or(0, |back| back.to.id), reasons, stays })
}

impl Back {
    fn says(&self) -> String {
        let Self { to, reasons, .. } = self;
        match reasons.len() {
            0 => format!("rollback-ready: release {to}"),
            many => format!("not rollback-ready: {} against release {to}", count(many, "reason")),
        }
    }
}

fn tell(look: &Look, indent: &str, reasons: &[Reason], notes: &[String]) {
    for Reason { id, why } in reasons {
        let mut lines = why.iter();
        let first = lines.next().map_or("", String::as_str);
        out::data(&look.text(&format!("{indent}{id}  {first}")));
        for line in lines {
            out::data(&look.text(&format!("{indent}  {line}")));
        }
    }
    for line in notes {
        out::data(&look.text(&format!("{indent}{line}")));
    }
}

/// What stops a run before any of its steps.
fn environments(prepared: &Prepared, session: &Session, error: &CliError) -> Reason {
    let (lines, _) = words(error, Some(session));
    let bare = |line: &String| {
        let line = line.trim();
        let word = ["error: ", "refused: "].iter().find_map(|word| line.strip_prefix(word));
        word.unwrap_or(line).to_owned()
    };
    Reason { id: prepared.values.environment.to_string(), why: lines.iter().map(bare).collect() }
}

fn reason(failure: &PlanFailure) -> Reason {
    let why = match &failure.why {
        NoProposal::Unresolved(error) => vec![unresolved(error).message],
        NoProposal::Failure(said) => {
            let record = &said.record;
            std::iter::once(&record.reason).chain(&record.details).chain(&record.help).cloned().collect()
        }
    };
    Reason { id: failure.step.to_string(), why }
}

/// What could not be asked is not proven.
fn unknown(observed: &Observed) -> impl Iterator<Item = Reason> {
    let unknown = observed.plan.steps.iter().filter(|step| step.action == Action::Unknown);
    unknown.map(|step| Reason {
        id: step.id.to_string(),
        why: std::iter::once(&step.summary).chain(&step.warnings).cloned().collect(),
    })
}

fn warnings(observed: &Observed) -> impl Iterator<Item = String> {
    let known = observed.plan.steps.iter().filter(|step| step.action != Action::Unknown);
    known.flat_map(|step| step.warnings.iter().map(move |text| format!("{}  {text}", step.id)))
}

/// What the rollback would leave as it is.
fn stays(prepared: &Prepared, observed: &Observed) -> Vec<String> {
    let named = prepared.back.iter().flat_map(|back| &back.stays).map(ToString::to_string);
    named.chain(warnings(observed)).collect()
}
