//! The last lines of a run: how it went, what was done and what was not, and what to type next.
//!
//! Made from events alone, so that `flow log` shows the same from the journal.

mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use self::view::View;
use super::lines;
use super::look::Look;
use super::when;
use crate::event::{Event, RunEnded, RunOutcome, RunStarted, StepEnded, StepOutcome};
use crate::model::change::Action;
use crate::model::names::StepId;
use crate::model::units::show_duration;

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
            // Whatever it ended with before, this is what is known of it now.
            Event::StepReconciled { step, done: Some(_), .. } => {
                self.troubled.retain(|troubled| troubled.step != *step);
            }
            Event::MarkRefused { step, .. } => self.done.retain(|done| done != step),
            Event::RollbackStarted { .. } => self.unwinding = true,
            Event::StepEnded(ended) => {
                match ended.outcome {
                    // How a step was taken back is told by the notes; what went wrong there, here.
                    outcome
                        if (self.unwinding && outcome.satisfies())
                            || matches!(outcome, StepOutcome::RolledBack | StepOutcome::UpToDate) => {}
                    StepOutcome::Succeeded | StepOutcome::Cached => {
                        if !self.done.contains(&ended.step) {
                            self.done.push(ended.step.clone());
                        }
                    }
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
            | RunOutcome::Locked
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

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Script, at, begin, done, over, started, trouble};
    use super::super::text;
    use super::*;

    fn shown_with(look: &Look, script: &Script) -> String {
        let mut ending = Ending::default();
        for (_, event) in script {
            ending.event(event);
        }
        let lines = ending.lines(look, 15, at(0), None);
        // Commands are copied: they are never cut.
        let command = |line: &String| line.contains("flow reconcile");
        let fits = |line: &String| text::width(line) <= 80 || !line.contains("  ") || command(line);
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
        insta::assert_snapshot!(shown(&script), @r#"

        ? service[api]     the answer to UpdateService was lost and ECS        21.0s
                           cannot tell

          the service ohi-prod-api of cluster ohi-prod may roll to ohi-prod-api:42
          look at the service before you run again

        ✗ image[web]       no space left in the engine                          0.9s

          deploy to prod stopped after 22.0s with an unknown outcome.
          Release 17 is the last good one.
          No other step was done.
          Not started: edge.

          it is done      flow reconcile k3f9 --mark 'service[api]=done' --reason "…"
          it is not done  flow reconcile k3f9 --mark 'service[api]=not-done' --reason "…"
          log     flow log k3f9 'service[api]'
          again   flow resume k3f9
        "#);
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
