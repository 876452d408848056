//! The cache of steps that make files: never wrong, and it says why.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::support::project::{Project, Ran};

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

fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
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
fn a_folder_that_leads_out_of_the_project_is_not_written_through() {
    let outside = tempfile::tempdir().unwrap();
    let project = project(
        r#"run "make" { inputs "in"; outputs "out/o"; script "mkdir -p out; cat in > out/o; echo ran >> runs" }"#,
    )
    .file("in", "1");
    run(&project).exits(0);
    std::fs::remove_dir_all(project.path("out")).unwrap();
    symlink(outside.path(), project.path("out")).unwrap();
    run(&project).exits(0).says("out lies outside the project");
    assert_eq!(runs(&project), 2, "the program may write where it likes, flow does not");
}

#[test]
fn a_program_cannot_write_into_the_cache_through_an_output() {
    let project = one();
    std::fs::remove_file(project.path("out/o.txt")).unwrap();
    run(&project).exits(0).says("restored 1 file");
    let file = std::fs::File::options().append(true).open(project.path("out/o.txt"));
    std::io::Write::write_all(&mut file.unwrap(), b"more").unwrap();
    project.run(&["cache", "verify"]).exits(0);
    run(&project).exits(0).says("restored 1 file");
    assert_eq!(project.read("out/o.txt"), MADE);
}

#[test]
fn spoilt_bytes_in_the_cache_are_never_placed() {
    let project = one();
    let blobs = project.files(".flow/cache/blobs");
    assert_eq!(blobs.len(), 1);
    for path in blobs.keys() {
        std::fs::set_permissions(project.path(path), std::fs::Permissions::from_mode(0o600)).unwrap();
        project.write(path, "aa\nbX\n");
    }
    project.run(&["cache", "verify"]).exits(1).prints("out/o.txt of make").says("1 broken");
    std::fs::remove_file(project.path("out/o.txt")).unwrap();
    said(run(&project).exits(0), "what the cache has of out/o.txt is damaged, so it is made again");
    assert_eq!((project.read("out/o.txt").as_str(), runs(&project)), (MADE, 2));
    std::fs::remove_file(project.path("out/o.txt")).unwrap();
    run(&project).exits(0).says("restored 1 file");
}

#[test]
fn spoilt_entries_and_records_cost_a_run_and_nothing_else() {
    for folder in ["entries", "successes"] {
        let project = one();
        for (path, mut bytes) in project.files(".flow/cache") {
            if path.contains(folder) {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                project.write(&path, bytes);
            }
        }
        std::fs::remove_file(project.path("out/o.txt")).unwrap();
        run(&project).exits(0);
        assert_eq!(project.read("out/o.txt"), MADE, "{folder}");
        run(&project).exits(0).says("up to date");
    }
}

#[test]
fn broken_things_are_named_and_removed() {
    let project = one();
    project.run(&["cache", "verify"]).exits(0).says("2 files read, all as they were stored");
    let blob = project.files(".flow/cache/blobs").into_keys().next().unwrap();
    std::fs::set_permissions(project.path(&blob), std::fs::Permissions::from_mode(0o600)).unwrap();
    project.write(&blob, "other");
    let shown = project.run(&["cache", "verify", "--json"]).exits(1).json();
    assert_eq!(shown["broken"][0]["what"], "file");
    assert_eq!(shown["broken"][0]["of"][0], "out/o.txt of make");
    project.run(&["cache", "verify", "--repair"]).exits(0);
    project.run(&["cache", "verify"]).exits(0);
    assert_eq!(project.files(".flow/cache/entries").len(), 0, "what needed it is gone too");
}

#[test]
fn a_cache_that_cannot_be_written_is_told_once_and_gone_without() {
    let project = Project::new()
        .file("in/a.txt", "aa\n")
        .file("in/b.txt", "bb\n")
        .file("version", "1\n")
        .file(".flow/cache", "not a folder")
        .flow(ONE);
    let ran = said(run(&project).exits(0), "flow goes on without it");
    assert_eq!(flat(&ran.err).matches("goes on without it").count(), 1, "{}", ran.err);
    run(&project).exits(0);
    assert_eq!((project.read("out/o.txt").as_str(), runs(&project)), (MADE, 2));
}

#[test]
fn a_full_disk_under_the_cache_costs_nothing_but_the_cache() {
    let project = project(
        r#"run "make" {
            inputs "in"
            outputs "out"
            script "head -c 300000 /dev/zero > out; cat in >> out; echo ran >> runs"
        }"#,
    )
    .file("in", "1");
    let folder = project.path(".flow/cache");
    std::fs::create_dir_all(&folder).unwrap();
    let mount = |arguments: &[&str]| {
        std::process::Command::new(arguments[0]).args(&arguments[1..]).arg(&folder).output()
    };
    let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    if !mounted.is_ok_and(|done| done.status.success()) {
        println!("skipped: a small disk cannot be mounted here");
        return;
    }
    let ran = [run(&project), run(&project)];
    mount(&["umount"]).unwrap();
    for ran in ran {
        said(said(ran.exits(0), "the cache cannot be written"), "No space left on device");
    }
    assert_eq!(project.path("out").metadata().unwrap().len(), 300_001);
}

