//! `ecs-run`: a one-off task, such as a migration inside the network.
//!
//! Where it runs is copied from a service. It is over when the task has
//! STOPPED, never when it "was seen running": a short task is never seen so.
//! The named container's exit code decides, and none at all is a failure.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::ecs::definition::{Definition, short_arn};
use super::ecs::logs::{LogPlace, NoLog, Tail};
use super::ecs::patience::{GivenUp, Patience, limit, may_pass};
use super::ecs::service;
use super::ecs::settings::{at_least, open_text};
use super::ecs::stopped::{ended, in_words, last_words};
use super::{Attributes, Context, Done, Effect, Failure, FailureClass, Kind, Proposal, Step};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::units::show_duration;
use crate::model::value::{Field, Outputs, Value as Output};
use crate::world::aws::ecs::{Ecs, Service, Task};
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::cancel::Urgency;
use crate::world::files::digest;

/// The kind.
pub static KIND: Kind = Kind { spec: SPEC, make };

const SPEC: KindSpec = KindSpec {
    name: "ecs-run",
    about: "Runs a one-off ECS task, shows its log and waits for its exit code",
    settings: SETTINGS,
    rules: &[],
    outputs: OutputNames::Fixed(&["task", "exit-code"]),
    nature: Nature::Deploying,
    aws: true,
    repeatable: false,
};

const SETTINGS: &[Setting] = &[
    Setting::new("cluster", Shape::Text, "name or ARN of the cluster").required(),
    Setting::new(
        "service",
        Shape::Text,
        "the service whose network, capacity and, without task-definition, definition the task gets",
    ),
    Setting::new("task-definition", Shape::Text, "family:N, an ARN, or a family for its newest revision"),
    Setting::new(
        "container",
        Shape::Text,
        "the container that decides and that the other settings are for; not needed where there is one",
    ),
    Setting::new("command", Shape::Texts, "in place of the container's command"),
    Setting::new("env", Shape::Map, "further variables of the container; never secrets"),
    Setting::new("cpu", Shape::Int, "CPU units of the container"),
    Setting::new("memory", Shape::Int, "hard limit of the container in MiB"),
];

/// How long the last lines of a task may take to arrive in its log.
const LOG_DELAY: Duration = Duration::from_secs(3);
/// How long a stopped task's containers may take to end after TERM (the longest `stopTimeout`).
const STOP_TIME: Duration = Duration::from_mins(2);

/// An `ecs-run` step.
#[derive(Clone, Debug)]
struct Run {
    cluster: String,
    service: Option<String>,
    definition: Option<String>,
    container: Option<String>,
    command: Vec<String>,
    env: Vec<(String, String)>,
    cpu: Option<i64>,
    memory: Option<i64>,
    limit: Duration,
}

/// How a one-off task does not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum RunError {
    #[error("container {container} exited with {code}")]
    Exited { container: String, code: i64 },
    #[error("container {container} never ran: {why}")]
    NeverRan { container: String, why: String },
    #[error("ECS did not start a task: {0}")]
    NotStarted(String),
    #[error("task {task} was not done after {} and was stopped", show_duration(*after))]
    TimedOut { task: String, after: Duration },
    #[error("interrupted: task {0} was stopped")]
    Stopped(String),
    #[error("task {0} was told to stop and may still run")]
    Left(String),
    #[error("the answer to RunTask was lost and ECS cannot tell: {0}")]
    Unknown(AwsError),
    #[error("task {task} can no longer be watched: {error}")]
    Blind { task: String, error: AwsError },
    #[error("ECS has forgotten task {0}; its exit code is not known")]
    Forgotten(String),
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let class = match &error {
            RunError::Stopped(_) => FailureClass::Interrupted,
            RunError::Left(_) | RunError::Unknown(_) | RunError::Blind { .. } | RunError::Forgotten(_) => {
                FailureClass::Unknown
            }
            RunError::Exited { .. }
            | RunError::NeverRan { .. }
            | RunError::NotStarted(_)
            | RunError::TimedOut { .. } => FailureClass::Failed,
        };
        Self::of(class, error.to_string())
    }
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let mut env = Vec::new();
    for (name, value) in ready.map("env") {
        match open_text("env", name, value)? {
            Field::Known(value) => env.push((name.clone(), value)),
            Field::After(step) => return Err(Unready::After { setting: "env", step }),
        }
    }
    let run = Run {
        cluster: ready.text("cluster")?,
        service: ready.opt_text("service")?,
        definition: ready.opt_text("task-definition")?,
        container: ready.opt_text("container")?,
        command: ready.texts("command")?,
        env,
        cpu: at_least("cpu", 0, ready.int("cpu")?)?,
        memory: at_least("memory", 4, ready.int("memory")?)?,
        limit: limit(attributes.timeout),
    };
    if run.service.is_none() && run.definition.is_none() {
        return Err(Unready::Invalid {
            setting: "service",
            why: "service or task-definition must be given".to_owned(),
        });
    }
    Ok(Box::new(run))
}

