//! A stack's state, as `pulumi stack export` gives it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value as Json;

use super::preview::{STACK, shown};
use super::session::Session;
use crate::model::units::count;
use crate::model::value::{Outputs, Value};
use crate::steps::infra::{Op, ResourceChange};
use crate::steps::{Failure, FailureClass};

/// What marks an object as something else than it looks, and as a secret: constants of the format.
const SIGNATURE: &str = "4dabf18193072939515e22adb298388d";
const IS_SECRET: &str = "1b47061264138c4ac30d75fd1eb44270";

/// A state.
#[derive(Clone, Debug, Default)]
pub(in crate::steps) struct Snapshot {
    /// As it was exported; secrets in it are encrypted.
    pub text: String,
    deployment: Deployment,
    /// Each resource with all that the state says of it.
    whole: Vec<Json>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Export {
    deployment: Deployment,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Deployment {
    resources: Option<Vec<Resource>>,
    pending_operations: Option<Vec<Pending>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resource {
    urn: String,
    #[serde(rename = "type")]
    kind: String,
    outputs: Json,
    id: Option<String>,
    delete: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Pending {
    resource: Resource,
    #[serde(rename = "type")]
    kind: String,
}

impl Snapshot {
    /// Reads an export.
    pub(in crate::steps) fn read(text: String) -> Result<Self, Failure> {
        let export: Export = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("this is no state of Pulumi: {error}")))?;
        let whole: Json = serde_json::from_str(&text).unwrap_or_default();
        let whole = whole["deployment"]["resources"].as_array().cloned().unwrap_or_default();
        Ok(Self { text, deployment: export.deployment, whole })
    }

    fn resources(&self) -> impl Iterator<Item = &Resource> {
        let all = self.deployment.resources.iter().flatten();
        all.filter(|resource| resource.kind != STACK && !resource.kind.starts_with("pulumi:providers:"))
    }

    /// How many resources it has, the stack and its providers aside.
    pub(in crate::steps) fn number(&self) -> usize {
        self.resources().count()
    }

    /// Their URNs, sorted.
    pub(in crate::steps) fn urns(&self) -> BTreeSet<&str> {
        self.resources().map(|resource| resource.urn.as_str()).collect()
    }

    /// What the state knows of each resource, the stack and its providers included, by its short name.
    pub(in crate::steps) fn known(&self) -> BTreeMap<String, Json> {
        let named = |resource: &Json| (shown(resource["urn"].as_str().unwrap_or_default()), resource.clone());
        self.whole.iter().map(named).collect()
    }

    /// Whether something was begun that has no recorded end.
    pub(in crate::steps) fn is_pending(&self) -> bool {
        self.deployment.pending_operations.iter().flatten().next().is_some()
    }

    /// What goes when everything goes.
    pub(in crate::steps) fn deletions(&self) -> Vec<ResourceChange> {
        let of = |resource: &Resource| {
            ResourceChange::new(shown(&resource.urn), resource.kind.clone(), Op::Delete)
        };
        self.resources().map(of).collect()
    }

    /// Refuses a state in which something was begun and has no recorded end: another apply would do
    /// it a second time.
    pub(in crate::steps) fn refuse_pending(&self, session: &Session) -> Result<(), Failure> {
        let pending: Vec<&Pending> = self.deployment.pending_operations.iter().flatten().collect();
        if pending.is_empty() {
            return Ok(());
        }
        let reason = format!(
            "an apply of the stack {} is under way elsewhere or was cut off: the outcome of {} is not known",
            session.stack(),
            count(pending.len(), "operation")
        );
        let mut failure = Failure::of(FailureClass::Unknown, reason);
        let mut made = Vec::new();
        for operation in &pending {
            let resource = &operation.resource;
            let id = resource.id.as_deref().filter(|id| !id.is_empty());
            let id = id.map(|id| format!(" ({id})")).unwrap_or_default();
            failure = failure.detail(format!("{} {}{id}", operation.kind, resource.urn));
            if operation.kind == "creating" {
                made.push(resource.urn.as_str());
            }
        }
        let cancel = session.typed(&["cancel", "--yes"]);
        let clear = session.typed(&["refresh", "--yes", "--clear-pending-creates"]);
        if !made.is_empty() {
            let mut words = vec!["refresh", "--yes"];
            for &one in &made {
                words.extend(["--import-pending-creates", one, "--import-pending-creates", "ID"]);
            }
            failure = failure
                .detail(format!("where it is there, with its ID: {}", session.typed(&words)))
                .detail(format!("where it is not there: {clear}"));
        }
        let settle =
            if made.is_empty() { session.typed(&["refresh", "--yes"]) } else { "one of these".to_owned() };
        Err(failure.help(format!(
            "look whether it is there, then type {settle}; a lock that the killed program left goes with {cancel}"
        )))
    }

    /// The stack's outputs that are no secrets, and the names of those that are.
    pub(in crate::steps) fn outputs(&self) -> (Outputs, BTreeSet<String>) {
        let (mut open, mut secret) = (Outputs::new(), BTreeSet::new());
        let stack = self.deployment.resources.iter().flatten().find(|r| r.kind == STACK && !r.delete);
        let outputs = stack.and_then(|stack| stack.outputs.as_object());
        for (name, value) in outputs.into_iter().flatten() {
            if holds_secret(value) {
                secret.insert(name.clone());
            } else {
                open.insert(name.clone(), Value::from_json(value));
            }
        }
        (open, secret)
    }
}

fn holds_secret(json: &Json) -> bool {
    match json {
        Json::Object(object) => {
            object.get(SIGNATURE).is_some_and(|mark| mark == IS_SECRET) || object.values().any(holds_secret)
        }
        Json::Array(items) => items.iter().any(holds_secret),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outputs_are_told_from_secrets_and_resources_from_what_the_cli_keeps() {
        let text = json!({ "version": 3, "deployment": { "resources": [
            { "urn": "urn:pulumi:dev::shop::pulumi:pulumi:Stack::shop-dev", "type": STACK, "outputs": {
                "url": "http://shop",
                "key": { SIGNATURE: IS_SECRET, "ciphertext": "v1:x" },
                "all": [1, { SIGNATURE: IS_SECRET, "ciphertext": "v1:y" }],
            } },
            { "urn": "urn:pulumi:dev::shop::pulumi:providers:sandbox::default", "type": "pulumi:providers:sandbox" },
            { "urn": "urn:pulumi:dev::shop::sandbox:s3:Bucket::site", "type": "sandbox:s3:Bucket" },
        ] } });
        let snapshot = Snapshot::read(text.to_string()).unwrap();
        let (open, secret) = snapshot.outputs();
        assert_eq!(open["url"], Value::text("http://shop"));
        assert_eq!(secret.iter().map(String::as_str).collect::<Vec<_>>(), ["all", "key"]);
        assert_eq!(snapshot.number(), 1);
        assert_eq!(snapshot.deletions()[0].id, "s3:Bucket::site");
        assert_eq!(Snapshot::read("{}".to_owned()).unwrap().number(), 0, "a new stack");
        assert!(Snapshot::read("no".to_owned()).is_err());
    }
}
