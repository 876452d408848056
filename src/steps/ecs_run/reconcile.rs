//! Whether a task was started of which nobody saw the end. It is found by what
//! was noted before it was started. One that still runs is waited for, never
//! stopped and never doubled. ECS lists a stopped task for about an hour: a
//! list without it proves nothing later than that.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::Run;
use super::mark;
use super::one_off::{done, exit_code};
use crate::steps::ecs::patience::{Patience, may_pass};
use crate::steps::ecs::stopped::in_words;
use crate::steps::{Context, Failure, Open, Settled};
use crate::world::aws::ecs::{Ecs, Task};

/// How long ECS may take to list a task that was just started.
const LATE: Duration = Duration::from_secs(10);
/// So long a list of stopped tasks is complete, with some time to spare.
const REMEMBERED: Duration = Duration::from_mins(50);

/// What the notes say of the last task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    cluster: String,
    container: String,
    mark: String,
    /// Its ARN, once ECS had answered.
    task: Option<String>,
}

impl Noted {
    fn last(notes: &[(String, Value)]) -> Option<Self> {
        let at = notes.iter().rposition(|(key, _)| key == "starting")?;
        let (_, note) = notes.get(at)?;
        let text = |name: &str| note.get(name)?.as_str().map(str::to_owned);
        let started = notes.iter().skip(at).find(|(key, _)| key == "started");
        Some(Self {
            cluster: text("cluster")?,
            container: text("container")?,
            mark: text("startedBy")?,
            task: started.and_then(|(_, note)| note.get("task")?.as_str().map(str::to_owned)),
        })
    }

    async fn find(&self, cx: &Context, ecs: Ecs<'_>, patience: &Patience) -> Result<Option<Task>, Failure> {
        if let Some(arn) = &self.task {
            let arns = [arn.clone()];
            let call = || ecs.tasks(&self.cluster, &arns);
            return Ok(patience.ask(&cx.cancel, call).await?.into_iter().next());
        }
        let late = Patience::new(cx.world.clock, LATE);
        loop {
            let call = || mark::find(ecs, &self.cluster, &self.mark);
            if let Some(task) = patience.ask(&cx.cancel, call).await? {
                return Ok(Some(task));
            }
            if late.is_over() {
                return Ok(None);
            }
            late.rest(&cx.cancel).await?;
        }
    }
}

pub(super) async fn reconcile(run: &Run, open: &Open, cx: &Context) -> Result<Settled, Failure> {
    // Noted and on disk before the call: without it there was none.
    let Some(noted) = Noted::last(&open.notes) else { return Ok(Settled::NotDone) };
    let ecs = cx.cloud.ecs().await;
    let patience = Patience::new(cx.world.clock, run.limit);
    let Some(task) = noted.find(cx, ecs, &patience).await? else {
        return Ok(not_listed(&noted, open.intent.since, cx.world.clock.now()));
    };
    let Some(task) = stopped(&noted, task, cx, ecs, &patience).await? else {
        let id = noted.task.as_deref().unwrap_or(&noted.mark);
        return Ok(Settled::Ambiguous(format!("task {id} still runs in cluster {}", noted.cluster)));
    };
    if exit_code(&task, &noted.container) == Some(0) {
        return Ok(Settled::Done(done(cx, &noted.cluster, &noted.container, &task)));
    }
    let how = match exit_code(&task, &noted.container) {
        Some(code) => format!("container {} exited with {code}", noted.container),
        None => format!("container {} never ran: {}", noted.container, in_words(&task)),
    };
    cx.feed.output(format!("task {} was started, and {how}", task.id())).await;
    Ok(Settled::NotDone)
}

/// Waits until it has stopped, without touching it; `None` when that takes too long.
async fn stopped(
    noted: &Noted,
    mut task: Task,
    cx: &Context,
    ecs: Ecs<'_>,
    patience: &Patience,
) -> Result<Option<Task>, Failure> {
    let arns = [task.task_arn.clone()];
    while !task.is_stopped() {
        if patience.is_over() {
            return Ok(None);
        }
        cx.feed.progress(format!("task {} is {}", task.id(), task.last_status.to_ascii_lowercase())).await;
        patience.rest(&cx.cancel).await?;
        match ecs.tasks(&noted.cluster, &arns).await {
            Ok(tasks) => task = tasks.into_iter().next().unwrap_or(task),
            Err(error) if may_pass(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(task))
}

/// What it means that ECS lists no such task.
fn not_listed(noted: &Noted, since: Timestamp, now: Timestamp) -> Settled {
    if let Some(task) = &noted.task {
        return Settled::Ambiguous(format!("ECS has forgotten task {task}; its exit code is not known"));
    }
    let age = now.duration_since(since);
    if age.unsigned_abs() < REMEMBERED {
        return Settled::NotDone;
    }
    Settled::Ambiguous(format!(
        "the answer to RunTask in cluster {} was lost, and ECS lists stopped tasks for an hour only",
        noted.cluster
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_start_counts_and_a_list_proves_something_only_for_a_while() {
        let starting = |mark: &str| {
            ("starting".to_owned(), json!({ "cluster": "c", "container": "app", "startedBy": mark }))
        };
        let started = ("started".to_owned(), json!({ "task": "arn:1" }));
        assert_eq!(Noted::last(&[]), None);
        let lost = Noted::last(&[starting("a"), started.clone(), starting("b")]).unwrap();
        assert_eq!((lost.mark.as_str(), lost.task.as_deref()), ("b", None));
        let known = Noted::last(&[starting("a"), started]).unwrap();
        assert_eq!((known.mark.as_str(), known.task.as_deref()), ("a", Some("arn:1")));

        let since: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(matches!(not_listed(&lost, since, at("2026-11-21T12:40:00Z")), Settled::NotDone));
        assert!(matches!(not_listed(&lost, since, at("2026-11-21T13:10:00Z")), Settled::Ambiguous(_)));
        assert!(matches!(not_listed(&known, since, at("2026-11-21T12:01:00Z")), Settled::Ambiguous(_)));
    }
}
