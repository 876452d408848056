//! Everything that must be known before the world is asked what would change.
//!
//! In this order: environment, checkout, parameters, graph, selection, account,
//! secrets. Nothing of a step is looked at before the account is verified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::journal::releases::{Recorded, Release, ReleaseError, Releases};
use crate::journal::sequence;
use crate::model::flow::Flow;
use crate::model::kind::Nature;
use crate::model::names::{EnvName, FlowName, StepId};
use crate::model::policy::Policy;
use crate::model::project::{Environment, Project, SecretDeclaration};
use crate::model::template::Reference;
use crate::model::value::Field;
use crate::model::value::Outputs;
use crate::syntax::problem::{Problems, nearest};
use crate::world::World;
use crate::world::aws::{Cloud, IdentityError};
use crate::world::cancel::{Cancel, Stopped};
use crate::world::files::FileError;
use crate::world::git::Git;
use crate::world::keyed::Sealer;
use crate::world::masker::is_maskable;
use crate::world::secrets;

use super::backwards::{self, BackError, Backwards, Wish};
use super::changes::Changes;
use super::graph::{Goal, Graph, NodeId};
use super::params::{self, ParamError};
use super::policy::{self, Policies, PolicyError};
use super::scope::{RunFacts, Values, each_scope};
use super::selection::{self, Selection, SelectionError, Typed};
use super::target;

/// What was asked for on the command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The flow.
    pub flow: FlowName,
    /// The environment; `auto` for the one whose branch or tag matches.
    pub environment: EnvName,
    /// `--only` and `--skip`.
    pub typed: Typed,
    /// `-p name=value`
    pub params: Vec<(String, String)>,
    /// `--no-cache`
    pub no_cache: bool,
    /// Not what the flow says but what a release records.
    pub back: Option<Wish>,
}

/// Everything that is the same for all steps of a run.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The request.
    pub request: Request,
    /// The flow.
    pub flow: Arc<Flow>,
    /// The environment as written.
    pub environment: Arc<Environment>,
    /// All instances.
    pub graph: Graph,
    /// Which of them the run is about.
    pub selection: Selection,
    /// What references mean.
    pub values: Values,
    /// The machine and the project.
    pub world: World,
    /// The account of the environment.
    pub cloud: Arc<Cloud>,
    /// Accounts of environments that single steps name.
    pub others: BTreeMap<EnvName, Arc<Cloud>>,
    /// Those environments as written.
    pub sides: Vec<Arc<Environment>>,
    /// Who may approve; read where somebody is asked.
    pub policies: Policies,
    /// The project's name.
    pub project: String,
    /// The live release of this environment.
    pub live: Option<Release>,
    /// The newest release of this flow here, failed or not: how its steps stand.
    pub current: Option<Release>,
    /// The newest release of this flow here that did not fail: what `needs` from outside stands on.
    pub good: Option<Release>,
    /// All releases.
    pub releases: Releases,
    /// What steps that only make files left behind.
    pub cache: Cache,
    /// For digests of secrets.
    pub sealer: Sealer,
    /// Digest of the flow files.
    pub files_digest: String,
    /// Number of the flow's next run here that changes something.
    pub sequence: u64,
    /// The rollback that it is, if it is one.
    pub back: Option<Arc<Backwards>>,
    /// What the run has done already, when it is resumed.
    pub done: BTreeMap<StepId, DoneBefore>,
}

/// A step that a run did before it was interrupted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DoneBefore {
    /// What was shown behind its name.
    pub summary: String,
    /// What it handed on.
    pub outputs: Outputs,
    /// What a rollback needs.
    pub receipt: serde_json::Value,
}

