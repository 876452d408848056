//! Why a step could not be planned or carried out, in the operator's words.

use crate::event::{FailureRecord, JournalDown};
use crate::model::settings::Unready;
use crate::world::aws::{AwsError, AwsErrorClass, IdentityError};
use crate::world::cancel::Stopped;
use crate::world::files::FileError;

/// A failure of one step. Each kind has its own typed errors where it tells
/// outcomes apart, and says here what they mean.
#[derive(Debug)]
pub struct Failure {
    /// What it means for the run.
    pub class: FailureClass,
    /// What is shown.
    pub record: FailureRecord,
}

/// What a failure means for the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// It went wrong, and that is known.
    Failed,
    /// It went wrong before anything was changed, and may go right when tried again.
    Passing,
    /// What it acts on does not exist (yet): planned as "(known after STEP)" when a step before it
    /// creates such things, an error otherwise.
    Missing,
    /// flow refuses: wrong account, a guard of the kind.
    Refused,
    /// Somebody else holds what it needs, such as the lock of a state.
    Locked,
    /// The machine lacks a program, or has one that will not do.
    Unusable,
    /// A gate that nobody has opened.
    Waiting,
    /// Whether the effect was made is not known.
    Unknown,
    /// The run is being stopped.
    Interrupted,
    /// A setting is known only after this step.
    NotYet(crate::model::names::StepId),
}

impl Failure {
    /// A plain failure: what happened, in one line without a full stop.
    pub fn new(reason: impl Into<String>) -> Self {
        Self::of(FailureClass::Failed, reason)
    }

    /// A failure of another class.
    pub fn of(class: FailureClass, reason: impl Into<String>) -> Self {
        Self { class, record: FailureRecord { reason: reason.into(), ..FailureRecord::default() } }
    }

    /// What the step acts on does not exist.
    pub fn missing(what: impl Into<String>) -> Self {
        Self::of(FailureClass::Missing, what)
    }

    /// The reason and what stands below it.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let lines = std::iter::once(self.record.reason.as_str());
        let lines = lines.chain(self.record.details.iter().map(String::as_str));
        lines.collect::<Vec<_>>().join("; ")
    }

    /// Adds a line below the reason.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.record.details.push(line.into());
        self
    }

    /// Adds lines below the reason.
    #[must_use]
    pub fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.record.details.extend(lines);
        self
    }

    /// Says what to type or change next.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.record.help = Some(text.into());
        self
    }
}

impl From<Unready> for Failure {
    fn from(unready: Unready) -> Self {
        match unready {
            Unready::After { step, .. } => {
                Self::of(FailureClass::NotYet(step.clone()), format!("known after {step}"))
            }
            Unready::Invalid { setting, why } => Self::of(FailureClass::Refused, format!("{setting}: {why}")),
        }
    }
}

impl From<AwsError> for Failure {
    /// What the answer means when the call changes nothing. Callers of mutating calls look at
    /// [`AwsError::is_unclear`] first and settle it by a query.
    fn from(error: AwsError) -> Self {
        let reason = error.to_string();
        match error.class {
            AwsErrorClass::NotFound => Self::missing(reason),
            AwsErrorClass::Throttled => Self::of(FailureClass::Passing, reason),
            AwsErrorClass::Unclear | AwsErrorClass::NotSent => Self::of(FailureClass::Passing, reason)
                .help("check the endpoint, the network and the credentials"),
            AwsErrorClass::Denied | AwsErrorClass::Refused => Self::new(reason),
        }
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Aws(error) => error.into(),
            wrong @ IdentityError::WrongAccount { .. } => Self::of(FailureClass::Refused, wrong.to_string()),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<JournalDown> for Failure {
    /// Before the effect nothing was done; in its middle nobody can be told what was.
    fn from(error: JournalDown) -> Self {
        Self::of(FailureClass::Unknown, error.to_string())
    }
}

impl From<Stopped> for Failure {
    fn from(_: Stopped) -> Self {
        Self::of(FailureClass::Interrupted, "interrupted")
    }
}
