//! The effect of a return: copies within the bucket, then deletes, a look, and
//! the manifest of what is there again.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use aws_sdk_s3::operation::copy_object::CopyObjectOutput;
use aws_sdk_s3::types::MetadataDirective;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::apply::{look_once_more, unmoved};
use super::back::seen_as;
use super::delete::delete;
use super::listing::{self, Listed, bare};
use super::manifest::{Entry, Manifest, Manifests, Open};
use super::order::Phase;
use super::target::Target;
use super::upload::Sent;
use super::{LOOKS, State, count, outputs};
use crate::model::units::show_size;
use crate::steps::{Context, Done, Effect, Failure};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat_unless_done;

/// An object that becomes again what it was.
#[derive(Clone, Debug)]
pub(super) struct Restore {
    /// Its key.
    pub key: String,
    /// As it was.
    pub entry: Entry,
    /// Where its bytes are.
    pub source: Source,
    /// When it is its turn.
    pub phase: Phase,
}

/// Where the bytes of an object are that was replaced or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In a version of it, with its headers.
    Version(String),
    /// In another object, with headers of its own.
    Object(String),
}

impl Restore {
    /// As `CopyObject` wants it.
    fn copy_source(&self, bucket: &str) -> String {
        match &self.source {
            Source::Version(version) => {
                format!("{bucket}/{}?versionId={}", encoded(&self.key), encoded(version))
            }
            Source::Object(key) => format!("{bucket}/{}", encoded(key)),
        }
    }
}