#[async_trait]
impl Step for Run {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let ecs = cx.cloud.ecs().await;
        let looks = Patience::for_a_look(cx.world.clock);
        let service = match &self.service {
            Some(name) => Some(looks.ask(&cx.cancel, || service::find(ecs, &self.cluster, name)).await?),
            None => None,
        };
        let of_service = || service.as_ref().map(|service| service.task_definition.clone());
        let name = self.definition.clone().or_else(of_service).unwrap_or_default();
        let registered = looks.ask(&cx.cancel, || service::definition(ecs, &name)).await?;
        let definition = Definition::of(&registered);
        let container = self.container(&definition, short_arn(registered.arn()))?;

        let words = if self.command.is_empty() { "its command".to_owned() } else { self.command.join(" ") };
        let mut proposal = Proposal::new(Action::Run, format!("run {words} in {container}"));
        short_arn(registered.arn()).clone_into(&mut proposal.subject);
        proposal.reversible = Reversible::Manual;
        let set = |what: &str, to: Option<i64>| Some(Change::new(what, None, to?.to_string()));
        proposal.changes.extend([set("cpu", self.cpu), set("memory", self.memory)].into_iter().flatten());
        let names = self.env.iter().map(|(name, _)| Change::new(format!("env {name}"), None, None));
        proposal.changes.extend(names);
        proposal.baseline = json!({ "cluster": self.cluster, "taskDefinition": registered.arn() });
        let place = LogPlace::of(&definition, &container);
        if let Err(none) = &place {
            proposal.warnings.push(none.to_string());
        }
        let body = self.body(registered.arn(), &container, service.as_ref());
        Ok(proposal.with(OneOff { run: self.clone(), definition, container, place, body }))
    }
}

impl Run {
    /// The container that decides.
    fn container(&self, definition: &Definition, called: &str) -> Result<String, Failure> {
        let mut names = definition.container_names();
        match &self.container {
            Some(name) if names.contains(name) => Ok(name.clone()),
            Some(name) => Err(Failure::new(format!(
                "task definition {called} has no container {name}, it has {}",
                names.join(", ")
            ))),
            None if names.len() == 1 => Ok(names.swap_remove(0)),
            None => {
                Err(Failure::new(format!("task definition {called} has the containers {}", names.join(", ")))
                    .help("say with container which one decides"))
            }
        }
    }

    /// The request, but for what marks it as ours.
    fn body(&self, definition: &str, container: &str, service: Option<&Service>) -> Map<String, Value> {
        let mut inner = Map::from_iter([("name".to_owned(), Value::from(container))]);
        if !self.command.is_empty() {
            inner.insert("command".to_owned(), json!(self.command));
        }
        if !self.env.is_empty() {
            let env = self.env.iter().map(|(name, value)| json!({ "name": name, "value": value }));
            inner.insert("environment".to_owned(), env.collect());
        }
        inner.extend(self.cpu.map(|cpu| ("cpu".to_owned(), cpu.into())));
        inner.extend(self.memory.map(|memory| ("memory".to_owned(), memory.into())));
        let mut body = Map::from_iter([
            ("cluster".to_owned(), Value::from(self.cluster.as_str())),
            ("taskDefinition".to_owned(), definition.into()),
            ("count".to_owned(), 1.into()),
            ("overrides".to_owned(), json!({ "containerOverrides": [inner] })),
        ]);
        let Some(service) = service else { return body };
        let given = |value: &Value| match value {
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
            _ => false,
        };
        if given(&service.network_configuration) {
            body.insert("networkConfiguration".to_owned(), service.network_configuration.clone());
        }
        // ECS takes one of the two.
        if given(&service.capacity_provider_strategy) {
            body.insert("capacityProviderStrategy".to_owned(), service.capacity_provider_strategy.clone());
        } else if let Some(launch_type) = &service.launch_type {
            body.insert("launchType".to_owned(), launch_type.as_str().into());
        }
        if let Some(version) = service.platform_version.as_ref().filter(|version| !version.is_empty()) {
            body.insert("platformVersion".to_owned(), version.as_str().into());
        }
        body
    }
}

