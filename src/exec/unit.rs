//! The life of one step: look, intend, act, record; again if that may help.

mod making;

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Event, Feed, StepEnded, StepOutcome};
use crate::journal::releases::Recorded;
use crate::journal::replay::HIDES;
use crate::model::change::Action;
use crate::model::kind::Nature;
use crate::model::step::Retry;
use crate::model::units::show_duration;
use crate::model::value::{Outputs, Value};
use crate::plan::graph::{Goal, NodeId, unresolved};
use crate::plan::observe::context;
use crate::plan::propose::{Look, NoProposal, Proposed, Surroundings, propose};
use crate::plan::scope::{Known, RunFacts, StepScope, StepTable as _, Values};
use crate::steps::{Context, Done, Failure, FailureClass};
use crate::world::cancel::{Cancel, Canceller, Urgency};
use crate::world::clock::Clock;

use self::making::NotBack;
use super::unwind::keep_infrastructure;
use super::{Shared, Stage, claim};

/// How long a deploying step may take when its flow does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);
/// How long an effect that was told to stop at once may still take to let go.
const LET_GO: Duration = Duration::from_secs(3);
/// How long a step without `grace` may take to stop when its time is over; kinds end sooner by themselves.
const LONGEST_GRACE: Duration = Duration::from_mins(2);
/// What a kind whose effects are safe to repeat gets without `retry`.
const DEFAULT_RETRY: Retry =
    Retry { times: 2, backoff: Duration::from_secs(1), max: Duration::from_secs(10) };

/// One step on its way.
pub struct Unit {
    shared: Arc<Shared>,
    id: NodeId,
    cancel: Cancel,
    /// It tidies up after an interruption: only a second signal is meant for it.
    tidies_up: bool,
    values: Values,
    feed: Feed,
}

/// How a step ended, as the scheduler and the release need it.
#[derive(Clone, Debug)]
pub struct UnitEnd {
    /// How.
    pub outcome: StepOutcome,
    /// It never started because something it needs did not succeed.
    pub blocked: bool,
    /// The journal failed; nothing else may start.
    pub journal_down: bool,
    /// What a release keeps of it.
    pub recorded: Option<Recorded>,
    /// What a step that goes back leaves as it is, in the operator's words.
    pub stays: Vec<String>,
}

impl UnitEnd {
    /// A step that never started because something it needs did not succeed.
    #[must_use]
    pub fn not_run() -> Self {
        Self {
            outcome: StepOutcome::Skipped,
            blocked: true,
            journal_down: false,
            recorded: None,
            stays: Vec::new(),
        }
    }
}

/// What an attempt came to.
enum Attempt {
    /// What came of it, and what a step that goes back leaves as it is.
    Done(Done, StepOutcome, Vec<String>),
    Skipped(String),
    Failed {
        failure: Failure,
        intended: bool,
    },
}

impl Unit {
    /// A unit for one node.
    #[must_use]
    pub fn new(shared: Arc<Shared>, id: NodeId, cancel: Cancel, facts: RunFacts) -> Self {
        let node = shared.prepared.graph.node(id);
        let tidies_up = node.finally && cancel.is_stopping();
        let feed = Feed::new(node.id.clone(), shared.sender.clone());
        let values = Values { run: facts, ..shared.prepared.values.clone() };
        Self { shared, id, cancel, tidies_up, values, feed }
    }

    /// Lives it.
    pub async fn live(self) -> UnitEnd {
        let begun = self.shared.prepared.world.clock.moment();
        let mut number = 1;
        let mut first = None;
        let attempt = loop {
            let (attempt, retry) = self.attempt(number).await;
            let Attempt::Failed { mut failure, intended } = attempt else { break attempt };
            if let Some(pause) = self.pause_before(number, &failure, retry) {
                self.feed
                    .send(Event::StepRetried {
                        step: self.step().clone(),
                        attempt: number,
                        reason: failure.record.reason.clone(),
                        pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                    })
                    .await;
                if self.cancel.unless_stopped(self.shared.prepared.world.clock.pause(pause)).await.is_err() {
                    break Attempt::Failed { failure, intended };
                }
                first.get_or_insert(failure.record.reason);
                number += 1;
            } else {
                if number > 1 {
                    let tried = tried(number, first.as_deref(), &failure.record.reason);
                    failure = failure.detail(tried);
                }
                break Attempt::Failed { failure, intended };
            }
        };
        self.record(attempt, begun.elapsed()).await
    }

    fn step(&self) -> &crate::model::names::StepId {
        &self.shared.prepared.graph.node(self.id).id
    }

