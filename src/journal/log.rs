//! The journal of a run: JSON lines that are only ever added.
//!
//! Each record holds the digest of the line before it, so that a line that was
//! changed, lost or put in later is found. There is one writer, `exec`'s
//! dispatcher. After the first record that could not be written the journal
//! takes nothing more: what is not recorded must not be done.

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

use super::ids;
use super::locks::Fence;
use crate::event::{Event, JournalDown, VERSION};
use crate::model::names::RunId;
use crate::world::clock::Clock;
use crate::world::files::{FileError, digest};
use crate::world::growing::{Growing, Tail};
use crate::world::store::Store;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Of the format.
    pub version: u32,
    /// From 1, without gaps.
    pub seq: u64,
    /// When, UTC, to the millisecond.
    pub time: Timestamp,
    /// SHA-256 of the line before without its end; empty in the first.
    pub prev: String,
    /// What happened.
    pub event: Event,
}

/// Where the journal of a run lies.
#[must_use]
pub fn key(run: &RunId) -> String {
    format!("runs/{run}/journal.jsonl")
}

/// The writing end. Whoever holds it holds the run's lock.
#[derive(Debug)]
pub struct Journal {
    run: RunId,
    file: Growing,
    clock: Clock,
    seq: u64,
    prev: String,
    down: Option<JournalDown>,
    fences: Vec<Fence>,
}

