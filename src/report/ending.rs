//! The last lines of a run: how it went, what was done and what was not, and what to type next.
//!
//! Made from events alone, so that `flow log` shows the same from the journal.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::lines;
use super::look::{Color, Look, Mark};
use super::text::{self, name_list, shell_word};
use super::when;
use crate::event::{Event, RunEnded, RunOutcome, RunStarted, StepEnded, StepOutcome};
use crate::model::names::StepId;
use crate::model::units::show_duration;

/// Most steps of which the end tells everything; the others are named.
const TOLD: usize = 3;

/// Most names in a list.
const NAMED: usize = 6;

/// What the end of a run has to tell.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    started: Option<RunStarted>,
    ended: Option<RunEnded>,
    done: Vec<StepId>,
    troubled: Vec<StepEnded>,
    over: BTreeSet<StepId>,
    begun: BTreeSet<StepId>,
    signal: Option<String>,
}

impl Ending {
    /// Takes an event in.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted(started) => self.started = Some(started.clone()),
            Event::StepStarted { step, .. } | Event::Intent { step, .. } => {
                self.begun.insert(step.clone());
            }
            Event::StepEnded(ended) => {
                match ended.outcome {
                    StepOutcome::Succeeded | StepOutcome::Cached => self.done.push(ended.step.clone()),
                    StepOutcome::UpToDate => {}
                    // It was going to run and did not: said with what was not started.
                    StepOutcome::Skipped => return,
                    _ => self.troubled.push(ended.clone()),
                }
                self.over.insert(ended.step.clone());
            }
            Event::Interrupted { signal, .. } => {
                self.signal.get_or_insert_with(|| signal.clone());
            }
            Event::RunEnded(ended) => self.ended = Some(ended.clone()),
            _ => {}
        }
    }

    /// The lines. `names` is the width of the column of names; `last` is the step whose line was
    /// written right before, which then is not written again.
    #[must_use]
    pub fn lines(&self, look: &Look, names: usize, now: Timestamp, last: Option<&StepId>) -> Vec<String> {
        let (Some(started), Some(ended)) = (&self.started, &self.ended) else { return Vec::new() };
        let view = View { ending: self, look, names, started, ended };
        match ended.outcome {
            RunOutcome::Succeeded if started.to_run == 0 => view.nothing_to_do(now),
            RunOutcome::Succeeded => view.success(),
            RunOutcome::Interrupted => view.interrupted(last),
            RunOutcome::Failed | RunOutcome::Waiting | RunOutcome::Refused | RunOutcome::Unknown => {
                view.trouble(last)
            }
        }
    }

    /// Steps that were going to run and never began.
    fn not_started(&self, started: &RunStarted) -> Vec<StepId> {
        let begun = |step: &StepId| self.over.contains(step) || self.begun.contains(step);
        started.planned.iter().filter(|step| !begun(step)).cloned().collect()
    }
}

/// `deploy → prod: all 33 steps are up to date (0.9s). Release 18 is live since yesterday 16:04.`
#[must_use]
pub fn nothing_to_do(look: &Look, started: &RunStarted, duration_ms: u64, now: Timestamp) -> Vec<String> {
    let steps = match started.unchanged {
        0 => "nothing to do".to_owned(),
        1 => "the only step is up to date".to_owned(),
        all => format!("all {all} steps are up to date"),
    };
    let took = show_duration(Duration::from_millis(duration_ms));
    let live = match (started.live, started.live_since) {
        (Some(live), Some(then)) => format!(" Release {live} is live {}.", when::since(look, then, now)),
        (Some(live), None) => format!(" Release {live} is live."),
        (None, _) => String::new(),
    };
    let text = format!("{} → {}: {steps} ({took}).{live}", started.flow, started.environment);
    text::wrap(&look.text(&text), look.right_edge())
}

/// An ending while its lines are made.
struct View<'a> {
    ending: &'a Ending,
    look: &'a Look,
    names: usize,
    started: &'a RunStarted,
    ended: &'a RunEnded,
}

