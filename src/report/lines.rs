//! One thing that happened, one line: names left, what happens in the middle, time at the right.

use std::time::Duration;

use jiff::Timestamp;

use super::board::{Board, Running};
use super::look::{Color, Look, Mark};
use super::text;
use crate::event::{RunStarted, StepEnded, StepOutcome, Teller};
use crate::model::names::StepId;
use crate::model::units::show_duration;

/// Most steps that are shown at once while they run.
pub const SHOWN: usize = 8;

/// A line with columns.
#[must_use]
pub fn row(look: &Look, names: usize, mark: Mark, name: &str, middle: &str, right: &str) -> String {
    let names = names.min(look.right_edge() / 2);
    let name = text::pad(&name_cell(look, name, names), names);
    let right = look.text(right);
    let room = look.right_edge().saturating_sub(start_width(look, names));
    let behind = if right.is_empty() { 0 } else { text::width(&right) + 2 };
    let middle = look.cut(&text::clean(middle), room.saturating_sub(behind));
    let start = format!("  {} {name}  ", look.mark(mark));
    if right.is_empty() {
        return format!("{start}{middle}").trim_end().to_owned();
    }
    let right_cell = text::pad_left("", room.saturating_sub(text::width(&middle) + text::width(&right)));
    format!("{start}{middle}{right_cell}{}", look.paint(Color::Dim, &right))
}

fn name_cell(look: &Look, name: &str, names: usize) -> String {
    let cut = text::cut_middle(name, names);
    // One column either way: `...` would take two more.
    if look.utf8 { cut } else { text::ascii(&cut.replace('…', "~")) }
}

/// `deploy → prod   run k3f9   release 17 is live`
#[must_use]
pub fn header(look: &Look, run: &RunStarted) -> String {
    let live = run.live.map_or_else(|| "no release yet".to_owned(), |live| format!("release {live} is live"));
    let back = run.back_to.map(|to| format!("   back to release {to}")).unwrap_or_default();
    look.cut(
        &format!("{} → {}   run {}{back}   {live}", run.flow, run.environment, run.run),
        look.right_edge(),
    )
}

/// A step that is over; where it has nothing to say, `planned` says what it was about. Why a step
/// did not succeed is said in full, on as many lines as it takes.
#[must_use]
pub fn ended(look: &Look, names: usize, ended: &StepEnded, planned: &str) -> Vec<String> {
    let duration = match ended.outcome {
        StepOutcome::Waiting => String::new(),
        _ => show_duration(Duration::from_millis(ended.duration_ms)),
    };
    let (mark, name) = (Mark::from(ended.outcome), ended.step.to_string());
    let verdict = verdict(ended);
    let middle = if verdict.is_empty() { planned } else { &verdict };
    if ended.outcome.satisfies() {
        return vec![row(look, names, mark, &name, middle, &duration)];
    }
    rows(look, names, mark, &name, middle, &duration)
}

/// A line with columns whose middle is said in full, on as many lines as it takes.
fn rows(look: &Look, names: usize, mark: Mark, name: &str, middle: &str, right: &str) -> Vec<String> {
    let start = start_width(look, names);
    let room = look.right_edge().saturating_sub(start + text::width(right) + 2);
    let mut parts = text::wrap(&look.text(&text::clean(middle)), room).into_iter().peekable();
    // A path that is wider than the column, its line number above all, must not be cut: it goes below.
    let first = parts.next_if(|part| text::width(part) <= room).unwrap_or_default();
    let mut lines = vec![row(look, names, mark, name, &first, right)];
    lines.extend(parts.map(|part| format!("{}{part}", " ".repeat(start))));
    lines
}

/// Columns in front of the middle.
fn start_width(look: &Look, names: usize) -> usize {
    2 + look.mark_width() + 1 + names.min(look.right_edge() / 2) + 2
}

/// What stands behind the name of a step that is over.
#[must_use]
pub fn verdict(ended: &StepEnded) -> String {
    let reason = ended.failure.as_ref().map(|failure| failure.reason.as_str()).filter(|r| !r.is_empty());
    match ended.outcome {
        StepOutcome::Interrupted => match reason {
            Some(reason) if reason != "interrupted" => format!("interrupted: {reason}"),
            _ => "interrupted".to_owned(),
        },
        _ => reason.unwrap_or(&ended.summary).to_owned(),
    }
}

/// Whether a step that is over gets a line of its own; the others are counted.
#[must_use]
pub fn matters(outcome: StepOutcome) -> bool {
    !matches!(outcome, StepOutcome::UpToDate | StepOutcome::Skipped)
}

/// What this run did is being taken back; the lines that follow are about that.
#[must_use]
pub fn unwinding(look: &Look, reason: &str) -> Vec<String> {
    let text = look.text(&format!("taking back what this run did, since {}", text::clean(reason)));
    let lines = text::wrap(&text, look.right_edge() - 2).into_iter().map(|line| format!("  {line}"));
    std::iter::once(String::new()).chain(lines).collect()
}

/// A step under way: `32s of ~1m10s`.
#[must_use]
pub fn running(look: &Look, names: usize, running: &Running, now: Timestamp) -> String {
    let mark = if running.asks { Mark::Waiting } else { Mark::Run };
    let mut time = elapsed(running.since, now);
    if let Some(usual) = running.usual_ms.filter(|usual| *usual >= 1000) {
        time = format!("{time} of ~{}", seconds(usual / 1000));
    }
    row(look, names, mark, &running.step.to_string(), &running.doing(), &time)
}

