//! The settings of a kind, read by its table.

use std::collections::BTreeSet;

use crate::model::kind::Rule;
use crate::model::settings::{Given, GivenNode, Head, Setting, Shape, Written};
use crate::model::template::Template;
use crate::model::units;
use crate::model::value::Value;
use crate::syntax::problem::Problem;
use crate::syntax::reader::{Entry, NodeReader};
use crate::syntax::source::Span;
use crate::syntax::tree::{Literal, Scalar};

use super::body::Body;
use super::context::{Ctx, mismatch, no_choice, no_duration};
use super::script;

/// Reads every setting of `table`. `owner` is what has them, `at` where that is named.
pub(super) fn settings(
    ctx: &mut Ctx,
    body: &Body,
    reader: &mut NodeReader,
    table: &'static [Setting],
    owner: &str,
) -> (Written, BTreeSet<&'static str>) {
    let mut written = Written::default();
    let mut given = BTreeSet::new();
    for setting in table {
        let entries = reader.all(setting.name);
        if entries.is_empty() {
            if setting.required && !reader.node.broken {
                ctx.push(missing(reader.node.name.span, owner, setting));
            }
            continue;
        }
        given.insert(setting.name);
        if let Some((value, span)) = setting_value(ctx, body, setting, &entries) {
            written.insert(setting.name, value, span);
        }
    }
    (written, given)
}

fn missing(span: Span, owner: &str, setting: &Setting) -> Problem {
    Problem::at(span, format!("{owner} needs \"{}\"", setting.name))
        .help(format!("{}: {}", setting.name, setting.help))
}

/// Reports what the rules of a kind forbid.
pub(super) fn rules(ctx: &mut Ctx, rules: &[Rule], given: &BTreeSet<&str>, reader: &NodeReader, owner: &str) {
    let span_of = |name: &str| {
        let node = reader.node;
        let prop = node.props.iter().find(|prop| prop.name.value == name).map(|prop| prop.name.span);
        let child =
            || node.children.iter().find(|child| child.name.value == name).map(|child| child.name.span);
        prop.or_else(child).unwrap_or(node.name.span)
    };
    for rule in rules {
        match rule {
            Rule::OneOf(names) | Rule::AtMostOne(names) => {
                let found: Vec<&str> = names.iter().copied().filter(|name| given.contains(name)).collect();
                if let [first, second, ..] = found.as_slice() {
                    ctx.push(
                        Problem::at(span_of(second), format!("{owner} takes either {first} or {second}"))
                            .label("this is one too many")
                            .also(span_of(first), "besides this"),
                    );
                }
                if found.is_empty() && matches!(rule, Rule::OneOf(_)) && !reader.node.broken {
                    ctx.push(Problem::at(
                        reader.node.name.span,
                        format!("{owner} needs {}", names.join(" or ")),
                    ));
                }
            }
            Rule::Needs(first, second) => {
                if given.contains(first) && !given.contains(second) {
                    ctx.push(
                        Problem::at(span_of(first), format!("{first} needs {second} beside it"))
                            .label(format!("{second} is not given")),
                    );
                }
            }
        }
    }
}

/// The value of one setting from all that stands there under its name.
fn setting_value(
    ctx: &mut Ctx,
    body: &Body,
    setting: &'static Setting,
    entries: &[Entry],
) -> Option<(Given<Template>, Span)> {
    let first = *entries.first()?;
    let repeatable = matches!(setting.shape, Shape::Texts | Shape::Map | Shape::Node { many: true, .. });
    if let (Some(second), false) = (entries.get(1), repeatable) {
        ctx.push(
            Problem::at(second.name_span(), format!("{} is given twice", setting.name))
                .label("again")
                .also(first.name_span(), "first"),
        );
    }
    let given = match &setting.shape {
        Shape::Texts => Given::Many(texts(ctx, body, entries)),
        Shape::Map => Given::Map(map(ctx, body, entries)),
        Shape::Script => Given::Script(script::text(ctx, first)?),
        Shape::Node { head, many, fields } => {
            let entries = if *many { entries } else { &entries[..1] };
            let nodes = entries.iter().filter_map(|entry| node(ctx, body, *entry, *head, fields));
            Given::Nodes(nodes.collect())
        }
        shape => Given::One(one(ctx, body, setting.name, shape, first)?),
    };
    Some((given, first.span()))
}

/// Strings and numbers, of several lines if need be.
fn texts(ctx: &mut Ctx, body: &Body, entries: &[Entry]) -> Vec<Template> {
    let mut all = Vec::new();
    for entry in entries {
        entry.bare(&mut ctx.problems);
        if entry.args().is_empty() && !entry.broken() {
            ctx.push(Problem::at(entry.name_span(), format!("{} needs a value", entry.name())));
        }
        for literal in entry.args() {
            if matches!(literal.scalar, Scalar::Bool(_)) {
                ctx.push(mismatch(literal, entry.name(), "a string"));
            } else {
                all.extend(ctx.template(literal, body));
            }
        }
    }
    all
}