struct OneOff {
    run: Run,
    definition: Definition,
    container: String,
    place: Result<LogPlace, NoLog>,
    body: Map<String, Value>,
}

#[async_trait]
impl Effect for OneOff {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let patience = Patience::new(cx.world.clock, self.run.limit);
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
    /// Starts the task once. The token makes AWS answer a repeated request with the same task, the
    /// mark finds it after a lost answer.
    async fn start(&self, cx: &Context, ecs: Ecs<'_>, patience: &Patience) -> Result<Task, Failure> {
        let run = cx.run.as_ref().map_or("", |run| run.as_str());
        let token = digest(format!("{run} {} {}", cx.id, cx.world.clock.now()).as_bytes());
        let token = token.get(..32).unwrap_or(&token);
        // The shortest limit that ECS ever had for it is 36 characters.
        let mark = format!("flow-{token}").chars().take(36).collect::<String>();
        let mut body = self.body.clone();
        body.insert("clientToken".to_owned(), token.into());
        body.insert("startedBy".to_owned(), mark.as_str().into());
        let body = Value::Object(body);
        cx.feed.note("starting", json!({ "cluster": self.run.cluster, "startedBy": mark })).await?;
        let mut lost = None;
        for _ in 0..2 {
            let call = || async { ecs.run_task(&body).await };
            match patience.insist(&cx.cancel, call).await {
                Ok(started) => {
                    if let Some(task) = started.tasks.into_iter().next() {
                        return Ok(task);
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
                    if let Some(task) = self.started_after_all(cx, ecs, &mark).await {
                        return Ok(task);
                    }
                    lost = Some(error);
                }
                Err(GivenUp::Error(error)) => return Err(error.into()),
                Err(GivenUp::Stopped(stopped)) => {
                    return Err(Failure::from(stopped).detail("no task was started"));
                }
            }
        }
        Err(lost.map_or_else(|| RunError::NotStarted("no answer".to_owned()), RunError::Unknown).into())
    }

    async fn started_after_all(&self, cx: &Context, ecs: Ecs<'_>, mark: &str) -> Option<Task> {
        let settle = Patience::new(cx.world.clock, Duration::from_secs(10));
        loop {
            if let Ok(arns) = ecs.list_started_by(&self.run.cluster, mark).await
                && !arns.is_empty()
                && let Ok(tasks) = ecs.tasks(&self.run.cluster, &arns).await
                && let Some(task) = tasks.into_iter().next()
            {
                return Some(task);
            }
            // A stop does not cut this short: what was sent must be known.
            if settle.is_over() {
                return None;
            }
            cx.world.clock.pause(settle.pause()).await;
        }
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
                let reason = "flow gave it up: interrupted, or out of time";
                if let Err(error) = ecs.stop_task(&self.run.cluster, &task.task_arn, reason).await {
                    return Err(Failure::from(RunError::Left(id)).detail(error.to_string()));
                }
                stopping = Some((Patience::new(cx.world.clock, STOP_TIME), end));
            }
            // A stop is seen at once the first time; then the containers get their time.
            if stopping.is_some() || patience.rest(&cx.cancel).await.is_err() {
                cx.world.clock.pause(Duration::from_millis(500)).await;
            }
            match ecs.tasks(&self.run.cluster, &arns).await {
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
        let container = task.containers.iter().find(|container| container.name == self.container);
        let code = container.and_then(|container| container.exit_code);
        let name = self.container.clone();
        match (code, container) {
            (Some(0), _) => Ok(Done {
                summary: format!("container {name} exited with 0"),
                outputs: Outputs::from([
                    ("task".to_owned(), Output::text(&task.task_arn)),
                    ("exit-code".to_owned(), Output::Int(0)),
                ]),
                receipt: json!({ "task": task.task_arn, "taskDefinition": task.task_definition_arn }),
            }),
            (Some(code), Some(container)) => {
                let mut failure = Failure::from(RunError::Exited { container: name.clone(), code });
                if !container.reason.is_empty() {
                    failure = failure.detail(ended(container));
                }
                Err(failure
                    .details(last_words(&cx.cloud, &self.definition, task, &name).await)
                    .detail(format!("task {}", task.task_arn)))
            }
            _ => {
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

#[cfg(test)]
mod sandbox_tests {
    use std::time::Duration;

    use super::*;
    use crate::steps::ecs::sandbox::{Fault, Sandbox, Written};

    fn run(name: &str) -> Written {
        Written::default().with("cluster", name).with("service", name)
    }

    #[tokio::test]
    async fn the_exit_code_decides_and_the_log_is_shown() {
        let Some(sandbox) = Sandbox::open("run").await else { return };
        let [first, _] = sandbox.images().await;
        sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
        let cx = sandbox.context(None);

        let ready = run(&sandbox.name).texts("command", &["one", "two"]).env(&[("EXIT", "0")]).ready();
        let proposal = sandbox.plan(&KIND, &ready, &cx).await.unwrap();
        assert_eq!(proposal.action, Action::Run);
        assert_eq!(proposal.summary, "run one two in app");
        let done = proposal.effect.unwrap().apply(&cx).await.unwrap();
        assert_eq!(done.summary, "container app exited with 0");
        assert_eq!(done.outputs["exit-code"].as_text().unwrap(), "0");
        let told = sandbox.told();
        let at = |line: &str| told.iter().position(|told| told == line);
        assert!(at("one").is_some() && at("one") < at("two"), "{told:?}");

        let ready = run(&sandbox.name).env(&[("REQUIRE", "URL")]).ready();
        let failure = sandbox.run(&KIND, &ready, &cx).await.unwrap_err();
        assert_eq!(failure.record.reason, "container app exited with 3");
        assert!(failure.record.details[0].ends_with("configuration error: URL is empty"), "{failure:?}");
        assert_eq!(failure.class, FailureClass::Failed);
        sandbox.close().await;
    }

    #[tokio::test]
    async fn a_lost_answer_starts_no_second_task() {
        let Some((sandbox, faults)) = Sandbox::with_faults("once").await else { return };
        let [first, _] = sandbox.images().await;
        sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
        let cx = sandbox.context(None);
        let ready = run(&sandbox.name).texts("command", &["hello"]).env(&[("EXIT", "0")]).ready();
        faults.plan("RunTask", Fault::LostAnswer);
        faults.plan("DescribeTasks", Fault::Throttled);
        sandbox.run(&KIND, &ready, &cx).await.unwrap();
        assert_eq!(faults.calls("RunTask"), 1);
        assert_eq!(sandbox.told().iter().filter(|line| *line == "hello").count(), 1, "{:?}", sandbox.told());

        faults.plan("RunTask", Fault::LostRequest);
        sandbox.run(&KIND, &ready, &cx).await.unwrap();
        assert_eq!(faults.calls("RunTask"), 3);
        sandbox.close().await;
    }

    #[tokio::test]
    async fn a_container_that_never_ran_is_a_failure() {
        let Some(sandbox) = Sandbox::open("never").await else { return };
        let nothing = "127.0.0.1:4566/ecsdev-program:none-yet";
        sandbox.service(&sandbox.definition(nothing, &[]), 0, true).await;
        let failure =
            sandbox.run(&KIND, &run(&sandbox.name).ready(), &sandbox.context(None)).await.unwrap_err();
        assert!(failure.record.reason.starts_with("container app never ran: "), "{failure:?}");
        assert_eq!(failure.class, FailureClass::Failed);
        sandbox.close().await;
    }

    #[tokio::test]
    async fn a_stop_stops_the_task() {
        let Some(sandbox) = Sandbox::open("halt").await else { return };
        let [first, _] = sandbox.images().await;
        sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
        let cx = sandbox.context(None);
        let ready = run(&sandbox.name).env(&[("SAY", "up")]).ready();
        let stop = async {
            while !sandbox.told().iter().any(|line| line == "up") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            sandbox.canceller.raise(Urgency::Stopping);
        };
        let (done, ()) = tokio::join!(sandbox.run(&KIND, &ready, &cx), stop);
        let failure = done.unwrap_err();
        assert_eq!(failure.class, FailureClass::Interrupted, "{failure:?}");
        assert!(failure.record.reason.ends_with("was stopped"), "{failure:?}");
        sandbox.close().await;
    }
}
