//! `run`: a program or a script of the project.
//!
//! What it does is unknown to flow: the plan shows its argv, `probe` may say
//! that it is done, and taking it back is `undo`'s or a person's business.
//! Whether a step with `inputs` must run at all is decided before it gets here.

mod outputs;
mod undo;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use async_trait::async_trait;

use super::program::{Surroundings, as_secret, harmless, is_there, judge, makes_files, program, unknown_env};
use super::{
    Attributes, Back, Context, Done, Effect, Failure, FailureClass, Kind, Open, Proposal, Settled, Step,
};
use crate::model::change::{Action, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames, Rule};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::units::count;
use crate::model::value::{Field, Outputs, Value};
use crate::world::process::{Tail, run, show_argv};
use crate::world::terminal;

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "run",
        about: "Runs a program or a script.",
        settings: &[
            Setting::new("command", Shape::Texts, "the program and its arguments; no shell"),
            Setting::new("script", Shape::Script, "text for sh -eu; values reach it through env"),
            Setting::new(
                "shell",
                Shape::Choice(&["sh", "bash"]),
                "what runs the script; bash also gets pipefail",
            ),
            Setting::new("dir", Shape::Path { reads: false }, "where it runs; the project root without"),
            Setting::new("stdin", Shape::Text, "what it reads").secret(),
            Setting::new("tty", Shape::Bool, "it talks with the person at the terminal"),
            Setting::new("resume", Shape::Choice(&["rerun"]), "run it again after a crash in its middle"),
        ],
        rules: &[
            Rule::OneOf(&["command", "script"]),
            Rule::Needs("shell", "script"),
            Rule::AtMostOne(&["tty", "stdin"]),
        ],
        outputs: OutputNames::Open,
        nature: Nature::Program,
        aws: false,
        repeatable: false,
    },
    make,
    back: Back::To(undo::back),
};

/// How many of the last lines a failure shows.
const SHOWN_LINES: usize = 10;

/// A `run` step, read.
#[derive(Clone, Debug)]
struct Run {
    argv: Vec<String>,
    /// As the plan shows it.
    shown: String,
    dir: Option<String>,
    stdin: Option<Field<Value>>,
    tty: bool,
    /// `resume "rerun"`: making it twice does no harm.
    rerun: bool,
    attributes: Attributes,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let (argv, shown) = if let Some(script) = ready.script("script") {
        let shell = ready.opt_text("shell")?.unwrap_or_else(|| "sh".to_owned());
        let shown = format!("{shell} script, {}", count(script.trim().lines().count(), "line"));
        (shell_argv(&shell, script), shown)
    } else {
        let argv = ready.texts("command")?;
        let shown = show_argv(&argv);
        (argv, shown)
    };
    Ok(Box::new(Run {
        argv,
        shown,
        dir: ready.opt_text("dir")?,
        stdin: ready.field("stdin").cloned(),
        tty: ready.flag("tty")?,
        rerun: ready.opt_text("resume")?.is_some(),
        attributes: attributes.clone(),
    }))
}

fn shell_argv(shell: &str, script: &str) -> Vec<String> {
    let options: &[&str] = if shell == "bash" { &["-eu", "-o", "pipefail", "-c"] } else { &["-eu", "-c"] };
    let words = std::iter::once(shell).chain(options.iter().copied()).chain([script]);
    words.map(str::to_owned).collect()
}

impl Run {
    /// The program, where it is looked for on `PATH` and not there. One that is named by its path may
    /// be made by an earlier step.
    fn missing(&self, cx: &Context) -> Option<&str> {
        let program = self.argv.first().filter(|name| !name.contains('/'))?;
        let has_its_own = self.attributes.env.iter().any(|(name, _)| name == "PATH");
        (!has_its_own && !cx.world.host.has_program(program)).then_some(program)
    }
}

