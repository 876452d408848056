//! `flow releases --env ENV`

use super::Done;
use super::session::Session;
use super::workspace::Subject;
use crate::exit::Exit;
use crate::report::{history, out};
use crate::world::clock::Clock;

/// List the releases of an environment, newest first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment
    #[arg(short, long, value_name = "ENV")]
    env: String,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    number: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Environment(&self.env)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let (name, releases) = session.releases(&args.env)?;
    let list = releases.list(&name, args.number)?;
    let live = releases.live(&name)?.map(|release| release.id);
    if args.json {
        out::json(&history::releases_json(&list, live));
        return Ok(Exit::Success);
    }
    let look = session.look();
    if list.is_empty() {
        for line in history::nothing(&look, &format!("no releases of {name} yet")) {
            out::note(&line);
        }
    }
    out::lines(history::releases(&look, &list, live, Clock.now()));
    Ok(Exit::Success)
}
