//! How a program's effect is taken back: by `undo`, by nobody where there is
//! nothing to take back, and else by a person.
//!
//! A record holds the argv of `undo` and the variables that are no secrets.
//! Secrets are recorded nowhere: they are taken from the step as the flow has it
//! today ([`Step::equip`]), and without them nothing is run.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Run, SHOWN_LINES};
use crate::model::change::{Action, Change, Reversible};
use crate::model::settings::Ready;
use crate::model::value::{Field, Value};
use crate::steps::back::{Stays, read};
use crate::steps::program::{Surroundings, is_there, judge, makes_files, program};
use crate::steps::{
    Attributes, Context, Done, Effect, Failure, FailureClass, Open, Proposal, Settled, Step, Way,
};
use crate::world::process::{Tail, run, show_argv};

/// What a release records of a program that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The run that ran it: the same state can be made twice, an effect only by one run.
    run: String,
    /// As the plan shows it.
    shown: String,
    /// `None` when the flow does not say, empty for `undo "none"`.
    undo: Option<Vec<String>>,
    /// It leaves files in the workspace and nothing else.
    files: bool,
    dir: Option<String>,
    /// Variables that are no secrets.
    env: BTreeMap<String, Value>,
    /// Names of those that are, and of those that name a secret file.
    secrets: Vec<String>,
    inherit: Vec<String>,
    aws: bool,
}

impl State {
    /// Of a program that this run ran.
    pub(super) fn of(step: &Run, cx: &Context) -> Json {
        let attributes = &step.attributes;
        let mut state = Self {
            run: cx.run.as_ref().map(ToString::to_string).unwrap_or_default(),
            shown: step.shown.clone(),
            undo: attributes.undo.clone(),
            files: makes_files(attributes),
            dir: step.dir.clone(),
            env: BTreeMap::new(),
            secrets: attributes.files.iter().map(|(name, _)| name.clone()).collect(),
            inherit: attributes.inherit.clone(),
            aws: attributes.aws,
        };
        for (name, field) in &attributes.env {
            match field {
                Field::Known(value) if !value.is_secret() => {
                    state.env.insert(name.clone(), value.clone());
                }
                _ => state.secrets.push(name.clone()),
            }
        }
        json!(state)
    }
}

/// The step that takes back what a run of the step did.
pub(super) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let stays = |summary: &str| Stays::new(summary, way.now.clone());
    if way.now.is_null() {
        return Ok(Box::new(stays("nothing to take back")));
    }
    let now: State = read(&way.now)?;
    let to: Option<State> = way.to.as_ref().filter(|to| !to.is_null()).map(read).transpose()?;
    if to.is_some_and(|to| to.run == now.run) {
        return Ok(Box::new(stays("did not run since")));
    }
    match &now.undo {
        Some(undo) if undo.is_empty() => Ok(Box::new(stays("nothing to take back"))),
        Some(undo) => Ok(Box::new(UndoStep {
            argv: undo.clone(),
            attributes: now.attributes(),
            missing: now.secrets.clone(),
            to: way.to.clone().unwrap_or_default(),
            state: now,
        })),
        None if now.files => Ok(Box::new(stays("only makes files"))),
        None => {
            let warning = format!("manual: nothing says how to take back {}", now.shown);
            Ok(Box::new(stays("stays").warn(warning, Reversible::Manual)))
        }
    }
}

impl State {
    fn attributes(&self) -> Attributes {
        let env = self.env.iter().map(|(name, value)| (name.clone(), Field::Known(value.clone())));
        Attributes {
            env: env.collect(),
            inherit: self.inherit.clone(),
            aws: self.aws,
            undo: self.undo.clone(),
            ..Attributes::default()
        }
    }
}

/// A step that runs `undo`.
#[derive(Clone, Debug)]
struct UndoStep {
    argv: Vec<String>,
    attributes: Attributes,
    /// Secrets that it had and that are not known yet.
    missing: Vec<String>,
    /// What stands once it is done.
    to: Json,
    state: State,
}

