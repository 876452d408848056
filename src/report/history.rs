//! Lists of runs and releases, for people and as JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::lines;
use super::look::{Color, Look, Mark};
use super::text;
use super::when;
use crate::journal::locks::{Doing, Holder, Standing};
use crate::journal::log::Record;
use crate::journal::logs::LogLine;
use crate::journal::releases::Release;
use crate::journal::runs::{Outcome, RunSummary};
use crate::model::names::StepId;
use crate::model::units::show_duration;

/// Version of the JSON objects.
const VERSION: u32 = 1;

/// Runs, one a line, in the order given.
#[must_use]
pub fn runs(look: &Look, runs: &[RunSummary], now: Timestamp) -> Vec<String> {
    let rows: Vec<Row> = runs
        .iter()
        .map(|run| {
            let took = match (run.outcome, run.duration_ms) {
                (_, Some(took)) => show_duration(Duration::from_millis(took)),
                (Outcome::Running, None) => lines::elapsed(run.started, now),
                (_, None) => String::new(),
            };
            Row {
                mark: run_mark(run.outcome),
                cells: vec![
                    Cell::left(run.id.as_str()),
                    Cell::left(format!("{} → {}", run.flow, run.environment)),
                    Cell::left(run_outcome(run)),
                    Cell::right(took),
                    Cell::left(when::day_and_time(look, run.started, now)),
                    Cell::left(who(&run.by)),
                ],
            }
        })
        .collect();
    table(look, &rows)
}

/// `{version, runs: [{id, …}]}`
#[must_use]
pub fn runs_json(runs: &[RunSummary]) -> Json {
    json!({ "version": VERSION, "runs": runs })
}

/// Releases of an environment, one a line, in the order given; `live` is the number of the one
/// that is live.
#[must_use]
pub fn releases(look: &Look, releases: &[Release], live: Option<u64>, now: Timestamp) -> Vec<String> {
    let rows: Vec<Row> = releases
        .iter()
        .map(|release| {
            let state = match (Some(release.id) == live, release.failed) {
                (true, _) => "live",
                (false, true) => "failed",
                (false, false) => "",
            };
            let origin = match (release.adopted, release.rolled_back_to) {
                (true, _) => "found".to_owned(),
                (false, Some(to)) => format!("back to {to}"),
                (false, None) => String::new(),
            };
            let commit = release.commit.as_deref().map_or("", |commit| commit.get(..8).unwrap_or(commit));
            let changed = if release.dirty == Some(true) { " dirty" } else { "" };
            Row {
                mark: if release.failed { Mark::Failed } else { Mark::Done },
                cells: vec![
                    Cell::right(release.id.to_string()),
                    Cell::left(state),
                    Cell::left(origin),
                    Cell::left(release.flow.as_str()),
                    Cell::left(format!("run {}", release.run)),
                    Cell::left(format!("{commit}{changed}")),
                    Cell::left(when::day_and_time(look, release.created, now)),
                    Cell::left(who(&release.by)),
                ],
            }
        })
        .collect();
    table(look, &rows)
}

/// `{version, releases: [{id, live, …}]}`; each release as it is recorded.
#[must_use]
pub fn releases_json(releases: &[Release], live: Option<u64>) -> Json {
    #[derive(Serialize)]
    struct Listed<'a> {
        #[serde(flatten)]
        release: &'a Release,
        live: bool,
    }
    let listed: Vec<Listed<'_>> =
        releases.iter().map(|release| Listed { release, live: Some(release.id) == live }).collect();
    json!({ "version": VERSION, "releases": listed })
}

/// An environment that is locked.
#[derive(Clone, Debug, Serialize)]
pub struct LockRow {
    /// Who has the lock, or had it.
    #[serde(flatten)]
    pub holder: Holder,
    /// `held`; `left` by a run that died; `taken-away` from a run that still lives.
    pub state: &'static str,
    /// The step that the run is at.
    pub step: Option<StepId>,
    /// What it does there, or why the lock was taken away and by whom.
    pub note: String,
}

impl LockRow {
    /// How a lock stands; `None` for one that is free.
    #[must_use]
    pub fn of(standing: Standing, doing: impl Fn(&Holder) -> Option<Doing>) -> Option<Self> {
        let (holder, state, note) = match standing {
            Standing::Free => return None,
            Standing::Held(holder) => (holder, "held", String::new()),
            Standing::Left(holder) => (holder, "left", "it died; the next run takes the lock".to_owned()),
            Standing::TakenAway(taken) => {
                let note = format!("taken away by {}: {}", who(&taken.by), taken.reason);
                (*taken.from?, "taken-away", note)
            }
        };
        let doing = if state == "held" { doing(&holder) } else { None };
        let (step, note) = match doing {
            Some(doing) => (Some(doing.step), doing.what),
            None => (None, note),
        };
        Some(Self { holder, state, step, note })
    }
}

