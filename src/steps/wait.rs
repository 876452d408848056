//! `wait`: for a time, or until a program says yes by exit 0.

use std::time::Duration;

use async_trait::async_trait;

use super::program::{Surroundings, harmless, judge, program};
use super::{Attributes, Back, Context, Done, Effect, Failure, Kind, Proposal, Step};
use crate::model::change::Action;
use crate::model::kind::{KindSpec, Nature, OutputNames, Rule};
use crate::model::settings::{Head, Ready, Setting, Shape, Unready, known};
use crate::model::units::show_duration;
use crate::world::process::{Ending, Tail, run, show_argv};

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "wait",
        about: "Waits for a time, or until a program exits with 0.",
        settings: &[
            Setting::new("for", Shape::Duration, "how long"),
            Setting::new(
                "until",
                Shape::Node {
                    head: Head::None,
                    many: false,
                    fields: &[
                        Setting::new("command", Shape::Texts, "exit 0 ends the wait; no shell").required()
                    ],
                },
                "the program that is asked",
            ),
            Setting::new("every", Shape::Duration, "pause between two questions; 2s without"),
            Setting::new("within", Shape::Duration, "how long it may take; 5m without"),
        ],
        rules: &[
            Rule::OneOf(&["for", "until"]),
            Rule::Needs("every", "until"),
            Rule::Needs("within", "until"),
        ],
        outputs: OutputNames::Fixed(&[]),
        nature: Nature::Check,
        aws: false,
        repeatable: true,
    },
    make,
    back: Back::Nothing,
};

#[derive(Clone, Debug)]
enum Wait {
    For(Duration),
    Until { argv: Vec<String>, every: Duration, within: Duration, attributes: Box<Attributes> },
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    if let Some(time) = ready.duration("for")? {
        return Ok(Box::new(Wait::For(time)));
    }
    let argv = match ready.node("until") {
        Some(node) => node.settings.texts("command")?,
        None => Vec::new(),
    };
    if let Some(Err(unready)) =
        attributes.env.iter().map(|(_, field)| known("env", field)).find(Result::is_err)
    {
        return Err(unready);
    }
    Ok(Box::new(Wait::Until {
        argv,
        every: ready.duration("every")?.unwrap_or(Duration::from_secs(2)),
        within: ready.duration("within")?.unwrap_or(Duration::from_mins(5)),
        attributes: Box::new(attributes.clone()),
    }))
}

#[async_trait]
impl Step for Wait {
    async fn plan(&self, _: &Context) -> Result<Proposal, Failure> {
        let summary = match self {
            Self::For(time) => format!("wait {}", show_duration(*time)),
            Self::Until { argv, within, .. } => {
                format!("wait up to {} until {}", show_duration(*within), show_argv(argv))
            }
        };
        Ok(Proposal::new(Action::Run, summary).with(self.clone()))
    }
}

#[async_trait]
impl Effect for Wait {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let summary = match *self {
            Self::For(time) => {
                cx.feed.progress(format!("until {} have passed", show_duration(time))).await;
                cx.cancel.unless_stopped(cx.world.clock.pause(time)).await?;
                format!("waited {}", show_duration(time))
            }
            Self::Until { argv, every, within, attributes } => {
                ask(&argv, every, within, &attributes, cx).await?
            }
        };
        Ok(Done { summary, ..Done::default() })
    }
}

/// How many lines of the last answer a failure shows.
const SHOWN_LINES: usize = 10;

async fn ask(
    argv: &[String],
    every: Duration,
    within: Duration,
    attributes: &Attributes,
    cx: &Context,
) -> Result<String, Failure> {
    let start = cx.world.clock.moment();
    let mut tries = 0;
    loop {
        let surroundings = Surroundings::new(attributes, cx).await?;
        let root = cx.world.files.root();
        let mut program = program(argv, root, surroundings.env.clone(), attributes, cx);
        let left = within.saturating_sub(start.elapsed());
        // The last question gets a second even when none is left, so that there is an answer to show.
        program.timeout = Some(left.max(Duration::from_secs(1)));
        let mut tail = Tail::new(SHOWN_LINES, None);
        let ending = run(&program, &cx.cancel, &cx.world.masker, &mut tail).await?;
        tries += 1;
        let last = tail.into_lines();
        let answer = match ending {
            Ending::Exited(0) => {
                return Ok(format!("so after {}, asked {}", show_duration(start.elapsed()), times(tries)));
            }
            Ending::Exited(code) => format!("exited with {code}"),
            Ending::TimedOut(_) => "did not answer in time".to_owned(),
            other => {
                harmless(judge(other, last))?;
                continue;
            }
        };
        if start.elapsed() + every >= within {
            return Err(Failure::new(format!(
                "not so within {}: {}",
                show_duration(within),
                show_argv(argv)
            ))
            .detail(format!("tried {}; the last time it {answer}", times(tries)))
            .details(last));
        }
        cx.feed
            .progress(format!("{answer}; {} of {}", show_duration(start.elapsed()), show_duration(within)))
            .await;
        cx.cancel.unless_stopped(cx.world.clock.pause(every)).await?;
    }
}

fn times(number: usize) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::{Given, GivenNode};
    use crate::model::value::{Field, Value};
    use crate::steps::FailureClass;
    use crate::steps::testing::Bench;
    use crate::syntax::source::Span;
    use crate::world::cancel::Urgency;

    fn until(script: &str, within: &str) -> Ready {
        let known = |text: &str| Field::Known(Value::text(text));
        let mut settings = Ready::default();
        let words = ["sh", "-c", script].map(known).to_vec();
        settings.insert("command", Given::Many(words), Span::default());
        let mut ready = Ready::default();
        ready.insert("until", Given::Nodes(vec![GivenNode { head: None, settings }]), Span::default());
        ready.insert("every", Given::One(known("20ms")), Span::default());
        ready.insert("within", Given::One(known(within)), Span::default());
        ready
    }

    async fn apply(bench: &Bench, ready: &Ready) -> Result<Done, Failure> {
        let step = make(ready, &Attributes::default()).unwrap();
        step.plan(&bench.cx).await.unwrap().effect.unwrap().apply(&bench.cx).await
    }

    #[tokio::test]
    async fn it_asks_until_it_is_so() {
        let bench = Bench::new();
        let script = "echo x >> n; [ $(wc -l < n) -ge 3 ]";
        let done = apply(&bench, &until(script, "10s")).await.unwrap();
        assert!(done.summary.ends_with("asked 3 times"), "{}", done.summary);
    }

    #[tokio::test]
    async fn a_failure_shows_the_last_answer() {
        let bench = Bench::new();
        let failure = apply(&bench, &until("echo not ready; exit 7", "100ms")).await.unwrap_err();
        assert!(failure.record.reason.starts_with("not so within 0.1s: sh -c"), "{}", failure.record.reason);
        assert!(failure.record.details[0].ends_with("the last time it exited with 7"));
        assert_eq!(failure.record.details[1], "not ready");
    }

    #[tokio::test]
    async fn a_stop_ends_it() {
        let bench = Bench::new();
        bench.canceller.raise(Urgency::Stopping);
        let mut ready = Ready::default();
        ready.insert("for", Given::One(Field::Known(Value::text("1h"))), Span::default());
        assert_eq!(apply(&bench, &ready).await.unwrap_err().class, FailureClass::Interrupted);
    }
}
