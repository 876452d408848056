//! Watches CloudFormation work on a stack, to the end.

use std::time::Duration;

use super::events::Events;
use super::stack::Stack;
use crate::steps::{Context, Failure, FailureClass};
use crate::world::aws::AwsError;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Tells every event until the stack says that it is done, and returns its state: `UPDATE_COMPLETE`,
/// …. `total` is how many resources there are to come. What CloudFormation does goes on whatever
/// becomes of the one who watches: a failure says that nobody knows how it ends.
pub(super) async fn follow(
    cx: &Context,
    name: &str,
    events: &mut Events,
    total: usize,
) -> Result<String, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let fresh = cx.cancel.unless_stopped(events.fresh(cx)).await.map_err(|_| left_running(name))?;
        // A throttled or broken look is repeated: what CloudFormation does goes on without it.
        let fresh = match fresh {
            Ok(fresh) => fresh,
            Err(error) if is_passing(&error) => Vec::new(),
            Err(error) => return Err(lost(name, &error)),
        };
        for event in &fresh {
            cx.feed.output(event.line()).await;
        }
        if let Some(status) = events.ended() {
            return Ok(status.to_owned());
        }
        if fresh.is_empty() {
            pause = (pause * 2).min(LONGEST_PAUSE);
        } else {
            pause = FIRST_PAUSE;
            cx.feed.progress(format!("{} of {total} resources", events.complete().min(total))).await;
        }
        cx.cancel.unless_stopped(cx.world.clock.pause(pause)).await.map_err(|_| left_running(name))?;
    }
}

/// Waits until CloudFormation no longer works on the stack with that ARN, and returns what it is
/// then; `None` when it is gone.
pub(super) async fn rested(cx: &Context, id: &str) -> Result<Option<Stack>, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let stack = cx.cancel.unless_stopped(super::stack::describe(cx, id)).await??;
        let Some(stack) = stack.filter(|stack| stack.status != "DELETE_COMPLETE") else { return Ok(None) };
        if !is_at_work(&stack.status) {
            return Ok(Some(stack));
        }
        cx.feed.progress(format!("CloudFormation still works on {id}: {}", stack.status)).await;
        cx.cancel.unless_stopped(cx.world.clock.pause(pause)).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether a stack in this state is being changed; tidying up after a change is none.
pub(super) fn is_at_work(status: &str) -> bool {
    status.ends_with("_IN_PROGRESS")
        && !matches!(status, "REVIEW_IN_PROGRESS" | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
}

/// The command that shows what CloudFormation does with a stack, by name or ARN.
pub(super) fn events_command(stack: &str) -> String {
    format!("aws cloudformation describe-stack-events --stack-name {stack}")
}

fn left_running(name: &str) -> Failure {
    let text = format!("CloudFormation goes on changing {name} by itself");
    Failure::of(FailureClass::Unknown, text).help(events_command(name))
}

fn lost(name: &str, error: &AwsError) -> Failure {
    let text = format!("{name} is being changed, and how it ends cannot be seen: {error}");
    Failure::of(FailureClass::Unknown, text).help(events_command(name))
}

fn is_passing(error: &AwsError) -> bool {
    use crate::world::aws::AwsErrorClass;
    matches!(error.class, AwsErrorClass::Unclear | AwsErrorClass::Throttled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_or_only_tidied_up_is_at_rest() {
        for (status, at_work) in [
            ("CREATE_IN_PROGRESS", true),
            ("DELETE_IN_PROGRESS", true),
            ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", true),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", false),
            ("REVIEW_IN_PROGRESS", false),
            ("DELETE_FAILED", false),
        ] {
            assert_eq!(is_at_work(status), at_work, "{status}");
        }
    }
}
