//! What programs and containers wrote: one file per step, each line with its time.
//!
//! Lines are collected and written in blocks, on [`StepLogs::flush`] at least
//! once a second, so that a step that writes much is not held up by the disk.
//! Logs are not the journal: a log that cannot be written is said once and
//! fails nothing.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;

use jiff::Timestamp;

use crate::event::Event;
use crate::model::names::{RunId, StepId};
use crate::world::files::{FileError, digest};
use crate::world::growing::{Growing, Tail};
use crate::world::store::Store;

/// Bytes of a step's lines that are collected before they are written.
const BLOCK: usize = 64 * 1024;

/// Longest file name without its ending; file systems take 255 bytes.
const NAME: usize = 200;

/// Where the log of a step lies. Characters that are not a-z, A-Z, 0-9, `-`, `_` or a dot behind
/// the first are written `%5B`; names too long for a file end in a digest.
#[must_use]
pub fn key(run: &RunId, step: &StepId) -> String {
    let mut name = String::new();
    for (at, byte) in step.to_string().bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.len() > NAME {
        let digest = digest(name.as_bytes());
        name.truncate(NAME);
        name.push('-');
        name.push_str(digest.get(..12).unwrap_or(&digest));
    }
    format!("runs/{run}/logs/{name}.log")
}

/// The writing end of a run's logs.
#[derive(Debug)]
pub struct StepLogs {
    store: Store,
    run: RunId,
    open: HashMap<StepId, Block>,
    trouble: Option<FileError>,
}

/// The lines of one step that are not written yet.
#[derive(Debug)]
struct Block {
    file: Growing,
    bytes: Vec<u8>,
}

impl StepLogs {
    /// The logs of a run. Files are made when there is something to write.
    #[must_use]
    pub fn new(store: Store, run: RunId) -> Self {
        Self { store, run, open: HashMap::new(), trouble: None }
    }

    /// Keeps a line of output; a step that ended gets its log written.
    pub fn event(&mut self, time: Timestamp, event: &Event) {
        if self.trouble.is_some() {
            return;
        }
        let done = match event {
            Event::Output { step, line } => self.line(time, step, line),
            Event::StepEnded(ended) => {
                self.open.remove(&ended.step).map_or(Ok(()), |mut block| block.write())
            }
            _ => Ok(()),
        };
        self.trouble = done.err();
    }

    /// Writes what was collected. Called at least once a second and at the end of the run.
    pub fn flush(&mut self) {
        if self.trouble.is_none() {
            self.trouble = self.open.values_mut().try_for_each(Block::write).err();
        }
    }

    /// Why the logs are not whole, if they are not.
    #[must_use]
    pub fn trouble(&self) -> Option<&FileError> {
        self.trouble.as_ref()
    }

    fn line(&mut self, time: Timestamp, step: &StepId, line: &str) -> Result<(), FileError> {
        if !self.open.contains_key(step) {
            let file = self.store.grow(&key(&self.run, step))?;
            self.open.insert(step.clone(), Block { file, bytes: Vec::new() });
        }
        let Some(block) = self.open.get_mut(step) else { return Ok(()) };
        // Writing to a Vec cannot fail.
        let _ = write!(block.bytes, "{time:.3} ");
        // One entry is one line, whatever a program put into it.
        block.bytes.extend(line.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
        block.bytes.push(b'\n');
        if block.bytes.len() >= BLOCK { block.write() } else { Ok(()) }
    }
}

impl Block {
    fn write(&mut self) -> Result<(), FileError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let written = self.file.append(&self.bytes);
        self.bytes.clear();
        written
    }
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// What.
    pub text: String,
}

/// Reads a step's log as far as it is written, and goes on where it stopped.
#[derive(Debug)]
pub struct LogReader {
    tail: Tail,
    last: Timestamp,
}

impl LogReader {
    /// Reads from the first line; a step without output has no log, which is no error.
    #[must_use]
    pub fn new(store: &Store, run: &RunId, step: &StepId) -> Self {
        Self { tail: store.tail(&key(run, step)), last: Timestamp::UNIX_EPOCH }
    }

