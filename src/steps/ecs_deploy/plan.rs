//! What a deploy would change.

use serde_json::{Value, json};

use super::decide::{Configuration, Way, decide};
use super::draft::Draft;
use super::receipt;
use super::roll::{Roll, Target};
use super::settings::{Base, Deploy};
use crate::model::change::Reversible;
use crate::model::value::{Outputs, Value as Output};
use crate::steps::ecs::canonical::Canonical;
use crate::steps::ecs::definition::{ContainerEdit, Definition, DefinitionError, Unknown, short_arn};
use crate::steps::ecs::patience::Patience;
use crate::steps::ecs::service::{self, Absent};
use crate::steps::failure::FailureClass;
use crate::steps::{Context, Failure, Proposal};
use crate::world::aws::ecs::{Deployment, Ecs, Registered, Service};

/// What ECS answered.
pub(super) struct Observed {
    pub(super) service: Service,
    /// What the service runs; absent when ECS has deleted it.
    pub(super) running: Option<Registered>,
    /// The newest active revision of the wanted family.
    pub(super) newest: Option<Registered>,
}

/// The wanted definition.
pub(super) struct Wanted {
    pub(super) definition: Definition,
    /// Known only after other steps.
    pub(super) unknown: Vec<Unknown>,
    pub(super) warnings: Vec<String>,
    /// The revision it started from, when it is not the one that runs.
    from: Option<Registered>,
}

pub(super) async fn plan(deploy: &Deploy, cx: &Context) -> Result<Proposal, Failure> {
    let ecs = cx.cloud.ecs().await;
    let looks = Patience::for_a_look(cx.world.clock);
    let service = looks.ask(&cx.cancel, || service::find(ecs, &deploy.cluster, &deploy.service)).await?;
    refuse_others(deploy, &service)?;
    let running = looks.ask(&cx.cancel, || service::any_definition(ecs, &service.task_definition)).await?;
    let wanted = wanted(deploy, cx, ecs, &service, running.as_ref()).await?;
    let newest = looks.ask(&cx.cancel, || service::any_definition(ecs, wanted.definition.family())).await?;
    Ok(propose(deploy, cx, Observed { service, running, newest }, wanted))
}

/// What a rolling update cannot do.
fn refuse_others(deploy: &Deploy, service: &Service) -> Result<(), Failure> {
    let controller = service.deployment_controller.kind.as_str();
    if !matches!(controller, "" | "ECS") {
        return Err(Failure::of(
            FailureClass::Refused,
            format!(
                "{} is deployed by {controller}; ecs-deploy does the rolling updates of ECS",
                deploy.service
            ),
        ));
    }
    if deploy.desired.is_some() && service.scheduling_strategy == "DAEMON" {
        return Err(Failure::of(
            FailureClass::Refused,
            format!("{} runs one task on each instance (DAEMON); it has no desired number", deploy.service),
        )
        .help("remove desired"));
    }
    Ok(())
}

async fn wanted(
    deploy: &Deploy,
    cx: &Context,
    ecs: Ecs<'_>,
    service: &Service,
    running: Option<&Registered>,
) -> Result<Wanted, Failure> {
    let mut warnings = Vec::new();
    let mut from = None;
    let (mut definition, called) = match (&deploy.base, running) {
        (Base::Running, Some(running)) => (Definition::of(running), short_arn(running.arn()).to_owned()),
        (Base::Running, None) => {
            return Err(Failure::from(Absent::Definition(short_arn(&service.task_definition).to_owned()))
                .help(format!("it is what {} runs; give task-definition FILE", deploy.service)));
        }
        (Base::Revision(name), _) => {
            let registered = service::definition(ecs, name).await?;
            let definition = Definition::of(&registered);
            from = Some(registered);
            (definition, short_arn(name).to_owned())
        }
        (Base::File(file), _) => {
            let text = cx.world.files.read_text(&cx.world.files.locate(file)?)?;
            let (definition, unknown) = Definition::from_file(file, &text)?;
            for member in unknown {
                warnings.push(format!("{file}: {member} is passed on, flow does not know it"));
            }
            (definition, file.clone())
        }
    };
    let unknown = definition.edit(&edits(deploy, cx, &definition), &called)?;
    Ok(Wanted { definition, unknown, warnings, from })
}

/// What the file says, and what it no longer says.
fn edits(deploy: &Deploy, cx: &Context, definition: &Definition) -> Vec<ContainerEdit> {
    let mut edits = deploy.containers.clone();
    let Some(recorded) = cx.recorded.as_ref().filter(|_| deploy.base == Base::Running) else {
        return edits;
    };
    for name in definition.container_names() {
        if !edits.iter().any(|edit| edit.name == name) {
            edits.push(ContainerEdit { name, ..ContainerEdit::default() });
        }
    }
    for edit in &mut edits {
        edit.gone = receipt::gone(&recorded.receipt, edit);
    }
    edits
}

