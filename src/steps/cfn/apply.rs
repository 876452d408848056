//! The effect: a change set that says what the plan said, executed and followed
//! to its end.

use async_trait::async_trait;
use aws_sdk_cloudformation::types::ChangeSetType;
use serde_json::json;

use super::change_set::{ChangeSet, Execution, Reading, ResourceChange, What};
use super::events::Events;
use super::follow::{events_command, follow};
use super::policy;
use super::protect::guard;
use super::reconcile::EXECUTING;
use super::record::State;
use super::request::{Maker, Request};
use super::stack::{Stack, delete_command, describe};
use crate::model::change::{Action, Change};
use crate::steps::infra::keep_bytes;
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::AwsError;

/// What the plan knows of the stack.
#[derive(Clone, Debug)]
pub(in crate::steps) enum Planned {
    /// There is none yet.
    Create,
    /// Exactly these changes of the stack with that ARN.
    Update {
        /// The stack.
        id: String,
        /// Sorted.
        changes: Vec<ResourceChange>,
        /// The template that it has.
        template: String,
    },
    /// About these changes of the stack with that ARN, read off the templates alone: CloudFormation
    /// could not be asked yet.
    Outline {
        /// The stack.
        id: String,
        /// Sorted.
        changes: Vec<ResourceChange>,
        /// The template that it has.
        template: String,
    },
    /// Something of the stack with that ARN: what, is known once all that it refers to is published.
    Unseen {
        /// The stack.
        id: String,
        /// The template that it has.
        template: String,
    },
}

/// A planned deployment.
pub(in crate::steps) struct Deploy {
    pub request: Request,
    pub planned: Planned,
}

#[async_trait]
impl Effect for Deploy {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let kind = match self.planned {
            Planned::Create => ChangeSetType::Create,
            Planned::Update { .. } | Planned::Outline { .. } | Planned::Unseen { .. } => {
                ChangeSetType::Update
            }
        };
        // What stands and what comes can both be returned to.
        keep_bytes(&cx.world.store, self.request.template.body.as_bytes())?;
        if let Planned::Update { template, .. }
        | Planned::Outline { template, .. }
        | Planned::Unseen { template, .. } = &self.planned
        {
            keep_bytes(&cx.world.store, template.as_bytes())?;
        }
        let set = match &self.request.maker {
            None => ChangeSet::create(cx, &self.request, kind).await?,
            Some(maker) => match self.made(cx, maker.as_ref()).await? {
                Some(set) => set,
                None => return self.done(cx, "is as wanted already").await,
            },
        };
        match self.prepare(cx, &set).await {
            Ok(None) => {
                self.discard(cx, &set).await;
                self.done(cx, "is as wanted already").await
            }
            Ok(Some((id, changes))) => self.carry_out(cx, &set, &id, &changes).await,
            Err(failure) => {
                self.discard(cx, &set).await;
                Err(failure)
            }
        }
    }
}

impl Deploy {
    /// A change set made by a program; `None` when nothing is left to do.
    async fn made(&self, cx: &Context, maker: &dyn Maker) -> Result<Option<ChangeSet>, Failure> {
        let set = ChangeSet::fresh(cx, &self.request.stack);
        let made = maker.make(&set, cx).await;
        if made.is_err() && set.execution(cx).await.is_ok_and(|execution| execution != Execution::Gone) {
            self.discard(cx, &set).await;
        }
        made
    }

    /// Reads the change set and compares it with the plan; `None` when nothing is left to do.
    async fn prepare(
        &self,
        cx: &Context,
        set: &ChangeSet,
    ) -> Result<Option<(String, Vec<ResourceChange>)>, Failure> {
        let changes = match set.read(cx).await? {
            Reading::NoChange => return Ok(None),
            Reading::Changes(changes) => changes,
        };
        let name = &self.request.stack;
        guard(&self.request.protect, None, &changes)?;
        self.judge(cx, set, &changes).await?;
        let id = self.now(cx).await?.id;
        let (same, differing) = match &self.planned {
            Planned::Create => (changes.iter().all(|change| change.what == What::Add), &[][..]),
            Planned::Update { id: planned, changes: then, .. } => {
                (id == *planned && changes == *then, &then[..])
            }
            Planned::Outline { id: planned, changes: then, .. } => {
                (id == *planned && changes.iter().all(|change| is_foreseen(change, then)), &then[..])
            }
            Planned::Unseen { id: planned, .. } => (id == *planned, &[][..]),
        };
        if same {
            return Ok(Some((id, changes)));
        }
        let lines = |changes: &[ResourceChange], other: &[ResourceChange], word: &str| {
            let only = changes.iter().filter(|change| !other.contains(change));
            only.map(|change| format!("{word}: {}", change.shown())).collect::<Vec<_>>()
        };
        Err(Failure::of(FailureClass::Refused, format!("the stack {name} changed since the plan"))
            .details(lines(differing, &changes, "planned"))
            .details(lines(&changes, differing, "now"))
            .help("plan again and look at the difference"))
    }

    /// Asks the policy about what the plan could not know; what it knew was judged with it.
    async fn judge(&self, cx: &Context, set: &ChangeSet, changes: &[ResourceChange]) -> Result<(), Failure> {
        let Some(policy) = &self.request.policy else { return Ok(()) };
        let action = match &self.planned {
            Planned::Update { .. } => return Ok(()),
            Planned::Create => Action::Create,
            Planned::Outline { .. } | Planned::Unseen { .. } => super::change_set::action(changes),
        };
        let shown: Vec<Change> = changes.iter().map(ResourceChange::shown).collect();
        let told = policy::told(action, &shown, &set.template(cx).await?);
        policy.judge(&policy::together([(self.request.stack.clone(), told)]), cx).await
    }

