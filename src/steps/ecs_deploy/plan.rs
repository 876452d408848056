//! What a deploy would change.

use serde_json::{Value, json};

use super::decide::{Configuration, Update, Way, decide};
use super::receipt;
use super::roll::{Roll, Target};
use super::settings::{Base, Deploy};
use crate::model::change::{Action, Change, Reversible};
use crate::model::units::count;
use crate::model::value::{Outputs, Value as Output};
use crate::steps::ecs::canonical::{Canonical, image_form, short_image};
use crate::steps::ecs::definition::{ContainerEdit, Definition, DefinitionError, Unknown, short_arn};
use crate::steps::ecs::service::{self, Absent};
use crate::steps::failure::FailureClass;
use crate::steps::{Context, Failure, Proposal};
use crate::world::aws::ecs::{Ecs, Registered, Service};

/// What ECS answered.
pub(super) struct Observed {
    pub(super) service: Service,
    /// What the service runs; absent when ECS has deleted it.
    pub(super) running: Option<Registered>,
    /// The newest active revision of the wanted family.
    pub(super) newest: Option<Registered>,
}

/// The wanted definition.
struct Wanted {
    definition: Definition,
    /// Known only after other steps.
    unknown: Vec<Unknown>,
    warnings: Vec<String>,
    /// The revision it started from, when it is not the one that runs.
    from: Option<Registered>,
}

pub(super) async fn plan(deploy: &Deploy, cx: &Context) -> Result<Proposal, Failure> {
    let ecs = cx.cloud.ecs().await;
    let service = service::find(ecs, &deploy.cluster, &deploy.service).await?;
    refuse_others(deploy, &service)?;
    let running = match service::definition(ecs, &service.task_definition).await {
        Ok(running) => Some(running),
        Err(Absent::Definition(_)) => None,
        Err(absent) => return Err(absent.into()),
    };
    let wanted = wanted(deploy, cx, ecs, &service, running.as_ref()).await?;
    let newest = match service::definition(ecs, wanted.definition.family()).await {
        Ok(newest) => Some(newest),
        Err(Absent::Definition(_)) => None,
        Err(absent) => return Err(absent.into()),
    };
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
    } else if let Some(found) = [&wanted.from, &observed.newest].into_iter().flatten().find(|one| same(one)) {
        Target::Registered(found.arn().to_owned())
    } else {
        Target::New(Box::new(wanted.definition.clone()))
    };
    let configuration = Configuration::of(service, deploy);
    let moves = !is_known || !target.is(&service.task_definition);
    let way = decide(service, deploy, moves, &configuration);
    let now = receipt::state(service, observed.running.as_ref());

    let mut proposal = words(deploy, &observed, way.as_ref(), &target);
    proposal.changes = changes(&observed, &wanted, &form, way.as_ref(), &configuration);
    proposal.warnings = wanted.warnings.clone();
    proposal.warnings.extend(warnings(deploy, cx, &observed, &wanted, way.as_ref(), &configuration));
    proposal.baseline = baseline(&observed);
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
    proposal.with(Roll {
        deploy: deploy.clone(),
        observed,
        wanted: wanted.definition,
        target,
        way,
        previous: now,
    })
}

/// Action, summary and subject.
fn words(deploy: &Deploy, observed: &Observed, way: Option<&Way>, target: &Target) -> Proposal {
    let service = &observed.service;
    let current = short_arn(&service.task_definition);
    let primary = service.primary();
    let (running, tasks) = primary.map_or((0, 0), |primary| (primary.running_count, primary.desired_count));
    let mut proposal = match way {
        None if tasks == 0 => {
            Proposal::new(Action::UpToDate, format!("{current} is set, nothing runs (desired 0)"))
        }
        None => Proposal::new(Action::UpToDate, format!("{current} runs with {running} of {tasks} tasks")),
        Some(Way::Await(_)) => Proposal::new(
            Action::Update,
            format!(
                "wait for {}, {running} running",
                count(usize::try_from(tasks).unwrap_or_default(), "task")
            ),
        ),
        Some(Way::Update(update)) => Proposal::new(Action::Update, update_words(service, update)),
    };
    proposal.subject = match (way, target) {
        (Some(Way::Update(Update { moves: true, .. })), target) => {
            let next = match target {
                Target::Registered(arn) => short_arn(arn).to_owned(),
                Target::New(definition) => {
                    let last = observed.newest.as_ref().map_or(0, Registered::revision);
                    format!("{}:{}", definition.family(), last + 1)
                }
            };
            let family = |name: &str| name.rsplit_once(':').map(|(family, _)| family.to_owned());
            match next.rsplit_once(':') {
                Some((_, revision)) if family(&next) == family(current) => format!("{current} → :{revision}"),
                _ => format!("{current} → {next}"),
            }
        }
        (None, _) => deploy.service.clone(),
        _ => current.to_owned(),
    };
    proposal
}

