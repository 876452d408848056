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

use super::{Context, Failure, FailureClass, Proposal, Step};
use crate::model::value::Outputs;

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

/// Reads a recorded state.
pub fn read<T: DeserializeOwned>(recorded: &Json) -> Result<T, Failure> {
    T::deserialize(recorded).map_err(|error| {
        Failure::of(FailureClass::Refused, format!("what was recorded of it cannot be read: {error}"))
    })
}

/// A step that was not done yet where a rollback returns to, and whose kind takes nothing away.
#[derive(Clone, Debug)]
pub struct Stays {
    /// What stays: `service api`.
    pub what: String,
    /// The state that is kept.
    pub now: Json,
}

#[async_trait]
impl Step for Stays {
    async fn plan(&self, _cx: &Context) -> Result<Proposal, Failure> {
        let mut proposal =
            Proposal::up_to_date(format!("{} stays: that release has none", self.what), Outputs::new());
        proposal.receipt = self.now.clone();
        proposal.standing = self.now.clone();
        Ok(proposal)
    }
}
