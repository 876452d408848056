//! The effect: the stack that was planned, deleted and followed to its end.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::plan::Standing;
use super::settle::DELETING;
use crate::model::value::Outputs;
use crate::steps::cfn::change_set::{self, ResourceChange};
use crate::steps::cfn::events::Events;
use crate::steps::cfn::follow::{events_command, follow};
use crate::steps::infra::keep_bytes;
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat;

/// A planned deletion.
pub(super) struct Destroy {
    pub name: String,
    pub planned: Standing,
}

#[async_trait]
impl Effect for Destroy {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        // Of several stacks the last ones wait long after they were planned.
        let Some(now) = Standing::look(cx, &self.name).await? else {
            return Ok(done("gone already".to_owned()));
        };
        self.refuse_changed(&now)?;
        // What goes can be returned to.
        keep_bytes(&cx.world.store, now.body.as_bytes())?;
        let id = &now.stack.id;
        let mut events = Events::from_now(cx, id).await?;
        let token = change_set::name(cx);
        cx.feed.note(DELETING, json!({ "stack": id, "name": self.name, "token": token })).await?;
        self.ask(cx, id, &token).await?;
        cx.feed.note("asked", json!({ "stack": id })).await?;
        let inventory = &now.inventory;
        match follow(cx, &self.name, &mut events, inventory.own()).await?.as_str() {
            "DELETE_COMPLETE" => Ok(done(inventory.summary())),
            "DELETE_FAILED" => Err(Failure::new(format!("the stack {} could not be deleted", self.name))
                .details(events.causes())
                .help("remove what holds it, and run it again: what is deleted already stays so")),
            status => Err(Failure::new(format!("the stack {} is not deleted but {status}", self.name))
                .details(events.causes())),
        }
    }
}

impl Destroy {
    fn refuse_changed(&self, now: &Standing) -> Result<(), Failure> {
        if now.facts(&self.name) == self.planned.facts(&self.name) {
            return Ok(());
        }
        let (then, now) = (&self.planned.inventory.resources, &now.inventory.resources);
        let only = |these: &[ResourceChange], others: &[ResourceChange], word: &str| {
            let only = these.iter().filter(|one| !others.contains(one));
            only.map(|one| format!("{word}: {}", one.shown())).collect::<Vec<_>>()
        };
        let reason = format!("the stack {} changed since the plan", self.name);
        Err(Failure::of(FailureClass::Refused, reason)
            .details(only(then, now, "planned"))
            .details(only(now, then, "now"))
            .help("plan again and look at the difference"))
    }

    /// Deleting the same stack, with the same token, twice is deleting it once.
    async fn ask(&self, cx: &Context, id: &str, token: &str) -> Result<(), Failure> {
        let cloudformation = &cx.cloud.writes().await.cloudformation;
        let asked = repeat(cx.world.clock, &cx.cancel, || async {
            let call = cloudformation.delete_stack().stack_name(id).client_request_token(token);
            call.send().await.map_err(|error| AwsError::new("CloudFormation", "DeleteStack", &error))
        })
        .await;
        let Err(error) = asked else { return Ok(()) };
        let name = &self.name;
        if error.is_unclear() {
            let text = format!("CloudFormation did not say whether it deletes {name}: {error}");
            return Err(Failure::of(FailureClass::Unknown, text).help(events_command(id)));
        }
        if error.code.as_deref() == Some("ValidationError") {
            let text = format!("CloudFormation refuses to delete {name}: {}", error.message);
            return Err(Failure::of(FailureClass::Refused, text));
        }
        Err(error.into())
    }
}

/// Nothing stands any more.
fn done(summary: String) -> Done {
    Done { summary, outputs: Outputs::new(), receipt: Json::Null }
}
