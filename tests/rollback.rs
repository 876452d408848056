//! Back to a release, taking back what a failed run did, and what was there before flow.
//!
//! The steps are programs with `undo` that write down what they do, outside of the workspace.

use std::path::PathBuf;
use std::process::Command;

use crate::support::project::{Project, Ran};
use crate::support::shop::Shop;
use crate::support::wait::until;

mod dying;
mod runbook;
mod shop;

/// A project whose programs keep their state elsewhere.
struct World {
    project: Project,
    elsewhere: tempfile::TempDir,
}

/// A program that notes `+NAME` and is taken back by noting `-NAME`.
fn step(name: &str, more: &str) -> String {
    format!(
        r#"run "{name}" {{
            command "sh" "-c" "echo +{name} >> $STATE/log"
            inherit "STATE"
            undo {{ command "sh" "-c" "test ! -e $STATE/stuck-{name} && echo -{name} >> $STATE/log" }}
            {more}
        }}
        "#
    )
}

/// A program that fails once the file `fail` is there.
const MAY_FAIL: &str = r#"run "last" {
    command "sh" "-c" "test ! -e $STATE/fail"
    inherit "STATE"
    undo "none"
    needs "b"
}
"#;

impl World {
    fn new(lines: &str) -> Self {
        let elsewhere = tempfile::tempdir().unwrap();
        let project = Project::new().var("STATE", &elsewhere.path().display().to_string());
        let world = Self { project, elsewhere };
        world.flow(lines);
        world
    }

    fn flow(&self, lines: &str) {
        self.project.flow_now(&format!("environment \"dev\"\nflow \"f\" {{\n{lines}\n}}\n"));
    }

    fn state(&self, name: &str) -> PathBuf {
        self.elsewhere.path().join(name)
    }

    fn touch(&self, name: &str) {
        std::fs::write(self.state(name), "").unwrap();
    }

    /// What was noted since the last look.
    fn noted(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.state("log")).unwrap_or_default();
        std::fs::write(self.state("log"), "").unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn run(&self) -> Ran {
        self.project.run(&["run", "f", "--env", "dev"])
    }

    fn back(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["rollback", "f", "--env", "dev"], more].concat())
    }

    /// `ID STATE ORIGIN` of every release, newest first.
    fn releases(&self) -> Vec<String> {
        let json = self.project.run(&["releases", "--env", "dev", "--json"]).exits(0).json();
        let rows = json["releases"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| {
                let failed = if row["failed"] == true { " failed" } else { "" };
                let found = if row["adopted"] == true { " found" } else { "" };
                let back = row["rolled_back_to"].as_u64().map(|to| format!(" back to {to}"));
                format!("{}{failed}{found}{}", row["id"], back.unwrap_or_default())
            })
            .collect()
    }

    fn outcome(&self) -> String {
        let journal = self.project.journal();
        let last = journal.last().unwrap();
        last["event"]["outcome"].as_str().unwrap_or_default().to_owned()
    }
}

fn three() -> String {
    [step("a", ""), step("b", "needs \"a\""), step("c", "")].concat()
}

#[test]
fn back_to_a_release_in_reverse_order() {
    let world = World::new(&three());
    world.run().exits(0).says("release 1\n");
    world.run().exits(0).says("release 2\n").says("back to release 1: flow rollback f --env dev");
    world.noted();

    let plan = world.back(&["--dry-run"]).exits(0).prints("back to release 1");
    assert!(plan.out.find("▸ b").unwrap() < plan.out.find("▸ a").unwrap(), "{}", plan.out);
    assert_eq!(world.noted(), [""; 0], "a plan changes nothing");

    world.back(&[]).exits(0).says("back to release 1").says("release 3\n");
    let noted = world.noted();
    let at = |what: &str| noted.iter().position(|line| line == what).unwrap();
    assert_eq!(noted.len(), 3, "{noted:?}");
    assert!(at("-b") < at("-a"), "{noted:?}");
    assert_eq!(world.releases(), ["3 back to 1", "2", "1", "0 found"]);

    world.back(&["--to", "1"]).exits(0).says("all 3 steps are up to date");
    assert_eq!(world.noted(), [""; 0], "it is there already");
}

