//! What a release records of a schema: which migrations a database has, and
//! with which of them code of the release before can live.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::files::{File, Phase};
use crate::world::database::{History, Place};

/// A schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// `None` for other tools, which know it themselves.
    #[serde(flatten)]
    pub place: Option<Where>,
    /// The highest number.
    #[serde(default)]
    pub head: Option<i64>,
    /// All that is applied, by number; for other tools what flow saw them apply.
    #[serde(default)]
    pub migrations: Vec<Migration>,
}

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Where {
    pub host: String,
    pub database: String,
}

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Migration {
    /// `None` for other tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Its file, as far as it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `None` when nobody knows: there was no file, or flow could not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
}

impl Migration {
    /// Of a file.
    pub(super) fn of(file: &File) -> Self {
        Self { version: Some(file.script.version), name: Some(file.name.clone()), phase: Some(file.phase) }
    }

    /// Whether both are the same migration.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self.version, other.version) {
            (None, None) => self.name == other.name,
            (one, other) => one == other,
        }
    }
}

impl std::fmt::Display for Migration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, self.version) {
            (Some(name), _) => f.write_str(name),
            (None, Some(version)) => write!(f, "migration {version}"),
            (None, None) => f.write_str("a migration without a name"),
        }
    }
}

impl From<&Place> for Where {
    fn from(place: &Place) -> Self {
        Self { host: place.host.clone(), database: place.database.clone() }
    }
}

impl State {
    /// What a database has. What no file tells any more is taken from what was recorded before.
    pub(super) fn of(place: &Place, history: &History, files: &[File], before: Option<&Json>) -> Self {
        let before: Self =
            before.and_then(|state| serde_json::from_value(state.clone()).ok()).unwrap_or_default();
        let migration = |version: i64| {
            let file = files.iter().find(|file| file.script.version == version).map(Migration::of);
            let known = || before.migrations.iter().find(|known| known.version == Some(version)).cloned();
            file.or_else(known).unwrap_or(Migration { version: Some(version), name: None, phase: None })
        };
        Self {
            place: Some(place.into()),
            head: history.applied.iter().map(|(version, _)| *version).max(),
            migrations: history.applied.iter().map(|(version, _)| migration(*version)).collect(),
        }
    }

    /// With these files applied too.
    pub(super) fn with(mut self, applied: &[&File]) -> Self {
        for file in applied {
            let new = Migration::of(file);
            if !self.migrations.iter().any(|known| known.is(&new)) {
                self.migrations.push(new);
            }
        }
        self.migrations.sort_by_key(|migration| migration.version);
        self.head = self.migrations.iter().filter_map(|migration| migration.version).max();
        self
    }

    /// As it is recorded.
    pub(super) fn to_json(&self) -> Json {
        json!(self)
    }

    /// What is here and not there.
    pub(super) fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Migration> {
        self.migrations.iter().filter(|mine| !other.migrations.iter().any(|theirs| theirs.is(mine)))
    }
}
