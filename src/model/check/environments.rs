//! What may stand in an environment: itself and the checkout, and no circle of variables.

use std::collections::{BTreeMap, BTreeSet};

use super::suggest;
use crate::model::decode::BUILT_IN;
use crate::model::project::{Environment, Project, Var};
use crate::model::template::{Part, Reference, Template};
use crate::model::value::Value;
use crate::syntax::problem::{Problem, Problems};
use crate::syntax::source::Spanned;

/// Checks every environment.
pub(super) fn check(project: &Project, problems: &mut Problems) {
    for env in &project.environments {
        let texts = [&env.account, &env.region, &env.profile, &env.role, &env.endpoint, &env.registry];
        for template in texts.into_iter().flatten().chain(env.vars.values().flat_map(templates)) {
            references(project, env, template, problems);
        }
        if circles(env, problems) {
            sizes(env, problems);
        }
    }
}

fn templates(var: &Var) -> Vec<&Template> {
    match var {
        Var::One(template) => vec![template],
        Var::List(templates) => templates.iter().collect(),
        Var::Records(records) => records.iter().flat_map(|(_, fields)| fields.values()).collect(),
    }
}

fn references(project: &Project, env: &Environment, template: &Template, problems: &mut Problems) {
    for reference in template.references() {
        let problem = match &reference.value {
            Reference::Git(_) => continue,
            Reference::Env(name) => {
                if BUILT_IN.contains(&name.as_str()) || env.vars.contains_key(name) {
                    continue;
                }
                // A base may leave a variable to those that extend it.
                if project.environments.iter().any(|other| other.vars.contains_key(name)) {
                    continue;
                }
                let problem = Problem::at(
                    reference.span,
                    format!("environment \"{}\" has no variable \"{name}\"", env.name.value),
                );
                suggest(problem, name, env.vars.keys().map(String::as_str).collect::<Vec<_>>(), "env.")
            }
            Reference::Secret(_) => Problem::at(reference.span, "a secret cannot stand in an environment")
                .label("a step names it where it is used"),
            Reference::Param(_) | Reference::Each(..) | Reference::Run(_) | Reference::Step(_) => {
                Problem::at(reference.span, "this is not known in an environment").label("env and git are")
            }
        };
        problems.push(problem);
    }
}

/// Bytes that a variable may become once others are put in.
const LONGEST: usize = 1 << 16;

/// Reports variables that grow beyond measure. Only for variables without circles.
fn sizes(env: &Environment, problems: &mut Problems) {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for name in env.vars.keys() {
        let mut stack = vec![(name.as_str(), false)];
        while let Some((name, ready)) = stack.pop() {
            let Some(var) = env.vars.get(name).filter(|_| !sizes.contains_key(name)) else { continue };
            let parts = || templates(var).into_iter().flat_map(|template| &template.parts);
            if !ready {
                stack.push((name, true));
                stack.extend(parts().filter_map(named).map(|name| (name, false)));
                continue;
            }
            let sizes_of = |part: &Part| match part {
                Part::Literal(Value::Text(text)) => text.len(),
                part => named(part).map_or(16, |name| sizes.get(name).copied().unwrap_or(0)),
            };
            let size = parts().map(sizes_of).fold(1, usize::saturating_add);
            if size > LONGEST
                && let Some(template) = templates(var).first()
            {
                let message = format!("variable \"{name}\" becomes too long once others are put in");
                problems.push(Problem::at(template.span, message).label("more than 64 KiB"));
            }
            // What is made of it is not reported too.
            sizes.insert(name, if size > LONGEST { 16 } else { size });
        }
    }
}

/// The variable that a piece names.
fn named(part: &Part) -> Option<&str> {
    match part {
        Part::Reference(Spanned { value: Reference::Env(name), .. }) => Some(name),
        _ => None,
    }
}

/// Reports variables that are made of one another. True when there are none.
fn circles(env: &Environment, problems: &mut Problems) -> bool {
    let before = problems.0.len();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for name in env.vars.keys() {
        let mut path: Vec<&str> = Vec::new();
        let mut stack = vec![(name.as_str(), 0)];
        while let Some((name, depth)) = stack.pop() {
            path.truncate(depth);
            if let Some(start) = path.iter().position(|seen| *seen == name) {
                report(env, &path[start..], problems);
                continue;
            }
            if !done.insert(name) {
                continue;
            }
            path.push(name);
            for template in env.vars.get(name).map(templates).unwrap_or_default() {
                for reference in template.references() {
                    if let Reference::Env(next) = &reference.value {
                        stack.push((next, depth + 1));
                    }
                }
            }
        }
    }
    problems.0.len() == before
}

fn report(env: &Environment, circle: &[&str], problems: &mut Problems) {
    let mut names = circle.to_vec();
    names.extend(circle.first().copied());
    let message = format!("variables are made of one another: env.{}", names.join(" → env."));
    let mut spans = circle.iter().filter_map(|name| env.vars.get(*name)).flat_map(templates).map(|t| t.span);
    let Some(first) = spans.next() else { return };
    problems.push(spans.fold(Problem::at(first, message), |problem, span| problem.also(span, "")));
}