#[test]
fn back_to_what_was_there_before_flow() {
    let world = World::new(&three());
    world.run().exits(0);
    assert_eq!(world.releases(), ["1", "0 found"]);
    world.noted();
    world.back(&[]).exits(0).says("back to release 0");
    let mut noted = world.noted();
    noted.sort();
    assert_eq!(noted, ["-a", "-b", "-c"]);
    world.back(&[]).exits(2).says("no good release of f before release");
}

#[test]
fn only_what_was_asked_for_goes_back() {
    let world = World::new(&three());
    world.run().exits(0);
    world.run().exits(0);
    world.noted();
    world.back(&["--only", "c"]).exits(0);
    assert_eq!(world.noted(), ["-c"]);
    world.back(&["--only", "z"]).exits(2).says("there is no step or group z");
}

#[test]
fn a_release_that_is_not_there_is_named() {
    let world = World::new(&three());
    world.back(&[]).exits(2).says("dev has no release of f").says("flow adopt f --env dev");
    world.run().exits(0);
    world.back(&["--to", "9"]).exits(2).says("dev has no release 9").says("flow releases --env dev");
    world.back(&["--to", "soon"]).exits(2).says("a release's number or last-good");
    world.back(&["--incident", "soon"]).exits(2).says("10m");
}

#[test]
fn an_undo_that_fails_stops_only_what_depends_on_it() {
    let world = World::new(&three());
    world.run().exits(0);
    world.run().exits(0);
    world.noted();
    world.touch("stuck-b");
    let ran = world.back(&[]).exits(8).says("f to dev is not back at release 1");
    assert_eq!(world.noted(), ["-c"], "a stands behind b");
    assert!(ran.err.contains("Not started: a."), "{}", ran.err);
    assert_eq!(world.outcome(), "rollback-failed");
    assert_eq!(world.releases()[0], "3 failed back to 1", "what stands now is recorded");

    std::fs::remove_file(world.state("stuck-b")).unwrap();
    world.back(&["--to", "1"]).exits(0);
    assert_eq!(world.noted(), ["-b", "-a"], "c is back already");
}

#[test]
fn a_gate_asks_before_anything_goes_back() {
    let gated = format!("approve \"go\" {{ for \"all\" }}\n{}", step("a", "needs \"go\""));
    let world = World::new(&gated);
    world.project.run(&["run", "f", "--env", "dev", "--yes"]).exits(0);
    world.project.run(&["run", "f", "--env", "dev", "--yes"]).exits(0);
    world.noted();
    world.back(&[]).exits(3);
    assert_eq!(world.noted(), [""; 0]);
    world.back(&["--yes"]).exits(0);
    assert_eq!(world.noted(), ["-a"]);

    // The plan that waited knows when the trouble began.
    world.project.run(&["run", "f", "--env", "dev", "--yes"]).exits(0);
    world.back(&["--incident", "10m"]).exits(3);
    let plan = world
        .project
        .journal()
        .into_iter()
        .find_map(|record| record["event"]["plan"].as_str().map(str::to_owned));
    let planned = ["run", "--plan", &plan.unwrap(), "--yes"];
    world.project.run(&planned).exits(0).says("healthy again 10m");
}

#[test]
fn what_nothing_takes_back_is_named_and_holds_nothing_up() {
    let manual = r#"run "mail" { command "sh" "-c" "echo +mail >> $STATE/log"; inherit "STATE"; needs "b" }"#;
    let world = World::new(&[&three(), manual].concat());
    world.run().exits(0);
    world.run().exits(0);
    world.noted();
    // A step that is gone from the files is named too.
    world.flow(&[step("a", ""), step("b", "needs \"a\""), manual.to_owned()].concat());
    let plan = world.back(&["--dry-run"]).exits(0);
    assert!(plan.out.contains("c stays as it is: the flow files no longer have it"), "{}", plan.out);
    assert!(plan.out.contains("manual"), "{}", plan.out);
    world.back(&[]).exits(0);
    assert_eq!(world.noted(), ["-b", "-a"]);
}

