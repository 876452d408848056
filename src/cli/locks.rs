//! `flow locks`

use super::Done;
use super::locking::unlock_command;
use super::session::Session;
use crate::exit::Exit;
use crate::journal::locks::Locks;
use crate::report::history::{self, LockRow};
use crate::report::out;
use crate::world::clock::Clock;

/// List the environments that are locked, and by whom
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn exec(projects: &[Session], args: &Args) -> Done {
    let mut rows = Vec::new();
    for store in projects.iter().flat_map(Session::stores) {
        let locks = Locks::new(store, Clock);
        for environment in locks.environments()? {
            rows.extend(LockRow::of(locks.standing(&environment)?, |holder| locks.doing(holder)));
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.holder.since));
    if args.json {
        out::json(&history::locks_json(&rows));
        return Ok(Exit::Success);
    }
    let Some(look) = projects.first().map(Session::look) else { return Ok(Exit::Success) };
    if rows.is_empty() {
        for line in history::nothing(&look, "no environment is locked") {
            out::note(&line);
        }
    }
    out::lines(history::locks(&look, &rows, Clock.now()));
    for row in rows.iter().filter(|row| row.state == "held") {
        out::note(&look.text(&format!("  if it hangs: {}", unlock_command(&row.holder))));
    }
    Ok(Exit::Success)
}
