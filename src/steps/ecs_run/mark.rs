//! What a task is known by, whoever asks: made of the store's key, the run, the
//! step, and the number of the try. The key is in it because runs of other
//! stores may bear the same name in the same account.

use std::time::Duration;

use serde_json::{Value, json};

use crate::steps::Context;
use crate::steps::ecs::patience::Patience;
use crate::world::aws::AwsError;
use crate::world::aws::ecs::{Ecs, Task};

/// How long ECS may take to list a task that was just started.
const SETTLE: Duration = Duration::from_secs(10);
/// An answer tells of a task of then when it is so much older than the question. ECS lists stopped
/// tasks for an hour, so what it does not list any more is far older, and no clock is so wrong: AWS
/// would refuse the signature.
const OLD: Duration = Duration::from_mins(10);

/// The mark of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    digest: String,
    started_by: String,
}

impl Mark {
    /// Of the n-th task that a step starts in a run, from 1.
    pub(super) fn of(cx: &Context, number: u32) -> Self {
        let run = cx.run.as_ref().map_or("", |run| run.as_str());
        let digest = cx.sealer.digest(&format!("ecs-run {} {} {run} {number}", cx.flow, cx.id));
        // The shortest limit that ECS ever had for it is 36 characters.
        let started_by = format!("flow-{}", digest.get(..28).unwrap_or(&digest));
        Self { digest, started_by }
    }

    /// For a repeated request: at most 64 characters.
    pub(super) fn token(&self) -> &str {
        self.digest.get(..32).unwrap_or(&self.digest)
    }

    /// What the task says of itself.
    pub(super) fn started_by(&self) -> &str {
        &self.started_by
    }

    /// As noted before the call.
    pub(super) fn note(&self, cluster: &str, container: &str) -> Value {
        json!({ "cluster": cluster, "container": container, "startedBy": self.started_by })
    }

    /// The task that bears it; `None` when ECS lists none.
    pub(super) async fn find(&self, ecs: Ecs<'_>, cluster: &str) -> Result<Option<Task>, AwsError> {
        find(ecs, cluster, &self.started_by).await
    }

    /// The same after a call whose answer was lost.
    pub(super) async fn find_late(&self, cx: &Context, ecs: Ecs<'_>, cluster: &str) -> Option<Task> {
        let settle = Patience::new(cx.world.clock, SETTLE);
        loop {
            if let Ok(Some(task)) = self.find(ecs, cluster).await {
                return Some(task);
            }
            // A stop does not cut this short: what was sent must be known.
            if settle.is_over() {
                return None;
            }
            cx.world.clock.pause(settle.pause()).await;
        }
    }
}

/// The task with that mark; one that runs before one that has stopped.
pub(super) async fn find(ecs: Ecs<'_>, cluster: &str, started_by: &str) -> Result<Option<Task>, AwsError> {
    let arns = ecs.list_started_by(cluster, started_by).await?;
    if arns.is_empty() {
        return Ok(None);
    }
    let mut tasks = ecs.tasks(cluster, &arns).await?;
    tasks.sort_by_key(Task::is_stopped);
    Ok(tasks.into_iter().next())
}

/// Whether a task was not started by the call that it answers.
pub(super) fn is_old(task: &Task, asked: jiff::Timestamp) -> bool {
    let asked = asked.as_duration().as_secs_f64();
    task.created_at.as_f64().is_some_and(|created| asked - created > OLD.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{RunId, StepId};
    use crate::steps::testing::Bench;

    #[tokio::test]
    async fn every_task_has_its_own_mark_and_keeps_it() {
        let mut bench = Bench::new();
        let first = Mark::of(&bench.cx, 1);
        assert_eq!(Mark::of(&bench.cx, 1), first);
        assert!(first.started_by().len() <= 36 && first.token().len() <= 64);
        assert_ne!(Mark::of(&bench.cx, 2), first);
        bench.cx.id = StepId::parse("step[b]");
        assert_ne!(Mark::of(&bench.cx, 1), first);
        bench.cx.id = StepId::parse("step");
        bench.cx.run = Some(RunId::new("other"));
        assert_ne!(Mark::of(&bench.cx, 1), first);
        // The same names in another store.
        let mut other = Bench::new();
        other.cx.id = StepId::parse("step");
        assert_ne!(Mark::of(&other.cx, 1), first);
    }

    #[test]
    fn a_task_of_then_is_not_the_one_that_was_asked_for() {
        let asked: jiff::Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let task = |created: Value| Task { created_at: created, ..Task::default() };
        let seconds = asked.as_second();
        assert!(!is_old(&task(json!(seconds)), asked));
        assert!(!is_old(&task(Value::Null), asked));
        assert!(is_old(&task(json!(seconds - 7200)), asked));
        assert!(is_old(&task(json!(7200.5)), asked));
    }
}