#[test]
fn whether_it_could_go_back_is_proven_beforehand() {
    let with = |more: &str| step("a", more);
    let secret = "env TOKEN=\"${secret.token}\"";
    let world = World::new("");
    let flow = |more: &str| {
        let lines = format!("secret \"token\" from=\"env:TOKEN\"\n{}", with(more));
        world.flow(&lines);
    };
    flow(secret);
    let run = |arguments: &[&str]| -> Ran {
        let mut command = world.project.command(arguments);
        command.env("TOKEN", "a-secret-of-some-length").output().unwrap().into()
    };
    run(&["run", "f", "--env", "dev"]).exits(0);
    run(&["run", "f", "--env", "dev"]).exits(0);
    world.noted();
    let check = ["rollback", "f", "--env", "dev", "--check"];
    run(&check).exits(0).prints("rollback-ready: release 1");
    assert_eq!(world.noted(), [""; 0], "proving changes nothing");

    flow("");
    let ran = run(&check).exits(5).prints("not rollback-ready: 1 reason against release 1");
    assert!(ran.out.contains("a  taking back") && ran.out.contains("TOKEN"), "{}", ran.out);
    let json = run(&[&check[..], &["--json"]].concat()).exits(5).json();
    assert_eq!(
        (&json["ready"], &json["to"], &json["reasons"][0]["id"]),
        (&false.into(), &1.into(), &"a".into())
    );
    run(&["rollback", "f", "--env", "dev"]).exits(5);
    assert_eq!(world.noted(), [""; 0]);
}

#[test]
fn the_time_until_all_is_healthy_is_measured_from_the_incident() {
    let world = World::new(&three());
    world.run().exits(0);
    world.run().exits(0);
    world.back(&["--incident", "10m"]).exits(0).says("healthy again 10m0");
    let json = world.project.run(&["releases", "--env", "dev", "--json"]).exits(0).json();
    let after = json["releases"][0]["healthy_after_ms"].as_u64().unwrap();
    assert!((600_000..700_000).contains(&after), "{after}");
}

fn failing(more: &str) -> String {
    ["on-failure \"rollback\"\n", &three(), MAY_FAIL, more].concat()
}

#[test]
fn a_failed_run_ends_where_it_began() {
    let world = World::new(&failing(""));
    world.run().exits(0);
    let before = world.releases();
    world.noted();
    world.touch("fail");
    let ran = world
        .run()
        .exits(9)
        .says("taking back what this run did, since last failed")
        .says("its changes were taken back")
        .says("Release 1 stays live.")
        .says("Taken back: a, b, c.");
    let noted = world.noted();
    assert!(noted[..3].iter().all(|line| line.starts_with('+')), "{noted:?}");
    let at = |what: &str| noted.iter().position(|line| line == what).unwrap();
    assert!(noted.len() == 6 && at("-b") < at("-a"), "{noted:?}\n{}", ran.err);
    assert_eq!(world.outcome(), "rolled-back");
    assert_eq!(world.releases(), before, "no release of it");
    world.project.run(&["runs"]).exits(0).prints("failed, rolled back");
    std::fs::remove_file(world.state("fail")).unwrap();
    world.run().exits(0).says("release 2\n");
}

#[test]
fn the_first_run_of_all_can_be_taken_back_too() {
    let world = World::new(&failing(""));
    world.touch("fail");
    world.run().exits(9);
    assert_eq!(world.noted().iter().filter(|line| line.starts_with('-')).count(), 3);
    assert_eq!(world.releases(), ["0 found"]);
}

#[test]
fn an_undo_that_fails_is_told_with_what_is_left() {
    let world = World::new(&failing(""));
    world.run().exits(0);
    world.noted();
    world.touch("fail");
    world.touch("stuck-b");
    let ran = world
        .run()
        .exits(8)
        .says("not all of it was undone")
        .says("Could not be taken back: b.")
        .says("Not taken back: a.")
        .says("flow rollback f --env dev --to 1");
    assert!(!world.noted().contains(&"-a".to_owned()), "{}", ran.err);
    assert_eq!(world.releases(), ["2 failed", "1", "0 found"]);
    std::fs::remove_file(world.state("stuck-b")).unwrap();
    world.back(&["--to", "1"]).exits(0);
    assert_eq!(world.noted(), ["-b", "-a"], "c was taken back then");
}

