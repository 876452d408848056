//! `pulumi-up` with the real CLI, its host for YAML and a provider of its own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::crash::{self, Went};
use crate::support::project::{Project, Ran};
use crate::support::sandbox::Sandbox;
use crate::support::wait::kill;

/// A project with a Pulumi program of a few things, whose state lies in files beside the checkout.
struct Stack {
    project: Project,
    /// Not in the checkout: the state, and what the provider did.
    beside: tempfile::TempDir,
}

const ENVIRONMENT: &str = r#"
environment "sandbox" {
    account "000000000000"
    region "us-east-1"
    endpoint "ENDPOINT"
    secret "passphrase" from="env:PASSPHRASE"
    secret "token" from="env:TOKEN"
}
"#;

/// The folder of the CLI; `None`, said in a line, on a machine that has none.
fn tools() -> Option<String> {
    let tools = std::env::var("SANDBOX_TOOLS").unwrap_or_default();
    if !Path::new(&tools).join("pulumi").exists() {
        println!("skipped: the Pulumi CLI needs go, and scripts/sandbox tools");
        return None;
    }
    Some(tools)
}

impl Stack {
    /// With settings besides `dir`, `stack` and `backend`, and resources of the program.
    fn new(settings: &str, resources: &str) -> Option<Self> {
        let tools = tools()?;
        let sandbox = Sandbox::find();
        let beside = tempfile::tempdir().unwrap();
        let mut project = Project::new();
        for (name, value) in sandbox.variables() {
            project = project.var(name, value);
        }
        let path = format!("{tools}:{}", std::env::var("PATH").unwrap());
        let project = project
            .var("PATH", &path)
            .var("PASSPHRASE", "eine lange Losung")
            .var("TOKEN", "geheim-4711")
            .file("flows/project.kdl", ENVIRONMENT.replace("ENDPOINT", &sandbox.endpoint))
            .file(".gitignore", ".flow/\nmade.txt\nseen.json\nPulumi.*.yaml\n");
        let stack = Self { project, beside };
        stack.settings(settings);
        stack.program(resources);
        stack.project.git(&["init", "--quiet", "--initial-branch", "main"]);
        stack.commit();
        Some(stack)
    }

    fn backend(&self) -> String {
        let folder = self.beside.path().join("state");
        std::fs::create_dir_all(&folder).unwrap();
        format!("file://{}", folder.display())
    }

