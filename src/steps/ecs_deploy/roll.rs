//! The effect: register at most once, update once, wait for what that started.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::decide::{Update, Way};
use super::outcome::RollError;
use super::plan::Observed;
use super::reconcile::{SETTLE, Sent};
use super::settings::Deploy;
use super::state::done;
use super::stop;
use super::wait::{Rolled, Wait};
use crate::steps::ecs::canonical::Canonical;
use crate::steps::ecs::definition::{Definition, short_arn};
use crate::steps::ecs::patience::{GivenUp, Patience};
use crate::steps::ecs::service;
use crate::steps::ecs::stopped::Stopped;
use crate::steps::failure::FailureClass;
use crate::steps::{Context, Done, Effect, Failure};
use crate::world::aws::ecs::{Deployment, Ecs, Registered, Service};
use crate::world::aws::{AwsError, AwsErrorClass};

/// The definition a service is to run.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// One that is registered: its ARN.
    Registered(String),
    /// One that is not.
    New(Box<Definition>),
}

impl Target {
    /// Whether it is this one.
    pub(super) fn is(&self, arn: &str) -> bool {
        matches!(self, Self::Registered(registered) if registered == arn)
    }
}

/// Rolls a service, or waits for a roll that is under way.
pub(super) struct Roll {
    pub(super) deploy: Deploy,
    pub(super) observed: Observed,
    /// What will run, whether it has to be registered or not.
    pub(super) wanted: Definition,
    pub(super) target: Target,
    pub(super) way: Way,
    /// ARN and words of what the service had before the first release.
    pub(super) placeholder: Option<(String, String)>,
}

#[async_trait]
impl Effect for Roll {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let patience = Patience::new(cx.world.clock, self.deploy.limit);
        let ecs = cx.cloud.ecs().await;
        let fresh = self.unchanged(cx, ecs, &patience).await?;
        let mut stopped = Stopped::new(&self.deploy.cluster, &self.deploy.service);
        let before: Vec<_> = fresh.deployments.iter().map(|deployment| deployment.id.clone()).collect();
        let (definition, deployment, before): (String, Deployment, Vec<String>) = match &self.way {
            Way::Await(deployment) => {
                let others = before.into_iter().filter(|id| *id != deployment.id).collect();
                (self.observed.service.task_definition.clone(), deployment.clone(), others)
            }
            Way::Update(update) => {
                let call = || async { ecs.list_stopped(&self.deploy.cluster, &self.deploy.service).await };
                stopped.leave_out(patience.ask(&cx.cancel, call).await.map_err(untouched)?);
                let definition = self.definition(cx, ecs, &patience).await?;
                let service = (self.deploy.cluster.as_str(), self.deploy.service.as_str());
                let back = match &self.deploy.goal {
                    Some(_) => stop::take_back(cx, ecs, service, &fresh, update, &definition).await,
                    None => None,
                };
                let deployment = match back {
                    Some(deployment) => deployment,
                    None => self.update(cx, ecs, &patience, update, &definition, &before).await?,
                };
                let before = before.into_iter().filter(|id| *id != deployment.id).collect();
                (definition, deployment, before)
            }
        };
        if !self.deploy.wait {
            return Ok(done(&self.deploy, cx, &fresh, (&definition, &self.wanted), &deployment));
        }
        let wait = Wait {
            cx,
            deploy: &self.deploy,
            patience,
            id: &deployment.id,
            arn: &definition,
            definition: &self.wanted,
            before: &before,
            placeholder: self.placeholder.as_ref(),
            // A deployment that was under way may have failed tasks already; they are shown, not counted.
            awaited: matches!(self.way, Way::Await(_)),
        };
        let known = fresh.events.iter().map(|event| event.id.clone()).collect();
        let Rolled { service, deployment } = wait.run(stopped, known).await?;
        Ok(done(&self.deploy, cx, &service, (&definition, &self.wanted), &deployment))
    }
}

impl Roll {
    /// The service, which is still as it was planned on.
    async fn unchanged(&self, cx: &Context, ecs: Ecs<'_>, patience: &Patience) -> Result<Service, Failure> {
        let call = || service::find(ecs, &self.deploy.cluster, &self.deploy.service);
        let fresh = patience.ask(&cx.cancel, call).await?;
        let planned = &self.observed.service;
        let id = |service: &Service| service.primary().map(|primary| primary.id.clone());
        if fresh.task_definition != planned.task_definition || id(&fresh) != id(planned) {
            let shown = |service: &Service| {
                format!("{} ({})", short_arn(&service.task_definition), id(service).unwrap_or_default())
            };
            let (from, to) = (shown(planned), shown(&fresh));
            return Err(RollError::Moved { service: self.deploy.service.clone(), from, to }.into());
        }
        Ok(fresh)
    }

    /// The ARN of the definition to run, registered now if it has to be.
    async fn definition(&self, cx: &Context, ecs: Ecs<'_>, patience: &Patience) -> Result<String, Failure> {
        let wanted = match &self.target {
            Target::Registered(arn) => return Ok(arn.clone()),
            Target::New(wanted) => wanted,
        };
        let mut lost = None;
        for _ in 0..2 {
            let call = || async { ecs.register(wanted.body()).await };
            let arn = match patience.insist(&cx.cancel, call).await {
                Ok(registered) => registered.arn().to_owned(),
                Err(GivenUp::Error(error)) if error.is_unclear() => {
                    cx.feed.output(format!("{error}; asking ECS whether it was registered")).await;
                    lost = Some(error);
                    match self.registered_after_all(cx, ecs, wanted).await {
                        Some(arn) => arn,
                        // An unused revision does no harm: once more.
                        None => continue,
                    }
                }
                Err(error) => return Err(untouched(error)),
            };
            cx.feed.note("registered", json!({ "arn": arn })).await?;
            cx.feed.output(format!("registered {}", short_arn(&arn))).await;
            return Ok(arn);
        }
        let why = lost.map_or_else(String::new, |error| error.to_string());
        Err(Failure::of(
            FailureClass::Passing,
            format!("a revision of {} could not be registered: {why}", wanted.family()),
        )
        .detail(format!("{} was not touched", self.deploy.service)))
    }

