//! `flow run --check`: everything that would stop a run is found before it, and nothing is changed.

use crate::support::project::Project;
use crate::support::shop::Shop;
use crate::support::stand::Stand;
use crate::support::wait::until;

const CHECK: [&str; 5] = ["run", "deploy", "--env", "dev", "--check"];

/// Says that it ran, and stands while there is a file `stand`.
const FLOW: &str = r#"
    environment "dev" { branch "main" }
    flow "deploy" {
        run "one" {
            undo { command "touch" "undone"; }
            script "echo one >> ran; while [ -e stand ]; do sleep 0.02; done"
        }
        run "two" { needs "one"; command "touch" "two" }
    }"#;

fn project() -> Project {
    let project = Project::new().file(".gitignore", ".flow\nran\nstand\ntwo\nundone\n").flow(FLOW);
    project.git(&["init", "--quiet", "--initial-branch", "main"]);
    project.git(&["add", "--all"]);
    project.git(&["commit", "--quiet", "--message", "begun"]);
    project
}

#[test]
fn a_run_that_could_be_run_is_ready_and_nothing_of_it_has_run() {
    let project = project();
    let ran = project.run(&CHECK).exits(0).prints("deploy → dev: ready: 2 of 2 steps would run");
    assert!(ran.out.contains("no release yet that a rollback could return to"), "{}", ran.out);
    assert!(!project.path("ran").exists() && !project.path("two").exists());
    assert!(project.run(&["runs", "--json"]).exits(0).json()["runs"].as_array().unwrap().is_empty());

    project.run(&CHECK[..4]).exits(0);
    project.run(&CHECK).exits(0).prints("rollback-ready: release 1");
    let json = project.run(&[&CHECK[..], &["--json"]].concat()).exits(0).json();
    assert_eq!((&json["ready"], &json["runs"]), (&true.into(), &2.into()), "{json:#}");
    assert_eq!((&json["rollback"]["ready"], &json["rollback"]["to"]), (&true.into(), &1.into()), "{json:#}");
    assert_eq!(project.read("ran"), "one\n");
}

#[test]
fn everything_that_would_stop_it_is_said_at_once() {
    let project = project();
    project.write("stand", "");
    let mut running = project.start(&CHECK[..4]);
    until("its step has started", || project.path("ran").exists());
    project.git(&["checkout", "--quiet", "-b", "try"]);
    let ran = project.run(&CHECK).exits(5).prints("not ready: 2 reasons");
    assert!(ran.out.contains("dev is locked by run") && ran.out.contains("flow unlock dev"), "{}", ran.out);
    assert!(ran.out.contains("main") && ran.out.contains("try"), "{}", ran.out);
    std::fs::remove_file(project.path("stand")).unwrap();
    assert!(running.wait().unwrap().success());
    project.git(&["checkout", "--quiet", "main"]);
    project.run(&CHECK).exits(0);
}

#[test]
fn a_program_that_is_not_there_is_said_before_anything_runs() {
    let project = Project::new().flow(
        r#"environment "dev"
        flow "deploy" { run "one" { command "touch" "one" }; run "two" { command "frobnicate" "--all" } }"#,
    );
    let said = "frobnicate is not on PATH here";
    assert!(project.run(&["plan", "deploy", "--env", "dev"]).exits(0).out.contains(said));
    assert!(project.run(&CHECK).exits(0).out.contains(said));
    assert!(!project.path("one").exists());
}

#[test]
fn what_a_rollback_after_it_would_miss_is_found_before_the_run() {
    let shop = Shop::deployed();
    shop.change(1);
    let before = Stand::of(&shop);
    let ran = shop.run(&["--check"]).exits(0).prints("ready: ");
    assert!(ran.out.contains("rollback-ready: release 1"), "{}", ran.out);
    assert_eq!(Stand::of(&shop), before, "proving changes nothing");

    let listed = shop.sandbox.rest("GET", "/shop-sandbox-site?versions&prefix=index.html", &[], b"");
    let version = listed.elements("VersionId").pop().unwrap();
    shop.sandbox.rest("DELETE", &format!("/shop-sandbox-site/index.html?versionId={version}"), &[], b"");
    let ran = shop.run(&["--check"]).exits(5).prints("not rollback-ready");
    assert!(ran.out.contains("site") && ran.out.contains("index.html"), "{}", ran.out);
}
