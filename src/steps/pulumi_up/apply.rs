//! The effects: exactly the plan that the preview saved, or everything deleted.

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::record::State;
use super::session::Session;
use super::snapshot::Snapshot;
use super::{Origin, Pulumi};
use crate::model::units::count;
use crate::model::value::Outputs;
use crate::steps::infra::{Sources, keep_bytes};
use crate::steps::{Context, Done, Effect, Failure, FailureClass};

/// What is noted right before the stack is changed.
pub(super) const APPLYING: &str = "applying";

/// An update that was planned.
pub(super) struct Up {
    pub step: Pulumi,
    pub origin: Origin,
    /// The one that made the plan, which lies in it.
    pub session: Session,
    /// The state as it is; `None` for a stack that does not exist.
    pub before: Option<Snapshot>,
    pub plan: PathBuf,
}

#[async_trait]
impl Effect for Up {
    async fn apply(mut self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        // What stands and what comes can both be returned to.
        let sources = self.origin.keep(cx).await?;
        let state_before = match &self.before {
            Some(before) => Some(keep_bytes(&cx.world.store, before.text.as_bytes())?),
            None => None,
        };
        let note = json!({ "stack": self.step.stack, "program": self.session.facts(), "state-before": state_before });
        cx.feed.note(APPLYING, note).await?;
        if self.before.is_none() {
            self.session.create(cx).await?;
        }
        self.session.up(&self.step, &self.plan, cx).await?;
        let (outputs, number) = after(&self.session, cx).await?;
        let state = State { before: state_before, ..State::of(&self.step, Some(sources)) };
        Ok(Done { summary: count(number, "resource"), outputs, receipt: state.to_json() })
    }
}

/// What the stack has become. The change was made, whatever goes wrong now.
async fn after(session: &Session, cx: &Context) -> Result<(Outputs, usize), Failure> {
    let read = async {
        match session.snapshot(cx).await? {
            Some(now) => Ok((session.outputs(&now, cx).await?, now.number())),
            None => Err(Failure::new("the stack is gone")),
        }
    };
    read.await.map_err(|failure: Failure| {
        let reason = format!("the stack is updated, and cannot be read: {}", failure.record.reason);
        Failure::of(FailureClass::Unknown, reason).details(failure.record.details)
    })
}

/// Everything goes.
pub(super) struct Destroy {
    pub step: Pulumi,
    pub session: Session,
    pub before: Snapshot,
}

#[async_trait]
impl Effect for Destroy {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let state_before = keep_bytes(&cx.world.store, self.before.text.as_bytes())?;
        let note = json!({ "stack": self.step.stack, "destroy": true, "state-before": state_before });
        cx.feed.note(APPLYING, note).await?;
        self.session.destroy(cx).await?;
        let summary = format!("{} deleted", count(self.before.number(), "resource"));
        Ok(Done { summary, outputs: Outputs::new(), receipt: Json::Null })
    }
}

/// Nothing changes; sources that the store does not have yet are put there all the same.
pub(super) struct KeepSource {
    pub sources: Sources,
    pub done: Done,
}

#[async_trait]
impl Effect for KeepSource {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        self.sources.keep(cx).await?;
        Ok(self.done)
    }
}
