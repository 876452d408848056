//! A flow as written, templates expanded.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::syntax::source::Span;

use super::names::{FlowName, GroupName};
use super::project::SecretDeclaration;
use super::step::Step;
use super::template::Template;
use super::value::Value;

/// `flow NAME { … }`
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its name.
    pub name: FlowName,
    /// One sentence.
    pub about: Option<String>,
    /// How long the whole run should take.
    pub target: Option<Duration>,
    /// What may be given with `-p`.
    pub params: Vec<Param>,
    /// Secrets of this flow.
    pub secrets: Vec<SecretDeclaration>,
    /// Pools that were widened; every other pool has one place.
    pub pools: BTreeMap<String, usize>,
    /// Groups in order of appearance, for headings and selection.
    pub groups: Vec<Group>,
    /// All steps in order of appearance.
    pub steps: Vec<Step>,
    /// What a failure does to the rest.
    pub on_failure: OnFailure,
    /// Steps that run at the end, whatever happened.
    pub finally: Vec<Step>,
    /// What is shown at the end.
    pub summary: Vec<SummaryRow>,
    /// Where the node stands.
    pub span: Span,
}

/// A group and the one around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// The group around it.
    pub parent: Option<GroupName>,
}

/// `param NAME type=… default=… required=#true { help; choices … }`
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// What it may be.
    pub kind: ParamType,
    /// Used when none is given.
    pub default: Option<Template>,
    /// Must be given.
    pub required: bool,
    /// One sentence.
    pub help: Option<String>,
    /// Only these; empty for any.
    pub choices: Vec<Value>,
    /// Where it stands.
    pub span: Span,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParamType {
    /// Text.
    #[default]
    Text,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// Commas on the command line.
    List,
    /// A path relative to the project root.
    Path,
}

/// What a failed step does to the steps that do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing new starts.
    #[default]
    Stop,
    /// They go on.
    Continue,
    /// What this run did is undone.
    Rollback,
}

/// `row NAME VALUE…`
#[derive(Clone, Debug)]
pub struct SummaryRow {
    /// At the left.
    pub name: String,
    /// At the right, joined by blanks.
    pub values: Vec<Template>,
}
