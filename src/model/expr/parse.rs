//! Text to a [`Condition`]: a Pratt parser over the decoded text of `when`.
//!
//! Every leaf keeps its place in the file, from which `expr::types` underlines a clash.

use crate::syntax::problem::{Problem, Problems};
use crate::syntax::source::Span;
use crate::syntax::tree::{Literal, Scalar};

use super::{Comparison, Condition, Expr};
use crate::model::template::parse::{Path, ROOTS};
use crate::model::template::{Part, Template};
use crate::model::value::Value;

/// How deep parentheses and `!` may nest; far beyond what anybody reads.
const DEPTH: usize = 32;

impl Condition {
    /// Reads a condition. `None` when something in it is wrong, which is then in `problems`.
    pub fn parse(literal: &Literal, problems: &mut Problems) -> Option<Self> {
        let text = match &literal.scalar {
            Scalar::Text(text) => text,
            Scalar::Bool(flag) => {
                let expr = Expr::Value(Template::literal(Value::Bool(*flag), literal.span));
                return Some(Self { expr, text: flag.to_string(), span: literal.span });
            }
            _ => {
                problems.push(
                    Problem::at(literal.span, "a condition is a string")
                        .label(format!("this is {}", literal.type_name())),
                );
                return None;
            }
        };
        let mut parser = Parser { text, at: 0, literal, depth: 0 };
        match parser.whole() {
            Ok(expr) => Some(Self { expr, text: text.clone(), span: literal.span }),
            Err(Failed(problem)) => {
                problems.push(*problem);
                None
            }
        }
    }
}

/// What is wrong; boxed, since it is larger than any result.
struct Failed(Box<Problem>);

impl From<Box<Problem>> for Failed {
    fn from(problem: Box<Problem>) -> Self {
        Self(problem)
    }
}

type Parsed<T> = Result<T, Failed>;

#[derive(Clone, Copy, PartialEq)]
enum Operator {
    Or,
    And,
    Compare(Comparison),
    In,
    Matches,
}

impl Operator {
    fn power(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Compare(_) | Self::In | Self::Matches => 3,
        }
    }
}

/// Longest first, so that `<=` is not read as `<`.
const OPERATORS: [(&str, Operator); 9] = [
    ("||", Operator::Or),
    ("&&", Operator::And),
    ("==", Operator::Compare(Comparison::Equal)),
    ("!=", Operator::Compare(Comparison::NotEqual)),
    ("=~", Operator::Matches),
    ("<=", Operator::Compare(Comparison::LessOrEqual)),
    (">=", Operator::Compare(Comparison::GreaterOrEqual)),
    ("<", Operator::Compare(Comparison::Less)),
    (">", Operator::Compare(Comparison::Greater)),
];

struct Parser<'a> {
    text: &'a str,
    at: usize,
    literal: &'a Literal,
    depth: usize,
}

