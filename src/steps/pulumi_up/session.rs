//! The CLI on one stack: its surroundings, and the commands that flow uses.
//!
//! It gets a home of its own, asks nothing, and works with a copy of the stack's
//! settings file, so that nothing changes in the checkout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::fault::Fault;
use super::preview::Said;
use super::snapshot::Snapshot;
use super::{Given, Pulumi};
use crate::model::secret::Secret;
use crate::model::value::Outputs;
use crate::steps::infra::{Tool, ToolSpec, Workplace};
use crate::steps::{Context, Failure};
use crate::syntax::problem::nearest;
use crate::world::files::{FileError, Files};
use crate::world::process::{Ending, StopSignal, Tail, show_argv};

/// The program.
pub(super) static PULUMI: ToolSpec = ToolSpec {
    name: "pulumi",
    ask: &["version"],
    needs: ">=3.100",
    get: "install it from https://www.pulumi.com/docs/install, or name it with program",
    stop: StopSignal::Int,
};

/// Previews and states that are larger are a mistake.
const LIMIT: usize = 256 * 1024 * 1024;
/// How many of the last lines of an apply are looked at, and how many a failure shows.
const LAST_LINES: usize = 200;

/// What every command gets that works on the program.
const QUIET: [&str; 3] = ["--non-interactive", "--color", "never"];

/// The CLI, on one stack.
#[derive(Debug)]
pub(in crate::steps) struct Session {
    tool: Tool,
    pub workplace: Workplace,
    stack: String,
    backend: Option<String>,
    /// What said where the state lies, while the session imagines a stack elsewhere.
    real: Option<String>,
    /// The copy of the stack's settings.
    settings: PathBuf,
    /// Where the next preview saves its plan.
    plan: PathBuf,
    /// The settings file in the checkout, where there is one.
    own_settings: PathBuf,
}

impl Session {
    /// Finds the program and copies the stack's settings.
    pub(in crate::steps) async fn open(
        up: &Pulumi,
        workplace: Workplace,
        cx: &Context,
    ) -> Result<Self, Failure> {
        let files = &cx.world.files;
        let home = files.root().join(".flow/cache/pulumi");
        let mut variables =
            vec![("PULUMI_HOME", home.display().to_string()), ("PULUMI_SKIP_UPDATE_CHECK", "1".to_owned())];
        if let Some(backend) = &up.backend {
            variables.push(("PULUMI_BACKEND_URL", backend.clone()));
        }
        files.create_dir(&home)?;
        let mut tool = Tool::find(&PULUMI, &up.common, &workplace, &variables, cx).await?;
        // `org/project/stack` has the settings of `stack`.
        let short = up.stack.rsplit('/').next().unwrap_or(&up.stack);
        let own_settings = tool.folder().join(format!("Pulumi.{short}.yaml"));
        let folder = tool.scratch().folder("pulumi")?;
        let settings = folder.join(format!("Pulumi.{short}.yaml"));
        let own = optional(files, &own_settings)?;
        files.write_unsynced(&settings, own.as_deref().unwrap_or_default())?;
        let plan = tool.scratch().write("pulumi-plan", b"")?;
        Ok(Self {
            tool,
            workplace,
            stack: up.stack.clone(),
            backend: up.backend.clone(),
            real: None,
            settings,
            plan,
            own_settings,
        })
    }

    /// Where it worked, once it is not needed any more.
    pub(in crate::steps) fn close(self) -> Workplace {
        self.workplace
    }

    /// `pulumi 3.200.0`
    pub(in crate::steps) fn facts(&self) -> String {
        self.tool.facts()
    }

    /// A command as somebody would type it in a shell.
    pub(in crate::steps) fn typed(&self, words: &[&str]) -> String {
        let backend =
            self.backend.as_ref().map(|url| format!("PULUMI_BACKEND_URL={} ", show_argv(&[url.as_str()])));
        let words = [words, &["--stack", &self.stack]].concat();
        format!("{}{}", backend.unwrap_or_default(), self.tool.shown(&words))
    }

    /// The stack's name.
    pub(in crate::steps) fn stack(&self) -> &str {
        &self.stack
    }

    /// Asks the CLI; any end but 0 is told apart.
    async fn ask(&self, words: &[&str], stdin: Option<Secret>, cx: &Context) -> Result<String, Failure> {
        let words = [words, &["--stack", &self.stack]].concat();
        let said = self.tool.ask_with(&words, stdin, LIMIT, cx).await?;
        if said.code == 0 {
            return Ok(said.stdout);
        }
        Err(Fault::of(&said.stdout, &said.stderr).failure(self))
    }

