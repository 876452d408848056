//! The rules of the source tree itself: who may import whom, how long a file
//! may be.

use std::path::{Path, PathBuf};

/// A module may import those before it.
const ORDER: [&str; 11] =
    ["syntax", "model", "event", "world", "journal", "steps", "cache", "plan", "exec", "report", "cli"];

/// No file is longer.
const LONGEST: usize = 700;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    files
        .into_iter()
        .map(|path| {
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            (shown, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// `src/plan/graph.rs` belongs to `plan`, `src/event.rs` to `event`.
fn module(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

/// What a file outside its tests imports or names from the crate.
fn named(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.match_indices("crate::")
        .map(|(at, word)| {
            let rest = &code[at + word.len()..];
            rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
        })
        .collect()
}

#[test]
fn modules_import_one_way() {
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut wrong = Vec::new();
    for (path, text) in all() {
        let test_only = path.contains("test") || path.contains("sandbox");
        let Some(own) = place(module(&path)).filter(|_| !test_only) else { continue };
        for name in named(&text) {
            if place(&name).is_some_and(|other| other > own) {
                wrong.push(format!("{path} uses crate::{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "later modules are imported by earlier ones:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = all()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{path} has {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_program_itself_is_thin() {
    let main = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs")).unwrap();
    assert!(main.lines().count() <= 25);
}
