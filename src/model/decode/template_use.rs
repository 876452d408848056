//! `template NAME { param…; steps }` and `use NAME as="p" { arg value }`.
//!
//! A use is an expansion: its steps stand in the flow as `p/NAME`. A template that nobody uses is
//! still read, so that its mistakes are found.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::flow::Param;
use crate::model::template::Template;
use crate::model::value::Value;
use crate::syntax::problem::{Problem, nearest};
use crate::syntax::reader::{Entry, NodeReader};
use crate::syntax::source::Spanned;
use crate::syntax::tree::Node;

use super::body::Body;
use super::context::Ctx;
use super::group::{Inherited, Items, items};
use super::param::{self, fits};

/// Puts the steps of a template into the flow.
pub(super) fn expand<'a>(
    ctx: &mut Ctx<'a>,
    body: &Body,
    node: &'a Node,
    inherited: &Inherited,
    found: &mut Items,
) {
    let mut reader = NodeReader::new(node);
    let Some(name) = reader.name(&mut ctx.problems) else { return };
    let prefix = reader.one("as", &mut ctx.problems);
    if prefix.is_none() {
        ctx.push(
            Problem::at(node.name.span, "use needs a prefix for the names of its steps")
                .label(format!("write use \"{}\" as=\"p\"", name.value)),
        );
    }
    let prefix = prefix.and_then(|entry| {
        let text = ctx.entry_text(entry, body)?;
        let span = entry.args().first().map_or(entry.span(), |arg| arg.span);
        ctx.check_name(&Spanned::new(text.clone(), span), "use");
        Some(text)
    });
    let Some((known, template)) = ctx.templates.get_key_value(name.value.as_str()) else {
        let problem = Problem::at(name.span, format!("there is no template \"{}\"", name.value));
        let near = nearest(&name.value, ctx.templates.keys().copied());
        ctx.push(match near {
            Some(near) => problem.label(format!("did you mean {near}?")),
            None => problem,
        });
        return;
    };
    let (known, template) = (*known, *template);
    ctx.used.push(known);
    if found.expanding.contains(&name.value) {
        let circle = format!("{} → {}", found.expanding.join(" → "), name.value);
        ctx.push(Problem::at(name.span, "a template cannot use itself").label(circle));
        return;
    }
    let Some(prefix) = prefix else { return };
    let mut inner = NodeReader::new(template);
    inner.arg();
    let params = declared(ctx, &mut inner);
    let args = arguments(ctx, body, &mut reader, &params, &name, node);
    let mut own = BTreeSet::new();
    own_names(&template.children, &mut own);
    let inside = Body { prefix: body.declare(&format!("{prefix}/")), own, args, outer: Some(body) };
    found.expanding.push(name.value);
    found.uses += 1;
    let nodes = inner.rest();
    items(ctx, &inside, &nodes, inherited, found, &[]);
    found.expanding.pop();
}

/// Reads a template by itself: its parameters, and its steps if no flow uses it.
pub(super) fn alone<'a>(ctx: &mut Ctx<'a>, node: &'a Node) {
    let mut reader = NodeReader::new(node);
    let Some(name) = reader.name(&mut ctx.problems) else { return };
    let params = declared(ctx, &mut reader);
    let nodes = reader.rest();
    reader.finish("template", &mut ctx.problems);
    unused(ctx, node, &params);
    if !ctx.used.contains(&name.value.as_str()) {
        let mut own = BTreeSet::new();
        own_names(&node.children, &mut own);
        let args = params.iter().map(|param| (param.name.clone(), None)).collect();
        let body = Body { own, args, ..Body::default() };
        let mut found = Items { expanding: vec![name.value], ..Items::default() };
        items(ctx, &body, &nodes, &Inherited::default(), &mut found, &["param"]);
    }
}

fn declared(ctx: &mut Ctx, reader: &mut NodeReader) -> Vec<Param> {
    let entries = reader.all("param");
    param::params(ctx, &entries)
}

