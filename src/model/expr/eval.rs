//! Evaluates a condition against a scope. Pure; `plan` and `exec` call it.
//!
//! A side that is known decides alone where it can: `false && x` is false although `x` is known
//! only after a step.

use std::cmp::Ordering;

use crate::syntax::source::Span;

use super::{Comparison, Condition, Expr};
use crate::model::names::StepId;
use crate::model::template::{Missing, Scope, Template, Unresolved};
use crate::model::value::{Field, Value};

type Evaluated<T> = Result<Field<T>, Unresolved>;

impl Condition {
    /// Whether it holds, or after which step that will be known.
    pub fn evaluate(&self, scope: &dyn Scope) -> Evaluated<bool> {
        truth(&self.expr, scope)
    }
}

fn truth(expr: &Expr, scope: &dyn Scope) -> Evaluated<bool> {
    Ok(match expr {
        Expr::Value(template) => match template.resolve(scope)? {
            Field::Known(value) => Field::Known(as_bool(&value, template.span)?),
            Field::After(step) => Field::After(step),
        },
        Expr::Not(inner) => truth(inner, scope)?.map(|inner| !inner),
        Expr::And(left, right) => either(false, left, right, scope)?,
        Expr::Or(left, right) => either(true, left, right, scope)?,
        Expr::Compare(comparison, left, right) => match both(left, right, scope)? {
            Ok((a, b)) => Field::Known(compare(*comparison, &a, &b, expr.span())?),
            Err(step) => Field::After(step),
        },
        Expr::In(left, right) => match both(left, right, scope)? {
            Ok((item, list)) => Field::Known(list.into_items().iter().any(|other| same(&item, other))),
            Err(step) => Field::After(step),
        },
        Expr::Matches(left, pattern) => match value(left, scope)? {
            Field::Known(value) => Field::Known(matches(&value, pattern, left.span())?),
            Field::After(step) => Field::After(step),
        },
        Expr::Defined(template) => match template.resolve(scope) {
            Ok(Field::After(step)) => Field::After(step),
            Ok(Field::Known(_)) | Err(Unresolved { why: Missing::Secret { .. }, .. }) => Field::Known(true),
            Err(_) => Field::Known(false),
        },
        Expr::Changed(globs, span) => {
            Field::Known(scope.changed(globs).map_err(|why| Unresolved { span: *span, why })?)
        }
    })
}

/// `&&` and `||`: `decides` on either side is the answer, whatever the other side is.
fn either(decides: bool, left: &Expr, right: &Expr, scope: &dyn Scope) -> Evaluated<bool> {
    let left = truth(left, scope)?;
    if left == Field::Known(decides) {
        return Ok(left);
    }
    let right = truth(right, scope)?;
    Ok(match (left, right) {
        (_, Field::Known(answer)) if answer == decides => Field::Known(decides),
        (Field::After(step), _) | (_, Field::After(step)) => Field::After(step),
        (Field::Known(_), Field::Known(answer)) => Field::Known(answer),
    })
}

fn both(left: &Expr, right: &Expr, scope: &dyn Scope) -> Result<Result<(Value, Value), StepId>, Unresolved> {
    Ok(match (value(left, scope)?, value(right, scope)?) {
        (Field::Known(a), Field::Known(b)) => Ok((a, b)),
        (Field::After(step), _) | (_, Field::After(step)) => Err(step),
    })
}

fn value(expr: &Expr, scope: &dyn Scope) -> Evaluated<Value> {
    match expr {
        Expr::Value(template) => Template::resolve(template, scope),
        other => Ok(truth(other, scope)?.map(Value::Bool)),
    }
}

fn unfit(value: &Value, wanted: &'static str, span: Span) -> Unresolved {
    let value = value.as_text().unwrap_or_else(|| "a secret".to_owned());
    Unresolved { span, why: Missing::Unfit { value, wanted } }
}

fn as_bool(value: &Value, span: Span) -> Result<bool, Unresolved> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::Text(text) if text == "true" => Ok(true),
        Value::Text(text) if text == "false" => Ok(false),
        other => Err(unfit(other, "#true or #false", span)),
    }
}

fn as_int(value: &Value, span: Span) -> Result<i64, Unresolved> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Text(text) => text.trim().parse().map_err(|_| unfit(value, "a whole number", span)),
        other => Err(unfit(other, "a whole number", span)),
    }
}

/// Outputs of programs are text, so `"3"` is the same as `3`; a record is the same as its name.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (!a.is_secret() && !b.is_secret() && a.as_text() == b.as_text())
}

fn compare(comparison: Comparison, a: &Value, b: &Value, span: Span) -> Result<bool, Unresolved> {
    let order = match comparison {
        Comparison::Equal => return Ok(same(a, b)),
        Comparison::NotEqual => return Ok(!same(a, b)),
        _ => as_int(a, span)?.cmp(&as_int(b, span)?),
    };
    Ok(match comparison {
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

fn matches(value: &Value, pattern: &str, span: Span) -> Result<bool, Unresolved> {
    let text = value.as_text().ok_or_else(|| unfit(value, "text", span))?;
    let pattern =
        regex_lite::Regex::new(pattern).map_err(|_| unfit(&Value::text(pattern), "a pattern", span))?;
    Ok(pattern.is_match(&text))
}