    /// The stack's state; `None` when there is no such stack.
    pub(in crate::steps) async fn snapshot(&self, cx: &Context) -> Result<Option<Snapshot>, Failure> {
        let words = ["stack", "export", "--stack", &self.stack, "--non-interactive"];
        let said = self.tool.ask_with(&words, None, LIMIT, cx).await?;
        if said.code == 0 {
            return Snapshot::read(said.stdout).map(Some);
        }
        match Fault::of(&said.stdout, &said.stderr) {
            Fault::NoStack => Ok(None),
            fault => Err(fault.failure(self)),
        }
    }

    /// There is no such stack: says which ones there are.
    pub(in crate::steps) async fn no_stack(&self, cx: &Context) -> Failure {
        let failure = Failure::new(format!("there is no stack \"{}\"", self.stack));
        let said = self.tool.ask_with(&["stack", "ls", "--json", "--non-interactive"], None, LIMIT, cx).await;
        let listed = said.ok().and_then(|said| serde_json::from_str::<Vec<Json>>(&said.stdout).ok());
        let names: Vec<String> = listed
            .unwrap_or_default()
            .iter()
            .filter_map(|stack| stack["name"].as_str().map(str::to_owned))
            .collect();
        let failure = match names.as_slice() {
            [] => failure.detail("this backend has none of this program"),
            names => failure.detail(format!("there are: {}", names.join(", "))),
        };
        match nearest(&self.stack, names.iter().map(String::as_str)) {
            Some(near) => failure.help(format!("did you mean \"{near}\"?")),
            None => failure.help("write create-stack #true where it is to be made"),
        }
    }

    /// Plans a stack that does not exist yet: in a backend of files that goes with the session.
    pub(in crate::steps) async fn imagine(&mut self, cx: &Context) -> Result<(), Failure> {
        let folder = self.tool.scratch().folder("pulumi-state")?;
        self.real = self.tool.variable("PULUMI_BACKEND_URL").map(str::to_owned);
        self.tool.set("PULUMI_BACKEND_URL", format!("file://{}", folder.display()));
        self.init(cx).await
    }

    /// Makes the stack where it belongs.
    pub(in crate::steps) async fn create(&mut self, cx: &Context) -> Result<(), Failure> {
        match self.real.take() {
            Some(real) => self.tool.set("PULUMI_BACKEND_URL", real),
            None => self.tool.unset("PULUMI_BACKEND_URL"),
        }
        self.init(cx).await
    }

    /// The CLI writes how secrets are kept into the checkout: that goes into the copy.
    async fn init(&self, cx: &Context) -> Result<(), Failure> {
        let files = &cx.world.files;
        let before = optional(files, &self.own_settings)?;
        let made = self.ask(&["stack", "init", "--no-select", "--non-interactive"], None, cx).await;
        let after = optional(files, &self.own_settings)?;
        if after != before {
            if files.read(&self.settings)?.is_empty()
                && let Some(written) = &after
            {
                files.write_unsynced(&self.settings, written)?;
            }
            match before {
                Some(before) => files.write(&self.own_settings, &before)?,
                None => files.remove(&self.own_settings)?,
            }
        }
        made.map(drop)
    }

    /// Sets the step's values in the copy of the stack's settings.
    pub(in crate::steps) async fn configure(
        &self,
        config: &BTreeMap<String, Given>,
        cx: &Context,
    ) -> Result<(), Failure> {
        let settings = self.settings.display().to_string();
        let mut plain = vec!["config".to_owned(), "set-all".to_owned(), "--config-file".to_owned()];
        plain.push(settings.clone());
        let fixed = plain.len();
        for (name, given) in config {
            match given {
                Given::Plain(value) => plain.extend(["--plaintext".to_owned(), format!("{name}={value}")]),
                Given::Secret(secret) => {
                    cx.world.masker.learn([secret]);
                    let words = ["config", "set", "--secret", "--config-file", &settings, name];
                    self.ask(&words, Some(secret.clone()), cx).await?;
                }
            }
        }
        if plain.len() > fixed {
            let words: Vec<&str> = plain.iter().map(String::as_str).collect();
            self.ask(&words, None, cx).await?;
        }
        Ok(())
    }

