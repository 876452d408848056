//! What a deploy would change.

use serde_json::{Map, Value};

use super::decide::{Configuration, Way, decide, told};
use super::draft::Draft;
use super::images;
use super::roll::{Roll, Target};
use super::settings::{Base, Deploy};
use super::state::State;
use super::stop::replaced;
use crate::model::change::Reversible;
use crate::model::value::{Outputs, Value as Output};
use crate::steps::ecs::canonical::Canonical;
use crate::steps::ecs::definition::{ContainerEdit, Definition, DefinitionError, Unknown, short_arn};
use crate::steps::ecs::patience::{GivenUp, Patience};
use crate::steps::ecs::service::{self, Absent};
use crate::steps::failure::FailureClass;
use crate::steps::{Context, Failure, Proposal};
use crate::world::aws::ecs::{Deployment, Ecs, Registered, Service};
use crate::world::files::digest;

/// What ECS answered.
pub(super) struct Observed {
    pub(super) service: Service,
    /// What the service runs; absent when ECS has deleted it.
    pub(super) running: Option<Registered>,
    /// The newest revisions of the wanted family, the newest first: none where the wanted one is known
    /// without them, and more than one only where it may stand behind the newest.
    pub(super) recent: Vec<Registered>,
}

impl Observed {
    /// The newest active revision of the wanted family.
    pub(super) fn newest(&self) -> Option<&Registered> {
        self.recent.first()
    }
}

/// The wanted definition.
pub(super) struct Wanted {
    pub(super) definition: Definition,
    /// Known only after other steps.
    pub(super) unknown: Vec<Unknown>,
    pub(super) warnings: Vec<String>,
    /// The revision it started from, when it is not the one that runs.
    pub(super) from: Option<Registered>,
    /// The file it started from: path and digest.
    file: Option<(String, String)>,
}

/// How many revisions behind the newest are looked at for one that says what is wanted.
const RECENT: i64 = 4;

pub(super) async fn plan(deploy: &Deploy, cx: &Context) -> Result<Proposal, Failure> {
    let ecs = cx.cloud.ecs().await;
    let looks = Patience::for_a_look(cx.world.clock);
    let service = looks.ask(&cx.cancel, || service::find(ecs, &deploy.cluster, &deploy.service)).await?;
    refuse_others(deploy, &service)?;
    refuse_elsewhere(deploy, cx)?;
    let running = looks.ask(&cx.cancel, || service::any_definition(ecs, &service.task_definition)).await?;
    let wanted = wanted(deploy, cx, ecs, &service, running.as_ref()).await?;
    let recent = recent(cx, ecs, running.as_ref(), &wanted).await?;
    let definition = wanted.definition.clone();
    let mut proposal = propose(deploy, cx, Observed { service, running, recent }, wanted);
    if let Some(goal) = &deploy.goal {
        let images = images::look(cx, &definition).await?;
        proposal.warnings.extend(images.unknown);
        let starts = proposal.effect.is_some() && deploy.desired != Some(0);
        if let Some(gone) = images.gone.first().filter(|_| starts) {
            let name = short_arn(&goal.to.task_definition);
            return Err(Failure::missing(format!("{} cannot go back to {name}: {gone}", deploy.service))
                .details(images.gone.iter().skip(1).cloned())
                .help("push that image again, or roll back to a release whose images are there"));
        }
        proposal.warnings.extend(images.gone);
    }
    Ok(proposal)
}

/// What is in the world, whatever is wanted; `null` when there is no such service.
pub(super) async fn observe(deploy: &Deploy, cx: &Context) -> Result<Value, Failure> {
    let ecs = cx.cloud.ecs().await;
    let looks = Patience::for_a_look(cx.world.clock);
    match looks.ask(&cx.cancel, || service::find(ecs, &deploy.cluster, &deploy.service)).await {
        Ok(service) => Ok(baseline(&service)),
        Err(GivenUp::Error(
            Absent::Cluster(_) | Absent::Service { .. } | Absent::Deleted { .. } | Absent::Draining(_),
        )) => Ok(Value::Null),
        Err(given_up) => Err(given_up.into()),
    }
}

