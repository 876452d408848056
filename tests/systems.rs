//! The systems under `flows/`, each deployed, changed, broken and taken back on the sandbox, with the
//! programs that it is deployed with in earnest.

mod flux;
mod happyrobot;
mod ohi;
mod partner;
mod runbooks;
mod spaceport;

use std::path::Path;
use std::process::Command;

use crate::support::project::{Project, Ran};
use crate::support::sandbox::Sandbox;

/// Whether a program is there that `scripts/sandbox tools` installs; says so where it is not.
fn has(program: &str) -> bool {
    let there = std::env::var("SANDBOX_TOOLS").is_ok_and(|tools| Path::new(&tools).join(program).exists());
    if !there {
        eprintln!("skipped: needs {program} (scripts/sandbox tools)");
    }
    there
}

/// The aws-cli as somebody else would use it, in a region; what it prints, without the line's end.
#[track_caller]
fn aws(sandbox: &Sandbox, region: &str, arguments: &[&str]) -> String {
    aws_of(sandbox, "test", region, arguments)
}

/// The same with the keys of another account.
#[track_caller]
fn aws_of(sandbox: &Sandbox, key: &str, region: &str, arguments: &[&str]) -> String {
    let output = Command::new(Path::new(&std::env::var("SANDBOX_BIN").unwrap()).join("aws"))
        .args(["--endpoint-url", &sandbox.endpoint, "--region", region, "--output", "text"])
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", key)
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .output()
        .unwrap();
    assert!(output.status.success(), "aws {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Changes a file of a system, and commits that.
#[track_caller]
fn edit(project: &Project, path: &str, from: &str, to: &str) {
    let text = project.read(path);
    assert!(text.contains(from), "{path} has no {from:?}");
    project.write(path, text.replace(from, to));
    project.git(&["commit", "--quiet", "--all", "-m", to]);
}

/// `flow COMMAND deploy --env sandbox …`
fn deploy(project: &Project, command: &str, more: &[&str]) -> Ran {
    project.run(&[&[command, "deploy", "--env", "sandbox"], more].concat())
}

/// That a run found everything as it should be, whether or not something was looked at meanwhile.
#[track_caller]
fn nothing_changed(ran: &Ran) {
    let says = ran.err.contains("up to date") || ran.err.contains("nothing changed");
    assert!(says, "something changed:\n{}", ran.err);
}
