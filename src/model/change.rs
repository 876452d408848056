//! What a plan says of a step.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What would happen to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Something new.
    Create,
    /// Something else than now.
    Update,
    /// Something new in place of what is there.
    Replace,
    /// Something goes.
    Delete,
    /// A program or a check runs.
    Run,
    /// Nothing: it is as wanted.
    UpToDate,
    /// Nothing: its outputs are restored.
    Cached,
    /// Nothing: `when` is false, or nothing needs it.
    Skipped,
    /// The world could not be asked.
    Unknown,
}

impl Action {
    /// Whether the step will be executed.
    #[must_use]
    pub fn will_run(self) -> bool {
        !matches!(self, Self::UpToDate | Self::Cached | Self::Skipped)
    }

    /// As it stands in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Run => "run",
            Self::UpToDate => "up-to-date",
            Self::Cached => "cached",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether and how it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reversible {
    /// flow can.
    Auto,
    /// A person must.
    Manual,
    /// It only goes forward: migrations.
    ForwardOnly,
    /// There is nothing to take back.
    None,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What differs: `image`, `memory`, `index.html`.
    pub what: String,
    /// Now; absent when it is new.
    pub from: Option<String>,
    /// Then; absent when it goes.
    pub to: Option<String>,
}

impl Change {
    /// A difference between two values.
    pub fn new(
        what: impl Into<String>,
        from: impl Into<Option<String>>,
        to: impl Into<Option<String>>,
    ) -> Self {
        Self { what: what.into(), from: from.into(), to: to.into() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{}  {from} → {to}", self.what),
            (None, Some(to)) => write!(f, "{}  {to}", self.what),
            (Some(from), None) => write!(f, "{}  {from} → none", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_called_what_its_json_says() {
        use Action::{Cached, Create, Delete, Replace, Run, Skipped, Unknown, UpToDate, Update};
        for action in [Create, Update, Replace, Delete, Run, UpToDate, Cached, Skipped, Unknown] {
            assert_eq!(serde_json::json!(action), action.name());
        }
    }
}
