//! Builds, pushes and tags an image.
//!
//! Order: build, see that nothing changed meanwhile, push under the tag of the
//! content, read the digest back, write the record, scan, put the wanted tags
//! on it. A record says which image the content is; that it passed its scan is
//! written into it afterwards, and a wanted tag never names one that did not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use serde_json::json;

use super::archive::{self, Sent};
use super::{BuildRecord, DockerBuild, Prepared, Severity, bases, error, scan};
use crate::model::units::short_digest;
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::docker::{BuildEvent, BuildRequest, Engine, EngineError};
use crate::world::registry::{Login, Repository, StoredImage, Tagged};

/// How long the registry may take to show what was just pushed.
const READ_BACK: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The effect.
#[derive(Debug)]
pub(super) struct Publish {
    pub step: DockerBuild,
    pub prepared: Arc<Prepared>,
    /// What is in the registry already: then nothing is built.
    pub image: Option<StoredImage>,
    /// Wanted tags that do not name it yet.
    pub tags: Vec<String>,
}

#[async_trait]
impl Effect for Publish {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let repository = self.step.repository(cx).await?;
        let (image, verb) = if let Some(image) = &self.image {
            (image.clone(), if self.tags.is_empty() { "scanned" } else { "tagged" })
        } else {
            let image = self.build_and_push(cx, &repository).await?;
            self.record(cx, &repository, &image, None)?;
            (image, "pushed")
        };
        if let Some(limit) = self.step.scan {
            Box::pin(scan::pass(cx, &repository, &image.digest, limit)).await?;
            self.record(cx, &repository, &image, Some(limit))?;
        }
        for tag in &self.tags {
            put(&repository, &image, tag).await?;
        }
        let hash = self.prepared.content.hash();
        Ok(Done {
            summary: format!("{verb} {}", short_digest(&image.digest)),
            outputs: self.step.outputs(&repository, &image.digest, hash.as_str()),
            receipt: self.step.receipt(&repository, &image.digest, hash.as_str()),
        })
    }
}

impl Publish {
    fn record(
        &self,
        cx: &Context,
        repository: &Repository<'_>,
        image: &StoredImage,
        scanned: Option<Severity>,
    ) -> Result<(), Failure> {
        let content = self.prepared.content.clone();
        let record = BuildRecord::new(content, image.digest.clone(), scanned, cx.world.clock.now());
        Ok(record.write(&cx.world.store, repository, &self.step.sort())?)
    }

    async fn build_and_push(
        &self,
        cx: &Context,
        repository: &Repository<'_>,
    ) -> Result<StoredImage, Failure> {
        let engine = Engine::connect(&cx.world.host).await?;
        self.see_bases(cx, repository).await?;
        let id = self.build(cx, repository, &engine).await?;
        self.see_bases(cx, repository).await?;
        // Proves later that what the registry then has is this image.
        let hash = self.prepared.content.hash();
        cx.feed.note("built", json!({ "hash": hash.as_str(), "image": id })).await?;
        let stored = self.push(cx, repository, &engine, &id).await?;
        cx.feed.note("pushed", json!({ "digest": stored.digest })).await?;
        Ok(stored)
    }

    /// A base that moved makes another image than the one that was approved.
    async fn see_bases(&self, cx: &Context, repository: &Repository<'_>) -> Result<(), Failure> {
        let names: Vec<String> = self.prepared.bases.iter().map(|base| base.name.clone()).collect();
        bases::compare(&self.prepared.bases, &bases::resolve(cx, repository, &names).await?)
    }

    /// Builds on the engine; answers with the image's identifier there.
    async fn build(
        &self,
        cx: &Context,
        repository: &Repository<'_>,
        engine: &Engine,
    ) -> Result<String, Failure> {
        let step = &self.step;
        let files = cx.world.files.clone();
        let changed =
            self.prepared.context.changed_path(&files, &step.context, step.dockerfile.as_deref())?;
        if let Some(path) = changed {
            return Err(changed_since(&path));
        }
        let request = self.request(repository, engine).await?;
        let (pieces, mut receiver) = archive::pieces();
        let prepared = Arc::clone(&self.prepared);
        let sending = tokio::task::spawn_blocking(move || prepared.context.send(&files, &pieces));
        let archive = stream::poll_fn(move |task| receiver.poll_recv(task));

        let mut build = engine.build(request, archive).await?;
        let outcome = cx
            .cancel
            .unless_stopped(async {
                while let Some(event) = build.next().await? {
                    match event {
                        BuildEvent::Step(name) => cx.feed.progress(name).await,
                        BuildEvent::Line(line) => cx.feed.output(line).await,
                    }
                }
                Ok::<_, EngineError>(build.image().unwrap_or_default().to_owned())
            })
            .await;
        // Closes the connection; the sender sees that and ends.
        drop(build);
        let id = outcome?;
        match sending.await.map_err(|error| error::broken(&error))? {
            Sent::Changed(path) => Err(changed_since(&path)),
            Sent::Unreadable(error) => Err(error.into()),
            Sent::All | Sent::Unread => Ok(id?),
        }
    }

