//! Text to a [`Template`]: finds `${…}` and what it names.
//!
//! Works on decoded text and reports places through [`Literal::place`], so that the caret stands
//! inside the string of the file. Whether a name exists is asked later, by `model::check`.

use crate::syntax::problem::{Problem, Problems, nearest};
use crate::syntax::source::Spanned;
use crate::syntax::tree::{Literal, Scalar};

use super::{GitFact, Part, Reference, RunFact, StepReference, Template};
use crate::model::names::StepName;
use crate::model::value::Value;

/// What a reference can start with.
pub const ROOTS: [&str; 7] = ["env", "param", "each", "git", "run", "step", "secret"];

/// The names of facts of the checkout, as written.
pub const GIT_FACTS: [(&str, GitFact); 6] = [
    ("sha", GitFact::Sha),
    ("short", GitFact::Short),
    ("branch", GitFact::Branch),
    ("tag", GitFact::Tag),
    ("dirty", GitFact::Dirty),
    ("time", GitFact::Time),
];

/// The names of facts of the run, as written.
pub const RUN_FACTS: [(&str, RunFact); 5] = [
    ("id", RunFact::Id),
    ("time", RunFact::Time),
    ("outcome", RunFact::Outcome),
    ("failed", RunFact::Failed),
    ("duration", RunFact::Duration),
];

impl Template {
    /// Reads a value as written. `None` when something in it is wrong, which is then in `problems`.
    pub fn parse(literal: &Literal, problems: &mut Problems) -> Option<Self> {
        let value = match &literal.scalar {
            Scalar::Text(text) => return parse_text(text, literal, problems),
            Scalar::Int(number) => Value::Int(*number),
            Scalar::Bool(flag) => Value::Bool(*flag),
            Scalar::Float(number) => {
                problems.push(
                    Problem::at(literal.span, "a number with a fraction cannot stand here")
                        .label(format!("write \"{number}\"")),
                );
                return None;
            }
            Scalar::Null => {
                problems.push(Problem::at(literal.span, "#null means nothing here").label("leave it out"));
                return None;
            }
        };
        Some(Self::literal(value, literal.span))
    }
}

fn parse_text(text: &str, literal: &Literal, problems: &mut Problems) -> Option<Template> {
    let before = problems.0.len();
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|i| at + i) {
        plain.push_str(&text[at..dollar]);
        let rest = &text[dollar + 1..];
        if rest.starts_with('$') {
            plain.push('$');
            at = dollar + 2;
        } else if rest.starts_with('{') {
            let start = dollar + 2;
            let Some(len) = closing(&text[start..]) else {
                problems.push(
                    Problem::at(literal.place(dollar, start), "\"${\" is never closed")
                        .label("no } follows")
                        .help("write $$ for a dollar that means nothing"),
                );
                return None;
            };
            if !plain.is_empty() {
                parts.push(Part::Literal(Value::Text(std::mem::take(&mut plain))));
            }
            let path = Path { text: &text[start..start + len], at: start, literal };
            match path.reference() {
                Ok(reference) => parts.push(Part::Reference(reference)),
                Err(problem) => problems.push(*problem),
            }
            at = start + len + 1;
        } else {
            plain.push('$');
            at = dollar + 1;
        }
    }
    plain.push_str(&text[at..]);
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Literal(Value::Text(plain)));
    }
    (problems.0.len() == before).then_some(Template { parts, span: literal.span })
}

/// How far it is to the `}` that ends a reference.
fn closing(text: &str) -> Option<usize> {
    text.find(['}', '{', '\n']).filter(|end| text[*end..].starts_with('}'))
}

/// What stands between the braces, or in a condition.
#[derive(Clone, Copy)]
pub(in crate::model) struct Path<'a> {
    /// The text.
    pub text: &'a str,
    /// Where it starts in the literal's text.
    pub at: usize,
    /// The literal around it.
    pub literal: &'a Literal,
}

