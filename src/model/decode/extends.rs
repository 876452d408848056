//! Follows `extends` of environments, and reports unknown bases and circles.

use crate::model::project::Environment;
use crate::syntax::problem::{Problem, nearest};

use super::context::Ctx;
use super::environment::Raw;

/// Every environment with what it takes from its bases.
pub(super) fn resolve(ctx: &mut Ctx, raw: &[Raw]) -> Vec<Environment> {
    let find = |name: &str| raw.iter().find(|env| env.name.value.as_str() == name);
    let mut done = Vec::with_capacity(raw.len());
    for env in raw {
        let mut whole = env.clone();
        let mut chain = vec![env];
        let mut current = env;
        while let Some(extends) = &current.extends {
            let Some(base) = find(&extends.value) else {
                if chain.len() == 1 {
                    let names = raw.iter().map(|env| env.name.value.as_str());
                    let problem =
                        Problem::at(extends.span, format!("there is no environment \"{}\"", extends.value));
                    ctx.push(match nearest(&extends.value, names) {
                        Some(near) => problem.label(format!("did you mean {near}?")),
                        None => problem,
                    });
                }
                break;
            };
            if chain.iter().any(|seen| seen.name.value == base.name.value) {
                if base.name.value == env.name.value {
                    circle(ctx, &chain);
                }
                break;
            }
            whole.inherit(base);
            chain.push(base);
            current = base;
        }
        done.push(whole.finish());
    }
    done
}

/// Reports a circle once: at the environment of it that comes first in the files.
fn circle(ctx: &mut Ctx, chain: &[&Raw]) {
    let first = chain.iter().min_by_key(|env| env.name.span);
    if first.map(|env| &env.name.value) != chain.first().map(|env| &env.name.value) {
        return;
    }
    let mut names: Vec<&str> = chain.iter().map(|env| env.name.value.as_str()).collect();
    names.extend(names.first().copied());
    let mut problem: Option<Problem> = None;
    for env in chain {
        let Some(extends) = &env.extends else { continue };
        let text = format!("{} extends {}", env.name.value, extends.value);
        problem = Some(match problem {
            None => {
                Problem::at(extends.span, format!("environments extend one another: {}", names.join(" → ")))
                    .label(text)
            }
            Some(problem) => problem.also(extends.span, text),
        });
    }
    if let Some(problem) = problem {
        ctx.push(problem);
    }
}
