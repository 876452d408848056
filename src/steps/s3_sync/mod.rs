//! `s3-sync`: a folder becomes the content of a bucket, or of a part of one.
//!
//! The plan reads the source, the last manifest and the bucket's listing and
//! says what has to be sent and deleted ([`compare`]); the effect sends it in
//! an order in which no visitor meets a page without its files ([`order`],
//! [`upload`]), deletes last, looks at the bucket once more and writes the
//! manifest of what it left ([`apply`], [`manifest`]). A rollback returns to a
//! manifest ([`back`], [`restore`]).

pub(super) mod apply;
pub(super) mod back;
#[cfg(test)]
mod back_tests;
mod body;
mod compare;
mod delete;
pub(super) mod facts;
pub(super) mod headers;
pub(super) mod listing;
pub(super) mod manifest;
mod multipart;
mod order;
pub(super) mod pages;
pub(super) mod paths;
mod pool;
mod ranges;
pub(super) mod restore;
#[cfg(test)]
pub(super) mod sandbox_tests;
mod settings;
pub(super) mod source;
pub(super) mod target;
pub(super) mod upload;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use self::apply::SyncEffect;
use self::compare::{TooMany, Verdict, Wanted};
pub(in crate::steps) use self::headers::glob;
use self::listing::Listed;
use self::manifest::{Entry, Manifests, release_digest};
pub use self::settings::KIND;
use self::settings::S3Sync;
use self::target::Target;
use super::{Context, Done, Failure, FailureClass, Open, Proposal, Settled, Step};
use crate::model::change::{Action, Change, Reversible};
use crate::model::value::{Outputs, Value};
use crate::world::aws::AwsError;
use crate::world::files::digest;

/// Objects that are asked for their headers at a time.
pub(super) const LOOKS: usize = 32;

/// What the bucket, the store and the source say together.
struct Comparison {
    /// To be sent.
    sends: Vec<Wanted>,
    /// As wanted already, by key.
    same: BTreeMap<String, Entry>,
    /// Keys that go.
    deletes: Vec<String>,
    /// Every difference.
    changes: Vec<Change>,
}

#[async_trait]
impl Step for S3Sync {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let reading = source::read(&cx.world.files, &self.from, &self.exclude);
        let files = cx.cancel.unless_stopped(reading).await??;
        let inputs = self.inputs(&files);
        let wanted: Vec<Wanted> =
            files.into_iter().map(|file| Wanted::new(file, &self.target, &self.rules)).collect();
        let place = self.place(cx).await?;
        let release = release_digest(
            wanted
                .iter()
                .map(|w| (w.key.as_str(), w.file.sum.hex(), &w.headers))
                .collect::<Vec<_>>()
                .iter()
                .map(|(key, sum, headers)| (*key, sum.as_str(), *headers)),
        );
        let compared = self.compare(cx, wanted, &place, &release).await?;
        let standing = State::of(&self.target, place.manifests.newest(), self.keep_releases()).to_json();
        let baseline = self.facts(&place);
        Ok(Proposal { baseline, inputs, standing, ..self.propose(cx, compared, place)? })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        Ok(self.facts(&self.place(cx).await?))
    }

    /// What the bucket holds tells; what was sent before the interruption counts as sent.
    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        let Proposal { action, summary, mut outputs, receipt, effect, .. } = self.plan(cx).await?;
        if action != Action::UpToDate || effect.is_some() {
            return Ok(Settled::NotDone);
        }
        let sum = |key: &str, field: &str| -> u64 {
            open.notes
                .iter()
                .filter(|(noted, _)| noted == key)
                .filter_map(|(_, data)| data[field].as_u64())
                .sum()
        };
        outputs.extend([
            ("uploaded".to_owned(), number(sum("uploaded", "files"))),
            ("deleted".to_owned(), number(sum("deleted", "objects"))),
            ("bytes".to_owned(), number(sum("uploaded", "bytes"))),
        ]);
        Ok(Settled::Done(Done { summary, outputs, receipt }))
    }
}

