//! What must hold: an indexed digest is what reading the file gives, whatever happened to the file,
//! to the index, or to the process that wrote it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::frame::{frame, parse};
use super::*;
use crate::world::files::Files;
use crate::world::walk::Matcher;

/// A folder of files whose stamps are old enough to be remembered.
fn project(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        write(folder.path(), path, text);
    }
    settle(folder.path());
    folder
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}

/// Returns once whatever was written before can be remembered.
fn settle(root: &Path) {
    let probe = root.join(".flow/cache/probe");
    write(root, ".flow/cache/probe", "");
    let written = stamp(&probe).expect("a stamp").expect("a file");
    let clock = root.join(".flow/cache/clock");
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        fs::write(&clock, "").expect("a file");
        let now = stamp(&clock).expect("a stamp").expect("a file").modified;
        if written.is_settled_at(now) {
            return;
        }
        assert!(Instant::now() < end, "the file system's clock stands still");
        std::thread::yield_now();
    }
}

/// As another run sees it.
fn run(root: &Path) -> Digests {
    Digests::new(root)
}

fn wanted(root: &Path, path: &str) -> Wanted {
    let path = root.join(path);
    let stamp = stamp(&path).expect("a stamp").expect("a file");
    Wanted { path, stamp, part: None }
}

fn is_known(root: &Path, path: &str) -> bool {
    run(root).known(&wanted(root, path)).is_some()
}

fn index(root: &Path) -> PathBuf {
    root.join(PLACE)
}

/// All files below a folder, read one by one without any index.
fn fresh(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
            let metadata = fs::symlink_metadata(&path).expect("metadata");
            if metadata.is_dir() {
                if name != ".flow" {
                    folders.push(path);
                }
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                found.insert(name, format!("link {}", Sum::of(target.as_os_str().as_encoded_bytes())));
            } else {
                let x = if metadata.permissions().mode() & 0o100 == 0 { "" } else { " x" };
                found.insert(name, format!("{}{x}", Sum::of(&fs::read(&path).expect("bytes"))));
            }
        }
    }
    found
}

/// All files below a folder, as a run sees them.
fn indexed(root: &Path) -> BTreeMap<String, String> {
    let everything = Matcher::new(&["**".to_owned()], &[]).expect("a glob");
    everything.digests(&Files::new(root)).expect("digests")
}

#[test]
fn a_file_is_read_once_and_then_known_to_later_runs() {
    let root = project(&[("a", "1")]);
    let path = root.path();
    assert!(!is_known(path, "a"));
    assert_eq!(run(path).of(&path.join("a")).expect("a digest"), Sum::of(b"1"));
    assert!(is_known(path, "a"));
}

#[test]
fn a_file_that_was_written_just_now_is_not_remembered() {
    let root = project(&[]);
    let path = root.path();
    write(path, "a", "1");
    assert_eq!(run(path).of(&path.join("a")).expect("a digest"), Sum::of(b"1"));
    assert!(!is_known(path, "a"));
}

#[test]
fn a_change_that_keeps_size_and_time_stamp_is_seen() {
    let root = project(&[("a", "1")]);
    let path = root.path();
    indexed(path);
    let file = File::options().write(true).open(path.join("a")).expect("a file");
    let modified = file.metadata().expect("metadata").modified().expect("a time");
    file.write_all_at(b"2", 0).expect("written");
    file.set_modified(modified).expect("a time");
    assert!(!is_known(path, "a"));
    assert_eq!(run(path).of(&path.join("a")).expect("a digest"), Sum::of(b"2"));
}

#[test]
fn another_file_of_the_same_size_and_time_in_its_place_is_seen() {
    let root = project(&[("a", "1"), ("b", "2")]);
    let path = root.path();
    let modified = fs::metadata(path.join("a")).expect("metadata").modified().expect("a time");
    File::options().write(true).open(path.join("b")).expect("b").set_modified(modified).expect("a time");
    settle(path);
    indexed(path);
    fs::rename(path.join("b"), path.join("a")).expect("renamed");
    assert_eq!(indexed(path), fresh(path));
}

#[test]
fn a_link_is_followed_only_where_that_is_asked_for() {
    let root = project(&[("a", "1")]);
    symlink("a", root.path().join("l")).expect("a link");
    assert_eq!(run(root.path()).of(&root.path().join("l")).expect("a digest"), Sum::of(b"1"));
    assert_eq!(indexed(root.path())["l"], format!("link {}", Sum::of(b"a")));
}