/// Why a request cannot even be planned.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// No such flow.
    #[error("there is no flow {name}")]
    NoFlow {
        /// As typed.
        name: String,
        /// The nearest one.
        hint: Option<String>,
        /// All of them.
        known: Vec<String>,
    },
    /// No such environment, or `auto` matches none or several.
    #[error("there is no environment {name}")]
    NoEnvironment {
        /// As typed.
        name: String,
        /// The nearest one.
        hint: Option<String>,
        /// All of them.
        known: Vec<String>,
    },
    /// `--env auto` does not decide.
    #[error("{}", auto(.branch.as_ref(), .matching))]
    Auto {
        /// The branch of the checkout.
        branch: Option<String>,
        /// The environments that match it.
        matching: Vec<String>,
    },
    /// Parameters were given wrongly.
    #[error("parameters")]
    Params(Vec<ParamError>),
    /// The selection is not possible.
    #[error("selection")]
    Selection(Vec<SelectionError>),
    /// Mistakes in the files that only this environment shows.
    #[error("mistakes in the flow files")]
    Problems(Problems),
    /// A branch that may not deploy there.
    #[error("{environment} is deployed from {}, and this checkout is on {}", allowed.join(", "), found.as_deref().unwrap_or("no branch"))]
    Branch {
        /// The environment.
        environment: EnvName,
        /// Globs that may.
        allowed: Vec<String>,
        /// The branch or tag of the checkout.
        found: Option<String>,
    },
    /// The account is another one, or cannot be asked.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A signal came.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The store cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A release cannot be read.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// There is nothing to go back to.
    #[error(transparent)]
    Back(#[from] BackError),
    /// It is not known who may approve.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

fn auto(branch: Option<&String>, matching: &[String]) -> String {
    let place =
        branch.map_or_else(|| "this checkout, which is on no branch,".to_owned(), |b| format!("branch {b}"));
    if matching.is_empty() {
        format!("no environment is deployed from {place}")
    } else {
        format!("{place} belongs to several environments: {}", matching.join(", "))
    }
}

/// Prepares a request. The world's store must be the environment's.
pub async fn prepare(
    project: &Project,
    mut request: Request,
    world: World,
    files_digest: String,
    cancel: &Cancel,
) -> Result<Prepared, PrepareError> {
    let flow = find_flow(project, &request.flow)?;
    let environment = find_environment(project, &request.environment, &world.git)?;
    let releases = Releases::new(world.store.clone());
    let target = match &request.back {
        None => None,
        Some(wish) => Some(backwards::target(&releases, &environment.name.value, &flow.name, wish)?),
    };
    if let Some(target) = &target {
        request.params = recorded_params(flow, target, &request.params);
    }
    let (resolved, problems) = target::resolve(environment, &world.git);
    if !problems.is_empty() {
        return Err(PrepareError::Problems(problems));
    }
    let mut values = Values {
        environment: environment.name.value.clone(),
        env: resolved.vars,
        params: BTreeMap::new(),
        git: world.git.clone(),
        secrets: BTreeMap::new(),
        changes: Changes::since_nothing(world.git.clone()),
        run: RunFacts::default(),
    };
    let (given, errors, mut problems) = params::resolve(flow, &request.params, &each_scope(&values, &[]));
    if !errors.is_empty() {
        return Err(PrepareError::Params(errors));
    }
    values.params = given;
    let (graph, more) = Graph::build(flow, &values);
    problems.extend(more);
    if !problems.is_empty() {
        return Err(PrepareError::Problems(problems));
    }
    let live = releases.live(&environment.name.value)?;
    let current = releases.current(&environment.name.value, &flow.name)?;
    let good = releases.good(&environment.name.value, &flow.name)?;
    values.changes = Changes::since(world.git.clone(), good.as_ref(), &releases)?;
    let (graph, selection, back) = if let (Some(target), Some(current)) = (target, &current) {
        let (graph, selection, back) = turn(flow, &graph, &request, current, target)?;
        (graph, selection, Some(back))
    } else {
        let recorded = |id: &StepId| recorded(good.as_ref(), id);
        let selection =
            selection::select(flow, &graph, &request.typed, &recorded).map_err(PrepareError::Selection)?;
        (graph, selection, None)
    };
    let cloud = Arc::new(Cloud::new(resolved.target, world.host.clone()));
    let others = other_clouds(project, &graph, &selection, &values, &world)?;
    cancel.unless_stopped(Box::pin(verify(&graph, &selection, &cloud, &others))).await??;
    let sides: Vec<Arc<Environment>> = project
        .environments
        .iter()
        .filter(|side| others.contains_key(&side.name.value))
        .map(|side| Arc::new(side.clone()))
        .collect();
    let around = (project, environment, &sides[..], &*cloud, &others);
    let policies = cancel.unless_stopped(Box::pin(policies(&graph, &selection, &values, around))).await??;
    values.secrets = load_secrets(flow, environment, &graph, &selection, &world, &cloud, cancel).await;
    Ok(Prepared {
        flow: Arc::new(flow.clone()),
        environment: Arc::new(environment.clone()),
        sealer: Sealer::load(&world.store)?,
        sequence: sequence::next(&world.store, &environment.name.value, &flow.name)?,
        cache: Cache::new(&world),
        request,
        graph,
        selection,
        values,
        cloud,
        others,
        sides,
        policies,
        project: project.name.clone(),
        live,
        current,
        good,
        releases,
        world,
        files_digest,
        back,
        done: BTreeMap::new(),
    })
}

/// The graph of a rollback.
fn turn(
    flow: &Flow,
    graph: &Graph,
    request: &Request,
    current: &Release,
    target: Release,
) -> Result<(Graph, Selection, Arc<Backwards>), PrepareError> {
    let turned =
        backwards::between(flow, graph, &request.typed, current, &target).map_err(PrepareError::Selection)?;
    if !turned.graph.iter().any(|(_, node)| matches!(node.goal, Some(Goal::Recorded(_)))) {
        return Err(BackError::Empty { id: target.id }.into());
    }
    let incident = request.back.as_ref().and_then(|wish| wish.incident);
    let back = Backwards { to: Arc::new(target), stays: turned.stays, incident };
    Ok((turned.graph, turned.selection, Arc::new(back)))
}

/// The parameters that a release was made with, where the flow still has them and nothing else was
/// typed: they decide which instances there are.
fn recorded_params(flow: &Flow, target: &Release, typed: &[(String, String)]) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => {
            let texts =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    let has = |name: &String| flow.params.iter().any(|param| param.name == *name);
    let recorded = target.params.iter().filter(|(name, _)| has(name));
    recorded.map(|(name, value)| (name.clone(), text(value))).chain(typed.iter().cloned()).collect()
}

/// What a release records of a step.
fn recorded(release: Option<&Release>, id: &StepId) -> Option<Arc<Recorded>> {
    release.and_then(|release| release.steps.get(id)).map(|record| Arc::new(record.clone()))
}

/// The flow of that name.
pub fn find_flow<'a>(project: &'a Project, name: &FlowName) -> Result<&'a Flow, PrepareError> {
    project.flows.iter().find(|flow| flow.name == *name).ok_or_else(|| {
        let known: Vec<String> = project.flows.iter().map(|flow| flow.name.to_string()).collect();
        PrepareError::NoFlow {
            name: name.to_string(),
            hint: nearest(name.as_str(), known.iter().map(String::as_str)).map(str::to_owned),
            known,
        }
    })
}

