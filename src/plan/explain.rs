//! Why a step would run, be restored, or is up to date: the whole of what
//! `flow explain` shows.

use serde::Serialize;

use crate::cache::successes::Success;
use crate::event::Feed;
use crate::model::change::Action;
use crate::model::names::StepId;
use crate::plan::graph::NodeId;
use crate::steps::{Attributes, Failure, Proposal};
use crate::world::cancel::Cancel;
use crate::world::scratch::Scratch;
use crate::world::walk::Matcher;

use super::audit::{Undeclared, Used};
use super::fingerprint::answer::{Keyed, then};
use super::fingerprint::key::{Difference, Part};
use super::fronts::Fronts;
use super::observe::{Observed, context};
use super::prepare::Prepared;
use super::propose::{Look, NoProposal, Proposed, Surroundings, propose, whose};
use super::scope::StepScope;

/// What there is to say of a step.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The step.
    pub step: StepId,
    /// What would happen.
    pub action: Action,
    /// In a few words.
    pub summary: String,
    /// Why it is not up to date; empty when it is.
    pub why: String,
    /// Its key; absent where it is known only after another step, or the step is none of these.
    pub key: Option<Keyed>,
    /// Its last success here.
    pub last: Option<Success>,
    /// Where its key differs from that of the last success.
    pub differences: Vec<Differs>,
    /// Outputs that are not what the last success made.
    pub tampered: Vec<String>,
}

/// A difference, and the step in front that made it.
#[derive(Clone, Debug, Serialize)]
pub struct Differs {
    /// The row.
    #[serde(flatten)]
    pub row: Difference,
    /// The step that makes the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<StepId>,
}

/// Explains a step of a plan that was just made.
pub async fn explain(
    p: &Prepared,
    observed: &Observed,
    id: NodeId,
    cancel: &Cancel,
) -> Result<Explanation, NoProposal> {
    let node = p.graph.node(id);
    let planned = observed.plan.step(&node.id);
    let mut explanation = Explanation {
        step: node.id.clone(),
        action: planned.map_or(Action::Unknown, |planned| planned.action),
        summary: planned.map(|planned| planned.summary.clone()).unwrap_or_default(),
        why: planned.map(|planned| planned.subject.clone()).unwrap_or_default(),
        key: None,
        last: None,
        differences: Vec::new(),
        tampered: Vec::new(),
    };
    let waits = planned.is_some_and(|planned| planned.summary.starts_with("(known after"));
    if waits || !node.step.makes_files() {
        return Ok(explanation);
    }
    let cx = context(p, id, Feed::silent(node.id.clone()), cancel.clone());
    let scope = StepScope { values: &p.values, each: &node.each, steps: &observed.table };
    let Proposed::Ready(look) = propose(node, Surroundings::of(p, &scope), &cx).await? else {
        return Ok(explanation);
    };
    explanation.action = look.proposal.action;
    explanation.why = look.proposal.subject;
    explanation.summary = look.proposal.summary;
    let Some(key) = look.key else { return Ok(explanation) };
    explanation.last = p.cache.successes.get(&whose(&cx)).map_err(Failure::from)?;
    if let Some(last) = &explanation.last {
        let fronts = Fronts::draw(p, &observed.table);
        let rows = then(last).map(|then| key.key.differences(&then)).unwrap_or_default();
        explanation.differences =
            rows.into_iter().map(|row| Differs { made_by: maker(p, &fronts, id, &row), row }).collect();
        let tampered = last.made.as_ref().map(|made| made.differing(&p.world.files)).transpose();
        let unread = |error: crate::cache::manifest::ManifestError| Failure::new(error.to_string());
        explanation.tampered = tampered.map_err(unread)?.unwrap_or_default();
    }
    explanation.key = Some(key);
    Ok(explanation)
}

/// The step in front that makes an input.
fn maker(p: &Prepared, fronts: &Fronts, id: NodeId, row: &Difference) -> Option<StepId> {
    if row.part != Part::File {
        return None;
    }
    let makers = fronts.makers.get(id.0)?;
    let made = |maker: &&NodeId| {
        let leaves = fronts.leaves.get(maker.0);
        let matcher = leaves.and_then(|leaves| Matcher::new(leaves, &[]).ok());
        matcher.is_some_and(|matcher| matcher.matches(std::path::Path::new(&row.name)))
    };
    makers.iter().find(made).map(|maker| p.graph.node(*maker).id.clone())
}

/// Runs a step traced and says what it used without declaring it. Nothing of it is remembered.
pub async fn audit(
    p: &Prepared,
    observed: &Observed,
    id: NodeId,
    cancel: &Cancel,
) -> Result<Undeclared, NoProposal> {
    let node = p.graph.node(id);
    let mut cx = context(p, id, Feed::silent(node.id.clone()), cancel.clone());
    let mut scratch = Scratch::new(&p.world.files);
    let trace = scratch.write("trace", b"").map_err(Failure::from)?;
    cx.trace = Some(trace.clone());
    let scope = StepScope { values: &p.values, each: &node.each, steps: &observed.table };
    let around = Surroundings { no_cache: true, ..Surroundings::of(p, &scope) };
    let Proposed::Ready(look) = propose(node, around, &cx).await? else {
        return Err(Failure::new("what it does is known only after a step in front of it").into());
    };
    let Look { proposal: Proposal { effect: Some(effect), .. }, attributes, .. } = *look else {
        return Err(Failure::new("there is nothing to run").into());
    };
    let turn = p.cache.turn(&whose(&cx), &attributes.outputs).map_err(Failure::from)?;
    if turn.is_none() {
        return Err(Failure::new("another flow makes the same right now").into());
    }
    effect.apply(&cx).await?;
    drop(turn);
    let text = p.world.files.read(&trace).map_err(Failure::from)?;
    let used = Used::read(&String::from_utf8_lossy(&text), &folder(p, &look_dir(node, &scope))?);
    Ok(undeclared(&used, &attributes, p, node)?)
}

fn look_dir(node: &super::graph::Node, scope: &StepScope<'_>) -> String {
    let settings = node.step.settings.resolve(scope).ok();
    settings.and_then(|settings| settings.opt_text("dir").ok()?).unwrap_or_else(|| ".".to_owned())
}

fn folder(p: &Prepared, dir: &str) -> Result<std::path::PathBuf, Failure> {
    Ok(p.world.files.real_path(&p.world.files.locate(dir)?)?)
}

fn undeclared(
    used: &Used,
    attributes: &Attributes,
    p: &Prepared,
    node: &super::graph::Node,
) -> Result<Undeclared, Failure> {
    // The shell of a script is what it is written for.
    let shell: &[&str] =
        if node.step.settings.get("script").is_some() { &["sh", "dash", "bash"] } else { &[] };
    used.undeclared(attributes, &p.world.files, shell).map_err(|error| Failure::new(error.to_string()))
}
