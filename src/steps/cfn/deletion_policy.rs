//! What a template says of its resources for the day when the stack goes.

use std::collections::BTreeMap;

use super::lint::{Node, read};

/// What becomes of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It leaves the stack, and is there as before.
    Stays,
    /// A snapshot is taken, then it is deleted.
    Snapshot,
}

/// The `DeletionPolicy` of each resource that plainly says one. What cannot be read counts as none:
/// then the resource goes, and is refused where it is protected.
pub(super) fn fates(template: &str) -> BTreeMap<String, Fate> {
    let Ok(template) = read(template) else { return BTreeMap::new() };
    let resources = template.get("Resources").map(Node::pairs).unwrap_or_default();
    resources.iter().filter_map(|(id, resource)| Some((id.clone(), fate(resource)?))).collect()
}

fn fate(resource: &Node) -> Option<Fate> {
    let policy = resource.get("DeletionPolicy").filter(|policy| policy.tag.is_none())?;
    match policy.text()? {
        "Retain" | "RetainExceptOnCreate" => Some(Fate::Stays),
        "Snapshot" => Some(Fate::Snapshot),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_plainly_stays_counts_as_staying() {
        let yaml = "Resources:\n  A:\n    Type: T\n    DeletionPolicy: Retain\n  B:\n    Type: T\n  C:\n    \
                    DeletionPolicy: !If [X, Retain, Delete]\n  D:\n    DeletionPolicy: !Ref Policy\n  E:\n    \
                    DeletionPolicy: Delete\n";
        assert_eq!(fates(yaml), BTreeMap::from([("A".to_owned(), Fate::Stays)]));
        let json = r#"{"Resources": {"A": {"DeletionPolicy": "Snapshot"}}}"#;
        assert_eq!(fates(json), BTreeMap::from([("A".to_owned(), Fate::Snapshot)]));
        assert_eq!(fates("["), BTreeMap::new());
    }
}
