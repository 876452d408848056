//! The pages of a listing, many at a time.
//!
//! S3 lists a thousand keys a page, in the order of their bytes, and only a page
//! tells where the next begins. Keys that are known from before cut the listing
//! into ranges of about a page, which are asked for all at once. The ranges leave
//! nothing out: whatever lies in the place lies in one of them, and one that
//! turns out to be longer than a page is read to its end.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::listing::Listed;
use crate::world::aws::AwsError;

/// Known keys in a range: some fewer than in a page, for those that came since.
const RANGE: usize = 900;
/// Ranges read at a time.
const RANGES: usize = 16;

/// From a key to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range<'a> {
    /// Exclusive; `None` from the beginning.
    after: Option<&'a str>,
    /// Inclusive; `None` to the end.
    to: Option<&'a str>,
}

/// What a range holds; `None` from a server whose keys are not in order.
type Read = Option<Vec<(String, Listed)>>;

/// Every object whose key begins with `prefix`. `known` are keys that probably lie there, in order;
/// that they do not costs time at most.
pub(super) async fn all(
    s3: &Client,
    bucket: &str,
    prefix: &str,
    known: &[&str],
) -> Result<BTreeMap<String, Listed>, AwsError> {
    let mut reads = Vec::new();
    for range in cut(known, RANGE) {
        reads.push(read(s3, bucket, prefix, range));
    }
    let reads: Vec<Read> = futures_util::stream::iter(reads).buffered(RANGES).try_collect().await?;
    if let Some(reads) = reads.into_iter().collect::<Option<Vec<_>>>() {
        return Ok(reads.into_iter().flatten().collect());
    }
    let whole = read(s3, bucket, prefix, Range { after: None, to: None }).await?;
    Ok(whole.into_iter().flatten().collect())
}

fn cut<'a>(known: &[&'a str], length: usize) -> Vec<Range<'a>> {
    let mut after = None;
    let mut ranges = Vec::with_capacity(known.len() / length + 1);
    for to in known.chunks_exact(length).filter_map(|chunk| chunk.last().copied()) {
        ranges.push(Range { after, to: Some(to) });
        after = Some(to);
    }
    ranges.push(Range { after, to: None });
    ranges
}

impl Range<'_> {
    /// What every key of the range begins with, and at least `prefix`: some servers find those faster.
    fn prefix(&self, prefix: &str) -> String {
        let (Some(after), Some(to)) = (self.after, self.to) else { return prefix.to_owned() };
        let common = after.char_indices().zip(to.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
        let common = to.get(..common.unwrap_or(after.len())).filter(|common| common.starts_with(prefix));
        common.unwrap_or(prefix).to_owned()
    }

    /// Whether it is the only one, so that order does not matter.
    fn is_everything(&self) -> bool {
        self.after.is_none() && self.to.is_none()
    }
}

async fn read(s3: &Client, bucket: &str, prefix: &str, range: Range<'_>) -> Result<Read, AwsError> {
    let prefix = range.prefix(prefix);
    let mut objects: Vec<(String, Listed)> = Vec::new();
    let mut token = None;
    loop {
        let request = s3
            .list_objects_v2()
            .bucket(bucket)
            .set_prefix((!prefix.is_empty()).then(|| prefix.clone()))
            .set_start_after(range.after.filter(|_| token.is_none()).map(str::to_owned))
            .set_continuation_token(token.take());
        let page = request.send().await.map_err(|error| AwsError::new("S3", "ListObjectsV2", &error))?;
        for object in page.contents() {
            let Some(key) = object.key() else { continue };
            if range.to.is_some_and(|to| key > to) {
                return Ok(Some(objects));
            }
            let before = objects.last().map(|(key, _)| key.as_str()).or(range.after);
            if !range.is_everything() && before.is_some_and(|before| before >= key) {
                return Ok(None);
            }
            objects.push((key.to_owned(), Listed::of(object)));
        }
        let complete = range.to.is_some() && range.to == objects.last().map(|(key, _)| key.as_str());
        match page.next_continuation_token() {
            Some(next) if page.is_truncated() == Some(true) && !complete => token = Some(next.to_owned()),
            _ => return Ok(Some(objects)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_leave_nothing_out() {
        let range = |after, to| Range { after, to };
        for (known, wanted) in [
            (&[][..], vec![range(None, None)]),
            (&["a"], vec![range(None, None)]),
            (&["a", "b"], vec![range(None, Some("b")), range(Some("b"), None)]),
            (&["a", "b", "c"], vec![range(None, Some("b")), range(Some("b"), None)]),
            (
                &["a", "b", "c", "d"],
                vec![range(None, Some("b")), range(Some("b"), Some("d")), range(Some("d"), None)],
            ),
        ] {
            assert_eq!(cut(known, 2), wanted, "{known:?}");
        }
    }

    #[test]
    fn all_keys_of_a_range_begin_with_its_prefix() {
        for (after, to, wanted) in [
            (None, None, "site/"),
            (None, Some("site/b"), "site/"),
            (Some("site/a"), None, "site/"),
            (Some("site/a/1"), Some("site/a/9"), "site/a/"),
            (Some("site/a/1"), Some("site/b/1"), "site/"),
            (Some("site/a"), Some("site/a/1"), "site/a"),
            (Some("site/ä1"), Some("site/ä2"), "site/ä"),
            (Some("site/ä"), Some("site/ö"), "site/"),
        ] {
            assert_eq!(Range { after, to }.prefix("site/"), wanted, "{after:?} to {to:?}");
        }
    }
}
