//! From a flow's graph to the graph of a rollback.
//!
//! A rollback is planned and carried out like any other run: the same nodes,
//! other edges, and for each step a *goal* instead of what the flow says. Two
//! recordings decide: what the newest release says of each step (where it
//! stands) and what the target says (where to).
//!
//! Order, the reverse of the layers:
//!
//! - Steps that return to a recorded state stand in the reverse order of the
//!   flow: what was done last is taken back first. They need nothing of one
//!   another, since their states are recorded.
//! - What is done once more (an invalidation) stays behind the steps that it
//!   stood behind, for it deals with what they did.
//! - A gate stays in front of everything it stood in front of.
//! - A check comes after all that it checked.
//!
//! Nothing is dropped silently: what a release records and the rollback does
//! not touch is named in [`Turned::stays`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::journal::releases::{Recorded, Release, ReleaseError, Releases};
use crate::model::flow::Flow;
use crate::model::kind::Nature;
use crate::model::names::{EnvName, FlowName, StepId};
use crate::steps::{self, Back, Way};

use super::graph::{Edge, Goal, Graph, Node, NodeId, Why};
use super::selection::{Selection, SelectionError, Typed, only};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Wish {
    /// The release to go back to; `None` for the newest good one before what stands.
    pub to: Option<u64>,
    /// When the trouble began.
    pub incident: Option<Timestamp>,
}

/// A rollback that is being planned or carried out.
#[derive(Clone, Debug)]
pub struct Backwards {
    /// Where it goes.
    pub to: Arc<Release>,
    /// What the rollback does not touch though a release records it.
    pub stays: Vec<Stays>,
    /// When the trouble began.
    pub incident: Option<Timestamp>,
}

/// A step that a rollback leaves as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stays {
    /// The step.
    pub step: StepId,
    /// Why.
    pub why: Staying,
}

/// Why a rollback leaves a step as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staying {
    /// The flow files no longer have it.
    Gone,
    /// Nothing can take back what it does.
    ByHand,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Staying::Gone => "the flow files no longer have it",
            Staying::ByHand => "its kind has no way back",
        };
        write!(f, "{} stays as it is: {why}", self.step)
    }
}

