//! What each sync left in the bucket, written down: the next sync compares
//! with it without touching objects, deletes only what several releases no
//! longer have, and a rollback finds in it what to go back to.
//!
//! Manifests lie in the store under `manifests/BUCKET/WHERE/`, one a sync, named
//! `NUMBER-DIGEST.json`; the digest covers keys, bytes and headers, so that two
//! syncs of the same release have the same one. They are never changed. Beside
//! them `open.json` says what a sync that began will change: its URL paths count
//! as changed until a sync is complete, so that an interruption cannot keep them
//! from being invalidated, and a rollback knows what it may have put there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::headers::Headers;
use super::listing::{Listed, Seen};
use super::target::Target;
use crate::steps::Failure;
use crate::world::files::{FileError, digest};
use crate::world::store::Store;

const VERSION: u32 = 1;
const OPEN: &str = "open.json";
/// More manifests than this are not read to sum up what changed.
const MOST_READ: usize = 50;

/// What one sync left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::steps) struct Manifest {
    /// Of this form.
    pub version: u32,
    /// The bucket.
    pub bucket: String,
    /// Where in it.
    pub prefix: String,
    /// The manifest before it.
    pub previous: Option<String>,
    /// URL paths that this sync changed.
    pub changed: Vec<String>,
    /// By key.
    pub objects: BTreeMap<String, Entry>,
    /// Objects of somebody else's that this sync replaced or deleted, as they were: what lay there
    /// before flow is part of what a rollback returns to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<String, Entry>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::steps) struct Entry {
    /// Of its bytes, hexadecimal; empty for somebody else's object of which S3 keeps none.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Its headers.
    #[serde(flatten)]
    pub headers: Headers,
    /// As the bucket lists it.
    pub etag: String,
    /// As the bucket lists it, seconds since 1970: only compared for equality, it tells that somebody
    /// else wrote the object.
    pub modified: i64,
    /// In versioned buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Entry {
    /// Whether the bucket still lists it as it did then.
    pub(in crate::steps) fn is_untouched(&self, listed: &Listed) -> bool {
        self.etag == listed.etag && self.size == listed.size && self.modified == listed.modified
    }

    /// Whether both hold the same bytes: by SHA-256, and where S3 keeps none of one of them by `ETag`
    /// and size.
    pub(super) fn has_bytes_of(&self, other: &Self) -> bool {
        if self.sha256.is_empty() || other.sha256.is_empty() {
            self.etag == other.etag && self.size == other.size
        } else {
            self.sha256 == other.sha256
        }
    }

    /// What tells its bytes apart from others, shortened for people.
    pub(super) fn shown(&self) -> String {
        let sum = if self.sha256.is_empty() { &self.etag } else { &self.sha256 };
        sum.chars().take(12).collect()
    }

    /// An object as it lies there.
    pub(in crate::steps) fn of(seen: Seen, listed: &Listed) -> Self {
        Self {
            sha256: seen.hex().unwrap_or_default(),
            size: listed.size,
            headers: seen.headers,
            etag: listed.etag.clone(),
            modified: listed.modified,
            version: seen.version,
        }
    }
}

/// What a sync that began will change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::steps) struct Open {
    /// URL paths.
    pub changed: Vec<String>,
    /// Keys that it may have put there.
    #[serde(default)]
    pub keys: BTreeSet<String>,
    /// What it replaces or deletes of somebody else's.
    #[serde(default)]
    pub found: BTreeMap<String, Entry>,
}

impl Open {
    /// This sync, and what one before it left unfinished. What was found first is what was there.
    pub(in crate::steps) fn on_top_of(mut self, before: Self) -> Self {
        self.changed.extend(before.changed);
        self.changed.sort();
        self.changed.dedup();
        self.keys.extend(before.keys);
        self.found.extend(before.found);
        self
    }
}

