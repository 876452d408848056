//! `on-failure "rollback"`: what a failed run did is taken back.
//!
//! Only what this run did, in reverse order, each step to the state that its
//! intent says stood before. The same nodes as in the flow with other goals,
//! carried out by the same units, so every undo has its intent, its journal
//! records and its grace. Nobody is asked and nothing is checked on the way.
//!
//! - What nobody knows is settled first; while something stays unknown,
//!   nothing is taken back: one does not undo what one cannot see.
//! - A step that cannot go back (a contract migration, infrastructure that
//!   would be deleted) keeps everything that came after it where it is, for
//!   that was made for what it left.
//! - A failing undo stops only what depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::{Event, Feed, RunOutcome, StepEnded, StepOutcome, Teller};
use crate::journal::log;
use crate::journal::replay::{Phase, RunState, StepState};
use crate::model::change::Action;
use crate::model::flow::OnFailure;
use crate::model::kind::Nature;
use crate::model::names::StepId;
use crate::model::step::Undo;
use crate::model::value::Outputs;
use crate::plan::backwards::{Company, back_of, turn};
use crate::plan::basis::Basis;
use crate::plan::document::{Plan, PlannedStep};
use crate::plan::graph::{Goal, NodeId};
use crate::plan::observe::{Observed, context};
use crate::plan::prepare::Prepared;
use crate::plan::propose::{NoProposal, Proposed, Surroundings, propose};
use crate::plan::scope::StepScope;
use crate::plan::selection::Selection;
use crate::steps::{Back, Context, Failure, FailureClass, Open, Proposal, Settled, Way};
use crate::world::cancel::Cancel;

use super::recover::About;
use super::scheduler::Scheduler;
use super::unit::UnitEnd;
use super::{Shared, Stage, recover};

type Ends = BTreeMap<StepId, UnitEnd>;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Unwound {
    /// How the run ended with it.
    pub outcome: RunOutcome,
    /// The steps that are as they were before the run.
    pub taken_back: BTreeSet<StepId>,
    /// What the end of the run says of it.
    pub notes: Vec<String>,
}

/// Takes back what the run did, if its flow asks for that and it failed. `None` when there was
/// nothing to take back.
pub async fn unwind(
    shared: &Arc<Shared>,
    outcome: RunOutcome,
    ends: &Ends,
    cancel: &Cancel,
    feed: &Feed,
) -> Option<Unwound> {
    if !is_asked(shared, outcome, ends, cancel) {
        return None;
    }
    let records = match log::read(&shared.prepared.world.store, &shared.run) {
        Ok(records) => records,
        Err(error) => {
            let why = format!("Nothing was taken back, since the journal cannot be read: {error}");
            return Some(Unwound::nothing(RunOutcome::RollbackFailed, why));
        }
    };
    let mut state = RunState::replay(&records);
    let Some(reason) = reason(&state) else {
        return Some(Unwound::nothing(outcome, "Nothing had to be taken back.".to_owned()));
    };
    if feed.store(Event::RollbackStarted { reason }).await.is_err() {
        return None;
    }
    if let Err(unknown) = settle_unknown(shared, &mut state, cancel, feed).await {
        return Some(Unwound::nothing(RunOutcome::Unknown, unknown));
    }
    let mut unwinding = Unwinding::new(shared, &state);
    unwinding.look_ahead(cancel, feed).await;
    let ends = unwinding.carry_out(cancel).await;
    Some(unwinding.sum_up(&ends))
}

/// A gate that was closed and a signal are no failures: what was done then stays.
fn is_asked(shared: &Shared, outcome: RunOutcome, ends: &Ends, cancel: &Cancel) -> bool {
    let p = &shared.prepared;
    let is_gate =
        |id: &StepId| p.graph.find_id(id).is_some_and(|id| p.graph.node(id).step.kind.nature == Nature::Gate);
    let refused = ends.iter().any(|(id, end)| end.outcome == StepOutcome::Refused && !is_gate(id));
    let failed = match outcome {
        RunOutcome::Failed | RunOutcome::Locked | RunOutcome::Unknown => true,
        RunOutcome::Refused => refused,
        _ => false,
    };
    p.flow.on_failure == OnFailure::Rollback
        && p.back.is_none()
        && failed
        && !cancel.is_stopping()
        && !ends.values().any(|end| end.journal_down)
}

