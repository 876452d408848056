//! What a database answered when it did not do what was asked.

use std::fmt;
use std::time::Duration;

use crate::model::units::show_duration;

/// Which database it is. Without user and password, so that it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Host and port; a file's folder for SQLite.
    pub host: String,
    /// The database's name; a file's name for SQLite.
    pub database: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database {} on {}", self.database, self.host)
    }
}

/// Something went wrong between flow and a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// No URL of a database.
    #[error("this is no URL of a database")]
    Url,
    /// Nobody answers there.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// The database.
        place: Place,
        /// Why.
        why: String,
    },
    /// The user may not.
    #[error("{place} refuses user {user}: {why}")]
    Denied {
        /// The database.
        place: Place,
        /// Who asked.
        user: String,
        /// The server's words.
        why: String,
    },
    /// The server is there, the database is not.
    #[error("there is no {place}")]
    NoDatabase {
        /// The database.
        place: Place,
    },
    /// Somebody else migrates.
    #[error("{place} is being migrated by somebody else, and did not become free within {}", show_duration(*.after))]
    Locked {
        /// The database.
        place: Place,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection to {place} broke: {why}")]
    Broken {
        /// The database.
        place: Place,
        /// Why.
        why: String,
    },
    /// The database refused a statement.
    #[error(transparent)]
    Sql(SqlFault),
}

/// A statement that the database refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlFault {
    /// `SQLSTATE` or the engine's own code.
    pub code: Option<String>,
    /// The database's words.
    pub message: String,
    /// More of them.
    pub more: Vec<String>,
    /// Where in the script, in bytes, when that is known.
    pub at: Option<usize>,
}

/// A script that did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The database refused it, or could not be asked.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The run is being stopped, and the database confirmed that it gave up the script.
    #[error("interrupted")]
    Stopped,
    /// It took too long, and the database confirmed that it gave up the script.
    #[error("not done in time, and stopped")]
    TimedOut,
    /// It was to be stopped, and the database did not say whether it was.
    #[error("the database did not confirm that it stopped")]
    Unanswered,
}

/// Reads an error of the driver. `connecting` tells a refusal to connect from a broken connection.
pub(super) fn read(place: &Place, user: &str, connecting: bool, error: &sqlx::Error) -> DatabaseError {
    let place = place.clone();
    let Some(answer) = error.as_database_error() else {
        let why = error.to_string().replace("error communicating with database: ", "");
        return match error {
            sqlx::Error::Configuration(_) => DatabaseError::Url,
            _ if connecting => DatabaseError::Unreachable { place, why },
            _ => DatabaseError::Broken { place, why },
        };
    };
    let code = answer.code().map(std::borrow::Cow::into_owned);
    let why = answer.message().to_owned();
    match code.as_deref() {
        // PostgreSQL; MySQL's own states; SQLite's "unable to open database file".
        Some("3D000") => DatabaseError::NoDatabase { place },
        Some("42000") if why.starts_with("Unknown database") => DatabaseError::NoDatabase { place },
        Some("14") if connecting => DatabaseError::NoDatabase { place },
        Some("28P01" | "28000") => DatabaseError::Denied { place, user: user.to_owned(), why },
        // Shutting down, starting up, killed by an administrator.
        Some("57P01" | "57P02" | "57P03") if connecting => DatabaseError::Unreachable { place, why },
        Some("57P01" | "57P02" | "57P03") => DatabaseError::Broken { place, why },
        _ => DatabaseError::Sql(fault(answer, code)),
    }
}

fn fault(answer: &dyn sqlx::error::DatabaseError, code: Option<String>) -> SqlFault {
    let mut more = Vec::new();
    if let Some(answer) = answer.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        more.extend(answer.detail().map(|text| format!("detail: {text}")));
        more.extend(answer.hint().map(|text| format!("hint: {text}")));
        more.extend(answer.r#where().map(|text| format!("in: {}", text.lines().next().unwrap_or_default())));
    }
    SqlFault { code, message: answer.message().to_owned(), more, at: None }
}

/// The place of a PostgreSQL error in its statement, in characters from 0.
pub(super) fn position(error: &sqlx::Error) -> Option<usize> {
    use sqlx::postgres::{PgDatabaseError, PgErrorPosition};
    match error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.position()? {
        PgErrorPosition::Original(position) => position.checked_sub(1),
        PgErrorPosition::Internal { .. } => None,
    }
}
