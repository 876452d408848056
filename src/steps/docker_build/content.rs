//! What an image is made of, as one list: it gives the content hash, and the
//! difference between two of them is what the plan shows. There is no second
//! place that decides what counts.
//!
//! In it: files of the context after `.dockerignore`, Dockerfile, target,
//! arguments, platform, digests of base images. Never: times, owners, secrets,
//! cache settings, tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::change::Change;
use crate::model::units::{count, short_digest};
use crate::world::files::hex;

/// Changed whenever the meaning of an entry changes, so that no old image is taken for a new one.
const FORM: &[u8] = b"flow image 1";
/// More would bury what matters.
const MOST_CHANGES: usize = 20;

/// What one entry is about. The order is that of the list of changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// A base image, by the reference that the Dockerfile has.
    Base(String),
    /// A build argument.
    Arg(String),
    /// Where the Dockerfile lies.
    Dockerfile,
    /// The stage.
    Target,
    /// The platform.
    Platform,
    /// A file, folder or link of the context.
    File(String),
}

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Part, String)>", into = "Vec<(Part, String)>")]
pub struct Content(BTreeMap<Part, String>);

/// The digest of a [`Content`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHash(String);

impl Content {
    /// Adds an entry.
    pub fn add(&mut self, part: Part, value: impl Into<String>) {
        self.0.insert(part, value.into());
    }

    /// Its digest: every text with its length in front, so that no two lists look the same.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        let mut hasher = Sha256::new();
        let mut text = |text: &[u8]| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        text(FORM);
        for (part, value) in &self.0 {
            let (kind, name) = part.words();
            text(kind.as_bytes());
            text(name.as_bytes());
            text(value.as_bytes());
        }
        ContentHash(hex(&hasher.finalize()))
    }

    /// What differs from an earlier list.
    #[must_use]
    pub fn since(&self, earlier: &Content) -> Difference {
        let mut parts: Vec<(&Part, Option<&str>, Option<&str>)> = Vec::new();
        for (part, value) in &self.0 {
            let before = earlier.0.get(part);
            if before != Some(value) {
                parts.push((part, before.map(String::as_str), Some(value.as_str())));
            }
        }
        parts.extend(
            earlier
                .0
                .iter()
                .filter(|(part, _)| !self.0.contains_key(part))
                .map(|(p, v)| (p, Some(v.as_str()), None)),
        );
        parts.sort_by_key(|(part, ..)| *part);
        let files: Vec<&str> = parts
            .iter()
            .filter_map(|(part, ..)| if let Part::File(path) = part { Some(path.as_str()) } else { None })
            .collect();
        let other =
            parts.iter().find(|(part, ..)| !matches!(part, Part::File(_))).map(|(part, ..)| part.to_string());
        let only = if let [only] = files.as_slice() { Some((*only).to_owned()) } else { None };
        let mut changes: Vec<Change> =
            parts.iter().take(MOST_CHANGES).map(|(part, from, to)| part.change(*from, *to)).collect();
        if parts.len() > MOST_CHANGES {
            changes.push(Change::new(format!("and {} more", parts.len() - MOST_CHANGES), None, None));
        }
        Difference { files: files.len(), only, other, changes }
    }
}

/// What differs between two contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    files: usize,
    only: Option<String>,
    other: Option<String>,
    /// Each, up to a number that can be read.
    pub changes: Vec<Change>,
}

impl Difference {
    /// In a few words: `14 files under backend/api changed`.
    #[must_use]
    pub fn subject(&self, context: &str) -> String {
        let place = if context == "." { String::new() } else { format!(" under {context}") };
        match (self.files, &self.only, &self.other) {
            (0, _, None) => String::new(),
            (0, _, Some(other)) => format!("{other} changed"),
            (1, Some(only), None) if context == "." => format!("{only} changed"),
            (1, Some(only), None) => format!("{context}/{only} changed"),
            (files, _, None) => format!("{}{place} changed", count(files, "file")),
            (files, _, Some(other)) => format!("{other} and {} changed", count(files, "file")),
        }
    }
}