    async fn request(&self, repository: &Repository<'_>, engine: &Engine) -> Result<BuildRequest, Failure> {
        let step = &self.step;
        let mut args = step.args.clone();
        if step.inline_cache {
            args.insert("BUILDKIT_INLINE_CACHE".to_owned(), "1".to_owned());
        }
        let whole = |image: &String| {
            if image.starts_with(':') { format!("{}{image}", repository.uri()) } else { image.clone() }
        };
        let cache_from: Vec<String> = step.cache_from.iter().map(whole).collect();
        let bases = &self.prepared.bases;
        let private = bases.iter().map(|base| &base.name).chain(&cache_from);
        let login = if private.into_iter().any(|name| name.starts_with(&repository.host)) {
            Some(repository.login().await?)
        } else {
            None
        };
        Ok(BuildRequest {
            dockerfile: self.prepared.context.dockerfile.clone(),
            name: format!("{}:{}", repository.uri(), self.prepared.content.hash().tag()),
            target: step.target.clone(),
            platform: step.platform.clone(),
            args,
            cache_from,
            pull: !bases.is_empty() && bases::may_pull(engine, bases).await?,
            secrets: step.secrets.clone(),
            login,
        })
    }

    /// Pushes under the tag of the content, unless the registry has this very image there.
    async fn push(
        &self,
        cx: &Context,
        repository: &Repository<'_>,
        engine: &Engine,
        id: &str,
    ) -> Result<StoredImage, Failure> {
        let tag = self.prepared.content.hash().tag();
        let found = self.step.images(repository, Some(&tag)).await?;
        self.see_tags(repository, id, &found).await?;
        if let Some(there) = found.get(&tag).filter(|there| is_image(there, id)) {
            return Ok(there.clone());
        }
        // Fetched only now: a token must not age while an image is built.
        let login = repository.login().await?;
        let pushed = cx.cancel.unless_stopped(self.send(cx, repository, engine, &tag, &login)).await?;
        if let Err(why) = pushed {
            let conflict =
                self.step.images(repository, Some(&tag)).await.ok().and_then(|now| now.get(&tag).cloned());
            return match conflict {
                Some(there) if is_image(&there, id) => Ok(there),
                Some(there) if repository.is_immutable().await? == Some(true) => {
                    Err(error::fixed_tag(repository, &tag, &there.digest, id).detail(why.to_string()))
                }
                _ => Err(why.into()),
            };
        }
        let stored = self.read_back(cx, repository, &tag).await?;
        let name = format!("{}:{tag}", repository.uri());
        let copy = engine.image(&name).await?;
        let same = copy.is_some_and(|copy| {
            copy.id == id && copy.repository_digests.iter().any(|digest| digest.ends_with(&stored.digest))
        });
        if same || is_image(&stored, id) {
            return Ok(stored);
        }
        Err(Failure::new(format!(
            "{tag} names {} in {}, and that is not what was pushed",
            short_digest(&stored.digest),
            repository.name
        ))
        .help("somebody else pushes there too; run it again"))
    }

    async fn send(
        &self,
        cx: &Context,
        repository: &Repository<'_>,
        engine: &Engine,
        tag: &str,
        login: &Login,
    ) -> Result<(), EngineError> {
        cx.feed.progress(format!("pushing to {}", repository.uri())).await;
        let mut push = engine.push(&repository.uri(), tag, login);
        while push.next().await?.is_some() {}
        Ok(())
    }

    /// Nothing is pushed when a wanted tag can be seen to refuse it.
    async fn see_tags(
        &self,
        repository: &Repository<'_>,
        id: &str,
        found: &BTreeMap<String, StoredImage>,
    ) -> Result<(), Failure> {
        let other = found.iter().find(|(_, there)| !is_image(there, id));
        match other {
            Some((tag, there)) if repository.is_immutable().await? == Some(true) => {
                Err(error::fixed_tag(repository, tag, &there.digest, id))
            }
            _ => Ok(()),
        }
    }

    async fn read_back(
        &self,
        cx: &Context,
        repository: &Repository<'_>,
        tag: &str,
    ) -> Result<StoredImage, Failure> {
        let began = cx.world.clock.moment();
        loop {
            if let Some(image) = repository.image(tag).await? {
                return Ok(image);
            }
            if began.elapsed() >= READ_BACK {
                return Err(Failure::new(format!(
                    "the push ended, and {} has no image {tag}",
                    repository.name
                )));
            }
            cx.cancel.unless_stopped(cx.world.clock.pause(LOOK_AGAIN)).await?;
        }
    }
}

/// Puts a wanted tag on the image in the registry.
pub(super) async fn put(repository: &Repository<'_>, image: &StoredImage, tag: &str) -> Result<(), Failure> {
    let put = repository.tag(image, tag).await.map_err(|error| {
        if error.is_unclear() {
            return Failure::of(FailureClass::Unknown, format!("whether {tag} names the image is not known"))
                .detail(error.to_string())
                .help("run it again: putting a tag on the same image twice changes nothing");
        }
        error.into()
    })?;
    match put {
        Tagged::Done => Ok(()),
        Tagged::NotDone(error) => Err(error.into()),
        Tagged::Fixed => {
            let has = repository.image(tag).await?.map(|there| there.digest).unwrap_or_default();
            Err(error::fixed_tag(repository, tag, &has, &image.digest))
        }
    }
}

/// Whether an image of the registry is this one of the engine: by its configuration, which names
/// every layer, or by the manifest itself where the engine keeps those.
pub(super) fn is_image(stored: &StoredImage, id: &str) -> bool {
    let config = || {
        let manifest: serde_json::Value = serde_json::from_str(&stored.manifest).ok()?;
        Some(manifest.get("config")?.get("digest")?.as_str()? == id)
    };
    stored.digest == id || config().unwrap_or(false)
}

fn changed_since(path: &str) -> Failure {
    Failure::of(FailureClass::Refused, format!("{path} changed since the plan")).help("make a new plan")
}
