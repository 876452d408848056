//! Back to a release, taking back what a failed run did, and what was there before flow.
//!
//! The steps are programs with `undo` that write down what they do, outside of the workspace.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::crash::{self, Went, sample};
use crate::support::project::{Project, Ran};
use crate::support::shop::Shop;
use crate::support::stand::{Stand, invalidations};
use crate::support::wait::{kill, until};

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

fn newest_run(project: &Project) -> String {
    let runs = project.run(&["runs", "--json"]).exits(0).json();
    runs["runs"][0]["id"].as_str().unwrap_or_default().to_owned()
}

/// A flow that takes `f` back between two programs.
const RUNBOOK: &str = r#"flow "incident" {
    run "before" { command "sh" "-c" "echo before >> $STATE/log"; inherit "STATE"; undo "none" }
    rollback "back" { flow "f"; needs "before" }
    run "after" {
        command "sh" "-c" "echo after >> $STATE/log; test ! -e $STATE/fail"
        inherit "STATE"
        undo "none"
        needs "back"
    }
}
"#;

impl World {
    /// `f` was run twice, and `incident` may take it back.
    fn with_runbook(runbook: &str) -> Self {
        let world = Self::new(&three());
        world.project.flow_now(&format!("environment \"dev\"\nflow \"f\" {{\n{}\n}}\n{runbook}", three()));
        world.run().exits(0);
        world.run().exits(0);
        world.noted();
        world
    }

    fn incident(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["run", "incident", "--env", "dev"], more].concat())
    }

    /// `FLOW STATE` of every release, newest first.
    fn flows_of_releases(&self) -> Vec<String> {
        let json = self.project.run(&["releases", "--env", "dev", "--json"]).exits(0).json();
        let flow = |row: &serde_json::Value| row["flow"].as_str().unwrap_or_default().to_owned();
        let names: Vec<String> = json["releases"].as_array().unwrap().iter().map(flow).collect();
        names.iter().zip(self.releases()).map(|(flow, state)| format!("{flow} {state}")).collect()
    }
}

#[test]
fn a_flow_goes_back_inside_a_runbook_and_its_own_releases_say_so() {
    let world = World::with_runbook(RUNBOOK);
    world.project.run(&["check"]).exits(0);
    world.project.run(&["list"]).exits(0).prints("incident");
    world.project.run(&["show", "incident"]).exits(0).prints("back");
    let plan = world.project.run(&["plan", "incident", "--env", "dev"]).exits(0);
    let plan = plan.prints("back takes f back to release 1.").prints("back/a").prints("back/b");
    assert!(plan.out.find("back/b").unwrap() < plan.out.find("back/a").unwrap(), "{}", plan.out);
    assert_eq!(world.noted(), [""; 0], "a plan changes nothing");

    world.incident(&[]).exits(0).says("f is back at release 1: release 4.");
    let noted = world.noted();
    let at = |what: &str| noted.iter().position(|line| line == what).unwrap();
    assert_eq!(noted.len(), 5, "{noted:?}");
    assert_eq!((at("before"), at("after")), (0, 4), "{noted:?}");
    assert!(at("-b") < at("-a"), "{noted:?}");
    let releases = world.flows_of_releases();
    assert!(releases.contains(&"f 4 back to 1".to_owned()), "{releases:?}");
    assert!(releases.iter().filter(|row| row.starts_with("f ")).count() == 4, "{releases:?}");

    world.back(&["--to", "1"]).exits(0).says("all 3 steps are up to date");
    world.back(&[]).exits(0).says("back to release 0");
    assert!(world.noted().contains(&"-a".to_owned()), "further back, never to what was left");
}

#[test]
fn only_the_rollback_of_a_runbook_or_a_part_of_it_is_run() {
    let world = World::with_runbook(&RUNBOOK.replace("needs \"before\"", "after \"before\""));
    world.incident(&["--only", "back/c"]).exits(0);
    assert_eq!(world.noted(), ["-c"]);
    world.incident(&["--only", "back", "--dry-run"]).exits(0).prints("back/a");
    world.incident(&["--only", "before"]).exits(0);
    assert_eq!(world.noted(), ["before"]);
    world.incident(&["--only", "back/z"]).exits(2).says("there is no step or group back/z");
}

