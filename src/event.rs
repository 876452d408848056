//! The one event type. Everything that a run does passes through it, once, in
//! one order; the journal stores it, the console, the plain log and the JSON
//! log subscribe to it. Nobody else prints.
//!
//! [`Event`] is versioned by [`VERSION`]: fields may be added, never change
//! their meaning.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::model::change::Action;
use crate::model::names::{EnvName, FlowName, RunId, StepId};
use crate::model::value::Outputs;

/// Version of the records below.
pub const VERSION: u32 = 1;

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "the largest begins a run and comes once")]
pub enum Event {
    /// The plan stands and the run begins.
    RunStarted(RunStarted),
    /// A step of the plan that will not run, said once at the start.
    StepSettled {
        /// The step.
        step: StepId,
        /// `up-to-date`, `cached` or `skipped`.
        action: Action,
        /// Why, for `skipped`.
        reason: String,
        /// What later steps can refer to.
        outputs: Outputs,
    },
    /// A gate asks.
    GateAsked {
        /// The gate.
        step: StepId,
        /// What is asked.
        text: String,
        /// What must be typed: `yes`, or the environment's name.
        expected: String,
    },
    /// A gate was answered.
    GateAnswered {
        /// The gate.
        step: StepId,
        /// Whether it opened.
        approved: bool,
        /// Who, and how they said it.
        by: String,
    },
    /// An attempt begins. Not an effect yet.
    StepStarted {
        /// The step.
        step: StepId,
        /// From 1.
        attempt: u32,
        /// What is about to happen.
        summary: String,
        /// How long it took the last time, milliseconds.
        #[serde(default)]
        usual_ms: Option<u64>,
    },
    /// Written and synced before an effect is made.
    Intent {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
        /// What kind of effect.
        action: Action,
        /// What is about to happen.
        summary: String,
        /// What was observed right before.
        baseline: serde_json::Value,
        /// The state that the effect replaces, so that it can be taken back.
        #[serde(default)]
        standing: serde_json::Value,
    },
    /// A run that had stopped goes on. All open effects are settled before anything else happens.
    RunResumed {
        /// `USER@HOST`, and the CI job's link if there is one.
        by: String,
    },
    /// An effect that was announced and had no recorded end is settled.
    StepReconciled {
        /// The step.
        step: StepId,
        /// Whether it was made; `None` when nobody can tell.
        done: Option<bool>,
        /// How that is known.
        by: Teller,
    },
    /// What a person said of an effect does not count: nobody knows again whether it was made.
    MarkRefused {
        /// The step.
        step: StepId,
        /// Who said it and why, as [`Event::StepReconciled`] has it.
        by: String,
        /// Why it does not count.
        why: String,
    },
    /// What this run did is being taken back; the steps that follow do that.
    RollbackStarted {
        /// Why: the step that failed, and how.
        reason: String,
    },
    /// Written and synced in the middle of an effect of several requests.
    Noted {
        /// The step.
        step: StepId,
        /// `registered`, `uploaded`, …
        key: String,
        /// What a later reader needs to know of it.
        data: serde_json::Value,
    },
    /// What a step is doing right now; not recorded.
    Progress {
        /// The step.
        step: StepId,
        /// `2 of 2 new running, 1 old draining`
        text: String,
    },
    /// A line that a step's program or container wrote; goes to the step's log.
    Output {
        /// The step.
        step: StepId,
        /// Without its line end.
        line: String,
    },
    /// An attempt failed and another follows.
    StepRetried {
        /// The step.
        step: StepId,
        /// The attempt that failed.
        attempt: u32,
        /// Why, in one line.
        reason: String,
        /// Pause before the next, milliseconds.
        pause_ms: u64,
    },
    /// A step is over. Written and synced after its effect.
    StepEnded(StepEnded),
    /// Something the operator should know that is not a failure.
    Warning {
        /// In one sentence.
        text: String,
    },
    /// A signal arrived.
    Interrupted {
        /// `SIGINT`, `SIGTERM`, `SIGHUP`
        signal: String,
        /// From 1.
        times: u32,
    },
    /// The run is over.
    RunEnded(RunEnded),
}

