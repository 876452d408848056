//! The effect of `migrate`: file after file, each recorded before the next.
//!
//! When an answer is lost, the database is asked again under its lock: once a
//! new session holds it, the old one is over and its table tells what happened.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::files::File;
use super::state::State;
use super::statements::place;
use super::{applied_in_words, outputs};
use crate::model::secret::Secret;
use crate::model::units::show_duration;
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::clock::Moment;
use crate::world::database::{ApplyError, Database, DatabaseError, Patience, Place, SqlFault, checksum};
use crate::world::process::DEFAULT_GRACE;

/// What is applied.
#[derive(Clone, Debug)]
pub(super) struct Apply {
    pub files: Vec<File>,
    pub url: Secret,
    pub place: Place,
    pub lock_timeout: Duration,
    /// The highest number before.
    pub head: Option<i64>,
    /// The schema before.
    pub standing: State,
    pub timeout: Option<Duration>,
    pub grace: Option<Duration>,
}

#[async_trait]
impl Effect for Apply {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let start = cx.world.clock.moment();
        let names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        cx.feed.note("applying", json!({ "files": names })).await?;
        let mut database = Some(self.open().await?);
        let mut applied: Vec<&File> = Vec::new();
        let mut outcome = Ok(());
        for (index, file) in self.files.iter().enumerate() {
            cx.feed.progress(format!("{} ({} of {})", file.name, index + 1, self.files.len())).await;
            let settled;
            (database, settled) = self.one(file, database, start, cx).await;
            match settled {
                Ok(()) => applied.push(file),
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
            let note = json!({
                "version": file.script.version, "file": file.name, "phase": file.phase.as_str(),
            });
            if let Err(down) = cx.feed.note("applied", note).await {
                outcome = Err(down.into());
                break;
            }
            cx.feed.output(format!("applied {}", file.name)).await;
        }
        if let Some(database) = database {
            database.close().await;
        }
        outcome.map_err(|failure: Failure| told(failure, &applied))?;
        Ok(self.done(&applied))
    }
}

/// Says what stays of the files before the one that failed.
fn told(failure: Failure, applied: &[&File]) -> Failure {
    match applied {
        [] => failure,
        applied => {
            let names: Vec<&str> = applied.iter().map(|file| file.name.as_str()).collect();
            failure.detail(format!("applied before it, and stays: {}", names.join(", ")))
        }
    }
}

