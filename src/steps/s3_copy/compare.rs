//! Which objects are new, which changed and which are the same, by what S3
//! says of both sides: size and `ETag`, and where those do not tell (parts of
//! another size, encryption with a key), the checksums that it keeps.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::S3Copy;
use crate::model::change::Change;
use crate::model::units::show_size;
use crate::steps::s3_sync::listing::{Listed, Seen, bucket_failure, look};
use crate::steps::s3_sync::manifest::Entry;
use crate::steps::s3_sync::{LOOKS, Place};
use crate::steps::{Context, Failure};
use crate::world::aws::AwsError;

/// An object that is to be in two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// Its key where it is.
    pub from: String,
    /// Its key where it shall be.
    pub to: String,
    /// As the source lists it.
    pub listed: Listed,
}

/// What is left to do.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Sorted by key.
    pub copies: Vec<Copy>,
    /// As wanted already, by key.
    pub same: BTreeMap<String, Entry>,
    /// So many of the copies replace nothing.
    pub new: usize,
    /// One a copy.
    pub changes: Vec<Change>,
}

/// Compares both sides; `source` reads the one that is copied.
pub(super) async fn compare(
    cx: &Context,
    source: &Client,
    step: &S3Copy,
    objects: BTreeMap<String, Copy>,
    place: &Place,
) -> Result<Compared, Failure> {
    let mut compared = Compared::default();
    let mut asked = Vec::new();
    for copy in objects.into_values() {
        let Some(there) = place.listed.get(&copy.to) else {
            compared.add(copy, None);
            continue;
        };
        let recorded = place.recorded.get(&copy.to).filter(|entry| entry.is_untouched(there));
        match recorded {
            _ if there.size != copy.listed.size => compared.add(copy, Some(there)),
            Some(entry) if there.etag == copy.listed.etag => {
                compared.same.insert(copy.to, entry.clone());
            }
            _ => asked.push((copy, there.clone())),
        }
    }
    for (copy, there, same) in ask(cx, source, step, asked).await? {
        match same {
            Some(entry) => drop(compared.same.insert(copy.to, entry)),
            None => compared.add(copy, Some(&there)),
        }
    }
    compared.copies.sort_by(|a, b| a.to.cmp(&b.to));
    compared.changes.sort_by(|a, b| a.what.cmp(&b.what));
    Ok(compared)
}

impl Compared {
    fn add(&mut self, copy: Copy, there: Option<&Listed>) {
        let words = |listed: &Listed| {
            let etag: String = listed.etag.chars().take(8).collect();
            format!("{etag} {}", show_size(listed.size))
        };
        let change = match there {
            None => Change::new(&copy.to, None, show_size(copy.listed.size)),
            Some(there) => Change::new(&copy.to, words(there), words(&copy.listed)),
        };
        self.new += usize::from(there.is_none());
        self.changes.push(change);
        self.copies.push(copy);
    }
}

/// Asks both sides about objects of the same size; `None` for what differs or cannot be told.
async fn ask(
    cx: &Context,
    source: &Client,
    step: &S3Copy,
    asked: Vec<(Copy, Listed)>,
) -> Result<Vec<(Copy, Listed, Option<Entry>)>, Failure> {
    let target = &cx.cloud.reads().await.s3;
    let mut looks = Vec::new();
    for (copy, there) in asked {
        looks.push(async move {
            let Some(seen) = look(target, &step.to.bucket, &copy.to).await? else {
                return Ok((copy, there, None));
            };
            let same = there.etag == copy.listed.etag || {
                let original = look(source, &step.from.bucket, &copy.from).await?;
                original.is_some_and(|original| same_bytes(&original, &seen) == Some(true))
            };
            let entry = same.then(|| Entry::of(seen, &there));
            Ok::<_, AwsError>((copy, there, entry))
        });
    }
    let all = futures_util::stream::iter(looks).buffer_unordered(LOOKS).try_collect();
    cx.cancel.unless_stopped(all).await?.map_err(|error| bucket_failure(error, &step.to, cx))
}

/// Whether two objects of the same size hold the same bytes; `None` where nothing that S3 keeps of
/// both can be compared.
pub(super) fn same_bytes(one: &Seen, other: &Seen) -> Option<bool> {
    if !one.etag.is_empty() && one.etag == other.etag {
        return Some(true);
    }
    if let (Some(one), Some(other)) = (&one.sum, &other.sum) {
        // Of parts it tells only for parts of the same size.
        let whole = !one.contains('-') && !other.contains('-');
        if one == other || whole {
            return Some(one == other);
        }
    }
    match (&one.crc64, &other.crc64) {
        (Some(one), Some(other)) => Some(one == other),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::s3_sync::headers::Headers;

    fn seen(etag: &str, sum: Option<&str>, crc64: Option<&str>) -> Seen {
        Seen {
            headers: Headers::of("a.zip", &[]),
            sum: sum.map(str::to_owned),
            crc64: crc64.map(str::to_owned),
            etag: etag.to_owned(),
            version: None,
        }
    }

    #[test]
    fn bytes_are_compared_by_whatever_s3_keeps_of_both() {
        for (name, one, other, wanted) in [
            ("the same ETag", seen("e", None, None), seen("e", None, None), Some(true)),
            ("no ETag", seen("", None, None), seen("", None, None), None),
            ("the same SHA-256", seen("e", Some("s"), None), seen("f", Some("s"), None), Some(true)),
            ("another SHA-256", seen("e", Some("s"), None), seen("f", Some("t"), None), Some(false)),
            ("parts of another size", seen("e", Some("s-2"), None), seen("f", Some("t-3"), None), None),
            ("the same parts", seen("e", Some("s-2"), None), seen("f", Some("s-2"), None), Some(true)),
            ("the same CRC", seen("e", Some("s-2"), Some("c")), seen("f", None, Some("c")), Some(true)),
            ("another CRC", seen("e", None, Some("c")), seen("f", None, Some("d")), Some(false)),
            ("nothing in common", seen("e", Some("s"), None), seen("f", None, Some("c")), None),
        ] {
            assert_eq!(same_bytes(&one, &other), wanted, "{name}");
        }
    }
}
