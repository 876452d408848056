//! `ecs-deploy`: rolls a service onto the definition that the flow file asks for.
//!
//! Plan compares the registered definition with the wanted one; nothing is
//! registered when they mean the same. Apply registers at most one revision,
//! makes one `UpdateService` call, and waits for the deployment that this call
//! started, and for no other. It ends in one of four ways, each with its own
//! words: completed, failed, rolled back by ECS, superseded by somebody else.
//!
//! A rollback is the same deploy with a recorded [`state`] as its goal: the
//! recorded revision, never "the one before" of its family.

mod decide;
mod draft;
mod images;
mod outcome;
mod plan;
mod reconcile;
mod roll;
#[cfg(test)]
mod sandbox_tests;
mod settings;
mod state;
mod stop;
#[cfg(test)]
mod trust_tests;
mod verdict;
mod wait;

use async_trait::async_trait;

use self::settings::{Deploy, Goal};
use self::state::State;
use super::back::{Stays, Way};
use super::ecs::patience::limit;
use super::{Attributes, Back, Context, Failure, Kind, Open, Proposal, Settled, Step};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Head, Ready, Setting, Shape, Unready};

/// The kind.
pub static KIND: Kind = Kind { spec: SPEC, make, back: Back::To(back) };

const SPEC: KindSpec = KindSpec {
    name: "ecs-deploy",
    about: "Rolls an ECS service onto new images, variables or a new task definition, and waits for it",
    settings: SETTINGS,
    rules: &[],
    outputs: OutputNames::Fixed(&["task-definition", "revision", "service", "deployment", "running"]),
    nature: Nature::Deploying,
    aws: true,
    repeatable: true,
};

const SETTINGS: &[Setting] = &[
    Setting::new("cluster", Shape::Text, "name or ARN of the cluster").required().target(),
    Setting::new("service", Shape::Text, "name of the service").required().target(),
    Setting::new(
        "container",
        Shape::Node { head: Head::Text("container"), many: true, fields: CONTAINER },
        "a container of the task definition, and what is to change in it",
    ),
    Setting::new(
        "task-definition",
        Shape::Text,
        "a JSON file or family:N to start from; without it the definition that the service runs",
    ),
    Setting::new("desired", Shape::Int, "number of tasks; without it the number stays"),
    Setting::new("force", Shape::Bool, "roll even when nothing changed"),
    Setting::new("circuit-breaker", Shape::Bool, "whether ECS gives up and rolls back by itself"),
    Setting::new("min-healthy", Shape::Int, "percent of the tasks that must keep running"),
    Setting::new("max-percent", Shape::Int, "percent of the tasks that may run at once"),
    Setting::new("wait", Shape::Bool, "whether to wait until the service is stable; on without it"),
];

const CONTAINER: &[Setting] = &[
    Setting::new("image", Shape::Text, "the image by digest: repository@sha256:…"),
    Setting::new("env", Shape::Map, "variables, merged into those it has; never secrets"),
    Setting::new(
        "secret",
        Shape::Node { head: Head::Text("variable"), many: true, fields: SECRET },
        "a variable that ECS fills from Secrets Manager or Systems Manager",
    ),
    Setting::new("command", Shape::Texts, "in place of the image's command"),
    Setting::new("cpu", Shape::Int, "CPU units, 1024 for one core"),
    Setting::new("memory", Shape::Int, "hard limit in MiB"),
];

const SECRET: &[Setting] =
    &[Setting::new("from", Shape::Text, "ARN of the secret or the parameter").required()];

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    Ok(Box::new(Deploy::read(ready, attributes)?))
}

fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let now = match &way.now {
        serde_json::Value::Null => None,
        now => Some(State::read(now)?),
    };
    let Some(to) = &way.to else {
        let what = now.map_or_else(|| "the service".to_owned(), |now| format!("service {}", now.service));
        return Ok(Box::new(Stays::unrecorded(&what, way.now.clone())));
    };
    let to = State::read(to)?;
    if to.service.is_empty() || to.task_definition.is_empty() {
        return Err(Failure::new("that release does not say which task definition the service ran"));
    }
    Ok(Box::new(Deploy::back(Goal { now, to })))
}

#[async_trait]
impl Step for Deploy {
    fn equip(&mut self, _settings: &Ready, attributes: &Attributes) {
        self.limit = limit(attributes.timeout);
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        plan::plan(self, cx).await
    }

    async fn observe(&self, cx: &Context) -> Result<serde_json::Value, Failure> {
        plan::observe(self, cx).await
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        reconcile::reconcile(self, open, cx).await
    }
}
