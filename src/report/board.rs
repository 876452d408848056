//! What runs right now, and how far the run is. Fed with every event by the reports that show it.

use jiff::Timestamp;

use super::text;
use crate::event::{Event, RunStarted, StepOutcome};
use crate::model::change::Action;
use crate::model::names::StepId;

/// Narrowest and widest column of names.
const NAMES: (usize, usize) = (15, 30);

/// A run as far as it is.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// What the run is.
    pub header: Option<RunStarted>,
    /// Steps under way, in the order in which they started.
    pub running: Vec<Running>,
    /// Planned steps that are over, however they ended.
    pub ended: usize,
    /// Of these, those that did not succeed.
    pub troubled: usize,
    /// Of these, those that then did not run.
    pub left_out: usize,
    /// Of all steps, those that are as wanted.
    pub unchanged: usize,
    /// Those whose outputs were restored.
    pub cached: usize,
    /// Those that do not run.
    pub skipped: usize,
    /// What the step that ended last was about to do.
    pub planned: String,
    widest: usize,
}

/// A step under way.
#[derive(Clone, Debug)]
pub struct Running {
    /// The step.
    pub step: StepId,
    /// Since when, all attempts included.
    pub since: Timestamp,
    /// From 1.
    pub attempt: u32,
    /// What it is about to do, as said when it started.
    pub summary: String,
    /// How long it took the last time, milliseconds.
    pub usual_ms: Option<u64>,
    /// When a line was last written about it; `None` before the first.
    pub said: Option<Timestamp>,
    /// Whether it is a gate that has asked and has no answer.
    pub asks: bool,
    progress: Option<String>,
    output: Option<String>,
}

impl Running {
    /// What it does: its own words, else the last line of its program, else what was planned.
    #[must_use]
    pub fn doing(&self) -> String {
        let doing = self.progress.as_deref().or(self.output.as_deref()).unwrap_or(&self.summary);
        let doing = text::clean(doing);
        if self.attempt > 1 { format!("{doing} (attempt {})", self.attempt) } else { doing }
    }
}

impl Board {
    /// Takes an event in.
    pub fn event(&mut self, time: Timestamp, event: &Event) {
        match event {
            Event::RunStarted(started) => {
                self.unchanged = started.unchanged;
                let widths = started.planned.iter().map(|step| text::width(&step.to_string()));
                self.widest = widths.max().unwrap_or_default();
                self.header = Some(started.clone());
            }
            // What did not succeed is to come again, and what settles is said again.
            Event::RunResumed { .. } => {
                self.ended = self.ended.saturating_sub(self.troubled + self.left_out + self.cached);
                (self.troubled, self.left_out, self.cached, self.skipped) = (0, 0, 0, 0);
                self.running.clear();
            }
            // What is up to date is counted by the header already.
            Event::StepSettled { action, .. } => match action {
                Action::Cached => self.cached += 1,
                Action::Skipped => self.skipped += 1,
                _ => {}
            },
            Event::StepStarted { step, attempt, summary, usual_ms } => {
                self.start(time, step, |running| {
                    running.attempt = *attempt;
                    running.summary.clone_from(summary);
                    running.usual_ms = *usual_ms;
                    running.progress = None;
                    running.output = None;
                });
            }
            Event::GateAsked { step, text, .. } => {
                self.start(time, step, |running| {
                    running.asks = true;
                    running.progress = Some(text.clone());
                });
            }
            Event::GateAnswered { step, .. } => {
                if let Some(running) = self.find(step) {
                    running.asks = false;
                }
            }
            Event::Progress { step, text } => {
                if let Some(running) = self.find(step) {
                    running.progress = Some(text.clone());
                }
            }
            Event::Output { step, line } => {
                if let Some(running) = self.find(step) {
                    running.output.get_or_insert_default().clone_from(line);
                }
            }
            Event::StepRetried { step, reason, .. } => {
                if let Some(running) = self.find(step) {
                    running.progress = Some(format!("waits to try again: {reason}"));
                    running.said = Some(time);
                }
            }
            Event::StepEnded(ended) => {
                let at = self.running.iter().position(|running| running.step == ended.step);
                self.planned = at.map(|at| self.running.remove(at).summary).unwrap_or_default();
                self.ended += 1;
                match ended.outcome {
                    StepOutcome::UpToDate if self.is_planned(&ended.step) => self.unchanged += 1,
                    StepOutcome::Cached => self.cached += 1,
                    StepOutcome::Skipped => {
                        self.skipped += 1;
                        self.left_out += 1;
                    }
                    // Upkeep of a step that is up to date: the header has counted it.
                    StepOutcome::Succeeded | StepOutcome::UpToDate => {}
                    _ => self.troubled += 1,
                }
            }
            Event::Intent { .. }
            | Event::Noted { .. }
            | Event::StepReconciled { .. }
            | Event::MarkRefused { .. }
            | Event::RollbackStarted { .. }
            | Event::Warning { .. }
            | Event::Interrupted { .. }
            | Event::RunEnded(_) => {}
        }
    }

    /// Whether the plan said that the step would run.
    fn is_planned(&self, step: &StepId) -> bool {
        self.header.as_ref().is_none_or(|header| header.planned.contains(step))
    }

    /// How wide the column of names is.
    #[must_use]
    pub fn names(&self) -> usize {
        self.widest.clamp(NAMES.0, NAMES.1)
    }

    /// Steps that wait for others or for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let planned = self.header.as_ref().map_or(0, |header| header.planned.len());
        planned.saturating_sub(self.ended + self.running.len())
    }

    /// The step under way of that name.
    pub fn find(&mut self, step: &StepId) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.step == *step)
    }

    /// Changes a step under way, which begins now if it did not yet.
    fn start(&mut self, time: Timestamp, step: &StepId, change: impl FnOnce(&mut Running)) {
        if let Some(running) = self.find(step) {
            return change(running);
        }
        let mut running = Running {
            step: step.clone(),
            since: time,
            attempt: 1,
            summary: String::new(),
            usual_ms: None,
            said: None,
            asks: false,
            progress: None,
            output: None,
        };
        change(&mut running);
        self.running.push(running);
    }
}
