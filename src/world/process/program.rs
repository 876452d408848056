//! What is to be started, and where it lies.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ProcessError;
use crate::model::secret::Secret;
use crate::world::files::Files;
use crate::world::host::Host;
use crate::world::scratch;

/// How long a program may clean up after a signal when its step says nothing.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// A program to run.
#[derive(Clone)]
pub struct Program {
    /// The program and its arguments. A program name with a slash is relative to `dir`, one without
    /// is looked for in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The folder it runs in, absolute.
    pub dir: PathBuf,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// What it reads; nothing without.
    pub stdin: Option<Secret>,
    /// After which it is ended.
    pub timeout: Option<Duration>,
    /// Between the signal and KILL.
    pub grace: Duration,
    /// The signal that asks it to end.
    pub stop: StopSignal,
    /// It talks with the person at flow's own terminal: it stays in flow's process group (another
    /// one may not read the terminal), and its output is not seen by flow.
    pub tty: bool,
    /// Who ends it when flow is killed.
    pub leash: Leash,
    /// Whether it may be started at all: see [`Host::trusts_the_checkout`].
    trusted: bool,
}

/// Who ends a program when flow is killed and cannot do it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leash {
    /// Nobody: it ends by itself soon.
    #[default]
    None,
    /// Its guard, at once; flow itself, which is this program.
    Guard(PathBuf),
    /// The next run, which finds a note in this folder.
    Note(PathBuf),
}

/// The signal that asks a program to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT, for programs that clean up only after that one.
    Int,
}

impl Program {
    /// A program without input, timeout and terminal. What it is comes from the checkout, so the host
    /// says whether it may be started.
    pub fn new<T: Into<String>>(
        argv: impl IntoIterator<Item = T>,
        dir: impl Into<PathBuf>,
        env: BTreeMap<String, String>,
        host: &Host,
    ) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            dir: dir.into(),
            env,
            stdin: None,
            timeout: None,
            grace: DEFAULT_GRACE,
            stop: StopSignal::default(),
            tty: false,
            leash: Leash::None,
            trusted: host.trusts_the_checkout(),
        }
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// With a guard, if this flow can be one.
    #[must_use]
    pub fn guarded(mut self, host: &Host) -> Self {
        self.leash = host.guard().map_or(Leash::None, |flow| Leash::Guard(flow.to_owned()));
        self
    }

    /// With a note for the next run.
    #[must_use]
    pub fn noted(mut self, files: &Files) -> Self {
        self.leash = Leash::Note(scratch::folder(files));
        self
    }

    pub(super) fn name(&self) -> String {
        self.argv.first().cloned().unwrap_or_default()
    }
}

/// Values of variables and the input may be secrets: not shown.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("argv", &self.argv)
            .field("dir", &self.dir)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Variables of flow's own environment that every program gets.
const PASSED_ON: [&str; 18] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "TMPDIR",
    "TERM",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];

/// Further ones for certificate authorities, which tools name as they like.
const CERTIFICATES: [&str; 5] =
    ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"];

/// What every program gets of flow's own environment, besides what its step declares.
#[must_use]
pub fn base_env(host: &Host) -> BTreeMap<String, String> {
    let wanted = |name: &str| {
        PASSED_ON.contains(&name)
            || CERTIFICATES.contains(&name)
            || name.starts_with("LC_")
            || name.starts_with("XDG_")
    };
    host.vars().filter(|(name, _)| wanted(name)).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// An argv as a person would type it.
#[must_use]
pub fn show_argv<T: AsRef<str>>(argv: &[T]) -> String {
    argv.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-+=:,./@%^~#".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with(['~', '#']) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The file behind a program's name.
pub(super) fn find(program: &Program) -> Result<PathBuf, ProcessError> {
    let name = program.argv.first().filter(|name| !name.is_empty()).ok_or(ProcessError::Empty)?;
    if !program.dir.is_dir() {
        return Err(ProcessError::NoDir { path: program.dir.clone() });
    }
    if name.contains('/') {
        let path = program.dir.join(name);
        return match usable(&path) {
            Usable::Yes => Ok(path),
            Usable::NotExecutable => Err(ProcessError::NotExecutable { path }),
            Usable::No => Err(ProcessError::NoFile { path }),
        };
    }
    let searched = program.env.get("PATH").cloned().unwrap_or_default();
    let mut refused = None;
    for folder in searched.split(':').filter(|folder| !folder.is_empty()) {
        let path = program.dir.join(folder).join(name);
        match usable(&path) {
            Usable::Yes => return Ok(path),
            Usable::NotExecutable => refused = refused.or(Some(path)),
            Usable::No => {}
        }
    }
    if let Some(path) = refused {
        return Err(ProcessError::NotExecutable { path });
    }
    let nearest = program.dir.join(name).is_file().then(|| format!("./{name}"));
    Err(ProcessError::NotFound { program: name.clone(), searched, nearest })
}

enum Usable {
    Yes,
    NotExecutable,
    No,
}

fn usable(path: &Path) -> Usable {
    match path.metadata() {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => Usable::Yes,
        Ok(_) => Usable::NotExecutable,
        Err(_) => Usable::No,
    }
}