fn propose(deploy: &Deploy, cx: &Context, observed: Observed, wanted: Wanted) -> Proposal {
    let service = &observed.service;
    let form = Canonical::of(&wanted.definition);
    let same = |registered: &Registered| Canonical::of(&Definition::of(registered)) == form;
    let is_known = wanted.unknown.is_empty();
    let target = if observed.running.as_ref().is_some_and(same) {
        Target::Registered(service.task_definition.clone())
    } else if let Some(found) =
        // ECS starts nothing of an INACTIVE one.
        [&wanted.from, &observed.newest]
            .into_iter()
            .flatten()
            .find(|one| one.is_active() && same(one))
    {
        Target::Registered(found.arn().to_owned())
    } else {
        Target::New(Box::new(wanted.definition.clone()))
    };
    let configuration = Configuration::of(service, deploy);
    let moves = !is_known || !target.is(&service.task_definition);
    let way = decide(service, deploy, moves, &configuration);
    let placeholder = placeholder(cx, &observed);
    let draft = Draft {
        released: cx.recorded.as_ref().and_then(|recorded| receipt::released(&recorded.receipt)),
        deploy,
        observed: &observed,
        wanted: &wanted,
        form: &form,
        target: &target,
        way: way.as_ref(),
        configuration: &configuration,
        placeholder: placeholder.as_ref(),
        sealer: &cx.sealer,
    };
    let mut proposal = draft.proposal();
    proposal.baseline = baseline(&observed);
    let now = receipt::state(service, observed.running.as_ref(), &cx.sealer);
    let Some(way) = way else {
        proposal.outputs = outputs(service, service.task_definition.as_str(), service.primary());
        // The release before stays the one to go back to.
        let previous = cx.recorded.as_ref().and_then(|recorded| recorded.receipt.get("previous").cloned());
        proposal.receipt = receipt::receipt(now, previous.unwrap_or_default(), deploy);
        return proposal;
    };
    proposal.reversible = Reversible::Auto;
    proposal.outputs = Outputs::from([("service".to_owned(), Output::text(&service.service_name))]);
    if !is_known {
        return proposal;
    }
    let previous = match &way {
        // What runs is already what is wanted; the release knows what was before.
        Way::Await(_) => cx.recorded.as_ref().map_or(Value::Null, |live| receipt::alone(&live.receipt)),
        Way::Update(_) => now,
    };
    let definition = wanted.definition;
    proposal.with(Roll {
        deploy: deploy.clone(),
        observed,
        wanted: definition,
        target,
        way,
        previous,
        placeholder,
    })
}

/// The revision that the service had before flow's first release: its ARN, and what it is in words.
/// `None` once there was a release.
fn placeholder(cx: &Context, observed: &Observed) -> Option<(String, String)> {
    let running = observed.running.as_ref()?;
    let released = cx.recorded.as_ref().and_then(|recorded| receipt::released(&recorded.receipt));
    if released.is_some() {
        return None;
    }
    let definition = Definition::of(running);
    let images: Vec<_> = definition
        .container_names()
        .iter()
        .filter_map(|container| definition.image(container).map(str::to_owned))
        .collect();
    let words =
        format!("no release of this flow but what the service had before (image {})", images.join(", "));
    Some((running.arn().to_owned(), words))
}

fn baseline(observed: &Observed) -> Value {
    let service = &observed.service;
    json!({
        "service": service.service_arn,
        "taskDefinition": service.task_definition,
        "deployment": service.primary().map(|primary| primary.id.clone()),
        "desired": service.desired_count,
        "configuration": service.deployment_configuration,
        "definition": observed.running.as_ref().map(|running| Canonical::of(&Definition::of(running)).digest()),
    })
}

/// The outputs of a service that runs a definition.
pub(super) fn outputs(service: &Service, definition: &str, deployment: Option<&Deployment>) -> Outputs {
    let revision = definition.rsplit_once(':').and_then(|(_, revision)| revision.parse().ok()).unwrap_or(0);
    Outputs::from([
        ("task-definition".to_owned(), Output::text(definition)),
        ("revision".to_owned(), Output::Int(revision)),
        ("service".to_owned(), Output::text(&service.service_name)),
        ("deployment".to_owned(), Output::text(deployment.map_or("", |deployment| &deployment.id))),
        ("running".to_owned(), Output::Int(deployment.map_or(0, |deployment| deployment.running_count))),
    ])
}

impl From<DefinitionError> for Failure {
    fn from(error: DefinitionError) -> Self {
        Self::new(error.to_string())
    }
}
