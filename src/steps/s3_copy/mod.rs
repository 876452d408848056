//! `s3-copy`: objects of one bucket become objects of another, copied by S3
//! itself, between accounts too.
//!
//! It is `s3-sync` with another source: the place that is written to has the
//! same manifests, so that a copy is found unfinished and gone on with, and the
//! same way back: what was overwritten returns from its version, what was not
//! there goes. Unlike a site, a copy owns only what it copied: what an earlier
//! one put there and this one does not mention stays in its manifest.

mod apply;
mod compare;
#[cfg(test)]
mod sandbox_tests;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::types::BucketVersioningStatus;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use self::apply::CopyEffect;
use self::compare::{Compared, Copy};
pub(super) use self::settings::KIND;
use self::settings::S3Copy;
use super::s3_sync::listing::{Listed, bucket_failure};
use super::s3_sync::target::Target;
use super::s3_sync::{Place, State, count, facts, observed, pages, paths, some_of, unsettled};
use crate::model::change::{Action, Reversible};
use crate::model::units::show_size;
use crate::model::value::{Outputs, Value};
use crate::steps::{Context, Failure, FailureClass, Proposal, Step};
use crate::world::aws::{AwsError, Cloud};
use crate::world::files::digest;

/// S3 copies no larger object in one request.
const LARGEST: u64 = 5 * 1024 * 1024 * 1024;

#[async_trait]
impl Step for S3Copy {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let source = self.source(cx)?;
        let (objects, place, versioned) = tokio::try_join!(
            self.objects(cx, &source),
            Place::look(&self.to, cx),
            keeps_versions(cx, &self.to)
        )?;
        let baseline = self.facts(&place, &objects);
        let compared = compare::compare(cx, &source.s3().await, self, objects, &place).await?;
        let standing = Receipt::of(self, place.manifests.newest()).to_json();
        let proposal = self.propose(cx, compared, place, source, versioned)?;
        Ok(Proposal { baseline, standing, ..proposal })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        let source = self.source(cx)?;
        let (objects, place) = tokio::try_join!(self.objects(cx, &source), Place::look(&self.to, cx))?;
        Ok(self.facts(&place, &objects))
    }
}

/// The account that is read from.
#[derive(Clone, Debug)]
struct SourceAccount(Arc<Cloud>);

impl SourceAccount {
    /// Its S3; shared, so cheap.
    async fn s3(&self) -> aws_sdk_s3::Client {
        self.0.reads().await.s3.clone()
    }

    /// Twelve digits, where its environment says so: S3 then refuses a bucket of anybody else.
    fn account(&self) -> Option<&str> {
        self.0.target().account.as_deref()
    }
}

/// What a release records: as for a sync, and where it came from and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Receipt {
    #[serde(flatten)]
    state: State,
    from: String,
    reason: Option<String>,
}

impl Receipt {
    fn of(step: &S3Copy, manifest: Option<&str>) -> Self {
        let state = State::of(&step.to, manifest, None);
        Self { state, from: step.from.to_string(), reason: step.reason.clone() }
    }

    fn to_json(&self) -> Json {
        json!(self)
    }
}

impl S3Copy {
    fn source(&self, cx: &Context) -> Result<SourceAccount, Failure> {
        Ok(SourceAccount(match &self.from_environment {
            None => Arc::clone(&cx.cloud),
            Some(name) => cx.cloud_of(name)?,
        }))
    }

    /// What is to be copied, by key of the place it goes to.
    async fn objects(&self, cx: &Context, source: &SourceAccount) -> Result<BTreeMap<String, Copy>, Failure> {
        let s3 = source.s3().await;
        let listed =
            cx.cancel.unless_stopped(pages::all(&s3, &self.from.bucket, &self.from.prefix, &[])).await?;
        let listed = listed.map_err(|error| self.cannot_read(error, source, cx))?;
        let all = listed.len();
        let objects: BTreeMap<String, Copy> = listed
            .into_iter()
            .filter_map(|(key, listed)| self.copy(key, listed))
            .map(|copy| (copy.to.clone(), copy))
            .collect();
        if objects.is_empty() {
            let failure = Failure::missing(format!("there is nothing to copy in {}", self.from));
            return Err(match all {
                0 => failure.help("correct `from`, or put the objects there first"),
                all => failure
                    .detail(format!("{} there, and `include` and `exclude` leave none", count(all, "object")))
                    .help("correct `include` and `exclude`: they are relative to `from`"),
            });
        }
        let large: Vec<String> = objects
            .values()
            .filter(|copy| copy.listed.size > LARGEST)
            .map(|copy| copy.from.clone())
            .collect();
        if !large.is_empty() {
            return Err(Failure::new("S3 copies no object above 5 GiB in one request, and these are larger")
                .details(large)
                .help("leave them out with `exclude`"));
        }
        Ok(objects)
    }

