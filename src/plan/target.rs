//! An environment as written → where its steps act, and its variables.

use std::collections::BTreeMap;

use crate::model::project::{Environment, Var};
use crate::model::template::{Missing, Reference, Scope, Template, Unresolved};
use crate::model::value::{Field, Record, Value};
use crate::syntax::problem::Problems;
use crate::world::aws::Target;
use crate::world::git::Git;

use super::graph::unresolved;
use super::scope::git_fact;

/// An environment with every reference replaced.
#[derive(Clone, Debug)]
pub struct ResolvedEnvironment {
    /// Where steps act.
    pub target: Target,
    /// `env.*`: the built-in ones and the variables.
    pub vars: BTreeMap<String, Value>,
}

/// Resolves an environment. Its values may refer to `git.*` and `env.*`, each other included.
#[must_use]
pub fn resolve(environment: &Environment, git: &Git) -> (ResolvedEnvironment, Problems) {
    let mut problems = Problems::default();
    let scope = EnvironmentScope { environment, git, depth: 0 };
    let mut text = |template: &Option<Template>| {
        let template = template.as_ref()?;
        match template.resolve(&scope) {
            Ok(field) => field.known().and_then(Value::as_text),
            Err(error) => {
                problems.push(unresolved(&error));
                None
            }
        }
    };
    let target = Target {
        environment: environment.name.value.clone(),
        account: text(&environment.account),
        region: text(&environment.region),
        profile: text(&environment.profile),
        role: text(&environment.role),
        endpoint: text(&environment.endpoint),
        registry: text(&environment.registry),
        protected: environment.protected,
    };
    let mut vars = BTreeMap::new();
    for name in ["name", "account", "region", "protected"]
        .into_iter()
        .chain(environment.vars.keys().map(String::as_str))
    {
        match scope.variable(name) {
            Ok(Some(value)) => {
                vars.insert(name.to_owned(), value);
            }
            Ok(None) => {}
            Err(error) => problems.push(unresolved(&error)),
        }
    }
    (ResolvedEnvironment { target, vars }, problems)
}

/// Variables that refer to one another. The depth ends a circle.
struct EnvironmentScope<'a> {
    environment: &'a Environment,
    git: &'a Git,
    depth: usize,
}

const DEEPEST: usize = 32;

impl EnvironmentScope<'_> {
    fn variable(&self, name: &str) -> Result<Option<Value>, Unresolved> {
        let environment = self.environment;
        let one = |template: &Template| {
            Ok::<_, Unresolved>(match template.resolve(self)? {
                Field::Known(value) => value,
                Field::After(_) => Value::text(""),
            })
        };
        if let Some(var) = environment.vars.get(name) {
            return Ok(Some(match var {
                Var::One(template) => one(template)?,
                Var::List(items) => Value::List(items.iter().map(one).collect::<Result<_, _>>()?),
                Var::Records(records) => {
                    let mut list = Vec::new();
                    for (name, fields) in records {
                        let fields = fields
                            .iter()
                            .map(|(key, value)| Ok((key.clone(), one(value)?)))
                            .collect::<Result<_, Unresolved>>()?;
                        list.push(Value::Record(Record { name: name.clone(), fields }));
                    }
                    Value::List(list)
                }
            }));
        }
        Ok(match name {
            "name" => Some(Value::text(environment.name.value.as_str())),
            "protected" => Some(Value::Bool(environment.protected)),
            "account" => environment.account.as_ref().map(one).transpose()?,
            "region" => environment.region.as_ref().map(one).transpose()?,
            _ => None,
        })
    }
}

impl Scope for EnvironmentScope<'_> {
    fn lookup(&self, reference: &Reference) -> Result<Field<Value>, Missing> {
        let name = match reference {
            Reference::Env(name) => name,
            Reference::Git(fact) => return git_fact(self.git, *fact).map(Field::Known),
            _ => return Err(Missing::NotHere("anything but env.* and git.*".to_owned())),
        };
        let missing =
            || Missing::EnvVar { name: name.clone(), environment: self.environment.name.value.to_string() };
        if self.depth >= DEEPEST {
            return Err(Missing::NotHere(format!("env.{name}, which refers to itself,")));
        }
        let deeper = EnvironmentScope { environment: self.environment, git: self.git, depth: self.depth + 1 };
        deeper.variable(name).map_err(|error| error.why)?.map(Field::Known).ok_or_else(missing)
    }
}