/// Why there is nothing to go back to.
#[derive(Debug, thiserror::Error)]
pub enum BackError {
    /// No release of this flow there.
    #[error("{environment} has no release of {flow}")]
    NoRelease {
        /// The environment.
        environment: EnvName,
        /// The flow.
        flow: FlowName,
    },
    /// Nothing good before what stands.
    #[error("{environment} has no good release of {flow} before release {stands}")]
    NothingBefore {
        /// The environment.
        environment: EnvName,
        /// The flow.
        flow: FlowName,
        /// The newest release.
        stands: u64,
    },
    /// No release of that number.
    #[error("{environment} has no release {id}")]
    NoSuch {
        /// The environment.
        environment: EnvName,
        /// As typed.
        id: u64,
    },
    /// A release of another flow.
    #[error("release {id} is of flow {other}, not of {flow}")]
    OtherFlow {
        /// As typed.
        id: u64,
        /// Its flow.
        other: FlowName,
        /// The flow that is to go back.
        flow: FlowName,
    },
    /// Nothing of what was selected is recorded.
    #[error("nothing that is selected can go back: release {id} records nothing of it")]
    Empty {
        /// The target.
        id: u64,
    },
    /// A release cannot be read.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

/// The release that a rollback goes to.
pub fn target(
    releases: &Releases,
    environment: &EnvName,
    flow: &FlowName,
    wish: &Wish,
) -> Result<Release, BackError> {
    let Some(current) = releases.current(environment, flow)? else {
        return Err(BackError::NoRelease { environment: environment.clone(), flow: flow.clone() });
    };
    let Some(id) = wish.to else {
        return releases.before(environment, flow)?.ok_or_else(|| BackError::NothingBefore {
            environment: environment.clone(),
            flow: flow.clone(),
            stands: current.id,
        });
    };
    match releases.get(environment, id)? {
        None => Err(BackError::NoSuch { environment: environment.clone(), id }),
        Some(found) if found.flow != *flow => {
            Err(BackError::OtherFlow { id, other: found.flow, flow: flow.clone() })
        }
        Some(found) => Ok(found),
    }
}

/// A graph that was turned round.
#[derive(Clone, Debug)]
pub struct Turned {
    /// The graph, each step that goes back with its goal.
    pub graph: Graph,
    /// Which of its nodes take part.
    pub selection: Selection,
    /// What it leaves as it is, in order of the flow.
    pub stays: Vec<Stays>,
}

/// Turns a flow's graph round: from what `now` records to what `to` records.
pub fn between(
    flow: &Flow,
    forward: &Graph,
    typed: &Typed,
    company: Company,
    (now, to): (&Release, &Release),
) -> Result<Turned, Vec<SelectionError>> {
    let (wanted, errors) = only(flow, forward, typed);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut ways = BTreeMap::new();
    let mut stays = Vec::new();
    for (id, node) in forward.iter().filter(|(id, node)| wanted[id.0] && !node.finally) {
        let (stands, wish) = (now.steps.get(&node.id), to.steps.get(&node.id));
        if stands.is_none() && wish.is_none() {
            continue;
        }
        match back_of(node) {
            Back::To(_) => {
                ways.insert(id, Arc::new(way(stands, wish)));
            }
            Back::Nothing if node.step.is_deploying(false) && stands != wish => {
                stays.push(Stays { step: node.id.clone(), why: Staying::ByHand });
            }
            Back::Nothing | Back::Again => {}
        }
    }
    if typed.only.is_empty() {
        let gone = |step: &&StepId| forward.find_id(step).is_none();
        let ids: BTreeSet<&StepId> = now.steps.keys().chain(to.steps.keys()).filter(gone).collect();
        stays.extend(ids.into_iter().map(|step| Stays { step: step.clone(), why: Staying::Gone }));
    }
    let (graph, selected) = turn(forward, &ways, company, &back_of);
    Ok(Turned { graph, selection: Selection { selected, from_release: BTreeMap::new() }, stays })
}

fn way(now: Option<&Recorded>, to: Option<&Recorded>) -> Way {
    Way {
        now: now.map(|now| now.receipt.clone()).unwrap_or_default(),
        to: to.map(|to| to.receipt.clone()).filter(|state| !state.is_null()),
    }
}

/// What the node's kind does in a rollback.
#[must_use]
pub fn back_of(node: &Node) -> Back {
    steps::kind(node.step.kind.name).map_or(Back::Nothing, |kind| kind.back)
}

/// Who takes part besides the steps that go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Gates, what is done once more, checks, and what stands in `finally`.
    All,
    /// What is done once more and checks: the run inside which it happens asks, and has an end.
    Inside,
    /// Only what is done once more: nobody is asked, nothing is checked.
    Again,
}

/// Turns a graph round for the steps that have a way to go. Says also which nodes take part.
#[must_use]
pub fn turn(
    forward: &Graph,
    ways: &BTreeMap<NodeId, Arc<Way>>,
    company: Company,
    back: &dyn Fn(&Node) -> Back,
) -> (Graph, Vec<bool>) {
    let mut turn = Turn::new(forward, ways);
    let order = forward.order();
    turn.find_again(&order, company, back);
    if company == Company::All {
        turn.find_gates(&order);
    }
    if company != Company::Again {
        turn.find_checks(back);
    }
    turn.turn_edges(&order);
    let graph = forward.redrawn(|id, node| {
        let goal = match (ways.get(&id), turn.part[id.0]) {
            (Some(way), _) => Some(Goal::Recorded(Arc::clone(way))),
            (None, Some(_)) if !node.finally => Some(Goal::Again),
            _ => None,
        };
        let mut edges = turn.edges[id.0].clone();
        edges.sort_by_key(|edge| (edge.to, edge.why));
        edges.dedup_by_key(|edge| edge.to);
        (edges, goal)
    });
    (graph, turn.part.iter().map(Option::is_some).collect())
}

/// The part that a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It returns to a recorded state.
    Back,
    /// It is done once more.
    Again,
    /// It asks.
    Gate,
    /// It checks.
    Check,
    /// It runs at the end, as always.
    Finally,
}

struct Turn<'a> {
    forward: &'a Graph,
    part: Vec<Option<Part>>,
    edges: Vec<Vec<Edge>>,
}

impl<'a> Turn<'a> {
    fn new(forward: &'a Graph, ways: &BTreeMap<NodeId, Arc<Way>>) -> Self {
        let part = forward.iter().map(|(id, _)| ways.contains_key(&id).then_some(Part::Back)).collect();
        Self { forward, part, edges: vec![Vec::new(); forward.len()] }
    }

