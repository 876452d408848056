//! `when`: conditions, parsed and typed when the file is checked.

mod eval;
mod parse;
#[cfg(test)]
mod tests;
pub mod types;

use crate::syntax::source::Span;

use super::template::Template;

/// A condition and its text, which messages quote.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The parsed form.
    pub expr: Expr,
    /// As written.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// A node of a condition. Types were checked; evaluating can fail only for want of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A literal, or a reference as a one-part template.
    Value(Template),
    /// `!a`
    Not(Box<Expr>),
    /// `a && b`
    And(Box<Expr>, Box<Expr>),
    /// `a || b`
    Or(Box<Expr>, Box<Expr>),
    /// `a == b` and the others.
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// `a in b`
    In(Box<Expr>, Box<Expr>),
    /// `a =~ "pattern"`, compiled when checked.
    Matches(Box<Expr>, String),
    /// `defined(x)`
    Defined(Template),
    /// `changed("glob", …)` and where it stands.
    Changed(Vec<String>, Span),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}
