//! What lies in the bucket: its listing ([`pages`]), and the headers of single
//! objects where the listing cannot tell.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{ChecksumMode, Object};
use aws_smithy_types::DateTime;
use base64::Engine as _;
use futures_util::future::try_join_all;

use super::LOOKS;
use super::headers::Headers;
use super::manifest::Entry;
use super::pages;
use super::target::Target;
use crate::steps::{Context, Failure};
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::files::hex;

/// One object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) struct Listed {
    /// Without its quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970; only compared for equality.
    pub modified: i64,
}

impl Listed {
    /// As a page of the listing says it.
    pub(super) fn of(object: &Object) -> Self {
        Self {
            etag: object.e_tag().map_or_else(|| dated(object), |etag| bare(Some(etag))),
            size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            modified: object.last_modified().map_or(0, DateTime::secs),
        }
    }

    /// Whether it may be what was answered when it was sent.
    pub(in crate::steps) fn is(&self, answered: &str) -> bool {
        self.etag == answered || self.etag.starts_with(DATED)
    }
}

/// Some servers list no `ETag`: what replaces an object then shows in its size and its date, which is
/// taken as exactly as they tell it.
fn dated(object: &Object) -> String {
    let date = object.last_modified();
    format!("{DATED}{}.{:09}", date.map_or(0, DateTime::secs), date.map_or(0, DateTime::subsec_nanos))
}

/// Begins what stands for the `ETag` that a server does not list.
const DATED: char = '@';

/// What an object says of itself.
#[derive(Clone, Debug)]
pub(in crate::steps) struct Seen {
    /// Its headers.
    pub headers: Headers,
    /// SHA-256 as S3 keeps it, base64: of all bytes, or of the parts' digests, then with their number.
    pub sum: Option<String>,
    /// CRC-64/NVME of all bytes, base64: what S3 keeps where nobody asks for another checksum.
    pub crc64: Option<String>,
    /// Without its quotes.
    pub etag: String,
    /// In versioned buckets.
    pub version: Option<String>,
}

impl Seen {
    /// SHA-256 of all its bytes, hexadecimal, where S3 keeps one.
    pub(super) fn hex(&self) -> Option<String> {
        let sum = self.sum.as_deref().filter(|sum| !sum.contains('-'))?;
        Some(hex(&base64::engine::general_purpose::STANDARD.decode(sum).ok()?))
    }
}

/// Every object of the place, by key. `known` are keys that probably lie there, in order: see [`pages`].
pub(in crate::steps) async fn list(
    cx: &Context,
    target: &Target,
    known: &[&str],
) -> Result<BTreeMap<String, Listed>, Failure> {
    let listed = cx.cancel.unless_stopped(all(cx, target, known)).await?;
    listed.map_err(|error| bucket_failure(error, target, cx))
}

/// How the objects of these keys stand, by key. A few of many are asked for one by one: that costs a
/// request each, and not the whole listing. `known` as for [`list`].
pub(in crate::steps) async fn list_touched(
    cx: &Context,
    target: &Target,
    touched: &[&String],
    known: &[&str],
) -> Result<BTreeMap<String, Listed>, Failure> {
    if touched.len() > LOOKS || known.len() <= pages::PAGE {
        return list(cx, target, known).await;
    }
    let s3 = &cx.cloud.reads().await.s3;
    let asked = touched.iter().map(|key| pages::one(s3, &target.bucket, key));
    let listed = cx.cancel.unless_stopped(try_join_all(asked)).await?;
    let listed = listed.map_err(|error| bucket_failure(error, target, cx))?;
    let keys = touched.iter().map(|key| (*key).clone());
    Ok(keys.zip(listed).filter_map(|(key, listed)| Some((key, listed?))).collect())
}

/// The same, as S3 answers it.
pub(super) async fn all(
    cx: &Context,
    target: &Target,
    known: &[&str],
) -> Result<BTreeMap<String, Listed>, AwsError> {
    let s3 = &cx.cloud.reads().await.s3;
    pages::all(s3, &target.bucket, &target.prefix, known).await
}