    fn is(&self, id: NodeId, parts: &[Part]) -> bool {
        self.part[id.0].is_some_and(|part| parts.contains(&part))
    }

    /// Whatever deals with what a step does that goes back is done once more.
    fn find_again(&mut self, order: &[NodeId], company: Company, back: &dyn Fn(&Node) -> Back) {
        for id in order {
            let node = self.forward.node(*id);
            if node.finally {
                self.part[id.0] = (company == Company::All).then_some(Part::Finally);
            } else if self.part[id.0].is_none()
                && matches!(back(node), Back::Again)
                && !matches!(node.step.kind.nature, Nature::Gate | Nature::Check)
                && node.before.iter().any(|edge| self.is(edge.to, &[Part::Back, Part::Again]))
            {
                self.part[id.0] = Some(Part::Again);
            }
        }
    }

    /// Every gate that stood in front of something that takes part.
    fn find_gates(&mut self, order: &[NodeId]) {
        let mut before_part = vec![false; self.forward.len()];
        for id in order.iter().rev() {
            if self.is(*id, &[Part::Back, Part::Again]) {
                before_part[id.0] = true;
            }
            if !before_part[id.0] {
                continue;
            }
            let node = self.forward.node(*id);
            if node.step.kind.nature == Nature::Gate {
                self.part[id.0] = Some(Part::Gate);
            }
            node.before.iter().for_each(|edge| before_part[edge.to.0] = true);
        }
    }

    /// Every check behind something that takes part.
    fn find_checks(&mut self, back: &dyn Fn(&Node) -> Back) {
        for (id, node) in self.forward.iter().filter(|(_, node)| !node.finally) {
            let checks = node.step.kind.nature == Nature::Check && matches!(back(node), Back::Again);
            if checks && self.forward.ancestors(id).iter().any(|to| self.is(*to, &[Part::Back, Part::Again]))
            {
                self.part[id.0] = Some(Part::Check);
            }
        }
    }

    fn turn_edges(&mut self, order: &[NodeId]) {
        // What stands nearest in front of a node, through those that are passed over.
        let mut nearest_back: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new(); self.forward.len()];
        let mut nearest: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new(); self.forward.len()];
        let mut gates: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new(); self.forward.len()];
        for id in order {
            let node = self.forward.node(*id);
            let (mut back, mut any, mut asked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for Edge { to, .. } in &node.before {
                match self.part[to.0] {
                    Some(Part::Back) => drop(back.insert(*to)),
                    _ => back.extend(&nearest_back[to.0]),
                }
                match self.part[to.0] {
                    Some(Part::Back | Part::Again) => drop(any.insert(*to)),
                    _ => any.extend(&nearest[to.0]),
                }
                asked.extend(&gates[to.0]);
                if self.part[to.0] == Some(Part::Gate) {
                    asked.insert(*to);
                }
            }
            (nearest_back[id.0], nearest[id.0], gates[id.0]) = (back, any, asked);
        }
        let needs = |to: &NodeId| Edge { to: *to, why: Why::Needs };
        for (id, node) in self.forward.iter() {
            let Some(part) = self.part[id.0] else { continue };
            let own = |parts: &[Part]| -> Vec<Edge> {
                node.before.iter().filter(|edge| self.is(edge.to, parts)).copied().collect()
            };
            let asked = gates[id.0].iter().map(needs);
            let mut edges: Vec<Edge> = match part {
                Part::Back => {
                    for before in &nearest_back[id.0] {
                        self.edges[before.0].push(needs(&id));
                    }
                    asked.collect()
                }
                Part::Again => {
                    let own = own(&[Part::Back, Part::Again]);
                    own.into_iter().chain(nearest[id.0].iter().map(needs)).chain(asked).collect()
                }
                Part::Gate => asked.collect(),
                Part::Check => {
                    let all = self.forward.ancestors(id);
                    let checked = all.iter().filter(|to| self.is(**to, &[Part::Back, Part::Again]));
                    let own = own(&[Part::Back, Part::Again, Part::Check]);
                    own.into_iter().chain(checked.map(needs)).collect()
                }
                Part::Finally => node.before.clone(),
            };
            self.edges[id.0].append(&mut edges);
        }
    }
}

#[cfg(test)]
mod tests;