impl Path<'_> {
    fn problem(&self, start: usize, len: usize, message: impl Into<String>) -> Problem {
        let start = self.at + start;
        Problem::at(self.literal.place(start, start + len), message)
    }

    /// The reference, or what is wrong with it.
    pub(in crate::model) fn reference(&self) -> Result<Spanned<Reference>, Box<Problem>> {
        let reference = self.read()?;
        let start = self.at + self.text.len() - self.text.trim_start().len();
        Ok(Spanned::new(reference, self.literal.place(start, start + self.text.trim().len())))
    }

    fn read(&self) -> Result<Reference, Box<Problem>> {
        let trimmed = self.text.trim();
        let indent = self.text.len() - self.text.trim_start().len();
        if trimmed.is_empty() {
            return Err(self
                .problem(0, self.text.len(), "\"${}\" names nothing")
                .label("write env.NAME, param.NAME, step.NAME.OUTPUT, …")
                .into());
        }
        let (root, rest) = trimmed.split_once('.').unwrap_or((trimmed, ""));
        let offset = indent + root.len() + 1;
        if !ROOTS.contains(&root) {
            return Err(self.unknown_root(indent, root, trimmed).into());
        }
        if rest.is_empty() {
            return Err(self
                .problem(indent, trimmed.len(), format!("\"{trimmed}\" is not complete"))
                .label(format!("write {root}.NAME"))
                .into());
        }
        if root == "step" {
            return self.step(offset, rest);
        }
        self.plain(root, rest, offset)
    }

    fn unknown_root(&self, indent: usize, root: &str, whole: &str) -> Problem {
        let near = nearest(root, ROOTS).map(|root| match whole.split_once('.') {
            Some((_, rest)) => format!("did you mean {root}.{rest}?"),
            None => format!("did you mean {root}.NAME?"),
        });
        let problem = self.problem(indent, root.len(), format!("there is nothing called \"{root}\""));
        match near {
            Some(near) => problem.label(near),
            None if whole == root => problem
                .help(format!("write env.{root}, param.{root} or each.{root}; $${{…}} for a plain ${{…}}")),
            None => problem.help(format!("a reference starts with one of {}", ROOTS.join(", "))),
        }
    }

    /// Everything but a step's output.
    fn plain(&self, root: &str, rest: &str, offset: usize) -> Result<Reference, Box<Problem>> {
        let (name, field) = match rest.split_once('.') {
            Some((name, field)) => (name, Some(field)),
            None => (rest, None),
        };
        self.word(name, offset)?;
        if let Some(field) = field {
            self.word(field, offset + name.len() + 1)?;
            if root != "each" {
                return Err(self
                    .problem(offset + name.len(), field.len() + 1, format!("{root}.{name} has no parts"))
                    .label(if root == "env" { "fields are read through each" } else { "" })
                    .into());
            }
        }
        let fact = |known: Vec<&'static str>| {
            let problem = self.problem(offset, name.len(), format!("there is no {root}.{name}"));
            Box::new(match nearest(name, known.iter().copied()) {
                Some(near) => problem.label(format!("did you mean {root}.{near}?")),
                None => problem.label(format!("{root} has {}", known.join(", "))),
            })
        };
        Ok(match root {
            "env" => Reference::Env(name.to_owned()),
            "param" => Reference::Param(name.to_owned()),
            "secret" => Reference::Secret(name.to_owned()),
            "each" => Reference::Each(name.to_owned(), field.map(str::to_owned)),
            "git" => Reference::Git(
                find(&GIT_FACTS, name)
                    .ok_or_else(|| fact(GIT_FACTS.iter().map(|(name, _)| *name).collect()))?,
            ),
            _ => Reference::Run(
                find(&RUN_FACTS, name)
                    .ok_or_else(|| fact(RUN_FACTS.iter().map(|(name, _)| *name).collect()))?,
            ),
        })
    }

    fn word(&self, word: &str, offset: usize) -> Result<(), Box<Problem>> {
        let wrong = word.char_indices().find(|(_, c)| !(c.is_alphanumeric() || matches!(c, '-' | '_')));
        match wrong {
            Some((at, c)) => Err(self
                .problem(offset + at, c.len_utf8(), format!("a name cannot contain \"{c}\""))
                .label("letters, digits, - and _")
                .into()),
            None if word.is_empty() => {
                Err(self.problem(offset.saturating_sub(1), 1, "a name is missing behind this dot").into())
            }
            None => Ok(()),
        }
    }

    /// `NAME.OUTPUT` or `NAME[INDEX,…].OUTPUT`, behind `step.`.
    fn step(&self, offset: usize, rest: &str) -> Result<Reference, Box<Problem>> {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let name = &rest[..end];
        for (part, at) in segments(name, '/') {
            self.word(part, offset + at)?;
        }
        let mut tail = &rest[end..];
        let mut at = offset + end;
        let mut index = Vec::new();
        if let Some(inner) = tail.strip_prefix('[') {
            let Some(len) = inner.find(']') else {
                return Err(self.problem(at, 1, "\"[\" is never closed").label("no ] follows").into());
            };
            index = self.index(&inner[..len], at + 1)?;
            tail = &inner[len + 1..];
            at += len + 2;
        }
        let Some(output) = tail.strip_prefix('.') else {
            return Err(self
                .problem(0, self.text.len(), format!("\"{}\" names no output", self.text.trim()))
                .label("write step.NAME.OUTPUT")
                .into());
        };
        for (part, from) in segments(output, '.') {
            self.word(part, at + 1 + from)?;
        }
        Ok(Reference::Step(StepReference { name: StepName::new(name), index, output: output.to_owned() }))
    }

    /// `each.svc,eu`: references and plain words.
    fn index(&self, text: &str, offset: usize) -> Result<Vec<Template>, Box<Problem>> {
        let mut index = Vec::new();
        for (item, at) in segments(text, ',') {
            let at = offset + at + item.len() - item.trim_start().len();
            let item = item.trim();
            let start = self.at + at;
            let span = self.literal.place(start, start + item.len());
            let part = match item.split_once('.') {
                Some((root, _)) if ROOTS.contains(&root) && root != "step" => {
                    let path = Path { text: item, at: start, literal: self.literal };
                    Part::Reference(Spanned::new(path.read()?, span))
                }
                _ if item.is_empty() => {
                    let from = offset.saturating_sub(1);
                    return Err(self.problem(from, text.len() + 2, "an index is missing here").into());
                }
                _ => Part::Literal(Value::text(item)),
            };
            index.push(Template { parts: vec![part], span });
        }
        Ok(index)
    }
}

fn find<T: Copy>(facts: &[(&str, T)], name: &str) -> Option<T> {
    facts.iter().find(|(known, _)| *known == name).map(|(_, fact)| *fact)
}

/// The pieces of a text and where each starts.
fn segments(text: &str, separator: char) -> impl Iterator<Item = (&str, usize)> {
    let mut at = 0;
    text.split(separator).map(move |part| {
        let start = at;
        at += part.len() + separator.len_utf8();
        (part, start)
    })
}