#[async_trait]
impl Step for UndoStep {
    fn equip(&mut self, _: &Ready, attributes: &Attributes) {
        let Attributes { env, files, timeout, grace, probe, .. } = attributes;
        let missing = std::mem::take(&mut self.missing);
        for name in missing {
            let known = |(given, field): &&(String, Field<Value>)| {
                *given == name && matches!(field, Field::Known(value) if value.is_secret())
            };
            if let Some(variable) = env.iter().find(known) {
                self.attributes.env.push(variable.clone());
            } else if let Some(file) = files.iter().find(|(given, _)| *given == name) {
                self.attributes.files.push(file.clone());
            } else {
                self.missing.push(name);
            }
        }
        self.attributes.timeout = *timeout;
        self.attributes.grace = *grace;
        self.attributes.probe.clone_from(probe);
    }

    async fn plan(&self, _: &Context) -> Result<Proposal, Failure> {
        if !self.missing.is_empty() {
            let reason =
                format!("taking back {} needs secrets that the flow no longer has", self.state.shown);
            return Err(Failure::of(FailureClass::Refused, reason)
                .detail(format!("not given any more: {}", self.missing.join(", ")))
                .help(format!("give them to the step again, or run it by hand: {}", show_argv(&self.argv))));
        }
        let shown = show_argv(&self.argv);
        Ok(Proposal {
            subject: format!("undoes {}", self.state.shown),
            changes: vec![Change::new("undo", None, shown.clone())],
            reversible: Reversible::Manual,
            baseline: json!({ "done by run": self.state.run }),
            standing: json!(self.state),
            ..Proposal::new(Action::Run, shown)
        }
        .with(Undo(self.clone())))
    }

    /// What is gone was undone. Where the flow has no probe nobody but a person knows.
    async fn reconcile(&self, _: &Open, cx: &Context) -> Result<Settled, Failure> {
        let Some(probe) = self.attributes.probe.as_ref().filter(|_| self.missing.is_empty()) else {
            return Ok(Settled::Ambiguous(format!(
                "nothing tells whether {} was done",
                show_argv(&self.argv)
            )));
        };
        Ok(if is_there(probe, self.state.dir.as_deref(), &self.attributes, cx).await? {
            Settled::NotDone
        } else {
            Settled::Done(self.undone("probe says undone".to_owned(), cx))
        })
    }
}

impl UndoStep {
    fn undone(&self, summary: String, cx: &Context) -> Done {
        let outputs = cx.recorded.as_ref().map(|recorded| recorded.outputs.clone()).unwrap_or_default();
        Done { summary, outputs, receipt: self.to.clone() }
    }
}

struct Undo(UndoStep);

