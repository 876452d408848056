//! What is said of the cache, and what may be done to it: `explain`, `cache`, `changed(…)`.

use super::{Project, flat, one, project, run};

#[test]
fn explain_names_the_variable_the_step_in_front_the_file_and_the_tool() {
    let mut project = project(
        r#"
        run "gen" { inputs "in"; outputs "gen"; script "cat in > gen; echo v=$(cat in) >> $FLOW_OUTPUT" }
        run "use" {
            inputs "gen"
            outputs "out"
            tool "thing" version-from="cat version"
            env V="${step.gen.v}"
            inherit "NAMED"
            script "cat gen > out"
        }"#,
    )
    .file("in", "1")
    .file("version", "1")
    .var("NAMED", "1");
    let explain =
        |project: &Project, step: &str| project.run(&["explain", "f", step, "--env", "dev"]).exits(0);
    explain(&project, "gen").prints("gen  runs: it has not run here before").prints("file       in");
    run(&project).exits(0);
    explain(&project, "use").prints("use  up to date").prints("key ").prints("value      step.gen.v");
    project.write("version", "2");
    explain(&project, "use").prints("thing is 2, was 1").prints("tool       thing  1 → 2");
    project.write("version", "1");
    project.set("NAMED", "2");
    explain(&project, "use").prints("inherit NAMED of its definition changed");
    project.set("NAMED", "1");
    project.write("in", "2");
    run(&project).exits(0);
    project.write("in", "1");
    run(&project).exits(0).says("restored ");
    project.write("gen", "tampered");
    let shown = project.run(&["explain", "f", "gen", "--env", "dev", "--json"]).exits(0).json();
    let step = &shown["steps"][0];
    assert_eq!((&step["id"], &step["action"]), (&"gen".into(), &"cached".into()));
    assert_eq!(step["tampered"], serde_json::json!(["gen"]));
    assert_eq!(step["key"].as_str().unwrap().len(), 64);
    let project = super::project(r#"run "deploys" { script "true" }"#);
    project.run(&["explain", "f", "deploys", "--env", "dev"]).exits(1).says("it does more than make files");
}

#[test]
fn a_step_that_runs_says_why() {
    let project = one();
    project.write("in/a.txt", "changed\n");
    run(&project).exits(0).says("in/a.txt changed");
    let step = &project.journal();
    let ended = step.iter().rev().find(|record| record["event"]["type"] == "step-ended").unwrap();
    assert_eq!(ended["event"]["summary"], "in/a.txt changed");
}

#[test]
fn an_audit_names_what_is_used_and_not_declared_and_stores_nothing() {
    let strace = std::process::Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !strace.is_ok_and(|done| done.status.success()) {
        println!("skipped: strace does not work here");
        return;
    }
    let mut project = project(
        r#"run "make" {
            inputs "in/*"
            outputs "out/o"
            dir "in"
            script "mkdir -p ../out; cat a ../config/level > ../out/o; echo x > ../out/other"
        }"#,
    )
    .file("in/a", "1")
    .file("config/level", "2");
    let audit = ["explain", "f", "make", "--env", "dev", "--audit"];
    let found = project.run(&audit).exits(1);
    let found = found
        .prints("read, and not under inputs\n    config/level")
        .prints("written, and not under outputs\n    out/other");
    let found = found.prints("cat");
    assert!(!found.out.contains("in/a\n"), "{}", found.out);
    assert!(!project.path(".flow/cache/entries").exists() && !project.path(".flow/cache/successes").exists());
    let shown = project.run(&[&audit[..], &["--json"]].concat()).exits(1).json();
    assert_eq!(shown["steps"][0]["audit"]["read"], serde_json::json!(["config/level"]));
    project.set("PATH", "/nowhere");
    project.run(&audit).exits(1).says("an audit needs strace");
}

#[test]
fn pruning_keeps_what_is_used_last_and_what_is_current() {
    let project = one();
    for text in ["x\n", "y\n", "z\n"] {
        project.write("in/a.txt", text);
        run(&project).exits(0);
    }
    let shown = project.run(&["cache", "stats", "--json"]).exits(0).json();
    assert_eq!((&shown["entries"], &shown["files"], &shown["steps"]), (&4.into(), &4.into(), &1.into()));
    project.run(&["cache", "prune"]).exits(0).prints("removed 0 entries");
    project.run(&["cache", "prune", "--older-than", "0s"]).exits(0).prints("removed 3 entries and 3 files");
    std::fs::remove_file(project.path("out/o.txt")).unwrap();
    run(&project).exits(0).says("restored 1 file");
    project.run(&["cache", "prune", "--max-size", "0"]).exits(0).prints("0 entries left");
    std::fs::remove_file(project.path("out/o.txt")).unwrap();
    run(&project).exits(0);
    assert_eq!(project.read("out/o.txt"), "z\nbb\n");
    project.run(&["cache", "prune", "--max-size", "big"]).exits(2).says("write a size");
}

fn git(project: &Project, arguments: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"];
    let done =
        std::process::Command::new("git").args(identity).args(arguments).current_dir(project.root()).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn changed_is_about_files_since_the_last_release() {
    let project = project(
        r##"
        run "web" { when #"changed("web/**", "shared")"#; script "echo web >> done" }
        run "api" { when "!changed('web/**')"; script "echo api >> done" }"##,
    )
    .file("web/a", "1")
    .file("api/a", "1")
    .file(".gitignore", "done\nignored\n.flow\n");
    git(&project, &["init", "-q"]);
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "x"]);
    let done = |project: &Project| {
        run(project).exits(0);
        let text = std::fs::read_to_string(project.path("done")).unwrap_or_default();
        let _ = std::fs::remove_file(project.path("done"));
        text
    };
    assert_eq!(done(&project), "web\n", "without a release everything changed");
    assert_eq!(done(&project), "api\n");
    project.write("web/ignored", "1");
    assert_eq!(done(&project), "api\n", "what git ignores is no change");
    project.write("web/new", "1");
    assert_eq!(done(&project), "web\n", "a file that is not tracked yet");
    // That release was made from files no commit holds, tracked or not: only tracked ones make it dirty.
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "y"]);
    assert_eq!(done(&project), "web\n", "since the release the file came");
    assert_eq!(done(&project), "api\n");
    std::fs::remove_file(project.path("web/a")).unwrap();
    assert_eq!(done(&project), "web\n", "a file that is gone");
    let plan = project.run(&["plan", "f", "--env", "dev"]).exits(0);
    let text = flat(&plan.out);
    assert!(text.contains("was made from files that no commit holds"), "{text}");
}

#[test]
fn a_commit_that_this_clone_does_not_have_counts_as_changed_and_is_said() {
    let project = project(
        r#"run "web" { when "changed('web/**')"; script "echo web >> done" }
        run "other" { script "true" }"#,
    )
    .file("web/a", "1")
    .file(".gitignore", "done\n.flow\n");
    git(&project, &["init", "-q"]);
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "x"]);
    run(&project).exits(0);
    run(&project).exits(0);
    assert_eq!(project.read("done"), "web\n");
    std::fs::remove_dir_all(project.path(".git")).unwrap();
    git(&project, &["init", "-q"]);
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "another history"]);
    let plan = project.run(&["plan", "f", "--env", "dev"]).exits(0);
    assert!(flat(&plan.out).contains("is not in this clone"), "{}", plan.out);
    run(&project).exits(0);
    assert_eq!(project.read("done"), "web\nweb\n");
}
