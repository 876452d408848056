//! Repositories of container images in ECR.
//!
//! Everything that is said of an image comes from here: digests are read back
//! from the registry, never taken from what a client printed. A missing image
//! is an answer, a missing repository is an error.

mod settings;

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::types::ImageIdentifier;
use base64::Engine as _;

pub use self::settings::RepositorySettings;
use super::aws::{AwsError, AwsErrorClass, Cloud, IdentityError};
use crate::model::secret::Secret;

/// Every form of manifest that a build can leave behind; ECR answers only with those that are asked for.
const MANIFESTS: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
];

/// The most images that one `BatchGetImage` is about.
const MOST_IDS: usize = 100;

/// One repository of the account's registry.
#[derive(Clone, Debug)]
pub struct Repository<'a> {
    cloud: &'a Cloud,
    /// `111111111111.dkr.ecr.eu-west-1.amazonaws.com`, or what the environment puts in its place.
    pub host: String,
    /// `shop-api`
    pub name: String,
}

/// An image as the registry holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// The manifest as it was pushed.
    pub manifest: String,
    /// Its media type.
    pub media_type: Option<String>,
}

/// What one `BatchGetImage` said.
#[derive(Debug, Default)]
struct Answer {
    /// Each with the tag that came with it.
    images: Vec<(String, StoredImage)>,
    missing: BTreeSet<String>,
}

impl Answer {
    /// Which tag names which image; `None` when the answer does not tell. Registries that stand in
    /// for ECR answer with another tag of the image than the one that was asked for.
    fn by_tag(&self, asked: &[&str]) -> Option<BTreeMap<String, StoredImage>> {
        let there = || asked.iter().filter(|tag| !self.missing.contains(**tag));
        let Some((_, first)) = self.images.first() else {
            return (there().count() == 0).then(BTreeMap::new);
        };
        if self.images.iter().all(|(_, image)| image.digest == first.digest) {
            return Some(there().map(|tag| ((*tag).to_owned(), first.clone())).collect());
        }
        let named: BTreeMap<String, StoredImage> = self.images.iter().cloned().collect();
        let clear = named.len() == self.images.len()
            && named.len() == there().count()
            && there().all(|tag| named.contains_key(*tag));
        clear.then_some(named)
    }
}

/// What became of a tag that was put on an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tagged {
    /// It names the image now.
    Done,
    /// The repository does not let a tag move, and it names another image.
    Fixed,
    /// The answer was lost, and the tag does not name it; why.
    NotDone(AwsError),
}

/// Credentials for push and pull, good for twelve hours.
#[derive(Clone, Debug)]
pub struct Login {
    /// The registry they are for.
    pub host: String,
    /// `AWS`
    pub username: String,
    /// The token.
    pub password: Secret,
}

/// What ECR found in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Still looking, or nothing is known yet.
    Pending,
    /// Findings by severity: `CRITICAL`, `HIGH`, …
    Findings(BTreeMap<String, i32>),
    /// It could not look, and why.
    Failed(String),
}

/// The host of the account's registry.
pub async fn host(cloud: &Cloud) -> Result<String, IdentityError> {
    if let Some(host) = &cloud.target().registry {
        return Ok(host.clone());
    }
    let account = cloud.verify().await?.account.clone();
    let region = cloud.config().await.region().map(|region| region.as_ref().to_owned());
    // The domain of the China regions differs; ECR has no other.
    let region = region.unwrap_or_default();
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    Ok(format!("{account}.dkr.ecr.{region}.{domain}"))
}

impl<'a> Repository<'a> {
    /// A repository of the account's registry; nothing is asked.
    #[must_use]
    pub fn new(cloud: &'a Cloud, host: String, name: String) -> Self {
        Self { cloud, host, name }
    }

    /// Another repository of the same registry.
    #[must_use]
    pub fn sibling(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    /// `HOST/NAME`
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{}/{}", self.host, self.name)
    }

