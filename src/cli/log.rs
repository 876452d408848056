//! `flow log RUN [STEP]`

use std::time::Duration;

use super::Done;
use super::failure::CliError;
use super::session::{Session, block_on};
use crate::event::Event;
use crate::exit::Exit;
use crate::journal::log::{self, Reader};
use crate::journal::logs::{LogLine, LogReader};
use crate::model::names::{RunId, StepId};
use crate::report::plain::Plain;
use crate::report::{Subscriber as _, history, out};
use crate::syntax::problem::nearest;
use crate::world::clock::Clock;
use crate::world::store::Store;

/// How long to wait before looking for more lines.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Show what a run did, or what one of its steps wrote
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run, or how its id begins
    run: String,
    /// A step: shows what its program or container wrote
    step: Option<String>,
    /// Go on until the run is over
    #[arg(short, long)]
    follow: bool,
    /// As JSON
    #[arg(long, conflicts_with = "follow")]
    json: bool,
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let (store, run) = session.store_of_run(&args.run)?;
    match &args.step {
        None if args.json => out::json(&history::records_json(&log::read(&store, &run)?)),
        None => block_on(story(session, args, &store, &run))?,
        Some(step) => block_on(lines(args, &store, &run, step))?,
    }
    Ok(Exit::Success)
}

/// The run as it looked, from its journal.
async fn story(session: &Session, args: &Args, store: &Store, run: &RunId) -> Result<(), CliError> {
    let mut report = Plain::new(Box::new(std::io::stdout()), session.look(), true);
    let mut reader = Reader::new(store, run);
    loop {
        let records = reader.next_records()?;
        for record in &records {
            report.event(record.time, &record.event);
            if matches!(record.event, Event::RunEnded(_)) {
                return Ok(());
            }
        }
        if records.is_empty() {
            if !args.follow || !store.is_held(&log::key(run))? {
                return Ok(());
            }
            Clock.pause(LOOK_AGAIN).await;
        }
    }
}

/// The lines of one step.
async fn lines(args: &Args, store: &Store, run: &RunId, step: &str) -> Result<(), CliError> {
    let id = StepId::parse(step);
    known(store, run, &id)?;
    let mut reader = LogReader::new(store, run, &id);
    let mut kept: Vec<LogLine> = Vec::new();
    loop {
        let over = !store.is_held(&log::key(run))?;
        let more = reader.next_lines()?;
        if args.json {
            kept.extend(more);
        } else if !more.is_empty() {
            more.iter().for_each(|line| out::data(&line.text));
            continue;
        }
        if over || !args.follow {
            break;
        }
        Clock.pause(LOOK_AGAIN).await;
    }
    if args.json {
        out::json(&history::lines_json(&kept));
    }
    Ok(())
}

/// A step that the run does not have is a mistake, not an empty log.
fn known(store: &Store, run: &RunId, step: &StepId) -> Result<(), CliError> {
    let records = log::read(store, run)?;
    let steps: Vec<String> = records.iter().filter_map(|record| record.event.step()).map(ToString::to_string).collect();
    if steps.iter().any(|known| *known == step.to_string()) {
        return Ok(());
    }
    let text = step.to_string();
    Err(CliError::NoStep {
        run: run.to_string(),
        hint: nearest(&text, steps.iter().map(String::as_str)).map(str::to_owned),
        step: text,
    })
}
