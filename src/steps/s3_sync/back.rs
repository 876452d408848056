//! Returns to a recorded manifest: every object as it was, from the bucket's
//! versions or from another object with the same bytes; pages last, then what
//! newer releases added goes.
//!
//! Nothing is taken from the workspace. What cannot be had any more is named
//! when the rollback is planned, so also when it is only checked.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value as Json;

use super::headers::Headers;
use super::listing::{self, Listed, Seen};
use super::manifest::{Entry, Open};
use super::order::Phase;
use super::restore::{Restore, RestoreEffect, Source};
use super::target::Target;
use super::{LOOKS, Place, State, count, facts, observed, outputs, paths, some_of, summary, unsettled};
use crate::model::change::{Action, Change, Reversible};
use crate::model::units::show_size;
use crate::steps::back::{Stays, read};
use crate::steps::{Context, Failure, Proposal, Step, Way};
use crate::world::aws::AwsError;

/// The step that returns to a recorded state.
pub(in crate::steps) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let Some(to) = way.to.as_ref().filter(|to| !to.is_null()) else {
        return Ok(Box::new(Stays::unrecorded("what lies in the bucket", way.now.clone())));
    };
    let State { bucket, prefix, manifest, keep_releases } = read(to)?;
    let now: Option<State> = if way.now.is_null() { None } else { Some(read(&way.now)?) };
    // How long old objects stay is what the newer of both says.
    let keep_releases = now.map_or(keep_releases, |now| now.keep_releases);
    Ok(Box::new(Return { target: Target { bucket, prefix }, manifest, keep_releases }))
}

/// A step whose goal is a manifest.
#[derive(Debug)]
struct Return {
    target: Target,
    /// `None`: what was there before flow.
    manifest: Option<String>,
    keep_releases: Option<usize>,
}

/// What there should be.
struct Goal {
    objects: BTreeMap<String, Entry>,
    /// Somebody else's objects that were replaced or deleted since.
    found: BTreeMap<String, Entry>,
    /// Keys of what flow put there since.
    added: BTreeSet<String>,
}

/// What there is, compared with it.
#[derive(Default)]
struct Compared {
    /// By key.
    same: BTreeMap<String, Entry>,
    differ: Vec<(String, Entry)>,
    changes: Vec<Change>,
}

#[async_trait]
impl Step for Return {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let place = Place::look(&self.target, cx).await?;
        let open = place.manifests.unfinished()?;
        let goal = self.goal(&place, &open)?;
        let mut compared = self.compare(cx, &place, &goal).await?;
        let deletes: Vec<String> = goal.added.iter().filter(|key| self.goes(key, &place)).cloned().collect();
        for key in &deletes {
            let size = place.listed.get(key).map(|listed| show_size(listed.size));
            compared.changes.push(Change::new(key, size, None));
        }
        let differ = std::mem::take(&mut compared.differ);
        let sends = self.sources(cx, &place, &compared, differ).await?;
        let concerns = |key: &str| {
            goal.objects.contains_key(key) || goal.found.contains_key(key) || goal.added.contains(key)
        };
        let newest = place.manifests.newest();
        let baseline = facts::facts(&self.target, newest, &place.recorded, &place.listed, concerns);
        let standing = State::of(&self.target, newest, self.keep_releases).to_json();
        let proposal = self.propose(cx, place, &open, compared, (sends, deletes), &goal)?;
        Ok(Proposal { baseline, standing, ..proposal })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        Ok(self.plan(cx).await?.baseline)
    }
}

impl Return {
    fn goal(&self, place: &Place, open: &Open) -> Result<Goal, Failure> {
        let objects = match &self.manifest {
            None => BTreeMap::new(),
            Some(name) => {
                if let Some(manifest) = place.manifests.read(name)? {
                    manifest.objects
                } else {
                    let reason = format!("the manifest {name} of {} is no longer in the store", self.target);
                    return Err(Failure::missing(reason).help(
                        "use the store that the release was recorded in, or go back to another release",
                    ));
                }
            }
        };
        let mut found = BTreeMap::new();
        let mut added = open.keys.clone();
        // What the first of them found is what was there.
        let newer = place.manifests.after(self.manifest.as_deref())?;
        for (key, entry) in newer.iter().flat_map(|manifest| &manifest.found).chain(&open.found) {
            if !objects.contains_key(key) {
                found.entry(key.clone()).or_insert_with(|| entry.clone());
            }
        }
        added.extend(newer.into_iter().flat_map(|manifest| manifest.objects.into_keys()));
        added.extend(place.recorded.keys().cloned());
        added.retain(|key| !objects.contains_key(key) && !found.contains_key(key));
        Ok(Goal { objects, found, added })
    }

