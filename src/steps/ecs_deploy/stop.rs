//! Taking a deployment back that is still under way: ECS itself goes back to
//! the one before, which is quicker than a further deployment, and works where
//! the circuit breaker is off. Only when the one before is where we want to go;
//! a provider that cannot do it gets an ordinary update.

use std::time::Duration;

use super::decide::Update;
use crate::steps::Context;
use crate::steps::ecs::definition::short_arn;
use crate::steps::ecs::patience::Patience;
use crate::steps::ecs::service;
use crate::world::aws::ecs::{Deployment, Ecs, Service};

/// How long ECS may take to start the way back.
const BEGIN: Duration = Duration::from_secs(30);

/// The deployment on which ECS goes back; `None` when it does not, and nothing was changed or what
/// was changed goes the same way.
pub(super) async fn take_back(
    cx: &Context,
    ecs: Ecs<'_>,
    (cluster, name): (&str, &str),
    there: &Service,
    update: &Update,
    target: &str,
) -> Option<Deployment> {
    let moves_only = *update == Update { moves: true, ..Update::default() };
    let going = there.primary().filter(|primary| primary.rollout_state.as_deref() == Some("IN_PROGRESS"))?;
    if !moves_only || replaced(there).is_none_or(|old| old.task_definition != target) {
        return None;
    }
    let history = ecs.history(cluster, name).await.ok()?;
    let ours = history.into_iter().find(|one| one.is(&going.id) && one.is_under_way())?;
    if let Err(error) = ecs.stop_deployment(&ours.service_deployment_arn).await
        && !error.is_unclear()
    {
        cx.feed.output(format!("ECS does not stop {}: {error}", going.id)).await;
        return None;
    }
    cx.feed.output(format!("ECS was told to go back to {}", short_arn(target))).await;
    let patience = Patience::new(cx.world.clock, BEGIN);
    loop {
        if let Ok(now) = service::find(ecs, cluster, name).await
            && let Some(back) = now.primary()
            && back.id != going.id
            && back.task_definition == target
        {
            return Some(back.clone());
        }
        // A stop of the run does not cut this short: what was sent must be known.
        if patience.is_over() {
            return None;
        }
        cx.world.clock.pause(patience.pause()).await;
    }
}

/// The deployment that the one in force takes the place of. Failed ones stay listed and mean nothing.
pub(super) fn replaced(service: &Service) -> Option<&Deployment> {
    service.deployments.iter().find(|one| one.status == "ACTIVE" && !one.has_failed())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_deployment_is_not_the_one_before() {
        let service: Service = serde_json::from_value(json!({ "deployments": [
            { "id": "c", "status": "PRIMARY", "rolloutState": "IN_PROGRESS" },
            { "id": "b", "status": "ACTIVE", "rolloutState": "FAILED" },
            { "id": "a", "status": "ACTIVE", "rolloutState": "COMPLETED" },
        ]}))
        .unwrap();
        assert_eq!(replaced(&service).unwrap().id, "a");
        let alone: Service =
            serde_json::from_value(json!({ "deployments": [{ "id": "a", "status": "PRIMARY" }] })).unwrap();
        assert_eq!(replaced(&alone), None);
    }
}