/// The newest revision of the wanted family; with those behind it when somebody registered one after
/// ours, so that ours is found again and not registered twice.
async fn recent(
    cx: &Context,
    ecs: Ecs<'_>,
    running: Option<&Registered>,
    wanted: &Wanted,
) -> Result<Vec<Registered>, Failure> {
    let looks = Patience::for_a_look(cx.world.clock);
    let family = wanted.definition.family();
    let form = Canonical::of(&wanted.definition);
    let same = |registered: &Registered| Canonical::of(&Definition::of(registered)) == form;
    let started_from = || wanted.from.iter().filter(|from| from.is_active());
    if wanted.unknown.is_empty() && running.into_iter().chain(started_from()).any(same) {
        return Ok(Vec::new());
    }
    let newest = looks.ask(&cx.cancel, || service::any_definition(ecs, family)).await?;
    let Some(newest) = newest else { return Ok(Vec::new()) };
    let mut found = !wanted.unknown.is_empty() || started_from().next().is_some() || same(&newest);
    let last = newest.revision();
    let after = running.filter(|running| running.family() == family).map_or(0, Registered::revision);
    let mut recent = vec![newest];
    for revision in (after.max(last - RECENT) + 1..last).rev() {
        if found {
            break;
        }
        let name = format!("{family}:{revision}");
        let older = looks.ask(&cx.cancel, || service::any_definition(ecs, &name)).await?;
        found = older.as_ref().is_some_and(same);
        recent.extend(older);
    }
    Ok(recent)
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

/// A release of another region says nothing about this one.
fn refuse_elsewhere(deploy: &Deploy, cx: &Context) -> Result<(), Failure> {
    let recorded = deploy.goal.as_ref().and_then(|goal| goal.to.region.as_ref());
    match (recorded, &cx.cloud.target().region) {
        (Some(then), Some(now)) if then != now => Err(Failure::of(
            FailureClass::Refused,
            format!("that release of {} is one of {then}, and the environment is {now} now", deploy.service),
        )),
        _ => Ok(()),
    }
}

async fn wanted(
    deploy: &Deploy,
    cx: &Context,
    ecs: Ecs<'_>,
    service: &Service,
    running: Option<&Registered>,
) -> Result<Wanted, Failure> {
    let mut warnings = Vec::new();
    let (mut from, mut read) = (None, None);
    let (mut definition, called) = match (&deploy.base, running) {
        (Base::Running, Some(running)) => (Definition::of(running), short_arn(running.arn()).to_owned()),
        (Base::Running, None) => {
            return Err(Failure::from(Absent::Definition(short_arn(&service.task_definition).to_owned()))
                .help(format!("it is what {} runs; give task-definition FILE", deploy.service)));
        }
        (Base::Revision(name), _) => {
            let registered = service::definition(ecs, name).await.map_err(|absent| gone(deploy, absent))?;
            let definition = Definition::of(&registered);
            from = Some(registered);
            (definition, short_arn(name).to_owned())
        }
        (Base::File(file), _) => {
            let text = cx.world.files.read_text(&cx.world.files.locate(file)?)?;
            let (definition, unknown) = Definition::from_file(file, &text)?;
            read = Some((file.clone(), digest(text.as_bytes())));
            for member in unknown {
                warnings.push(format!("{file}: {member} is passed on, flow does not know it"));
            }
            (definition, file.clone())
        }
    };
    let unknown = definition.edit(&edits(deploy, cx, &definition), &called)?;
    Ok(Wanted { definition, unknown, warnings, from, file: read })
}

/// In a rollback a definition that is not there is one that somebody deleted.
fn gone(deploy: &Deploy, absent: Absent) -> Failure {
    match (&deploy.goal, absent) {
        (Some(_), Absent::Definition(name)) => Failure::missing(format!(
            "{} cannot go back to {name}: that task definition was deleted",
            deploy.service
        ))
        .help("roll back to another release"),
        (_, absent) => absent.into(),
    }
}

/// What the file says, and what it no longer says.
fn edits(deploy: &Deploy, cx: &Context, definition: &Definition) -> Vec<ContainerEdit> {
    let mut edits = deploy.containers.clone();
    let Some(recorded) = State::recorded(cx).filter(|_| deploy.base == Base::Running) else {
        return edits;
    };
    for name in definition.container_names() {
        if !edits.iter().any(|edit| edit.name == name) {
            edits.push(ContainerEdit { name, ..ContainerEdit::default() });
        }
    }
    for edit in &mut edits {
        edit.gone = recorded.gone(edit);
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
        wanted.from.iter().chain(&observed.recent).find(|one| one.is_active() && same(one))
    {
        Target::Registered(found.arn().to_owned())
    } else {
        Target::New(Box::new(wanted.definition.clone()))
    };
    let configuration = Configuration::of(service, deploy);
    let moves = !is_known || !target.is(&service.task_definition);
    let way = decide(service, deploy, moves, &configuration);
    let recorded = match &deploy.goal {
        Some(goal) => goal.now.clone(),
        None => State::recorded(cx),
    };
    let placeholder = if recorded.is_none() { placeholder(deploy, &observed) } else { None };
    let draft = Draft {
        released: recorded.as_ref().map(|recorded| recorded.task_definition.as_str()),
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
    proposal.baseline = baseline(service);
    proposal.inputs.extend(wanted.file.clone());
    let running = observed.running.as_ref().map(Definition::of);
    let now = State::of(deploy, cx, service, &service.task_definition, running.as_ref(), service.primary());
    let Some(way) = way else {
        proposal.outputs = outputs(service, service.task_definition.as_str(), service.primary());
        proposal.receipt = now.left_by(deploy).to_json();
        return proposal;
    };
    let found = match &way {
        Way::Update(_) => now,
        Way::Await(_) => before(deploy, cx, service, recorded.as_ref()).unwrap_or(now),
    };
    proposal.standing = found.found_by(deploy, recorded.as_ref()).to_json();
    proposal.reversible = Reversible::Auto;
    proposal.outputs = Outputs::from([("service".to_owned(), Output::text(&service.service_name))]);
    if !is_known {
        return proposal;
    }
    let definition = wanted.definition;
    proposal.with(Roll { deploy: deploy.clone(), observed, wanted: definition, target, way, placeholder })
}

/// What the service ran before the deployment that is under way: what the release has, else what
/// that deployment takes the place of.
fn before(deploy: &Deploy, cx: &Context, service: &Service, recorded: Option<&State>) -> Option<State> {
    let is_other = |arn: &str| arn != service.task_definition;
    if let Some(recorded) = recorded.filter(|recorded| is_other(&recorded.task_definition)) {
        return Some(recorded.clone());
    }
    let old = replaced(service).filter(|old| is_other(&old.task_definition))?;
    let mut state = State::of(deploy, cx, service, &old.task_definition, None, Some(old));
    // An old deployment is on its way to none.
    state.desired = service.desired_count;
    Some(state)
}

/// The revision that the service had before flow's first release: its ARN, and what it is in words.
fn placeholder(deploy: &Deploy, observed: &Observed) -> Option<(String, String)> {
    let running = observed.running.as_ref().filter(|_| deploy.goal.is_none())?;
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

/// What an operator would look at to see whether somebody was here. Nothing in it moves by itself.
fn baseline(service: &Service) -> Value {
    let deployment = service.primary().map_or("none", |primary| &primary.id);
    let mut facts = Map::from_iter([
        ("task definition".to_owned(), Value::from(short_arn(&service.task_definition))),
        ("deployment".to_owned(), deployment.into()),
        ("desired".to_owned(), service.desired_count.into()),
    ]);
    let settings = told(&service.deployment_configuration);
    facts.extend(settings.map(|(name, value)| (name.to_owned(), value.into())));
    facts.into()
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
