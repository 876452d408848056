//! Whether there is anything to do, from what the context, the base images, the
//! registry and the store's records say. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value as Json;

use super::back::{State, tags_of};
use super::bases::{self, Base, Origin};
use super::content::{Content, Part};
use super::context::{BuildContext, ContextError, What};
use super::publish::Publish;
use super::scan::Severity;
use super::{DockerBuild, dockerfile, error, record};
use crate::model::change::{Action, Change, Reversible};
use crate::model::image::{ImageReference, is_repository};
use crate::model::units::{count, short_digest, show_size};
use crate::model::value::Outputs;
use crate::steps::{Context, Failure, FailureClass, Open, Proposal, Settled, Step};
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
        let baseline = self.baseline(&repository, &found, &prepared.bases);
        let inputs = inputs(&prepared.context, cx);
        let standing = State::standing(self, cx, &found);
        let mut proposal = match trusted {
            Some(image) => {
                self.keep(&repository, prepared, image, &found, record.and_then(|r| r.scan)).await?
            }
            None => self.propose_build(cx, &repository, prepared, &found).await?,
        };
        proposal.baseline = baseline;
        proposal.inputs = inputs;
        if proposal.effect.is_some() {
            proposal.reversible = Reversible::Auto;
            proposal.standing = standing;
        }
        Ok(proposal)
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        let repository = self.repository(cx).await?;
        let found = match self.images(&repository, None).await {
            Err(failure) if failure.class == FailureClass::Missing => return Ok(Json::Null),
            found => found?,
        };
        let bases = if self.existing { Vec::new() } else { self.bases_by_now(cx, &repository).await? };
        Ok(self.baseline(&repository, &found, &bases))
    }

    async fn inputs(&self, cx: &Context) -> Result<Option<BTreeMap<String, String>>, Failure> {
        if self.existing {
            return Ok(Some(BTreeMap::new()));
        }
        // A folder that cannot be sent yet is still to be made; what makes it counts by itself.
        Ok(Some(self.read_context(cx).await?.map(|context| inputs(&context, cx)).unwrap_or_default()))
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        super::reconcile::reconcile(self, open, cx).await
    }
}

/// A repository of the account's registry, by its name or by its whole address.
pub(super) async fn own_repository<'a>(cx: &'a Context, named: &str) -> Result<Repository<'a>, Failure> {
    let host = registry::host(&cx.cloud).await?;
    let name = named.strip_prefix(&host).and_then(|rest| rest.strip_prefix('/')).unwrap_or(named).to_owned();
    if !is_repository(&name) {
        return Err(Failure::of(FailureClass::Refused, format!("\"{name}\" is no repository of {host}"))
            .help("name it as ECR does: shop-api or team/shop-api"));
    }
    Ok(Repository::new(&cx.cloud, host, name))
}

/// Digests of what is sent, by path relative to the project.
fn inputs(context: &BuildContext, cx: &Context) -> BTreeMap<String, String> {
    let root = cx.world.files.root();
    let shown = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let files = context.entries.iter().filter(|entry| entry.what != What::Folder);
    files.map(|entry| (shown(&entry.source), entry.digest())).collect()
}

impl DockerBuild {
    pub(super) async fn repository<'a>(&self, cx: &'a Context) -> Result<Repository<'a>, Failure> {
        own_repository(cx, &self.repository).await
    }

    /// What the wanted tags name, and what the base images of other registries are. Those of this
    /// registry may be made by the steps in front; the content counts them.
    fn baseline(
        &self,
        repository: &Repository<'_>,
        found: &BTreeMap<String, StoredImage>,
        bases: &[Base],
    ) -> Json {
        let found = found.iter().filter(|(tag, _)| self.tags.contains(tag));
        let mut facts = tags_of(&found.map(|(tag, image)| (tag.clone(), image.clone())).collect());
        let is_own = |base: &Base| {
            ImageReference::parse(&base.name).is_ok_and(|name| name.host.as_ref() == Some(&repository.host))
        };
        for base in bases.iter().filter(|base| base.origin != Origin::Pinned && !is_own(base)) {
            facts.insert(format!("base {}", base.name), base.digest.clone().into());
        }
        facts.into()
    }

    /// The base images as far as they can be told before all files are there.
    async fn bases_by_now(&self, cx: &Context, repository: &Repository<'_>) -> Result<Vec<Base>, Failure> {
        let files = &cx.world.files;
        let path = match &self.dockerfile {
            Some(path) => files.locate(path)?,
            None => files.locate(&self.context)?.join("Dockerfile"),
        };
        let text = match files.read(&path) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            bytes => String::from_utf8(bytes?).unwrap_or_default(),
        };
        let Ok(found) = dockerfile::bases(&text, self.target.as_deref(), &self.args, &self.platform) else {
            return Ok(Vec::new());
        };
        match bases::resolve(cx, repository, &found.images).await {
            // One that is still to be made is no fact yet.
            Err(failure) if failure.class == FailureClass::Failed => Ok(Vec::new()),
            bases => bases,
        }
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
    pub(super) async fn prepare(
        &self,
        cx: &Context,
        repository: &Repository<'_>,
    ) -> Result<Prepared, Failure> {
        let sent = self.read_context(cx).await??;
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

    /// What would be sent now.
    async fn read_context(&self, cx: &Context) -> Result<Result<BuildContext, ContextError>, Failure> {
        let files = cx.world.files.clone();
        let (folder, dockerfile) = (self.context.clone(), self.dockerfile.clone());
        let read = move || BuildContext::read(&files, &folder, dockerfile.as_deref());
        tokio::task::spawn_blocking(read).await.map_err(|error| error::broken(&error))
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
        proposal.baseline = self.baseline(repository, &found, &[]);
        proposal.receipt = self.receipt(repository, &image.digest, "");
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

    fn state(&self, repository: &Repository<'_>, digest: &str, hash: &str) -> State {
        State {
            repository: repository.name.clone(),
            digest: digest.to_owned(),
            tags: self.tags.clone(),
            hash: hash.to_owned(),
        }
    }

    pub(super) fn outputs(&self, repository: &Repository<'_>, digest: &str, hash: &str) -> Outputs {
        self.state(repository, digest, hash).outputs(repository)
    }

    pub(super) fn receipt(&self, repository: &Repository<'_>, digest: &str, hash: &str) -> Json {
        self.state(repository, digest, hash).to_json()
    }
}

/// Why an image of unchanged content is built again.
fn lost(repository: &Repository<'_>, found: Option<&StoredImage>) -> String {
    match found {
        None => format!("its image is gone from {}", repository.name),
        Some(image) => format!("{} is not what flow pushed", short_digest(&image.digest)),
    }
}