/// What is known of the place in the bucket.
pub(super) struct Place {
    pub(super) manifests: Manifests,
    /// What the newest manifest says.
    pub(super) recorded: BTreeMap<String, Entry>,
    pub(super) listed: BTreeMap<String, Listed>,
}

impl Place {
    pub(super) async fn look(target: &Target, cx: &Context) -> Result<Self, Failure> {
        let manifests = Manifests::open(&cx.world.store, target, cx.cloud.target().endpoint.as_deref())?;
        let recorded = manifests.last()?.map(|manifest| manifest.objects).unwrap_or_default();
        let known: Vec<&str> = recorded.keys().map(String::as_str).collect();
        let listed = listing::list(cx, target, &known).await?;
        Ok(Self { manifests, recorded, listed })
    }

    /// Of these keys those whose objects flow never put there.
    pub(super) fn foreign<'a>(&self, keys: impl Iterator<Item = &'a String>) -> Result<Vec<String>, Failure> {
        let mut foreign: Vec<String> = keys
            .filter(|key| self.listed.contains_key(*key) && !self.recorded.contains_key(*key))
            .cloned()
            .collect();
        if !foreign.is_empty() {
            let mut own = self.manifests.unfinished()?.keys;
            own.extend(
                self.manifests.after(None)?.into_iter().flat_map(|manifest| manifest.objects.into_keys()),
            );
            foreign.retain(|key| !own.contains(key));
        }
        Ok(foreign)
    }
}

/// What a release records: where, and the manifest of what lies there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct State {
    bucket: String,
    prefix: String,
    /// `None` before the first sync.
    pub(super) manifest: Option<String>,
    /// As the step says; `None` where it deletes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep_releases: Option<usize>,
}

impl State {
    pub(super) fn of(target: &Target, manifest: Option<&str>, keep_releases: Option<usize>) -> Self {
        let (bucket, prefix) = (target.bucket.clone(), target.prefix.clone());
        Self { bucket, prefix, manifest: manifest.map(str::to_owned), keep_releases }
    }

    fn to_json(&self) -> Json {
        json!(self)
    }
}

impl S3Sync {
    async fn place(&self, cx: &Context) -> Result<Place, Failure> {
        Place::look(&self.target, cx).await
    }

    fn keep_releases(&self) -> Option<usize> {
        self.deletion.map(|deletion| deletion.keep_releases)
    }

    /// Digests of the source's files, by path.
    fn inputs(&self, files: &[source::LocalFile]) -> BTreeMap<String, String> {
        let from = self.from.trim_start_matches("./").trim_end_matches('/');
        files.iter().map(|file| (format!("{from}/{}", file.relative), file.sum.hex())).collect()
    }

    /// Objects that are in no manifest count where they may be deleted, and before the first sync.
    fn facts(&self, place: &Place) -> Json {
        let Place { manifests, recorded, listed } = place;
        let others = self.deletion.is_some() || manifests.newest().is_none();
        let excluded = |key: &str| self.exclude.iter().any(|glob| glob.is_match(self.target.relative(key)));
        facts::facts(&self.target, manifests.newest(), recorded, listed, |key| others && !excluded(key))
    }

    async fn compare(
        &self,
        cx: &Context,
        wanted: Vec<Wanted>,
        place: &Place,
        release: &str,
    ) -> Result<Comparison, Failure> {
        let Place { manifests, recorded, listed } = place;
        let deletes = self.deletes(&wanted, listed, manifests, release)?;
        let mut compared =
            Comparison { sends: Vec::new(), same: BTreeMap::new(), deletes, changes: Vec::new() };
        let mut asked = Vec::new();
        for wanted in wanted {
            match compare::judge(&wanted, recorded.get(&wanted.key), listed.get(&wanted.key)) {
                Verdict::Ask => asked.push(wanted),
                verdict => compared.take(wanted, verdict),
            }
        }
        for (wanted, verdict) in ask(cx, &self.target, asked, recorded, listed).await? {
            compared.take(wanted, verdict);
        }
        compared.changes.sort_by(|a, b| a.what.cmp(&b.what));
        compared.sends.sort_by(|a, b| (a.phase, &a.key).cmp(&(b.phase, &b.key)));
        let gone = compared.deletes.iter().map(|key| {
            let size = listed.get(key).map(|listed| crate::model::units::show_size(listed.size));
            Change::new(key, size, None)
        });
        compared.changes.extend(gone);
        Ok(compared)
    }

