//! Who may change an environment: one run at a time.
//!
//! Each holder has a numbered record of its own, `locks/<env>/<token>.jsonl`,
//! which appears whole and under a file lock that the kernel drops with the
//! process. Tokens only grow; records are added to and never deleted.
//!
//! - Whoever wants the lock looks at the newest record. It is free when that
//!   one says so or when nobody holds its file any more; then the record with
//!   the next number is made, and of several that try exactly one succeeds.
//! - [`Locks::take_away`] makes the next record while the holder lives. The
//!   holder's journal looks for that record before each of its own
//!   ([`Fence`]), and takes nothing more once it is there: so a run whose lock
//!   was taken makes at most the one effect that it had announced before.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::log;
use super::replay::{Phase, RunState};
use crate::event::JournalDown;
use crate::model::names::{EnvName, RunId, StepId};
use crate::world::clock::Clock;
use crate::world::files::FileError;
use crate::world::growing::Growing;
use crate::world::host;
use crate::world::store::Store;

/// Version of the format.
pub const VERSION: u32 = 1;

/// One line of a record. The first one says what the record is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum Line {
    /// A process holds the lock, as long as it holds the file.
    Held { version: u32, token: u64, by: String, pid: u32, since: Timestamp },
    /// The run that it is for, once that has an id.
    Run { run: RunId },
    /// The holder gave it back.
    Released { at: Timestamp },
    /// Somebody took it from a holder that hangs.
    TakenAway { version: u32, token: u64, by: String, since: Timestamp, reason: String },
}

/// A lock that cannot be had or told.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file system's word.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another run holds it.
    #[error("{} is locked by {}", .0.environment, .0.who())]
    Held(Box<Holder>),
    /// A record is not what flow writes.
    #[error("the lock record {token} of {environment} cannot be read: {why}")]
    Damaged {
        /// Its number.
        token: u64,
        /// The environment.
        environment: EnvName,
        /// What is wrong with it.
        why: String,
    },
}

/// Who holds a lock, or held it when they died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The environment.
    #[serde(rename = "id")]
    pub environment: EnvName,
    /// The number by which it can be taken away.
    pub token: u64,
    /// `USER@HOST`, and the CI job's link if there is one.
    pub by: String,
    /// The process on that host.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// Its run; absent while it makes its plan.
    pub run: Option<RunId>,
}

impl Holder {
    /// `run h2x1 of ada@build-7`
    #[must_use]
    pub fn who(&self) -> String {
        let person = self.by.split(' ').next().unwrap_or(&self.by);
        match &self.run {
            Some(run) => format!("run {run} of {person}"),
            None => format!("{person}, who makes a plan"),
        }
    }

    /// The CI job's link.
    #[must_use]
    pub fn job(&self) -> Option<&str> {
        self.by.split_once(' ').map(|(_, job)| job)
    }
}

/// How an environment's lock stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody holds it.
    Free,
    /// A process holds it.
    Held(Holder),
    /// Its holder died and never gave it back. Whoever wants it has it.
    Left(Holder),
    /// It was taken from a holder that may still live. Whoever wants it has it.
    TakenAway(TakenAway),
}

/// That a lock was taken from its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("the lock of {environment} was taken away by {by}: {reason}")]
pub struct TakenAway {
    /// The environment.
    pub environment: EnvName,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// From whom.
    #[serde(skip)]
    pub from: Option<Box<Holder>>,
}

/// What the step does that a run is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doing {
    /// The step.
    pub step: StepId,
    /// What it is about to do; for a gate, that it waits.
    pub what: String,
}

/// The locks in a store.
#[derive(Clone, Debug)]
pub struct Locks {
    store: Store,
    clock: Clock,
}

/// A record as it is read.
struct Record {
    token: u64,
    lines: Vec<Line>,
    /// Whether its process lives.
    alive: bool,
}

impl Locks {
    /// The locks in a store.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// The environments of which there are records.
    pub fn environments(&self) -> Result<Vec<EnvName>, LockError> {
        Ok(self.store.list("locks")?.into_iter().map(EnvName::new).collect())
    }

    /// How the lock of an environment stands.
    pub fn standing(&self, environment: &EnvName) -> Result<Standing, LockError> {
        let Some(token) = self.newest(environment)? else { return Ok(Standing::Free) };
        self.standing_at(environment, token)
    }

