//! Whether there is anything to do, from what the context, the base images, the
//! registry and the store's records say. Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::bases::{self, Base};
use super::content::{Content, Part};
use super::context::BuildContext;
use super::publish::Publish;
use super::scan::Severity;
use super::{DockerBuild, dockerfile, error, record};
use crate::model::change::{Action, Change};
use crate::model::image::is_repository;
use crate::model::units::{count, short_digest, show_size};
use crate::model::value::{Outputs, Value};
use crate::steps::{Context, Failure, FailureClass, Proposal, Step};
use crate::world::registry::{self, Repository, StoredImage};

/// What the image would be made of now.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub context: BuildContext,
    pub bases: Vec<Base>,
    pub content: Content,
    unclear: Vec<String>,
}

#[async_trait]
impl Step for DockerBuild {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let repository = self.repository(cx).await?;
        if self.existing {
            return self.take(&repository).await;
        }
        let prepared = self.prepare(cx, &repository).await?;
        let hash = prepared.content.hash();
        let flow_tag = hash.tag();
        let found = self.images(&repository, Some(&flow_tag)).await?;
        let record = record::find(&cx.world.store, &repository, &hash)?;
        let trusted = found
            .get(&flow_tag)
            .filter(|image| record.as_ref().is_some_and(|record| record.digest == image.digest))
            .cloned();
        let baseline = json!({
            "hash": hash.as_str(),
            "tags": found.iter().map(|(tag, image)| (tag.clone(), image.digest.clone())).collect::<BTreeMap<_, _>>(),
        });
        let mut proposal = match trusted {
            Some(image) => {
                self.keep(&repository, prepared, image, &found, record.and_then(|r| r.scan)).await?
            }
            None => self.propose_build(cx, &repository, prepared, &found).await?,
        };
        proposal.baseline = baseline;
        Ok(proposal)
    }
}

