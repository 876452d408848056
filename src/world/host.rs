//! flow's own process: its environment variables and who runs it.
//!
//! Read once at the start. Nothing sets variables, so there is nothing to race with.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The variables flow was started with. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    vars: Arc<BTreeMap<String, String>>,
    guard: Option<PathBuf>,
    distrusts: bool,
    /// Which programs are on `PATH`, of those that were asked for.
    programs: Arc<Mutex<BTreeMap<String, bool>>>,
}

impl Host {
    /// The variables of this process; names and values that are not UTF-8 are left out.
    #[must_use]
    pub fn current() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::with(vars)
    }

    /// A host with these variables, for tests.
    #[must_use]
    pub fn with(vars: BTreeMap<String, String>) -> Self {
        Self { vars: Arc::new(vars), guard: None, distrusts: false, programs: Arc::default() }
    }

    /// This process is `flow` itself, not a test of it: programs can be started under its guard.
    #[must_use]
    pub fn is_flow(mut self) -> Self {
        // The very file that runs, also when its name was given to a newer one meanwhile.
        let itself = PathBuf::from("/proc/self/exe");
        self.guard = if itself.exists() { Some(itself) } else { std::env::current_exe().ok() };
        self
    }

    /// The checkout may be a stranger's: nothing that it names is started, and no secret is read.
    #[must_use]
    pub fn distrusting(mut self) -> Self {
        self.distrusts = true;
        self
    }

    /// Whether what the checkout names may be started, and given secrets.
    #[must_use]
    pub fn trusts_the_checkout(&self) -> bool {
        !self.distrusts
    }

    /// What to start as a guard.
    #[must_use]
    pub fn guard(&self) -> Option<&Path> {
        self.guard.as_deref()
    }

    /// One variable.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// All variables.
    pub fn vars(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vars.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether a program of this name is in a folder of `PATH`. The file system is asked once for
    /// each name; without a `PATH`, or with folders in it that depend on where a program is started,
    /// nothing is said against it.
    #[must_use]
    pub fn has_program(&self, name: &str) -> bool {
        let Some(searched) = self.var("PATH") else { return true };
        let is_there = |folder: &str| {
            let folder = Path::new(folder);
            folder.is_relative() || is_executable(&folder.join(name))
        };
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = programs.get(name) {
            return *known;
        }
        let found = searched.split(':').filter(|folder| !folder.is_empty()).any(is_there);
        programs.insert(name.to_owned(), found);
        found
    }

    /// Whether this is a CI job.
    #[must_use]
    pub fn is_ci(&self) -> bool {
        self.var("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
    }

    /// `USER@HOST`, and the CI job's link where one is known.
    #[must_use]
    pub fn operator(&self) -> String {
        let named = self.var("USER").or_else(|| self.var("LOGNAME")).filter(|name| !name.is_empty());
        let user = named.map_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()), str::to_owned);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let job =
            self.var("CI_JOB_URL").or_else(|| self.var("BUILDKITE_BUILD_URL")).map(str::to_owned).or_else(
                || {
                    let part = |name| self.var(name);
                    Some(format!(
                        "{}/{}/actions/runs/{}",
                        part("GITHUB_SERVER_URL")?,
                        part("GITHUB_REPOSITORY")?,
                        part("GITHUB_RUN_ID")?
                    ))
                },
            );
        job.map_or_else(|| format!("{user}@{host}"), |link| format!("{user}@{host} {link}"))
    }

    /// The folder flow was started in.
    pub fn current_dir(&self) -> std::io::Result<PathBuf> {
        std::env::current_dir()
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Closes flow's memory and variables to other processes of the same user, its own programs
/// among them. For the start of commands that load secrets.
pub fn close_to_others() {
    // Where the system does not know this, secrets are as safe as in any other program.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// flow's own process id.
#[must_use]
pub fn pid() -> u32 {
    std::process::id()
}

/// Ends flow at once: whoever sends a third signal does not want to wait.
#[expect(clippy::exit, reason = "main, which returns an exit code otherwise, is not waited for")]
pub fn leave_now() -> ! {
    std::process::exit(6)
}

/// Values may be secrets; only names are shown.
impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Host").field(&self.vars.keys().collect::<Vec<_>>()).finish()
    }
}
