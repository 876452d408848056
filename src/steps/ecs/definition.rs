//! Task definitions as JSON, and what a flow file changes in them.
//!
//! A definition is never read into types: whatever member ECS knows passes
//! through. Only [`READ_ONLY`] is dropped before one is registered again, and
//! nothing is stripped because it looks empty.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::model::names::StepId;
use crate::model::value::Field;
use crate::world::aws::ecs::Registered;
use crate::world::keyed::Sealer;

/// What `DescribeTaskDefinition` answers and `RegisterTaskDefinition` does not take (the two shapes of
/// the API model compared).
pub const READ_ONLY: [&str; 9] = [
    "compatibilities",
    "deleteRequestedAt",
    "deregisteredAt",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "taskDefinitionArn",
];

/// What `RegisterTaskDefinition` takes today; others pass too, but are worth a word when a person wrote them.
const KNOWN: [&str; 18] = [
    "containerDefinitions",
    "cpu",
    "enableFaultInjection",
    "ephemeralStorage",
    "executionRoleArn",
    "family",
    "inferenceAccelerators",
    "ipcMode",
    "memory",
    "networkMode",
    "pidMode",
    "placementConstraints",
    "proxyConfiguration",
    "requiresCompatibilities",
    "runtimePlatform",
    "tags",
    "taskRoleArn",
    "volumes",
];

/// A body for `RegisterTaskDefinition`, tags included.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition(Value);

/// What a flow file says of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerEdit {
    /// As in the definition.
    pub name: String,
    /// `repo@sha256:…`
    pub image: Option<Field<String>>,
    /// Merged into its variables.
    pub env: Vec<(String, Field<String>)>,
    /// Merged into its secrets: name and ARN.
    pub secrets: Vec<(String, Field<String>)>,
    /// In place of its command; empty for "not given".
    pub command: Vec<String>,
    /// CPU units.
    pub cpu: Option<i64>,
    /// MiB.
    pub memory: Option<i64>,
    /// Variables and secrets that the last release set and this file no longer has.
    pub gone: BTreeSet<String>,
}

/// Something that is known only after a step, and so is missing in an edited definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The container.
    pub container: String,
    /// `image`, `env NAME`, `secret NAME`.
    pub what: String,
    /// The step that will say it.
    pub step: StepId,
}

/// Why a definition cannot be edited or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// A container of the flow file that the definition does not have.
    #[error("task definition {definition} has no container {container}, it has {}", has.join(", "))]
    NoContainer {
        /// `family:N`, or the file.
        definition: String,
        /// The name in the flow file.
        container: String,
        /// The names in the definition.
        has: Vec<String>,
    },
    /// A file that is no definition.
    #[error("{file} is no task definition: {why}")]
    NotOne {
        /// The file.
        file: String,
        /// What is missing.
        why: String,
    },
}

impl Definition {
    /// What would register the same again.
    #[must_use]
    pub fn of(registered: &Registered) -> Self {
        Self::from_parts(registered.definition.clone(), registered.tags.clone())
    }

