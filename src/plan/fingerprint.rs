//! When a step that only makes files is up to date.
//!
//! What is hashed, and what is not:
//!
//! | part | from |
//! |---|---|
//! | `value` | what each reference stands for: variables, outputs of steps in front |
//! | `definition` | kind, settings, environment values, outputs, after substitution; operating system and architecture |
//! | `tool` | the version each `tool` tells, or the digest of the program |
//! | `file` | every input: path, bytes, executable bit, link target |
//!
//! No time stamps and no absolute paths; a secret enters only as a keyed
//! digest. Neither conditions nor names of flows, environments and steps are
//! in it: what is made in the same way is the same.
//!
//! [`answer::ask`] says what follows from it.

pub mod answer;
pub mod key;
pub mod stale;

use std::collections::BTreeMap;

use crate::model::settings::{Given, Ready};
use crate::model::step::Step;
use crate::model::template::{GitFact, Reference, Scope};
use crate::model::value::{Field, Value};
use crate::steps::Attributes;
use crate::steps::attributes::Globs;
use crate::world::World;
use crate::world::keyed::Sealer;
use crate::world::walk::{GlobError, Matcher, WalkError};

use self::key::{Key, Rows};

/// Why a key cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A glob that is none.
    #[error(transparent)]
    Glob(#[from] GlobError),
    /// Files that cannot be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

impl Key {
    /// Computes the key of a step; `values` is what [`values`] says of it, `versions` what its tools
    /// said.
    pub fn compute(
        kind: &str,
        settings: &Ready,
        attributes: &Attributes,
        (values, versions): (Rows, Rows),
        world: &World,
        sealer: &Sealer,
    ) -> Result<Self, KeyError> {
        let mut definition = BTreeMap::from([
            ("kind".to_owned(), kind.to_owned()),
            ("system".to_owned(), format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ]);
        for (name, given) in settings.iter() {
            definition.insert(name.to_owned(), show(given, sealer));
        }
        for (name, value) in &attributes.env {
            definition.insert(format!("env {name}"), show_field(value, sealer));
        }
        for name in &attributes.inherit {
            // Whoever starts flow may keep secrets in any variable.
            let value = world.host.var(name).map_or_else(|| "unset".to_owned(), |value| sealer.digest(value));
            definition.insert(format!("inherit {name}"), value);
        }
        for (name, secret) in &attributes.files {
            definition.insert(format!("file {name}"), sealer.digest(secret.expose()));
        }
        definition.insert("outputs".to_owned(), attributes.outputs.join("\n"));
        let files = inputs(&attributes.inputs.clone().unwrap_or_default(), world)?;
        Ok(Self { values, definition, tools: versions, files })
    }
}

/// What the references of a step stand for, by name: for people, since all of it is in the definition
/// too. `run.*` differs each time and is left out; where it is used the definition says so.
#[must_use]
pub fn values(step: &Step, scope: &dyn Scope, sealer: &Sealer) -> Rows {
    let mut rows = Rows::new();
    for reference in step.values().into_iter().flat_map(|template| template.references()) {
        if let (Some(name), Ok(value)) = (name(&reference.value, scope), scope.lookup(&reference.value)) {
            rows.insert(name, show_field(&value, sealer));
        }
    }
    rows
}

fn name(reference: &Reference, scope: &dyn Scope) -> Option<String> {
    Some(match reference {
        Reference::Env(name) => format!("env.{name}"),
        Reference::Param(name) => format!("param.{name}"),
        Reference::Each(var, None) => format!("each.{var}"),
        Reference::Each(var, Some(field)) => format!("each.{var}.{field}"),
        Reference::Secret(name) => format!("secret.{name}"),
        Reference::Git(fact) => format!("git.{}", git_fact(*fact)),
        Reference::Run(_) => return None,
        Reference::Step(step) => {
            let index = step.index.iter().filter_map(|index| index.resolve(scope).ok()?.known()?.as_text());
            let index: Vec<String> = index.collect();
            let instance = if index.is_empty() { String::new() } else { format!("[{}]", index.join(",")) };
            format!("step.{}{instance}.{}", step.name, step.output)
        }
    })
}

fn git_fact(fact: GitFact) -> &'static str {
    match fact {
        GitFact::Sha => "sha",
        GitFact::Short => "short",
        GitFact::Branch => "branch",
        GitFact::Tag => "tag",
        GitFact::Dirty => "dirty",
        GitFact::Time => "time",
    }
}

/// The digests of everything a step reads.
pub fn inputs(globs: &Globs, world: &World) -> Result<BTreeMap<String, String>, KeyError> {
    Ok(Matcher::new(&globs.include, &globs.exclude)?.digests(&world.files)?)
}

fn show_field(field: &Field<Value>, sealer: &Sealer) -> String {
    match field {
        Field::After(step) => format!("after {step}"),
        Field::Known(value) if value.is_secret() => format!("secret {}", sealer.digest(&exposed(value))),
        Field::Known(value) => value.to_json().to_string(),
    }
}

/// A value in the clear with all secrets in it: for a keyed digest and nothing else.
fn exposed(value: &Value) -> String {
    match value {
        Value::Secret(secret) => secret.expose().to_owned(),
        Value::List(items) => {
            let items = items.iter().map(exposed).map(|item| format!("{}:{item}", item.len()));
            items.collect::<Vec<_>>().concat()
        }
        Value::Record(record) => {
            let fields = record.fields.iter().map(|(name, value)| (name, exposed(value)));
            let fields = fields.map(|(name, text)| format!("{name}={}:{text}", text.len()));
            format!("{}{}", record.name, fields.collect::<Vec<_>>().concat())
        }
        plain => plain.to_json().to_string(),
    }
}

/// A setting as text, secrets as keyed digests.
#[must_use]
pub fn show(given: &Given<Field<Value>>, sealer: &Sealer) -> String {
    match given {
        Given::One(field) => show_field(field, sealer),
        Given::Many(fields) => {
            fields.iter().map(|field| show_field(field, sealer)).collect::<Vec<_>>().join("\n")
        }
        Given::Script(text) => text.clone(),
        Given::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| format!("{key}={}", show_field(value, sealer)))
            .collect::<Vec<_>>()
            .join("\n"),
        Given::Nodes(nodes) => {
            let mut text = String::new();
            for node in nodes {
                text.push_str(&node.head.as_ref().map(|head| show_field(head, sealer)).unwrap_or_default());
                text.push_str(" {");
                for (name, given) in node.settings.iter() {
                    text.push_str(&format!("\n{name} {}", show(given, sealer)));
                }
                text.push_str("}\n");
            }
            text
        }
    }
}
