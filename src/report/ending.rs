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
use crate::model::change::Action;
use crate::model::names::StepId;
use crate::model::units::{short_digest, show_duration};

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
    skipped: usize,
    unwinding: bool,
    /// Whether an effect was begun: from then on a run is gone on with, not begun anew.
    intended: bool,
}

impl Ending {
    /// Takes an event in.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted(started) => self.started = Some(started.clone()),
            // Only what is done counts from here on.
            Event::RunResumed { .. } => {
                self.troubled.clear();
                self.over.retain(|step| self.done.contains(step));
                self.begun.clone_from(&self.over);
                (self.ended, self.signal, self.skipped) = (None, None, 0);
            }
            Event::StepSettled { action: Action::Skipped, .. } => self.skipped += 1,
            Event::StepStarted { step, .. } => {
                self.begun.insert(step.clone());
            }
            Event::Intent { step, .. } => {
                self.begun.insert(step.clone());
                self.intended = true;
            }
            Event::RollbackStarted { .. } => self.unwinding = true,
            Event::StepEnded(ended) => {
                match ended.outcome {
                    // How a step was taken back is told by the notes; what went wrong there, here.
                    outcome if self.unwinding && outcome.satisfies() => {}
                    StepOutcome::RolledBack => {}
                    StepOutcome::Succeeded | StepOutcome::Cached => {
                        if !self.done.contains(&ended.step) {
                            self.done.push(ended.step.clone());
                        }
                    }
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
            RunOutcome::Failed
            | RunOutcome::Waiting
            | RunOutcome::Refused
            | RunOutcome::Unknown
            | RunOutcome::RolledBack
            | RunOutcome::RollbackFailed => view.trouble(last),
        }
    }

    /// Steps that were going to run and never began.
    fn not_started(&self, started: &RunStarted) -> Vec<StepId> {
        let begun = |step: &StepId| self.over.contains(step) || self.begun.contains(step);
        started.planned.iter().filter(|step| !begun(step)).cloned().collect()
    }
}

