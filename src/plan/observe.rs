//! Asks the world about every selected step and makes the plan.
//!
//! A step is looked at as soon as the steps it refers to were, the ones whose
//! files it reads, and the infrastructure steps that may create what it acts
//! on; plain `needs` hold nothing up. Gates come last: one is needed when
//! something behind it would change.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::event::Feed;
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::Nature;
use crate::model::names::StepId;
use crate::model::step::Undo;
use crate::model::template::{Missing, Unresolved};
use crate::model::value::{Field, Outputs};
use crate::steps::{Answers, Context, Failure, FailureClass, Gatekeeper, Proposal};
use crate::world::cancel::{Cancel, Stopped, Urgency};
use crate::world::parallel::{drive, workers};

use super::basis::Basis;
use super::document::{
    Plan, PlannedEnvironment, PlannedInside, PlannedSelection, PlannedStep, Source, VERSION,
};
use super::fronts::Fronts;
use super::gates::{self, PlannedApprovals};
use super::graph::{Goal, Node, NodeId};
use super::inside::Inside;
use super::known::{Table, known_before};
use super::prepare::{DoneBefore, Prepared};
use super::propose::{Look, NoProposal, Proposed, Surroundings, propose};
use super::queue::{Next, Queue};
use super::saved::LIFETIME;
use super::scope::{Known, StepScope, StepTable, each_scope};
use super::weigh::{self, Seen};

/// How many steps are looked at at once.
const AT_ONCE: usize = 64;

/// A plan, and what is known of each step by now.
#[derive(Debug)]
pub struct Observed {
    /// The plan.
    pub plan: Plan,
    /// What is known of each step.
    pub table: Table,
    /// Where each step stands in the plan: it is looked up once a step, of a hundred thousand.
    places: HashMap<StepId, usize>,
}

impl Observed {
    /// A plan and what is known by now.
    #[must_use]
    pub fn new(plan: Plan, table: Table) -> Self {
        let places = plan.steps.iter().enumerate().map(|(at, step)| (step.id.clone(), at)).collect();
        Self { plan, table, places }
    }

    /// What is planned of a step.
    #[must_use]
    pub fn planned(&self, id: &StepId) -> Option<&PlannedStep> {
        self.plan.steps.get(*self.places.get(id)?)
    }
}

/// A step that cannot be planned.
#[derive(Debug)]
pub struct PlanFailure {
    /// The step.
    pub step: StepId,
    /// Why.
    pub why: NoProposal,
}

/// Makes the plan. All failures are reported together.
pub async fn observe(p: &Prepared, cancel: &Cancel) -> Result<Observed, Vec<PlanFailure>> {
    let observer = Observer::new(p, cancel);
    let planned = observer.all().await?;
    let mut steps = in_order(p, planned);
    settle_gates(p, &mut steps);
    for step in &steps {
        let now = step.action == Action::UpToDate && !p.done.contains_key(&step.id);
        if now && p.graph.find_id(&step.id).is_some() {
            observer
                .table
                .set(&step.id, Known::Outputs { outputs: Arc::new(step.outputs.clone()), changed: false });
        }
    }
    let reader = steps.iter().find(|step| step.basis.tree);
    let basis = weigh::common(p, &observer.fronts, reader.is_some()).await.map_err(|failure| {
        reader
            .map(|step| PlanFailure { step: step.id.clone(), why: failure.into() })
            .into_iter()
            .collect::<Vec<_>>()
    })?;
    let target = p.cloud.target();
    let created = p.world.clock.now();
    let mut plan = Plan {
        version: VERSION,
        flow: p.flow.name.clone(),
        environment: PlannedEnvironment {
            name: target.environment.clone(),
            account: target.account.clone(),
            region: target.region.clone(),
        },
        digest: String::new(),
        back_to: p.back.as_ref().map(|back| back.to.id),
        incident: p.back.as_ref().and_then(|back| back.incident),
        inside: p.inside.values().map(|one| planned_inside(one)).collect(),
        sequence: p.sequence,
        created,
        expires: created.checked_add(LIFETIME).ok(),
        flow_version: env!("CARGO_PKG_VERSION").to_owned(),
        policy: None,
        approvals: PlannedApprovals::default(),
        source: source(p),
        selection: PlannedSelection {
            typed: p.request.typed.clone(),
            params: p.values.params.iter().map(|(name, value)| (name.clone(), value.to_json())).collect(),
            given: p.request.params.iter().map(|(name, _)| name.clone()).collect(),
            from_release: p.selection.from_release.keys().cloned().collect(),
            no_cache: p.request.no_cache,
        },
        basis,
        live: p.live.as_ref().map(|release| release.id),
        notes: notes(p),
        steps,
        counts: BTreeMap::new(),
    };
    plan.policy = p.policies.digest();
    plan.approvals = gates::planned(p, &plan.steps, &observer.table);
    plan.seal();
    Ok(Observed::new(plan, observer.table))
}

