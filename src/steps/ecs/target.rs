//! Why a load balancer does not send requests to a service's tasks.

use aws_sdk_elasticloadbalancingv2::types::TargetHealthStateEnum;

use super::definition::short_arn;
use crate::world::aws::ecs::Service;
use crate::world::aws::{AwsError, Cloud};

/// One line for each target that is not healthy, without those that are just starting or leaving.
pub async fn unhealthy(cloud: &Cloud, service: &Service) -> Vec<String> {
    let mut lines = Vec::new();
    for group in service.load_balancers.iter().filter_map(|one| one.target_group_arn.as_deref()) {
        match in_group(cloud, group).await {
            Ok(found) => lines.extend(found),
            Err(error) => lines.push(format!("target group {}: {error}", group_name(group))),
        }
    }
    lines
}

async fn in_group(cloud: &Cloud, group: &str) -> Result<Vec<String>, AwsError> {
    let elb = &cloud.reads().await.elb;
    let answer = elb
        .describe_target_health()
        .target_group_arn(group)
        .send()
        .await
        .map_err(|error| AwsError::new("ELB", "DescribeTargetHealth", &error))?;
    let mut lines = Vec::new();
    for described in answer.target_health_descriptions() {
        let Some(health) = described.target_health() else { continue };
        if !matches!(
            health.state(),
            Some(TargetHealthStateEnum::Unhealthy | TargetHealthStateEnum::Unavailable)
        ) {
            continue;
        }
        let target = described.target();
        let address = target.map_or_else(String::new, |target| match (target.id(), target.port()) {
            (Some(id), Some(port)) => format!("{id}:{port}"),
            (id, _) => id.unwrap_or_default().to_owned(),
        });
        let reason = health.reason().map(|reason| reason.as_str().to_owned()).unwrap_or_default();
        let words: Vec<_> = [reason.as_str(), health.description().unwrap_or_default()]
            .into_iter()
            .filter(|words| !words.is_empty())
            .collect();
        lines.push(format!("target {address} of {} is unhealthy: {}", group_name(group), words.join(": ")));
    }
    Ok(lines)
}

/// `api` of `arn:…:targetgroup/api/73e2d6bc24d8a067`.
fn group_name(arn: &str) -> &str {
    arn.rsplit('/').nth(1).unwrap_or_else(|| short_arn(arn))
}