/// What is said of a run without anything to run, of which `skipped` steps do not apply:
/// `deploy → prod: all 33 steps are up to date (0.9s). Release 18 is live since yesterday 16:04.`
#[must_use]
pub fn nothing_to_do(
    look: &Look,
    started: &RunStarted,
    skipped: usize,
    duration_ms: u64,
    now: Timestamp,
) -> Vec<String> {
    let steps = match (started.unchanged, skipped) {
        (0, 0) => "nothing to do".to_owned(),
        (0, skipped) => format!("nothing to do, {skipped} skipped"),
        (1, 0) => "the only step is up to date".to_owned(),
        (all, 0) => format!("all {all} steps are up to date"),
        (some, skipped) => format!("{some} up to date, {skipped} skipped"),
    };
    let took = show_duration(Duration::from_millis(duration_ms));
    let live = match (started.live, started.live_since) {
        (Some(live), Some(then)) => Some(format!("Release {live} is live {}.", when::since(look, then, now))),
        (Some(live), None) => Some(format!("Release {live} is live.")),
        (None, _) => None,
    };
    let mut sentences = vec![format!("{} → {}: {steps} ({took}).", started.flow, started.environment)];
    sentences.extend(live);
    lines::sentences(look, 0, &sentences)
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
        let mut lines =
            nothing_to_do(self.look, self.started, self.ending.skipped, self.ended.duration_ms, now);
        self.summary(&mut lines);
        lines
    }

    fn success(&self) -> Vec<String> {
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
        let changed = self.ended.release.is_some() && self.started.back_to.is_none();
        if let Some(live) = self.started.live.filter(|_| changed) {
            lines.extend([String::new(), says(&format!("back to release {live}: {}", self.rollback(None)))]);
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

    fn trouble(&self, last: Option<&StepId>) -> Vec<String> {
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

    fn interrupted(&self, last: Option<&StepId>) -> Vec<String> {
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
        let live = self.started.live.filter(|_| self.started.back_to.is_none())?;
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
        self.ending.intended
            && (matches!(outcome, RunOutcome::Failed | RunOutcome::Interrupted | RunOutcome::Unknown)
                || (outcome == RunOutcome::RollbackFailed && self.started.back_to.is_some()))
    }

    /// Whether something was changed that a rollback to the last good release could take back.
    fn can_go_back(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Script, at, begin, done, over, started, trouble};
    use super::*;

    fn shown_with(look: &Look, script: &Script) -> String {
        let mut ending = Ending::default();
        for (_, event) in script {
            ending.event(event);
        }
        let lines = ending.lines(look, 15, at(0), None);
        let fits = |line: &String| text::width(line) <= 80 || !line.contains("  ");
        assert!(lines.iter().all(fits), "{lines:#?}");
        lines.join("\n")
    }

    fn shown(script: &Script) -> String {
        shown_with(&Look::plain(), script)
    }

    fn run(planned: &[&str], events: Vec<Event>) -> Script {
        std::iter::once(Event::RunStarted(started(planned))).chain(events).map(|event| (0, event)).collect()
    }

    #[test]
    fn nothing_to_do() {
        let mut first = started(&[]);
        first.unchanged = 33;
        first.live = Some(18);
        let end = over(RunOutcome::Succeeded, 900, None, &[]);
        let script = vec![(0, Event::RunStarted(first)), (900, end)];
        insta::assert_snapshot!(shown(&script), @r"
        deploy → prod: all 33 steps are up to date (0.9s).
        Release 18 is live since yesterday 16:04.
        ");
    }

    #[test]
    fn nothing_changed_after_all() {
        let script = run(
            &["schema"],
            vec![
                Event::StepEnded(sample::ended("schema", StepOutcome::UpToDate, "", 20)),
                over(RunOutcome::Succeeded, 1_000_000, None, &[]),
            ],
        );
        insta::assert_snapshot!(shown(&script), @r"

        ✓ deploy to prod in 16m40s (last time 2m41s, target 15m missed)
          nothing changed, release 17 stays live
        ");
    }

    #[test]
    fn a_gate_waits() {
        let script = run(
            &["image[api]", "go", "service[api]"],
            vec![
                done("image[api]", "pushed", 5000),
                trouble(
                    "go",
                    StepOutcome::Waiting,
                    10,
                    "nobody can answer here: roll 2 services of prod",
                    &[],
                    Some("run it on a terminal, or with --yes"),
                ),
                over(RunOutcome::Waiting, 6000, None, &[]),
            ],
        );
        insta::assert_snapshot!(shown(&script), @r"

        ‖ go               nobody can answer here: roll 2 services of prod

          run it on a terminal, or with --yes

          deploy to prod waits for an answer after 6.0s.
          Done: image[api].
          Not started: service[api].

          again   flow run deploy --env prod
        ");
    }

    #[test]
    fn an_unknown_outcome_comes_first() {
        let script = run(
            &["image[web]", "service[api]", "edge"],
            vec![
                trouble("image[web]", StepOutcome::Failed, 900, "no space left in the engine", &[], None),
                trouble(
                    "service[api]",
                    StepOutcome::Unknown,
                    21_000,
                    "the answer to UpdateService was lost and ECS cannot tell",
                    &["the service ohi-prod-api of cluster ohi-prod may roll to ohi-prod-api:42"],
                    Some("look at the service before you run again"),
                ),
                over(RunOutcome::Unknown, 22_000, None, &[]),
            ],
        );
        insta::assert_snapshot!(shown(&script), @r"

        ? service[api]     the answer to UpdateService was lost and ECS        21.0s
                           cannot tell

          the service ohi-prod-api of cluster ohi-prod may roll to ohi-prod-api:42
          look at the service before you run again

        ✗ image[web]       no space left in the engine                          0.9s

          deploy to prod stopped after 22.0s with an unknown outcome.
          Release 17 is the last good one.
          No other step was done.
          Not started: edge.

          log     flow log k3f9 'service[api]'
          again   flow run deploy --env prod
        ");
    }

    #[test]
    fn interrupted_in_the_middle() {
        let script = run(
            &["image[api]", "bundle", "service[api]"],
            vec![
                done("image[api]", "pushed", 5000),
                begin("bundle", "npm run build", None),
                Event::Interrupted { signal: "SIGTERM".to_owned(), times: 1 },
                trouble("bundle", StepOutcome::Interrupted, 7000, "interrupted", &[], None),
                over(RunOutcome::Interrupted, 12_300, None, &[]),
            ],
        );
        insta::assert_snapshot!(shown(&script), @r"

        ✗ deploy to prod was interrupted by SIGTERM after 12.3s

          Stopped in the middle: bundle.
          Done: image[api].
          Not started: service[api].

          log     flow log k3f9 bundle
          again   flow run deploy --env prod
        ");
    }

    fn taken_back(outcome: RunOutcome, undo: Event, notes: &[&str]) -> Script {
        let mut last = over(outcome, 31_000, None, &[]);
        if let Event::RunEnded(ended) = &mut last {
            ended.notes = notes.iter().map(|note| (*note).to_owned()).collect();
        }
        run(
            &["schema", "service[api]", "health", "edge"],
            vec![
                done("schema", "0042_note.sql", 300),
                done("service[api]", "ohi-prod-api:41 → :42", 21_000),
                trouble("health", StepOutcome::Failed, 5000, "503 from https://api.example.com", &[], None),
                Event::RollbackStarted {
                    reason: "health failed: 503 from https://api.example.com".to_owned(),
                },
                undo,
                last,
            ],
        )
    }

    #[test]
    fn a_failure_that_was_taken_back() {
        let undone = trouble("service[api]", StepOutcome::RolledBack, 4000, "", &[], None);
        let notes = ["Taken back: service[api].", "schema stays: 0042_note.sql (expand)."];
        insta::assert_snapshot!(shown(&taken_back(RunOutcome::RolledBack, undone, &notes)), @r"

        ✗ health           503 from https://api.example.com                     5.0s

          deploy to prod failed after 31.0s, and its changes were taken back.
          Release 17 stays live.
          Not started: edge.
          Taken back: service[api].
          schema stays: 0042_note.sql (expand).

          log     flow log k3f9 health
          again   flow run deploy --env prod
        ");
    }

    #[test]
    fn an_undo_that_failed() {
        let reason = "ohi-prod-api:41 was deleted";
        let undone = trouble("service[api]", StepOutcome::RollbackFailed, 4000, reason, &[], None);
        let notes = ["Could not be taken back: service[api].", "schema stays: 0042_note.sql (expand)."];
        insta::assert_snapshot!(shown(&taken_back(RunOutcome::RollbackFailed, undone, &notes)), @r"

        ✗ health           503 from https://api.example.com                     5.0s

        ✗ service[api]     ohi-prod-api:41 was deleted                          4.0s

          deploy to prod failed after 31.0s, and not all of it was undone.
          Release 17 is the last good one.
          Not started: edge.
          Could not be taken back: service[api].
          schema stays: 0042_note.sql (expand).

          log     flow log k3f9 health
          again   flow run deploy --env prod
          back    flow rollback deploy --env prod --to 17
        ");
    }

    #[test]
    fn back_at_a_release() {
        let mut script = run(
            &["service[api]"],
            vec![
                done("service[api]", "ohi-prod-api:42 → :41", 9000),
                over(RunOutcome::Succeeded, 9000, Some(18), &[]),
            ],
        );
        for (_, event) in &mut script {
            match event {
                Event::RunStarted(started) => started.back_to = Some(16),
                Event::RunEnded(ended) => ended.healthy_after_ms = Some(724_000),
                _ => {}
            }
        }
        insta::assert_snapshot!(shown(&script), @r"

        ✓ deploy to prod back to release 16 in 9.0s   release 18

          healthy again 12m04s after the incident began
        ");
    }

    #[test]
    fn many_failures_and_long_reasons() {
        let reason =
            "the image registry answered 403 to the push of ohi/api: the role has no ecr:PutImage on it";
        let names = ["a", "b", "c", "d", "e"];
        let mut events: Vec<Event> =
            names.iter().map(|name| trouble(name, StepOutcome::Failed, 900, reason, &[], None)).collect();
        events.push(over(RunOutcome::Failed, 1000, None, &[]));
        let mut script = run(&names, events);
        if let Some((_, Event::RunStarted(started))) = script.first_mut() {
            started.live = None;
            started.again = "flow run deploy --env prod --only backend".to_owned();
        }
        insta::assert_snapshot!(shown(&script), @r"

        ✗ a                the image registry answered 403 to the push of       0.9s
                           ohi/api: the role has no ecr:PutImage on it

        ✗ b                the image registry answered 403 to the push of       0.9s
                           ohi/api: the role has no ecr:PutImage on it

        ✗ c                the image registry answered 403 to the push of       0.9s
                           ohi/api: the role has no ecr:PutImage on it

          2 more did not succeed: d, e.

          deploy to prod failed after 1.0s.
          No other step was done.

          log     flow log k3f9 a
          again   flow run deploy --env prod --only backend
        ");
    }

    #[test]
    fn a_refusal_without_utf8() {
        let script = run(
            &["service[api]"],
            vec![
                trouble(
                    "service[api]",
                    StepOutcome::Refused,
                    900,
                    "the credentials are of account 111111111111, prod is 333333333333 → nothing was done",
                    &[],
                    None,
                ),
                over(RunOutcome::Refused, 1000, None, &[]),
            ],
        );
        insta::assert_snapshot!(shown_with(&Look { utf8: false, ..Look::plain() }, &script), @r"

        FAIL service[api]     the credentials are of account 111111111111,      0.9s
                              prod is 333333333333 -> nothing was done

          deploy to prod was refused after 1.0s.
          No other step was done.

          log     flow log k3f9 'service[api]'
          again   flow run deploy --env prod
        ");
    }
}
