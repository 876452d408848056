//! The systems under `flows/`, each deployed, changed, broken and taken back on the sandbox, with the
//! programs that it is deployed with in earnest.

mod flux;
mod happyrobot;
mod ohi;
mod partner;
mod runbooks;
mod snapshots;
mod spaceport;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::crash::Went;
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

/// Leaves a system as it is where somebody deployed it who does not use flow: no record of it anywhere.
#[track_caller]
fn forget(project: &Project) {
    std::fs::remove_dir_all(project.path(".flow")).unwrap();
}

/// Begins to make a stack that is not done before the test is.
#[track_caller]
fn somebody_makes(sandbox: &Sandbox, region: &str, stack: &str) {
    let template = r#"{"Resources": {
        "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "Never": {"Type": "AWS::CloudFormation::WaitCondition",
            "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "600", "Count": 1}}
    }}"#;
    let words = ["cloudformation", "create-stack", "--stack-name", stack, "--template-body", template];
    aws(sandbox, region, &words);
}

/// When a CLI that is told to deploy dies of SIGKILL.
#[derive(Clone, Copy, Debug)]
enum Dies {
    /// Before it did anything.
    Before,
    /// When all is done, and before it said so.
    After,
}

/// Puts a program in front of a CLI that lets it die; it lives again when the folder is dropped and
/// `PATH` set back.
fn in_front_of(program: &str, dies: Dies) -> (tempfile::TempDir, String) {
    let tools = std::env::var("SANDBOX_TOOLS").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let real = Path::new(&tools).join(program).display().to_string();
    let work = match dies {
        Dies::Before => "",
        Dies::After => "\"$real\" \"$@\" >&2; ",
    };
    let script = format!(
        "#!/bin/sh\nreal='{real}'\nif [ \"$1\" = deploy ]; then {work}kill -9 $$; fi\nexec \"$real\" \"$@\"\n"
    );
    let place = folder.path().join(program);
    std::fs::write(&place, script).unwrap();
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{tools}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    (folder, path)
}

/// Runs `flow` until it dies at a point whose name holds this text: the last such point of
/// a run that was the same.
#[track_caller]
fn dies_at(project: &Project, points: &[String], name: &str, arguments: &[&str]) {
    let at = points.iter().rposition(|point| point.contains(name));
    let at = at.unwrap_or_else(|| panic!("no point {name} among {points:#?}")) + 1;
    match project.dies_at(at, arguments) {
        Went::Died => {}
        Went::Ended(ran) => panic!("it did not die at point {at}: {ran:?}"),
    }
}

/// Goes on with the newest run.
#[track_caller]
fn resume(project: &Project) -> Ran {
    let newest = project.newest_run();
    project.run(&["resume", newest["id"].as_str().unwrap(), "--yes"])
}