    async fn attempt(&self, number: u32) -> (Attempt, Option<Retry>) {
        let p = &self.shared.prepared;
        let node = p.graph.node(self.id);
        let planned = self.shared.observed.planned(&node.id);
        let summary = planned.map(|step| step.summary.clone()).unwrap_or_default();
        self.feed
            .send(Event::StepStarted {
                step: node.id.clone(),
                attempt: number,
                summary,
                usual_ms: self.shared.past.steps.get(&node.id).copied(),
            })
            .await;

        let canceller = Canceller::new();
        let mut cx = context(p, self.id, self.feed.clone(), canceller.view());
        cx.run = Some(self.shared.run.clone());
        cx.answers = self.shared.options.answers.clone();
        cx.gatekeeper.run = Some(Arc::clone(&self.shared.options.keeping));
        let scope = StepScope { values: &self.values, each: &node.each, steps: &self.shared.observed.table };
        let mut around = Surroundings::of(p, &scope);
        let mut look = match self.look(around, &cx, &canceller).await {
            Ok(look) => look,
            Err(ended) => return ended,
        };
        let retry = look.attributes.retry;
        let mut turn = None;
        if let Some(key) = look.key.clone().filter(|_| look.proposal.action != Action::UpToDate) {
            let (outputs, known) = (look.attributes.outputs.clone(), look.stored.is_some());
            match self.watched(self.turn(&key, &outputs, known, &cx), &canceller, None).await {
                Watched::Done(Ok(taken)) => turn = Some(taken),
                Watched::Done(Err(failure)) => return (Attempt::Failed { failure, intended: false }, None),
                Watched::Late(..) | Watched::LetGo => return (interrupted(), None),
            }
        }
        if turn.as_ref().is_some_and(|turn| turn.look_again) {
            look = match self.look(around, &cx, &canceller).await {
                Ok(look) => look,
                Err(ended) => return ended,
            };
        }
        if let (Some(stored), Some(key)) = (look.stored.take(), look.key.clone()) {
            let why = match self.watched(self.put_back(stored, key, &cx), &canceller, None).await {
                Watched::Done(Ok(done)) => {
                    self.tell_complaints().await;
                    return (Attempt::Done(done, StepOutcome::Cached, Vec::new()), retry);
                }
                Watched::Done(Err(NotBack::Run(why))) => why,
                Watched::Done(Err(NotBack::Stopped)) | Watched::Late(..) | Watched::LetGo => {
                    return (interrupted(), None);
                }
            };
            let text = format!("{}: {why}, so it is made again", node.id);
            self.feed.send(Event::Warning { text }).await;
            around.no_cache = true;
            look = match self.look(around, &cx, &canceller).await {
                Ok(look) => look,
                Err(ended) => return ended,
            };
            look.proposal.subject = why;
        }
        let attempt = self.act(number, look, &cx, &canceller).await;
        self.tell_complaints().await;
        drop(turn);
        (attempt, retry)
    }

    /// Looks at the step right before its effect.
    async fn look(
        &self,
        around: Surroundings<'_>,
        cx: &Context,
        canceller: &Canceller,
    ) -> Result<Look, (Attempt, Option<Retry>)> {
        let node = self.shared.prepared.graph.node(self.id);
        let failed = |failure: Failure| Attempt::Failed { failure, intended: false };
        match self.watched(propose(node, around, cx), canceller, None).await {
            Watched::Done(Ok(Proposed::Ready(look))) => Ok(*look),
            Watched::Done(Ok(Proposed::Skipped(when))) => Err((Attempt::Skipped(when), None)),
            Watched::Done(Ok(Proposed::NotYet(step))) => {
                let why = format!("it needs what {step} hands on, and {step} handed nothing on");
                Err((failed(Failure::new(why)), None))
            }
            Watched::Done(Err(NoProposal::Failure(failure))) => {
                Err((failed(failure), node.step.common.retry))
            }
            Watched::Done(Err(NoProposal::Unresolved(error))) => {
                Err((failed(Failure::of(FailureClass::Refused, unresolved(&error).message)), None))
            }
            Watched::Late(..) | Watched::LetGo => Err((interrupted(), None)),
        }
    }

