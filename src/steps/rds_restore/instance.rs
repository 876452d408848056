//! An instance as RDS describes it.

use std::collections::BTreeMap;

use aws_sdk_rds::types::DbInstance;
use jiff::Timestamp;

use crate::steps::Context;
use crate::world::aws::AwsError;

/// A database instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub name: String,
    pub arn: String,
    /// RDS's own name of it.
    pub resource: String,
    /// `available`, `creating`, …
    pub status: String,
    /// Host and port; absent while it is being made.
    pub endpoint: Option<(String, i32)>,
    pub tags: BTreeMap<String, String>,
    /// Its class, such as `db.t4g.medium`.
    pub class: String,
    /// The newest time that it can be restored to.
    pub restorable: Option<Timestamp>,
    pub subnet_group: Option<String>,
    pub security_groups: Vec<String>,
    /// With the parameters that its applications expect; absent where it has the defaults.
    pub parameter_group: Option<String>,
    /// Reachable from outside.
    pub public: bool,
    /// It cannot be deleted.
    pub protected: bool,
}

/// What can be expected of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It answers.
    Available,
    /// RDS works on it, and it will.
    Working,
    /// It will not by itself.
    Broken,
}

/// The states in which RDS itself goes on, and the instance does not answer yet or not for sure.
const WORKING: &[&str] = &[
    "backing-up",
    "configuring-enhanced-monitoring",
    "configuring-iam-database-auth",
    "configuring-log-exports",
    "creating",
    "maintenance",
    "modifying",
    "rebooting",
    "renaming",
    "resetting-master-credentials",
    "starting",
    "upgrading",
];

impl Instance {
    /// What can be expected of it.
    pub(super) fn stage(&self) -> Stage {
        match self.status.as_str() {
            // Storage is tuned for hours after a restore, and it answers meanwhile.
            "available" | "storage-optimization" => Stage::Available,
            status if WORKING.contains(&status) => Stage::Working,
            _ => Stage::Broken,
        }
    }
}

/// An instance; `None` when there is none.
pub(super) async fn describe(cx: &Context, name: &str) -> Result<Option<Instance>, AwsError> {
    let request = cx.cloud.reads().await.rds.describe_db_instances().db_instance_identifier(name);
    match request.send().await {
        Ok(said) => Ok(said.db_instances().first().map(Instance::from)),
        Err(error) => match AwsError::new("RDS", "DescribeDBInstances", &error) {
            error if error.is_not_found() => Ok(None),
            error => Err(error),
        },
    }
}

/// The time that AWS says, to the second.
pub(super) fn time(said: Option<&aws_smithy_types::DateTime>) -> Option<Timestamp> {
    said.and_then(|said| Timestamp::from_second(said.secs()).ok())
}

impl From<&DbInstance> for Instance {
    fn from(said: &DbInstance) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let endpoint = said.endpoint().and_then(|at| Some((at.address()?.to_owned(), at.port()?)));
        let groups = said.vpc_security_groups().iter();
        let parameters = said.db_parameter_groups().first().and_then(|group| group.db_parameter_group_name());
        let subnets = said.db_subnet_group().and_then(|group| group.db_subnet_group_name());
        Self {
            name: text(said.db_instance_identifier()),
            arn: text(said.db_instance_arn()),
            resource: text(said.dbi_resource_id()),
            status: text(said.db_instance_status()),
            endpoint,
            tags: said.tag_list().iter().map(|tag| (text(tag.key()), text(tag.value()))).collect(),
            class: text(said.db_instance_class()),
            restorable: time(said.latest_restorable_time()),
            subnet_group: subnets.filter(|name| *name != "default").map(str::to_owned),
            security_groups: groups
                .filter_map(|group| group.vpc_security_group_id())
                .map(str::to_owned)
                .collect(),
            parameter_group: parameters.filter(|name| !name.starts_with("default.")).map(str::to_owned),
            public: said.publicly_accessible() == Some(true),
            protected: said.deletion_protection() == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_promises() {
        for (status, wanted) in [
            ("available", Stage::Available),
            ("storage-optimization", Stage::Available),
            ("creating", Stage::Working),
            ("backing-up", Stage::Working),
            ("failed", Stage::Broken),
            ("incompatible-restore", Stage::Broken),
            ("deleting", Stage::Broken),
            ("something-new", Stage::Broken),
        ] {
            let said = DbInstance::builder().db_instance_status(status).build();
            assert_eq!(Instance::from(&said).stage(), wanted, "{status}");
        }
    }
}
