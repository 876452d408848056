//! The steps of one flow, called as they are inside another flow's run.
//!
//! A step `site` of a flow that goes back in the step `back` is called
//! `back/site` there. All that it refers to moves with it: other steps of its
//! flow, the parameters, secrets and pools of its flow. What belongs to the
//! environment and the checkout stays as it is.

use std::convert::Infallible;

use crate::model::expr::{Condition, Expr};
use crate::model::names::{GroupName, StepId, StepName};
use crate::model::settings::Written;
use crate::model::step::{Common, Step, Undo};
use crate::model::template::{Part, Reference, StepReference, Template};
use crate::syntax::source::Spanned;

/// What something of another flow is called inside the step `host`.
#[must_use]
pub fn called(host: &StepName, name: &str) -> String {
    format!("{host}/{name}")
}

/// The name that something has in its own flow; `None` for what is not of the step `host`.
#[must_use]
pub fn own_name<'a>(host: &StepName, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(host.as_str())?.strip_prefix('/')
}

/// The same instance of the step as it is called inside.
#[must_use]
pub fn id(host: &StepName, id: &StepId) -> StepId {
    StepId { name: step_name(host, &id.name), instance: id.instance.clone() }
}

/// The same step as it is called inside. It stands in the groups around `host`, then in its own;
/// it runs only where the conditions of `host` hold as well.
#[must_use]
pub fn step(host: &Step, step: &Step) -> Step {
    let name = &host.name.value;
    let inner = step.groups.iter().map(|group| GroupName::new(called(name, group.as_str())));
    let mut common = common(name, &step.common);
    common.when.splice(0..0, host.common.when.iter().cloned());
    common.continue_on_failure |= host.common.continue_on_failure;
    common.ungated |= host.common.ungated;
    Step {
        kind: step.kind,
        name: Spanned::new(step_name(name, &step.name.value), step.name.span),
        groups: host.groups.iter().cloned().chain(inner).collect(),
        common,
        settings: settings(name, &step.settings),
        span: step.span,
    }
}

fn step_name(host: &StepName, name: &StepName) -> StepName {
    StepName::new(called(host, name.as_str()))
}

fn template(host: &StepName, written: &Template) -> Template {
    let parts = written.parts.iter().map(|part| match part {
        Part::Literal(value) => Part::Literal(value.clone()),
        Part::Reference(named) => Part::Reference(Spanned::new(reference(host, &named.value), named.span)),
    });
    Template { parts: parts.collect(), span: written.span }
}

fn reference(host: &StepName, named: &Reference) -> Reference {
    match named {
        Reference::Param(name) => Reference::Param(called(host, name)),
        Reference::Secret(name) => Reference::Secret(called(host, name)),
        Reference::Step(step) => Reference::Step(StepReference {
            name: step_name(host, &step.name),
            index: templates(host, &step.index),
            output: step.output.clone(),
        }),
        Reference::Env(_) | Reference::Each(..) | Reference::Git(_) | Reference::Run(_) => named.clone(),
    }
}

fn templates(host: &StepName, written: &[Template]) -> Vec<Template> {
    written.iter().map(|one| template(host, one)).collect()
}

fn named(host: &StepName, written: &[(String, Template)]) -> Vec<(String, Template)> {
    written.iter().map(|(name, one)| (name.clone(), template(host, one))).collect()
}

fn settings(host: &StepName, written: &Written) -> Written {
    let moved = written.try_map(&mut |one| Ok::<_, Infallible>(template(host, one)));
    match moved {
        Ok(moved) => moved,
        Err(never) => match never {},
    }
}

