//! When a step that only makes files is up to date.
//!
//! What is hashed, and what is not:
//!
//! | part | from |
//! |---|---|
//! | `definition` | kind, settings, environment values, outputs, after substitution |
//! | `tool` | the version each `tool` tells, or the digest of the program |
//! | `file` | every input: path, bytes, executable bit, link target |
//! | `system` | operating system and architecture |
//!
//! No time stamps and no absolute paths; a secret enters only as a digest. A
//! step is up to date when its key and the digests of its outputs equal those
//! of its last success. The key is text: `label value` rows, so that what is
//! hashed and what is shown cannot drift apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::settings::{Given, Ready};
use crate::model::value::{Field, Outputs, Value};
use crate::steps::Attributes;
use crate::steps::attributes::Globs;
use crate::world::World;
use crate::world::files::digest;
use crate::world::keyed::Sealer;
use crate::world::walk::{GlobError, Matcher, WalkError};

/// Everything that decides what a step makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What is run, and how.
    pub definition: BTreeMap<String, String>,
    /// Versions of programs.
    pub tools: BTreeMap<String, String>,
    /// Digests of inputs by path.
    pub files: BTreeMap<String, String>,
}

/// What is remembered of a success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Success {
    /// What it was made from.
    pub key: Key,
    /// Digests of what it made, by path.
    pub made: BTreeMap<String, String>,
    /// What it handed on.
    pub outputs: Outputs,
}

/// Why a step is not up to date.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// It never succeeded here.
    #[error("it has not run here before")]
    Never,
    /// Its definition changed.
    #[error("{0} of its definition changed")]
    Definition(String),
    /// Another program version.
    #[error("{tool} is {}, was {}", version(now), version(then))]
    Tool {
        /// The program.
        tool: String,
        /// Its version.
        now: String,
        /// The version then.
        then: String,
    },
    /// Files changed.
    #[error("{}", files(.0, *.1))]
    Files(String, usize),
    /// What it made is gone or differs.
    #[error("{0} is not what it made")]
    Made(String),
}

/// What a program says first; a licence often follows.
fn version(said: &str) -> &str {
    said.lines().next().unwrap_or("unknown")
}

fn files(first: &str, more: usize) -> String {
    if more == 0 { format!("{first} changed") } else { format!("{first} and {more} more changed") }
}

/// Why a key cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A glob that is none.
    #[error(transparent)]
    Glob(#[from] GlobError),
    /// Files that cannot be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A program that does not tell its version.
    #[error("cannot ask {tool} for its version: {why}")]
    Tool {
        /// The program.
        tool: String,
        /// What happened.
        why: String,
    },
}

impl Key {
    /// Computes the key of a step; `versions` holds what its tools said.
    pub fn compute(
        kind: &str,
        settings: &Ready,
        attributes: &Attributes,
        versions: BTreeMap<String, String>,
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
        Ok(Self { definition, tools: versions, files })
    }

    /// The digest of the whole key.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(self.to_string().as_bytes())
    }

    /// What differs from another key, the most telling first.
    #[must_use]
    pub fn difference(&self, then: &Key) -> Option<Stale> {
        if let Some((name, _)) = differing(&self.definition, &then.definition).first() {
            return Some(Stale::Definition(name.clone()));
        }
        if let Some((tool, (now, before))) = differing(&self.tools, &then.tools).into_iter().next() {
            return Some(Stale::Tool { tool, now, then: before });
        }
        let changed = differing(&self.files, &then.files);
        changed.first().map(|(path, _)| Stale::Files(path.clone(), changed.len() - 1))
    }
}

/// The key as text: exactly what is hashed.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (label, rows) in [("definition", &self.definition), ("tool", &self.tools), ("file", &self.files)]
        {
            for (name, value) in rows {
                writeln!(f, "{label} {name:?} {value:?}")?;
            }
        }
        Ok(())
    }
}

/// Whether a success still holds.
pub fn compare(key: &Key, last: Option<&Success>, world: &World) -> Result<Result<Outputs, Stale>, KeyError> {
    let Some(last) = last else { return Ok(Err(Stale::Never)) };
    if let Some(stale) = key.difference(&last.key) {
        return Ok(Err(stale));
    }
    let paths: Vec<String> = last.made.keys().cloned().collect();
    let now = Matcher::new(&paths, &[])?.digests(&world.files)?;
    if let Some((path, _)) = differing(&now, &last.made).first() {
        return Ok(Err(Stale::Made(path.clone())));
    }
    Ok(Ok(last.outputs.clone()))
}

/// The digests of everything a step reads.
pub fn inputs(globs: &Globs, world: &World) -> Result<BTreeMap<String, String>, KeyError> {
    Ok(Matcher::new(&globs.include, &globs.exclude)?.digests(&world.files)?)
}

/// What a step made, right after it ended.
pub fn made(outputs: &[String], world: &World) -> Result<BTreeMap<String, String>, KeyError> {
    Ok(Matcher::new(outputs, &[])?.digests(&world.files)?)
}

type Rows = BTreeMap<String, String>;

fn differing(now: &Rows, then: &Rows) -> Vec<(String, (String, String))> {
    let absent = || "absent".to_owned();
    let mut rows: Vec<_> = now
        .iter()
        .filter(|(name, value)| then.get(*name) != Some(value))
        .map(|(name, value)| (name.clone(), (value.clone(), then.get(name).cloned().unwrap_or_else(absent))))
        .collect();
    rows.extend(
        then.iter()
            .filter(|(name, _)| !now.contains_key(*name))
            .map(|(name, value)| (name.clone(), (absent(), value.clone()))),
    );
    rows
}

fn show_field(field: &Field<Value>, sealer: &Sealer) -> String {
    match field {
        Field::After(step) => format!("after {step}"),
        Field::Known(Value::Secret(secret)) => format!("secret {}", sealer.digest(secret.expose())),
        Field::Known(value) => value.to_json().to_string(),
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