#[test]
fn a_rollback_whose_condition_is_false_needs_no_release() {
    let world = World::with_runbook(
        &RUNBOOK.replace("flow \"f\";", "flow \"f\"; to \"77\"; when \"env.name == 'x'\";"),
    );
    world.incident(&[]).exits(0);
    assert_eq!(world.noted(), ["before", "after"]);
    let other = World::with_runbook(&RUNBOOK.replace("flow \"f\";", "flow \"f\"; to \"77\";"));
    other.incident(&[]).exits(2).says("dev has no release 77");
    assert_eq!(other.noted(), [""; 0]);
}

#[test]
fn a_runbook_that_fails_behind_its_rollback_leaves_a_good_release_and_goes_on() {
    let world = World::with_runbook(RUNBOOK);
    world.touch("fail");
    world.incident(&[]).exits(1).says("f is back at release 1: release 4.");
    let releases = world.flows_of_releases();
    assert!(releases.contains(&"f 4 back to 1".to_owned()), "{releases:?}");
    world.noted();
    std::fs::remove_file(world.state("fail")).unwrap();
    let run = newest_run(&world.project);
    world.project.run(&["resume", &run]).exits(0);
    assert_eq!(world.noted(), ["after"], "what went back is not taken back again");
    let of_f = world.flows_of_releases().iter().filter(|row| row.starts_with("f ")).count();
    assert_eq!(of_f, 4, "and is recorded once");
}

#[test]
fn a_runbook_that_is_taken_back_does_not_undo_programs_twice() {
    let world = World::with_runbook(&RUNBOOK.replacen('{', "{ on-failure \"rollback\"", 1));
    world.touch("fail");
    world.incident(&[]).exits(9).says("back/b stays back").says("f is back at release 1: release 4.");
    let noted = world.noted();
    assert_eq!(noted.iter().filter(|line| *line == "-b").count(), 1, "{noted:?}");
    let releases = world.flows_of_releases();
    assert!(releases.contains(&"f 4 back to 1".to_owned()), "what stands is recorded: {releases:?}");
}

impl Shop {
    fn back(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["rollback", "deploy", "--env", "sandbox"], more].concat())
    }
}

/// Deploy A, deploy B (a service, the site's page and an expand migration), back to A.
#[test]
fn the_shop_goes_back_to_what_it_was() {
    let shop = Shop::deployed();
    let a = Stand::of(&shop);
    let definitions = shop.task_definitions();
    shop.change(1);
    shop.run(&[]).exits(0).says("release 2\n");
    let b = Stand::of(&shop);
    assert_ne!((&a.versions, &a.site), (&b.versions, &b.site));

    shop.back(&["--check"]).exits(0).prints("rollback-ready: release 1");
    let plan = shop.back(&["--dry-run"]).exits(0).prints("back to release 1");
    println!("{}", plan.out);
    assert_eq!(Stand::of(&shop), b, "neither changes anything");

    let ran = shop.back(&["--to", "1", "--incident", "1m"]).exits(0).says("back to release 1");
    println!("{}", ran.err);
    assert!(ran.err.contains("healthy again 1m"), "{}", ran.err);
    let back = Stand::of(&shop);
    assert_eq!((&back.versions, &back.site), (&a.versions, &a.site));
    assert_eq!(shop.task_definitions(), definitions, "the recorded revisions, no new ones");
    assert_eq!((&back.revisions, &back.images), (&b.revisions, &b.images), "nothing is registered or built");
    assert_eq!(back.migrations, b.migrations, "an expand migration stays");
    assert!(plan.out.contains("0101_note") || plan.out.contains("note"), "and is named: {}", plan.out);
    assert_eq!(back.invalidations, b.invalidations + 1);
    assert!(invalidations(&shop).iter().any(|paths| *paths == ["/", "/index.html"]));

    // And forward again: what was left is still there.
    shop.run(&[]).exits(0);
    assert_eq!(Stand::of(&shop).versions, b.versions);
}

