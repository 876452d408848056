//! Tasks that stopped although they should run: which, why, and what they wrote last.
//!
//! ECS forgets stopped tasks after about an hour, so they are read while they
//! are there. Each is described once.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::definition::{Definition, short_arn};
use super::logs::LogPlace;
use crate::model::units::count;
use crate::world::aws::ecs::{Container, Ecs, Task};
use crate::world::aws::{AwsError, Cloud};
use crate::world::clock::Clock;

/// How many last lines of a container are shown.
const LINES: i32 = 10;
/// How many different ways to stop are shown in full.
const SHOWN: usize = 3;
/// How long the log of a task that just ended may take to arrive.
const LOG_DELAY: Duration = Duration::from_secs(3);

/// The stopped tasks of one service's deployment.
#[derive(Debug)]
pub struct Stopped {
    cluster: String,
    service: String,
    /// Those that were described, or were there before.
    known: HashSet<String>,
    failed: Vec<Task>,
}

/// Which tasks count.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The definition they run.
    pub definition: &'a str,
    /// The deployment that started them.
    pub deployment: &'a str,
}

impl Stopped {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(cluster: &str, service: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            service: service.to_owned(),
            known: HashSet::new(),
            failed: Vec::new(),
        }
    }

    /// Leaves out tasks that had stopped before.
    pub fn leave_out(&mut self, arns: Vec<String>) {
        self.known.extend(arns);
    }

    /// Looks for more, and returns those that are new.
    pub async fn look(&mut self, ecs: Ecs<'_>, whose: Whose<'_>) -> Result<&[Task], AwsError> {
        let mut arns = ecs.list_stopped(&self.cluster, &self.service).await?;
        arns.retain(|arn| !self.known.contains(arn));
        let before = self.failed.len();
        if !arns.is_empty() {
            let tasks = ecs.tasks(&self.cluster, &arns).await?;
            // A task between "told to stop" and "stopped" has no exit code yet: look again.
            for task in tasks.into_iter().filter(Task::is_stopped) {
                self.known.insert(task.task_arn.clone());
                if whose.started(&task) && has_failed(&task) {
                    self.failed.push(task);
                }
            }
        }
        Ok(self.failed.get(before..).unwrap_or_default())
    }

    /// How many stopped by themselves.
    #[must_use]
    pub fn count(&self) -> usize {
        self.failed.len()
    }

    /// What to show of them: one block for each way in which they stopped, most frequent first.
    pub async fn report(&self, cloud: &Cloud, definition: &Definition) -> Vec<String> {
        let mut ways: BTreeMap<Vec<String>, Vec<&Task>> = BTreeMap::new();
        for task in &self.failed {
            let alike = way(task).iter().map(|line| without_ids(line)).collect();
            ways.entry(alike).or_default().push(task);
        }
        let mut ways: Vec<_> = ways.into_values().collect();
        ways.sort_by_key(|tasks| std::cmp::Reverse(tasks.len()));
        let more = ways.len().saturating_sub(SHOWN);
        let mut lines = Vec::new();
        for tasks in ways.into_iter().take(SHOWN) {
            let Some(last) = tasks.last() else { continue };
            let mut way = way(last).into_iter();
            lines.push(format!(
                "{} of {} stopped: {}",
                count(tasks.len(), "task"),
                short_arn(&last.task_definition_arn),
                way.next().unwrap_or_default()
            ));
            lines.extend(way.map(|line| format!("  {line}")));
            for container in blamed(last) {
                lines.extend(last_words(cloud, definition, last, &container.name).await);
            }
        }
        if more > 0 {
            lines.push(format!("and {}", count(more, "other way")));
        }
        lines
    }
}

impl Whose<'_> {
    /// Whether the deployment started that task. Only AWS itself says so in `startedBy`.
    fn started(&self, task: &Task) -> bool {
        if task.started_by.starts_with("ecs-svc/") {
            return task.started_by == self.deployment;
        }
        task.task_definition_arn == self.definition
    }
}

/// Whether it stopped by itself: not for scaling in, a newer deployment, a lost spot instance or a person.
fn has_failed(task: &Task) -> bool {
    matches!(task.stop_code.as_str(), "EssentialContainerExited" | "TaskFailedToStart")
        || task.stopped_reason.to_ascii_lowercase().contains("health check")
}

/// In words, one line for the task and one for each container that matters.
fn way(task: &Task) -> Vec<String> {
    let mut lines = vec![in_words(task)];
    for container in blamed(task) {
        lines.push(ended(container));
    }
    lines
}

/// A reason without what is another in every task: identifiers of containers and endpoints.
fn without_ids(line: &str) -> String {
    let mut text = String::new();
    for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let id = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = id.len() >= 8
            && id.bytes().all(|byte| byte.is_ascii_hexdigit())
            && id.bytes().any(|byte| byte.is_ascii_digit());
        text.push_str(if is_id { "…" } else { word });
    }
    text
}

/// Why a task stopped and how its containers ended, in one line.
#[must_use]
pub fn in_short(task: &Task) -> String {
    way(task).join(", ")
}

/// Why a task stopped, in one line.
#[must_use]
pub fn in_words(task: &Task) -> String {
    let reason = task.stopped_reason.trim();
    // "Essential container in task exited" says the code in other words.
    let repeats = task.stop_code == "EssentialContainerExited" && reason.starts_with("Essential container");
    match (task.stop_code.as_str(), reason) {
        ("", "") => "no reason given".to_owned(),
        ("", reason) => reason.to_owned(),
        (code, "") => code.to_owned(),
        (code, _) if repeats => code.to_owned(),
        (code, reason) => format!("{code}: {reason}"),
    }
}

/// How a container ended, in one line.
#[must_use]
pub fn ended(container: &Container) -> String {
    let Container { name, exit_code, reason } = container;
    let colon = if reason.is_empty() { "" } else { ": " };
    match exit_code {
        Some(code) => format!("container {name} exited with {code}{colon}{reason}"),
        None => format!("container {name} never ran{colon}{reason}"),
    }
}

/// The containers that explain the end: those that exited with something else than 0 or say why;
/// all that ended when none did; none when nothing ever ran.
fn blamed(task: &Task) -> Vec<&Container> {
    let bad = |container: &&Container| {
        container.exit_code.is_some_and(|code| code != 0) || !container.reason.is_empty()
    };
    let blamed: Vec<_> = task.containers.iter().filter(bad).collect();
    if blamed.is_empty() {
        return task.containers.iter().filter(|container| container.exit_code.is_some()).collect();
    }
    blamed
}

/// The last lines of a container, waiting a moment for those of one that just ended.
pub async fn last_words(cloud: &Cloud, definition: &Definition, task: &Task, container: &str) -> Vec<String> {
    let ran = task.containers.iter().any(|one| one.name == container && one.exit_code.is_some());
    if !ran {
        return Vec::new();
    }
    let place = match LogPlace::of(definition, container) {
        Ok(place) => place,
        Err(none) => return vec![format!("  {none}")],
    };
    let started = Clock.moment();
    loop {
        match place.last_lines(cloud, task.id(), LINES).await {
            Ok(lines) if lines.is_empty() && started.elapsed() < LOG_DELAY => {
                Clock.pause(Duration::from_millis(250)).await;
            }
            Ok(lines) if lines.is_empty() => {
                return vec![format!(
                    "  container {container} wrote nothing to {} {}",
                    place.group(),
                    place.stream(task.id())
                )];
            }
            Ok(lines) => return lines.into_iter().map(|line| format!("  {line}")).collect(),
            Err(error) => return vec![format!("  the log of container {container} cannot be read: {error}")],
        }
    }
}