impl Manifest {
    /// The manifest of a complete sync.
    pub(in crate::steps) fn new(
        target: &Target,
        previous: Option<String>,
        open: Open,
        objects: BTreeMap<String, Entry>,
    ) -> Self {
        let (bucket, prefix) = (target.bucket.clone(), target.prefix.clone());
        let Open { changed, found, .. } = open;
        Self { version: VERSION, bucket, prefix, previous, changed, objects, found }
    }

    fn release(&self) -> String {
        release_digest(self.objects.iter().map(|(key, e)| (key.as_str(), e.sha256.as_str(), &e.headers)))
    }
}

/// The digest of a release: keys in order, bytes and headers. Sixteen hexadecimal digits.
pub(super) fn release_digest<'a>(objects: impl Iterator<Item = (&'a str, &'a str, &'a Headers)>) -> String {
    let rows: Vec<_> = objects.collect();
    let text = serde_json::to_vec(&rows).unwrap_or_default();
    digest(&text).chars().take(16).collect()
}

/// A manifest that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::steps) enum ManifestError {
    #[error("the manifest {0} cannot be read: {1}")]
    Broken(String, serde_json::Error),
    #[error("the manifest {0} was written by a newer flow")]
    Newer(String),
    #[error("another sync to the same place wrote {0} meanwhile")]
    Overtaken(String),
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let reason = error.to_string();
        match error {
            ManifestError::Broken(..) => Self::new(reason)
                .help("restore the file, or remove it: the sync then compares with the bucket"),
            ManifestError::Newer(_) => Self::new(reason).help("use the newer flow here too"),
            ManifestError::Overtaken(_) => {
                Self::new(reason).help("run it again: the bucket is compared anew")
            }
            ManifestError::File(error) => error.into(),
        }
    }
}

/// The manifests of one place in a bucket.
#[derive(Clone, Debug)]
pub(in crate::steps) struct Manifests {
    store: Store,
    folder: String,
    names: Vec<String>,
}

impl Manifests {
    /// Looks what there is. The endpoint is part of the place: bucket names are unique only within one.
    pub(super) fn open(
        store: &Store,
        target: &Target,
        endpoint: Option<&str>,
    ) -> Result<Self, ManifestError> {
        let place = digest(format!("{}\n{}", endpoint.unwrap_or_default(), target.prefix).as_bytes());
        let place: String = place.chars().take(12).collect();
        let folder = format!("manifests/{}/{place}", target.bucket);
        let mut names: Vec<String> = store
            .list(&folder)?
            .iter()
            .filter_map(|name| name.strip_suffix(".json"))
            .filter(|name| number(name).is_some())
            .map(str::to_owned)
            .collect();
        names.sort_by_key(|name| number(name));
        Ok(Self { store: store.clone(), folder, names })
    }

    /// The newest manifest's name.
    pub(in crate::steps) fn newest(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }

