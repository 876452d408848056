//! Whether two task definitions mean the same, and where they differ.
//!
//! ECS fills in defaults when it answers a definition, and orders nothing. The
//! canonical form has lists that are really maps (variables, containers, tags,
//! …) as objects, no members that say nothing, and images as their digest: the
//! same bytes under another tag are the same image. It is only compared, never
//! sent.

use serde_json::{Map, Value};

use super::definition::{Definition, masked_value};
use crate::model::change::Change;
use crate::model::units::short_digest;
use crate::world::files::digest;
use crate::world::keyed::Sealer;

/// A definition in the form that is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Canonical(Value);

/// How much of a long value a plan shows.
const SHOWN: usize = 60;

impl Canonical {
    /// The canonical form.
    #[must_use]
    pub fn of(definition: &Definition) -> Self {
        let body = definition.body();
        let awsvpc = body.get("networkMode").and_then(Value::as_str) == Some("awsvpc");
        let mut members = Map::new();
        for (name, value) in body.as_object().into_iter().flatten() {
            let value = match name.as_str() {
                "containerDefinitions" => {
                    keyed(value, |container| text(container, "name"), |one| container_form(one, awsvpc))
                }
                "tags" => keyed(value, |tag| text(tag, "key"), |tag| member(tag, "value")),
                "volumes" => keyed(value, |volume| text(volume, "name"), tidy),
                "requiresCompatibilities" => sorted(value),
                // ECS answers "" for members of the task that were not given.
                _ if value.as_str() == Some("") => continue,
                "networkMode" if value.as_str() == Some("bridge") => continue,
                _ => tidy(value),
            };
            if !says_nothing(&value) {
                members.insert(name.clone(), value);
            }
        }
        Self(Value::Object(members))
    }

    /// SHA-256 of it, whatever the order of its members.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(in_order(&self.0).to_string().as_bytes())
    }

    /// Every difference, named as in a flow file where a flow file can say it. Values of
    /// variables are shown as keyed digests.
    #[must_use]
    pub fn changes_to(&self, wanted: &Self, sealer: &Sealer) -> Vec<Change> {
        let containers =
            |value: &Value| value.get("containerDefinitions").and_then(Value::as_object).map_or(0, Map::len);
        let walk = Walk { alone: containers(&self.0) <= 1 && containers(&wanted.0) <= 1, sealer };
        let mut changes = Vec::new();
        walk.compare(&mut Vec::new(), Some(&self.0), Some(&wanted.0), &mut changes);
        changes
    }
}

/// The digest of a reference that has one, else the whole.
#[must_use]
pub fn image_form(image: &str) -> &str {
    image.rsplit_once('@').map_or(image, |(_, digest)| digest)
}

fn container_form(container: &Value, awsvpc: bool) -> Value {
    let mut members = Map::new();
    for (name, value) in container.as_object().into_iter().flatten() {
        let value = match name.as_str() {
            "name" => continue,
            "image" => image_form(value.as_str().unwrap_or_default()).into(),
            "environment" => keyed(value, |entry| text(entry, "name"), |entry| member(entry, "value")),
            "secrets" => keyed(value, |entry| text(entry, "name"), |entry| member(entry, "valueFrom")),
            "portMappings" => keyed(value, port_name, |port| port_form(port, awsvpc)),
            "mountPoints" => keyed(value, |mount| text(mount, "containerPath"), mount_form),
            "ulimits" => keyed(value, |limit| text(limit, "name"), tidy),
            "systemControls" => keyed(value, |control| text(control, "namespace"), tidy),
            "dependsOn" => keyed(value, |other| text(other, "containerName"), tidy),
            "healthCheck" => without_defaults(value, &[("interval", 30), ("timeout", 5), ("retries", 3)]),
            // Defaults that ECS fills in.
            "cpu" if value.as_i64() == Some(0) => continue,
            "essential" if value.as_bool() == Some(true) => continue,
            "versionConsistency" if value.as_str() == Some("enabled") => continue,
            _ => tidy(value),
        };
        if !says_nothing(&value) {
            members.insert(name.clone(), value);
        }
    }
    // A container without any of this is still a container.
    Value::Object(members)
}

fn port_name(port: &Value) -> String {
    let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("tcp");
    let number = port.get("containerPort").or_else(|| port.get("containerPortRange"));
    format!("{}/{protocol}", number.map(shown).unwrap_or_default())
}

fn port_form(port: &Value, awsvpc: bool) -> Value {
    let mut port = tidy(port);
    if let Some(members) = port.as_object_mut() {
        let host = members.get("hostPort").and_then(Value::as_i64);
        // 0 is "any"; with awsvpc ECS answers the container's own.
        if host == Some(0) || (awsvpc && host == members.get("containerPort").and_then(Value::as_i64)) {
            members.shift_remove("hostPort");
        }
        if members.get("protocol").and_then(Value::as_str) == Some("tcp") {
            members.shift_remove("protocol");
        }
    }
    port
}

