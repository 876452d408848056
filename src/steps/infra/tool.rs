//! The program that a kind drives: found, asked for its version, and started
//! with what the step says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::settings::Common;
use super::version::{Requirement, Version};
use super::workplace::Workplace;
use crate::model::secret::Secret;
use crate::steps::program::{Surroundings, harmless, judge, program};
use crate::steps::{Attributes, Context, Failure, FailureClass};
use crate::world::process::{Ending, Lines, ProcessError, Program, StopSignal, capture, run, show_argv};
use crate::world::scratch::Scratch;

/// What flow knows of a program.
#[derive(Debug)]
pub(in crate::steps) struct ToolSpec {
    /// Its name in PATH.
    pub name: &'static str,
    /// What makes it tell its version.
    pub ask: &'static [&'static str],
    /// The versions that flow can drive.
    pub needs: &'static str,
    /// How to get it, as a sentence for the operator.
    pub get: &'static str,
    /// The signal after which it ends in good order.
    pub stop: StopSignal,
}

/// More than this of what a program says about itself is not its version.
const VERSION_LIMIT: usize = 64 * 1024;

/// A program that is there and will do. Holds the step's secret files: keep it while it is used.
#[derive(Debug)]
pub(in crate::steps) struct Tool {
    spec: &'static ToolSpec,
    start: Vec<String>,
    version: Version,
    folder: PathBuf,
    env: BTreeMap<String, String>,
    scratch: Scratch,
    attributes: Attributes,
}

/// What a program said that ended with 0, or with a code that the caller knows.
#[derive(Clone, Debug)]
pub(in crate::steps) struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}

impl Tool {
    /// Finds the program, verifies the account and compares the version. `variables` are set for it
    /// besides what the step declares, the step's own counting more.
    pub(in crate::steps) async fn find(
        spec: &'static ToolSpec,
        common: &Common,
        workplace: &Workplace,
        variables: &[(&str, String)],
        cx: &Context,
    ) -> Result<Self, Failure> {
        let Surroundings { mut env, scratch } = Surroundings::new(&common.attributes, cx).await?;
        for (name, value) in variables {
            env.entry((*name).to_owned()).or_insert_with(|| value.clone());
        }
        let start =
            if common.program.is_empty() { vec![spec.name.to_owned()] } else { common.program.clone() };
        let mut tool = Self {
            spec,
            start,
            version: Version::default(),
            folder: workplace.folder(&common.dir)?,
            env,
            scratch,
            attributes: common.attributes.clone(),
        };
        tool.version = tool.ask_version(common, cx).await?;
        Ok(tool)
    }

    async fn ask_version(&self, common: &Common, cx: &Context) -> Result<Version, Failure> {
        let spec = self.spec;
        let wanted = match &common.version {
            Some(version) => format!("wanted is {} {version}", spec.name),
            None => format!("wanted is {} {}", spec.name, spec.needs),
        };
        let unusable = |reason: String| {
            Failure::of(FailureClass::Unusable, reason).detail(wanted.clone()).help(spec.get)
        };
        let program = self.program(spec.ask, cx);
        let said = match capture(&program, &cx.cancel, VERSION_LIMIT).await {
            Ok(said) => said,
            Err(error @ (ProcessError::NotFound { .. } | ProcessError::NoFile { .. })) => {
                return Err(unusable(format!("{} is not installed: {error}", spec.name)));
            }
            Err(error) => return Err(error.into()),
        };
        let shown = self.shown(spec.ask);
        if said.ending != Ending::Exited(0) {
            return Err(match harmless(judge(said.ending, said.stderr)) {
                Err(failure) if failure.class == FailureClass::Interrupted => failure,
                Err(failure) => {
                    unusable(format!("{shown} {}", failure.record.reason)).details(failure.record.details)
                }
                Ok(()) => unusable(format!("{shown} does not tell a version")),
            });
        }
        let out = String::from_utf8_lossy(&said.stdout);
        let found = Version::find(&out).or_else(|| said.stderr.iter().find_map(|line| Version::find(line)));
        let Some(version) = found else { return Err(unusable(format!("{shown} does not tell a version"))) };
        let too_old = |needs: &Requirement| !needs.is_met_by(&version);
        let own = Requirement::parse(spec.needs).map_err(Failure::new)?;
        if too_old(&own) || common.version.as_ref().is_some_and(too_old) {
            return Err(unusable(format!("{} {version} is installed, which will not do", spec.name)));
        }
        Ok(version)
    }

