//! The last success of each step that only makes files, on this machine.
//!
//! One file of lines, added to and never changed, so that asking about a
//! thousand steps reads one file. The last line of a step counts; one that is
//! torn or spoilt counts as none. A failed or killed run adds none. What is
//! long (the keys of steps with many inputs) lies beside it in a file of its
//! own, named by its digest.
//!
//! A line: sixteen digits of a checksum over the rest, the digest of the
//! step's label, and the record as JSON.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::value::Outputs;
use crate::world::depot::{self, Lines, Place};
use crate::world::files::{FileError, Files, digest};

use super::Whose;
use super::manifest::Manifest;

/// Longer texts lie in files of their own.
const LONG: usize = 16 * 1024;
/// From here on a file is rewritten when three quarters of it are of the past.
const WORTH_IT: usize = 1 << 20;
/// Digits of the checksum.
const CHECK: usize = 16;
/// Digits of a digest.
const DIGEST: usize = 64;

/// Last successes. Cheap to clone; all clones read the file once.
#[derive(Clone, Debug)]
pub struct Successes {
    folder: PathBuf,
    read: Arc<Mutex<Option<Read>>>,
}

#[derive(Debug, Default)]
struct Read {
    bytes: Vec<u8>,
    lines: HashMap<Vec<u8>, Range<usize>>,
    place: Option<Place>,
}

/// What is remembered of a success.
#[derive(Clone, Debug, PartialEq)]
pub struct Success {
    /// The digest of its key.
    pub key: String,
    /// The key as text; empty when it is lost.
    pub rows: String,
    /// What it made; `None` when that is lost.
    pub made: Option<Manifest>,
    /// What it handed on.
    pub outputs: Outputs,
    /// When.
    pub at: Timestamp,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: String,
    rows: Text,
    made: Text,
    outputs: Outputs,
    at: Timestamp,
    took_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Text {
    Here(String),
    /// In the file of this digest.
    Long(String),
}

impl Successes {
    /// Successes kept in a folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, read: Arc::default() }
    }

    fn lines(&self) -> Lines {
        Lines::new(self.folder.join("successes"))
    }

    /// The last success of a step, as far as this process has read.
    pub fn get(&self, whose: &Whose<'_>) -> Result<Option<Success>, FileError> {
        let record = {
            let read = self.loaded()?;
            read.as_ref().and_then(|read| read.record(&name(whose)))
        };
        let Some(record) = record else { return Ok(None) };
        let rows = self.text(record.rows)?.unwrap_or_default();
        let made = self.text(record.made)?.and_then(|text| serde_json::from_str(&text).ok());
        let Record { key, outputs, at, took_ms, .. } = record;
        Ok(Some(Success { key, rows, made, outputs, at, took_ms }))
    }

    /// Reads what others added since. Whether the last success of a step is another one now.
    pub fn refresh(&self, whose: &Whose<'_>) -> Result<bool, FileError> {
        let name = name(whose);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let before = read.as_ref().and_then(|read| read.line(&name).map(<[u8]>::to_vec));
        let mut fresh = read.take().unwrap_or_default();
        fresh.catch_up(&self.lines())?;
        let changed = fresh.line(&name) != before.as_deref();
        *read = Some(fresh);
        Ok(changed)
    }

    /// Remembers a success.
    pub fn put(&self, whose: &Whose<'_>, success: &Success) -> Result<(), FileError> {
        let made = success.made.as_ref().map(Manifest::to_bytes).unwrap_or_default();
        let record = Record {
            key: success.key.clone(),
            rows: self.keep(success.rows.clone())?,
            made: self.keep(String::from_utf8(made).unwrap_or_default())?,
            outputs: success.outputs.clone(),
            at: success.at,
            took_ms: success.took_ms,
        };
        let json = serde_json::to_string(&record).unwrap_or_default();
        let rest = format!("{}{json}", String::from_utf8_lossy(&name(whose)));
        let line = format!("{}{rest}", check(rest.as_bytes()));
        self.lines().add(line.as_bytes())?;
        self.tidy()
    }

    /// The keys of all last successes.
    pub fn keys(&self) -> Result<BTreeSet<String>, FileError> {
        Ok(self.records()?.into_iter().map(|record| record.key).collect())
    }

    /// How many steps have one.
    pub fn count(&self) -> Result<usize, FileError> {
        Ok(self.records()?.len())
    }

