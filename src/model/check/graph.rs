//! Which step waits for which: `needs`, `after` and references, all as edges.

use std::collections::BTreeMap;

use super::sites::sites;
use crate::model::flow::Flow;
use crate::model::step::Step;
use crate::model::template::Reference;
use crate::syntax::source::Span;

/// Why one step waits for another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// `needs`
    Needs,
    /// `after`
    After,
    /// `${step.NAME.OUTPUT}`
    Reads,
}

/// One edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// Index of the step waited for.
    pub to: usize,
    /// Where that is said.
    pub span: Span,
    /// How.
    pub why: Why,
}

/// Steps of a flow, `finally` last, and their edges.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    /// The steps.
    pub steps: Vec<&'a Step>,
    /// What each waits for.
    pub edges: Vec<Vec<Edge>>,
    /// Whether a step waits for something that could not be read.
    pub unread: Vec<bool>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(flow: &'a Flow) -> Self {
        let steps: Vec<&Step> = flow.steps.iter().chain(&flow.finally).collect();
        let index: BTreeMap<&str, usize> =
            steps.iter().enumerate().map(|(i, step)| (step.name.value.as_str(), i)).collect();
        let mut edges = Vec::with_capacity(steps.len());
        let mut unread = vec![false; steps.len()];
        // The last step that has an edge to each: a group's needs can make millions of edges.
        let mut seen = vec![usize::MAX; steps.len()];
        for (from, step) in steps.iter().enumerate() {
            let mut own: Vec<Edge> = Vec::new();
            let mut add = |name: &str, span: Span, why: Why| match index.get(name) {
                Some(to) => {
                    if std::mem::replace(&mut seen[*to], from) != from {
                        own.push(Edge { to: *to, span, why });
                    }
                }
                None => unread[from] = true,
            };
            for need in &step.common.needs {
                let why = if need.required { Why::Needs } else { Why::After };
                add(need.step.as_str(), need.span, why);
            }
            for site in sites(step) {
                for reference in site.template.references() {
                    if let Reference::Step(target) = &reference.value {
                        add(target.name.as_str(), reference.span, Why::Reads);
                    }
                }
            }
            edges.push(own);
        }
        Self { steps, edges, unread }
    }

    pub(super) fn name(&self, step: usize) -> &'a str {
        self.steps[step].name.value.as_str()
    }
}
