//! What `flow cache` says, for people and as JSON.

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::look::Look;
use super::when;
use crate::cache::local::{Broken, Pruned, Stats, What};
use crate::model::units::{count, short_digest, show_size};

/// Version of the JSON.
const VERSION: u32 = 1;

/// What there is.
#[must_use]
pub fn stats(look: &Look, stats: &Stats, steps: usize, now: Timestamp) -> Vec<String> {
    let mut lines = vec![
        format!("  {:<8} {}", "steps", count(steps, "step") + " with a last success"),
        format!("  {:<8} {}", "entries", entries(stats.entries)),
        format!("  {:<8} {}, {} on disk", "files", count(stats.blobs, "file"), show_size(stats.room)),
    ];
    if let (Some(oldest), Some(newest)) = (stats.oldest, stats.newest) {
        let day = |then| when::day_and_time(look, then, now);
        lines.push(format!("  {:<8} {} to {}", "used", day(oldest), day(newest)));
    }
    lines
}

fn entries(number: usize) -> String {
    if number == 1 { "1 entry".to_owned() } else { format!("{number} entries") }
}

/// The same as JSON.
#[must_use]
pub fn stats_json(stats: &Stats, steps: usize) -> Json {
    json!({
        "version": VERSION, "steps": steps, "entries": stats.entries, "files": stats.blobs,
        "bytes": stats.size, "disk_bytes": stats.room, "oldest": stats.oldest, "newest": stats.newest,
    })
}

/// What was removed.
#[must_use]
pub fn pruned(pruned: &Pruned) -> Vec<String> {
    vec![format!(
        "removed {} and {}, {} freed; {} left, {}",
        entries(pruned.entries),
        count(pruned.blobs, "file"),
        show_size(pruned.freed),
        entries(pruned.left),
        show_size(pruned.size)
    )]
}

/// The same as JSON.
#[must_use]
pub fn pruned_json(pruned: &Pruned) -> Json {
    json!({
        "version": VERSION, "removed_entries": pruned.entries, "removed_files": pruned.blobs,
        "freed_bytes": pruned.freed, "entries": pruned.left, "bytes": pruned.size,
    })
}

/// What is broken, one a line.
#[must_use]
pub fn broken(look: &Look, broken: &[Broken]) -> Vec<String> {
    let line = |one: &Broken| {
        let of = if one.of.is_empty() { String::new() } else { format!("  ({})", one.of.join(", ")) };
        look.text(&format!("  {} {}  {}{of}", what(one.what), short_digest(&one.name), one.why))
    };
    broken.iter().map(line).collect()
}

fn what(what: What) -> &'static str {
    match what {
        What::Blob => "file",
        What::Entry => "entry",
    }
}

/// The same as JSON.
#[must_use]
pub fn broken_json(checked: usize, broken: &[Broken], repaired: bool) -> Json {
    let rows: Vec<Json> = broken
        .iter()
        .map(|one| json!({ "id": one.name, "what": what(one.what), "why": one.why, "of": one.of }))
        .collect();
    json!({ "version": VERSION, "checked": checked, "repaired": repaired, "broken": rows })
}