/// What a plan is made from. Whether tracked files were changed is asked only where something is
/// deployed from them: it costs a process.
fn source(p: &Prepared) -> Source {
    let git = &p.world.git;
    let dirty = (!p.changes().is_empty()).then(|| git.facts().dirty);
    Source { commit: git.commit(), dirty, files_digest: p.files_digest.clone() }
}

fn planned_inside(inside: &Inside) -> PlannedInside {
    PlannedInside {
        step: inside.host.clone(),
        flow: inside.flow.name.clone(),
        back_to: inside.back.to.id,
        sequence: inside.sequence,
    }
}

/// What else to know before saying yes.
fn notes(p: &Prepared) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(policy) = p.policies.all.first()
        && policy.source == crate::model::policy::Source::Files
        && !policy.approvers.is_empty()
    {
        let why = if p.cloud.target().account.is_some() { "has no record" } else { "names no account" };
        notes.push(format!("Who may approve is what the files say: {} {why}.", policy.environment));
    }
    if let Some(back) = &p.back {
        if back.to.failed {
            notes.push(format!("Release {} is of a run that failed.", back.to.id));
        }
        notes.extend(back.stays.iter().map(|stays| format!("{stays}.")));
    }
    for Inside { host, flow, back, .. } in p.inside.values().map(|one| &**one) {
        let failed = if back.to.failed { ", which is of a run that failed" } else { "" };
        notes.push(format!("{host} takes {} back to release {}{failed}.", flow.name, back.to.id));
        notes.extend(back.stays.iter().map(|stays| format!("{host}: {stays}.")));
    }
    notes.extend(p.world.files.digests().take_notes());
    notes.extend(p.values.changes.note());
    notes.extend(p.cache.complaint().map(|text| format!("{text}.")));
    if let (false, Some(good)) = (p.selection.from_release.is_empty(), &p.good) {
        let steps: Vec<String> = p.selection.from_release.keys().map(ToString::to_string).collect();
        notes.push(format!("Taken from release {}: {}.", good.id, steps.join(", ")));
    }
    notes
}

/// Steps in order of appearance; those of a rollback in the order in which they go back.
fn in_order(p: &Prepared, mut planned: Vec<Option<PlannedStep>>) -> Vec<PlannedStep> {
    if p.back.is_none() {
        return planned.into_iter().flatten().collect();
    }
    p.graph.order().iter().filter_map(|id| planned[id.0].take()).collect()
}

pub(super) struct Observer<'a> {
    pub(super) p: &'a Prepared,
    pub(super) cancel: &'a Cancel,
    pub(super) table: Table,
    pub(super) fronts: Fronts,
}

impl<'a> Observer<'a> {
    fn new(p: &'a Prepared, cancel: &'a Cancel) -> Self {
        let table = Table::new(p);
        Self { p, cancel, fronts: Fronts::draw(p, &table), table }
    }

    async fn all(&self) -> Result<Vec<Option<PlannedStep>>, Vec<PlanFailure>> {
        let queue = Mutex::new(Queue::new(self.p, &self.fronts));
        let settled = Notify::new();
        let steps = self.p.graph.len();
        let threads = workers().min(steps.div_ceil(AT_ONCE));
        let places = AT_ONCE.min(steps).div_ceil(threads.max(1));
        drive(threads, || async {
            tokio::select! {
                biased;
                () = self.cancel.reached(Urgency::Killing) => {}
                _ = join_all((0..places).map(|_| self.look_after_another(&queue, &settled))) => {}
            }
        })
        .await;
        let Queue { planned, mut failures, .. } = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.cancel.urgency() >= Urgency::Killing {
            let first = self.p.graph.iter().find(|(id, _)| self.p.selection.contains(*id));
            failures.extend(first.map(|(_, node)| PlanFailure {
                step: node.id.clone(),
                why: Failure::of(FailureClass::Interrupted, "interrupted").into(),
            }));
        }
        failures.sort_by(|a, b| a.step.cmp(&b.step));
        if failures.is_empty() { Ok(planned) } else { Err(failures) }
    }