/// The environment of that name; `auto` is the one whose branch or tag matches the checkout.
pub fn find_environment<'a>(
    project: &'a Project,
    name: &EnvName,
    git: &Git,
) -> Result<&'a Environment, PrepareError> {
    if let Some(found) = project.environments.iter().find(|environment| environment.name.value == *name) {
        return Ok(found);
    }
    if name.as_str() == "auto" {
        let matching: Vec<&Environment> = project
            .environments
            .iter()
            .filter(|environment| !(environment.branches.is_empty() && environment.tags.is_empty()))
            .filter(|environment| may_deploy_from(environment, git))
            .collect();
        return match matching.as_slice() {
            [one] => Ok(one),
            several => Err(PrepareError::Auto {
                branch: git.facts().branch.clone(),
                matching: several.iter().map(|environment| environment.name.value.to_string()).collect(),
            }),
        };
    }
    let known: Vec<String> = project.environments.iter().map(|e| e.name.value.to_string()).collect();
    Err(PrepareError::NoEnvironment {
        name: name.to_string(),
        hint: nearest(name.as_str(), known.iter().map(String::as_str)).map(str::to_owned),
        known,
    })
}

fn may_deploy_from(environment: &Environment, git: &Git) -> bool {
    matches_any(&environment.branches, &environment.tags, git)
}

/// Whether the checkout's branch or tag is one of these; without any, every one is.
fn matches_any(branches: &[String], tags: &[String], git: &Git) -> bool {
    let matches = |globs: &[String], name: &Option<String>| {
        name.as_ref().is_some_and(|name| {
            globs
                .iter()
                .any(|glob| globset::Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(name)))
        })
    };
    (branches.is_empty() && tags.is_empty())
        || matches(branches, &git.facts().branch)
        || matches(tags, &git.facts().tag)
}

