//! Whether an apply that was cut off was done.
//!
//! Terraform plans again from its state, so that doing the rest is free, with
//! one exception: what it was making when it was killed, and with a remote
//! state what it made shortly before, may exist without being in the state. It
//! would be made a second time. The journal says which resources it began to
//! make; each of them must be in the state, or a person decides.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::events::RESOURCE;
use super::session::Session;
use crate::model::change::Action;
use crate::steps::{Context, Done, Failure, Open, Proposal, Settled, Step};

/// A resource whose making began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Begun {
    /// Once it was made.
    id: Option<String>,
    /// It takes the place of another.
    replaces: bool,
}

/// Ids by address: what the state knows.
type Known = BTreeMap<String, Vec<String>>;

/// Says what may exist without being in the state; `None` where there is nothing of that sort.
pub(super) async fn lost(open: &Open, session: &Session, cx: &Context) -> Result<Option<Settled>, Failure> {
    let begun = begun(&open.notes);
    if begun.is_empty() {
        return Ok(None);
    }
    let lost = missing(&begun, &known(&session.state(cx).await?));
    if lost.is_empty() {
        return Ok(None);
    }
    let named: Vec<String> = lost
        .iter()
        .map(|(address, id)| match id {
            Some(id) => format!("{address} (id {id})"),
            None => (*address).to_owned(),
        })
        .collect();
    let import = session.typed(&["import", lost.first().map_or("ADDRESS", |(address, _)| address), "ID"]);
    Ok(Some(Settled::Ambiguous(format!(
        "Terraform was killed while it made {}, and its state does not know of it: look whether it is there; if so, \
         import it ({import}) or delete it, then say that the step is not done",
        named.join(", ")
    ))))
}

/// What is left to do says whether it was done.
pub(super) async fn by_planning(step: &dyn Step, cx: &Context) -> Result<Settled, Failure> {
    let Proposal { action, summary, outputs, receipt, .. } = step.plan(cx).await?;
    Ok(match action {
        Action::UpToDate => Settled::Done(Done { summary, outputs, receipt }),
        _ => Settled::NotDone,
    })
}

/// What the notes say was begun and did not fail by itself.
fn begun(notes: &[(String, Json)]) -> BTreeMap<String, Begun> {
    let mut all: BTreeMap<String, Begun> = BTreeMap::new();
    for (_, note) in notes.iter().filter(|(key, _)| key == RESOURCE) {
        let address = note["address"].as_str().unwrap_or_default().to_owned();
        if note["is"] == "failed" {
            // Terraform knows what became of it.
            all.remove(&address);
            continue;
        }
        let one = all.entry(address).or_default();
        one.id = note["id"].as_str().map(str::to_owned);
        one.replaces = note["replaces"] == true;
    }
    all
}

/// What is not in the state.
fn missing<'a>(begun: &'a BTreeMap<String, Begun>, known: &Known) -> Vec<(&'a str, Option<&'a str>)> {
    let is_known = |address: &String, one: &Begun| match (known.get(address), &one.id) {
        (None, _) => false,
        (Some(ids), Some(id)) => ids.is_empty() || ids.contains(id),
        // What is there may be the old one.
        (Some(_), None) => !one.replaces,
    };
    let lost = begun.iter().filter(|(address, one)| !is_known(address, one));
    lost.map(|(address, one)| (address.as_str(), one.id.as_deref())).collect()
}

/// The managed resources of a state file (version 4), deposed ones too.
fn known(state: &Json) -> Known {
    let mut known = Known::new();
    let resources = state["resources"].as_array().into_iter().flatten();
    for resource in resources.filter(|resource| resource["mode"] == "managed") {
        let text = |name: &str| resource[name].as_str().unwrap_or_default();
        let module = resource["module"].as_str().map(|module| format!("{module}.")).unwrap_or_default();
        for instance in resource["instances"].as_array().into_iter().flatten() {
            let index = match &instance["index_key"] {
                Json::Null => String::new(),
                key => format!("[{key}]"),
            };
            let address = format!("{module}{}.{}{index}", text("type"), text("name"));
            let id = instance["attributes"]["id"].as_str().map(str::to_owned);
            known.entry(address).or_default().extend(id);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_began_must_be_in_the_state() {
        let state = json!({ "version": 4, "resources": [
            { "mode": "managed", "type": "t", "name": "a", "instances": [{ "attributes": { "id": "1" } }] },
            { "mode": "managed", "type": "t", "name": "r", "instances": [{ "attributes": { "id": "old" } }] },
            { "mode": "managed", "module": "module.m[\"x\"]", "type": "t", "name": "n", "instances": [
                { "index_key": 0, "attributes": { "id": "7" } }, { "index_key": "k", "attributes": {} }] },
            { "mode": "data", "type": "t", "name": "d", "instances": [{ "attributes": { "id": "9" } }] },
        ] });
        let known = known(&state);
        assert_eq!(
            known.keys().collect::<Vec<_>>(),
            ["module.m[\"x\"].t.n[\"k\"]", "module.m[\"x\"].t.n[0]", "t.a", "t.r"]
        );
        let note = |data: Json| (RESOURCE.to_owned(), data);
        for (notes, lost) in [
            (vec![], vec![]),
            (vec![json!({ "address": "t.a", "is": "making" })], vec![]),
            (vec![json!({ "address": "t.a", "is": "made", "id": "1" })], vec![]),
            (vec![json!({ "address": "t.a", "is": "made", "id": "2" })], vec![("t.a", Some("2"))]),
            (vec![json!({ "address": "t.b", "is": "making" })], vec![("t.b", None)]),
            (vec![json!({ "address": "t.r", "is": "making", "replaces": true })], vec![("t.r", None)]),
            (
                vec![
                    json!({ "address": "t.b", "is": "making" }),
                    json!({ "address": "t.b", "is": "failed" }),
                ],
                vec![],
            ),
        ] {
            let notes: Vec<_> = notes.into_iter().map(note).collect();
            assert_eq!(missing(&begun(&notes), &known), lost, "{notes:?}");
        }
    }
}
