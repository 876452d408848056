//! A set of files and what each holds, with one digest over all of it.
//!
//! Kept by folder, so that a hundred thousand files need neither a hundred
//! thousand paths nor a sort over all of them.

use sha2::{Digest as _, Sha256};

use super::super::digests::Sum;

/// Changed whenever what is digested changes.
const FORM: &[u8] = b"flow files 1";

/// Files by path, each with what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by folder, and each folder once.
    folders: Vec<Group>,
}

/// What counts in one folder, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Relative to the root; empty for the root itself.
    pub folder: String,
    pub files: Vec<(Box<str>, Held)>,
}

impl Group {
    /// The folder and what its files hold, as bytes from which both can be told again.
    fn write(&self, bytes: &mut Vec<u8>) {
        text(bytes, &self.folder);
        bytes.extend_from_slice(&(self.files.len() as u64).to_le_bytes());
        for (name, held) in &self.files {
            text(bytes, name);
            bytes.push(held.kind.letter());
            bytes.extend_from_slice(&held.sum.0);
        }
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What sort of file.
    pub kind: Kind,
    /// Of its bytes, or of where it points.
    pub sum: Sum,
}

/// What sort of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A file that its owner may run.
    Program,
    /// A link.
    Link,
}

/// How two listings differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How many files.
    pub count: usize,
    /// The first of them: its path, what it holds now, and what it held then.
    pub first: (String, Option<Held>, Option<Held>),
}

impl std::fmt::Display for Held {
    /// `DIGEST`, `DIGEST x` when executable, `link DIGEST`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::File => write!(f, "{}", self.sum),
            Kind::Program => write!(f, "{} x", self.sum),
            Kind::Link => write!(f, "link {}", self.sum),
        }
    }
}