#[test]
fn a_name_that_is_not_utf_8_and_a_file_that_cannot_be_read_are_named() {
    let project = one();
    let odd = project.path("in").join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    std::fs::write(&odd, "x").unwrap();
    run(&project).exits(1).says("in/odd").says("is not UTF-8");
    std::fs::remove_file(&odd).unwrap();
    run(&project).exits(0);

    let outputs = project_with_odd_output();
    let ran = said(run(&outputs).exits(0), "make: nothing of it is remembered: the name of out/odd");
    said(ran, "is not UTF-8");

    std::fs::set_permissions(project.path("in/a.txt"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(project.path("in/a.txt")).is_ok() {
        println!("skipped: nothing is unreadable for root");
        return;
    }
    run(&project).exits(1).says("in/a.txt").says("Permission denied");
}

fn project_with_odd_output() -> Project {
    project(r##"run "make" { inputs "in"; outputs "out"; script #"mkdir -p out; touch "out/odd$(printf '\377')""# }"##)
        .file("in", "1")
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
    let project = self::project(r#"run "deploys" { script "true" }"#);
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

mod any_graph {
    //! Whatever the graph and the edits: what a run with a cache leaves is what a clean run leaves.

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Project, run};

    const SOURCES: usize = 4;
    const STEPS: usize = 4;

    /// A step: which sources and which earlier steps it reads, and whether it makes a folder.
    #[derive(Clone, Debug)]
    struct Step {
        sources: [bool; SOURCES],
        before: [bool; STEPS],
        folder: bool,
    }

    #[derive(Clone, Debug)]
    enum Edit {
        Source(usize, Option<u8>),
        Output(usize, bool),
        Definition(usize, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        (any::<[bool; SOURCES]>(), any::<[bool; STEPS]>(), any::<bool>())
            .prop_map(|(sources, before, folder)| Step { sources, before, folder })
    }

    fn edit() -> impl Strategy<Value = Edit> {
        prop_oneof![
            (0..SOURCES, proptest::option::weighted(0.8, 0..3_u8))
                .prop_map(|(at, text)| Edit::Source(at, text)),
            (0..STEPS, any::<bool>()).prop_map(|(at, delete)| Edit::Output(at, delete)),
            (0..STEPS, 0..2_u8).prop_map(|(at, value)| Edit::Definition(at, value)),
        ]
    }

    fn flow(steps: &[Step], definitions: &[u8]) -> String {
        let mut text = "environment \"dev\"\nflow \"f\" {\n".to_owned();
        for (at, step) in steps.iter().enumerate() {
            let sources =
                (0..SOURCES).filter(|source| step.sources[*source]).map(|source| format!("in/{source}"));
            let before = (0..at).filter(|before| step.before[*before]);
            let reads: Vec<String> =
                sources.chain(before.clone().map(|before| format!("out/{before}/**"))).collect();
            let inputs = if reads.is_empty() {
                "\"in/0\"".to_owned()
            } else {
                reads.iter().map(|glob| format!("{glob:?}")).collect::<Vec<_>>().join(" ")
            };
            let needs: Vec<String> = before.map(|before| format!("\"s{before}\"")).collect();
            let needs = if needs.is_empty() { String::new() } else { format!("needs {}; ", needs.join(" ")) };
            let names: Vec<String> =
                reads.iter().map(|glob| glob.trim_end_matches("/**").to_owned()).collect();
            // As many files as it read lines, when it makes a folder.
            let split = if step.folder {
                format!(
                    "n=0; while read -r line; do n=$((n+1)); echo \\\"$line\\\" > out/{at}/$n; done < out/{at}/all"
                )
            } else {
                ":".to_owned()
            };
            text.push_str(&format!(
                "run \"s{at}\" {{ {needs}inputs {inputs}; outputs \"out/{at}\"; env D=\"{}\"; \
                 script \"rm -rf out/{at}; mkdir -p out/{at}; {{ echo s{at} $D; find {} -type f 2>/dev/null | sort | xargs -r cat; }} > out/{at}/all; {split}\" }}\n",
                definitions[at], if names.is_empty() { "in/0".to_owned() } else { names.join(" ") },
            ));
        }
        text.push_str("}\n");
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_cached_run_leaves_what_a_clean_run_leaves(
            steps in proptest::collection::vec(step(), STEPS),
            edits in proptest::collection::vec(proptest::collection::vec(edit(), 1..3), 5),
        ) {
            let mut sources: BTreeMap<usize, u8> = (0..SOURCES).map(|at| (at, 0)).collect();
            let mut definitions = vec![0; STEPS];
            let cached = Project::new();
            for round in std::iter::once(&Vec::new()).chain(&edits) {
                for edit in round {
                    match edit {
                        Edit::Source(at, Some(text)) => drop(sources.insert(*at, *text)),
                        Edit::Source(at, None) => drop(sources.remove(at)),
                        Edit::Definition(at, value) => definitions[*at] = *value,
                        Edit::Output(at, true) => drop(std::fs::remove_dir_all(cached.path(&format!("out/{at}")))),
                        Edit::Output(at, false) => cached.write(&format!("out/{at}/all"), "tampered"),
                    }
                }
                let clean = Project::new();
                for project in [&cached, &clean] {
                    let _ = std::fs::remove_dir_all(project.path("in"));
                    std::fs::create_dir(project.path("in")).unwrap();
                    for (at, text) in &sources {
                        project.write(&format!("in/{at}"), "line\n".repeat(usize::from(*text) + 1));
                    }
                    project.flow_now(&flow(&steps, &definitions));
                    run(project).exits(0);
                }
                prop_assert_eq!(cached.files("out"), clean.files("out"));
            }
        }
    }
}
