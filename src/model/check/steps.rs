//! What a step, a parameter, a pool and the summary may say.

use std::collections::BTreeSet;

use super::references::Scope;
use super::sites::sites;
use super::{Checker, suggest};
use crate::model::project::Var;
use crate::model::step::Step;
use crate::model::template::{Part, Reference, Template};
use crate::model::value::Value;
use crate::syntax::problem::{Problem, nearest};
use crate::syntax::source::Spanned;

/// Instances of one step: the product of its lists.
const MOST_INSTANCES: usize = 100_000;

impl Checker<'_> {
    /// Checks everything that stands in a step.
    pub(super) fn step(&mut self, step: &Step) {
        let end = self.facts.names.get(step.name.value.as_str()).is_some_and(|named| named.finally);
        for site in sites(step) {
            let scope = Scope { step: Some(step), end, tag: site.name == "tag" };
            self.template(site.template, scope);
            self.secret(&site, step.kind);
            self.target(&site, step);
        }
        self.variables(step);
        self.needs(step);
        self.conditions(step);
        self.rollback(step);
        if let Some(environment) = &step.common.environment {
            self.environment(environment);
        }
    }

    /// `each`: names given once, over lists that are known before anything runs.
    fn variables(&mut self, step: &Step) {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for each in &step.common.each {
            if !seen.insert(&each.var)
                && let Some(first) = step.common.each.iter().find(|first| first.var == each.var)
            {
                let problem = Problem::at(each.span, format!("each \"{}\" is declared twice", each.var));
                self.problems.push(problem.label("again").also(first.span, "first"));
            }
            for reference in each.list.references() {
                if !matches!(reference.value, Reference::Env(_) | Reference::Param(_)) {
                    self.problems.push(
                        Problem::at(reference.span, "the instances of a step must be known before the run")
                            .label("an environment's variable or a parameter"),
                    );
                }
            }
            self.template(&each.list, Scope { step: None, end: false, tag: false });
        }
        let instances =
            step.common.each.iter().map(|each| self.length(&each.list)).fold(1, usize::saturating_mul);
        if instances > MOST_INSTANCES
            && let Some(each) = step.common.each.first()
        {
            let message = format!("step \"{}\" would have {instances} instances", step.name.value);
            self.problems.push(Problem::at(each.span, message).label(format!("at most {MOST_INSTANCES}")));
        }
    }

    /// The length of a list in the environment where it is longest.
    fn length(&self, list: &Template) -> usize {
        let [Part::Reference(Spanned { value: Reference::Env(name), .. })] = list.parts.as_slice() else {
            return 1;
        };
        let vars = self.project.environments.iter().filter_map(|env| env.vars.get(name));
        let lengths = vars.map(|var| match var {
            Var::One(_) => 1,
            Var::List(items) => items.len(),
            Var::Records(records) => records.len(),
        });
        lengths.max().unwrap_or(1)
    }

    fn environment(&mut self, template: &Template) {
        let Some(Value::Text(name)) = template.as_literal() else { return };
        let known: Vec<&str> = self.project.environments.iter().map(|env| env.name.value.as_str()).collect();
        if !known.contains(&name.as_str()) {
            let problem = Problem::at(template.span, format!("there is no environment \"{name}\""));
            self.problems.push(suggest(problem, name, known, ""));
        }
    }

    /// Defaults of parameters: nothing of a run may stand in them.
    pub(super) fn params(&mut self) {
        for param in &self.flow.params {
            let Some(default) = &param.default else { continue };
            for reference in default.references() {
                let name = match &reference.value {
                    Reference::Step(_) => "a step's output",
                    Reference::Param(_) => "another parameter",
                    Reference::Each(..) => "each",
                    Reference::Secret(_) => "a secret",
                    Reference::Env(_) | Reference::Git(_) | Reference::Run(_) => continue,
                };
                self.problems.push(
                    Problem::at(reference.span, format!("{name} cannot be the default of a parameter"))
                        .label("env, git and run.id can"),
                );
            }
            let scope = Scope { step: None, end: false, tag: true };
            let checked = default
                .references()
                .into_iter()
                .any(|reference| matches!(reference.value, Reference::Env(_) | Reference::Run(_)));
            if checked {
                self.template(default, scope);
            }
        }
    }

    /// Rows of the summary.
    pub(super) fn summary(&mut self) {
        for row in &self.flow.summary {
            for value in &row.values {
                self.template(value, Scope { step: None, end: true, tag: false });
                for reference in value.references() {
                    if matches!(reference.value, Reference::Secret(_)) {
                        let problem = Problem::at(reference.span, "a secret cannot be shown");
                        self.problems.push(problem.label("leave it out"));
                    }
                }
            }
        }
    }

    /// A pool that no step is in was probably misspelt.
    pub(super) fn pools(&mut self) {
        let used: BTreeSet<&str> = self.steps().filter_map(|step| step.common.pool.as_deref()).collect();
        for (name, span) in &self.facts.pools {
            if !used.contains(name.as_str()) {
                let problem = Problem::at(*span, format!("no step is in pool \"{name}\""));
                self.problems.push(match nearest(name, used.iter().copied()) {
                    Some(near) => problem.label(format!("did you mean {near}?")),
                    None => problem.label(format!("a step says pool \"{name}\"")),
                });
            }
        }
    }
}
