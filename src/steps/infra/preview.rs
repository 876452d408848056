//! What an infrastructure program says that it would do, in one form for all.
//!
//! Values are never shown and never recorded: each change has the names of what
//! differs, and one keyed digest over the values, so that a preview can be
//! recognised. The digest over all of it is the heart of a step's baseline.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::protect::Protect;
use crate::model::change::{Action, Change, Reversible};
use crate::model::units::short_digest;
use crate::steps::{Failure, Proposal};
use crate::world::files::digest;
use crate::world::keyed::Sealer;

/// What happens to one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::steps) struct ResourceChange {
    /// An address, a URN or a logical id, with its stack in front where there are several.
    pub id: String,
    /// Its type, as the program calls it.
    pub kind: String,
    /// What.
    pub op: Op,
    /// Names of the properties that differ, sorted.
    pub keys: Vec<String>,
    /// Those that make it a replacement.
    pub reasons: Vec<String>,
    /// Keyed digest over the values before and after: [`ResourceChange::seal`].
    pub values: String,
}

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::steps) enum Op {
    Create,
    Update,
    /// Made anew in place of what is there.
    Replace,
    Delete,
    /// Only read, and known once something else is done.
    Read,
    /// An existing thing becomes managed.
    Import,
    /// It is no longer managed, and stays.
    Forget,
}

impl ResourceChange {
    /// A change without further facts.
    pub(in crate::steps) fn new(id: impl Into<String>, kind: impl Into<String>, op: Op) -> Self {
        Self {
            id: id.into(),
            kind: kind.into(),
            op,
            keys: Vec::new(),
            reasons: Vec::new(),
            values: String::new(),
        }
    }

    /// With the keyed digest of what it is about; the order of names in `values` does not count.
    pub(in crate::steps) fn seal(mut self, values: &Json, sealer: &Sealer) -> Self {
        self.values = sealer.digest(&canonical(values).to_string());
        self
    }

    /// As the plan shows it.
    pub(in crate::steps) fn shown(&self) -> Change {
        let names: BTreeSet<&str> = self.keys.iter().map(String::as_str).collect();
        let with = |word: &str, names: &[&str]| {
            if names.is_empty() { word.to_owned() } else { format!("{word}: {}", names.join(", ")) }
        };
        let all: Vec<&str> = names.into_iter().collect();
        let reasons: Vec<&str> = self.reasons.iter().map(String::as_str).collect();
        let there = || Some("there".to_owned());
        let id = &self.id;
        match self.op {
            Op::Create => Change::new(id, None, "new".to_owned()),
            Op::Update => Change::new(id, None, with("changed", &all)),
            Op::Replace => {
                let because = if reasons.is_empty() { &all } else { &reasons };
                Change::new(id, there(), with("replaced", because))
            }
            Op::Delete => Change::new(id, there(), None),
            Op::Read => Change::new(id, None, "read meanwhile".to_owned()),
            Op::Import => Change::new(id, None, "imported".to_owned()),
            Op::Forget => Change::new(id, None, "no longer managed, and left as it is".to_owned()),
        }
    }
}

/// All that would happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::steps) struct Preview {
    /// Sorted.
    changes: Vec<ResourceChange>,
    /// Names of the outputs that would be others, sorted.
    outputs: Vec<String>,
    /// Keyed digest over their values.
    sealed_outputs: String,
}

impl Preview {
    /// The changes of resources, in any order; those that change nothing left out.
    pub(in crate::steps) fn new(mut changes: Vec<ResourceChange>) -> Self {
        for change in &mut changes {
            change.keys.sort();
            change.keys.dedup();
            change.reasons.sort();
            change.reasons.dedup();
        }
        changes.sort();
        Self { changes, ..Self::default() }
    }

    /// With outputs that would be others: names, and the values that decide, which are digested.
    pub(in crate::steps) fn with_outputs(
        mut self,
        mut names: Vec<String>,
        values: &Json,
        sealer: &Sealer,
    ) -> Self {
        names.sort();
        if !names.is_empty() {
            self.sealed_outputs = sealer.digest(&canonical(values).to_string());
        }
        self.outputs = names;
        self
    }

    /// Whether nothing would happen.
    pub(in crate::steps) fn is_empty(&self) -> bool {
        // Reading alone is no change.
        self.outputs.is_empty() && self.changes.iter().all(|change| change.op == Op::Read)
    }

    /// The changes, sorted.
    pub(in crate::steps) fn changes(&self) -> &[ResourceChange] {
        &self.changes
    }

    /// One digest over all of it.
    pub(in crate::steps) fn digest(&self) -> String {
        digest(json!([self.changes, self.outputs, self.sealed_outputs]).to_string().as_bytes())
    }

    /// `2 new, 1 replaced (3f9a12bc04de)`: for a baseline, where an operator compares two of them.
    pub(in crate::steps) fn fact(&self) -> Json {
        if self.is_empty() {
            return json!("none");
        }
        json!(format!("{} ({})", self.summary(), short_digest(&self.digest())))
    }

    /// Refuses what would take away a protected resource.
    pub(in crate::steps) fn guard(&self, protect: &Protect) -> Result<(), Failure> {
        protect.guard(&self.changes)
    }