    /// Looks at one step after another as long as there are any. So many of these at once are each
    /// made once, and not anew for every step: there may be a hundred thousand.
    async fn look_after_another(&self, shared: &Mutex<Queue>, settled: &Notify) {
        let queue = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // From before the question on: what is settled in between must not be missed.
            let any_settled = settled.notified();
            let next = queue().next();
            match next {
                Next::Look(id) => {
                    let leaving = Leaving { queue: shared, settled };
                    let looked = self.look(id).await;
                    std::mem::forget(leaving);
                    queue().settle(self.p, id, looked);
                    settled.notify_waiters();
                }
                Next::Wait => any_settled.await,
                Next::Done => return,
            }
        }
    }

    async fn look(&self, id: NodeId) -> Result<PlannedStep, NoProposal> {
        let p = self.p;
        let node = p.graph.node(id);
        let scope = StepScope { values: &p.values, each: &node.each, steps: &self.table };
        let done = p.done.get(&node.id);
        // Whether what it made is still there must be seen for files: this may be another machine.
        let makes_files =
            node.step.kind.nature == Nature::Program && !node.step.is_deploying(p.cloud.target().protected);
        if let Some(done) = done.filter(|_| !makes_files) {
            let cx = context(p, id, Feed::silent(node.id.clone()), self.cancel.clone());
            return self.done_before(id, &cx, done).await;
        }
        if node.finally {
            let cx = context(p, id, Feed::silent(node.id.clone()), self.cancel.clone());
            let basis = self.basis(id, &cx, Seen::Unseen).await?;
            return Ok(self.at_the_end(id, &scope, basis));
        }
        let reads_after = self.reads_after(id, &scope);
        let around = Surroundings { reads_after: reads_after.as_ref(), ..Surroundings::of(p, &scope) };
        let cx = context(p, id, Feed::silent(node.id.clone()), self.cancel.clone());
        let mut proposed = pin!(propose(node, around, &cx));
        // Programs get their grace; what only asks is let go.
        let looked = if node.step.kind.starts_programs() && !self.cancel.is_stopping() {
            proposed.as_mut().await
        } else {
            let interrupted = |_: Stopped| Failure::of(FailureClass::Interrupted, "interrupted");
            self.cancel.unless_stopped(proposed.as_mut()).await.map_err(interrupted)?
        };
        match looked {
            Ok(Proposed::Ready(mut look)) => match done {
                Some(done) if look.proposal.action == Action::UpToDate => {
                    self.done_before(id, &cx, done).await
                }
                // What was read may be what the step in front replaces.
                _ => {
                    if let Some(held) = look.proposal.held.take() {
                        let Some(front) = self.running_creator(id) else { return Err(held.into()) };
                        look.proposal.warnings.push(format!("only after {front}: {}", held.in_one_line()));
                    }
                    if let Some(creator) = self.running_creator(id).filter(|_| only_read(node, &look)) {
                        let basis = self.basis(id, &cx, Seen::After(creator)).await?;
                        return Ok(self.later(id, creator, Action::Run, basis));
                    }
                    let basis = self.basis(id, &cx, Seen::Planned(&mut look)).await?;
                    Ok(self.planned(id, *look, basis))
                }
            },
            Ok(Proposed::Skipped(when)) => {
                self.table.set(&node.id, Known::Skipped(when.clone()));
                let basis = self.basis(id, &cx, Seen::Skipped).await?;
                Ok(self.step(id, Proposal::new(Action::Skipped, format!("when {when}")), basis))
            }
            Ok(Proposed::NotYet(after)) => {
                let basis = self.basis(id, &cx, Seen::After(&after)).await?;
                Ok(self.later(id, &after, default_action(node), basis))
            }
            Err(NoProposal::Failure(failure)) => self.missing(id, &cx, failure).await,
            Err(NoProposal::Unresolved(Unresolved { why: Missing::Secret { why, .. }, .. }))
                if !p.world.host.trusts_the_checkout() =>
            {
                self.missing(id, &cx, Failure::of(FailureClass::Passing, why)).await
            }
            Err(unresolved) => Err(unresolved),
        }
    }

    /// What the run did before it was interrupted is not looked at again.
    async fn done_before(
        &self,
        id: NodeId,
        cx: &Context,
        done: &DoneBefore,
    ) -> Result<PlannedStep, NoProposal> {
        self.table.set(&self.p.graph.node(id).id, known_before(done));
        let mut proposal = Proposal::up_to_date(done.summary.clone(), done.outputs.clone());
        proposal.receipt = done.receipt.clone();
        let basis = self.basis(id, cx, Seen::Unseen).await?;
        Ok(self.step(id, proposal, basis))
    }

    fn planned(&self, id: NodeId, look: Look, basis: Basis) -> PlannedStep {
        let node = self.p.graph.node(id);
        // What is put back is certain, and its files come later.
        let known = if look.proposal.action.will_run() || look.stored.is_some() {
            Known::After(Arc::new(look.proposal.outputs.clone()))
        } else {
            Known::Outputs { outputs: Arc::new(look.proposal.outputs.clone()), changed: false }
        };
        self.table.set(&node.id, known);
        self.step(id, look.proposal, basis)
    }

    /// What does not exist is created by an infrastructure step in front, or it is a mistake. What
    /// could not be asked is unknown.
    async fn missing(&self, id: NodeId, cx: &Context, failure: Failure) -> Result<PlannedStep, NoProposal> {
        // A recorded state is not made by a step in front of it.
        let recorded = matches!(self.p.graph.node(id).goal, Some(Goal::Recorded(_)));
        match failure.class {
            FailureClass::Missing if !recorded => match self.running_creator(id) {
                Some(creator) => {
                    let basis = self.basis(id, cx, Seen::After(creator)).await?;
                    Ok(self.later(id, creator, Action::Create, basis))
                }
                None => Err(NoProposal::Failure(failure)),
            },
            FailureClass::Passing => {
                let mut proposal = Proposal::new(Action::Unknown, failure.record.reason);
                proposal.warnings = failure.record.details;
                let basis = self.basis(id, cx, Seen::Unseen).await?;
                Ok(self.step(id, proposal, basis))
            }
            _ => Err(NoProposal::Failure(failure)),
        }
    }

    /// An infrastructure step in front that will run; the nearest one.
    pub(super) fn running_creator(&self, id: NodeId) -> Option<&StepId> {
        let mut creators =
            self.fronts.creators[id.0].iter().rev().map(|creator| &self.p.graph.node(*creator).id);
        creators.find(|creator| matches!(self.table.known(creator), Some(Known::After(_))))
    }

    fn later(&self, id: NodeId, after: &StepId, action: Action, basis: Basis) -> PlannedStep {
        let node = self.p.graph.node(id);
        let mut proposal = Proposal::new(action, format!("(known after {after})"));
        proposal.reversible = match node.step.kind.nature {
            Nature::Deploying | Nature::Infrastructure => Reversible::Auto,
            Nature::Program if !node.step.is_deploying(false) => Reversible::None,
            Nature::Program => match &node.step.common.undo {
                Some(Undo::Command(_)) => Reversible::Auto,
                Some(Undo::None) => Reversible::None,
                None => Reversible::Manual,
            },
            _ => Reversible::None,
        };
        proposal.changes = vec![Change::new(node.step.kind.name, None, format!("(known after {after})"))];
        self.step(id, proposal, basis)
    }

    /// What stands in `finally` may depend on how the run ends; only a condition that is false
    /// whatever happens settles it now.
    fn at_the_end(&self, id: NodeId, scope: &StepScope<'_>, basis: Basis) -> PlannedStep {
        let node = self.p.graph.node(id);
        let mut conditions = node.step.common.when.iter();
        let never = conditions.find(|when| matches!(when.evaluate(scope), Ok(Field::Known(false))));
        match never {
            Some(when) => {
                self.table.set(&node.id, Known::Skipped(when.text.clone()));
                self.step(id, Proposal::new(Action::Skipped, format!("when {}", when.text)), basis)
            }
            None => self.step(id, Proposal::new(Action::Run, "at the end"), basis),
        }
    }

    fn step(&self, id: NodeId, proposal: Proposal, basis: Basis) -> PlannedStep {
        let node = self.p.graph.node(id);
        let name = |to: &NodeId| self.p.graph.node(*to).id.clone();
        PlannedStep {
            id: node.id.clone(),
            kind: node.step.kind.name.to_owned(),
            group: node.step.groups.last().cloned(),
            needs: node.before.iter().map(|edge| name(&edge.to)).collect(),
            action: proposal.action,
            upkeep: match proposal.action {
                Action::UpToDate => proposal.effect.is_some(),
                Action::Cached => true,
                _ => false,
            },
            summary: proposal.summary,
            subject: proposal.subject,
            changes: proposal.changes,
            warnings: proposal.warnings,
            reversible: proposal.reversible,
            cached: proposal.action == Action::Cached,
            basis,
            digest: String::new(),
            outputs: proposal.outputs,
            receipt: proposal.receipt,
            standing: proposal.standing,
            heading: node.step.groups.first().cloned(),
            hangs_on: self.fronts.hangs_on[id.0].iter().map(name).collect(),
        }
    }

    /// A step in front that will run and leaves files which this one reads.
    fn reads_after(&self, id: NodeId, scope: &StepScope<'_>) -> Option<StepId> {
        let running: Vec<NodeId> = self.fronts.makers[id.0]
            .iter()
            .copied()
            .filter(|maker| matches!(self.table.known(&self.p.graph.node(*maker).id), Some(Known::After(_))))
            .collect();
        let node = self.p.graph.node(id);
        let maker = self.fronts.reads_what_is_left(node, running.into_iter(), scope)?;
        Some(self.p.graph.node(maker).id.clone())
    }
}

