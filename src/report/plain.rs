//! Lines without redraw, for pipes and CI jobs: one when a step starts, one when it ends, and
//! one every half minute for what still runs. Steps that are over within a second get only one.

use std::io::Write as _;

use jiff::Timestamp;

use super::board::Board;
use super::ending::Ending;
use super::lines::{self, SHOWN};
use super::look::{Look, Mark};
use super::{Out, Subscriber};
use crate::event::Event;
use crate::model::names::StepId;

/// How long a step is not written about before the log says that it still runs.
const HEARTBEAT_MS: i64 = 30_000;

/// How long a step runs before its start is written.
const START_MS: i64 = 1_000;

/// The plain report.
pub struct Plain {
    out: Out,
    look: Look,
    all: bool,
    board: Board,
    ending: Ending,
    last: Option<StepId>,
    /// Whether it was said which run this is.
    named: bool,
}

impl Plain {
    /// A report to `out`; with `all`, steps that are as wanted get their line too.
    #[must_use]
    pub fn new(out: Out, look: Look, all: bool) -> Self {
        Self { out, look, all, board: Board::default(), ending: Ending::default(), last: None, named: false }
    }

    /// Writes lines as they are.
    pub(super) fn write(&mut self, lines: &[String]) {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.raw(&text);
    }

    fn raw(&mut self, text: &str) {
        // Nobody is left to tell when the report itself cannot be written, and the run goes on.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn line(&mut self, line: String) {
        self.last = None;
        self.write(&[line]);
    }

    fn show(&mut self, time: Timestamp, event: &Event) {
        let names = self.board.names();
        match event {
            // A run without steps to run says all in its ending.
            Event::RunStarted(started) if started.to_run > 0 || self.all => {
                self.named = true;
                self.write(&[lines::header(&self.look, started)]);
            }
            Event::RunResumed { by } => {
                let header = self.board.header.as_ref().filter(|_| !self.named);
                let header = header.map(|started| lines::header(&self.look, started));
                self.named = true;
                self.write(&header.into_iter().collect::<Vec<_>>());
                self.line(lines::resumed(&self.look, &self.board, by));
            }
            Event::StepReconciled { step, done, by } => {
                for line in lines::reconciled(&self.look, names, step, *done, by) {
                    self.line(line);
                }
            }
            Event::MarkRefused { step, by, why } => {
                for line in lines::mark_refused(&self.look, names, step, by, why) {
                    self.line(line);
                }
            }
            Event::StepSettled { step, action, reason, .. } if self.all => {
                let line = lines::row(&self.look, names, Mark::from(*action), &step.to_string(), reason, "");
                self.line(line);
            }
            Event::GateAsked { step, text, expected } => {
                let (lines, prompt) = lines::question(&self.look, names, step, text, expected);
                self.write(&lines);
                self.raw(&prompt);
                if let Some(running) = self.board.find(step) {
                    running.said = Some(time);
                }
            }
            Event::StepRetried { step, attempt, reason, pause_ms } => {
                let line = lines::retried(&self.look, names, step, *attempt, reason, *pause_ms);
                self.line(line);
            }
            Event::StepEnded(ended) if self.all || lines::matters(ended.outcome) => {
                let lines = lines::ended(&self.look, names, ended, &self.board.planned);
                self.last = Some(ended.step.clone());
                self.write(&lines);
            }
            Event::Interrupted { signal, times } => {
                let line = lines::signal(&self.look, signal, *times);
                self.line(line);
            }
            Event::Warning { text } => {
                self.last = None;
                self.write(&lines::warning(&self.look, text));
            }
            Event::RollbackStarted { reason } => {
                self.last = None;
                self.write(&lines::unwinding(&self.look, reason));
            }
            Event::RunEnded(_) => {
                let lines = self.ending.lines(&self.look, names, time, self.last.as_ref());
                self.write(&lines);
            }
            _ => {}
        }
    }
}

