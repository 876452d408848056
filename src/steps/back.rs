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

use serde_json::Value as Json;

use super::{Failure, Step};

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