#[test]
fn parts_are_known_too_and_only_when_they_were_asked_for() {
    let root = project(&[("a", "0123456789")]);
    let path = root.path();
    indexed(path);
    let asked = Wanted { part: NonZeroU64::new(4), ..wanted(path, "a") };
    assert!(run(path).known(&asked).is_none());
    let parts = [Sum::of(b"0123"), Sum::of(b"4567"), Sum::of(b"89")];
    assert_eq!(run(path).all(vec![asked.clone()]).expect("digests")[0].parts, parts);
    assert_eq!(run(path).known(&asked).expect("known").parts, parts);
    assert!(run(path).known(&Wanted { part: NonZeroU64::new(5), ..asked }).is_none());
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named() {
    let root = project(&[("a", &"x".repeat(8 << 20))]);
    let path = root.path().join("a");
    let file = File::options().write(true).open(&path).expect("a file");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = 0_u8;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all_at(&[byte], u64::from(byte)).expect("written");
                byte = byte.wrapping_add(1);
            }
        });
        let read = run(root.path()).of(&path);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        read
    });
    let said = read.expect_err("it changed").to_string();
    assert_eq!(said, format!("cannot read {}: it changes while it is read", path.display()));
}

#[test]
fn a_pipe_in_a_files_place_holds_nothing_up() {
    let root = project(&[("a", "1")]);
    let asked = wanted(root.path(), "a");
    fs::remove_file(&asked.path).expect("removed");
    rustix::fs::mknodat(CWD, &asked.path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let said = run(root.path()).all(vec![asked]).expect_err("no file").to_string();
    assert!(said.ends_with("/a: it is no file"), "{said}");
}

#[test]
fn where_nothing_can_be_kept_digests_are_right_and_it_is_said_once() {
    let root = tempfile::tempdir().expect("a folder");
    write(root.path(), "a", "1");
    write(root.path(), ".flow", "in the way");
    let digests = run(root.path());
    for _ in 0..2 {
        assert_eq!(digests.of(&root.path().join("a")).expect("a digest"), Sum::of(b"1"));
    }
    let notes = digests.take_notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("Digests of files cannot be kept: "), "{notes:?}");
}

#[test]
fn any_damaged_byte_of_the_index_means_starting_over() {
    let root = project(&[("a", "1"), ("b/c", "2"), ("d", "3")]);
    let path = root.path();
    indexed(path);
    write(path, "e", "4");
    settle(path);
    indexed(path);
    let whole = fs::read(index(path)).expect("an index");
    assert_eq!(whole.len(), 2 * frame::HEADER + 4 * frame::RECORD);
    let right = fresh(path);
    for at in 0..whole.len() {
        for with in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= with;
            fs::write(index(path), &bytes).expect("written");
            let files = Files::new(path);
            let found = Matcher::new(&["**".to_owned()], &[]).expect("a glob").digests(&files);
            assert_eq!(found.expect("digests"), right, "{at}");
            assert_eq!(
                files.digests().take_notes(),
                ["The index of file digests starts over: it was damaged."],
                "{at}"
            );
        }
    }
    // The last of these runs left a whole one.
    assert!(is_known(path, "a") && is_known(path, "e"));
}

#[test]
fn a_writer_killed_at_any_byte_costs_only_what_it_wrote() {
    let root = project(&[("a", "1"), ("b", "2")]);
    let path = root.path();
    run(path).of(&path.join("a")).expect("a digest");
    let before = fs::read(index(path)).expect("an index").len();
    run(path).of(&path.join("b")).expect("a digest");
    let whole = fs::read(index(path)).expect("an index");
    for cut in before..whole.len() {
        fs::write(index(path), &whole[..cut]).expect("written");
        assert!(is_known(path, "a") && !is_known(path, "b"), "{cut}");
        let digests = run(path);
        assert_eq!(digests.of(&path.join("b")).expect("a digest"), Sum::of(b"2"));
        assert_eq!(digests.take_notes(), [""; 0], "{cut}");
        assert!(is_known(path, "a") && is_known(path, "b"), "{cut}");
    }
}

#[test]
fn an_index_from_the_future_is_not_believed() {
    let root = project(&[("a", "1")]);
    let path = root.path();
    indexed(path);
    // What a run would have left before the clock was set back, with a digest that is wrong by now.
    let bytes = fs::read(index(path)).expect("an index");
    let (start, _) = parse(&bytes, 0).expect("whole").parts[0];
    let mut record = Record::read(&bytes[start..]).expect("a record");
    record.sum = Sum::of(b"other bytes");
    let later = wanted(path, "a").stamp.changed + 3_600_000_000_000;
    fs::write(index(path), frame(&[record], later)).expect("written");
    let digests = run(path);
    assert_eq!(digests.of(&path.join("a")).expect("a digest"), Sum::of(b"1"));
    assert_eq!(digests.take_notes(), ["The index of file digests starts over: the clock was set back."]);
    let digests = run(path);
    assert!(digests.known(&wanted(path, "a")).is_some());
    assert_eq!(digests.take_notes(), [""; 0]);
}