/// A value of one of the simple shapes.
fn one(ctx: &mut Ctx, body: &Body, name: &str, shape: &Shape, entry: Entry) -> Option<Template> {
    if matches!(shape, Shape::Bool) && entry.args().is_empty() && !entry.broken() {
        ctx.push(
            Problem::at(entry.name_span(), format!("{name} needs a value"))
                .label(format!("write {name} #true")),
        );
        return None;
    }
    let literal = entry.only(&mut ctx.problems)?;
    let template = ctx.template(literal, body)?;
    if let Some(value) = template.as_literal() {
        check_literal(ctx, name, shape, literal, value)?;
    }
    Some(template)
}

/// Whether a value that is known already fits its shape.
fn check_literal(ctx: &mut Ctx, name: &str, shape: &Shape, literal: &Literal, value: &Value) -> Option<()> {
    let problem = match (shape, value) {
        (Shape::Text | Shape::Path { .. }, Value::Text(_))
        | (Shape::Int, Value::Int(_))
        | (Shape::Bool, Value::Bool(_)) => return Some(()),
        (Shape::Duration, Value::Text(text)) => match units::parse_duration(text) {
            Some(_) => return Some(()),
            None => no_duration(literal.span, text),
        },
        (Shape::Duration, Value::Int(number)) => Problem::at(literal.span, format!("{name} needs a unit"))
            .label(format!("write \"{number}s\" or \"{number}m\"")),
        (Shape::Choice(choices), Value::Text(text)) if choices.contains(&text.as_str()) => return Some(()),
        (Shape::Choice(choices), Value::Text(text)) => no_choice(literal.span, name, text, choices),
        (Shape::Int, _) => mismatch(literal, name, "a whole number"),
        (Shape::Bool, _) => mismatch(literal, name, "#true or #false"),
        (Shape::Duration, _) => mismatch(literal, name, "a duration such as \"30s\""),
        _ => mismatch(literal, name, "a string"),
    };
    ctx.push(problem);
    None
}

/// `NAME K=V …`, `NAME "K" "V"` and blocks of `K V`, all together.
pub(super) fn map(ctx: &mut Ctx, body: &Body, entries: &[Entry]) -> Vec<(String, Template)> {
    let mut pairs: Vec<(String, Span, Template)> = Vec::new();
    for entry in entries {
        let mut found: Vec<(&str, Span, &Literal)> = entry
            .props()
            .iter()
            .map(|prop| (prop.name.value.as_str(), prop.name.span, &prop.value))
            .collect();
        match entry.args() {
            [] => {}
            [key, value] if key.as_text().is_some() => {
                found.push((key.as_text().unwrap_or_default(), key.span, value));
            }
            [first, ..] => ctx.push(
                Problem::at(first.span, format!("{} takes names and values", entry.name()))
                    .label(format!("write {} NAME=\"value\"", entry.name())),
            ),
        }
        for child in entry.children() {
            let inner = Entry::Child(child);
            if let Some(value) = inner.only(&mut ctx.problems) {
                found.push((&child.name.value, child.name.span, value));
            }
        }
        if found.is_empty() && entry.args().is_empty() && entry.children().is_empty() && !entry.broken() {
            ctx.push(
                Problem::at(entry.name_span(), format!("{} names nothing", entry.name()))
                    .label(format!("write {} NAME=\"value\"", entry.name())),
            );
        }
        for (key, span, value) in found {
            if let Some((_, first, _)) = pairs.iter().find(|(known, _, _)| known == key) {
                let first = *first;
                ctx.push(
                    Problem::at(span, format!("{key} is given twice")).label("again").also(first, "first"),
                );
            } else if let Some(template) = ctx.template(value, body) {
                pairs.push((key.to_owned(), span, template));
            }
        }
    }
    pairs.into_iter().map(|(key, _, value)| (key, value)).collect()
}

/// A node with settings of its own.
fn node(
    ctx: &mut Ctx,
    body: &Body,
    entry: Entry,
    head: Head,
    fields: &'static [Setting],
) -> Option<GivenNode<Template>> {
    let name = entry.name();
    let child = match entry {
        Entry::Child(child) => child,
        Entry::Prop(prop) => {
            let head = (head != Head::None).then(|| ctx.template(&prop.value, body)).flatten();
            if head.is_none() {
                ctx.push(Problem::at(prop.name.span, format!("{name} needs a block")));
            }
            for field in fields.iter().filter(|field| field.required) {
                ctx.push(missing(prop.name.span, name, field));
            }
            return Some(GivenNode { head, settings: Written::default() });
        }
    };
    let mut reader = NodeReader::new(child);
    let mut value = None;
    match head {
        Head::None => {}
        Head::Text(what) => match reader.arg() {
            Some(literal) => value = Some(one_head(ctx, body, name, &Shape::Text, literal)?),
            None if child.broken => return None,
            None => {
                ctx.push(Problem::at(child.name.span, format!("{name} needs a {what}")));
                return None;
            }
        },
        Head::Bool => {
            if let Some(literal) = reader.arg() {
                value = Some(one_head(ctx, body, name, &Shape::Bool, literal)?);
            }
        }
    }
    let (settings, _) = settings(ctx, body, &mut reader, fields, name);
    reader.finish(name, &mut ctx.problems);
    Some(GivenNode { head: value, settings })
}

fn one_head(ctx: &mut Ctx, body: &Body, name: &str, shape: &Shape, literal: &Literal) -> Option<Template> {
    let template = ctx.template(literal, body)?;
    if let Some(value) = template.as_literal() {
        check_literal(ctx, name, shape, literal, value)?;
    }
    Some(template)
}
