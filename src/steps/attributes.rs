//! The attributes that all kinds share, with every reference replaced.

use std::time::Duration;

use crate::model::secret::Secret;
use crate::model::step::Retry;
use crate::model::value::{Field, Value};

/// What a kind can read besides its own settings.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// Process environment, in order; secrets stay secrets.
    pub env: Vec<(String, Field<Value>)>,
    /// Variables of flow's own environment that are passed on.
    pub inherit: Vec<String>,
    /// Secrets that lie in a file whose path is in this variable.
    pub files: Vec<(String, Secret)>,
    /// The program gets region, endpoint and credentials.
    pub aws: bool,
    /// Per attempt.
    pub timeout: Option<Duration>,
    /// How long it may clean up after a signal.
    pub grace: Option<Duration>,
    /// Further attempts.
    pub retry: Option<Retry>,
    /// What the content hash covers; `None` without `inputs`.
    pub inputs: Option<Globs>,
    /// What it leaves behind, relative to the project root.
    pub outputs: Vec<String>,
    /// Programs whose version counts, with the argv that tells it.
    pub tools: Vec<(String, Option<Vec<String>>)>,
    /// It always runs.
    pub no_cache: bool,
    /// Argv; exit 0 means that the effect is already there.
    pub probe: Option<Vec<String>>,
    /// How a rollback takes it back: `None` not said, empty argv for `undo "none"`.
    pub undo: Option<Vec<String>>,
}

/// Globs relative to the project root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globs {
    /// What counts.
    pub include: Vec<String>,
    /// What does not.
    pub exclude: Vec<String>,
}
