//! `flow plan FLOW --env ENV`

use std::sync::Arc;

use super::Done;
use super::failure::CliError;
use super::launch::refuse_unknown;
use super::saved;
use super::locking;
use super::selection::Selection;
use super::session::{Session, block_on};
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::plan::document::Plan;
use crate::journal::locks::Held;
use crate::plan::observe::{Observed, observe};
use crate::plan::prepare::{Prepared, Request};
use crate::plan::saved::to_json;
use crate::report::plan_view::PlanView;
use crate::report::{out, plan_view};
use crate::world::cancel::{Cancel, Canceller, Urgency};
use crate::world::process::show_argv;

/// Ask the world what a run would change; changes nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,

    /// Save it in this file, to be approved and run as it is
    #[arg(long, value_name = "FILE")]
    out: Option<String>,

    /// As JSON
    #[arg(long)]
    json: bool,

    /// Unchanged steps too
    #[arg(long)]
    all: bool,
}

impl Args {
    /// What to type next.
    fn next(&self, plan: &Plan) -> Vec<String> {
        let run = self.selection.command_line("run");
        match &self.out {
            None => vec![self.selection.saving(&saved::file_name(plan)), run],
            Some(file) => {
                let words = ["flow", "run", plan.flow.as_str(), "--env", plan.environment.name.as_str()];
                let words = words.into_iter().chain(["--plan", file]).map(str::to_owned);
                vec![show_argv(&words.collect::<Vec<_>>())]
            }
        }
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    block_on(async {
        let canceller = Arc::new(Canceller::new());
        // No run will record them.
        let _signals = Signals::listen(Arc::clone(&canceller));
        let (prepared, observed) = look(session, args.selection.request(), &canceller.view()).await?;
        let plan = &observed.plan;
        if let Some(file) = &args.out {
            refuse_unknown(&observed)?;
            saved::write(session, &prepared, plan, file)?;
        }
        if args.json {
            out::json(&to_json(plan, &prepared.sealer));
        } else {
            show(session, plan, args.next(plan), args.all);
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
    unless_interrupted(cancel, Box::pin(work)).await
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
    unless_interrupted(cancel, Box::pin(work)).await
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
pub(super) fn show(session: &Session, plan: &Plan, next: Vec<String>, all: bool) {
    for line in plan_view::lines(&session.look(), &PlanView::of(plan, next), all) {
        out::data(&line);
    }
}
