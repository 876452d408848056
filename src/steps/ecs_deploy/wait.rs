//! Waiting for our deployment, and telling what it does meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::draft::count_tasks;
use super::outcome::RollError;
use super::settings::Deploy;
use super::verdict::{Ours, Verdict, judge};
use crate::steps::ecs::definition::{Definition, short_arn};
use crate::steps::ecs::patience::{Patience, may_pass};
use crate::steps::ecs::service::definition as describe;
use crate::steps::ecs::stopped::{self, Stopped, Whose};
use crate::steps::ecs::target;
use crate::steps::{Context, Failure};
use crate::world::aws::AwsError;
use crate::world::aws::ecs::{Deployment, Following, Service, last_part};
use crate::world::clock::Moment;

/// How long the way back is watched, so that what runs now can be said.
const WATCH_RETURN: Duration = Duration::from_secs(20);
/// How long ECS's circuit breaker may take to do what the count of failed tasks says it should.
const BREAKER_DELAY: Duration = Duration::from_mins(1);
/// How long ECS may take between giving a deployment up and starting the way back.
const RETURN_DELAY: Duration = Duration::from_secs(15);
/// How many stopped tasks are told one by one.
const TOLD: usize = 12;

/// What is waited for.
pub(super) struct Wait<'a> {
    pub(super) cx: &'a Context,
    pub(super) deploy: &'a Deploy,
    pub(super) patience: Patience,
    /// Our deployment.
    pub(super) id: &'a str,
    /// ARN of its definition.
    pub(super) arn: &'a str,
    /// The definition itself, for its logs.
    pub(super) definition: &'a Definition,
    /// Deployments that were there before.
    pub(super) before: &'a [String],
    /// The definition that the service had before flow's first release: its ARN, and what it is in words.
    pub(super) placeholder: Option<&'a (String, String)>,
    /// It was under way before this run.
    pub(super) awaited: bool,
}

/// How it ended well.
#[derive(Debug)]
pub(super) struct Rolled {
    pub(super) service: Arc<Service>,
    pub(super) deployment: Deployment,
}

/// What has been seen so far.
struct Watch {
    stopped: Stopped,
    /// Failed tasks of before this run.
    earlier: Option<usize>,
    /// Ids of events that were told.
    events: HashSet<String>,
    /// Whether any look listed our deployment.
    seen: bool,
    /// The newest look.
    last: Option<Arc<Service>>,
    /// Since when more tasks have failed than the circuit breaker allows.
    over: Option<Moment>,
    /// Since when our deployment counts as failed without a way back.
    failed: Option<Moment>,
    /// What was said last.
    said: String,
}

