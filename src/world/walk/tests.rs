use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn matcher(include: &[&str], exclude: &[&str]) -> Matcher {
    Matcher::new(&owned(include), &owned(exclude)).expect("valid globs")
}

fn project(paths: &[&str]) -> (tempfile::TempDir, Files) {
    let folder = tempfile::tempdir().expect("a folder");
    let files = Files::new(folder.path());
    for path in paths {
        files.write(&folder.path().join(path), path.as_bytes()).expect("a file");
    }
    (folder, files)
}

fn listed(files: &Files, include: &[&str], exclude: &[&str]) -> Vec<String> {
    let digests = matcher(include, exclude).digests(files).expect("digests");
    let names: Vec<String> = digests.into_keys().collect();
    let paths = matcher(include, exclude).walk(files).expect("paths");
    let paths: std::collections::BTreeSet<&str> = paths.iter().filter_map(|path| path.to_str()).collect();
    assert_eq!(paths.into_iter().collect::<Vec<_>>(), names, "both find the same");
    names
}

#[test]
fn star_stays_inside_one_folder() {
    let m = matcher(&["src/*.c"], &[]);
    assert!(m.matches(Path::new("src/a.c")));
    assert!(!m.matches(Path::new("src/deep/a.c")));
    assert!(matcher(&["src/**"], &[]).matches(Path::new("src/deep/.hidden")));
}

#[test]
fn a_plain_folder_means_what_is_under_it() {
    assert!(matcher(&["frontend"], &[]).matches(Path::new("frontend/a/b")));
}

#[test]
fn outputs_under_inputs_are_noticed_unless_excluded() {
    assert!(matcher(&["frontend/**"], &[]).touches(Path::new("frontend/dist")));
    assert!(!matcher(&["frontend/**"], &["frontend/dist/**"]).touches(Path::new("frontend/dist")));
    assert!(matcher(&["dist/assets/*.js"], &[]).touches(Path::new("dist")));
    assert!(!matcher(&["backend/*.c"], &[]).touches(Path::new("frontend")));
}

#[test]
fn what_each_set_of_globs_finds() {
    let (_keep, files) = project(&[
        "a.txt",
        ".hidden",
        ".git/HEAD",
        ".flow/store/x",
        "src/a.c",
        "src/a.h",
        "src/deep/b.c",
        "src/deep/er/c.c",
        "src/gen.c/inside",
        "lib/node_modules/x/index.js",
        "lib/x1.js",
        "lib/x22.js",
    ]);
    for (include, exclude, found) in [
        (&["src/*.c"] as &[&str], &[] as &[&str], &["src/a.c", "src/gen.c/inside"] as &[&str]),
        (&["src/**/*.c"], &["src/deep/**"], &["src/a.c", "src/gen.c/inside"]),
        (
            &["src/**", "src/deep/b.c", "src/deep"],
            &["**/er", "*.txt"],
            &["src/a.c", "src/a.h", "src/deep/b.c", "src/gen.c/inside"],
        ),
        (&["*.txt", "lib/**"], &["**/node_modules/**"], &["a.txt", "lib/x1.js", "lib/x22.js"]),
        (&["lib/x?.js", "lib/{x22,y}.js"], &[], &["lib/x1.js", "lib/x22.js"]),
        (&["./src/a.c", "a.txt/", "nosuch", "nosuch/**"], &[], &["a.txt", "src/a.c"]),
        (&["."], &["src", "lib"], &[".hidden", "a.txt"]),
        (&[".git/**", ".flow", "*"], &["src", "lib/*"], &[".hidden", "a.txt"]),
        (&["a.txt/**"], &[], &[]),
        (&["a.txt"], &["a.txt"], &[]),
    ] {
        assert_eq!(listed(&files, include, exclude), found, "{include:?} {exclude:?}");
    }
}

#[test]
fn folders_that_cannot_count_are_not_opened() {
    let m =
        matcher(&["src/*.c", "lib/**/*.js", "a/b/*/d"], &["lib/dist/**", "**/node_modules", "lib/{x,y}/**"]);
    for (folder, entered) in [
        ("src/deep", false),
        ("src/gen.c", true),
        ("docs", false),
        ("a", true),
        ("a/x", false),
        ("a/b/c", true),
        ("lib/deep", true),
        ("lib/dist", false),
        ("lib/deep/node_modules", false),
        ("lib/x", false),
        ("lib/z", true),
        (".git", false),
    ] {
        assert_eq!(m.enters(folder), entered, "{folder}");
    }
}

