//! What has to be sent and what has to go: the files of the source against the
//! last manifest and the bucket's listing. Times never make a file new.
//!
//! An object is what the last manifest says when `ETag`, size and date are still
//! those that the bucket listed after that sync; then manifest and file decide.
//! Otherwise somebody else wrote it, or there is no manifest: an object of the
//! same size is asked for its headers and checksum, any other is sent again.

use std::collections::{BTreeMap, BTreeSet};

use globset::GlobMatcher;

use super::headers::{Headers, Rule};
use super::listing::{Listed, Seen};
use super::manifest::Entry;
use super::order::Phase;
use super::source::LocalFile;
use super::target::Target;
use crate::model::change::Change;
use crate::model::units::show_size;

/// A file as it should be in the bucket.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The file.
    pub file: LocalFile,
    /// Its key.
    pub key: String,
    /// Its headers.
    pub headers: Headers,
    /// When it goes up.
    pub phase: Phase,
}

impl Wanted {
    /// A file with the headers that the rules give it.
    pub(super) fn new(file: LocalFile, target: &Target, rules: &[Rule]) -> Self {
        let headers = Headers::of(&file.relative, rules);
        let phase = Phase::of(&file.relative, &headers);
        Self { key: target.key(&file.relative), headers, phase, file }
    }

    /// What the manifest will say of it.
    pub(super) fn entry(&self, listed: &Listed, version: Option<String>) -> Entry {
        Entry {
            sha256: self.file.sum.hex(),
            size: self.file.size,
            headers: self.headers.clone(),
            etag: listed.etag.clone(),
            modified: listed.modified,
            version,
        }
    }
}

/// What is known of one file's object.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// As wanted.
    Same(Entry),
    /// To be sent; the differences.
    Send(Vec<Change>),
    /// The object has to be asked.
    Ask,
}

/// Judges by manifest and listing alone.
pub(super) fn judge(wanted: &Wanted, recorded: Option<&Entry>, listed: Option<&Listed>) -> Verdict {
    let Some(listed) = listed else {
        return Verdict::Send(vec![Change::new(&wanted.key, None, show_size(wanted.file.size))]);
    };
    let untouched = recorded.filter(|entry| entry.is_untouched(listed));
    match untouched {
        Some(entry) => {
            let mut changes = Vec::new();
            if entry.sha256 != wanted.file.sum.hex() {
                changes.push(Change::new(&wanted.key, short(&entry.sha256), short(&wanted.file.sum.hex())));
            }
            changes.extend(entry.headers.changes_to(&wanted.headers, &wanted.key));
            if changes.is_empty() { Verdict::Same(entry.clone()) } else { Verdict::Send(changes) }
        }
        None if listed.size == wanted.file.size => Verdict::Ask,
        None => Verdict::Send(vec![unrecorded(wanted, recorded)]),
    }
}

/// Judges by what the object says; `md5` of the file is asked for only where S3 keeps no SHA-256.
pub(super) fn judge_seen<E>(
    wanted: &Wanted,
    recorded: Option<&Entry>,
    listed: &Listed,
    seen: Option<Seen>,
    md5: impl FnOnce() -> Result<String, E>,
) -> Result<Verdict, E> {
    let Some(seen) = seen else { return Ok(Verdict::Send(vec![unrecorded(wanted, recorded)])) };
    let equal = match &seen.sum {
        Some(sum) => *sum == wanted.file.kept_sum() || *sum == wanted.file.sum.base64(),
        // Not an MD5 for encrypted objects and those in parts: then it differs, and the file is sent.
        None => seen.etag == md5()?,
    };
    if !equal {
        return Ok(Verdict::Send(vec![unrecorded(wanted, recorded)]));
    }
    let changes = seen.headers.changes_to(&wanted.headers, &wanted.key);
    Ok(if changes.is_empty() {
        Verdict::Same(wanted.entry(listed, seen.version))
    } else {
        Verdict::Send(changes)
    })
}

fn unrecorded(wanted: &Wanted, recorded: Option<&Entry>) -> Change {
    let found = if recorded.is_some() { "changed by somebody else" } else { "not from flow" };
    Change::new(&wanted.key, found.to_owned(), short(&wanted.file.sum.hex()))
}

fn short(sum: &str) -> String {
    sum.chars().take(12).collect()
}

/// `delete #true keep-releases=N max-share="30%"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deletion {
    /// An object goes only when so many releases before this one do not have it either.
    pub keep_releases: usize,
    /// The largest share of the listed objects that may go in one sync.
    pub share: Share,
}

/// A share of the objects in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// 30 %, of which up to ten objects are never too many: in a small site one renamed file is a third.
    Usual,
    /// As written, whatever the count.
    Percent(u32),
}

/// More deletes than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{deletes} of {objects} objects would be deleted, and at most {percent}% may be")]
pub(super) struct TooMany {
    pub deletes: usize,
    pub objects: usize,
    pub percent: u32,
}

impl Share {
    const USUAL_PERCENT: u32 = 30;
    const USUAL_FREE: usize = 10;

    fn check(self, deletes: usize, objects: usize) -> Result<(), TooMany> {
        let (percent, free) = match self {
            Self::Usual => (Self::USUAL_PERCENT, Self::USUAL_FREE),
            Self::Percent(percent) => (percent, 0),
        };
        let allowed = objects.saturating_mul(percent as usize) / 100;
        if deletes > allowed.max(free) { Err(TooMany { deletes, objects, percent }) } else { Ok(()) }
    }
}

