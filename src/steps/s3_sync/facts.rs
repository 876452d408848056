//! What is observed of a bucket for the plan's digest and for the check right
//! before the effect: nothing of local files, so that it can be observed before
//! they are made, and nothing that is nobody's business here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::listing::Listed;
use super::manifest::Entry;
use super::target::Target;
use crate::world::files::digest;

/// Objects that are named; the rest is a number and a digest.
const NAMED: usize = 20;

/// The newest manifest's name, each object that is not as it says, and what else lies there that
/// `concerns` the step.
pub(in crate::steps) fn facts(
    target: &Target,
    manifest: Option<&str>,
    recorded: &BTreeMap<String, Entry>,
    listed: &BTreeMap<String, Listed>,
    concerns: impl Fn(&str) -> bool,
) -> Json {
    let moved: Vec<(&String, String)> = recorded
        .iter()
        .filter_map(|(key, entry)| match listed.get(key) {
            None => Some((key, "gone".to_owned())),
            Some(listed) if entry.is_untouched(listed) => None,
            Some(listed) => Some((key, replaced(listed))),
        })
        .collect();
    let others: Vec<(&String, &Listed)> =
        listed.iter().filter(|(key, _)| !recorded.contains_key(*key) && concerns(key)).collect();
    let mut facts = Map::from_iter([
        ("bucket".to_owned(), json!(target.to_string())),
        ("manifest".to_owned(), json!(manifest)),
    ]);
    // Each by itself: a refusal shows names and values.
    let named = moved.iter().take(NAMED);
    facts.extend(named.map(|(key, what)| (format!("object {key}"), json!(what))));
    if let Some(rest) = moved.get(NAMED..).filter(|rest| !rest.is_empty()) {
        facts.insert("more objects".to_owned(), json!(counted(rest.len(), &json!(rest))));
    }
    if !others.is_empty() {
        let rows: Vec<_> = others.iter().map(|(key, listed)| (key, &listed.etag, listed.size)).collect();
        facts.insert("other objects".to_owned(), json!(counted(others.len(), &json!(rows))));
    }
    Json::Object(facts)
}

/// `replaced at 2026-11-21T09:12:33Z (91c0d2e4)`
fn replaced(listed: &Listed) -> String {
    let etag: String = listed.etag.chars().take(8).collect();
    match Timestamp::from_second(listed.modified) {
        Ok(at) => format!("replaced at {at} ({etag})"),
        Err(_) => format!("replaced ({etag})"),
    }
}

/// `31 (1a2b3c4d)`
fn counted(number: usize, rows: &Json) -> String {
    let digest: String = digest(rows.to_string().as_bytes()).chars().take(8).collect();
    format!("{number} ({digest})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::s3_sync::headers::Headers;

    fn listed(etag: &str) -> Listed {
        Listed { etag: etag.to_owned(), size: 3, modified: 1_763_716_353 }
    }

    fn entry(etag: &str) -> Entry {
        let Listed { etag, size, modified } = listed(etag);
        Entry {
            sha256: "aa".to_owned(),
            size,
            headers: Headers::of("a.html", &[]),
            etag,
            modified,
            version: None,
        }
    }

    #[test]
    fn only_what_is_not_as_recorded_is_named() {
        let target = Target::parse("s3://shop").expect("a target");
        let recorded =
            BTreeMap::from([("a.html".to_owned(), entry("e1")), ("b.html".to_owned(), entry("e1"))]);
        let observe = |listed: &[(&str, Listed)]| {
            let listed = listed.iter().map(|(key, listed)| ((*key).to_owned(), listed.clone())).collect();
            facts(&target, Some("000001-ab"), &recorded, &listed, |key| key != "uploads/x.png")
        };
        let as_recorded = json!({ "bucket": "s3://shop/", "manifest": "000001-ab" });
        assert_eq!(observe(&[("a.html", listed("e1")), ("b.html", listed("e1"))]), as_recorded);
        let foreign = [("a.html", listed("e1")), ("b.html", listed("e1")), ("uploads/x.png", listed("e"))];
        assert_eq!(observe(&foreign), as_recorded, "what is excluded may come and go");
        let changed = observe(&[("a.html", listed("91c0d2e4ffff")), ("c.js", listed("e"))]);
        assert_eq!(changed["object a.html"], "replaced at 2025-11-21T09:12:33Z (91c0d2e4)");
        assert_eq!(changed["object b.html"], "gone");
        assert!(changed["other objects"].as_str().is_some_and(|text| text.starts_with("1 (")), "{changed}");
    }
}
