//! A flow that goes back as a step of another one: its releases, its parts, and its end by force.

use super::{World, three};
use crate::support::project::{Project, Ran};

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

/// Deploy A, deploy B, and a runbook that goes back to A between two looks; killed in the middle and
/// gone on with.
#[cfg(feature = "crash-points")]
#[test]
fn the_shop_goes_back_inside_a_runbook_that_is_killed_and_resumed() {
    use crate::support::{shop::Shop, stand::Stand};

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
