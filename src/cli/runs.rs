//! `flow runs`

use std::cmp::Reverse;

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

pub(super) fn exec(projects: &[Session], args: &Args) -> Done {
    let mut all: Vec<RunSummary> = Vec::new();
    for store in projects.iter().flat_map(Session::stores) {
        let (found, damaged) = runs::list(&store)?;
        all.extend(found);
        for error in damaged {
            out::note(&format!("passed over: {error}"));
        }
    }
    all.sort_by_key(|run| Reverse(run.started));
    all.truncate(args.number);
    if args.json {
        out::json(&history::runs_json(&all));
        return Ok(Exit::Success);
    }
    let Some(look) = projects.first().map(Session::look) else { return Ok(Exit::Success) };
    if all.is_empty() {
        for line in history::nothing(&look, "no runs yet") {
            out::note(&line);
        }
    }
    out::lines(history::runs(&look, &all, Clock.now()));
    Ok(Exit::Success)
}
