//! The ways in which a one-off task does not end well, in the operator's words.

use std::time::Duration;

use crate::model::units::show_duration;
use crate::steps::{Failure, FailureClass};
use crate::world::aws::AwsError;

/// How a one-off task does not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RunError {
    #[error("container {container} exited with {code}")]
    Exited { container: String, code: i64 },
    #[error("container {container} never ran: {why}")]
    NeverRan { container: String, why: String },
    #[error("ECS did not start a task: {0}")]
    NotStarted(String),
    #[error("task {task} was not done after {} and was stopped", show_duration(*after))]
    TimedOut { task: String, after: Duration },
    #[error("interrupted: task {0} was stopped")]
    Stopped(String),
    #[error("task {0} was told to stop and may still run")]
    Left(String),
    #[error("the answer to RunTask was lost and ECS cannot tell: {0}")]
    Unknown(AwsError),
    #[error("task {task} can no longer be watched: {error}")]
    Blind { task: String, error: AwsError },
    #[error("ECS has forgotten task {0}; its exit code is not known")]
    Forgotten(String),
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let class = match &error {
            RunError::Stopped(_) => FailureClass::Interrupted,
            RunError::Left(_) | RunError::Unknown(_) | RunError::Blind { .. } | RunError::Forgotten(_) => {
                FailureClass::Unknown
            }
            RunError::Exited { .. }
            | RunError::NeverRan { .. }
            | RunError::NotStarted(_)
            | RunError::TimedOut { .. } => FailureClass::Failed,
        };
        Self::of(class, error.to_string())
    }
}
