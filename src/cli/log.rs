//! `flow log RUN [STEP]`

use super::Done;
use super::failure::CliError;
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::exit::Exit;
use crate::journal::log;
use crate::journal::logs::LogReader;
use crate::model::names::{RunId, StepId};
use crate::report::story::{RunStory, StepStory, Story, follow};
use crate::report::{history, out};
use crate::world::cancel::Canceller;
use crate::world::clock::Clock;
use crate::world::files::FileError;
use crate::world::store::Store;

/// Show what a run did, or what one of its steps wrote
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run, or how its id begins
    run: String,
    /// A step: shows its attempts and what its program or container wrote
    step: Option<String>,
    /// Go on until it is over
    #[arg(short, long)]
    follow: bool,
    /// Unchanged steps too
    #[arg(long)]
    all: bool,
    /// As JSON
    #[arg(long, conflicts_with = "follow")]
    json: bool,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Run(&self.run)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let (store, run) = session.store_of_run(&args.run)?;
    let out = Box::new(std::io::stdout());
    let look = session.look();
    match (&args.step, args.json) {
        (None, true) => out::json(&history::records_json(&log::read(&store, &run)?)),
        (None, false) => tell(args, &mut RunStory::new(&store, &run, out, look, args.all))?,
        (Some(step), json) => {
            let step = StepId::parse(step);
            let mut of_step = StepStory::new(&store, &run, &step, out, look)?;
            if json {
                out::json(&history::lines_json(&lines(&store, &run, &step)?));
            } else {
                tell(args, &mut of_step)?;
            }
        }
    }
    Ok(Exit::Success)
}

fn tell(args: &Args, story: &mut dyn Story) -> Result<(), CliError> {
    if !args.follow {
        story.tell(Clock.now())?;
        return Ok(());
    }
    let never = Canceller::new();
    block_on(async { Ok(follow(story, Clock, &never.view()).await?) })
}

fn lines(store: &Store, run: &RunId, step: &StepId) -> Result<Vec<crate::journal::logs::LogLine>, FileError> {
    let mut reader = LogReader::new(store, run, step);
    let mut all = Vec::new();
    loop {
        let more = reader.next_lines()?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}
