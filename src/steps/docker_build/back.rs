//! The way back to an image that was recorded: it must still be in the
//! registry, and the tags that named it name it again. Nothing is built.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::publish::put;
use super::{DockerBuild, own_repository};
use crate::model::change::{Action, Change, Reversible};
use crate::model::units::short_digest;
use crate::model::value::{Outputs, Value};
use crate::steps::back::{self, Stays};
use crate::steps::{Context, Done, Effect, Failure, Proposal, Step, Way};
use crate::world::registry::{Repository, StoredImage};

/// What a release keeps of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Its repository, without the registry.
    pub(super) repository: String,
    /// `sha256:…`
    pub(super) digest: String,
    /// The tags that the flow wants on it, the one that is handed on first.
    pub(super) tags: Vec<String>,
    /// Of its content; empty for an image that flow did not build.
    pub(super) hash: String,
}

impl State {
    /// The one that the last release has of a step.
    pub(super) fn recorded(cx: &Context) -> Option<Self> {
        let recorded = cx.recorded.as_ref()?;
        back::read(&recorded.receipt).ok().filter(|state: &Self| !state.digest.is_empty())
    }

    /// What stands before a build: what the last release recorded, else the image that the wanted
    /// tags name.
    pub(super) fn standing(step: &DockerBuild, cx: &Context, found: &BTreeMap<String, StoredImage>) -> Json {
        if let Some(recorded) = cx.recorded.as_ref().filter(|_| Self::recorded(cx).is_some()) {
            return recorded.receipt.clone();
        }
        let Some(digest) = step.tags.iter().find_map(|tag| Some(found.get(tag)?.digest.clone())) else {
            return Json::Null;
        };
        let names_it = |tag: &&String| found.get(*tag).is_some_and(|image| image.digest == digest);
        let tags = step.tags.iter().filter(names_it).cloned().collect();
        Self { repository: step.repository.clone(), digest, tags, hash: String::new() }.to_json()
    }

    pub(super) fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What later steps can refer to.
    pub(super) fn outputs(&self, repository: &Repository<'_>) -> Outputs {
        let tag = match self.tags.first() {
            Some(tag) => tag.clone(),
            None => format!("flow-{}", self.hash.get(..32).unwrap_or(&self.hash)),
        };
        [
            ("uri", format!("{}@{}", repository.uri(), self.digest)),
            ("digest", self.digest.clone()),
            ("tag", tag),
            ("hash", self.hash.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::Text(value)))
        .collect()
    }
}

/// The step of a rollback.
pub(super) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let Some(to) = &way.to else {
        return Ok(Box::new(Stays::unrecorded("the image", way.now.clone())));
    };
    let to: State = back::read(to)?;
    if to.digest.is_empty() {
        return Err(Failure::new("that release does not say which image it was"));
    }
    Ok(Box::new(Return(to)))
}

#[derive(Clone, Debug)]
struct Return(State);

#[async_trait]
impl Step for Return {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let Self(to) = self;
        let repository = own_repository(cx, &to.repository).await?;
        let short = short_digest(&to.digest);
        let gone = |reason: String| {
            Failure::missing(reason)
                .help("push that image again, or roll back to a release whose images are there")
        };
        let (image, found) = match repository.by_digest_and_tags(&to.digest, &to.tags).await {
            Ok((Some(image), found)) => (image, found),
            Ok((None, _)) => return Err(gone(format!("{short} is no longer in {}", repository.name))),
            Err(error) if error.is_not_found() => {
                return Err(gone(format!("{short} is gone with its repository {}", repository.name)));
            }
            Err(error) => return Err(error.into()),
        };
        let mut wrong: Vec<String> = to
            .tags
            .iter()
            .filter(|tag| found.get(*tag).is_none_or(|at| at.digest != image.digest))
            .cloned()
            .collect();
        let mut warnings = Vec::new();
        if wrong.iter().any(|tag| found.contains_key(tag)) && repository.is_immutable().await? == Some(true) {
            wrong.retain(|tag| match found.get(tag) {
                Some(other) => {
                    let names = short_digest(&other.digest);
                    let name = &repository.name;
                    warnings.push(format!("{tag} goes on naming {names}: {name} lets no tag move"));
                    false
                }
                None => true,
            });
        }
        // Tags that are missing are upkeep; one that moves is a change.
        let moves = wrong.iter().any(|tag| found.contains_key(tag));
        let tags = wrong.join(", ");
        let mut proposal = match (moves, wrong.is_empty()) {
            (true, _) => Proposal::new(Action::Update, format!("tag {tags}")),
            (false, true) => Proposal::up_to_date(format!("{short} is in the registry"), Outputs::new()),
            (false, false) => {
                let words = format!("{short} is in the registry, gets tag {tags}");
                Proposal::up_to_date(words, Outputs::new())
            }
        };
        proposal.changes = wrong
            .iter()
            .map(|tag| {
                let from = found.get(tag).map(|image| short_digest(&image.digest));
                Change::new(format!("tag {tag}"), from, short.clone())
            })
            .collect();
        proposal.warnings = warnings;
        proposal.baseline = tags_of(&found).into();
        proposal.outputs = to.outputs(&repository);
        proposal.receipt = to.to_json();
        if moves {
            proposal.reversible = Reversible::Auto;
            proposal.subject = format!("back to {short}");
            proposal.standing = before(to, &wrong, &found);
        }
        if wrong.is_empty() {
            Ok(proposal)
        } else {
            Ok(proposal.with(Retag { to: to.clone(), image, tags: wrong }))
        }
    }
}

/// What tags name, as a fact of the world. Those that name nothing are left out: what carries the
/// run's own id is another one in every run.
pub(super) fn tags_of(found: &BTreeMap<String, StoredImage>) -> serde_json::Map<String, Json> {
    let facts = found.iter().map(|(tag, image)| (format!("tag {tag}"), image.digest.clone().into()));
    facts.collect()
}

/// The image that the tags named that are moved.
fn before(to: &State, moved: &[String], found: &BTreeMap<String, StoredImage>) -> Json {
    let Some(digest) = moved.iter().find_map(|tag| Some(found.get(tag)?.digest.clone())) else {
        return Json::Null;
    };
    let names_it = |tag: &&String| found.get(*tag).is_some_and(|image| image.digest == digest);
    let tags = moved.iter().filter(names_it).cloned().collect();
    State { repository: to.repository.clone(), digest, tags, hash: String::new() }.to_json()
}

/// The effect.
struct Retag {
    to: State,
    image: StoredImage,
    tags: Vec<String>,
}

#[async_trait]
impl Effect for Retag {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let repository = own_repository(cx, &self.to.repository).await?;
        for tag in &self.tags {
            put(&repository, &self.image, tag).await?;
        }
        Ok(Done {
            summary: format!("tagged {}", short_digest(&self.image.digest)),
            outputs: self.to.outputs(&repository),
            receipt: self.to.to_json(),
        })
    }
}