    fn standing_at(&self, environment: &EnvName, token: u64) -> Result<Standing, LockError> {
        let record = self.read(environment, token)?;
        if let Some(Line::TakenAway { by, since, reason, .. }) = record.lines.first() {
            let from = match token.checked_sub(1).filter(|before| *before > 0) {
                Some(before) => {
                    let before = self.read(environment, before)?;
                    before.holder(environment).filter(|_| before.alive && !before.is_released())
                }
                None => None,
            };
            return Ok(Standing::TakenAway(TakenAway {
                environment: environment.clone(),
                by: by.clone(),
                reason: reason.clone(),
                at: *since,
                from: from.map(Box::new),
            }));
        }
        match record.holder(environment) {
            _ if record.is_released() => Ok(Standing::Free),
            Some(holder) if record.alive => Ok(Standing::Held(holder)),
            Some(holder) => Ok(Standing::Left(holder)),
            None => Err(LockError::Damaged {
                token,
                environment: environment.clone(),
                why: "it does not say who holds the lock".to_owned(),
            }),
        }
    }

    /// Takes the lock of an environment for this process.
    pub fn take(&self, environment: &EnvName, by: &str) -> Result<Held, LockError> {
        loop {
            let newest = self.newest(environment)?;
            let standing = match newest {
                Some(token) => self.standing_at(environment, token)?,
                None => Standing::Free,
            };
            let left = match standing {
                Standing::Held(holder) => return Err(LockError::Held(Box::new(holder))),
                Standing::Left(holder) => Some(holder),
                Standing::TakenAway(taken) => taken.from.map(|from| *from),
                Standing::Free => None,
            };
            let token = newest.unwrap_or(0) + 1;
            let line = Line::Held {
                version: VERSION,
                token,
                by: by.to_owned(),
                pid: host::pid(),
                since: self.clock.now(),
            };
            // Somebody else was faster: then it is theirs, unless they are through already.
            if let Some(file) = self.store.begin_with(&key(environment, token), &bytes(&line))? {
                return Ok(Held { locks: self.clone(), environment: environment.clone(), token, file, left });
            }
        }
    }

    /// Takes the lock away from the holder with this token, who hangs. `None` when it is not theirs
    /// any more.
    pub fn take_away(&self, holder: &Holder, by: &str, reason: &str) -> Result<Option<TakenAway>, LockError> {
        let token = holder.token + 1;
        let at = self.clock.now();
        let line = Line::TakenAway {
            version: VERSION,
            token,
            by: by.to_owned(),
            since: at,
            reason: reason.to_owned(),
        };
        let made = self.store.begin_with(&key(&holder.environment, token), &bytes(&line))?;
        Ok(made.map(|_| TakenAway {
            environment: holder.environment.clone(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            at,
            from: Some(Box::new(holder.clone())),
        }))
    }

    /// What the run of a holder does right now; `None` between two steps, and when it cannot be told.
    #[must_use]
    pub fn doing(&self, holder: &Holder) -> Option<Doing> {
        let state = RunState::replay(&log::read(&self.store, holder.run.as_ref()?).ok()?);
        let urgent = |phase: &Phase| match phase {
            Phase::Intent => Some(0),
            Phase::Running => Some(1),
            Phase::Retrying => Some(2),
            Phase::Asking => Some(3),
            _ => None,
        };
        let (_, step, state) = state
            .steps
            .iter()
            .filter_map(|(id, step)| Some((urgent(&step.phase)?, id, step)))
            .min_by_key(|(urgent, ..)| *urgent)?;
        let what = match state.phase {
            Phase::Asking => "waits for an answer".to_owned(),
            Phase::Retrying => "failed and is about to be tried again".to_owned(),
            _ => state.summary.clone(),
        };
        Some(Doing { step: step.clone(), what })
    }

    fn newest(&self, environment: &EnvName) -> Result<Option<u64>, LockError> {
        let names = self.store.list(&format!("locks/{environment}"))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".jsonl")?.parse().ok()).max())
    }

    fn read(&self, environment: &EnvName, token: u64) -> Result<Record, LockError> {
        let key = key(environment, token);
        // Asked first: a holder that gives it back in between is then seen as having done so.
        let alive = self.store.is_held(&key)?;
        let bytes = self.store.get(&key)?.unwrap_or_default();
        let damaged = |why: String| LockError::Damaged { token, environment: environment.clone(), why };
        // What stands behind the last line end was never acknowledged.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = Vec::new();
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Line = serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))?;
            if let Line::Held { version, .. } | Line::TakenAway { version, .. } = &line
                && *version > VERSION
            {
                return Err(damaged(format!("it has version {version}, this flow reads up to {VERSION}")));
            }
            lines.push(line);
        }
        Ok(Record { token, lines, alive })
    }
}

