//! What the kinds that start programs share: the environment a step's program
//! gets, and what the end of a program means for the step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Attributes, Context, Failure, FailureClass};
use crate::model::names::StepId;
use crate::model::secret::Secret;
use crate::model::units::show_duration;
use crate::model::value::{Field, Value};
use crate::world::aws::NoCredentials;
use crate::world::process::{DEFAULT_GRACE, Ending, ProcessError, Program, base_env, capture, show_argv};
use crate::world::scratch::Scratch;

/// No real secret key or session token is shorter.
const REAL_KEY: usize = 16;

/// The environment of a step's program, and its secret files.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// All variables.
    pub env: BTreeMap<String, String>,
    /// Removed when dropped: keep it as long as the program runs.
    pub scratch: Scratch,
}

impl Surroundings {
    /// From what the step declares. AWS credentials are made known to the masker before anybody
    /// can print them.
    pub(super) async fn new(attributes: &Attributes, cx: &Context) -> Result<Self, Failure> {
        let mut scratch = Scratch::new(&cx.world.files);
        let host = &cx.world.host;
        let mut env = base_env(host);
        if makes_files(attributes) {
            // What a cached step prints and writes must not depend on where it ran.
            env.retain(|name, _| !name.starts_with("LC_"));
            env.insert("LANG".to_owned(), "C.UTF-8".to_owned());
            env.insert("TZ".to_owned(), "UTC".to_owned());
        }
        for name in &attributes.inherit {
            if let Some(value) = host.var(name) {
                env.insert(name.clone(), value.to_owned());
            }
        }
        if attributes.aws {
            cx.cloud.verify().await?;
            let access = cx.cloud.program_access().await?;
            // Keys of AWS have forty characters. Shorter ones belong to stand-ins that take anything,
            // `test` for one, and would make the output unreadable.
            let real = access.secret.iter().map(|(_, secret)| secret);
            cx.world.masker.learn(real.filter(|secret| secret.expose().len() >= REAL_KEY));
            env.extend(access.open.into_iter().map(|(name, value)| (name.to_owned(), value)));
            env.extend(
                access.secret.iter().map(|(name, secret)| ((*name).to_owned(), secret.expose().to_owned())),
            );
        }
        for (name, secret) in &attributes.files {
            cx.world.masker.learn([secret]);
            let path = scratch.write("secret", secret.expose().as_bytes())?;
            env.insert(name.clone(), path.display().to_string());
        }
        for (name, field) in &attributes.env {
            match field {
                Field::Known(value) => drop(env.insert(name.clone(), plain(cx, value))),
                Field::After(step) => return Err(not_yet(step)),
            }
        }
        Ok(Self { env, scratch })
    }
}

/// The text of a variable. Lists are joined by commas, secrets made known to the masker.
fn plain(cx: &Context, value: &Value) -> String {
    match value {
        Value::Secret(secret) => {
            cx.world.masker.learn([secret]);
            secret.expose().to_owned()
        }
        Value::List(items) => items.iter().map(|item| plain(cx, item)).collect::<Vec<_>>().join(","),
        other => other.as_text().unwrap_or_default(),
    }
}

/// A value that a program reads, as a secret whatever it was.
pub(super) fn as_secret(cx: &Context, value: &Value) -> Secret {
    Secret::new(plain(cx, value))
}

/// Whether every variable is known by now.
pub(super) fn unknown_env(attributes: &Attributes) -> Option<&StepId> {
    attributes.env.iter().find_map(|(_, field)| match field {
        Field::After(step) => Some(step),
        Field::Known(_) => None,
    })
}

/// Whether the step only makes files in the workspace, as far as its attributes tell.
pub(super) fn makes_files(attributes: &Attributes) -> bool {
    attributes.inputs.is_some() && !attributes.aws && attributes.probe.is_none() && attributes.undo.is_none()
}

