//! What `flow explain` says, for people and as JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::look::Look;
use super::text;
use super::when;
use crate::model::units::{short_digest, show_duration};
use crate::plan::audit::Undeclared;
use crate::plan::explain::{Differs, Explanation};
use crate::plan::fingerprint::key::{Key, Part, Visitor};

/// Version of the JSON.
const VERSION: u32 = 1;

/// More rows than these are counted unless all are asked for.
const SHOWN: usize = 20;

/// The whole of it, one line each; `all` shows every row.
#[must_use]
pub fn lines(look: &Look, explained: &Explanation, all: bool, now: Timestamp) -> Vec<String> {
    let mut lines = vec![verdict(look, explained)];
    if let Some(last) = &explained.last {
        let when = when::day_and_time(look, last.at, now);
        let took = show_duration(Duration::from_millis(last.took_ms));
        lines.push(format!("  last success {when}, took {took}, key {}", short_digest(&last.key)));
    }
    section(look, &mut lines, "what differs from it", explained.differences.iter().map(difference), all);
    section(look, &mut lines, "outputs that are not what it made", explained.tampered.iter().cloned(), all);
    if let Some(key) = &explained.key {
        let mut rows = Texts(Vec::new());
        key.key.walk(&mut rows);
        let title = format!("key {}", key.digest);
        section(look, &mut lines, &title, rows.0.into_iter(), all);
    }
    lines
}

fn verdict(look: &Look, explained: &Explanation) -> String {
    let why = if explained.why.is_empty() { &explained.summary } else { &explained.why };
    let what = match explained.action {
        crate::model::change::Action::UpToDate => "up to date",
        crate::model::change::Action::Cached => "restored from the cache",
        crate::model::change::Action::Skipped => "skipped",
        _ => "runs",
    };
    let mark = look.mark(explained.action.into());
    let why = if why.is_empty() { String::new() } else { format!(": {}", text::clean(why)) };
    look.text(&format!("  {mark} {}  {what}{why}", explained.step))
}

fn section(
    look: &Look,
    lines: &mut Vec<String>,
    title: &str,
    rows: impl ExactSizeIterator<Item = String>,
    all: bool,
) {
    let count = rows.len();
    if count == 0 {
        return;
    }
    lines.push(String::new());
    lines.push(format!("  {title}"));
    let shown = if all { count } else { SHOWN };
    lines.extend(rows.take(shown).map(|row| look.text(&format!("    {row}"))));
    if count > shown {
        lines.push(look.text(&format!("    and {} more: --all", count - shown)));
    }
}

fn difference(differs: &Differs) -> String {
    let row = &differs.row;
    let side = |value: &Option<String>| {
        value.as_deref().map_or_else(|| "absent".to_owned(), |value| shown(row.part, value))
    };
    let by = differs.made_by.as_ref().map(|step| format!("  made by {step}")).unwrap_or_default();
    format!("{:<10} {}  {} → {}{by}", row.part.name(), row.name, side(&row.then), side(&row.now))
}

/// Digests are shortened, texts stand on one line.
fn shown(part: Part, value: &str) -> String {
    match (part, value.split_once(' ')) {
        (Part::File, Some((digest, more))) if digest.len() == 64 => {
            format!("{} {more}", short_digest(digest))
        }
        (Part::File, None) => short_digest(value),
        (_, Some(("secret", _))) => "(secret)".to_owned(),
        _ => text::cut(&text::clean(value), 60),
    }
}

/// Rows of a key as text.
struct Texts(Vec<String>);

impl Visitor for Texts {
    fn row(&mut self, part: Part, name: &str, value: &str) {
        let value = if part == Part::File { value.to_owned() } else { format!("{value:?}") };
        self.0.push(format!("{:<10} {name}  {value}", part.name()));
    }
}

struct Rows(Vec<Json>);

impl Visitor for Rows {
    fn row(&mut self, part: Part, name: &str, value: &str) {
        self.0.push(json!({ "part": part, "name": name, "value": value }));
    }
}

fn rows(key: &Key) -> Vec<Json> {
    let mut rows = Rows(Vec::new());
    key.walk(&mut rows);
    rows.0
}

/// `{version, steps: [{id, action, why, key, rows, differences, …}]}`
#[must_use]
pub fn json(explained: &[(Explanation, Option<Undeclared>)]) -> Json {
    let steps: Vec<Json> = explained
        .iter()
        .map(|(one, audit)| {
            json!({
                "id": one.step, "action": one.action, "why": one.why, "summary": one.summary,
                "key": one.key.as_ref().map(|key| &key.digest),
                "rows": one.key.as_ref().map(|key| rows(&key.key)),
                "differences": one.differences, "tampered": one.tampered,
                "last": one.last.as_ref().map(|last| json!({
                    "key": last.key, "at": last.at, "took_ms": last.took_ms,
                })),
                "audit": audit,
            })
        })
        .collect();
    json!({ "version": VERSION, "steps": steps })
}

/// What an audit found.
#[must_use]
pub fn audit(look: &Look, found: &Undeclared, all: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let sections = [
        ("read, and not under inputs", &found.read),
        ("written, and not under outputs", &found.written),
        ("programs without tool: another version of one is not noticed", &found.programs),
    ];
    for (title, rows) in sections {
        section(look, &mut lines, title, rows.iter().cloned(), all);
    }
    if found.read.is_empty() && found.written.is_empty() {
        lines.push(String::new());
        lines.push("  it reads and writes only what it declares".to_owned());
    }
    lines
}