impl Journal {
    /// Begins a run: takes an id that no run has, and makes its journal.
    pub fn begin(store: &Store, clock: Clock) -> Result<Self, JournalDown> {
        let mut attempt = 0;
        loop {
            let run = ids::candidate(attempt);
            if let Some(file) = store.begin(&key(&run)).map_err(|error| down(&error))? {
                return Ok(Self {
                    run,
                    file,
                    clock,
                    seq: 0,
                    prev: String::new(),
                    down: None,
                    fences: Vec::new(),
                });
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// Goes on with the journal of a run whose process is gone. Returns it with all that is in it.
    pub fn resume(store: &Store, clock: Clock, run: &RunId) -> Result<(Self, Vec<Record>), ResumeError> {
        let key = key(run);
        let Some(file) = store.take_over(&key).map_err(ReadError::from)? else {
            return Err(ResumeError::Alive(run.clone()));
        };
        // Read under the lock: nobody adds anything any more.
        let mut reader = Reader::new(store, run);
        let records = reader.rest()?;
        if records.is_empty() {
            return Err(ResumeError::Nothing(run.clone()));
        }
        let (seq, prev) = (reader.line, reader.prev);
        let journal = Self { run: run.clone(), file, clock, seq, prev, down: None, fences: Vec::new() };
        Ok((journal, records))
    }

    /// The run it belongs to.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// From now on it takes records only as long as these locks are the run's own.
    #[must_use]
    pub fn under(mut self, fences: Vec<Fence>) -> Self {
        self.fences = fences;
        self
    }

    /// Adds an event and says when that was. If `durable`, it and all before it are on disk when
    /// this returns. Events that are not recorded only get their time.
    pub fn append(&mut self, event: &Event, durable: bool) -> Result<Timestamp, JournalDown> {
        if let Some(down) = &self.down {
            return Err(down.clone());
        }
        let now = self.clock.now();
        let time = now.round(Unit::Millisecond).unwrap_or(now);
        if !event.is_recorded() {
            return Ok(time);
        }
        let allowed = self.fences.iter().try_for_each(Fence::check);
        let written =
            allowed.and_then(|()| self.line(time, event)).and_then(|line| self.write(line, durable));
        if let Err(error) = written {
            self.down = Some(error.clone());
            return Err(error);
        }
        Ok(time)
    }

    /// Returns once everything that was added is on disk.
    pub fn sync(&mut self) -> Result<(), JournalDown> {
        if let Some(down) = &self.down {
            return Err(down.clone());
        }
        self.file.sync().map_err(|error| {
            let error = down(&error);
            self.down = Some(error.clone());
            error
        })
    }

    fn line(&self, time: Timestamp, event: &Event) -> Result<Vec<u8>, JournalDown> {
        /// [`Record`] without a copy of the event.
        #[derive(Serialize)]
        struct Line<'a> {
            version: u32,
            seq: u64,
            time: Timestamp,
            prev: &'a str,
            event: &'a Event,
        }
        let line = Line { version: VERSION, seq: self.seq + 1, time, prev: &self.prev, event };
        serde_json::to_vec(&line).map_err(|error| JournalDown(error.to_string()))
    }

    fn write(&mut self, mut line: Vec<u8>, durable: bool) -> Result<(), JournalDown> {
        let prev = digest(&line);
        line.push(b'\n');
        self.file.append(&line).map_err(|error| down(&error))?;
        if durable {
            self.file.sync().map_err(|error| down(&error))?;
        }
        self.seq += 1;
        self.prev = prev;
        Ok(())
    }
}

fn down(error: &FileError) -> JournalDown {
    JournalDown(format!("the journal cannot be written: {error}"))
}

/// A journal that cannot be believed, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system's word.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line is not what was written.
    #[error("line {line} of the journal of run {run} {what}")]
    Damaged {
        /// The run.
        run: RunId,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// A run that cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Its process lives.
    #[error("run {0} is still under way")]
    Alive(RunId),
    /// It died before its first record.
    #[error("run {0} did nothing and recorded nothing")]
    Nothing(RunId),
    /// Its journal cannot be read or written.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reads a journal as far as it is written, and goes on where it stopped.
#[derive(Debug)]
pub struct Reader {
    run: RunId,
    tail: Tail,
    line: u64,
    prev: String,
}

impl Reader {
    /// Reads from the first record.
    #[must_use]
    pub fn new(store: &Store, run: &RunId) -> Self {
        Self { run: run.clone(), tail: store.tail(&key(run)), line: 0, prev: String::new() }
    }

    /// The next records; empty when there are no more for now. What stands behind the last line
    /// end is a record that was never acknowledged, and is left alone.
    pub fn next_records(&mut self) -> Result<Vec<Record>, ReadError> {
        self.tail.lines()?.iter().map(|line| self.check(line)).collect()
    }

    fn rest(&mut self) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        loop {
            let more = self.next_records()?;
            if more.is_empty() {
                return Ok(records);
            }
            records.extend(more);
        }
    }

    fn check(&mut self, line: &[u8]) -> Result<Record, ReadError> {
        let before = self.line;
        self.line += 1;
        let damaged = |line, what: String| ReadError::Damaged { run: self.run.clone(), line, what };
        let record: Record = serde_json::from_slice(line).map_err(|error| {
            let newer = version(line).filter(|version| *version > VERSION);
            damaged(
                self.line,
                newer.map_or_else(
                    || format!("cannot be read: {error}"),
                    |version| format!("has version {version}, this flow reads up to {VERSION}"),
                ),
            )
        })?;
        if record.seq != self.line {
            return Err(damaged(
                self.line,
                format!("has number {}: lines before it are missing or were added", record.seq),
            ));
        }
        if record.prev != self.prev {
            return Err(if before == 0 {
                damaged(1, "is not the first that was written".to_owned())
            } else {
                damaged(before, format!("was altered after line {} was written", self.line))
            });
        }
        self.prev = digest(line);
        Ok(record)
    }
}

fn version(line: &[u8]) -> Option<u32> {
    let record: serde_json::Value = serde_json::from_slice(line).ok()?;
    record.get("version")?.as_u64()?.try_into().ok()
}

/// All records of a run so far.
pub fn read(store: &Store, run: &RunId) -> Result<Vec<Record>, ReadError> {
    Reader::new(store, run).rest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(times: u32) -> Event {
        Event::Interrupted { signal: "SIGTERM".to_owned(), times }
    }

    fn journal_of(records: u32) -> (tempfile::TempDir, Store, RunId) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().join("store"));
        let mut journal = Journal::begin(&store, Clock).unwrap();
        for times in 1..=records {
            journal.append(&signal(times), times % 2 == 0).unwrap();
        }
        let run = journal.run().clone();
        (folder, store, run)
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let (_folder, store, run) = journal_of(3);
        let records = read(&store, &run).unwrap();
        let events: Vec<&Event> = records.iter().map(|record| &record.event).collect();
        assert_eq!(events, [&signal(1), &signal(2), &signal(3)]);
        assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(records[0].prev.is_empty());
        let text = String::from_utf8(store.get(&key(&run)).unwrap().unwrap()).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(records[1].prev, digest(first.as_bytes()));
        assert!(first.starts_with(r#"{"version":1,"seq":1,"time":"2"#), "{first}");
    }

    #[test]
    fn progress_and_output_are_not_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let mut journal = Journal::begin(&store, Clock).unwrap();
        let step = crate::model::names::StepId::parse("bundle");
        journal.append(&Event::Output { step, line: "x".to_owned() }, true).unwrap();
        assert!(read(&store, journal.run()).unwrap().is_empty());
    }

    #[test]
    fn a_torn_last_line_is_left_alone() {
        let (_folder, store, run) = journal_of(3);
        let bytes = store.get(&key(&run)).unwrap().unwrap();
        let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for end in last..bytes.len() {
            store.put(&key(&run), &bytes[..end]).unwrap();
            assert_eq!(read(&store, &run).unwrap().len(), 2, "cut at {end}");
        }
    }

    #[test]
    fn a_journal_that_was_cut_anywhere_goes_on_in_one_chain() {
        let (_folder, store, run) = journal_of(3);
        let bytes = store.get(&key(&run)).unwrap().unwrap();
        let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in first..=bytes.len() {
            store.put(&key(&run), &bytes[..end]).unwrap();
            let (mut journal, before) = Journal::resume(&store, Clock, &run).unwrap();
            assert!(matches!(Journal::resume(&store, Clock, &run), Err(ResumeError::Alive(_))));
            journal.append(&signal(9), true).unwrap();
            drop(journal);
            let records = read(&store, &run).unwrap();
            assert_eq!(records.len(), before.len() + 1, "cut at {end}");
            assert_eq!(records.last().map(|record| &record.event), Some(&signal(9)));
        }
        store.put(&key(&run), &bytes[..first - 1]).unwrap();
        assert!(matches!(Journal::resume(&store, Clock, &run), Err(ResumeError::Nothing(_))));
    }

    #[test]
    fn a_line_that_is_not_what_was_written_is_named() {
        let (_folder, store, run) = journal_of(4);
        let bytes = store.get(&key(&run)).unwrap().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let altered = lines[1].replace("SIGTERM", "SIGNONE");
        let newer = lines[3].replace(r#"{"version":1"#, r#"{"version":9"#).replace("interrupted", "sung");
        let torn = &lines[2][..20];
        for (lines, expected) in [
            (
                vec![lines[0], &altered, lines[2], lines[3]],
                "line 2 of the journal of run RUN was altered after line 3 was written",
            ),
            (
                vec![lines[0], lines[2], lines[3]],
                "line 2 of the journal of run RUN has number 3: lines before it are missing or were added",
            ),
            (
                vec![lines[0], lines[1], torn, lines[3]],
                "line 3 of the journal of run RUN cannot be read: EOF while parsing an object at line 1 column 20",
            ),
            (
                vec![lines[0], lines[1], lines[2], &newer],
                "line 4 of the journal of run RUN has version 9, this flow reads up to 1",
            ),
        ] {
            store.put(&key(&run), format!("{}\n", lines.join("\n")).as_bytes()).unwrap();
            let error = read(&store, &run).unwrap_err().to_string();
            assert_eq!(error.replace(run.as_str(), "RUN"), expected);
        }
    }

    /// `/dev/full` takes nothing, like a full disk.
    #[test]
    fn after_an_error_nothing_more_is_taken() {
        let file = Growing::open(std::path::Path::new("/dev/full")).unwrap();
        let mut journal = Journal {
            run: RunId::new("k3f9"),
            file,
            clock: Clock,
            seq: 0,
            prev: String::new(),
            down: None,
            fences: Vec::new(),
        };
        let error = journal.append(&signal(1), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the journal cannot be written: cannot write /dev/full: No space left on device (os error 28)"
        );
        let step = crate::model::names::StepId::parse("bundle");
        let progress = Event::Progress { step, text: String::new() };
        assert_eq!(journal.append(&progress, false), Err(error.clone()));
        assert_eq!(journal.append(&signal(2), true), Err(error));
    }

    /// On a small file system of its own, named by the variable: `mount -t tmpfs -o size=64k …`.
    #[test]
    fn a_full_disk_leaves_a_readable_journal() {
        let host = crate::world::host::Host::current();
        let Some(folder) = host.var("FLOW_TEST_SMALL_DISK") else {
            eprintln!("skipped: FLOW_TEST_SMALL_DISK names no small file system");
            return;
        };
        let store = Store::folder(std::path::PathBuf::from(folder).join("store"));
        let mut journal = Journal::begin(&store, Clock).unwrap();
        let full = (1..100_000).find_map(|times| Some((times, journal.append(&signal(times), true).err()?)));
        let (times, error) = full.unwrap();
        assert!(error.to_string().contains("No space left on device"), "{error}");
        let records = read(&store, journal.run()).unwrap();
        assert_eq!(records.len(), usize::try_from(times).unwrap() - 1, "all that was acknowledged, no more");
        assert_eq!(journal.append(&signal(1), true), Err(error));
    }
}
