//! Strings with `${…}` in them, as data.
//!
//! References are static: which steps, variables and secrets a string needs is
//! known without running anything, which is what makes a reference to a step's
//! output an edge of the graph.

use crate::syntax::source::{Span, Spanned};

pub mod parse;
#[cfg(test)]
mod tests;

use super::names::{StepId, StepName};
use super::value::{Field, Value};

/// A value as written: text with references in it, or a plain number or boolean.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The pieces in order. One single reference keeps the type of what it refers to.
    pub parts: Vec<Part>,
    /// Where the value stands, quotes included.
    pub span: Span,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A value that stands there as it is (text, number, boolean).
    Literal(Value),
    /// `${…}`, with the place of what stands between the braces.
    Reference(Spanned<Reference>),
}

/// What `${…}` can name.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// `env.NAME`: `name`, `account`, `region`, `protected`, or a variable; `env.NAME.FIELD` is no form.
    Env(String),
    /// `param.NAME`.
    Param(String),
    /// `each.VAR` or `each.VAR.FIELD`.
    Each(String, Option<String>),
    /// `git.FACT`.
    Git(GitFact),
    /// `run.FACT`.
    Run(RunFact),
    /// `step.NAME.OUTPUT`, `step.NAME[INDEX,…].OUTPUT`.
    Step(StepReference),
    /// `secret.NAME`.
    Secret(String),
}

/// `step.image[each.svc].uri`
#[derive(Clone, Debug, PartialEq)]
pub struct StepReference {
    /// The step as written.
    pub name: StepName,
    /// What stands in brackets; empty when there are none.
    pub index: Vec<Template>,
    /// The output, or `changed`.
    pub output: String,
}

/// What is known of the checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitFact {
    /// Full commit id.
    Sha,
    /// Its first eight characters.
    Short,
    /// Branch name, empty when detached.
    Branch,
    /// Tag at this commit, empty without.
    Tag,
    /// Whether tracked files differ from the commit.
    Dirty,
    /// The commit's time, `20260102T150405Z`.
    Time,
}

/// What is known of the run. `Outcome`, `Failed` and `Duration` only in `summary` and `finally`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFact {
    /// The run's id.
    Id,
    /// When it started; outside every digest.
    Time,
    /// `succeeded`, `failed`, `interrupted`.
    Outcome,
    /// The steps that failed.
    Failed,
    /// How long it took so far.
    Duration,
}

impl Template {
    /// A value without references.
    #[must_use]
    pub fn literal(value: Value, span: Span) -> Self {
        Self { parts: vec![Part::Literal(value)], span }
    }

    /// The value when there is no reference in it.
    #[must_use]
    pub fn as_literal(&self) -> Option<&Value> {
        match self.parts.as_slice() {
            [Part::Literal(value)] => Some(value),
            _ => None,
        }
    }

    /// Every reference, also those inside brackets.
    #[must_use]
    pub fn references(&self) -> Vec<&Spanned<Reference>> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Spanned<Reference>>) {
        for part in &self.parts {
            if let Part::Reference(reference) = part {
                found.push(reference);
                if let Reference::Step(step) = &reference.value {
                    step.index.iter().for_each(|index| index.collect(found));
                }
            }
        }
    }

    /// Puts values in.
    ///
    /// One single reference keeps its type. Text around references makes text;
    /// text around a secret makes a secret; anything known only after a step
    /// makes the whole known only after that step.
    pub fn resolve(&self, scope: &dyn Scope) -> Result<Field<Value>, Unresolved> {
        if let [part] = self.parts.as_slice() {
            return resolve_part(part, scope);
        }
        let mut text = String::new();
        let mut secret = false;
        for part in &self.parts {
            match resolve_part(part, scope)? {
                Field::After(step) => return Ok(Field::After(step)),
                Field::Known(Value::Secret(value)) => {
                    secret = true;
                    text.push_str(value.expose());
                }
                Field::Known(value) => text.push_str(&value.as_text().unwrap_or_default()),
            }
        }
        Ok(Field::Known(if secret {
            Value::Secret(super::secret::Secret::new(text))
        } else {
            Value::Text(text)
        }))
    }
}

fn resolve_part(part: &Part, scope: &dyn Scope) -> Result<Field<Value>, Unresolved> {
    match part {
        Part::Literal(value) => Ok(Field::Known(value.clone())),
        Part::Reference(reference) => {
            scope.lookup(&reference.value).map_err(|why| Unresolved { span: reference.span, why })
        }
    }
}

/// Gives references their values.
pub trait Scope {
    /// The value of a reference, or why there is none.
    fn lookup(&self, reference: &Reference) -> Result<Field<Value>, Missing>;

    /// Whether a file that one of these globs matches changed since the environment's last release.
    fn changed(&self, _globs: &[String]) -> Result<bool, Missing> {
        Err(Missing::NotHere("changed(…)".to_owned()))
    }
}

/// Why a reference has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The chosen environment lacks it.
    #[error("environment {environment} has no variable {name}")]
    EnvVar {
        /// The variable.
        name: String,
        /// The environment.
        environment: String,
    },
    /// A parameter without a value.
    #[error("parameter {0} has no value")]
    Param(String),
    /// A record without that field.
    #[error("{record} has no field {field}")]
    Field {
        /// The record's name.
        record: String,
        /// The field.
        field: String,
    },
    /// A step that `when` skips.
    #[error("step {step} is skipped because its when is false: {when}")]
    Skipped {
        /// The step.
        step: StepId,
        /// Its condition as written.
        when: String,
    },
    /// A step that did not say this output.
    #[error("step {step} has no output {output}")]
    Output {
        /// The step.
        step: StepId,
        /// The output.
        output: String,
    },
    /// A step outside the selection about which no release knows anything.
    #[error("step {0} is not selected and no release records it")]
    Unselected(StepId),
    /// An instance that does not exist.
    #[error("there is no step {0}")]
    NoStep(StepId),
    /// A secret that could not be read.
    #[error("{why}")]
    Secret {
        /// The secret.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// A value that came out as something else than the place needs.
    #[error("\"{value}\" is not {wanted}")]
    Unfit {
        /// The value.
        value: String,
        /// `a number`, `#true or #false`.
        wanted: &'static str,
    },
    /// A fact of the checkout, where there is no commit.
    #[error("git.{0} is not known: this is no checkout of a commit")]
    Checkout(&'static str),
    /// Something that is not in scope here.
    #[error("{0} is not known here")]
    NotHere(String),
}

/// A reference without a value, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unresolved {
    /// Between the braces.
    pub span: Span,
    /// Why.
    pub why: Missing,
}