    /// The next lines; empty when there are no more for now.
    pub fn next_lines(&mut self) -> Result<Vec<LogLine>, FileError> {
        let lines = self.tail.lines()?;
        Ok(lines.iter().map(|line| self.read(&String::from_utf8_lossy(line))).collect())
    }

    /// A line whose beginning was lost on a full disk is shown all the same, at the time of the
    /// one before.
    fn read(&mut self, line: &str) -> LogLine {
        let parted = line.split_once(' ').and_then(|(time, text)| Some((time.parse().ok()?, text)));
        let (time, text) = parted.unwrap_or((self.last, line));
        self.last = time;
        LogLine { time, text: text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(step: &str, line: &str) -> Event {
        Event::Output { step: StepId::parse(step), line: line.to_owned() }
    }

    #[test]
    fn names_of_steps_become_names_of_files() {
        let run = RunId::new("k3f9");
        for (step, expected) in [
            ("schema", "schema"),
            ("image[api,eu]", "image%5Bapi%2Ceu%5D"),
            ("x[../../etc]", "x%5B..%2F..%2Fetc%5D"),
            ("..", "%2E."),
            ("x[ü]", "x%5B%C3%BC%5D"),
        ] {
            assert_eq!(key(&run, &StepId::parse(step)), format!("runs/k3f9/logs/{expected}.log"));
        }
        let long = |end| key(&run, &StepId::parse(&format!("{}{end}", "x".repeat(400))));
        assert_eq!(long("a").len(), "runs/k3f9/logs/.log".len() + 213);
        assert_ne!(long("a"), long("b"));
    }

    #[test]
    fn lines_are_there_after_a_flush_or_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let run = RunId::new("k3f9");
        let mut logs = StepLogs::new(store.clone(), run.clone());
        let mut reader = LogReader::new(&store, &run, &StepId::parse("bundle"));
        let time: Timestamp = "2026-11-21T04:12:09.25Z".parse().unwrap();
        assert!(reader.next_lines().unwrap().is_empty());
        logs.event(time, &output("bundle", "one"));
        logs.event(time, &output("other", "two"));
        assert!(reader.next_lines().unwrap().is_empty(), "collected, not written");
        logs.flush();
        assert_eq!(reader.next_lines().unwrap(), [LogLine { time, text: "one".to_owned() }]);
        logs.event(time, &output("bundle", "a\nb"));
        logs.flush();
        assert_eq!(reader.next_lines().unwrap(), [LogLine { time, text: "a b".to_owned() }]);
        assert_eq!(
            store.get(&key(&run, &StepId::parse("other"))).unwrap().unwrap(),
            b"2026-11-21T04:12:09.250Z two\n"
        );
        assert!(logs.trouble().is_none());
    }

    #[test]
    fn a_log_that_cannot_be_written_is_said_and_fails_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        store.put("runs", b"in the way").unwrap();
        let mut logs = StepLogs::new(store, RunId::new("k3f9"));
        logs.event(Timestamp::UNIX_EPOCH, &output("bundle", "one"));
        logs.event(Timestamp::UNIX_EPOCH, &output("bundle", "two"));
        logs.flush();
        assert!(logs.trouble().unwrap().to_string().starts_with("cannot create "));
    }

    /// Far more than any program writes, and memory stays at one block a step.
    #[test]
    fn many_lines_are_written_in_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let run = RunId::new("k3f9");
        let mut logs = StepLogs::new(store.clone(), run.clone());
        let line = output("bundle", &"x".repeat(80));
        for _ in 0..100_000 {
            logs.event(Timestamp::UNIX_EPOCH, &line);
        }
        assert!(logs.open.values().all(|block| block.bytes.capacity() <= 4 * BLOCK));
        logs.flush();
        let mut reader = LogReader::new(&store, &run, &StepId::parse("bundle"));
        let mut read = 0;
        loop {
            match reader.next_lines().unwrap().len() {
                0 => break,
                more => read += more,
            }
        }
        assert_eq!(read, 100_000);
    }
}
