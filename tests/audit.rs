//! Whether the journals are what was written.

use crate::support::project::Project;

#[test]
fn a_line_that_was_altered_is_named() {
    let project = Project::new().flow(
        r#"
        environment "dev"
        flow "make" { run "first" { command "true" }; run "second" { needs "first"; command "true" } }"#,
    );
    project.run(&["audit", "verify"]).exits(0).prints("0 runs");
    project.run(&["run", "make", "--env", "dev"]).exits(0);
    project.run(&["run", "make", "--env", "dev"]).exits(0);
    let records = project.journal().len();
    let run = project.journal()[0]["event"]["run"].as_str().unwrap().to_owned();
    project.run(&["audit", "verify"]).exits(0).prints("2 runs, ").prints("as they were written");
    project.run(&["audit", "verify", &run]).exits(0).prints(&format!("1 run, {records} records"));

    let path = format!(".flow/store/runs/{run}/journal.jsonl");
    let text = project.read(&path);
    project.write(&path, text.replacen(r#""step":"first""#, r#""step":"thirst""#, 1));
    let at = text.lines().position(|line| line.contains(r#""step":"first""#)).unwrap() + 1;
    let told =
        format!("damaged: line {at} of the journal of run {run} was altered after line {} was", at + 1);
    project.run(&["audit", "verify"]).exits(1).says(&told).says("1 of 2 runs cannot be believed");
    let listed = project.run(&["audit", "verify", "--json"]).exits(1).json();
    let whole = |run: &serde_json::Value| run["whole"].as_bool().unwrap();
    assert_eq!(listed["runs"].as_array().unwrap().iter().filter(|run| whole(run)).count(), 1, "{listed:#}");

    // A line that was never finished was never acknowledged: that is no damage.
    project.write(&path, format!("{text}{{\"version\":1,\"seq\""));
    project.run(&["audit", "verify", &run]).exits(0);
    project.run(&["audit", "verify", "zzzz"]).exits(2).says("there is no run zzzz");
}
