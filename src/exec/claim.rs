//! What a run makes sure of right before an effect: that its plan is used once,
//! and that the world is still the one it was made for.

use tokio::sync::OnceCell;

use crate::journal::sequence::{self, Take, Taken};
use crate::model::names::{EnvName, FlowName};
use crate::plan::compare;
use crate::plan::document::PlannedStep;
use crate::steps::{Failure, FailureClass};
use crate::world::store::Store;

/// A run's claim on its number, and on those of the flows that go back inside it: taken by its first effect, durably, before the intent.
#[derive(Debug)]
pub struct Claim {
    store: Store,
    environment: EnvName,
    wanted: Vec<(FlowName, Taken)>,
    ours: OnceCell<()>,
}

impl Claim {
    /// A claim that is not made yet.
    #[must_use]
    pub fn new(store: Store, environment: EnvName, wanted: Vec<(FlowName, Taken)>) -> Self {
        Self { store, environment, wanted, ours: OnceCell::new() }
    }

    /// Makes it; from then on it is the run's. Of steps that start at the same time one makes it,
    /// the others wait.
    pub async fn make(&self) -> Result<(), Failure> {
        self.ours.get_or_try_init(async || self.take()).await.copied()
    }

    fn take(&self) -> Result<(), Failure> {
        for (flow, wanted) in &self.wanted {
            if let Take::Theirs(by) = sequence::take(&self.store, &self.environment, flow, wanted)? {
                let by = by.map(|taken| format!(": {}", taken.run)).unwrap_or_default();
                return Err(Failure::of(FailureClass::Refused, format!("another run came in between{by}"))
                    .detail("nothing was done; the plan of this run is not the next one any more"));
            }
        }
        Ok(())
    }
}

/// Refuses an effect when the world is not the one that its step was planned for.
pub fn check_world(planned: &PlannedStep, is: &serde_json::Value) -> Result<(), Failure> {
    let was = &planned.basis.baseline;
    if was.is_null() || is.is_null() {
        return Ok(());
    }
    let differences = compare::facts(was, is);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::of(FailureClass::Refused, "the world changed since the plan was made, so nothing was done")
        .details(differences.iter().map(ToString::to_string)))
}