    /// Reads one.
    pub(super) fn read(&self, name: &str) -> Result<Option<Manifest>, ManifestError> {
        let Some(bytes) = self.store.get(&self.key(name))? else { return Ok(None) };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| ManifestError::Broken(name.to_owned(), error))?;
        if manifest.version > VERSION {
            return Err(ManifestError::Newer(name.to_owned()));
        }
        Ok(Some(manifest))
    }

    /// The keys of the last `count` releases that are not `current`, newest first; `None` when there
    /// were not so many yet, so that nobody can say what they no longer have.
    pub(super) fn releases_before(
        &self,
        current: &str,
        count: usize,
    ) -> Result<Option<Vec<BTreeSet<String>>>, ManifestError> {
        let mut seen = BTreeSet::from([current]);
        let mut releases = Vec::new();
        for name in self.names.iter().rev() {
            if releases.len() == count {
                break;
            }
            if seen.insert(release_of(name)) {
                let Some(manifest) = self.read(name)? else { continue };
                releases.push(manifest.objects.into_keys().collect());
            }
        }
        Ok((releases.len() == count).then_some(releases))
    }

    /// URL paths changed by every sync after the named one (all of them without a name), and by one
    /// that began and never ended.
    pub(super) fn changed_since(&self, name: Option<&str>) -> Result<BTreeSet<String>, ManifestError> {
        let after = name.and_then(number).unwrap_or(0);
        let newer: Vec<&String> =
            self.names.iter().filter(|name| number(name).is_some_and(|n| n > after)).collect();
        let mut changed: BTreeSet<String> = self.unfinished()?.changed.into_iter().collect();
        if newer.len() > MOST_READ {
            changed.insert("/*".to_owned());
            return Ok(changed);
        }
        for name in newer {
            changed.extend(self.read(name)?.into_iter().flat_map(|manifest| manifest.changed));
        }
        Ok(changed)
    }

    /// The newest manifest.
    pub(super) fn last(&self) -> Result<Option<Manifest>, ManifestError> {
        Ok(self.newest().map(|name| self.read(name)).transpose()?.flatten())
    }

    /// The manifests after the named one, or all without a name; oldest first.
    pub(super) fn after(&self, name: Option<&str>) -> Result<Vec<Manifest>, ManifestError> {
        let after = name.and_then(number).unwrap_or(0);
        let newer = self.names.iter().filter(|name| number(name).is_some_and(|n| n > after));
        newer.filter_map(|name| self.read(name).transpose()).collect()
    }

    /// Whether the newest manifest is of the same release as the named one; none is one of no objects.
    pub(super) fn stands_at(&self, name: Option<&str>) -> bool {
        let nothing = || release_digest(std::iter::empty());
        let release = |name: Option<&str>| name.map_or_else(nothing, |name| release_of(name).to_owned());
        release(self.newest()) == release(name)
    }

    /// What a sync left undone that began and never ended.
    pub(in crate::steps) fn unfinished(&self) -> Result<Open, ManifestError> {
        let Some(bytes) = self.store.get(&format!("{}/{OPEN}", self.folder))? else {
            return Ok(Open::default());
        };
        serde_json::from_slice(&bytes).map_err(|error| ManifestError::Broken(OPEN.to_owned(), error))
    }

    /// Says that a sync begins that will change this. Refused when another one wrote since.
    pub(in crate::steps) fn begin(&self, open: &Open) -> Result<(), ManifestError> {
        let newest = self.store.list(&self.folder)?.into_iter().filter_map(|name| {
            let name = name.strip_suffix(".json")?.to_owned();
            number(&name).map(|number| (number, name))
        });
        match newest.max() {
            Some((_, name)) if Some(name.as_str()) != self.newest() => Err(ManifestError::Overtaken(name)),
            _ => self.put_open(open),
        }
    }

    /// Writes the manifest of a complete sync and returns its name.
    pub(in crate::steps) fn complete(&self, manifest: &Manifest) -> Result<String, ManifestError> {
        let next = self.newest().and_then(number).unwrap_or(0) + 1;
        let name = format!("{next:06}-{}", manifest.release());
        let bytes =
            serde_json::to_vec(manifest).map_err(|error| ManifestError::Broken(name.clone(), error))?;
        if !self.store.create(&self.key(&name), &bytes)? {
            return Err(ManifestError::Overtaken(name));
        }
        self.put_open(&Open::default())?;
        Ok(name)
    }

    fn put_open(&self, open: &Open) -> Result<(), ManifestError> {
        let bytes =
            serde_json::to_vec(open).map_err(|error| ManifestError::Broken(OPEN.to_owned(), error))?;
        Ok(self.store.put(&format!("{}/{OPEN}", self.folder), &bytes)?)
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}.json", self.folder)
    }
}

