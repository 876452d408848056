//! `--only` and `--skip`: which instances a run is about.
//!
//! A gate in front of what is selected always stays. What a selected step
//! `needs` but is not selected must be recorded by the live release; a step
//! that only makes files is run instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::journal::releases::Recorded;
use crate::model::flow::Flow;
use crate::model::kind::Nature;
use crate::model::names::{GroupName, StepId, StepName};
use crate::syntax::problem::nearest;

use super::graph::{Graph, NodeId, Why};

/// What was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Typed {
    /// `--only`, commas already split; empty for everything.
    pub only: Vec<String>,
    /// `--skip`
    pub skip: Vec<String>,
}

/// Why a selection cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Nothing of that name.
    #[error("there is no step or group {name} in flow {flow}{}", hint.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
    Unknown {
        /// As typed.
        name: String,
        /// The flow.
        flow: String,
        /// The nearest name.
        hint: Option<String>,
    },
    /// A gate cannot be skipped.
    #[error("{0} is a gate and cannot be skipped")]
    Gate(StepId),
    /// Something outside is needed and was never done.
    #[error("{step} needs {needed}, which is not selected, and no release of this environment records it")]
    Unrecorded {
        /// The step.
        step: StepId,
        /// What it needs.
        needed: StepId,
        /// What to add: a group or a step.
        add: String,
    },
    /// Nothing is left.
    #[error("nothing is selected")]
    Empty,
}

/// What a run is about.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By node id.
    pub selected: Vec<bool>,
    /// Steps outside that were satisfied by the live release, and what it records of them.
    pub from_release: BTreeMap<StepId, Arc<Recorded>>,
}

impl Selection {
    /// Whether a node is part of the run.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.selected.get(id.0).copied().unwrap_or(false)
    }
}

/// Splits at commas that do not stand in brackets.
#[must_use]
pub fn split(typed: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut items = vec![String::new()];
    for c in typed.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = items.last_mut() {
            last.push(c);
        }
    }
    items.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// Decides what the run is about.
pub fn select(
    flow: &Flow,
    graph: &Graph,
    typed: &Typed,
    recorded: &dyn Fn(&StepId) -> Option<Arc<Recorded>>,
) -> Result<Selection, Vec<SelectionError>> {
    let (mut selected, mut errors) = only(flow, graph, typed);
    for name in &typed.skip {
        match named(flow, graph, name) {
            Ok(ids) => {
                for id in ids {
                    let node = graph.node(id);
                    // Skipping a group takes the gates in it as skipped only when nothing else
                    // needs them; naming one is a mistake.
                    if node.step.kind.nature == Nature::Gate && names_step(&node.id, name) {
                        errors.push(SelectionError::Gate(node.id.clone()));
                    }
                    selected[id.0] = false;
                }
            }
            Err(error) => errors.push(error),
        }
    }
    for (id, node) in graph.iter() {
        selected[id.0] |= node.finally;
        selected[id.0] &= node.takes_part();
    }
    let mut selection = Selection { selected, from_release: BTreeMap::new() };
    close(graph, &mut selection, recorded, &mut errors);
    keep_gates(graph, &mut selection);
    if !graph.iter().any(|(id, node)| !node.finally && selection.contains(id)) && errors.is_empty() {
        errors.push(SelectionError::Empty);
    }
    if errors.is_empty() { Ok(selection) } else { Err(errors) }
}

/// What `--only` names, by node id; everything without it.
#[must_use]
pub fn only(flow: &Flow, graph: &Graph, typed: &Typed) -> (Vec<bool>, Vec<SelectionError>) {
    let mut errors = Vec::new();
    let mut selected = vec![typed.only.is_empty(); graph.len()];
    for name in &typed.only {
        match named(flow, graph, name) {
            Ok(ids) => ids.into_iter().for_each(|id| selected[id.0] = true),
            Err(error) => errors.push(error),
        }
    }
    (selected, errors)
}

/// Satisfies every `needs` that points outside.
fn close(
    graph: &Graph,
    selection: &mut Selection,
    recorded: &dyn Fn(&StepId) -> Option<Arc<Recorded>>,
    errors: &mut Vec<SelectionError>,
) {
    let mut work: Vec<NodeId> = graph.iter().map(|(id, _)| id).filter(|id| selection.contains(*id)).collect();
    while let Some(id) = work.pop() {
        let node = graph.node(id);
        for edge in &node.before {
            let needed = graph.node(edge.to);
            if selection.contains(edge.to)
                || edge.why == Why::After
                || needed.step.kind.nature == Nature::Gate
            {
                continue;
            }
            if needed.step.makes_files() {
                selection.selected[edge.to.0] = true;
                work.push(edge.to);
            } else if let Some(record) = recorded(&needed.id) {
                selection.from_release.insert(needed.id.clone(), record);
            } else {
                let add = match (&needed.guest, needed.step.groups.last()) {
                    (Some(guest), _) => guest.host.to_string(),
                    (None, Some(group)) => group.to_string(),
                    (None, None) => needed.id.name.to_string(),
                };
                errors.push(SelectionError::Unrecorded {
                    step: node.id.clone(),
                    needed: needed.id.clone(),
                    add,
                });
            }
        }
    }
}

/// Adds every gate in front of a selected step, through whatever stands between.
fn keep_gates(graph: &Graph, selection: &mut Selection) {
    let mut seen = vec![false; graph.len()];
    let mut stack: Vec<NodeId> =
        graph.iter().map(|(id, _)| id).filter(|id| selection.contains(*id)).collect();
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut seen[id.0], true) {
            continue;
        }
        let node = graph.node(id);
        if node.step.kind.nature == Nature::Gate {
            selection.selected[id.0] = true;
        }
        stack.extend(node.before.iter().map(|edge| edge.to));
    }
}

fn names_step(id: &StepId, typed: &str) -> bool {
    id.to_string() == typed || id.name.as_str() == typed
}

/// The nodes that a typed name means: a group, a step, or one instance.
fn named(flow: &Flow, graph: &Graph, name: &str) -> Result<Vec<NodeId>, SelectionError> {
    let group = GroupName::new(name);
    let in_group: Vec<NodeId> = graph
        .iter()
        .filter(|(_, node)| !node.finally && node.step.groups.contains(&group))
        .map(|(id, _)| id)
        .collect();
    if !in_group.is_empty() {
        return Ok(in_group);
    }
    let all = graph.instances(&StepName::new(name));
    if !all.is_empty() {
        return Ok(all.to_vec());
    }
    if let Some(id) = graph.find_id(&StepId::parse(name)) {
        return Ok(vec![id]);
    }
    let ids: Vec<String> = graph.iter().map(|(_, node)| node.id.to_string()).collect();
    let known = flow
        .groups
        .iter()
        .map(|group| group.name.as_str())
        .chain(flow.steps.iter().map(|step| step.name.value.as_str()))
        .chain(ids.iter().map(String::as_str));
    let hint = nearest(name, known).map(str::to_owned);
    Err(SelectionError::Unknown { name: name.to_owned(), flow: flow.name.to_string(), hint })
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn commas_in_brackets_do_not_split() {
        assert_eq!(split("image[api,eu],backend, schema"), ["image[api,eu]", "backend", "schema"]);
        assert_eq!(split(",,"), Vec::<String>::new());
    }
}
