//! What the records of a run add up to.
//!
//! [`RunState::apply`] is the only place that knows what an event means for a
//! step, so that a run that is read back is the run that was lived: the
//! dispatcher applies each event right after it was appended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::log::Record;
use crate::event::{Event, FailureRecord, RunEnded, RunOutcome, RunStarted, StepOutcome, Teller};
use crate::model::change::Action;
use crate::model::names::StepId;
use crate::model::value::Outputs;

/// What was noted in the middle of an effect: key and data, in order.
pub type Notes = Vec<(String, Json)>;

/// A run as far as it is recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunState {
    /// What it is; absent until the first record is there.
    pub started: Option<RunStarted>,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When the last record was written.
    pub last: Option<Timestamp>,
    /// Every step of which something is recorded.
    pub steps: BTreeMap<StepId, StepState>,
    /// Signals, in the order in which they came.
    pub signals: Vec<String>,
    /// How it ended; absent while it goes on, and when it died.
    pub ended: Option<RunEnded>,
    /// Whether what it did was being taken back when its records end.
    pub unwinding: bool,
    /// How often it was resumed.
    pub resumed: u32,
    /// How often it had been resumed when it last came to an end; absent while it never did.
    pub closed: Option<u32>,
}

/// A step as far as it is recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepState {
    /// Where it stands.
    pub phase: Phase,
    /// Attempts begun.
    pub attempts: u32,
    /// The effect that was announced and has no end.
    pub intent: Option<OpenIntent>,
    /// The state that stood before its first effect in this run; absent while there was none.
    pub before: Option<Json>,
    /// What was noted in the middle of its last effect, in order.
    pub notes: Notes,
    /// When its first attempt began.
    pub began: Option<Timestamp>,
    /// How long it took, milliseconds.
    pub duration_ms: Option<u64>,
    /// What was said last: planned, or done.
    pub summary: String,
    /// What it handed on.
    pub outputs: Outputs,
    /// What a rollback needs.
    pub receipt: Json,
    /// Why it failed, or why its last attempt did.
    pub failure: Option<FailureRecord>,
    /// How often the run had been resumed when it ended.
    pub pass: u32,
    /// Whether part of what it handed on is secret, and so not recorded.
    pub hides: bool,
    /// Where it stood when its effect began to be taken back; absent while that did not begin.
    pub undoes: Option<Phase>,
    /// What a person said of its last effect; absent once another attempt began.
    pub marked: Option<Mark>,
}

/// What a person said of an effect of which nobody could tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Whether it was made.
    pub done: bool,
    /// Who said it, and why.
    pub by: String,
    /// The effect.
    pub intent: OpenIntent,
}

/// Key of the note that says that part of what a step hands on is secret.
pub const HIDES: &str = "secret-outputs";

/// Where a step stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing happened yet.
    #[default]
    Pending,
    /// It does not run: up to date, cached or skipped.
    Settled(Action),
    /// A gate that asked and has no answer.
    Asking,
    /// A gate that was answered.
    Answered {
        /// Whether it opened.
        approved: bool,
        /// Who said so.
        by: String,
    },
    /// An attempt is under way; nothing outside was touched.
    Running,
    /// An effect may have begun.
    Intent,
    /// An attempt failed and the next is due.
    Retrying,
    /// It is over.
    Ended(StepOutcome),
}

/// An effect that was announced.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenIntent {
    /// The attempt.
    pub attempt: u32,
    /// What kind of effect.
    pub action: Action,
    /// What was about to happen.
    pub summary: String,
    /// What was observed right before.
    pub baseline: Json,
    /// The state that the effect replaces.
    pub standing: Json,
    /// When.
    pub since: Timestamp,
}

impl RunState {
    /// The state after these records.
    #[must_use]
    pub fn replay(records: &[Record]) -> Self {
        let mut state = Self::default();
        for record in records {
            state.apply(record.time, &record.event);
        }
        state
    }

    /// Takes the next event in. What is not recorded changes nothing.
    pub fn apply(&mut self, time: Timestamp, event: &Event) {
        if !event.is_recorded() {
            return;
        }
        self.last = Some(time);
        match event {
            Event::RunStarted(started) => {
                self.began = Some(time);
                self.started = Some(started.clone());
            }
            Event::RunResumed { .. } => {
                self.ended = None;
                self.resumed += 1;
            }
            Event::RollbackStarted { .. } => self.unwinding = true,
            Event::Interrupted { signal, .. } => self.signals.push(signal.clone()),
            Event::RunEnded(ended) => {
                self.ended = Some(ended.clone());
                // What nobody can tell holds it up, and what was begun is gone on with.
                self.unwinding &= matches!(ended.outcome, RunOutcome::Unknown | RunOutcome::Interrupted);
                self.closed = Some(self.resumed);
            }
            event => {
                if let Some(id) = event.step() {
                    let step = self.steps.entry(id.clone()).or_default();
                    step.apply(time, event, self.unwinding);
                    if matches!(event, Event::StepEnded(_)) {
                        step.pass = self.resumed;
                    }
                }
            }
        }
    }

