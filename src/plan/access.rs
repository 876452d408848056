//! What a run may reach: the accounts of its environments, who may approve
//! there, and the secrets that its steps refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::flow::Flow;
use crate::model::kind::Nature;
use crate::model::names::EnvName;
use crate::model::policy::Policy;
use crate::model::project::{Environment, Project, SecretDeclaration};
use crate::model::settings::{Given, Setting, Shape, Written};
use crate::model::template::{Reference, Template};
use crate::model::value::Field;
use crate::world::World;
use crate::world::aws::{AwsErrorClass, Cloud, IdentityError};
use crate::world::cancel::Cancel;
use crate::world::masker::is_maskable;
use crate::world::secrets;

use super::graph::{Goal, Graph, Node, NodeId};
use super::inside::Insides;
use super::moved;
use super::policy::{self, Policies, PolicyError};
use super::prepare::{PrepareError, find_environment};
use super::scope::{Values, each_scope};
use super::selection::Selection;
use super::target;

/// The accounts of environments beside the run's.
pub(super) struct Beside {
    /// Environments that single steps name for themselves.
    pub steps: BTreeMap<EnvName, Arc<Cloud>>,
    /// Environments that settings of steps name: something is read in their accounts.
    pub read: BTreeMap<EnvName, Arc<Cloud>>,
}

/// The environments that selected steps name, and the account of each. What a release records is
/// returned to without those that it was read from.
pub(super) fn beside(
    project: &Project,
    graph: &Graph,
    selection: &Selection,
    values: &Values,
    world: &World,
) -> Result<Beside, PrepareError> {
    let mut beside = Beside { steps: BTreeMap::new(), read: BTreeMap::new() };
    for (_, node) in graph.iter().filter(|(id, _)| selection.contains(*id)) {
        if let Some(name) = named(node, values) {
            let cloud = cloud_of(project, &name, values, world)?;
            beside.steps.insert(name, cloud);
        }
        if matches!(node.goal, Some(Goal::Recorded(_))) {
            continue;
        }
        for template in named_by(node.step.kind.settings, &node.step.settings) {
            if let Some(name) = resolved(template, node, values) {
                let cloud = cloud_of(project, &name, values, world)?;
                beside.read.insert(name, cloud);
            }
        }
    }
    Ok(beside)
}

/// Those that single steps name and in which one may change something: what only looks there needs
/// nobody's leave.
pub(super) fn changed_elsewhere(graph: &Graph, selection: &Selection, values: &Values) -> BTreeSet<EnvName> {
    graph
        .iter()
        .filter(|(id, node)| selection.contains(*id) && node.step.is_deploying(true))
        .filter_map(|(_, node)| named(node, values))
        .collect()
}

/// The environment that a step names for itself.
fn named(node: &Node, values: &Values) -> Option<EnvName> {
    resolved(node.step.common.environment.as_ref()?, node, values)
}

fn resolved(template: &Template, node: &Node, values: &Values) -> Option<EnvName> {
    let name = template.resolve(&each_scope(values, &node.each)).ok()?;
    Some(EnvName::new(name.known().and_then(crate::model::value::Value::as_text)?))
}

/// What stands in the settings that name environments.
fn named_by<'a>(table: &[Setting], written: &'a Written) -> Vec<&'a Template> {
    let mut found = Vec::new();
    for setting in table {
        match (written.get(setting.name), &setting.shape) {
            (Some(Given::One(template)), _) if setting.environment => found.push(template),
            (Some(Given::Nodes(nodes)), Shape::Node { fields, .. }) => {
                found.extend(nodes.iter().flat_map(|node| named_by(fields, &node.settings)));
            }
            _ => {}
        }
    }
    found
}

fn cloud_of(
    project: &Project,
    name: &EnvName,
    values: &Values,
    world: &World,
) -> Result<Arc<Cloud>, PrepareError> {
    let environment = find_environment(project, name, &values.git)?;
    let (resolved, problems) = target::resolve(environment, &world.git);
    if !problems.is_empty() {
        return Err(PrepareError::Problems(problems));
    }
    Ok(Arc::new(Cloud::new(resolved.target, world.host.clone())))
}

/// The project, the run's environment, those that single steps name, and the account of each.
pub(super) type Places<'a> =
    (&'a Project, &'a Environment, &'a [Arc<Environment>], &'a Cloud, &'a BTreeMap<EnvName, Arc<Cloud>>);

/// Who may approve in the run's environment and in those that single steps name. An account is asked
/// for its record where something is protected or a gate may ask; anybody else need not wait for it.
pub(super) async fn policies(
    graph: &Graph,
    selection: &Selection,
    values: &Values,
    (project, environment, sides, cloud, others): Places<'_>,
) -> Result<Policies, PrepareError> {
    let may_ask = |(id, node): &(NodeId, &Node)| {
        let scope = each_scope(values, &node.each);
        let mut conditions = node.step.common.when.iter();
        selection.contains(*id)
            && node.step.kind.nature == Nature::Gate
            && !conditions.any(|when| matches!(when.evaluate(&scope), Ok(Field::Known(false))))
    };
    let mut gates = graph.iter().filter(may_ask).peekable();
    let unprotected = !environment.protected && sides.is_empty();
    if unprotected && gates.peek().is_none() {
        return Ok(Policies { all: Arc::default() });
    }
    let only_added = gates.all(|(_, node)| node.added);
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
        match policy::read(project, environment, cloud).await {
            Ok(policy) => all.push(policy),
            // Nobody said that somebody must approve: who may not read a record is asked all the same.
            Err(PolicyError::Unread { why, .. })
                if unprotected && only_added && why.class == AwsErrorClass::Denied => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Policies { all: all.into() })
}

/// Asks who the credentials belong to, if any selected step can change or read an account.
pub(super) async fn verify(
    graph: &Graph,
    selection: &Selection,
    cloud: &Cloud,
    others: impl Iterator<Item = &Arc<Cloud>>,
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
    for other in others {
        other.verify().await?;
    }
    Ok(())
}

/// Reads the secrets that selected steps refer to, and no others.
pub(super) async fn load_secrets(
    (flow, inside): (&Flow, &Insides),
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
        let (of, own) = whose(flow, inside, name);
        // The environment's declaration wins over the flow's: it knows where it keeps things.
        let declared: Option<&SecretDeclaration> =
            environment.secrets.iter().chain(&of.secrets).find(|secret| secret.name == own);
        let value = match declared {
            _ if !world.host.trusts_the_checkout() => {
                Err(format!("secret {name} is not read: the checkout is not trusted"))
            }
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

/// The flow that declares a secret, and what it is called there.
fn whose<'a>(flow: &'a Flow, inside: &'a Insides, name: &'a str) -> (&'a Flow, &'a str) {
    let of_another = inside.values().find_map(|one| Some((&*one.flow, moved::own_name(&one.host, name)?)));
    of_another.unwrap_or((flow, name))
}
