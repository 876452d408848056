//! In a protected environment nothing is deployed that nobody approved.

use super::graph::Graph;
use crate::model::decode::{FlowFacts, What};
use crate::model::flow::Flow;
use crate::model::kind::Nature;
use crate::model::project::Project;
use crate::syntax::problem::{Problem, Problems};

/// Steps that are underlined; the message counts all.
const SHOWN: usize = 4;

/// Reports deploying steps of a flow that no gate stands in front of, all in one problem. Only for
/// a graph without circles.
pub(super) fn check(
    project: &Project,
    flow: &Flow,
    facts: &FlowFacts,
    graph: &Graph,
    problems: &mut Problems,
) {
    let Some(protected) = project.environments.iter().find(|env| env.protected) else { return };
    let gated = gated(graph);
    let open: Vec<usize> = (0..graph.steps.len())
        .filter(|i| !gated[*i] && !graph.steps[*i].common.ungated && graph.steps[*i].is_deploying(true))
        .collect();
    // What could not be read may have been the gate.
    let unread = facts.names.values().any(|named| matches!(named.what, What::Step(None)));
    let Some(first) = open.first().filter(|_| !unread) else { return };
    let message = match open.len() {
        1 => format!("step \"{}\" deploys, and no gate stands in front of it", graph.name(*first)),
        n => format!("{n} steps of flow \"{}\" deploy, and no gate stands in front of them", flow.name),
    };
    let mut problem = Problem::at(graph.steps[*first].name.span, message);
    for step in open.iter().skip(1).take(SHOWN - 1) {
        problem = problem.also(graph.steps[*step].name.span, "");
    }
    if open.len() > SHOWN {
        let last = problem.labels.last_mut();
        if let Some(last) = last {
            last.text = format!("and {} more", open.len() - SHOWN);
        }
    }
    let gate = graph.steps.iter().find(|step| step.kind.nature == Nature::Gate);
    let way = match gate {
        Some(gate) => format!("write needs=\"{}\"", gate.name.value),
        None => "put approve \"go\" into the flow and write needs=\"go\"".to_owned(),
    };
    problems.push(problem.help(format!(
        "environment \"{}\" is protected: {way}, or ungated #true where nobody has to agree",
        protected.name.value
    )));
}

/// Whether a gate stands somewhere in front of each step.
fn gated(graph: &Graph) -> Vec<bool> {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.steps.len()];
    for (from, edges) in graph.edges.iter().enumerate() {
        for edge in edges {
            readers[edge.to].push(from);
        }
    }
    let mut gated = graph.unread.clone();
    let gate = |step: usize| graph.steps[step].kind.nature == Nature::Gate;
    let mut todo: Vec<usize> = (0..graph.steps.len()).filter(|step| gate(*step) || gated[*step]).collect();
    while let Some(step) = todo.pop() {
        for reader in &readers[step] {
            if !gated[*reader] {
                gated[*reader] = true;
                todo.push(*reader);
            }
        }
    }
    gated
}
