//! Terraform, initialised for a step: the one place that knows its arguments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Terraform;
use super::events::{Heard, Stream};
use crate::model::value::{Outputs, Value};
use crate::steps::infra::{Tool, ToolSpec, Workplace};
use crate::steps::program::{harmless, judge};
use crate::steps::{Context, Failure, FailureClass};
use crate::world::depot::{Hold, Lock};
use crate::world::files::{digest, without_dots};
use crate::world::process::{Ending, StopSignal, show_argv};

static TERRAFORM: ToolSpec = ToolSpec {
    name: "terraform",
    ask: &["version"],
    needs: ">=1.0",
    get: "get it from https://developer.hashicorp.com/terraform/install, or name it with program",
    // TERM would end its provider plug-ins too, in the middle of what they do.
    stop: StopSignal::Int,
};
/// A plan of many thousand resources is not larger.
const JSON_LIMIT: usize = 256 * 1024 * 1024;
const SHORT_LIMIT: usize = 16 * 1024 * 1024;
/// How often a lock is tried that another step has.
const TRY: Duration = Duration::from_millis(50);

/// Terraform in an initialised folder. Its secret files go with it.
#[derive(Debug)]
pub(super) struct Session {
    tool: Tool,
    workplace: Workplace,
    /// `.terraform`, as it is called elsewhere.
    data: PathBuf,
    /// `local`, `s3`, …
    backend: String,
    /// Where a local state lies that this folder does not have: arguments.
    state: Vec<String>,
    /// The workspace was made by looking, and goes with it.
    made: Option<String>,
}

/// A plan that was made.
pub(super) struct Planned {
    /// The plan file, mode 0600.
    pub file: String,
    /// What Terraform warns of.
    pub warnings: Vec<String>,
}

impl Session {
    /// Does the local work, finds the program and initialises its folder.
    pub(super) async fn open(step: &Terraform, workplace: Workplace, cx: &Context) -> Result<Self, Failure> {
        step.common.prepare(&workplace, cx).await?;
        let data = data_folder(step, &workplace, cx);
        let variables = ["TF_IN_AUTOMATION", "CHECKPOINT_DISABLE"].map(|name| (name, "1".to_owned()));
        let mut tool = Tool::find(&TERRAFORM, &step.common, &workplace, &variables, cx).await?;
        tool.set("TF_INPUT", "0");
        tool.set("TF_DATA_DIR", data.display().to_string());
        let (backend, state, made) = ("local".to_owned(), Vec::new(), None);
        let mut session = Self { tool, workplace, data, backend, state, made };
        session.refuse_unsaved_state(cx)?;
        session.init(step, cx).await?;
        Ok(session)
    }

    /// A state that could not be saved must be pushed before anything else is done.
    fn refuse_unsaved_state(&self, cx: &Context) -> Result<(), Failure> {
        let file = self.tool.folder().join("errored.tfstate");
        if cx.world.files.metadata(&file)?.is_none() {
            return Ok(());
        }
        let reason = "an earlier apply could not save the state, so Terraform does not know what it made";
        Err(Failure::of(FailureClass::Unknown, reason).detail(format!("it lies in {}", file.display())).help(
            format!("push it and remove the file: {}", self.typed(&["state", "push", "errored.tfstate"])),
        ))
    }

    async fn init(&mut self, step: &Terraform, cx: &Context) -> Result<(), Failure> {
        cx.world.files.create_dir(&self.data)?;
        // Two steps with one folder would write the same files.
        let _turn = turn(&self.data.with_extension("lock"), cx).await?;
        let mut arguments = words(&["init", "-input=false", "-no-color"]);
        arguments.extend(step.backend.iter().map(|(name, value)| format!("-backend-config={name}={value}")));
        let said = self.tool.ask(&arguments, SHORT_LIMIT, cx).await?;
        if said.code != 0 {
            let changed = said.stderr.iter().any(|line| line.contains("Backend configuration changed"));
            let failure = Failure::new("terraform init failed").details(tidy(&said.stderr));
            return Err(if changed {
                failure.help(format!(
                    "if the state was moved, forget the old place: rm -r {}",
                    self.data.display()
                ))
            } else {
                failure
            });
        }
        self.backend = self.backend_type(cx)?;
        if self.workplace.is_unpacked() && self.backend == "local" {
            self.state = vec![format!("-state={}", self.local_state(step, cx)?.display())];
        }
        if let Some(workspace) = step.workspace.as_ref().filter(|name| *name != "default") {
            let listed = self.tool.tell(&["workspace", "list"], SHORT_LIMIT, cx).await?;
            let mut names = listed.lines().map(|line| line.trim_start_matches('*').trim());
            // Asked for a plan, Terraform makes a workspace that is missing.
            self.made = (!names.any(|name| name == workspace)).then(|| workspace.clone());
            self.tool.set("TF_WORKSPACE", workspace);
        }
        Ok(())
    }

