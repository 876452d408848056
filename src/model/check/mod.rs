//! Checks that need the whole project: references, secrets, order, gates.
//!
//! They look at what was decoded and never at text, so a step made by a template is checked like
//! any other. Only `model::decode` calls them.

mod circles;
mod conditions;
mod environments;
mod gates;
mod graph;
mod references;
mod rollbacks;
mod secrets;
mod sites;
mod steps;
mod targets;
#[cfg(test)]
mod tests;

use super::decode::FlowFacts;
use super::flow::Flow;
use super::project::Project;
use super::step::Step;
use crate::syntax::problem::{Problem, Problems, nearest};

/// Checks everything.
pub(in crate::model) fn check(project: &Project, facts: &[FlowFacts], problems: &mut Problems) {
    environments::check(project, problems);
    for (decoded, facts) in project.flows.iter().zip(facts) {
        flow(project, decoded, facts, problems);
    }
}

/// Checks one flow, which need not be part of the project.
pub(in crate::model) fn flow(project: &Project, flow: &Flow, facts: &FlowFacts, problems: &mut Problems) {
    Checker { project, flow, facts, problems }.flow();
}

/// Checks one flow.
struct Checker<'a> {
    project: &'a Project,
    flow: &'a Flow,
    facts: &'a FlowFacts,
    problems: &'a mut Problems,
}

impl<'a> Checker<'a> {
    fn flow(&mut self) {
        self.params();
        for step in self.steps() {
            self.step(step);
        }
        self.summary();
        self.pools();
        let graph = graph::Graph::new(self.flow);
        if circles::check(&graph, self.problems) {
            gates::check(self.project, self.flow, self.facts, &graph, self.problems);
        }
    }

    /// Steps of the flow and of `finally`.
    fn steps(&self) -> impl Iterator<Item = &'a Step> + use<'a> {
        self.flow.steps.iter().chain(&self.flow.finally)
    }
}

/// Adds "did you mean" to a problem, or else what there is.
fn suggest<'k>(
    problem: Problem,
    wrong: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
    prefix: &str,
) -> Problem {
    if let Some(near) = nearest(wrong, known.clone()) {
        return problem.label(format!("did you mean {prefix}{near}?"));
    }
    let mut names: Vec<&str> = known.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => problem,
        few if few.len() <= 12 => problem.label(format!("there is {}", few.join(", "))),
        _ => problem,
    }
}
