//! The pages of a listing, many at a time.
//!
//! S3 lists a thousand keys a page, in the order of their bytes, and only a page
//! tells where the next begins. Keys that are known from before cut the listing
//! into ranges of at most a page ([`super::ranges`]), which are asked for all at
//! once. The ranges leave nothing out: whatever lies in the place lies in one of
//! them, and one that turns out to be longer than a page is read to its end.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::listing::Listed;
use super::ranges::{Range, cut};
use crate::world::aws::AwsError;

/// Keys in a page.
pub(super) const PAGE: usize = 1000;
/// Ranges read at a time.
const RANGES: usize = 16;

/// What a range holds; `None` from a server whose keys are not in order.
type Read = Option<Vec<(String, Listed)>>;

/// Every object whose key begins with `prefix`. `known` are keys that probably lie there, in order;
/// that they do not costs time at most.
pub(in crate::steps) async fn all(
    s3: &Client,
    bucket: &str,
    prefix: &str,
    known: &[&str],
) -> Result<BTreeMap<String, Listed>, AwsError> {
    let mut reads = Vec::new();
    for range in cut(prefix, known, PAGE) {
        reads.push(read(s3, bucket, range));
    }
    let reads: Vec<Read> = futures_util::stream::iter(reads).buffered(RANGES).try_collect().await?;
    if let Some(reads) = reads.into_iter().collect::<Option<Vec<_>>>() {
        return Ok(reads.into_iter().flatten().collect());
    }
    let whole = read(s3, bucket, Range::all(prefix)).await?;
    Ok(whole.into_iter().flatten().collect())
}

/// One object as a listing tells it, `None` where there is none: of all keys that begin with a key, it
/// is the first.
pub(super) async fn one(s3: &Client, bucket: &str, key: &str) -> Result<Option<Listed>, AwsError> {
    let request = s3.list_objects_v2().bucket(bucket).prefix(key).max_keys(1);
    let page = request.send().await.map_err(|error| AwsError::new("S3", "ListObjectsV2", &error))?;
    Ok(page.contents().iter().find(|object| object.key() == Some(key)).map(Listed::of))
}

async fn read(s3: &Client, bucket: &str, range: Range) -> Result<Read, AwsError> {
    let mut objects: Vec<(String, Listed)> = Vec::new();
    let mut token = None;
    loop {
        let request = s3
            .list_objects_v2()
            .bucket(bucket)
            .set_prefix((!range.prefix.is_empty()).then(|| range.prefix.clone()))
            .set_start_after(range.after.clone().filter(|_| token.is_none()))
            .set_continuation_token(token.take());
        let page = request.send().await.map_err(|error| AwsError::new("S3", "ListObjectsV2", &error))?;
        for object in page.contents() {
            let Some(key) = object.key() else { continue };
            if range.is_behind(key) {
                return Ok(Some(objects));
            }
            let before = objects.last().map(|(key, _)| key.as_str()).or(range.after.as_deref());
            if !range.is_all && before.is_some_and(|before| before >= key) {
                return Ok(None);
            }
            if !range.is_before(key) {
                objects.push((key.to_owned(), Listed::of(object)));
            }
        }
        match page.next_continuation_token() {
            Some(next) if page.is_truncated() == Some(true) => token = Some(next.to_owned()),
            _ => return Ok(Some(objects)),
        }
    }
}
