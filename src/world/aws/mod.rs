//! The AWS account of one environment.
//!
//! Nothing is asked before it is needed: the configuration is loaded at the
//! first call, and every client shares it. There are two sets of clients:
//! [`Cloud::reads`] retries by itself, [`Cloud::writes`] never does, because a
//! repeated effect whose first answer was lost must be settled by a query.

mod credentials;
pub mod ecs;
mod error;
mod parameter;
#[cfg(feature = "crash-points")]
mod points;
pub mod repeat;
mod transfer;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::sync::OnceCell;

pub use self::credentials::{NoCredentials, ProgramAccess};
use self::ecs::{Ecs, ServiceLooks, ServicePoller};
pub use self::error::{AwsError, AwsErrorClass};
pub use self::parameter::{Kept, Parameter};
use super::host::Host;
use crate::model::names::EnvName;

/// Lambda ends a call after 15 minutes; its answer needs some more.
const INVOCATION_TIMEOUT: Duration = Duration::from_mins(16);

/// What an environment says of where its steps act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The environment.
    pub environment: EnvName,
    /// Twelve digits.
    pub account: Option<String>,
    /// `eu-west-1`
    pub region: Option<String>,
    /// Of the AWS configuration.
    pub profile: Option<String>,
    /// ARN of a role to assume.
    pub role: Option<String>,
    /// Of every client.
    pub endpoint: Option<String>,
    /// Host that replaces the account's ECR host.
    pub registry: Option<String>,
    /// Deploying steps need a gate.
    pub protected: bool,
}

#[cfg(test)]
impl Target {
    /// An environment that names no account; with an endpoint, the sandbox's.
    pub(crate) fn for_tests(endpoint: Option<&str>) -> Self {
        Self {
            environment: EnvName::new("sandbox"),
            account: None,
            region: endpoint.map(|_| "us-east-1".to_owned()),
            profile: None,
            role: None,
            endpoint: endpoint.map(str::to_owned),
            registry: None,
            protected: false,
        }
    }
}

/// The clients of one environment.
#[derive(Debug)]
pub struct Cloud {
    target: Target,
    host: Host,
    config: OnceCell<SdkConfig>,
    reads: OnceCell<Clients>,
    writes: OnceCell<Clients>,
    transfers: OnceCell<aws_sdk_s3::Client>,
    invocations: OnceCell<aws_sdk_lambda::Client>,
    identity: OnceCell<Identity>,
    poller: ServicePoller,
    looks: ServiceLooks,
}

/// Who the credentials belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    /// The caller.
    pub arn: String,
}

/// One client a service.
#[derive(Debug)]
pub struct Clients {
    /// CloudFormation.
    pub cloudformation: aws_sdk_cloudformation::Client,
    /// CloudFront.
    pub cloudfront: aws_sdk_cloudfront::Client,
    /// ECR.
    pub ecr: aws_sdk_ecr::Client,
    /// ECS.
    pub ecs: aws_sdk_ecs::Client,
    /// Load balancers.
    pub elb: aws_sdk_elasticloadbalancingv2::Client,
    /// Lambda.
    pub lambda: aws_sdk_lambda::Client,
    /// CloudWatch Logs.
    pub logs: aws_sdk_cloudwatchlogs::Client,
    /// RDS.
    pub rds: aws_sdk_rds::Client,
    /// S3.
    pub s3: aws_sdk_s3::Client,
    /// Secrets Manager.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// Systems Manager.
    pub ssm: aws_sdk_ssm::Client,
}

