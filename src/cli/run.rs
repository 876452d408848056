//! `flow run FLOW --env ENV`

use std::sync::Arc;

use tokio::sync::Mutex;

use super::Done;
use super::failure::CliError;
use super::selection::Selection;
use super::session::{Session, block_on};
use crate::event::Subscriber;
use crate::exec::dispatcher::Dispatcher;
use crate::exec::signals::Signals;
use crate::exec::{self, Options, Start};
use crate::exit::Exit;
use crate::journal::log::Journal;
use crate::journal::logs::StepLogs;
use crate::journal::runs;
use crate::model::change::Action;
use crate::plan::observe::Observed;
use crate::plan::prepare::Prepared;
use crate::report::console::Console;
use crate::report::json::Json;
use crate::report::look::Look;
use crate::report::plain::Plain;
use crate::steps::Answers;
use crate::world::cancel::{Cancel, Canceller};
use crate::world::clock::{Clock, Moment};
use crate::world::scratch::Scratch;
use crate::world::terminal;

/// Plan a flow, pass its gates and carry it out
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of a command line")]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,

    /// Answer the questions of unprotected environments with yes
    #[arg(short, long)]
    yes: bool,

    /// Only show the plan
    #[arg(long)]
    dry_run: bool,

    /// How many steps at once; without it as many programs as there are cores
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// After a failure go on with what does not depend on it
    #[arg(long)]
    keep_going: bool,

    /// How to tell what happens
    #[arg(long, value_name = "HOW", default_value = "auto")]
    log: Log,

    /// Unchanged steps too
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Log {
    /// Redrawn on a terminal, plain elsewhere
    Auto,
    /// One line when a step starts or ends
    Plain,
    /// One event per line
    Json,
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    block_on(async {
        let begun = Clock.moment();
        let canceller = Arc::new(Canceller::new());
        let signals = Signals::listen(Arc::clone(&canceller));
        let cancel = canceller.view();
        let (prepared, observed) = super::plan::look(session, args.selection.request(), &cancel).await?;
        if args.dry_run {
            super::plan::show(session, &prepared, &observed, &args.selection.command_line("run"), args.all);
            return Ok(Exit::Success);
        }
        prepared.check_branch()?;
        refuse_unknown(&observed)?;
        run(session, args, prepared, observed, (cancel, signals), begun).await
    })
}

/// A run does nothing while part of what it would do is not known.
fn refuse_unknown(observed: &Observed) -> Result<(), CliError> {
    let unknown: Vec<_> = observed
        .plan
        .steps
        .iter()
        .filter(|step| step.action == Action::Unknown)
        .map(|step| (step.id.to_string(), step.summary.clone()))
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(CliError::Unknown(unknown)) }
}

async fn run(
    session: &Session,
    args: &Args,
    prepared: Prepared,
    observed: Observed,
    (cancel, signals): (Cancel, Signals),
    begun: Moment,
) -> Done {
    let world = prepared.world.clone();
    let look = session.look();
    Scratch::clear(&world.files)?;
    let journal = Journal::begin(&world.store, world.clock)?;
    let run = journal.run().clone();
    let past = runs::past(&world.store, &prepared.flow.name, &prepared.values.environment)?;
    let logs = StepLogs::new(world.store.clone(), run.clone());
    let report = report(session, args, look);
    let dispatcher = Dispatcher::new(journal, logs, vec![report], world.masker.clone(), world.clock);
    let start = Start {
        options: Options {
            jobs: args.jobs.map(usize::from),
            keep_going: args.keep_going,
            answers: answers(args),
        },
        again: args.selection.command_line("run"),
        past,
        begun,
        run,
        prepared,
        observed,
    };
    let ended = exec::run(start, dispatcher, cancel, signals).await;
    Ok(exit(ended.exit))
}

fn report(session: &Session, args: &Args, look: Look) -> Box<dyn Subscriber> {
    let interactive =
        terminal::stderr_is_terminal() && !session.host.is_ci() && session.host.var("TERM") != Some("dumb");
    let err = Box::new(std::io::stderr());
    match args.log {
        Log::Json => Box::new(Json::new(err)),
        Log::Auto if interactive => {
            Box::new(Console::new(err, look, Box::new(|| terminal::size().unwrap_or((80, 24))), args.all))
        }
        Log::Auto | Log::Plain => Box::new(Plain::new(err, look, args.all)),
    }
}

fn answers(args: &Args) -> Answers {
    if args.yes {
        Answers::Yes
    } else if terminal::stdin_is_terminal() && args.log != Log::Json {
        Answers::Terminal(Arc::new(Mutex::new(())))
    } else {
        Answers::Nobody
    }
}

fn exit(code: u8) -> Exit {
    match code {
        0 => Exit::Success,
        3 => Exit::ApprovalNeeded,
        5 => Exit::Refused,
        6 => Exit::Interrupted,
        7 => Exit::Unknown,
        _ => Exit::Failed,
    }
}