    /// Removes the long texts that no last success refers to; says how many.
    pub fn prune(&self) -> Result<usize, FileError> {
        let long = |text: Text| if let Text::Long(digest) = text { Some(digest) } else { None };
        let used: BTreeSet<String> = self
            .records()?
            .into_iter()
            .flat_map(|record| [record.rows, record.made])
            .filter_map(long)
            .collect();
        let files = Files::new(&self.folder);
        let mut removed = 0;
        for path in super::local::list(&files, &self.folder.join("texts"))? {
            let unused = path.file_name().is_none_or(|name| !used.contains(&*name.to_string_lossy()));
            if unused {
                files.remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn records(&self) -> Result<Vec<Record>, FileError> {
        let read = self.loaded()?;
        let names = read.iter().flat_map(|read| read.lines.keys().map(move |name| (read, name)));
        Ok(names.filter_map(|(read, name)| read.record(name)).collect())
    }

    /// Rewrites the file once most of it is of the past.
    fn tidy(&self) -> Result<(), FileError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = read.as_ref() else { return Ok(()) };
        let whole = usize::try_from(known.place.map_or(0, |place| place.size)).unwrap_or_default();
        let live: usize = known.lines.values().map(ExactSizeIterator::len).sum();
        if whole < WORTH_IT || whole < live.saturating_mul(4) {
            return Ok(());
        }
        self.lines().replace(|bytes| {
            let mut all = Read::default();
            all.add(bytes);
            let mut ranges: Vec<_> = all.lines.values().cloned().collect();
            ranges.sort_by_key(|range| range.start);
            let live = ranges.into_iter().filter_map(|range| all.bytes.get(range));
            live.flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
        })?;
        *read = None;
        Ok(())
    }

    fn loaded(&self) -> Result<MutexGuard<'_, Option<Read>>, FileError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.is_none() {
            let mut fresh = Read::default();
            // What cannot be read is not tried again for every step.
            let outcome = fresh.catch_up(&self.lines());
            *read = Some(fresh);
            outcome?;
        }
        Ok(read)
    }

    fn keep(&self, text: String) -> Result<Text, FileError> {
        if text.len() <= LONG {
            return Ok(Text::Here(text));
        }
        let digest = digest(text.as_bytes());
        let path = self.path(&digest);
        if Files::new(&self.folder).metadata(&path)?.is_none_or(|there| there.len() != text.len() as u64) {
            depot::write(&path, text.as_bytes())?;
        }
        Ok(Text::Long(digest))
    }

    /// A text; `None` when it is lost or spoilt.
    fn text(&self, text: Text) -> Result<Option<String>, FileError> {
        let long = match text {
            Text::Here(text) => return Ok(Some(text)),
            Text::Long(digest) => digest,
        };
        match Files::new(&self.folder).read(&self.path(&long)) {
            Ok(bytes) if digest(&bytes) == long => Ok(String::from_utf8(bytes).ok()),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join("texts").join(digest)
    }
}

impl Read {
    fn catch_up(&mut self, lines: &Lines) -> Result<(), FileError> {
        let Some((behind, bytes, place)) = lines.read(self.place)? else {
            *self = Self::default();
            return Ok(());
        };
        if !behind {
            *self = Self::default();
        }
        self.place = Some(place);
        self.add(&bytes);
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) {
        let mut start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Some(name) = line.get(CHECK..CHECK + DIGEST) {
                self.lines.insert(name.to_vec(), start..start + line.len());
            }
            start += line.len() + 1;
        }
    }

    fn line(&self, name: &[u8]) -> Option<&[u8]> {
        self.bytes.get(self.lines.get(name)?.clone())
    }

    fn record(&self, name: &[u8]) -> Option<Record> {
        let line = self.line(name)?;
        let (sum, rest) = (line.get(..CHECK)?, line.get(CHECK..)?);
        if check(rest).as_bytes() != sum {
            return None;
        }
        serde_json::from_slice(rest.get(DIGEST..)?).ok()
    }
}

/// Step names may hold anything: the digest stands for them.
fn name(whose: &Whose<'_>) -> Vec<u8> {
    digest(whose.label().as_bytes()).into_bytes()
}