#[test]
fn runs_at_the_same_time_leave_a_whole_index() {
    let names: Vec<String> = (0..120).map(|number| format!("f{number}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let root = project(&files);
    let path = root.path();
    std::thread::scope(|scope| {
        for runner in 0..4 {
            let names = &names;
            scope.spawn(move || {
                let digests = run(path);
                for name in names.iter().skip(runner).step_by(2) {
                    let sum = digests.of(&path.join(name)).expect("a digest");
                    assert_eq!(sum, Sum::of(name.as_bytes()));
                }
                assert_eq!(digests.take_notes(), [""; 0]);
            });
        }
    });
    let digests = run(path);
    for name in &names {
        if let Some(known) = digests.known(&wanted(path, name)) {
            assert_eq!(known.sum, Sum::of(name.as_bytes()));
        }
    }
    assert_eq!(digests.take_notes(), [""; 0]);
    assert_eq!(indexed(path), fresh(path));
}

#[test]
fn the_index_forgets_files_that_are_gone() {
    let root = project(&[("a", "1")]);
    let path = root.path();
    indexed(path);
    let stamp = wanted(path, "a").stamp;
    for round in 0..8_u64 {
        // What builds leave that give their files new names each time.
        let gone: Vec<Record> = (0..20_000)
            .map(|number: u64| Record {
                key: mix(round, &number.to_le_bytes()),
                stamp,
                age: 0,
                sum: Sum([0; 32]),
            })
            .collect();
        let digests = run(path);
        assert!(digests.known(&wanted(path, "a")).is_some(), "{round}");
        let (now, _) = digests.index().clock().expect("a clock");
        digests.index().keep(gone, now).expect("kept");
    }
    let records = fs::metadata(index(path)).expect("an index").len() / frame::RECORD as u64;
    assert!(records < 130_000, "{records}");
    assert!(is_known(path, "a"));
}

/// Something that happens to a project.
#[derive(Clone, Debug)]
enum Edit {
    Write(usize, String),
    SameSizeAndTime(usize, u8),
    Remove(usize),
    Rename(usize, usize),
    Mode(usize, bool),
    Link(usize, String),
    Folder(usize),
    Settle,
}

const PLACES: [&str; 7] = ["a", "A", "b/c", "b/d", "b/e/f", "b/e/g h", "z/ä"];

fn edit() -> impl Strategy<Value = Edit> {
    let place = || 0..PLACES.len();
    prop_oneof![
        4 => (place(), "[ab]{0,3}").prop_map(|(at, text)| Edit::Write(at, text)),
        3 => (place(), 0..3_u8).prop_map(|(at, byte)| Edit::SameSizeAndTime(at, byte)),
        1 => place().prop_map(Edit::Remove),
        2 => (place(), place()).prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => (place(), any::<bool>()).prop_map(|(at, runs)| Edit::Mode(at, runs)),
        1 => (place(), "[ab]{1,2}").prop_map(|(at, to)| Edit::Link(at, to)),
        1 => place().prop_map(Edit::Folder),
        2 => Just(Edit::Settle),
    ]
}

/// Does it, as far as it can be done to what is there.
fn apply(root: &Path, edit: &Edit) {
    let place = |at: &usize| root.join(PLACES[*at]);
    let remove = |path: &Path| {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        fs::create_dir_all(path.parent().expect("a folder")).is_ok()
    };
    match edit {
        Edit::Write(at, text) => {
            let _ = fs::create_dir_all(place(at).parent().expect("a folder"));
            let _ = fs::write(place(at), text);
        }
        Edit::SameSizeAndTime(at, byte) => {
            if let Ok(file) = File::options().write(true).open(place(at)) {
                let metadata = file.metadata().expect("metadata");
                let bytes = vec![b'x' + byte; usize::try_from(metadata.len()).expect("small")];
                file.write_all_at(&bytes, 0).expect("written");
                file.set_modified(metadata.modified().expect("a time")).expect("a time");
            }
        }
        Edit::Remove(at) => {
            remove(&place(at));
        }
        Edit::Rename(from, to) => {
            if from != to && place(from).is_file() && remove(&place(to)) {
                let _ = fs::rename(place(from), place(to));
            }
        }
        Edit::Mode(at, runs) => {
            let _ = fs::set_permissions(place(at), Permissions::from_mode(if *runs { 0o755 } else { 0o644 }));
        }
        Edit::Link(at, to) => {
            if remove(&place(at)) {
                symlink(to, place(at)).expect("a link");
            }
        }
        Edit::Folder(at) => {
            if remove(&place(at)) {
                write(&place(at), "inside", "1");
            }
        }
        Edit::Settle => settle(root),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_indexed_digest_is_what_reading_the_file_gives(
        edits in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..12),
    ) {
        let root = project(&[("a", "1"), ("b/c", "1"), ("b/e/f", "22")]);
        for some in &edits {
            some.iter().for_each(|edit| apply(root.path(), edit));
            prop_assert_eq!(indexed(root.path()), fresh(root.path()));
        }
    }
}
