//! `project NAME { store URL; root DIR }`, and the addresses of stores.

use crate::model::project::{Project, Store};
use crate::syntax::problem::{Problem, nearest};
use crate::syntax::reader::{Entry, NodeReader};
use crate::syntax::source::Spanned;
use crate::syntax::tree::{Literal, Node};

use super::body::Body;
use super::context::Ctx;

/// Reads the node into the project.
pub(super) fn project(ctx: &mut Ctx, node: &Node, into: &mut Project) {
    let mut reader = NodeReader::new(node);
    if let Some(name) = reader.name(&mut ctx.problems) {
        ctx.check_name(&name, "project");
        into.name = name.value;
    }
    if let Some(entry) = reader.one("store", &mut ctx.problems) {
        into.store = store(ctx, entry);
    }
    if let Some(entry) = reader.one("root", &mut ctx.problems) {
        into.root = root(ctx, entry);
    }
    reader.finish("project", &mut ctx.problems);
}

/// `root DIR`
fn root(ctx: &mut Ctx, entry: Entry) -> Option<Spanned<String>> {
    let literal = entry.only(&mut ctx.problems)?;
    let text = ctx.text(literal, &Body::default(), "root")?;
    let leaves = |part: &str| part == "..";
    if text.starts_with('/') || text.split('/').any(leaves) {
        let problem = Problem::at(literal.span, format!("the root \"{text}\" lies outside the repository"));
        ctx.push(problem.label("a folder below the one that has flows/"));
        return None;
    }
    Some(Spanned::new(text, literal.span))
}

/// `store URL`
pub(super) fn store(ctx: &mut Ctx, entry: Entry) -> Option<Spanned<Store>> {
    let literal = entry.only(&mut ctx.problems)?;
    let text = ctx.text(literal, &Body::default(), "store")?;
    let Some((scheme, rest)) = text.split_once("://") else {
        return Some(Spanned::new(Store::Folder(text), literal.span));
    };
    if scheme != "s3" {
        ctx.push(
            Problem::at(literal.place(0, scheme.len()), format!("a store cannot be at \"{scheme}://\""))
                .label("a folder, or s3://bucket?prefix=p"),
        );
        return None;
    }
    s3(ctx, literal, rest).map(|store| Spanned::new(store, literal.span))
}

fn s3(ctx: &mut Ctx, literal: &Literal, rest: &str) -> Option<Store> {
    let (bucket, query) = rest.split_once('?').unwrap_or((rest, ""));
    if bucket.is_empty() || bucket.contains('/') {
        ctx.push(Problem::at(literal.span, "this store names no bucket").label("write s3://bucket?prefix=p"));
        return None;
    }
    let (mut prefix, mut endpoint, mut region) = (String::new(), None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "prefix" => value.clone_into(&mut prefix),
            "endpoint" => endpoint = Some(value.to_owned()),
            "region" => region = Some(value.to_owned()),
            _ => {
                let at = literal.as_text().and_then(|text| text.find(pair)).unwrap_or(0);
                let problem =
                    Problem::at(literal.place(at, at + key.len()), format!("a store has no \"{key}\""));
                let known = ["prefix", "endpoint", "region"];
                ctx.push(match nearest(key, known) {
                    Some(near) => problem.label(format!("did you mean {near}?")),
                    None => problem.label("it has prefix, endpoint and region"),
                });
            }
        }
    }
    Some(Store::S3 { bucket: bucket.to_owned(), prefix, endpoint, region })
}
