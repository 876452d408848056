//! The effect: copy, look at each copy, look at the bucket, write the manifest.
//!
//! Each object is copied only as the plan saw it (`If-Match` on the source), and
//! counts as copied once what S3 keeps of both sides is the same.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_s3::types::ChecksumAlgorithm;
use futures_util::StreamExt as _;
use serde_json::json;

use super::compare::{Copy, same_bytes};
use super::{Receipt, SourceAccount, moved, outputs};
use crate::model::units::show_size;
use crate::steps::s3_sync::apply::{found, look_once_more, unmoved};
use crate::steps::s3_sync::listing::{Seen, bare, bucket_failure, look};
use crate::steps::s3_sync::manifest::{Entry, Manifest, Manifests, Open};
use crate::steps::s3_sync::restore::encoded;
use crate::steps::s3_sync::target::Target;
use crate::steps::s3_sync::upload::Sent;
use crate::steps::s3_sync::{LOOKS, count};
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::repeat::{repeat, repeat_unless_done};
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::cancel::Stopped;

/// After so many copies the journal says how far it is.
const NOTED: usize = 100;

/// A planned copy.
pub(super) struct CopyEffect {
    pub from: Target,
    pub target: Target,
    /// Without its manifest yet.
    pub receipt: Receipt,
    pub source: SourceAccount,
    pub manifests: Manifests,
    /// Digest of what the plan saw of the objects that are replaced.
    pub observed: String,
    /// Of earlier copies to the same place: they stay.
    pub carried: BTreeMap<String, Entry>,
    /// Sorted by key.
    pub copies: Vec<Copy>,
    /// As wanted already, by key.
    pub same: BTreeMap<String, Entry>,
    pub bytes: u64,
    /// Of the objects that are replaced, those that are not from flow.
    pub foreign: Vec<String>,
    /// URL paths changed since the last run that succeeded.
    pub changed: Vec<String>,
    /// URL paths that this copy changes.
    pub changed_now: Vec<String>,
}

/// An object that was copied, and looked at.
struct Copied {
    sent: Sent,
    seen: Seen,
    size: u64,
    proven: bool,
}

#[async_trait]
impl Effect for CopyEffect {
    async fn apply(mut self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let mut known: Vec<&str> = self.same.keys().map(String::as_str).collect();
        known.extend(self.copies.iter().map(|copy| copy.to.as_str()));
        known.sort_unstable();
        let touched = self.copies.iter().map(|copy| &copy.to);
        let listed = unmoved(cx, &self.target, touched, &known, &self.observed).await?;
        let found = found(cx, &self.target, &self.foreign, &listed).await?;
        let keys = self.copies.iter().map(|copy| copy.to.clone()).collect();
        let open =
            Open { changed: self.changed_now.clone(), keys, found }.on_top_of(self.manifests.unfinished()?);
        self.manifests.begin(&open)?;
        let copied = self.copy_all(cx).await?;
        let unproven = copied.iter().filter(|copied| !copied.proven).count();
        let seen: BTreeMap<&str, &Copied> =
            copied.iter().map(|copied| (copied.sent.key.as_str(), copied)).collect();
        let sent: Vec<Sent> = copied.iter().map(|copied| copied.sent.clone()).collect();
        let mut same = std::mem::take(&mut self.same);
        let all = same.len() + sent.len();
        same.append(&mut self.carried);
        let objects = look_once_more(cx, &self.target, same, &sent, |sent, listed| {
            let copied = seen.get(sent.key.as_str()).filter(|copied| copied.size == listed.size)?;
            let version = sent.version.clone();
            Some(Entry { version, ..Entry::of(copied.seen.clone(), listed) })
        })
        .await?;
        let previous = self.manifests.newest().map(str::to_owned);
        let manifest = Manifest::new(&self.target, previous, open, objects);
        let name = self.manifests.complete(&manifest)?;

        let mut summary = format!("{} copied, {}", count(sent.len(), "object"), show_size(self.bytes));
        if unproven > 0 {
            summary = format!("{summary}, {unproven} of them without a checksum on both sides");
        }
        let mut receipt = self.receipt;
        receipt.state.manifest = Some(name);
        Ok(Done {
            summary,
            outputs: outputs(
                &self.changed.iter().cloned().collect(),
                sent.len(),
                all - sent.len(),
                self.bytes,
            ),
            receipt: receipt.to_json(),
        })
    }
}