fn check(bytes: &[u8]) -> String {
    let mut digits = digest(bytes);
    digits.truncate(CHECK);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{EnvName, FlowName, StepId};

    fn success(key: &str, rows: &str) -> Success {
        Success {
            key: key.to_owned(),
            rows: rows.to_owned(),
            made: Some(Manifest::default()),
            outputs: Outputs::new(),
            at: Timestamp::UNIX_EPOCH,
            took_ms: 7,
        }
    }

    fn with<T>(step: &str, ask: impl FnOnce(&Whose<'_>) -> T) -> T {
        let (flow, environment, step) = (FlowName::new("f"), EnvName::new("dev"), StepId::parse(step));
        ask(&Whose { flow: &flow, environment: &environment, step: &step })
    }

    fn key_of(successes: &Successes, step: &str) -> Option<String> {
        with(step, |whose| successes.get(whose)).unwrap().map(|success| success.key)
    }

    #[test]
    fn the_last_success_of_each_step_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mine = Successes::new(folder.path().to_owned());
        assert_eq!(key_of(&mine, "a"), None);
        for (step, key) in [("a", "1"), ("b", "2"), ("a", "3")] {
            with(step, |whose| mine.put(whose, &success(key, "rows"))).unwrap();
        }
        assert_eq!(key_of(&mine, "a"), None, "what this process has read is not read again unasked");
        assert!(with("a", |whose| mine.refresh(whose)).unwrap());
        assert!(!with("a", |whose| mine.refresh(whose)).unwrap(), "nothing was added since");
        assert_eq!(key_of(&mine, "a").as_deref(), Some("3"));
        let fresh = Successes::new(folder.path().to_owned());
        assert_eq!(key_of(&fresh, "b").as_deref(), Some("2"));
    }

    #[test]
    fn a_line_that_is_torn_or_spoilt_at_any_byte_is_none_and_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("successes");
        let first = Successes::new(folder.path().to_owned());
        with("a", |whose| first.put(whose, &success("1", ""))).unwrap();
        let good = std::fs::read(&file).unwrap();
        with("b", |whose| first.put(whose, &success("2", ""))).unwrap();
        let whole = std::fs::read(&file).unwrap();
        for end in good.len()..whole.len() - 1 {
            std::fs::write(&file, &whole[..end]).unwrap();
            let torn = Successes::new(folder.path().to_owned());
            assert_eq!(key_of(&torn, "a").as_deref(), Some("1"));
            assert_eq!(key_of(&torn, "b"), None, "{end}");
            with("c", |whose| torn.put(whose, &success("3", ""))).unwrap();
            let after = Successes::new(folder.path().to_owned());
            assert_eq!(key_of(&after, "c").as_deref(), Some("3"), "what is added behind it is whole");
        }
        for at in good.len()..whole.len() {
            let mut spoilt = whole.clone();
            spoilt[at] ^= 1;
            std::fs::write(&file, &spoilt).unwrap();
            let spoilt = Successes::new(folder.path().to_owned());
            assert_eq!(key_of(&spoilt, "a").as_deref(), Some("1"));
            assert!(key_of(&spoilt, "b").is_none_or(|key| key == "2"), "{at}");
        }
    }

    #[test]
    fn what_is_long_lies_beside_and_may_be_lost() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(LONG + 1);
        let successes = Successes::new(folder.path().to_owned());
        with("a", |whose| successes.put(whose, &success("1", &long))).unwrap();
        assert!(std::fs::metadata(folder.path().join("successes")).unwrap().len() < 1000);
        assert_eq!(with("a", |whose| successes.get(whose)).unwrap().unwrap().rows, long);
        std::fs::write(folder.path().join("texts").join(digest(long.as_bytes())), "other").unwrap();
        assert_eq!(with("a", |whose| successes.get(whose)).unwrap().unwrap().rows, "");
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let rows = "x".repeat(LONG);
        let successes = Successes::new(folder.path().to_owned());
        for round in 0..300 {
            with("a", |whose| successes.refresh(whose)).unwrap();
            with("a", |whose| successes.put(whose, &success(&round.to_string(), &rows))).unwrap();
        }
        let size = std::fs::metadata(folder.path().join("successes")).unwrap().len();
        assert!(size < 2 * WORTH_IT as u64, "{size}");
        assert_eq!(key_of(&Successes::new(folder.path().to_owned()), "a").as_deref(), Some("299"));
    }
}