    /// Whether an object that a newer release added is deleted. With `keep-releases` its assets stay
    /// for the pages that are open in browsers; the next deploys delete them. Its pages never stay.
    fn goes(&self, key: &str, place: &Place) -> bool {
        if !place.listed.contains_key(key) {
            return false;
        }
        let relative = self.target.relative(key);
        let headers =
            place.recorded.get(key).map_or_else(|| Headers::of(relative, &[]), |e| e.headers.clone());
        self.keep_releases.unwrap_or(0) == 0 || Phase::of(relative, &headers) == Phase::Entry
    }

    async fn compare(&self, cx: &Context, place: &Place, goal: &Goal) -> Result<Compared, Failure> {
        let mut compared = Compared::default();
        let mut asked = Vec::new();
        for (key, entry) in goal.objects.iter().chain(&goal.found) {
            let Some(listed) = place.listed.get(key) else {
                compared.changes.push(Change::new(key, None, show_size(entry.size)));
                compared.differ.push((key.clone(), entry.clone()));
                continue;
            };
            let recorded = place.recorded.get(key).filter(|recorded| recorded.is_untouched(listed));
            match recorded {
                // First, since it is newer: dates have only seconds, and headers are in no listing.
                Some(recorded) => compared.judge(key, entry, recorded.clone()),
                None if entry.is_untouched(listed) => drop(compared.same.insert(key.clone(), entry.clone())),
                None => asked.push((key, entry, listed)),
            }
        }
        for (key, entry, now) in self.ask(cx, asked).await? {
            match now {
                Some(now) => compared.judge(&key, &entry, now),
                None => compared.differ.push((key, entry)),
            }
        }
        compared.changes.sort_by(|a, b| a.what.cmp(&b.what));
        Ok(compared)
    }

