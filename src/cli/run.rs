//! `flow run FLOW --env ENV`, `flow run --plan FILE|DIGEST`

use super::Done;
use super::launch::{Launch, Manner};
use super::ready;
use super::saved::command_line;
use super::selection::{Asked, Planned};
use super::session::Session;
use super::workspace::Subject;
use crate::plan::saved;

/// Plan a flow, pass its gates and carry it out
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    planned: Planned,

    /// Only show the plan
    #[arg(long)]
    dry_run: bool,

    /// Only prove that it could be run now, and that what is live could be returned to; 5 where not
    #[arg(long, conflicts_with_all = ["dry_run", "plan", "break_glass"])]
    check: bool,

    /// As JSON, with --check
    #[arg(long, requires = "check")]
    json: bool,

    #[command(flatten)]
    manner: Manner,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        self.planned.subject()
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let (request, again, saved) = match args.planned.asked(session)? {
        Asked::Now { request, .. } if args.check => {
            return ready::run(session, *request, &args.manner, args.json);
        }
        Asked::Now { request, again } => (*request, again, None),
        Asked::Saved(plan) => {
            let request = saved::request(&plan);
            let command = if plan.back_to.is_some() { "rollback" } else { "run" };
            (request.clone(), command_line(&request, command, &[]), Some(plan))
        }
    };
    Launch { session, request, again, saved, dry_run: args.dry_run, manner: &args.manner }.go()
}