    /// What kind of backend the folder was initialised with.
    fn backend_type(&self, cx: &Context) -> Result<String, Failure> {
        Ok(self.backend_settings(cx)?["type"].as_str().unwrap_or("local").to_owned())
    }

    fn backend_settings(&self, cx: &Context) -> Result<Json, Failure> {
        let file = self.data.join("terraform.tfstate");
        if cx.world.files.metadata(&file)?.is_none() {
            return Ok(Json::Null);
        }
        let text = cx.world.files.read(&file)?;
        let json: Json = serde_json::from_slice(&text)
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))?;
        Ok(json["backend"].clone())
    }

    /// Where the checkout's own local state lies.
    fn local_state(&self, step: &Terraform, cx: &Context) -> Result<PathBuf, Failure> {
        let folder = cx.world.files.locate(&step.common.dir)?;
        let settings = self.backend_settings(cx)?;
        let given = |name: &str, usual: &str| settings["config"][name].as_str().unwrap_or(usual).to_owned();
        Ok(match step.workspace.as_deref() {
            None | Some("default") => folder.join(given("path", "terraform.tfstate")),
            Some(name) => folder
                .join(given("workspace_dir", "terraform.tfstate.d"))
                .join(name)
                .join("terraform.tfstate"),
        })
    }

    /// Makes a plan into a file that only its owner can read.
    pub(super) async fn plan(&mut self, step: &Terraform, cx: &Context) -> Result<Planned, Failure> {
        let file = self.tool.scratch().write("plan", b"")?.display().to_string();
        let mut arguments = words(&["plan", "-json", "-input=false"]);
        arguments.push(format!("-out={file}"));
        arguments.extend(self.state.clone());
        if step.common.destroy {
            arguments.push("-destroy".to_owned());
        }
        for path in &step.var_files {
            let mut place = self.workplace.folder(path)?;
            if cx.world.files.metadata(&place)?.is_none() {
                // What git ignores is not kept: taken as it is today.
                place = cx.world.files.locate(path)?;
            }
            arguments.push(format!("-var-file={}", place.display()));
        }
        if !step.vars.is_empty() {
            // Terraform goes by the end of the name.
            let text = variables(&step.vars, cx);
            let place = self.tool.scratch().write_as("vars", ".tfvars.json", text.as_bytes())?;
            arguments.push(format!("-var-file={}", place.display()));
        }
        let mut stream = Stream::quiet(cx);
        let ending = self.tool.run(&arguments, &mut stream, cx).await;
        let heard = stream.into_heard();
        let judged = self.judge_plan(ending?, &heard);
        if cx.run.is_none() {
            self.unmake(cx).await;
        }
        judged?;
        Ok(Planned { file, warnings: heard.warnings() })
    }

    fn judge_plan(&self, ending: Ending, heard: &Heard) -> Result<(), Failure> {
        if let Some(locked) = self.locked(heard) {
            return Err(locked);
        }
        match ending {
            Ending::Exited(0) => Ok(()),
            Ending::Exited(_) => Err(Failure::new("terraform plan failed").details(heard.errors())),
            ending => harmless(judge(ending, heard.errors())),
        }
    }

    /// Takes away a workspace that came into being by looking. One that is in use by now stays:
    /// Terraform itself refuses.
    async fn unmake(&mut self, cx: &Context) {
        let Some(name) = self.made.take() else { return };
        // Nobody can be in the workspace that is deleted.
        self.tool.unset("TF_WORKSPACE");
        let deleted = self.tool.tell(&["workspace", "delete", "-no-color", &name], SHORT_LIMIT, cx).await;
        self.tool.set("TF_WORKSPACE", &name);
        if let Err(failure) = deleted {
            let why = failure.record.reason;
            cx.feed.output(format!("the empty workspace {name} is left behind: {why}")).await;
        }
    }

    /// What a held lock says of its holder; the command that ends it is shown and never run.
    pub(super) fn locked(&self, heard: &Heard) -> Option<Failure> {
        let lock = heard.lock()?;
        let since = lock.created.split('.').next().unwrap_or(&lock.created).to_owned();
        Some(
            Failure::of(FailureClass::Locked, format!("the Terraform state is locked by {}", lock.who))
                .detail(format!("{} since {since} UTC, in {}", lock.operation, lock.path))
                .help(format!(
                    "wait for it; if nobody works there any more: {}",
                    self.typed(&["force-unlock", &lock.id])
                )),
        )
    }

    /// A command as a person would type it anywhere.
    pub(super) fn typed(&self, arguments: &[&str]) -> String {
        let mut words = vec![format!("TF_DATA_DIR={}", self.data.display())];
        words.extend(self.tool.variable("TF_WORKSPACE").map(|name| format!("TF_WORKSPACE={name}")));
        words.push("terraform".to_owned());
        words.push(format!("-chdir={}", self.tool.folder().display()));
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        show_argv(&words)
    }

    /// A plan file as JSON. Sensitive values are in it in the clear.
    pub(super) async fn show(&self, file: &str, cx: &Context) -> Result<Json, Failure> {
        let text = self.tool.tell(&["show", "-json", file], JSON_LIMIT, cx).await?;
        read(&text, "terraform show")
    }

    /// Applies a plan file; both outputs go to `stream`.
    pub(super) async fn apply(
        &self,
        file: &str,
        stream: &mut Stream<'_>,
        cx: &Context,
    ) -> Result<Ending, Failure> {
        let mut arguments = words(&["apply", "-json", "-input=false"]);
        arguments.extend(self.state.clone());
        arguments.push(file.to_owned());
        self.tool.run(&arguments, stream, cx).await
    }

    /// The outputs of the state; sensitive ones as secrets, which the masker knows from now on.
    pub(super) async fn outputs(&self, cx: &Context) -> Result<Outputs, Failure> {
        let mut arguments = words(&["output", "-json"]);
        arguments.extend(self.state.clone());
        let text = self.tool.tell(&arguments, SHORT_LIMIT, cx).await?;
        let outputs = super::outputs(&read(&text, "terraform output")?);
        cx.world.masker.learn(outputs.values().filter_map(|value| match value {
            Value::Secret(secret) => Some(secret),
            _ => None,
        }));
        Ok(outputs)
    }

    /// The state itself, sensitive values in the clear.
    pub(super) async fn state(&self, cx: &Context) -> Result<Json, Failure> {
        let text = self.tool.tell(&["state", "pull"], JSON_LIMIT, cx).await?;
        // There may be none yet.
        if text.trim().is_empty() { Ok(Json::Null) } else { read(&text, "terraform state pull") }
    }

    /// Local modules outside of the configuration's own folder, relative to the project root.
    pub(super) fn local_modules(&self) -> Result<Vec<String>, Failure> {
        let files = crate::world::files::Files::new(self.workplace.root());
        let file = self.data.join("modules/modules.json");
        if files.metadata(&file)?.is_none() {
            return Ok(Vec::new());
        }
        let json: Json = serde_json::from_slice(&files.read(&file)?)
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))?;
        let modules = json["Modules"].as_array().map(Vec::as_slice).unwrap_or_default();
        let (root, data) = (self.workplace.root(), &self.data);
        let places = modules.iter().filter_map(|module| module["Dir"].as_str()).map(|dir| {
            let path = without_dots(&self.tool.folder().join(dir));
            // Downloaded ones lie in the data folder.
            (!path.starts_with(data)).then_some(path)
        });
        let inside = places.flatten().filter_map(|path| {
            let relative = path.strip_prefix(root).ok()?.display().to_string();
            Some(if relative.is_empty() { ".".to_owned() } else { relative })
        });
        Ok(inside.collect())
    }

    /// `terraform 1.11.4`
    pub(super) fn facts(&self) -> String {
        self.tool.facts()
    }

    /// Whether the state is a file of this machine.
    pub(super) fn is_local(&self) -> bool {
        self.backend == "local"
    }

    /// Whether a state that could not be saved lies there.
    pub(super) fn has_unsaved_state(&self, cx: &Context) -> bool {
        self.refuse_unsaved_state(cx).is_err()
    }
}

