//! The effect: start one task, pass its log on, and read its exit code once it has stopped.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::mark::{self, Mark};
use super::outcome::RunError;
use crate::model::value::{Outputs, Value as Output};
use crate::steps::ecs::definition::Definition;
use crate::steps::ecs::logs::{LogPlace, NoLog, Tail};
use crate::steps::ecs::patience::{GivenUp, Patience, may_pass};
use crate::steps::ecs::stopped::{ended, in_words, last_words};
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::AwsErrorClass;
use crate::world::aws::ecs::{Ecs, Task};
use crate::world::cancel::Urgency;

/// How long the last lines of a task may take to arrive in its log.
const LOG_DELAY: Duration = Duration::from_secs(3);
/// How long a stopped task's containers may take to end after TERM (the longest `stopTimeout`).
const STOP_TIME: Duration = Duration::from_mins(2);

/// More failed tasks of one step in one run are no accident.
const MOST: u32 = 32;

/// One task, started once.
pub(super) struct OneOff {
    pub(super) cluster: String,
    /// How long everything may take.
    pub(super) limit: Duration,
    pub(super) definition: Definition,
    /// The container that decides.
    pub(super) container: String,
    /// Where that writes.
    pub(super) place: Result<LogPlace, NoLog>,
    /// The request, but for what marks it as ours.
    pub(super) body: Map<String, Value>,
}

#[async_trait]
impl Effect for OneOff {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let patience = Patience::new(cx.world.clock, self.limit);
        let ecs = cx.cloud.ecs().await;
        let task = self.start(cx, ecs, &patience).await?;
        cx.feed.note("started", json!({ "task": task.task_arn })).await?;
        cx.feed.output(format!("task {}", task.task_arn)).await;
        if let Ok(place) = &self.place {
            cx.feed.output(format!("log {} {}", place.group(), place.stream(task.id()))).await;
        }
        let mut tail = self.place.clone().ok().map(|place| Tail::new(place, task.id()));
        let task = self.watch(cx, ecs, &patience, task, &mut tail).await?;
        self.judge(cx, &task).await
    }
}

impl OneOff {
    /// The step's task: the one that is there already, or one that is started now. After one that
    /// failed, and whose failure was told, the next is another one.
    async fn start(&self, cx: &Context, ecs: Ecs<'_>, patience: &Patience) -> Result<Task, Failure> {
        for number in 1..=MOST {
            let mark = Mark::of(cx, number);
            let stopped = |failure: Failure| match failure.class {
                FailureClass::Interrupted => failure.detail("no task was started"),
                _ => failure,
            };
            let call = || mark.find(ecs, &self.cluster);
            match patience.ask(&cx.cancel, call).await.map_err(|error| stopped(error.into()))? {
                Some(task) if !task.is_stopped() => {
                    cx.feed.output(format!("task {} of this step runs already", task.id())).await;
                    return Ok(task);
                }
                Some(task) if exit_code(&task, &self.container) == Some(0) => return Ok(task),
                Some(_) => {}
                None => {
                    let asked = cx.world.clock.now();
                    let task = self.send(cx, ecs, patience, &mark).await?;
                    // AWS answers a token that it knows with the task of then: one that failed so long
                    // ago that it is listed no more.
                    if task.as_ref().is_some_and(|task| !mark::is_old(task, asked)) {
                        return task.ok_or_else(|| RunError::NotStarted("no answer".to_owned()).into());
                    }
                }
            }
        }
        Err(RunError::NotStarted(format!("this run has started {MOST} already, and all failed")).into())
    }

