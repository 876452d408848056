//! The effect: send, delete, look, write the manifest.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use serde_json::json;

use super::compare::Wanted;
use super::listing;
use super::manifest::{Entry, Manifest, Manifests};
use super::order::Phase;
use super::target::Target;
use super::upload::{Sent, Uploader};
use super::{count, observed, outputs};
use crate::model::units::show_size;
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat;

/// S3 takes no more keys in one request.
const DELETES: usize = 1000;

/// A planned sync.
pub(super) struct SyncEffect {
    pub target: Target,
    pub manifests: Manifests,
    /// The manifest that the live release names.
    pub released: Option<String>,
    /// Digest of what the plan saw of the objects below.
    pub observed: String,
    /// In the order in which they go up.
    pub sends: Vec<Wanted>,
    /// As wanted already, by key.
    pub same: BTreeMap<String, Entry>,
    pub deletes: Vec<String>,
    pub bytes: u64,
    /// URL paths changed since the last run that succeeded.
    pub changed: Vec<String>,
    /// URL paths that this sync changes, and those of one that began and never ended.
    pub changed_now: Vec<String>,
}

#[async_trait]
impl Effect for SyncEffect {
    async fn apply(mut self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let listed = listing::list(cx, &self.target).await?;
        if observed(&listed, &self.sends, &self.deletes) != self.observed {
            let reason = format!("objects in {} changed since the plan", self.target);
            return Err(
                Failure::of(FailureClass::Refused, reason).help("plan again and look at the difference")
            );
        }
        self.manifests.begin(&self.changed_now)?;
        let uploader = Uploader::new(cx, &self.target.bucket, self.sends.len()).await;
        let sent = self.send(cx, &uploader).await.map_err(|failure| self.unfinished(failure, &uploader))?;
        self.delete(cx).await.map_err(|failure| self.unfinished(failure, &uploader))?;
        let objects = self.look(cx, &sent).await?;
        let previous = self.manifests.newest().map(str::to_owned);
        let manifest = Manifest::new(&self.target, previous, self.changed_now.clone(), objects);
        let name = self.manifests.complete(&manifest)?;

        let mut summary = format!("{} sent, {}", count(self.sends.len(), "file"), show_size(self.bytes));
        if !self.deletes.is_empty() {
            summary = format!("{summary}, {} deleted", self.deletes.len());
        }
        Ok(Done {
            summary,
            outputs: outputs(
                &self.changed.iter().cloned().collect(),
                self.sends.len(),
                self.deletes.len(),
                self.bytes,
            ),
            receipt: json!({
                "bucket": self.target.bucket,
                "prefix": self.target.prefix,
                "manifest": name,
                "previous": self.released,
            }),
        })
    }
}

impl SyncEffect {
    /// Group by group: a page goes up only when all it refers to is there.
    async fn send(&self, cx: &Context, uploader: &Uploader) -> Result<Vec<Sent>, Failure> {
        let mut sent = Vec::with_capacity(self.sends.len());
        for phase in Phase::ALL {
            let group: Vec<Wanted> = self.sends.iter().filter(|w| w.phase == phase).cloned().collect();
            if group.is_empty() {
                continue;
            }
            let bytes: u64 = group.iter().map(|wanted| wanted.file.size).sum();
            let files = group.len();
            let done = uploader.send(group).await.map_err(|error| error.into_failure(&self.target.bucket))?;
            cx.feed
                .note("uploaded", json!({ "group": phase.name(), "files": files, "bytes": bytes }))
                .await?;
            sent.extend(done);
        }
        Ok(sent)
    }

    async fn delete(&self, cx: &Context) -> Result<(), Failure> {
        let s3 = &cx.cloud.writes().await.s3;
        for keys in self.deletes.chunks(DELETES) {
            if cx.cancel.is_stopping() {
                return Err(crate::world::cancel::Stopped.into());
            }
            let objects = keys
                .iter()
                .map(|key| ObjectIdentifier::builder().key(key).build())
                .collect::<Result<Vec<_>, _>>()
                .and_then(|keys| Delete::builder().set_objects(Some(keys)).quiet(true).build())
                .map_err(|error| Failure::new(format!("the request to delete cannot be made: {error}")))?;
            // Deleting again what is gone changes nothing.
            let answer = repeat(cx.world.clock, &cx.cancel, || async {
                let request = s3.delete_objects().bucket(&self.target.bucket).delete(objects.clone());
                request.send().await.map_err(|error| AwsError::new("S3", "DeleteObjects", &error))
            })
            .await
            .map_err(|error| listing::bucket_failure(error, &self.target, cx))?;
            // A success may carry refusals of single keys.
            let refused: Vec<String> = answer
                .errors()
                .iter()
                .map(|error| {
                    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                    format!("{}: {} {}", text(error.key()), text(error.code()), text(error.message()))
                })
                .collect();
            if !refused.is_empty() {
                let reason = format!("{} could not be deleted", count(refused.len(), "object"));
                return Err(Failure::new(reason).details(refused));
            }
            cx.feed.note("deleted", json!({ "objects": keys.len() })).await?;
        }
        Ok(())
    }

    /// Looks at the bucket once more: what was sent must be there as it was answered, and its dates
    /// belong into the manifest.
    async fn look(&mut self, cx: &Context, sent: &[Sent]) -> Result<BTreeMap<String, Entry>, Failure> {
        let listed = listing::list(cx, &self.target).await?;
        let mut objects = std::mem::take(&mut self.same);
        let wanted: BTreeMap<&str, &Wanted> = self.sends.iter().map(|w| (w.key.as_str(), w)).collect();
        let mut wrong = Vec::new();
        for sent in sent {
            let (Some(wanted), Some(listed)) = (wanted.get(sent.key.as_str()), listed.get(&sent.key)) else {
                wrong.push(sent.key.clone());
                continue;
            };
            if listed.etag == sent.etag && listed.size == wanted.file.size {
                objects.insert(sent.key.clone(), wanted.entry(listed, sent.version.clone()));
            } else {
                wrong.push(sent.key.clone());
            }
        }
        wrong.extend(objects.keys().filter(|key| !listed.contains_key(*key)).cloned());
        if wrong.is_empty() {
            return Ok(objects);
        }
        let reason = format!("{} changed by somebody else during the sync", self.target);
        Err(Failure::new(reason).details(wrong).help("find out who else writes there, and run it again"))
    }

    fn unfinished(&self, failure: Failure, uploader: &Uploader) -> Failure {
        let (files, bytes) = uploader.done();
        let all = self.sends.len();
        failure.detail(format!(
            "{files} of {all} files were sent ({}); a repeated run sends the rest",
            show_size(bytes)
        ))
    }
}
