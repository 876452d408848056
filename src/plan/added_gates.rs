//! Gates that no file has: flow puts one in front of a step that may take away
//! what is there, if the flow has none there.
//!
//! Which steps those are follows from what the files say and from where the run
//! goes, so the graph is whole before the world is asked anything. Whether such
//! a gate asks is settled by the plan: only where something would really be
//! deleted, replaced or overwritten ([`super::gates::takes_away`]).
//!
//! A step that is told to take something away waits alone, with all its
//! instances, for `STEP/gate`. What goes back waits as a whole for
//! `rollback/gate`: a rollback that nobody allows does not stop half-way.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::expr::Condition;
use crate::model::kind::Nature;
use crate::model::names::{StepId, StepName};
use crate::model::settings::{Given, Written};
use crate::model::step::{Common, Step};
use crate::model::template::Template;
use crate::model::value::{Field, Value};
use crate::steps::{approve, is_always_gated};
use crate::syntax::source::Spanned;

use super::graph::{Goal, Graph, Node, NodeId};
use super::scope::{Values, each_scope};
use super::selection::Selection;

/// The same graph and selection with a gate wherever one is missing.
pub(super) fn add(graph: Graph, selection: Selection, values: &Values) -> (Graph, Selection) {
    let mut open: BTreeMap<Front, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in graph.iter().filter(|(id, _)| selection.contains(*id)) {
        if may_take_away(node, values) && !has_gate(&graph, &selection, id, values) {
            open.entry(Front::of(node)).or_default().push(id);
        }
    }
    if open.is_empty() {
        return (graph, selection);
    }
    for (front, behind) in &mut open {
        if matches!(front, Front::Back(_)) {
            let going = graph
                .iter()
                .filter(|(id, node)| selection.contains(*id) && goes_back(node) && Front::of(node) == *front);
            *behind = going.map(|(id, _)| id).collect();
        }
    }
    let gates = open.into_iter().map(|(front, behind)| (gate(&graph, &front, behind[0]), behind)).collect();
    let (graph, places) = graph.with_gates(gates);
    let mut selected = vec![true; graph.len()];
    for (id, place) in places.iter().enumerate() {
        selected[place.0] = selection.contains(NodeId(id));
    }
    (graph, Selection { selected, ..selection })
}

/// What a gate stands in front of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Front {
    /// All instances of a step.
    Step(StepName),
    /// All that goes back: with this `rollback` step, or with the whole run.
    Back(Option<StepName>),
}

impl Front {
    fn of(node: &Node) -> Self {
        if goes_back(node) {
            Self::Back(node.guest.as_ref().map(|guest| guest.host.clone()))
        } else {
            Self::Step(node.id.name.clone())
        }
    }
}

/// Whether a step returns to a recorded state.
pub(super) fn goes_back(node: &Node) -> bool {
    matches!(node.goal, Some(Goal::Recorded(_)))
}

/// Whether a step may take away what is there: because it was told to, or because it goes back.
fn may_take_away(node: &Node, values: &Values) -> bool {
    is_always_gated(node.step.kind.name)
        || node.step.kind.nature == Nature::Infrastructure
            && (goes_back(node) || is_told(node, "destroy", values) || is_told(node, "replace", values))
}

/// Whether a step says `destroy #true`, or may turn out to: what another step will say counts as yes.
pub(super) fn is_told(node: &Node, setting: &str, values: &Values) -> bool {
    let Some(Given::One(template)) = node.step.settings.get(setting) else { return false };
    match template.resolve(&each_scope(values, &node.each)) {
        Ok(Field::Known(value)) => value.as_text().is_none_or(|text| text != "false"),
        Ok(Field::After(_)) => true,
        Err(_) => false,
    }
}

/// Whether a gate that will certainly ask stands in front of a node.
fn has_gate(graph: &Graph, selection: &Selection, id: NodeId, values: &Values) -> bool {
    graph.ancestors(id).into_iter().any(|front| {
        let node = graph.node(front);
        let holds = |when: &Condition| {
            matches!(when.evaluate(&each_scope(values, &node.each)), Ok(Field::Known(true)))
        };
        selection.contains(front)
            && node.step.kind.nature == Nature::Gate
            && node.step.common.when.iter().all(holds)
    })
}

/// A gate like one without settings in a file, where the first of those behind it stands.
fn gate(graph: &Graph, front: &Front, first: NodeId) -> Node {
    let behind = graph.node(first);
    let (name, text) = match front {
        Front::Step(step) => {
            (format!("{step}/gate"), format!("{step} deletes, replaces or overwrites what is there"))
        }
        Front::Back(host) => {
            let host = host.as_ref().map_or("rollback", StepName::as_str);
            (format!("{host}/gate"), "going back deletes or replaces what is there".to_owned())
        }
    };
    let (name, span) = (free(graph, &name), behind.step.name.span);
    let mut settings = Written::default();
    settings.insert("for", Given::One(Template::literal(Value::Text(text), span)), span);
    let written = Step {
        kind: &approve::KIND.spec,
        name: Spanned::new(name.clone(), span),
        groups: behind.step.groups.clone(),
        common: Common::default(),
        settings,
        span: behind.step.span,
    };
    Node {
        id: StepId::plain(name),
        step: Arc::new(written),
        each: Arc::default(),
        before: Vec::new(),
        finally: behind.finally,
        goal: behind.goal.as_ref().map(|_| Goal::Again),
        guest: None,
        added: true,
    }
}

/// A name that no step has: a template's steps may be called `infra/gate` too.
fn free(graph: &Graph, wanted: &str) -> StepName {
    let mut name = StepName::new(wanted);
    let mut number = 1;
    while !graph.instances(&name).is_empty() {
        number += 1;
        name = StepName::new(format!("{wanted}-{number}"));
    }
    name
}

#[cfg(test)]
mod tests;
