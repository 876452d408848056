//! The graph of step instances.
//!
//! Nodes are dense ids in order of appearance; edges point from a node to what
//! it waits for. Built once per run, before anything is asked; nothing changes it afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::expr::Condition;
use crate::model::flow::Flow;
use crate::model::names::{StepId, StepName};
use crate::model::step::{Need, Step};
use crate::model::template::{Reference, StepReference, Template, Unresolved};
use crate::model::value::{Field, Value};
use crate::steps::Way;
use crate::syntax::problem::{Problem, Problems, nearest};
use crate::syntax::source::Span;

use super::scope::{Values, each_scope};

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// One instance of a step.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name and instance.
    pub id: StepId,
    /// The step as written, shared by its instances.
    pub step: Arc<Step>,
    /// The value of each `each`.
    pub each: Arc<Vec<(String, Value)>>,
    /// What it waits for.
    pub before: Vec<Edge>,
    /// Whether it stands in `finally`.
    pub finally: bool,
    /// In a rollback, what the step is to come to instead of what the flow says.
    pub goal: Option<Goal>,
    /// Whose step it is, when it stands in the place of a `rollback` step.
    pub guest: Option<Guest>,
    /// Whether no file has it: flow put this gate in front of a step that takes something away.
    pub added: bool,
}

impl Node {
    /// Whether it can be part of a run: a step of another flow that does not go back with it cannot.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.guest.as_ref().is_none_or(|guest| guest.takes_part)
    }
}

/// A step of another flow, which goes back inside this run.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The `rollback` step in whose place it stands.
    pub host: StepName,
    /// What it is called in its own flow and in the releases of that.
    pub id: StepId,
    /// Conditions of the `rollback` step.
    pub when: Arc<Vec<Condition>>,
    /// Whether it goes back, or is there for what it handed on only.
    pub takes_part: bool,
}

/// What a step is to come to in a rollback.
#[derive(Clone, Debug)]
pub enum Goal {
    /// What was recorded of it.
    Recorded(Arc<Way>),
    /// What the flow says, once more.
    Again,
}

/// Something a node waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The node waited for.
    pub to: NodeId,
    /// Why.
    pub why: Why,
}

/// Why a node waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It refers to one of its outputs.
    Reference,
    /// `needs`
    Needs,
    /// `after`
    After,
}

/// All instances of a flow.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    by_name: HashMap<StepName, Vec<NodeId>>,
    by_id: HashMap<StepId, NodeId>,
}

impl Graph {
    /// Expands `each` and draws the edges. Problems are those that only the chosen environment
    /// shows: an instance that does not exist, a list that is none.
    #[must_use]
    pub fn build(flow: &Flow, values: &Values) -> (Self, Problems) {
        let mut graph = Self::default();
        let mut problems = Problems::default();
        for (steps, finally) in [(&flow.steps, false), (&flow.finally, true)] {
            for step in steps {
                graph.expand(step, finally, values, &mut problems);
            }
        }
        for index in 0..graph.nodes.len() {
            let edges = graph.edges(&graph.nodes[index], values, &mut problems);
            graph.nodes[index].before = edges;
        }
        (graph, problems)
    }

    fn expand(&mut self, step: &Step, finally: bool, values: &Values, problems: &mut Problems) {
        let mut instances: Vec<Vec<(String, Value)>> = vec![Vec::new()];
        for each in &step.common.each {
            let mut next = Vec::new();
            for bound in instances {
                match each.list.resolve(&each_scope(values, &bound)) {
                    Ok(Field::Known(list)) => {
                        for item in list.into_items() {
                            let mut more = bound.clone();
                            more.push((each.var.clone(), item));
                            next.push(more);
                        }
                    }
                    Ok(Field::After(other)) => problems.push(
                        Problem::at(
                            each.list.span,
                            format!(
                                "the instances of {} must be known before anything runs",
                                step.name.value
                            ),
                        )
                        .label(format!("this is known only after {other}")),
                    ),
                    Err(error) => problems.push(unresolved(&error)),
                }
            }
            instances = next;
        }
        let shared = Arc::new(step.clone());
        for each in instances {
            let instance = each.iter().map(|(_, value)| value.as_text().unwrap_or_default()).collect();
            let id = StepId { name: step.name.value.clone(), instance };
            let node = NodeId(self.nodes.len());
            if self.by_id.insert(id.clone(), node).is_some() {
                problems.push(
                    Problem::at(step.name.span, format!("there are two steps {id}"))
                        .help("the values of each must differ from one another"),
                );
                continue;
            }
            self.by_name.entry(id.name.clone()).or_default().push(node);
            self.nodes.push(Node {
                id,
                step: Arc::clone(&shared),
                each: Arc::new(each),
                before: Vec::new(),
                finally,
                goal: None,
                guest: None,
                added: false,
            });
        }
    }