    /// Effects that were announced and have no recorded end.
    #[must_use]
    pub fn open(&self) -> Vec<(StepId, OpenIntent, Notes)> {
        let open =
            |(id, step): (&StepId, &StepState)| Some((id.clone(), step.intent.clone()?, step.notes.clone()));
        self.unsettled().filter_map(open).collect()
    }

    /// What persons said of effects, as far as no other attempt was begun since.
    pub fn marks(&self) -> impl Iterator<Item = (&StepId, &Mark)> {
        self.steps.iter().filter_map(|(id, step)| Some((id, step.marked.as_ref()?)))
    }

    /// Steps of which nobody knows whether their effect was made: it was announced and has no
    /// end, or its end says so.
    pub fn unsettled(&self) -> impl Iterator<Item = (&StepId, &StepState)> {
        self.steps
            .iter()
            .filter(|(_, step)| step.intent.is_some() || step.phase == Phase::Ended(StepOutcome::Unknown))
    }
}

impl StepState {
    fn apply(&mut self, time: Timestamp, event: &Event, unwinding: bool) {
        match event {
            Event::StepSettled { action, reason, outputs, .. } => {
                self.phase = Phase::Settled(*action);
                self.summary.clone_from(reason);
                self.outputs.clone_from(outputs);
            }
            Event::GateAsked { .. } => self.phase = Phase::Asking,
            Event::GateAnswered { approved, by, .. } => {
                self.phase = Phase::Answered { approved: *approved, by: by.clone() };
            }
            Event::StepStarted { attempt, summary, .. } => {
                // What is about to be taken back stands until then.
                if !unwinding || !matches!(self.phase, Phase::Ended(_)) {
                    self.phase = Phase::Running;
                }
                self.hides = false;
                self.marked = None;
                self.attempts = *attempt;
                self.began.get_or_insert(time);
                self.summary.clone_from(summary);
            }
            Event::Intent { attempt, action, summary, baseline, standing, .. } => {
                let stood = std::mem::replace(&mut self.phase, Phase::Intent);
                if unwinding {
                    self.undoes.get_or_insert(stood);
                }
                // Those of an effect that is over say nothing of this one.
                self.notes.clear();
                self.before.get_or_insert_with(|| standing.clone());
                self.intent = Some(OpenIntent {
                    attempt: *attempt,
                    action: *action,
                    summary: summary.clone(),
                    baseline: baseline.clone(),
                    standing: standing.clone(),
                    since: time,
                });
            }
            Event::Noted { key, .. } if key == HIDES => self.hides = true,
            Event::Noted { key, data, .. } => self.notes.push((key.clone(), data.clone())),
            // Only what is known to have failed is tried again.
            Event::StepRetried { reason, .. } => {
                self.phase = self.undoes.clone().unwrap_or(Phase::Retrying);
                self.intent = None;
                self.failure = Some(FailureRecord { reason: reason.clone(), ..FailureRecord::default() });
            }
            Event::StepEnded(ended) => {
                self.phase = Phase::Ended(ended.outcome);
                if ended.outcome != StepOutcome::Unknown {
                    self.intent = None;
                }
                self.duration_ms = Some(ended.duration_ms);
                self.summary.clone_from(&ended.summary);
                // What could not be taken back is still what it was.
                if ended.outcome != StepOutcome::RollbackFailed {
                    self.outputs.clone_from(&ended.outputs);
                    self.receipt.clone_from(&ended.receipt);
                }
                self.failure.clone_from(&ended.failure);
            }
            // Not made: as if it had not begun. What was made stays open until its end is recorded
            // with what came of it, and what nobody can tell until somebody can.
            Event::StepReconciled { done, by, .. } => {
                self.mark(*done, by);
                match done {
                    Some(true) => {}
                    Some(false) => {
                        self.phase = self.undoes.clone().unwrap_or_default();
                        self.intent = None;
                    }
                    None => self.phase = Phase::Ended(StepOutcome::Unknown),
                }
            }
            Event::MarkRefused { .. } => {
                if let Some(mark) = self.marked.take() {
                    self.phase = Phase::Ended(StepOutcome::Unknown);
                    self.intent = Some(mark.intent);
                }
            }
            Event::RunStarted(_)
            | Event::RunResumed { .. }
            | Event::RollbackStarted { .. }
            | Event::Progress { .. }
            | Event::Output { .. }
            | Event::Warning { .. }
            | Event::Interrupted { .. }
            | Event::RunEnded(_) => {}
        }
    }

