//! A large file, and many files.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::{Project, project, run, runs};

#[test]
fn one_byte_in_the_middle_of_four_gigabytes_is_seen() {
    const SIZE: u64 = (4 << 30) + 1;
    let project =
        project(r#"run "make" { inputs "in"; outputs "out"; script "wc -c < in > out; echo ran >> runs" }"#);
    // With a hole for what is not written: the disk need not hold it.
    let file = File::create(project.path("in")).unwrap();
    file.set_len(SIZE).unwrap();
    run(&project).exits(0);
    assert_eq!(project.read("out").trim(), SIZE.to_string());
    run(&project).exits(0).says("up to date");
    assert_eq!(runs(&project), 1);

    let before = file.metadata().unwrap();
    file.write_all_at(b"1", SIZE / 2).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    run(&project).exits(0).says("in changed");
    assert_eq!(runs(&project), 2);
}

#[test]
fn one_change_among_a_hundred_thousand_files_is_found_and_named() {
    let project = project(
        r#"run "make" { inputs "in/**"; outputs "out"; script "find in -type f | wc -l > out; echo ran >> runs" }"#,
    );
    for folder in 0..100 {
        let folder = project.path("in").join(folder.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        (0..1000).for_each(|file| std::fs::write(folder.join(file.to_string()), "1").unwrap());
    }
    let made = |project: &Project| (project.read("out").trim().to_owned(), runs(project));
    run(&project).exits(0);
    assert_eq!(made(&project), ("100000".to_owned(), 1));
    run(&project).exits(0).says("up to date");
    assert_eq!(made(&project), ("100000".to_owned(), 1));

    project.write("in/57/421", "2");
    run(&project).exits(0).says("in/57/421");
    std::fs::remove_file(project.path("in/99/999")).unwrap();
    run(&project).exits(0).says("in/99/999");
    assert_eq!(made(&project), ("99999".to_owned(), 3));
}