/// How it is known what became of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Teller {
    /// The world was asked.
    World,
    /// A person said so: who, and why.
    Person(String),
}

/// How [`Teller::World`] is written.
const ASKED: &str = "asked";

impl From<String> for Teller {
    fn from(text: String) -> Self {
        if text == ASKED { Self::World } else { Self::Person(text) }
    }
}

impl From<Teller> for String {
    fn from(teller: Teller) -> Self {
        teller.to_string()
    }
}

impl fmt::Display for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World => f.write_str(ASKED),
            Self::Person(said) => f.write_str(said),
        }
    }
}

/// What a run is, as its first record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// Version of all records that follow.
    pub version: u32,
    /// flow's own version.
    pub flow_version: String,
    /// The run.
    pub run: RunId,
    /// The flow.
    pub flow: FlowName,
    /// The environment.
    pub environment: EnvName,
    /// Its account, if it names one.
    pub account: Option<String>,
    /// Its region, if it names one.
    pub region: Option<String>,
    /// Digest of the plan.
    pub plan: String,
    /// The release that was live before; absent for none.
    pub live: Option<u64>,
    /// Commit of the checkout.
    pub commit: Option<String>,
    /// Whether tracked files differed from it.
    pub dirty: Option<bool>,
    /// Parameters as given or defaulted; secrets cannot be parameters.
    pub params: BTreeMap<String, serde_json::Value>,
    /// `USER@HOST`, and the CI job's link if there is one.
    pub by: String,
    /// Who let it pass its gates, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<Glass>,
    /// How many steps will run.
    pub to_run: usize,
    /// How many are as wanted already.
    pub unchanged: usize,
    /// The steps that will run, in the order of the plan.
    #[serde(default)]
    pub planned: Vec<StepId>,
    /// When the live release was recorded.
    #[serde(default)]
    pub live_since: Option<Timestamp>,
    /// How long the last successful run of this flow in this environment took, milliseconds.
    #[serde(default)]
    pub last_duration_ms: Option<u64>,
    /// How long the flow says that it should take, milliseconds.
    #[serde(default)]
    pub target_ms: Option<u64>,
    /// The command line that does the same again: `flow run deploy --env prod --only backend`.
    #[serde(default)]
    pub again: String,
    /// The release that this run goes back to.
    #[serde(default)]
    pub back_to: Option<u64>,
    /// The flows that go back inside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<FlowName>,
    /// What was asked for, as `plan` writes it: a run that is resumed asks for the same.
    #[serde(default)]
    pub asked: serde_json::Value,
}

/// Who let a run pass its gates without the other approvals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glass {
    /// The approver who signed it.
    pub by: String,
    /// With which key, `SHA256:…`.
    pub fingerprint: String,
    /// `INC-1 the disk is full`
    pub reason: String,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEnded {
    /// The step.
    pub step: StepId,
    /// How.
    pub outcome: StepOutcome,
    /// What to show behind its name: `pushed sha256:11aa93f0b2c4`.
    pub summary: String,
    /// How long, all attempts and pauses included.
    pub duration_ms: u64,
    /// What it hands on; without secrets.
    pub outputs: Outputs,
    /// What a rollback needs.
    pub receipt: serde_json::Value,
    /// Why it failed.
    pub failure: Option<FailureRecord>,
}

/// How a step can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// Done.
    Succeeded,
    /// Nothing to do after all, once everything was known.
    UpToDate,
    /// Restored from the cache.
    Cached,
    /// Not run: its condition is false, or something it needs did not succeed.
    Skipped,
    /// It went wrong, and that is known.
    Failed,
    /// Whether the effect was made is not known.
    Unknown,
    /// A signal ended it.
    Interrupted,
    /// A gate nobody has opened yet.
    Waiting,
    /// A gate that somebody closed, or something that flow refuses to do.
    Refused,
    /// Not begun: somebody else holds what it needs.
    Locked,
    /// What it did was taken back.
    RolledBack,
    /// What it did could not be taken back.
    RollbackFailed,
}

impl StepOutcome {
    /// Whether steps that need it may run.
    #[must_use]
    pub fn satisfies(self) -> bool {
        matches!(self, Self::Succeeded | Self::UpToDate | Self::Cached)
    }
}

