//! The cache of steps that make files: never wrong, and it says why.

mod any_graph;
mod large;
mod telling;
mod trouble;

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::Digest as _;

use crate::support::project::{Project, Ran};
use crate::support::wait::until;

/// One step that makes `out/o.txt` of everything under `in`, and notes that it ran.
const ONE: &str = r#"environment "dev"
flow "f" {
    run "make" {
        inputs "in/**" { exclude "**/*.log" }
        outputs "out/o.txt"
        tool "thing" version-from="cat version"
        inherit "NAMED"
        env MODE="1"
        script "mkdir -p out; find in -type f ! -name '*.log' | sort | xargs cat > out/o.txt; echo ran >> runs"
    }
}
"#;

fn one() -> Project {
    let project = Project::new()
        .var("NAMED", "1")
        .file("in/a.txt", "aa\n")
        .file("in/b.txt", "bb\n")
        .file("version", "1\n")
        .flow(ONE);
    run(&project).exits(0);
    assert_eq!(runs(&project), 1);
    project
}

/// A project with one environment and these lines in flow `f`.
fn project(lines: &str) -> Project {
    Project::new().flow(&format!("environment \"dev\"\nflow \"f\" {{\n{lines}\n}}\n"))
}

const RUN: [&str; 4] = ["run", "f", "--env", "dev"];

fn run(project: &Project) -> Ran {
    project.run(&RUN)
}

/// What was said, on one line: lines are wrapped at 80 columns.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Checks that standard error says something, wherever its lines end.
#[track_caller]
fn said(ran: Ran, text: &str) -> Ran {
    assert!(flat(&ran.err).contains(text), "standard error does not say {text:?}:\n{}", ran.err);
    ran
}

/// How often steps ran.
fn runs(project: &Project) -> usize {
    std::fs::read_to_string(project.path("runs")).unwrap_or_default().lines().count()
}

/// Whether the next flow would find the program that runs now.
fn is_noted(project: &Project) -> bool {
    project.files(".flow/tmp").keys().any(|name| name.contains("-group-"))
}

/// Writes a file so that size and time stamp stay what they were.
fn same_look(project: &Project, path: &str, text: &str) {
    let path = project.path(path);
    let before = path.metadata().unwrap();
    assert_eq!(before.len(), text.len() as u64);
    std::fs::write(&path, text).unwrap();
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(before.modified().unwrap())
        .unwrap();
}

/// What a change must lead to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Nothing is done.
    Nothing,
    /// It runs.
    Runs,
    /// What was made before is put back.
    Restored,
}

/// Changes a project that is up to date, and checks what the next run does and leaves.
fn check(what: &str, change: impl FnOnce(&mut Project), then: Then, expected: &str, line: &str) {
    let mut project = one();
    change(&mut project);
    let before = runs(&project);
    let plan = project.run(&["plan", "f", "--env", "dev"]).exits(0);
    assert!(plan.out.contains(line), "{what}: the plan does not say {line:?}:\n{}", plan.out);
    let ran = run(&project).exits(0);
    assert_eq!(runs(&project) - before, usize::from(then == Then::Runs), "{what}: {}", ran.err);
    assert_eq!(ran.err.contains("restored 1 file"), then == Then::Restored, "{what}: {}", ran.err);
    assert_eq!(project.read("out/o.txt"), expected, "{what}");
    let again = runs(&project);
    run(&project).exits(0);
    assert_eq!(runs(&project), again, "{what}: the second time there is nothing to do");
}

const MADE: &str = "aa\nbb\n";

#[test]
fn a_touched_input_is_no_change() {
    check("touch", |p| p.write("in/a.txt", "aa\n"), Then::Nothing, MADE, "up to date");
}

#[test]
fn an_edit_is_seen_also_with_the_same_size_and_time_stamp() {
    check("edit", |p| p.write("in/a.txt", "AAA\n"), Then::Runs, "AAA\nbb\n", "in/a.txt changed");
    check("same look", |p| same_look(p, "in/a.txt", "AA\n"), Then::Runs, "AA\nbb\n", "in/a.txt changed");
}

