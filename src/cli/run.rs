//! `flow run FLOW --env ENV`

use super::Done;
use super::launch::{Launch, Manner};
use super::selection::Selection;
use super::session::Session;

/// Plan a flow, pass its gates and carry it out
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,

    /// Only show the plan
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    manner: Manner,
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let again = args.selection.command_line("run");
    let request = args.selection.request();
    Launch { session, request, again, dry_run: args.dry_run, manner: &args.manner }.go()
}
