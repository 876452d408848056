//! `flow reconcile RUN`

use std::sync::Arc;

use jiff::Timestamp;

use super::Done;
use super::failure::CliError;
use super::locking;
use super::marking::{refuse_unsigned, sign_marks, signers};
use super::plan::unless_interrupted;
use super::recovery::{mark_commands, prepare_as, take_over};
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::event::{Event, RunOutcome, Teller};
use crate::exec::recover::{Recovery, Unclear};
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::journal::approvals::Marked;
use crate::journal::locks::Held;
use crate::journal::log;
use crate::journal::replay::{Phase, RunState};
use crate::model::kind::Nature;
use crate::model::names::{RunId, StepId};
use crate::model::policy::Policy;
use crate::plan::known::Table;
use crate::plan::prepare::Prepared;
use crate::report::out;
use crate::steps::{Done as Made, Open, Settled};
use crate::world::cancel::{Cancel, Canceller};

/// Find out what became of effects that an interrupted run left open, or say it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run, or how its id begins
    run: String,

    /// What you know of a step: STEP=done or STEP=not-done
    #[arg(long, value_name = "STEP=WORD", value_parser = mark, requires = "reason")]
    mark: Vec<(String, Word)>,

    /// How you know it
    #[arg(long, value_name = "TEXT", requires = "mark")]
    reason: Option<String>,

    /// In a protected environment, the SSH key to sign with; otherwise git's user.signingkey, one in ~/.ssh, or the agent's
    #[arg(long, value_name = "FILE", requires = "mark")]
    key: Option<String>,
}

/// What a person says of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Done,
    NotDone,
}

fn mark(text: &str) -> Result<(String, Word), String> {
    match text.rsplit_once('=') {
        Some((step, "done")) => Ok((step.to_owned(), Word::Done)),
        Some((step, "not-done")) => Ok((step.to_owned(), Word::NotDone)),
        _ => Err("write STEP=done or STEP=not-done".to_owned()),
    }
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Run(&self.run)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let (store, run) = session.store_of_run(&args.run)?;
    let state = RunState::replay(&log::read(&store, &run)?);
    // What somebody said of an effect may not count, and leave it open after all.
    let said = state.marks().next().is_some() && !succeeded(&state);
    if state.open().is_empty() && args.mark.is_empty() && !said {
        return Ok(nothing_open(&run));
    }
    block_on(async {
        let canceller = Arc::new(Canceller::new());
        let _signals = Signals::listen(Arc::clone(&canceller));
        let cancel = canceller.view();
        let work = async {
            let prepared = prepare_as(session, &run, &state, &cancel).await?;
            let locks = locking::take(session, &prepared.changes())?;
            let (mut recovery, _) = take_over(&store, &run)?;
            recovery.journal = recovery.journal.under(locks.iter().map(Held::fence).collect());
            let refused = refuse_unsigned(session, &prepared, &run, &mut recovery).await?;
            if refused.is_empty() && recovery.state.open().is_empty() && args.mark.is_empty() {
                return Ok(nothing_open(&run));
            }
            settle(session, args, &run, &prepared, &mut recovery, &cancel).await
        };
        unless_interrupted(&cancel, Box::pin(work)).await
    })
}

fn succeeded(state: &RunState) -> bool {
    state.ended.as_ref().is_some_and(|ended| ended.outcome == RunOutcome::Succeeded)
}

fn nothing_open(run: &RunId) -> Exit {
    out::note(&format!("run {run} left nothing open"));
    Exit::Success
}

async fn settle(
    session: &Session,
    args: &Args,
    run: &RunId,
    prepared: &Prepared,
    recovery: &mut Recovery,
    cancel: &Cancel,
) -> Done {
    let before = recovery.state.ended.as_ref().map(|ended| ended.outcome);
    let signers = signers(session, prepared).await?;
    let unclear = if args.mark.is_empty() {
        recovery.settle(prepared, cancel).await?
    } else {
        let marks = marks(args, run, prepared, &recovery.state)?;
        let by = Teller::Person(whose(session, args, prepared, signers.as_ref(), &recovery.state, &marks)?);
        for (step, open, word) in marks {
            let settled = said(recovery, prepared, &step, &open, word, cancel).await?;
            recovery.conclude(prepared, &step, settled, &by)?;
        }
        let left = recovery.state.open().into_iter();
        let why = "it was not marked".to_owned();
        left.map(|(step, ..)| Unclear { step, why: why.clone() }).collect()
    };
    let outcome = match before {
        _ if !unclear.is_empty() => RunOutcome::Unknown,
        // It still has to be gone on with.
        None | Some(RunOutcome::Unknown | RunOutcome::Succeeded) => RunOutcome::Interrupted,
        Some(before) => before,
    };
    recovery.close(Some(prepared), outcome, Vec::new())?;
    tell(&recovery.news);
    if unclear.is_empty() {
        out::note(&format!("nothing of run {run} is open any more; go on with it: flow resume {run}"));
        return Ok(Exit::Success);
    }
    for line in mark_commands(run, &unclear) {
        out::note(&line);
    }
    if let Some(policy) = signers {
        out::note(&format!("  an approver of {} signs it: --key FILE", policy.environment));
    }
    Ok(Exit::Unknown)
}