#[test]
fn what_a_rollback_of_the_shop_would_miss_is_found_beforehand() {
    let shop = Shop::deployed();
    let old = shop.task_definition("api");
    let described = shop.sandbox.ecs("DescribeTaskDefinition", &json!({ "taskDefinition": old }));
    let image = described["taskDefinition"]["containerDefinitions"][0]["image"].as_str().unwrap().to_owned();
    shop.change(1);
    shop.run(&[]).exits(0);
    shop.back(&["--check"]).exits(0);

    // The definition can be registered again as long as it is only inactive.
    shop.sandbox.ecs("DeregisterTaskDefinition", &json!({ "taskDefinition": old }));
    shop.back(&["--check"]).exits(0);

    let digest = image.split_once('@').unwrap().1;
    shop.sandbox.json(
        "AmazonEC2ContainerRegistry_V20150921.BatchDeleteImage",
        &json!({ "repositoryName": "shop-api", "imageIds": [{ "imageDigest": digest }] }),
    );
    let ran = shop.back(&["--check"]).exits(5).prints("not rollback-ready");
    println!("{}", ran.out);
    assert!(ran.out.contains("service[api]") && ran.out.contains(&digest[7..19]), "{}", ran.out);
    shop.back(&[]).exits(1);

    // The page's older version is gone.
    let listed = shop.sandbox.rest("GET", "/shop-sandbox-site?versions&prefix=index.html", &[], b"");
    let oldest = listed.elements("VersionId").pop().unwrap();
    shop.sandbox.rest("DELETE", &format!("/shop-sandbox-site/index.html?versionId={oldest}"), &[], b"");
    let ran = shop.back(&["--check"]).exits(5);
    println!("{}", ran.out);
    assert!(ran.out.contains("site") && ran.out.contains("index.html"), "{}", ran.out);

    // A contract migration in between.
    shop.project.write(
        "tests/fixtures/shop/backend/migrations/0900_drop.sql",
        "-- flow: contract\nalter table item drop column name;\n",
    );
    shop.commit("contract");
    shop.run(&["--only", "schema"]).exits(0);
    let ran = shop.back(&["--check", "--to", "1"]).exits(5);
    println!("{}", ran.out);
    assert!(ran.out.contains("schema") && ran.out.contains("0900_drop"), "{}", ran.out);
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

#[test]
fn nothing_goes_back_past_a_contract_migration() {
    let shop = Shop::deployed();
    shop.change(1);
    shop.project.write(
        "tests/fixtures/shop/backend/migrations/0900_drop.sql",
        "-- flow: contract\nalter table item drop column name;\n",
    );
    fails_at_the_end(&shop);
    let ran = shop
        .run(&[])
        .exits(8)
        .says("not all of it was undone")
        .says("0900_drop.sql")
        .says("Because of it these stay too")
        .says("There is no way back to release 1: 0900_drop.sql is a contract migration");
    assert!(!ran.err.contains("flow rollback"), "what would be refused is not offered:\n{}", ran.err);
    assert_eq!(shop.ask("api")["version"], "2.0.1", "the code that was made for the new schema");
    shop.back(&["--check", "--to", "1"]).exits(5).prints("0900_drop.sql");
}

#[test]
fn a_failed_deploy_of_the_shop_ends_where_it_began() {
    let shop = Shop::deployed();
    let before = Stand::of(&shop);
    let definitions = shop.task_definitions();
    shop.change(1);
    fails_at_the_end(&shop);
    let ran = shop.run(&[]).exits(9).says("its changes were taken back");
    println!("{}", ran.err);
    let after = Stand::of(&shop);
    assert_eq!((&after.versions, &after.site), (&before.versions, &before.site));
    assert_eq!(shop.task_definitions(), definitions);
    assert_eq!(after.invalidations, before.invalidations + 2, "one for the page, one for the way back");
    assert!(ran.err.contains("schema: "), "{}", ran.err);
}

/// That a deregistered revision has to be registered again is said. (The sandbox keeps deleted ones:
/// what is said of those is a matter of the kind's own tests.)
#[test]
fn a_task_definition_that_somebody_deregistered_is_named_beforehand() {
    let shop = Shop::deployed();
    let first = Stand::of(&shop);
    let old = shop.task_definition("api");
    shop.change(1);
    shop.run(&[]).exits(0);
    let ready = shop.back(&["--check"]).exits(0);
    assert!(!ready.out.contains("registered"), "{}", ready.out);

    shop.sandbox.ecs("DeregisterTaskDefinition", &json!({ "taskDefinition": old }));
    let note = "shop-sandbox-api:2 was deregistered: it is registered again as shop-sandbox-api:4";
    shop.back(&["--check"]).exits(0).prints("rollback-ready").prints(&format!("service[api]  {note}"));
    shop.back(&["--dry-run"]).exits(0).prints("warning: shop-sandbox-api:2 was deregistered");
    shop.back(&[]).exits(0);
    assert_eq!(Stand::of(&shop).versions, first.versions);
    assert!(shop.task_definition("api").ends_with("shop-sandbox-api:4"), "as it was said");
}

/// A program whose effect is a file, which its probe looks for.
fn flag(name: &str, more: &str) -> String {
    format!(
        r#"run "{name}" {{
            command "sh" "-c" "echo +{name} >> $STATE/log; touch $STATE/{name}"
            probe {{ command "test" "-e" "${{env.state}}/{name}" }}
            undo {{ command "sh" "-c" "echo -{name} >> $STATE/log; rm -f $STATE/{name}" }}
            inherit "STATE"
            {more}
        }}
        "#
    )
}