fn number(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

fn release_of(name: &str) -> &str {
    name.split_once('-').map_or(name, |(_, release)| release)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(target: &Target, keys: &[&str], changed: &[&str]) -> Manifest {
        let entry = |key: &&str| Entry {
            sha256: digest(key.as_bytes()),
            size: 1,
            headers: Headers::of(key, &[]),
            etag: "e".to_owned(),
            modified: 0,
            version: None,
        };
        let objects = keys.iter().map(|key| ((*key).to_owned(), entry(key))).collect();
        Manifest::new(target, None, began(changed), objects)
    }

    fn began(changed: &[&str]) -> Open {
        Open { changed: changed.iter().map(|&path| path.to_owned()).collect(), ..Open::default() }
    }

    #[test]
    fn what_was_found_first_was_there() {
        let target = Target::parse("s3://shop").expect("a target");
        let entry = |key: &str| manifest(&target, &[key], &[]).objects.into_values().next().expect("one");
        let found = |key: &str| BTreeMap::from([("a".to_owned(), entry(key))]);
        let before = Open { found: found("first"), ..began(&["/a"]) };
        let open = Open { found: found("second"), ..began(&["/b"]) }.on_top_of(before);
        assert_eq!((open.changed, open.found), (vec!["/a".to_owned(), "/b".to_owned()], found("first")));
    }

    #[test]
    fn releases_are_counted_once_each_and_the_current_one_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::folder(folder.path().to_owned());
        let target = Target::parse("s3://shop").expect("a target");
        let open = || Manifests::open(&store, &target, None).expect("manifests");
        for keys in [&["old"][..], &["a"], &["a"], &["b"]] {
            open().complete(&manifest(&target, keys, &[])).expect("written");
        }
        let manifests = open();
        let current = release_of(manifests.newest().expect("one")).to_owned();
        let before = |count| manifests.releases_before(&current, count).expect("read");
        let keys = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(before(1), Some(vec![keys(&["a"])]));
        assert_eq!(before(2), Some(vec![keys(&["a"]), keys(&["old"])]));
        assert_eq!(before(3), None);
    }

    #[test]
    fn changes_add_up_until_a_release_records_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::folder(folder.path().to_owned());
        let target = Target::parse("s3://shop").expect("a target");
        let open = || Manifests::open(&store, &target, None).expect("manifests");
        let first = open().complete(&manifest(&target, &["a"], &["/a"])).expect("written");
        let second = open().complete(&manifest(&target, &["b"], &["/b"])).expect("written");
        open().begin(&began(&["/c"])).expect("begun");
        let since = |name| open().changed_since(name).expect("read").into_iter().collect::<Vec<_>>();
        assert_eq!(since(None), ["/a", "/b", "/c"]);
        assert_eq!(since(Some(&first)), ["/b", "/c"]);
        assert_eq!(since(Some(&second)), ["/c"]);
        open().complete(&manifest(&target, &["c"], &["/c"])).expect("written");
        assert_eq!(since(Some(&second)), ["/c"]);
        assert!(open().unfinished().expect("read").changed.is_empty());
    }

    #[test]
    fn bytes_without_a_sha256_are_told_apart_by_etag_and_size() {
        let entry = |sha256: &str, etag: &str| Entry {
            sha256: sha256.to_owned(),
            size: 3,
            headers: Headers::of("a.zip", &[]),
            etag: etag.to_owned(),
            modified: 0,
            version: None,
        };
        for (one, other, same) in [
            (entry("s", "e"), entry("s", "f"), true),
            (entry("s", "e"), entry("t", "e"), false),
            (entry("", "e"), entry("", "e"), true),
            (entry("", "e"), entry("", "f"), false),
            (entry("s", "e"), entry("", "e"), true),
            (entry("s", "e"), entry("", "f"), false),
        ] {
            assert_eq!(one.has_bytes_of(&other), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_second_writer_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::folder(folder.path().to_owned());
        let target = Target::parse("s3://shop").expect("a target");
        let mine = Manifests::open(&store, &target, None).expect("manifests");
        let theirs = Manifests::open(&store, &target, None).expect("manifests");
        theirs.complete(&manifest(&target, &["a"], &[])).expect("written");
        assert!(matches!(mine.begin(&began(&[])), Err(ManifestError::Overtaken(_))));
        assert!(matches!(mine.complete(&manifest(&target, &["a"], &[])), Err(ManifestError::Overtaken(_))));
    }
}
