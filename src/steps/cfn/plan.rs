//! What would change in one stack: nothing, all of it, or what CloudFormation itself says.

use aws_sdk_cloudformation::types::ChangeSetType;

use super::apply::{Deploy, KeepSource, Planned};
use super::change_set::{self, ChangeSet, Reading, ResourceChange, What};
use super::record;
use super::request::Request;
use super::stack::{self, Stack, State, busy, stuck};
use crate::model::change::{Action, Change, Reversible};
use crate::steps::{Context, Done, Failure, Proposal};
use crate::world::files::digest;

/// A stack that can be deployed to, or is at least as its last update says, and its template.
pub(in crate::steps) async fn look(cx: &Context, name: &str) -> Result<Option<(Stack, String)>, Failure> {
    match stack::state(cx, name).await? {
        State::Absent => Ok(None),
        State::Busy(stack) => Err(busy(name, &stack)),
        State::Stuck(stack) => Err(stuck(name, &stack)),
        State::Cleaning(stack) | State::Ready(stack) => {
            let body = stack::template(cx, &stack.id).await?;
            Ok(Some((stack, body)))
        }
    }
}

/// Nothing changes; a template that the store does not have yet is put there all the same.
pub(in crate::steps) fn up_to_date(cx: &Context, request: &Request, stack: Stack, body: &str) -> Proposal {
    let summary = format!("{} is {}", request.stack, stack.status);
    let state = record::State::met(request, &stack, body, cx).to_json();
    let is_kept = record::kept(&cx.world.store, &digest(body.as_bytes())).is_ok_and(|kept| kept.is_some());
    let proposal = Proposal {
        receipt: state.clone(),
        standing: state.clone(),
        ..Proposal::up_to_date(summary.clone(), stack.outputs.clone())
    };
    if is_kept {
        return proposal;
    }
    let done = Done { summary, outputs: stack.outputs, receipt: state };
    proposal.with(KeepSource { body: body.to_owned(), done })
}

pub(in crate::steps) fn plan_new(request: Request) -> Proposal {
    let resources = request.template.resources();
    let summary = match resources.as_ref().map(Vec::len) {
        Some(1) => "1 resource".to_owned(),
        Some(number) => format!("{number} resources"),
        None => "a new stack".to_owned(),
    };
    let changes = resources
        .unwrap_or_default()
        .into_iter()
        .map(|resource| {
            let what = match resource.kind {
                Some(kind) => format!("{} ({kind})", resource.id),
                None => resource.id,
            };
            Change::new(what, None, "new".to_owned())
        })
        .collect();
    Proposal {
        subject: request.stack.clone(),
        changes,
        reversible: Reversible::Manual,
        ..Proposal::new(Action::Create, summary)
    }
    .with(Deploy { request, planned: Planned::Create })
}

/// Asks CloudFormation; `allowed` says whether such changes may be made.
pub(in crate::steps) async fn plan_change(
    cx: &Context,
    request: Request,
    stack: Stack,
    body: &str,
    allowed: &(dyn Fn(&[ResourceChange]) -> Result<(), Failure> + Sync),
) -> Result<Proposal, Failure> {
    let standing = record::State::standing(&request.stack, &stack, body, cx).to_json();
    let set = ChangeSet::create(cx, &request, ChangeSetType::Update).await?;
    let reading = set.read(cx).await;
    let left = set.delete(cx).await.err();
    let mut proposal = match reading? {
        Reading::NoChange => up_to_date(cx, &request, stack, body),
        Reading::Changes(changes) => {
            allowed(&changes)?;
            Proposal { standing, ..propose(request, &stack, changes, body) }
        }
    };
    proposal.warnings.extend(left);
    Ok(proposal)
}

/// A change that CloudFormation cannot be asked about yet; `why` says why not.
pub(in crate::steps) fn plan_outline(
    cx: &Context,
    request: Request,
    stack: &Stack,
    changes: Vec<ResourceChange>,
    body: &str,
    why: &str,
) -> Proposal {
    let standing = record::State::standing(&request.stack, stack, body, cx).to_json();
    let mut warnings: Vec<String> = changes.iter().filter_map(ResourceChange::warning).collect();
    warnings.push(format!("CloudFormation was not asked, and may still refuse: {why}"));
    Proposal {
        subject: request.stack.clone(),
        changes: changes.iter().map(ResourceChange::shown).collect(),
        warnings,
        reversible: Reversible::Auto,
        standing,
        ..Proposal::new(change_set::action(&changes), change_set::summary(&changes))
    }
    .with(Deploy {
        request,
        planned: Planned::Outline { id: stack.id.clone(), changes, template: body.to_owned() },
    })
}

fn propose(request: Request, stack: &Stack, changes: Vec<ResourceChange>, body: &str) -> Proposal {
    let mut warnings: Vec<String> = changes.iter().filter_map(ResourceChange::warning).collect();
    warnings.extend(task_definition_warning(&changes));
    let mut shown = request.parameter_changes(stack);
    shown.extend(changes.iter().map(ResourceChange::shown));
    let template = body.to_owned();
    Proposal {
        subject: request.stack.clone(),
        changes: shown,
        warnings,
        reversible: Reversible::Auto,
        ..Proposal::new(change_set::action(&changes), change_set::summary(&changes))
    }
    .with(Deploy { request, planned: Planned::Update { id: stack.id.clone(), changes, template } })
}

/// A stack that owns a service's task definition puts its own image back with every change of it.
fn task_definition_warning(changes: &[ResourceChange]) -> Option<String> {
    let replaced = |change: &&ResourceChange| {
        change.kind == "AWS::ECS::TaskDefinition" && change.certain && change.what != What::Add
    };
    let ids: Vec<&str> = changes.iter().filter(replaced).map(|change| change.id.as_str()).collect();
    (!ids.is_empty()).then(|| {
        format!("services that use {} run the template's image until they are deployed again", ids.join(", "))
    })
}