    async fn act(&self, number: u32, look: Look, cx: &Context, canceller: &Canceller) -> Attempt {
        let node = self.shared.prepared.graph.node(self.id);
        let Look { mut proposal, key, attributes, .. } = look;
        let begun = self.shared.prepared.world.clock.moment();
        // Whatever was to take it away has run by now.
        if let Some(failure) = proposal.held.take() {
            return Attempt::Failed { failure, intended: false };
        }
        if self.shared.stage == Stage::Unwinding
            && let Err(failure) = keep_infrastructure(node.step.kind.nature, &proposal)
        {
            return Attempt::Failed { failure, intended: false };
        }
        let Some(effect) = proposal.effect else {
            if proposal.action == Action::UpToDate {
                let done =
                    Done { summary: proposal.summary, outputs: proposal.outputs, receipt: proposal.receipt };
                let stays = if self.goes_back() { proposal.warnings } else { Vec::new() };
                return Attempt::Done(done, StepOutcome::UpToDate, stays);
            }
            let failure =
                Failure::new(format!("{} proposed a change without a way to make it", node.step.kind.name));
            return Attempt::Failed { failure, intended: false };
        };
        let intended = self.needs_intent();
        if intended {
            let checked = if number == 1 { self.check_world(&proposal.baseline) } else { Ok(()) };
            let claimed = match checked {
                Ok(()) => self.shared.claim.make().await,
                refused => refused,
            };
            if let Err(failure) = claimed {
                return Attempt::Failed { failure: failure.help(self.new_plan()), intended: false };
            }
            let intent = Event::Intent {
                step: node.id.clone(),
                attempt: number,
                action: proposal.action,
                summary: proposal.summary.clone(),
                baseline: proposal.baseline.clone(),
                standing: proposal.standing.clone(),
            };
            if let Err(down) = self.feed.store(intent).await {
                return Attempt::Failed { failure: down.into(), intended: false };
            }
        }
        let timeout = attributes.timeout.or_else(|| node.step.is_deploying(false).then_some(DEFAULT_TIMEOUT));
        let timeout = timeout.filter(|_| node.step.kind.nature != Nature::Gate);
        let limit =
            timeout.map(|timeout| Limit { timeout, grace: attributes.grace.unwrap_or(LONGEST_GRACE) });
        match self.watched(effect.apply(cx), canceller, limit).await {
            // What was done in spite of its end is done.
            Watched::Done(Ok(mut done)) | Watched::Late(_, Some(Ok(mut done))) => {
                let remembered = match key {
                    Some(key) => {
                        let took = begun.elapsed();
                        let remembered = self.remember(key, &attributes, &done, (cx, took)).await;
                        // What it ran is in the plan; that it had to is what nobody can see.
                        if !proposal.subject.is_empty() {
                            done.summary = proposal.subject;
                        }
                        remembered
                    }
                    None => Ok(()),
                };
                match remembered {
                    // Upkeep changes nothing for anybody.
                    Ok(()) if proposal.action == Action::UpToDate => {
                        Attempt::Done(done, StepOutcome::UpToDate, Vec::new())
                    }
                    Ok(()) => Attempt::Done(done, StepOutcome::Succeeded, Vec::new()),
                    Err(failure) => Attempt::Failed { failure, intended },
                }
            }
            Watched::Done(Err(failure)) => Attempt::Failed { failure, intended },
            Watched::Late(after, Some(Err(failure))) => {
                Attempt::Failed { failure: too_late(after, failure), intended }
            }
            Watched::Late(after, None) => {
                let class = if intended { FailureClass::Unknown } else { FailureClass::Failed };
                let text = format!("not done after {}, and could not be stopped", show_duration(after));
                Attempt::Failed { failure: Failure::of(class, text), intended }
            }
            Watched::LetGo => Attempt::Failed { failure: abandoned(intended), intended },
        }
    }

    /// The first effect of a step meets the world that its plan was made for, unless an
    /// infrastructure step in front of it has changed that on the way.
    fn check_world(&self, now: &serde_json::Value) -> Result<(), Failure> {
        let p = &self.shared.prepared;
        let changed = |id: &NodeId| {
            let node = p.graph.node(*id);
            let known = self.shared.observed.table.known(&node.id);
            node.step.kind.nature == Nature::Infrastructure
                && matches!(known, Some(Known::Outputs { changed: true, .. }))
        };
        if self.shared.stage == Stage::Unwinding || p.graph.ancestors(self.id).iter().any(changed) {
            return Ok(());
        }
        let planned = self.shared.observed.plan.step(self.step());
        planned.map_or(Ok(()), |planned| claim::check_world(planned, now))
    }

    fn new_plan(&self) -> String {
        let p = &self.shared.prepared;
        format!("look at a new plan: flow plan {} --env {}", p.flow.name, p.values.environment)
    }

    /// Gates and checks change nothing; what only makes files is made again when in doubt.
    fn needs_intent(&self) -> bool {
        self.shared
            .prepared
            .graph
            .node(self.id)
            .step
            .is_deploying(self.shared.prepared.cloud.target().protected)
    }

