//! `docker-build`: an image in a registry, built only when what it is made of changed.
//!
//! The content hash ([`content`]) is also a tag of the image. When the registry
//! has that tag and the store's record ([`record`]) names its digest, nothing
//! is built and no engine is needed; the wanted tags are put on that digest in
//! the registry. Everything else is built on the engine, pushed, and believed
//! only once the registry said its digest ([`publish`]).

mod archive;
mod back;
mod bases;
mod content;
mod context;
mod dockerfile;
mod error;
mod ignore;
mod plan;
mod publish;
mod reconcile;
mod record;
#[cfg(test)]
mod sandbox_tests;
mod scan;

use std::collections::BTreeMap;

use self::plan::{Prepared, own_repository};
use self::record::BuildRecord;
use self::scan::Severity;
use crate::model::image::{ImageReference, is_tag};
use crate::model::kind::{KindSpec, Nature, OutputNames, Rule};
use crate::model::secret::Secret;
use crate::model::settings::{Ready, Setting, Shape, Unready, known};
use crate::model::units::show_size;
use crate::model::value::Value;
use crate::steps::{Attributes, Back, Kind, Step};

/// What ECS runs on unless it is told otherwise.
const PLATFORM: &str = "linux/amd64";

/// Bytes; the limit of `BuildKit`'s own clients.
const MOST_SECRET: usize = 500 * 1024;

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "docker-build",
        about: "Builds an image and pushes it to ECR, unless the registry has one of the same content.",
        settings: &[
            Setting::new("context", Shape::Path { reads: true }, "Folder that the build sees.").required(),
            Setting::new(
                "dockerfile",
                Shape::Path { reads: true },
                "The Dockerfile; without it CONTEXT/Dockerfile.",
            ),
            Setting::new("target", Shape::Text, "Stage of the Dockerfile to build; without it the last."),
            Setting::new(
                "arg",
                Shape::Map,
                "Build arguments. They can be read from the image: no secrets here.",
            ),
            Setting::new(
                "secret",
                Shape::Map,
                "Secrets by id, for RUN --mount=type=secret; no layer and no hash holds them.",
            )
            .secret(),
            Setting::new("platform", Shape::Texts, "Platform to build for; without it linux/amd64."),
            Setting::new("repository", Shape::Text, "Repository in the account's registry.")
                .required()
                .target(),
            Setting::new("tag", Shape::Texts, "Tags that the image gets besides that of its content."),
            Setting::new("existing", Shape::Bool, "Take the image that the tag names; never build."),
            Setting::new(
                "cache-from",
                Shape::Texts,
                "Images whose layers may be taken; :TAG is one of this repository.",
            ),
            Setting::new(
                "cache-to",
                Shape::Choice(&["inline"]),
                "inline: the image tells later builds what its layers are made of.",
            ),
            Setting::new(
                "scan",
                Shape::Choice(&["critical", "high"]),
                "Wait for what ECR finds in the image, and fail from this severity on.",
            ),
        ],
        rules: &[Rule::Needs("existing", "tag")],
        outputs: OutputNames::Fixed(&["uri", "digest", "tag", "hash"]),
        nature: Nature::Deploying,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::To(back::back),
};

/// The settings.
#[derive(Clone, Debug)]
struct DockerBuild {
    context: String,
    dockerfile: Option<String>,
    target: Option<String>,
    args: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
    platform: String,
    repository: String,
    tags: Vec<String>,
    existing: bool,
    cache_from: Vec<String>,
    inline_cache: bool,
    scan: Option<Severity>,
}

fn make(settings: &Ready, _: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let invalid = |setting, why: String| Unready::Invalid { setting, why };
    let mut args = BTreeMap::new();
    for (name, value) in settings.map("arg") {
        let value = known("arg", value)?.as_text().ok_or_else(|| {
            invalid("arg", format!("{name} is a secret, and build arguments can be read from the image"))
        })?;
        args.insert(name.clone(), value);
    }
    let mut platforms = settings.texts("platform")?;
    if platforms.len() > 1 {
        return Err(invalid("platform", "the engine builds for one platform at a time".to_owned()));
    }
    let tags = settings.texts("tag")?;
    if let Some(wrong) = tags.iter().find(|tag| !is_tag(tag)) {
        return Err(invalid("tag", format!("\"{wrong}\" is no tag; it takes letters, digits, _, . and -")));
    }
    let cache_from = settings.texts("cache-from")?;
    if let Some(wrong) = cache_from.iter().find(|image| !is_cache(image)) {
        return Err(invalid(
            "cache-from",
            format!("\"{wrong}\" is no image; the engine takes layers from images only"),
        ));
    }
    let existing = settings.flag("existing")?;
    if existing && tags.len() != 1 {
        return Err(invalid("tag", "existing takes the image of exactly one tag".to_owned()));
    }
    Ok(Box::new(DockerBuild {
        context: settings.text("context")?,
        dockerfile: settings.opt_text("dockerfile")?,
        target: settings.opt_text("target")?,
        args,
        secrets: secrets(settings)?,
        platform: platforms.pop().unwrap_or_else(|| PLATFORM.to_owned()),
        repository: settings.text("repository")?,
        tags,
        existing,
        cache_from,
        inline_cache: settings.opt_text("cache-to")?.is_some(),
        scan: settings.opt_text("scan")?.as_deref().and_then(Severity::parse),
    }))
}

/// An image as people write it, or `:TAG` for one of the repository that is pushed to: its registry
/// is another one in each account, and a flow file need not know it.
fn is_cache(text: &str) -> bool {
    text.strip_prefix(':').map_or_else(|| ImageReference::parse(text).is_ok(), is_tag)
}

fn secrets(settings: &Ready) -> Result<BTreeMap<String, Secret>, Unready> {
    let mut secrets = BTreeMap::new();
    for (id, value) in settings.map("secret") {
        let secret = match known("secret", value)? {
            Value::Secret(secret) => secret.clone(),
            other => Secret::new(other.as_text().unwrap_or_default()),
        };
        if secret.expose().len() > MOST_SECRET {
            let why =
                format!("{id} is larger than the {} that BuildKit takes", show_size(MOST_SECRET as u64));
            return Err(Unready::Invalid { setting: "secret", why });
        }
        secrets.insert(id.clone(), secret);
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::is_cache;

    #[test]
    fn layers_come_from_images_of_any_registry_or_by_tag_from_the_own_repository() {
        for image in [":cache", "alpine", "111111111111.dkr.ecr.eu-west-1.amazonaws.com/shop-api:cache"] {
            assert!(is_cache(image), "{image}");
        }
        for other in [":", ":a:b", ":-x", "", "type=registry,ref=alpine", "type=local,src=/tmp"] {
            assert!(!is_cache(other), "{other}");
        }
    }
}
