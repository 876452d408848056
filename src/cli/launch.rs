//! From a request to a run that is over: what `run`, `resume` and `rollback` share.
//!
//! In this order, and nothing before its turn: signals are heard, the locks of
//! what may be changed are taken, the plan is made, the journal begins, the run
//! is carried out, the locks are given back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::Done;
use super::approve::run_command;
use super::approving::{ApprovalError, bound};
use super::failure::CliError;
use super::glass;
use super::saved;
use super::session::{Session, block_on};
use crate::event::{Glass, RunStarted, Subscriber};
use crate::exec::dispatcher::Dispatcher;
use crate::exec::signals::Signals;
use crate::exec::{self, Options, Start};
use crate::exit::Exit;
use crate::journal::locks::Held;
use crate::journal::log::Journal;
use crate::journal::logs::StepLogs;
use crate::journal::past::Keeper;
use crate::journal::replay::RunState;
use crate::model::change::Action;
use crate::model::names::RunId;
use crate::model::units::parse_duration;
use crate::plan::document::{Plan, PlannedStep};
use crate::plan::gates;
use crate::plan::observe::Observed;
use crate::plan::prepare::{Prepared, Request};
use crate::plan::saved::check_unchanged;
use crate::report::console::Console;
use crate::report::json::Json;
use crate::report::plain::Plain;
use crate::steps::Answers;
use crate::steps::approve::Keeping;
use crate::world::cancel::{Cancel, Canceller};
use crate::world::clock::{Clock, Moment};
use crate::world::host;
use crate::world::scratch::Scratch;
use crate::world::terminal;

/// How a run is carried out and told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Manner {
    /// Answer the questions of unprotected environments with yes
    #[arg(short, long)]
    pub yes: bool,

    /// How many steps at once; without it as many programs as there are cores
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,

    /// After a failure go on with what does not depend on it
    #[arg(long)]
    pub keep_going: bool,

    /// Wait so long at a gate for approvals instead of ending with 3
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub wait_approval: Option<Duration>,

    /// Pass the gates, signed by an approver, with this reason; somebody else reviews it afterwards
    #[arg(long, value_name = "REASON")]
    pub break_glass: Option<String>,

    /// The SSH key to sign with
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,

    /// How to tell what happens
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub log: Log,

    /// Unchanged steps too
    #[arg(long)]
    pub all: bool,
}

/// How to tell what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Log {
    /// Redrawn on a terminal, plain elsewhere
    Auto,
    /// One line when a step starts or ends
    Plain,
    /// One event per line
    Json,
}

/// A run that was asked for.
pub(super) struct Launch<'a> {
    /// The project.
    pub session: &'a Session,
    /// What, where, and with which values.
    pub request: Request,
    /// The command line that does the same again.
    pub again: String,
    /// The plan that was made for it before.
    pub saved: Option<Box<Plan>>,
    /// Only the plan is shown.
    pub dry_run: bool,
    /// How it is carried out and told.
    pub manner: &'a Manner,
}

impl Launch<'_> {
    /// Plans it, carries it out, and says how it ended.
    pub(super) fn go(self) -> Done {
        host::close_to_others();
        block_on(async {
            let begun = Clock.moment();
            let canceller = Arc::new(Canceller::new());
            let signals = Signals::listen(Arc::clone(&canceller));
            let cancel = canceller.view();
            if self.dry_run {
                let (prepared, mut observed) =
                    super::plan::look(self.session, self.request.clone(), &cancel).await?;
                self.check_saved(&mut observed)?;
                let store = &prepared.world.store;
                super::plan::show(self.session, store, &observed.plan, vec![self.again], self.manner.all)?;
                return Ok(Exit::Success);
            }
            let (prepared, mut observed, locks) =
                super::plan::look_locked(self.session, self.request.clone(), &cancel).await?;
            self.check_saved(&mut observed)?;
            refuse_unknown(&observed)?;
            let glass = permitted(self.session, &prepared, &observed, self.manner, None).await?;
            let world = &prepared.world;
            if observed.plan.steps.iter().any(PlannedStep::executes) {
                saved::remember(&prepared, &observed.plan)?;
            }
            Scratch::clear(&world.files)?;
            let journal = Journal::begin(&world.store, world.clock)?;
            let run = journal.run().clone();
            let report = self.manner.report(self.session);
            let ready = Ready { prepared, observed, locks, journal, run, report, glass, resumed: None };
            Box::pin(ready.carry_out(self.again, self.manner, (cancel, signals), begun)).await
        })
    }

    /// A plan that was made before is carried out if it is the one that would be made now.
    fn check_saved(&self, observed: &mut Observed) -> Result<(), CliError> {
        let Some(plan) = &self.saved else { return Ok(()) };
        check_unchanged(plan, &observed.plan).map_err(|refusal| saved::refuse(refusal, plan))?;
        (observed.plan.created, observed.plan.expires) = (plan.created, plan.expires);
        Ok(())
    }
}