/// A failure in words, as the end of a run shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// One line: `ECS rolled it back to shop-api:41`.
    pub reason: String,
    /// The lines below it.
    pub details: Vec<String>,
    /// What to type or change next.
    pub help: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnded {
    /// How.
    pub outcome: RunOutcome,
    /// The exit code that goes with it.
    pub exit: u8,
    /// How long.
    pub duration_ms: u64,
    /// The release that was recorded; absent when nothing changed.
    pub release: Option<u64>,
    /// The summary rows of the flow, resolved.
    pub summary: Vec<(String, String)>,
    /// What else the operator must know after a run that did not succeed.
    #[serde(default)]
    pub notes: Vec<String>,
    /// From the beginning of the incident until all was healthy again, milliseconds.
    #[serde(default)]
    pub healthy_after_ms: Option<u64>,
    /// Why the environment cannot go back to the release before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<String>,
}

/// How a run can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// All that was selected is as wanted.
    Succeeded,
    /// A step failed.
    Failed,
    /// A gate waits for an answer.
    Waiting,
    /// A gate was closed, or the world is not what the plan says.
    Refused,
    /// Somebody else holds what a step needs.
    Locked,
    /// A signal ended it.
    Interrupted,
    /// An effect of which nobody knows whether it was made.
    Unknown,
    /// A step failed, and what was done before it is taken back.
    RolledBack,
    /// Something could not be taken back.
    RollbackFailed,
}

impl Event {
    /// The step it is about.
    #[must_use]
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::StepSettled { step, .. }
            | Self::GateAsked { step, .. }
            | Self::GateAnswered { step, .. }
            | Self::StepStarted { step, .. }
            | Self::Intent { step, .. }
            | Self::Noted { step, .. }
            | Self::Progress { step, .. }
            | Self::Output { step, .. }
            | Self::StepReconciled { step, .. }
            | Self::MarkRefused { step, .. }
            | Self::StepRetried { step, .. } => Some(step),
            Self::StepEnded(ended) => Some(&ended.step),
            Self::RunStarted(_)
            | Self::RunResumed { .. }
            | Self::RollbackStarted { .. }
            | Self::Warning { .. }
            | Self::Interrupted { .. }
            | Self::RunEnded(_) => None,
        }
    }

    /// Whether the journal keeps it; the rest is for whoever watches.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        !matches!(self, Self::Progress { .. } | Self::Output { .. })
    }
}

/// The journal could not take a record, for this reason; no effect may follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JournalDown(pub String);

/// An event on its way to the dispatcher, which alone owns the journal and the reports.
#[derive(Debug)]
pub struct Message {
    /// The event.
    pub event: Event,
    /// Answered once the event is on disk.
    pub stored: Option<oneshot::Sender<Result<(), JournalDown>>>,
}

/// Where one step sends its events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    step: StepId,
    /// `None` when nobody listens.
    sender: Option<mpsc::Sender<Message>>,
}

impl Feed {
    /// A feed for one step.
    #[must_use]
    pub fn new(step: StepId, sender: mpsc::Sender<Message>) -> Self {
        Self { step, sender: Some(sender) }
    }

    /// A feed that nobody reads: planning shows no progress.
    #[must_use]
    pub fn silent(step: StepId) -> Self {
        Self { step, sender: None }
    }

    /// Says what the step is doing right now.
    pub async fn progress(&self, text: impl Into<String>) {
        self.send(Event::Progress { step: self.step.clone(), text: text.into() }).await;
    }

    /// Passes on a line of output. Waits while the sinks are behind, so that memory stays bounded.
    pub async fn output(&self, line: impl Into<String>) {
        self.send(Event::Output { step: self.step.clone(), line: line.into() }).await;
    }

    /// Records something in the middle of an effect; returns once it is on disk.
    pub async fn note(&self, key: &str, data: serde_json::Value) -> Result<(), JournalDown> {
        self.store(Event::Noted { step: self.step.clone(), key: key.to_owned(), data }).await
    }