    /// An object of the source, if it is to be copied. Keys that end in a slash are folders of the console.
    fn copy(&self, from: String, listed: Listed) -> Option<Copy> {
        let relative = self.from.relative(&from).to_owned();
        let wanted = self.include.is_empty() || self.include.iter().any(|glob| glob.is_match(&relative));
        let left_out = relative.is_empty()
            || (relative.ends_with('/') && listed.size == 0)
            || self.exclude.iter().any(|glob| glob.is_match(&relative));
        (wanted && !left_out).then(|| Copy { to: self.to.key(&relative), from, listed })
    }

    /// What an answer about the source means.
    fn cannot_read(&self, error: AwsError, source: &SourceAccount, cx: &Context) -> Failure {
        let Target { bucket, .. } = &self.from;
        let environment = &source.0.target().environment;
        if error.code.as_deref() == Some("NoSuchBucket") {
            return Failure::missing(format!("the bucket {bucket} does not exist in {environment}"))
                .help("correct `from`, or name the environment whose bucket it is: from \"s3://…\" environment=\"NAME\"");
        }
        bucket_failure(error, &self.from, cx).detail(format!("while {} was read", self.from))
    }

    /// What the source holds counts as one digest, what lies in the place as for a sync.
    fn facts(&self, place: &Place, objects: &BTreeMap<String, Copy>) -> Json {
        let mut facts = facts::facts(
            &self.to,
            place.manifests.newest(),
            &concerning(&place.recorded, objects),
            &place.listed,
            |key| objects.contains_key(key),
        );
        let rows: Vec<_> =
            objects.values().map(|copy| (&copy.from, &copy.listed.etag, copy.listed.size)).collect();
        let rows = serde_json::to_vec(&rows).unwrap_or_default();
        let short: String = digest(&rows).chars().take(8).collect();
        if let Some(facts) = facts.as_object_mut() {
            facts.insert(format!("objects of {}", self.from), json!(format!("{} ({short})", objects.len())));
        }
        facts
    }

    fn propose(
        &self,
        cx: &Context,
        compared: Compared,
        place: Place,
        source: SourceAccount,
        versioned: bool,
    ) -> Result<Proposal, Failure> {
        let Compared { copies, same, new, changes } = compared;
        let foreign = place.foreign(copies.iter().map(|copy| &copy.to))?;
        let Place { manifests, listed, recorded } = place;
        let unfinished = !manifests.unfinished()?.changed.is_empty();
        let now: BTreeSet<String> = copies.iter().map(|copy| paths::url_path(&copy.to)).collect();
        let mut changed = unsettled(&manifests, cx)?;
        changed.extend(now.iter().cloned());
        let bytes: u64 = copies.iter().map(|copy| copy.listed.size).sum();
        let outputs = outputs(&changed, copies.len(), same.len(), bytes);
        let receipt = Receipt::of(self, manifests.newest()).to_json();
        let stands = copies.is_empty() && !unfinished;
        let up_to_date = format!("{} of {} in {}", count(same.len(), "object"), self.from, self.to);
        if stands && manifests.newest().is_some() {
            return Ok(Proposal { receipt, ..Proposal::up_to_date(up_to_date, outputs) });
        }
        let overwritten = copies.len() - new;
        let action = match () {
            // Only its manifest is missing.
            () if stands => Action::UpToDate,
            () if same.is_empty() && overwritten == 0 => Action::Create,
            () => Action::Update,
        };
        let summary = if stands { up_to_date } else { summary(new, overwritten, same.len(), bytes) };
        let mut warnings = Vec::new();
        let lost = overwritten > 0 && !versioned;
        if lost {
            warnings.push(format!(
                "{} keeps no versions: {} cannot be restored once overwritten",
                self.to.bucket,
                count(overwritten, "object")
            ));
        }
        let names: Vec<&str> = copies.iter().map(|copy| self.to.relative(&copy.to)).collect();
        let subject = match &self.reason {
            Some(reason) => format!("{} → {}: {reason}", self.from, self.to),
            None => some_of(&names),
        };
        let observed = observed(&listed, copies.iter().map(|copy| &copy.to));
        let carried = recorded.into_iter().filter(|(key, entry)| {
            !same.contains_key(key) && listed.get(key).is_some_and(|listed| entry.is_untouched(listed))
        });
        Ok(Proposal {
            subject,
            changes,
            warnings,
            reversible: if lost { Reversible::Manual } else { Reversible::Auto },
            outputs,
            receipt,
            ..Proposal::new(action, summary)
        }
        .with(CopyEffect {
            from: self.from.clone(),
            target: self.to.clone(),
            receipt: Receipt::of(self, None),
            source,
            manifests,
            observed,
            carried: carried.collect(),
            copies,
            same,
            bytes,
            foreign,
            changed: changed.into_iter().collect(),
            changed_now: now.into_iter().collect(),
        }))
    }
}