impl CopyEffect {
    async fn copy_all(&self, cx: &Context) -> Result<Vec<Copied>, Failure> {
        let source = self.source.s3().await;
        let mut requests = Vec::new();
        for copy in &self.copies {
            requests.push(self.copy(cx, &source, copy));
        }
        let mut requests = futures_util::stream::iter(requests).buffer_unordered(LOOKS);
        let mut done: Vec<Copied> = Vec::with_capacity(self.copies.len());
        let mut failed = None;
        let (mut noted, mut bytes) = (0, 0);
        // What is on its way ends, whatever became of another one.
        while let Some(copied) = requests.next().await {
            match copied {
                Ok(copied) => {
                    bytes += copied.size;
                    done.push(copied);
                }
                Err(failure) => drop(failed.get_or_insert(failure)),
            }
            if failed.is_none() && (done.len() - noted == NOTED || done.len() == self.copies.len()) {
                let data =
                    json!({ "objects": done.len() - noted, "bytes": bytes, "reason": self.receipt.reason });
                cx.feed.note("copied", data).await?;
                (noted, bytes) = (done.len(), 0);
                cx.feed.progress(format!("{} of {} objects", done.len(), self.copies.len())).await;
            }
        }
        match failed {
            None => Ok(done),
            Some(failure) => Err(failure.detail(format!(
                "{} of {} objects were copied; a repeated run copies the rest",
                done.len(),
                self.copies.len()
            ))),
        }
    }

    async fn copy(&self, cx: &Context, source: &aws_sdk_s3::Client, copy: &Copy) -> Result<Copied, Failure> {
        if cx.cancel.is_stopping() {
            return Err(Stopped.into());
        }
        let clock = cx.world.clock;
        let original = repeat(clock, &cx.cancel, || look(source, &self.from.bucket, &copy.from));
        let original = original.await.map_err(|error| self.failed(error, copy, cx))?;
        let original = original.ok_or_else(|| moved(copy))?;
        if !copy.listed.is(&original.etag) {
            return Err(moved(copy));
        }
        let arrived = || async {
            let seen = look(&cx.cloud.reads().await.s3, &self.target.bucket, &copy.to).await?;
            let seen = seen.filter(|seen| same_bytes(&original, seen) == Some(true));
            Ok(seen.map(|seen| sent(copy, &seen.etag, seen.version.clone())))
        };
        let sent = repeat_unless_done(clock, &cx.cancel, || self.send(cx, copy, &original), arrived);
        let sent = sent.await.map_err(|error| self.failed(error, copy, cx))?;
        let target = &cx.cloud.reads().await.s3;
        let seen = repeat(clock, &cx.cancel, || look(target, &self.target.bucket, &copy.to));
        let seen = seen.await.map_err(|error| self.failed(error, copy, cx))?;
        let verdict = seen.as_ref().map(|seen| same_bytes(&original, seen));
        match (seen, verdict) {
            (Some(seen), Some(verdict)) if verdict != Some(false) => {
                Ok(Copied { sent, seen, size: copy.listed.size, proven: verdict == Some(true) })
            }
            _ => Err(Failure::new(format!("{} is not what {} is", copy.to, copy.from))
                .detail("S3 keeps other checksums of the two, or somebody else wrote there meanwhile")
                .help("find out who else writes there, and run it again")),
        }
    }

    /// One request. Headers, tags and the kind of checksum go with the object; one without any gets a
    /// SHA-256, so that it can be told apart from now on.
    async fn send(&self, cx: &Context, copy: &Copy, original: &Seen) -> Result<Sent, AwsError> {
        let plain = original.sum.is_none() && original.crc64.is_none();
        let request = cx
            .cloud
            .transfers()
            .await
            .copy_object()
            .bucket(&self.target.bucket)
            .key(&copy.to)
            .copy_source(format!("{}/{}", self.from.bucket, encoded(&copy.from)))
            .copy_source_if_match(format!("\"{}\"", original.etag))
            .set_expected_source_bucket_owner(self.source.account().map(str::to_owned))
            .set_checksum_algorithm(plain.then_some(ChecksumAlgorithm::Sha256));
        let answer = request.send().await.map_err(|error| AwsError::new("S3", "CopyObject", &error))?;
        let etag = bare(answer.copy_object_result().and_then(|result| result.e_tag()));
        Ok(sent(copy, &etag, answer.version_id().map(str::to_owned)))
    }

    fn failed(&self, error: AwsError, copy: &Copy, cx: &Context) -> Failure {
        if error.code.as_deref() == Some("PreconditionFailed") {
            return moved(copy);
        }
        if error.class == AwsErrorClass::Denied {
            let here = &cx.cloud.target().environment;
            return Failure::new(format!("the credentials of {here} may not copy {} to {}", copy.from, self.target))
                .detail(error.to_string())
                .help(format!(
                    "one identity reads and writes: let it s3:GetObject and s3:GetObjectTagging in the policy of the \
                     bucket {} too",
                    self.from.bucket
                ));
        }
        let unclear = error.is_unclear();
        let mut failure =
            bucket_failure(error, &self.target, cx).detail(format!("while {} was copied", copy.from));
        if unclear {
            // Copying it once more is harmless: that is what a repeated run does.
            failure.class = FailureClass::Failed;
        }
        failure
    }
}

fn sent(copy: &Copy, etag: &str, version: Option<String>) -> Sent {
    let version = version.filter(|version| version != "null");
    Sent { key: copy.to.clone(), etag: etag.to_owned(), version }
}