impl Wait<'_> {
    /// Waits to the end. `events`: ids of those that happened before.
    pub(super) async fn run(self, stopped: Stopped, events: HashSet<String>) -> Result<Rolled, Failure> {
        let poller = self.cx.cloud.poller();
        let following = poller.follow(&self.deploy.cluster, &self.deploy.service);
        let mut watch = Watch {
            stopped,
            earlier: (!self.awaited).then_some(0),
            events,
            seen: false,
            last: None,
            over: None,
            failed: None,
            said: String::new(),
        };
        loop {
            match self.look(&following).await {
                Ok(Some(service)) => {
                    if let Some(rolled) = self.take(&mut watch, &following, service).await? {
                        return Ok(rolled);
                    }
                }
                Ok(None) if watch.seen => {
                    return Err(RollError::ServiceGone(self.deploy.service.clone()).into());
                }
                Ok(None) => {}
                Err(error) if may_pass(&error) => {
                    let text = format!("{}, asking again: {error}", self.counts(&watch));
                    self.say(&mut watch, text).await;
                }
                Err(error) => {
                    return Err(RollError::Blind { definition: self.name(), error }.into());
                }
            }
            if self.patience.is_over() {
                return Err(self.timed_out(&watch).await);
            }
            if self.patience.rest(&self.cx.cancel).await.is_err() {
                let counts = self.counts(&watch);
                return Err(RollError::Left { definition: self.name(), counts }.into());
            }
        }
    }

    async fn look(&self, following: &Following<'_>) -> Result<Option<Arc<Service>>, AwsError> {
        following.look(self.cx.cloud.ecs().await, self.patience.pause() / 2).await
    }

    /// Takes one look in; `Some` when it was the last.
    async fn take(
        &self,
        watch: &mut Watch,
        following: &Following<'_>,
        service: Arc<Service>,
    ) -> Result<Option<Rolled>, Failure> {
        watch.seen |= service.deployment(self.id).is_some();
        watch.last = Some(Arc::clone(&service));
        self.tell_events(watch, &service).await;
        let ours =
            Ours { id: self.id, before: self.before, seen: watch.seen, since: self.patience.elapsed() };
        let verdict = self.settle(judge(&service, ours)).await;
        if let Verdict::Completed(deployment) = verdict {
            return Ok(Some(Rolled { service, deployment }));
        }
        self.tell_stopped(watch).await;
        match verdict {
            Verdict::Going => {
                let counts = self.counts(watch);
                self.say(watch, counts).await;
                self.fail_fast(watch, &service).await.map(|()| None)
            }
            Verdict::Failed(deployment) => {
                let failed = *watch.failed.get_or_insert_with(|| self.cx.world.clock.moment());
                if breaker(&service, "rollback") && failed.elapsed() < RETURN_DELAY {
                    return Ok(None);
                }
                Err(self.given_up(watch, &deployment).await)
            }
            Verdict::Returning { to, why } => Err(self.returned(watch, following, to, &why).await),
            Verdict::Superseded(by) => Err(self.superseded(by).await),
            Verdict::Gone => Err(RollError::ServiceGone(self.deploy.service.clone()).into()),
            Verdict::Completed(deployment) => Ok(Some(Rolled { service, deployment })),
        }
    }

    /// Once ours is no longer in force, ECS's history knows whether it was taken back. Where there
    /// is no history the look decides.
    async fn settle(&self, verdict: Verdict) -> Verdict {
        let Verdict::Superseded(other) = verdict else { return verdict };
        let Deploy { cluster, service, .. } = self.deploy;
        let history = self.cx.cloud.ecs().await.history(cluster, service).await.unwrap_or_default();
        match history.into_iter().find(|one| one.is(self.id)) {
            Some(ours) if ours.was_taken_back() => Verdict::Returning { to: other, why: ours.status_reason },
            _ => Verdict::Superseded(other),
        }
    }

    /// Ends a wait that leads nowhere: with the circuit breaker off ECS starts failing tasks for
    /// ever, and with it on it may not count tasks that fail after they ran.
    async fn fail_fast(&self, watch: &mut Watch, service: &Service) -> Result<(), Failure> {
        let Some(deployment) = service.deployment(self.id) else { return Ok(()) };
        let failures = watch.stopped.count().saturating_sub(watch.earlier.unwrap_or_default());
        if failures < threshold(deployment.desired_count) || deployment.is_completed() {
            return Ok(());
        }
        let over = *watch.over.get_or_insert_with(|| self.cx.world.clock.moment());
        if breaker(service, "enable") && over.elapsed() < BREAKER_DELAY {
            return Ok(());
        }
        let details = self.explain(watch, service).await;
        Err(Failure::from(RollError::Looping { definition: self.name(), failures }).details(details))
    }

    async fn given_up(&self, watch: &Watch, deployment: &Deployment) -> Failure {
        let why = match deployment.rollout_state_reason.as_str() {
            "" => "it does not say why".to_owned(),
            why => why.trim_end_matches('.').to_owned(),
        };
        let details = match &watch.last {
            Some(service) => self.explain(watch, service).await,
            None => Vec::new(),
        };
        let Deployment { running_count, desired_count, .. } = deployment;
        let failure =
            Failure::from(RollError::GivenUp { definition: self.name(), why }).details(details).detail(
                format!("the service stays on {} with {running_count} of {desired_count} tasks", self.name()),
            );
        match &watch.last {
            Some(service) if breaker(service, "rollback") => {
                failure.help("ECS found no good deployment to go back to: deploy one that works")
            }
            _ => failure,
        }
    }

    /// ECS goes back: watched for a moment, so that the operator learns what runs now.
    async fn returned(
        &self,
        watch: &mut Watch,
        following: &Following<'_>,
        mut to: Deployment,
        why: &str,
    ) -> Failure {
        let since = self.cx.world.clock.moment();
        let settled =
            |to: &Deployment| to.has_failed() || (to.is_completed() && to.running_count >= to.desired_count);
        let name = short_arn(&to.task_definition).to_owned();
        while !settled(&to) && since.elapsed() < WATCH_RETURN && !self.patience.is_over() {
            let Deployment { running_count, desired_count, .. } = to;
            self.say(watch, format!("ECS goes back to {name}: {running_count} of {desired_count} running"))
                .await;
            if self.patience.rest(&self.cx.cancel).await.is_err() {
                break;
            }
            if let Ok(Some(service)) = self.look(following).await {
                self.tell_events(watch, &service).await;
                if let Some(now) = service.deployment(&to.id) {
                    to = now.clone();
                }
                watch.last = Some(service);
            }
        }
        self.tell_stopped(watch).await;
        let mut details = match &watch.last {
            Some(service) => self.explain(watch, service).await,
            None => Vec::new(),
        };
        if details.is_empty() && !why.is_empty() {
            details.push(why.to_owned());
        }
        let Deployment { running_count, desired_count, .. } = to;
        details.push(if to.has_failed() {
            format!("{name} does not run either: {}", to.rollout_state_reason.trim_end_matches('.'))
        } else if desired_count == 0 {
            format!("{name} is in force with no tasks: desired is 0")
        } else {
            format!("{name} runs with {running_count} of {}", count_tasks(desired_count))
        });
        if let Some((arn, words)) = self.placeholder
            && *arn == to.task_definition
        {
            details.push(format!("that is {words}"));
        }
        let error = if settled(&to) {
            RollError::RolledBack { to: name }
        } else {
            RollError::RollingBack { to: name }
        };
        Failure::from(error).details(details)
    }

    async fn superseded(&self, by: Deployment) -> Failure {
        let theirs = short_arn(&by.task_definition);
        let mut details = vec![format!("theirs is {} of {theirs}, ours was {}", by.id, self.id)];
        if by.task_definition == self.arn {
            details.push(format!("it runs the same definition, {theirs}"));
        } else if let Ok(registered) = describe(self.cx.cloud.ecs().await, &by.task_definition).await
            && let Some(who) = registered.definition.get("registeredBy").and_then(serde_json::Value::as_str)
        {
            details.push(format!("{theirs} was registered by {who}"));
        }
        Failure::from(RollError::Superseded { definition: self.name(), by: theirs.to_owned() })
            .details(details)
    }

    async fn timed_out(&self, watch: &Watch) -> Failure {
        let counts = self.counts(watch);
        let after = self.patience.elapsed();
        let mut details = Vec::new();
        if let Some(service) = &watch.last {
            details = self.explain(watch, service).await;
            let recent =
                service.events.iter().take(3).map(|event| plain(&self.deploy.service, &event.message));
            details.extend(recent.map(|event| format!("ECS said: {event}")));
        }
        Failure::from(RollError::TimedOut { definition: self.name(), after, counts })
            .details(details)
            .detail("the deployment goes on in ECS")
    }

    /// Stopped tasks and unhealthy targets.
    async fn explain(&self, watch: &Watch, service: &Service) -> Vec<String> {
        let mut lines = watch.stopped.report(&self.cx.cloud, self.definition).await;
        lines.extend(target::unhealthy(&self.cx.cloud, service).await);
        lines
    }

    async fn tell_events(&self, watch: &mut Watch, service: &Service) {
        for event in service.events.iter().rev() {
            if watch.events.insert(event.id.clone()) {
                let text = plain(&self.deploy.service, &event.message);
                self.cx.feed.output(format!("ECS: {text}")).await;
            }
        }
    }

    async fn tell_stopped(&self, watch: &mut Watch) {
        let told = watch.stopped.count();
        let whose = Whose { definition: self.arn, deployment: self.id };
        let lines: Vec<_> = match watch.stopped.look(self.cx.cloud.ecs().await, whose).await {
            Ok(tasks) => tasks
                .iter()
                .map(|task| format!("task {} stopped: {}", task.id(), stopped::in_short(task)))
                .collect(),
            Err(error) if may_pass(&error) => Vec::new(),
            Err(error) => vec![format!("stopped tasks cannot be read: {error}")],
        };
        watch.earlier.get_or_insert(watch.stopped.count());
        for line in lines.into_iter().take(TOLD.saturating_sub(told)) {
            self.cx.feed.output(line).await;
        }
    }

    async fn say(&self, watch: &mut Watch, text: String) {
        if watch.said != text {
            self.cx.feed.progress(text.clone()).await;
            watch.said = text;
        }
    }

    /// `2 of 2 new running, 1 old draining`.
    fn counts(&self, watch: &Watch) -> String {
        let Some(service) = &watch.last else { return "waiting for ECS".to_owned() };
        let Some(ours) = service.deployment(self.id) else { return "waiting for ECS to start it".to_owned() };
        let mut parts = vec![format!("{} of {} new running", ours.running_count, ours.desired_count)];
        let others = service.deployments.iter().filter(|one| one.id != self.id);
        let old: i64 = others.map(|one| one.running_count).sum();
        if old > 0 {
            let state = if ours.running_count >= ours.desired_count { "draining" } else { "running" };
            parts.push(format!("{old} old {state}"));
        }
        let failed = watch.stopped.count();
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        parts.join(", ")
    }

    fn name(&self) -> String {
        short_arn(self.arn).to_owned()
    }
}

/// A switch of the circuit breaker.
fn breaker(service: &Service, switch: &str) -> bool {
    let breaker = service.deployment_configuration.get("deploymentCircuitBreaker");
    breaker.and_then(|breaker| breaker.get(switch)).and_then(serde_json::Value::as_bool).unwrap_or(false)
}

/// How many failed tasks are too many: the rule of ECS's circuit breaker, half of the desired
/// number, at least 3 and at most 200.
fn threshold(desired: i64) -> usize {
    usize::try_from((desired + 1) / 2).unwrap_or_default().clamp(3, 200)
}

/// An event without the name of the service in front.
fn plain(service: &str, message: &str) -> String {
    message
        .strip_prefix(&format!("(service {}) ", last_part(service)))
        .unwrap_or(message)
        .trim_end_matches('.')
        .to_owned()
}