impl Record {
    fn is_released(&self) -> bool {
        self.lines.iter().any(|line| matches!(line, Line::Released { .. }))
    }

    fn holder(&self, environment: &EnvName) -> Option<Holder> {
        let Some(Line::Held { by, pid, since, .. }) = self.lines.first() else { return None };
        let run = self.lines.iter().find_map(|line| match line {
            Line::Run { run } => Some(run.clone()),
            _ => None,
        });
        Some(Holder {
            environment: environment.clone(),
            token: self.token,
            by: by.clone(),
            pid: *pid,
            since: *since,
            run,
        })
    }
}

/// A lock that this process has. Dropped, it is given back.
#[derive(Debug)]
pub struct Held {
    locks: Locks,
    environment: EnvName,
    token: u64,
    file: Growing,
    left: Option<Holder>,
}

impl Held {
    /// The environment.
    #[must_use]
    pub fn environment(&self) -> &EnvName {
        &self.environment
    }

    /// Who had it before and never gave it back: what that run left open must be settled first.
    #[must_use]
    pub fn left(&self) -> Option<&Holder> {
        self.left.as_ref()
    }

    /// Says which run it is for.
    pub fn name_run(&mut self, run: &RunId) -> Result<(), LockError> {
        self.file.append(&bytes(&Line::Run { run: run.clone() }))?;
        Ok(self.file.sync()?)
    }

    /// What a run's journal asks before each record.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { locks: self.locks.clone(), environment: self.environment.clone(), token: self.token }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Where this cannot be written the kernel drops the file's lock, and the next holder sees
        // one that died: it looks once more at what this run left, and nothing else comes of it.
        let _ = self.file.append(&bytes(&Line::Released { at: self.locks.clock.now() }));
        let _ = self.file.sync();
    }
}

/// Whether a lock is still its holder's.
#[derive(Clone, Debug)]
pub struct Fence {
    locks: Locks,
    environment: EnvName,
    token: u64,
}

impl Fence {
    /// One look at the store. Whatever is not a clear yes is a no.
    pub fn check(&self) -> Result<(), JournalDown> {
        let next = self.token + 1;
        match self.locks.store.get(&key(&self.environment, next)) {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) => return Err(JournalDown(format!("the lock cannot be looked at: {error}"))),
        }
        Err(JournalDown(match self.locks.standing_at(&self.environment, next) {
            Ok(Standing::TakenAway(taken)) => taken.to_string(),
            Ok(Standing::Held(holder) | Standing::Left(holder)) => {
                format!("the lock of {} was taken by {}", self.environment, holder.who())
            }
            Ok(Standing::Free) => format!("the lock of {} was taken by another run", self.environment),
            Err(error) => error.to_string(),
        }))
    }
}

fn key(environment: &EnvName, token: u64) -> String {
    format!("locks/{environment}/{token:08}.jsonl")
}

