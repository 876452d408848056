//! One of the systems under `flows/`, in a checkout of its own, in front of the sandbox.

use std::path::Path;

use super::project::{Project, copy};
use super::sandbox::Sandbox;

/// A system's flows and its fixtures, as they would lie in its own repository, committed. The CLIs
/// that `scripts/sandbox tools` installed come first in PATH.
pub(crate) fn system(name: &str, sandbox: &Sandbox) -> Project {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut project = Project::new();
    for (name, value) in sandbox.variables() {
        project = project.var(name, value);
    }
    if let Ok(tools) = std::env::var("SANDBOX_TOOLS") {
        project = project.var("PATH", &format!("{tools}:{}", std::env::var("PATH").unwrap()));
    }
    copy(&repository.join("tests/fixtures").join(name), project.root());
    copy(&repository.join("flows").join(name), &project.path("flows"));
    // In this repository a system's fixtures lie elsewhere; in its own there is nothing to say.
    let settings = project.read("flows/project.kdl");
    let kept: Vec<&str> = settings.lines().filter(|line| !line.trim_start().starts_with("root ")).collect();
    project.write("flows/project.kdl", kept.join("\n").replace("127.0.0.1:4566", sandbox.address()));
    project.write(".gitignore", ".flow/\n");
    project.git(&["init", "--quiet", "--initial-branch", "main"]);
    project.git(&["add", "--all"]);
    project.git(&["commit", "--quiet", "-m", name]);
    project
}
