//! Sends one group of files: one pool of requests over whole files and parts
//! of large ones, and a budget of memory whatever the sizes.
//!
//! Every body is read, checked against the digest of the plan and sent with
//! its SHA-256, so that what arrives is what was planned. Sending the same
//! bytes again changes nothing, so unclear answers are repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::types::CompletedPart;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::compare::Wanted;
use super::listing::{bare, look};
use super::multipart::Multipart;
use super::source::{SourceError, Sum, blocking, read_range};
use crate::model::units::show_size;
use crate::steps::{Context, Failure};
use crate::world::aws::repeat::repeat_unless_done;
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::clock::Moment;

/// Requests at a time.
const REQUESTS: usize = 32;
/// Bytes that bodies may take in memory, in units of [`UNIT`].
const MEMORY_UNITS: u32 = 96 * 1024;
const UNIT: u64 = 1024;
/// A body of 16 MiB over a slow line takes longer than other calls; the SDK notices stalls itself.
const BODY_TIMEOUT: Duration = Duration::from_mins(15);
const BETWEEN_PROGRESS: Duration = Duration::from_millis(100);

/// An object that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
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
    #[error("{key}: {source}")]
    Aws { key: String, source: AwsError },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("interrupted")]
    Stopped,
}

impl UploadError {
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
            Self::Aws { .. } => Failure::new(reason),
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
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) bucket: String,
    memory: Semaphore,
    total: usize,
    files: AtomicUsize,
    bytes: AtomicU64,
    shown: std::sync::Mutex<Moment>,
}

enum Finished {
    Whole(Sent, u64),
    Part { upload: usize, part: Box<CompletedPart>, bytes: u64 },
}

