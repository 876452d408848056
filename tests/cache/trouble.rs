//! Bytes, entries and disks that are not as they should be: never a wrong output, and always a word.

use std::process::Command;

use super::*;

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
    let first = run(&project);
    let idle = run(&project);
    std::fs::remove_file(project.path("out")).unwrap();
    let ran = [first, run(&project)];
    mount(&["umount"]).unwrap();
    for ran in ran {
        said(said(ran.exits(0), "the cache cannot be written"), "No space left on device");
    }
    idle.exits(0).says("up to date");
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
    unprivileged(&project).exits(1).says("in/a.txt").says("Permission denied");
    assert_eq!(runs(&project), 1);
}

/// Runs the flow without root's power to read what a file's mode forbids.
fn unprivileged(project: &Project) -> Ran {
    let flow = project.command(&RUN);
    if std::fs::read(project.path("in/a.txt")).is_err() {
        return run(project);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    command.arg(flow.get_program()).args(flow.get_args()).current_dir(project.root()).env_clear();
    command.envs(flow.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().unwrap().into()
}

fn project_with_odd_output() -> Project {
    project(
        r#"run "make" { inputs "in"; outputs "out"; script "mkdir -p out; touch out/odd$(printf '\\377')" }"#,
    )
    .file("in", "1")
}