impl View<'_> {
    fn took(&self) -> String {
        show_duration(Duration::from_millis(self.ended.duration_ms))
    }

    fn what(&self) -> String {
        format!("{} to {}", self.started.flow, self.started.environment)
    }

    fn nothing_to_do(&self, now: Timestamp) -> Vec<String> {
        let mut lines = nothing_to_do(self.look, self.started, self.ended.duration_ms, now);
        self.summary(&mut lines);
        lines
    }

    fn success(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(last) = self.started.last_duration_ms {
            notes.push(format!("last time {}", show_duration(Duration::from_millis(last))));
        }
        if let Some(target) = self.started.target_ms {
            let met = if self.ended.duration_ms <= target { "met" } else { "missed" };
            notes.push(format!("target {} {met}", target_text(target)));
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        let release = match (self.ended.release, self.started.live) {
            (Some(release), _) => format!("   release {release}"),
            (None, Some(live)) => format!("   nothing changed, release {live} stays live"),
            (None, None) => "   nothing changed".to_owned(),
        };
        let text = format!("{} in {}{notes}{release}", self.what(), self.took());
        let mut lines = vec![String::new(), self.headline(Mark::Done, &text)];
        self.summary(&mut lines);
        lines
    }

    /// A line about the whole run. Broken between its parts rather than cut: it is the answer.
    fn headline(&self, mark: Mark, text: &str) -> String {
        let indent = 3 + self.look.mark_width();
        let text = self.look.text(text);
        let behind = "\n".to_owned() + &" ".repeat(indent);
        let text = text::wrap(&text, self.look.right_edge() - indent).join(&behind);
        format!("  {} {text}", self.look.mark(mark))
    }

    fn summary(&self, lines: &mut Vec<String>) {
        let rows = &self.ended.summary;
        if rows.is_empty() {
            return;
        }
        let widest = rows.iter().map(|(name, _)| text::width(name)).max().unwrap_or_default();
        lines.push(String::new());
        for (name, value) in rows {
            // Values are links and names to be copied: shown whole, however long.
            let value = text::clean(value);
            lines.push(self.look.text(&format!("    {}   {value}", text::pad(name, widest))));
        }
    }

    fn trouble(&self, last: Option<&StepId>) -> Vec<String> {
        let mut lines = Vec::new();
        let all = self.troubled();
        for (at, step) in all.iter().take(TOLD).enumerate() {
            self.step(&mut lines, step, at == 0 && all.len() == 1 && last == Some(&step.step));
        }
        if all.len() > TOLD {
            let others: Vec<&StepId> = all.iter().skip(TOLD).map(|step| &step.step).collect();
            self.space(&mut lines);
            let many = if others.len() == 1 { "1 more step" } else { "more steps" };
            self.say(&mut lines, &format!("{many} did not succeed: {}.", name_list(&others, NAMED)));
        }
        self.space(&mut lines);
        let took = self.took();
        let outcome = match self.ended.outcome {
            RunOutcome::Waiting => format!("{} waits for an answer after {took}.", self.what()),
            RunOutcome::Refused => format!("{} was refused after {took}.", self.what()),
            RunOutcome::Unknown => format!("{} stopped after {took} with an unknown outcome.", self.what()),
            _ => format!("{} failed after {took}.", self.what()),
        };
        self.say(&mut lines, &format!("{outcome}{}", self.last_good()));
        self.balance(&mut lines);
        self.commands(&mut lines, all.first().map(|step| &step.step));
        lines
    }

    fn interrupted(&self, last: Option<&StepId>) -> Vec<String> {
        let mut lines = Vec::new();
        let all = self.troubled();
        let worse: Vec<&StepEnded> =
            all.iter().copied().filter(|step| step.outcome != StepOutcome::Interrupted).collect();
        for step in worse.iter().take(TOLD) {
            self.step(&mut lines, step, worse.len() == 1 && last == Some(&step.step));
        }
        self.space(&mut lines);
        let by = self.ending.signal.as_ref().map_or(String::new(), |signal| format!(" by {signal}"));
        let text = format!("{} was interrupted{by} after {}", self.what(), self.took());
        lines.push(self.headline(Mark::Failed, &text));
        self.space(&mut lines);
        let stopped: Vec<&StepId> = all
            .iter()
            .filter(|step| step.outcome == StepOutcome::Interrupted)
            .map(|step| &step.step)
            .collect();
        if !stopped.is_empty() {
            self.say(&mut lines, &format!("Stopped in the middle: {}.", name_list(&stopped, NAMED)));
        }
        self.balance(&mut lines);
        self.commands(&mut lines, all.first().map(|step| &step.step));
        lines
    }

    /// Steps that did not succeed: those with an unknown effect first, they matter most.
    fn troubled(&self) -> Vec<&StepEnded> {
        let mut all: Vec<&StepEnded> = self.ending.troubled.iter().collect();
        all.sort_by_key(|step| match step.outcome {
            StepOutcome::Unknown => 0,
            StepOutcome::Interrupted => 2,
            _ => 1,
        });
        all
    }

    fn step(&self, lines: &mut Vec<String>, step: &StepEnded, shown: bool) {
        let row = lines::ended(self.look, self.names, step, "");
        let verdict = lines::verdict(step);
        let whole = row.contains(&self.look.text(&text::clean(&verdict)));
        if !shown {
            self.space(lines);
            lines.push(row);
        }
        self.space(lines);
        if !whole {
            self.say(lines, &verdict);
        }
        if let Some(failure) = &step.failure {
            for detail in &failure.details {
                self.say(lines, detail);
            }
            if let Some(help) = &failure.help {
                self.say(lines, help);
            }
        }
    }

    fn last_good(&self) -> String {
        match self.started.live {
            Some(live) => format!(" Release {live} is the last good one."),
            None => String::new(),
        }
    }

    /// What was done and what was not.
    fn balance(&self, lines: &mut Vec<String>) {
        let done = &self.ending.done;
        if done.is_empty() {
            self.say(lines, "No other step was done.");
        } else {
            self.say(lines, &format!("Done: {}.", name_list(done, NAMED)));
        }
        let not_started = self.ending.not_started(self.started);
        if !not_started.is_empty() {
            self.say(lines, &format!("Not started: {}.", name_list(&not_started, NAMED)));
        }
        for note in &self.ended.notes {
            self.say(lines, note);
        }
    }

    fn commands(&self, lines: &mut Vec<String>, step: Option<&StepId>) {
        self.space(lines);
        let run = &self.started.run;
        let log = match step {
            Some(step) => format!("flow log {run} {}", shell_word(&step.to_string())),
            None => format!("flow log {run}"),
        };
        let again = if self.started.again.is_empty() {
            let flow = shell_word(self.started.flow.as_str());
            format!("flow run {flow} --env {}", shell_word(self.started.environment.as_str()))
        } else {
            self.started.again.clone()
        };
        for (label, command) in [("log", log), ("again", again)] {
            lines.push(format!("    {}   {command}", self.look.paint(Color::Dim, &text::pad(label, 5))));
        }
    }

    fn say(&self, lines: &mut Vec<String>, text: &str) {
        lines.extend(lines::paragraph(self.look, text));
    }

    fn space(&self, lines: &mut Vec<String>) {
        if lines.last().is_none_or(|line| !line.is_empty()) {
            lines.push(String::new());
        }
    }
}

/// `15m`, `1h30m`, `90s`: as it is written in a flow file.
fn target_text(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}
