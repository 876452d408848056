//! `flow plan FLOW --env ENV`

use std::sync::Arc;

use super::Done;
use super::approving::{ApprovalError, Said, as_it_stands, sign, statement};
use super::failure::CliError;
use super::launch::refuse_unknown;
use super::locking;
use super::recovery;
use super::saved;
use super::selection::Selection;
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::journal::approvals::{self, Decision, Place};
use crate::journal::locks::Held;
use crate::model::names::RunId;
use crate::plan::document::Plan;
use crate::plan::observe::{Observed, observe};
use crate::plan::prepare::{Prepared, Request};
use crate::plan::saved::to_json;
use crate::report::plan_view::PlanView;
use crate::report::{out, plan_view};
use crate::world::cancel::{Cancel, Canceller, Urgency};
use crate::world::process::show_argv;
use crate::world::store::Store;

/// Ask the world what a run would change; changes nothing
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,

    /// Save it in this file, to be approved and run as it is
    #[arg(long, value_name = "FILE")]
    out: Option<String>,

    /// Sign it as its maker: under four eyes whoever made a plan may not approve it
    #[arg(long)]
    sign: bool,

    /// The SSH key to sign with
    #[arg(long, value_name = "FILE")]
    key: Option<String>,

    /// The checkout may be a stranger's: start no program that it names, read no secret
    #[arg(long, conflicts_with_all = ["out", "sign"])]
    untrusted: bool,

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
            None if self.untrusted => Vec::new(),
            None => vec![self.selection.saving(&saved::file_name(plan)), run],
            Some(file) => {
                let words = ["flow", "run", plan.flow.as_str(), "--env", plan.environment.name.as_str()];
                let words = words.into_iter().chain(["--plan", file]).map(str::to_owned);
                vec![show_argv(&words.collect::<Vec<_>>())]
            }
        }
    }
}

impl Args {
    fn request(&self) -> Request {
        Request { untrusted: self.untrusted, ..self.selection.request() }
    }

    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Flow(self.selection.flow())
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    block_on(async {
        let canceller = Arc::new(Canceller::new());
        // No run will record them.
        let _signals = Signals::listen(Arc::clone(&canceller));
        let (prepared, observed) = look(session, args.request(), &canceller.view()).await?;
        let plan = &observed.plan;
        if let Some(file) = &args.out {
            refuse_unknown(&observed)?;
            saved::write(session, &prepared, plan, file)?;
        }
        if args.sign {
            refuse_unknown(&observed)?;
            saved::keep(&prepared, plan)?;
            sign_plan(session, &prepared, plan, args.key.as_deref())?;
        }
        if args.json {
            out::json(&to_json(plan, &prepared.sealer));
        } else {
            show(session, &prepared.world.store, plan, args.next(plan), args.all)?;
        }
        // The process ends here: giving a hundred thousand steps back one by one takes a while.
        std::mem::forget((observed, prepared.graph));
        Ok(Exit::Success)
    })
}

/// Signs a plan as its maker.
fn sign_plan(session: &Session, p: &Prepared, plan: &Plan, key: Option<&str>) -> Result<(), CliError> {
    let said = Said::of(Decision::Plan);
    let (signed, key) = sign(session, key, statement(plan, said).to_text())
        .map_err(|error| Box::new(ApprovalError::from(error)))?;
    approvals::put(&p.world.store, &plan.digest, Place::Plan, &key.file_name(), &signed)?;
    let line = key.to_line();
    let named = p.policies.all.iter().find_map(|policy| policy.owner(&line));
    let who = named.map_or_else(
        || format!("{}, who is on no list of approvers", key.fingerprint()),
        |person| person.name.clone(),
    );
    out::note(&format!("signed by {who}"));
    Ok(())
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
        let (prepared, locks) = Box::pin(prepare_locked(session, request, None, cancel)).await?;
        let observed = observe(&prepared, cancel).await.map_err(CliError::Plan)?;
        Ok((prepared, observed, locks))
    };
    unless_interrupted(cancel, Box::pin(work)).await
}

/// Prepares a run under its locks, once all that interrupted runs left open there is settled; `own`
/// is the run itself when it goes on.
pub(super) async fn prepare_locked(
    session: &Session,
    request: Request,
    own: Option<&RunId>,
    cancel: &Cancel,
) -> Result<(Prepared, Vec<Held>), CliError> {
    let mut prepared = session.prepare(request.clone(), cancel).await?;
    prepared.check_branch()?;
    let changes = prepared.changes();
    let locks = locking::take(session, &changes)?;
    for environment in &changes {
        Box::pin(recovery::settle_others(session, environment, own, cancel)).await?;
    }
    if prepared.is_outdated()? {
        prepared = session.prepare(request, cancel).await?;
    }
    Ok((prepared, locks))
}

pub(super) async fn unless_interrupted<T>(
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
pub(super) fn show(
    session: &Session,
    store: &Store,
    plan: &Plan,
    next: Vec<String>,
    all: bool,
) -> Result<(), CliError> {
    let plan = as_it_stands(plan, &approvals::all(store, &plan.digest)?);
    out::lines(plan_view::lines(&session.look(), &PlanView::of(&plan, next), all));
    Ok(())
}