/// Which step failed and why; `None` when no effect was even begun.
fn reason(state: &RunState) -> Option<String> {
    state.steps.values().any(|step| step.before.is_some()).then(|| {
        let failed = |step: &StepState| {
            matches!(
                step.phase,
                Phase::Ended(
                    StepOutcome::Failed | StepOutcome::Unknown | StepOutcome::Refused | StepOutcome::Locked
                )
            )
        };
        let step = state.steps.iter().find(|(_, step)| failed(step));
        step.map_or_else(
            || "the run failed".to_owned(),
            |(id, step)| match &step.failure {
                Some(failure) => format!("{id} failed: {}", failure.reason),
                None => format!("{id} failed"),
            },
        )
    })
}

impl Unwound {
    fn nothing(outcome: RunOutcome, note: String) -> Self {
        Self { outcome, taken_back: BTreeSet::new(), notes: vec![note] }
    }
}

/// Asks about every effect of which nobody knows whether it was made, and records what is said.
async fn settle_unknown(
    shared: &Shared,
    state: &mut RunState,
    cancel: &Cancel,
    feed: &Feed,
) -> Result<(), String> {
    for (id, intent, notes) in state.open() {
        let took = state.steps.get(&id).map(recover::took).unwrap_or_default();
        let (open, table) = (Open { intent, notes }, &shared.observed.table);
        let about = About { step: &id, way: None, open: &open };
        let asked = recover::ask(&shared.prepared, table, &shared.run, about, cancel).await;
        let settled = asked.unwrap_or_else(Settled::Ambiguous);
        let why = match &settled {
            Settled::Ambiguous(why) => Some(why.clone()),
            _ => None,
        };
        for event in recover::events(&id, settled, &Teller::World, took) {
            if let Err(down) = feed.store(event.clone()).await {
                return Err(format!("Nothing was taken back: {down}."));
            }
            if let Some(last) = state.last {
                state.apply(last, &event);
            }
        }
        if let Some(why) = why {
            return Err(format!("Nothing was taken back: whether {id} was done is not known ({why})."));
        }
    }
    Ok(())
}

fn silent(shared: &Shared, id: NodeId, cancel: &Cancel) -> Context {
    let p = &shared.prepared;
    let mut cx = context(p, id, Feed::silent(p.graph.node(id).id.clone()), cancel.clone());
    cx.run = Some(shared.run.clone());
    cx
}

/// What is to be taken back, and what cannot be.
struct Unwinding<'a> {
    shared: &'a Arc<Shared>,
    ways: BTreeMap<NodeId, Arc<Way>>,
    /// What each step would do, as looked at beforehand.
    proposals: BTreeMap<NodeId, Proposal>,
    /// Steps that cannot go back, and why.
    refused: BTreeMap<NodeId, String>,
    /// Steps that stay because of another one.
    held: BTreeMap<NodeId, NodeId>,
    /// Steps whose kind has no way back.
    by_hand: Vec<StepId>,
    /// Programs that failed.
    halves: Vec<StepId>,
    /// Infrastructure that was not there before: what goes back leaves it, and nothing else hangs on it.
    created: Vec<StepId>,
    /// Steps that were taken back before the run was interrupted.
    back_before: BTreeSet<StepId>,
    /// Programs of another flow that went back inside this run: nothing does them again.
    undone: Vec<StepId>,
}

impl<'a> Unwinding<'a> {
    fn new(shared: &'a Arc<Shared>, state: &RunState) -> Self {
        let graph = &shared.prepared.graph;
        let mut unwinding = Self {
            shared,
            ways: BTreeMap::new(),
            proposals: BTreeMap::new(),
            refused: BTreeMap::new(),
            held: BTreeMap::new(),
            by_hand: Vec::new(),
            halves: Vec::new(),
            created: Vec::new(),
            back_before: BTreeSet::new(),
            undone: Vec::new(),
        };
        for (id, node) in graph.iter().filter(|(_, node)| !node.finally) {
            let Some(step) = state.steps.get(&node.id) else { continue };
            // Every effect that was begun: one that failed may have been made in part.
            let Some(before) = &step.before else { continue };
            let untouched = matches!(
                step.phase,
                Phase::Pending | Phase::Ended(StepOutcome::UpToDate | StepOutcome::RolledBack)
            );
            let done = Phase::Ended(StepOutcome::Succeeded);
            // What could not be taken back before the run was interrupted is tried again.
            let done = step.phase == done
                || (step.phase == Phase::Ended(StepOutcome::RollbackFailed) && step.undoes == Some(done));
            if step.phase == Phase::Ended(StepOutcome::RolledBack) {
                unwinding.back_before.insert(node.id.clone());
            }
            let created = before.is_null() && node.step.kind.nature == Nature::Infrastructure;
            match back_of(node) {
                _ if untouched => {}
                _ if created => unwinding.created.push(node.id.clone()),
                // `undo` is for what was done; what a program did that failed nobody knows.
                _ if !done && node.step.kind.nature == Nature::Program => {
                    if !matches!(node.step.common.undo, Some(Undo::None)) {
                        unwinding.halves.push(node.id.clone());
                    }
                }
                // Its `undo` was what this run did; once more would not bring anything back.
                _ if node.guest.is_some() && node.step.kind.nature == Nature::Program => {
                    unwinding.undone.push(node.id.clone());
                }
                Back::To(_) => {
                    let to = Some(before.clone()).filter(|state| !state.is_null());
                    unwinding.ways.insert(id, Arc::new(Way { now: step.receipt.clone(), to }));
                }
                Back::Nothing => unwinding.by_hand.push(node.id.clone()),
                Back::Again => {}
            }
        }
        unwinding
    }

