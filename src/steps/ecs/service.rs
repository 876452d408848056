//! Finding the service that a step names, and saying what is wrong when it is not there.

use super::patience::MayPass;
use crate::steps::Failure;
use crate::steps::failure::FailureClass;
use crate::world::aws::AwsError;
use crate::world::aws::ecs::{Ecs, Registered, Service};

/// Why a service or definition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// No such cluster.
    #[error("there is no cluster {0}")]
    Cluster(String),
    /// No such service in it.
    #[error("cluster {cluster} has no service {service}")]
    Service {
        /// The cluster.
        cluster: String,
        /// The service.
        service: String,
    },
    /// It was there once.
    #[error("service {service} of cluster {cluster} was deleted")]
    Deleted {
        /// The cluster.
        cluster: String,
        /// The service.
        service: String,
    },
    /// It is on its way out.
    #[error("service {0} is being deleted: its last tasks are draining")]
    Draining(String),
    /// No such definition.
    #[error("there is no task definition {0}")]
    Definition(String),
    /// ECS did not say.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl MayPass for Absent {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Aws(error) if error.may_pass())
    }
}

impl From<Absent> for Failure {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Aws(error) => error.into(),
            Absent::Draining(_) => Self::of(FailureClass::Failed, absent.to_string())
                .help("wait until it is gone, then create it again"),
            Absent::Cluster(_) | Absent::Service { .. } => {
                Self::missing(absent.to_string()).help("correct the name, or let a step in front create it")
            }
            _ => Self::missing(absent.to_string()),
        }
    }
}

/// The service, which is there and stays.
pub async fn find(ecs: Ecs<'_>, cluster: &str, service: &str) -> Result<Service, Absent> {
    let found = match ecs.service(cluster, service).await {
        Ok(found) => found,
        Err(error) if error.code.as_deref() == Some("ClusterNotFoundException") => {
            return Err(Absent::Cluster(cluster.to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    // A missing service is no error of the call: it is an empty list and a row of failures.
    let names = || (cluster.to_owned(), service.to_owned());
    let Some(found) = found else {
        let (cluster, service) = names();
        return Err(Absent::Service { cluster, service });
    };
    match found.status.as_str() {
        "INACTIVE" => {
            let (cluster, service) = names();
            Err(Absent::Deleted { cluster, service })
        }
        "DRAINING" => Err(Absent::Draining(service.to_owned())),
        _ => Ok(found),
    }
}

/// A registered definition.
pub async fn definition(ecs: Ecs<'_>, name: &str) -> Result<Registered, Absent> {
    match ecs.definition(name).await {
        // ECS has no code of its own for "there is none".
        Err(error) if error.is_not_found() || error.code.as_deref() == Some("ClientException") => {
            Err(Absent::Definition(super::definition::short_arn(name).to_owned()))
        }
        done => Ok(done?),
    }
}

/// A registered definition, or `None` when there is none of that name.
pub async fn any_definition(ecs: Ecs<'_>, name: &str) -> Result<Option<Registered>, Absent> {
    match definition(ecs, name).await {
        Ok(registered) => Ok(Some(registered)),
        Err(Absent::Definition(_)) => Ok(None),
        Err(absent) => Err(absent),
    }
}