fn update_words(service: &Service, update: &Update) -> String {
    let now = service.desired_count;
    let then = update.desired.unwrap_or(now);
    let tasks = |number: i64| count(usize::try_from(number).unwrap_or_default(), "task");
    match update {
        _ if update.rolls() && then == 0 => "change the definition of 0 tasks".to_owned(),
        _ if update.rolls() && now == 0 => format!("start {}", tasks(then)),
        _ if update.rolls() => format!("roll {}", tasks(then)),
        Update { desired: Some(then), .. } => format!("scale {now} → {}", tasks(*then)),
        _ => "change how it is deployed".to_owned(),
    }
}

fn changes(
    observed: &Observed,
    wanted: &Wanted,
    form: &Canonical,
    way: Option<&Way>,
    configuration: &Configuration,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let running = observed.running.as_ref().map(Definition::of);
    if let Some(running) = &running {
        let alone = wanted.definition.containers().count() == 1;
        for unknown in &wanted.unknown {
            let Unknown { container, what, step } = unknown;
            let image = running.image(container).filter(|_| what == "image").map(short_image);
            let what = if alone { what.clone() } else { format!("{container} {what}") };
            changes.push(Change::new(what, image, format!("(known after {step})")));
        }
        changes.extend(Canonical::of(running).changes_to(form));
    }
    if let Some(Way::Update(update)) = way {
        if let Some(desired) = update.desired {
            changes.push(Change::new(
                "desired",
                observed.service.desired_count.to_string(),
                desired.to_string(),
            ));
        }
        if update.force {
            changes.push(Change::new("deployment", None, "new tasks of the same definition".to_owned()));
        }
    }
    changes.extend(configuration.changes.iter().cloned());
    changes
}

fn warnings(
    deploy: &Deploy,
    cx: &Context,
    observed: &Observed,
    wanted: &Wanted,
    way: Option<&Way>,
    configuration: &Configuration,
) -> Vec<String> {
    let service = &observed.service;
    let name = &deploy.service;
    let mut warnings = Vec::new();
    let desired = deploy.desired.unwrap_or(service.desired_count);
    if !configuration.breaker {
        warnings.push(format!(
            "the circuit breaker of {name} is off: ECS starts failing tasks again and again; circuit-breaker #true makes it roll back"
        ));
    }
    if let Some(Way::Update(update)) = way
        && update.rolls()
    {
        if desired == 0 {
            warnings
                .push(format!("desired is 0: nothing of {name} will run, and the new tasks are not tried"));
        }
        if configuration.is_stuck(desired) {
            warnings.push(format!(
                "with min-healthy {}% and max-percent {}% ECS can neither stop an old task of {name} nor start a new one",
                configuration.min_healthy, configuration.max_percent
            ));
        }
        if let Some(placeholder) = placeholder(cx, observed).filter(|_| service.running_count == 0) {
            warnings.push(format!("nothing of {name} runs now: a failure goes back to {placeholder}"));
        }
    }
    if let Some(primary) = service.primary().filter(|primary| primary.has_failed()) {
        warnings.push(format!(
            "the last deployment of {name} failed: {}",
            if primary.rollout_state_reason.is_empty() {
                "ECS does not say why"
            } else {
                &primary.rollout_state_reason
            }
        ));
    }
    if let Some(running) = observed.running.as_ref().map(Definition::of) {
        for container in wanted.definition.container_names() {
            let (old, new) = (running.image(&container), wanted.definition.image(&container));
            if let (Some(old), Some(new)) = (old, new)
                && image_form(old) == image_form(new)
                && repository(old) != repository(new)
            {
                warnings.push(format!(
                    "{container} keeps pulling its image from {}: the one in {} has the same digest",
                    repository(old),
                    repository(new)
                ));
            }
        }
    }
    warnings
}

/// The revision that the service had before flow's first release, in words; `None` once there was one.
pub(super) fn placeholder(cx: &Context, observed: &Observed) -> Option<String> {
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
    Some(format!(
        "{}, which is no release but what the service was created with (image {})",
        short_arn(running.arn()),
        images.join(", ")
    ))
}

fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before a slash is a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
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
pub(super) fn outputs(
    service: &Service,
    definition: &str,
    deployment: Option<&crate::world::aws::ecs::Deployment>,
) -> Outputs {
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