/// A run that can be carried out.
pub(super) struct Ready {
    /// Everything that is the same for all steps.
    pub prepared: Prepared,
    /// The plan.
    pub observed: Observed,
    /// The locks of what it may change.
    pub locks: Vec<Held>,
    /// Where it is recorded.
    pub journal: Journal,
    /// Its id.
    pub run: RunId,
    /// Who watches.
    pub report: Box<dyn Subscriber>,
    /// Who signed that it passes its gates.
    pub glass: Option<Glass>,
    /// How far it came before.
    pub resumed: Option<RunState>,
}

impl Ready {
    /// Carries it out and says how it ended.
    pub(super) async fn carry_out(
        self,
        again: String,
        manner: &Manner,
        (cancel, signals): (Cancel, Signals),
        begun: Moment,
    ) -> Done {
        let Self { prepared, observed, mut locks, journal, run, report, glass, resumed } = self;
        let world = prepared.world.clone();
        let journal = journal.under(locks.iter().map(Held::fence).collect());
        locks.iter_mut().try_for_each(|lock| lock.name_run(&run))?;
        if let Some(glass) = &glass {
            glass::record(&prepared, &observed.plan, &run, glass)?;
        }
        let keeper = Keeper::new(world.store.clone(), &prepared.flow.name, &prepared.values.environment);
        let past = keeper.past().clone();
        let logs = StepLogs::new(world.store.clone(), run.clone());
        let watchers: Vec<Box<dyn Subscriber>> = vec![report, Box::new(keeper)];
        let mut dispatcher = Dispatcher::new(journal, logs, watchers, world.masker.clone(), world.clock);
        if prepared.changes().is_empty() {
            dispatcher = dispatcher.unsynced();
        }
        let start = Start {
            options: Options {
                jobs: manner.jobs.map(usize::from),
                keep_going: manner.keep_going,
                answers: manner.answers(),
                keeping: Arc::new(manner.keeping(&observed.plan, glass)),
            },
            again,
            past,
            begun,
            run,
            prepared,
            observed,
            resumed,
        };
        let ended = Box::pin(exec::run(start, dispatcher, cancel, signals)).await;
        drop(locks);
        Ok(Exit::from_code(ended.exit))
    }
}

/// Whether the run may do what it would do: nothing protected without a gate, no other run that
/// nobody reviewed. With `--break-glass`, who signed that it passes its gates; `before` is how a run
/// that is resumed began.
pub(super) async fn permitted(
    session: &Session,
    p: &Prepared,
    observed: &Observed,
    manner: &Manner,
    before: Option<&RunStarted>,
) -> Result<Option<Glass>, CliError> {
    let ungated = gates::ungated(p, &observed.plan);
    if !ungated.is_empty() {
        return Err(Box::new(ApprovalError::Ungated(ungated)).into());
    }
    if let Some(glass) = before.and_then(|started| started.break_glass.as_ref()) {
        return glass::still_signed(session, p, &observed.plan, glass).await.map(Some);
    }
    if let Some(reason) = &manner.break_glass {
        let key = manner.key.as_deref();
        return glass::sign_glass(session, p, &observed.plan, reason, key).await.map(Some);
    }
    if !p.changes().is_empty() {
        glass::refuse_unreviewed(session, p).await?;
    }
    if observed.plan.to_run().any(|step| step.kind != "approve") && p.policies.all.is_empty() {
        // Files that say nothing of approvals may have said something before.
        glass::refuse_loosened(session, p).await?;
    }
    Ok(None)
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a time such as 30m or 1h30m".to_owned())
}

/// A run does nothing while part of what it would do is not known.
pub(super) fn refuse_unknown(observed: &Observed) -> Result<(), CliError> {
    let unknown: Vec<_> = observed
        .plan
        .steps
        .iter()
        .filter(|step| step.action == Action::Unknown)
        .map(|step| (step.id.to_string(), step.summary.clone()))
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(CliError::Unknown(unknown)) }
}

impl Manner {
    pub(super) fn report(&self, session: &Session) -> Box<dyn Subscriber> {
        let look = session.look();
        let interactive = terminal::stderr_is_terminal()
            && !session.host.is_ci()
            && session.host.var("TERM") != Some("dumb");
        let err = Box::new(std::io::stderr());
        match self.log {
            Log::Json => Box::new(Json::new(err)),
            Log::Auto if interactive => {
                Box::new(Console::new(err, look, Box::new(|| terminal::size().unwrap_or((80, 24))), self.all))
            }
            Log::Auto | Log::Plain => Box::new(Plain::new(err, look, self.all)),
        }
    }

    /// How the gates of a plan are treated.
    fn keeping(&self, plan: &Plan, glass: Option<Glass>) -> Keeping {
        let short = plan.digest.get(..12).unwrap_or(&plan.digest);
        Keeping {
            bound: bound(plan),
            wait: self.wait_approval,
            glass,
            approve: format!("flow approve {short}"),
            then: run_command(plan),
        }
    }

    fn answers(&self) -> Answers {
        if self.yes {
            Answers::Yes
        } else if terminal::stdin_is_terminal() && self.log != Log::Json {
            Answers::Terminal(Arc::new(Mutex::new(())))
        } else {
            Answers::Nobody
        }
    }
}