fn mount_form(mount: &Value) -> Value {
    let mut mount = tidy(mount);
    if let Some(members) = mount.as_object_mut()
        && members.get("readOnly").and_then(Value::as_bool) == Some(false)
    {
        members.shift_remove("readOnly");
    }
    mount
}

/// Without numbers that ECS fills in.
fn without_defaults(value: &Value, defaults: &[(&str, i64)]) -> Value {
    let mut value = tidy(value);
    if let Some(members) = value.as_object_mut() {
        for (name, default) in defaults {
            if members.get(*name).and_then(Value::as_i64) == Some(*default) {
                members.shift_remove(*name);
            }
        }
    }
    value
}

/// A list of things with names as an object; what has the same name twice keeps both.
fn keyed(list: &Value, name: impl Fn(&Value) -> String, form: impl Fn(&Value) -> Value) -> Value {
    let mut object = Map::new();
    for item in list.as_array().into_iter().flatten() {
        let mut key = name(item);
        while object.contains_key(&key) {
            key.push('\'');
        }
        object.insert(key, form(item));
    }
    Value::Object(object)
}

/// Without members that say nothing. Elements of lists stay: `["a", ""]` is not `["a"]`.
fn tidy(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), tidy(value)))
            .filter(|(_, value)| !says_nothing(value))
            .collect(),
        Value::Array(items) => items.iter().map(tidy).collect(),
        other => other.clone(),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn sorted(list: &Value) -> Value {
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.sort_by_key(ToString::to_string);
    Value::Array(items)
}

fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            members.into_iter().map(|(name, value)| (name.clone(), in_order(value))).collect()
        }
        Value::Array(items) => items.iter().map(in_order).collect(),
        other => other.clone(),
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).map(shown).unwrap_or_default()
}

fn member(value: &Value, name: &str) -> Value {
    value.get(name).cloned().unwrap_or_default()
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

struct Walk<'s> {
    /// There is one container, which then needs no name.
    alone: bool,
    /// For the values of variables.
    sealer: &'s Sealer,
}

impl Walk<'_> {
    fn compare<'a>(
        &self,
        path: &mut Vec<&'a str>,
        from: Option<&'a Value>,
        to: Option<&'a Value>,
        changes: &mut Vec<Change>,
    ) {
        if from == to {
            return;
        }
        let members = |value: Option<&'a Value>| value.and_then(Value::as_object);
        let both = from.is_none_or(Value::is_object) && to.is_none_or(Value::is_object);
        // A whole container that comes or goes is one change.
        let whole =
            matches!(path.as_slice(), ["containerDefinitions", _]) && (from.is_none() || to.is_none());
        if !both || whole {
            let show = |value: Option<&Value>| value.map(|value| show_at(path, value, self.sealer));
            changes.push(Change::new(self.name(path), show(from), show(to)));
            return;
        }
        let (from, to) = (members(from), members(to));
        let old = from.into_iter().flatten().map(|(name, _)| name);
        let new = to.into_iter().flatten().map(|(name, _)| name);
        let new = new.filter(|name| !from.is_some_and(|from| from.contains_key(*name)));
        for name in old.chain(new) {
            path.push(name);
            let inner = |members: Option<&'a Map<String, Value>>| members.and_then(|all| all.get(name));
            self.compare(path, inner(from), inner(to), changes);
            path.pop();
        }
    }

    fn name(&self, path: &[&str]) -> String {
        match path {
            ["containerDefinitions", container, rest @ ..] => {
                let inner = match rest {
                    [] => return format!("container {container}"),
                    ["environment", name] => format!("env {name}"),
                    ["secrets", name] => format!("secret {name}"),
                    ["portMappings", name, rest @ ..] => joined(&format!("port {name}"), rest),
                    [first, rest @ ..] => joined(first, rest),
                };
                if self.alone { inner } else { format!("{container} {inner}") }
            }
            ["tags", name] => format!("tag {name}"),
            // Containers have these too.
            [first @ ("cpu" | "memory")] => format!("task {first}"),
            [first, rest @ ..] => joined(first, rest),
            [] => "definition".to_owned(),
        }
    }
}

fn joined(first: &str, rest: &[&str]) -> String {
    rest.iter().fold(first.to_owned(), |name, part| format!("{name}.{part}"))
}

fn show_at(path: &[&str], value: &Value, sealer: &Sealer) -> String {
    match path {
        ["containerDefinitions", _, "environment", _] => {
            short_digest(&masked_value(sealer, value.as_str().unwrap_or_default()))
        }
        ["containerDefinitions", _, "image"] => short_image(value.as_str().unwrap_or_default()),
        ["containerDefinitions", _] => {
            short_image(value.get("image").and_then(Value::as_str).unwrap_or_default())
        }
        _ => shown(value),
    }
}