/// Of what is recorded of a place that which this copy is about: other copies go to it too.
fn concerning<T: Clone>(
    recorded: &BTreeMap<String, T>,
    objects: &BTreeMap<String, Copy>,
) -> BTreeMap<String, T> {
    let own = recorded.iter().filter(|(key, _)| objects.contains_key(*key));
    own.map(|(key, entry)| (key.clone(), entry.clone())).collect()
}

/// Whether what is overwritten in a bucket stays as a version.
async fn keeps_versions(cx: &Context, target: &Target) -> Result<bool, Failure> {
    let request = cx.cloud.reads().await.s3.get_bucket_versioning().bucket(&target.bucket);
    let answer = cx.cancel.unless_stopped(request.send()).await?;
    match answer.map_err(|error| AwsError::new("S3", "GetBucketVersioning", &error)) {
        Ok(answer) => Ok(answer.status() == Some(&BucketVersioningStatus::Enabled)),
        // Who may not ask is told as if it kept none: the warning is the worse news.
        Err(error) if error.class == crate::world::aws::AwsErrorClass::Denied => Ok(false),
        Err(error) => Err(bucket_failure(error, target, cx)),
    }
}

fn outputs(changed: &BTreeSet<String>, copied: usize, same: usize, bytes: u64) -> Outputs {
    let number = |number: usize| super::s3_sync::number(number as u64);
    Outputs::from([
        ("changed-paths".to_owned(), Value::texts(changed.iter().cloned())),
        ("copied".to_owned(), number(copied)),
        ("objects".to_owned(), number(copied + same)),
        ("bytes".to_owned(), super::s3_sync::number(bytes)),
    ])
}

/// `copy 202 objects, 14.2 MB: 200 new, 2 changed, 3 the same`
fn summary(new: usize, changed: usize, same: usize, bytes: u64) -> String {
    if new + changed == 0 {
        return "finish an interrupted copy".to_owned();
    }
    let parts: Vec<String> = [(new, "new"), (changed, "changed"), (same, "the same")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    format!("copy {}, {}: {}", count(new + changed, "object"), show_size(bytes), parts.join(", "))
}

/// Somebody replaced an object of the source.
fn moved(copy: &Copy) -> Failure {
    Failure::of(FailureClass::Refused, format!("{} changed since the plan", copy.from))
        .help("plan again and look at the difference")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_how_much_is_new() {
        assert_eq!(summary(200, 2, 0, 0), "copy 202 objects, 0 B: 200 new, 2 changed");
        assert_eq!(summary(1, 0, 4, 10), "copy 1 object, 10 B: 1 new, 4 the same");
        assert_eq!(summary(0, 0, 4, 0), "finish an interrupted copy");
    }

    #[test]
    fn a_receipt_can_be_returned_to_like_that_of_a_sync() {
        let state = State::of(&Target::parse("s3://shop/a").expect("a target"), Some("000001-ab"), None);
        let receipt =
            Receipt { state: state.clone(), from: "s3://dev/".to_owned(), reason: Some("REL-1".to_owned()) };
        let json = receipt.to_json();
        assert_eq!(json["reason"], "REL-1");
        assert_eq!(crate::steps::back::read::<State>(&json).expect("a state"), state);
    }
}