/// Lets the others end when a look ends in the middle, by a defect or because nobody waits any more.
struct Leaving<'a> {
    queue: &'a Mutex<Queue>,
    settled: &'a Notify,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).abandon();
        self.settled.notify_waiters();
    }
}

/// The context in which a step is planned or carried out.
#[must_use]
pub fn context(p: &Prepared, id: NodeId, feed: Feed, cancel: Cancel) -> Context {
    let node = p.graph.node(id);
    Context {
        id: node.id.clone(),
        flow: p.guest(&node.id).map_or(&p.flow, |(inside, _)| &inside.flow).name.clone(),
        run: None,
        world: p.world.clone(),
        cloud: p.cloud_of(id),
        elsewhere: Arc::clone(&p.elsewhere),
        recorded: p.recorded(&node.id),
        settled: p.settled(&node.id),
        feed,
        cancel,
        answers: Answers::Nobody,
        gatekeeper: Gatekeeper { policies: gates::policies(p, id), run: None, gated: gated(p, id) },
        sealer: p.sealer.clone(),
        trace: None,
    }
}

/// Whether a gate stands in front of a step that goes back; of the others nobody asks. One whose
/// condition is false stands in front of nothing.
fn gated(p: &Prepared, id: NodeId) -> bool {
    let asks = |front: &NodeId| {
        let node = p.graph.node(*front);
        let scope = each_scope(&p.values, &node.each);
        let mut conditions = node.step.common.when.iter();
        node.step.kind.nature == Nature::Gate
            && conditions.all(|when| matches!(when.evaluate(&scope), Ok(Field::Known(true))))
    };
    matches!(p.graph.node(id).goal, Some(Goal::Recorded(_))) && p.graph.ancestors(id).iter().any(asks)
}

