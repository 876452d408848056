//! What stands in front of each step, as far as planning it hangs on that.
//!
//! Drawn once from the graph and the selection, before anything is looked at:
//! whether a step hangs on made files must not depend on whether they happen
//! to be made already.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::kind::Nature;
use crate::model::settings::{Given, Shape};
use crate::model::template::Scope;
use crate::model::value::{Field, Value};
use crate::world::walk::Matcher;

use super::graph::{Node, NodeId, Why};
use super::prepare::Prepared;
use super::scope::{StepScope, StepTable};

/// What stands in front of each step, by node id.
#[derive(Debug, Default)]
pub struct Fronts {
    /// The steps that it must be looked at after.
    pub waits: Vec<BTreeSet<NodeId>>,
    /// The infrastructure steps, which may create what it acts on.
    pub creators: Vec<BTreeSet<NodeId>>,
    /// The steps that leave files behind.
    pub makers: Vec<BTreeSet<NodeId>>,
    /// What the step itself leaves behind.
    pub leaves: Vec<Vec<String>>,
    /// It makes files, or hangs on files that are made or on what their makers hand on.
    pub made: Vec<bool>,
    /// What it would do may be known only after another step.
    pub loose: Vec<bool>,
    /// All that it waits for, directly or through others.
    pub hangs_on: Vec<BTreeSet<NodeId>>,
}

impl Fronts {
    /// Draws it; nothing of the table but what no run changes is used.
    pub fn draw(p: &Prepared, table: &dyn StepTable) -> Self {
        let count = p.graph.len();
        let scope = |node| scope(p, node, table);
        let mut fronts = Self {
            waits: vec![BTreeSet::new(); count],
            creators: vec![BTreeSet::new(); count],
            makers: vec![BTreeSet::new(); count],
            leaves: p.graph.iter().map(|(_, node)| leaves(node, &scope(node))).collect(),
            made: vec![false; count],
            loose: vec![false; count],
            hangs_on: vec![BTreeSet::new(); count],
        };
        for id in p.graph.order() {
            fronts.inherit(p, id);
            fronts.weigh(p, id, &scope(p.graph.node(id)));
        }
        fronts
    }

    /// What stands in front of a node: what stands in front of its predecessors, and they themselves.
    fn inherit(&mut self, p: &Prepared, id: NodeId) {
        let node = p.graph.node(id);
        let (mut creators, mut makers, mut waits) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for edge in &node.before {
            creators.extend(&self.creators[edge.to.0]);
            makers.extend(&self.makers[edge.to.0]);
            if p.selection.contains(edge.to) {
                if p.graph.node(edge.to).step.kind.nature == Nature::Infrastructure {
                    creators.insert(edge.to);
                }
                if !self.leaves[edge.to.0].is_empty() {
                    makers.insert(edge.to);
                }
                if edge.why == Why::Reference {
                    waits.insert(edge.to);
                }
            }
        }
        waits.extend(&creators);
        waits.extend(&makers);
        self.creators[id.0] = creators;
        self.makers[id.0] = makers;
        self.waits[id.0] = waits;
    }

    fn weigh(&mut self, p: &Prepared, id: NodeId, scope: &StepScope<'_>) {
        let node = p.graph.node(id);
        let refers: Vec<NodeId> = node
            .before
            .iter()
            .filter(|edge| edge.why == Why::Reference && p.selection.contains(edge.to))
            .map(|edge| edge.to)
            .collect();
        let reads_made = self.reads_what_is_left(node, self.makers[id.0].iter().copied(), scope).is_some();
        let by_key = node.step.kind.nature == Nature::Program && node.step.common.inputs.is_some();
        self.made[id.0] = by_key || reads_made || refers.iter().any(|to| self.made[to.0]);
        self.loose[id.0] = self.made[id.0] || !refers.is_empty();
        self.hangs_on[id.0] =
            self.waits[id.0].iter().flat_map(|to| self.hangs_on[to.0].iter().chain([to])).copied().collect();
    }

    /// The first of these steps that leaves something which a node reads.
    pub fn reads_what_is_left(
        &self,
        node: &Node,
        mut makers: impl Iterator<Item = NodeId>,
        scope: &StepScope<'_>,
    ) -> Option<NodeId> {
        let (include, exclude) = reads(node, scope);
        if include.is_empty() {
            return None;
        }
        let reads = Matcher::new(&include, &exclude).ok()?;
        makers.find(|maker| self.leaves[maker.0].iter().any(|left| reads.touches(Path::new(left))))
    }

    /// What a step and those in front of it leave behind.
    #[must_use]
    pub fn left_by_now(&self, id: NodeId) -> Vec<String> {
        let makers = self.makers[id.0].iter().chain([&id]);
        makers.flat_map(|maker| self.leaves[maker.0].iter().cloned()).collect()
    }
}

fn scope<'a>(p: &'a Prepared, node: &'a Node, table: &'a dyn StepTable) -> StepScope<'a> {
    StepScope { values: &p.values, each: &node.each, steps: table }
}

/// The paths that a step leaves behind.
fn leaves(node: &Node, scope: &StepScope<'_>) -> Vec<String> {
    let outputs = node.step.common.outputs.iter();
    outputs.filter_map(|template| template.resolve(scope).ok()?.known().and_then(Value::as_text)).collect()
}

/// The globs that a step reads, and those it leaves out.
pub fn reads(node: &Node, scope: &dyn Scope) -> (Vec<String>, Vec<String>) {
    let text = |template: &crate::model::template::Template| match template.resolve(scope) {
        Ok(Field::Known(value)) => value.as_text(),
        _ => None,
    };
    let inputs = node.step.common.inputs.iter();
    let mut include: Vec<String> =
        inputs.clone().flat_map(|inputs| inputs.globs.iter().filter_map(text)).collect();
    let exclude = inputs.flat_map(|inputs| inputs.exclude.iter().filter_map(text)).collect();
    for setting in node.step.kind.settings {
        if let (Shape::Path { reads: true }, Some(Given::One(template))) =
            (&setting.shape, node.step.settings.get(setting.name))
        {
            include.extend(text(template));
        }
    }
    (include, exclude)
}