fn bytes(line: &Line) -> Vec<u8> {
    // Plain fields: there is nothing that could not be written as JSON.
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::event::Event;
    use crate::journal::log::Journal;

    fn locks() -> (tempfile::TempDir, Locks, EnvName) {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::new(Store::folder(folder.path().join("store")), Clock);
        (folder, locks, EnvName::new("prod"))
    }

    fn holder(locks: &Locks, environment: &EnvName) -> Holder {
        match locks.standing(environment).unwrap() {
            Standing::Held(holder) => holder,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_at_a_time_and_given_back_at_the_end() {
        let (_folder, locks, prod) = locks();
        assert_eq!(locks.standing(&prod).unwrap(), Standing::Free);
        let mut held = locks.take(&prod, "ada@build-7 https://ci.example.com/jobs/8812").unwrap();
        let refused = locks.take(&prod, "lin@desk").unwrap_err();
        assert_eq!(refused.to_string(), "prod is locked by ada@build-7, who makes a plan");
        held.name_run(&RunId::new("h2x1")).unwrap();
        let refused = locks.take(&prod, "lin@desk").unwrap_err();
        assert_eq!(refused.to_string(), "prod is locked by run h2x1 of ada@build-7");
        let seen = holder(&locks, &prod);
        assert_eq!((seen.token, seen.job()), (1, Some("https://ci.example.com/jobs/8812")));
        assert!(locks.take(&EnvName::new("staging"), "lin@desk").is_ok(), "another environment is free");
        drop(held);
        assert_eq!(locks.standing(&prod).unwrap(), Standing::Free);
        let next = locks.take(&prod, "lin@desk").unwrap();
        assert_eq!((next.token, next.left()), (2, None));
    }

    #[test]
    fn a_holder_that_died_keeps_nobody_out_and_is_named() {
        let (_folder, locks, prod) = locks();
        let line = Line::Held {
            version: VERSION,
            token: 7,
            by: "ada@build-7".to_owned(),
            pid: 4711,
            since: Clock.now(),
        };
        let run = Line::Run { run: RunId::new("h2x1") };
        let torn = br#"{"state":"rel"#;
        let text = [bytes(&line), bytes(&run), torn.to_vec()].concat();
        locks.store.put(&key(&prod, 7), &text).unwrap();
        let Standing::Left(dead) = locks.standing(&prod).unwrap() else { panic!("it is dead") };
        assert_eq!(dead.who(), "run h2x1 of ada@build-7");
        let next = locks.take(&prod, "lin@desk").unwrap();
        assert_eq!((next.token, next.left()), (8, Some(&dead)));
    }

    #[test]
    fn whoever_loses_the_lock_records_nothing_more() {
        let (_folder, locks, prod) = locks();
        let mut held = locks.take(&prod, "ada@build-7").unwrap();
        let mut journal = Journal::begin(&locks.store, Clock).unwrap().under(vec![held.fence()]);
        held.name_run(journal.run()).unwrap();
        let event = Event::Warning { text: "x".to_owned() };
        journal.append(&event, true).unwrap();

        let hanging = holder(&locks, &prod);
        assert!(locks.take_away(&hanging, "lin@desk", "it hangs").unwrap().is_some());
        assert!(locks.take_away(&hanging, "eve@desk", "me too").unwrap().is_none(), "only once");
        let Standing::TakenAway(taken) = locks.standing(&prod).unwrap() else { panic!("it was taken") };
        assert_eq!(taken.to_string(), "the lock of prod was taken away by lin@desk: it hangs");
        assert_eq!(taken.from.as_deref(), Some(&hanging), "it still lives");
        let refused = journal.append(&event, true).unwrap_err();
        assert_eq!(refused.to_string(), taken.to_string());
        assert_eq!(log::read(&locks.store, journal.run()).unwrap().len(), 1);

        let next = locks.take(&prod, "lin@desk").unwrap();
        assert_eq!((next.token, next.left()), (3, Some(&hanging)));
        drop(held);
        assert!(matches!(locks.standing(&prod).unwrap(), Standing::Held(_)), "the new one keeps it");
        assert!(next.fence().check().is_ok());
    }

    #[test]
    fn of_many_at_once_exactly_one_has_it() {
        let (_folder, locks, prod) = locks();
        let (inside, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let mut mine = 0;
                    while mine < 3 {
                        match locks.take(&prod, "ada@build-7") {
                            Ok(held) => {
                                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have it");
                                taken.fetch_add(1, Ordering::SeqCst);
                                assert!(held.fence().check().is_ok());
                                inside.fetch_sub(1, Ordering::SeqCst);
                                mine += 1;
                            }
                            Err(LockError::Held(_)) => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        let taken = taken.into_inner();
        assert_eq!(taken, 36, "everybody had it three times");
        let newest = locks.newest(&prod).unwrap();
        assert_eq!(newest, Some(u64::from(taken)), "one record each, without gaps");
    }

    #[test]
    fn a_record_that_is_none_is_named_and_gives_nobody_the_lock() {
        let (_folder, locks, prod) = locks();
        let newer =
            r#"{"state":"held","version":9,"token":1,"by":"x","pid":1,"since":"2026-11-21T04:10:00Z"}"#;
        for (text, why) in [
            ("nonsense\n", "expected ident at line 1 column 2"),
            ("", "it does not say who holds the lock"),
            (&format!("{newer}\n"), "it has version 9, this flow reads up to 1"),
        ] {
            locks.store.put(&key(&prod, 1), text.as_bytes()).unwrap();
            let error = locks.take(&prod, "lin@desk").unwrap_err().to_string();
            assert_eq!(error, format!("the lock record 1 of prod cannot be read: {why}"));
        }
    }
}