    fn deletes(
        &self,
        wanted: &[Wanted],
        listed: &BTreeMap<String, Listed>,
        manifests: &Manifests,
        release: &str,
    ) -> Result<Vec<String>, Failure> {
        let Some(deletion) = self.deletion else { return Ok(Vec::new()) };
        let releases = manifests.releases_before(release, deletion.keep_releases)?;
        let keys: BTreeSet<&str> = wanted.iter().map(|wanted| wanted.key.as_str()).collect();
        compare::deletes(deletion, &self.target, &self.exclude, &keys, listed, releases.as_deref())
            .map_err(|error| refuse(error, &self.target))
    }

    fn propose(&self, cx: &Context, compared: Comparison, place: Place) -> Result<Proposal, Failure> {
        let foreign =
            place.foreign(compared.sends.iter().map(|wanted| &wanted.key).chain(&compared.deletes))?;
        let Comparison { sends, same, deletes, changes } = compared;
        let Place { manifests, listed, .. } = place;
        let unfinished = !manifests.unfinished()?.changed.is_empty();
        let now: BTreeSet<String> =
            sends.iter().map(|wanted| &wanted.key).chain(&deletes).map(|key| paths::url_path(key)).collect();
        let mut changed = unsettled(&manifests, cx)?;
        changed.extend(now.iter().cloned());
        let bytes: u64 = sends.iter().map(|wanted| wanted.file.size).sum();
        let observed = observed(&listed, sends.iter().map(|wanted| &wanted.key).chain(&deletes));
        let outputs = outputs(&changed, sends.len(), deletes.len(), bytes);
        let receipt = State::of(&self.target, manifests.newest(), self.keep_releases()).to_json();

        let stands = sends.is_empty() && deletes.is_empty() && !unfinished;
        let up_to_date = format!("{} in {}", count(same.len(), "file"), self.target);
        if stands && manifests.newest().is_some() {
            return Ok(Proposal { receipt, ..Proposal::up_to_date(up_to_date, outputs) });
        }
        let action = match (manifests.newest(), listed.is_empty(), sends.is_empty()) {
            // Only its manifest is missing.
            _ if stands => Action::UpToDate,
            (None, true, _) => Action::Create,
            (_, _, true) if !deletes.is_empty() => Action::Delete,
            _ => Action::Update,
        };
        let summary = if stands { up_to_date } else { summary(("upload", sends.len()), deletes.len()) };
        let subjects: Vec<&str> = sends
            .iter()
            .rev()
            .map(|wanted| wanted.key.as_str())
            .chain(deletes.iter().map(String::as_str))
            .map(|key| self.target.relative(key))
            .collect();
        Ok(Proposal {
            subject: some_of(&subjects),
            changes,
            reversible: Reversible::Auto,
            outputs,
            receipt,
            ..Proposal::new(action, summary)
        }
        .with(SyncEffect {
            target: self.target.clone(),
            manifests,
            keep_releases: self.keep_releases(),
            observed,
            sends,
            same,
            deletes,
            bytes,
            foreign,
            changed: changed.into_iter().collect(),
            changed_now: now.into_iter().collect(),
        }))
    }
}

/// URL paths that were changed and perhaps never invalidated, because a run ended before it could.
pub(super) fn unsettled(manifests: &Manifests, cx: &Context) -> Result<BTreeSet<String>, Failure> {
    let settled = cx.settled.as_ref().and_then(|settled| settled.receipt["manifest"].as_str());
    Ok(manifests.changed_since(settled)?)
}

