//! `approve`: a gate that a person opens.
//!
//! A gate without `from`, `count` and `four-eyes` asks whoever sits at the
//! terminal. Every other one needs signed approvals, which this version cannot
//! read yet: such a gate stays closed and the run says so.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Back, Context, Done, Effect, Failure, FailureClass, Kind, Proposal, Step};
use crate::event::Event;
use crate::model::change::Action;
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::world::cancel::Stopped;
use crate::world::terminal;

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "approve",
        about: "A gate: what needs it runs only once somebody said yes.",
        settings: &[
            Setting::new("for", Shape::Text, "What is shown to whoever decides."),
            Setting::new("from", Shape::Texts, "Who may sign: names, or group:NAME."),
            Setting::new("count", Shape::Int, "How many must sign."),
            Setting::new("expires", Shape::Duration, "How long a signature counts."),
            Setting::new("four-eyes", Shape::Bool, "Whoever made the plan may not sign."),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["by"]),
        nature: Nature::Gate,
        aws: false,
        repeatable: false,
    },
    make: |settings, _| Approve::read(settings).map(|step| Box::new(step) as Box<dyn Step>),
    back: Back::Again,
};

/// Who answers gates in this run.
#[derive(Clone, Debug)]
pub enum Answers {
    /// Nobody: there is no terminal.
    Nobody,
    /// `--yes`; in protected environments it answers nothing.
    Yes,
    /// Whoever sits at the terminal, one question at a time.
    Terminal(Arc<Mutex<()>>),
}

#[derive(Clone, Debug)]
struct Approve {
    text: String,
    from: Vec<String>,
    count: i64,
    four_eyes: bool,
}

impl Approve {
    fn read(settings: &Ready) -> Result<Self, Unready> {
        Ok(Self {
            text: settings.opt_text("for")?.unwrap_or_default(),
            from: settings.texts("from")?,
            count: settings.int("count")?.unwrap_or(1),
            four_eyes: settings.flag("four-eyes")?,
        })
    }

    fn needs_signatures(&self) -> bool {
        !self.from.is_empty() || self.count > 1 || self.four_eyes
    }

    /// `needs 1 of group ops`
    fn who(&self) -> String {
        if !self.needs_signatures() {
            return "needs an answer".to_owned();
        }
        let from: Vec<String> = self.from.iter().map(|who| who.replacen("group:", "group ", 1)).collect();
        let of = if from.is_empty() { String::new() } else { format!(" of {}", from.join(", ")) };
        let eyes = if self.four_eyes { ", not whoever made the plan" } else { "" };
        format!("needs {} signed{of}{eyes}", self.count)
    }
}

#[async_trait]
impl Step for Approve {
    async fn plan(&self, _: &Context) -> Result<Proposal, Failure> {
        let mut proposal = Proposal::new(Action::Run, self.who());
        proposal.subject.clone_from(&self.text);
        Ok(proposal.with(Ask { gate: self.clone() }))
    }
}

struct Ask {
    gate: Approve,
}

#[async_trait]
impl Effect for Ask {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let target = cx.cloud.target();
        if self.gate.needs_signatures() {
            return Err(Failure::of(FailureClass::Waiting, self.gate.who())
                .detail("signed approvals are not part of this version: the gate stays closed"));
        }
        let by = match &cx.answers {
            Answers::Yes if !target.protected => "--yes".to_owned(),
            Answers::Yes | Answers::Nobody => {
                let failure = Failure::of(FailureClass::Waiting, self.gate.who());
                return Err(if target.protected {
                    failure.help("run it in a terminal and type the environment's name")
                } else {
                    failure.help("run it in a terminal, or give --yes")
                });
            }
            Answers::Terminal(turn) => {
                let _turn = turn.lock().await;
                self.ask(cx).await?
            }
        };
        cx.feed.store(Event::GateAnswered { step: cx.id.clone(), approved: true, by: by.clone() }).await?;
        let outputs = [("by".to_owned(), by.clone().into())].into();
        Ok(Done { summary: format!("opened by {by}"), outputs, receipt: serde_json::Value::Null })
    }
}

impl Ask {
    /// Asks at the terminal. In a protected environment its name must be typed.
    async fn ask(&self, cx: &Context) -> Result<String, Failure> {
        let target = cx.cloud.target();
        let expected = if target.protected { target.environment.to_string() } else { "yes".to_owned() };
        let text = if self.gate.text.is_empty() {
            format!("deploy to {}?", target.environment)
        } else {
            self.gate.text.clone()
        };
        cx.feed.store(Event::GateAsked { step: cx.id.clone(), text, expected: expected.clone() }).await?;
        let answer = match terminal::read_line(&cx.cancel).await {
            Ok(answer) => answer,
            Err(_) if cx.cancel.is_stopping() => return Err(Stopped.into()),
            Err(error) => {
                return Err(Failure::of(FailureClass::Waiting, format!("there was no answer: {error}")));
            }
        };
        let by = cx.world.host.operator();
        let said = answer.trim();
        if said == expected || (expected == "yes" && said.eq_ignore_ascii_case("y")) {
            return Ok(by);
        }
        cx.feed.store(Event::GateAnswered { step: cx.id.clone(), approved: false, by: by.clone() }).await?;
        Err(Failure::of(FailureClass::Refused, format!("{by} did not approve it")))
    }
}
