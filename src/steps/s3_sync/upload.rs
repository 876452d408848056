//! Sends files: a whole one in one request, a large one in parts
//! ([`super::multipart`]), all through one pool of requests ([`super::pool`]).
//!
//! Every body is checked against the digest of the plan and sent with its
//! SHA-256, so that what arrives is what was planned. Sending the same bytes
//! again changes nothing, so unclear answers are repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::body::{Outgoing, Piece};
use super::compare::Wanted;
use super::listing::{bare, look};
use super::source::SourceError;
use crate::model::units::show_size;
use crate::steps::{Context, Failure};
use crate::world::aws::repeat::repeat_unless_done;
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::clock::Moment;
use crate::world::files::FileError;

const BETWEEN_PROGRESS: Duration = Duration::from_millis(100);

/// An object that was sent.
#[derive(Clone, Debug)]
pub(in crate::steps) struct Sent {
    /// Its key.
    pub key: String,
    /// As S3 answered.
    pub etag: String,
    /// In versioned buckets.
    pub version: Option<String>,
}

/// Why a file could not be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("{0} changed since the plan")]
    Changed(String),
    #[error("{0}")]
    Unreadable(Arc<FileError>),
    #[error("{key}: {source}")]
    Aws { key: String, source: Box<AwsError> },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("interrupted")]
    Stopped,
}

impl UploadError {
    /// What S3 answered about a file.
    pub(super) fn aws(wanted: &Wanted) -> impl FnOnce(AwsError) -> Self {
        |source| Self::Aws { key: wanted.key.clone(), source: Box::new(source) }
    }

    /// In the operator's words.
    pub(super) fn into_failure(self, bucket: &str) -> Failure {
        let reason = self.to_string();
        match self {
            Self::Changed(_) => {
                Failure::new(reason).help("let nothing write there during the run, and run it again")
            }
            Self::Aws { source, .. } if source.code.as_deref() == Some("NoSuchBucket") => {
                Failure::missing(format!("the bucket {bucket} does not exist"))
            }
            Self::Aws { source, .. } if source.class == AwsErrorClass::Denied => {
                Failure::new(format!("the credentials may not write to the bucket {bucket}")).detail(reason)
            }
            Self::Aws { .. } | Self::Unreadable(_) => Failure::new(reason),
            Self::Source(error) => error.into(),
            Self::Stopped => crate::world::cancel::Stopped.into(),
        }
    }
}

/// Sends files to one bucket and counts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Uploader {
    /// One for all requests of a sync.
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) cx: Context,
    /// For bodies.
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) bucket: String,
    total: usize,
    files: AtomicUsize,
    bytes: AtomicU64,
    shown: std::sync::Mutex<Moment>,
}

impl Uploader {
    /// For a sync of `total` files.
    pub(super) async fn new(cx: &Context, bucket: &str, total: usize) -> Self {
        let shared = Shared {
            cx: cx.clone(),
            s3: cx.cloud.transfers().await.clone(),
            bucket: bucket.to_owned(),
            total,
            files: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            shown: std::sync::Mutex::new(cx.world.clock.moment()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Files and bytes that arrived so far.
    pub(super) fn done(&self) -> (usize, u64) {
        (self.shared.files.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed))
    }

    /// Counts what arrived, and shows it now and then.
    pub(super) async fn count(&self, files: usize, bytes: u64) {
        self.shared.files.fetch_add(files, Ordering::Relaxed);
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let due = self.shared.shown.lock().is_ok_and(|mut shown| {
            let due = shown.elapsed() >= BETWEEN_PROGRESS;
            if due {
                *shown = self.shared.cx.world.clock.moment();
            }
            due
        });
        if due {
            let (files, bytes) = self.done();
            let text = format!("{files} of {} files, {}", self.shared.total, show_size(bytes));
            self.shared.cx.feed.progress(text).await;
        }
    }

    /// Sends a file in one request.
    pub(super) async fn whole(&self, wanted: &Wanted) -> Result<Sent, UploadError> {
        let shared = &self.shared;
        let piece = Piece::of(&wanted.file, 0, wanted.file.size, wanted.file.sum);
        let body = Outgoing::new(&shared.cx.world.files, piece).await?;
        let sum = wanted.file.sum.base64();
        let put = || async {
            let request = shared
                .s3
                .put_object()
                .bucket(&shared.bucket)
                .key(&wanted.key)
                .content_type(&wanted.headers.content_type)
                .set_cache_control(wanted.headers.cache_control.clone())
                .set_content_encoding(wanted.headers.content_encoding.clone())
                .checksum_sha256(&sum)
                .body(body.stream());
            match request.send().await {
                Ok(answer) => Ok(Ok(Sent {
                    key: wanted.key.clone(),
                    etag: bare(answer.e_tag()),
                    version: answer.version_id().map(str::to_owned),
                })),
                Err(error) => body.unless_broken_off(AwsError::new("S3", "PutObject", &error)),
            }
        };
        // Putting it again would be harmless, and one more version for everybody who looks.
        let arrived = || async {
            let reads = &shared.cx.cloud.reads().await.s3;
            let seen = look(reads, &shared.bucket, &wanted.key).await?;
            let seen = seen
                .filter(|seen| seen.headers == wanted.headers && seen.sum.as_deref() == Some(sum.as_str()));
            Ok(seen.map(|seen| Ok(Sent { key: wanted.key.clone(), etag: seen.etag, version: seen.version })))
        };
        repeat_unless_done(shared.cx.world.clock, &shared.cx.cancel, put, arrived)
            .await
            .map_err(UploadError::aws(wanted))?
    }
}
