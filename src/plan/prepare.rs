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
use crate::model::names::{EnvName, FlowName, RunId, StepId, StepName};
use crate::model::project::{Environment, Project};
use crate::model::value::Outputs;
use crate::syntax::problem::{Problems, nearest};
use crate::world::World;
use crate::world::aws::{Cloud, IdentityError};
use crate::world::cancel::{Cancel, Stopped};
use crate::world::files::FileError;
use crate::world::git::Git;
use crate::world::keyed::Sealer;

use super::backwards::{self, BackError, Backwards, Company, Wish};
use super::changes::Changes;
use super::graph::{Goal, Graph, NodeId};
use super::inside::{self, Around, Expanded, Inside, Insides};
use super::params::{self, ParamError};
use super::policy::{Policies, PolicyError};
use super::scope::{RunFacts, Values, each_scope};
use super::selection::{self, Selection, SelectionError, Typed};
use super::target;
use super::{access, added_gates};

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
    /// `--untrusted`: the checkout may be a stranger's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrusted: bool,
    /// Not what the flow says but what a release records.
    pub back: Option<Wish>,
    /// The run that goes on, when it is one that began before.
    #[serde(skip)]
    pub resumes: Option<RunId>,
    /// The releases that `rollback` steps go to, where that was decided before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inside: BTreeMap<StepName, u64>,
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
    /// Accounts of environments that settings of single steps name: something is read there.
    pub elsewhere: Arc<BTreeMap<EnvName, Arc<Cloud>>>,
    /// Of the environments that single steps name those in which they may change something, as written.
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
    /// The flows that go back inside it.
    pub inside: Insides,
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
    let all_releases = Releases::new(world.store.clone());
    let releases = all_releases.before_run(request.resumes.as_ref());
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
    let typed = inside::own_params(flow, &request.params);
    let (given, errors, mut problems) = params::resolve(flow, &typed, &each_scope(&values, &[]));
    if !errors.is_empty() {
        return Err(PrepareError::Params(errors));
    }
    values.params = given;
    let (graph, more) = Graph::build(flow, &values);
    problems.extend(more);
    if !problems.is_empty() {
        return Err(PrepareError::Problems(problems));
    }
    let around = Around { project, values: &values, releases: &releases, store: &world.store };
    let Expanded { flow, graph, inside } = match &target {
        None => inside::expand(flow, graph, &request, around)?,
        Some(_) => Expanded { flow: flow.clone(), graph, inside: Insides::new() },
    };
    // What it goes back to stays decided, whatever is recorded until it is resumed.
    request.inside = inside.values().map(|one| (one.host.clone(), one.back.to.id)).collect();
    values.params.extend(inside::called_params(&inside));
    let live = releases.live(&environment.name.value)?;
    let current = releases.current(&environment.name.value, &flow.name)?;
    let good = releases.good(&environment.name.value, &flow.name)?;
    values.changes = Changes::since(world.git.clone(), good.as_ref(), &releases)?;
    let (graph, selection, back) = if let (Some(target), Some(current)) = (target, &current) {
        let (graph, selection, back) = turn(&flow, &graph, &request, current, target)?;
        (graph, selection, Some(back))
    } else {
        let recorded = |id: &StepId| recorded(good.as_ref(), id);
        let selection =
            selection::select(&flow, &graph, &request.typed, &recorded).map_err(PrepareError::Selection)?;
        (graph, selection, None)
    };
    let (graph, selection) = added_gates::add(graph, selection, &values);
    let cloud = Arc::new(Cloud::new(resolved.target, world.host.clone()));
    let beside = access::beside(project, &graph, &selection, &values, &world)?;
    let access::Beside { steps: others, read: elsewhere } = beside;
    let all = others.values().chain(elsewhere.values());
    cancel.unless_stopped(Box::pin(access::verify(&graph, &selection, &cloud, all))).await??;
    let changed = access::changed_elsewhere(&graph, &selection, &values);
    let sides: Vec<Arc<Environment>> = project
        .environments
        .iter()
        .filter(|side| changed.contains(&side.name.value))
        .map(|side| Arc::new(side.clone()))
        .collect();
    let around = (project, environment, &sides[..], &*cloud, &others);
    let policies =
        cancel.unless_stopped(Box::pin(access::policies(&graph, &selection, &values, around))).await??;
    let flows = (&flow, &inside);
    values.secrets =
        access::load_secrets(flows, environment, &graph, &selection, &world, &cloud, cancel).await;
    Ok(Prepared {
        environment: Arc::new(environment.clone()),
        sealer: Sealer::load(&world.store)?,
        sequence: sequence::next(&world.store, &environment.name.value, &flow.name)?,
        flow: Arc::new(flow),
        cache: Cache::new(&world),
        request,
        graph,
        selection,
        values,
        cloud,
        others,
        elsewhere: Arc::new(elsewhere),
        sides,
        policies,
        project: project.name.clone(),
        live,
        current,
        good,
        releases: all_releases,
        world,
        files_digest,
        back,
        inside,
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
    let turned = backwards::between(flow, graph, &request.typed, Company::All, (current, &target))
        .map_err(PrepareError::Selection)?;
    if !turned.graph.iter().any(|(_, node)| matches!(node.goal, Some(Goal::Recorded(_)))) {
        return Err(BackError::Empty { id: target.id }.into());
    }
    let incident = request.back.as_ref().and_then(|wish| wish.incident);
    let back = Backwards { to: Arc::new(target), stays: turned.stays, incident };
    Ok((turned.graph, turned.selection, Arc::new(back)))
}

/// The parameters that a release was made with, where the flow still has them and nothing else was
/// typed: they decide which instances there are.
pub(super) fn recorded_params(
    flow: &Flow,
    target: &Release,
    typed: &[(String, String)],
) -> Vec<(String, String)> {
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
    project.flow(name.as_str()).ok_or_else(|| {
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
    if let Some(found) = project.environment(name.as_str()) {
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
    let matches = |globs: &[String], name: Option<&str>| {
        name.is_some_and(|name| {
            globs
                .iter()
                .any(|glob| globset::Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(name)))
        })
    };
    (branches.is_empty() && tags.is_empty())
        || (!branches.is_empty() && matches(branches, git.facts().branch.as_deref()))
        || (!tags.is_empty() && matches(tags, git.tag()))
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
                    found: git.facts().branch.clone().or_else(|| git.tag().map(str::to_owned)),
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
        let releases = self.releases.before_run(self.request.resumes.as_ref());
        for inside in self.inside.values() {
            if inside.is_outdated((&releases, &self.world.store))? {
                return Ok(true);
            }
        }
        Ok(self.sequence != sequence::next(&self.world.store, environment, flow)?
            || id(&self.live) != id(&releases.live(environment)?)
            || id(&self.current) != id(&releases.current(environment, flow)?)
            || id(&self.good) != id(&releases.good(environment, flow)?))
    }

    /// The flow that a step goes back with inside this run, and what the step is called there.
    #[must_use]
    pub fn guest(&self, id: &StepId) -> Option<(&Arc<Inside>, &StepId)> {
        // Nearly always: it is asked several times for each step.
        if self.inside.is_empty() {
            return None;
        }
        let guest = self.graph.node(self.graph.find_id(id)?).guest.as_ref()?;
        Some((self.inside.get(&guest.host)?, &guest.id))
    }

    /// What the newest release of its flow records of a step.
    #[must_use]
    pub fn recorded(&self, id: &StepId) -> Option<Arc<Recorded>> {
        let found = match self.guest(id) {
            Some((inside, own)) => recorded(Some(&inside.current), own),
            None => recorded(self.current.as_ref(), id),
        };
        // What was only found was not made by the flow: nothing follows from it for what the flow
        // leaves out now.
        found.filter(|recorded| !recorded.adopted)
    }

    /// What the newest release of a run that succeeded records of a step.
    #[must_use]
    pub fn settled(&self, id: &StepId) -> Option<Arc<Recorded>> {
        let found = match self.guest(id) {
            Some((inside, own)) => recorded(inside.good.as_ref(), own),
            None => recorded(self.good.as_ref(), id),
        };
        found.filter(|recorded| !recorded.adopted)
    }

    /// What a step hands on in a rollback before it was looked at: what it handed on where the
    /// rollback goes, else where it stands.
    #[must_use]
    pub fn recorded_outputs(&self, id: &StepId) -> Option<Outputs> {
        if let Some((inside, own)) = self.guest(id) {
            return inside.outputs(own);
        }
        let back = self.back.as_ref()?;
        let recorded = back.to.steps.get(id).or_else(|| self.current.as_ref()?.steps.get(id))?;
        Some(recorded.outputs.clone())
    }
}
