//! Which step may start now.
//!
//! A step is ready when everything it waits for is settled: what it `needs`
//! or stands `after` must have succeeded or be as wanted already. Places are
//! limited by `-j` and by pools.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::event::{Event, Feed, StepOutcome};
use crate::model::change::Action;
use crate::model::flow::OnFailure;
use crate::model::kind::Nature;
use crate::model::names::StepId;
use crate::plan::graph::NodeId;
use crate::plan::scope::RunFacts;
use crate::world::cancel::{Cancel, Urgency};
use crate::world::parallel;

use super::unit::{self, UnitEnd};
use super::{Shared, Stage};

/// How many steps that only wait for a provider may be under way at once.
const WAITING_STEPS: usize = 64;

/// Runs the steps of one graph, either the main ones or those of `finally`.
pub struct Scheduler {
    shared: Arc<Shared>,
    cancel: Cancel,
    finally: bool,
    facts: RunFacts,
    /// How many predecessors are not settled yet.
    waiting: BTreeMap<NodeId, usize>,
    followers: HashMap<NodeId, Vec<NodeId>>,
    ready: Ready,
    /// What a step may not start because of.
    blocked: BTreeMap<NodeId, StepId>,
    pools: HashMap<String, usize>,
    programs: usize,
    /// How many programs may run at once without `-j`; asking the system means reading many files.
    cores: usize,
    stopped: bool,
    ends: BTreeMap<StepId, UnitEnd>,
}

/// Steps that wait for nothing any more, in order of appearance, so that the same flow starts its
/// steps in the same order. Apart by what limits them: with a thousand programs ready, finding the
/// next step must not mean looking at those that have no place.
#[derive(Default)]
struct Ready {
    programs: BTreeSet<NodeId>,
    others: BTreeSet<NodeId>,
    /// Each with what it needs that did not succeed.
    blocked: BTreeMap<NodeId, StepId>,
}

impl Scheduler {
    /// A scheduler for the steps that will run.
    #[must_use]
    pub fn new(shared: Arc<Shared>, cancel: Cancel, finally: bool) -> Self {
        let facts = shared.prepared.values.run.clone();
        let cores = parallel::cores();
        let mut scheduler = Self {
            shared,
            cancel,
            finally,
            facts,
            waiting: BTreeMap::new(),
            followers: HashMap::new(),
            ready: Ready::default(),
            blocked: BTreeMap::new(),
            pools: HashMap::new(),
            programs: 0,
            cores,
            stopped: false,
            ends: BTreeMap::new(),
        };
        scheduler.draw();
        scheduler
    }

    /// What `run.*` means for these steps.
    #[must_use]
    pub fn with_facts(mut self, facts: RunFacts) -> Self {
        self.facts = facts;
        self
    }

    /// Edges between steps that will run; a step that will not run passes its own edges on.
    fn draw(&mut self) {
        let shared = Arc::clone(&self.shared);
        let graph = &shared.prepared.graph;
        let will_run: HashMap<NodeId, bool> = shared
            .observed
            .plan
            .steps
            .iter()
            .filter_map(|step| Some((graph.find_id(&step.id)?, step.executes())))
            .collect();
        let runs = |id: NodeId| will_run.get(&id).copied().unwrap_or(false);
        // For each node the running nodes in front of it, through those that do not run.
        let mut fronts: HashMap<NodeId, BTreeSet<NodeId>> = HashMap::new();
        for id in graph.order() {
            let node = graph.node(id);
            if node.finally != self.finally {
                continue;
            }
            let mut front = BTreeSet::new();
            for edge in &node.before {
                if graph.node(edge.to).finally != self.finally {
                    continue;
                }
                if runs(edge.to) {
                    front.insert(edge.to);
                } else if let Some(further) = fronts.get(&edge.to) {
                    front.extend(further);
                }
            }
            if runs(id) {
                self.waiting.insert(id, front.len());
                if front.is_empty() {
                    self.make_ready(id);
                }
                for before in &front {
                    self.followers.entry(*before).or_default().push(id);
                }
            } else {
                fronts.insert(id, front);
            }
        }
    }

    /// Runs until nothing is left that may start. Returns how each step ended.
    pub async fn run(mut self) -> BTreeMap<StepId, UnitEnd> {
        let mut units: JoinSet<(NodeId, UnitEnd)> = JoinSet::new();
        loop {
            self.start(&mut units).await;
            let Some(joined) = units.join_next().await else { break };
            match joined {
                Ok((id, end)) => self.settle(id, end),
                // A unit that panicked is a defect; its step is unknown, and nothing else starts.
                Err(_) => self.stopped = true,
            }
        }
        self.ends
    }

    async fn start(&mut self, units: &mut JoinSet<(NodeId, UnitEnd)>) {
        while !self.is_stopping() {
            if let Some((id, because)) = self.ready.blocked.pop_first() {
                self.skip(id, &because).await;
                continue;
            }
            let Some(id) = self.next(units.len()) else { return };
            self.take_place(id);
            let unit = unit::Unit::new(Arc::clone(&self.shared), id, self.cancel.clone(), self.facts.clone());
            units.spawn(async move { (id, unit.live().await) });
        }
    }