    /// `terraform 1.11.4`, for baselines and records.
    pub(in crate::steps) fn facts(&self) -> String {
        format!("{} {}", self.spec.name, self.version)
    }

    /// The folder it runs in.
    pub(in crate::steps) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Files that go with it.
    pub(in crate::steps) fn scratch(&mut self) -> &mut Scratch {
        &mut self.scratch
    }

    /// Sets a variable, whatever the step says.
    pub(in crate::steps) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.insert(name.to_owned(), value.into());
    }

    /// Takes a variable away.
    pub(in crate::steps) fn unset(&mut self, name: &str) {
        self.env.remove(name);
    }

    /// A variable that it gets.
    pub(in crate::steps) fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// The command as a person would type it in its folder.
    pub(in crate::steps) fn shown<T: AsRef<str>>(&self, arguments: &[T]) -> String {
        let words = self.start.iter().map(String::as_str).chain(arguments.iter().map(AsRef::as_ref));
        show_argv(&words.collect::<Vec<_>>())
    }

    fn program<T: AsRef<str>>(&self, arguments: &[T], cx: &Context) -> Program {
        let words = self.start.iter().map(String::as_str).chain(arguments.iter().map(AsRef::as_ref));
        let mut program = program(words, &self.folder, self.env.clone(), &self.attributes, cx);
        program.stop = self.spec.stop;
        program
    }

    /// Starts it for what it prints; any exit code is an answer. `limit` bounds its standard output:
    /// more is a failure. For commands that change nothing.
    pub(in crate::steps) async fn ask<T: AsRef<str>>(
        &self,
        arguments: &[T],
        limit: usize,
        cx: &Context,
    ) -> Result<Said, Failure> {
        self.ask_with(arguments, None, limit, cx).await
    }

    /// The same with something on its standard input.
    pub(in crate::steps) async fn ask_with<T: AsRef<str>>(
        &self,
        arguments: &[T],
        stdin: Option<Secret>,
        limit: usize,
        cx: &Context,
    ) -> Result<Said, Failure> {
        let mut program = self.program(arguments, cx);
        program.stdin = stdin;
        let said = capture(&program, &cx.cancel, limit).await?;
        let Ending::Exited(code) = said.ending else {
            let failed = harmless(judge(said.ending, said.stderr)).err();
            return Err(failed.unwrap_or_else(|| Failure::new("ended")).detail(self.shown(arguments)));
        };
        if said.truncated {
            return Err(Failure::new(format!("{} prints more than {limit} bytes", self.shown(arguments))));
        }
        Ok(Said { code, stdout: String::from_utf8_lossy(&said.stdout).into_owned(), stderr: said.stderr })
    }

    /// The same where only exit 0 is an answer.
    pub(in crate::steps) async fn tell<T: AsRef<str>>(
        &self,
        arguments: &[T],
        limit: usize,
        cx: &Context,
    ) -> Result<String, Failure> {
        let said = self.ask(arguments, limit, cx).await?;
        match said.code {
            0 => Ok(said.stdout),
            code => {
                Err(Failure::new(format!("{} exited with {code}", self.shown(arguments)))
                    .details(said.stderr))
            }
        }
    }

    /// Starts it and hands every line of both its outputs on, masked, as they come.
    pub(in crate::steps) async fn run<T: AsRef<str>>(
        &self,
        arguments: &[T],
        lines: &mut dyn Lines,
        cx: &Context,
    ) -> Result<Ending, Failure> {
        Ok(run(&self.program(arguments, cx), &cx.cancel, &cx.world.masker, lines).await?)
    }
}