/// The account is not the one that the environment names, or cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Other credentials than meant.
    #[error("these credentials belong to account {found}, and environment {environment} is account {wanted}")]
    WrongAccount {
        /// The environment.
        environment: EnvName,
        /// Its account.
        wanted: String,
        /// The account of the credentials.
        found: String,
        /// The caller.
        arn: String,
    },
    /// STS did not say.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl Cloud {
    /// An environment's account; nothing is asked yet.
    #[must_use]
    pub fn new(mut target: Target, host: Host) -> Self {
        if !host.trusts_the_checkout() {
            // The account's own gets a password.
            target.registry = None;
        }
        Self {
            target,
            host,
            config: OnceCell::new(),
            reads: OnceCell::new(),
            writes: OnceCell::new(),
            transfers: OnceCell::new(),
            invocations: OnceCell::new(),
            identity: OnceCell::new(),
            poller: ServicePoller::default(),
            looks: ServiceLooks::default(),
        }
    }

    /// What the environment says.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Clients for calls that change nothing: they retry by themselves.
    pub async fn reads(&self) -> &Clients {
        // Boxed, since every step's future would else have room for loading the configuration.
        self.reads.get_or_init(|| Box::pin(self.clients(RetryConfig::standard().with_max_attempts(4)))).await
    }

    /// Clients for calls that change something: they never retry by themselves.
    pub async fn writes(&self) -> &Clients {
        self.writes.get_or_init(|| Box::pin(self.clients(RetryConfig::disabled()))).await
    }

    /// S3 for objects and parts of objects, sent with their SHA-256: it has time for a body, and like
    /// [`Cloud::writes`] never retries by itself.
    pub async fn transfers(&self) -> &aws_sdk_s3::Client {
        self.transfers.get_or_init(|| Box::pin(async { transfer::client(&self.writes().await.s3) })).await
    }

    /// Lambda for calls that answer only when a function has: like [`Cloud::writes`] it never retries
    /// by itself.
    pub async fn invocations(&self) -> &aws_sdk_lambda::Client {
        self.invocations
            .get_or_init(|| {
                Box::pin(async {
                    let config = self.writes().await.lambda.config();
                    let timeouts = config
                        .timeout_config()
                        .map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
                    let timeouts = timeouts.operation_attempt_timeout(INVOCATION_TIMEOUT).build();
                    aws_sdk_lambda::Client::from_conf(config.to_builder().timeout_config(timeouts).build())
                })
            })
            .await
    }

    /// ECS, with the whole of every answer.
    pub async fn ecs(&self) -> Ecs<'_> {
        Ecs::new(&self.reads().await.ecs, &self.writes().await.ecs, &self.looks)
    }

    /// What all steps that wait for services of this account share.
    #[must_use]
    pub fn poller(&self) -> &ServicePoller {
        &self.poller
    }

    /// Asks STS once who the credentials belong to, and refuses another account than the environment's.
    pub async fn verify(&self) -> Result<&Identity, IdentityError> {
        self.identity
            .get_or_try_init(|| async {
                let identity = self.ask_identity().await?;
                match &self.target.account {
                    Some(wanted) if *wanted != identity.account => Err(IdentityError::WrongAccount {
                        environment: self.target.environment.clone(),
                        wanted: wanted.clone(),
                        found: identity.account,
                        arn: identity.arn,
                    }),
                    _ => Ok(identity),
                }
            })
            .await
    }

    async fn ask_identity(&self) -> Result<Identity, AwsError> {
        let sts = aws_sdk_sts::Client::new(self.config().await);
        let said = sts
            .get_caller_identity()
            .send()
            .await
            .map_err(|error| self.at_endpoint(AwsError::new("STS", "GetCallerIdentity", &error)))?;
        Ok(Identity {
            account: said.account().unwrap_or_default().to_owned(),
            arn: said.arn().unwrap_or_default().to_owned(),
        })
    }

    /// The system's words for a failed connection do not say where to.
    fn at_endpoint(&self, mut error: AwsError) -> AwsError {
        let unanswered = matches!(error.class, AwsErrorClass::NotSent | AwsErrorClass::Unclear);
        if let Some(endpoint) = self.target.endpoint.as_ref().filter(|_| unanswered && error.code.is_none()) {
            error.message = format!("{} at {endpoint}", error.message);
        }
        error
    }

    /// The shared configuration.
    pub async fn config(&self) -> &SdkConfig {
        self.config.get_or_init(|| self.load()).await
    }

    async fn load(&self) -> SdkConfig {
        let client = aws_smithy_http_client::Builder::new()
            .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
                aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
            ))
            .build_https();
        #[cfg(feature = "crash-points")]
        let client = points::watched(client);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(Duration::from_mins(1))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(client)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(4));
        if let Some(region) = &self.target.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.target.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        // A profile is how a person signs in; CI's keys and web identities come from the surroundings.
        if let Some(profile) = self.target.profile.as_ref().filter(|_| !self.surroundings_have_credentials())
        {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        match &self.target.role {
            None => config,
            Some(role) => {
                let assumed = aws_config::sts::AssumeRoleProvider::builder(role)
                    .session_name("flow")
                    .configure(&config)
                    .build()
                    .await;
                config
                    .into_builder()
                    .credentials_provider(aws_sdk_sts::config::SharedCredentialsProvider::new(assumed))
                    .build()
            }
        }
    }

    fn surroundings_have_credentials(&self) -> bool {
        ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
            .iter()
            .any(|name| self.host.var(name).is_some_and(|value| !value.is_empty()))
    }

    async fn clients(&self, retry: RetryConfig) -> Clients {
        let config = self.config().await.to_builder().retry_config(retry).build();
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            // Other endpoints than AWS's own rarely answer on bucket host names.
            .force_path_style(self.target.endpoint.is_some())
            .build();
        Clients {
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            cloudfront: aws_sdk_cloudfront::Client::new(&config),
            ecr: aws_sdk_ecr::Client::new(&config),
            ecs: aws_sdk_ecs::Client::new(&config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            rds: aws_sdk_rds::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            secrets: aws_sdk_secretsmanager::Client::new(&config),
            ssm: aws_sdk_ssm::Client::new(&config),
        }
    }
}
