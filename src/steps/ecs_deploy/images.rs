//! Whether the images of a definition can still be pulled: asked before a
//! service is moved to a definition that was registered long ago.

use crate::model::image::ImageReference;
use crate::model::units::short_digest;
use crate::steps::ecs::definition::Definition;
use crate::steps::{Context, Failure};
use crate::world::aws::AwsErrorClass;
use crate::world::registry::{self, Repository};

/// What is known of a definition's images.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// These are not in the registry any more, in words.
    pub(super) gone: Vec<String>,
    /// These could not be asked for, and why.
    pub(super) unknown: Vec<String>,
}

/// Asks the account's registry for the images that should be in it. Those of other registries are
/// left alone: flow has no way in there.
pub(super) async fn look(cx: &Context, definition: &Definition) -> Result<Images, Failure> {
    let mut images = Images::default();
    let mut host = None;
    for container in definition.container_names() {
        let Some(reference) =
            definition.image(&container).and_then(|image| ImageReference::parse(image).ok())
        else {
            continue;
        };
        if host.is_none() {
            host = Some(registry::host(&cx.cloud).await?);
        }
        let Some(own) = host.as_ref().filter(|own| reference.host.as_ref() == Some(*own)) else { continue };
        let repository = Repository::new(&cx.cloud, own.clone(), reference.path);
        let (found, called) = match (&reference.digest, reference.tag.as_deref()) {
            (Some(digest), _) => (repository.by_digest(digest).await, short_digest(digest)),
            (None, tag) => {
                let tag = tag.unwrap_or("latest");
                (repository.image(tag).await, format!("image {tag}"))
            }
        };
        match found {
            Ok(Some(_)) => {}
            Ok(None) => images.gone.push(format!("{called} is no longer in {}", repository.name)),
            Err(error) if error.is_not_found() => {
                images.gone.push(format!("{called} is gone with its repository {}", repository.name));
            }
            Err(error) if error.class == AwsErrorClass::Denied => {
                images
                    .unknown
                    .push(format!("whether {} still has {called} is not known: {error}", repository.name));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(images)
}
