//! `flow plan FLOW --env ENV`

use super::Done;
use super::failure::CliError;
use super::selection::Selection;
use super::session::{Session, block_on};
use crate::exit::Exit;
use crate::plan::observe::{Observed, observe};
use crate::plan::prepare::Prepared;
use crate::report::look::Look;
use crate::report::{out, plan_view};
use crate::world::cancel::Canceller;

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

pub(super) fn exec(session: &Session, args: Args) -> Done {
    block_on(async {
        let cancel = Canceller::new().view();
        let prepared = session.prepare(args.selection.request(), &cancel).await?;
        let observed = observe(&prepared, &cancel).await.map_err(CliError::Plan)?;
        if args.json {
            out::json(&observed.plan);
        } else {
            show(session, &prepared, &observed, &args.selection.command_line("run"), args.all);
        }
        Ok(Exit::Success)
    })
}

/// The plan for people.
pub(super) fn show(session: &Session, prepared: &Prepared, observed: &Observed, again: &str, all: bool) {
    let look = Look::detect(
        &session.host,
        crate::world::terminal::width().map(usize::from),
        jiff::tz::TimeZone::system(),
    );
    let live = prepared.live.as_ref().map(|release| release.id);
    for line in plan_view::lines(&look, &observed.plan, live, again, all) {
        out::data(&line);
    }
}