    fn mark(&mut self, done: Option<bool>, by: &Teller) {
        if let (Some(done), Teller::Person(by), Some(intent)) = (done, by, &self.intent) {
            self.marked = Some(Mark { done, by: by.clone(), intent: intent.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::StepEnded;
    use crate::journal::log::{self, Journal};
    use crate::model::value::Value;
    use crate::world::clock::Clock;
    use crate::world::store::Store;

    fn step() -> impl Strategy<Value = StepId> {
        prop_oneof![Just("schema"), Just("image[api]"), Just("image[web,eu]")].prop_map(StepId::parse)
    }

    /// What people and programs write: line ends, quotes, other scripts.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z →\"\\\\\n\t日é]{0,12}", Just(String::new())]
    }

    fn outputs() -> impl Strategy<Value = Outputs> {
        let value = prop_oneof![
            text().prop_map(Value::Text),
            any::<i64>().prop_map(Value::Int),
            any::<bool>().prop_map(Value::Bool),
            prop::collection::vec(text().prop_map(Value::Text), 0..3).prop_map(Value::List),
        ];
        prop::collection::btree_map("[a-z-]{1,8}", value, 0..3)
    }

    fn outcome() -> impl Strategy<Value = StepOutcome> {
        prop_oneof![
            Just(StepOutcome::Succeeded),
            Just(StepOutcome::UpToDate),
            Just(StepOutcome::Failed),
            Just(StepOutcome::Unknown),
            Just(StepOutcome::Interrupted),
            Just(StepOutcome::Waiting),
        ]
    }

    fn ended() -> impl Strategy<Value = Event> {
        (step(), outcome(), text(), any::<u64>(), outputs(), prop::option::of(text())).prop_map(
            |(step, outcome, summary, duration_ms, outputs, reason)| {
                Event::StepEnded(StepEnded {
                    step,
                    outcome,
                    summary,
                    duration_ms,
                    outputs,
                    receipt: serde_json::json!({ "revision": duration_ms }),
                    failure: reason.map(|reason| FailureRecord { reason, ..FailureRecord::default() }),
                })
            },
        )
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (step(), text(), outputs()).prop_map(|(step, reason, outputs)| Event::StepSettled {
                step,
                action: Action::Skipped,
                reason,
                outputs
            }),
            (step(), text()).prop_map(|(step, text)| Event::GateAsked {
                step,
                text,
                expected: "yes".to_owned()
            }),
            (step(), any::<bool>(), text()).prop_map(|(step, approved, by)| Event::GateAnswered {
                step,
                approved,
                by
            }),
            (step(), 1..4_u32, text(), any::<Option<u64>>()).prop_map(
                |(step, attempt, summary, usual_ms)| Event::StepStarted { step, attempt, summary, usual_ms }
            ),
            (step(), 1..4_u32, text()).prop_map(|(step, attempt, summary)| Event::Intent {
                step,
                attempt,
                action: Action::Update,
                summary,
                baseline: serde_json::json!([attempt, null, "41"]),
                standing: serde_json::Value::Null,
            }),
            (step(), text()).prop_map(|(step, key)| Event::Noted {
                step,
                key,
                data: serde_json::json!({ "b": 1, "a": [2] })
            }),
            (step(), text()).prop_map(|(step, line)| Event::Output { step, line }),
            (step(), text()).prop_map(|(step, reason)| Event::StepRetried {
                step,
                attempt: 1,
                reason,
                pause_ms: 1000
            }),
            ended(),
            (1..3_u32).prop_map(|times| Event::Interrupted { signal: "SIGINT".to_owned(), times }),
            text().prop_map(|by| Event::RunResumed { by }),
            text().prop_map(|reason| Event::RollbackStarted { reason }),
            (step(), any::<Option<bool>>(), text()).prop_map(|(step, done, by)| Event::StepReconciled {
                step,
                done,
                by: by.into(),
            }),
            (step(), text(), text()).prop_map(|(step, by, why)| Event::MarkRefused { step, by, why }),
            step().prop_map(|step| Event::Noted { step, key: HIDES.to_owned(), data: Json::Null }),
            any::<u64>().prop_map(|duration_ms| Event::RunEnded(RunEnded {
                outcome: crate::event::RunOutcome::Interrupted,
                exit: 6,
                duration_ms,
                release: None,
                summary: Vec::new(),
                notes: Vec::new(),
                healthy_after_ms: None,
                barred: None,
            })),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Wherever the file is cut off, what is read back is what was lived up to there.
        #[test]
        fn replay_of_a_prefix_is_the_live_state(
            events in prop::collection::vec(event(), 1..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::folder(folder.path().to_owned());
            let mut journal = Journal::begin(&store, Clock).unwrap();
            let mut live = RunState::default();
            let mut states = vec![live.clone()];
            for event in &events {
                let time = journal.append(event, false).unwrap();
                live.apply(time, event);
                if event.is_recorded() {
                    states.push(live.clone());
                }
            }
            let key = log::key(journal.run());
            let bytes = store.get(&key).unwrap().unwrap();
            prop_assert_eq!(&RunState::replay(&log::read(&store, journal.run()).unwrap()), &live);

            let cut = &bytes[..cut.index(bytes.len() + 1)];
            store.put(&key, cut).unwrap();
            let whole = cut.split(|byte| *byte == b'\n').count() - 1;
            let state = RunState::replay(&log::read(&store, journal.run()).unwrap());
            prop_assert_eq!(&state, &states[whole]);
        }
    }

    fn intent(step: &StepId) -> Event {
        Event::Intent {
            step: step.clone(),
            attempt: 1,
            action: Action::Update,
            summary: "roll 2 tasks".to_owned(),
            baseline: Json::Null,
            standing: Json::Null,
        }
    }

    #[test]
    fn an_intent_stays_open_until_its_end_is_known() {
        let step = StepId::parse("service[api]");
        let time: Timestamp = "2026-11-21T04:12:00Z".parse().unwrap();
        let intent = intent(&step);
        let retried =
            Event::StepRetried { step: step.clone(), attempt: 1, reason: "busy".to_owned(), pause_ms: 1 };
        let end = |outcome| {
            Event::StepEnded(StepEnded {
                step: step.clone(),
                outcome,
                summary: String::new(),
                duration_ms: 1,
                outputs: Outputs::new(),
                receipt: Json::Null,
                failure: None,
            })
        };
        let asked = |done| Event::StepReconciled { step: step.clone(), done, by: Teller::World };
        for (after, open) in [
            (None, true),
            (Some(retried), false),
            (Some(end(StepOutcome::Failed)), false),
            (Some(end(StepOutcome::Succeeded)), false),
            (Some(end(StepOutcome::Unknown)), true),
            (Some(asked(Some(false))), false),
            (Some(asked(None)), true),
            // Its outputs and its receipt are still to be recorded.
            (Some(asked(Some(true))), true),
        ] {
            let mut state = RunState::default();
            state.apply(time, &intent);
            if let Some(after) = &after {
                state.apply(time, after);
            }
            assert_eq!(state.unsettled().count() == 1, open, "{after:?}");
        }
    }

    #[test]
    fn what_a_person_said_that_does_not_count_leaves_the_effect_open_again() {
        let step = StepId::parse("service[api]");
        let time: Timestamp = "2026-11-21T04:12:00Z".parse().unwrap();
        let intent = intent(&step);
        let said = |done, by| Event::StepReconciled { step: step.clone(), done: Some(done), by };
        let ada = || Teller::Person("ada@build-7: I looked".to_owned());
        let ended = Event::StepEnded(StepEnded {
            step: step.clone(),
            outcome: StepOutcome::Succeeded,
            summary: String::new(),
            duration_ms: 1,
            outputs: Outputs::new(),
            receipt: Json::Null,
            failure: None,
        });
        let refused = Event::MarkRefused { step: step.clone(), by: String::new(), why: String::new() };
        let again =
            Event::StepStarted { step: step.clone(), attempt: 1, summary: String::new(), usual_ms: None };
        for (events, marks, open) in [
            (vec![said(true, ada()), ended.clone()], 1, 0),
            (vec![said(true, ada()), ended.clone(), refused.clone()], 0, 1),
            (vec![said(false, ada())], 1, 0),
            (vec![said(false, ada()), refused.clone()], 0, 1),
            // It was built upon: what follows is known by other means.
            (vec![said(false, ada()), again], 0, 0),
            // What the world says needs nobody's word.
            (vec![said(true, Teller::World), ended, refused], 0, 0),
        ] {
            let mut state = RunState::default();
            state.apply(time, &intent);
            for event in &events {
                state.apply(time, event);
            }
            assert_eq!((state.marks().count(), state.open().len()), (marks, open), "{events:?}");
        }
    }
}
