//! What stands in a flow, a group, a template or `finally`: steps, groups and uses.

use std::collections::BTreeMap;

use crate::model::expr::Condition;
use crate::model::flow::Group;
use crate::model::kind::KindSpec;
use crate::model::names::GroupName;
use crate::syntax::problem::Problem;
use crate::syntax::reader::NodeReader;
use crate::syntax::source::{Span, Spanned};
use crate::syntax::tree::Node;

use super::attributes::{RawNeed, needs};
use super::body::Body;
use super::context::Ctx;
use super::step::{Draft, kind, step};
use super::template_use;

/// What the groups around a step give to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Inherited {
    /// The groups, outermost first.
    pub groups: Vec<GroupName>,
    /// Their needs.
    pub needs: Vec<RawNeed>,
    /// Their conditions.
    pub when: Vec<Condition>,
}

/// What a name of a flow stands for.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Named {
    /// Where it was declared.
    pub span: Span,
    /// What it is.
    pub what: What,
    /// Whether it stands in `finally`.
    pub finally: bool,
}

/// Steps and groups share one name space.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) enum What {
    /// A step; without a kind when that was wrong, so that references to it are not.
    Step(Option<&'static KindSpec>),
    /// A group.
    Group,
}

/// Everything found in a flow so far.
#[derive(Debug, Default)]
pub(in crate::model) struct Items {
    /// Steps in order.
    pub drafts: Vec<Draft>,
    /// Groups in order.
    pub groups: Vec<Group>,
    /// Every name by its full form.
    pub names: BTreeMap<String, Named>,
    /// Whether `finally` is being read.
    pub finally: bool,
    /// Templates being expanded, to find one that uses itself.
    pub expanding: Vec<String>,
    /// Templates expanded so far.
    pub uses: usize,
}

impl Items {
    /// Takes a name; a second taker is reported.
    pub(super) fn declare(&mut self, ctx: &mut Ctx, full: String, span: Span, what: What) -> bool {
        let guess = |what: &What| matches!(what, What::Step(None));
        if let Some(first) = self.names.get(&full).filter(|first| !guess(&first.what)) {
            // What is of no known kind may have no name at all.
            if guess(&what) {
                return false;
            }
            ctx.push(
                Problem::at(span, format!("the name \"{full}\" is taken"))
                    .label("again")
                    .also(first.span, "first"),
            );
            return false;
        }
        self.names.insert(full, Named { span, what, finally: self.finally });
        true
    }
}

/// Steps that templates may make of one flow. Templates that use others several times multiply.
const MOST_STEPS: usize = 20_000;
/// Uses in one flow, those inside templates included.
const MOST_USES: usize = 2_000;

/// Reads steps, groups and uses.
pub(super) fn items<'a>(
    ctx: &mut Ctx<'a>,
    body: &Body,
    nodes: &[&'a Node],
    inherited: &Inherited,
    found: &mut Items,
    also: &[&str],
) {
    for node in nodes {
        let expanded = !found.expanding.is_empty();
        if expanded && (found.drafts.len() > MOST_STEPS || found.uses > MOST_USES) {
            // Said at one place, however many branches end here.
            let message =
                format!("templates make more than {MOST_STEPS} steps or {MOST_USES} uses of this flow");
            if !ctx.problems.0.iter().any(|problem| problem.message == message) {
                ctx.push(Problem::at(node.name.span, message));
            }
            return;
        }
        match node.name.value.as_str() {
            "group" => group(ctx, body, node, inherited, found),
            "use" => template_use::expand(ctx, body, node, inherited, found),
            _ => one(ctx, body, node, inherited, found, also),
        }
    }
}

fn one(ctx: &mut Ctx, body: &Body, node: &Node, inherited: &Inherited, found: &mut Items, also: &[&str]) {
    let kind = match kind(ctx, node, also) {
        Ok(kind) => Some(kind),
        // What is of no known kind is not asked for a name.
        Err(step) if step && node.args.first().is_some_and(|arg| arg.as_text().is_some()) => None,
        Err(_) => return,
    };
    let mut reader = NodeReader::new(node);
    let Some(name) = reader.name(&mut ctx.problems) else { return };
    ctx.check_name(&name, "step");
    let fresh = found.declare(ctx, body.declare(&name.value), name.span, What::Step(kind));
    if let Some(kind) = kind {
        let draft = step(ctx, body, node, kind, &name, inherited);
        if fresh {
            found.drafts.push(draft);
        }
    }
}

/// `group NAME needs=… after=… when=… { … }`
fn group<'a>(ctx: &mut Ctx<'a>, body: &Body, node: &'a Node, inherited: &Inherited, found: &mut Items) {
    let mut reader = NodeReader::new(node);
    let name = reader.name(&mut ctx.problems);
    let mut inner = inherited.clone();
    for (attribute, required) in [("needs", true), ("after", false)] {
        let entries = reader.all(attribute);
        inner.needs.extend(needs(ctx, body, &entries, required));
    }
    for entry in reader.all("when") {
        let literal = entry.only(&mut ctx.problems);
        inner.when.extend(literal.and_then(|literal| ctx.condition(literal, body)));
    }
    let name = name.unwrap_or_else(|| Spanned::new(String::new(), node.name.span));
    if !name.value.is_empty() {
        ctx.check_name(&name, "group");
        let full = body.declare(&name.value);
        let group = GroupName::new(full.clone());
        if found.declare(ctx, full, name.span, What::Group) {
            found.groups.push(Group { name: group.clone(), parent: inherited.groups.last().cloned() });
        }
        inner.groups.push(group);
    }
    let nodes = reader.rest();
    reader.finish("group", &mut ctx.problems);
    items(ctx, body, &nodes, &inner, found, &["needs", "after", "when"]);
}
