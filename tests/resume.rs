//! Runs that were interrupted: nothing is done twice, nothing is lost, and what nobody can tell is asked.

use std::collections::BTreeMap;

use crate::support::project::{Project, Ran};
use crate::support::wait::{kill, until};

/// A project with an unprotected environment and these steps.
fn project(steps: &str) -> Project {
    Project::new().flow(&format!("environment \"dev\"\nflow \"ship\" {{\n{steps}\n}}"))
}

/// A step that adds its name to a file, and whose probe says whether it is there.
fn probed(name: &str, more: &str) -> String {
    format!(
        r#"run "{name}" {{ command "sh" "-c" "echo {name} >> world; echo made={name} >> $FLOW_OUTPUT"; probe {{ command "grep" "-qx" "{name}" "world" }}; {more} }}
        "#
    )
}

/// What the steps of a project have made, each as often as it was made.
fn world(project: &Project) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(project.path("world")).unwrap_or_default();
    let mut made = BTreeMap::new();
    for line in text.lines() {
        *made.entry(line.to_owned()).or_default() += 1;
    }
    made
}

fn run_id(project: &Project) -> String {
    let runs = project.run(&["runs", "--json"]).exits(0).json();
    runs["runs"][0]["id"].as_str().unwrap_or_default().to_owned()
}

/// A program that blocks until `go` exists, having written `begun`.
const BLOCKS: &str = r#"command "sh" "-c" "echo begun >> world; while [ ! -e go ]; do sleep 0.01; done""#;

/// A run that died in the middle of its step `b`, after `a` and before `c`.
fn died(attributes: &str) -> (Project, String) {
    let project = project(&format!(
        r#"{}
        run "b" {{ needs "a"; {BLOCKS}; {attributes} }}
        {}"#,
        probed("a", "undo \"none\""),
        probed("c", "needs \"b\""),
    ));
    let flow = project.start(&["run", "ship", "--env", "dev"]);
    until("b has begun", || world(&project).contains_key("begun"));
    kill(flow);
    let run = run_id(&project);
    (project, run)
}

#[test]
fn a_run_that_was_killed_is_gone_on_with_and_does_nothing_twice() {
    let (project, run) = died("resume \"rerun\"");
    project.run(&["runs"]).exits(0).prints("interrupted");
    project.run(&["log", &run]).exits(0).prints(&format!("flow resume {run}"));
    project.write("go", "");
    let resumed = project.run(&["resume", &run]).exits(0).says("1 done before").says("release");
    assert!(!resumed.err.contains("✓ a "), "what was done is counted, not listed:\n{}", resumed.err);
    let made = world(&project);
    assert_eq!((made["a"], made["begun"], made["c"]), (1, 2, 1), "{made:?}");
    let releases = project.run(&["releases", "--env", "dev", "--json"]).exits(0).json();
    let newest = &releases["releases"][0];
    assert_eq!(newest["failed"], false, "{releases}");
    assert_eq!(newest["run"], run.as_str(), "{releases}");
    project.run(&["resume", &run]).exits(0).says("has succeeded");
    project.run(&["log", &run]).exits(0).prints("resumed by");
}

#[test]
fn what_nobody_can_tell_stops_with_the_two_commands_that_settle_it() {
    for (word, begun) in [("done", 1), ("not-done", 2)] {
        let (project, run) = died("");
        project.write("go", "");
        let asked = project.run(&["resume", &run]).exits(7);
        for word in ["done", "not-done"] {
            let command = format!("flow reconcile {run} --mark b={word} --reason");
            assert!(asked.err.contains(&command), "{}", asked.err);
        }
        project.run(&["reconcile", &run]).exits(7).says("a program cannot be asked");
        project.run(&["run", "ship", "--env", "dev"]).exits(7).says("what an earlier run did must be known");
        let mark = format!("b={word}");
        project
            .run(&["reconcile", &run, "--mark", &mark, "--reason", "I looked"])
            .exits(0)
            .says("flow resume");
        project.run(&["resume", &run]).exits(0);
        let made = world(&project);
        assert_eq!((made["a"], made["begun"], made["c"]), (1, begun, 1), "{word}: {made:?}");
        let journal = project.journal();
        let by: Vec<_> = journal.iter().filter_map(|record| record["event"]["by"].as_str()).collect();
        assert!(by.iter().any(|by| by.ends_with(": I looked")), "{by:?}");
    }
}

