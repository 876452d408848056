//! One run at a time changes an environment; a dead one keeps nobody out, one that hangs can be put out.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::project::{Project, Ran};
use crate::support::sandbox::Sandbox;
use crate::support::wait::until;

fn end(flow: Child) -> Ran {
    flow.wait_with_output().unwrap().into()
}

/// Counts itself, then stands until there is a file `go`; a second step comes after it.
const STANDS: &str = r#"
    environment "dev"
    environment "other"
    flow "deploy" {
        run "stands" {
            script "echo x >> runs; while [ ! -e go ]; do sleep 0.02; done"
        }
        run "next" { needs "stands"; command "touch" "next" }
    }
    flow "build" {
        run "file" { inputs "flows/*"; outputs "made"; command "touch" "made" }
    }
    flow "small" {
        run "here" { command "true" }
    }"#;

fn runs(project: &Project) -> usize {
    std::fs::read_to_string(project.path("runs")).unwrap_or_default().lines().count()
}

fn started(project: &Project) -> Child {
    let flow = project.start(&["run", "deploy", "--env", "dev"]);
    until("its step has started", || runs(project) == 1);
    flow
}

/// The only lock.
fn lock(project: &Project) -> serde_json::Value {
    let listed = project.run(&["locks", "--json"]).exits(0).json();
    let locks = listed["locks"].as_array().unwrap();
    assert_eq!(locks.len(), 1, "{listed:#}");
    locks[0].clone()
}

#[test]
fn the_second_run_says_who_holds_the_lock() {
    let job = "https://ci.example.com/jobs/8812";
    let project = Project::new().flow(STANDS).var("USER", "ada").var("CI_JOB_URL", job);
    let flow = started(&project);
    let run = project.journal()[0]["event"]["run"].as_str().unwrap().to_owned();
    let refused = project.run(&["run", "deploy", "--env", "dev"]).exits(4);
    let lines: Vec<&str> = refused.err.lines().collect();
    assert!(
        lines[0].starts_with(&format!("dev is locked by run {run} of ada@")) && lines[0].contains(" since "),
        "{}",
        refused.err
    );
    assert!(lines[1].starts_with("  it is at   stands  sh script"), "{}", refused.err);
    assert_eq!(lines[2], format!("  its job    {job}"));
    assert_eq!(lines[3], format!("  watch it   flow log {run} -f"));
    assert_eq!(lines[4], "  if it hangs: flow unlock dev --token 1 --reason \"…\"");
    let locked = lock(&project);
    assert_eq!(
        (&locked["id"], &locked["token"], &locked["run"], &locked["state"], &locked["step"]),
        (&"dev".into(), &1.into(), &run.as_str().into(), &"held".into(), &"stands".into())
    );
    project
        .run(&["locks"])
        .exits(0)
        .prints(&format!("dev  token 1  run {run}"))
        .says("flow unlock dev --token 1");
    // What only makes files, plans, and other environments need not wait.
    project.run(&["run", "build", "--env", "dev"]).exits(0);
    project.run(&["plan", "deploy", "--env", "dev"]).exits(0);
    project.run(&["run", "small", "--env", "other"]).exits(0);
    project.write("go", "");
    end(flow).exits(0);
    assert_eq!(runs(&project), 1, "the refused run did nothing");
    project.run(&["locks"]).exits(0).says("no environment is locked");
    project.run(&["run", "deploy", "--env", "dev"]).exits(0);
}

