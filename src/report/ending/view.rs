//! How the end of a run reads, for each way to end.

use std::time::Duration;

use jiff::Timestamp;

use super::super::lines;
use super::super::look::{Color, Look, Mark};
use super::super::text::{self, name_list, shell_word};
use super::{Ending, nothing_to_do};
use crate::event::{RunEnded, RunOutcome, RunStarted, StepEnded, StepOutcome};
use crate::model::names::StepId;
use crate::model::units::{short_digest, show_duration};

/// Most steps of which the end tells everything; the others are named.
const TOLD: usize = 3;

/// Most names in a list.
const NAMED: usize = 6;

/// An ending while its lines are made.
pub(super) struct View<'a> {
    pub(super) ending: &'a Ending,
    pub(super) look: &'a Look,
    pub(super) names: usize,
    pub(super) started: &'a RunStarted,
    pub(super) ended: &'a RunEnded,
}

impl View<'_> {
    fn took(&self) -> String {
        show_duration(Duration::from_millis(self.ended.duration_ms))
    }

    fn what(&self) -> String {
        format!("{} to {}", self.started.flow, self.started.environment)
    }

    pub(super) fn nothing_to_do(&self, now: Timestamp) -> Vec<String> {
        let mut lines =
            nothing_to_do(self.look, self.started, self.ending.skipped, self.ended.duration_ms, now);
        self.summary(&mut lines);
        lines
    }

    pub(super) fn success(&self) -> Vec<String> {
        let mut notes = Vec::new();
        // How long a deploy takes says nothing of a rollback.
        let deploys = self.started.back_to.is_none();
        if let Some(last) = self.started.last_duration_ms.filter(|_| deploys) {
            notes.push(format!("last time {}", show_duration(Duration::from_millis(last))));
        }
        if let Some(target) = self.started.target_ms.filter(|_| deploys) {
            let met = if self.ended.duration_ms <= target { "met" } else { "missed" };
            notes.push(format!("target {} {met}", target_text(target)));
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        let release = match (self.ended.release, self.started.live) {
            (Some(release), _) => format!("release {release}"),
            (None, Some(live)) => format!("nothing changed, release {live} stays live"),
            (None, None) => "nothing changed".to_owned(),
        };
        let back = self.started.back_to.map(|to| format!(" back to release {to}")).unwrap_or_default();
        let took = format!("{}{back} in {}{notes}", self.what(), self.took());
        let mut lines = vec![String::new()];
        lines.extend(self.headline(Mark::Done, &[took, release]));
        self.summary(&mut lines);
        let says = |said: &str| self.look.text(&format!("    {said}"));
        if let Some(healthy) = self.ended.healthy_after_ms {
            let after = show_duration(Duration::from_millis(healthy));
            lines.extend([String::new(), says(&format!("healthy again {after} after the incident began"))]);
        }
        if !self.ended.notes.is_empty() {
            lines.push(String::new());
            lines.extend(self.ended.notes.iter().map(|note| says(note)));
        }
        // Where something went back, the release that was live is what was left.
        let forward = self.started.back_to.is_none() && self.started.inside.is_empty();
        let changed = self.ended.release.is_some() && forward;
        if let Some(live) = self.started.live.filter(|_| changed) {
            lines.push(String::new());
            match &self.ended.barred {
                None => lines.push(says(&format!("back to release {live}: {}", self.rollback(None)))),
                Some(why) => self.say(&mut lines, &format!("There is no way back to release {live}: {why}.")),
            }
        }
        lines
    }

    /// The command that goes back.
    fn rollback(&self, to: Option<u64>) -> String {
        let (flow, environment) = (self.started.flow.as_str(), self.started.environment.as_str());
        let to = to.map(|to| format!(" --to {to}")).unwrap_or_default();
        format!("flow rollback {} --env {}{to}", shell_word(flow), shell_word(environment))
    }

    /// A line about the whole run. Broken between its parts rather than cut: it is the answer.
    fn headline(&self, mark: Mark, parts: &[String]) -> Vec<String> {
        let indent = 3 + self.look.mark_width();
        let room = self.look.right_edge() - indent;
        let one = self.look.text(&parts.join("   "));
        let lines = if text::width(&one) <= room {
            vec![one]
        } else {
            parts.iter().flat_map(|part| text::wrap(&self.look.text(part), room)).collect()
        };
        let start = |at| if at == 0 { self.look.mark(mark) } else { " ".repeat(self.look.mark_width()) };
        lines.into_iter().enumerate().map(|(at, line)| format!("  {} {line}", start(at))).collect()
    }

    fn summary(&self, lines: &mut Vec<String>) {
        let rows = &self.ended.summary;
        if rows.is_empty() {
            return;
        }
        let widest = rows.iter().map(|(name, _)| text::width(name)).max().unwrap_or_default();
        lines.push(String::new());
        for (name, value) in rows {
            // Values are links and names to be copied: shown whole, however long. Digests are
            // compared by eye, and the release has all of their digits.
            let shorten =
                |word: &str| if word.starts_with("sha256:") { short_digest(word) } else { word.to_owned() };
            let value = text::clean(value).split(' ').map(shorten).collect::<Vec<_>>().join(" ");
            lines.push(self.look.text(&format!("    {}   {value}", text::pad(name, widest))));
        }
    }

    pub(super) fn trouble(&self, last: Option<&StepId>) -> Vec<String> {
        let mut lines = Vec::new();
        let all = self.troubled();
        for (at, step) in all.iter().take(TOLD).enumerate() {
            self.step(&mut lines, step, at == 0 && all.len() == 1 && last == Some(&step.step));
        }
        if all.len() > TOLD {
            let others: Vec<&StepId> = all.iter().skip(TOLD).map(|step| &step.step).collect();
            space(&mut lines);
            let names = name_list(&others, NAMED);
            self.say(&mut lines, &format!("{} more did not succeed: {names}.", others.len()));
        }
        space(&mut lines);
        let took = self.took();
        let outcome = match self.ended.outcome {
            RunOutcome::Waiting => format!("{} waits for an answer after {took}.", self.what()),
            RunOutcome::Refused => format!("{} was refused after {took}.", self.what()),
            RunOutcome::Locked => format!("{} met a lock after {took}.", self.what()),
            RunOutcome::Unknown => format!("{} stopped after {took} with an unknown outcome.", self.what()),
            RunOutcome::RolledBack => {
                format!("{} failed after {took}, and its changes were taken back.", self.what())
            }
            RunOutcome::RollbackFailed => match self.started.back_to {
                Some(to) => format!("{} is not back at release {to} after {took}.", self.what()),
                None => {
                    format!("{} failed after {took}, and not all of it was undone.", self.what())
                }
            },
            _ => format!("{} failed after {took}.", self.what()),
        };
        let mut sentences = vec![outcome];
        sentences.extend(self.last_good());
        lines.extend(lines::sentences(self.look, 4, &sentences));
        self.balance(&mut lines);
        self.commands(&mut lines, all.first().map(|step| &step.step));
        lines
    }

    pub(super) fn interrupted(&self, last: Option<&StepId>) -> Vec<String> {
        let mut lines = Vec::new();
        let all = self.troubled();
        let worse: Vec<&StepEnded> =
            all.iter().copied().filter(|step| step.outcome != StepOutcome::Interrupted).collect();
        for step in worse.iter().take(TOLD) {
            self.step(&mut lines, step, worse.len() == 1 && last == Some(&step.step));
        }
        space(&mut lines);
        let by = self.ending.signal.as_ref().map_or(String::new(), |signal| format!(" by {signal}"));
        let text = format!("{} was interrupted{by} after {}", self.what(), self.took());
        lines.extend(self.headline(Mark::Failed, &[text]));
        space(&mut lines);
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
        if !shown {
            space(lines);
            lines.extend(lines::ended(self.look, self.names, step, ""));
        }
        space(lines);
        if let Some(failure) = &step.failure {
            for detail in &failure.details {
                self.say(lines, detail);
            }
            if let Some(help) = &failure.help {
                self.say(lines, help);
            }
        }
    }

    fn last_good(&self) -> Option<String> {
        let forward = self.started.back_to.is_none() && self.started.inside.is_empty();
        let live = self.started.live.filter(|_| forward)?;
        match self.ended.outcome {
            RunOutcome::Failed | RunOutcome::Unknown | RunOutcome::RollbackFailed => {
                Some(format!("Release {live} is the last good one."))
            }
            RunOutcome::RolledBack => Some(format!("Release {live} stays live.")),
            _ => None,
        }
    }

    /// What was done and what was not.
    fn balance(&self, lines: &mut Vec<String>) {
        let done = &self.ending.done;
        if self.ending.unwinding {
            // What was done before it says nothing about what stands now; the notes do.
        } else if done.is_empty() {
            let other = if self.ending.troubled.is_empty() { "" } else { "other " };
            self.say(lines, &format!("No {other}step was done."));
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
        if let (Some(live), Some(why)) =
            (self.started.live.filter(|_| self.changed_for_good()), &self.ended.barred)
        {
            self.say(lines, &format!("There is no way back to release {live}: {why}."));
        }
    }

    fn commands(&self, lines: &mut Vec<String>, step: Option<&StepId>) {
        space(lines);
        let run = &self.started.run;
        let log = match step {
            Some(step) => format!("flow log {run} {}", shell_word(&step.to_string())),
            None => format!("flow log {run}"),
        };
        for step in self.unknown() {
            for (what, word) in [("it is done", "done"), ("it is not done", "not-done")] {
                let mark = shell_word(&format!("{}={word}", step.step));
                let mark = format!("flow reconcile {run} --mark {mark} --reason \"…\"");
                let what = self.look.paint(Color::Dim, &text::pad(what, 14));
                lines.push(self.look.text(&format!("    {what}  {mark}")));
            }
        }
        let again = if self.goes_on() {
            format!("flow resume {run}")
        } else if self.started.again.is_empty() {
            let flow = shell_word(self.started.flow.as_str());
            format!("flow run {flow} --env {}", shell_word(self.started.environment.as_str()))
        } else {
            self.started.again.clone()
        };
        let waits = self.ended.outcome == RunOutcome::Waiting;
        // A gate that waits for signatures has said how its plan is run afterwards.
        let said = waits && self.ending.troubled.iter().any(says_then);
        let log = (!waits).then_some(("log", log));
        let again = (!said).then_some(("again", again));
        let back =
            self.started.live.filter(|_| self.can_go_back()).map(|live| ("back", self.rollback(Some(live))));
        for (label, command) in log.into_iter().chain(again).chain(back) {
            lines.push(format!("    {}   {command}", self.look.paint(Color::Dim, &text::pad(label, 5))));
        }
    }

    /// Steps of which nobody knows whether they were done.
    fn unknown(&self) -> impl Iterator<Item = &StepEnded> {
        let unknown = |step: &&StepEnded| step.outcome == StepOutcome::Unknown;
        self.ending.troubled.iter().filter(unknown).take(TOLD)
    }

    /// Whether the run itself is gone on with: it began an effect, and was not taken back.
    fn goes_on(&self) -> bool {
        let outcome = self.ended.outcome;
        (self.ending.intended || outcome == RunOutcome::Unknown)
            && (matches!(outcome, RunOutcome::Failed | RunOutcome::Interrupted | RunOutcome::Unknown)
                || (outcome == RunOutcome::RollbackFailed && self.started.back_to.is_some()))
    }

    /// Whether a rollback to the last good release could take back what was changed.
    fn can_go_back(&self) -> bool {
        self.changed_for_good() && self.ended.barred.is_none()
    }

    /// Whether something was changed, and stays so.
    fn changed_for_good(&self) -> bool {
        let done = !self.ending.done.is_empty();
        match self.ended.outcome {
            RunOutcome::Failed => done && self.ended.release.is_some(),
            RunOutcome::RollbackFailed => self.started.back_to.is_none(),
            _ => false,
        }
    }

    fn say(&self, lines: &mut Vec<String>, text: &str) {
        lines.extend(lines::paragraph(self.look, text));
    }
}

fn says_then(step: &StepEnded) -> bool {
    let help = step.failure.as_ref().and_then(|failure| failure.help.as_ref());
    help.is_some_and(|help| help.starts_with("then: "))
}

/// An empty line, unless there is one.
fn space(lines: &mut Vec<String>) {
    if lines.last().is_none_or(|line| !line.is_empty()) {
        lines.push(String::new());
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