/// Locks, one a line, in the order given.
#[must_use]
pub fn locks(look: &Look, locks: &[LockRow], now: Timestamp) -> Vec<String> {
    let rows: Vec<Row> = locks
        .iter()
        .map(|lock| {
            let holder = &lock.holder;
            let doing = lock.step.as_ref().map(|step| format!("{step}  {}", lock.note));
            Row {
                mark: match lock.state {
                    "held" => Mark::Run,
                    "left" => Mark::Failed,
                    _ => Mark::Unknown,
                },
                cells: vec![
                    Cell::left(holder.environment.as_str()),
                    Cell::left(format!("token {}", holder.token)),
                    Cell::left(holder.run.as_ref().map_or("planning".to_owned(), |run| format!("run {run}"))),
                    Cell::left(who(&holder.by)),
                    Cell::right(lines::elapsed(holder.since, now)),
                    Cell::left(doing.unwrap_or_else(|| lock.note.clone())),
                ],
            }
        })
        .collect();
    table(look, &rows)
}

/// `{version, locks: [{id, token, run, …}]}`; `id` is the environment.
#[must_use]
pub fn locks_json(locks: &[LockRow]) -> Json {
    json!({ "version": VERSION, "locks": locks })
}

/// `{version, runs: [{id, whole, …}]}`: whether the journals are what was written.
#[must_use]
pub fn audit_json(runs: &[Json]) -> Json {
    json!({ "version": VERSION, "runs": runs })
}

/// `{version, records: [{seq, time, event, …}]}`: a run as its journal has it.
#[must_use]
pub fn records_json(records: &[Record]) -> Json {
    json!({ "version": VERSION, "records": records })
}

/// `{version, lines: [{time, text}]}`: what a step wrote.
#[must_use]
pub fn lines_json(lines: &[LogLine]) -> Json {
    let lines: Vec<Json> = lines.iter().map(|line| json!({ "time": line.time, "text": line.text })).collect();
    json!({ "version": VERSION, "lines": lines })
}

fn run_mark(outcome: Outcome) -> Mark {
    match outcome {
        Outcome::Running => Mark::Run,
        Outcome::Succeeded => Mark::Done,
        Outcome::Interrupted
        | Outcome::Failed
        | Outcome::Refused
        | Outcome::Locked
        | Outcome::RolledBack
        | Outcome::RollbackFailed => Mark::Failed,
        Outcome::Waiting => Mark::Waiting,
        Outcome::Unknown => Mark::Unknown,
    }
}

fn run_outcome(run: &RunSummary) -> String {
    match run.outcome {
        Outcome::Running => "running".to_owned(),
        Outcome::Interrupted => "interrupted".to_owned(),
        Outcome::Succeeded => match (run.release, run.back_to) {
            (Some(release), Some(to)) => format!("release {release}, back to {to}"),
            (Some(release), None) => format!("release {release}"),
            (None, _) => "nothing changed".to_owned(),
        },
        Outcome::Failed => "failed".to_owned(),
        Outcome::Waiting => "waiting".to_owned(),
        Outcome::Refused => "refused".to_owned(),
        Outcome::Locked => "locked".to_owned(),
        Outcome::Unknown => "unknown".to_owned(),
        Outcome::RolledBack => "failed, rolled back".to_owned(),
        Outcome::RollbackFailed => "rollback failed".to_owned(),
    }
}

/// The person and the machine, without the CI job's link.
fn who(by: &str) -> &str {
    by.split(' ').next().unwrap_or(by)
}

struct Row {
    mark: Mark,
    cells: Vec<Cell>,
}

struct Cell {
    text: String,
    right: bool,
}

impl Cell {
    fn left(text: impl Into<String>) -> Self {
        Self { text: text::clean(&text.into()), right: false }
    }

    fn right(text: impl Into<String>) -> Self {
        Self { text: text::clean(&text.into()), right: true }
    }
}

