//! `approve`: a gate that a person opens.
//!
//! A gate without `from`, `count` and `four-eyes` asks whoever sits at the
//! terminal, or takes `--yes` where nothing is protected. Every other one, and
//! every one without a terminal, opens by approvals that were signed for
//! exactly this plan: [`judge`] says which count.

pub mod judge;
mod keeper;
mod marks;
mod review;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Back, Context, Done, Effect, Failure, FailureClass, Kind, Proposal, Step};
use crate::event::Event;
use crate::model::change::Action;
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::names::EnvName;
use crate::model::policy::Rule;
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::world::cancel::Stopped;
use crate::world::terminal;

use self::judge::{Bound, Case, Verdict, judge};
pub use self::keeper::{Gatekeeper, Keeping};
pub use self::marks::vouched;
pub use self::review::reviewed;
use crate::journal::{approvals, sequence};

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

/// How often the store is looked at while a gate waits.
const LOOK: Duration = Duration::from_secs(2);

/// What a gate asks for, as its settings say.
pub fn rule(settings: &Ready) -> Result<Rule, Unready> {
    let count = match settings.int("count")? {
        None => 0,
        Some(count) => u64::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
            Unready::Invalid { setting: "count", why: format!("{count} persons cannot approve") }
        })?,
    };
    Ok(Rule {
        from: settings.texts("from")?,
        count,
        four_eyes: settings.flag("four-eyes")?,
        lifetime_s: settings.duration("expires")?.unwrap_or_default().as_secs(),
    })
}

#[derive(Clone, Debug)]
struct Approve {
    text: String,
    rule: Rule,
}

impl Approve {
    fn read(settings: &Ready) -> Result<Self, Unready> {
        Ok(Self { text: settings.opt_text("for")?.unwrap_or_default(), rule: rule(settings)? })
    }

    /// Whether an answer that is typed does not count.
    fn needs_signatures(&self, keeper: &Gatekeeper) -> bool {
        self.rule.wants_signatures(&keeper.policies)
    }

    /// `needs 1 of group ops: ada, lin`; said before anybody can have signed the plan.
    fn who(&self, keeper: &Gatekeeper) -> String {
        let Some(own) = keeper.policies.first().filter(|_| self.needs_signatures(keeper)) else {
            return "needs an answer".to_owned();
        };
        let each = keeper.policies.iter().map(|policy| {
            let rule = policy.applied_to(&self.rule);
            let eyes = match (rule.four_eyes, rule.count) {
                (false, _) => "",
                (true, ..2) => " beside whoever signs the plan, 2 if nobody does",
                (true, _) => ", not whoever made the plan",
            };
            let names = policy.of(&rule.from);
            let names = if names.is_empty() { "nobody is on the list".to_owned() } else { names.join(", ") };
            let other = policy.environment != own.environment;
            let place = if other { format!(" for {}", policy.environment) } else { String::new() };
            format!("{}{place}{eyes}: {names}", rule.show())
        });
        format!("needs {}", each.collect::<Vec<_>>().join("; "))
    }
}

#[async_trait]
impl Step for Approve {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let mut proposal = Proposal::new(Action::Run, self.who(&cx.gatekeeper));
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
        let Some(keeping) = cx.gatekeeper.run.clone() else {
            return Err(Failure::of(FailureClass::Waiting, self.gate.who(&cx.gatekeeper)));
        };
        if let Some(glass) = &keeping.glass {
            let by = format!("{} (break-glass: {})", glass.by, glass.reason);
            return opened(by, Opened::Otherwise, cx).await;
        }
        let since = cx.world.clock.moment();
        loop {
            let verdict = self.verdict(&keeping, cx)?;
            if verdict.is_open() {
                let by = format!("{} (signed)", verdict.by().join(", "));
                return opened(by, Opened::Signed, cx).await;
            }
            if let Some(who) = &verdict.rejected {
                let by = who.clone();
                cx.feed.store(Event::GateAnswered { step: cx.id.clone(), approved: false, by }).await?;
                return Err(Failure::of(FailureClass::Refused, who.clone()));
            }
            if let Some(by) = self.answered(cx).await? {
                return opened(by, Opened::Otherwise, cx).await;
            }
            if keeping.wait.is_none_or(|wait| since.elapsed() >= wait) {
                return Err(self.waiting(&verdict, &keeping, cx)?);
            }
            let needs = verdict.needs(&keeping.bound.environment);
            cx.feed
                .send(Event::Progress { step: cx.id.clone(), text: format!("{needs} ({})", keeping.approve) })
                .await;
            cx.cancel.unless_stopped(cx.world.clock.pause(LOOK)).await?;
        }
    }
}

