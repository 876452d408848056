//! Steps that take another flow back: what they name, and where they stand.

use std::collections::VecDeque;

use super::{Checker, suggest};
use crate::model::flow::Flow;
use crate::model::names::FlowName;
use crate::model::project::Project;
use crate::model::settings::Given;
use crate::model::step::Step;
use crate::model::template::{Reference, Template};
use crate::model::value::Value;
use crate::syntax::problem::Problem;
use crate::syntax::source::Span;

impl Checker<'_> {
    /// Checks one step, if it is of that kind.
    pub(super) fn rollback(&mut self, step: &Step) {
        if !step.is_rollback() {
            return;
        }
        if self.facts.names.get(step.name.value.as_str()).is_some_and(|named| named.finally) {
            let problem = Problem::at(step.name.span, "a flow cannot go back in finally")
                .label("its steps are steps of the run")
                .help("let a flow of its own do it, or type flow rollback");
            self.problems.push(problem);
        }
        self.attributes(step);
        for template in step.settings.values() {
            for reference in template.references() {
                if !matches!(reference.value, Reference::Env(_) | Reference::Param(_) | Reference::Git(_)) {
                    self.problems.push(
                        Problem::at(reference.span, "what goes back must be known before the run")
                            .label("an environment's variable or a parameter"),
                    );
                }
            }
        }
        if let Some(to) = one(step, "to").and_then(Template::as_literal).and_then(Value::as_text)
            && to != "last-good"
            && to.parse::<u64>().is_err()
        {
            let span = step.settings.span("to").unwrap_or(step.name.span);
            let problem = Problem::at(span, format!("\"{to}\" is no release"));
            self.problems.push(problem.label("a release's number or last-good"));
        }
        self.named_flow(step);
    }

    /// The flow that it names, and what of it.
    fn named_flow(&mut self, step: &Step) {
        let Some(template) = one(step, "flow") else { return };
        let Some(name) = template.as_literal().and_then(Value::as_text) else {
            let problem = Problem::at(template.span, "which flow goes back must stand there");
            self.problems.push(problem.label("a flow's name, without references"));
            return;
        };
        if name == self.flow.name.as_str() {
            let problem = Problem::at(template.span, format!("flow \"{name}\" would go back inside itself"));
            let way = format!("put the step into another flow, or type flow rollback {name}");
            self.problems.push(problem.label("this is the flow that it stands in").help(way));
            return;
        }
        let flows = &self.project.flows;
        let Some(target) = flows.iter().find(|flow| flow.name.as_str() == name) else {
            let problem = Problem::at(template.span, format!("there is no flow \"{name}\""));
            let known: Vec<&str> = flows.iter().map(|flow| flow.name.as_str()).collect();
            self.problems.push(suggest(problem, &name, known, ""));
            return;
        };
        self.only(step, target);
        self.circle(template.span, &target.name);
    }

    fn only(&mut self, step: &Step, target: &Flow) {
        let Some(Given::Many(only)) = step.settings.get("only") else { return };
        let groups = target.groups.iter().map(|group| group.name.as_str());
        let known: Vec<&str> =
            groups.chain(target.steps.iter().map(|step| step.name.value.as_str())).collect();
        for template in only {
            let Some(Value::Text(name)) = template.as_literal() else { continue };
            // Which instances there are is known once an environment is chosen.
            let step = name.split_once('[').map_or(name.as_str(), |(step, _)| step);
            if !known.contains(&step) {
                let message = format!("flow \"{}\" has no step or group \"{step}\"", target.name);
                let problem = Problem::at(template.span, message);
                self.problems.push(suggest(problem, step, known.iter().copied(), ""));
            }
        }
    }

    /// Reports a circle at the flow on it that comes first, so that it is told once.
    fn circle(&mut self, span: Span, target: &FlowName) {
        let Some(mut way) = way(self.project, target, &self.flow.name) else { return };
        let place = |name: &FlowName| self.project.flows.iter().position(|flow| flow.name == *name);
        if way.iter().any(|name| place(name) < place(&self.flow.name)) {
            return;
        }
        way.insert(0, &self.flow.name);
        let names: Vec<&str> = way.iter().map(|name| name.as_str()).collect();
        let message = format!("flows take one another back: {}", names.join(" → "));
        let problem = Problem::at(span, message).label("this closes the circle");
        self.problems.push(problem.help("let one flow, which nothing takes back, take back the others"));
    }

    /// Attributes that would have to hold for steps which have their own.
    fn attributes(&mut self, step: &Step) {
        let c = &step.common;
        let given = [
            ("each", c.each.first().map(|each| each.span)),
            ("environment", c.environment.as_ref().map(|template| template.span)),
            ("env", c.env.first().map(|(_, template)| template.span)),
            ("file", c.files.first().map(|(_, template)| template.span)),
            ("inherit", (!c.inherit.is_empty()).then_some(step.name.span)),
            ("timeout", c.timeout.map(|_| step.name.span)),
            ("grace", c.grace.map(|_| step.name.span)),
            ("pool", c.pool.as_ref().map(|_| step.name.span)),
            ("inputs", c.inputs.as_ref().map(|_| step.name.span)),
            ("outputs", c.outputs.first().map(|template| template.span)),
            ("tool", c.tools.first().map(|_| step.name.span)),
            ("cache", c.no_cache.then_some(step.name.span)),
        ];
        for (name, span) in given.into_iter().filter_map(|(name, span)| Some((name, span?))) {
            let problem = Problem::at(span, format!("a rollback step takes no {name}"));
            self.problems.push(problem.label("the steps that go back have their own"));
        }
    }
}

fn one<'a>(step: &'a Step, name: &str) -> Option<&'a Template> {
    match step.settings.get(name) {
        Some(Given::One(template)) => Some(template),
        _ => None,
    }
}

/// The flows that a flow takes back.
fn takes_back(flow: &Flow) -> impl Iterator<Item = String> + '_ {
    let steps = flow.steps.iter().filter(|step| step.is_rollback());
    steps.filter_map(|step| one(step, "flow")?.as_literal()?.as_text())
}

/// The shortest way from one flow to another over those that are taken back, both included.
fn way<'a>(project: &'a Project, from: &FlowName, to: &FlowName) -> Option<Vec<&'a FlowName>> {
    let find = |name: &str| project.flows.iter().position(|flow| flow.name.as_str() == name);
    let (start, end) = (find(from.as_str())?, find(to.as_str())?);
    let mut before: Vec<Option<usize>> = vec![None; project.flows.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        if at == end {
            let mut way = vec![at];
            let mut here = at;
            while let Some(previous) = before[here].filter(|_| here != start) {
                way.push(previous);
                here = previous;
            }
            return Some(way.into_iter().rev().map(|flow| &project.flows[flow].name).collect());
        }
        for next in takes_back(&project.flows[at]).filter_map(|name| find(&name)) {
            if next != start && before[next].is_none() {
                before[next] = Some(at);
                queue.push_back(next);
            }
        }
    }
    None
}
