//! What differs between a plan that was made before and the world now.
//!
//! Every difference is named as the operator knows it: the file, the setting,
//! the fact of the world. Values of settings are not shown, since they may be
//! private; that they differ is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value as Json;

use crate::model::kind::Nature;
use crate::model::names::{StepId, StepName};
use crate::steps;

use super::basis::Basis;
use super::document::{Plan, PlannedStep};

type Rows = std::collections::BTreeMap<String, String>;

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step; `None` for what all steps share.
    pub step: Option<StepId>,
    /// What differs: `task definition`, `container api memory`, `backend/api/main.c`.
    pub what: String,
    /// How it was when the plan was made; `None` when there was none, or when it is not shown.
    pub from: Option<String>,
    /// How it is now.
    pub to: Option<String>,
    /// Where.
    pub side: Side,
    /// What to say when neither value is shown.
    pub how: How,
}

/// Where a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// In the world.
    World,
    /// In files, parameters, secrets, flow itself.
    Project,
}

/// How something that is not shown differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is another one.
    Changed,
    /// There was none.
    Added,
    /// There is none.
    Removed,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = &self.what;
        match (&self.from, &self.to, self.how) {
            (Some(from), Some(to), _) => write!(f, "{what} {from} → {}", after(from, to)),
            (None, Some(to), _) => write!(f, "{what} {to} is new"),
            (Some(from), None, _) => write!(f, "{what} {from} is gone"),
            (None, None, How::Changed) => write!(f, "{what} changed"),
            (None, None, How::Added) => write!(f, "{what} is new"),
            (None, None, How::Removed) => write!(f, "{what} is gone"),
        }
    }
}

/// `shop-api:43` after `shop-api:41` is `:43`.
fn after<'a>(from: &str, to: &'a str) -> &'a str {
    match (from.rsplit_once(':'), to.rsplit_once(':')) {
        (Some((family, _)), Some((same, number)))
            if family == same && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            &to[same.len()..]
        }
        _ => to,
    }
}

/// What differs. `done` are the steps that a resumed run has finished: they are not compared, nor
/// is what hangs on them and could not be known before.
#[must_use]
pub fn differences(saved: &Plan, fresh: &Plan, done: &BTreeSet<StepId>) -> Vec<Difference> {
    let mut found = Vec::new();
    common(saved, fresh, &mut found);
    let old: HashSet<&StepId> = saved.steps.iter().map(|step| &step.id).collect();
    let new: HashMap<&StepId, &PlannedStep> = fresh.steps.iter().map(|step| (&step.id, step)).collect();
    for before in saved.steps.iter().filter(|step| !done.contains(&step.id)) {
        match new.get(&before.id) {
            Some(now) => Compared { before, now, fresh, done }.add(&mut found),
            None => found.push(project(Some(&before.id), "the step", How::Removed)),
        }
    }
    for now in fresh.steps.iter().filter(|step| !old.contains(&step.id)) {
        found.push(project(Some(&now.id), "the step", How::Added));
    }
    // A file that a step names as its input is named there.
    let inputs: BTreeSet<String> =
        found.iter().filter(|found| found.step.is_some()).map(|found| found.what.clone()).collect();
    found.retain(|found| found.step.is_some() || !inputs.contains(&found.what));
    if found.is_empty() && done.is_empty() && saved.digest != fresh.digest {
        // Whatever the digest covers and nothing above names.
        found.push(valued(None, "plan", &short(&saved.digest), &short(&fresh.digest), Side::Project));
    }
    found
}

fn project(step: Option<&StepId>, what: impl Into<String>, how: How) -> Difference {
    Difference { step: step.cloned(), what: what.into(), from: None, to: None, side: Side::Project, how }
}

fn valued(step: Option<&StepId>, what: impl Into<String>, from: &str, to: &str, side: Side) -> Difference {
    Difference {
        step: step.cloned(),
        what: what.into(),
        from: Some(from.to_owned()),
        to: Some(to.to_owned()),
        side,
        how: How::Changed,
    }
}

