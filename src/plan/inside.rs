//! `rollback` steps: another flow goes back inside a run.
//!
//! Each such step is replaced by the steps that would go back if `flow
//! rollback` was typed for the flow that it names: that flow's graph, turned
//! round, under names like `back/site`. They are nodes of the run's graph like
//! any other, so everything that holds for a step holds for them.
//!
//! - What the step needs comes before all of them, what needs it after.
//! - Gates and `finally` of the other flow are left to the run.
//! - Where the step's `when` is false, or it is not selected, it stays as it
//!   is: whether anything could go back does not matter then.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::journal::releases::{Release, Releases};
use crate::journal::sequence;
use crate::model::flow::Flow;
use crate::model::names::{FlowName, StepId, StepName};
use crate::model::project::Project;
use crate::model::settings::{Ready, Unready};
use crate::model::step::Step;
use crate::model::value::{Field, Value};
use crate::syntax::problem::{Problem, Problems};
use crate::world::store::Store;

use super::backwards::{self, BackError, Backwards, Company, Turned, Wish};
use super::graph::{Edge, Goal, Graph, Guest, Node, NodeId, unresolved};
use super::moved;
use super::params::{self, ParamError};
use super::prepare::{PrepareError, Request, find_flow, recorded_params};
use super::scope::{Values, each_scope};
use super::selection::Typed;

/// A flow that goes back inside a run.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The `rollback` step.
    pub host: StepName,
    /// The flow that goes back.
    pub flow: Arc<Flow>,
    /// Where it stands: its newest release.
    pub current: Release,
    /// Its newest release that did not fail.
    pub good: Option<Release>,
    /// Where it goes.
    pub back: Backwards,
    /// Number of its next run here that changes something.
    pub sequence: u64,
    /// Its parameters, by the names that it gives them.
    pub params: BTreeMap<String, Value>,
}

/// The flows that go back inside a run, by `rollback` step.
pub type Insides = BTreeMap<StepName, Arc<Inside>>;

/// What is needed to know where a flow can go.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// All flows.
    pub project: &'a Project,
    /// What references mean in the run.
    pub values: &'a Values,
    /// All releases.
    pub releases: &'a Releases,
    /// Where runs are numbered.
    pub store: &'a Store,
}

/// A flow with others inside.
#[derive(Debug)]
pub struct Expanded {
    /// The flow, with the pools of the others.
    pub flow: Flow,
    /// Its graph, with the steps of the others.
    pub graph: Graph,
    /// The others.
    pub inside: Insides,
}

/// Puts the steps that go back into the place of every `rollback` step of a run.
pub fn expand(
    flow: &Flow,
    graph: Graph,
    request: &Request,
    around: Around<'_>,
) -> Result<Expanded, PrepareError> {
    let (mut flow, mut inside, mut guests) = (flow.clone(), Insides::new(), BTreeMap::new());
    for (id, node) in graph.iter().filter(|(_, node)| node.step.is_rollback()) {
        if !is_wanted(&node.step, &request.typed) || is_off(&node.step, around.values) {
            continue;
        }
        let (one, nodes) = one(&node.step, request, around)?;
        let pools = one.flow.pools.iter();
        flow.pools.extend(pools.map(|(pool, size)| (moved::called(&one.host, pool), *size)));
        guests.insert(id, nodes);
        inside.insert(one.host.clone(), Arc::new(one));
    }
    let graph = if guests.is_empty() { graph } else { graph.replaced(guests) };
    Ok(Expanded { flow, graph, inside })
}

/// What was typed for the flow itself: not for one that goes back inside (`-p back/tag=v1`).
#[must_use]
pub fn own_params(flow: &Flow, typed: &[(String, String)]) -> Vec<(String, String)> {
    let hosts: Vec<&StepName> =
        flow.steps.iter().filter(|step| step.is_rollback()).map(|step| &step.name.value).collect();
    let of_another = |name: &String| hosts.iter().any(|host| moved::own_name(host, name).is_some());
    typed.iter().filter(|(name, _)| !of_another(name)).cloned().collect()
}

/// The parameters of all that goes back inside, as the run calls them.
pub fn called_params(inside: &Insides) -> impl Iterator<Item = (String, Value)> + '_ {
    inside.values().flat_map(|one| {
        one.params.iter().map(|(name, value)| (moved::called(&one.host, name), value.clone()))
    })
}

/// Whether a selection may be about steps of it.
fn is_wanted(step: &Step, typed: &Typed) -> bool {
    let whole = |name: &String| {
        name == step.name.value.as_str() || step.groups.iter().any(|group| group.as_str() == name)
    };
    let part = |name: &String| whole(name) || moved::own_name(&step.name.value, name).is_some();
    (typed.only.is_empty() || typed.only.iter().any(part)) && !typed.skip.iter().any(whole)
}

/// Whether its condition is false whatever happens.
fn is_off(step: &Step, values: &Values) -> bool {
    let scope = each_scope(values, &[]);
    step.common.when.iter().any(|when| matches!(when.evaluate(&scope), Ok(Field::Known(false))))
}

/// What a `rollback` step says.
struct Said {
    flow: FlowName,
    only: Vec<String>,
    to: Option<u64>,
}

fn mistake(problem: Problem) -> PrepareError {
    let mut problems = Problems::default();
    problems.push(problem);
    PrepareError::Problems(problems)
}

