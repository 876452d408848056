//! The effect: send, delete, look, write the manifest.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use serde_json::json;

use super::compare::Wanted;
use super::delete::delete;
use super::listing::{self, Listed};
use super::manifest::{Entry, Manifest, Manifests, Open};
use super::order::Phase;
use super::target::Target;
use super::upload::{Sent, Uploader};
use super::{LOOKS, State, count, observed, outputs};
use crate::model::units::show_size;
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::AwsError;

/// A planned sync.
pub(super) struct SyncEffect {
    pub target: Target,
    pub manifests: Manifests,
    /// As the state records it.
    pub keep_releases: Option<usize>,
    /// Digest of what the plan saw of the objects below.
    pub observed: String,
    /// In the order in which they go up.
    pub sends: Vec<Wanted>,
    /// As wanted already, by key.
    pub same: BTreeMap<String, Entry>,
    pub deletes: Vec<String>,
    pub bytes: u64,
    /// Of the objects that are replaced or deleted, those that are not from flow.
    pub foreign: Vec<String>,
    /// URL paths changed since the last run that succeeded.
    pub changed: Vec<String>,
    /// URL paths that this sync changes.
    pub changed_now: Vec<String>,
}

#[async_trait]
impl Effect for SyncEffect {
    async fn apply(mut self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let known: Vec<&str> = self.same.keys().map(String::as_str).collect();
        let touched = self.sends.iter().map(|wanted| &wanted.key).chain(&self.deletes);
        let listed = unmoved(cx, &self.target, touched, &known, &self.observed).await?;
        let found = found(cx, &self.target, &self.foreign, &listed).await?;
        let keys = self.sends.iter().map(|wanted| wanted.key.clone()).collect();
        let open =
            Open { changed: self.changed_now.clone(), keys, found }.on_top_of(self.manifests.unfinished()?);
        self.manifests.begin(&open)?;
        let uploader = Uploader::new(cx, &self.target.bucket, self.sends.len()).await;
        let sent = self.send(cx, &uploader).await.map_err(|failure| self.unfinished(failure, &uploader))?;
        delete(cx, &self.target, &self.deletes)
            .await
            .map_err(|failure| self.unfinished(failure, &uploader))?;
        let wanted: BTreeMap<&str, &Wanted> = self.sends.iter().map(|w| (w.key.as_str(), w)).collect();
        let same = std::mem::take(&mut self.same);
        let objects = look_once_more(cx, &self.target, same, &sent, |sent, listed| {
            let wanted = wanted.get(sent.key.as_str()).filter(|wanted| wanted.file.size == listed.size)?;
            Some(wanted.entry(listed, sent.version.clone()))
        })
        .await?;
        let previous = self.manifests.newest().map(str::to_owned);
        let manifest = Manifest::new(&self.target, previous, open, objects);
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
            receipt: State::of(&self.target, Some(&name), self.keep_releases).to_json(),
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

    fn unfinished(&self, failure: Failure, uploader: &Uploader) -> Failure {
        let (files, bytes) = uploader.done();
        let all = self.sends.len();
        failure.detail(format!(
            "{files} of {all} files were sent ({}); a repeated run sends the rest",
            show_size(bytes)
        ))
    }
}

/// What lies under the keys that an effect is about to touch, by key; refused when it is not what the
/// plan saw. Without those that it leaves alone, where these are many: see
/// [`listing::list_touched`].
pub(in crate::steps) async fn unmoved<'a>(
    cx: &Context,
    target: &Target,
    touched: impl Iterator<Item = &'a String>,
    known: &[&str],
    planned: &str,
) -> Result<BTreeMap<String, Listed>, Failure> {
    let touched: Vec<&String> = touched.collect();
    let listed = listing::list_touched(cx, target, &touched, known).await?;
    if observed(&listed, touched.into_iter()) != planned {
        let reason = format!("objects in {target} changed since the plan");
        return Err(Failure::of(FailureClass::Refused, reason).help("plan again and look at the difference"));
    }
    Ok(listed)
}

/// What was there before flow and goes now, by key.
pub(in crate::steps) async fn found(
    cx: &Context,
    target: &Target,
    foreign: &[String],
    listed: &BTreeMap<String, Listed>,
) -> Result<BTreeMap<String, Entry>, Failure> {
    let s3 = &cx.cloud.reads().await.s3;
    let mut looks = Vec::new();
    for key in foreign {
        let Some(listed) = listed.get(key) else { continue };
        looks.push(async move {
            let seen = listing::look(s3, &target.bucket, key).await?;
            Ok::<_, AwsError>(seen.map(|seen| (key.clone(), Entry::of(seen, listed))))
        });
    }
    let mut looks = futures_util::stream::iter(looks).buffer_unordered(LOOKS);
    let mut found = BTreeMap::new();
    while let Some(seen) = cx.cancel.unless_stopped(looks.next()).await? {
        found.extend(seen.map_err(|error| listing::bucket_failure(error, target, cx))?);
    }
    Ok(found)
}

/// Looks at the bucket once more: what was sent must be there as it was answered, and its dates
/// belong into the manifest. `entry` says what an object is, if it is as it should be.
pub(in crate::steps) async fn look_once_more(
    cx: &Context,
    target: &Target,
    same: BTreeMap<String, Entry>,
    sent: &[Sent],
    entry: impl Fn(&Sent, &Listed) -> Option<Entry>,
) -> Result<BTreeMap<String, Entry>, Failure> {
    let known: BTreeSet<&str> =
        same.keys().map(String::as_str).chain(sent.iter().map(|sent| sent.key.as_str())).collect();
    let listed = listing::list(cx, target, &Vec::from_iter(known)).await?;
    let mut objects = same;
    let mut wrong = Vec::new();
    for sent in sent {
        let found = listed.get(&sent.key).filter(|listed| listed.is(&sent.etag));
        match found.and_then(|listed| entry(sent, listed)) {
            Some(entry) => drop(objects.insert(sent.key.clone(), entry)),
            None => wrong.push(sent.key.clone()),
        }
    }
    wrong.extend(objects.keys().filter(|key| !listed.contains_key(*key)).cloned());
    if wrong.is_empty() {
        return Ok(objects);
    }
    let reason = format!("{target} changed by somebody else during the sync");
    Err(Failure::new(reason).details(wrong).help("find out who else writes there, and run it again"))
}