#[test]
fn a_clock_that_was_set_back_hides_nothing() {
    let change = |p: &mut Project| {
        p.write("in/a.txt", "AA\n");
        let file = std::fs::File::options().write(true).open(p.path("in/a.txt")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    };
    check("clock", change, Then::Runs, "AA\nbb\n", "in/a.txt changed");
}

#[test]
fn removed_new_and_renamed_inputs_are_seen() {
    let remove = |p: &mut Project| std::fs::remove_file(p.path("in/b.txt")).unwrap();
    check("removed", remove, Then::Runs, "aa\n", "in/b.txt is gone");
    check("new", |p| p.write("in/deep/.c", "cc\n"), Then::Runs, "aa\nbb\ncc\n", "in/deep/.c is new");
    let rename = |p: &mut Project| std::fs::rename(p.path("in/a.txt"), p.path("in/c.txt")).unwrap();
    check("renamed", rename, Then::Runs, "bb\naa\n", "2 of 2 inputs differ, first in/a.txt");
    let case = |p: &mut Project| std::fs::rename(p.path("in/a.txt"), p.path("in/A.txt")).unwrap();
    check("case", case, Then::Runs, MADE, "inputs differ");
}

#[test]
fn bytes_that_move_over_the_border_of_two_files_are_seen() {
    let change = |p: &mut Project| {
        p.write("in/a.txt", "aa\nb");
        p.write("in/b.txt", "b\n");
    };
    check("border", change, Then::Runs, MADE, "2 of 2 inputs differ, first in/a.txt");
}

#[test]
fn an_excluded_file_does_not_count() {
    check("excluded", |p| p.write("in/x.log", "x"), Then::Nothing, MADE, "up to date");
}

#[test]
fn the_executable_bit_and_the_target_of_a_link_count() {
    let bit = |p: &mut Project| {
        std::fs::set_permissions(p.path("in/a.txt"), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    check("bit", bit, Then::Runs, MADE, "in/a.txt changed");
    let project = one();
    symlink("a.txt", project.path("in/link")).unwrap();
    run(&project).exits(0);
    assert_eq!(runs(&project), 2, "a new link");
    std::fs::remove_file(project.path("in/link")).unwrap();
    symlink("b.txt", project.path("in/link")).unwrap();
    run(&project).exits(0);
    assert_eq!(runs(&project), 3, "another target");
}

#[test]
fn a_file_that_became_a_folder_is_seen() {
    let change = |p: &mut Project| {
        std::fs::remove_file(p.path("in/a.txt")).unwrap();
        p.write("in/a.txt/inside", "ii\n");
    };
    check("folder", change, Then::Runs, "ii\nbb\n", "2 of 2 inputs differ, first in/a.txt");
}

#[test]
fn another_command_tool_or_named_variable_is_seen_and_one_that_is_not_named_is_not() {
    let with = |from: &str, to: &str| {
        let text = ONE.replace(from, to);
        move |p: &mut Project| p.flow_now(&text)
    };
    let runs = Then::Runs;
    check("script", with("echo ran", "echo  ran"), runs, MADE, "script of its definition changed");
    check("env", with("MODE=\"1\"", "MODE=\"2\""), runs, MADE, "env MODE of its definition changed");
    check("tool", |p| p.write("version", "2\n"), runs, MADE, "thing is 2, was 1");
    check("named", |p| p.set("NAMED", "2"), runs, MADE, "inherit NAMED of its");
    check("not named", |p| p.set("OTHER", "2"), Then::Nothing, MADE, "up to date");
}

#[test]
fn a_deleted_or_tampered_output_is_put_back_without_a_run() {
    let delete = |p: &mut Project| std::fs::remove_dir_all(p.path("out")).unwrap();
    check("deleted", delete, Then::Restored, MADE, "out/o.txt is not what it made");
    let tamper = |p: &mut Project| p.write("out/o.txt", "xx\nyy\n");
    check("tampered", tamper, Then::Restored, MADE, "out/o.txt is not what it made");
    check("looks the same", |p| same_look(p, "out/o.txt", "xx\nyy\n"), Then::Restored, MADE, "out/o.txt");
}

/// From then on its stamp tells what it holds, and a change that keeps size and time must still show.
#[test]
fn an_output_whose_digest_is_remembered_is_not_believed_after_a_change() {
    let change = |p: &mut Project| {
        let sum = sha2::Sha256::digest(MADE);
        until("its digest is remembered", || {
            run(p).exits(0);
            std::fs::read(p.path(".flow/cache/digests")).unwrap().windows(sum.len()).any(|at| at == &sum[..])
        });
        same_look(p, "out/o.txt", "xx\nyy\n");
    };
    check("remembered", change, Then::Restored, MADE, "out/o.txt is not what it made");
}

#[test]
fn an_edit_that_is_taken_back_brings_back_what_was_made_of_it() {
    let change = |p: &mut Project| {
        p.write("in/a.txt", "AA\n");
        run(p).exits(0);
        assert_eq!(p.read("out/o.txt"), "AA\nbb\n");
        p.write("in/a.txt", "aa\n");
    };
    check("back", change, Then::Restored, MADE, "in/a.txt changed");
}

#[test]
fn a_failed_run_leaves_nothing_that_counts() {
    let project = project(
        r#"run "make" {
            inputs "in"
            outputs "out"
            script "echo half > out; echo ran >> runs; test $(cat in) != bad; echo whole > out"
        }"#,
    )
    .file("in", "good");
    run(&project).exits(0);
    project.write("in", "bad");
    run(&project).exits(1);
    run(&project).exits(1);
    assert_eq!(runs(&project), 3);
    project.write("in", "good");
    run(&project).exits(0).says("restored 1 file");
    assert_eq!((project.read("out"), runs(&project)), ("whole\n".to_owned(), 3));
}

#[test]
fn a_run_that_is_killed_in_its_middle_leaves_nothing_that_counts() {
    let project = project(
        r#"run "make" {
            inputs "in"
            outputs "out"
            script "echo half > out; echo ran >> runs; while [ -e wait ]; do sleep 0.02; done; echo whole > out"
        }"#,
    )
    .file("in", "1")
    .file("wait", "");
    let mut killed = project.start(&RUN);
    until("it began", || runs(&project) == 1 && is_noted(&project));
    killed.kill().unwrap();
    killed.wait().unwrap();
    std::fs::remove_file(project.path("wait")).unwrap();
    run(&project).exits(0);
    assert_eq!((project.read("out"), runs(&project)), ("whole\n".to_owned(), 2));
}

#[test]
fn two_flows_at_once_make_it_once() {
    let project = project(
        r#"run "make" {
            inputs "in"
            outputs "out"
            script "echo ran >> runs; while [ -e wait ]; do sleep 0.02; done; echo whole > out; echo v=1 >> $FLOW_OUTPUT"
        }
        run "use" { env V="${step.make.v}"; script "cat out >> used; echo $V >> used" }"#,
    )
    .file("in", "1")
    .file("wait", "");
    let first = project.start(&RUN);
    until("the first began", || runs(&project) == 1);
    let second = project.start(&["run", "f", "--env", "dev", "--only", "make"]);
    let journals = || std::fs::read_dir(project.path(".flow/store/runs")).map_or(0, Iterator::count);
    until("the second began", || journals() == 2);
    std::fs::remove_file(project.path("wait")).unwrap();
    for flow in [first, second] {
        Ran::from(flow.wait_with_output().unwrap()).exits(0);
    }
    assert_eq!(runs(&project), 1);
    assert_eq!(project.read("used"), "whole\n1\n");
}

