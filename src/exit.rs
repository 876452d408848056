//! The exit codes: what a CI job or a script can rely on.

/// How flow ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success, or nothing to do.
    Success = 0,
    /// A step failed.
    Failed = 1,
    /// Wrong usage, or mistakes in flow files.
    Usage = 2,
    /// A gate waits for an answer.
    ApprovalNeeded = 3,
    /// Another run holds the lock.
    Locked = 4,
    /// Refused: wrong account or branch, a guard, a closed gate.
    Refused = 5,
    /// Interrupted by a signal.
    Interrupted = 6,
    /// Whether an effect was made is not known.
    Unknown = 7,
    /// A rollback failed.
    RollbackFailed = 8,
    /// Failed, and what was done is undone.
    RolledBack = 9,
}

impl Exit {
    /// The exit of that code; a code that is none is a failure.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        [
            Self::Success,
            Self::Failed,
            Self::Usage,
            Self::ApprovalNeeded,
            Self::Locked,
            Self::Refused,
            Self::Interrupted,
            Self::Unknown,
            Self::RollbackFailed,
            Self::RolledBack,
        ]
        .get(usize::from(code))
        .copied()
        .unwrap_or(Self::Failed)
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
