//! What flow reads in ECS's answers. Members that are not named here are left alone.

use serde::Deserialize;
use serde_json::Value;

/// A service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Its name.
    pub service_name: String,
    /// Its ARN.
    pub service_arn: String,
    /// `ACTIVE`, `DRAINING`, `INACTIVE`.
    pub status: String,
    /// ARN of the definition it runs, or is being moved to.
    pub task_definition: String,
    /// How many tasks it should run.
    pub desired_count: i64,
    /// How many run, old and new.
    pub running_count: i64,
    /// `REPLICA` or `DAEMON`.
    pub scheduling_strategy: String,
    /// How deployments are done; passed back as it is, with what a flow changes.
    pub deployment_configuration: Value,
    /// Who does deployments.
    pub deployment_controller: Controller,
    /// All that are under way, and the one in force.
    pub deployments: Vec<Deployment>,
    /// Newest first.
    pub events: Vec<ServiceEvent>,
    /// Where its tasks are registered.
    pub load_balancers: Vec<LoadBalancer>,
    /// Copied to one-off tasks as it is.
    pub network_configuration: Value,
    /// `FARGATE`, `EC2`, `EXTERNAL`; absent with a capacity provider.
    pub launch_type: Option<String>,
    /// Copied to one-off tasks as it is.
    pub capacity_provider_strategy: Value,
    /// Of Fargate.
    pub platform_version: Option<String>,
}

/// Who does deployments.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Controller {
    /// `ECS`, `CODE_DEPLOY`, `EXTERNAL`; absent means `ECS`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One deployment of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    /// `ecs-svc/…`
    pub id: String,
    /// `PRIMARY`, `ACTIVE`, `INACTIVE`.
    pub status: String,
    /// ARN.
    pub task_definition: String,
    /// How many tasks it should run.
    pub desired_count: i64,
    /// How many start.
    pub pending_count: i64,
    /// How many run.
    pub running_count: i64,
    /// How many failed in a row.
    pub failed_tasks: i64,
    /// `IN_PROGRESS`, `COMPLETED`, `FAILED`; absent behind a Classic load balancer.
    pub rollout_state: Option<String>,
    /// In words.
    pub rollout_state_reason: String,
}

/// One deployment in ECS's own history of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceDeployment {
    /// Its ARN.
    pub service_deployment_arn: String,
    /// `SUCCESSFUL`, `STOPPED`, `ROLLBACK_SUCCESSFUL`, …
    pub status: String,
    /// In words.
    pub status_reason: String,
    /// What it was to bring.
    pub target_service_revision: ServiceRevision,
}

/// A service as one deployment made it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceRevision {
    /// Ends with the number of the deployment's id.
    pub arn: String,
}

/// Something that happened to a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceEvent {
    /// Unique.
    pub id: String,
    /// In words, `(service NAME) …`.
    pub message: String,
}

/// Where tasks are registered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// Absent for a Classic load balancer.
    pub target_group_arn: Option<String>,
    /// The container behind it.
    pub container_name: String,
}

/// One task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    /// Its ARN.
    pub task_arn: String,
    /// ARN.
    pub task_definition_arn: String,
    /// `PROVISIONING` … `STOPPED`.
    pub last_status: String,
    /// Id of the deployment, or whatever `RunTask` was given.
    pub started_by: String,
    /// `EssentialContainerExited`, `TaskFailedToStart`, …
    pub stop_code: String,
    /// In words.
    pub stopped_reason: String,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Seconds since 1970; `null` when ECS does not say.
    pub created_at: Value,
}

/// One container of a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// As in the definition.
    pub name: String,
    /// Absent when it never ran.
    pub exit_code: Option<i64>,
    /// In words.
    pub reason: String,
}

/// Something that a call about several things did not find or do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Missed {
    /// What.
    pub arn: String,
    /// `MISSING`, `RESOURCE:MEMORY`, …
    pub reason: String,
    /// In words.
    pub detail: String,
}

impl Service {
    /// The deployment in force.
    #[must_use]
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.status == "PRIMARY")
    }

    /// The deployment of that id.
    #[must_use]
    pub fn deployment(&self, id: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.id == id)
    }
}

impl Deployment {
    /// Whether ECS gave it up.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.rollout_state.as_deref() == Some("FAILED")
    }

    /// Whether ECS called it done.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.rollout_state.as_deref() == Some("COMPLETED")
    }
}

impl ServiceDeployment {
    /// Whether it is the deployment of that id.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        !id.is_empty() && last_part(&self.target_service_revision.arn) == last_part(id)
    }

    /// Whether it is under way.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self.status.as_str(), "PENDING" | "IN_PROGRESS")
    }

    /// Whether it was ended before its time, by ECS or by somebody who stopped it, and not by a newer one.
    #[must_use]
    pub fn was_taken_back(&self) -> bool {
        self.status.starts_with("ROLLBACK") || self.status.starts_with("STOP")
    }
}

impl Task {
    /// The last part of its ARN, which also names its log streams.
    #[must_use]
    pub fn id(&self) -> &str {
        last_part(&self.task_arn)
    }

    /// Whether nothing of it runs any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.last_status == "STOPPED"
    }
}

/// What stands behind the last slash of an ARN.
#[must_use]
pub fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