impl Subscriber for Plain {
    fn event(&mut self, time: Timestamp, event: &Event) {
        self.board.event(time, event);
        self.ending.event(event);
        self.show(time, event);
    }

    fn recall(&mut self, time: Timestamp, event: &Event) {
        self.board.event(time, event);
        self.ending.event(event);
    }

    fn tick(&mut self, now: Timestamp) {
        let names = self.board.names();
        let mut lines = Vec::new();
        let mut more = 0;
        for running in &mut self.board.running {
            let (since, wait) = match running.said {
                Some(said) => (said, HEARTBEAT_MS),
                None => (running.since, START_MS),
            };
            if now.as_millisecond() - since.as_millisecond() < wait {
                continue;
            }
            let first = running.said.is_none();
            running.said = Some(now);
            if first || lines.len() < SHOWN {
                lines.push(lines::running(&self.look, names, running, now));
            } else {
                more += 1;
            }
        }
        if more > 0 {
            lines.push(format!("    and {more} more still running"));
        }
        if !lines.is_empty() {
            self.last = None;
            self.write(&lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Paper, Script};
    use super::*;

    fn shown(script: &Script) -> String {
        let paper = Paper::default();
        let mut report = Plain::new(paper.out(), Look::plain(), false);
        sample::play(&mut report, script);
        let text = paper.text();
        for line in text.lines() {
            assert!(super::super::text::width(line) <= 80, "{line}");
        }
        text
    }

    #[test]
    fn a_run_that_goes_well() {
        insta::assert_snapshot!(shown(&sample::success()), @r"
        deploy → prod   run k3f9   release 17 is live
          ✓ schema           0042_note.sql                                        0.3s
          ▸ image[api]       build and push                                 1s of ~39s
          ▸ bundle           npm run build                                          1s
          ▸ image[api]       build and push                                31s of ~39s
          ▸ bundle           transforming 1203 modules                             31s
          ✓ image[api]       pushed sha256:11aa93f0b2c4                          41.2s
          ▸ service[api]     roll 2 tasks                                 1s of ~1m10s
          ▸ bundle           transforming 1203 modules                           1m01s
          ▸ service[api]     2 of 2 new running, 1 old draining          31s of ~1m10s
          ✓ bundle           npm run build                                       1m13s
          ▸ site             3 uploads, 1 delete                                    1s
          ✓ site             3 uploads, 1 delete                                  2.5s
          ▸ edge             invalidate 2 paths                                     1s
          ✓ edge             2 paths invalidated                                  4.5s
          ▸ service[api]     2 of 2 new running, 1 old draining        1m01s of ~1m10s
          ✓ service[api]     ohi-prod-api:41 → :42, 2 of 2 tasks                 1m12s
          ✓ health           200 OK                                               0.5s

          ✓ deploy to prod in 2m14s (last time 2m41s, target 15m met)   release 18

            API    https://api.example.com   2 tasks of ohi-prod-api:42
            Site   https://www.example.com   3 files, 2 paths invalidated

            back to release 17: flow rollback deploy --env prod
        ");
    }

    #[test]
    fn a_run_that_fails() {
        insta::assert_snapshot!(shown(&sample::failure()), @r"
        deploy → prod   run k3f9   release 17 is live
          ✓ schema           0042_note.sql                                        0.3s
          ✓ image[api]       pushed sha256:11aa93f0b2c4                           0.9s
          ▸ service[api]     roll 2 tasks                                 1s of ~1m10s
          ✗ service[api]     ECS rolled it back to ohi-prod-api:41               21.4s

            3 tasks of ohi-prod-api:42 stopped: EssentialContainerExited
              container api exited with 3
              04:12:09  configuration error: DATABASE_URL is empty
            ohi-prod-api:41 runs with 2 of 2 tasks

            deploy to prod failed after 22.4s. Release 17 is the last good one.
            Done: schema, image[api].
            Not started: bundle, site, edge, health.

            log     flow log k3f9 'service[api]'
            again   flow run deploy --env prod
            back    flow rollback deploy --env prod --to 17
        ");
    }
}
