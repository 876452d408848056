use super::*;
use crate::model::change::Action;
use crate::world::store::Store;

/// As the real program (1.11.4) printed it: one resource replaced, one changed, one as it was.
const CHANGED: &str = include_str!("changed.json");

fn sealer() -> Sealer {
    let folder = tempfile::tempdir().unwrap();
    Sealer::load(&Store::folder(folder.path().to_owned())).unwrap()
}

fn changed() -> Json {
    serde_json::from_str(CHANGED).unwrap()
}

#[test]
fn a_plan_is_read_without_a_value() {
    let shown = Shown::read(&changed(), &sealer()).unwrap();
    assert_eq!(shown.preview.action(), Action::Replace);
    assert_eq!(shown.preview.summary(), "1 changed, 1 replaced");
    let lines: Vec<String> = shown.preview.proposal().changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "terraform_data.cfg  changed: input, output",
            "terraform_data.db  there → replaced: triggers_replace",
            "output id",
        ]
    );
    assert_eq!((shown.resources, shown.managed_before), (3, true));
    assert!(!format!("{:?}", shown.preview).contains("geheim"));
}

#[test]
fn outputs_that_are_known_are_handed_on_and_sensitive_ones_are_secrets() {
    let shown = Shown::read(&changed(), &sealer()).unwrap();
    // `id` hangs on a resource that is replaced.
    assert_eq!(shown.outputs.keys().collect::<Vec<_>>(), ["list", "pw"]);
    assert!(shown.outputs["pw"].is_secret());
    assert_eq!(shown.outputs["list"], Value::from_json(&json!([1, 2])));
}

#[test]
fn the_digest_hangs_on_values_too() {
    let sealer = sealer();
    let digest = |json: &Json| Shown::read(json, &sealer).unwrap().preview.digest();
    let mut other = changed();
    let row = other["resource_changes"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|row| row["type"] == "terraform_data");
    row.unwrap()["change"]["after"]["input"] = json!({ "a": "anders" });
    assert_eq!(digest(&changed()), digest(&changed()));
    assert_ne!(digest(&changed()), digest(&other));
}

#[test]
fn a_policy_sees_no_sensitive_value() {
    assert!(CHANGED.contains("geheim-12"), "the program prints them in the clear");
    let text = hidden(&changed()).to_string();
    assert!(!text.contains("geheim-12"), "{text}");
    assert!(text.contains("\"triggers_replace\""), "the rest is there");
}

#[test]
fn every_sort_of_action_has_its_word() {
    let sealer = sealer();
    let row = |actions: &[&str], more: Json| {
        let mut row = json!({ "address": "t.a", "type": "t", "change": { "actions": actions } });
        for (name, value) in more.as_object().unwrap() {
            row[name] = value.clone();
        }
        change(&row, &sealer).map(|change| change.shown().to_string())
    };
    let none = json!({});
    for (actions, more, shown) in [
        (&["create"][..], none.clone(), Some("t.a  new")),
        (&["delete"][..], none.clone(), Some("t.a  there → none")),
        (&["create", "delete"][..], none.clone(), Some("t.a  there → replaced")),
        (
            &["delete", "create"][..],
            json!({ "action_reason": "replace_because_tainted" }),
            Some("t.a  there → replaced: its creation had failed"),
        ),
        (&["forget"][..], none.clone(), Some("t.a  no longer managed, and left as it is")),
        (&["no-op"][..], none.clone(), None),
        (
            &["no-op"][..],
            json!({ "previous_address": "t.old" }),
            Some("t.a  changed: address, which was t.old"),
        ),
    ] {
        assert_eq!(row(actions, more).as_deref(), shown, "{actions:?}");
    }
}

#[test]
fn a_format_of_the_future_is_refused() {
    let failure = Shown::read(&json!({ "format_version": "2.0" }), &sealer()).unwrap_err();
    assert_eq!(failure.record.reason, "terraform show speaks another language: format \"2.0\"");
}