    fn edges(&self, node: &Node, values: &Values, problems: &mut Problems) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (reference, span) in references(&node.step) {
            for to in self.find(&reference.name, &reference.index, node, values, span, problems) {
                edges.push(Edge { to, why: Why::Reference });
            }
        }
        for Need { step, index, required, span } in &node.step.common.needs {
            let why = if *required { Why::Needs } else { Why::After };
            for to in self.find(step, index, node, values, *span, problems) {
                edges.push(Edge { to, why });
            }
        }
        edges.retain(|edge| self.nodes[edge.to.0].id != node.id);
        edges.sort_by_key(|edge| (edge.to, edge.why));
        edges.dedup_by_key(|edge| edge.to);
        edges
    }

    fn find(
        &self,
        name: &StepName,
        index: &[Template],
        node: &Node,
        values: &Values,
        span: Span,
        problems: &mut Problems,
    ) -> Vec<NodeId> {
        let all = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        if index.is_empty() {
            return all.to_vec();
        }
        let mut instance = Vec::new();
        for template in index {
            match template.resolve(&each_scope(values, &node.each)) {
                Ok(Field::Known(value)) => instance.push(value.as_text().unwrap_or_default()),
                Ok(Field::After(step)) => {
                    problems.push(
                        Problem::at(template.span, "an instance must be known before anything runs")
                            .label(format!("this is known only after {step}")),
                    );
                    return Vec::new();
                }
                Err(error) => {
                    problems.push(unresolved(&error));
                    return Vec::new();
                }
            }
        }
        let wanted = StepId { name: name.clone(), instance: instance.into() };
        if let Some(found) = self.by_id.get(&wanted) {
            return vec![*found];
        }
        let known: Vec<String> = all.iter().map(|id| self.nodes[id.0].id.to_string()).collect();
        let text = wanted.to_string();
        let hint = nearest(&text, known.iter().map(String::as_str)).map_or_else(
            || format!("there are {}", known.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        problems.push(Problem::at(span, format!("there is no step {wanted}")).label(hint));
        Vec::new()
    }

    /// All nodes with their ids, in order of appearance.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node))
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All instances of a step.
    #[must_use]
    pub fn instances(&self, name: &StepName) -> &[NodeId] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// One instance.
    #[must_use]
    pub fn find_id(&self, id: &StepId) -> Option<NodeId> {
        self.by_id.get(id).copied()
    }

    /// Everything a node waits for, directly or through others, itself not included.
    #[must_use]
    pub fn ancestors(&self, id: NodeId) -> Vec<NodeId> {
        let mut seen = vec![false; self.nodes.len()];
        let mut stack = vec![id];
        let mut found = Vec::new();
        while let Some(next) = stack.pop() {
            for edge in &self.nodes[next.0].before {
                if !std::mem::replace(&mut seen[edge.to.0], true) {
                    found.push(edge.to);
                    stack.push(edge.to);
                }
            }
        }
        found.sort();
        found
    }

    /// For each node the nodes that wait for it directly.
    #[must_use]
    pub fn followers(&self) -> Vec<Vec<NodeId>> {
        let mut followers = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.iter() {
            for edge in &node.before {
                followers[edge.to.0].push(id);
            }
        }
        followers
    }
}

/// Every reference of a step to another step's output, and where it stands.
fn references(step: &Step) -> Vec<(&StepReference, Span)> {
    let mut found = Vec::new();
    for template in step.templates() {
        for reference in template.references() {
            if let Reference::Step(to) = &reference.value {
                found.push((to, reference.span));
            }
        }
    }
    found
}

/// A reference without a value as a mistake in the file.
#[must_use]
pub fn unresolved(error: &Unresolved) -> Problem {
    Problem::at(error.span, error.why.to_string())
}

impl Graph {
    /// The same nodes with other edges and goals.
    #[must_use]
    pub fn redrawn(&self, draw: impl Fn(NodeId, &Node) -> (Vec<Edge>, Option<Goal>)) -> Self {
        let mut graph = self.clone();
        for (index, node) in graph.nodes.iter_mut().enumerate() {
            (node.before, node.goal) = draw(NodeId(index), &self.nodes[index]);
        }
        graph
    }

    /// The same graph with other nodes in the place of some. The edges of those that come point at
    /// their own list. Whoever waited for a node waits for all in its place that take part, and each
    /// of these for all that it waited for; the name of the node means them.
    #[must_use]
    pub fn replaced(&self, mut guests: BTreeMap<NodeId, Vec<Node>>) -> Self {
        let mut starts = Vec::with_capacity(self.nodes.len());
        let mut places: Vec<Vec<NodeId>> = Vec::with_capacity(self.nodes.len());
        let mut next = 0;
        for (id, _) in self.iter() {
            starts.push(next);
            let count = match guests.get(&id) {
                None => {
                    places.push(vec![NodeId(next)]);
                    1
                }
                Some(nodes) => {
                    let part = nodes.iter().enumerate().filter(|(_, node)| node.takes_part());
                    places.push(part.map(|(at, _)| NodeId(next + at)).collect());
                    nodes.len()
                }
            };
            next += count;
        }
        let mut graph = Self::default();
        for (id, node) in self.iter() {
            let before: Vec<Edge> = node
                .before
                .iter()
                .flat_map(|edge| places[edge.to.0].iter().map(|to| Edge { to: *to, why: edge.why }))
                .collect();
            let Some(nodes) = guests.remove(&id) else {
                graph.add(Node { before, ..node.clone() });
                continue;
            };
            for guest in nodes {
                let own =
                    guest.before.iter().map(|edge| Edge { to: NodeId(starts[id.0] + edge.to.0), ..*edge });
                let before = before.iter().copied().chain(own).filter(|_| guest.takes_part()).collect();
                graph.add(Node { before, ..guest });
            }
            graph.by_name.insert(node.id.name.clone(), places[id.0].clone());
        }
        graph
    }

    /// The same graph with gates, each right in front of the first of the nodes that are to wait for
    /// it. Says also where each of its nodes stands now.
    #[must_use]
    pub fn with_gates(self, mut gates: Vec<(Node, Vec<NodeId>)>) -> (Self, Vec<NodeId>) {
        gates.sort_by_key(|(_, behind)| behind.first().copied());
        let is_before = |id: NodeId| move |(_, behind): &(Node, Vec<NodeId>)| behind.first() <= Some(&id);
        let places: Vec<NodeId> = (0..self.nodes.len())
            .map(|id| NodeId(id + gates.partition_point(is_before(NodeId(id)))))
            .collect();
        let mut waits: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        let mut in_front: BTreeMap<NodeId, Vec<Node>> = BTreeMap::new();
        for (number, (gate, behind)) in gates.into_iter().enumerate() {
            let Some(first) = behind.first().copied() else { continue };
            for id in behind {
                waits.entry(id).or_default().push(NodeId(first.0 + number));
            }
            in_front.entry(first).or_default().push(gate);
        }
        let mut graph = Self::default();
        for (id, mut node) in self.nodes.into_iter().enumerate().map(|(id, node)| (NodeId(id), node)) {
            for gate in in_front.remove(&id).into_iter().flatten() {
                graph.add(gate);
            }
            node.before.iter_mut().for_each(|edge| edge.to = places[edge.to.0]);
            let gates = waits.remove(&id).into_iter().flatten();
            node.before.extend(gates.map(|to| Edge { to, why: Why::Needs }));
            node.before.sort_by_key(|edge| (edge.to, edge.why));
            graph.add(node);
        }
        // The name of a `rollback` step means those in its place.
        for (name, nodes) in self.by_name {
            graph.by_name.insert(name, nodes.into_iter().map(|id| places[id.0]).collect());
        }
        (graph, places)
    }

    fn add(&mut self, node: Node) {
        let id = NodeId(self.nodes.len());
        self.by_id.insert(node.id.clone(), id);
        self.by_name.entry(node.id.name.clone()).or_default().push(id);
        self.nodes.push(node);
    }

    /// All nodes, each after everything it waits for. Circles were refused when the file was
    /// checked; should one get here all the same, its nodes come last.
    #[must_use]
    pub fn order(&self) -> Vec<NodeId> {
        let followers = self.followers();
        let mut left: Vec<usize> = self.nodes.iter().map(|node| node.before.len()).collect();
        let mut ready: std::collections::VecDeque<NodeId> =
            self.iter().map(|(id, _)| id).filter(|id| left[id.0] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(id) = ready.pop_front() {
            order.push(id);
            for follower in &followers[id.0] {
                left[follower.0] -= 1;
                if left[follower.0] == 0 {
                    ready.push_back(*follower);
                }
            }
        }
        if order.len() < self.nodes.len() {
            order.extend(self.iter().map(|(id, _)| id).filter(|id| left[id.0] > 0));
        }
        order
    }
}
