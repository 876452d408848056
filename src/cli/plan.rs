//! `flow plan FLOW --env ENV`

use std::sync::Arc;

use super::Done;
use super::failure::CliError;
use super::locking;
use super::selection::Selection;
use super::session::{Session, block_on};
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::journal::locks::Held;
use crate::plan::observe::{Observed, observe};
use crate::plan::prepare::{Prepared, Request};
use crate::report::plan_view::{GroupView, PlanView, RowView};
use crate::report::{out, plan_view};
use crate::world::cancel::{Cancel, Canceller, Urgency};

/// Ask the world what a run would change; changes nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,

    /// As JSON
    #[arg(long)]
    json: bool,

    /// Unchanged steps too
    #[arg(long)]
    all: bool,
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    block_on(async {
        let canceller = Arc::new(Canceller::new());
        // No run will record them.
        let _signals = Signals::listen(Arc::clone(&canceller));
        let (prepared, observed) = look(session, args.selection.request(), &canceller.view()).await?;
        if args.json {
            out::json(&observed.plan);
        } else {
            show(session, &prepared, &observed, &args.selection.command_line("run"), args.all);
        }
        Ok(Exit::Success)
    })
}

/// Makes a plan. After a signal its programs get their grace; what else goes on is let go at once.
pub(super) async fn look(
    session: &Session,
    request: Request,
    cancel: &Cancel,
) -> Result<(Prepared, Observed), CliError> {
    let work = async {
        let prepared = session.prepare(request, cancel).await?;
        let observed = observe(&prepared, cancel).await.map_err(CliError::Plan)?;
        Ok((prepared, observed))
    };
    unless_interrupted(cancel, work).await
}

/// Makes the plan of a run: under the locks of all that it may change, so that nothing of what is
/// seen can be changed by another run any more.
pub(super) async fn look_locked(
    session: &Session,
    request: Request,
    cancel: &Cancel,
) -> Result<(Prepared, Observed, Vec<Held>), CliError> {
    let work = async {
        let mut prepared = session.prepare(request.clone(), cancel).await?;
        prepared.check_branch()?;
        let locks = locking::take(session, &prepared.changes())?;
        if prepared.is_outdated()? {
            prepared = session.prepare(request, cancel).await?;
        }
        let observed = observe(&prepared, cancel).await.map_err(CliError::Plan)?;
        Ok((prepared, observed, locks))
    };
    unless_interrupted(cancel, work).await
}

async fn unless_interrupted<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let done = tokio::select! {
        biased;
        () = cancel.reached(Urgency::Killing) => return Err(CliError::Interrupted),
        done = work => done,
    };
    if cancel.is_stopping() { Err(CliError::Interrupted) } else { done }
}

/// The plan for people, on standard output.
pub(super) fn show(session: &Session, prepared: &Prepared, observed: &Observed, again: &str, all: bool) {
    let plan = &observed.plan;
    let mut groups: Vec<GroupView> = Vec::new();
    for step in &plan.steps {
        let heading = step.heading.as_ref().map(ToString::to_string).unwrap_or_default();
        let row = RowView {
            action: step.action,
            id: step.id.clone(),
            summary: step.summary.clone(),
            subject: step.subject.clone(),
            // What is known later is said once.
            changes: step
                .changes
                .iter()
                .filter(|change| change.to.as_ref() != Some(&step.summary))
                .cloned()
                .collect(),
            warnings: step.warnings.clone(),
            reversible: step.reversible,
        };
        match groups.last_mut().filter(|group| group.heading == heading) {
            Some(group) => group.rows.push(row),
            None => groups.push(GroupView { heading, rows: vec![row] }),
        }
    }
    let view = PlanView {
        flow: plan.flow.to_string(),
        environment: plan.environment.name.to_string(),
        account: plan.environment.account.clone(),
        region: plan.environment.region.clone(),
        commit: plan.source.commit.clone(),
        dirty: plan.source.dirty,
        back_to: plan.back_to,
        live_release: prepared.live.as_ref().map(|release| release.id),
        groups,
        notes: notes(prepared, observed),
        digest: plan.digest.clone(),
        next: vec![again.to_owned()],
    };
    for line in plan_view::lines(&session.look(), &view, all) {
        out::data(&line);
    }
}

/// What else to know before saying yes.
fn notes(prepared: &Prepared, observed: &Observed) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(back) = &prepared.back {
        if back.to.failed {
            notes.push(format!("Release {} is of a run that failed.", back.to.id));
        }
        notes.extend(back.stays.iter().map(|stays| format!("{stays}.")));
    }
    for step in observed.plan.to_run().filter(|step| step.kind == "approve") {
        notes.push(format!("Gate {} {}.", step.id, step.summary));
    }
    if let (false, Some(good)) = (prepared.selection.from_release.is_empty(), &prepared.good) {
        let steps: Vec<String> = prepared.selection.from_release.keys().map(ToString::to_string).collect();
        notes.push(format!("Taken from release {}: {}.", good.id, steps.join(", ")));
    }
    notes
}