#[async_trait]
impl Step for Run {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let known = unknown_env(&self.attributes).is_none() && !matches!(self.stdin, Some(Field::After(_)));
        if let (Some(probe), true) = (&self.attributes.probe, known)
            && is_there(probe, self.dir.as_deref(), &self.attributes, cx).await?
        {
            let recorded = cx.recorded.as_deref().cloned().unwrap_or_default();
            return Ok(Proposal {
                receipt: recorded.receipt,
                ..Proposal::up_to_date("probe says done", recorded.outputs)
            });
        }
        let mut proposal = Proposal::new(Action::Run, self.shown.clone());
        proposal.reversible = match &self.attributes.undo {
            Some(undo) if undo.is_empty() => Reversible::None,
            Some(_) => Reversible::Auto,
            None if makes_files(&self.attributes) => Reversible::None,
            None => Reversible::Manual,
        };
        proposal.standing = cx.recorded.as_ref().map(|recorded| recorded.receipt.clone()).unwrap_or_default();
        if self.tty && !terminal::stdin_is_terminal() {
            proposal.warnings.push("it talks with a person, and there is no terminal here".to_owned());
        }
        if let Some(program) = self.missing(cx) {
            proposal.warnings.push(format!("{program} is not on PATH here"));
        }
        Ok(if known { proposal.with(RunEffect(self.clone())) } else { proposal })
    }

    /// A program cannot be asked; its probe can, and files are simply made again.
    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        if let Some(probe) = &self.attributes.probe {
            return Ok(if is_there(probe, self.dir.as_deref(), &self.attributes, cx).await? {
                let outputs = handed_on(open);
                let receipt = undo::State::of(self, cx);
                Settled::Done(Done { summary: "probe says done".to_owned(), outputs, receipt })
            } else {
                Settled::NotDone
            });
        }
        Ok(if self.rerun || makes_files(&self.attributes) {
            Settled::NotDone
        } else {
            Settled::Ambiguous(
                "a program cannot be asked whether it was done: give it a probe, or resume \"rerun\" if running it twice does no harm"
                    .to_owned(),
            )
        })
    }
}

/// Key of the note that holds what a program handed on, once that was read.
const HANDED_ON: &str = "handed-on";

/// What a program handed on before flow was interrupted, as far as it was read.
fn handed_on(open: &Open) -> Outputs {
    let noted = open.notes.iter().rev().find(|(key, _)| key == HANDED_ON);
    noted.and_then(|(_, data)| serde_json::from_value(data.clone()).ok()).unwrap_or_default()
}

impl Run {
    fn folder(&self, cx: &Context) -> Result<PathBuf, Failure> {
        Ok(cx.world.files.locate(self.dir.as_deref().unwrap_or("."))?)
    }
}

struct RunEffect(Run);

#[async_trait]
impl Effect for RunEffect {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let run_step = self.0;
        if run_step.tty && !terminal::stdin_is_terminal() {
            return Err(Failure::of(
                FailureClass::Refused,
                "it talks with a person, and there is no terminal here",
            ));
        }
        let mut surroundings = Surroundings::new(&run_step.attributes, cx).await?;
        let handed_on = surroundings.scratch.write("output", b"")?;
        surroundings.env.insert("FLOW_OUTPUT".to_owned(), handed_on.display().to_string());

        let env = std::mem::take(&mut surroundings.env);
        let mut program = program(run_step.argv.clone(), run_step.folder(cx)?, env, &run_step.attributes, cx);
        program.stdin = match &run_step.stdin {
            Some(Field::Known(value)) => Some(as_secret(cx, value)),
            _ => None,
        };
        program.tty = run_step.tty;

        let mut tail = Tail::new(SHOWN_LINES, Some(cx.feed.clone()));
        let ending = run(&program, &cx.cancel, &cx.world.masker, &mut tail).await?;
        let judged = judge(ending, tail.into_lines());
        if makes_files(&run_step.attributes) { harmless(judged) } else { judged }?;
        let outputs = outputs::read(&cx.world, &handed_on)?;
        if run_step.attributes.probe.is_some() && !outputs.is_empty() {
            let known = outputs.iter().filter(|(_, value)| !value.is_secret());
            let known: Outputs = known.map(|(name, value)| (name.clone(), value.clone())).collect();
            cx.feed.note(HANDED_ON, serde_json::to_value(known).unwrap_or_default()).await?;
        }
        let receipt = undo::State::of(&run_step, cx);
        Ok(Done { summary: run_step.shown, outputs, receipt })
    }
}