fn said(step: &Step, values: &Values) -> Result<Said, PrepareError> {
    let wrong = |setting: &str, why: String| {
        let span = step.settings.span(setting).unwrap_or(step.name.span);
        mistake(Problem::at(span, why))
    };
    let unready = |error: Unready| match error {
        Unready::After { setting, step } => {
            wrong(setting, format!("what goes back must be known before anything runs, not after {step}"))
        }
        Unready::Invalid { setting, why } => wrong(setting, why),
    };
    let settings: Ready =
        step.settings.resolve(&each_scope(values, &[])).map_err(|error| mistake(unresolved(&error)))?;
    let to = match settings.opt_text("to").map_err(unready)?.as_deref() {
        None | Some("last-good") => None,
        Some(number) => Some(number.parse().map_err(|_| {
            wrong("to", format!("a release's number or last-good is expected, not \"{number}\""))
        })?),
    };
    Ok(Said {
        flow: FlowName::new(settings.text("flow").map_err(unready)?),
        only: settings.texts("only").map_err(unready)?,
        to,
    })
}

fn one(step: &Step, request: &Request, around: Around<'_>) -> Result<(Inside, Vec<Node>), PrepareError> {
    let Around { project, values, releases, store } = around;
    let (host, environment) = (&step.name.value, &values.environment);
    let said = said(step, values)?;
    let flow = find_flow(project, &said.flow)?;
    let to = request.inside.get(host).copied().or(said.to);
    let target = backwards::target(releases, environment, &flow.name, &Wish { to, incident: None })?;
    let none = || BackError::NoRelease { environment: environment.clone(), flow: flow.name.clone() };
    let current = releases.current(environment, &flow.name)?.ok_or_else(none)?;
    let params = own_values(flow, host, request, &target, values)?;
    let own = Values { params: params.clone(), ..values.clone() };
    let (forward, problems) = Graph::build(flow, &own);
    if !problems.is_empty() {
        return Err(PrepareError::Problems(problems));
    }
    let typed = Typed { only: said.only, skip: Vec::new() };
    let turned = backwards::between(flow, &forward, &typed, Company::Inside, (&current, &target))
        .map_err(PrepareError::Selection)?;
    if !turned.graph.iter().any(|(_, node)| matches!(node.goal, Some(Goal::Recorded(_)))) {
        return Err(BackError::Empty { id: target.id }.into());
    }
    let nodes = nodes(step, &turned);
    let inside = Inside {
        host: host.clone(),
        flow: Arc::new(flow.clone()),
        good: releases.good(environment, &flow.name)?,
        sequence: sequence::next(store, environment, &flow.name)?,
        back: Backwards { to: Arc::new(target), stays: turned.stays, incident: None },
        current,
        params,
    };
    Ok((inside, nodes))
}

/// The values of its parameters: what was typed for it, else what the release was made with.
fn own_values(
    flow: &Flow,
    host: &StepName,
    request: &Request,
    target: &Release,
    values: &Values,
) -> Result<BTreeMap<String, Value>, PrepareError> {
    let typed: Vec<(String, String)> = request
        .params
        .iter()
        .filter_map(|(name, value)| Some((moved::own_name(host, name)?.to_owned(), value.clone())))
        .collect();
    let given = recorded_params(flow, target, &typed);
    let (params, errors, problems) = params::resolve(flow, &given, &each_scope(values, &[]));
    if !errors.is_empty() {
        // As it is to be typed for this run.
        let called = errors.into_iter().map(|error| match error {
            ParamError::Required { name } => ParamError::Required { name: moved::called(host, &name) },
            other => other,
        });
        return Err(PrepareError::Params(called.collect()));
    }
    if problems.is_empty() { Ok(params) } else { Err(PrepareError::Problems(problems)) }
}

/// The turned steps as they are called in the run, in the order in which they go back; edges point
/// into the same list.
fn nodes(host: &Step, turned: &Turned) -> Vec<Node> {
    let order = turned.graph.order();
    let mut places = vec![NodeId(0); order.len()];
    order.iter().enumerate().for_each(|(place, id)| places[id.0] = NodeId(place));
    let when = Arc::new(host.common.when.clone());
    let mut steps: BTreeMap<&StepName, Arc<Step>> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(order.len());
    for id in order {
        let node = turned.graph.node(id);
        let shared = steps.entry(&node.id.name).or_insert_with(|| Arc::new(moved::step(host, &node.step)));
        let before = node.before.iter().filter(|edge| turned.selection.contains(edge.to));
        nodes.push(Node {
            id: moved::id(&host.name.value, &node.id),
            step: Arc::clone(shared),
            each: Arc::clone(&node.each),
            before: before.map(|edge| Edge { to: places[edge.to.0], ..*edge }).collect(),
            finally: false,
            goal: node.goal.clone(),
            guest: Some(Guest {
                host: host.name.value.clone(),
                id: node.id.clone(),
                when: Arc::clone(&when),
                takes_part: turned.selection.contains(id),
            }),
            added: false,
        });
    }
    nodes
}

impl Inside {
    /// What is recorded of a step where the flow stands.
    #[must_use]
    pub fn outputs(&self, id: &StepId) -> Option<crate::model::value::Outputs> {
        let recorded = self.back.to.steps.get(id).or_else(|| self.current.steps.get(id))?;
        Some(recorded.outputs.clone())
    }

    /// Whether another run has recorded or begun anything of the flow since.
    pub fn is_outdated(&self, around: (&Releases, &Store)) -> Result<bool, PrepareError> {
        let ((releases, store), environment) = (around, &self.current.environment);
        let current = releases.current(environment, &self.flow.name)?;
        Ok(self.sequence != sequence::next(store, environment, &self.flow.name)?
            || current.is_none_or(|release| release.id != self.current.id))
    }
}

#[cfg(test)]
mod tests;
