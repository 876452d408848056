//! What an environment runs, after each run that changed it.
//!
//! Releases are numbered per environment and never changed. A release holds
//! the whole of its flow: steps that the run did not touch are carried over
//! from the release before. The release of a failed run says what stands
//! there now, and is not one to go back to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::names::{EnvName, FlowName, RunId, StepId};
use crate::model::value::Outputs;
use crate::world::files::FileError;
use crate::world::store::Store;

/// Version of the format.
pub const VERSION: u32 = 1;

/// What a release keeps of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its kind.
    pub kind: String,
    /// What it handed on.
    pub outputs: Outputs,
    /// What a rollback needs.
    pub receipt: serde_json::Value,
    /// It was found as it is, not made by flow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Of the format.
    pub version: u32,
    /// Growing within the environment; 0 is what was there before flow.
    pub id: u64,
    /// The run that made it.
    pub run: RunId,
    /// Its flow.
    pub flow: FlowName,
    /// The environment.
    pub environment: EnvName,
    /// When.
    pub created: Timestamp,
    /// Whether the run failed.
    pub failed: bool,
    /// Digest of the plan.
    pub plan: String,
    /// Commit of the checkout.
    pub commit: Option<String>,
    /// Whether tracked files differed from it.
    pub dirty: Option<bool>,
    /// `USER@HOST`, and the CI job's link if there is one.
    pub by: String,
    /// It records what was found before flow changed anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The release that it went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<u64>,
    /// From the beginning of the incident until all was healthy again, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_after_ms: Option<u64>,
    /// Parameters as given or defaulted; secrets cannot be parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, serde_json::Value>,
    /// Every step of the flow that was ever done, as it stands now.
    pub steps: BTreeMap<StepId, Recorded>,
}

/// A release that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The file system's word.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what was written.
    #[error("release {id} of {environment} cannot be read: {why}")]
    Damaged {
        /// The release.
        id: u64,
        /// Its environment.
        environment: EnvName,
        /// What is wrong with it.
        why: String,
    },
}

/// The releases of a project.
#[derive(Clone, Debug)]
pub struct Releases {
    store: Store,
    /// The run whose releases do not count.
    without: Option<RunId>,
}

impl Releases {
    /// The releases in a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, without: None }
    }

    /// The same as they stood before a run recorded where it came to: a run that is resumed compares
    /// with what it began from, not with itself. What it found and recorded counts, and what it
    /// recorded when it failed, since it goes on from there; a rollback goes on from what it was to
    /// leave.
    #[must_use]
    pub fn before_run(&self, run: Option<&RunId>) -> Self {
        Self { store: self.store.clone(), without: run.cloned() }
    }

    /// The numbers of an environment's releases, newest first.
    pub fn ids(&self, environment: &EnvName) -> Result<Vec<u64>, ReleaseError> {
        let names = self.store.list(&format!("releases/{environment}"))?;
        let mut ids: Vec<u64> =
            names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// One release.
    pub fn get(&self, environment: &EnvName, id: u64) -> Result<Option<Release>, ReleaseError> {
        let Some(bytes) = self.store.get(&key(environment, id))? else { return Ok(None) };
        let damaged = |why: String| ReleaseError::Damaged { id, environment: environment.clone(), why };
        let release: Release = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if release.version > VERSION {
            let newer = format!("it has version {}, this flow reads up to {VERSION}", release.version);
            return Err(damaged(newer));
        }
        Ok(Some(release))
    }

    /// An environment's releases, newest first; at most so many.
    pub fn list(&self, environment: &EnvName, most: usize) -> Result<Vec<Release>, ReleaseError> {
        let mut releases = Vec::new();
        for id in self.ids(environment)?.into_iter().take(most) {
            releases.extend(self.get(environment, id)?);
        }
        Ok(releases)
    }

    /// What is live: the newest release that did not fail.
    pub fn live(&self, environment: &EnvName) -> Result<Option<Release>, ReleaseError> {
        self.newest(environment, |release| !release.failed)
    }

    /// What is known to stand there of a flow: its newest release, also of a failed run. Plans and
    /// effects compare with this one.
    pub fn current(&self, environment: &EnvName, flow: &FlowName) -> Result<Option<Release>, ReleaseError> {
        self.newest(environment, |release| release.flow == *flow)
    }

    /// The newest release of a flow in an environment that did not fail: what `needs` from outside a
    /// selection can stand on.
    pub fn good(&self, environment: &EnvName, flow: &FlowName) -> Result<Option<Release>, ReleaseError> {
        self.newest(environment, |release| release.flow == *flow && !release.failed)
    }

    /// Where a rollback goes that names no release: the newest good one before what stands there
    /// now. A release that went back stands where it went back to: going back twice goes back
    /// further, never to what was left the first time. One that did not get there goes there again.
    pub fn before(&self, environment: &EnvName, flow: &FlowName) -> Result<Option<Release>, ReleaseError> {
        let Some(current) = self.current(environment, flow)? else { return Ok(None) };
        let stands = match current.rolled_back_to {
            Some(to) if current.failed => to + 1,
            Some(to) => to,
            None => current.id,
        };
        self.newest(environment, |release| release.flow == *flow && !release.failed && release.id < stands)
    }

    fn counts(&self, release: &Release) -> bool {
        let came_to_its_end = !release.adopted && (!release.failed || release.rolled_back_to.is_some());
        self.without.as_ref() != Some(&release.run) || !came_to_its_end
    }

    fn newest(
        &self,
        environment: &EnvName,
        wanted: impl Fn(&Release) -> bool,
    ) -> Result<Option<Release>, ReleaseError> {
        for id in self.ids(environment)? {
            if let Some(release) =
                self.get(environment, id)?.filter(|release| self.counts(release) && wanted(release))
            {
                return Ok(Some(release));
            }
        }
        Ok(None)
    }

    /// The same, once: what a run recorded before it was interrupted is not recorded again.
    pub fn write_once(&self, release: Release) -> Result<Release, ReleaseError> {
        if let Some(before) = self.current(&release.environment, &release.flow)? {
            let same = before.run == release.run
                && before.failed == release.failed
                && before.adopted == release.adopted
                && release.steps.iter().all(|(step, recorded)| before.steps.get(step) == Some(recorded));
            if same {
                return Ok(before);
            }
        }
        self.write(release)
    }

    /// Writes a release under the next free number, which takes the place of `release.id`, and adds
    /// the steps that it does not have from the flow's release before. Returns it as written, once
    /// it is on disk.
    pub fn write(&self, mut release: Release) -> Result<Release, ReleaseError> {
        loop {
            let first = u64::from(!release.adopted);
            release.id = self.ids(&release.environment)?.first().map_or(first, |newest| newest + 1);
            let mut whole = release.clone();
            if let Some(before) = self.current(&release.environment, &release.flow)? {
                for (step, recorded) in before.steps {
                    whole.steps.entry(step).or_insert(recorded);
                }
            }
            let key = key(&release.environment, whole.id);
            let json = serde_json::to_vec_pretty(&whole).map_err(|error| ReleaseError::Damaged {
                id: whole.id,
                environment: whole.environment.clone(),
                why: error.to_string(),
            })?;
            // Somebody else may take the number between the look and the write.
            if self.store.create(&key, &json)? {
                self.store.settle(&key)?;
                return Ok(whole);
            }
        }
    }
}