/// Columns as wide as their widest cell; the last one takes what is left. Empty ones are left out.
fn table(look: &Look, rows: &[Row]) -> Vec<String> {
    let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or_default();
    let cell = |row: &Row, column: usize| row.cells.get(column).map_or("", |cell| &cell.text).to_owned();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let widths = rows.iter().map(|row| text::width(&look.text(&cell(row, column))));
            widths.max().unwrap_or_default()
        })
        .collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate().filter(|(_, width)| **width > 0) {
                let text = look.text(&cell(row, column));
                let right = row.cells.get(column).is_some_and(|cell| cell.right);
                let padded = if right { text::pad_left(&text, *width) } else { text::pad(&text, *width) };
                line.push_str(if line.is_empty() { "" } else { "  " });
                line.push_str(&padded);
            }
            let room = look.right_edge().saturating_sub(3 + look.mark_width());
            format!("  {} {}", look.mark(row.mark), look.cut(line.trim_end(), room))
        })
        .collect()
}

/// Said instead of an empty list.
#[must_use]
pub fn nothing(look: &Look, what: &str) -> Vec<String> {
    vec![look.paint(Color::Dim, &look.text(what))]
}

#[cfg(test)]
mod tests {
    use super::super::sample::at;
    use super::*;
    use crate::model::names::{EnvName, FlowName, RunId};

    fn run(id: &str, outcome: Outcome, started: i64, duration_ms: Option<u64>) -> RunSummary {
        RunSummary {
            id: RunId::new(id),
            flow: FlowName::new("deploy"),
            environment: EnvName::new("prod"),
            started: at(started),
            duration_ms,
            outcome,
            closed: true,
            release: (outcome == Outcome::Succeeded).then_some(18),
            back_to: None,
            inside: Vec::new(),
            to_run: 6,
            commit: None,
            by: "ada@build-7 https://ci.example.com/jobs/8812".to_owned(),
        }
    }

    fn release(id: u64, failed: bool, dirty: bool) -> Release {
        Release {
            id,
            created: at(0),
            failed,
            plan: "7f3a".to_owned(),
            dirty: Some(dirty),
            ..Release::sample()
        }
    }

    const DAY: i64 = 86_400_000;

    #[test]
    fn runs_in_columns() {
        let list = [
            run("h2x4", Outcome::Running, 0, None),
            run("k3f9", Outcome::Succeeded, -DAY, Some(134_000)),
            run("p7wd", Outcome::Failed, -2 * DAY, Some(21_400)),
            run("q8rt", Outcome::Waiting, -400 * DAY, Some(900)),
            run("zz24", Outcome::Unknown, -400 * DAY, Some(7_440_000)),
        ];
        let lines = runs(&Look::plain(), &list, at(192_000));
        assert!(lines.iter().all(|line| text::width(line) <= 80));
        insta::assert_snapshot!(lines.join("\n"), @r"
        ▸ h2x4  deploy → prod  running     3m12s  today 04:10      ada@build-7
        ✓ k3f9  deploy → prod  release 18  2m14s  yesterday 04:10  ada@build-7
        ✗ p7wd  deploy → prod  failed      21.4s  19 Nov 04:10     ada@build-7
        ‖ q8rt  deploy → prod  waiting      0.9s  17 Oct 2025      ada@build-7
        ? zz24  deploy → prod  unknown     2h04m  17 Oct 2025      ada@build-7
        ");
        let json = runs_json(&list[..1]);
        insta::assert_snapshot!(json.to_string(), @r#"{"version":1,"runs":[{"id":"h2x4","flow":"deploy","environment":"prod","started":"2026-11-21T04:10:00Z","duration_ms":null,"outcome":"running","release":null,"to_run":6,"commit":null,"by":"ada@build-7 https://ci.example.com/jobs/8812"}]}"#);
    }

    #[test]
    fn releases_in_columns() {
        let list = [release(18, true, false), release(17, false, true), release(9, false, false)];
        let lines = releases(&Look::plain(), &list, Some(17), at(192_000));
        insta::assert_snapshot!(lines.join("\n"), @r"
        ✗ 18  failed  deploy  run k3f9  1a2b3c4d        today 04:10  ada@build-7
        ✓ 17  live    deploy  run k3f9  1a2b3c4d dirty  today 04:10  ada@build-7
        ✓  9          deploy  run k3f9  1a2b3c4d        today 04:10  ada@build-7
        ");
        let json = releases_json(&list[1..2], Some(17));
        insta::assert_snapshot!(json.to_string(), @r#"{"version":1,"releases":[{"version":1,"id":17,"run":"k3f9","flow":"deploy","environment":"prod","created":"2026-11-21T04:10:00Z","failed":false,"plan":"7f3a","commit":"1a2b3c4d5e6f","dirty":true,"by":"ada@build-7","steps":{},"live":true}]}"#);
    }
}