    fn pause_before(&self, number: u32, failure: &Failure, given: Option<Retry>) -> Option<Duration> {
        let node = self.shared.prepared.graph.node(self.id);
        let passing = failure.class == FailureClass::Passing;
        let retry = match given {
            Some(retry)
                if passing || matches!(failure.class, FailureClass::Failed | FailureClass::Locked) =>
            {
                retry
            }
            None if passing && node.step.kind.repeatable => DEFAULT_RETRY,
            _ => return None,
        };
        if number > retry.times || self.cancel.is_stopping() {
            return None;
        }
        let doubled = retry.backoff.saturating_mul(2_u32.saturating_pow(number - 1)).min(retry.max);
        // Up to a quarter less, so that many steps that failed together do not come back together.
        let spread = u32::try_from(self.id.0 % 64).unwrap_or(0);
        Some(doubled.saturating_sub(doubled * spread / 256))
    }

    /// Waits for work, tells it when to stop, and does not wait for ever.
    async fn watched<T>(
        &self,
        work: impl Future<Output = T>,
        canceller: &Canceller,
        limit: Option<Limit>,
    ) -> Watched<T> {
        let clock = self.shared.prepared.world.clock;
        let mut work = std::pin::pin!(work);
        let deadline = async {
            match limit {
                Some(limit) => clock.pause(limit.timeout).await,
                None => std::future::pending().await,
            }
        };
        let mut deadline = std::pin::pin!(deadline);
        let mut late = None;
        loop {
            let told = canceller.view().urgency();
            tokio::select! {
                done = &mut work => {
                    return match late {
                        Some(Limit { timeout, .. }) => Watched::Late(timeout, Some(done)),
                        None => Watched::Done(done),
                    };
                }
                () = &mut deadline, if late.is_none() => {
                    late = limit;
                    canceller.raise(Urgency::Stopping);
                }
                timeout = over(clock, late) => {
                    canceller.raise(Urgency::Killing);
                    let done = tokio::select! { done = &mut work => Some(done), () = clock.pause(LET_GO) => None };
                    return Watched::Late(timeout, done);
                }
                () = self.cancel.reached(Urgency::Stopping), if told < Urgency::Stopping && !self.tidies_up => {
                    canceller.raise(Urgency::Stopping);
                }
                () = self.cancel.reached(Urgency::Killing), if told < Urgency::Killing => {
                    canceller.raise(Urgency::Killing);
                    let let_go = tokio::select! { done = &mut work => Some(done), () = clock.pause(LET_GO) => None };
                    return let_go.map_or(Watched::LetGo, Watched::Done);
                }
            }
        }
    }

    /// Puts the end on disk and makes it known to the steps behind.
    async fn record(&self, attempt: Attempt, took: Duration) -> UnitEnd {
        let node = self.shared.prepared.graph.node(self.id);
        let mut ended = StepEnded {
            step: node.id.clone(),
            outcome: StepOutcome::Failed,
            summary: String::new(),
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outputs: Outputs::new(),
            receipt: serde_json::Value::Null,
            failure: None,
        };
        let mut recorded = None;
        let mut stays = Vec::new();
        let mut hides = false;
        let made = match &attempt {
            Attempt::Done(_, outcome, _) => *outcome == StepOutcome::Succeeded && self.needs_intent(),
            Attempt::Failed { intended, .. } => *intended,
            Attempt::Skipped(_) => false,
        };
        match attempt {
            Attempt::Done(done, outcome, left) => {
                stays = left;
                let changed = matches!(outcome, StepOutcome::Succeeded | StepOutcome::Cached);
                let mut outputs = if self.goes_back() {
                    self.shared.prepared.recorded_outputs(&node.id).unwrap_or_default()
                } else {
                    Outputs::new()
                };
                // A program that takes back hands nothing on: what it leaves is what was recorded.
                if outputs.is_empty() || node.step.kind.nature != Nature::Program {
                    outputs.extend(self.hide(done.outputs));
                }
                let table = &self.shared.observed.table;
                table.set(&node.id, Known::Outputs { outputs: Arc::new(outputs.clone()), changed });
                hides = outputs.values().any(Value::is_secret);
                ended.outcome = outcome;
                ended.summary = done.summary;
                ended.outputs = outputs.into_iter().filter(|(_, value)| !value.is_secret()).collect();
                ended.receipt = done.receipt;
                recorded = Some(Recorded {
                    kind: node.step.kind.name.to_owned(),
                    outputs: ended.outputs.clone(),
                    receipt: ended.receipt.clone(),
                    adopted: false,
                });
            }
            Attempt::Skipped(when) => {
                self.shared.observed.table.set(&node.id, Known::Skipped(when.clone()));
                ended.outcome = StepOutcome::Skipped;
                ended.summary = format!("when {when}");
            }
            Attempt::Failed { failure, intended } => {
                ended.outcome = outcome_of(&failure.class, intended);
                ended.failure = Some(failure.record);
            }
        }
        if self.shared.stage == Stage::Unwinding && self.goes_back() {
            ended.outcome = match ended.outcome {
                StepOutcome::UpToDate if !stays.is_empty() => StepOutcome::UpToDate,
                // Whether it was taken back is not known, which must not look like a failure.
                StepOutcome::Unknown => StepOutcome::Unknown,
                outcome if outcome.satisfies() => StepOutcome::RolledBack,
                _ => StepOutcome::RollbackFailed,
            };
        }
        let mut outcome = ended.outcome;
        if hides {
            // If this is lost, so is the end behind it.
            let _ = self.feed.note(HIDES, serde_json::Value::Null).await;
        }
        let stored = self.feed.store(Event::StepEnded(ended)).await;
        if made && stored.is_err() {
            // The journal knows of an effect that began, and not how it ended.
            outcome = StepOutcome::Unknown;
        }
        UnitEnd { outcome, blocked: false, journal_down: stored.is_err(), recorded, stays }
    }

