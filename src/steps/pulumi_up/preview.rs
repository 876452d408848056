//! What `pulumi preview --json` says, in the form of all infrastructure kinds.
//!
//! One object with `steps`: their order differs between two runs of the same
//! program, a replacement is three of them, and what stays is one too. Only what
//! the program marks as secret is hidden in it, so values are digested and never
//! shown. Outputs of the stack are only in the plan that is saved with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::fault::{Diagnostic, lines_of};
use crate::steps::Failure;
use crate::steps::infra::{Op, Preview, ResourceChange};
use crate::world::keyed::Sealer;

/// A preview as the CLI gave it.
#[derive(Debug)]
pub(in crate::steps) struct Said {
    /// All of it; what the program marks as secret is hidden.
    pub json: Json,
    /// The plan that allows nothing else.
    pub plan: PathBuf,
    /// What the program or a provider wants to be known.
    pub warnings: Vec<String>,
    steps: Vec<Step>,
    outputs: BTreeMap<String, Json>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Digest {
    steps: Vec<Step>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Step {
    op: String,
    urn: String,
    old_state: Option<Resource>,
    new_state: Option<Resource>,
    diff_reasons: Option<Vec<String>>,
    replace_reasons: Option<Vec<String>>,
    detailed_diff: Option<BTreeMap<String, Json>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    #[serde(rename = "type")]
    kind: String,
    inputs: Json,
}

/// The type of the stack itself.
pub(super) const STACK: &str = "pulumi:pulumi:Stack";
const PROVIDERS: &str = "pulumi:providers:";

impl Said {
    /// Reads the one object, and the plan that was saved with it.
    pub(super) fn parse(text: &str, saved: &str, plan: PathBuf) -> Result<Self, Failure> {
        let unread = |error| Failure::new(format!("what pulumi preview said is no JSON: {error}"));
        let json: Json = serde_json::from_str(text).map_err(unread)?;
        let digest: Digest = serde_json::from_value(json.clone()).map_err(unread)?;
        let warnings = digest.diagnostics.iter().filter(|said| said.severity == "warning");
        // Each is said once for the preview and once for every plugin.
        let lines = warnings.flat_map(|said| lines_of(&said.message));
        let warnings: BTreeSet<String> =
            lines.map(|line| line.strip_prefix("warning: ").unwrap_or(&line).to_owned()).collect();
        let is_noise = |line: &String| line.contains("using pulumi-") && line.contains("from $PATH");
        let warnings = warnings.into_iter().filter(|line| !is_noise(line)).collect();
        Ok(Self { json, plan, warnings, steps: digest.steps, outputs: outputs(saved)? })
    }

    /// The changes of it.
    fn changes(&self, sealer: &Sealer) -> Vec<ResourceChange> {
        let mut by_urn: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
        for step in &self.steps {
            by_urn.entry(&step.urn).or_default().push(step);
        }
        by_urn.into_iter().filter_map(|(urn, steps)| change(urn, &steps, sealer)).collect()
    }

    /// In the form of all kinds.
    pub(in crate::steps) fn read(&self, sealer: &Sealer) -> Preview {
        let preview = Preview::new(self.changes(sealer));
        let names: Vec<String> = self.outputs.keys().cloned().collect();
        preview.with_outputs(names, &json!(self.outputs), sealer)
    }
}

/// The outputs of the stack that would be others, with their values. They are not in the preview; the
/// saved plan has them.
fn outputs(saved: &str) -> Result<BTreeMap<String, Json>, Failure> {
    let plan: Json = serde_json::from_str(saved)
        .map_err(|error| Failure::new(format!("the plan that pulumi saved is no JSON: {error}")))?;
    let plans = plan["resourcePlans"].as_object().into_iter().flatten();
    let stack = plans.map(|(_, plan)| plan).find(|plan| plan["goal"]["type"] == STACK);
    let Some(stack) = stack else { return Ok(BTreeMap::new()) };
    let diff = &stack["goal"]["outputDiff"];
    let set = ["adds", "updates"].into_iter().flat_map(|kind| diff[kind].as_object().into_iter().flatten());
    let gone = diff["deletes"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let gone = gone.map(|name| (name.to_owned(), Json::Null));
    Ok(set.map(|(name, value)| (name.clone(), without_ciphers(value))).chain(gone).collect())
}

/// A value in which what is encrypted, otherwise each time, is only called so.
fn without_ciphers(json: &Json) -> Json {
    match json {
        Json::Object(object) if object.contains_key("ciphertext") => json!("encrypted"),
        Json::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), without_ciphers(value))).collect()
        }
        Json::Array(items) => items.iter().map(without_ciphers).collect(),
        other => other.clone(),
    }
}

fn kind_of(step: &Step) -> &str {
    let state = step.new_state.as_ref().or(step.old_state.as_ref());
    state.map_or("", |state| state.kind.as_str())
}