    /// Looks at every step before the first is touched: one that cannot go back keeps those that
    /// came after it where they are.
    async fn look_ahead(&mut self, cancel: &Cancel, feed: &Feed) {
        let looks = self.ways.iter().map(|(id, way)| self.look(*id, way, cancel));
        for (id, looked) in futures_util::future::join_all(looks).await {
            match looked {
                Ok(proposal) => drop(self.proposals.insert(id, proposal)),
                // It may go right when it is its turn.
                Err(failure) if matches!(failure.class, FailureClass::Passing | FailureClass::Locked) => {}
                Err(failure) => {
                    self.refused.insert(id, failure.record.reason.clone());
                    let ended = StepEnded {
                        step: self.shared.prepared.graph.node(id).id.clone(),
                        outcome: StepOutcome::RollbackFailed,
                        summary: String::new(),
                        duration_ms: 0,
                        outputs: Outputs::new(),
                        receipt: self.ways.get(&id).map(|way| way.now.clone()).unwrap_or_default(),
                        failure: Some(failure.record),
                    };
                    // A journal that fails stops every undo before its intent.
                    let _ = feed.store(Event::StepEnded(ended)).await;
                }
            }
        }
        let followers = self.shared.prepared.graph.followers();
        for refused in self.refused.keys() {
            let mut stack = vec![*refused];
            while let Some(id) = stack.pop() {
                for follower in &followers[id.0] {
                    if !self.refused.contains_key(follower) && self.held.insert(*follower, *refused).is_none()
                    {
                        stack.push(*follower);
                    }
                }
            }
        }
        let (refused, held) = (&self.refused, &self.held);
        held.keys().chain(refused.keys()).for_each(|id| drop(self.proposals.remove(id)));
        self.held.retain(|id, _| self.ways.contains_key(id));
        self.ways.retain(|id, _| !refused.contains_key(id) && !self.held.contains_key(id));
    }

    async fn look(&self, id: NodeId, way: &Arc<Way>, cancel: &Cancel) -> (NodeId, Result<Proposal, Failure>) {
        let p = &self.shared.prepared;
        let mut node = p.graph.node(id).clone();
        node.goal = Some(Goal::Recorded(Arc::clone(way)));
        let cx = silent(self.shared, id, cancel);
        let scope = StepScope { values: &p.values, each: &node.each, steps: &self.shared.observed.table };
        let proposal = match propose(&node, Surroundings::of(p, &scope), &cx).await {
            Ok(Proposed::Ready(look)) => Ok(look.proposal),
            Ok(Proposed::Skipped(_) | Proposed::NotYet(_)) => {
                Err(Failure::new("what it refers to is not known"))
            }
            Err(NoProposal::Failure(failure)) => Err(failure),
            Err(NoProposal::Unresolved(error)) => Err(Failure::new(error.why.to_string())),
        };
        let nature = node.step.kind.nature;
        (id, proposal.and_then(|proposal| keep_infrastructure(nature, &proposal).map(|()| proposal)))
    }

