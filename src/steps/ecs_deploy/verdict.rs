//! What one look at a service says about our deployment. Pure: nothing is asked here.
//!
//! Only our deployment's id counts. "The service is stable" does not: after a
//! rollback by ECS it is, too. And a look that does not list our deployment
//! proves nothing until it was listed once, because ECS shows an update late.

use std::time::Duration;

use crate::world::aws::ecs::{Deployment, Service};

/// How long a look may fail to list a deployment that was never seen.
const LATE: Duration = Duration::from_secs(30);

/// What a look says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing is decided.
    Going,
    /// It is done and nothing older runs.
    Completed(Deployment),
    /// ECS gave it up and leaves the service on it.
    Failed(Deployment),
    /// ECS gave it up and goes back to this one.
    Returning {
        /// What is in force now.
        to: Deployment,
        /// ECS's words.
        why: String,
    },
    /// Somebody else's deployment is in force.
    Superseded(Deployment),
    /// The service was deleted.
    Gone,
}

/// What is known of our deployment besides the look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours<'a> {
    /// Its id.
    pub(super) id: &'a str,
    /// Those that were there before it.
    pub(super) before: &'a [String],
    /// Whether any look has listed it.
    pub(super) seen: bool,
    /// Since it was started.
    pub(super) since: Duration,
}

pub(super) fn judge(service: &Service, ours: Ours<'_>) -> Verdict {
    let other = service.primary().filter(|primary| primary.id != ours.id);
    if matches!(service.status.as_str(), "DRAINING" | "INACTIVE") {
        return Verdict::Gone;
    }
    match (service.deployment(ours.id), other) {
        (None, _) if !ours.seen && ours.since < LATE => Verdict::Going,
        // An active service without any deployment: ECS is between two.
        (None, None) => Verdict::Going,
        (Some(deployment), None) => judge_primary(service, deployment),
        (Some(deployment), Some(other)) if deployment.has_failed() => {
            Verdict::Returning { to: other.clone(), why: deployment.rollout_state_reason.clone() }
        }
        (deployment, Some(other)) => {
            if is_return(other, ours.before) || gave_up(service, ours.id) {
                let why = deployment.map_or("", |deployment| &deployment.rollout_state_reason);
                let why = if why.is_empty() { &other.rollout_state_reason } else { why };
                Verdict::Returning { to: other.clone(), why: why.to_owned() }
            } else {
                Verdict::Superseded(other.clone())
            }
        }
    }
}

fn judge_primary(service: &Service, deployment: &Deployment) -> Verdict {
    if deployment.has_failed() {
        return Verdict::Failed(deployment.clone());
    }
    let enough = deployment.running_count >= deployment.desired_count && deployment.pending_count == 0;
    let alone = service.deployments.iter().all(|other| other.id == deployment.id || other.running_count == 0);
    // Behind a Classic load balancer ECS does not say; then the counts decide.
    let done = deployment.is_completed() || deployment.rollout_state.is_none();
    if done && enough && alone { Verdict::Completed(deployment.clone()) } else { Verdict::Going }
}

/// Whether the deployment in force is ECS's way back: it was there before ours, or says so.
fn is_return(other: &Deployment, before: &[String]) -> bool {
    let reason = other.rollout_state_reason.to_ascii_lowercase();
    before.contains(&other.id) || reason.contains("rollback") || reason.contains("rolling back")
}

/// Whether an event says that our deployment failed.
fn gave_up(service: &Service, id: &str) -> bool {
    let failed = |message: &str| message.contains(id) && message.contains("deployment failed");
    service.events.iter().any(|event| failed(&event.message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(deployments: &Value) -> Service {
        serde_json::from_value(json!({ "deployments": deployments })).unwrap()
    }

    fn one(id: &str, status: &str, state: &str, running: i64) -> Value {
        json!({ "id": id, "status": status, "rolloutState": state, "runningCount": running, "desiredCount": 2,
                "taskDefinition": format!("arn:aws:ecs:r:1:task-definition/shop:{id}") })
    }

    fn verdict(deployments: &Value, seen: bool) -> &'static str {
        let since = Duration::from_secs(if seen { 1 } else { 2 });
        let before = ["old".to_owned()];
        match judge(&service(deployments), Ours { id: "new", before: &before, seen, since }) {
            Verdict::Going => "going",
            Verdict::Completed(_) => "completed",
            Verdict::Failed(_) => "failed",
            Verdict::Returning { .. } => "returning",
            Verdict::Superseded(_) => "superseded",
            Verdict::Gone => "gone",
        }
    }

    #[test]
    fn only_our_deployment_decides() {
        let table = [
            ("not listed yet", json!([one("old", "PRIMARY", "COMPLETED", 2)]), false, "going"),
            (
                "starting",
                json!([one("new", "PRIMARY", "IN_PROGRESS", 0), one("old", "ACTIVE", "COMPLETED", 2)]),
                true,
                "going",
            ),
            (
                "old one drains",
                json!([one("new", "PRIMARY", "COMPLETED", 2), one("old", "ACTIVE", "COMPLETED", 1)]),
                true,
                "going",
            ),
            ("a task is missing", json!([one("new", "PRIMARY", "COMPLETED", 1)]), true, "going"),
            ("done", json!([one("new", "PRIMARY", "COMPLETED", 2)]), true, "completed"),
            (
                "done, an old failure is listed",
                json!([one("new", "PRIMARY", "COMPLETED", 2), one("x", "ACTIVE", "FAILED", 0)]),
                true,
                "completed",
            ),
            ("given up, no way back", json!([one("new", "PRIMARY", "FAILED", 0)]), true, "failed"),
            (
                "given up, going back",
                json!([one("old", "PRIMARY", "IN_PROGRESS", 1), one("new", "ACTIVE", "FAILED", 0)]),
                true,
                "returning",
            ),
            ("gone back, ours is dropped", json!([one("old", "PRIMARY", "COMPLETED", 2)]), true, "returning"),
            (
                "somebody else",
                json!([one("eve", "PRIMARY", "IN_PROGRESS", 0), one("new", "ACTIVE", "IN_PROGRESS", 1)]),
                true,
                "superseded",
            ),
            (
                "somebody else, ours is dropped",
                json!([one("eve", "PRIMARY", "COMPLETED", 2)]),
                true,
                "superseded",
            ),
            ("between two", json!([]), true, "going"),
        ];
        for (name, deployments, seen, wanted) in table {
            assert_eq!(verdict(&deployments, seen), wanted, "{name}");
        }
    }

    #[test]
    fn a_new_deployment_that_says_it_is_a_rollback_is_one() {
        let mut back = one("back", "PRIMARY", "IN_PROGRESS", 0);
        back["rolloutStateReason"] =
            "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.".into();
        assert_eq!(verdict(&json!([back]), true), "returning");
    }
}
