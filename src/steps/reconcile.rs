//! Was an effect made that was announced and has no recorded end?
//!
//! Asked when a run is resumed or reconciled. The promise behind it: at most
//! one intent in flight per step; every effect is deduplicated by its
//! provider, or found by a query, or put to a person. Never silently repeated,
//! never silently lost.

use serde_json::Value as Json;

use super::Done;
use crate::journal::replay::OpenIntent;

/// An effect of whose end nothing is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// What was announced.
    pub intent: OpenIntent,
    /// What was noted in the middle of it: key and data, in order.
    pub notes: Vec<(String, Json)>,
}

/// What can be said of it now.
#[derive(Clone, Debug)]
pub enum Settled {
    /// It was made; this is what it came to.
    Done(Done),
    /// It was not made, or making it (again) is free: the step goes on as if it had not begun.
    NotDone,
    /// Nobody can tell but a person; why.
    Ambiguous(String),
}
