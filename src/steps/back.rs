//! How a step is brought back to what was recorded of it.
//!
//! A rollback is planned and carried out like any other change: for each step
//! there is a step of the same kind whose goal is a recorded state instead of
//! what the flow says. It reads the world, proposes, makes an effect.
//!
//! A *state* is the JSON that a kind puts into [`Proposal::receipt`],
//! [`Proposal::standing`] and [`Done::receipt`]: everything that is needed to
//! have it so again, without the flow file that made it and without secrets.
//!
//! [`Proposal::receipt`]: super::Proposal::receipt
//! [`Proposal::standing`]: super::Proposal::standing
//! [`Done::receipt`]: super::Done::receipt

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{Context, Failure, Proposal, Step};
use crate::model::change::Reversible;

/// What a kind's steps do in a rollback.
#[derive(Clone, Copy, Debug)]
pub enum Back {
    /// Nothing: they leave nothing behind that could be taken back.
    Nothing,
    /// What the flow says, once more, after the steps it refers to: gates, health checks,
    /// invalidations.
    Again,
    /// They return to a recorded state.
    To(fn(&Way) -> Result<Box<dyn Step>, Failure>),
}

/// From where to where.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// The state that the newest release records, or that this run made: what is being left.
    pub now: Json,
    /// The state to return to; `None` when the step had not been done there.
    pub to: Option<Json>,
}

/// Why a step of this kind, with these states, keeps the whole from going back; `None` where it does
/// not, as far as the records say.
#[must_use]
pub fn barred(kind: &str, way: &Way) -> Option<String> {
    if kind == super::migrate::KIND.spec.name { super::migrate::barred(way) } else { None }
}

/// Reads a recorded state.
pub(super) fn read<T: DeserializeOwned>(state: &Json) -> Result<T, Failure> {
    serde_json::from_value(state.clone()).map_err(|error| {
        Failure::new(format!("what was recorded of it cannot be read: {error}"))
            .help("go back to another release, or deploy the older commit again")
    })
}

/// A step that a rollback leaves as it is, and what the operator should know of that.
#[derive(Clone, Debug)]
pub(super) struct Stays {
    summary: String,
    warnings: Vec<String>,
    reversible: Reversible,
    state: Json,
}

impl Stays {
    /// Something that stays as `state` says; `summary` says in a few words why.
    pub(super) fn new(summary: impl Into<String>, state: Json) -> Self {
        Self { summary: summary.into(), warnings: Vec::new(), reversible: Reversible::None, state }
    }

    /// Nothing says how it was: the release to return to does not, or nobody looked before this run.
    pub(super) fn unrecorded(what: &str, state: Json) -> Self {
        let warning = format!("{what} stays: nothing is recorded of how it was");
        Self::new("stays", state).warn(warning, Reversible::Manual)
    }

    /// Says what it means for the operator.
    pub(super) fn warn(mut self, warning: impl Into<String>, reversible: Reversible) -> Self {
        self.warnings.push(warning.into());
        self.reversible = reversible;
        self
    }
}

#[async_trait]
impl Step for Stays {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let outputs = cx.recorded.as_ref().map(|recorded| recorded.outputs.clone()).unwrap_or_default();
        Ok(Proposal {
            warnings: self.warnings.clone(),
            reversible: self.reversible,
            receipt: self.state.clone(),
            ..Proposal::up_to_date(self.summary.clone(), outputs)
        })
    }
}
