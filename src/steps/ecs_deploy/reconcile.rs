//! Whether an announced deploy was made. The notes of the effect say what was
//! sent; ECS says what came of it. A deployment of ours that is still under way
//! is waited for here: it is the effect, and needs no second one.

use std::time::Duration;

use serde_json::{Value, json};

use super::plan::plan;
use super::settings::Deploy;
use super::state::done;
use super::wait::{Rolled, Wait};
use crate::model::change::Action;
use crate::steps::ecs::definition::Definition;
use crate::steps::ecs::patience::Patience;
use crate::steps::ecs::service;
use crate::steps::ecs::stopped::Stopped;
use crate::steps::{Context, Done, Failure, FailureClass, Open, Settled};
use crate::world::aws::ecs::{Deployment, Ecs, Service};

/// How long ECS may take to show what a call with a lost answer did.
pub(super) const SETTLE: Duration = Duration::from_secs(15);

/// What the notes say was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// ARN of the definition.
    definition: String,
    /// Whether the call replaces tasks.
    rolls: bool,
    /// Ids of the deployments that were listed before.
    before: Vec<String>,
    /// Id of the deployment that it started, once that was known.
    deployment: Option<String>,
}

impl Sent {
    /// As noted right before the call.
    pub(super) fn note(definition: &str, rolls: bool, before: &[String]) -> Value {
        json!({ "taskDefinition": definition, "rolls": rolls, "before": before })
    }

    /// The last call that the notes tell of.
    fn last(notes: &[(String, Value)]) -> Option<Self> {
        let at = notes.iter().rposition(|(key, _)| key == "updating")?;
        let (_, note) = notes.get(at)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let updated = notes.iter().skip(at).find(|(key, _)| key == "updated");
        Some(Self {
            definition: note.get("taskDefinition").and_then(text)?,
            rolls: note.get("rolls").and_then(Value::as_bool)?,
            before: note.get("before").and_then(Value::as_array)?.iter().filter_map(text).collect(),
            deployment: updated.and_then(|(_, note)| note.get("deployment").and_then(text)),
        })
    }

    /// The deployment that the call started, as the service lists it.
    fn find<'s>(&self, service: &'s Service) -> Option<&'s Deployment> {
        match &self.deployment {
            Some(id) => service.deployment(id),
            None => service
                .deployments
                .iter()
                .find(|one| one.task_definition == self.definition && !self.before.contains(&one.id)),
        }
    }
}

pub(super) async fn reconcile(deploy: &Deploy, open: &Open, cx: &Context) -> Result<Settled, Failure> {
    if let Some(sent) = Sent::last(&open.notes).filter(|sent| sent.rolls)
        && let Some(done) = started(deploy, &sent, cx).await?
    {
        return Ok(Settled::Done(done));
    }
    // Nothing of it is under way: what the service is now decides. What was registered is found by
    // its content, and making the same call again starts nothing that is there already.
    let proposal = plan(deploy, cx).await?;
    Ok(match proposal.action {
        Action::UpToDate => Settled::Done(Done {
            summary: proposal.summary,
            outputs: proposal.outputs,
            receipt: proposal.receipt,
        }),
        _ => Settled::NotDone,
    })
}

/// The deployment that was started, once it is done; `None` when there is none or it did not go well.
async fn started(deploy: &Deploy, sent: &Sent, cx: &Context) -> Result<Option<Done>, Failure> {
    let ecs = cx.cloud.ecs().await;
    let Some((service, deployment)) = listed(deploy, sent, cx, ecs).await? else { return Ok(None) };
    if deployment.has_failed() {
        cx.feed.output(format!("ECS gave up the deployment {}", deployment.id)).await;
        return Ok(None);
    }
    if service.primary().is_none_or(|primary| primary.id != deployment.id) {
        return Ok(None);
    }
    let looks = Patience::for_a_look(cx.world.clock);
    let registered = looks.ask(&cx.cancel, || service::definition(ecs, &sent.definition)).await?;
    let definition = Definition::of(&registered);
    let found = (sent.definition.as_str(), &definition);
    if !deploy.wait {
        return Ok(Some(done(deploy, cx, &service, found, &deployment)));
    }
    let before: Vec<_> = sent.before.iter().filter(|id| **id != deployment.id).cloned().collect();
    let wait = Wait {
        cx,
        deploy,
        patience: Patience::new(cx.world.clock, deploy.limit),
        id: &deployment.id,
        arn: &sent.definition,
        definition: &definition,
        before: &before,
        placeholder: None,
        awaited: true,
    };
    let known = service.events.iter().map(|event| event.id.clone()).collect();
    match wait.run(Stopped::new(&deploy.cluster, &deploy.service), known).await {
        Ok(Rolled { service, deployment }) => Ok(Some(done(deploy, cx, &service, found, &deployment))),
        Err(failure) if failure.class == FailureClass::Failed => {
            cx.feed.output(failure.record.reason).await;
            for line in failure.record.details {
                cx.feed.output(line).await;
            }
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// The service with that deployment. ECS shows an update late; a call whose answer was read is not
/// looked for twice.
async fn listed(
    deploy: &Deploy,
    sent: &Sent,
    cx: &Context,
    ecs: Ecs<'_>,
) -> Result<Option<(Service, Deployment)>, Failure> {
    let settle = Patience::new(cx.world.clock, SETTLE);
    loop {
        let call = || service::find(ecs, &deploy.cluster, &deploy.service);
        let service = settle.ask(&cx.cancel, call).await?;
        if let Some(deployment) = sent.find(&service).cloned() {
            return Ok(Some((service, deployment)));
        }
        let moved_on = service.primary().is_some_and(|primary| !sent.before.contains(&primary.id));
        if sent.deployment.is_some() || moved_on || settle.is_over() {
            return Ok(None);
        }
        settle.rest(&cx.cancel).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_call_counts() {
        let updating = |arn: &str, before: &[&str]| {
            let before: Vec<_> = before.iter().map(|id| (*id).to_owned()).collect();
            ("updating".to_owned(), Sent::note(arn, true, &before))
        };
        let updated = |id: &str| ("updated".to_owned(), json!({ "deployment": id, "taskDefinition": "x:2" }));
        let other = ("registered".to_owned(), json!({ "arn": "x:2" }));
        let service: Service = serde_json::from_value(json!({ "deployments": [
            { "id": "c", "status": "PRIMARY", "taskDefinition": "x:2" },
            { "id": "b", "status": "ACTIVE", "taskDefinition": "x:2" },
            { "id": "a", "status": "ACTIVE", "taskDefinition": "x:1" },
        ]}))
        .unwrap();
        for (notes, found) in [
            (vec![], None),
            (vec![other.clone()], None),
            (vec![other.clone(), updating("x:2", &["a"])], Some("c")),
            (vec![updating("x:2", &["a", "c"])], Some("b")),
            (vec![updating("x:2", &["a"]), updated("b")], Some("b")),
            (vec![updating("x:2", &["a"]), updated("b"), updating("x:2", &["a", "b"])], Some("c")),
            (vec![updating("x:2", &["a"]), updated("gone")], None),
            (vec![updating("x:9", &["a"])], None),
        ] {
            let sent = Sent::last(&notes);
            let id = sent.as_ref().and_then(|sent| sent.find(&service)).map(|one| one.id.as_str());
            assert_eq!(id, found, "{notes:?}");
        }
    }
}