/// Headers and checksum of one object; `None` when it went meanwhile.
pub(in crate::steps) async fn look(
    s3: &aws_sdk_s3::Client,
    bucket: &str,
    key: &str,
) -> Result<Option<Seen>, AwsError> {
    look_at(s3, bucket, key, None).await
}

/// The same of one version of it; `None` when it is gone, or is the mark of a deletion.
pub(super) async fn look_at(
    s3: &aws_sdk_s3::Client,
    bucket: &str,
    key: &str,
    version: Option<&str>,
) -> Result<Option<Seen>, AwsError> {
    let request = s3.head_object().bucket(bucket).key(key).checksum_mode(ChecksumMode::Enabled);
    let request = request.set_version_id(version.map(str::to_owned));
    match request.send().await {
        Ok(head) => Ok(Some(Seen {
            headers: Headers {
                content_type: head.content_type().unwrap_or_default().to_owned(),
                cache_control: head.cache_control().map(str::to_owned),
                content_encoding: head.content_encoding().map(str::to_owned),
            },
            sum: head.checksum_sha256().map(str::to_owned),
            crc64: head.checksum_crc64_nvme().map(str::to_owned),
            etag: bare(head.e_tag()),
            version: head.version_id().filter(|version| *version != "null").map(str::to_owned),
        })),
        Err(error) => {
            // A HEAD has no body and so no code: only the status tells.
            let status = error.raw_response().map(|answer| answer.status().as_u16());
            let error = AwsError::new("S3", "HeadObject", &error);
            match status {
                Some(404) => Ok(None),
                Some(400 | 405) if version.is_some() => Ok(None),
                Some(403) => {
                    let message = format!("the credentials may not read {key} (s3:GetObject)");
                    Err(AwsError { class: AwsErrorClass::Denied, message, ..error })
                }
                _ => Err(error),
            }
        }
    }
}

/// An `ETag` without its quotes.
pub(in crate::steps) fn bare(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

/// What an answer about the bucket means, in the operator's words.
pub(in crate::steps) fn bucket_failure(error: AwsError, target: &Target, cx: &Context) -> Failure {
    let bucket = &target.bucket;
    match error.code.as_deref() {
        Some("NoSuchBucket") => Failure::missing(format!("the bucket {bucket} does not exist"))
            .help("create it, or correct `to` or the environment's variables"),
        Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            let region = cx.cloud.target().region.as_deref().unwrap_or("the default region");
            Failure::new(format!("the bucket {bucket} is not in {region}"))
                .detail(error.to_string())
                .help("correct the environment's `region`")
        }
        _ if error.class == AwsErrorClass::Denied => {
            Failure::new(format!("the credentials may not use the bucket {bucket}")).detail(error.to_string())
        }
        _ => error.into(),
    }
}

/// The version of an object that has this `ETag` and size; the one of the same date if there are
/// several.
pub(super) async fn version_like(
    s3: &aws_sdk_s3::Client,
    bucket: &str,
    key: &str,
    entry: &Entry,
) -> Result<Option<String>, AwsError> {
    let mut alike = None;
    let (mut key_marker, mut version_marker) = (None, None);
    loop {
        let request = s3
            .list_object_versions()
            .bucket(bucket)
            .prefix(key)
            .set_key_marker(key_marker.take())
            .set_version_id_marker(version_marker.take());
        let page = request.send().await.map_err(|error| AwsError::new("S3", "ListObjectVersions", &error))?;
        for version in page.versions().iter().filter(|version| version.key() == Some(key)) {
            let size = version.size().and_then(|size| u64::try_from(size).ok());
            if bare(version.e_tag()) != entry.etag
                || size != Some(entry.size)
                || version.is_latest() == Some(true)
            {
                continue;
            }
            let Some(id) = version.version_id() else { continue };
            if version.last_modified().map(DateTime::secs) == Some(entry.modified) {
                return Ok(Some(id.to_owned()));
            }
            alike.get_or_insert_with(|| id.to_owned());
        }
        // Other keys that begin with this one come after all of its versions.
        let past = page.versions().last().is_some_and(|last| last.key() != Some(key));
        if past || page.is_truncated() != Some(true) {
            return Ok(alike);
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        version_marker = page.next_version_id_marker().map(str::to_owned);
    }
}