/// What has become of effects, each on a line.
fn tell(news: &[(Timestamp, Event)]) {
    for (_, event) in news {
        match event {
            Event::StepReconciled { step, done: Some(done), by } => {
                let was = if *done { "done" } else { "not done" };
                out::data(&format!("{step}  {was}  ({by})"));
            }
            Event::MarkRefused { step, by, why } => {
                out::note(&format!("this mark of {step} does not count: {why} ({by})"));
            }
            _ => {}
        }
    }
}

/// Whose word it is, as the journal has it: an approver's who signs it where the environment is
/// protected, and otherwise whoever types.
fn whose(
    session: &Session,
    args: &Args,
    prepared: &Prepared,
    signers: Option<&Policy>,
    state: &RunState,
    marks: &[(StepId, Open, Word)],
) -> Result<String, CliError> {
    let reason = args.reason.as_deref().unwrap_or_default();
    let Some(policy) = signers else {
        if args.key.is_some() {
            out::note(&format!(
                "{} is not protected: this mark counts without a signature, and --key was not used",
                prepared.values.environment
            ));
        }
        return Ok(format!("{}: {reason}", session.host.operator()));
    };
    let marked: Vec<Marked> = marks
        .iter()
        .map(|(step, open, word)| Marked {
            announced: open.intent.since,
            done: *word == Word::Done,
            step: step.clone(),
        })
        .collect();
    let name = sign_marks(session, prepared, policy, state, &marked, (reason, args.key.as_deref()))?;
    Ok(format!("{name} (signed): {reason}"))
}

/// The steps that are marked, each with its open effect.
fn marks(
    args: &Args,
    run: &RunId,
    prepared: &Prepared,
    state: &RunState,
) -> Result<Vec<(StepId, Open, Word)>, CliError> {
    let open = state.open();
    let mut marks = Vec::new();
    for (typed, word) in &args.mark {
        let step = StepId::parse(typed);
        let found = open.iter().find(|(id, ..)| *id == step);
        if let Some((_, intent, notes)) = found {
            let open = Open { intent: intent.clone(), notes: notes.clone() };
            marks.push((step, open, *word));
            continue;
        }
        let node = prepared.graph.find_id(&step).map(|id| prepared.graph.node(id));
        let why = match (node, state.steps.get(&step).map(|step| &step.phase)) {
            (None, _) => format!("run {run} has no step {step}"),
            (Some(node), _) if node.step.kind.nature == Nature::Gate => {
                format!("{step} is a gate, and gates cannot be marked")
            }
            (_, Some(Phase::Ended(outcome))) if outcome.satisfies() => format!("{step} is recorded as done"),
            _ => format!("{step} left nothing open: it has not begun, or is known to have failed"),
        };
        return Err(CliError::NoMark { why, open: open.into_iter().map(|(id, ..)| id).collect() });
    }
    Ok(marks)
}

/// What a person's word comes to. What a step that is done handed on is asked for; where it cannot
/// be told it handed on nothing.
async fn said(
    recovery: &Recovery,
    prepared: &Prepared,
    step: &StepId,
    open: &Open,
    word: Word,
    cancel: &Cancel,
) -> Result<Settled, CliError> {
    if word == Word::NotDone {
        return Ok(Settled::NotDone);
    }
    let summary = "done, as somebody said".to_owned();
    Ok(match recovery.ask(prepared, &Table::new(prepared), step, open, cancel).await? {
        Settled::Done(done) => Settled::Done(done),
        Settled::NotDone | Settled::Ambiguous(_) => Settled::Done(Made { summary, ..Made::default() }),
    })
}
