//! Types of conditions, checked with the file. `model::check` calls it.

use std::fmt;

use crate::syntax::problem::{Problem, Problems};
use crate::syntax::source::Span;

use super::{Comparison, Condition, Expr};
use crate::model::template::{Part, Reference, Template};
use crate::model::value::Value;

/// What is known of a value's type before anything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// Several values.
    List,
    /// A secret, which cannot be compared.
    Secret,
    /// Only the run will tell: outputs of programs, variables that differ between environments.
    Unknown,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a string",
            Self::Int => "a number",
            Self::Bool => "a boolean",
            Self::List => "a list",
            Self::Secret => "a secret",
            Self::Unknown => "known only later",
        })
    }
}

/// Knows the types of references.
pub trait Types {
    /// The type of what a reference names; `Unknown` also for what does not exist.
    fn of(&self, reference: &Reference) -> Type;
}

impl Expr {
    /// From its first to its last leaf.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Value(template) | Self::Defined(template) => template.span,
            Self::Changed(_, span) => *span,
            Self::Not(inner) | Self::Matches(inner, _) => inner.span(),
            Self::And(a, b) | Self::Or(a, b) | Self::In(a, b) | Self::Compare(_, a, b) => {
                a.span().to(b.span())
            }
        }
    }

    /// Every value in it.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Value(template) | Self::Defined(template) => vec![template],
            Self::Changed(..) => Vec::new(),
            Self::Not(inner) | Self::Matches(inner, _) => inner.templates(),
            Self::And(a, b) | Self::Or(a, b) | Self::In(a, b) | Self::Compare(_, a, b) => {
                let mut all = a.templates();
                all.extend(b.templates());
                all
            }
        }
    }

    /// Every value in it, to be changed.
    pub fn templates_mut(&mut self, change: &mut impl FnMut(&mut Template)) {
        match self {
            Self::Value(template) | Self::Defined(template) => change(template),
            Self::Changed(..) => {}
            Self::Not(inner) | Self::Matches(inner, _) => inner.templates_mut(change),
            Self::And(a, b) | Self::Or(a, b) | Self::In(a, b) | Self::Compare(_, a, b) => {
                a.templates_mut(change);
                b.templates_mut(change);
            }
        }
    }
}

impl Condition {
    /// Reports every clash of types.
    pub fn check(&self, types: &dyn Types, problems: &mut Problems) {
        want(&self.expr, Type::Bool, "a condition is true or false", types, problems);
    }
}

fn want(expr: &Expr, wanted: Type, message: &str, types: &dyn Types, problems: &mut Problems) {
    let found = type_of(expr, types, problems);
    if found != wanted && found != Type::Unknown {
        problems.push(Problem::at(expr.span(), message).label(format!("this is {found}")));
    }
}

/// The type of an expression; reports clashes inside it.
fn type_of(expr: &Expr, types: &dyn Types, problems: &mut Problems) -> Type {
    match expr {
        Expr::Value(template) => type_of_value(template, types),
        Expr::Not(inner) => {
            want(inner, Type::Bool, "! turns true and false round", types, problems);
            Type::Bool
        }
        Expr::And(a, b) => {
            for side in [a, b] {
                want(side, Type::Bool, "&& joins what is true or false", types, problems);
            }
            Type::Bool
        }
        Expr::Or(a, b) => {
            for side in [a, b] {
                want(side, Type::Bool, "|| joins what is true or false", types, problems);
            }
            Type::Bool
        }
        Expr::Compare(Comparison::Equal | Comparison::NotEqual, a, b) => {
            equal(a, b, types, problems);
            Type::Bool
        }
        Expr::Compare(_, a, b) => {
            for side in [a, b] {
                want(side, Type::Int, "only numbers have an order", types, problems);
            }
            Type::Bool
        }
        Expr::In(a, b) => {
            contained(a, b, types, problems);
            Type::Bool
        }
        Expr::Matches(inner, _) => {
            want(inner, Type::Text, "=~ looks at a string", types, problems);
            Type::Bool
        }
        Expr::Defined(_) | Expr::Changed(..) => Type::Bool,
    }
}

fn equal(a: &Expr, b: &Expr, types: &dyn Types, problems: &mut Problems) {
    let (left, right) = (type_of(a, types, problems), type_of(b, types, problems));
    for (side, found) in [(a, left), (b, right)] {
        if found == Type::Secret {
            problems.push(Problem::at(side.span(), "a secret cannot be compared"));
            return;
        }
    }
    if left != right && left != Type::Unknown && right != Type::Unknown {
        problems.push(
            Problem::at(b.span(), "these two can never be equal")
                .label(format!("this is {right}"))
                .also(a.span(), format!("this is {left}")),
        );
    }
}

fn contained(a: &Expr, b: &Expr, types: &dyn Types, problems: &mut Problems) {
    if type_of(a, types, problems) == Type::Secret {
        problems.push(Problem::at(a.span(), "a secret cannot be compared"));
    }
    let found = type_of(b, types, problems);
    // A variable with one value counts as a list of one, so only what can never be one is refused.
    let literal = matches!(b, Expr::Value(template) if template.as_literal().is_some());
    if matches!(found, Type::Int | Type::Bool | Type::Secret) || (literal && found == Type::Text) {
        problems.push(
            Problem::at(b.span(), "\"in\" needs a list at its right")
                .label(format!("this is {found}"))
                .help("compare with single values by == and ||"),
        );
    }
}

fn type_of_value(template: &Template, types: &dyn Types) -> Type {
    match template.parts.as_slice() {
        [Part::Literal(value)] => match value {
            Value::Text(_) | Value::Record(_) => Type::Text,
            Value::Int(_) => Type::Int,
            Value::Bool(_) => Type::Bool,
            Value::List(_) => Type::List,
            Value::Secret(_) => Type::Secret,
        },
        [Part::Reference(reference)] => types.of(&reference.value),
        _ => Type::Text,
    }
}