#[test]
fn only_what_is_open_can_be_marked() {
    let (project, run) = died("");
    let refused = |mark: &str| project.run(&["reconcile", &run, "--mark", mark, "--reason", "x"]).exits(2);
    refused("a=done").says("a is recorded as done").says("open: b");
    refused("c=not-done").says("c left nothing open");
    refused("nothing=done").says("has no step nothing");
    project.run(&["reconcile", &run, "--mark", "b=perhaps", "--reason", "x"]).exits(2);
    project.run(&["reconcile", &run, "--mark", "b=done"]).exits(2).says("--reason");
}

#[test]
fn the_next_run_settles_what_a_dead_one_left_and_records_what_it_did() {
    let (project, run) = died("probe { command \"test\" \"-e\" \"go\" }");
    project.write("go", "");
    project
        .run(&["run", "ship", "--env", "dev"])
        .exits(0)
        .says(&format!("run {run} was interrupted in the middle of b: it was done"));
    assert_eq!(world(&project)["begun"], 1, "b was done, and its probe says so");
    let releases = project.run(&["releases", "--env", "dev", "--json"]).exits(0).json();
    let of_dead =
        releases["releases"].as_array().unwrap().iter().find(|release| release["run"] == run.as_str());
    assert!(of_dead.is_some(), "{releases}");
    project.run(&["resume", &run]).exits(5).says("has changed dev since").says("flow run ship --env dev");
}

#[test]
fn a_run_that_failed_goes_on_where_it_failed() {
    let project = project(&format!(
        r#"{} run "b" {{ needs "a"; command "sh" "-c" "echo b >> world; test -e go"; undo "none" }}; {}"#,
        probed("a", "undo \"none\""),
        probed("c", "needs \"b\""),
    ));
    let ran = project.run(&["run", "ship", "--env", "dev"]).exits(1);
    let run = run_id(&project);
    let ran = ran.says(&format!("flow resume {run}"));
    drop(ran);
    project.run(&["resume", &run]).exits(1);
    project.write("go", "");
    project.run(&["resume", &run]).exits(0);
    let made = world(&project);
    assert_eq!((made["a"], made["b"], made["c"]), (1, 3, 1));
    // The release of the first failure was enough for the second.
    project.run(&["runs"]).exits(0).prints("release 2");
}

#[test]
fn a_run_under_way_is_not_gone_on_with() {
    let project = project(&format!("run \"b\" {{ {BLOCKS} }}"));
    let flow = project.start(&["run", "ship", "--env", "dev"]);
    until("b has begun", || world(&project).contains_key("begun"));
    let run = run_id(&project);
    project.run(&["resume", &run]).exits(4);
    project.write("go", "");
    let ran: Ran = flow.wait_with_output().unwrap().into();
    ran.exits(0);
}

#[test]
fn outputs_are_taken_from_the_journal_and_secret_ones_are_made_again() {
    let project = Project::new().var("TOKEN", "correct-horse-battery").flow(&format!(
        r#"environment "dev" {{ secret "token" from="env:TOKEN" }}
        flow "ship" {{
            run "open" {{ command "sh" "-c" "echo open >> world; echo id=41 >> $FLOW_OUTPUT" }}
            run "hidden" {{ env T="${{secret.token}}"; command "sh" "-c" "echo hidden >> world; echo key=$T >> $FLOW_OUTPUT" }}
            run "b" {{ needs "open" "hidden"; {BLOCKS}; resume "rerun" }}
            run "c" {{ needs "b"; env ID="${{step.open.id}}" KEY="${{step.hidden.key}}"; command "sh" "-c" "test $ID = 41 && test $KEY = correct-horse-battery" }}
        }}"#
    ));
    let flow = project.start(&["run", "ship", "--env", "dev"]);
    until("b has begun", || world(&project).contains_key("begun"));
    kill(flow);
    project.write("go", "");
    project.run(&["resume", &run_id(&project)]).exits(0);
    let made = world(&project);
    assert_eq!((made["open"], made["hidden"]), (1, 2), "{made:?}");
}

