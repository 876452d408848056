//! `flow NAME { … }`

use std::collections::BTreeMap;

use crate::model::flow::{Flow, OnFailure, SummaryRow};
use crate::model::names::FlowName;
use crate::syntax::problem::Problem;
use crate::syntax::reader::{Entry, NodeReader};
use crate::syntax::source::{Span, Spanned};
use crate::syntax::tree::Node;

use super::body::Body;
use super::context::Ctx;
use super::group::{Inherited, Items, Named, items};
use super::param::params;
use super::secret::secrets;
use super::{FlowFacts, link};

const ON_FAILURE: [(&str, OnFailure); 3] =
    [("stop", OnFailure::Stop), ("continue", OnFailure::Continue), ("rollback", OnFailure::Rollback)];

const SETTINGS: [&str; 9] =
    ["about", "target", "param", "secret", "pool", "on-failure", "finally", "summary", "group"];

/// Reads one flow. `None` when it has no name.
pub(super) fn flow<'a>(ctx: &mut Ctx<'a>, node: &'a Node) -> Option<(Flow, FlowFacts)> {
    let body = Body::default();
    let mut reader = NodeReader::new(node);
    let name = reader.name(&mut ctx.problems);
    if let Some(name) = &name {
        ctx.check_name(name, "flow");
    }
    let about = reader.one("about", &mut ctx.problems).and_then(|entry| ctx.entry_text(entry, &body));
    let target = reader.one("target", &mut ctx.problems).and_then(|entry| {
        let literal = entry.only(&mut ctx.problems)?;
        ctx.duration(literal, &body, "target")
    });
    let entries = reader.all("param");
    let params = params(ctx, &entries);
    let entries = reader.all("secret");
    let secrets = secrets(ctx, &entries);
    let pools = pools(ctx, &mut reader);
    let on_failure = reader.one("on-failure", &mut ctx.problems).and_then(|entry| {
        let literal = entry.only(&mut ctx.problems)?;
        ctx.choice(literal, &body, "on-failure", &ON_FAILURE)
    });
    let summary = reader.one("summary", &mut ctx.problems).map_or_else(Vec::new, |entry| summary(ctx, entry));
    let finally = reader.one("finally", &mut ctx.problems);
    let mut found = Items::default();
    items(ctx, &body, &reader.rest(), &Inherited::default(), &mut found, &SETTINGS);
    let last = found.drafts.len();
    if let Some(Entry::Child(node)) = finally {
        let mut reader = NodeReader::new(node);
        found.finally = true;
        items(ctx, &body, &reader.rest(), &Inherited::default(), &mut found, &[]);
        reader.finish("finally", &mut ctx.problems);
    }
    reader.finish("flow", &mut ctx.problems);
    link::link(ctx, &mut found);
    let Items { drafts, groups, names, .. } = found;
    let mut steps: Vec<_> = drafts.into_iter().map(|draft| draft.step).collect();
    let finally = steps.split_off(last);
    let facts =
        FlowFacts { names, pools: pools.iter().map(|(name, (_, span))| (name.clone(), *span)).collect() };
    let flow = Flow {
        name: FlowName::new(name?.value),
        about,
        target,
        params,
        secrets,
        pools: pools.into_iter().map(|(name, (size, _))| (name, size)).collect(),
        groups,
        steps,
        on_failure: on_failure.unwrap_or_default(),
        finally,
        summary,
        span: node.span,
    };
    Some((flow, facts))
}

/// `pool "x" size=4`
fn pools(ctx: &mut Ctx, reader: &mut NodeReader) -> BTreeMap<String, (usize, Span)> {
    let body = Body::default();
    let mut pools: BTreeMap<String, (usize, Span)> = BTreeMap::new();
    for entry in reader.all("pool") {
        let Entry::Child(node) = entry else {
            ctx.push(Problem::at(entry.name_span(), "a pool is a node").label("write pool \"NAME\" size=4"));
            continue;
        };
        let mut reader = NodeReader::new(node);
        let name = reader.name(&mut ctx.problems);
        let size = reader.one("size", &mut ctx.problems);
        reader.finish("pool", &mut ctx.problems);
        let Some(Spanned { value: name, span }) = name else { continue };
        let Some(size) = size else {
            if !node.broken {
                ctx.push(
                    Problem::at(node.name.span, format!("pool \"{name}\" needs a size"))
                        .label(format!("write pool \"{name}\" size=4")),
                );
            }
            pools.entry(name).or_insert((1, span));
            continue;
        };
        let literal = size.only(&mut ctx.problems);
        let size = literal.and_then(|literal| ctx.number(literal, &body, "size", 1)).unwrap_or(1);
        if let Some((_, first)) = pools.get(&name) {
            let problem = Problem::at(span, format!("pool \"{name}\" is declared twice"));
            ctx.push(problem.label("again").also(*first, "first"));
        } else {
            pools.insert(name, (size, span));
        }
    }
    pools
}

/// `summary { row NAME VALUE… }`
fn summary(ctx: &mut Ctx, entry: Entry) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    let Entry::Child(node) = entry else {
        ctx.push(
            Problem::at(entry.name_span(), "summary is a block")
                .label("write summary { row \"NAME\" \"value\" }"),
        );
        return rows;
    };
    let mut reader = NodeReader::new(node);
    for entry in reader.all("row") {
        let Entry::Child(node) = entry else {
            ctx.push(Problem::at(entry.name_span(), "row is a node").label("write row \"NAME\" \"value\""));
            continue;
        };
        let mut row = NodeReader::new(node);
        let Some(name) = row.name(&mut ctx.problems) else { continue };
        let values = ctx.all_templates(row.args(), &Body::default());
        if node.args.len() < 2 && !node.broken {
            ctx.push(
                Problem::at(name.span, format!("row \"{}\" shows nothing", name.value))
                    .label("a value is missing"),
            );
        }
        row.finish("row", &mut ctx.problems);
        rows.push(SummaryRow { name: name.value, values });
    }
    reader.finish("summary", &mut ctx.problems);
    rows
}

/// Where a name was declared.
pub(in crate::model) type Names = BTreeMap<String, Named>;