/// The keys that go. Excluded ones never do. `releases` are the key sets of the last releases before
/// this one; `None` when there were fewer than have to be kept: then nothing goes.
pub(super) fn deletes(
    deletion: Deletion,
    target: &Target,
    exclude: &[GlobMatcher],
    wanted: &BTreeSet<&str>,
    listed: &BTreeMap<String, Listed>,
    releases: Option<&[BTreeSet<String>]>,
) -> Result<Vec<String>, TooMany> {
    let Some(releases) = releases else { return Ok(Vec::new()) };
    let gone: Vec<String> = listed
        .keys()
        .filter(|key| !wanted.contains(key.as_str()))
        .filter(|key| !exclude.iter().any(|glob| glob.is_match(target.relative(key))))
        .filter(|key| !releases.iter().any(|release| release.contains(*key)))
        .cloned()
        .collect();
    deletion.share.check(gone.len(), listed.len())?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::s3_sync::headers::glob;
    use crate::steps::s3_sync::source::Sum;

    fn wanted(key: &str, bytes: &[u8]) -> Wanted {
        let file = LocalFile {
            relative: key.to_owned(),
            path: key.into(),
            size: bytes.len() as u64,
            sum: Sum::of(bytes),
            parts: Vec::new(),
        };
        Wanted::new(file, &Target::parse("s3://shop").expect("a target"), &[])
    }

    fn listed(etag: &str, size: u64, modified: i64) -> Listed {
        Listed { etag: etag.to_owned(), size, modified }
    }

    #[test]
    fn manifest_and_listing_decide() {
        let file = wanted("a.html", b"new");
        let now = listed("e1", 3, 10);
        let same = file.entry(&now, None);
        let other_bytes = Entry { sha256: Sum::of(b"old").hex(), ..same.clone() };
        let mut other_headers = same.clone();
        other_headers.headers.cache_control = Some("no-store".to_owned());
        let asked = |verdict| match verdict {
            Verdict::Same(_) => "same".to_owned(),
            Verdict::Ask => "ask".to_owned(),
            Verdict::Send(changes) => changes.iter().map(|c| c.what.as_str()).collect::<Vec<_>>().join(","),
        };
        for (name, recorded, found, verdict) in [
            ("as recorded", Some(&same), Some(&now), "same"),
            ("other bytes", Some(&other_bytes), Some(&now), "a.html"),
            ("other headers", Some(&other_headers), Some(&now), "a.html cache-control"),
            ("gone from the bucket", Some(&same), None, "a.html"),
            ("overwritten, same size", Some(&same), Some(&listed("e2", 3, 11)), "ask"),
            ("written again, same bytes", Some(&same), Some(&listed("e1", 3, 11)), "ask"),
            ("overwritten, other size", Some(&same), Some(&listed("e2", 4, 11)), "a.html"),
            ("no manifest, same size", None, Some(&now), "ask"),
            ("no manifest, other size", None, Some(&listed("e1", 9, 1)), "a.html"),
            ("new", None, None, "a.html"),
        ] {
            assert_eq!(asked(judge(&file, recorded, found)), verdict, "{name}");
        }
    }

    #[test]
    fn an_asked_object_is_believed_by_checksum_or_md5() {
        let file = wanted("a.html", b"new");
        let now = listed("e1", 3, 10);
        let seen = |sum: Option<String>, etag: &str, headers: &Headers| {
            Some(Seen { headers: headers.clone(), sum, crc64: None, etag: etag.to_owned(), version: None })
        };
        let other = Headers { cache_control: Some("x".to_owned()), ..file.headers.clone() };
        let right = Some(file.file.sum.base64());
        for (name, seen, same) in [
            ("checksum", seen(right.clone(), "e1", &file.headers), true),
            ("wrong checksum", seen(Some(Sum::of(b"old").base64()), "md5", &file.headers), false),
            ("MD5", seen(None, "md5", &file.headers), true),
            ("other MD5", seen(None, "aa-2", &file.headers), false),
            ("other headers", seen(right, "e1", &other), false),
            ("gone", None, false),
        ] {
            let verdict = judge_seen(&file, None, &now, seen, || Ok::<_, ()>("md5".to_owned()));
            assert_eq!(matches!(verdict, Ok(Verdict::Same(_))), same, "{name}");
        }
    }

    #[test]
    fn only_what_no_kept_release_has_goes() {
        let target = Target::parse("s3://shop/www").expect("a target");
        let listed: BTreeMap<String, Listed> =
            ["www/index.html", "www/old.js", "www/older.js", "www/user/upload.png"]
                .into_iter()
                .map(|key| (key.to_owned(), listed("e", 1, 0)))
                .collect();
        let wanted = BTreeSet::from(["www/index.html"]);
        let exclude = [glob("user/**").expect("a glob")];
        let deletion = Deletion { keep_releases: 1, share: Share::Usual };
        let gone = |releases| deletes(deletion, &target, &exclude, &wanted, &listed, releases);
        let last = [BTreeSet::from(["www/old.js".to_owned()])];
        assert_eq!(gone(Some(&last)), Ok(vec!["www/older.js".to_owned()]));
        assert_eq!(gone(None), Ok(vec![]), "too few releases to say so");
        assert_eq!(gone(Some(&[])), Ok(vec!["www/old.js".to_owned(), "www/older.js".to_owned()]));
    }

    #[test]
    fn shares() {
        for (share, deletes, objects, fine) in [
            (Share::Usual, 10, 10, true),
            (Share::Usual, 11, 30, false),
            (Share::Usual, 30, 100, true),
            (Share::Usual, 31, 100, false),
            (Share::Percent(50), 1, 1, false),
            (Share::Percent(50), 1, 2, true),
            (Share::Percent(100), 5, 5, true),
            (Share::Percent(0), 0, 5, true),
        ] {
            assert_eq!(share.check(deletes, objects).is_ok(), fine, "{share:?} {deletes} of {objects}");
        }
    }
}