impl Apply {
    /// A session that holds the lock.
    async fn open(&self) -> Result<Database, DatabaseError> {
        let mut database = Database::connect(&self.url, self.lock_timeout).await?;
        match database.prepare().await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await;
                Err(error)
            }
        }
    }

    /// Applies one file; gives back the session, which is another one after a lost answer.
    async fn one(
        &self,
        file: &File,
        database: Option<Database>,
        start: Moment,
        cx: &Context,
    ) -> (Option<Database>, Result<(), Failure>) {
        let mut database = match database {
            Some(database) => database,
            None => match self.open().await {
                Ok(database) => database,
                Err(error) => return (None, Err(error.into())),
            },
        };
        match self.is_applied(file, &mut database).await {
            Ok(false) => {}
            Ok(true) => return (Some(database), Ok(())),
            Err(failure) => return (Some(database), Err(failure)),
        }
        let patience = Patience {
            cancel: &cx.cancel,
            timeout: self.timeout.map(|timeout| timeout.saturating_sub(start.elapsed())),
            grace: self.grace.unwrap_or(DEFAULT_GRACE),
        };
        let transactional = database.is_transactional() && file.is_atomic();
        if !transactional && let Err(down) = begins(file, cx).await {
            return (Some(database), Err(down));
        }
        let failure = match database.apply(&file.script, patience).await {
            Ok(()) => return (Some(database), Ok(())),
            Err(ApplyError::Database(DatabaseError::Sql(fault))) => refused(file, &fault),
            Err(ApplyError::Stopped) => {
                Failure::of(FailureClass::Interrupted, format!("interrupted in {}", file.name))
            }
            Err(ApplyError::TimedOut) => Failure::new(format!(
                "{} was not done after {}, and stopped",
                file.name,
                show_duration(self.timeout.unwrap_or_default())
            )),
            Err(error) => {
                drop(database);
                return self.settle(file, &error).await;
            }
        };
        (Some(database), Err(failure.detail(remains(transactional))))
    }

    /// Whether somebody has applied the file since the plan, with the same text.
    async fn is_applied(&self, file: &File, database: &mut Database) -> Result<bool, Failure> {
        let history = database.history().await?;
        match history.applied.iter().find(|(version, _)| *version == file.script.version) {
            None => Ok(false),
            Some((_, sum)) if *sum == checksum(&file.script.text) => Ok(true),
            Some(_) => Err(Failure::of(
                FailureClass::Refused,
                format!("{} was applied meanwhile, with another text", file.name),
            )),
        }
    }

    /// Finds out what became of a file whose answer was lost.
    async fn settle(&self, file: &File, lost: &ApplyError) -> (Option<Database>, Result<(), Failure>) {
        let unknown = |why: String| {
            Failure::of(FailureClass::Unknown, format!("whether {} was applied is not known", file.name))
                .detail(lost.to_string())
                .detail(format!("asking again failed: {why}"))
                .help(format!(
                    "look for version {} in _sqlx_migrations of {}",
                    file.script.version, self.place
                ))
        };
        let mut database = match self.open().await {
            Ok(database) => database,
            Err(error) => return (None, Err(unknown(error.to_string()))),
        };
        let outcome = match self.is_applied(file, &mut database).await {
            Ok(true) => Ok(()),
            Ok(false) if file.is_atomic() && database.is_transactional() => {
                Err(Failure::new(lost.to_string()).detail(format!("{} was not applied", file.name)))
            }
            Ok(false) => Err(unknown("it is not recorded, and it ran outside a transaction".to_owned())),
            Err(failure) => Err(unknown(failure.record.reason)),
        };
        (Some(database), outcome)
    }

    fn done(&self, applied: &[&File]) -> Done {
        let names: Vec<&str> = applied.iter().map(|file| file.name.as_str()).collect();
        let head = applied.iter().map(|file| file.script.version).chain(self.head).max();
        let summary = applied_in_words(&names);
        let receipt = self.standing.clone().with(applied).to_json();
        Done { summary, outputs: outputs(&names, head), receipt }
    }
}

/// Only a file that may leave something behind needs a word before it.
async fn begins(file: &File, cx: &Context) -> Result<(), Failure> {
    let note = json!({ "version": file.script.version, "file": file.name });
    Ok(cx.feed.note("begins", note).await?)
}

fn remains(transactional: bool) -> String {
    let text = if transactional {
        "the database is unchanged by this file"
    } else {
        "the file is not one transaction: what its statements before did stays, and it is not recorded as applied"
    };
    text.to_owned()
}

/// A statement that the database refused, with its place in the file.
fn refused(file: &File, fault: &SqlFault) -> Failure {
    let mut failure = match fault.at {
        None => Failure::new(format!("{}: {}", file.path, fault.message)),
        Some(at) => {
            let (line, column, text) = place(&file.script.text, at);
            let number = line.to_string();
            // Tabs take one column in the caret's line as they do in the text's.
            let blank: String =
                text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            Failure::new(format!("{}:{line}:{column}: {}", file.path, fault.message))
                .detail(format!("{number} │ {text}"))
                .detail(format!("{} │ {blank}^", " ".repeat(number.len())))
        }
    };
    failure = failure.details(fault.more.iter().cloned());
    if fault.code.as_deref() == Some("55P03") {
        return failure.help("somebody uses the table: try again when it is quiet, or raise lock-timeout");
    }
    failure
}
