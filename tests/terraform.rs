//! `terraform-apply` with the real program: plan, apply, what it refuses, and what is left when it
//! dies.

use crate::support::project::{Project, Ran};
use crate::support::sandbox::{Alone, Sandbox};
use crate::support::wait::{kill, until};

/// A configuration of two resources; what is slow waits for the file `go` of the project.
const MAIN: &str = r#"
variable "size" {
  default = 1
}
variable "password" {
  default   = "none"
  sensitive = true
}
resource "terraform_data" "table" {
  input = var.size
}
resource "terraform_data" "login" {
  input = var.password
}
output "size" {
  value = terraform_data.table.output
}
output "password" {
  value     = var.password
  sensitive = true
}
"#;

/// What is made when it is made: a file, behind flow's and Terraform's backs.
const SLOW: &str = r#"
resource "terraform_data" "first" {
  provisioner "local-exec" {
    command = "echo first >> ../world"
  }
}
resource "terraform_data" "slow" {
  input = terraform_data.first.id
  provisioner "local-exec" {
    command = "echo begun >> ../world; while [ ! -e ../go ]; do sleep 0.05; done; echo slow >> ../world"
  }
}
"#;

/// A state in the sandbox's S3, with its lock.
const REMOTE: &str = r#"
terraform {
  backend "s3" {
    bucket         = "tf-state"
    key            = "shop/terraform.tfstate"
    use_lockfile   = true
    use_path_style = true
  }
}
"#;

/// A step whose program waits for `go` before or after it applies.
fn applied_by(when: &str) -> String {
    let wait = "echo apply >> ../world; while [ ! -e ../go ]; do sleep 0.05; done";
    let script = match when {
        "before" => format!("case $1 in apply) {wait};; esac; exec terraform \\\"$@\\\""),
        _ => format!("terraform \\\"$@\\\" || exit $?; case $1 in apply) {wait};; esac"),
    };
    format!(
        "terraform-apply \"infra\" {{ dir \"infra\"; program \"sh\" \"-c\" \"{script}\" \"terraform\"; \
         var password=\"${{secret.password}}\" }}"
    )
}

fn has_terraform() -> bool {
    let found = std::process::Command::new("terraform").arg("version").output().is_ok();
    if !found {
        println!("skipped: needs terraform");
    }
    found
}

/// A project with one configuration in `infra`, committed, and a flow of these steps.
fn project(sandbox: &Sandbox, main: &str, steps: &str) -> Project {
    let mut project = Project::new();
    for (name, value) in sandbox.variables() {
        project = project.var(name, value);
    }
    let environment = format!(
        "environment \"dev\" {{ account \"000000000000\"; region \"us-east-1\"; endpoint \"{}\"; \
         secret \"password\" from=\"env:PASSWORD\" }}",
        sandbox.endpoint
    );
    let project = project
        .var("PASSWORD", "geheim-4711")
        .flow(&format!("{environment}\nflow \"ship\" {{\nparam \"size\" type=\"int\" default=1\n{steps}\n}}"))
        .file("infra/main.tf", main)
        .file(".gitignore", ".flow/\n*.tfstate*\nterraform.tfstate.d/\nworld\ngo\n");
    project.git(&["init", "--quiet", "--initial-branch", "main"]);
    project.git(&["add", "--all"]);
    project.git(&["commit", "--quiet", "-m", "one"]);
    project
}

const APPLY: &str = r#"
terraform-apply "infra" {
    dir "infra"
    var size="${param.size}" password="${secret.password}"
}
run "tell" { command "echo" "size ${step.infra.size}" }
"#;

fn flow(project: &Project, words: &[&str]) -> Ran {
    project.run(&[words, &["--env", "dev"]].concat())
}

fn plan(project: &Project, more: &[&str]) -> Ran {
    flow(project, &[&["plan", "ship"], more].concat())
}

fn run(project: &Project, more: &[&str]) -> Ran {
    flow(project, &[&["run", "ship", "--yes"], more].concat())
}

