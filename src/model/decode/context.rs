//! What every decoder needs: the kinds, the templates, the problems found so far, and the reading
//! of single values.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::expr::Condition;
use crate::model::kind::KindSpec;
use crate::model::template::Template;
use crate::model::units;
use crate::model::value::Value;
use crate::syntax::problem::{Problem, Problems, nearest};
use crate::syntax::reader::Entry;
use crate::syntax::source::{Span, Spanned};
use crate::syntax::tree::{Literal, Node, Scalar};

use super::body::{Adapted, Body};

/// State of decoding one project.
pub(in crate::model) struct Ctx<'a> {
    /// The table of kinds.
    pub kinds: &'a [&'static KindSpec],
    /// Template nodes by name.
    pub templates: BTreeMap<&'a str, &'a Node>,
    /// Templates that some flow uses.
    pub used: Vec<&'a str>,
    /// What was found so far.
    pub problems: Problems,
}

impl Ctx<'_> {
    /// Adds a problem.
    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The kind of that name.
    pub(super) fn kind(&self, name: &str) -> Option<&'static KindSpec> {
        self.kinds.iter().copied().find(|kind| kind.name == name)
    }

    /// A value with references in it.
    pub(super) fn template(&mut self, literal: &Literal, body: &Body) -> Option<Template> {
        let mut template = Template::parse(literal, &mut self.problems)?;
        let adapted = body.adapt(&mut template);
        self.whole(adapted, literal).then_some(template)
    }

    /// Several of them; those that are wrong are reported and left out.
    pub(super) fn all_templates(&mut self, literals: &[Literal], body: &Body) -> Vec<Template> {
        literals.iter().filter_map(|literal| self.template(literal, body)).collect()
    }

    /// A condition.
    pub(super) fn condition(&mut self, literal: &Literal, body: &Body) -> Option<Condition> {
        let mut condition = Condition::parse(literal, &mut self.problems)?;
        let mut adapted = Adapted::Whole;
        condition.expr.templates_mut(&mut |template| adapted = adapted.max(body.adapt(template)));
        self.whole(adapted, literal).then_some(condition)
    }

    /// Whether a value can be used; that it became too long is reported.
    fn whole(&mut self, adapted: Adapted, literal: &Literal) -> bool {
        if adapted == Adapted::TooLong {
            self.push(
                Problem::at(literal.span, "this becomes too long once parameters are put in")
                    .label("more than 64 KiB"),
            );
        }
        adapted == Adapted::Whole
    }

    /// A value that must be known when the file is read.
    pub(super) fn fixed(&mut self, literal: &Literal, body: &Body, what: &str) -> Option<Value> {
        let template = self.template(literal, body)?;
        if let Some(value) = template.as_literal() {
            return Some(value.clone());
        }
        let span = template.references().first().map_or(literal.span, |reference| reference.span);
        self.push(
            Problem::at(span, format!("{what} must be known when the file is read"))
                .label("write the value itself"),
        );
        None
    }

    /// Text that is known when the file is read.
    pub(super) fn text(&mut self, literal: &Literal, body: &Body, what: &str) -> Option<String> {
        match self.fixed(literal, body, what)? {
            Value::Text(text) => Some(text),
            _ => self.mismatch(literal, what, "a string"),
        }
    }

    /// A whole number.
    pub(super) fn int(&mut self, literal: &Literal, body: &Body, what: &str) -> Option<i64> {
        match self.fixed(literal, body, what)? {
            Value::Int(number) => Some(number),
            _ => self.mismatch(literal, what, "a whole number"),
        }
    }

    /// A whole number from `least` up.
    pub(super) fn number<N: TryFrom<i64>>(
        &mut self,
        literal: &Literal,
        body: &Body,
        what: &str,
        least: i64,
    ) -> Option<N> {
        let number = self.int(literal, body, what)?;
        let fits = N::try_from(number).ok().filter(|_| number >= least);
        if fits.is_none() {
            self.push(
                Problem::at(literal.span, format!("{what} cannot be {number}"))
                    .label(format!("at least {least}")),
            );
        }
        fits
    }

    /// `#true` or `#false`.
    pub(super) fn flag(&mut self, literal: &Literal, body: &Body, what: &str) -> Option<bool> {
        match self.fixed(literal, body, what)? {
            Value::Bool(flag) => Some(flag),
            _ => self.mismatch(literal, what, "#true or #false"),
        }
    }

    /// `30s`.
    pub(super) fn duration(&mut self, literal: &Literal, body: &Body, what: &str) -> Option<Duration> {
        match self.fixed(literal, body, what)? {
            Value::Text(text) => {
                let parsed = units::parse_duration(&text);
                if parsed.is_none() {
                    self.push(no_duration(literal.span, &text));
                }
                parsed
            }
            Value::Int(number) => {
                self.push(
                    Problem::at(literal.span, format!("{what} needs a unit"))
                        .label(format!("write \"{number}s\" or \"{number}m\"")),
                );
                None
            }
            _ => self.mismatch(literal, what, "a duration such as \"30s\""),
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        literal: &Literal,
        body: &Body,
        what: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(literal, body, what)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.push(no_choice(literal.span, what, &text, &names));
        }
        found
    }

    fn mismatch<T>(&mut self, literal: &Literal, what: &str, wanted: &str) -> Option<T> {
        self.push(mismatch(literal, what, wanted));
        None
    }

    /// The only value of an entry as text.
    pub(super) fn entry_text(&mut self, entry: Entry, body: &Body) -> Option<String> {
        let literal = entry.only(&mut self.problems)?;
        self.text(literal, body, entry.name())
    }

    /// The only value of an entry as a switch.
    pub(super) fn entry_flag(&mut self, entry: Entry, body: &Body) -> Option<bool> {
        if entry.args().is_empty() && !entry.broken() {
            // Nobody writes what is so anyway.
            let usual = if entry.name() == "cache" { "#false" } else { "#true" };
            self.push(
                Problem::at(entry.name_span(), format!("{} needs a value", entry.name()))
                    .label(format!("write {} {usual}", entry.name())),
            );
            return None;
        }
        let literal = entry.only(&mut self.problems)?;
        self.flag(literal, body, entry.name())
    }

    /// The only value of an entry as a template.
    pub(super) fn entry_template(&mut self, entry: Entry, body: &Body) -> Option<Template> {
        let literal = entry.only(&mut self.problems)?;
        self.template(literal, body)
    }

    /// Reports a name that nobody could refer to.
    pub(super) fn check_name(&mut self, name: &Spanned<String>, what: &str) {
        let wrong = name.value.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_')));
        let problem = match wrong {
            Some(c) => Problem::at(
                name.span,
                format!("the name of a {what} cannot contain \"{}\"", c.escape_default()),
            )
            .label("letters, digits, - and _"),
            None if name.value.is_empty() => {
                Problem::at(name.span, format!("the name of a {what} cannot be empty"))
            }
            None => return,
        };
        self.push(problem);
    }
}