    /// The images that these tags name. Tags that name none are left out.
    pub async fn images<'t>(
        &self,
        tags: impl IntoIterator<Item = &'t str>,
    ) -> Result<BTreeMap<String, StoredImage>, AwsError> {
        let tags: BTreeSet<&str> = tags.into_iter().collect();
        let tags: Vec<&str> = tags.into_iter().collect();
        let mut found = BTreeMap::new();
        for tags in tags.chunks(MOST_IDS) {
            let answer = self.batch_get(tags).await?;
            if let Some(named) = answer.by_tag(tags) {
                found.extend(named);
                continue;
            }
            for tag in tags.iter().filter(|tag| !answer.missing.contains(**tag)) {
                if let Some(image) = self.image(tag).await? {
                    found.insert((*tag).to_owned(), image);
                }
            }
        }
        Ok(found)
    }

    /// The image that one tag names.
    pub async fn image(&self, tag: &str) -> Result<Option<StoredImage>, AwsError> {
        Ok(self.batch_get(&[tag]).await?.images.pop().map(|(_, image)| image))
    }

    /// The image of that digest.
    pub async fn by_digest(&self, digest: &str) -> Result<Option<StoredImage>, AwsError> {
        let id = ImageIdentifier::builder().image_digest(digest).build();
        Ok(self.ask(vec![id]).await?.images.pop().map(|(_, image)| image))
    }

    /// The image of that digest and the images that these tags name, in one question where the answer
    /// can be told apart.
    pub async fn by_digest_and_tags(
        &self,
        digest: &str,
        tags: &[String],
    ) -> Result<(Option<StoredImage>, BTreeMap<String, StoredImage>), AwsError> {
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
        if tags.len() < MOST_IDS {
            let id = ImageIdentifier::builder().image_digest(digest).build();
            let ids = tags.iter().map(|tag| ImageIdentifier::builder().image_tag(*tag).build());
            let answer = self.ask(std::iter::once(id).chain(ids).collect()).await?;
            let image = answer.images.iter().find(|(_, image)| image.digest == digest);
            let image = image.map(|(_, image)| image.clone());
            // All of them are that image, or none of the tags is there: nothing has to be told apart.
            if answer.images.iter().all(|(_, image)| image.digest == digest) {
                let there = tags.iter().filter(|tag| !answer.missing.contains(**tag));
                let named = image
                    .iter()
                    .flat_map(|image| there.clone().map(|tag| ((*tag).to_owned(), image.clone())));
                return Ok((image.clone(), named.collect()));
            }
        }
        Ok((self.by_digest(digest).await?, self.images(tags).await?))
    }

    async fn batch_get(&self, tags: &[&str]) -> Result<Answer, AwsError> {
        self.ask(tags.iter().map(|tag| ImageIdentifier::builder().image_tag(*tag).build()).collect()).await
    }

    async fn ask(&self, ids: Vec<ImageIdentifier>) -> Result<Answer, AwsError> {
        let mut call = self.cloud.reads().await.ecr.batch_get_image().repository_name(&self.name);
        for media_type in MANIFESTS {
            call = call.accepted_media_types(media_type);
        }
        call = call.set_image_ids(Some(ids));
        let said = call.send().await.map_err(|error| AwsError::new("ECR", "BatchGetImage", &error))?;
        let mut answer = Answer::default();
        for image in said.images() {
            let id = image.image_id();
            if let (Some(digest), Some(manifest)) =
                (id.and_then(|id| id.image_digest()), image.image_manifest())
            {
                let stored = StoredImage {
                    digest: digest.to_owned(),
                    manifest: manifest.to_owned(),
                    media_type: image.image_manifest_media_type().map(str::to_owned),
                };
                let tag = id.and_then(|id| id.image_tag()).unwrap_or_default();
                answer.images.push((tag.to_owned(), stored));
            }
        }
        // A missing image is a row here, not an error of the call.
        for failure in said.failures() {
            let code = failure.failure_code().map(|code| code.as_str().to_owned()).unwrap_or_default();
            match failure.image_id().and_then(|id| id.image_tag()) {
                Some(tag) if code == "ImageNotFound" => {
                    answer.missing.insert(tag.to_owned());
                }
                // It was asked for by its digest.
                None if code == "ImageNotFound" => {}
                _ => {
                    return Err(AwsError {
                        service: "ECR",
                        operation: "BatchGetImage",
                        class: AwsErrorClass::Refused,
                        code: Some(code),
                        message: failure.failure_reason().unwrap_or_default().to_owned(),
                        request_id: None,
                    });
                }
            }
        }
        Ok(answer)
    }

    /// Puts a tag on an image that is in the repository already. An answer that was lost is
    /// settled by asking what the tag names; the error is unclear only when that cannot be asked.
    pub async fn tag(&self, image: &StoredImage, tag: &str) -> Result<Tagged, AwsError> {
        let sent = self
            .cloud
            .writes()
            .await
            .ecr
            .put_image()
            .repository_name(&self.name)
            .image_manifest(&image.manifest)
            .set_image_manifest_media_type(image.media_type.clone())
            .image_tag(tag)
            .send()
            .await;
        let Err(error) = sent else { return Ok(Tagged::Done) };
        match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("ImageAlreadyExistsException") => return Ok(Tagged::Done),
            Some("ImageTagAlreadyExistsException") => {
                let now = self.image(tag).await?;
                let same = now.is_some_and(|now| now.digest == image.digest);
                return Ok(if same { Tagged::Done } else { Tagged::Fixed });
            }
            _ => {}
        }
        let error = AwsError::new("ECR", "PutImage", &error);
        if !error.is_unclear() {
            return Err(error);
        }
        match self.image(tag).await {
            Ok(Some(now)) if now.digest == image.digest => Ok(Tagged::Done),
            Ok(_) => Ok(Tagged::NotDone(error)),
            Err(_) => Err(error),
        }
    }

    /// Whether a tag that is taken can be put on another image; `None` when the caller may not ask.
    pub async fn is_immutable(&self) -> Result<Option<bool>, AwsError> {
        let answer = self
            .cloud
            .reads()
            .await
            .ecr
            .describe_repositories()
            .repository_names(&self.name)
            .send()
            .await
            .map_err(|error| AwsError::new("ECR", "DescribeRepositories", &error));
        match answer {
            Err(error) if error.class == AwsErrorClass::Denied => Ok(None),
            Err(error) => Err(error),
            // Repositories with exclusions let some tags move; whether this one is told by the put.
            Ok(answer) => Ok(answer
                .repositories()
                .first()
                .and_then(|found| found.image_tag_mutability().map(|kind| kind.as_str() == "IMMUTABLE"))),
        }
    }

    /// Fresh credentials for push and pull. They are never written anywhere.
    pub async fn login(&self) -> Result<Login, AwsError> {
        let strange = |message: &str| AwsError {
            service: "ECR",
            operation: "GetAuthorizationToken",
            class: AwsErrorClass::Refused,
            code: None,
            message: message.to_owned(),
            request_id: None,
        };
        let answer = self
            .cloud
            .reads()
            .await
            .ecr
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| AwsError::new("ECR", "GetAuthorizationToken", &error))?;
        let token = answer
            .authorization_data()
            .first()
            .and_then(|data| data.authorization_token())
            .ok_or_else(|| strange("the answer holds no token"))?;
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| strange("the token cannot be decoded"))?;
        let (username, password) =
            decoded.split_once(':').ok_or_else(|| strange("the token holds no user and password"))?;
        Ok(Login { host: self.host.clone(), username: username.to_owned(), password: Secret::new(password) })
    }

    /// Asks ECR to look at an image; one that was looked at today already is left alone.
    pub async fn start_scan(&self, digest: &str) -> Result<(), AwsError> {
        let id = ImageIdentifier::builder().image_digest(digest).build();
        let sent = self
            .cloud
            .writes()
            .await
            .ecr
            .start_image_scan()
            .repository_name(&self.name)
            .image_id(id)
            .send()
            .await;
        let Err(error) = sent else { return Ok(()) };
        // ECR scans an image once a day, and by itself where scan on push or enhanced scanning is on.
        match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("LimitExceededException") => Ok(()),
            _ => Err(AwsError::new("ECR", "StartImageScan", &error)),
        }
    }

    /// What ECR found in an image; `None` when it never looked.
    pub async fn scan(&self, digest: &str) -> Result<Option<Scan>, AwsError> {
        let id = ImageIdentifier::builder().image_digest(digest).build();
        let sent = self
            .cloud
            .reads()
            .await
            .ecr
            .describe_image_scan_findings()
            .repository_name(&self.name)
            .image_id(id)
            .max_results(1)
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                return match error.as_service_error().and_then(ProvideErrorMetadata::code) {
                    Some("ScanNotFoundException") => Ok(None),
                    _ => Err(AwsError::new("ECR", "DescribeImageScanFindings", &error)),
                };
            }
        };
        let status = answer.image_scan_status();
        let state = status.and_then(|status| status.status()).map(|state| state.as_str().to_owned());
        let why = status.and_then(|status| status.description()).unwrap_or_default();
        Ok(Some(match state.as_deref() {
            Some("COMPLETE" | "ACTIVE") => Scan::Findings(
                answer
                    .image_scan_findings()
                    .and_then(|findings| findings.finding_severity_counts())
                    .into_iter()
                    .flatten()
                    .map(|(severity, count)| (severity.as_str().to_owned(), *count))
                    .collect(),
            ),
            Some(
                state
                @ ("FAILED" | "UNSUPPORTED_IMAGE" | "FINDINGS_UNAVAILABLE" | "SCAN_ELIGIBILITY_EXPIRED"),
            ) => Scan::Failed(if why.is_empty() { state.to_owned() } else { format!("{state}: {why}") }),
            _ => Scan::Pending,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_told_apart_or_asked_one_by_one() {
        let image = |digest: &str| StoredImage {
            digest: digest.to_owned(),
            manifest: String::new(),
            media_type: None,
        };
        for (images, missing, wanted) in [
            (vec![], vec!["a", "b"], Some(vec![])),
            (vec![], vec!["a"], None),
            (vec![("a", "1"), ("b", "2")], vec![], Some(vec![("a", "1"), ("b", "2")])),
            (vec![("b", "1"), ("b", "1")], vec![], Some(vec![("a", "1"), ("b", "1")])),
            (vec![("z", "1")], vec!["b"], Some(vec![("a", "1")])),
            (vec![("b", "1"), ("b", "2")], vec![], None),
            (vec![("a", "1"), ("z", "2")], vec![], None),
        ] {
            let answer = Answer {
                images: images.iter().map(|(tag, digest)| ((*tag).to_owned(), image(digest))).collect(),
                missing: missing.iter().map(|tag| (*tag).to_owned()).collect(),
            };
            let named = answer.by_tag(&["a", "b"]);
            let named: Option<Vec<(&str, &str)>> = named.as_ref().map(|named| {
                named.iter().map(|(tag, image)| (tag.as_str(), image.digest.as_str())).collect()
            });
            assert_eq!(named, wanted, "{images:?} {missing:?}");
        }
    }
}