/// `sha256:93ab04c1d2e7`, or the reference when it has no digest.
#[must_use]
pub fn short_image(image: &str) -> String {
    let form = image_form(image);
    if form.starts_with("sha256:") { short_digest(form) } else { form.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::world::aws::ecs::Registered;
    use crate::world::store::Store;

    fn one(container: &Value) -> Canonical {
        let definition = json!({ "family": "shop", "containerDefinitions": [container] });
        Canonical::of(&Definition::of(&Registered { definition, tags: Vec::new() }))
    }

    fn task(members: &Value) -> Canonical {
        let mut definition =
            json!({ "family": "shop", "containerDefinitions": [{ "name": "api", "image": "a" }] });
        definition.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        Canonical::of(&Definition::of(&Registered { definition, tags: Vec::new() }))
    }

    fn changes(from: &Canonical, to: &Canonical) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::load(&Store::folder(folder.path().to_owned())).unwrap();
        from.changes_to(to, &sealer).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_means_the_same_is_equal() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let same = [
            (
                json!({ "name": "api", "image": format!("r/api:v1@{digest}"), "environment": [
                    { "name": "A", "value": "1" }, { "name": "B", "value": "2" }] }),
                json!({ "image": format!("r/api@{digest}"), "name": "api", "cpu": 0, "essential": true, "links": [],
                    "environment": [{ "value": "2", "name": "B" }, { "name": "A", "value": "1" }], "mountPoints": [] }),
            ),
            (
                json!({ "name": "api", "portMappings": [{ "containerPort": 80 }, { "containerPort": 81, "protocol": "udp" }] }),
                json!({ "name": "api", "portMappings": [
                    { "containerPort": 81, "protocol": "udp" }, { "containerPort": 80, "hostPort": 0, "protocol": "tcp" }] }),
            ),
            (
                json!({ "name": "api", "healthCheck": { "command": ["CMD", "x"] } }),
                json!({ "name": "api", "healthCheck": { "command": ["CMD", "x"], "interval": 30, "timeout": 5, "retries": 3 } }),
            ),
        ];
        for (a, b) in same {
            let (a, b) = (one(&a), one(&b));
            assert_eq!(changes(&a, &b), Vec::<String>::new());
            assert_eq!(a.digest(), b.digest());
        }
        let described = json!({ "pidMode": "", "taskRoleArn": "", "networkMode": "bridge", "volumes": [], "ipcMode": null });
        assert_eq!(task(&described), task(&json!({})));
    }

    #[test]
    fn what_means_something_else_is_a_change_in_the_words_of_a_flow_file() {
        let digest = |c: &str| format!("r@sha256:{}", c.repeat(64));
        let table = [
            (
                json!({ "image": digest("a") }),
                json!({ "image": digest("b") }),
                "image  sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb",
            ),
            (
                json!({ "image": "r:v1" }),
                json!({ "image": digest("b") }),
                "image  r:v1 → sha256:bbbbbbbbbbbb",
            ),
            (json!({ "memory": 512 }), json!({ "memory": 1024 }), "memory  512 → 1024"),
            (json!({ "command": ["a", ""] }), json!({ "command": ["a"] }), "command  [\"a\",\"\"] → [\"a\"]"),
            (json!({}), json!({ "command": ["a"] }), "command  [\"a\"]"),
            (json!({ "essential": false }), json!({}), "essential  false → none"),
            (
                json!({ "secrets": [{ "name": "K", "valueFrom": "arn:1" }] }),
                json!({ "secrets": [{ "name": "K", "valueFrom": "arn:2" }] }),
                "secret K  arn:1 → arn:2",
            ),
            (
                json!({ "portMappings": [{ "containerPort": 80 }] }),
                json!({ "portMappings": [{ "containerPort": 80, "hostPort": 8080 }] }),
                "port 80/tcp.hostPort  8080",
            ),
            (
                json!({ "notInventedYet": { "deep": 1 } }),
                json!({ "notInventedYet": { "deep": 2 } }),
                "notInventedYet.deep  1 → 2",
            ),
        ];
        for (from, to, wanted) in table {
            let named = |mut container: Value| {
                container["name"] = "api".into();
                one(&container)
            };
            assert_eq!(changes(&named(from), &named(to)), [wanted]);
        }
        assert_eq!(
            changes(&task(&json!({ "cpu": "256" })), &task(&json!({ "cpu": "512" }))),
            ["task cpu  256 → 512"]
        );
    }

    #[test]
    fn values_of_variables_are_never_shown() {
        let with =
            |value: &str| one(&json!({ "name": "api", "environment": [{ "name": "A", "value": value }] }));
        let shown = changes(&with("hunter2"), &with("hunter3"));
        assert!(shown[0].starts_with("env A  hmac:"), "{shown:?}");
        assert!(!shown[0].contains("hunter"), "{shown:?}");
    }

    #[test]
    fn several_containers_are_named() {
        let both = |memory: i64| {
            task(
                &json!({ "containerDefinitions": [{ "name": "log", "image": "l" }, { "name": "api", "memory": memory }] }),
            )
        };
        assert_eq!(changes(&both(1), &both(2)), ["api memory  1 → 2"]);
        assert_eq!(
            changes(&task(&json!({})), &both(2)),
            ["api image  a → none", "api memory  2", "container log  l"]
        );
    }
}