    /// Sends an event and waits until it is on disk.
    pub async fn store(&self, event: Event) -> Result<(), JournalDown> {
        let over = || JournalDown("the run is over".to_owned());
        let (stored, answer) = oneshot::channel();
        let sender = self.sender.as_ref().ok_or_else(over)?;
        sender.send(Message { event, stored: Some(stored) }).await.map_err(|_| over())?;
        answer.await.unwrap_or_else(|_| Err(over()))
    }

    /// Sends an event.
    pub async fn send(&self, event: Event) {
        let Some(sender) = &self.sender else { return };
        // Nobody listens once the run is over: then nothing is lost.
        let _ = sender.send(Message { event, stored: None }).await;
    }
}

/// Somebody who watches a run. A report that cannot be written never fails a
/// run, so nothing here returns an error.
pub trait Subscriber: Send {
    /// Something happened. Events come in the order of the journal, secrets masked already.
    fn event(&mut self, time: Timestamp, event: &Event);

    /// Something that happened before, in a run that goes on now: counted, not shown.
    fn recall(&mut self, _time: Timestamp, _event: &Event) {}

    /// Time passed: redraws, and says what still runs. Called several times a second.
    fn tick(&mut self, now: Timestamp);
}

impl Event {
    /// Changes every text in it: how secrets are masked before anybody sees the event.
    #[must_use]
    pub fn map_text(self, change: &dyn Fn(&str) -> String) -> Self {
        match self {
            Self::Output { step, line } => Self::Output { step, line: change(&line) },
            Self::Progress { step, text } => Self::Progress { step, text: change(&text) },
            other => {
                let mut json = serde_json::to_value(&other).unwrap_or_default();
                let fields = json.as_object_mut().into_iter().flatten();
                // Words of the format are no text: a secret `update` must not break the record.
                let texts = fields.filter(|(name, _)| !FORMAT_WORDS.contains(&name.as_str()));
                if !map_each(texts.map(|(_, value)| value), change) {
                    return other;
                }
                // What cannot be read any more is not shown as it was: that would show the secret.
                serde_json::from_value(json).unwrap_or_else(|error| Self::Warning {
                    text: format!("a record is left out, since hiding a secret broke it: {error}"),
                })
            }
        }
    }
}

/// Fields of events whose values are words of the format.
const FORMAT_WORDS: [&str; 3] = ["type", "outcome", "action"];

/// Changes every text in these; all of them, so not `any`, which is content with the first.
fn map_each<'a>(
    values: impl IntoIterator<Item = &'a mut serde_json::Value>,
    change: &dyn Fn(&str) -> String,
) -> bool {
    let mut changed = false;
    for value in values {
        changed |= map_json(value, change);
    }
    changed
}

/// Changes every text in JSON; `false` when nothing changed.
fn map_json(json: &mut serde_json::Value, change: &dyn Fn(&str) -> String) -> bool {
    match json {
        serde_json::Value::String(text) => {
            let new = change(text);
            let changed = new != *text;
            *text = new;
            changed
        }
        serde_json::Value::Array(items) => map_each(items, change),
        serde_json::Value::Object(fields) => map_each(fields.values_mut(), change),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_a_word_of_the_format_breaks_nothing() {
        let event = Event::Intent {
            step: StepId::parse("service"),
            attempt: 1,
            action: Action::Update,
            summary: "update it".to_owned(),
            baseline: serde_json::json!({ "note": "update" }),
            standing: serde_json::Value::Null,
        };
        let Event::Intent { action, summary, baseline, .. } =
            event.map_text(&|text| text.replace("update", "***"))
        else {
            panic!("it became another event");
        };
        assert_eq!((action, summary.as_str()), (Action::Update, "*** it"));
        assert_eq!(baseline, serde_json::json!({ "note": "***" }));
    }

    #[test]
    fn every_text_is_changed_however_many_and_however_deep() {
        let noted = |data| Event::Noted { step: StepId::parse("schema"), key: "applied".to_owned(), data };
        let event = noted(serde_json::json!({ "a": "geheim", "b": ["geheim", 1, { "c": "geheim" }] }));
        let masked = noted(serde_json::json!({ "a": "***", "b": ["***", 1, { "c": "***" }] }));
        assert_eq!(event.map_text(&|text| text.replace("geheim", "***")), masked);
    }
}
