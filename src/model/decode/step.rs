//! `KIND NAME { … }`

use crate::model::kind::KindSpec;
use crate::model::names::StepName;
use crate::model::step::Step;
use crate::syntax::problem::{Problem, nearest};
use crate::syntax::reader::NodeReader;
use crate::syntax::source::Spanned;
use crate::syntax::tree::Node;

use super::attributes::{RawNeed, common};
use super::body::Body;
use super::context::Ctx;
use super::group::Inherited;
use super::settings::{rules, settings};

/// A step whose edges are not looked up yet.
#[derive(Clone, Debug)]
pub(in crate::model) struct Draft {
    /// The step, its `needs` still empty.
    pub step: Step,
    /// What it needs, groups included.
    pub needs: Vec<RawNeed>,
}

/// What stands beside steps, so that a misspelt one is not taken for a kind.
const BESIDE: [&str; 3] = ["group", "use", "pool"];

/// The kind that a node names. Where there is none, that is reported, and in the error is whether
/// a step was probably meant.
pub(super) fn kind(ctx: &mut Ctx, node: &Node, also: &[&str]) -> Result<&'static KindSpec, bool> {
    if let Some(kind) = ctx.kind(&node.name.value) {
        return Ok(kind);
    }
    let problem = Problem::at(node.name.span, format!("there is no step kind \"{}\"", node.name.value));
    let known = ctx.kinds.iter().map(|kind| kind.name).chain(BESIDE).chain(also.iter().copied());
    let near = nearest(&node.name.value, known);
    let problem = if let Some(near) = near {
        problem.label(format!("did you mean {near}?"))
    } else {
        let names: Vec<&str> = ctx.kinds.iter().map(|kind| kind.name).collect();
        problem.help(format!("the kinds are {}", names.join(", ")))
    };
    ctx.push(problem);
    Err(near.is_none_or(|near| ctx.kind(near).is_some()))
}

/// Reads a step whose kind and name are known.
pub(super) fn step(
    ctx: &mut Ctx,
    body: &Body,
    node: &Node,
    kind: &'static KindSpec,
    name: &Spanned<String>,
    inherited: &Inherited,
) -> Draft {
    let mut reader = NodeReader::new(node);
    reader.arg();
    let owner = format!("{} \"{}\"", kind.name, name.value);
    let (settings, given) = settings(ctx, body, &mut reader, kind.settings, &owner);
    let (mut common, own_needs) = common(ctx, body, &mut reader, kind);
    rules(ctx, kind.rules, &given, &reader, &owner);
    reader.finish(kind.name, &mut ctx.problems);
    let mut when = inherited.when.clone();
    when.append(&mut common.when);
    common.when = when;
    let mut needs = inherited.needs.clone();
    needs.extend(own_needs);
    let full = StepName::new(body.declare(&name.value));
    let step = Step {
        kind,
        name: Spanned::new(full, name.span),
        groups: inherited.groups.clone(),
        common,
        settings,
        span: node.span,
    };
    Draft { step, needs }
}
