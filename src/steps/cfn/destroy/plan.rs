//! What would go, and whether it may.

use serde_json::Value as Json;

use super::apply::Destroy;
use super::inventory::Inventory;
use super::obstacles;
use crate::model::change::{Action, Reversible};
use crate::model::value::Outputs;
use crate::steps::cfn::change_set::ResourceChange;
use crate::steps::cfn::policy;
use crate::steps::cfn::protect::preview;
use crate::steps::cfn::record::{self, facts};
use crate::steps::cfn::several::Part;
use crate::steps::cfn::stack::{self, Stack, State, busy, cleaning};
use crate::steps::infra::{Common, Preview};
use crate::steps::{Context, Failure, Proposal};

/// A stack that is there, with all that is in it.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub stack: Stack,
    /// The template, byte for byte.
    pub body: String,
    pub inventory: Inventory,
}

impl Standing {
    /// Looks at a stack; `None` where there is none. One that cannot be updated any more can still
    /// be deleted; one that is being changed cannot.
    pub(super) async fn look(cx: &Context, name: &str) -> Result<Option<Self>, Failure> {
        let stack = match stack::state(cx, name).await? {
            State::Absent => return Ok(None),
            State::Busy(stack) => return Err(busy(name, &stack)),
            State::Cleaning(stack) => return Err(cleaning(name, &stack)),
            State::Ready(stack) | State::Stuck(stack) => stack,
        };
        let body = stack::template(cx, &stack.id).await?;
        let inventory = Inventory::of(cx, &stack.id).await?;
        Ok(Some(Self { stack, body, inventory }))
    }

    /// What is observed of it: what it was deployed with, and what is in it.
    pub(super) fn facts(&self, name: &str) -> Json {
        let mut all = facts(name, Some((&self.stack, &self.body)));
        all["resources"] = self.inventory.fact();
        all
    }
}

/// The same facts as those of [`plan`], for one stack.
pub(in crate::steps) async fn observe(cx: &Context, name: &str) -> Result<Json, Failure> {
    let found = Standing::look(cx, name).await?;
    Ok(found.map_or_else(|| facts(name, None), |standing| standing.facts(name)))
}

/// Plans to delete stacks in this order, by name; one that does not exist is up to date. Refused is
/// what takes away something protected, what has termination protection, and what the policy forbids;
/// exports that others import are [`Proposal::held`].
pub(in crate::steps) async fn plan(
    cx: &Context,
    names: &[String],
    common: &Common,
) -> Result<Vec<Part>, Failure> {
    let mut found = Vec::new();
    for name in names {
        found.push((name.as_str(), Standing::look(cx, name).await?));
    }
    let there: Vec<(&str, &Standing)> =
        found.iter().filter_map(|(name, standing)| Some((*name, standing.as_ref()?))).collect();
    all_changes(&there, names.len() > 1).guard(&common.protect)?;
    obstacles::refuse_kept(&there.iter().map(|(name, it)| (*name, &it.stack)).collect::<Vec<_>>())?;
    let mut held = Vec::new();
    for (place, (name, standing)) in there.iter().enumerate() {
        let gone: Vec<&str> = there.iter().take(place).map(|(name, _)| *name).collect();
        held.push(obstacles::held(cx, name, &standing.stack, &gone).await?);
    }
    let bodies: Vec<String> =
        found.iter().map(|(_, it)| it.as_ref().map(|it| it.body.clone()).unwrap_or_default()).collect();
    let (mut parts, mut held) = (Vec::new(), held.into_iter());
    for (name, standing) in found {
        let proposal = match standing {
            None => absent(name),
            Some(standing) => {
                let lines = held.next().unwrap_or_default();
                Proposal { held: obstacles::refusal(lines), ..propose(cx, name, standing) }
            }
        };
        parts.push(Part { stack: name.to_owned(), proposal });
    }
    let told = parts.iter().zip(&bodies);
    let told = told.map(|(part, body)| (part.stack.clone(), policy::proposed(&part.proposal, body)));
    common.judge(&policy::together(told), cx).await?;
    Ok(parts)
}

/// The same for a step of one stack.
pub(in crate::steps) async fn plan_one(
    cx: &Context,
    name: &str,
    common: &Common,
) -> Result<Proposal, Failure> {
    let parts = plan(cx, &[name.to_owned()], common).await?;
    Ok(parts.into_iter().next().map_or_else(|| absent(name), |part| part.proposal))
}

/// All that would go of all stacks, so that one refusal names everything.
fn all_changes(stacks: &[(&str, &Standing)], several: bool) -> Preview {
    let of = |(name, standing): &(&str, &Standing)| {
        preview(several.then_some(*name), &standing.inventory.resources).changes().to_vec()
    };
    Preview::new(stacks.iter().flat_map(of).collect())
}

fn absent(name: &str) -> Proposal {
    let baseline = facts(name, None);
    Proposal { baseline, ..Proposal::up_to_date(format!("there is no stack {name}"), Outputs::new()) }
}

fn propose(cx: &Context, name: &str, standing: Standing) -> Proposal {
    let state = record::State::standing(name, &standing.stack, &standing.body, cx).to_json();
    let inventory = &standing.inventory;
    Proposal {
        subject: name.to_owned(),
        changes: inventory.resources.iter().map(ResourceChange::shown).collect(),
        warnings: inventory.warnings(),
        // What it was can be deployed again; what its resources held is lost.
        reversible: Reversible::Manual,
        baseline: standing.facts(name),
        // One whose creation failed was never anything that could be returned to.
        standing: if was_made(&standing.stack.status) { state } else { Json::Null },
        ..Proposal::new(Action::Delete, inventory.summary())
    }
    .with(Destroy { name: name.to_owned(), planned: standing })
}

fn was_made(status: &str) -> bool {
    !matches!(status, "CREATE_FAILED" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED")
}