    async fn carry_out(
        &self,
        cx: &Context,
        set: &ChangeSet,
        id: &str,
        changes: &[ResourceChange],
    ) -> Result<Done, Failure> {
        let mut events = match Events::from_now(cx, id).await {
            Ok(events) => events,
            Err(error) => {
                self.discard(cx, set).await;
                return Err(error.into());
            }
        };
        let note = json!({ "stack": id, "set": set.name() });
        if let Err(down) = cx.feed.note(EXECUTING, note).await {
            self.discard(cx, set).await;
            return Err(down.into());
        }
        self.execute(cx, set).await?;
        cx.feed.note("executed", json!({ "stack": id })).await?;
        let status = follow(cx, &self.request.stack, &mut events, changes.len()).await?;
        if matches!(status.as_str(), "CREATE_COMPLETE" | "UPDATE_COMPLETE") {
            let summary = match &self.planned {
                Planned::Create => format!("created, {} resources", changes.len()),
                Planned::Update { .. } | Planned::Outline { .. } | Planned::Unseen { .. } => {
                    super::change_set::summary(changes)
                }
            };
            return self.done(cx, &summary).await;
        }
        Err(self.failed(&status).details(events.causes()))
    }

    async fn execute(&self, cx: &Context, set: &ChangeSet) -> Result<(), Failure> {
        let Err(error) = set.execute(cx).await else { return Ok(()) };
        let settled = if error.is_unclear() {
            // Executing with the same token twice is executing once.
            match set.is_executed(cx).await {
                Ok(true) => return Ok(()),
                Ok(false) => set.execute(cx).await,
                Err(_) => Err(error),
            }
        } else {
            Err(error)
        };
        let Err(error) = settled else { return Ok(()) };
        if error.is_unclear() {
            let text =
                format!("CloudFormation did not say whether it changes {}: {error}", self.request.stack);
            return Err(Failure::of(FailureClass::Unknown, text).help(events_command(&self.request.stack)));
        }
        self.discard(cx, set).await;
        Err(error.into())
    }

    /// The stack as it is.
    async fn now(&self, cx: &Context) -> Result<Stack, Failure> {
        let name = &self.request.stack;
        describe(cx, name).await?.ok_or_else(|| Failure::new(format!("the stack {name} is gone")))
    }

    /// Takes back what only was prepared, also the empty stack around a first change set.
    async fn discard(&self, cx: &Context, set: &ChangeSet) {
        if let Err(left) = set.delete(cx).await {
            cx.feed.output(left).await;
        }
        if !matches!(self.planned, Planned::Create) {
            return;
        }
        let name = &self.request.stack;
        let is_empty = |status: &str| status == "REVIEW_IN_PROGRESS";
        match describe(cx, name).await {
            Ok(Some(stack)) if is_empty(&stack.status) => {
                let call = cx.cloud.writes().await.cloudformation.delete_stack().stack_name(&stack.id);
                if let Err(error) = call.send().await {
                    let error = AwsError::new("CloudFormation", "DeleteStack", &error);
                    cx.feed.output(format!("the empty stack {name} is left behind: {error}")).await;
                }
            }
            Ok(_) => {}
            Err(error) => cx.feed.output(format!("the empty stack {name} may be left behind: {error}")).await,
        }
    }

    async fn done(&self, cx: &Context, summary: &str) -> Result<Done, Failure> {
        let stack = self.now(cx).await?;
        // A program may have put other words in it: what it published, for one.
        let body = match &self.request.maker {
            None => self.request.template.body.clone(),
            Some(_) => super::stack::template(cx, &stack.id).await?,
        };
        keep_bytes(&cx.world.store, body.as_bytes())?;
        let receipt = State::met(&self.request, &stack, &body, cx).to_json();
        Ok(Done { summary: summary.to_owned(), outputs: stack.outputs, receipt })
    }

    fn failed(&self, status: &str) -> Failure {
        let name = &self.request.stack;
        match status {
            "ROLLBACK_COMPLETE" => Failure::new(format!(
                "the stack {name} could not be created, and CloudFormation took back what it had made"
            ))
            .help(format!("correct the cause, delete what is left and run it again: {}", delete_command(name))),
            "CREATE_FAILED" | "ROLLBACK_FAILED" => {
                Failure::new(format!("the stack {name} could not be created and is {status}"))
                    .help(format!("correct the cause, delete what is left and run it again: {}", delete_command(name)))
            }
            "UPDATE_ROLLBACK_COMPLETE" => Failure::new(format!(
                "the stack {name} could not be updated, and CloudFormation put it back as it was"
            )),
            "UPDATE_ROLLBACK_FAILED" => Failure::new(format!(
                "the stack {name} could not be updated, and CloudFormation could not put it back"
            ))
            .help(format!(
                "repair what its events name, then: aws cloudformation continue-update-rollback --stack-name {name}"
            )),
            _ => Failure::new(format!("the stack {name} ended as {status}")),
        }
    }
}

/// Upkeep: the text of a template that was deployed before flow, or into another store.
pub(in crate::steps) struct KeepSource {
    pub body: String,
    pub done: Done,
}

#[async_trait]
impl Effect for KeepSource {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        keep_bytes(&cx.world.store, self.body.as_bytes())?;
        Ok(self.done)
    }
}

/// Whether an outline has it: the same resource, and nothing taken away that it does not take away.
fn is_foreseen(change: &ResourceChange, outline: &[ResourceChange]) -> bool {
    let planned = outline.iter().find(|planned| planned.id == change.id);
    match change.what {
        What::Replace | What::Remove => planned.is_some_and(|planned| planned.what == change.what),
        // What only may change because another one does is no surprise.
        _ => planned.is_some() || !change.certain,
    }
}