/// Whether a step does nothing but say what it read, so that it would not be looked at again.
fn only_read(node: &Node, look: &Look) -> bool {
    node.step.kind.nature == Nature::Check && look.proposal.action == Action::UpToDate
}

/// What a step does when nothing more is known: programs run, everything else updates.
fn default_action(node: &Node) -> Action {
    match node.step.kind.nature {
        Nature::Program | Nature::Check | Nature::Gate => Action::Run,
        Nature::Deploying | Nature::Infrastructure => Action::Update,
    }
}

/// A gate is needed when something behind it would change; one that flow added, when something right
/// behind it would be taken away. Otherwise nobody is asked.
fn settle_gates(p: &Prepared, steps: &mut [PlannedStep]) {
    if !p.graph.iter().any(|(_, node)| node.step.kind.nature == Nature::Gate) {
        return;
    }
    let followers = p.graph.followers();
    let places: BTreeMap<NodeId, usize> = (steps.iter().enumerate())
        .filter_map(|(place, step)| Some((p.graph.find_id(&step.id)?, place)))
        .collect();
    let protected = p.cloud.target().protected;
    let mut closed = Vec::new();
    for (id, place) in &places {
        let node = p.graph.node(*id);
        if steps[*place].action != Action::Run || node.step.kind.nature != Nature::Gate {
            continue;
        }
        let planned = |id: &NodeId| places.get(id).map(|place| &steps[*place]);
        let takes_away =
            |id: &NodeId| planned(id).is_some_and(|step| gates::takes_away(p, *id, step).is_some());
        let changes = |id: &NodeId| {
            planned(id).is_some_and(|step| step.action.will_run())
                && p.graph.node(*id).step.is_deploying(protected)
        };
        let needed = if node.added {
            followers[id.0].iter().any(takes_away)
        } else {
            gates::behind(&followers, *id).iter().any(changes)
        };
        if !needed {
            closed.push(*place);
        }
    }
    for place in closed {
        let step = &mut steps[place];
        step.action = Action::UpToDate;
        "nothing behind it changes".clone_into(&mut step.summary);
        step.outputs = Outputs::new();
    }
}