/// A program of a step, with the end that it gets when flow is killed: what deploys is ended at
/// once by its guard, what only makes files by the next run.
pub(super) fn program<T: Into<String>>(
    argv: impl IntoIterator<Item = T>,
    dir: impl Into<PathBuf>,
    env: BTreeMap<String, String>,
    attributes: &Attributes,
    cx: &Context,
) -> Program {
    let argv = argv.into_iter().map(Into::into);
    let mut program = match &cx.trace {
        Some(trace) => Program::new(tracer(trace).chain(argv), dir, env, &cx.world.host),
        None => Program::new(argv, dir, env, &cx.world.host),
    };
    program.timeout = attributes.timeout;
    program.grace = attributes.grace.unwrap_or(DEFAULT_GRACE);
    // In protected environments one that sees secrets counts as deploying too.
    if makes_files(attributes) && !cx.cloud.target().protected {
        program.noted(&cx.world.files)
    } else {
        program.guarded(&cx.world.host)
    }
}

/// Whether a step's probe says that its effect is there.
pub(super) async fn is_there(
    probe: &[String],
    dir: Option<&str>,
    attributes: &Attributes,
    cx: &Context,
) -> Result<bool, Failure> {
    let surroundings = Surroundings::new(attributes, cx).await?;
    let folder = cx.world.files.locate(dir.unwrap_or("."))?;
    let program = program(probe, folder, surroundings.env.clone(), attributes, cx);
    let said = capture(&program, &cx.cancel, 0).await?;
    match said.ending {
        Ending::Exited(code) => Ok(code == 0),
        ending => harmless(judge(ending, said.stderr))
            .map(|()| false)
            .map_err(|failure| failure.detail(format!("this was its probe: {}", show_argv(probe)))),
    }
}

/// The words in front of a program whose use of files is written down.
fn tracer(trace: &Path) -> impl Iterator<Item = String> {
    const CALLS: &str = "trace=open,openat,openat2,creat,execve,execveat,rename,renameat,renameat2,symlink,symlinkat,link,linkat";
    let words = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", "signal=none", "-e", CALLS, "-o"];
    let place = [trace.display().to_string(), "--".to_owned()];
    words.into_iter().map(str::to_owned).chain(place)
}

/// Something is known only after another step.
pub(super) fn not_yet(step: &StepId) -> Failure {
    Failure::of(FailureClass::NotYet(step.clone()), format!("known after {step}"))
}

/// What an end other than exit 0 means; `last` are the last lines that the program wrote.
pub(super) fn judge(ending: Ending, last: Vec<String>) -> Result<(), Failure> {
    let failure = match ending {
        Ending::Exited(0) => return Ok(()),
        Ending::Exited(code) => Failure::new(format!("exited with {code}")),
        Ending::Signalled(signal) => Failure::new(format!("ended by signal {}", signal_name(signal))),
        Ending::TimedOut(after) => {
            Failure::new(format!("not done after {}, and stopped", show_duration(after)))
                .help("give it more time with timeout, or find out what it waits for")
        }
        Ending::Stopped => Failure::of(FailureClass::Interrupted, "interrupted"),
        Ending::Killed => Failure::of(FailureClass::Unknown, "killed before it could end"),
    };
    Err(failure.details(last))
}

/// The same for programs that change nothing outside: killed ones leave no question open.
pub(super) fn harmless(judged: Result<(), Failure>) -> Result<(), Failure> {
    judged.map_err(|mut failure| {
        if failure.class == FailureClass::Unknown {
            failure.class = FailureClass::Interrupted;
        }
        failure
    })
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        8 => "FPE",
        9 => "KILL (out of memory, or somebody killed it)",
        11 => "SEGV",
        13 => "PIPE",
        15 => "TERM",
        other => return other.to_string(),
    };
    name.to_owned()
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        let class = match error {
            // Somebody who trusts it can ask.
            ProcessError::Untrusted { .. } => FailureClass::Passing,
            _ => FailureClass::Failed,
        };
        let failure = Self::of(class, error.to_string());
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

impl From<NoCredentials> for Failure {
    fn from(error: NoCredentials) -> Self {
        Self::new(error.to_string())
            .help("set AWS_PROFILE or AWS_ACCESS_KEY_ID, or sign in with aws sso login")
    }
}