    /// After a lost answer: a newest revision that was not there and says the same is ours.
    async fn registered_after_all(&self, cx: &Context, ecs: Ecs<'_>, wanted: &Definition) -> Option<String> {
        let form = Canonical::of(wanted);
        let before = self.observed.newest().map(Registered::revision);
        let settle = Patience::new(cx.world.clock, SETTLE.min(Duration::from_secs(5)));
        loop {
            if let Ok(newest) = service::definition(ecs, wanted.family()).await
                && Some(newest.revision()) > before
                && Canonical::of(&Definition::of(&newest)) == form
            {
                return Some(newest.arn().to_owned());
            }
            if settle.is_over() || settle.rest(&cx.cancel).await.is_err() {
                return None;
            }
        }
    }

    /// The one `UpdateService`, and the deployment that it started.
    async fn update(
        &self,
        cx: &Context,
        ecs: Ecs<'_>,
        patience: &Patience,
        update: &Update,
        definition: &str,
        before: &[String],
    ) -> Result<Deployment, Failure> {
        if cx.cancel.is_stopping() {
            return Err(Failure::of(FailureClass::Interrupted, "interrupted")
                .detail(format!("{} was not touched", self.deploy.service)));
        }
        let body = self.body(update, definition);
        cx.feed.note("updating", Sent::note(definition, update.rolls(), before)).await?;
        let mut lost: Option<AwsError> = None;
        let deployment = loop {
            let call = || async { ecs.update_service(&body).await };
            let error = match patience.insist(&cx.cancel, call).await {
                Ok(service) => match started(&service, update, definition, before) {
                    Some(deployment) => break deployment,
                    None => not_shown(),
                },
                Err(GivenUp::Error(error)) if error.is_unclear() => error,
                // That the second call was not carried out says nothing about the first.
                Err(error) => return Err(lost.map_or_else(|| untouched(error), |lost| self.unknown(lost))),
            };
            cx.feed.output(format!("{error}; asking ECS whether the service was updated")).await;
            if let Some(deployment) = self.updated_after_all(cx, ecs, update, definition, before).await {
                break deployment;
            }
            // The same call twice starts one deployment, unless it forces a new one each time.
            if update.force || lost.is_some() || cx.cancel.is_stopping() {
                return Err(self.unknown(lost.unwrap_or(error)));
            }
            lost = Some(error);
        };
        cx.feed.note("updated", json!({ "deployment": deployment.id, "taskDefinition": definition })).await?;
        Ok(deployment)
    }

    fn unknown(&self, error: AwsError) -> Failure {
        RollError::Unknown { service: self.deploy.service.clone(), error }.into()
    }

    fn body(&self, update: &Update, definition: &str) -> Value {
        let mut body = Map::new();
        body.insert("cluster".to_owned(), self.deploy.cluster.clone().into());
        body.insert("service".to_owned(), self.deploy.service.clone().into());
        if update.rolls() {
            body.insert("taskDefinition".to_owned(), definition.into());
        }
        if update.force {
            body.insert("forceNewDeployment".to_owned(), true.into());
        }
        if let Some(desired) = update.desired {
            body.insert("desiredCount".to_owned(), desired.into());
        }
        if let Some(configuration) = &update.configuration {
            body.insert("deploymentConfiguration".to_owned(), configuration.clone());
        }
        body.into()
    }

    async fn updated_after_all(
        &self,
        cx: &Context,
        ecs: Ecs<'_>,
        update: &Update,
        definition: &str,
        before: &[String],
    ) -> Option<Deployment> {
        let settle = Patience::new(cx.world.clock, SETTLE);
        loop {
            if let Ok(service) = service::find(ecs, &self.deploy.cluster, &self.deploy.service).await
                && update.is_done(&service)
                && let Some(deployment) = started(&service, update, definition, before)
            {
                return Some(deployment);
            }
            // A stop does not cut this short: what was sent must be known.
            if settle.is_over() {
                return None;
            }
            cx.world.clock.pause(settle.pause()).await;
        }
    }
}

/// The deployment that an update started, or that it changes when it starts none.
fn started(service: &Service, update: &Update, definition: &str, before: &[String]) -> Option<Deployment> {
    if !update.rolls() {
        return service.primary().cloned();
    }
    let new = |one: &&Deployment| one.task_definition == definition && !before.contains(&one.id);
    service.deployments.iter().find(new).cloned()
}

fn not_shown() -> AwsError {
    AwsError {
        service: "ECS",
        operation: "UpdateService",
        class: AwsErrorClass::Unclear,
        code: None,
        message: "the answer does not show the new deployment".to_owned(),
        request_id: None,
    }
}

fn untouched(error: GivenUp<AwsError>) -> Failure {
    match error {
        GivenUp::Stopped(stopped) => Failure::from(stopped).detail("the service was not touched"),
        GivenUp::Error(error) => error.into(),
    }
}