impl Listing {
    pub(super) fn new(mut folders: Vec<Group>) -> Self {
        folders.retain(|group| !group.files.is_empty());
        folders.sort_unstable_by(|one, other| one.folder.cmp(&other.folder));
        let mut merged: Vec<Group> = Vec::with_capacity(folders.len());
        for mut group in folders {
            match merged.last_mut().filter(|last| last.folder == group.folder) {
                // Files that were named one by one.
                Some(last) => last.files.append(&mut group.files),
                None => merged.push(group),
            }
        }
        for group in &mut merged {
            if !group.files.is_sorted_by(|(one, _), (other, _)| one < other) {
                group.files.sort_by(|(one, _), (other, _)| one.cmp(other));
                group.files.dedup_by(|(one, _), (other, _)| one == other);
            }
        }
        Self { folders: merged }
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.folders.iter().map(|group| group.files.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Every file: its path relative to the root, and what it holds. By folder, then by name.
    pub fn iter(&self) -> impl Iterator<Item = (String, Held)> {
        self.folders
            .iter()
            .flat_map(|group| group.files.iter().map(|(name, held)| (join(&group.folder, name), *held)))
    }

    /// One digest over all paths and what they hold.
    #[must_use]
    pub fn digest(&self) -> Sum {
        let mut hasher = Sha256::new_with_prefix(FORM);
        let mut bytes = Vec::new();
        for group in &self.folders {
            bytes.clear();
            group.write(&mut bytes);
            hasher.update(&bytes);
        }
        Sum(hasher.finalize().into())
    }

    /// What differs from an earlier listing; `None` when nothing does.
    #[must_use]
    pub fn since(&self, then: &Self) -> Option<Difference> {
        let (mut now, mut then) = (self.sorted().peekable(), then.sorted().peekable());
        let mut found: Option<Difference> = None;
        loop {
            let order = match (now.peek(), then.peek()) {
                (None, None) => return found,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let new = if order.is_le() { now.next() } else { None };
            let old = if order.is_ge() { then.next() } else { None };
            let (new_held, old_held) = (new.map(|(_, held)| held), old.map(|(_, held)| held));
            if new_held == old_held {
                continue;
            }
            if let Some((folder, name)) = new.or(old).map(|(place, _)| place) {
                let first = || (join(folder, name), new_held, old_held);
                found.get_or_insert_with(|| Difference { count: 0, first: first() }).count += 1;
            }
        }
    }

    fn sorted(&self) -> impl Iterator<Item = ((&str, &str), Held)> {
        self.folders.iter().flat_map(|group| {
            group.files.iter().map(|(name, held)| ((group.folder.as_str(), name.as_ref()), *held))
        })
    }

    /// As compact bytes, for [`Listing::decode`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * 64);
        for group in &self.folders {
            group.write(&mut bytes);
        }
        bytes
    }

    /// What [`Listing::encode`] wrote; `None` when these bytes are something else.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut folders = Vec::new();
        while !bytes.is_empty() {
            let folder = take_text(&mut bytes)?.to_owned();
            let count = take_number(&mut bytes)?;
            let mut files = Vec::new();
            for _ in 0..count {
                let name = take_text(&mut bytes)?.into();
                let (letter, rest) = bytes.split_first()?;
                let (sum, rest) = rest.split_first_chunk()?;
                files.push((name, Held { kind: Kind::from_letter(*letter)?, sum: Sum(*sum) }));
                bytes = rest;
            }
            folders.push(Group { folder, files });
        }
        Some(Self { folders })
    }
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Self::File => b'f',
            Self::Program => b'x',
            Self::Link => b'l',
        }
    }

    fn from_letter(letter: u8) -> Option<Self> {
        [Self::File, Self::Program, Self::Link].into_iter().find(|kind| kind.letter() == letter)
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// A text with its length in front, so that nothing moves from one to its neighbour.
fn text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&(text.len() as u64).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    usize::try_from(u64::from_le_bytes(*number)).ok()
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_number(bytes)?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[(&str, u8)]) -> Listing {
        Listing::new(
            files
                .iter()
                .map(|(path, byte)| {
                    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                    let held = Held { kind: Kind::File, sum: Sum([*byte; 32]) };
                    Group { folder: folder.to_owned(), files: vec![(name.into(), held)] }
                })
                .collect(),
        )
    }

    #[test]
    fn the_order_in_which_files_are_found_does_not_count() {
        let one = listing(&[("b/x", 1), ("a", 2), ("b/a", 3), ("a", 2)]);
        let other = listing(&[("a", 2), ("b/a", 3), ("b/x", 1)]);
        assert_eq!(one, other);
        assert_eq!(one.digest(), other.digest());
        assert_eq!(one.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "b/a", "b/x"]);
    }

    #[test]
    fn every_difference_changes_the_digest() {
        let digests: std::collections::BTreeSet<Sum> = [
            listing(&[]),
            listing(&[("a", 1)]),
            listing(&[("a", 2)]),
            listing(&[("a/b", 1)]),
            listing(&[("ab", 1)]),
            listing(&[("A", 1)]),
            listing(&[("a", 1), ("b", 1)]),
        ]
        .iter()
        .map(Listing::digest)
        .collect();
        assert_eq!(digests.len(), 7);
    }

    #[test]
    fn the_first_difference_is_named_and_all_are_counted() {
        let held = |byte| Some(Held { kind: Kind::File, sum: Sum([byte; 32]) });
        let then = listing(&[("a", 1), ("b/x", 1), ("c", 1)]);
        for (now, difference) in [
            (then.clone(), None),
            (listing(&[("a", 1), ("b/x", 2), ("c", 1)]), Some((1, "b/x", held(2), held(1)))),
            (listing(&[("a", 1), ("b/x", 1), ("c", 1), ("d", 7)]), Some((1, "d", held(7), None))),
            (listing(&[("b/y", 1)]), Some((4, "a", None, held(1)))),
        ] {
            let difference = difference
                .map(|(count, path, new, old)| Difference { count, first: (path.to_owned(), new, old) });
            assert_eq!(now.since(&then), difference);
        }
    }

    #[test]
    fn a_listing_comes_back_from_its_bytes_and_only_whole() {
        let all = listing(&[("a", 1), ("b/x", 1), ("c", 1)]);
        let bytes = all.encode();
        assert_eq!(Listing::decode(&bytes), Some(all));
        for cut in 1..bytes.len() {
            // What ends between two folders is a listing too, of fewer files.
            assert!(Listing::decode(&bytes[..cut]).is_none_or(|part| part.len() < 3), "{cut}");
        }
    }
}