impl Prepared {
    /// Refuses a checkout that may not deploy there, or into an environment that a step names for
    /// itself. Planning is allowed from anywhere.
    pub fn check_branch(&self) -> Result<(), PrepareError> {
        let git = &self.values.git;
        let written = std::iter::once(&self.environment).chain(&self.sides);
        let written = written.map(|side| (&side.name.value, &side.branches, &side.tags));
        let recorded = self.policies.all.iter().map(|p| (&p.environment, &p.branches, &p.tags));
        for (environment, branches, tags) in written.chain(recorded) {
            if !matches_any(branches, tags, git) {
                return Err(PrepareError::Branch {
                    environment: environment.clone(),
                    allowed: branches.iter().chain(tags).cloned().collect(),
                    found: git.facts().branch.clone().or_else(|| git.facts().tag.clone()),
                });
            }
        }
        Ok(())
    }

    /// The account that a step acts in.
    #[must_use]
    pub fn cloud_of(&self, id: NodeId) -> Arc<Cloud> {
        self.named_environment(id)
            .and_then(|name| self.others.get(&name))
            .map_or_else(|| Arc::clone(&self.cloud), Arc::clone)
    }

    /// The environment that a step names for itself.
    fn named_environment(&self, id: NodeId) -> Option<EnvName> {
        let node = self.graph.node(id);
        let name = node.step.common.environment.as_ref()?.resolve(&each_scope(&self.values, &node.each)).ok();
        Some(EnvName::new(name?.known().and_then(crate::model::value::Value::as_text)?))
    }

    /// The environments that the selected steps may change, whose locks the run needs: none when
    /// all that they do is make files, look and ask.
    #[must_use]
    pub fn changes(&self) -> BTreeSet<EnvName> {
        let protected = self.cloud.target().protected;
        let deploying = self
            .graph
            .iter()
            .filter(|(id, node)| self.selection.contains(*id) && node.step.is_deploying(protected));
        let own = &self.values.environment;
        deploying.flat_map(|(id, _)| self.named_environment(id).into_iter().chain([own.clone()])).collect()
    }

    /// Whether another run has recorded a release since this was prepared: what was read of
    /// releases must then be read again.
    pub fn is_outdated(&self) -> Result<bool, PrepareError> {
        let (environment, flow) = (&self.values.environment, &self.flow.name);
        let id = |release: &Option<Release>| release.as_ref().map(|release| release.id);
        Ok(self.sequence != sequence::next(&self.world.store, environment, flow)?
            || id(&self.live) != id(&self.releases.live(environment)?)
            || id(&self.current) != id(&self.releases.current(environment, flow)?)
            || id(&self.good) != id(&self.releases.good(environment, flow)?))
    }

    /// What the flow's newest release records of a step.
    #[must_use]
    pub fn recorded(&self, id: &StepId) -> Option<Arc<Recorded>> {
        // What was only found was not made by the flow: nothing follows from it for what the flow
        // leaves out now.
        recorded(self.current.as_ref(), id).filter(|recorded| !recorded.adopted)
    }

    /// What the newest release of a run that succeeded records of a step.
    #[must_use]
    pub fn settled(&self, id: &StepId) -> Option<Arc<Recorded>> {
        recorded(self.good.as_ref(), id).filter(|recorded| !recorded.adopted)
    }

    /// What a step hands on in a rollback before it was looked at: what it handed on where the
    /// rollback goes, else where it stands.
    #[must_use]
    pub fn recorded_outputs(&self, id: &StepId) -> Option<Outputs> {
        let back = self.back.as_ref()?;
        let recorded = back.to.steps.get(id).or_else(|| self.current.as_ref()?.steps.get(id))?;
        Some(recorded.outputs.clone())
    }
}