fn world(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path("world")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The local state, as Terraform has it.
fn state(project: &Project) -> serde_json::Value {
    serde_json::from_str(&project.read("infra/terraform.tfstate")).unwrap()
}

fn run_id(project: &Project) -> String {
    let runs = project.run(&["runs", "--json"]).exits(0).json();
    runs["runs"][0]["id"].as_str().unwrap_or_default().to_owned()
}

/// Nothing that flow wrote, and nothing that it says, holds the secret.
#[track_caller]
fn keeps_the_secret(project: &Project, ran: &Ran) {
    let said = format!("{}{}", ran.out, ran.err);
    assert!(!said.contains("geheim-4711"), "{said}");
    for (path, bytes) in project.files(".flow") {
        assert!(!String::from_utf8_lossy(&bytes).contains("geheim-4711"), "{path}");
    }
}

#[test]
fn a_configuration_is_planned_applied_and_then_as_described() {
    if !has_terraform() {
        return;
    }
    let project = project(&Sandbox::find(), MAIN, APPLY);
    let planned = plan(&project, &["--json"]).exits(0);
    let step = planned.json()["steps"][0].clone();
    assert_eq!((step["action"].as_str(), step["summary"].as_str()), (Some("create"), Some("2 new")));
    let named: Vec<_> =
        step["changes"].as_array().unwrap().iter().map(|c| c["what"].as_str().unwrap()).collect();
    assert_eq!(named, ["terraform_data.login", "terraform_data.table", "output password", "output size"]);
    keeps_the_secret(&project, &planned);
    assert!(project.files(".flow/tmp").is_empty(), "the plan file is gone");
    assert!(!project.path("infra/.terraform").exists(), "the data folder is flow's own");
    assert!(!project.path("infra/terraform.tfstate").exists(), "a plan changes nothing");

    let ran = run(&project, &[]).exits(0);
    keeps_the_secret(&project, &ran);
    assert_eq!(state(&project)["outputs"]["size"]["value"], 1);
    let tell = project.run(&["log", &run_id(&project), "tell"]).exits(0);
    assert!(tell.out.contains("size 1"), "{}", tell.out);

    let again = plan(&project, &["--json"]).exits(0);
    assert_eq!(again.json()["steps"][0]["action"], "up-to-date");
    assert_eq!(again.json()["steps"][0]["summary"], "2 resources are as described");
    let before = state(&project)["serial"].clone();
    run(&project, &[]).exits(0);
    assert_eq!(state(&project)["serial"], before, "nothing was applied");

    let changed = plan(&project, &["--json", "-p", "size=2"]).exits(0).json();
    assert_eq!(changed["steps"][0]["summary"], "1 changed");
    run(&project, &["-p", "size=2"]).exits(0);
    assert_eq!(state(&project)["outputs"]["size"]["value"], 2);
}

#[test]
fn a_rollback_applies_the_recorded_sources_again_without_the_older_commit() {
    if !has_terraform() {
        return;
    }
    let project = project(&Sandbox::find(), MAIN, APPLY);
    run(&project, &[]).exits(0);
    project.write("infra/main.tf", MAIN.replace("input = var.size", "input = var.size + 10"));
    run(&project, &[]).exits(0);
    assert_eq!(state(&project)["outputs"]["size"]["value"], 11);

    // A shallow clone has no older commit, and the checkout is of something else by now.
    project.write("infra/main.tf", "not terraform at all");
    let back = flow(&project, &["rollback", "ship", "--yes"]).exits(0);
    keeps_the_secret(&project, &back);
    assert_eq!(state(&project)["outputs"]["size"]["value"], 1);
    assert!(project.files(".flow/tmp").is_empty(), "the copy of the sources is gone");
}

#[test]
fn a_rollback_says_when_it_cannot_ask_the_policy_of_today() {
    if !has_terraform() {
        return;
    }
    let project = project(&Sandbox::find(), MAIN, APPLY);
    run(&project, &[]).exits(0);
    run(&project, &["-p", "size=2"]).exits(0);
    let flow_file = project.read("flows/main.kdl");
    let rules = "run \"rules\" { command \"true\" }\nterraform-apply \"infra\" {\n\
                 needs \"rules\"; policy { command \"${step.rules.judge}\" }";
    project.write("flows/main.kdl", flow_file.replace("terraform-apply \"infra\" {", rules));
    flow(&project, &["rollback", "ship", "--dry-run"]).prints("today's `policy` has no value");
    flow(&project, &["rollback", "ship", "--yes"]).exits(0);
    assert_eq!(state(&project)["outputs"]["size"]["value"], 1);
}

#[test]
fn what_is_protected_is_never_replaced() {
    if !has_terraform() {
        return;
    }
    let main = MAIN.replace("input = var.size", "input = var.size\n  triggers_replace = [var.size]");
    let steps = APPLY.replace("dir \"infra\"", "dir \"infra\"; protect \"terraform_data.table\"");
    let project = project(&Sandbox::find(), &main, &steps);
    run(&project, &[]).exits(0);
    let before = state(&project);
    for refused in [plan(&project, &["-p", "size=2"]), run(&project, &["-p", "size=2"])] {
        refused
            .exits(5)
            .says("this would replace or delete a protected resource")
            .says("terraform_data.table  there → replaced: triggers_replace");
    }
    assert_eq!(state(&project), before);
}

#[test]
fn a_plan_that_no_longer_holds_is_refused() {
    if !has_terraform() {
        return;
    }
    let project = project(&Sandbox::find(), MAIN, APPLY);
    run(&project, &[]).exits(0);
    plan(&project, &["-p", "size=2", "--out", "approved"]).exits(0);
    run(&project, &["-p", "size=3"]).exits(0);
    let before = state(&project);
    flow(&project, &["run", "ship", "--yes", "--plan", "approved"]).exits(5);
    assert_eq!(state(&project), before);
}

#[test]
fn a_missing_program_and_one_that_is_too_old_say_what_is_wanted() {
    if !has_terraform() {
        return;
    }
    let sandbox = Sandbox::find();
    let old = APPLY.replace("dir \"infra\"", "dir \"infra\"; version \">=99\"");
    plan(&project(&sandbox, MAIN, &old), &[])
        .exits(2)
        .says("is installed, which will not do")
        .says("wanted is terraform >=99")
        .says("developer.hashicorp.com/terraform/install");
    let missing = APPLY.replace("dir \"infra\"", "dir \"infra\"; program \"terraform-nowhere\"");
    plan(&project(&sandbox, MAIN, &missing), &[])
        .exits(2)
        .says("terraform is not installed: there is no program \"terraform-nowhere\" in PATH")
        .says("wanted is terraform >=1.0");
}

#[test]
fn a_policy_reads_the_masked_plan_and_may_forbid_it() {
    if !has_terraform() {
        return;
    }
    let judge = "cat > seen.json; grep -q terraform_data.table seen.json && echo no tables here && exit 3";
    let steps = APPLY
        .replace("dir \"infra\"", &format!("dir \"infra\"; policy {{ command \"sh\" \"-c\" \"{judge}\" }}"));
    let project = project(&Sandbox::find(), MAIN, &steps);
    plan(&project, &[]).exits(5).says("forbids this preview").says("no tables here");
    let seen = project.read("infra/seen.json");
    assert!(seen.contains("\"resource_changes\"") && !seen.contains("geheim-4711"), "{seen}");
}

#[test]
fn a_mistake_in_the_configuration_is_named_with_its_line() {
    if !has_terraform() {
        return;
    }
    let main = format!("{MAIN}\nresource \"terraform_data\" \"x\" {{\n  inptu = 1\n}}\n");
    plan(&project(&Sandbox::find(), &main, APPLY), &[])
        .exits(1)
        .says("terraform plan failed")
        .says("main.tf:24  ")
        .says("Unsupported argument");
}

#[test]
fn preparing_is_left_out_while_its_inputs_are_the_same() {
    if !has_terraform() {
        return;
    }
    let prepare = r#"dir "infra"; prepare { command "sh" "-c" "echo prepared >> ../world; cp size.txt made.txt"; inputs "infra/size.txt"; outputs "infra/made.txt" }"#;
    let project = project(&Sandbox::find(), MAIN, &APPLY.replace("dir \"infra\"", prepare));
    project.write("infra/size.txt", "1");
    plan(&project, &[]).exits(0);
    plan(&project, &[]).exits(0);
    assert_eq!(world(&project), ["prepared"]);
    project.write("infra/size.txt", "2");
    plan(&project, &[]).exits(0);
    std::fs::remove_file(project.path("infra/made.txt")).unwrap();
    plan(&project, &[]).exits(0);
    assert_eq!(world(&project), ["prepared"; 3]);
}

#[test]
fn a_held_lock_names_its_holder_and_the_command_that_ends_it() {
    if !has_terraform() {
        return;
    }
    let project = project(&Sandbox::find(), SLOW, "terraform-apply \"infra\" { dir \"infra\" }");
    let first = project.start(&["run", "ship", "--env", "dev", "--yes"]);
    until("terraform makes something slow", || world(&project).contains(&"begun".to_owned()));
    plan(&project, &[])
        .exits(4)
        .says("the Terraform state is locked by ")
        .says("an apply since ")
        .says(" terraform -chdir=")
        .says(" force-unlock ");
    project.write("go", "");
    assert!(first.wait_with_output().unwrap().status.success());
    plan(&project, &[]).exits(0);
}

#[test]
fn a_run_that_is_stopped_ends_in_good_order_and_goes_on() {
    if !has_terraform() {
        return;
    }
    let project = project(&Sandbox::find(), SLOW, "terraform-apply \"infra\" { dir \"infra\" }");
    let flow = project.start(&["run", "ship", "--env", "dev", "--yes"]);
    until("terraform makes something slow", || world(&project).contains(&"begun".to_owned()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&flow), rustix::process::Signal::INT)
        .unwrap();
    let ended = flow.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(6), "{}", String::from_utf8_lossy(&ended.stderr));
    project.write("go", "");
    project.run(&["resume", &run_id(&project), "--yes"]).exits(0);
    let made = world(&project);
    assert_eq!(made.iter().filter(|line| *line == "first").count(), 1, "{made:?}");
}