impl Comparison {
    fn take(&mut self, wanted: Wanted, verdict: Verdict) {
        match verdict {
            Verdict::Same(entry) => {
                self.same.insert(wanted.key, entry);
            }
            Verdict::Send(changes) => {
                self.changes.extend(changes);
                self.sends.push(wanted);
            }
            // Whoever cannot judge sends: the object is right afterwards.
            Verdict::Ask => self.sends.push(wanted),
        }
    }
}

async fn ask(
    cx: &Context,
    target: &Target,
    asked: Vec<Wanted>,
    recorded: &BTreeMap<String, Entry>,
    listed: &BTreeMap<String, Listed>,
) -> Result<Vec<(Wanted, Verdict)>, Failure> {
    let s3 = &cx.cloud.reads().await.s3;
    let mut looks = futures_util::stream::iter(asked.into_iter().map(|wanted| {
        let (s3, bucket) = (s3.clone(), target.bucket.clone());
        async move {
            let seen = listing::look(&s3, &bucket, &wanted.key).await;
            (wanted, seen)
        }
    }))
    .buffer_unordered(LOOKS);
    let mut judged = Vec::new();
    while let Some((wanted, seen)) = cx.cancel.unless_stopped(looks.next()).await? {
        let seen = seen.map_err(|error: AwsError| listing::bucket_failure(error, target, cx))?;
        let Some(now) = listed.get(&wanted.key) else { continue };
        let files = cx.world.files.clone();
        let path = wanted.file.path.clone();
        let verdict = compare::judge_seen(&wanted, recorded.get(&wanted.key), now, seen, || {
            source::md5(&files, &path)
        })?;
        judged.push((wanted, verdict));
    }
    Ok(judged)
}

fn refuse(error: TooMany, target: &Target) -> Failure {
    let TooMany { deletes, objects, .. } = error;
    let needed = (deletes * 100).div_ceil(objects.max(1));
    Failure::of(FailureClass::Refused, format!("{target}: {error}"))
        .detail("perhaps `from` or `to` is not what is meant, or the build is not complete")
        .help(format!("if they are right, allow it once: delete #true max-share=\"{needed}%\""))
}

fn outputs(changed: &BTreeSet<String>, uploaded: usize, deleted: usize, bytes: u64) -> Outputs {
    Outputs::from([
        ("changed-paths".to_owned(), Value::texts(changed.iter().cloned())),
        ("uploaded".to_owned(), number(uploaded as u64)),
        ("deleted".to_owned(), number(deleted as u64)),
        ("bytes".to_owned(), number(bytes)),
    ])
}

pub(super) fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Digest of what the listing says of the objects that are replaced or deleted. Others may come and
/// go: they are nobody's business here.
pub(super) fn observed<'a>(
    listed: &BTreeMap<String, Listed>,
    touched: impl Iterator<Item = &'a String>,
) -> String {
    let keys: BTreeSet<&String> = touched.collect();
    let rows: Vec<_> = keys
        .into_iter()
        .map(|key| (key, listed.get(key).map(|object| (&object.etag, object.size))))
        .collect();
    digest(&serde_json::to_vec(&rows).unwrap_or_default())
}

/// `3 uploads, 1 delete`
fn summary((word, sends): (&'static str, usize), deletes: usize) -> String {
    let parts: Vec<String> = [(sends, word), (deletes, "delete")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| count(number, word))
        .collect();
    if parts.is_empty() { "finish an interrupted sync".to_owned() } else { parts.join(", ") }
}

pub(super) fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// `index.html, assets/app-91c0.js, and 2 more`
pub(super) fn some_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one}, {two}"),
        [one, two, rest @ ..] => format!("{one}, {two}, and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(summary(("upload", 3), 1), "3 uploads, 1 delete");
        assert_eq!(summary(("restore", 0), 2), "2 deletes");
        assert_eq!(summary(("upload", 0), 0), "finish an interrupted sync");
        assert_eq!(some_of(&["a"]), "a");
        assert_eq!(some_of(&["a", "b"]), "a, b");
        assert_eq!(some_of(&["a", "b", "c", "d"]), "a, b, and 2 more");
    }
}
