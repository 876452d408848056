//! How a repository is set up.

use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::types::{
    ImageScanningConfiguration, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType,
};

use super::Repository;
use crate::world::aws::{AwsError, AwsErrorClass};

/// How a repository is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositorySettings {
    /// As ECR names it, whatever the environment puts in place of the host.
    pub uri: String,
    /// Its ARN.
    pub arn: String,
    /// `MUTABLE`, `IMMUTABLE`, or one of these with exclusions.
    pub mutability: String,
    /// Patterns of the tags that are excluded from it.
    pub exclusions: Vec<String>,
    /// Every image that is pushed is scanned.
    pub scan_on_push: bool,
    /// JSON; absent when images stay for ever.
    pub lifecycle: Option<String>,
}

fn mutability(immutable: bool) -> ImageTagMutability {
    if immutable { ImageTagMutability::Immutable } else { ImageTagMutability::Mutable }
}

impl Repository<'_> {
    /// How it is set up; `None` when there is no such repository.
    pub async fn settings(&self) -> Result<Option<RepositorySettings>, AwsError> {
        let reads = &self.cloud.reads().await.ecr;
        let sent = reads.describe_repositories().repository_names(&self.name).send().await;
        let answer = match sent.map_err(|error| AwsError::new("ECR", "DescribeRepositories", &error)) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let Some(found) = answer.repositories().first() else { return Ok(None) };
        let sent = reads.get_lifecycle_policy().repository_name(&self.name).send().await;
        let lifecycle = match sent.map_err(|error| AwsError::new("ECR", "GetLifecyclePolicy", &error)) {
            Ok(policy) => policy.lifecycle_policy_text().map(str::to_owned),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(Some(RepositorySettings {
            uri: found.repository_uri().unwrap_or_default().to_owned(),
            arn: found.repository_arn().unwrap_or_default().to_owned(),
            mutability: found.image_tag_mutability().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            exclusions: found
                .image_tag_mutability_exclusion_filters()
                .iter()
                .map(|one| one.filter().to_owned())
                .collect(),
            scan_on_push: found
                .image_scanning_configuration()
                .is_some_and(ImageScanningConfiguration::scan_on_push),
            lifecycle,
        }))
    }

    /// Creates it. One that somebody else created meanwhile is fine: its settings are put right next.
    pub async fn create(&self, immutable: bool, scan_on_push: bool) -> Result<(), AwsError> {
        let sent = self
            .cloud
            .writes()
            .await
            .ecr
            .create_repository()
            .repository_name(&self.name)
            .image_tag_mutability(mutability(immutable))
            .image_scanning_configuration(
                ImageScanningConfiguration::builder().scan_on_push(scan_on_push).build(),
            )
            .send()
            .await;
        let Err(error) = sent else { return Ok(()) };
        if error.as_service_error().and_then(ProvideErrorMetadata::code)
            == Some("RepositoryAlreadyExistsException")
        {
            return Ok(());
        }
        let error = AwsError::new("ECR", "CreateRepository", &error);
        if error.is_unclear() && matches!(self.settings().await, Ok(Some(_))) {
            return Ok(());
        }
        Err(error)
    }

    /// Lets tags move or not: `MUTABLE` and the like, with the patterns of the tags that are excluded.
    pub async fn set_mutability(&self, mutability: &str, exclusions: &[String]) -> Result<(), AwsError> {
        let call = self.cloud.writes().await.ecr.put_image_tag_mutability().repository_name(&self.name);
        let mut call = call.image_tag_mutability(ImageTagMutability::from(mutability));
        for pattern in exclusions {
            let filter = ImageTagMutabilityExclusionFilter::builder()
                .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
                .filter(pattern)
                .build()
                .map_err(|error| AwsError {
                    service: "ECR",
                    operation: "PutImageTagMutability",
                    class: AwsErrorClass::NotSent,
                    code: None,
                    message: error.to_string(),
                    request_id: None,
                })?;
            call = call.image_tag_mutability_exclusion_filters(filter);
        }
        call.send().await.map(drop).map_err(|error| AwsError::new("ECR", "PutImageTagMutability", &error))
    }

    /// Scans every image that is pushed or not.
    pub async fn set_scan_on_push(&self, scan_on_push: bool) -> Result<(), AwsError> {
        let scanning = ImageScanningConfiguration::builder().scan_on_push(scan_on_push).build();
        let call =
            self.cloud.writes().await.ecr.put_image_scanning_configuration().repository_name(&self.name);
        let sent = call.image_scanning_configuration(scanning).send().await;
        sent.map(drop).map_err(|error| AwsError::new("ECR", "PutImageScanningConfiguration", &error))
    }

    /// Says which images ECR drops by itself: JSON as ECR takes it.
    pub async fn set_lifecycle(&self, policy: &str) -> Result<(), AwsError> {
        let call = self.cloud.writes().await.ecr.put_lifecycle_policy().repository_name(&self.name);
        let sent = call.lifecycle_policy_text(policy).send().await;
        sent.map(drop).map_err(|error| AwsError::new("ECR", "PutLifecyclePolicy", &error))
    }

    /// Lets images stay for ever. A policy that is not there is none.
    pub async fn drop_lifecycle(&self) -> Result<(), AwsError> {
        let call = self.cloud.writes().await.ecr.delete_lifecycle_policy().repository_name(&self.name);
        let sent = call.send().await;
        match sent.map_err(|error| AwsError::new("ECR", "DeleteLifecyclePolicy", &error)) {
            Err(error) if error.is_not_found() => Ok(()),
            sent => sent.map(drop),
        }
    }
}