impl World {
    /// A flow of three flags whose last step fails. That step writes down how many points lie behind
    /// it, where they are listed.
    fn of_flags() -> Self {
        let world = Self::new("");
        let last = r#"run "last" {
            command "sh" "-c" "if [ -e $STATE/points ]; then wc -l < $STATE/points > $STATE/failed-at; fi; false"
            inherit "STATE"; undo "none"; needs "b" "c"
        }
        "#;
        let steps = [flag("a", ""), flag("b", "needs \"a\""), flag("c", ""), last.to_owned()].concat();
        let state = world.elsewhere.path().display();
        world.project.flow_now(&format!(
            "environment \"dev\" {{ vars {{ state \"{state}\" }} }}\n\
             flow \"f\" {{\non-failure \"rollback\"\n{steps}\n}}\n"
        ));
        world
    }

    /// Which flags there are.
    fn flags(&self) -> Vec<&'static str> {
        ["a", "b", "c"].into_iter().filter(|name| self.state(name).exists()).collect()
    }
}

/// The points that a run passes from the moment when its last step failed.
fn points_behind(list: &std::path::Path, failed_at: &std::path::Path) -> (usize, Vec<String>) {
    let passed = std::fs::read_to_string(failed_at).unwrap().trim().parse().unwrap();
    (passed, crash::read(list))
}

const RUN: [&str; 4] = ["run", "f", "--env", "dev"];

#[test]
fn a_run_that_dies_while_it_is_taken_back_goes_on_taking_back() {
    let whole = World::of_flags();
    whole.project.lists(&whole.state("points"), &RUN).exits(9);
    let (passed, points) = points_behind(&whole.state("points"), &whole.state("failed-at"));
    assert!(points.len() > passed + 20, "{passed} of {}", points.len());
    assert_eq!(whole.flags(), [""; 0]);
    let releases = whole.releases();

    let mut died = 0;
    for point in sample(points.len() - passed) {
        let at = passed + point;
        let what = format!("point {at}, {}", points.get(at - 1).map_or("", String::as_str));
        let world = World::of_flags();
        if let Went::Ended(ran) = world.project.dies_at(at, &RUN) {
            ran.exits(9);
            continue;
        }
        died += 1;
        let run = world.project.newest_run();
        if run["outcome"] == "interrupted" {
            let ran = world.project.run(&["resume", run["id"].as_str().unwrap()]);
            assert_eq!(ran.code, Some(9), "{what}: {}", ran.err);
        }
        assert_eq!(world.flags(), [""; 0], "{what}");
        assert_eq!(world.outcome(), "rolled-back", "{what}");
        assert_eq!(world.releases(), releases, "{what}");
        let noted = world.noted();
        let made = noted.iter().filter(|line| line.starts_with('+')).count();
        assert_eq!(made, 3, "{what}: nothing is made once more: {noted:?}");
    }
    assert!(died > 3, "only {died} runs died");
}