#[test]
fn a_step_in_another_environment_needs_that_ones_lock_too() {
    // A step that acts in an environment of its own is asked whose account that is.
    let sandbox = Sandbox::find();
    let endpoint = &sandbox.endpoint;
    let with = |project: Project, (name, value): &(String, String)| project.var(name, value);
    let project = sandbox.variables().iter().fold(Project::new(), with).flow(STANDS);
    project.write(
        "flows/more.kdl",
        format!(
            "environment \"third\" {{ region \"us-east-1\"; endpoint {endpoint:?} }}
             flow \"crosses\" {{ run \"there\" {{ environment \"third\"; command \"touch\" \"crossed\" }} }}"
        ),
    );
    let flow = project.start(&["run", "deploy", "--env", "third"]);
    until("its step has started", || runs(&project) == 1);
    project.run(&["run", "crosses", "--env", "other"]).exits(4).says("third is locked by run");
    assert!(!project.path("crossed").exists());
    project.write("go", "");
    end(flow).exits(0);
    project.run(&["run", "crosses", "--env", "other"]).exits(0);
}

#[test]
fn of_many_runs_at_once_exactly_one_goes_on() {
    let project = Project::new().flow(STANDS);
    let mut flows: Vec<Child> = (0..8).map(|_| project.start(&["run", "deploy", "--env", "dev"])).collect();
    let mut refused = 0;
    until("all but one have ended", || {
        flows.retain_mut(|flow| match flow.try_wait().unwrap() {
            None => true,
            Some(status) => {
                assert_eq!(status.code(), Some(4));
                refused += 1;
                false
            }
        });
        flows.len() == 1
    });
    until("it has started", || runs(&project) == 1);
    project.write("go", "");
    end(flows.remove(0)).exits(0);
    assert_eq!((refused, runs(&project)), (7, 1));
}

#[test]
fn the_lock_of_a_killed_run_does_not_stay() {
    let project = Project::new().flow(STANDS);
    let flow = started(&project);
    kill_process(Pid::from_child(&flow), Signal::KILL).unwrap();
    end(flow);
    project.run(&["locks"]).exits(0).prints("it died; the next run takes the lock");
    let nothing = project.run(&["unlock", "dev", "--token", "1", "--reason", "dead"]).exits(0);
    assert!(nothing.err.starts_with("nothing to unlock: run "), "{}", nothing.err);
    nothing.says("died and holds nothing any more");
    assert_ne!(project.run(&["run", "small", "--env", "dev"]).code, Some(4));
}

#[test]
fn a_run_that_loses_its_lock_stops_before_its_next_effect() {
    let project = Project::new().flow(STANDS).var("USER", "ada");
    let flow = started(&project);
    let unlock = |token: &str| project.run(&["unlock", "dev", "--token", token, "--reason", "it hangs"]);
    unlock("7").exits(5).says("refused: lock 7 of dev is not the one that is held").says("with token 1");
    unlock("1").exits(0).says("dev is unlocked; run ").says("stops before its next effect");
    unlock("1").exits(0).says("nothing to unlock: the lock of dev was taken away by ada@");
    assert_eq!(lock(&project)["state"], "taken-away");
    project.write("go", "");
    let ran = end(flow).says("the lock of dev was taken away by ada@").says(": it hangs");
    // Its first step was under way: that it ended could not be recorded any more.
    assert_eq!(ran.code, Some(7), "{}", ran.err);
    assert!(!project.path("next").exists(), "{}", ran.err);
    let kinds: Vec<String> =
        project.journal().iter().map(|record| record["event"]["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds.last().map(String::as_str), Some("intent"), "{kinds:?}");
    let records = project.files(".flow/store/locks/dev");
    let taken = String::from_utf8(records[".flow/store/locks/dev/00000002.jsonl"].clone()).unwrap();
    assert!(taken.contains(r#""state":"taken-away""#) && taken.contains(r#""reason":"it hangs""#), "{taken}");
}

#[test]
fn there_is_nothing_to_unlock_where_nobody_locks() {
    let project = Project::new().flow(STANDS);
    project.run(&["unlock", "dev", "--token", "1", "--reason", "x"]).exits(0).says("dev is not locked");
    project.run(&["unlock", "def", "--token", "1", "--reason", "x"]).exits(2).says("did you mean dev?");
    project.run(&["unlock", "dev", "--token", "1", "--reason", ""]).exits(2);
    project.run(&["unlock", "dev", "--token", "1"]).exits(2);
}
