//! Whether what a `${…}` names exists, and may be named where it stands.

use std::collections::BTreeSet;

use super::{Checker, suggest};
use crate::model::decode::{BUILT_IN, What};
use crate::model::kind::OutputNames;
use crate::model::project::Var;
use crate::model::step::{Each, Step};
use crate::model::template::{Part, Reference, RunFact, StepReference, Template};
use crate::syntax::problem::Problem;
use crate::syntax::source::{Span, Spanned};

/// Where a value stands, as far as it matters to references.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The step, if it stands in one.
    pub step: Option<&'a Step>,
    /// `finally` and `summary`: the run is over.
    pub end: bool,
    /// An image or artefact tag, which may hold the time of the run.
    pub tag: bool,
}

impl Checker<'_> {
    /// Checks every reference of a value.
    pub(super) fn template(&mut self, template: &Template, scope: Scope) {
        for reference in template.references() {
            self.reference(reference, scope);
        }
    }

    fn reference(&mut self, reference: &Spanned<Reference>, scope: Scope) {
        let span = reference.span;
        match &reference.value {
            Reference::Env(name) => self.env(name, span),
            Reference::Param(name) => {
                if !self.flow.params.iter().any(|param| param.name == *name) {
                    let known: Vec<&str> = self.flow.params.iter().map(|param| param.name.as_str()).collect();
                    let problem = Problem::at(span, format!("there is no parameter \"{name}\""));
                    self.problems.push(suggest(problem, name, known, "param."));
                }
            }
            Reference::Each(var, field) => self.each(var, field.as_deref(), span, scope),
            Reference::Secret(name) => self.secret_exists(name, span),
            Reference::Step(step) => self.output(step, span, scope),
            Reference::Run(fact) => self.run_fact(*fact, span, scope),
            Reference::Git(_) => {}
        }
    }

    fn env(&mut self, name: &str, span: Span) {
        let environments = &self.project.environments;
        if BUILT_IN.contains(&name) || environments.iter().any(|env| env.vars.contains_key(name)) {
            return;
        }
        let vars: BTreeSet<&str> =
            environments.iter().flat_map(|env| env.vars.keys()).map(String::as_str).collect();
        let problem = Problem::at(span, format!("no environment has a variable \"{name}\""));
        let known: Vec<&str> = vars.into_iter().chain(BUILT_IN).collect();
        self.problems.push(suggest(problem, name, known, "env."));
    }

    fn secret_exists(&mut self, name: &str, span: Span) {
        let environments = self.project.environments.iter().flat_map(|env| &env.secrets);
        let known: BTreeSet<&str> =
            self.flow.secrets.iter().chain(environments).map(|secret| secret.name.as_str()).collect();
        if !known.contains(name) {
            let problem =
                Problem::at(span, format!("neither the flow nor an environment has a secret \"{name}\""));
            self.problems.push(suggest(problem, name, known.into_iter().collect::<Vec<_>>(), "secret."));
        }
    }

    fn each(&mut self, var: &str, field: Option<&str>, span: Span, scope: Scope) {
        let vars = scope.step.map_or(&[][..], |step| step.common.each.as_slice());
        let Some(each) = vars.iter().find(|each| each.var == var) else {
            let problem = Problem::at(span, format!("there is no each \"{var}\" here"));
            let known: Vec<&str> = vars.iter().map(|each| each.var.as_str()).collect();
            self.problems.push(match (known.as_slice(), scope.step) {
                ([], Some(_)) => problem.label("the step has no each"),
                ([], None) => problem.label("each is known in its step only"),
                _ => suggest(problem, var, known, "each."),
            });
            return;
        };
        let Some(field) = field else { return };
        let Some(fields) = self.fields(each) else { return };
        if !fields.contains(field) {
            let start = span.end.saturating_sub(u32::try_from(field.len()).unwrap_or(0));
            let problem = Problem::at(Span { start, ..span }, format!("each.{var} has no field \"{field}\""));
            self.problems.push(if fields.is_empty() {
                problem.label("its list holds plain values")
            } else {
                suggest(problem, field, fields.iter().map(String::as_str).collect::<Vec<_>>(), "")
            });
        }
    }

    /// The fields of the records that a variable runs over, where they are known.
    fn fields(&self, each: &Each) -> Option<BTreeSet<String>> {
        let [Part::Reference(Spanned { value: Reference::Env(name), .. })] = each.list.parts.as_slice()
        else {
            return each.list.as_literal().map(|_| BTreeSet::new());
        };
        let mut fields = BTreeSet::new();
        for var in self.project.environments.iter().filter_map(|env| env.vars.get(name)) {
            match var {
                Var::One(template) if template.as_literal().is_none() => return None,
                Var::One(_) | Var::List(_) => {}
                Var::Records(records) => fields.extend(records.iter().flat_map(|(_, f)| f.keys().cloned())),
            }
        }
        Some(fields)
    }

    fn run_fact(&mut self, fact: RunFact, span: Span, scope: Scope) {
        let problem = match fact {
            RunFact::Id => return,
            RunFact::Time if scope.end || scope.tag => return,
            RunFact::Time => Problem::at(span, "run.time may stand in tags only")
                .label("elsewhere it would make every run differ")
                .help("git.time is the time of the commit"),
            RunFact::Outcome | RunFact::Failed | RunFact::Duration if scope.end => return,
            _ => Problem::at(span, "this is known only when the run is over")
                .label("it may stand in finally and summary"),
        };
        self.problems.push(problem);
    }

    fn output(&mut self, reference: &StepReference, span: Span, scope: Scope) {
        let name = reference.name.as_str();
        let of_output = output_span(reference, span);
        let of_name = name_span(reference, span);
        let Some(named) = self.facts.names.get(name) else {
            let steps = self.facts.names.iter().filter(|(_, named)| matches!(named.what, What::Step(_)));
            let known: Vec<&str> = steps.map(|(name, _)| name.as_str()).collect();
            let problem = Problem::at(of_name, format!("there is no step \"{name}\""));
            self.problems.push(suggest(problem, name, known, "step."));
            return;
        };
        let What::Step(kind) = named.what else {
            let problem = Problem::at(of_name, format!("\"{name}\" is a group, and only steps have outputs"));
            self.problems.push(problem.also(named.span, "declared here"));
            return;
        };
        if named.finally && !scope.end {
            let problem = Problem::at(of_name, format!("\"{name}\" runs at the end, after this step"));
            self.problems.push(problem.label("steps in finally run last").also(named.span, "declared here"));
        }
        let Some(kind) = kind else { return };
        if let OutputNames::Fixed(outputs) = kind.outputs
            && reference.output != "changed"
            && !outputs.contains(&reference.output.as_str())
        {
            let problem =
                Problem::at(of_output, format!("step.{name} has no output \"{}\"", reference.output));
            self.problems.push(match outputs {
                [] => problem.label(format!("{} has no outputs", kind.name)),
                outputs => problem.label(format!("it has {}", outputs.join(", "))),
            });
        }
        let step = self.steps().find(|step| step.name.value == reference.name);
        if let Some(step) = step {
            let all = reference.index.is_empty() && reference.output == "changed";
            if !all {
                self.index(step, reference.index.len(), of_name, scope, &reference.output);
            }
        }
    }

    /// Whether as many values stand in brackets as the step has `each`.
    fn index(&mut self, step: &Step, given: usize, span: Span, scope: Scope, output: &str) {
        let each = &step.common.each;
        if each.len() == given {
            return;
        }
        let name = step.name.value.as_str();
        let vars: Vec<String> = each.iter().map(|each| format!("each.{}", each.var)).collect();
        let same = scope.step.is_some_and(|reader| {
            each.iter().all(|each| reader.common.each.iter().any(|own| own.var == each.var))
        });
        let problem = if each.is_empty() {
            Problem::at(span, format!("step \"{name}\" has no instances")).label("it has no each")
        } else if given == 0 {
            let index = if same { vars.join(",") } else { "VALUE".to_owned() };
            Problem::at(span, format!("step \"{name}\" has one instance per value"))
                .label(format!("write step.{name}[{index}].{output}"))
        } else {
            Problem::at(span, format!("step \"{name}\" has {} each", each.len()))
                .label(format!("write [{}]", vars.join(",")))
        };
        self.problems.push(problem);
    }

    /// Checks the instances that `needs` names.
    pub(super) fn needs(&mut self, step: &Step) {
        for need in step.common.needs.iter().filter(|need| !need.index.is_empty()) {
            let Some(target) = self.steps().find(|other| other.name.value == need.step) else { continue };
            let (wanted, given) = (target.common.each.len(), need.index.len());
            if wanted != given {
                let problem = match wanted {
                    0 => Problem::at(need.span, format!("step \"{}\" has no instances", need.step))
                        .label("it has no each"),
                    _ => Problem::at(need.span, format!("step \"{}\" has {wanted} each", need.step))
                        .label(format!("{given} in brackets")),
                };
                self.problems.push(problem);
            }
        }
    }
}

/// The place of the name in `step.NAME.OUTPUT`.
fn name_span(reference: &StepReference, span: Span) -> Span {
    if !reference.index.is_empty() || span.end - span.start <= 6 {
        return span;
    }
    let output = u32::try_from(reference.output.len()).unwrap_or(0) + 1;
    let end = span.end.saturating_sub(output).max(span.start + 6);
    Span { start: span.start + 5, end, ..span }
}

/// The place of the output in `step.NAME.OUTPUT`.
fn output_span(reference: &StepReference, span: Span) -> Span {
    let start = span.end.saturating_sub(u32::try_from(reference.output.len()).unwrap_or(0));
    Span { start: start.max(span.start), ..span }
}