#[test]
fn whoever_waited_for_a_flow_that_was_killed_makes_it_itself() {
    let project = project(
        r#"run "make" {
            inputs "in"
            outputs "out"
            script "echo ran >> runs; while [ -e wait ]; do sleep 0.02; done; echo whole > out"
        }"#,
    )
    .file("in", "1")
    .file("wait", "");
    let mut first = project.start(&RUN);
    until("the first began", || runs(&project) == 1 && is_noted(&project));
    let second = project.start(&RUN);
    let journals = || std::fs::read_dir(project.path(".flow/store/runs")).map_or(0, Iterator::count);
    until("the second began", || journals() == 2);
    first.kill().unwrap();
    first.wait().unwrap();
    until("the second makes it", || runs(&project) == 2);
    std::fs::remove_file(project.path("wait")).unwrap();
    Ran::from(second.wait_with_output().unwrap()).exits(0);
    assert_eq!(project.read("out"), "whole\n");
}

#[test]
fn an_input_that_changes_while_the_step_runs_is_said_and_nothing_is_remembered() {
    let project = project(
        r#"run "moves" { inputs "in/*"; outputs "out"; script "cat in/a > out; echo x >> in/a; echo ran >> runs" }"#,
    )
    .file("in/a", "1\n");
    said(run(&project).exits(0), "moves: in/a changed while it ran, so nothing of it is remembered");
    run(&project).exits(0);
    assert_eq!(runs(&project), 2);
    assert!(!project.path(".flow/cache/entries").exists());
}