#[test]
fn killed_before_anything_was_made_it_simply_goes_on() {
    if !has_terraform() {
        return;
    }
    let project = project(&Sandbox::find(), MAIN, &applied_by("before"));
    let flow = project.start(&["run", "ship", "--env", "dev", "--yes"]);
    until("terraform is started", || world(&project).contains(&"apply".to_owned()));
    kill(flow);
    project.write("go", "");
    project.run(&["resume", &run_id(&project), "--yes"]).exits(0);
    assert_eq!(state(&project)["resources"].as_array().unwrap().len(), 2);
}

#[test]
fn killed_while_it_makes_something_a_person_is_asked_and_nothing_is_made_twice() {
    if !has_terraform() {
        return;
    }
    let sandbox: Alone = Sandbox::alone();
    sandbox.rest("PUT", "/tf-state", &[], b"");
    let main = format!("{REMOTE}{SLOW}");
    let project = project(&sandbox, &main, "terraform-apply \"infra\" { dir \"infra\" }");
    let flow = project.start(&["run", "ship", "--env", "dev", "--yes"]);
    until("terraform makes something slow", || world(&project).contains(&"begun".to_owned()));
    let heard = |record: &serde_json::Value| record.to_string().contains("terraform_data.slow");
    until("flow has heard of it", || project.journal().iter().any(heard));
    kill(flow);
    let run = run_id(&project);
    // The state in S3 is written now and then only: what was made before is not in it either.
    let asked = project.run(&["resume", &run, "--yes"]).exits(7);
    let said = asked.err.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in
        ["terraform_data.first (id ", "terraform_data.slow, and its state does not know", "import it ("]
    {
        assert!(said.contains(words), "{words}:\n{}", asked.err);
    }
    assert_eq!(world(&project), ["first", "begun"], "nothing was made again");

    // Somebody looked, and says that nothing of it is there; the killed one's lock is.
    let mark = ["reconcile", &run, "--mark", "infra=not-done", "--reason", "I looked"];
    project.run(&mark).exits(0);
    let locked = project.run(&["resume", &run, "--yes"]).exits(4);
    let unlock =
        locked.err.lines().find_map(|line| line.split_once("any more: ")).map(|(_, words)| words.to_owned());
    let unlock = unlock.unwrap_or_else(|| panic!("no command:\n{}", locked.err));
    let freed = std::process::Command::new("sh")
        .args(["-c", &unlock.replace("force-unlock ", "force-unlock -force ")])
        .envs(sandbox.variables().iter().cloned())
        .env("AWS_ENDPOINT_URL", &sandbox.endpoint)
        .output()
        .unwrap();
    assert!(freed.status.success(), "{unlock}: {}", String::from_utf8_lossy(&freed.stderr));
    project.write("go", "");
    project.run(&["resume", &run, "--yes"]).exits(0);
    plan(&project, &["--json"]).exits(0).prints("\"up-to-date\"");
}