    /// What the program would change, and the plan that allows nothing else.
    pub(in crate::steps) async fn preview(
        &self,
        refresh: bool,
        targets: &[String],
        cx: &Context,
    ) -> Result<Said, Failure> {
        let (settings, plan) = (self.settings.display().to_string(), self.plan.display().to_string());
        let mut words = vec!["preview", "--json", "--config-file", &settings, "--save-plan", &plan];
        words.extend(QUIET);
        words.extend(limits(refresh, targets));
        let text = self.ask(&words, None, cx).await?;
        let saved = cx.world.files.read_text(&self.plan)?;
        Said::parse(&text, &saved, self.plan.clone())
    }

    /// Applies exactly a plan that was saved before.
    pub(in crate::steps) async fn up(&self, up: &Pulumi, plan: &Path, cx: &Context) -> Result<(), Failure> {
        let (settings, plan) = (self.settings.display().to_string(), plan.display().to_string());
        let mut words = vec!["up", "--yes", "--skip-preview", "--config-file", &settings, "--plan", &plan];
        words.extend(limits(up.refresh, &up.targets));
        self.follow(&words, cx).await
    }

    /// Deletes everything in it; the empty stack stays.
    pub(in crate::steps) async fn destroy(&self, cx: &Context) -> Result<(), Failure> {
        let settings = self.settings.display().to_string();
        self.follow(&["destroy", "--yes", "--skip-preview", "--config-file", &settings], cx).await
    }

    async fn follow(&self, words: &[&str], cx: &Context) -> Result<(), Failure> {
        let words = [words, &QUIET, &["--stack", &self.stack]].concat();
        let mut tail = Tail::new(LAST_LINES, Some(cx.feed.clone()));
        let ending = self.tool.run(&words, &mut tail, cx).await?;
        let lines = tail.into_lines();
        match ending {
            Ending::Exited(0) => Ok(()),
            Ending::Exited(_) => {
                // A provider that broke down leaves what nobody knows the end of.
                if let Some(now) = self.snapshot(cx).await.ok().flatten() {
                    now.refuse_pending(self)?;
                }
                Err(Fault::of("", &lines).failure(self))
            }
            ending => crate::steps::program::judge(ending, lines.into_iter().rev().take(10).rev().collect()),
        }
    }

    /// An older state that the backend keeps.
    pub(in crate::steps) async fn version(&self, number: &str, cx: &Context) -> Result<String, Failure> {
        self.ask(&["stack", "export", "--version", number, "--non-interactive"], None, cx).await
    }

    /// Replaces the state by another one.
    pub(in crate::steps) async fn import(&self, state: &[u8], cx: &Context) -> Result<(), Failure> {
        let text = Secret::new(String::from_utf8_lossy(state).into_owned());
        self.ask(&["stack", "import", "--non-interactive"], Some(text), cx).await.map(drop)
    }

    /// The stack's outputs; those that the program calls secret, and those derived from them, are.
    pub(in crate::steps) async fn outputs(
        &self,
        snapshot: &Snapshot,
        cx: &Context,
    ) -> Result<Outputs, Failure> {
        let (mut outputs, secrets) = snapshot.outputs();
        if secrets.is_empty() {
            return Ok(outputs);
        }
        let words = ["stack", "output", "--json", "--show-secrets", "--non-interactive"];
        let shown: BTreeMap<String, Json> = serde_json::from_str(&self.ask(&words, None, cx).await?)
            .map_err(|error| Failure::new(format!("the outputs of {} are no JSON: {error}", self.stack)))?;
        for (name, json) in shown.into_iter().filter(|(name, _)| secrets.contains(name)) {
            let secret = Secret::new(json.as_str().map_or_else(|| json.to_string(), str::to_owned));
            cx.world.masker.learn([&secret]);
            outputs.insert(name, crate::model::value::Value::Secret(secret));
        }
        Ok(outputs)
    }
}

fn limits(refresh: bool, targets: &[String]) -> Vec<&str> {
    let refresh = refresh.then_some("--refresh").into_iter();
    refresh.chain(targets.iter().flat_map(|target| ["--target", target.as_str()])).collect()
}

/// What a file holds that may not be there.
fn optional(files: &Files, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match files.read(path) {
        Err(error) if error.is_not_found() => Ok(None),
        read => read.map(Some),
    }
}
