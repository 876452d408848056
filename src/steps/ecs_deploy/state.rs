//! What a release keeps of a deployed service: the state that a rollback
//! returns to, and what the next plan reads of it. Values of variables are in
//! it as keyed digests only; a revision that ECS made INACTIVE is registered
//! again from ECS's own copy.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::Deploy;
use crate::steps::ecs::definition::{ContainerEdit, Definition, short_arn};
use crate::steps::{Context, Done, Failure, back};
use crate::world::aws::ecs::{Deployment, Service};

/// A service as it was set at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct State {
    /// Name or ARN.
    pub(super) cluster: String,
    /// Its name.
    pub(super) service: String,
    /// Where; absent when the environment does not say.
    pub(super) region: Option<String>,
    /// ARN of the definition.
    pub(super) task_definition: String,
    /// The definition itself, masked; `null` when it was not read.
    pub(super) definition: Value,
    /// `ecs-svc/…`
    pub(super) deployment: Option<String>,
    /// How many tasks it should run.
    pub(super) desired: i64,
    /// The flow sets that number: a rollback does so, too. Otherwise it is left to whoever scales.
    pub(super) scaled: bool,
    /// Circuit breaker and percentages, as ECS has them.
    pub(super) configuration: Value,
    /// The names that the flow set, by container: the next one removes what it no longer has.
    pub(super) set: BTreeMap<String, BTreeSet<String>>,
}

impl State {
    /// Of a service that runs this definition. Who manages what is not in it yet.
    pub(super) fn of(
        deploy: &Deploy,
        cx: &Context,
        service: &Service,
        arn: &str,
        definition: Option<&Definition>,
        deployment: Option<&Deployment>,
    ) -> Self {
        Self {
            cluster: deploy.cluster.clone(),
            service: deploy.service.clone(),
            region: cx.cloud.target().region.clone(),
            task_definition: arn.to_owned(),
            definition: definition.map_or(Value::Null, |definition| definition.masked(&cx.sealer)),
            deployment: deployment.map(|deployment| deployment.id.clone()),
            desired: deployment.map_or(service.desired_count, |deployment| deployment.desired_count),
            scaled: false,
            configuration: service.deployment_configuration.clone(),
            set: BTreeMap::new(),
        }
    }

    /// As a step leaves the service.
    pub(super) fn left_by(mut self, deploy: &Deploy) -> Self {
        if let Some(goal) = &deploy.goal {
            self.scaled = goal.to.scaled;
            self.set.clone_from(&goal.to.set);
        } else {
            self.scaled = deploy.desired.is_some();
            let names = |edit: &ContainerEdit| names(edit).into_iter().map(str::to_owned).collect();
            self.set = deploy.containers.iter().map(|edit| (edit.name.clone(), names(edit))).collect();
        }
        self
    }

    /// As a step finds the service. What is going to set the number of tasks takes it back, too.
    pub(super) fn found_by(mut self, deploy: &Deploy, recorded: Option<&State>) -> Self {
        self.scaled = deploy.desired.is_some() || recorded.is_some_and(|recorded| recorded.scaled);
        if let Some(recorded) = recorded {
            self.set.clone_from(&recorded.set);
        }
        self
    }

    /// A recorded one.
    pub(super) fn read(recorded: &Value) -> Result<Self, Failure> {
        back::read(recorded)
    }

    /// The one that the last release has of a step.
    pub(super) fn recorded(cx: &Context) -> Option<Self> {
        let recorded = cx.recorded.as_ref()?;
        Self::read(&recorded.receipt).ok().filter(|state| !state.task_definition.is_empty())
    }

    /// As a record has it.
    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The names that the last release set in a container and this file no longer has.
    pub(super) fn gone(&self, edit: &ContainerEdit) -> BTreeSet<String> {
        let now = names(edit);
        let before = self.set.get(&edit.name).into_iter().flatten();
        before.filter(|name| !now.contains(name.as_str())).cloned().collect()
    }
}

/// A deployment that stands: summary, outputs, receipt.
pub(super) fn done(
    deploy: &Deploy,
    cx: &Context,
    service: &Service,
    (arn, definition): (&str, &Definition),
    deployment: &Deployment,
) -> Done {
    let name = short_arn(arn);
    let summary = match deployment.desired_count {
        _ if !deploy.wait => format!("{name} is being rolled out, not waited for"),
        0 => format!("{name} is set, but was not tried: desired is 0"),
        1 => format!("1 of 1 task of {name} runs"),
        desired => format!("{} of {desired} tasks of {name} run", deployment.running_count),
    };
    let state = State::of(deploy, cx, service, arn, Some(definition), Some(deployment)).left_by(deploy);
    Done { summary, outputs: super::plan::outputs(service, arn, Some(deployment)), receipt: state.to_json() }
}

fn names(edit: &ContainerEdit) -> BTreeSet<&str> {
    edit.env
        .iter()
        .map(|(name, _)| name)
        .chain(edit.secrets.iter().map(|(name, _)| name))
        .map(String::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::value::Field;

    #[test]
    fn names_that_the_file_no_longer_has_are_gone() {
        let state = State::read(&json!({ "set": { "api": ["A", "B", "K"] } })).unwrap();
        let edit = ContainerEdit {
            name: "api".to_owned(),
            env: vec![("A".to_owned(), Field::Known("1".to_owned()))],
            secrets: vec![("K".to_owned(), Field::Known("arn".to_owned()))],
            ..ContainerEdit::default()
        };
        assert_eq!(state.gone(&edit), BTreeSet::from(["B".to_owned()]));
        assert_eq!(state.gone(&ContainerEdit::default()), BTreeSet::new());
        assert!(State::read(&json!({ "set": 7 })).is_err());
    }
}