#[test]
fn killed_after_the_last_resource_it_is_found_done() {
    if !has_terraform() {
        return;
    }
    let project = project(&Sandbox::find(), MAIN, &applied_by("after"));
    let flow = project.start(&["run", "ship", "--env", "dev", "--yes"]);
    until("terraform has applied", || world(&project).contains(&"apply".to_owned()));
    kill(flow);
    project.write("go", "");
    let before = state(&project);
    project.run(&["resume", &run_id(&project), "--yes"]).exits(0);
    assert_eq!(state(&project), before, "nothing was applied again");
}

#[test]
fn a_workspace_that_is_new_is_made_by_the_apply_alone() {
    if !has_terraform() {
        return;
    }
    let steps = APPLY.replace("dir \"infra\"", "dir \"infra\"; workspace \"blue\"");
    let project = project(&Sandbox::find(), MAIN, &steps);
    plan(&project, &[]).exits(0);
    assert!(!project.path("infra/terraform.tfstate.d/blue").exists(), "a plan leaves no workspace");
    run(&project, &[]).exits(0);
    assert!(project.path("infra/terraform.tfstate.d/blue/terraform.tfstate").exists());
    plan(&project, &["--json"]).exits(0).prints("\"up-to-date\"");
}

#[test]
fn destroying_needs_a_gate_and_the_word_that_data_may_go() {
    if !has_terraform() {
        return;
    }
    let sandbox = Sandbox::find();
    let project = project(&sandbox, MAIN, APPLY);
    run(&project, &[]).exits(0);
    let destroy = |more: &str, gate: &str| {
        project.flow_now(&format!(
            "environment \"dev\" {{ account \"000000000000\"; region \"us-east-1\"; endpoint \"{}\" }}\n\
             flow \"clear\" {{ {gate}\nterraform-apply \"infra\" {{ dir \"infra\"; destroy #true; {more} }} }}",
            sandbox.endpoint
        ));
        flow(&project, &["run", "clear"])
    };
    destroy("protect \"terraform_data\"", "")
        .exits(5)
        .says("this would replace or delete protected resources")
        .says("terraform_data.table  there → none");
    // Where the flow has no gate, flow puts one there.
    destroy("", "").exits(3).says("infra/gate").says("infra deletes, replaces or overwrites what is there");
    destroy("needs \"sure\"", "approve \"sure\" { for \"all of it\" }").exits(3).says("all of it");
    assert_eq!(state(&project)["resources"].as_array().unwrap().len(), 2);
    destroy("", "").exits(3);
    flow(&project, &["run", "clear", "--yes"]).exits(0);
    assert_eq!(state(&project)["resources"].as_array().unwrap().len(), 0);
    flow(&project, &["plan", "clear", "--json"]).exits(0).prints("\"up-to-date\"");
}