#[test]
fn what_cannot_be_undone_stays_and_is_named() {
    let manual = r#"run "mail" { command "sh" "-c" "echo +mail >> $STATE/log"; inherit "STATE" }"#;
    let world = World::new(&failing(manual));
    world.run().exits(0);
    world.touch("fail");
    world.run().exits(9).says("mail: manual");
    assert_eq!(world.releases(), ["2 failed", "1", "0 found"], "what stays is recorded");
}

#[test]
fn nothing_is_taken_back_where_nothing_was_done() {
    let world = World::new("on-failure \"rollback\"\nrun \"x\" { command \"false\"; inputs \"*.none\" }");
    world.run().exits(1).says("Nothing had to be taken back.");
}

#[test]
fn a_signal_ends_what_is_being_taken_back_and_what_is_left_is_named() {
    let slow = r#"run "b" {
        command "sh" "-c" "echo +b >> $STATE/log"
        inherit "STATE"
        needs "a"
        undo { command "sh" "-c" "touch $STATE/undoing; sleep 60" }
    }
    "#;
    let world = World::new(&["on-failure \"rollback\"\n", &step("a", ""), slow, MAY_FAIL].concat());
    world.touch("fail");
    let flow = world.project.start(&["run", "f", "--env", "dev"]);
    until("something is taken back", || world.state("undoing").exists());
    let killed = Command::new("kill").args(["-TERM", &flow.id().to_string()]).status().unwrap();
    assert!(killed.success());
    Ran::from(flow.wait_with_output().unwrap())
        .exits(8)
        .says("Could not be taken back: b.")
        .says("Not taken back: a.");
    assert_eq!(world.noted(), ["+a", "+b"]);
    assert_eq!(world.releases()[0], "1 failed", "what stands now is recorded");
}

#[test]
fn what_runs_now_is_adopted_once() {
    let world = World::new(&three());
    let adopt = ["adopt", "f", "--env", "dev"];
    world.project.run(&adopt).exits(0).prints("release 0 of dev records");
    assert_eq!(world.releases(), ["0 found"]);
    assert_eq!(world.noted(), [""; 0]);
    world.project.run(&adopt).exits(2).says("has releases of f already");
    world.run().exits(0).says("release 1\n");
    assert_eq!(world.releases(), ["1", "0 found"]);
}

#[test]
fn two_releases_are_compared() {
    let world = World::new(&three());
    world.run().exits(0);
    world.flow(&[step("a", ""), step("d", "")].concat());
    world.run().exits(0);
    let diff = ["diff", "1", "2", "--env", "dev"];
    world.project.run(&diff).exits(0).prints("release 1 → 2 of dev").prints("only in release 2");
    let json = world.project.run(&[&diff[..], &["--json"]].concat()).exits(0).json();
    assert!(json["differences"].as_array().unwrap().iter().any(|row| row["id"] == "d"), "{json:#}");
    world.project.run(&["diff", "1", "1", "--env", "dev"]).exits(0).prints("nothing differs");
    world.project.run(&["diff", "1", "7", "--env", "dev"]).exits(2).says("dev has no release 7");
}

impl Shop {
    fn back(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["rollback", "deploy", "--env", "sandbox"], more].concat())
    }
}

/// Everything is deployed, and then a check that comes last fails.
fn fails_at_the_end(shop: &Shop) {
    fails_at_the_end_of(shop, "\"false\"");
}

/// Everything is deployed, and then this command fails.
fn fails_at_the_end_of(shop: &Shop, command: &str) {
    let smoke = format!("run \"smoke\" {{ command {command}; needs \"edge\"; undo \"none\" }}");
    shop.edit(
        "flows/deploy.kdl",
        "    on-failure \"rollback\"",
        &format!("    {smoke}\n    on-failure \"rollback\""),
    );
}
