//! Whether a change that was announced was made: the change set knows whether
//! it was executed, the stack's events name it, and the stack how it ended.

use std::time::Duration;

use serde_json::Value as Json;

use super::change_set::{ChangeSet, Execution};
use super::events::was_asked_by;
use super::follow::{is_at_work, rested};
use super::record::State;
use super::request::Request;
use super::stack::{self, describe};
use crate::model::change::Action;
use crate::steps::{Context, Done, Failure, Open, Proposal, Settled, Step};

/// What is noted right before a change set is executed.
pub(in crate::steps) const EXECUTING: &str = "executing";

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Settles a change of a stack, and waits for CloudFormation where it still works on it.
pub(in crate::steps) async fn settle(
    open: &Open,
    cx: &Context,
    name: &str,
    request: Option<&Request>,
) -> Result<Settled, Failure> {
    // Nothing is executed before that is written down; a change set alone is no change.
    let Some((_, note)) = open.notes.iter().rev().find(|(key, _)| key == EXECUTING) else {
        return Ok(Settled::NotDone);
    };
    let text = |field: &str| note[field].as_str().unwrap_or_default().to_owned();
    let (id, token) = (text("stack"), text("set"));
    let set = ChangeSet::named(name, &token);
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(stack) = cx.cancel.unless_stopped(describe(cx, &id)).await?? else {
            return Ok(Settled::NotDone);
        };
        let execution = cx.cancel.unless_stopped(set.execution(cx)).await??;
        let works = is_at_work(&stack.status);
        match execution {
            Execution::NotYet | Execution::Failed if !works => return Ok(Settled::NotDone),
            Execution::Complete if !works => return ended(cx, name, &stack, request).await,
            // Executing another one took it away: only the events still tell.
            Execution::Gone if !works => {
                return if !was_asked_by(cx, &id, &token).await? {
                    Ok(Settled::NotDone)
                } else if is_complete(&stack.status) {
                    ended(cx, name, &stack, request).await
                } else {
                    Ok(Settled::NotDone)
                };
            }
            _ => {}
        }
        cx.feed.progress(format!("CloudFormation still works on {name}: {}", stack.status)).await;
        cx.cancel.unless_stopped(cx.world.clock.pause(pause)).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits until the stack that an effect was about when it ended is no longer being changed.
pub(in crate::steps) async fn rest(open: &Open, cx: &Context) -> Result<(), Failure> {
    let Some((_, note)) = open.notes.iter().rev().find(|(key, _)| key == EXECUTING) else { return Ok(()) };
    rested(cx, note["stack"].as_str().unwrap_or_default()).await.map(drop)
}

/// For a step of several stacks at rest: done when nothing of it is left to do. Executing a change
/// set twice is executing it once, and what is done already is planned as no change.
pub(in crate::steps) async fn by_plan(step: &dyn Step, cx: &Context) -> Result<Settled, Failure> {
    let Proposal { action, summary, outputs, receipt, .. } = step.plan(cx).await?;
    Ok(match action {
        Action::UpToDate => Settled::Done(Done { summary, outputs, receipt }),
        _ => Settled::NotDone,
    })
}

fn is_complete(status: &str) -> bool {
    matches!(status, "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
}

async fn ended(
    cx: &Context,
    name: &str,
    stack: &stack::Stack,
    request: Option<&Request>,
) -> Result<Settled, Failure> {
    let body = stack::template(cx, &stack.id).await?;
    let receipt: Json = match request {
        Some(request) => State::met(request, stack, &body, cx),
        None => State::standing(name, stack, &body, cx),
    }
    .to_json();
    let summary = format!("{name} is {}", stack.status);
    Ok(Settled::Done(Done { summary, outputs: stack.outputs.clone(), receipt }))
}