impl Uploader {
    /// For a sync of `total` files.
    pub(super) async fn new(cx: &Context, bucket: &str, total: usize) -> Self {
        let shared = Shared {
            cx: cx.clone(),
            s3: cx.cloud.writes().await.s3.clone(),
            bucket: bucket.to_owned(),
            memory: Semaphore::new(MEMORY_UNITS as usize),
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

    /// Sends a group. After an error or a signal nothing new starts, what is on its way ends, and
    /// unfinished multipart uploads are given up.
    pub(super) async fn send(&self, group: Vec<Wanted>) -> Result<Vec<Sent>, UploadError> {
        let (large, small): (Vec<_>, Vec<_>) = group.into_iter().partition(|w| !w.file.parts.is_empty());
        let mut uploads: Vec<Multipart> = Vec::new();
        let outcome = self.send_all(large, small, &mut uploads).await;
        if outcome.is_err() {
            for upload in &uploads {
                self.abort(upload).await;
            }
        }
        outcome
    }

    async fn send_all(
        &self,
        large: Vec<Wanted>,
        small: Vec<Wanted>,
        uploads: &mut Vec<Multipart>,
    ) -> Result<Vec<Sent>, UploadError> {
        for wanted in large {
            let id = self.begin(&wanted).await?;
            uploads.push(Multipart { wanted: Arc::new(wanted), id, parts: Vec::new() });
        }
        let mut jobs: Vec<Job> = small.into_iter().map(Job::Whole).collect();
        for (upload, multipart) in uploads.iter().enumerate() {
            for part in 0..multipart.wanted.file.parts.len() {
                jobs.push(Job::Part {
                    upload,
                    part,
                    id: multipart.id.clone(),
                    wanted: Arc::clone(&multipart.wanted),
                });
            }
        }
        let mut sent = Vec::new();
        for finished in self.pool(jobs).await? {
            match finished {
                Finished::Whole(object, _) => sent.push(object),
                Finished::Part { upload, part, .. } => {
                    if let Some(multipart) = uploads.get_mut(upload) {
                        multipart.parts.push(*part);
                    }
                }
            }
        }
        // What is complete must not be given up any more.
        while let Some(multipart) = uploads.last_mut() {
            let parts = std::mem::take(&mut multipart.parts);
            sent.push(self.complete(&multipart.wanted, &multipart.id, parts).await?);
            uploads.pop();
            self.shared.files.fetch_add(1, Ordering::Relaxed);
        }
        Ok(sent)
    }

    async fn pool(&self, jobs: Vec<Job>) -> Result<Vec<Finished>, UploadError> {
        let mut running: JoinSet<Result<Finished, UploadError>> = JoinSet::new();
        let mut jobs = jobs.into_iter();
        let mut finished = Vec::new();
        let mut problem = None;
        loop {
            while problem.is_none() && running.len() < REQUESTS {
                if self.shared.cx.cancel.is_stopping() {
                    problem = Some(UploadError::Stopped);
                    break;
                }
                let Some(job) = jobs.next() else { break };
                let this = self.clone();
                running.spawn(async move { this.run(job).await });
            }
            match running.join_next().await {
                None => break,
                Some(Ok(Ok(done))) => {
                    self.count(&done).await;
                    finished.push(done);
                }
                Some(Ok(Err(error))) => {
                    problem.get_or_insert(error);
                }
                Some(Err(_)) => {
                    problem.get_or_insert(UploadError::Stopped);
                }
            }
        }
        problem.map_or(Ok(finished), Err)
    }

    async fn count(&self, done: &Finished) {
        let bytes = match done {
            Finished::Whole(_, bytes) => {
                self.shared.files.fetch_add(1, Ordering::Relaxed);
                bytes
            }
            Finished::Part { bytes, .. } => bytes,
        };
        self.shared.bytes.fetch_add(*bytes, Ordering::Relaxed);
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

    async fn run(&self, job: Job) -> Result<Finished, UploadError> {
        match job {
            Job::Whole(wanted) => {
                let size = wanted.file.size;
                let sent = self.whole(&wanted).await?;
                Ok(Finished::Whole(sent, size))
            }
            Job::Part { upload, part, id, wanted } => {
                let (part, bytes) = self.part(&wanted, &id, part).await?;
                Ok(Finished::Part { upload, part: Box::new(part), bytes })
            }
        }
    }

    async fn whole(&self, wanted: &Wanted) -> Result<Sent, UploadError> {
        let shared = &self.shared;
        let _room = self.room(wanted.file.size).await?;
        let body = self.body(wanted, 0, wanted.file.size, wanted.file.sum).await?;
        let put = || async {
            let request = shared
                .s3
                .put_object()
                .bucket(&shared.bucket)
                .key(&wanted.key)
                .content_type(&wanted.headers.content_type)
                .set_cache_control(wanted.headers.cache_control.clone())
                .set_content_encoding(wanted.headers.content_encoding.clone())
                .checksum_sha256(wanted.file.sum.base64())
                .body(copy(&body));
            let request = request.customize().config_override(patient());
            let answer = request.send().await.map_err(|error| AwsError::new("S3", "PutObject", &error))?;
            Ok(Sent {
                key: wanted.key.clone(),
                etag: bare(answer.e_tag()),
                version: answer.version_id().map(str::to_owned),
            })
        };
        // Putting it again would be harmless, and one more version for everybody who looks.
        let arrived = || async {
            let reads = &shared.cx.cloud.reads().await.s3;
            let seen = look(reads, &shared.bucket, &wanted.key).await?;
            let seen = seen.filter(|seen| {
                seen.headers == wanted.headers
                    && seen.sum.as_deref() == Some(wanted.file.sum.base64().as_str())
            });
            Ok(seen.map(|seen| Sent { key: wanted.key.clone(), etag: seen.etag, version: seen.version }))
        };
        repeat_unless_done(shared.cx.world.clock, &shared.cx.cancel, put, arrived)
            .await
            .map_err(|source| UploadError::Aws { key: wanted.key.clone(), source })
    }

    /// Waits until a body of that size may be in memory.
    pub(super) async fn room(&self, bytes: u64) -> Result<tokio::sync::SemaphorePermit<'_>, UploadError> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(MEMORY_UNITS);
        self.shared.memory.acquire_many(units).await.map_err(|_| UploadError::Stopped)
    }

    /// Bytes of a file, if they are still those of the plan.
    pub(super) async fn body(
        &self,
        wanted: &Wanted,
        offset: u64,
        length: u64,
        sum: Sum,
    ) -> Result<SdkBody, UploadError> {
        let (files, path) = (self.shared.cx.world.files.clone(), wanted.file.path.clone());
        let whole = offset == 0 && length == wanted.file.size;
        let (bytes, found) = blocking(move || {
            // One byte more would show that a file sent in one piece has grown.
            let bytes = read_range(&files, &path, offset, length + u64::from(whole))?;
            let found = Sum::of(&bytes);
            Ok::<_, SourceError>((bytes, found))
        })
        .await?;
        if found == sum {
            Ok(SdkBody::from(bytes))
        } else {
            Err(UploadError::Changed(wanted.file.relative.clone()))
        }
    }
}

enum Job {
    Whole(Wanted),
    // Shared, since the parts' digests of a huge file are many.
    Part { upload: usize, part: usize, id: String, wanted: Arc<Wanted> },
}

/// The same bytes once more, for one more attempt.
pub(super) fn copy(body: &SdkBody) -> ByteStream {
    // A body made from bytes in memory can always be copied, and the copy shares them.
    ByteStream::new(body.try_clone().unwrap_or_else(SdkBody::taken))
}

/// Time enough for a body.
pub(super) fn patient() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(BODY_TIMEOUT).build();
    aws_sdk_s3::Config::builder().timeout_config(timeouts)
}