impl DockerBuild {
    pub(super) async fn repository<'a>(&self, cx: &'a Context) -> Result<Repository<'a>, Failure> {
        let host = registry::host(&cx.cloud).await?;
        let name = match self.repository.strip_prefix(&host).and_then(|rest| rest.strip_prefix('/')) {
            Some(name) => name,
            None => &self.repository,
        };
        if !is_repository(name) {
            return Err(Failure::of(FailureClass::Refused, format!("\"{name}\" is no repository of {host}"))
                .help("name it as ECR does: shop-api or team/shop-api"));
        }
        Ok(Repository::new(&cx.cloud, host, name.to_owned()))
    }

    /// What the wanted tags, and the tag of the content, name now.
    pub(super) async fn images(
        &self,
        repository: &Repository<'_>,
        flow_tag: Option<&str>,
    ) -> Result<BTreeMap<String, StoredImage>, Failure> {
        let tags = flow_tag.into_iter().chain(self.tags.iter().map(String::as_str));
        repository.images(tags).await.map_err(|error| {
            if error.is_not_found() {
                return Failure::missing(format!(
                    "there is no repository {} in {}",
                    repository.name, repository.host
                ))
                .help("create it, or put an ecr-repository step before this one");
            }
            error.into()
        })
    }

    /// Reads the context and asks for the base images.
    async fn prepare(&self, cx: &Context, repository: &Repository<'_>) -> Result<Prepared, Failure> {
        let files = cx.world.files.clone();
        let (folder, dockerfile) = (self.context.clone(), self.dockerfile.clone());
        let read = move || BuildContext::read(&files, &folder, dockerfile.as_deref());
        let sent = tokio::task::spawn_blocking(read).await.map_err(|error| error::broken(&error))??;
        let found =
            dockerfile::bases(&sent.dockerfile_text, self.target.as_deref(), &self.args, &self.platform)?;
        let bases = bases::resolve(cx, repository, &found.images).await?;

        let mut content = Content::default();
        for entry in sent.entries.iter() {
            content.add(Part::File(entry.path.clone()), entry.digest());
        }
        for (name, value) in &self.args {
            content.add(Part::Arg(name.clone()), value);
        }
        for base in &bases {
            content.add(Part::Base(base.name.clone()), &base.digest);
        }
        content.add(Part::Dockerfile, &sent.dockerfile);
        content.add(Part::Platform, &self.platform);
        if let Some(target) = &self.target {
            content.add(Part::Target, target);
        }
        Ok(Prepared { context: sent, bases, content, unclear: found.unclear })
    }

    /// `existing`: the image that the tag names.
    async fn take(&self, repository: &Repository<'_>) -> Result<Proposal, Failure> {
        let found = self.images(repository, None).await?;
        let (tag, image) = found.first_key_value().ok_or_else(|| {
            let tag = self.tags.first().map_or("", String::as_str);
            Failure::new(format!("{} has no image tagged {tag}", repository.name))
                .help("push it first, or leave existing out to build it")
        })?;
        let mut proposal = Proposal::up_to_date(
            format!("{tag} is {}", short_digest(&image.digest)),
            self.outputs(repository, &image.digest, ""),
        );
        proposal.baseline = json!({ "tags": { tag: image.digest } });
        proposal.receipt =
            json!({ "repository": repository.name, "digest": image.digest, "tags": self.tags });
        Ok(proposal)
    }

    /// The image is there: at most tags are missing, or its scan was never held against this limit.
    async fn keep(
        &self,
        repository: &Repository<'_>,
        prepared: Prepared,
        image: StoredImage,
        found: &BTreeMap<String, StoredImage>,
        scanned: Option<Severity>,
    ) -> Result<Proposal, Failure> {
        let hash = prepared.content.hash();
        let outputs = self.outputs(repository, &image.digest, hash.as_str());
        let receipt = self.receipt(repository, &image.digest, hash.as_str());
        let wrong: Vec<&String> = self
            .tags
            .iter()
            .filter(|tag| found.get(*tag).is_none_or(|at| at.digest != image.digest))
            .collect();
        let taken: Vec<_> = wrong.iter().filter_map(|tag| Some((*tag, found.get(*tag)?))).collect();
        if let Some((tag, other)) = taken.first()
            && repository.is_immutable().await? == Some(true)
        {
            return Err(error::fixed_tag(repository, tag, &other.digest, &image.digest));
        }
        let short = short_digest(&image.digest);
        // A new commit tags what did not change: the image is as wanted, its names are upkeep. A tag
        // that moves away from another image is a change.
        let tags: Vec<&str> = wrong.iter().map(|tag| tag.as_str()).collect();
        let mut proposal = if self.scan > scanned {
            Proposal::new(Action::Update, "wait for its scan")
        } else if !taken.is_empty() {
            Proposal::new(Action::Update, format!("tag {}", tags.join(", ")))
        } else if wrong.is_empty() {
            Proposal::up_to_date(format!("{short} is in the registry"), Outputs::new())
        } else {
            Proposal::up_to_date(
                format!("{short} is in the registry, gets tag {}", tags.join(", ")),
                Outputs::new(),
            )
        };
        proposal.changes = wrong
            .iter()
            .map(|tag| {
                let from = found.get(*tag).map(|image| short_digest(&image.digest));
                Change::new(format!("tag {tag}"), from, short.clone())
            })
            .collect();
        proposal.outputs = outputs;
        proposal.receipt = receipt;
        proposal.warnings = self.warnings(&prepared);
        if proposal.action.will_run() {
            proposal.subject = format!("{short} stays");
        }
        if proposal.action.will_run() || !wrong.is_empty() {
            let tags = wrong.into_iter().cloned().collect();
            let publish =
                Publish { step: self.clone(), prepared: Arc::new(prepared), image: Some(image), tags };
            proposal = proposal.with(publish);
        }
        Ok(proposal)
    }

    /// There is no image of this content that flow built.
    async fn propose_build(
        &self,
        cx: &Context,
        repository: &Repository<'_>,
        prepared: Prepared,
        found: &BTreeMap<String, StoredImage>,
    ) -> Result<Proposal, Failure> {
        let flow_tag = prepared.content.hash().tag();
        let last = cx.recorded.as_ref().and_then(|recorded| recorded.receipt.get("hash")?.as_str());
        let earlier = record::earlier(&cx.world.store, repository, last, &self.sort())?;
        let action = if earlier.is_some() || last.is_some() { Action::Update } else { Action::Create };
        let mut proposal = Proposal::new(action, "build and push");
        let (files, bytes) = prepared.context.size();
        proposal.subject = format!("{}, {}", count(files, "file"), show_size(bytes));
        if let Some(earlier) = &earlier {
            let difference = prepared.content.since(&earlier.content);
            let subject = difference.subject(&self.context);
            // Nothing differs when the image is gone from the registry, or is not the one that was pushed.
            proposal.subject =
                if subject.is_empty() { lost(repository, found.get(&flow_tag)) } else { subject };
            proposal.changes = difference.changes;
        }
        proposal.warnings = self.warnings(&prepared);
        if let Some(image) = found.get(&flow_tag) {
            proposal.warnings.push(format!(
                "{flow_tag} names {} which is not in this store's records, so it is not taken",
                short_digest(&image.digest)
            ));
        }
        let taken: Vec<_> = self.tags.iter().filter(|tag| found.contains_key(*tag)).collect();
        if !taken.is_empty() && repository.is_immutable().await? == Some(true) {
            for tag in taken {
                let digest = found.get(tag).map(|image| short_digest(&image.digest)).unwrap_or_default();
                proposal.warnings.push(format!(
                    "{} lets no tag move and {tag} names {digest}: the push is refused unless the build gives that image again",
                    repository.name
                ));
            }
        }
        let (step, prepared, tags) = (self.clone(), Arc::new(prepared), self.tags.clone());
        Ok(proposal.with(Publish { step, prepared, image: None, tags }))
    }

    fn warnings(&self, prepared: &Prepared) -> Vec<String> {
        let mut warnings: Vec<String> = prepared
            .unclear
            .iter()
            .map(|place| {
                format!("{place} is known only inside the build: a new version of that image is not noticed")
            })
            .collect();
        if prepared.context.entries.iter().any(|entry| entry.path == ".git/HEAD") {
            warnings.push(format!(
                "{}/.git is sent, so every commit makes a new image: put .git into .dockerignore",
                self.context
            ));
        }
        warnings
    }

    /// What tells the images of several steps in one repository apart.
    pub(super) fn sort(&self) -> String {
        let words =
            [Some(&self.context), self.dockerfile.as_ref(), self.target.as_ref(), Some(&self.platform)];
        words.map(|word| word.map_or("", String::as_str)).join("\n")
    }

    pub(super) fn outputs(&self, repository: &Repository<'_>, digest: &str, hash: &str) -> Outputs {
        let tag = match self.tags.first() {
            Some(tag) => tag.clone(),
            None => format!("flow-{}", hash.get(..32).unwrap_or(hash)),
        };
        [
            ("uri", format!("{}@{digest}", repository.uri())),
            ("digest", digest.to_owned()),
            ("tag", tag),
            ("hash", hash.to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::Text(value)))
        .collect()
    }

    pub(super) fn receipt(&self, repository: &Repository<'_>, digest: &str, hash: &str) -> serde_json::Value {
        json!({ "repository": repository.name, "digest": digest, "tags": self.tags, "hash": hash })
    }
}

/// Why an image of unchanged content is built again.
fn lost(repository: &Repository<'_>, found: Option<&StoredImage>) -> String {
    match found {
        None => format!("its image is gone from {}", repository.name),
        Some(image) => format!("{} is not what flow pushed", short_digest(&image.digest)),
    }
}