#[async_trait]
impl Effect for Undo {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let UndoStep { argv, attributes, state, .. } = &self.0;
        let mut surroundings = Surroundings::new(attributes, cx).await?;
        let folder = cx.world.files.locate(state.dir.as_deref().unwrap_or("."))?;
        let env = std::mem::take(&mut surroundings.env);
        let program = program(argv.clone(), folder, env, attributes, cx);
        let mut tail = Tail::new(SHOWN_LINES, Some(cx.feed.clone()));
        let ending = run(&program, &cx.cancel, &cx.world.masker, &mut tail).await?;
        judge(ending, tail.into_lines())?;
        Ok(self.0.undone(format!("undone by {}", show_argv(argv)), cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::RunId;
    use crate::model::secret::Secret;
    use crate::steps::testing::Bench;

    fn step(argv: &[&str], undo: Option<&[&str]>, env: &[(&str, Value)]) -> Run {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), Field::Known(value.clone())));
        let undo = undo.map(words);
        Run {
            argv: words(argv),
            shown: argv.join(" "),
            dir: None,
            stdin: None,
            tty: false,
            rerun: false,
            attributes: Attributes { undo, env: env.collect(), ..Attributes::default() },
        }
    }

    fn state(bench: &Bench, run: &str, step: &Run) -> Json {
        let mut cx = bench.cx.clone();
        cx.run = Some(RunId::new(run));
        State::of(step, &cx)
    }

    fn returns(now: &Json, to: Option<&Json>) -> Box<dyn Step> {
        back(&Way { now: now.clone(), to: to.cloned() }).expect("a state")
    }

    #[tokio::test]
    async fn only_what_ran_since_and_says_how_is_undone() {
        let bench = Bench::new();
        let undone = step(&["flag", "on"], Some(&["flag", "off"]), &[]);
        let free = step(&["lint"], Some(&[]), &[]);
        let manual = step(&["mail"], None, &[]);
        for (name, now, to, action, warned) in [
            ("never ran", Json::Null, None, Action::UpToDate, None),
            (
                "ran in another run",
                state(&bench, "b", &undone),
                Some(state(&bench, "a", &undone)),
                Action::Run,
                None,
            ),
            ("was not there yet", state(&bench, "b", &undone), None, Action::Run, None),
            (
                "did not run",
                state(&bench, "a", &undone),
                Some(state(&bench, "a", &undone)),
                Action::UpToDate,
                None,
            ),
            ("undo none", state(&bench, "b", &free), None, Action::UpToDate, None),
            (
                "nothing is said",
                state(&bench, "b", &manual),
                None,
                Action::UpToDate,
                Some("manual: nothing says how to take back mail"),
            ),
        ] {
            let planned = returns(&now, to.as_ref()).plan(&bench.cx).await.expect("planned");
            assert_eq!(planned.action, action, "{name}");
            assert_eq!(planned.warnings.first().map(String::as_str), warned, "{name}");
        }
    }

    #[tokio::test]
    async fn it_runs_with_the_variables_of_then_and_the_secrets_of_now() {
        let mut bench = Bench::new();
        let secret = |text: &str| Value::Secret(Secret::new(text.to_owned()));
        let undo = ["sh", "-c", "echo $MODE; test \"$TOKEN\" = geheim-2"];
        let then = [("MODE", Value::text("blue")), ("TOKEN", secret("geheim-1"))];
        let recorded = state(&bench, "b", &step(&["flag", "on"], Some(&undo), &then));
        assert!(!recorded.to_string().contains("geheim-1"), "{recorded}");
        let before = state(&bench, "a", &step(&["flag", "on"], Some(&undo), &then));

        let mut returning = returns(&recorded, Some(&before));
        let failure = returning.plan(&bench.cx).await.expect_err("a secret is missing");
        assert_eq!(failure.class, FailureClass::Refused);
        assert_eq!(failure.record.details, ["not given any more: TOKEN"]);

        let today = step(&["flag"], None, &[("TOKEN", secret("geheim-2")), ("MODE", Value::text("green"))]);
        returning.equip(&Ready::default(), &today.attributes);
        let mut planned = returning.plan(&bench.cx).await.expect("planned");
        let done = planned.effect.take().expect("an effect").apply(&bench.cx).await.expect("undone");
        assert_eq!(done.receipt, before);
        assert_eq!(bench.heard().await, ["blue"]);
    }

    #[tokio::test]
    async fn an_undo_that_fails_says_so_and_one_that_was_cut_off_is_a_persons_business() {
        let bench = Bench::new();
        let recorded = state(&bench, "b", &step(&["x"], Some(&["sh", "-c", "echo no; exit 3"]), &[]));
        let returning = returns(&recorded, None);
        let mut planned = returning.plan(&bench.cx).await.expect("planned");
        let failure = planned.effect.take().expect("an effect").apply(&bench.cx).await.expect_err("failed");
        assert_eq!(
            (failure.record.reason.as_str(), failure.record.details),
            ("exited with 3", vec!["no".to_owned()])
        );
        let open = Open {
            intent: crate::journal::replay::OpenIntent {
                attempt: 1,
                action: Action::Run,
                summary: String::new(),
                baseline: Json::Null,
                standing: Json::Null,
                since: bench.cx.world.clock.now(),
            },
            notes: Vec::new(),
        };
        let settled = returning.reconcile(&open, &bench.cx).await.expect("asked");
        assert!(matches!(settled, Settled::Ambiguous(_)), "{settled:?}");
    }
}