    /// What lies there now, where the listing does not tell.
    async fn ask(
        &self,
        cx: &Context,
        asked: Vec<(&String, &Entry, &Listed)>,
    ) -> Result<Vec<(String, Entry, Option<Entry>)>, Failure> {
        let s3 = &cx.cloud.reads().await.s3;
        let mut looks = Vec::new();
        for (key, entry, listed) in asked {
            looks.push(async move {
                let seen = listing::look(s3, &self.target.bucket, key).await?;
                let now = seen.map(|seen| seen_as(entry, seen, listed));
                Ok::<_, AwsError>((key.clone(), entry.clone(), now))
            });
        }
        let all = futures_util::stream::iter(looks).buffer_unordered(LOOKS).try_collect::<Vec<_>>();
        let mut all = cx
            .cancel
            .unless_stopped(all)
            .await?
            .map_err(|error| listing::bucket_failure(error, &self.target, cx))?;
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Where each object that differs can be had from. All that cannot be had are named together.
    async fn sources(
        &self,
        cx: &Context,
        place: &Place,
        compared: &Compared,
        differ: Vec<(String, Entry)>,
    ) -> Result<Vec<Restore>, Failure> {
        let changing: BTreeSet<&String> = differ.iter().map(|(key, _)| key).collect();
        // Not from what is itself about to change; deletes come last.
        let recorded = place.recorded.iter().filter(|(key, entry)| {
            !changing.contains(key) && place.listed.get(*key).is_some_and(|listed| entry.is_untouched(listed))
        });
        let kept: BTreeMap<&str, &String> =
            recorded.chain(&compared.same).map(|(key, entry)| (entry.sha256.as_str(), key)).collect();
        let mut looks = Vec::new();
        for (key, entry) in &differ {
            let kept = &kept;
            looks.push(async move {
                let source = self.source(cx, key, entry, kept).await?;
                Ok::<_, AwsError>((key.clone(), entry.clone(), source))
            });
        }
        let found = futures_util::stream::iter(looks).buffer_unordered(LOOKS).try_collect::<Vec<_>>();
        let found = cx
            .cancel
            .unless_stopped(found)
            .await?
            .map_err(|error| listing::bucket_failure(error, &self.target, cx))?;
        let mut sends = Vec::new();
        let mut gone = Vec::new();
        for (key, entry, source) in found {
            let phase = Phase::of(self.target.relative(&key), &entry.headers);
            match source {
                Some(source) => sends.push(Restore { key, entry, source, phase }),
                None => gone.push(key),
            }
        }
        sends.sort_by(|a, b| (a.phase, &a.key).cmp(&(b.phase, &b.key)));
        gone.sort();
        if gone.is_empty() { Ok(sends) } else { Err(self.gone(gone)) }
    }

    async fn source(
        &self,
        cx: &Context,
        key: &str,
        entry: &Entry,
        kept: &BTreeMap<&str, &String>,
    ) -> Result<Option<Source>, AwsError> {
        let s3 = &cx.cloud.reads().await.s3;
        if let Some(version) = &entry.version
            && listing::look_at(s3, &self.target.bucket, key, Some(version)).await?.is_some()
        {
            return Ok(Some(Source::Version(version.clone())));
        }
        if let Some(kept) = kept.get(entry.sha256.as_str()).filter(|_| !entry.sha256.is_empty()) {
            return Ok(Some(Source::Object((*kept).clone())));
        }
        // Written before the bucket kept versions, or nobody noted which one it was.
        Ok(listing::version_like(s3, &self.target.bucket, key, entry).await?.map(Source::Version))
    }

    fn gone(&self, keys: Vec<String>) -> Failure {
        let which = match keys.as_slice() {
            [one] => format!("{one} as it was is no longer in {}", self.target),
            many => format!("{} as they were are no longer in {}", count(many.len(), "object"), self.target),
        };
        let details = if keys.len() > 1 { keys } else { Vec::new() };
        Failure::missing(which)
            .details(details)
            .detail("neither a version of it nor another object with the same bytes is left")
            .help("let the bucket keep versions for as long as you may go back; this time deploy the older commit again")
    }

    fn propose(
        &self,
        cx: &Context,
        place: Place,
        open: &Open,
        compared: Compared,
        (sends, deletes): (Vec<Restore>, Vec<String>),
        goal: &Goal,
    ) -> Result<Proposal, Failure> {
        let Place { manifests, listed, .. } = place;
        let now: BTreeSet<String> =
            sends.iter().map(|send| &send.key).chain(&deletes).map(|key| paths::url_path(key)).collect();
        let mut changed = unsettled(&manifests, cx)?;
        changed.extend(now.iter().cloned());
        let bytes: u64 = sends.iter().map(|send| send.entry.size).sum();
        let outputs = outputs(&changed, sends.len(), deletes.len(), bytes);
        let receipt = State::of(&self.target, manifests.newest(), self.keep_releases).to_json();
        let stands = sends.is_empty() && deletes.is_empty() && open.changed.is_empty();
        let as_it_was = format!("{} in {} as they were", count(compared.same.len(), "file"), self.target);
        if stands && manifests.stands_at(self.manifest.as_deref()) {
            return Ok(Proposal { receipt, ..Proposal::up_to_date(as_it_was, outputs) });
        }
        let action = match () {
            // Only the newest manifest says otherwise.
            () if stands => Action::UpToDate,
            () if sends.is_empty() && !deletes.is_empty() => Action::Delete,
            () => Action::Update,
        };
        let summary = if stands { as_it_was } else { summary(("restore", sends.len()), deletes.len()) };
        let names: Vec<&str> =
            sends.iter().rev().map(|send| &send.key).chain(&deletes).map(String::as_str).collect();
        let subject = some_of(&names.iter().map(|key| self.target.relative(key)).collect::<Vec<_>>());
        let observed = observed(&listed, sends.iter().map(|send| &send.key).chain(&deletes));
        // What is somebody else's does not become flow's by being put back.
        let same = compared.same.into_iter().filter(|(key, _)| goal.objects.contains_key(key)).collect();
        Ok(Proposal {
            subject,
            changes: compared.changes,
            reversible: Reversible::Auto,
            outputs,
            receipt,
            ..Proposal::new(action, summary)
        }
        .with(RestoreEffect {
            target: self.target.clone(),
            manifests,
            keep_releases: self.keep_releases,
            observed,
            own: goal.objects.keys().cloned().collect(),
            sends,
            same,
            deletes,
            bytes,
            changed: changed.into_iter().collect(),
            changed_now: now.into_iter().collect(),
        }))
    }
}

impl Compared {
    /// Takes an object that lies there as `now` says.
    fn judge(&mut self, key: &str, wanted: &Entry, now: Entry) {
        let mut changes = Vec::new();
        if !now.has_bytes_of(wanted) {
            changes.push(Change::new(key, now.shown(), wanted.shown()));
        }
        changes.extend(now.headers.changes_to(&wanted.headers, key));
        if changes.is_empty() {
            self.same.insert(key.to_owned(), now);
        } else {
            self.changes.extend(changes);
            self.differ.push((key.to_owned(), wanted.clone()));
        }
    }
}

/// What was seen as an entry. Where S3 keeps no SHA-256 of the whole, equal `ETag` and size are equal bytes.
pub(super) fn seen_as(wanted: &Entry, seen: Seen, listed: &Listed) -> Entry {
    let mut now = Entry::of(seen, listed);
    if now.sha256.is_empty() && now.etag == wanted.etag && now.size == wanted.size {
        now.sha256.clone_from(&wanted.sha256);
    }
    now
}
