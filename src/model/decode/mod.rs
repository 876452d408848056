//! Node trees of all files to a [`Project`], with every mistake.
//!
//! One file per node. Nothing here reads files; `cli` loads and parses them and calls [`decode`].
//! Whatever could be made is made: a step with a mistake still exists, so that what refers to it is
//! not a mistake too.

mod attributes;
mod body;
mod context;
mod environment;
mod extends;
mod flow;
mod group;
mod link;
mod param;
mod project;
mod script;
mod secret;
mod settings;
mod step;
mod template_use;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::syntax::problem::{Problem, Problems, nearest};
use crate::syntax::source::{FileId, Span, Spanned};
use crate::syntax::tree::Node;

use super::check;
use super::kind::KindSpec;
use super::project::Project;
use context::Ctx;

pub use attributes::ATTRIBUTES;
pub use environment::BUILT_IN;
pub(in crate::model) use group::What;

/// What the checks need of a flow beyond the flow itself.
#[derive(Debug, Default)]
pub(in crate::model) struct FlowFacts {
    /// Every step and group, also those that could not be read.
    pub names: flow::Names,
    /// Where pools are declared.
    pub pools: BTreeMap<String, Span>,
}

const TOP: [&str; 4] = ["project", "environment", "flow", "template"];

/// Reads and checks all files of a project.
#[must_use]
pub fn decode(files: &[(FileId, Vec<Node>)], kinds: &[&'static KindSpec]) -> (Project, Problems) {
    let mut ctx = Ctx { kinds, templates: BTreeMap::new(), used: Vec::new(), problems: Problems::default() };
    let mut top = Top::default();
    for (_, nodes) in files {
        for node in nodes {
            top.sort(&mut ctx, node);
        }
    }
    let mut project = Project::default();
    if let Some(node) = top.project {
        project::project(&mut ctx, node, &mut project);
    }
    let raw: Vec<_> =
        top.environments.iter().filter_map(|node| environment::environment(&mut ctx, node)).collect();
    project.environments = extends::resolve(&mut ctx, &raw);
    let mut facts = Vec::new();
    for node in &top.flows {
        if let Some((flow, fact)) = flow::flow(&mut ctx, node) {
            project.flows.push(flow);
            facts.push(fact);
        }
    }
    // What stands in a second flow or environment of the same name is read for its mistakes only.
    let mut again = Vec::new();
    for node in &top.again {
        match node.name.value.as_str() {
            "flow" => again.extend(flow::flow(&mut ctx, node)),
            "environment" => drop(environment::environment(&mut ctx, node)),
            _ => template_use::alone(&mut ctx, node),
        }
    }
    let templates: Vec<&Node> = ctx.templates.values().copied().collect();
    for node in templates {
        template_use::alone(&mut ctx, node);
    }
    let mut problems = ctx.problems;
    check::check(&project, &facts, &mut problems);
    for (flow, facts) in &again {
        check::flow(&project, flow, facts, &mut problems);
    }
    problems.sort();
    (project, problems)
}

/// Top-level nodes by what they are.
#[derive(Default)]
struct Top<'a> {
    project: Option<&'a Node>,
    environments: Vec<&'a Node>,
    flows: Vec<&'a Node>,
    again: Vec<&'a Node>,
    names: BTreeMap<(&'a str, String), Span>,
}

impl<'a> Top<'a> {
    fn sort(&mut self, ctx: &mut Ctx<'a>, node: &'a Node) {
        let kind = node.name.value.as_str();
        match kind {
            "project" => match self.project {
                Some(first) => ctx.push(
                    Problem::at(node.name.span, "there is a project node already")
                        .label("again")
                        .also(first.name.span, "first"),
                ),
                None => self.project = Some(node),
            },
            // Without a name, the decoder of the node itself says so.
            "environment" if self.fresh(ctx, node) => self.environments.push(node),
            "flow" if self.fresh(ctx, node) => self.flows.push(node),
            "template" => match name_of(node) {
                Some(name) if self.fresh(ctx, node) => {
                    ctx.templates.insert(name, node);
                }
                _ => self.again.push(node),
            },
            "environment" | "flow" => self.again.push(node),
            _ => ctx.push(unknown(&node.name, ctx.kind(kind).is_some())),
        }
    }

    /// Whether nothing else of that sort has its name; if something has, that is reported.
    fn fresh(&mut self, ctx: &mut Ctx, node: &'a Node) -> bool {
        let Some(name) = name_of(node) else { return true };
        let span = node.args.first().map_or(node.name.span, |arg| arg.span);
        let key = (node.name.value.as_str(), name.to_owned());
        let Some(first) = self.names.get(&key) else {
            self.names.insert(key, span);
            return true;
        };
        ctx.push(
            Problem::at(span, format!("there is a {} \"{name}\" already", node.name.value))
                .label("again")
                .also(*first, "first"),
        );
        false
    }
}

fn name_of(node: &Node) -> Option<&str> {
    node.args.first().and_then(|arg| arg.as_text())
}

fn unknown(name: &Spanned<String>, is_kind: bool) -> Problem {
    let problem = Problem::at(name.span, format!("\"{}\" cannot stand at the top of a file", name.value));
    if is_kind {
        return problem.label("a step stands in a flow");
    }
    match nearest(&name.value, TOP) {
        Some(near) => problem.label(format!("did you mean {near}?")),
        None => problem.label("project, environment, flow or template"),
    }
}