    /// Takes back, each step after those that came after it.
    async fn carry_out(&self, cancel: &Cancel) -> Ends {
        let shared = self.shared;
        let p = &shared.prepared;
        let (graph, selected) = turn(&p.graph, &self.ways, Company::Again, &back_of);
        let steps = graph.iter().filter(|(id, _)| selected.get(id.0) == Some(&true));
        let steps = steps.filter_map(|(id, _)| self.planned(id)).collect();
        let from_release = p.selection.from_release.clone();
        let unwinding = Shared {
            prepared: Prepared { graph, selection: Selection { selected, from_release }, ..p.clone() },
            observed: Observed::new(
                Plan { steps, ..shared.observed.plan.clone() },
                shared.observed.table.clone(),
            ),
            options: shared.options.clone(),
            run: shared.run.clone(),
            past: crate::journal::past::Past::default(),
            sender: shared.sender.clone(),
            stage: Stage::Unwinding,
            claim: Arc::clone(&shared.claim),
        };
        Scheduler::new(Arc::new(unwinding), cancel.clone(), false).run().await
    }

    fn planned(&self, id: NodeId) -> Option<PlannedStep> {
        let node = self.shared.prepared.graph.node(id);
        let planned = self.shared.observed.planned(&node.id)?;
        let mut step = planned.clone();
        (step.action, step.upkeep) = (Action::Update, false);
        step.basis = Basis::default();
        match self.proposals.get(&id) {
            Some(proposal) => step.summary.clone_from(&proposal.summary),
            None => "once more".clone_into(&mut step.summary),
        }
        Some(step)
    }

    fn sum_up(&self, ends: &Ends) -> Unwound {
        let name = |id: &NodeId| self.shared.prepared.graph.node(*id).id.clone();
        let with = |wanted: &dyn Fn(&UnitEnd) -> bool| -> Vec<StepId> {
            ends.iter().filter(|(_, end)| wanted(end)).map(|(id, _)| id.clone()).collect()
        };
        let mut taken_back = with(&|end| end.outcome == StepOutcome::RolledBack);
        taken_back.extend(self.back_before.iter().cloned());
        taken_back.sort();
        let again = with(&|end| end.outcome == StepOutcome::Succeeded);
        let failed = with(&|end| {
            let fine = end.outcome.satisfies()
                || matches!(end.outcome, StepOutcome::RolledBack | StepOutcome::Skipped);
            !fine
        });
        let left: Vec<StepId> = self.ways.keys().map(name).filter(|id| !ends.contains_key(id)).collect();
        let mut notes = Vec::new();
        let mut say = |words: &str, ids: &[StepId]| {
            if !ids.is_empty() {
                let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
                notes.push(format!("{words}: {}.", names.join(", ")));
            }
        };
        say("Taken back", &taken_back);
        say("Done once more", &again);
        say("Could not be taken back", &failed);
        say("Not taken back", &left);
        for (id, why) in &self.refused {
            let because: Vec<String> = self
                .held
                .iter()
                .filter(|(_, because)| *because == id)
                .map(|(held, _)| name(held).to_string())
                .collect();
            notes.push(format!("{} stays: {why}.", name(id)));
            if !because.is_empty() {
                notes.push(format!("Because of it these stay too: {}.", because.join(", ")));
            }
        }
        for (id, end) in ends.iter().filter(|(_, end)| !end.stays.is_empty()) {
            notes.push(format!("{id}: {}.", end.stays.join("; ")));
        }
        for id in &self.by_hand {
            notes.push(format!("{id} stays: its kind has no way back."));
        }
        for id in &self.undone {
            notes.push(format!("{id} stays back: a program that was taken back is not run again."));
        }
        for id in &self.created {
            notes.push(format!(
                "{id} stays: this run created it, and infrastructure is never deleted unasked."
            ));
        }
        for id in &self.halves {
            notes.push(format!("{id} failed: what it had done by then is not known and stays."));
        }
        let whole =
            self.created.is_empty() && failed.is_empty() && left.is_empty() && self.refused.is_empty();
        Unwound {
            outcome: if whole { RunOutcome::RolledBack } else { RunOutcome::RollbackFailed },
            taken_back: taken_back.into_iter().collect(),
            notes,
        }
    }
}

/// Nothing is deleted or replaced without being asked.
pub(super) fn keep_infrastructure(nature: Nature, proposal: &Proposal) -> Result<(), Failure> {
    let lost = match proposal.action {
        Action::Delete => "delete",
        Action::Replace => "replace",
        _ => return Ok(()),
    };
    if nature != Nature::Infrastructure {
        return Ok(());
    }
    let why =
        format!("going back would {lost} infrastructure ({}), which is never done unasked", proposal.summary);
    Err(Failure::of(FailureClass::Refused, why))
}
