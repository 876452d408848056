//! `flow log`: a run or one of its steps, told from the journal and the logs, also while it goes on.

use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::lines::{self, verdict};
use super::look::{Color, Look, Mark};
use super::plain::Plain;
use super::text::{self, name_list};
use super::when;
use super::{Out, Subscriber as _};
use crate::event::{Event, RunStarted, StepEnded};
use crate::journal::log::{self, ReadError, Reader, Record};
use crate::journal::logs::{LogLine, LogReader};
use crate::journal::replay::RunState;
use crate::model::names::{RunId, StepId};
use crate::model::units::show_duration;
use crate::world::cancel::Cancel;
use crate::world::clock::Clock;
use crate::world::store::Store;

/// How often a story that goes on is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A story that cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// The journal or a log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The run has no such step.
    #[error("run {run} has no step {step}; it has {}", name_list(steps, 12))]
    NoStep {
        /// The run.
        run: RunId,
        /// What was asked for.
        step: StepId,
        /// What there is.
        steps: Vec<StepId>,
    },
}

/// Something that is told bit by bit.
pub trait Story {
    /// Tells what is new and says whether that was the end.
    fn tell(&mut self, now: Timestamp) -> Result<bool, StoryError>;
}

/// Tells a story to its end, or until it is enough.
pub async fn follow(story: &mut dyn Story, clock: Clock, cancel: &Cancel) -> Result<(), StoryError> {
    while !story.tell(clock.now())? {
        if cancel.unless_stopped(clock.pause(LOOK_EVERY)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A whole run, as the plain report shows it.
pub struct RunStory {
    store: Store,
    run: RunId,
    reader: Reader,
    plain: Plain,
    state: RunState,
    look: Look,
}

impl RunStory {
    /// The story of a run; with `all`, steps that were as wanted are told too.
    #[must_use]
    pub fn new(store: &Store, run: &RunId, out: Out, look: Look, all: bool) -> Self {
        Self {
            store: store.clone(),
            run: run.clone(),
            reader: Reader::new(store, run),
            plain: Plain::new(out, look.clone(), all),
            state: RunState::default(),
            look,
        }
    }

    /// When, by whom and from what.
    fn origin(&self, time: Timestamp, started: &RunStarted) -> Vec<String> {
        let mut text = format!("{} by {}", when::full(&self.look, time), started.by);
        if let Some(commit) = &started.commit {
            let dirty = if started.dirty == Some(true) { " dirty" } else { "" };
            text = format!("{text}, commit {}{dirty}", commit.get(..8).unwrap_or(commit));
        }
        let text = format!("  {text}, plan {}", started.plan.get(..12).unwrap_or(&started.plan));
        text::wrap(&self.look.text(&text), self.look.right_edge())
    }

    /// What is left to say of a run whose process is gone.
    fn died(&self) -> Vec<String> {
        let last = self
            .state
            .last
            .map_or(String::new(), |last| format!(" at {}", when::time_of_day(&self.look, last)));
        let text = format!("  run {} was interrupted{last}, its process is gone", self.run);
        let mut lines = vec![String::new(), self.look.text(&text)];
        for (step, state) in self.state.unsettled() {
            let doing = state.intent.as_ref().map_or(state.summary.as_str(), |intent| &intent.summary);
            lines.extend(lines::paragraph(
                &self.look,
                &format!("{step} was in the middle of: {doing}. Whether it was done is not recorded."),
            ));
        }
        lines.push(String::new());
        lines.push(format!("    {}   flow resume {}", self.look.paint(Color::Dim, "go on"), self.run));
        lines
    }
}

impl Story for RunStory {
    fn tell(&mut self, now: Timestamp) -> Result<bool, StoryError> {
        // Asked first: a run that ends while its journal is read is then seen to its end.
        let alive = self.store.is_held(&log::key(&self.run)).map_err(ReadError::from)?;
        loop {
            let records = self.reader.next_records()?;
            if records.is_empty() {
                break;
            }
            for record in records {
                self.state.apply(record.time, &record.event);
                self.plain.event(record.time, &record.event);
                if let Event::RunStarted(started) = &record.event {
                    let lines = self.origin(record.time, started);
                    self.plain.write(&lines);
                }
            }
        }
        if self.state.ended.is_some() {
            return Ok(true);
        }
        if !alive {
            let lines = self.died();
            self.plain.write(&lines);
            return Ok(true);
        }
        self.plain.tick(now);
        Ok(false)
    }
}

/// One step: its attempts and all that its programs wrote.
pub struct StepStory {
    store: Store,
    run: RunId,
    step: StepId,
    reader: Reader,
    log: LogReader,
    out: Out,
    look: Look,
}

impl StepStory {
    /// The story of a step; refused when the run does not know it.
    pub fn new(store: &Store, run: &RunId, step: &StepId, out: Out, look: Look) -> Result<Self, StoryError> {
        let state = RunState::replay(&log::read(store, run)?);
        let planned = state.started.iter().flat_map(|started| &started.planned);
        let mut steps: Vec<StepId> = planned.chain(state.steps.keys()).cloned().collect();
        if !steps.contains(step) {
            steps.sort();
            steps.dedup();
            return Err(StoryError::NoStep { run: run.clone(), step: step.clone(), steps });
        }
        Ok(Self {
            store: store.clone(),
            run: run.clone(),
            step: step.clone(),
            reader: Reader::new(store, run),
            log: LogReader::new(store, run, step),
            out,
            look,
        })
    }

    fn record(&self, record: &Record) -> Vec<String> {
        let time = when::time_of_day(&self.look, record.time);
        let said = |mark, text: &str| {
            let text = self.look.text(&text::clean(text));
            format!("{time}  {} {text}", self.look.mark(mark))
        };
        match &record.event {
            Event::StepSettled { action, reason, .. } => vec![said(Mark::from(*action), reason)],
            Event::StepStarted { attempt: 1, summary, .. } => vec![said(Mark::Run, summary)],
            Event::StepStarted { attempt, summary, .. } => {
                vec![said(Mark::Run, &format!("attempt {attempt}: {summary}"))]
            }
            Event::GateAsked { text, .. } => vec![said(Mark::Waiting, text)],
            Event::GateAnswered { approved, by, .. } => {
                let answer = if *approved { "approved" } else { "rejected" };
                vec![said(if *approved { Mark::Done } else { Mark::Failed }, &format!("{answer} by {by}"))]
            }
            Event::StepRetried { attempt, reason, pause_ms, .. } => {
                let pause = lines::seconds(pause_ms.div_ceil(1000));
                vec![said(Mark::Run, &format!("attempt {attempt} failed: {reason}; again in {pause}"))]
            }
            Event::StepEnded(ended) => {
                let took = show_duration(Duration::from_millis(ended.duration_ms));
                let mut lines = vec![said(ended.outcome.into(), &format!("{}   {took}", verdict(ended)))];
                lines.extend(self.failure(ended));
                lines
            }
            Event::StepReconciled { done, by, .. } => match done {
                Some(true) => vec![said(Mark::Done, &format!("it was done ({by})"))],
                Some(false) => vec![said(Mark::Skipped, &format!("it was not done ({by})"))],
                None => vec![said(Mark::Unknown, "nobody can tell whether it was done")],
            },
            Event::MarkRefused { by, why, .. } => {
                vec![said(Mark::Unknown, &format!("the mark of {by} does not count: {why}"))]
            }
            _ => Vec::new(),
        }
    }

    fn failure(&self, ended: &StepEnded) -> Vec<String> {
        let failure = ended.failure.iter();
        let said = failure.flat_map(|failure| failure.details.iter().chain(&failure.help));
        said.map(|line| self.look.text(&format!("          {}", text::clean(line)))).collect()
    }

    fn line(&self, line: &LogLine) -> String {
        format!("{}  {}", when::time_of_day(&self.look, line.time), text::clean(&line.text))
    }
}

impl Story for StepStory {
    fn tell(&mut self, _now: Timestamp) -> Result<bool, StoryError> {
        let alive = self.store.is_held(&log::key(&self.run)).map_err(ReadError::from)?;
        let mut ended = false;
        let mut told: Vec<(Timestamp, String)> = Vec::new();
        loop {
            let records = self.reader.next_records()?;
            if records.is_empty() {
                break;
            }
            for record in records {
                match record.event {
                    Event::RunEnded(_) => ended = true,
                    Event::RunResumed { .. } => ended = false,
                    _ => {}
                }
                if record.event.step() == Some(&self.step) {
                    ended |= matches!(record.event, Event::StepEnded(_) | Event::StepSettled { .. });
                    told.extend(self.record(&record).into_iter().map(|line| (record.time, line)));
                }
            }
        }
        loop {
            let lines = self.log.next_lines().map_err(ReadError::from)?;
            if lines.is_empty() {
                break;
            }
            // What is told stays in memory only up to here: long logs are told piece by piece.
            let until = lines.last().map_or(Timestamp::MAX, |line| line.time);
            let later = told.split_off(told.partition_point(|(time, _)| *time < until));
            told.extend(lines.iter().map(|line| (line.time, self.line(line))));
            told.sort_by_key(|(time, _)| *time);
            if !self.write(&told) {
                return Ok(true);
            }
            told = later;
        }
        let read = self.write(&told);
        Ok(ended || !alive || !read)
    }
}

impl StepStory {
    /// Whether anybody still reads.
    fn write(&mut self, lines: &[(Timestamp, String)]) -> bool {
        let mut text = String::new();
        for (_, line) in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Paper, ended, output, started, step};
    use super::*;
    use crate::event::{RunOutcome, StepOutcome};
    use crate::journal::log::Journal;
    use crate::journal::logs::StepLogs;

    /// A journal and logs of the events of a script, which then may die or go on.
    fn live(store: &Store, script: &sample::Script) -> Journal {
        let mut journal = Journal::begin(store, Clock).unwrap();
        let mut logs = StepLogs::new(store.clone(), journal.run().clone());
        for (_, event) in script {
            let time = journal.append(event, false).unwrap();
            logs.event(time, event);
        }
        logs.flush();
        journal
    }

    /// Told once, with what differs from run to run made equal.
    fn told(make: impl FnOnce(Out) -> Box<dyn Story>, run: &RunId) -> (String, bool) {
        let paper = Paper::default();
        let over = make(paper.out()).tell(Clock.now()).unwrap();
        let text = paper.text().replace(run.as_str(), "k3f9");
        let time = |line: &str| {
            let is_time = line.get(..8).is_some_and(|t| t.bytes().filter(|b| *b == b':').count() == 2);
            if is_time { format!("04:12:09{}", &line[8..]) } else { line.to_owned() }
        };
        (text.lines().map(time).collect::<Vec<_>>().join("\n"), over)
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        (folder, store)
    }

    #[test]
    fn a_run_is_told_as_it_was_shown() {
        let (_folder, store) = store();
        let run = live(&store, &sample::failure()).run().clone();
        let (text, over) = told(|out| Box::new(RunStory::new(&store, &run, out, Look::plain(), false)), &run);
        assert!(over);
        let text: Vec<&str> = text.lines().filter(|line| !line.contains(" by ada@")).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        deploy → prod   run k3f9   release 17 is live
          ✓ schema           0042_note.sql                                        0.3s
          ✓ image[api]       pushed sha256:11aa93f0b2c4                           0.9s
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

    #[test]
    fn a_run_that_died_says_what_it_was_doing() {
        let (_folder, store) = store();
        let script = vec![
            (0, Event::RunStarted(started(&["service[api]"]))),
            (1, sample::begin("service[api]", "roll 2 tasks", None)),
            (
                2,
                Event::Intent {
                    step: step("service[api]"),
                    attempt: 1,
                    action: crate::model::change::Action::Update,
                    summary: "roll 2 tasks".to_owned(),
                    baseline: serde_json::Value::Null,
                    standing: serde_json::Value::Null,
                },
            ),
        ];
        let journal = live(&store, &script);
        let run = journal.run().clone();
        let begin = |out| Box::new(RunStory::new(&store, &run, out, Look::plain(), false)) as Box<dyn Story>;
        assert!(!told(begin, &run).1, "its process lives");
        drop(journal);
        let (text, over) = told(begin, &run);
        assert!(over);
        let text: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        insta::assert_snapshot!(text, @r"
        deploy → prod   run k0f0   release 00 is live
          0000-00-00 00:00:00 by ada@build-0, commit 0a0b0c0d, plan 0f0a0c00d0b0

          run k0f0 was interrupted at 00:00:00, its process is gone
            service[api] was in the middle of: roll 0 tasks. Whether it was done is
            not recorded.

            go on   flow resume k0f0
        ");
    }

    #[test]
    fn a_step_is_told_with_all_that_it_wrote() {
        let (_folder, store) = store();
        let failed = sample::trouble(
            "bundle",
            StepOutcome::Failed,
            2100,
            "npm exited with 1",
            &["src/app.ts:3: type error"],
            Some("run it yourself: npm run build"),
        );
        let script = vec![
            (0, Event::RunStarted(started(&["bundle", "site"]))),
            (1, sample::begin("bundle", "npm run build", None)),
            (2, output("bundle", "\u{1b}[32mtransforming\u{1b}[0m 1203 modules")),
            (3, output("site", "not of this step")),
            (
                4,
                Event::StepRetried {
                    step: step("bundle"),
                    attempt: 1,
                    reason: "npm exited with 1".to_owned(),
                    pause_ms: 1500,
                },
            ),
            (
                5,
                Event::StepStarted {
                    step: step("bundle"),
                    attempt: 2,
                    summary: "npm run build".to_owned(),
                    usual_ms: None,
                },
            ),
            (6, output("bundle", "type error")),
            (7, failed),
        ];
        let run = live(&store, &script).run().clone();
        let begin = |out| {
            Box::new(StepStory::new(&store, &run, &step("bundle"), out, Look::plain()).unwrap())
                as Box<dyn Story>
        };
        let (text, over) = told(begin, &run);
        assert!(over);
        // Records and lines of one millisecond may stand in either order; each must be there.
        for part in [
            "04:12:09  ▸ npm run build",
            "04:12:09  transforming 1203 modules",
            "04:12:09  ▸ attempt 1 failed: npm exited with 1; again in 2s",
            "04:12:09  ▸ attempt 2: npm run build",
            "04:12:09  type error",
            "04:12:09  ✗ npm exited with 1   2.1s\n          src/app.ts:3: type error\n          run it yourself: npm run build",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(!text.contains("not of this step"));
        let error = StepStory::new(&store, &run, &step("bundel"), Paper::default().out(), Look::plain());
        let message = error.err().map(|error| error.to_string().replace(run.as_str(), "k3f9"));
        assert_eq!(message.as_deref(), Some("run k3f9 has no step bundel; it has bundle, site"));
    }

    #[tokio::test]
    async fn a_story_is_followed_to_the_end_of_the_run() {
        let (_folder, store) = store();
        let mut journal = live(&store, &vec![(0, Event::RunStarted(started(&["schema"])))]);
        let run = journal.run().clone();
        let paper = Paper::default();
        let mut of_run = RunStory::new(&store, &run, paper.out(), Look::plain(), false);
        let canceller = crate::world::cancel::Canceller::new();
        let cancel = canceller.view();
        let writes = async {
            let seen = paper.clone();
            while !seen.text().contains("release 17 is live") {
                tokio::task::yield_now().await;
            }
            journal
                .append(&Event::StepEnded(ended("schema", StepOutcome::Succeeded, "done", 5)), true)
                .unwrap();
            journal.append(&sample::over(RunOutcome::Succeeded, 9, Some(1), &[]), true).unwrap();
        };
        let (told, ()) = tokio::join!(follow(&mut of_run, Clock, &cancel), writes);
        told.unwrap();
        assert!(paper.text().contains("✓ deploy to prod in 0.0s"), "{}", paper.text());
    }
}