/// Percent-encoded but for slashes.
pub(in crate::steps) fn encoded(key: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    key.bytes().fold(String::new(), |mut text, byte| {
        if plain(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

/// A planned return.
pub(super) struct RestoreEffect {
    pub target: Target,
    pub manifests: Manifests,
    /// As the state records it.
    pub keep_releases: Option<usize>,
    /// Digest of what the plan saw of the objects below.
    pub observed: String,
    /// Keys of the release; what else is restored is somebody else's.
    pub own: BTreeSet<String>,
    /// In the order in which they are copied.
    pub sends: Vec<Restore>,
    /// As they were already, by key.
    pub same: BTreeMap<String, Entry>,
    pub deletes: Vec<String>,
    pub bytes: u64,
    /// URL paths changed since the last run that succeeded.
    pub changed: Vec<String>,
    /// URL paths that this return changes.
    pub changed_now: Vec<String>,
}

#[async_trait]
impl Effect for RestoreEffect {
    async fn apply(mut self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let known: Vec<&str> = self.same.keys().map(String::as_str).collect();
        let touched = self.sends.iter().map(|send| &send.key).chain(&self.deletes);
        unmoved(cx, &self.target, touched, &known, &self.observed).await?;
        let keys = self.sends.iter().map(|send| send.key.clone()).collect();
        let open = Open { changed: self.changed_now.clone(), keys, found: BTreeMap::new() }
            .on_top_of(self.manifests.unfinished()?);
        self.manifests.begin(&open)?;
        let sent = self.copy_all(cx).await?;
        delete(cx, &self.target, &self.deletes).await?;
        let restored: BTreeMap<&str, &Restore> =
            self.sends.iter().map(|send| (send.key.as_str(), send)).collect();
        let same = std::mem::take(&mut self.same);
        let mut objects = look_once_more(cx, &self.target, same, &sent, |sent, listed| {
            let restored = restored.get(sent.key.as_str()).filter(|r| r.entry.size == listed.size)?;
            let Listed { etag, modified, .. } = listed.clone();
            Some(Entry { etag, modified, version: sent.version.clone(), ..restored.entry.clone() })
        })
        .await?;
        objects.retain(|key, _| self.own.contains(key));
        let previous = self.manifests.newest().map(str::to_owned);
        let manifest = Manifest::new(&self.target, previous, open, objects);
        let name = self.manifests.complete(&manifest)?;

        let mut summary = format!("{} restored, {}", count(self.sends.len(), "file"), show_size(self.bytes));
        if !self.deletes.is_empty() {
            summary = format!("{summary}, {} deleted", self.deletes.len());
        }
        let changed = self.changed.iter().cloned().collect();
        Ok(Done {
            summary,
            outputs: outputs(&changed, self.sends.len(), self.deletes.len(), self.bytes),
            receipt: State::of(&self.target, Some(&name), self.keep_releases).to_json(),
        })
    }
}

impl RestoreEffect {
    /// Group by group: a page points back only when all it refers to is there.
    async fn copy_all(&self, cx: &Context) -> Result<Vec<Sent>, Failure> {
        let mut sent = Vec::with_capacity(self.sends.len());
        for phase in Phase::ALL {
            let group: Vec<&Restore> = self.sends.iter().filter(|send| send.phase == phase).collect();
            if group.is_empty() {
                continue;
            }
            if cx.cancel.is_stopping() {
                return Err(crate::world::cancel::Stopped.into());
            }
            let files = group.len();
            let bytes: u64 = group.iter().map(|send| send.entry.size).sum();
            let mut copies = Vec::new();
            for send in group {
                copies.push(self.copy(cx, send));
            }
            let copies = futures_util::stream::iter(copies).buffer_unordered(LOOKS);
            let done: Vec<Sent> = copies.try_collect().await?;
            let data = json!({ "group": phase.name(), "files": files, "bytes": bytes });
            cx.feed.note("restored", data).await?;
            sent.extend(done);
            cx.feed.progress(format!("{} of {} files", sent.len(), self.sends.len())).await;
        }
        Ok(sent)
    }

    async fn copy(&self, cx: &Context, send: &Restore) -> Result<Sent, Failure> {
        if cx.cancel.is_stopping() {
            return Err(crate::world::cancel::Stopped.into());
        }
        let s3 = &cx.cloud.writes().await.s3;
        let (bucket, key, entry) = (&self.target.bucket, &send.key, &send.entry);
        let call = || async {
            let mut request = s3.copy_object().bucket(bucket).key(key).copy_source(send.copy_source(bucket));
            // A version has its headers; those of another object are its own.
            if let Source::Object(_) = send.source {
                request = request
                    .metadata_directive(MetadataDirective::Replace)
                    .content_type(&entry.headers.content_type)
                    .set_cache_control(entry.headers.cache_control.clone())
                    .set_content_encoding(entry.headers.content_encoding.clone());
            }
            let answer: CopyObjectOutput =
                request.send().await.map_err(|error| AwsError::new("S3", "CopyObject", &error))?;
            let etag = bare(answer.copy_object_result().and_then(|result| result.e_tag()));
            let version = answer.version_id().map(str::to_owned);
            Ok(Sent { key: key.clone(), etag, version })
        };
        let arrived = || async {
            let reads = &cx.cloud.reads().await.s3;
            let Some(seen) = listing::look(reads, bucket, key).await? else { return Ok(None) };
            let (etag, version) = (seen.etag.clone(), seen.version.clone());
            let listed = Listed { etag: etag.clone(), size: entry.size, modified: 0 };
            let now = seen_as(entry, seen, &listed);
            let there = now.has_bytes_of(entry) && now.headers == entry.headers;
            Ok(there.then(|| Sent { key: key.clone(), etag, version }))
        };
        repeat_unless_done(cx.world.clock, &cx.cancel, call, arrived).await.map_err(|error| {
            let failure = listing::bucket_failure(error, &self.target, cx);
            failure.detail(format!("while {key} was restored; a repeated run does the rest"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::s3_sync::headers::Headers;

    #[test]
    fn sources_are_written_as_s3_reads_them() {
        let entry = Entry {
            sha256: String::new(),
            size: 0,
            headers: Headers::of("a", &[]),
            etag: String::new(),
            modified: 0,
            version: None,
        };
        for (source, wanted) in [
            (Source::Version("v/1+2".to_owned()), "shop/gr%C3%BCn/a%20b.js?versionId=v/1%2B2"),
            (Source::Object("c?d.js".to_owned()), "shop/c%3Fd.js"),
        ] {
            let restore =
                Restore { key: "grün/a b.js".to_owned(), entry: entry.clone(), source, phase: Phase::Asset };
            assert_eq!(restore.copy_source("shop"), wanted);
        }
    }
}