#[test]
fn many_folders_are_walked_by_several_and_give_the_same() {
    let paths: Vec<String> = (0..2400).map(|n| format!("src/d{}/e{}/f{n}", n % 48, n % 5)).collect();
    let (_keep, files) = project(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let found = matcher(&["src/**"], &[]).digests(&files).expect("digests");
    assert_eq!(found.len(), paths.len());
    for path in &paths {
        assert_eq!(found[path], crate::world::files::digest(path.as_bytes()));
    }
}

#[test]
fn every_change_that_counts_changes_the_digest() {
    let (keep, files) = project(&["src/a", "src/b/c"]);
    let src = keep.path().join("src");
    let now = || matcher(&["src/**"], &["src/out/**"]).list(&Files::new(keep.path())).expect("a listing");
    let mut seen = vec![now()];
    let mut changed = |what: &str, counts: bool| {
        let (now, last) = (now(), seen.last().expect("the first").clone());
        assert_eq!(now.digest() != last.digest(), counts, "{what}");
        assert_eq!(now.since(&last).is_some(), counts, "{what}");
        seen.push(now);
    };
    files.write(&src.join("new"), b"1").expect("a file");
    changed("a new file", true);
    files.write(&src.join("out/new"), b"1").expect("a file");
    changed("a file that is left out", false);
    std::fs::set_permissions(src.join("a"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    changed("the executable bit", true);
    std::fs::set_permissions(src.join("a"), std::fs::Permissions::from_mode(0o700)).expect("a mode");
    changed("another mode", false);
    std::fs::rename(src.join("a"), src.join("A")).expect("renamed");
    changed("another case", true);
    std::os::unix::fs::symlink("A", src.join("link")).expect("a link");
    changed("a link", true);
    files.write(&src.join("A"), b"other").expect("a file");
    changed("what it points to", true);
    files.remove(&src.join("link")).expect("removed");
    std::os::unix::fs::symlink("b", src.join("link")).expect("a link");
    changed("where it points", true);
    files.remove(&src.join("new")).expect("removed");
    files.write(&src.join("new/1"), b"1").expect("a file");
    changed("a folder in a file's place", true);
    std::fs::create_dir(src.join("empty")).expect("a folder");
    changed("an empty folder", false);
}

#[test]
fn a_name_that_is_not_utf8_is_an_error_only_where_it_counts() {
    let (keep, files) = project(&["src/a.c"]);
    let name = std::ffi::OsStr::from_bytes(b"\xff.tmp");
    files.write(&keep.path().join("src").join(name), b"").expect("a file");
    assert_eq!(listed(&files, &["src/*.c"], &[]), ["src/a.c"]);
    assert_eq!(listed(&files, &["src"], &["**/*.tmp"]), ["src/a.c"]);
    let said = matcher(&["src/**"], &[]).list(&files).expect_err("a name").to_string();
    assert!(said.ends_with("/src/\u{fffd}.tmp is not UTF-8"), "{said}");
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let (keep, files) = project(&["src/a"]);
    let path = keep.path().join("src/a");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0)).expect("a mode");
    if std::fs::read(&path).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    let said = matcher(&["src/**"], &[]).list(&files).expect_err("not readable").to_string();
    assert_eq!(said, format!("cannot read {}: Permission denied (os error 13)", path.display()));
}

#[test]
fn pipes_and_sockets_hold_nothing() {
    let (keep, files) = project(&["src/a"]);
    let _socket = std::os::unix::net::UnixListener::bind(keep.path().join("src/socket")).expect("a socket");
    assert_eq!(listed(&files, &["src/**"], &[]), ["src/a"]);
}

#[test]
fn what_is_no_glob_is_named() {
    let error = Matcher::new(&owned(&["src", "[a"]), &[]).expect_err("no glob");
    assert_eq!(error.glob, "[a");
}
