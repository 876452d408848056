//! Runs to look at, for tests.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use jiff::{Timestamp, ToSpan};
use serde_json::Value as Json;

use super::{Out, Subscriber};
use crate::event::{Event, FailureRecord, RunEnded, RunOutcome, RunStarted, StepEnded, StepOutcome};
use crate::model::names::{EnvName, FlowName, RunId, StepId};
use crate::model::value::Outputs;

/// What is written can be read by the test.
#[derive(Clone, Default)]
pub(super) struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    pub(super) fn out(&self) -> Out {
        Box::new(self.clone())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn at(milliseconds: i64) -> Timestamp {
    let start: Timestamp = "2026-11-21T04:10:00Z".parse().unwrap();
    start + milliseconds.milliseconds()
}

pub(super) fn step(name: &str) -> StepId {
    StepId::parse(name)
}

pub(super) fn started(planned: &[&str]) -> RunStarted {
    RunStarted {
        version: 1,
        flow_version: "0.1.0".to_owned(),
        run: RunId::new("k3f9"),
        flow: FlowName::new("deploy"),
        environment: EnvName::new("prod"),
        account: Some("333333333333".to_owned()),
        region: Some("eu-west-1".to_owned()),
        plan: "7f3a9c21d0b4".to_owned(),
        live: Some(17),
        commit: Some("1a2b3c4d".to_owned()),
        dirty: Some(false),
        params: BTreeMap::new(),
        by: "ada@build-7".to_owned(),
        break_glass: None,
        to_run: planned.len(),
        unchanged: 27,
        planned: planned.iter().map(|name| step(name)).collect(),
        live_since: Some("2026-11-20T16:04:00Z".parse().unwrap()),
        last_duration_ms: Some(161_000),
        target_ms: Some(900_000),
        again: String::new(),
        back_to: None,
        inside: Vec::new(),
        asked: serde_json::Value::Null,
    }
}

pub(super) fn begin(name: &str, summary: &str, usual_ms: Option<u64>) -> Event {
    Event::StepStarted { step: step(name), attempt: 1, summary: summary.to_owned(), usual_ms }
}

pub(super) fn progress(name: &str, text: &str) -> Event {
    Event::Progress { step: step(name), text: text.to_owned() }
}

pub(super) fn output(name: &str, line: &str) -> Event {
    Event::Output { step: step(name), line: line.to_owned() }
}

pub(super) fn ended(name: &str, outcome: StepOutcome, summary: &str, duration_ms: u64) -> StepEnded {
    StepEnded {
        step: step(name),
        outcome,
        summary: summary.to_owned(),
        duration_ms,
        outputs: Outputs::new(),
        receipt: Json::Null,
        failure: None,
    }
}

pub(super) fn done(name: &str, summary: &str, duration_ms: u64) -> Event {
    Event::StepEnded(ended(name, StepOutcome::Succeeded, summary, duration_ms))
}

pub(super) fn trouble(
    name: &str,
    outcome: StepOutcome,
    duration_ms: u64,
    reason: &str,
    details: &[&str],
    help: Option<&str>,
) -> Event {
    let failure = FailureRecord {
        reason: reason.to_owned(),
        details: details.iter().map(|line| (*line).to_owned()).collect(),
        help: help.map(str::to_owned),
    };
    Event::StepEnded(StepEnded { failure: Some(failure), ..ended(name, outcome, "", duration_ms) })
}

pub(super) fn over(
    outcome: RunOutcome,
    duration_ms: u64,
    release: Option<u64>,
    rows: &[(&str, &str)],
) -> Event {
    let exit = match outcome {
        RunOutcome::Succeeded => 0,
        RunOutcome::Failed => 1,
        RunOutcome::Waiting => 3,
        RunOutcome::Locked => 4,
        RunOutcome::Refused => 5,
        RunOutcome::Interrupted => 6,
        RunOutcome::Unknown => 7,
        RunOutcome::RollbackFailed => 8,
        RunOutcome::RolledBack => 9,
    };
    let summary = rows.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Event::RunEnded(RunEnded {
        outcome,
        exit,
        duration_ms,
        release,
        summary,
        notes: Vec::new(),
        healthy_after_ms: None,
        barred: None,
    })
}

/// Events with the milliseconds after the start at which they happen.
pub(super) type Script = Vec<(i64, Event)>;

/// Plays a script, with a tick each second.
pub(super) fn play(report: &mut dyn Subscriber, script: &Script) {
    let mut second = 0;
    for (time, event) in script {
        while second + 1000 <= *time {
            second += 1000;
            report.tick(at(second));
        }
        report.event(at(*time), event);
    }
}

pub(super) const PLANNED: &[&str] =
    &["image[api]", "schema", "service[api]", "bundle", "site", "edge", "health"];

/// The run of the manual.
pub(super) fn success() -> Script {
    vec![
        (0, Event::RunStarted(started(PLANNED))),
        (10, begin("image[api]", "build and push", Some(39_000))),
        (20, begin("schema", "1 migration", None)),
        (320, done("schema", "0042_note.sql", 300)),
        (330, begin("bundle", "npm run build", None)),
        (5_000, output("bundle", "\u{1b}[32mtransforming\u{1b}[0m 1203 modules")),
        (41_200, done("image[api]", "pushed sha256:11aa93f0b2c4", 41_190)),
        (41_210, begin("service[api]", "roll 2 tasks", Some(70_000))),
        (50_000, progress("service[api]", "2 of 2 new running, 1 old draining")),
        (73_000, done("bundle", "", 72_670)),
        (73_010, begin("site", "3 uploads, 1 delete", None)),
        (75_500, done("site", "3 uploads, 1 delete", 2_490)),
        (75_510, begin("edge", "invalidate 2 paths", None)),
        (80_000, done("edge", "2 paths invalidated", 4_490)),
        (113_000, done("service[api]", "ohi-prod-api:41 → :42, 2 of 2 tasks", 71_790)),
        (113_010, begin("health", "GET https://api.example.com/health", None)),
        (113_500, done("health", "200 OK", 490)),
        (
            134_000,
            over(
                RunOutcome::Succeeded,
                134_000,
                Some(18),
                &[
                    ("API", "https://api.example.com   2 tasks of ohi-prod-api:42"),
                    ("Site", "https://www.example.com   3 files, 2 paths invalidated"),
                ],
            ),
        ),
    ]
}

/// A deployment that ECS rolled back.
pub(super) fn failure() -> Script {
    vec![
        (0, Event::RunStarted(started(PLANNED))),
        (10, begin("image[api]", "build and push", None)),
        (20, begin("schema", "1 migration", None)),
        (320, done("schema", "0042_note.sql", 300)),
        (900, done("image[api]", "pushed sha256:11aa93f0b2c4", 890)),
        (910, begin("service[api]", "roll 2 tasks", Some(70_000))),
        (
            22_310,
            trouble(
                "service[api]",
                StepOutcome::Failed,
                21_400,
                "ECS rolled it back to ohi-prod-api:41",
                &[
                    "3 tasks of ohi-prod-api:42 stopped: EssentialContainerExited",
                    "  container api exited with 3",
                    "  04:12:09  configuration error: DATABASE_URL is empty",
                    "ohi-prod-api:41 runs with 2 of 2 tasks",
                ],
                None,
            ),
        ),
        (22_400, over(RunOutcome::Failed, 22_400, Some(18), &[])),
    ]
}
