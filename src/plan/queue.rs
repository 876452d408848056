//! The order in which steps are looked at: each as soon as those are settled
//! that it must be looked at after.

use std::collections::BTreeMap;

use super::document::PlannedStep;
use super::fronts::Fronts;
use super::graph::NodeId;
use super::observe::PlanFailure;
use super::prepare::Prepared;
use super::propose::NoProposal;

/// Which steps are still to be looked at, and what came of the others.
#[derive(Default)]
pub(super) struct Queue {
    /// The next one is the last.
    ready: Vec<NodeId>,
    /// How many are being looked at.
    under_way: usize,
    /// Whether one of them will never be settled.
    abandoned: bool,
    /// How many steps each of the others waits for.
    waiting: BTreeMap<NodeId, usize>,
    followers: Vec<Vec<NodeId>>,
    /// What came of those that could be planned, each in its node's place.
    pub(super) planned: Vec<Option<PlannedStep>>,
    /// What came of the others.
    pub(super) failures: Vec<PlanFailure>,
}

/// What there is to be done.
pub(super) enum Next {
    /// This step can be looked at.
    Look(NodeId),
    /// Those that are left wait for one that is being looked at.
    Wait,
    /// Nothing.
    Done,
}

impl Queue {
    /// All selected steps.
    pub(super) fn new(p: &Prepared, fronts: &Fronts) -> Self {
        let mut queue = Self {
            followers: vec![Vec::new(); p.graph.len()],
            planned: std::iter::repeat_with(|| None).take(p.graph.len()).collect(),
            ..Self::default()
        };
        for (id, _) in p.graph.iter().filter(|(id, _)| p.selection.contains(*id)) {
            let waits = &fronts.waits[id.0];
            for before in waits {
                queue.followers[before.0].push(id);
            }
            if waits.is_empty() {
                queue.ready.push(id);
            } else {
                queue.waiting.insert(id, waits.len());
            }
        }
        queue.ready.reverse();
        queue
    }

    /// What to do next; a step that is handed out is being looked at until it is settled.
    pub(super) fn next(&mut self) -> Next {
        match self.ready.pop() {
            _ if self.abandoned => Next::Done,
            Some(id) => {
                self.under_way += 1;
                Next::Look(id)
            }
            None if self.under_way > 0 => Next::Wait,
            None => Next::Done,
        }
    }

    /// Nobody looks at a step any more that was handed out: what waits for it would wait for ever.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Takes what came of a step, and lets those go that waited for it alone.
    pub(super) fn settle(&mut self, p: &Prepared, id: NodeId, looked: Result<PlannedStep, NoProposal>) {
        self.under_way -= 1;
        match looked {
            Ok(step) => self.planned[id.0] = Some(step),
            Err(why) => {
                let why = why.masked(&p.world.masker);
                self.failures.push(PlanFailure { step: p.graph.node(id).id.clone(), why });
            }
        }
        for follower in &self.followers[id.0] {
            if let Some(left) = self.waiting.get_mut(follower) {
                *left -= 1;
                if *left == 0 {
                    self.ready.push(*follower);
                }
            }
        }
    }
}