/// The values that a use gives, defaults included.
fn arguments(
    ctx: &mut Ctx,
    body: &Body,
    reader: &mut NodeReader,
    params: &[Param],
    template: &Spanned<String>,
    node: &Node,
) -> BTreeMap<String, Option<Template>> {
    let mut args: BTreeMap<String, Option<Template>> = BTreeMap::new();
    let props = reader.rest_props().into_iter().map(Entry::Prop);
    let given: Vec<Entry> = props.chain(reader.rest().into_iter().map(Entry::Child)).collect();
    for entry in given {
        let Some(param) = params.iter().find(|param| param.name == entry.name()) else {
            let problem = Problem::at(
                entry.name_span(),
                format!("template \"{}\" has no parameter \"{}\"", template.value, entry.name()),
            );
            let near = nearest(entry.name(), params.iter().map(|param| param.name.as_str()));
            ctx.push(match near {
                Some(near) => problem.label(format!("did you mean {near}?")),
                None => problem,
            });
            continue;
        };
        if args.contains_key(&param.name) {
            ctx.push(Problem::at(entry.name_span(), format!("{} is given twice", param.name)));
            continue;
        }
        let value = value(ctx, body, entry);
        let value = value.filter(|value| fits(ctx, param, value));
        args.insert(param.name.clone(), value);
    }
    for param in params {
        if args.contains_key(&param.name) {
            continue;
        }
        if param.default.is_none() && !node.broken {
            ctx.push(
                Problem::at(
                    template.span,
                    format!("template \"{}\" needs \"{}\"", template.value, param.name),
                )
                .also(param.span, "declared here"),
            );
        }
        args.insert(param.name.clone(), param.default.clone());
    }
    args
}

/// One value, or several as a list.
fn value(ctx: &mut Ctx, body: &Body, entry: Entry) -> Option<Template> {
    entry.bare(&mut ctx.problems);
    let values = ctx.all_templates(entry.args(), body);
    match values.as_slice() {
        [] => {
            if entry.args().is_empty() && !entry.broken() {
                ctx.push(Problem::at(entry.name_span(), format!("{} needs a value", entry.name())));
            }
            None
        }
        [one] => Some(one.clone()),
        several => {
            let items: Option<Vec<Value>> = several.iter().map(|item| item.as_literal().cloned()).collect();
            if items.is_none() {
                ctx.push(
                    Problem::at(entry.name_span(), "a list that is put together cannot be handed on")
                        .help("declare it as a variable of the environment and hand on \"${env.NAME}\""),
                );
            }
            Some(Template::literal(Value::List(items?), entry.span()))
        }
    }
}

/// The names that a template's own nodes declare.
fn own_names(nodes: &[Node], own: &mut BTreeSet<String>) {
    for node in nodes {
        match node.name.value.as_str() {
            "param" => {}
            "use" => {
                let prop = node.props.iter().find(|prop| prop.name.value == "as").map(|prop| &prop.value);
                own.extend(prop.and_then(|value| value.as_text()).map(str::to_owned));
            }
            kind => {
                own.extend(node.args.first().and_then(|arg| arg.as_text()).map(str::to_owned));
                if kind == "group" {
                    own_names(&node.children, own);
                }
            }
        }
    }
}

/// Reports parameters that nothing in the template mentions.
fn unused(ctx: &mut Ctx, node: &Node, params: &[Param]) {
    let mut texts = Vec::new();
    collect_texts(&node.children, &mut texts);
    for param in params {
        let needle = format!("param.{}", param.name);
        let mentioned = texts.iter().any(|text| mentions(text, &needle));
        if !mentioned && !node.broken {
            ctx.push(
                Problem::at(param.span, format!("nothing in the template uses \"{}\"", param.name))
                    .label(format!("no ${{param.{}}}", param.name)),
            );
        }
    }
}

/// Whether `needle` stands in `text` as a whole word.
fn mentions(text: &str, needle: &str) -> bool {
    text.match_indices(needle).any(|(at, _)| {
        let next = text[at + needle.len()..].chars().next();
        next.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_')))
    })
}

fn collect_texts<'n>(nodes: &'n [Node], texts: &mut Vec<&'n str>) {
    for node in nodes {
        texts.extend(node.args.iter().filter_map(|arg| arg.as_text()));
        texts.extend(node.props.iter().filter_map(|prop| prop.value.as_text()));
        collect_texts(&node.children, texts);
    }
}