/// Everything that a run of three steps passes, killed there, gone on with, and killed there too.
#[cfg(feature = "crash-points")]
#[test]
fn killed_at_every_point_it_ends_as_if_it_had_not_been() {
    let flow = format!("{}{}{}", probed("a", ""), probed("b", "needs \"a\""), probed("c", "needs \"b\""));
    let ship = ["run", "ship", "--env", "dev"];
    let whole = project(&flow);
    let list = whole.path("points").display().to_string();
    let counted = whole.var("FLOW_CRASH_LIST", &list);
    counted.run(&ship).exits(0);
    let points = counted.read("points").lines().count();
    assert!(points > 40, "{points}");
    let wanted = BTreeMap::from(["a", "b", "c"].map(|step| (step.to_owned(), 1)));
    assert_eq!(world(&counted), wanted);

    let again = |project: Project, at: usize| {
        let project = project.var("FLOW_CRASH_AT", "0");
        let runs = project.run(&["runs", "--json"]).exits(0).json();
        let interrupted =
            runs["runs"].as_array().unwrap().first().filter(|run| run["outcome"] != "succeeded");
        match interrupted.and_then(|run| run["id"].as_str()) {
            Some(run) => project.run(&["resume", run]).exits(0),
            // It died before its first record, or after its last.
            None => project.run(&ship).exits(0),
        };
        assert_eq!(world(&project), wanted, "killed at {at}");
        let live = project.run(&["releases", "--env", "dev", "--json"]).exits(0).json();
        assert_eq!(live["releases"][0]["failed"], false, "killed at {at}: {live}");
        project.run(&["resume", &run_id(&project)]).exits(0).says("has succeeded");
    };
    let mut runs = 0;
    for at in 1..=points {
        let project = project(&flow).var("FLOW_CRASH_AT", &at.to_string());
        let ran = project.run(&ship);
        assert_ne!(ran.code, Some(1), "{}", ran.err);
        again(project, at);
        runs += 1;
    }
    // A second crash, while the first one is gone on with.
    for at in (1..=points).step_by(13) {
        for second in (1..=points).step_by(11) {
            let project = project(&flow).var("FLOW_CRASH_AT", &at.to_string());
            project.run(&ship);
            let project = project.var("FLOW_CRASH_AT", "0");
            let runs = project.run(&["runs", "--json"]).exits(0).json();
            let project = project.var("FLOW_CRASH_AT", &second.to_string());
            if let Some(run) = runs["runs"][0]["id"].as_str() {
                project.run(&["resume", run]);
            }
            again(project, at * 1000 + second);
        }
        runs += 1;
    }
    eprintln!("{points} points, {runs} runs");
}

#[test]
fn a_run_whose_files_changed_meanwhile_is_refused_and_says_what() {
    let (project, run) = died("resume \"rerun\"");
    project.write("go", "");
    let flow = project.read("flows/main.kdl");
    project.flow_now(&flow.replace("echo made=c", "echo made=other"));
    project.run(&["resume", &run]).exits(5).says("command").says("flow run ship --env dev");
    assert!(!world(&project).contains_key("c"));
    project.flow_now(&format!("// a comment changes nothing\n{flow}"));
    project.run(&["resume", &run]).exits(0);
    assert_eq!(world(&project)["a"], 1);
}

/// A run of one migration that died right before its script; nobody knows of it but the database.
#[cfg(feature = "crash-points")]
#[test]
fn an_effect_is_not_asked_about_where_it_was_not_made() {
    let flow = |file: &str| {
        format!(
            "environment \"dev\"\nflow \"ship\" {{\n migrate \"schema\" {{ dir \"migrations\"; url \"sqlite:{file}?mode=rwc\" }}\n}}"
        )
    };
    let started = || Project::new().flow(&flow("a.db")).file("migrations/1_a.sql", "create table a (b int);");
    let ship = ["run", "ship", "--env", "dev"];
    let counted = started().var("FLOW_CRASH_LIST", "points");
    counted.run(&ship).exits(0);
    let points = counted.read("points");
    let at = points.lines().position(|point| point == "database.script 1.before").unwrap() + 1;

    let project = started().var("FLOW_CRASH_AT", &at.to_string());
    project.run(&ship);
    let project = project.var("FLOW_CRASH_AT", "0");
    let run = run_id(&project);
    project.flow_now(&flow("b.db"));
    for words in [["resume", &run], ["reconcile", &run]] {
        project.run(&words).exits(7).says("url is another one now than when the run began");
    }
    project.run(&ship).exits(7).says("url is another one now than when the run began");
    project.flow_now(&flow("a.db"));
    project.run(&["resume", &run]).exits(0);
}
