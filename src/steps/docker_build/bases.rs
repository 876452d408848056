//! Which images a build stands on right now.
//!
//! A registry's answer counts before the engine's own copy, so that all
//! machines agree. The engine is asked only when there is a base that is
//! neither pinned nor in the registry that is pushed to.

use futures_util::future::try_join_all;
use tokio::sync::OnceCell;

use crate::model::image::ImageReference;
use crate::model::units::short_digest;
use crate::steps::{Context, Failure, FailureClass};
use crate::world::docker::{Engine, EngineError};
use crate::world::registry::Repository;

/// A base image and what it is right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// As the Dockerfile has it.
    pub name: String,
    /// Digest of the manifest or index; of the engine's image for [`Origin::Engine`].
    pub digest: String,
    /// Who said so.
    pub origin: Origin,
}

/// Who knows a base image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The Dockerfile itself names the digest.
    Pinned,
    /// A registry.
    Registry,
    /// Only the engine.
    Engine,
}

/// Asks for all of them at once.
pub(super) async fn resolve(
    cx: &Context,
    repository: &Repository<'_>,
    names: &[String],
) -> Result<Vec<Base>, Failure> {
    let engine = OnceCell::new();
    cx.cancel
        .unless_stopped(try_join_all(names.iter().map(|name| one(cx, repository, &engine, name))))
        .await?
}

async fn one(
    cx: &Context,
    repository: &Repository<'_>,
    engine: &OnceCell<Engine>,
    name: &str,
) -> Result<Base, Failure> {
    let base = |digest: String, origin| Base { name: name.to_owned(), digest, origin };
    let reference = ImageReference::parse(name).map_err(|error| Failure::new(error.to_string()))?;
    if let Some(digest) = reference.digest {
        return Ok(base(digest, Origin::Pinned));
    }
    if reference.host.as_deref() == Some(repository.host.as_str()) {
        let own = repository.sibling(reference.path);
        match own.image(reference.tag.as_deref().unwrap_or("latest")).await {
            Ok(Some(image)) => return Ok(base(image.digest, Origin::Registry)),
            Ok(None) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let engine = engine.get_or_try_init(|| Engine::connect(&cx.world.host)).await?;
    let refused = match engine.registry_digest(name, None).await {
        Ok(digest) => return Ok(base(digest, Origin::Registry)),
        Err(lost @ (EngineError::Lost { .. } | EngineError::Unreachable { .. })) => return Err(lost.into()),
        Err(refused) => refused,
    };
    match engine.image(name).await? {
        Some(image) => Ok(base(image.id, Origin::Engine)),
        None => {
            Err(Failure::new(format!("the base image {name} is neither in its registry nor in the engine"))
                .detail(refused.to_string()))
        }
    }
}

/// Fails when a base is not what it was.
pub(super) fn compare(planned: &[Base], now: &[Base]) -> Result<(), Failure> {
    match planned.iter().zip(now).find(|(planned, now)| planned != now) {
        None => Ok(()),
        Some((planned, now)) => Err(Failure::of(
            FailureClass::Refused,
            format!("the base image {} moved since the plan", planned.name),
        )
        .detail(format!("{} → {}", short_digest(&planned.digest), short_digest(&now.digest)))
        .help("make a new plan")),
    }
}

/// Whether `BuildKit` may ask the registries for every base. It cannot for one that only the engine
/// has, and then prefers the engine's copies of all: those must be what was resolved.
pub(super) async fn may_pull(engine: &Engine, bases: &[Base]) -> Result<bool, Failure> {
    if bases.iter().all(|base| base.origin != Origin::Engine) {
        return Ok(true);
    }
    for base in bases.iter().filter(|base| base.origin == Origin::Registry) {
        let Some(copy) = engine.image(&base.name).await? else { continue };
        if !copy.repository_digests.iter().any(|digest| digest.ends_with(&base.digest)) {
            return Err(Failure::new(format!(
                "the engine's copy of {} is not what its registry has",
                base.name
            ))
            .help(format!("docker pull {}", base.name)));
        }
    }
    Ok(false)
}
