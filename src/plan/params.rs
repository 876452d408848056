//! `-p name=value` against the parameters of a flow.

use std::collections::BTreeMap;

use crate::model::flow::{Flow, Param, ParamType};
use crate::model::template::Scope;
use crate::model::value::{Field, Value};
use crate::syntax::problem::{Problems, nearest};

use super::graph::unresolved;

/// A parameter that was given wrongly on the command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// No such parameter.
    #[error("flow {flow} has no parameter {name}{}", hint.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
    Unknown {
        /// The flow.
        flow: String,
        /// As typed.
        name: String,
        /// The nearest one.
        hint: Option<String>,
    },
    /// Another type.
    #[error("parameter {name} is {expected}, and \"{given}\" is none")]
    Type {
        /// The parameter.
        name: String,
        /// `a whole number`, …
        expected: &'static str,
        /// As typed.
        given: String,
    },
    /// Not among the choices.
    #[error("parameter {name} is one of {choices}, not \"{given}\"")]
    Choice {
        /// The parameter.
        name: String,
        /// As typed.
        given: String,
        /// All, joined by commas.
        choices: String,
    },
    /// Not given.
    #[error("parameter {name} must be given: -p {name}=…")]
    Required {
        /// The parameter.
        name: String,
    },
}

/// Gives every parameter its value: what was typed, else the default.
pub fn resolve(
    flow: &Flow,
    given: &[(String, String)],
    scope: &dyn Scope,
) -> (BTreeMap<String, Value>, Vec<ParamError>, Problems) {
    let mut values = BTreeMap::new();
    let mut errors = Vec::new();
    let mut problems = Problems::default();
    for (name, _) in given {
        if !flow.params.iter().any(|param| param.name == *name) {
            let hint = nearest(name, flow.params.iter().map(|param| param.name.as_str())).map(str::to_owned);
            errors.push(ParamError::Unknown { flow: flow.name.to_string(), name: name.clone(), hint });
        }
    }
    for param in &flow.params {
        // The last one typed counts, as with every other flag.
        let typed = given.iter().rev().find(|(name, _)| *name == param.name);
        let value = match (typed, &param.default) {
            (Some((_, text)), _) => read(param, text),
            (None, Some(default)) => match default.resolve(scope) {
                Ok(Field::Known(value)) => Ok(value),
                Ok(Field::After(_)) => continue,
                Err(error) => {
                    problems.push(unresolved(&error));
                    continue;
                }
            },
            (None, None) if param.required => Err(ParamError::Required { name: param.name.clone() }),
            (None, None) => Ok(empty(param.kind)),
        };
        match value.and_then(|value| choose(param, value)) {
            Ok(value) => {
                values.insert(param.name.clone(), value);
            }
            Err(error) => errors.push(error),
        }
    }
    (values, errors, problems)
}

fn empty(kind: ParamType) -> Value {
    match kind {
        ParamType::Text | ParamType::Path => Value::text(""),
        ParamType::Int => Value::Int(0),
        ParamType::Bool => Value::Bool(false),
        ParamType::List => Value::List(Vec::new()),
    }
}

fn read(param: &Param, text: &str) -> Result<Value, ParamError> {
    let wrong = |expected| ParamError::Type { name: param.name.clone(), expected, given: text.to_owned() };
    Ok(match param.kind {
        ParamType::Text | ParamType::Path => Value::text(text),
        ParamType::Int => Value::Int(text.parse().map_err(|_| wrong("a whole number"))?),
        ParamType::Bool => Value::Bool(text.parse().map_err(|_| wrong("true or false"))?),
        ParamType::List => Value::texts(text.split(',').map(str::trim).filter(|item| !item.is_empty())),
    })
}

fn choose(param: &Param, value: Value) -> Result<Value, ParamError> {
    let allowed = |item: &Value| param.choices.iter().any(|choice| choice.as_text() == item.as_text());
    let wrong = value.clone().into_items().into_iter().find(|item| !allowed(item));
    match wrong {
        Some(item) if !param.choices.is_empty() => Err(ParamError::Choice {
            name: param.name.clone(),
            given: item.as_text().unwrap_or_default(),
            choices: param.choices.iter().filter_map(Value::as_text).collect::<Vec<_>>().join(", "),
        }),
        _ => Ok(value),
    }
}