fn key(environment: &EnvName, id: u64) -> String {
    format!("releases/{environment}/{id:08}.json")
}

#[cfg(test)]
impl Release {
    /// One of flow `deploy` in `prod`, made from a commit, with nothing in it: what tests start from.
    pub(crate) fn sample() -> Self {
        Self {
            version: VERSION,
            id: 0,
            run: RunId::new("k3f9"),
            flow: FlowName::new("deploy"),
            environment: EnvName::new("prod"),
            created: Timestamp::UNIX_EPOCH,
            failed: false,
            plan: "7f3a9c21d0b4".to_owned(),
            commit: Some("1a2b3c4d5e6f".to_owned()),
            dirty: Some(false),
            by: "ada@build-7".to_owned(),
            adopted: false,
            rolled_back_to: None,
            healthy_after_ms: None,
            params: BTreeMap::new(),
            steps: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::Value;

    fn release(flow: &str, failed: bool, steps: &[(&str, &str)]) -> Release {
        let steps = steps.iter().map(|(step, digest)| {
            let outputs = Outputs::from([("digest".to_owned(), Value::text(*digest))]);
            let recorded = Recorded {
                kind: "docker-build".to_owned(),
                outputs,
                receipt: serde_json::json!({"was": 1}),
                ..Recorded::default()
            };
            (StepId::parse(step), recorded)
        });
        Release {
            flow: FlowName::new(flow),
            failed,
            created: "2026-11-21T04:12:00Z".parse().unwrap(),
            steps: steps.collect(),
            ..Release::sample()
        }
    }

    fn digests(release: &Release) -> Vec<String> {
        let text = |recorded: &Recorded| recorded.outputs.get("digest").and_then(Value::as_text);
        release.steps.iter().map(|(step, r)| format!("{step}={}", text(r).unwrap_or_default())).collect()
    }

    #[test]
    fn numbers_grow_and_untouched_steps_are_carried_over() {
        let folder = tempfile::tempdir().unwrap();
        let releases = Releases::new(Store::folder(folder.path().to_owned()));
        let prod = EnvName::new("prod");
        assert_eq!(releases.live(&prod).unwrap(), None);

        let first =
            releases.write(release("deploy", false, &[("image[api]", "a1"), ("image[web]", "w1")])).unwrap();
        let second = releases.write(release("deploy", false, &[("image[api]", "a2")])).unwrap();
        let other = releases.write(release("migrate", false, &[("schema", "s1")])).unwrap();
        let failed = releases.write(release("deploy", true, &[("image[web]", "w2")])).unwrap();

        assert_eq!([first.id, second.id, other.id, failed.id], [1, 2, 3, 4]);
        assert_eq!(digests(&second), ["image[api]=a2", "image[web]=w1"]);
        assert_eq!(digests(&other), ["schema=s1"], "another flow's steps are not its own");
        assert_eq!(digests(&failed), ["image[api]=a2", "image[web]=w2"]);
        assert_eq!(releases.live(&prod).unwrap(), Some(other));
        assert_eq!(releases.current(&prod, &FlowName::new("deploy")).unwrap(), Some(failed));
        let ids: Vec<u64> = releases.list(&prod, 3).unwrap().iter().map(|release| release.id).collect();
        assert_eq!(ids, [4, 3, 2]);
    }

    #[test]
    fn what_a_run_recorded_already_is_not_recorded_again() {
        let folder = tempfile::tempdir().unwrap();
        let releases = Releases::new(Store::folder(folder.path().to_owned()));
        let write = |failed, steps: &[(&str, &str)]| {
            releases.write_once(release("deploy", failed, steps)).unwrap().id
        };
        assert_eq!(write(true, &[("schema", "s1")]), 1);
        assert_eq!(write(true, &[("schema", "s1")]), 1);
        assert_eq!(write(true, &[("schema", "s1"), ("site", "w1")]), 2);
        assert_eq!(write(false, &[("schema", "s1"), ("site", "w1")]), 3);
        assert_eq!(write(false, &[("schema", "s1")]), 3);
        releases.write(Release { run: RunId::new("h2x4"), ..release("deploy", false, &[]) }).unwrap();
        assert_eq!(write(false, &[("schema", "s1")]), 5, "another run came in between");
    }

    #[test]
    fn a_run_that_goes_on_stands_on_what_it_began_from() {
        let folder = tempfile::tempdir().unwrap();
        let releases = Releases::new(Store::folder(folder.path().to_owned()));
        let own = RunId::new("h2x4");
        let stands = |release: Release| {
            releases.write(Release { run: own.clone(), ..release }).unwrap();
            let before = releases.before_run(Some(&own));
            before.current(&EnvName::new("prod"), &FlowName::new("deploy")).unwrap().unwrap().id
        };
        releases.write(release("deploy", false, &[])).unwrap();
        assert_eq!(stands(release("deploy", false, &[])), 1, "not on what it came to");
        assert_eq!(stands(release("deploy", true, &[])), 3, "it failed, and goes on from there");
        let half_way = Release { rolled_back_to: Some(1), ..release("deploy", true, &[]) };
        assert_eq!(stands(half_way), 3, "a rollback goes on from what it was to leave");
        assert_eq!(
            stands(Release { adopted: true, ..release("deploy", false, &[]) }),
            5,
            "what it found was there"
        );
    }

    #[test]
    fn a_damaged_release_is_named_and_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let releases = Releases::new(store.clone());
        releases.write(release("deploy", false, &[])).unwrap();
        store.put("releases/prod/00000002.json", b"{").unwrap();
        let error = releases.live(&EnvName::new("prod")).unwrap_err().to_string();
        assert!(error.starts_with("release 2 of prod cannot be read: "), "{error}");
    }

    #[test]
    fn going_back_twice_goes_back_further() {
        let folder = tempfile::tempdir().unwrap();
        let releases = Releases::new(Store::folder(folder.path().to_owned()));
        let (prod, deploy) = (EnvName::new("prod"), FlowName::new("deploy"));
        let before = || releases.before(&prod, &deploy).unwrap().map(|release| release.id);
        assert_eq!(before(), None);
        let found = releases.write(Release { adopted: true, ..release("deploy", false, &[]) }).unwrap();
        assert_eq!((found.id, before()), (0, None));
        releases.write(release("deploy", false, &[])).unwrap();
        assert_eq!(before(), Some(0));
        releases.write(release("deploy", false, &[])).unwrap();
        releases.write(release("other", false, &[])).unwrap();
        releases.write(release("deploy", true, &[])).unwrap();
        assert_eq!(before(), Some(2), "what a failed run left is not good");
        releases.write(Release { rolled_back_to: Some(2), ..release("deploy", false, &[]) }).unwrap();
        assert_eq!(before(), Some(1), "what was left is not gone back to");
        releases.write(Release { rolled_back_to: Some(1), ..release("deploy", true, &[]) }).unwrap();
        assert_eq!(before(), Some(1), "half-way is no reason to turn round");
        releases.write(Release { rolled_back_to: Some(1), ..release("deploy", false, &[]) }).unwrap();
        assert_eq!(before(), Some(0));
        releases.write(release("deploy", false, &[])).unwrap();
        assert_eq!(before(), Some(7), "a release that went back is as good as the one it went to");
    }

    #[test]
    fn two_writers_never_get_the_same_number() {
        let folder = tempfile::tempdir().unwrap();
        let releases = Releases::new(Store::folder(folder.path().to_owned()));
        let mut ids: Vec<u64> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let write = || releases.write(release("deploy", false, &[])).unwrap().id;
                        [write(), write(), write()]
                    })
                })
                .collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        ids.sort_unstable();
        assert_eq!(ids, (1..=12).collect::<Vec<_>>());
    }
}