/// The protected environment that something behind a gate acts in, the run's own first: there `--yes`
/// is no answer, and its name is typed.
fn protected(cx: &Context) -> Option<&EnvName> {
    let target = cx.cloud.target();
    let others = cx.gatekeeper.policies.iter().filter(|policy| policy.protected);
    target
        .protected
        .then_some(&target.environment)
        .into_iter()
        .chain(others.map(|policy| &policy.environment))
        .next()
}

/// How a gate was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    /// By what was signed, which may end: a run that is resumed asks again.
    Signed,
    /// By an answer, or by breaking glass.
    Otherwise,
}

/// Whether the receipt of a gate says that it was opened by what was signed.
#[must_use]
pub fn was_signed(receipt: &serde_json::Value) -> bool {
    receipt.get("signed").and_then(serde_json::Value::as_bool) == Some(true)
}

async fn opened(by: String, how: Opened, cx: &Context) -> Result<Done, Failure> {
    cx.feed.store(Event::GateAnswered { step: cx.id.clone(), approved: true, by: by.clone() }).await?;
    let outputs = [("by".to_owned(), by.clone().into())].into();
    let receipt = match how {
        Opened::Signed => serde_json::json!({ "signed": true }),
        Opened::Otherwise => serde_json::Value::Null,
    };
    Ok(Done { summary: format!("opened by {by}"), outputs, receipt })
}

/// What goes on with a run that has used its plan: nobody starts that plan once more.
fn resume_command(keeping: &Keeping, cx: &Context) -> Result<Option<String>, Failure> {
    let Bound { flow, environment, sequence, .. } = &keeping.bound;
    let taken = sequence::get(&cx.world.store, environment, flow, *sequence)?;
    let ours = taken.filter(|taken| cx.run.as_ref() == Some(&taken.run));
    Ok(ours.map(|taken| format!("flow resume {}", taken.run)))
}

impl Ask {
    fn verdict(&self, keeping: &Keeping, cx: &Context) -> Result<Verdict, Failure> {
        let found = approvals::all(&cx.world.store, &keeping.bound.plan)?;
        let case = Case {
            bound: &keeping.bound,
            gate: &cx.id,
            rule: &self.gate.rule,
            policies: &cx.gatekeeper.policies,
            now: cx.world.clock.now(),
        };
        Ok(judge(case, &found))
    }

    /// What somebody says who is here, where that counts.
    async fn answered(&self, cx: &Context) -> Result<Option<String>, Failure> {
        if self.gate.needs_signatures(&cx.gatekeeper) {
            return Ok(None);
        }
        match &cx.answers {
            Answers::Yes if protected(cx).is_none() => Ok(Some("--yes".to_owned())),
            Answers::Yes | Answers::Nobody => Ok(None),
            Answers::Terminal(turn) => {
                let _turn = turn.lock().await;
                self.ask(cx).await.map(Some)
            }
        }
    }

    /// Why it stays closed, and what to type.
    fn waiting(&self, verdict: &Verdict, keeping: &Keeping, cx: &Context) -> Result<Failure, Failure> {
        let nobody = cx.gatekeeper.policies.iter().all(|policy| policy.approvers.is_empty());
        if nobody && !self.gate.needs_signatures(&cx.gatekeeper) {
            let failure = Failure::of(FailureClass::Waiting, self.gate.who(&cx.gatekeeper))
                .details((!self.gate.text.is_empty()).then(|| self.gate.text.clone()));
            return Ok(if protected(cx).is_some() {
                failure.help("run it in a terminal and type the environment's name")
            } else {
                failure.help("run it in a terminal, or give --yes")
            });
        }
        let then = resume_command(keeping, cx)?.unwrap_or_else(|| keeping.then.clone());
        Ok(Failure::of(FailureClass::Waiting, verdict.needs(&keeping.bound.environment))
            .details(verdict.refusals.iter().map(|why| format!("does not count: {why}")))
            .detail(keeping.approve.clone())
            .help(format!("then: {then}")))
    }

    /// Asks at the terminal. In a protected environment its name must be typed.
    async fn ask(&self, cx: &Context) -> Result<String, Failure> {
        let target = cx.cloud.target();
        let expected = protected(cx).map_or_else(|| "yes".to_owned(), ToString::to_string);
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