    /// The plan's word for all of it together.
    pub(in crate::steps) fn action(&self) -> Action {
        let any = |op: Op| self.changes.iter().any(|change| change.op == op);
        let only = |ops: &[Op]| {
            let mut real = self.changes.iter().filter(|change| change.op != Op::Read).peekable();
            real.peek().is_some() && real.all(|change| ops.contains(&change.op))
        };
        if self.is_empty() {
            Action::UpToDate
        } else if any(Op::Replace) {
            Action::Replace
        } else if only(&[Op::Delete]) {
            Action::Delete
        } else if only(&[Op::Create, Op::Import]) {
            Action::Create
        } else {
            Action::Update
        }
    }

    /// Whether something that is there would go.
    pub(in crate::steps) fn takes_away(&self) -> bool {
        self.changes.iter().any(|change| matches!(change.op, Op::Replace | Op::Delete))
    }

    /// `1 new, 2 changed, 1 replaced, 1 deleted`
    pub(in crate::steps) fn summary(&self) -> String {
        let count = |op: Op| self.changes.iter().filter(|change| change.op == op).count();
        let parts: Vec<String> = [
            (count(Op::Create), "new"),
            (count(Op::Import), "imported"),
            (count(Op::Update), "changed"),
            (count(Op::Replace), "replaced"),
            (count(Op::Delete), "deleted"),
            (count(Op::Forget), "no longer managed"),
        ]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
        match (parts.is_empty(), self.outputs.is_empty()) {
            (true, true) => "nothing".to_owned(),
            (true, false) => "only outputs".to_owned(),
            (false, _) => parts.join(", "),
        }
    }

    /// What the operator should know before saying yes.
    fn warnings(&self) -> Vec<String> {
        let said = |change: &ResourceChange| match change.op {
            Op::Replace => Some(format!(
                "{} ({}) is replaced: what it holds is not carried over",
                change.id, change.kind
            )),
            Op::Delete => Some(format!("{} ({}) is deleted", change.id, change.kind)),
            _ => None,
        };
        self.changes.iter().filter_map(said).collect()
    }

    /// What a step with this preview proposes; the caller adds baseline, inputs, standing and effect.
    pub(in crate::steps) fn proposal(&self) -> Proposal {
        let mut shown: Vec<Change> = self.changes.iter().map(ResourceChange::shown).collect();
        shown.extend(self.outputs.iter().map(|name| Change::new(format!("output {name}"), None, None)));
        Proposal {
            changes: shown,
            warnings: self.warnings(),
            reversible: if self.takes_away() { Reversible::Manual } else { Reversible::Auto },
            ..Proposal::new(self.action(), self.summary())
        }
    }
}

/// The same JSON with the names of every object in order.
pub(in crate::steps) fn canonical(json: &Json) -> Json {
    match json {
        Json::Object(object) => {
            let mut names: Vec<&String> = object.keys().collect();
            names.sort();
            names
                .into_iter()
                .map(|name| (name.clone(), canonical(object.get(name).unwrap_or(&Json::Null))))
                .collect()
        }
        Json::Array(items) => items.iter().map(canonical).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::store::Store;

    fn change(id: &str, op: Op) -> ResourceChange {
        ResourceChange { keys: vec!["size".to_owned()], ..ResourceChange::new(id, "t", op) }
    }

    #[test]
    fn words() {
        for (changes, action, summary) in [
            (vec![], Action::UpToDate, "nothing"),
            (vec![change("a", Op::Read)], Action::UpToDate, "nothing"),
            (vec![change("a", Op::Create), change("b", Op::Read)], Action::Create, "1 new"),
            (vec![change("a", Op::Create), change("b", Op::Update)], Action::Update, "1 new, 1 changed"),
            (
                vec![change("a", Op::Replace), change("b", Op::Delete)],
                Action::Replace,
                "1 replaced, 1 deleted",
            ),
            (vec![change("a", Op::Delete)], Action::Delete, "1 deleted"),
            (vec![change("a", Op::Update), change("b", Op::Delete)], Action::Update, "1 changed, 1 deleted"),
        ] {
            let preview = Preview::new(changes);
            assert_eq!((preview.action(), preview.summary().as_str()), (action, summary));
        }
        assert_eq!(change("a", Op::Replace).shown().to_string(), "a  there → replaced: size");
        let because = ResourceChange { reasons: vec!["zone".to_owned()], ..change("a", Op::Replace) };
        assert_eq!(because.shown().to_string(), "a  there → replaced: zone");
    }

    #[test]
    fn the_digest_hangs_on_what_happens_and_on_no_order() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::load(&Store::folder(folder.path().to_owned())).unwrap();
        let update = |id: &str, values: Json| change(id, Op::Update).seal(&values, &sealer);
        let (a, b) = (update("a", json!({ "x": 1, "y": 2 })), update("b", json!({ "z": "geheim" })));
        assert!(!a.values.contains("geheim"));
        let one = Preview::new(vec![a.clone(), b.clone()]);
        assert_eq!(one.digest(), Preview::new(vec![b.clone(), a.clone()]).digest());
        assert_eq!(a, update("a", json!({ "y": 2, "x": 1 })), "order of names");
        let other = Preview::new(vec![a, update("b", json!({ "z": "anders" }))]);
        assert_ne!(one.digest(), other.digest(), "a value");
        let outputs = one.clone().with_outputs(vec!["url".to_owned()], &json!({ "url": 1 }), &sealer);
        assert_ne!(one.digest(), outputs.digest(), "an output");
        let only = Preview::new(Vec::new()).with_outputs(vec!["url".to_owned()], &json!(1), &sealer);
        assert_eq!((only.action(), only.summary().as_str()), (Action::Update, "only outputs"));
    }
}
