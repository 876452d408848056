//! `terraform show -json` of a plan file: what would change, without a value.
//!
//! Terraform prints sensitive values in the clear and marks them in parallel
//! trees: `true` where a value is sensitive, the same shape where something
//! below it is.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::model::secret::Secret;
use crate::model::value::{Outputs, Value};
use crate::steps::Failure;
use crate::steps::infra::{Op, Preview, ResourceChange, canonical};
use crate::world::keyed::Sealer;

/// What stands in a value's place.
const HIDDEN: &str = "(sensitive)";

/// A plan, read.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// What would change.
    pub preview: Preview,
    /// The outputs that are known already.
    pub outputs: Outputs,
    /// How many resources there are afterwards.
    pub resources: usize,
    /// Whether the state has any resource now.
    pub managed_before: bool,
}

impl Shown {
    /// Reads it.
    pub(super) fn read(json: &Json, sealer: &Sealer) -> Result<Self, Failure> {
        let version = json["format_version"].as_str().unwrap_or_default();
        if !version.starts_with("1.") {
            return Err(Failure::new(format!(
                "terraform show speaks another language: format \"{version}\""
            )));
        }
        let rows = json["resource_changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let changes = rows.iter().filter_map(|row| change(row, sealer)).collect();
        let mut names = Vec::new();
        let mut values = Map::new();
        for (name, output) in json["output_changes"].as_object().into_iter().flatten() {
            if actions(output) != ["no-op"] {
                names.push(name.clone());
                values.insert(
                    name.clone(),
                    json!([output["actions"], output["after"], output["after_unknown"]]),
                );
            }
        }
        let preview = Preview::new(changes).with_outputs(names, &Json::Object(values), sealer);
        Ok(Self {
            preview,
            outputs: super::outputs(&json["planned_values"]["outputs"]),
            resources: count(&json["planned_values"]["root_module"]),
            managed_before: count(&json["prior_state"]["values"]["root_module"]) > 0,
        })
    }
}

/// The managed resources of a module and those below it.
fn count(module: &Json) -> usize {
    let own = module["resources"].as_array().into_iter().flatten();
    let below = module["child_modules"].as_array().into_iter().flatten();
    own.filter(|resource| resource["mode"] == "managed").count() + below.map(count).sum::<usize>()
}

fn actions(change: &Json) -> Vec<&str> {
    change["actions"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

/// One row; `None` where nothing happens.
fn change(row: &Json, sealer: &Sealer) -> Option<ResourceChange> {
    let change = &row["change"];
    let id = row["address"].as_str()?;
    let kind = row["type"].as_str().unwrap_or_default();
    let moved = row["previous_address"].as_str().filter(|before| *before != id);
    let op = match actions(change).as_slice() {
        ["create"] => Op::Create,
        ["delete"] => Op::Delete,
        ["read"] => Op::Read,
        ["delete", "create"] | ["create", "delete" | "forget"] => Op::Replace,
        ["forget"] => Op::Forget,
        ["no-op"] if change["importing"].is_object() => Op::Import,
        ["no-op"] if moved.is_none() => return None,
        // An update, another address, or something newer than this: an update is the least that it can be.
        _ => Op::Update,
    };
    let mut keys = differing(change);
    if op == Op::Create || op == Op::Delete {
        keys.clear();
    }
    if let Some(before) = moved {
        keys.push(format!("address, which was {before}"));
    }
    let decides = json!([moved, values(change, op)]);
    let reasons = reasons(row);
    Some(ResourceChange { keys, reasons, ..ResourceChange::new(id, kind, op) }.seal(&decides, sealer))
}

/// Names of the properties that differ, or are known only afterwards.
fn differing(change: &Json) -> Vec<String> {
    let names = |part: &Json| part.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let mut all: BTreeSet<String> = names(&change["before"]);
    all.extend::<BTreeSet<String>>(names(&change["after"]));
    all.extend::<BTreeSet<String>>(names(&change["after_unknown"]));
    let differs = |name: &String| {
        is_marked(&change["after_unknown"][name])
            || canonical(&change["before"][name]) != canonical(&change["after"][name])
    };
    all.into_iter().filter(differs).collect()
}

/// What decides whether two previews are the same: all of what comes, and of what is there what differs.
fn values(change: &Json, op: Op) -> Json {
    if op == Op::Delete {
        return Json::Null;
    }
    let before: Map<String, Json> =
        differing(change).into_iter().map(|name| (name.clone(), change["before"][&name].clone())).collect();
    json!([before, change["after"], change["after_unknown"]])
}

/// Whether anything in a tree of marks is marked.
fn is_marked(marks: &Json) -> bool {
    match marks {
        Json::Bool(marked) => *marked,
        Json::Array(items) => items.iter().any(is_marked),
        Json::Object(object) => object.values().any(is_marked),
        _ => false,
    }
}

/// What makes it a replacement: properties, or else Terraform's word for it.
fn reasons(row: &Json) -> Vec<String> {
    let paths = row["change"]["replace_paths"].as_array().into_iter().flatten();
    let mut reasons: Vec<String> =
        paths.filter_map(|path| Some(path.as_array()?.first()?.as_str()?.to_owned())).collect();
    if reasons.is_empty() {
        let word = match row["action_reason"].as_str().unwrap_or_default() {
            "replace_because_tainted" => "its creation had failed",
            "replace_by_request" => "asked for",
            "replace_by_triggers" => "its triggers",
            _ => return reasons,
        };
        reasons.push(word.to_owned());
    }
    reasons
}

/// The same plan without its sensitive values, for a policy.
pub(super) fn hidden(json: &Json) -> Json {
    let mut shown = json.clone();
    hide_marked(&mut shown);
    // A provider may copy a sensitive value into an attribute that nobody marked.
    let mut values = BTreeSet::new();
    collect_hidden(json, &shown, &mut values);
    values.retain(|value| value.len() >= SHORTEST);
    hide_everywhere(&mut shown, &values);
    shown
}

/// Shorter texts are words of everyday use, and no secret could be told by them.
const SHORTEST: usize = 4;

/// The texts that stand in `json` where `shown` hides something.
fn collect_hidden(json: &Json, shown: &Json, into: &mut BTreeSet<String>) {
    match (json, shown) {
        (_, Json::String(word)) if word == HIDDEN => texts(json, into),
        (Json::Object(before), Json::Object(after)) => {
            for (name, value) in before {
                collect_hidden(value, after.get(name).unwrap_or(&Json::Null), into);
            }
        }
        (Json::Array(before), Json::Array(after)) => {
            before.iter().zip(after).for_each(|(before, after)| collect_hidden(before, after, into));
        }
        _ => {}
    }
}

fn texts(json: &Json, into: &mut BTreeSet<String>) {
    match json {
        Json::String(text) => drop(into.insert(text.clone())),
        Json::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Json::Object(object) => object.values().for_each(|value| texts(value, into)),
        _ => {}
    }
}

fn hide_everywhere(json: &mut Json, values: &BTreeSet<String>) {
    match json {
        Json::String(text) if values.iter().any(|value| text.contains(value)) => *json = json!(HIDDEN),
        Json::Array(items) => items.iter_mut().for_each(|item| hide_everywhere(item, values)),
        Json::Object(object) => object.values_mut().for_each(|value| hide_everywhere(value, values)),
        _ => {}
    }
}

/// Hides what Terraform says is sensitive.
fn hide_marked(json: &mut Json) {
    for part in ["resource_changes", "resource_drift"] {
        for row in rows(json, part) {
            hide_change(&mut row["change"]);
        }
    }
    if let Some(outputs) = json.get_mut("output_changes").and_then(Json::as_object_mut) {
        outputs.values_mut().for_each(hide_change);
    }
    hide_values(&mut json["planned_values"]);
    if let Some(values) = json.get_mut("prior_state").and_then(|state| state.get_mut("values")) {
        hide_values(values);
    }
    // Which variables are sensitive the configuration says; those of modules have no values here.
    let declared = json["configuration"]["root_module"]["variables"].clone();
    if let Some(variables) = json.get_mut("variables").and_then(Json::as_object_mut) {
        for (name, variable) in variables {
            if declared[name]["sensitive"].as_bool().unwrap_or(false) {
                variable["value"] = json!(HIDDEN);
            }
        }
    }
    let declared = json.pointer_mut("/configuration/root_module/variables").and_then(Json::as_object_mut);
    for variable in declared.into_iter().flat_map(serde_json::Map::values_mut) {
        if variable["sensitive"] == true && variable.get("default").is_some() {
            variable["default"] = json!(HIDDEN);
        }
    }
}

fn rows<'a>(json: &'a mut Json, name: &str) -> Vec<&'a mut Json> {
    json.get_mut(name).and_then(Json::as_array_mut).map(|rows| rows.iter_mut().collect()).unwrap_or_default()
}

fn hide_change(change: &mut Json) {
    for (part, marks) in [("before", "before_sensitive"), ("after", "after_sensitive")] {
        let marks = change[marks].clone();
        if let Some(value) = change.get_mut(part) {
            hide(value, &marks);
        }
    }
}

/// `planned_values` or the values of a state.
fn hide_values(values: &mut Json) {
    if let Some(outputs) = values.get_mut("outputs").and_then(Json::as_object_mut) {
        for output in outputs.values_mut().filter(|output| output["sensitive"] == true) {
            if output.get("value").is_some() {
                output["value"] = json!(HIDDEN);
            }
        }
    }
    if let Some(module) = values.get_mut("root_module") {
        hide_module(module);
    }
}

fn hide_module(module: &mut Json) {
    for resource in rows(module, "resources") {
        let marks = resource["sensitive_values"].clone();
        if let Some(values) = resource.get_mut("values") {
            hide(values, &marks);
        }
    }
    rows(module, "child_modules").into_iter().for_each(hide_module);
}

/// Hides what is marked.
fn hide(value: &mut Json, marks: &Json) {
    match (&mut *value, marks) {
        (Json::Null, _) => {}
        (_, Json::Bool(true)) => *value = json!(HIDDEN),
        (Json::Object(object), Json::Object(marks)) => {
            for (name, marks) in marks {
                if let Some(value) = object.get_mut(name) {
                    hide(value, marks);
                }
            }
        }
        (Json::Array(items), Json::Array(marks)) => {
            items.iter_mut().zip(marks).for_each(|(item, marks)| hide(item, marks));
        }
        _ => {}
    }
}

/// A sensitive value; what is no text keeps its JSON.
pub(super) fn as_secret(value: &Json) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Value::Secret(Secret::new(text))
}

#[cfg(test)]
mod tests;