    /// Whether the step returns to a recorded state.
    fn goes_back(&self) -> bool {
        matches!(self.shared.prepared.graph.node(self.id).goal, Some(Goal::Recorded(_)))
    }

    /// An output that contains a secret is a secret.
    fn hide(&self, outputs: Outputs) -> Outputs {
        let masker = &self.shared.prepared.world.masker;
        outputs
            .into_iter()
            .map(|(name, value)| match value.as_text() {
                Some(text) if masker.mask(&text) != text => {
                    (name, Value::Secret(crate::model::secret::Secret::new(text)))
                }
                _ => (name, value),
            })
            .collect()
    }
}

enum Watched<T> {
    Done(T),
    /// Its time was over; what it came to after it was told to stop.
    Late(Duration, Option<T>),
    LetGo,
}

/// How long work may take, and how long it may then take to stop.
#[derive(Clone, Copy)]
struct Limit {
    timeout: Duration,
    grace: Duration,
}

/// The end of the grace of work that is late; never without.
async fn over(clock: Clock, late: Option<Limit>) -> Duration {
    let Some(Limit { timeout, grace }) = late else { return std::future::pending().await };
    clock.pause(grace + LET_GO).await;
    timeout
}

fn interrupted() -> Attempt {
    let failure = Failure::of(FailureClass::Interrupted, "interrupted");
    Attempt::Failed { failure, intended: false }
}

/// What a step says that did not end when flow was to end at once.
fn abandoned(intended: bool) -> Failure {
    if intended {
        Failure::of(FailureClass::Unknown, "stopped before it could say whether it was done")
    } else {
        Failure::of(FailureClass::Interrupted, "interrupted")
    }
}

/// How often it was tried. The first failure is said where the last is another: it may have been the cause.
fn tried(times: u32, first: Option<&str>, last: &str) -> String {
    match first.filter(|first| *first != last) {
        Some(first) => format!("tried {times} times; the first time: {first}"),
        None => format!("tried {times} times"),
    }
}

/// What a step says that was stopped because its time was over. Its own words stay where it has any.
fn too_late(after: Duration, failure: Failure) -> Failure {
    if failure.class != FailureClass::Interrupted {
        return failure;
    }
    let own = Some(failure.record.reason).filter(|reason| reason != "interrupted");
    Failure::new(format!("not done after {}, and stopped", show_duration(after)))
        .details(own.into_iter().chain(failure.record.details))
        .help(
            failure.record.help.unwrap_or_else(|| {
                "give it more time with timeout, or find out what it waits for".to_owned()
            }),
        )
}

fn outcome_of(class: &FailureClass, intended: bool) -> StepOutcome {
    match class {
        FailureClass::Failed
        | FailureClass::Passing
        | FailureClass::Missing
        | FailureClass::Unusable
        | FailureClass::NotYet(_) => StepOutcome::Failed,
        FailureClass::Locked => StepOutcome::Locked,
        FailureClass::Refused => StepOutcome::Refused,
        FailureClass::Waiting => StepOutcome::Waiting,
        FailureClass::Unknown if intended => StepOutcome::Unknown,
        FailureClass::Unknown | FailureClass::Interrupted => StepOutcome::Interrupted,
    }
}