    fn settings(&self, settings: &str) {
        self.project.flow_now(&format!(
            r#"flow "deploy" {{
    pulumi-up "stack" {{
        dir "infrastructure"
        stack "dev"
        backend "{}"
        create-stack #true
        env PULUMI_CONFIG_PASSPHRASE="${{secret.passphrase}}"
        {settings}
    }}
}}
"#,
            self.backend()
        ));
    }

    /// Writes the program; `LOG` in it is the file that tells what the provider did.
    fn program(&self, resources: &str) {
        let text = format!(
            "name: shop\nruntime: yaml\nconfig:\n  size: {{type: string, default: small}}\n  token: {{type: \
             string, default: none, secret: true}}\nresources:\n{resources}"
        );
        let log = self.beside.path().join("log");
        self.project.write("infrastructure/Pulumi.yaml", text.replace("LOG", &log.display().to_string()));
    }

    fn commit(&self) {
        self.project.git(&["add", "--all"]);
        self.project.git(&["commit", "--quiet", "--allow-empty", "-m", "a change"]);
    }

    fn run(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["run", "deploy", "--env", "sandbox"], more].concat())
    }

    fn plan(&self) -> Value {
        let ran = self.project.run(&["plan", "deploy", "--env", "sandbox", "--json"]).exits(0);
        ran.json()["steps"][0].clone()
    }

    /// What the provider did, a line each.
    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.beside.path().join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Until the provider wrote a line: previews come first, and the machine may be busy.
    fn waits_for(&self, line: &str) {
        let begun = Instant::now();
        while !self.log().iter().any(|said| said == line) {
            assert!(begun.elapsed() < Duration::from_mins(3), "{line}: {:?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The CLI itself, as somebody would use it.
    fn pulumi(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(&tools().unwrap()).join("pulumi"));
        let home = self.beside.path().join("home");
        let path = format!("{}:{}", tools().unwrap(), std::env::var("PATH").unwrap());
        command
            .args(arguments)
            .args(["--stack", "dev"])
            .current_dir(self.project.path("infrastructure"))
            .env("PATH", path)
            .env("PULUMI_HOME", home)
            .env("PULUMI_BACKEND_URL", self.backend())
            .env("PULUMI_CONFIG_PASSPHRASE", "eine lange Losung")
            .env("PULUMI_SKIP_UPDATE_CHECK", "1");
        command
    }

    /// What the checkout has that is not committed.
    fn dirt(&self) -> String {
        let output = Command::new("git")
            .args(["status", "--short"])
            .current_dir(self.project.root())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn thing(name: &str, more: &str) -> String {
    format!("  {name}:\n    type: sandbox:index:Thing\n    properties: {{name: {name}, log: LOG{more}}}\n")
}

#[test]
fn a_stack_is_made_is_up_to_date_and_is_changed() {
    let settings = r#"config size="large" token="${secret.token}""#;
    let outputs = "outputs:\n  size: ${size}\n  token: ${token}\n  number: 3\n";
    let Some(stack) = Stack::new(settings, &(thing("a", ", value: \"${size}\"") + &thing("b", "") + outputs))
    else {
        return;
    };
    let plan = stack.plan();
    assert_eq!((&plan["action"], &plan["summary"]), (&"create".into(), &"2 new".into()), "{plan:#}");
    assert_eq!(plan["changes"][0]["what"], "index:Thing::a");
    assert_eq!(stack.log(), [""; 0], "a plan makes nothing");
    assert!(!stack.beside.path().join("state/.pulumi/stacks").exists(), "not even the stack");

    stack.run(&[]).exits(0).says("2 resources");
    let mut done = stack.log();
    done.sort();
    assert_eq!(done, ["begin create a", "begin create b", "end create a", "end create b"]);
    assert_eq!(stack.dirt(), "", "the checkout stays as it was");
    assert!(!stack.project.path("infrastructure/Pulumi.dev.yaml").exists(), "nor what git ignores");
    for (path, bytes) in stack.project.files(".flow") {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("geheim-4711"), "{path} holds a secret");
    }

    let plan = stack.plan();
    assert_eq!(
        (&plan["action"], &plan["summary"]),
        (&"up-to-date".into(), &"2 resources as they should be".into()),
        "{plan:#}"
    );

    stack.program(&(thing("a", ", value: other") + &thing("c", "") + outputs));
    stack.commit();
    let plan = stack.plan();
    assert_eq!(plan["summary"], "1 new, 1 changed, 1 deleted", "{plan:#}");
    let shown = plan["changes"].to_string();
    assert!(shown.contains("value") && !shown.contains("other"), "names and no values: {shown}");
    stack.run(&[]).exits(0);
    assert!(stack.log().contains(&"end delete b".to_owned()), "{:?}", stack.log());

    // Somebody is asked before something is taken away on the way back.
    let back = ["rollback", "deploy", "--env", "sandbox"];
    stack.project.run(&back).exits(3).says("rollback/gate");
    assert!(!stack.log().contains(&"end delete c".to_owned()), "{:?}", stack.log());
    stack.project.run(&[&back[..], &["--yes"]].concat()).exits(0);
    assert!(stack.log().contains(&"end delete c".to_owned()), "{:?}", stack.log());
}

#[test]
fn a_program_that_changed_after_the_approval_is_refused() {
    let Some(stack) = Stack::new("", &thing("a", "")) else { return };
    let file = stack.beside.path().join("plan.json");
    let file = file.to_str().unwrap();
    stack.project.run(&["plan", "deploy", "--env", "sandbox", "--out", file]).exits(0);
    stack.program(&thing("a", ", value: other"));
    stack.run(&["--plan", file]).exits(5);
    assert_eq!(stack.log(), [""; 0]);
}

#[test]
fn a_program_that_does_not_say_the_same_twice_is_refused_by_name() {
    let settings = r#"prepare { command "sh" "-c" "date +%N > made.txt"; }"#;
    let random = ", value: {fn::readFile: ./made.txt}";
    let Some(stack) = Stack::new(settings, &(thing("a", random) + &thing("b", ""))) else { return };
    stack.run(&[]).exits(5).says("index:Thing::a");
    assert_eq!(stack.log(), [""; 0]);
}

#[test]
fn a_database_is_never_replaced_unless_it_may_be() {
    let database = |name: &str| {
        format!("  orders:\n    type: sandbox:rds:Instance\n    properties: {{name: {name}, log: LOG}}\n")
    };
    let Some(stack) = Stack::new("", &database("one")) else { return };
    stack.run(&[]).exits(0);
    stack.program(&database("two"));
    stack.run(&[]).exits(5).says("rds:Instance::orders").says("protect \"none\"");
    stack.settings(r#"protect "none""#);
    let plan = stack.plan();
    assert_eq!(plan["action"], "replace", "{plan:#}");
    stack.run(&[]).exits(0);
    assert!(stack.log().contains(&"end delete one".to_owned()), "{:?}", stack.log());
    // What is told to go stays too, where it holds data.
    stack.settings("destroy #true");
    stack.run(&[]).exits(5).says("rds:Instance::orders");
}

#[test]
fn a_policy_reads_the_preview_without_secrets_and_refuses_it() {
    let settings = r#"config token="${secret.token}"
        policy { command "sh" "-c" "cat > seen.json; ! grep -q forbidden seen.json"; }"#;
    let Some(stack) = Stack::new(settings, &thing("a", ", value: \"${token}\"")) else { return };
    stack.run(&[]).exits(0);
    let seen = stack.project.read("infrastructure/seen.json");
    assert!(seen.contains("\"steps\"") && !seen.contains("geheim"), "{seen}");
    stack.program(&thing("a", ", value: forbidden"));
    stack.run(&[]).exits(5).says("the policy").says("forbids");
}

#[test]
fn a_held_lock_ends_with_4_and_says_what_to_type() {
    let Some(stack) = Stack::new("", &thing("a", "")) else { return };
    stack.run(&[]).exits(0);
    // As the CLI writes it, and leaves it when it is killed.
    let lock = stack.beside.path().join("state/.pulumi/locks/organization/shop/dev/held.json");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = r#"{"pid":7,"username":"ada","hostname":"desk","timestamp":"2026-01-01T00:00:00Z"}"#;
    std::fs::write(&lock, held).unwrap();
    stack.program(&thing("a", ", value: other"));
    stack.run(&[]).exits(4).says("created by ada@desk (pid 7)").says("pulumi cancel --stack dev");
    assert!(lock.exists(), "flow breaks no lock");
    std::fs::remove_file(&lock).unwrap();
    stack.run(&[]).exits(0);
}

#[test]
fn each_mistake_has_its_words_and_its_exit_code() {
    let Some(mut stack) = Stack::new("", &thing("a", "")) else { return };
    stack.run(&[]).exits(0);
    let flow = stack.project.read("flows/main.kdl");

    stack.project.flow_now(&flow.replace("create-stack #true", "").replace("\"dev\"", "\"dve\""));
    stack.run(&[]).exits(1).says("there is no stack \"dve\"").says("did you mean \"dev\"?");

    stack.project.flow_now(&flow);
    let program = stack.project.read("infrastructure/Pulumi.yaml");
    stack.project.write(
        "infrastructure/Pulumi.yaml",
        program.replace("config:\n", "config:\n  zone: {type: string}\n"),
    );
    stack.run(&[]).exits(1).says("zone").says("config {");

    stack.project.write("infrastructure/Pulumi.yaml", format!("{program}  b: [\n"));
    stack.run(&[]).exits(1).says("pulumi failed on the stack dev");

    stack.program(&thing("broken", ", fail: true"));
    stack.run(&[]).exits(1).says("told to fail");

    // The state holds a secret by now: without the passphrase it cannot be read.
    stack.program(&thing("a", ", value: \"${token}\""));
    stack.settings("config token=\"${secret.token}\"");
    stack.run(&[]).exits(0);
    stack.project.set("PASSPHRASE", "another one");
    stack.run(&[]).exits(1).says("passphrase");
    stack.project.set("PASSPHRASE", "eine lange Losung");

    stack.settings("version \">=99\"");
    stack.run(&[]).exits(2).says("pulumi").says(">=99");
    stack.project.set("PATH", "/usr/bin:/bin");
    stack.run(&[]).exits(2).says("pulumi is not installed");
}

#[test]
fn a_release_is_gone_back_to_by_its_kept_sources() {
    let Some(stack) = Stack::new("", &thing("a", ", value: one")) else { return };
    stack.run(&[]).exits(0);
    stack.program(&thing("a", ", value: two"));
    stack.commit();
    stack.run(&[]).exits(0);
    let state = || {
        let output = stack.pulumi(&["stack", "export"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["deployment"]["resources"].to_string()
    };
    assert!(state().contains("\"value\":\"two\""));
    stack.project.run(&["rollback", "deploy", "--env", "sandbox", "--yes"]).exits(0);
    assert!(state().contains("\"value\":\"one\""), "{}", state());
    assert_eq!(stack.dirt(), "");
}

/// The places where a run that makes one thing may die: before, in the middle of and after `pulumi up`.
#[test]
fn a_run_that_dies_around_an_apply_goes_on_or_says_what_to_look_at() {
    let Some(stack) = Stack::new("", &thing("first", "")) else { return };
    stack.run(&[]).exits(0);
    let arguments = ["run", "deploy", "--env", "sandbox"];
    let list = stack.beside.path().join("points");
    stack.program(&(thing("first", "") + &thing("second", "")));
    stack.project.lists(&list, &arguments).exits(0);
    let points = crash::read(&list);
    let at = |name: &str| points.iter().rposition(|point| point == name).unwrap() + 1;
    for (number, point) in [("third", at("program.start.before")), ("fourth", at("program.end"))] {
        stack.program(
            &(thing("first", "")
                + &thing("second", "")
                + &thing("third", "")
                + &match number {
                    "third" => String::new(),
                    _ => thing("fourth", ""),
                }),
        );
        match stack.project.dies_at(point, &arguments) {
            Went::Died => {
                let run = stack.project.newest_run()["id"].as_str().unwrap().to_owned();
                let mut ran = stack.project.run(&["resume", &run]);
                if ran.code == Some(4) {
                    // A CLI that was killed leaves its lock, and flow breaks none.
                    assert!(stack.pulumi(&["cancel", "--yes"]).status().unwrap().success());
                    ran = stack.project.run(&["run", "deploy", "--env", "sandbox", "--yes"]);
                }
                ran.exits(0);
            }
            Went::Ended(ran) => drop(ran.exits(0)),
        }
        let made = stack.log().iter().filter(|line| **line == format!("end create {number}")).count();
        assert_eq!(made, 1, "{number} at {point}");
    }
}

#[test]
fn a_run_killed_while_something_is_created_ends_with_7_and_makes_nothing_twice() {
    let Some(stack) = Stack::new("", &thing("a", "")) else { return };
    stack.run(&[]).exits(0);
    stack.program(&(thing("a", "") + &thing("slow", ", delay: 10")));
    let flow = stack.project.start(&["run", "deploy", "--env", "sandbox"]);
    stack.waits_for("begin create slow");
    kill(flow);
    let run = stack.project.newest_run()["id"].as_str().unwrap().to_owned();
    for arguments in [vec!["resume", &run], vec!["run", "deploy", "--env", "sandbox"]] {
        stack
            .project
            .run(&arguments)
            .exits(7)
            .says("urn:pulumi:dev::shop::sandbox:index:Thing::slow")
            .says("--clear-pending-creates");
    }
    let begun = stack.log().iter().filter(|line| *line == "begin create slow").count();
    assert_eq!(begun, 1, "{:?}", stack.log());

    assert!(stack.pulumi(&["cancel", "--yes"]).output().unwrap().status.success());
    let cleared = stack.pulumi(&["refresh", "--yes", "--clear-pending-creates"]).output().unwrap();
    assert!(cleared.status.success(), "{cleared:?}");
    stack.project.run(&["resume", &run]).exits(0);
    assert!(stack.log().contains(&"end create slow".to_owned()));
}