#[test]
fn a_step_whose_inputs_name_its_own_output_is_told_what_to_do() {
    let project = project(r#"run "make" { inputs "in/**"; outputs "in/out"; script "date +%N > in/out" }"#)
        .file("in/a", "1");
    said(run(&project).exits(0), "make: its inputs name in/out, which it makes: exclude it");
}

/// A chain: `gen` makes a folder and hands on a value, `use` reads both.
const CHAIN: &str = r#"
    run "gen" {
        inputs "in/*"
        outputs "gen" "empty"
        script """
            rm -rf gen empty; mkdir -p gen/deep empty
            for f in in/*; do cp "$f" gen/; done
            ln -s ../in gen/link
            echo '#!/bin/sh' > gen/deep/tool; chmod 750 gen/deep/tool
            cat in/* | wc -l > gen/count
            echo lines=$(cat gen/count) >> "$FLOW_OUTPUT"
            echo gen >> runs
            """
    }
    run "use" {
        inputs "gen/**"
        outputs "use.txt"
        env LINES="${step.gen.lines}"
        script "cat gen/count gen/*.txt > use.txt; echo $LINES >> use.txt; echo use >> runs"
    }"#;

fn chain() -> Project {
    let project = project(CHAIN).file("in/a.txt", "a\n").file("in/b.txt", "b\n");
    run(&project).exits(0);
    assert_eq!(runs(&project), 2);
    project
}

#[test]
fn everything_that_was_made_comes_back_modes_links_empty_folders_and_values_too() {
    let project = chain();
    let before = project.files("gen");
    for path in ["gen", "empty"] {
        std::fs::remove_dir_all(project.path(path)).unwrap();
    }
    std::fs::remove_file(project.path("use.txt")).unwrap();
    run(&project).exits(0).says("restored ");
    assert_eq!(runs(&project), 2);
    assert_eq!(project.files("gen"), before);
    assert!(project.path("empty").is_dir());
    assert_eq!(std::fs::read_link(project.path("gen/link")).unwrap(), Path::new("../in"));
    let mode = |path: &str| project.path(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("gen/deep/tool"), mode("gen/deep/tool") & 0o111), (0o750, 0o110));
    assert_eq!(project.read("use.txt"), "2\na\nb\n2\n");
    project.run(&["explain", "f", "use", "--env", "dev"]).exits(0).prints("up to date");
}

#[test]
fn what_an_earlier_success_put_there_goes_and_what_others_put_there_stays() {
    let project = chain();
    std::fs::remove_file(project.path("in/b.txt")).unwrap();
    run(&project).exits(0);
    project.write("in/b.txt", "b\n");
    run(&project).exits(0).says("restored ");
    assert_eq!(project.read("gen/b.txt"), "b\n");
    project.write("gen/mine", "mine");
    std::fs::remove_file(project.path("in/b.txt")).unwrap();
    run(&project).exits(0).says("restored 1 file");
    assert!(!project.path("gen/b.txt").exists(), "it was made of an input that is gone");
    assert_eq!(project.read("gen/mine"), "mine");
}

#[test]
fn without_outputs_a_step_is_skipped_when_nothing_changed_since_its_last_success() {
    let project = project(r#"run "test" { inputs "in"; script "echo ran >> runs" }"#).file("in", "1");
    for (input, expected) in [("1", 1), ("1", 1), ("2", 2), ("1", 3), ("1", 3)] {
        project.write("in", input);
        run(&project).exits(0);
        assert_eq!(runs(&project), expected, "{input}");
    }
}

#[test]
fn what_says_so_always_runs() {
    let project = project(
        r#"
        run "neither" { script "echo ran >> runs" }
        run "told" { inputs "in"; outputs "out"; cache #false; script "echo ran >> runs; echo x > out" }
        run "deploys" { inputs "in"; undo "none"; script "echo ran >> runs" }"#,
    )
    .file("in", "1");
    run(&project).exits(0);
    run(&project).exits(0);
    assert_eq!(runs(&project), 6);
    assert!(!project.path(".flow/cache/entries").exists());
    let project = one();
    project.run(&[&RUN[..], &["--no-cache"]].concat()).exits(0);
    assert_eq!(runs(&project), 2);
    std::fs::remove_file(project.path("out/o.txt")).unwrap();
    run(&project).exits(0).says("restored 1 file");
}

#[test]
fn a_file_with_a_secret_is_not_taken_into_the_cache() {
    let project = project(
        r#"
        secret "key" from="env:KEY"
        run "make" { inputs "in"; outputs "made"; env KEY="${secret.key}"; script "echo $KEY > made; echo ran >> runs" }"#,
    )
    .file("in", "1")
    .var("KEY", "swordfish-in-the-sea");
    run(&project).exits(0);
    for (path, bytes) in project.files(".flow") {
        assert!(!String::from_utf8_lossy(&bytes).contains("swordfish"), "{path}");
    }
    run(&project).exits(0).says("up to date");
    std::fs::remove_file(project.path("made")).unwrap();
    run(&project).exits(0);
    assert_eq!((runs(&project), project.read("made").as_str()), (2, "swordfish-in-the-sea\n"));
}

#[test]
fn environments_that_make_the_same_share_it() {
    let project = Project::new().file("in", "1").flow(
        r#"environment "dev" { vars { level 1 } }
            environment "test" { vars { level 1 } }
            environment "prod" { vars { level 2 } }
            flow "f" {
                run "make" {
                    when "env.name != 'none'"
                    inputs "in"
                    outputs "out"
                    env LEVEL="${env.level}"
                    script "echo $LEVEL > out; echo ran >> runs"
                }
            }"#,
    );
    for (environment, expected) in [("dev", "1\n"), ("test", "1\n"), ("prod", "2\n"), ("dev", "1\n")] {
        project.run(&["run", "f", "--env", environment]).exits(0);
        assert_eq!(project.read("out"), expected, "{environment}");
    }
    assert_eq!(runs(&project), 2);
}
