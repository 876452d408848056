//! `flow runs`

use super::Done;
use super::session::Session;
use crate::exit::Exit;
use crate::journal::runs::{self, RunSummary};
use crate::report::{history, out};
use crate::world::clock::Clock;

/// List runs, newest first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    number: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let mut all: Vec<RunSummary> = Vec::new();
    for store in session.stores() {
        let (found, damaged) = runs::list(&store)?;
        all.extend(found);
        damaged.iter().for_each(|error| out::note(&format!("passed over: {error}")));
    }
    all.sort_by(|a, b| b.started.cmp(&a.started));
    all.truncate(args.number);
    if args.json {
        out::json(&history::runs_json(&all));
        return Ok(Exit::Success);
    }
    let look = session.look();
    if all.is_empty() {
        history::nothing(&look, "no runs yet").iter().for_each(|line| out::note(line));
    }
    history::runs(&look, &all, Clock.now()).iter().for_each(|line| out::data(line));
    Ok(Exit::Success)
}