    /// Starts one task, once; `None` when the token was used for another request, long ago. The token
    /// makes AWS answer a repeated request with the same task, the mark finds it after a lost answer.
    async fn send(
        &self,
        cx: &Context,
        ecs: Ecs<'_>,
        patience: &Patience,
        mark: &Mark,
    ) -> Result<Option<Task>, Failure> {
        let mut body = self.body.clone();
        body.insert("clientToken".to_owned(), mark.token().into());
        body.insert("startedBy".to_owned(), mark.started_by().into());
        let body = Value::Object(body);
        cx.feed.note("starting", mark.note(&self.cluster, &self.container)).await?;
        let mut lost = None;
        for _ in 0..2 {
            let call = || async { ecs.run_task(&body).await };
            match patience.insist(&cx.cancel, call).await {
                Ok(started) => {
                    if let Some(task) = started.tasks.into_iter().next() {
                        return Ok(Some(task));
                    }
                    let missed = started.missed.into_iter().next().unwrap_or_default();
                    let words: Vec<_> = [missed.reason, missed.detail, missed.arn]
                        .into_iter()
                        .filter(|word| !word.is_empty())
                        .collect();
                    let why =
                        if words.is_empty() { "it does not say why".to_owned() } else { words.join(" ") };
                    return Err(RunError::NotStarted(why).into());
                }
                Err(GivenUp::Error(error)) if error.is_unclear() => {
                    cx.feed.output(format!("{error}; asking ECS whether the task was started")).await;
                    if let Some(task) = mark.find_late(cx, ecs, &self.cluster).await {
                        return Ok(Some(task));
                    }
                    lost = Some(error);
                }
                Err(GivenUp::Error(error))
                    if lost.is_none() && error.code.as_deref() == Some("ConflictException") =>
                {
                    return Ok(None);
                }
                // That the second call was not carried out says nothing about the first.
                Err(GivenUp::Error(error)) => {
                    return Err(lost.map_or_else(|| error.into(), |lost| RunError::Unknown(lost).into()));
                }
                Err(GivenUp::Stopped(stopped)) => {
                    return Err(match lost {
                        Some(lost) => RunError::Unknown(lost).into(),
                        None => Failure::from(stopped).detail("no task was started"),
                    });
                }
            }
        }
        Err(lost.map_or_else(|| RunError::NotStarted("no answer".to_owned()), RunError::Unknown).into())
    }

    /// Waits for STOPPED and passes the log on, to its last line.
    async fn watch(
        &self,
        cx: &Context,
        ecs: Ecs<'_>,
        patience: &Patience,
        mut task: Task,
        tail: &mut Option<Tail>,
    ) -> Result<Task, Failure> {
        let arns = [task.task_arn.clone()];
        let id = task.id().to_owned();
        let mut wrote = false;
        let mut said = String::new();
        // Once it was told to stop: until when it may take, and what that means for the step.
        let mut stopping: Option<(Patience, RunError)> = None;
        loop {
            wrote |= pass_on(cx, tail).await;
            if task.is_stopped() {
                break;
            }
            if said != task.last_status {
                said.clone_from(&task.last_status);
                cx.feed.progress(format!("task {id} is {}", said.to_ascii_lowercase())).await;
            }
            let end = match &stopping {
                None if cx.cancel.is_stopping() => Some(RunError::Stopped(id.clone())),
                None if patience.is_over() => {
                    Some(RunError::TimedOut { task: id.clone(), after: patience.elapsed() })
                }
                Some((left, _)) if left.is_over() || cx.cancel.urgency() >= Urgency::Killing => {
                    return Err(RunError::Left(id).into());
                }
                _ => None,
            };
            if let Some(end) = end {
                let reason = match &end {
                    RunError::Stopped(_) => "the flow run that started it is being stopped",
                    _ => "it took longer than its flow step allows",
                };
                if let Err(error) = ecs.stop_task(&self.cluster, &task.task_arn, reason).await {
                    return Err(Failure::from(RunError::Left(id)).detail(error.to_string()));
                }
                stopping = Some((Patience::new(cx.world.clock, STOP_TIME), end));
            }
            // A stop is seen at once the first time; then the containers get their time.
            if stopping.is_some() || patience.rest(&cx.cancel).await.is_err() {
                cx.world.clock.pause(Duration::from_millis(500)).await;
            }
            match ecs.tasks(&self.cluster, &arns).await {
                Ok(tasks) => match tasks.into_iter().next() {
                    Some(now) => task = now,
                    // A task that was just started may not be listed yet.
                    None if patience.elapsed() < Duration::from_secs(30) => {}
                    None => return Err(RunError::Forgotten(id).into()),
                },
                Err(error) if may_pass(&error) => {
                    cx.feed.progress(format!("asking again: {error}")).await;
                    said.clear();
                }
                Err(error) => return Err(RunError::Blind { task: id, error }.into()),
            }
        }
        // Lines arrive late: once more, and for a moment when there were none at all.
        let late = Patience::new(cx.world.clock, LOG_DELAY);
        let ran = task.containers.iter().any(|one| one.name == self.container && one.exit_code.is_some());
        loop {
            wrote |= pass_on(cx, tail).await;
            if wrote || !ran || tail.is_none() || late.is_over() {
                break;
            }
            cx.world.clock.pause(Duration::from_millis(250)).await;
        }
        match stopping {
            Some((_, end)) => Err(end.into()),
            None => Ok(task),
        }
    }

