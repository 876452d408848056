//! `--log json`: each event as one line, `{version, time, event}` as in the journal, and those that
//! the journal does not keep too.

use std::io::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::{Out, Subscriber};
use crate::event::{Event, VERSION};

/// The report for programs.
pub struct Json {
    out: Out,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    time: Timestamp,
    event: &'a Event,
}

impl Json {
    /// A report to `out`.
    #[must_use]
    pub fn new(out: Out) -> Self {
        Self { out }
    }
}

impl Subscriber for Json {
    fn event(&mut self, time: Timestamp, event: &Event) {
        let line = Line { version: VERSION, time, event };
        let Ok(mut line) = serde_json::to_vec(&line) else { return };
        line.push(b'\n');
        // Nobody is left to tell when the report itself cannot be written, and the run goes on.
        let _ = self.out.write_all(&line).and_then(|()| self.out.flush());
    }

    fn tick(&mut self, _now: Timestamp) {}
}