fn common(host: &StepName, written: &Common) -> Common {
    let mut common = written.clone();
    // Edges are drawn already; `each` has its values.
    common.needs.clear();
    common.when = written.when.iter().map(|when| condition(host, when)).collect();
    common.env = named(host, &written.env);
    common.files = named(host, &written.files);
    common.environment = written.environment.as_ref().map(|one| template(host, one));
    common.pool = written.pool.as_ref().map(|pool| called(host, pool));
    if let Some(inputs) = &mut common.inputs {
        inputs.globs = templates(host, &inputs.globs);
        inputs.exclude = templates(host, &inputs.exclude);
    }
    common.outputs = templates(host, &written.outputs);
    for tool in &mut common.tools {
        tool.version_from = tool.version_from.as_ref().map(|one| template(host, one));
    }
    common.probe = written.probe.as_deref().map(|argv| templates(host, argv));
    common.undo = written.undo.as_ref().map(|undo| match undo {
        Undo::None => Undo::None,
        Undo::Command(argv) => Undo::Command(templates(host, argv)),
    });
    common
}

fn condition(host: &StepName, written: &Condition) -> Condition {
    Condition { expr: expr(host, &written.expr), text: written.text.clone(), span: written.span }
}

fn expr(host: &StepName, written: &Expr) -> Expr {
    let inner = |one: &Expr| Box::new(expr(host, one));
    match written {
        Expr::Value(one) => Expr::Value(template(host, one)),
        Expr::Not(a) => Expr::Not(inner(a)),
        Expr::And(a, b) => Expr::And(inner(a), inner(b)),
        Expr::Or(a, b) => Expr::Or(inner(a), inner(b)),
        Expr::Compare(how, a, b) => Expr::Compare(*how, inner(a), inner(b)),
        Expr::In(a, b) => Expr::In(inner(a), inner(b)),
        Expr::Matches(a, pattern) => Expr::Matches(inner(a), pattern.clone()),
        Expr::Defined(one) => Expr::Defined(template(host, one)),
        Expr::Changed(globs, span) => Expr::Changed(globs.clone(), *span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    const FLOW: &str = r#"
environment "dev"
flow "deploy" {
    param "tag" default="v1"
    secret "token" from="env:TOKEN"
    pool "builds" size=2
    group "layer" {
        run "image" { command "make"; pool "builds" }
        run "site" needs="image" when="param.tag == 'v1'" {
            command "./site" "${env.region}" "${param.tag}" "${git.sha}" "${step.image.digest}"
            env TOKEN="${secret.token}"
            undo { command "./back" "${param.tag}" }
        }
    }
}
flow "incident" {
    group "repair" {
        rollback "back" { flow "deploy"; ungated #true; when "env.name == 'dev'" }
    }
}
"#;

    #[test]
    fn all_that_belongs_to_the_other_flow_is_called_otherwise() {
        let (_, project, problems) = testing::load(&[("flows/f.kdl", FLOW)]);
        assert!(problems.is_empty(), "{problems:?}");
        let of = |flow: usize, step: usize| &project.flows[flow].steps[step];
        let moved = step(of(1, 0), of(0, 1));
        assert_eq!(moved.name.value.as_str(), "back/site");
        let groups: Vec<&str> = moved.groups.iter().map(GroupName::as_str).collect();
        assert_eq!(groups, ["repair", "back/layer"]);
        let mut named: Vec<String> = moved
            .templates()
            .iter()
            .flat_map(|one| one.references())
            .map(|reference| match &reference.value {
                Reference::Param(name) => format!("param {name}"),
                Reference::Secret(name) => format!("secret {name}"),
                Reference::Step(step) => format!("step {}", step.name),
                Reference::Env(name) => format!("env {name}"),
                other => format!("{other:?}"),
            })
            .collect();
        named.sort();
        named.dedup();
        assert_eq!(
            named,
            ["Git(Sha)", "env name", "env region", "param back/tag", "secret back/token", "step back/image"]
        );
        let texts: Vec<&str> = moved.common.when.iter().map(|when| when.text.as_str()).collect();
        assert_eq!(texts, ["env.name == 'dev'", "param.tag == 'v1'"]);
        assert!(moved.common.ungated);
        assert_eq!(step(of(1, 0), of(0, 0)).common.pool.as_deref(), Some("back/builds"));
    }

    #[test]
    fn a_name_is_found_again() {
        let host = StepName::new("back");
        assert_eq!(own_name(&host, &called(&host, "layer/site")), Some("layer/site"));
        assert_eq!(own_name(&host, "backup/site"), None);
        assert_eq!(own_name(&host, "site"), None);
    }
}
