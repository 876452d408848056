//! `ecs-run`: a one-off task, such as a migration inside the network.
//!
//! Where it runs is copied from a service. It is over when the task has
//! STOPPED, never when it "was seen running": a short task is never seen so.
//! The named container's exit code decides, and none at all is a failure.
//!
//! Each task bears a mark of its run and step: before one is started, ECS is
//! asked for it, so that flow may die at any moment and never starts a second.
//! What a task did cannot be taken back; a rollback names it.

mod mark;
mod one_off;
mod outcome;
mod reconcile;
#[cfg(test)]
mod sandbox_tests;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use self::one_off::OneOff;
use super::ecs::definition::{Definition, short_arn};
use super::ecs::logs::LogPlace;
use super::ecs::patience::{Patience, limit};
use super::ecs::service;
use super::ecs::settings::{at_least, open_text};
use super::{Attributes, Back, Context, Failure, Kind, Open, Proposal, Settled, Step};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::value::Field;
use crate::steps::FailureClass;
use crate::world::aws::ecs::{Registered, Service};

/// The kind.
pub static KIND: Kind = Kind { spec: SPEC, make, back: Back::Nothing };

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
    Setting::new("cluster", Shape::Text, "name or ARN of the cluster").required().target(),
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

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    Ok(Box::new(Run::read(ready, attributes)?))
}

#[async_trait]
impl Step for Run {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let (service, registered) = self.look(cx).await?;
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
        proposal.baseline = baseline(&registered);
        let place = LogPlace::of(&definition, &container);
        if let Err(none) = &place {
            proposal.warnings.push(none.to_string());
        }
        let body = self.body(registered.arn(), &container, service.as_ref());
        Ok(proposal.with(OneOff {
            cluster: self.cluster.clone(),
            limit: self.limit,
            definition,
            container,
            place,
            body,
        }))
    }

    async fn observe(&self, cx: &Context) -> Result<Value, Failure> {
        match self.look(cx).await {
            Ok((_, registered)) => Ok(baseline(&registered)),
            Err(failure) if failure.class == FailureClass::Missing => Ok(Value::Null),
            Err(failure) => Err(failure),
        }
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        reconcile::reconcile(self, open, cx).await
    }
}

/// What decides what is run, besides the flow file.
fn baseline(registered: &Registered) -> Value {
    json!({ "task definition": short_arn(registered.arn()) })
}

impl Run {
    /// The service that it is like, and the definition that it runs.
    async fn look(&self, cx: &Context) -> Result<(Option<Service>, Registered), Failure> {
        let ecs = cx.cloud.ecs().await;
        let looks = Patience::for_a_look(cx.world.clock);
        let service = match &self.service {
            Some(name) => Some(looks.ask(&cx.cancel, || service::find(ecs, &self.cluster, name)).await?),
            None => None,
        };
        let of_service = || service.as_ref().map(|service| service.task_definition.clone());
        let name = self.definition.clone().or_else(of_service).unwrap_or_default();
        let registered = looks.ask(&cx.cancel, || service::definition(ecs, &name)).await?;
        Ok((service, registered))
    }

    fn read(ready: &Ready, attributes: &Attributes) -> Result<Self, Unready> {
        let mut env = Vec::new();
        for (name, value) in ready.map("env") {
            match open_text("env", name, value)? {
                Field::Known(value) => env.push((name.clone(), value)),
                Field::After(step) => return Err(Unready::After { setting: "env", step }),
            }
        }
        let run = Self {
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
        Ok(run)
    }

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