impl Parser<'_> {
    fn whole(&mut self) -> Parsed<Expr> {
        let expr = self.expression(0)?;
        self.blanks();
        if self.at == self.text.len() {
            return Ok(expr);
        }
        Err(self.not_an_operator())
    }

    fn place(&self, start: usize, end: usize) -> Span {
        self.literal.place(start, end)
    }

    fn error(&self, start: usize, end: usize, message: impl Into<String>, label: &str) -> Failed {
        Failed(Box::new(Problem::at(self.place(start, end), message).label(label)))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// What stands at `at`, as far as it belongs together, for messages.
    fn lump(&self) -> usize {
        let rest = self.rest();
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let word = rest.find(|c: char| !is_path(c)).unwrap_or(rest.len());
        self.at + word.max(first)
    }

    fn not_an_operator(&self) -> Failed {
        let end = self.lump();
        let found = &self.text[self.at..end];
        let label = match found {
            "=" => "write == to compare",
            "&" | "and" | "AND" => "write && for and",
            "|" | "or" | "OR" => "write || for or",
            "not" => "write ! for not",
            ")" => "no ( stands before it",
            "+" | "-" | "*" | "/" => "there is no arithmetic",
            _ => "an operator is expected: == != < <= > >= && || in =~",
        };
        self.error(self.at, end, format!("\"{found}\" cannot stand here"), label)
    }

    fn operator(&self) -> Option<(Operator, usize)> {
        let rest = self.rest();
        let symbol = OPERATORS.iter().find(|(text, _)| rest.starts_with(text));
        if let Some((text, operator)) = symbol {
            return Some((*operator, text.len()));
        }
        let word = rest.strip_prefix("in")?;
        (!word.starts_with(is_path)).then_some((Operator::In, 2))
    }

    fn expression(&mut self, power: u8) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(self.at, self.at, "this condition nests too deeply", ""));
        }
        let mut left = self.operand()?;
        let mut compared = false;
        loop {
            self.blanks();
            let Some((operator, len)) = self.operator().filter(|(operator, _)| operator.power() > power)
            else {
                break;
            };
            if operator.power() == 3 && compared {
                let label = "write a == b && b == c";
                return Err(self.error(self.at, self.at + len, "comparisons cannot be chained", label));
            }
            compared = operator.power() == 3;
            let start = self.at;
            self.at += len;
            left = self.combine(operator, left, start)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn combine(&mut self, operator: Operator, left: Expr, start: usize) -> Parsed<Expr> {
        if operator == Operator::Matches {
            return self.pattern(left, start);
        }
        let right = Box::new(self.expression(operator.power())?);
        let left = Box::new(left);
        Ok(match operator {
            Operator::Or => Expr::Or(left, right),
            Operator::And => Expr::And(left, right),
            Operator::Compare(comparison) => Expr::Compare(comparison, left, right),
            Operator::In | Operator::Matches => Expr::In(left, right),
        })
    }

    fn pattern(&mut self, left: Expr, operator: usize) -> Parsed<Expr> {
        self.blanks();
        let start = self.at;
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return Err(self.error(operator, operator + 2, "=~ needs a pattern in quotes at its right", ""));
        };
        let pattern = self.quoted(quote)?;
        match regex_lite::Regex::new(&pattern) {
            Ok(_) => Ok(Expr::Matches(Box::new(left), pattern)),
            Err(error) => {
                let why = error.to_string();
                Err(self.error(
                    start,
                    self.at,
                    "this pattern cannot be read",
                    why.lines().last().unwrap_or_default(),
                ))
            }
        }
    }

    fn operand(&mut self) -> Parsed<Expr> {
        self.blanks();
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            let message = if self.text.trim().is_empty() {
                "this condition is empty"
            } else {
                "something is missing at the end of this condition"
            };
            return Err(self.error(start.saturating_sub(1), start, message, ""));
        };
        match first {
            '!' => {
                self.at += 1;
                self.depth += 1;
                if self.depth > DEPTH {
                    return Err(self.error(self.at, self.at, "this condition nests too deeply", ""));
                }
                let inner = self.operand()?;
                self.depth -= 1;
                Ok(Expr::Not(Box::new(inner)))
            }
            '(' => {
                self.at += 1;
                let inner = self.expression(0)?;
                self.blanks();
                if self.rest().starts_with(')') {
                    self.at += 1;
                    return Ok(inner);
                }
                if self.rest().is_empty() {
                    return Err(self.error(start, start + 1, "\"(\" is never closed", "no ) follows"));
                }
                Err(self.not_an_operator())
            }
            '"' | '\'' => {
                let text = self.quoted(first)?;
                Ok(self.value(start, Value::Text(text)))
            }
            '0'..='9' => self.number(start),
            '-' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(start),
            '$' => Err(self.error(
                start,
                self.text.len().min(start + 2),
                "a condition needs no ${…}",
                "write the name alone: env.protected",
            )),
            c if is_path(c) => self.path(start),
            _ => Err(self.error(
                start,
                start + first.len_utf8(),
                format!("\"{first}\" cannot stand here"),
                "a value is expected",
            )),
        }
    }

    fn value(&self, start: usize, value: Value) -> Expr {
        Expr::Value(Template::literal(value, self.place(start, self.at)))
    }

    fn quoted(&mut self, quote: char) -> Parsed<String> {
        let start = self.at;
        let body = &self.text[start + 1..];
        let Some(len) = body.find(quote) else {
            return Err(self.error(start, self.text.len(), "this string is never closed", ""));
        };
        let text = body[..len].to_owned();
        self.at = start + len + 2;
        Ok(text)
    }

    fn number(&mut self, start: usize) -> Parsed<Expr> {
        let end = self.lump();
        let text = &self.text[start..end];
        self.at = end;
        match text.parse() {
            Ok(number) => Ok(self.value(start, Value::Int(number))),
            Err(_) => {
                Err(self.error(start, end, format!("\"{text}\" is no whole number"), "text stands in quotes"))
            }
        }
    }

    /// A name with dots, brackets and dashes; `true`; `defined(x)`.
    fn path(&mut self, start: usize) -> Parsed<Expr> {
        let end = self.path_end();
        let text = &self.text[start..end];
        self.at = end;
        match text {
            "true" => return Ok(self.value(start, Value::Bool(true))),
            "false" => return Ok(self.value(start, Value::Bool(false))),
            _ => {}
        }
        if self.rest().trim_start().starts_with('(') {
            return self.call(start, end);
        }
        if !text.contains('.') && !ROOTS.contains(&text) {
            return Err(self.error(
                start,
                end,
                format!("there is nothing called \"{text}\""),
                &format!("write '{text}' for text, env.{text} for a variable"),
            ));
        }
        Ok(Expr::Value(self.reference(start, end)?))
    }

    fn path_end(&self) -> usize {
        let mut bracket = false;
        for (at, c) in self.rest().char_indices() {
            match c {
                '[' => bracket = true,
                ']' => bracket = false,
                _ if bracket || is_path(c) => {}
                _ => return self.at + at,
            }
        }
        self.text.len()
    }

    fn reference(&self, start: usize, end: usize) -> Parsed<Template> {
        let path = Path { text: &self.text[start..end], at: start, literal: self.literal };
        let reference = path.reference()?;
        Ok(Template { span: reference.span, parts: vec![Part::Reference(reference)] })
    }

    fn call(&mut self, start: usize, end: usize) -> Parsed<Expr> {
        let name = &self.text[start..end];
        if name == "changed" {
            return self.changed(start, end);
        }
        if name != "defined" {
            return Err(self.error(
                start,
                end,
                format!("there is no function \"{name}\""),
                "there are defined(x) and changed(\"glob\")",
            ));
        }
        self.blanks();
        self.at += 1;
        self.blanks();
        let from = self.at;
        let to = self.path_end();
        if from == to {
            return Err(self.error(start, end, "defined needs a name", "write defined(env.NAME)"));
        }
        let template = self.reference(from, to)?;
        self.at = to;
        self.blanks();
        if !self.rest().starts_with(')') {
            return Err(self.error(start, self.at.max(end), "defined takes one name", "a ) is expected"));
        }
        self.at += 1;
        Ok(Expr::Defined(template))
    }

    /// `("glob", …)` behind `changed`.
    fn changed(&mut self, start: usize, end: usize) -> Parsed<Expr> {
        let mut globs = Vec::new();
        self.blanks();
        loop {
            // The bracket, or the comma.
            self.at += 1;
            self.blanks();
            let from = self.at;
            let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'')) else {
                let label = "write changed(\"frontend/**\")";
                return Err(self.error(start, end, "changed needs globs in quotes", label));
            };
            let glob = self.quoted(quote)?;
            if let Err(error) = globset::Glob::new(&glob) {
                let why = error.kind().to_string();
                return Err(self.error(from, self.at, format!("\"{glob}\" is no glob"), &why));
            }
            globs.push(glob);
            self.blanks();
            match self.rest().chars().next() {
                Some(',') => {}
                Some(')') => break,
                _ => {
                    return Err(self.error(
                        start,
                        self.at.max(end),
                        "\"(\" is never closed",
                        "a ) is expected",
                    ));
                }
            }
        }
        self.at += 1;
        Ok(Expr::Changed(globs, self.place(start, self.at)))
    }
}

fn is_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}