/// What the steps of one resource come to; `None` when it stays as it is, or is none of the program's.
fn change(urn: &str, steps: &[&Step], sealer: &Sealer) -> Option<ResourceChange> {
    let kind = steps.iter().map(|step| kind_of(step)).find(|kind| !kind.is_empty()).unwrap_or_default();
    let name = urn.rsplit("::").next().unwrap_or_default();
    // The CLI makes and keeps those by itself.
    if kind == STACK || (kind.starts_with(PROVIDERS) && name.starts_with("default")) {
        return None;
    }
    let op = steps.iter().filter_map(|step| op(&step.op)).max_by_key(|op| match op {
        Op::Read => 0,
        Op::Forget => 1,
        Op::Import => 2,
        Op::Create => 3,
        Op::Update => 4,
        Op::Delete => 5,
        Op::Replace => 6,
    })?;
    let mut change = ResourceChange::new(shown(urn), kind, op);
    let mut values = Vec::new();
    for step in steps {
        let old = step.old_state.as_ref().map(|state| &state.inputs);
        let new = step.new_state.as_ref().map(|state| &state.inputs);
        change.keys.extend(step.detailed_diff.iter().flatten().map(|(path, _)| path.clone()));
        change.keys.extend(step.diff_reasons.iter().flatten().cloned());
        change.reasons.extend(step.replace_reasons.iter().flatten().cloned());
        if op == Op::Create {
            let names = new.and_then(Json::as_object).into_iter().flat_map(|inputs| inputs.keys());
            change.keys.extend(names.filter(|name| !name.starts_with("__")).cloned());
        }
        values.push((step.op.as_str(), json!([old, new])));
    }
    values.sort_by(|a, b| a.0.cmp(b.0));
    Some(change.seal(&json!(values), sealer))
}

/// The CLI's words for what it does to a resource.
fn op(word: &str) -> Option<Op> {
    Some(match word {
        "create" => Op::Create,
        "update" => Op::Update,
        "delete" => Op::Delete,
        "replace" | "create-replacement" | "delete-replaced" | "read-replacement" | "import-replacement" => {
            Op::Replace
        }
        "read" | "read-discard" | "refresh" => Op::Read,
        "import" => Op::Import,
        "discard" | "discard-replaced" | "remove-pending-replace" => Op::Forget,
        _ => return None,
    })
}

/// `ecr:Repository::api` of `urn:pulumi:dev::ohi::aws:ecr:Repository::api`: without what all resources
/// of a program share, and without parents.
pub(super) fn shown(urn: &str) -> String {
    let Some((_, tail)) = urn.split_once("::").and_then(|(_, rest)| rest.split_once("::")) else {
        return urn.to_owned();
    };
    let (types, name) = tail.rsplit_once("::").unwrap_or(("", tail));
    let kind = types.rsplit('$').next().unwrap_or_default();
    let kind = kind.split_once(':').map_or(kind, |(_, kind)| kind);
    format!("{kind}::{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::store::Store;

    fn sealer() -> Sealer {
        let folder = tempfile::tempdir().unwrap();
        Sealer::load(&Store::folder(folder.path().to_owned())).unwrap()
    }

    fn said(steps: &Json) -> Said {
        let text = json!({ "steps": steps, "diagnostics": [
            { "message": "<{%reset%}>old version<{%reset%}>\n", "severity": "warning" },
            { "message": "fine", "severity": "info" },
        ]});
        Said::parse(&text.to_string(), "{}", PathBuf::new()).unwrap()
    }

    fn step(op: &str, name: &str, value: &str) -> Json {
        json!({
            "op": op,
            "urn": format!("urn:pulumi:dev::shop::sandbox:index:Thing::{name}"),
            "oldState": { "type": "sandbox:index:Thing", "inputs": { "value": "old" } },
            "newState": { "type": "sandbox:index:Thing", "inputs": { "value": value } },
            "detailedDiff": { "value": { "kind": "update" } },
            "replaceReasons": null,
        })
    }

    #[test]
    fn a_replacement_is_one_change_and_what_stays_is_none() {
        let steps = json!([
            step("same", "a", "x"),
            step("update", "b", "x"),
            step("create-replacement", "c", "x"),
            step("replace", "c", "x"),
            step("delete-replaced", "c", "x"),
            { "op": "create", "urn": "urn:pulumi:dev::shop::pulumi:providers:sandbox::default",
              "newState": { "type": "pulumi:providers:sandbox" } },
            { "op": "create", "urn": "urn:pulumi:dev::shop::pulumi:pulumi:Stack::shop-dev",
              "newState": { "type": "pulumi:pulumi:Stack" } },
        ]);
        let said = said(&steps);
        assert_eq!(said.warnings, ["old version"]);
        let preview = said.read(&sealer());
        let shown: Vec<String> = preview.changes().iter().map(|c| c.shown().to_string()).collect();
        assert_eq!(shown, ["index:Thing::b  changed: value", "index:Thing::c  there → replaced: value"]);
        assert_eq!(preview.summary(), "1 changed, 1 replaced");
    }

    #[test]
    fn the_order_of_the_steps_does_not_count_and_values_do() {
        let sealer = sealer();
        let digest = |steps: &Json| said(steps).read(&sealer).digest();
        let (a, b) = (step("update", "a", "x"), step("update", "b", "x"));
        assert_eq!(digest(&json!([a, b])), digest(&json!([b, a])));
        assert_ne!(digest(&json!([a, b])), digest(&json!([a, step("update", "b", "y")])));
    }

    #[test]
    fn outputs_that_change_are_named() {
        let saved = |cipher: &str| {
            json!({ "resourcePlans": {
                "urn:pulumi:dev::shop::pulumi:pulumi:Stack::shop-dev": { "goal": {
                    "type": STACK,
                    "outputDiff": { "updates": { "url": "b" }, "deletes": ["old"], "adds": { "key": {
                        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
                        "ciphertext": cipher,
                    } } },
                } },
            } })
        };
        let sealer = sealer();
        let read = |cipher: &str| {
            let text = json!({ "steps": [] }).to_string();
            Said::parse(&text, &saved(cipher).to_string(), PathBuf::new()).unwrap().read(&sealer)
        };
        let proposal = read("one").proposal();
        assert_eq!(proposal.summary, "only outputs");
        let names: Vec<&str> = proposal.changes.iter().map(|change| change.what.as_str()).collect();
        assert_eq!(names, ["output key", "output old", "output url"]);
        assert_eq!(read("one").digest(), read("two").digest(), "ciphers are others each time");
    }
}
