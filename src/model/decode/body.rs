//! Where a step stands: in a flow, or in a template that a flow uses.
//!
//! In a template `param.x` is replaced by what the `use` gives, and a bare name means the
//! template's own step first, then one of the surroundings.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::names::StepName;
use crate::model::template::{Part, Reference, Template};
use crate::model::value::Value;

/// The surroundings of a step.
#[derive(Debug, Default)]
pub(in crate::model) struct Body<'o> {
    /// `p/` for what stands in a template; empty in a flow.
    pub prefix: String,
    /// Names that the template declares itself: steps, groups and prefixes of nested uses.
    pub own: BTreeSet<String>,
    /// Values of the template's parameters; absent for one whose value was wrong.
    pub args: BTreeMap<String, Option<Template>>,
    /// What the `use` stands in.
    pub outer: Option<&'o Body<'o>>,
}

impl Body<'_> {
    /// The full name of something that is declared here.
    pub(super) fn declare(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The full name of what a bare name means here.
    pub(super) fn full(&self, name: &str) -> String {
        let head = name.split('/').next().unwrap_or(name);
        if self.own.contains(name) || self.own.contains(head) {
            return self.declare(name);
        }
        self.outer.map_or_else(|| name.to_owned(), |outer| outer.full(name))
    }

    /// Replaces parameters and names of steps.
    pub(super) fn adapt(&self, template: &mut Template) -> Adapted {
        let nothing = self.args.is_empty() && self.own.is_empty() && self.outer.is_none();
        if nothing {
            return Adapted::Whole;
        }
        let mut adapted = Adapted::Whole;
        let mut size = 0;
        let mut parts = Vec::with_capacity(template.parts.len());
        for mut part in std::mem::take(&mut template.parts) {
            if let Part::Reference(reference) = &mut part {
                match &mut reference.value {
                    Reference::Param(name) => match self.args.get(name) {
                        Some(Some(value)) => {
                            size += value.parts.iter().map(part_size).sum::<usize>();
                            if size > LONGEST {
                                return Adapted::TooLong;
                            }
                            parts.extend(value.parts.iter().cloned());
                            continue;
                        }
                        Some(None) => adapted = adapted.max(Adapted::Wrong),
                        None => {}
                    },
                    Reference::Step(step) => {
                        step.name = StepName::new(self.full(step.name.as_str()));
                        for index in &mut step.index {
                            adapted = adapted.max(self.adapt(index));
                        }
                    }
                    _ => {}
                }
            }
            parts.push(part);
        }
        template.parts = join(parts);
        adapted
    }
}

/// What became of a value that stands in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Adapted {
    /// Everything in it has a value.
    Whole,
    /// A parameter has none because that was wrong, which was reported where it stands.
    Wrong,
    /// Parameters made of parameters made it too long.
    TooLong,
}

/// Bytes of a value that parameters were put into: a few templates that use one another can ask
/// for more than any machine has.
const LONGEST: usize = 1 << 16;

fn part_size(part: &Part) -> usize {
    match part {
        Part::Literal(Value::Text(text)) => text.len() + 1,
        _ => 16,
    }
}

/// Makes neighbouring plain pieces one, so that text with a plain parameter in it is plain text.
fn join(parts: Vec<Part>) -> Vec<Part> {
    if parts.len() < 2 {
        return parts;
    }
    let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        let text = match &part {
            Part::Literal(value) => value.as_text(),
            Part::Reference(_) => None,
        };
        match (joined.last_mut(), text) {
            (Some(Part::Literal(Value::Text(before))), Some(text)) => before.push_str(&text),
            (_, Some(text)) => joined.push(Part::Literal(Value::Text(text))),
            (_, None) => joined.push(part),
        }
    }
    joined
}
