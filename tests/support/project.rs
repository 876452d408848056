//! A project in a folder of its own, and `flow` run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A project: files, variables, and the real binary.
pub(crate) struct Project {
    folder: TempDir,
    vars: BTreeMap<String, String>,
}

/// What a run of `flow` left.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Project {
    /// An empty project.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = std::env::var("PATH").unwrap();
        let vars = BTreeMap::from([
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), folder.path().display().to_string()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ]);
        Self { folder, vars }
    }

    /// With a file.
    pub(crate) fn file(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.write(path, text);
        self
    }

    /// With `flows/main.kdl`.
    pub(crate) fn flow(self, text: &str) -> Self {
        self.file("flows/main.kdl", text)
    }

    /// Writes `flows/main.kdl` now.
    pub(crate) fn flow_now(&self, text: &str) {
        self.write("flows/main.kdl", text);
    }

    /// With a variable in flow's environment.
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a variable in flow's environment now.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.vars.insert(name.to_owned(), value.to_owned());
    }

    /// Takes a variable out of flow's environment.
    pub(crate) fn unset(&mut self, name: &str) {
        self.vars.remove(name);
    }

    /// Writes a file now.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// What a file holds.
    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// Where a file lies.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Every file under a folder, by its path in the project.
    pub(crate) fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let shown = path.strip_prefix(self.root()).unwrap().display().to_string();
                    found.insert(shown, std::fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    /// How many bytes the logs of a step have, all runs together.
    pub(crate) fn logged(&self, step: &str) -> usize {
        let logs = self.files(".flow/store/runs");
        logs.iter()
            .filter(|(path, _)| path.ends_with(&format!("/logs/{step}.log")))
            .map(|(_, log)| log.len())
            .sum()
    }

    /// The records of the only run, or of the newest one.
    pub(crate) fn journal(&self) -> Vec<serde_json::Value> {
        let journals = self.files(".flow/store/runs");
        let newest = journals
            .iter()
            .filter(|(path, _)| path.ends_with("journal.jsonl"))
            .max_by_key(|(path, _)| self.path(path).metadata().unwrap().modified().unwrap());
        let text = newest.map(|(_, text)| String::from_utf8(text.clone()).unwrap()).unwrap_or_default();
        // What stands behind the last line end is being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Runs git in it, as somebody who exists on every machine.
    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) {
        let done = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@shop.example"])
            .args(arguments)
            .current_dir(self.root())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .unwrap();
        assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// `flow` with these arguments, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flow"));
        command.args(arguments).current_dir(self.root()).env_clear().envs(&self.vars).stdin(Stdio::null());
        command
    }

    /// Runs `flow` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Starts `flow` and goes on.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Checks the exit code; shows everything when it is another one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Checks that standard error says something.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "standard error does not say {text:?}:\n{}", self.err);
        self
    }

    /// Checks that standard output says something.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.out.contains(text), "standard output does not say {text:?}:\n{}", self.out);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.out, self.err))
    }
}

/// Copies a folder without what a run in the checkout itself may have built there.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if name == "dist" || name == "service" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
