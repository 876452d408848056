//! What gates are judged by in a run.

use std::sync::Arc;
use std::time::Duration;

use crate::event::Glass;
use crate::model::policy::Policy;

use super::judge::Bound;

/// What a gate is judged by. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Gatekeeper {
    /// The policies of all environments that something behind the gate acts in, the run's own first.
    pub policies: Arc<[Policy]>,
    /// How this run treats gates; absent while planning.
    pub run: Option<Arc<Keeping>>,
    /// Whether a gate stands in front of a step that goes back: there are things that no kind takes
    /// back without somebody being asked.
    pub gated: bool,
}

/// How a run treats its gates.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// What approvals are bound to.
    pub bound: Bound,
    /// How long to wait for approvals at each gate.
    pub wait: Option<Duration>,
    /// The run passes all gates.
    pub glass: Option<Glass>,
    /// The command that approves: `flow approve 7f3a9c21d0b4`.
    pub approve: String,
    /// The command line that runs the plan once it is approved.
    pub then: String,
}
