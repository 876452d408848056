//! What a release keeps of a deployed service, and what the next plan reads of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::settings::Deploy;
use crate::steps::ecs::definition::{ContainerEdit, Definition};
use crate::world::aws::ecs::{Registered, Service};
use crate::world::keyed::Sealer;

/// What a service ran: enough to go back there, and to register it again when it is INACTIVE.
pub(super) fn state(service: &Service, running: Option<&Registered>, sealer: &Sealer) -> Value {
    json!({
        "taskDefinition": service.task_definition,
        "definition": running.map(|running| Definition::of(running).masked(sealer)),
        "deployment": service.primary().map(|primary| primary.id.clone()),
        "desired": service.desired_count,
        "configuration": service.deployment_configuration,
    })
}

/// The receipt: what runs now, what ran before, and the names that this release set.
pub(super) fn receipt(now: Value, previous: Value, deploy: &Deploy) -> Value {
    let set: serde_json::Map<_, _> = deploy
        .containers
        .iter()
        .map(|edit| (edit.name.clone(), names(edit).into_iter().collect::<Value>()))
        .collect();
    let mut receipt = now;
    receipt["previous"] = previous;
    receipt["set"] = set.into();
    receipt
}

/// What a receipt says of its own release.
pub(super) fn alone(recorded: &Value) -> Value {
    let mut alone = recorded.clone();
    if let Some(members) = alone.as_object_mut() {
        members.shift_remove("previous");
        members.shift_remove("set");
    }
    alone
}

/// The names that the last release set in a container and this file no longer has.
pub(super) fn gone(recorded: &Value, edit: &ContainerEdit) -> BTreeSet<String> {
    let now = names(edit);
    let before = recorded.get("set").and_then(|set| set.get(&edit.name)).and_then(Value::as_array);
    let before = before.into_iter().flatten().filter_map(Value::as_str);
    before.filter(|name| !now.contains(name)).map(str::to_owned).collect()
}

/// The definition that the last release recorded.
pub(super) fn released(recorded: &Value) -> Option<&str> {
    recorded.get("taskDefinition").and_then(Value::as_str)
}

fn names(edit: &ContainerEdit) -> BTreeSet<&str> {
    edit.env
        .iter()
        .map(|(name, _)| name)
        .chain(edit.secrets.iter().map(|(name, _)| name))
        .map(String::as_str)
        .collect()
}