/// flow's own data folder: one for each configuration, environment and backend. The sources of an
/// earlier apply have one each, since they may need other providers.
fn data_folder(step: &Terraform, workplace: &Workplace, cx: &Context) -> PathBuf {
    let target = cx.cloud.target();
    let of = json!([
        step.common.dir,
        target.environment.as_str(),
        target.endpoint,
        step.backend,
        workplace.sources()
    ]);
    let short: String = digest(of.to_string().as_bytes()).chars().take(8).collect();
    let name = format!("{}-{short}", target.environment);
    cx.world.files.root().join(".flow/terraform").join(name)
}

async fn turn(path: &Path, cx: &Context) -> Result<Lock, Failure> {
    loop {
        if let Some(lock) = Lock::try_take(path, Hold::Alone)? {
            return Ok(lock);
        }
        cx.cancel.unless_stopped(cx.world.clock.pause(TRY)).await?;
    }
}

/// The variables as the file that Terraform reads: numbers, booleans and lists stay what they are.
fn variables(vars: &BTreeMap<String, Value>, cx: &Context) -> String {
    let value = |value: &Value| match value {
        Value::Secret(secret) => {
            cx.world.masker.learn([secret]);
            json!(secret.expose())
        }
        other => other.to_json(),
    };
    let object: serde_json::Map<String, Json> =
        vars.iter().map(|(name, given)| (name.clone(), value(given))).collect();
    Json::Object(object).to_string()
}

fn read(text: &str, what: &str) -> Result<Json, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::new(format!("{what} printed no JSON: {error}")))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Lines without the frame that Terraform draws around messages.
fn tidy(lines: &[String]) -> Vec<String> {
    let bare = lines.iter().map(|line| line.trim_matches(['│', '╷', '╵', ' ']));
    bare.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
