//! Reads who may approve: from the flow files, and from the environment's
//! record in its own account, which stands above them.
//!
//! The record is the SSM parameter `/flow/PROJECT/ENV`: a text and the signature
//! over it. Who can write it is for the account to say; the signature shows
//! which approver did, and that nothing was changed since.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::approvals::Signed;
use crate::model::names::EnvName;
use crate::model::policy::{Loosened, Person, Policy, Source, parse_moment};
use crate::model::project::{Environment, Project, Store};
use crate::world::aws::{AwsError, Cloud};
use crate::world::files::digest;
use crate::world::ssh::{self, Key};

/// Version of the record.
pub const VERSION: u32 = 1;

/// What a record says that it is, so that no other signed text is taken for one.
pub const TYPE: &str = "flow-approvers";

/// The record of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The account it lies in.
    pub account: String,
    /// Who may approve.
    pub policy: Policy,
    /// Digest of the record before; `null` for the first.
    pub previous: Option<String>,
    /// The project.
    pub project: String,
    /// When it was written.
    pub set: Timestamp,
    /// [`TYPE`]
    #[serde(rename = "type")]
    pub sort: String,
    /// [`VERSION`]
    pub version: u32,
}

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The record.
    pub record: Record,
    /// Digest of its text.
    pub digest: String,
    /// The key that signed it.
    pub key: String,
    /// Its fingerprint.
    pub fingerprint: String,
}

/// Why it is not known who may approve.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A key in the files.
    #[error("environment {environment}: the key of approver {name} cannot be read: {why}")]
    Key {
        /// Where.
        environment: EnvName,
        /// Whose.
        name: String,
        /// Why.
        why: String,
    },
    /// A date in the files.
    #[error("environment {environment}: approver {name} is valid before {text}, which is no date")]
    ValidBefore {
        /// Where.
        environment: EnvName,
        /// Whose.
        name: String,
        /// As written.
        text: String,
    },
    /// The account does not say.
    #[error("the record of {environment} could not be read: {why}")]
    Unread {
        /// Where.
        environment: EnvName,
        /// Why.
        why: Box<AwsError>,
    },
    /// The account does not take it.
    #[error("the record of {environment} could not be written: {why}")]
    Unwritten {
        /// Where.
        environment: EnvName,
        /// Why.
        why: Box<AwsError>,
    },
    /// It is not what was written.
    #[error("the record of {environment} ({name}) cannot be trusted: {why}")]
    Damaged {
        /// Where.
        environment: EnvName,
        /// The parameter.
        name: String,
        /// Why.
        why: String,
    },
    /// The files ask for less.
    #[error(transparent)]
    Loosened(#[from] Loosened),
}

/// The parameter that holds an environment's record.
#[must_use]
pub fn parameter(project: &str, environment: &EnvName) -> String {
    format!("/flow/{project}/{environment}")
}

/// Who may approve, as the files say.
pub fn from_files(project: &Project, environment: &Environment) -> Result<Policy, PolicyError> {
    let name = &environment.name.value;
    let mut approvers = Vec::new();
    for approver in &environment.approvers {
        let key = Key::parse(&approver.key).map_err(|error| PolicyError::Key {
            environment: name.clone(),
            name: approver.name.clone(),
            why: error.to_string(),
        })?;
        let wrong = |text: &String| PolicyError::ValidBefore {
            environment: name.clone(),
            name: approver.name.clone(),
            text: text.clone(),
        };
        let end = approver.valid_before.as_ref().map(|text| parse_moment(text).ok_or_else(|| wrong(text)));
        approvers.push(Person {
            name: approver.name.clone(),
            key: key.to_line(),
            fingerprint: key.fingerprint(),
            group: approver.group.clone(),
            valid_before: end.transpose()?,
        });
    }
    let store = environment.store.as_ref().or(project.store.as_ref()).map(|store| match &store.value {
        Store::Folder(folder) => folder.clone(),
        Store::S3 { bucket, prefix, .. } => format!("s3://{bucket}?prefix={prefix}"),
    });
    Ok(Policy {
        environment: name.clone(),
        source: Source::Files,
        protected: environment.protected,
        count: environment.least.max(1),
        four_eyes: environment.four_eyes,
        branches: environment.branches.clone(),
        tags: environment.tags.clone(),
        store,
        approvers,
    })
}

/// The record of an environment; `None` when there is none. The account must be verified.
pub async fn find(project: &str, cloud: &Cloud) -> Result<Option<Found>, PolicyError> {
    let target = cloud.target();
    let name = parameter(project, &target.environment);
    let unread = |why| PolicyError::Unread { environment: target.environment.clone(), why: Box::new(why) };
    let Some(text) = cloud.parameter(&name).await.map_err(unread)? else { return Ok(None) };
    open(&text, project, cloud).map(Some).map_err(|why| PolicyError::Damaged {
        environment: target.environment.clone(),
        name,
        why,
    })
}

fn open(text: &str, project: &str, cloud: &Cloud) -> Result<Found, String> {
    let signed: Signed = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let key =
        ssh::verify(&signed.signature, signed.statement.as_bytes()).map_err(|fault| fault.to_string())?;
    let record: Record = serde_json::from_str(&signed.statement).map_err(|error| error.to_string())?;
    if record.sort != TYPE {
        return Err(format!("it is a {}", record.sort));
    }
    if record.version != VERSION {
        return Err(format!("it has version {}, this flow reads {VERSION}", record.version));
    }
    let target = cloud.target();
    let place = (record.project.as_str(), &record.policy.environment, Some(&record.account));
    if place != (project, &target.environment, target.account.as_ref()) {
        return Err(format!(
            "it was written for {} of {} in account {}",
            record.policy.environment, record.project, record.account
        ));
    }
    Ok(Found {
        digest: digest(signed.statement.as_bytes()),
        key: key.to_line(),
        fingerprint: key.fingerprint(),
        record,
    })
}

/// Who may approve: the record's word, tightened by the files', or the files' alone. The account is
/// asked only where it is named.
pub async fn read(
    project: &Project,
    environment: &Environment,
    cloud: &Cloud,
) -> Result<Policy, PolicyError> {
    let files = from_files(project, environment)?;
    if cloud.target().account.is_none() {
        return Ok(files);
    }
    match find(&project.name, cloud).await? {
        None => Ok(files),
        Some(found) => Ok(found.record.policy.tightened_by(&files)?),
    }
}

/// Who may approve in all environments that a run acts in.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The run's own environment first; empty when nobody is asked anything.
    pub all: Arc<[Policy]>,
}

impl Policies {
    /// Digest of all of them; `None` when nobody is asked anything.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        let json = serde_json::to_vec(&*self.all).unwrap_or_default();
        (!self.all.is_empty()).then(|| digest(&json))
    }

    /// The one of an environment.
    #[must_use]
    pub fn of(&self, environment: &EnvName) -> Option<&Policy> {
        self.all.iter().find(|policy| policy.environment == *environment)
    }
}