    fn from_parts(definition: Value, tags: Vec<Value>) -> Self {
        let mut members = match definition {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        for name in READ_ONLY {
            members.shift_remove(name);
        }
        // ECS refuses an empty list of tags.
        if !tags.is_empty() {
            members.insert("tags".to_owned(), Value::Array(tags));
        }
        Self(Value::Object(members))
    }

    /// A definition somebody wrote, or saved from `describe-task-definition`. Also returns
    /// members that flow does not know; they are passed on.
    pub fn from_file(file: &str, text: &str) -> Result<(Self, Vec<String>), DefinitionError> {
        let wrong = |why: &str| DefinitionError::NotOne { file: file.to_owned(), why: why.to_owned() };
        let mut json: Value = serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
        let (definition, tags) = match json.get_mut("taskDefinition").map(Value::take) {
            Some(inner) => (inner, json.get_mut("tags").map(Value::take)),
            None => (json, None),
        };
        let tags = match tags {
            Some(Value::Array(tags)) => tags,
            _ => Vec::new(),
        };
        let definition = Self::from_parts(definition, tags);
        if definition.family().is_empty() {
            return Err(wrong("it has no family"));
        }
        if definition.containers().next().is_none() {
            return Err(wrong("it has no containerDefinitions"));
        }
        let unknown = definition
            .0
            .as_object()
            .map(|members| members.keys().filter(|name| !KNOWN.contains(&name.as_str())).cloned().collect());
        Ok((definition, unknown.unwrap_or_default()))
    }

    /// The body as it is sent.
    #[must_use]
    pub fn body(&self) -> &Value {
        &self.0
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> &str {
        self.0.get("family").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its containers.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        self.0.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten()
    }

    /// The names of its containers.
    #[must_use]
    pub fn container_names(&self) -> Vec<String> {
        self.containers().map(|container| name_of(container).to_owned()).collect()
    }

    /// The image of a container.
    #[must_use]
    pub fn image(&self, container: &str) -> Option<&str> {
        self.containers().find(|one| name_of(one) == container)?.get("image")?.as_str()
    }

    /// Puts in what a flow file says. What is not known yet stays as it was and is returned.
    pub fn edit(&mut self, edits: &[ContainerEdit], called: &str) -> Result<Vec<Unknown>, DefinitionError> {
        let has = self.container_names();
        let mut unknown = Vec::new();
        for edit in edits {
            let container = self
                .0
                .get_mut("containerDefinitions")
                .and_then(Value::as_array_mut)
                .and_then(|all| all.iter_mut().find(|container| name_of(container) == edit.name))
                .and_then(Value::as_object_mut)
                .ok_or_else(|| DefinitionError::NoContainer {
                    definition: called.to_owned(),
                    container: edit.name.clone(),
                    has: has.clone(),
                })?;
            edit.put_into(container, &mut unknown);
        }
        Ok(unknown)
    }

    /// The same with the values of variables as keyed digests, for records: ECS keeps them in the
    /// open, but not every reader of a journal may see them.
    #[must_use]
    pub fn masked(&self, sealer: &Sealer) -> Value {
        let mut masked = self.0.clone();
        let containers = masked.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let variables = container.get_mut("environment").and_then(Value::as_array_mut);
            for variable in variables.into_iter().flatten() {
                if let Some(value) = variable.get_mut("value") {
                    *value = masked_value(sealer, value.as_str().unwrap_or_default()).into();
                }
            }
        }
        masked
    }
}

impl ContainerEdit {
    fn put_into(&self, container: &mut Map<String, Value>, unknown: &mut Vec<Unknown>) {
        let mut later = |what: String, step: &StepId| {
            unknown.push(Unknown { container: self.name.clone(), what, step: step.clone() });
        };
        match &self.image {
            Some(Field::Known(image)) => {
                container.insert("image".to_owned(), image.clone().into());
            }
            Some(Field::After(step)) => later("image".to_owned(), step),
            None => {}
        }
        if !self.command.is_empty() {
            container.insert("command".to_owned(), json!(self.command));
        }
        if let Some(cpu) = self.cpu {
            container.insert("cpu".to_owned(), cpu.into());
        }
        if let Some(memory) = self.memory {
            container.insert("memory".to_owned(), memory.into());
        }
        for name in &self.gone {
            remove_named(container, "environment", name);
            remove_named(container, "secrets", name);
        }
        // ECS refuses a name that is both a variable and a secret.
        for (name, value) in &self.env {
            remove_named(container, "secrets", name);
            match value {
                Field::Known(value) => put_named(container, "environment", name, "value", value),
                Field::After(step) => later(format!("env {name}"), step),
            }
        }
        for (name, source) in &self.secrets {
            remove_named(container, "environment", name);
            match source {
                Field::Known(arn) => put_named(container, "secrets", name, "valueFrom", arn),
                Field::After(step) => later(format!("secret {name}"), step),
            }
        }
    }
}

/// What stands for the value of a variable wherever it is shown or recorded.
#[must_use]
pub fn masked_value(sealer: &Sealer, value: &str) -> String {
    format!("hmac:{}", sealer.digest(value))
}

/// `shop-api:41` of `arn:aws:ecs:eu-west-1:333333333333:task-definition/shop-api:41`.
#[must_use]
pub fn short_arn(arn: &str) -> &str {
    crate::world::aws::ecs::last_part(arn)
}

/// The name of a container or variable; empty when it has none.
pub(super) fn name_of(entry: &Value) -> &str {
    entry.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn put_named(container: &mut Map<String, Value>, list: &str, name: &str, member: &str, value: &str) {
    let entries = container.entry(list).or_insert_with(|| json!([]));
    if !entries.is_array() {
        *entries = json!([]);
    }
    if let Some(entries) = entries.as_array_mut() {
        match entries.iter_mut().find(|entry| name_of(entry) == name) {
            Some(entry) => entry[member] = value.into(),
            None => entries.push(json!({ "name": name, member: value })),
        }
    }
}

fn remove_named(container: &mut Map<String, Value>, list: &str, name: &str) {
    if let Some(entries) = container.get_mut(list).and_then(Value::as_array_mut) {
        entries.retain(|entry| name_of(entry) != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::store::Store;

    fn registered(definition: Value) -> Registered {
        Registered { definition, tags: vec![json!({ "key": "team", "value": "shop" })] }
    }

    fn shop() -> Registered {
        registered(json!({
            "family": "shop", "revision": 41, "status": "ACTIVE", "compatibilities": ["EC2"], "registeredAt": 1.5,
            "registeredBy": "arn:…", "requiresAttributes": [], "taskDefinitionArn": "arn:aws:ecs:r:1:task-definition/shop:41",
            "deregisteredAt": 1, "deleteRequestedAt": 1, "notInventedYet": { "a": null }, "pidMode": "",
            "containerDefinitions": [{
                "name": "api", "image": "r@sha256:1", "links": [], "notInventedYet": [""],
                "environment": [{ "name": "A", "value": "1" }, { "name": "B", "value": "" }],
                "secrets": [{ "name": "K", "valueFrom": "arn:k" }],
            }],
        }))
    }

    #[test]
    fn only_the_read_only_members_are_dropped() {
        let definition = Definition::of(&shop());
        assert_eq!(
            *definition.body(),
            json!({
                "family": "shop", "notInventedYet": { "a": null }, "pidMode": "",
                "containerDefinitions": [{
                    "name": "api", "image": "r@sha256:1", "links": [], "notInventedYet": [""],
                    "environment": [{ "name": "A", "value": "1" }, { "name": "B", "value": "" }],
                    "secrets": [{ "name": "K", "valueFrom": "arn:k" }],
                }],
                "tags": [{ "key": "team", "value": "shop" }],
            })
        );
        let untagged = Definition::of(&Registered { tags: Vec::new(), ..shop() });
        assert_eq!(untagged.body().get("tags"), None, "ECS refuses an empty list");
    }

    #[test]
    fn an_edit_is_merged_in() {
        let mut definition = Definition::of(&shop());
        let step = StepId::parse("image[api]");
        let edit = ContainerEdit {
            name: "api".to_owned(),
            image: Some(Field::After(step.clone())),
            env: vec![
                ("B".to_owned(), Field::Known("2".to_owned())),
                ("C".to_owned(), Field::Known("3".to_owned())),
                ("K".to_owned(), Field::Known("open".to_owned())),
            ],
            secrets: vec![("S".to_owned(), Field::Known("arn:s".to_owned()))],
            command: vec!["serve".to_owned()],
            memory: Some(64),
            gone: BTreeSet::from(["A".to_owned()]),
            ..ContainerEdit::default()
        };
        let unknown = definition.edit(&[edit], "shop:41").unwrap();
        assert_eq!(unknown, [Unknown { container: "api".to_owned(), what: "image".to_owned(), step }]);
        let container = definition.containers().next().unwrap();
        assert_eq!(
            *container,
            json!({
                "name": "api", "image": "r@sha256:1", "links": [], "notInventedYet": [""],
                "environment": [{ "name": "B", "value": "2" }, { "name": "C", "value": "3" }, { "name": "K", "value": "open" }],
                "secrets": [{ "name": "S", "valueFrom": "arn:s" }],
                "command": ["serve"], "memory": 64,
            })
        );
    }

    #[test]
    fn a_container_that_is_not_there_is_named() {
        let edit = ContainerEdit { name: "web".to_owned(), ..ContainerEdit::default() };
        let error = Definition::of(&shop()).edit(&[edit], "shop:41").unwrap_err();
        assert_eq!(error.to_string(), "task definition shop:41 has no container web, it has api");
    }

    #[test]
    fn files_are_taken_as_written_or_as_described() {
        let plain = r#"{ "family": "shop", "revision": 3, "containerDefinitions": [{ "name": "api" }], "memoryy": 1 }"#;
        let (definition, unknown) = Definition::from_file("task.json", plain).unwrap();
        assert_eq!(definition.body().get("revision"), None);
        assert_eq!(unknown, ["memoryy"]);
        let described = r#"{ "taskDefinition": { "family": "shop", "containerDefinitions": [{ "name": "api" }] },
                             "tags": [{ "key": "a", "value": "b" }] }"#;
        let (definition, unknown) = Definition::from_file("task.json", described).unwrap();
        assert_eq!(definition.body()["tags"][0]["key"], "a");
        assert!(unknown.is_empty());
        for (text, why) in [
            ("{", "task.json is no task definition: EOF"),
            (r#"{ "family": "x" }"#, "task.json is no task definition: it has no containerDefinitions"),
            (r#"{ "containerDefinitions": [{}] }"#, "task.json is no task definition: it has no family"),
        ] {
            let error = Definition::from_file("task.json", text).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn records_keep_no_value_of_a_variable() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::load(&Store::folder(folder.path().to_owned())).unwrap();
        let masked = Definition::of(&shop()).masked(&sealer);
        let variables = &masked["containerDefinitions"][0]["environment"];
        assert_eq!(variables[0]["value"], masked_value(&sealer, "1"));
        assert_eq!(variables[0]["name"], "A");
        assert_eq!(masked["notInventedYet"], json!({ "a": null }));
    }
}