    async fn judge(&self, cx: &Context, task: &Task) -> Result<Done, Failure> {
        if exit_code(task, &self.container) == Some(0) {
            return Ok(done(cx, &self.cluster, &self.container, task));
        }
        let container = task.containers.iter().find(|container| container.name == self.container);
        let code = container.and_then(|container| container.exit_code);
        let name = self.container.clone();
        if let (Some(code), Some(container)) = (code, container) {
            let mut failure = Failure::from(RunError::Exited { container: name.clone(), code });
            if !container.reason.is_empty() {
                failure = failure.detail(ended(container));
            }
            Err(failure
                .details(last_words(&cx.cloud, &self.definition, task, &name).await)
                .detail(format!("task {}", task.task_arn)))
        } else {
            let why = in_words(task);
            let own = container.filter(|container| !container.reason.is_empty()).map(ended);
            let others = task.containers.iter().filter(|one| one.name != name && one.exit_code.is_some());
            Err(Failure::from(RunError::NeverRan { container: name.clone(), why })
                .details(own)
                .details(others.map(ended))
                .detail(format!("task {}", task.task_arn)))
        }
    }
}

/// What a task came to; `None` while it runs, and when the container never ran.
pub(super) fn exit_code(task: &Task, container: &str) -> Option<i64> {
    let deciding = task.containers.iter().find(|one| one.name == container);
    deciding.filter(|_| task.is_stopped()).and_then(|one| one.exit_code)
}

/// A task that ended well.
pub(super) fn done(cx: &Context, cluster: &str, container: &str, task: &Task) -> Done {
    Done {
        summary: format!("container {container} exited with 0"),
        outputs: Outputs::from([
            ("task".to_owned(), Output::text(&task.task_arn)),
            ("exit-code".to_owned(), Output::Int(0)),
        ]),
        receipt: json!({
            "cluster": cluster, "region": cx.cloud.target().region, "task": task.task_arn,
            "taskDefinition": task.task_definition_arn, "container": container, "exitCode": 0,
        }),
    }
}

/// Passes on new lines; whether there were any.
async fn pass_on(cx: &Context, tail: &mut Option<Tail>) -> bool {
    let Some(reader) = tail else { return false };
    match reader.read(&cx.cloud).await {
        Ok(lines) => {
            let some = !lines.is_empty();
            for line in lines {
                cx.feed.output(line).await;
            }
            some
        }
        Err(error) if may_pass(&error) => false,
        Err(error) => {
            if error.class != AwsErrorClass::NotFound {
                cx.feed.output(format!("the log cannot be read: {error}")).await;
            }
            *tail = None;
            false
        }
    }
}