/// What all steps share.
fn common(saved: &Plan, fresh: &Plan, found: &mut Vec<Difference>) {
    let mut say = |what: &str, from: &str, to: &str| {
        if from != to {
            found.push(valued(None, what, from, to, Side::Project));
        }
    };
    say("flow", &saved.flow_version, &fresh.flow_version);
    let (was, is) = (&saved.environment, &fresh.environment);
    let none = || "none".to_owned();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(none);
    say("account", &text(&was.account), &text(&is.account));
    say("region", &text(&was.region), &text(&is.region));
    let release = |plan: &Plan| plan.back_to.map_or_else(none, |id| id.to_string());
    say("release to go back to", &release(saved), &release(fresh));
    let hosts: BTreeSet<&StepName> =
        saved.inside.iter().chain(&fresh.inside).map(|inside| &inside.step).collect();
    for host in hosts {
        let release = |plan: &Plan| {
            let inside = plan.inside.iter().find(|inside| inside.step == *host);
            inside.map_or_else(none, |inside| format!("{} of {}", inside.back_to, inside.flow))
        };
        say(&format!("release that {host} goes back to"), &release(saved), &release(fresh));
    }
    let names = union(saved.selection.params.keys().chain(fresh.selection.params.keys()));
    for name in names {
        let value = |plan: &Plan| plan.selection.params.get(name).map_or_else(none, show);
        say(&format!("parameter {name}"), &value(saved), &value(fresh));
    }
    let (was, is) = (&saved.basis, &fresh.basis);
    let settings = union(was.settings.keys().chain(is.settings.keys()));
    for name in settings {
        let value = |rows: &Rows| rows.get(name).cloned().unwrap_or_else(none);
        say(name, &value(&was.settings), &value(&is.settings));
    }
    rows(None, "secret ", texts(&was.secrets), texts(&is.secrets), found);
    rows(None, "", texts(&was.tree), texts(&is.tree), found);
    if saved.policy != fresh.policy {
        found.push(project(None, "who may approve", How::Changed));
    }
    if saved.selection.from_release != fresh.selection.from_release {
        found.push(project(None, "what is taken from the last release", How::Changed));
    }
}

/// One step then and now.
struct Compared<'a> {
    before: &'a PlannedStep,
    now: &'a PlannedStep,
    fresh: &'a Plan,
    done: &'a BTreeSet<StepId>,
}

