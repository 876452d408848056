//! The ways in which a deployment does not end well, in the operator's words.

use std::time::Duration;

use crate::model::units::show_duration;
use crate::steps::Failure;
use crate::steps::failure::FailureClass;
use crate::world::aws::AwsError;

/// Why a deployment is not what was wanted. Definitions are short: `shop-api:42`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RollError {
    /// And the old one runs again.
    #[error("ECS rolled it back to {to}")]
    RolledBack {
        /// The definition in force.
        to: String,
    },
    /// And the old one does not run again yet.
    #[error("ECS is rolling it back to {to}")]
    RollingBack {
        /// The definition in force.
        to: String,
    },
    /// Without a way back.
    #[error("ECS gave {definition} up: {why}")]
    GivenUp {
        /// Ours.
        definition: String,
        /// ECS's words.
        why: String,
    },
    /// ECS would go on for ever.
    #[error("{definition} does not stay up: {failures} tasks stopped and ECS starts more")]
    Looping {
        /// Ours.
        definition: String,
        /// How many.
        failures: usize,
    },
    /// By somebody else.
    #[error("another deployment took over before {definition} was stable: {by}")]
    Superseded {
        /// Ours.
        definition: String,
        /// Theirs.
        by: String,
    },
    /// The end of patience.
    #[error("{definition} is not stable after {}: {counts}", show_duration(*after))]
    TimedOut {
        /// Ours.
        definition: String,
        /// Since the start.
        after: Duration,
        /// `1 of 2 new running`.
        counts: String,
    },
    /// The service was deleted.
    #[error("service {0} was deleted while it was rolled")]
    ServiceGone(String),
    /// The run is being stopped.
    #[error("interrupted: the deployment of {definition} goes on in ECS, {counts}")]
    Left {
        /// Ours.
        definition: String,
        /// `1 of 2 new running`.
        counts: String,
    },
    /// ECS can no longer be asked.
    #[error("the deployment of {definition} goes on in ECS, but cannot be watched: {error}")]
    Blind {
        /// Ours.
        definition: String,
        /// Why.
        error: AwsError,
    },
    /// Nobody knows whether the service was updated.
    #[error("the answer to UpdateService for {service} was lost and ECS cannot tell: {error}")]
    Unknown {
        /// The service.
        service: String,
        /// What came instead.
        error: AwsError,
    },
    /// Somebody was faster.
    #[error("service {service} changed since it was planned: {from} → {to}")]
    Moved {
        /// The service.
        service: String,
        /// Then.
        from: String,
        /// Now.
        to: String,
    },
}

impl From<RollError> for Failure {
    fn from(error: RollError) -> Self {
        let class = match &error {
            RollError::Left { .. } => FailureClass::Interrupted,
            RollError::Unknown { .. } => FailureClass::Unknown,
            RollError::Moved { .. } => FailureClass::Refused,
            _ => FailureClass::Failed,
        };
        let help = match &error {
            RollError::GivenUp { .. } | RollError::Looping { .. } => {
                Some("with circuit-breaker #true ECS goes back to the last good deployment by itself")
            }
            RollError::Left { .. } | RollError::Blind { .. } => Some("a new run waits for this deployment"),
            RollError::Superseded { .. } => {
                Some("see who deploys this service besides this flow, then plan again")
            }
            RollError::Moved { .. } => Some("plan again"),
            RollError::Unknown { .. } => {
                Some("look at the service in ECS; a new run starts from what it finds there")
            }
            _ => None,
        };
        let failure = Self::of(class, error.to_string());
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
