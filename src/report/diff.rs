//! What differs between two releases.
//!
//! Releases hold the values that providers keep in the open as keyed digests,
//! so that nothing here can show one: it is only said that they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::look::{Color, Look, Mark};
use super::text;
use crate::journal::releases::{Recorded, Release};
use crate::model::names::StepId;

/// Version of the JSON object.
const VERSION: u32 = 1;

/// Widest column of what differs.
const WIDEST: usize = 40;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The step.
    pub id: StepId,
    /// What of it differs; empty when one release does not have the step.
    pub what: String,
    /// In the first release; absent when it is not there.
    pub from: Option<String>,
    /// In the second.
    pub to: Option<String>,
}

/// Every difference, by step.
#[must_use]
pub fn differences(from: &Release, to: &Release) -> Vec<Difference> {
    let ids: BTreeSet<&StepId> = from.steps.keys().chain(to.steps.keys()).collect();
    let mut found = Vec::new();
    for id in ids {
        match (from.steps.get(id), to.steps.get(id)) {
            (Some(old), Some(new)) => {
                let (old, new) = (facts(old), facts(new));
                let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for name in names.into_iter().filter(|name| old.get(*name) != new.get(*name)) {
                    found.push(Difference {
                        id: id.clone(),
                        what: name.clone(),
                        from: old.get(name).cloned(),
                        to: new.get(name).cloned(),
                    });
                }
            }
            (old, new) => found.push(Difference {
                id: id.clone(),
                what: String::new(),
                from: old.map(|recorded| recorded.kind.clone()),
                to: new.map(|recorded| recorded.kind.clone()),
            }),
        }
    }
    found
}

/// Every fact that a release records of a step, by its path. What a step hands on is often what its
/// state says too: then it is said once.
fn facts(recorded: &Recorded) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (name, value) in &recorded.outputs {
        facts.insert(name.clone(), value.as_text().unwrap_or_default());
    }
    let known: BTreeSet<String> = facts.values().cloned().collect();
    let mut state = BTreeMap::new();
    flatten("", &recorded.receipt, &mut state);
    facts.extend(state.into_iter().filter(|(_, value)| !known.contains(value)));
    facts
}

fn flatten(path: &str, json: &Json, into: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match json {
        Json::Null => {}
        Json::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, into)),
        // Items are told apart by their names where they have some: their order says nothing then.
        Json::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let name = item.get("name").or_else(|| item.get("key")).and_then(Json::as_str);
                let place = name.map_or_else(|| at.to_string(), str::to_owned);
                flatten(&format!("{path}[{place}]"), item, into);
            }
        }
        Json::String(text) => drop(into.insert(path.to_owned(), text.clone())),
        other => drop(into.insert(path.to_owned(), other.to_string())),
    }
}

/// `{version, from, to, differences: [{id, what, from, to}]}`
#[must_use]
pub fn json(from: &Release, to: &Release, differences: &[Difference]) -> Json {
    json!({ "version": VERSION, "from": from.id, "to": to.id, "differences": differences })
}

/// For people: a heading for each step, and a line for each difference.
#[must_use]
pub fn lines(look: &Look, from: &Release, to: &Release, differences: &[Difference]) -> Vec<String> {
    let head = look.text(&format!("release {} → {} of {}", from.id, to.id, to.environment));
    if differences.is_empty() {
        return vec![look.text(&format!("{head}: nothing differs"))];
    }
    let mut lines = vec![head];
    let widest = differences.iter().map(|difference| text::width(&difference.what)).max();
    let widest = widest.unwrap_or_default().min(WIDEST);
    let mut last = None;
    for difference in differences {
        let value = |value: &Option<String>| value.as_deref().map(shown);
        if difference.what.is_empty() {
            let (mark, only) = match &difference.from {
                Some(_) => (Mark::Delete, from.id),
                None => (Mark::Create, to.id),
            };
            lines.push(look.text(&format!(
                "  {} {}   only in release {only}",
                look.mark(mark),
                difference.id
            )));
            continue;
        }
        if last != Some(&difference.id) {
            lines.push(format!("  {} {}", look.mark(Mark::Update), look.text(&difference.id.to_string())));
            last = Some(&difference.id);
        }
        let change = match (value(&difference.from), value(&difference.to)) {
            (Some(from), Some(to)) => format!("{from} → {to}"),
            (None, Some(to)) => to,
            (Some(from), None) => format!("{from} → none"),
            (None, None) => String::new(),
        };
        let what = text::pad(&text::cut_middle(&difference.what, widest), widest);
        let indent = 5 + look.mark_width();
        let room = look.right_edge().saturating_sub(indent);
        let line = look.cut(&text::clean(&format!("{what}  {change}")), room);
        lines.push(format!("{}{}", " ".repeat(indent), look.paint(Color::Dim, &line)));
    }
    lines
}

/// A value on one line, digests and names of AWS as short as people say them.
fn shown(value: &str) -> String {
    let word = |word: &str| {
        if let Some((before, digest)) = word.split_once("sha256:") {
            return format!("{before}{}", digest.get(..12).unwrap_or(digest));
        }
        let hex = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        match word.rsplit_once('/') {
            _ if hex => word.chars().take(12).collect(),
            Some((arn, name)) if arn.starts_with("arn:") => name.to_owned(),
            _ => word.to_owned(),
        }
    };
    value.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{Outputs, Value};

    fn release(id: u64, steps: &[(&str, &str, Json)]) -> Release {
        let steps = steps.iter().map(|(step, digest, receipt)| {
            let outputs = Outputs::from([("digest".to_owned(), Value::text(*digest))]);
            let kind = "ecs-deploy".to_owned();
            (StepId::parse(step), Recorded { kind, outputs, receipt: receipt.clone(), adopted: false })
        });
        Release { id, steps: steps.collect(), ..Release::sample() }
    }

    #[test]
    fn what_differs_is_shown_by_step() {
        let digest = |c: char| format!("sha256:{}", c.to_string().repeat(64));
        let state = |revision: u32, memory: u32, env: &str| {
            json!({
                "task-definition": format!("arn:aws:ecs:eu-west-1:3:task-definition/shop-api:{revision}"),
                "containers": [{ "name": "api", "memory": memory, "env": [{ "name": "MODE", "value": env }] }],
            })
        };
        let one = release(
            17,
            &[
                ("service[api]", &digest('1'), state(41, 512, "keyed:aa")),
                ("gone", "x", Json::Null),
                ("same", "x", json!({ "a": 1 })),
            ],
        );
        let two = release(
            18,
            &[
                ("service[api]", &digest('2'), state(42, 512, "keyed:bb")),
                ("new", "x", Json::Null),
                ("same", "x", json!({ "a": 1 })),
            ],
        );
        let found = differences(&one, &two);
        insta::assert_snapshot!(lines(&Look::plain(), &one, &two, &found).join("\n"), @r"
        release 17 → 18 of prod
          - gone   only in release 17
          + new   only in release 18
          ~ service[api]
              containers[api].env[MODE].value  keyed:aa → keyed:bb
              digest                           111111111111 → 222222222222
              task-definition                  shop-api:41 → shop-api:42
        ");
        assert_eq!(json(&one, &two, &found)["differences"][0]["id"], "gone");
        insta::assert_snapshot!(lines(&Look::plain(), &one, &one, &[]).join("\n"), @"release 17 → 17 of prod: nothing differs");
    }
}
