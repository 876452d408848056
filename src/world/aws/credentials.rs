//! Region, endpoint and credentials for programs that talk to AWS themselves.

use aws_credential_types::provider::ProvideCredentials as _;

use super::Cloud;
use crate::model::names::EnvName;
use crate::model::secret::Secret;

/// What a program needs to act in an environment's account.
#[derive(Clone, Debug)]
pub struct ProgramAccess {
    /// Variables in the open: region and endpoint.
    pub open: Vec<(&'static str, String)>,
    /// Variables that must be masked.
    pub secret: Vec<(&'static str, Secret)>,
}

/// There is nothing to sign requests with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are no AWS credentials for environment {environment}: {why}")]
pub struct NoCredentials {
    /// The environment.
    pub environment: EnvName,
    /// Why.
    pub why: String,
}

impl Cloud {
    /// Variables for a program. The credentials are fetched now, so that they last as long as they can.
    pub async fn program_access(&self) -> Result<ProgramAccess, NoCredentials> {
        let none = |why: String| NoCredentials { environment: self.target().environment.clone(), why };
        let config = self.config().await;
        let provider = config.credentials_provider().ok_or_else(|| none("none are configured".to_owned()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| {
            none(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        let mut open = Vec::new();
        if let Some(region) = config.region() {
            open.push(("AWS_REGION", region.to_string()));
            open.push(("AWS_DEFAULT_REGION", region.to_string()));
        }
        if let Some(endpoint) = config.endpoint_url() {
            open.push(("AWS_ENDPOINT_URL", endpoint.to_owned()));
        }
        open.push(("AWS_ACCESS_KEY_ID", credentials.access_key_id().to_owned()));
        let mut secret = vec![("AWS_SECRET_ACCESS_KEY", Secret::new(credentials.secret_access_key()))];
        if let Some(token) = credentials.session_token() {
            secret.push(("AWS_SESSION_TOKEN", Secret::new(token)));
        }
        Ok(ProgramAccess { open, secret })
    }
}
