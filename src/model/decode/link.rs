//! Turns names in `needs` and `after` into steps: a group stands for every step in it.

use crate::model::names::{GroupName, StepName};
use crate::model::step::Need;
use crate::syntax::problem::{Problem, nearest};

use super::attributes::RawNeed;
use super::context::Ctx;
use super::group::{Items, Named, What};

/// Fills `needs` of every step.
pub(super) fn link(ctx: &mut Ctx, found: &mut Items) {
    let mut linked = Vec::with_capacity(found.drafts.len());
    for draft in &found.drafts {
        let mut needs = Vec::new();
        let finally = found.names.get(draft.step.name.value.as_str()).is_some_and(|named| named.finally);
        for raw in &draft.needs {
            let Some(named) = found.names.get(&raw.name) else {
                ctx.push(unknown(raw, found));
                continue;
            };
            if named.finally && !finally {
                ctx.push(
                    Problem::at(raw.span, format!("\"{}\" runs at the end, after this step", raw.name))
                        .label("steps in finally run last")
                        .also(named.span, "declared here"),
                );
                continue;
            }
            needs.extend(steps_of(ctx, raw, *named, found, &draft.step.groups));
        }
        linked.push(needs);
    }
    for (draft, needs) in found.drafts.iter_mut().zip(linked) {
        draft.step.common.needs = needs;
    }
}

fn steps_of(ctx: &mut Ctx, raw: &RawNeed, named: Named, found: &Items, around: &[GroupName]) -> Vec<Need> {
    let need =
        |step: StepName| Need { step, index: raw.index.clone(), required: raw.required, span: raw.span };
    match named.what {
        What::Step(_) => vec![need(StepName::new(raw.name.clone()))],
        What::Group => {
            let group = GroupName::new(raw.name.clone());
            if around.contains(&group) {
                ctx.push(
                    Problem::at(
                        raw.span,
                        format!("a step cannot wait for group \"{group}\", which it is in"),
                    )
                    .also(named.span, "the group"),
                );
                return Vec::new();
            }
            if !raw.index.is_empty() {
                ctx.push(Problem::at(raw.span, format!("\"{group}\" is a group and has no instances")));
            }
            let inside = found.drafts.iter().filter(|draft| draft.step.groups.contains(&group));
            inside.map(|draft| need(draft.step.name.value.clone())).collect()
        }
    }
}

fn unknown(raw: &RawNeed, found: &Items) -> Problem {
    let problem = Problem::at(raw.span, format!("there is no step or group \"{}\"", raw.name));
    match nearest(&raw.name, found.names.keys().map(String::as_str)) {
        Some(near) => problem.label(format!("did you mean {near}?")),
        None => problem,
    }
}
