//! The effect: exactly the plan that was compared with the approved one.

use async_trait::async_trait;
use serde_json::json;

use super::Seen;
use super::events::{Heard, Stream};
use super::record::State;
use crate::model::value::Outputs;
use crate::steps::infra::Sources;
use crate::steps::program::judge;
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::process::Ending;

/// A planned apply.
pub(super) struct Apply {
    pub seen: Seen,
    /// To be kept first; those of a step that goes back are kept already.
    pub sources: Option<Sources>,
    /// What stands afterwards.
    pub then: State,
}

#[async_trait]
impl Effect for Apply {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        // What comes can be returned to.
        if let Some(sources) = &self.sources {
            sources.keep(cx).await?;
        }
        let Seen { session, shown, file, .. } = &self.seen;
        let preview = &shown.preview;
        cx.feed.note("applying", json!({ "changes": preview.fact() })).await?;
        let mut stream = Stream::of_apply(cx, preview);
        let ending = session.apply(file, &mut stream, cx).await?;
        let heard = stream.into_heard();
        self.ended(ending, &heard, cx)?;
        let outputs = if self.then.destroyed { Outputs::new() } else { self.outputs(cx).await? };
        Ok(Done { summary: preview.summary(), outputs, receipt: json!(self.then) })
    }
}

impl Apply {
    fn ended(&self, ending: Ending, heard: &Heard, cx: &Context) -> Result<(), Failure> {
        let session = &self.seen.session;
        if session.has_unsaved_state(cx) {
            let reason = "Terraform could not save its state, and does not know what it made";
            return Err(Failure::of(FailureClass::Unknown, reason).details(heard.errors()).help(format!(
                "push it, then remove the file: {}",
                session.typed(&["state", "push", "errored.tfstate"])
            )));
        }
        if let Some(locked) = session.locked(heard) {
            return Err(locked);
        }
        if heard.says("Saved plan is stale") {
            return Err(Failure::of(FailureClass::Refused, "the Terraform state changed since the plan")
                .help("plan again and look at the difference"));
        }
        match ending {
            Ending::Exited(0) => heard.journal.clone().map_or(Ok(()), |down| Err(down.into())),
            Ending::Exited(_) => Err(Failure::new("terraform apply failed").details(heard.errors())),
            // It had its time to save what it did.
            Ending::Stopped | Ending::TimedOut(_) => judge(ending, heard.errors()),
            Ending::Signalled(_) | Ending::Killed => {
                let failure = judge(ending, heard.errors()).err().unwrap_or_else(|| Failure::new("killed"));
                let what = format!("terraform apply {}", failure.record.reason);
                let making = heard.making.iter().map(|address| format!("it was making {address}"));
                Err(Failure::of(FailureClass::Unknown, what).details(failure.record.details).details(making))
            }
        }
    }

    /// The outputs; what was done is done, so that it is not known without them how it ended.
    async fn outputs(&self, cx: &Context) -> Result<Outputs, Failure> {
        self.seen.session.outputs(cx).await.map_err(|mut failure| {
            failure.class = FailureClass::Unknown;
            failure.detail("it was applied, and its outputs could not be read")
        })
    }
}

/// Upkeep: sources that were applied before flow, or into another store.
pub(super) struct KeepSources {
    pub sources: Sources,
    pub done: Done,
}

#[async_trait]
impl Effect for KeepSources {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        self.sources.keep(cx).await?;
        Ok(self.done)
    }
}