impl Compared<'_> {
    fn add(&self, found: &mut Vec<Difference>) {
        let id = Some(&self.before.id);
        let at_first = found.len();
        if self.before.kind != self.now.kind {
            found.push(valued(id, "kind", &self.before.kind, &self.now.kind, Side::Project));
        }
        if self.before.needs != self.now.needs {
            found.push(project(id, "what it waits for", How::Changed));
        }
        let (was, is) = (&self.before.basis, &self.now.basis);
        rows(id, "", was.definition.iter(), is.definition.iter(), found);
        rows(id, "", texts(&was.inputs), texts(&is.inputs), found);
        self.tools(was, is, found);
        self.handed(was, is, found);
        if self.baseline_holds() {
            for mut fact in facts(&was.baseline, &is.baseline) {
                fact.step = id.cloned();
                found.push(fact);
            }
        }
        if found.len() == at_first && !self.hangs_on_done() && (was.decided || is.decided) {
            self.decision(found);
        }
    }

    fn tools(&self, was: &Basis, is: &Basis, found: &mut Vec<Difference>) {
        let first = |text: &String| text.lines().next().unwrap_or_default().to_owned();
        for tool in union(was.tools.keys().chain(is.tools.keys())) {
            let (from, to) = (was.tools.get(tool), is.tools.get(tool));
            if from != to {
                found.push(Difference {
                    from: from.map(first),
                    to: to.map(first),
                    ..project(Some(&self.before.id), format!("tool {tool}"), How::Changed)
                });
            }
        }
    }

    fn handed(&self, was: &Basis, is: &Basis, found: &mut Vec<Difference>) {
        for reference in was.handed.names().chain(is.handed.names()).collect::<BTreeSet<_>>() {
            let owner = owner(reference);
            let by_done =
                self.done.iter().any(|done| done.to_string() == owner || done.name.as_str() == owner);
            if !by_done && was.handed.get(reference) != is.handed.get(reference) {
                let changed = project(Some(&self.before.id), reference, How::Changed);
                found.push(Difference { side: Side::World, ..changed });
            }
        }
    }

    fn hangs_on_done(&self) -> bool {
        self.now.hangs_on.iter().any(|step| self.done.contains(step))
    }

    /// What could not be observed before a step that is done now is not compared, nor what an
    /// infrastructure step of this run may have changed.
    fn baseline_holds(&self) -> bool {
        let waited = self.before.basis.after.as_ref().is_some_and(|after| self.done.contains(after));
        let infrastructure = |step: &PlannedStep| {
            steps::kind(&step.kind).is_some_and(|kind| kind.spec.nature == Nature::Infrastructure)
        };
        let mut in_front = self.now.hangs_on.iter().filter(|step| self.done.contains(step));
        !waited && !in_front.any(|step| self.fresh.step(step).is_some_and(infrastructure))
    }

    /// The same facts and another decision.
    fn decision(&self, found: &mut Vec<Difference>) {
        let id = Some(&self.before.id);
        let word = |step: &PlannedStep| step.action.name().replace('-', " ");
        if self.before.action != self.now.action {
            let (from, to) = (word(self.before), word(self.now));
            found.push(valued(id, "what it would do:", &from, &to, Side::World));
            return;
        }
        for change in &self.now.changes {
            if !self.before.changes.contains(change) {
                let before = self.before.changes.iter().find(|was| was.what == change.what);
                let changed =
                    project(id, &change.what, if before.is_some() { How::Changed } else { How::Added });
                found.push(Difference { side: Side::World, ..changed });
            }
        }
        for change in &self.before.changes {
            if !self.now.changes.iter().any(|now| now.what == change.what) {
                found.push(Difference { side: Side::World, ..project(id, &change.what, How::Removed) });
            }
        }
    }
}

/// `image[api]` of `step.image[api].uri`.
fn owner(reference: &str) -> &str {
    let inside = reference.strip_prefix("step.").unwrap_or(reference);
    inside.rsplit_once('.').map_or(inside, |(owner, _)| owner)
}

/// Each of these names once.
fn union<'a>(names: impl Iterator<Item = &'a String>) -> BTreeSet<&'a String> {
    names.collect()
}

fn texts(rows: &Rows) -> impl Iterator<Item = (&str, &String)> {
    rows.iter().map(|(name, text)| (name.as_str(), text))
}

/// Rows whose values are digests.
fn rows<'a, V: PartialEq>(
    step: Option<&StepId>,
    before: &str,
    was: impl Iterator<Item = (&'a str, V)>,
    is: impl Iterator<Item = (&'a str, V)>,
    found: &mut Vec<Difference>,
) {
    let (was, is): (BTreeMap<&str, V>, BTreeMap<&str, V>) = (was.collect(), is.collect());
    for name in was.keys().chain(is.keys()).collect::<BTreeSet<_>>() {
        let how = match (was.get(name), is.get(name)) {
            (Some(was), Some(is)) if was == is => continue,
            (None, _) => How::Added,
            (_, None) => How::Removed,
            _ => How::Changed,
        };
        found.push(project(step, format!("{before}{name}"), how));
    }
}

/// What differs between two observations.
#[must_use]
pub fn facts(was: &Json, is: &Json) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", was, is, &mut found);
    found
}