#[test]
fn a_program_that_died_while_it_was_taking_back_is_asked_about() {
    for (more, settles) in [("resume \"rerun\"", false), ("probe { command \"false\" }", true)] {
        let slow = format!(
            r#"run "b" {{
                command "sh" "-c" "echo +b >> $STATE/log"
                undo {{ command "sh" "-c" "echo undoing >> $STATE/log; while [ ! -e $STATE/go ]; do sleep 0.01; done; echo -b >> $STATE/log" }}
                inherit "STATE"; needs "a"; {more}
            }}
            "#
        );
        let world = World::new(&["on-failure \"rollback\"\n", &step("a", ""), &slow, MAY_FAIL].concat());
        world.touch("fail");
        let flow = world.project.start(&RUN);
        let log = || std::fs::read_to_string(world.state("log")).unwrap_or_default();
        until("b is taken back", || log().contains("undoing"));
        kill(flow);
        world.touch("go");
        let run = world.project.newest_run()["id"].as_str().unwrap().to_owned();
        let ran = world.project.run(&["resume", &run]);
        if settles {
            assert_eq!(ran.code, Some(9), "{more}: {}", ran.err);
            assert_eq!(world.noted(), ["+a", "+b", "undoing", "-a"], "its probe says that it is gone");
            continue;
        }
        assert_eq!(ran.code, Some(7), "{more}: {}", ran.err);
        assert!(ran.err.contains(&format!("flow reconcile {run} --mark b=not-done")), "{}", ran.err);
        assert_eq!(world.noted(), ["+a", "+b", "undoing"], "nothing else is taken back meanwhile");
    }
}

#[test]
fn a_failed_deploy_of_the_shop_that_dies_while_it_is_taken_back_ends_where_it_began() {
    let shop = Shop::deployed();
    let elsewhere = tempfile::tempdir().unwrap();
    let [list, failed_at] = ["points", "failed-at"].map(|name| elsewhere.path().join(name));
    let counts =
        format!("if [ -e {0} ]; then wc -l < {0} > {1}; fi; false", list.display(), failed_at.display());
    fails_at_the_end_of(&shop, &format!("\"sh\" \"-c\" \"{counts}\""));
    let before = Stand::of(&shop);
    let definitions = shop.task_definitions();
    shop.change(0);
    let deploy = ["run", "deploy", "--env", "sandbox"];
    shop.project.lists(&list, &deploy).exits(9);
    let (passed, points) = points_behind(&list, &failed_at);
    std::fs::remove_file(&list).unwrap();

    let mut died = 0;
    for (number, point) in sample(points.len() - passed).into_iter().enumerate() {
        let at = passed + point;
        let what = format!("point {at}, {}", points.get(at - 1).map_or("", String::as_str));
        shop.change(number + 1);
        if matches!(shop.project.dies_at(at, &deploy), Went::Died) {
            died += 1;
            let run = shop.project.newest_run();
            if run["outcome"] == "interrupted" {
                let ran = shop.project.run(&["resume", run["id"].as_str().unwrap()]);
                assert_eq!(ran.code, Some(9), "{what}: {}", ran.err);
            }
        }
        let after = Stand::of(&shop);
        assert_eq!((&after.versions, &after.site), (&before.versions, &before.site), "{what}");
        assert_eq!(shop.task_definitions(), definitions, "{what}");
    }
    println!("{} points while it is taken back, {died} runs died there", points.len() - passed);
    assert!(died > 3, "only {died} runs died");
}