/// Environments that single steps name.
fn other_clouds(
    project: &Project,
    graph: &Graph,
    selection: &Selection,
    values: &Values,
    world: &World,
) -> Result<BTreeMap<EnvName, Arc<Cloud>>, PrepareError> {
    let mut clouds = BTreeMap::new();
    for (_, node) in graph.iter().filter(|(id, _)| selection.contains(*id)) {
        let Some(template) = &node.step.common.environment else { continue };
        let name = template.resolve(&each_scope(values, &node.each)).ok();
        let Some(name) = name.and_then(|name| name.known().and_then(crate::model::value::Value::as_text))
        else {
            continue;
        };
        let environment = find_environment(project, &EnvName::new(&name), &values.git)?;
        let (resolved, problems) = target::resolve(environment, &world.git);
        if !problems.is_empty() {
            return Err(PrepareError::Problems(problems));
        }
        clouds.insert(EnvName::new(name), Arc::new(Cloud::new(resolved.target, world.host.clone())));
    }
    Ok(clouds)
}

/// The project, the run's environment, those that single steps name, and the account of each.
type Places<'a> =
    (&'a Project, &'a Environment, &'a [Arc<Environment>], &'a Cloud, &'a BTreeMap<EnvName, Arc<Cloud>>);

/// Who may approve in the run's environment and in those that single steps name. An account is asked
/// for its record where something is protected or a gate may ask; anybody else need not wait for it.
async fn policies(
    graph: &Graph,
    selection: &Selection,
    values: &Values,
    (project, environment, sides, cloud, others): Places<'_>,
) -> Result<Policies, PrepareError> {
    let gated = graph.iter().any(|(id, node)| {
        let scope = each_scope(values, &node.each);
        let mut conditions = node.step.common.when.iter();
        selection.contains(id)
            && node.step.kind.nature == Nature::Gate
            && !conditions.any(|when| matches!(when.evaluate(&scope), Ok(Field::Known(false))))
    });
    if !gated && !environment.protected && sides.is_empty() {
        return Ok(Policies { all: Arc::default() });
    }
    let mut all = Vec::new();
    for environment in std::iter::once(environment).chain(sides.iter().map(|side| &**side)) {
        let name = &environment.name.value;
        let cloud = others.get(name).map_or(cloud, |cloud| &**cloud);
        if all.iter().any(|policy: &Policy| policy.environment == *name) {
            continue;
        }
        if cloud.target().account.is_some() {
            cloud.verify().await?;
        }
        all.push(policy::read(project, environment, cloud).await?);
    }
    Ok(Policies { all: all.into() })
}

/// Asks who the credentials belong to, if any selected step can change or read an account.
async fn verify(
    graph: &Graph,
    selection: &Selection,
    cloud: &Cloud,
    others: &BTreeMap<EnvName, Arc<Cloud>>,
) -> Result<(), IdentityError> {
    let named = cloud.target().account.is_some();
    let touches = |step: &crate::model::step::Step| {
        step.kind.aws
            || step.common.aws
            || (named && step.kind.nature == Nature::Program && step.is_deploying(false))
    };
    if graph.iter().any(|(id, node)| selection.contains(id) && touches(&node.step)) {
        cloud.verify().await?;
    }
    for other in others.values() {
        other.verify().await?;
    }
    Ok(())
}

/// Reads the secrets that selected steps refer to, and no others.
async fn load_secrets(
    flow: &Flow,
    environment: &Environment,
    graph: &Graph,
    selection: &Selection,
    world: &World,
    cloud: &Cloud,
    cancel: &Cancel,
) -> BTreeMap<String, Result<crate::model::secret::Secret, String>> {
    let mut wanted = BTreeSet::new();
    for (_, node) in graph.iter().filter(|(id, _)| selection.contains(*id)) {
        for template in node.step.templates() {
            for reference in template.references() {
                if let Reference::Secret(name) = &reference.value {
                    wanted.insert(name.as_str());
                }
            }
        }
    }
    let mut loaded = BTreeMap::new();
    for name in wanted {
        // The environment's declaration wins over the flow's: it knows where it keeps things.
        let declared: Option<&SecretDeclaration> =
            environment.secrets.iter().chain(&flow.secrets).find(|secret| secret.name == name);
        let value = match declared {
            None => Err(format!("environment {} declares no secret {name}", environment.name.value)),
            Some(declaration) => match secrets::load(declaration, world, cloud, cancel).await {
                Ok(secret) if !is_maskable(&secret) => Err(format!(
                    "secret {name} is too short to be hidden in what is shown; give it 4 characters or more"
                )),
                loaded => loaded.map_err(|error| error.to_string()),
            },
        };
        loaded.insert(name.to_owned(), value);
    }
    loaded
}
