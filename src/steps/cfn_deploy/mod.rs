//! `cfn-deploy`: a CloudFormation stack from a template.
//!
//! The plan validates the template and asks CloudFormation itself what would
//! change: by comparison where all that decides can be seen, else by a change
//! set that is read and deleted again. A stack that does not exist yet is
//! planned from its template. The effect makes the change set once more,
//! refuses to go on when it says something else than the plan, and follows the
//! stack's events to their end.

mod apply;
mod back;
mod change_set;
mod events;
mod reconcile;
mod record;
mod request;
#[cfg(test)]
mod sandbox_tests;
pub(super) mod stack;
mod template;

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_cloudformation::types::ChangeSetType;
use serde_json::Value as Json;

use self::apply::{Deploy, KeepSource, Planned};
use self::change_set::{ChangeSet, Reading, ResourceChange, What};
use self::record::facts;
use self::request::{Given, Request};
use self::stack::{CLEANING, Stack, State, busy, stuck};
use self::template::Template;
use super::{Attributes, Back, Context, Done, Failure, Kind, Open, Proposal, Settled, Step};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready, known};
use crate::model::value::Value;
use crate::world::files::digest;

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "cfn-deploy",
        about: "Creates or updates a CloudFormation stack from a template.",
        settings: &[
            Setting::new("stack", Shape::Text, "The stack's name.").required().target(),
            Setting::new("template", Shape::Path { reads: true }, "The template's file, YAML or JSON.").required(),
            Setting::new(
                "parameter",
                Shape::Map,
                "Values of the template's parameters; secrets only for those with NoEcho. One that is left out takes \
                 the template's default, and without one keeps its value.",
            )
            .secret(),
            Setting::new(
                "capability",
                Shape::Texts,
                "What the template may do: CAPABILITY_IAM, CAPABILITY_NAMED_IAM, CAPABILITY_AUTO_EXPAND.",
            ),
            Setting::new("tags", Shape::Map, "Tags of the stack and of all that it creates; without it they stay as they are."),
        ],
        rules: &[],
        outputs: OutputNames::Open,
        nature: Nature::Infrastructure,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::To(back::back),
};

#[derive(Debug)]
struct CfnDeploy {
    stack: String,
    template: String,
    parameters: BTreeMap<String, Given>,
    capabilities: Vec<String>,
    tags: Option<BTreeMap<String, String>>,
}

fn make(ready: &Ready, _: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let invalid = |setting, why: &str| Unready::Invalid { setting, why: why.to_owned() };
    let mut parameters = BTreeMap::new();
    for (name, field) in ready.map("parameter") {
        let given = match known("parameter", field)? {
            Value::Secret(secret) => Given::Secret(secret.clone()),
            value => Given::Plain(
                value.as_text().ok_or_else(|| invalid("parameter", "a list cannot hold secrets here"))?,
            ),
        };
        parameters.insert(name.clone(), given);
    }
    let mut tags = BTreeMap::new();
    for (name, field) in ready.map("tags") {
        let value = known("tags", field)?.as_text();
        tags.insert(name.clone(), value.ok_or_else(|| invalid("tags", "a secret cannot stand here"))?);
    }
    Ok(Box::new(CfnDeploy {
        stack: ready.text("stack")?,
        template: ready.text("template")?,
        parameters,
        capabilities: ready.texts("capability")?,
        tags: ready.get("tags").is_some().then_some(tags),
    }))
}

#[async_trait]
impl Step for CfnDeploy {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let (template, found) = tokio::try_join!(Template::read(cx, &self.template), look(cx, &self.stack))?;
        let inputs = BTreeMap::from([(self.template.clone(), template.digest())]);
        let baseline = facts(&self.stack, found.as_ref().map(|(stack, body)| (stack, body.as_str())));
        let proposal = match found {
            None => plan_new(self.request(template, None)?),
            Some((stack, body)) => {
                let request = self.request(template, Some(&stack))?;
                // After a failed update without rollback, equality of what was asked says nothing.
                if stack.status != "UPDATE_FAILED" && request.is_met_by(&stack, &body) {
                    up_to_date(cx, &request, stack, &body)
                } else if stack.status == CLEANING {
                    return Err(busy(&self.stack, &stack));
                } else {
                    plan_change(cx, request, stack, &body, &|_| Ok(())).await?
                }
            }
        };
        Ok(Proposal { baseline, inputs, ..proposal })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        let found = look(cx, &self.stack).await?;
        Ok(facts(&self.stack, found.as_ref().map(|(stack, body)| (stack, body.as_str()))))
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        // The file may be another by now; it only tells which secrets were given.
        let existing = stack::describe(cx, &self.stack).await?;
        let template = Template::read(cx, &self.template).await.ok();
        let request = template.and_then(|template| self.request(template, existing.as_ref()).ok());
        reconcile::settle(open, cx, &self.stack, request.as_ref()).await
    }
}

/// A stack that can be deployed to, or is at least as its last update says, and its template.
async fn look(cx: &Context, name: &str) -> Result<Option<(Stack, String)>, Failure> {
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

impl CfnDeploy {
    fn request(&self, template: Template, existing: Option<&Stack>) -> Result<Request, Failure> {
        let (parameters, capabilities) = (self.parameters.clone(), self.capabilities.clone());
        Request::new(&self.stack, template, parameters, capabilities, self.tags.clone(), existing)
    }
}

/// Nothing changes; a template that the store does not have yet is put there all the same.
fn up_to_date(cx: &Context, request: &Request, stack: Stack, body: &str) -> Proposal {
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

fn plan_new(request: Request) -> Proposal {
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
async fn plan_change(
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