    fn is_stopping(&self) -> bool {
        let urgency = self.cancel.urgency();
        // `finally` runs after an interruption too, unless somebody is in a hurry.
        self.stopped || urgency >= if self.finally { Urgency::Killing } else { Urgency::Stopping }
    }

    /// A step that cannot run since something it needs did not succeed.
    async fn skip(&mut self, id: NodeId, because: &StepId) {
        let node = self.shared.prepared.graph.node(id);
        let feed = Feed::new(node.id.clone(), self.shared.sender.clone());
        // What was done and is not taken back stays as it was recorded.
        if self.shared.stage == Stage::Wanted {
            feed.send(Event::StepSettled {
                step: node.id.clone(),
                action: Action::Skipped,
                reason: format!("{because} did not succeed"),
                outputs: crate::model::value::Outputs::new(),
            })
            .await;
        }
        let end = UnitEnd::not_run();
        self.settle_followers(id, &end);
        self.ready_followers(id);
    }

    /// The first step that there is a place for.
    fn next(&self, running: usize) -> Option<NodeId> {
        let (programs, others) = match self.shared.options.jobs {
            Some(jobs) => (running < jobs, running < jobs),
            None => (self.programs < self.cores, running - self.programs.min(running) < WAITING_STEPS),
        };
        let first = |ready: &BTreeSet<NodeId>| ready.iter().copied().find(|id| self.pool_has_place(*id));
        let program = programs.then(|| first(&self.ready.programs)).flatten();
        let other = others.then(|| first(&self.ready.others)).flatten();
        program.into_iter().chain(other).min()
    }

    fn pool_has_place(&self, id: NodeId) -> bool {
        let pool = self.shared.prepared.graph.node(id).step.common.pool.as_ref();
        pool.is_none_or(|pool| {
            let size = self.shared.prepared.flow.pools.get(pool).copied().unwrap_or(1);
            self.pools.get(pool).copied().unwrap_or(0) < size
        })
    }

    fn take_place(&mut self, id: NodeId) {
        self.ready.programs.remove(&id);
        self.ready.others.remove(&id);
        let step = &self.shared.prepared.graph.node(id).step;
        self.programs += usize::from(is_program(step.kind.nature));
        if let Some(pool) = &step.common.pool {
            *self.pools.entry(pool.clone()).or_default() += 1;
        }
    }

    fn give_back(&mut self, id: NodeId) {
        let step = &self.shared.prepared.graph.node(id).step;
        self.programs -= usize::from(is_program(step.kind.nature)).min(self.programs);
        if let Some(taken) = step.common.pool.as_ref().and_then(|pool| self.pools.get_mut(pool)) {
            *taken = taken.saturating_sub(1);
        }
    }

    fn settle(&mut self, id: NodeId, end: UnitEnd) {
        self.give_back(id);
        let step = Arc::clone(&self.shared.prepared.graph.node(id).step);
        let goes_on = self.shared.options.keep_going
            || self.shared.goes_back()
            || self.shared.prepared.flow.on_failure == OnFailure::Continue
            || step.common.continue_on_failure;
        let failed = !(end.outcome.satisfies()
            || matches!(end.outcome, StepOutcome::Skipped | StepOutcome::RolledBack));
        if end.journal_down || (failed && !(goes_on || self.finally)) {
            self.stopped = true;
        }
        self.settle_followers(id, &end);
        self.ready_followers(id);
        self.ends.insert(self.shared.prepared.graph.node(id).id.clone(), end);
    }

    /// Whoever needs a step that did not succeed will not run. One that its own `when` skipped
    /// holds nobody up.
    fn settle_followers(&mut self, id: NodeId, end: &UnitEnd) {
        let taken_back = end.outcome == StepOutcome::RolledBack;
        if end.outcome.satisfies() || taken_back || (end.outcome == StepOutcome::Skipped && !end.blocked) {
            return;
        }
        let failed = self.shared.prepared.graph.node(id).id.clone();
        for follower in self.followers.get(&id).cloned().unwrap_or_default() {
            self.blocked.entry(follower).or_insert_with(|| failed.clone());
        }
    }

    fn ready_followers(&mut self, id: NodeId) {
        for follower in self.followers.get(&id).cloned().unwrap_or_default() {
            if let Some(left) = self.waiting.get_mut(&follower) {
                *left -= 1;
                if *left == 0 {
                    self.make_ready(follower);
                }
            }
        }
    }

    fn make_ready(&mut self, id: NodeId) {
        if let Some(because) = self.blocked.remove(&id) {
            self.ready.blocked.insert(id, because);
        } else if is_program(self.shared.prepared.graph.node(id).step.kind.nature) {
            self.ready.programs.insert(id);
        } else {
            self.ready.others.insert(id);
        }
    }
}

/// Programs are limited by cores; everything else only waits for a provider.
fn is_program(nature: Nature) -> bool {
    nature == Nature::Program
}
