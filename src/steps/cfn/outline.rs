//! What would change in a stack as two templates show it, where CloudFormation
//! cannot be asked: a template too long for a request, or one that needs what
//! another stack is still to export.
//!
//! It names resources and properties, and cannot tell replacements: those come
//! out when the change set is made, and are refused when nobody foresaw them.

use serde_json::{Map, Value as Json};

use super::change_set::{ResourceChange, What};
use super::named::naming;

/// The differences; `None` where a template is not JSON.
pub(in crate::steps) fn outline(before: &str, after: &str) -> Option<Vec<ResourceChange>> {
    let (before, after) = (resources(before)?, resources(after)?);
    let mut changes = Vec::new();
    for (id, then) in &after {
        match before.get(id) {
            None => changes.push(change(id, then, What::Add, Vec::new())),
            Some(now) if now == then => {}
            Some(now) => {
                let touched = touched(now, then);
                let kind = then["Type"].as_str().unwrap_or_default();
                let renamed =
                    naming(kind).is_some_and(|name| touched.iter().any(|property| property == name));
                let what = if renamed || now["Type"] != then["Type"] { What::Replace } else { What::Modify };
                changes.push(change(id, then, what, touched));
            }
        }
    }
    for (id, now) in &before {
        if !after.contains_key(id) {
            let keeps = matches!(now["DeletionPolicy"].as_str(), Some("Retain" | "RetainExceptOnCreate"));
            changes.push(change(id, now, if keeps { What::Retire } else { What::Remove }, Vec::new()));
        }
    }
    changes.sort();
    Some(changes)
}

fn resources(template: &str) -> Option<Map<String, Json>> {
    let template: Json = serde_json::from_str(template).ok()?;
    template.get("Resources")?.as_object().cloned()
}

fn change(id: &str, resource: &Json, what: What, touched: Vec<String>) -> ResourceChange {
    let kind = resource["Type"].as_str().unwrap_or_default().to_owned();
    ResourceChange { id: id.to_owned(), kind, what, touched, physical: None, certain: true }
}

/// Names of the properties and attributes that differ.
fn touched(now: &Json, then: &Json) -> Vec<String> {
    let empty = Map::new();
    let differ = |now: &Json, then: &Json| -> Vec<String> {
        let (now, then) = (now.as_object().unwrap_or(&empty), then.as_object().unwrap_or(&empty));
        let names = now.keys().chain(then.keys());
        names.filter(|name| now.get(*name) != then.get(*name)).cloned().collect()
    };
    let mut all = differ(&now["Properties"], &then["Properties"]);
    all.extend(differ(now, then).into_iter().filter(|name| name != "Properties"));
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_show_what_comes_changes_and_goes() {
        let before = r#"{"Resources": {
            "A": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "a"}},
            "B": {"Type": "AWS::SNS::Topic"},
            "C": {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain"},
            "D": {"Type": "AWS::SQS::Queue", "Properties": {"DelaySeconds": 1}}}}"#;
        let after = r#"{"Resources": {
            "A": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "b"}},
            "D": {"Type": "AWS::SQS::Queue", "Properties": {"DelaySeconds": 2}},
            "E": {"Type": "AWS::SNS::Topic"}}}"#;
        let found = outline(before, after).expect("JSON");
        let told: Vec<(&str, What)> = found.iter().map(|change| (change.id.as_str(), change.what)).collect();
        assert_eq!(
            told,
            [
                ("A", What::Replace),
                ("B", What::Remove),
                ("C", What::Retire),
                ("D", What::Modify),
                ("E", What::Add)
            ]
        );
        assert_eq!(found[3].touched, ["DelaySeconds"]);
        assert_eq!(outline("Resources:\n  A: {}", after), None);
    }
}
