//! Types of what conditions name.

use super::Checker;
use crate::model::expr::types::{Type, Types};
use crate::model::flow::{Flow, ParamType};
use crate::model::project::{Project, Var};
use crate::model::step::Step;
use crate::model::template::{GitFact, Part, Reference, RunFact, Template};
use crate::model::value::Value;

struct Known<'a> {
    project: &'a Project,
    flow: &'a Flow,
}

impl Checker<'_> {
    /// Checks the types of a step's conditions.
    pub(super) fn conditions(&mut self, step: &Step) {
        let known = Known { project: self.project, flow: self.flow };
        for condition in &step.common.when {
            condition.check(&known, self.problems);
        }
    }
}

impl Types for Known<'_> {
    fn of(&self, reference: &Reference) -> Type {
        match reference {
            Reference::Env(name) => env(self.project, name),
            Reference::Param(name) => {
                let param = self.flow.params.iter().find(|param| param.name == *name);
                param.map_or(Type::Unknown, |param| match param.kind {
                    ParamType::Text | ParamType::Path => Type::Text,
                    ParamType::Int => Type::Int,
                    ParamType::Bool => Type::Bool,
                    ParamType::List => Type::List,
                })
            }
            Reference::Git(GitFact::Dirty) => Type::Bool,
            Reference::Run(RunFact::Failed) => Type::List,
            Reference::Git(_) | Reference::Run(_) => Type::Text,
            Reference::Secret(_) => Type::Secret,
            Reference::Step(step) if step.output == "changed" => Type::Bool,
            Reference::Step(_) | Reference::Each(..) => Type::Unknown,
        }
    }
}

/// The type of a variable, where all environments that have it agree.
fn env(project: &Project, name: &str) -> Type {
    match name {
        "name" | "account" | "region" => return Type::Text,
        "protected" => return Type::Bool,
        _ => {}
    }
    let mut types = project.environments.iter().filter_map(|env| env.vars.get(name)).map(|var| match var {
        Var::One(template) => literal(template),
        Var::List(_) | Var::Records(_) => Type::List,
    });
    let first = types.next().unwrap_or(Type::Unknown);
    if types.all(|other| other == first) { first } else { Type::Unknown }
}

fn literal(template: &Template) -> Type {
    match template.parts.as_slice() {
        [Part::Literal(Value::Int(_))] => Type::Int,
        [Part::Literal(Value::Bool(_))] => Type::Bool,
        [Part::Reference(_)] => Type::Unknown,
        _ => Type::Text,
    }
}