#[test]
fn a_rollback_of_programs_and_services_that_dies_goes_on_to_the_same_end() {
    let shop = Shop::deployed();
    let first = Stand::of(&shop);
    let elsewhere = tempfile::tempdir().unwrap();
    let state = elsewhere.path().display();
    let flagged = format!(
        r#"run "flag" {{
            command "sh" "-c" "touch {state}/flag"
            probe {{ command "test" "-e" "{state}/flag" }}
            undo {{ command "sh" "-c" "echo undone >> {state}/log; rm -f {state}/flag" }}
            needs "schema"
        }}
        "#
    );
    shop.edit("flows/deploy.kdl", "on-failure \"rollback\"", &flagged);
    let back = ["rollback", "deploy", "--env", "sandbox", "--to", "1"];
    shop.change(0);
    shop.run(&[]).exits(0);
    let list = elsewhere.path().join("points");
    shop.project.lists(&list, &back).exits(0);
    let points = crash::read(&list);
    let flag = elsewhere.path().join("flag");
    assert!(!flag.exists());

    let mut died = 0;
    for (number, point) in sample(points.len()).into_iter().enumerate() {
        let what = format!("point {point}, {}", points[point - 1]);
        shop.change(number + 1);
        shop.run(&[]).exits(0);
        assert!(flag.exists(), "{what}");
        shop.proxy.forget();
        if matches!(shop.project.dies_at(point, &back), Went::Died) {
            died += 1;
            let run = shop.project.newest_run();
            if run["outcome"] == "interrupted" {
                let ran = shop.project.run(&["resume", run["id"].as_str().unwrap()]);
                assert_eq!(ran.code, Some(0), "{what}: {}", ran.err);
            } else if flag.exists() {
                // It died before its first record.
                shop.project.run(&back).exits(0);
            }
        }
        let after = Stand::of(&shop);
        assert_eq!((&after.versions, &after.site), (&first.versions, &first.site), "{what}");
        assert!(!flag.exists(), "{what}");
        assert_eq!(shop.proxy.count("ecs:UpdateService"), 1, "{what}");
    }
    println!("{} points of a rollback, {died} runs died there", points.len());
    assert!(died > 3, "only {died} runs died");
}

/// Deploy A, deploy B, and a runbook that goes back to A between two looks; killed in the middle and
/// gone on with.
#[cfg(feature = "crash-points")]
#[test]
fn the_shop_goes_back_inside_a_runbook_that_is_killed_and_resumed() {
    let mut shop = Shop::deployed();
    shop.project.write(
        "flows/incident.kdl",
        r#"flow "incident" {
    run "before" { command "true"; inputs "flows/*" }
    rollback "back" { flow "deploy"; needs "before"; ungated #true }
    run "after" { command "true"; needs "back"; inputs "flows/*" }
}
"#,
    );
    shop.commit("a runbook");
    let a = Stand::of(&shop);
    shop.change(1);
    shop.run(&[]).exits(0).says("release 2\n");
    let incident = |project: &Project, more: &[&str]| {
        project.run(&[&["run", "incident", "--env", "sandbox"], more].concat())
    };
    incident(&shop.project, &["--dry-run"]).exits(0).prints("back/service[api]").prints("back/site");

    // Later and later, until it dies with something of the shop on its way back.
    let begun = |record: &serde_json::Value| {
        let step = record["event"]["step"].as_str().unwrap_or_default();
        record["event"]["type"] == "intent" && step.starts_with("back/")
    };
    for at in (50..).step_by(10) {
        shop.project.set("FLOW_CRASH_AT", &at.to_string());
        let killed = incident(&shop.project, &[]);
        assert_ne!(killed.code, Some(0), "it got to its end: {}", killed.err);
        if shop.project.journal().iter().any(begun) {
            break;
        }
    }
    shop.project.set("FLOW_CRASH_AT", "0");
    let run = newest_run(&shop.project);
    shop.project.run(&["resume", &run]).exits(0).says("deploy is back at release 1");
    let back = Stand::of(&shop);
    assert_eq!((&back.versions, &back.site), (&a.versions, &a.site));
    let json = shop.project.run(&["releases", "--env", "sandbox", "--json"]).exits(0).json();
    let newest = json["releases"].as_array().unwrap().iter().find(|row| row["flow"] == "deploy").unwrap();
    assert_eq!((&newest["rolled_back_to"], &newest["failed"]), (&1.into(), &false.into()));
    shop.back(&["--to", "1"]).exits(0).says("nothing changed, release 3 stays live");
}