/// A value of another type than wanted.
pub(super) fn mismatch(literal: &Literal, what: &str, wanted: &str) -> Problem {
    let problem = Problem::at(literal.span, format!("{what} is {wanted}"))
        .label(format!("this is {}", literal.type_name()));
    match (&literal.scalar, wanted) {
        (Scalar::Text(text), "#true or #false") if text == "true" || text == "false" => {
            problem.help(format!("write #{text}, without quotes"))
        }
        (Scalar::Text(text), "a whole number") if text.parse::<i64>().is_ok() => {
            problem.help(format!("write {text}, without quotes"))
        }
        (Scalar::Int(number), "a string") => problem.help(format!("write \"{number}\"")),
        _ => problem,
    }
}

/// Text that is no duration.
pub(super) fn no_duration(span: Span, text: &str) -> Problem {
    Problem::at(span, format!("\"{text}\" is no duration")).label("write 30s, 5m or 2h")
}

/// A word that is none of the choices.
pub(super) fn no_choice(span: Span, what: &str, text: &str, choices: &[&str]) -> Problem {
    let problem = Problem::at(span, format!("{what} cannot be \"{text}\""));
    match nearest(text, choices.iter().copied()) {
        Some(near) => problem.label(format!("did you mean {near}?")),
        None => match choices {
            [only] => problem.label(format!("only \"{only}\" can stand here")),
            several => problem.label(format!("it is one of {}", several.join(", "))),
        },
    }
}