fn walk(path: &str, was: &Json, is: &Json, found: &mut Vec<Difference>) {
    if was == is {
        return;
    }
    let world = |what: &str, from: Option<String>, to: Option<String>| Difference {
        step: None,
        what: if what.is_empty() { "what is there".to_owned() } else { what.to_owned() },
        from,
        to,
        side: Side::World,
        how: How::Changed,
    };
    match (was, is) {
        (Json::Object(was), Json::Object(is)) => {
            for name in union(was.keys().chain(is.keys())) {
                let below = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
                let value =
                    |from: &serde_json::Map<String, Json>| from.get(name).cloned().unwrap_or_default();
                walk(&below, &value(was), &value(is), found);
            }
        }
        (Json::Array(was), Json::Array(is)) => {
            let gone = was.iter().filter(|item| !is.contains(item));
            let new = is.iter().filter(|item| !was.contains(item));
            let at_first = found.len();
            found.extend(gone.map(|item| world(path, Some(show(item)), None)));
            found.extend(new.map(|item| world(path, None, Some(show(item)))));
            if found.len() == at_first {
                found.push(world(&format!("the order of {path}"), None, None));
            }
        }
        (Json::Null, Json::Object(_)) => walk(path, &Json::Object(serde_json::Map::new()), is, found),
        (Json::Object(_), Json::Null) => walk(path, was, &Json::Object(serde_json::Map::new()), found),
        (Json::Null, Json::Array(_)) => walk(path, &Json::Array(Vec::new()), is, found),
        (Json::Array(_), Json::Null) => walk(path, was, &Json::Array(Vec::new()), found),
        (Json::Null, is) => found.push(world(path, Some("none".to_owned()), Some(show(is)))),
        (was, Json::Null) => found.push(world(path, Some(show(was)), Some("none".to_owned()))),
        (was, is) => found.push(world(path, Some(show(was)), Some(show(is)))),
    }
}

/// A value as text, digests shortened.
fn show(json: &Json) -> String {
    match json {
        Json::String(text) => short(text),
        Json::Object(members) => {
            let parts: Vec<String> = members.values().map(show).collect();
            parts.join(" ")
        }
        other => other.to_string(),
    }
}

/// Twelve digits of a digest; anything else as it is.
fn short(text: &str) -> String {
    let (before, digits) =
        text.split_once(':').filter(|(name, _)| name.starts_with("sha")).unwrap_or(("", text));
    let is_digest = digits.len() >= 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (is_digest, before) {
        (false, _) => text.to_owned(),
        (true, "") => digits.chars().take(12).collect(),
        (true, name) => format!("{name}:{}", digits.chars().take(12).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_named_as_the_operator_knows_them() {
        let said = |was: Json, is: Json| -> Vec<String> {
            facts(&was, &is).iter().map(ToString::to_string).collect()
        };
        let long = |digit: &str| format!("sha256:{}", digit.repeat(64));
        for (was, is, expected) in [
            (serde_json::json!({ "desired": 2 }), serde_json::json!({ "desired": 2 }), vec![]),
            (
                serde_json::json!({ "task definition": "shop-api:41", "desired": 2 }),
                serde_json::json!({ "desired": 3, "task definition": "shop-api:43" }),
                vec!["desired 2 → 3", "task definition shop-api:41 → :43"],
            ),
            (
                serde_json::json!({ "image": long("a") }),
                serde_json::json!({ "image": long("b") }),
                vec!["image sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb"],
            ),
            (
                serde_json::json!({ "objects": null }),
                serde_json::json!({ "objects": { "index.html": "5d41" } }),
                vec!["objects index.html none → 5d41"],
            ),
            (
                serde_json::json!({ "applied": ["1", "2"] }),
                serde_json::json!({ "applied": ["1", "3"] }),
                vec!["applied 2 is gone", "applied 3 is new"],
            ),
            (serde_json::json!({ "tags": { "a": "1" } }), Json::Null, vec!["tags a 1 → none"]),
        ] {
            assert_eq!(said(was, is), expected);
        }
    }
}