impl Part {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Base(name) => ("base", name),
            Self::Arg(name) => ("arg", name),
            Self::Dockerfile => ("dockerfile", ""),
            Self::Target => ("target", ""),
            Self::Platform => ("platform", ""),
            Self::File(path) => ("file", path),
        }
    }

    fn change(&self, from: Option<&str>, to: Option<&str>) -> Change {
        let shown = |value: &str| match self {
            Self::Base(_) => short_digest(value),
            Self::File(_) => match value.split_once(' ') {
                Some((mode @ ("644" | "755"), digest)) => {
                    let digest = short_digest(digest);
                    if mode == "755" { format!("{digest}, executable") } else { digest }
                }
                _ => value.to_owned(),
            },
            _ => value.to_owned(),
        };
        Change::new(self.to_string(), from.map(shown), to.map(shown))
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.words() {
            ("file", path) => f.write_str(path),
            (kind, "") => f.write_str(kind),
            (kind, name) => write!(f, "{kind} {name}"),
        }
    }
}

impl ContentHash {
    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag that says what an image is made of.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("flow-{}", self.0.get(..32).unwrap_or(&self.0))
    }
}

impl From<Vec<(Part, String)>> for Content {
    fn from(pairs: Vec<(Part, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl From<Content> for Vec<(Part, String)> {
    fn from(content: Content) -> Self {
        content.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(pairs: &[(Part, &str)]) -> Content {
        Content(pairs.iter().map(|(part, value)| (part.clone(), (*value).to_owned())).collect())
    }

    fn file(path: &str) -> Part {
        Part::File(path.to_owned())
    }

    #[test]
    fn nothing_can_move_from_one_text_to_its_neighbour() {
        let hashes: Vec<String> = [
            content(&[]),
            content(&[(file("a"), "bc")]),
            content(&[(file("ab"), "c")]),
            content(&[(Part::Arg("a".into()), "bc")]),
            content(&[(file("a"), "b"), (file("c"), "")]),
            content(&[(Part::Target, "a")]),
            content(&[(Part::Platform, "a")]),
        ]
        .iter()
        .map(|content| content.hash().0)
        .collect();
        let mut unique = hashes.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), hashes.len());
    }

    #[test]
    fn a_content_comes_back_from_its_record() {
        let whole = content(&[(file("a"), "644 x"), (Part::Target, "t"), (Part::Arg("A".into()), "1")]);
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), whole);
    }

    #[test]
    fn differences_are_said_in_a_few_words() {
        let old =
            content(&[(file("a"), "644 1"), (file("b"), "644 1"), (Part::Base("x:1".into()), "sha256:1")]);
        for (new, context, subject) in [
            (
                content(&[
                    (file("a"), "755 1"),
                    (file("b"), "644 1"),
                    (Part::Base("x:1".into()), "sha256:1"),
                ]),
                "api",
                "api/a changed",
            ),
            (
                content(&[(file("c"), "644 1"), (Part::Base("x:1".into()), "sha256:1")]),
                "api",
                "3 files under api changed",
            ),
            (
                content(&[
                    (file("a"), "644 1"),
                    (file("b"), "644 1"),
                    (Part::Base("x:1".into()), "sha256:2"),
                ]),
                ".",
                "base x:1 changed",
            ),
            (
                content(&[
                    (file("a"), "644 2"),
                    (file("b"), "644 1"),
                    (Part::Base("x:1".into()), "sha256:2"),
                ]),
                ".",
                "base x:1 and 1 file changed",
            ),
            (old.clone(), ".", ""),
        ] {
            assert_eq!(new.since(&old).subject(context), subject);
        }
        let changes = content(&[(file("a"), "755 1")]).since(&old).changes;
        let shown: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["base x:1  sha256:1 → none", "a  1 → 1, executable", "b  1 → none"]);
    }

    #[test]
    fn long_lists_are_cut() {
        let many = Content((0..30).map(|n| (file(&format!("f{n:02}")), "644 1".to_owned())).collect());
        let changes = many.since(&Content::default()).changes;
        assert_eq!(changes.len(), MOST_CHANGES + 1);
        assert_eq!(changes.last().map(ToString::to_string).as_deref(), Some("and 10 more"));
    }
}