/// A step whose attempt failed and which is tried again.
#[must_use]
pub fn retried(
    look: &Look,
    names: usize,
    step: &StepId,
    attempt: u32,
    reason: &str,
    pause_ms: u64,
) -> String {
    let again = format!("again in {}", seconds(pause_ms.div_ceil(1000)));
    row(look, names, Mark::Run, &step.to_string(), &format!("attempt {attempt} failed: {reason}"), &again)
}

/// What a signal means for the run.
#[must_use]
pub fn signal(look: &Look, signal: &str, times: u32) -> String {
    let meaning = match times {
        0 | 1 => "nothing new starts, running steps stop; a second one kills them",
        2 => "running steps are killed; a third one ends flow at once",
        _ => "flow ends now",
    };
    look.cut(&format!("  {signal}: {meaning}"), look.right_edge())
}

/// A run that goes on: who goes on with it, and what it need not do again.
#[must_use]
pub fn resumed(look: &Look, board: &Board, by: &str) -> String {
    let who = by.split(' ').next().unwrap_or(by);
    let done = match board.ended {
        0 => "nothing was done before".to_owned(),
        done => format!("{done} done before"),
    };
    look.cut(&format!("  {} resumed by {who}, {done}", look.mark(Mark::Run)), look.right_edge())
}

/// What became of an effect of which nothing was recorded; nothing where its step ends with it and
/// says all there is to say.
#[must_use]
pub fn reconciled(look: &Look, names: usize, step: &StepId, done: Option<bool>, by: &Teller) -> Vec<String> {
    let (mark, was) = match done {
        Some(true) => (Mark::Done, "it was done"),
        Some(false) => (Mark::Skipped, "it was not done"),
        None => return Vec::new(),
    };
    match by {
        Teller::World if done == Some(true) => Vec::new(),
        Teller::World => vec![row(look, names, mark, &step.to_string(), was, "")],
        Teller::Person(by) => rows(look, names, mark, &step.to_string(), &format!("{was}, {by}"), ""),
    }
}

/// What a person said of an effect, and why it does not count.
#[must_use]
pub fn mark_refused(look: &Look, names: usize, step: &StepId, by: &str, why: &str) -> Vec<String> {
    let said = format!("this mark does not count: {why} ({by})");
    rows(look, names, Mark::Unknown, &step.to_string(), &said, "")
}

/// Something to know that fails nothing.
#[must_use]
pub fn warning(look: &Look, text: &str) -> Vec<String> {
    let text = look.text(&format!("warning: {}", text::clean(text)));
    let lines = text::wrap(&text, look.right_edge() - 2);
    lines.iter().map(|line| format!("  {}", look.paint(Color::Yellow, line))).collect()
}

/// What a gate asks, and what to type; without a line end at the end.
#[must_use]
pub fn question(
    look: &Look,
    names: usize,
    step: &StepId,
    text: &str,
    expected: &str,
) -> (Vec<String>, String) {
    let mut lines = vec![row(look, names, Mark::Waiting, &step.to_string(), text, "")];
    if !lines.concat().contains(&look.text(&text::clean(text))) {
        lines.extend(paragraph(look, text));
    }
    (lines, format!("    type {expected} to go on, anything else stops here: "))
}

/// `2 of 6 done, 27 up to date, 3 waiting for service[api]`, with `shown` steps listed above it.
#[must_use]
pub fn counts(look: &Look, board: &Board, shown: usize) -> String {
    let planned = board.header.as_ref().map_or(0, |header| header.planned.len());
    let mut parts = Vec::new();
    if planned > 0 {
        let done = board.ended.saturating_sub(board.troubled + board.left_out);
        parts.push(format!("{done} of {planned} done"));
    }
    for (count, what) in [
        (board.troubled, "failed"),
        (board.running.len().saturating_sub(shown), "more running"),
        (board.unchanged, "up to date"),
        (board.cached, "cached"),
        (board.skipped, "skipped"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    match (board.waiting(), board.running.as_slice()) {
        (0, _) => {}
        (waiting, [only]) => parts.push(format!("{waiting} waiting for {}", only.step)),
        (waiting, _) => parts.push(format!("{waiting} waiting")),
    }
    look.paint(Color::Dim, &format!("    {}", look.cut(&parts.join(", "), look.right_edge() - 4)))
        .trim_end()
        .to_owned()
}

/// Text below a line, wrapped.
#[must_use]
pub fn paragraph(look: &Look, text: &str) -> Vec<String> {
    let clean = look.text(&text::clean(text));
    text::wrap(&clean, look.right_edge() - 4).into_iter().map(|line| format!("    {line}")).collect()
}

/// Sentences on one line behind an indent, or each on its own when they do not fit.
#[must_use]
pub fn sentences(look: &Look, indent: usize, sentences: &[String]) -> Vec<String> {
    let room = look.right_edge().saturating_sub(indent);
    let one = look.text(&sentences.join(" "));
    let lines = if text::width(&one) <= room {
        vec![one]
    } else {
        sentences.iter().flat_map(|sentence| text::wrap(&look.text(sentence), room)).collect()
    };
    lines.into_iter().map(|line| format!("{}{line}", " ".repeat(indent))).collect()
}

/// Time since then in whole seconds; never less than nothing when the wall clock was set back.
#[must_use]
pub fn elapsed(since: Timestamp, now: Timestamp) -> String {
    seconds(u64::try_from((now.as_millisecond() - since.as_millisecond()) / 1000).unwrap_or_default())
}

/// `6s`, `1m10s`, `2h04m`.
#[must_use]
pub fn seconds(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { show_duration(Duration::from_secs(seconds)) }
}
