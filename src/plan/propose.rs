//! One step: from what is written to what it would do now.
//!
//! Used by `plan::observe` for the plan and by `exec` again right before the
//! effect, when everything the step refers to is known.

use crate::cache::{Cache, Whose};
use crate::model::change::Action;
use crate::model::expr::Condition;
use crate::model::names::StepId;
use crate::model::settings::Ready;
use crate::model::step::{Common, Tool, Undo};
use crate::model::template::{Scope, Template, Unresolved};
use crate::model::units::count;
use crate::model::value::{Field, Value};
use crate::steps::attributes::Globs;
use crate::steps::{self, Attributes, Back, Context, Failure, FailureClass, Proposal, Step};
use crate::world::keyed::Sealer;
use crate::world::masker::Masker;
use crate::world::parallel::aside;
use crate::world::walk::is_little;

use super::fingerprint::answer::{self, Answer, Keyed, Stored};
use super::fingerprint::key::Key;
use super::fingerprint::{self, KeyError};
use super::graph::{Goal, Node};
use super::prepare::Prepared;
use super::tools;

/// What came of looking at a step.
#[derive(Debug)]
pub enum Proposed {
    /// It would do this.
    Ready(Box<Look>),
    /// Its condition is false; the condition as written.
    Skipped(String),
    /// What decides is known only after this step.
    NotYet(StepId),
}

/// A step that was looked at.
#[derive(Debug)]
pub struct Look {
    /// What it would do.
    pub proposal: Proposal,
    /// For steps that only make files and may be skipped or restored: what to remember after a success.
    pub key: Option<Keyed>,
    /// What it made before from the same key: to be put back, nothing to run.
    pub stored: Option<Box<Stored>>,
    /// Its attributes, which `exec` reads timeouts and retries from.
    pub attributes: Attributes,
}

/// Why nothing came of it.
#[derive(Debug)]
pub enum NoProposal {
    /// A reference has no value.
    Unresolved(Unresolved),
    /// The step says so.
    Failure(Failure),
}

impl NoProposal {
    /// Without the run's secrets: what a program says before it fails may hold one.
    #[must_use]
    pub fn masked(self, masker: &Masker) -> Self {
        let hide = |text: &String| masker.mask(text).into_owned();
        match self {
            Self::Failure(mut failure) => {
                let record = &mut failure.record;
                record.reason = hide(&record.reason);
                record.details = record.details.iter().map(hide).collect();
                record.help = record.help.as_ref().map(hide);
                Self::Failure(failure)
            }
            unresolved @ Self::Unresolved(_) => unresolved,
        }
    }
}

impl From<Unresolved> for NoProposal {
    fn from(error: Unresolved) -> Self {
        Self::Unresolved(error)
    }
}

impl From<Failure> for NoProposal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What looking at a step needs besides its context.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// What its references mean.
    pub scope: &'a (dyn Scope + Sync),
    /// What steps that only make files left behind.
    pub cache: &'a Cache,
    /// For digests of secrets.
    pub sealer: &'a Sealer,
    /// A step whose outputs this one reads and that has yet to run.
    pub reads_after: Option<&'a StepId>,
    /// `--no-cache`
    pub no_cache: bool,
}

impl<'a> Surroundings<'a> {
    /// What looking at steps of a flow needs.
    #[must_use]
    pub fn of(p: &'a Prepared, scope: &'a (dyn Scope + Sync)) -> Self {
        let no_cache = p.request.no_cache;
        Self { scope, cache: &p.cache, sealer: &p.sealer, reads_after: None, no_cache }
    }
}

/// Looks at a step.
pub async fn propose(node: &Node, around: Surroundings<'_>, cx: &Context) -> Result<Proposed, NoProposal> {
    if let (Some(Goal::Recorded(way)), Some(Back::To(back))) =
        (&node.goal, steps::kind(node.step.kind.name).map(|kind| kind.back))
    {
        // What its own flow says of it today need not hold; what this run says of it does.
        let when = node.guest.iter().flat_map(|guest| guest.when.iter());
        if let Some(off) = unmet(when, around.scope)? {
            return Ok(off);
        }
        return return_to(node, back(way)?, around, cx).await;
    }
    if let Some(off) = unmet(node.step.common.when.iter(), around.scope)? {
        return Ok(off);
    }
    let settings = node.step.settings.resolve(around.scope)?;
    let attributes = match attributes(&node.step.common, around.scope)? {
        Field::Known(attributes) => attributes,
        Field::After(step) => return Ok(Proposed::NotYet(step)),
    };
    if let Some(step) = around.reads_after {
        return Ok(Proposed::NotYet(step.clone()));
    }
    let Some(kind) = steps::kind(node.step.kind.name) else {
        return Err(Failure::new(format!("there is no step kind {}", node.step.kind.name)).into());
    };
    let made = (kind.make)(&settings, &attributes).map(|mut step| {
        if matches!(node.goal, Some(Goal::Again)) {
            step.once_more();
        }
        step
    });
    let step = match made {
        Ok(step) => step,
        Err(unready) => {
            let failure = Failure::from(unready);
            return match failure.class {
                FailureClass::NotYet(step) => Ok(Proposed::NotYet(step)),
                _ => Err(failure.into()),
            };
        }
    };
    let (key, answer) = asked(node, &settings, &attributes, around, cx).await?.unzip();
    let mut stale = None;
    match answer.flatten() {
        Some(Answer::UpToDate(outputs)) => {
            let inputs = key.as_ref().map_or(0, |key| key.key.files.len());
            let proposal = Proposal::up_to_date(format!("{} unchanged", count(inputs, "input")), outputs);
            return Ok(ready(proposal, key, None, attributes));
        }
        Some(Answer::Stored(stored)) => {
            let proposal = restoring(&stored);
            return Ok(ready(proposal, key, Some(stored), attributes));
        }
        Some(Answer::Stale(why)) => stale = Some(why.to_string()),
        None => {}
    }
    let mut proposal = match step.plan(cx).await {
        Ok(proposal) => proposal,
        Err(Failure { class: FailureClass::NotYet(step), .. }) => return Ok(Proposed::NotYet(step)),
        Err(failure) => return Err(failure.into()),
    };
    if let Some(why) = stale {
        proposal.subject = why;
    }
    Ok(ready(proposal, key, None, attributes))
}

fn ready(
    proposal: Proposal,
    key: Option<Keyed>,
    stored: Option<Box<Stored>>,
    attributes: Attributes,
) -> Proposed {
    Proposed::Ready(Box::new(Look { proposal, key, stored, attributes }))
}

/// What putting back would do.
fn restoring(stored: &Stored) -> Proposal {
    let plan = &stored.plan;
    let mut summary = match plan.wrong.len() {
        0 => String::new(),
        files => format!("restore {}", count(files, "file")),
    };
    if !plan.stale.is_empty() {
        let stale = count(plan.stale.len(), "file");
        summary =
            if summary.is_empty() { format!("remove {stale}") } else { format!("{summary}, remove {stale}") };
    }
    Proposal {
        subject: stored.why.to_string(),
        outputs: stored.entry.outputs.clone(),
        ..Proposal::new(Action::Cached, summary)
    }
}

/// The key of a step that only makes files, and what the cache says of it unless it is not to be
/// asked. `None` for every other step: whatever deploys asks its provider, since what was done once
/// may be gone, or was done by somebody else.
async fn asked(
    node: &Node,
    settings: &Ready,
    attributes: &Attributes,
    around: Surroundings<'_>,
    cx: &Context,
) -> Result<Option<(Keyed, Option<Answer>)>, Failure> {
    if node.step.is_deploying(cx.cloud.target().protected) || !node.step.makes_files() || attributes.no_cache
    {
        return Ok(None);
    }
    let dir = settings.opt_text("dir")?;
    let versions = tools::versions(&attributes.tools, dir.as_deref(), cx).await?;
    let rows = (fingerprint::values(&node.step, around.scope, around.sealer), versions);
    let read = attributes.inputs.iter().flat_map(|inputs| &inputs.include);
    let named: Vec<&String> = read.chain(&attributes.outputs).collect();
    let brief = is_little(named.into_iter(), &cx.world.files);
    let (settings, attributes, cx) = (settings.clone(), attributes.clone(), cx.clone());
    let (cache, sealer, no_cache) = (around.cache.clone(), around.sealer.clone(), around.no_cache);
    let kind = node.step.kind.name;
    let work = move || {
        let key = Key::compute(kind, &settings, &attributes, rows, &cx.world, &sealer)?;
        let key = Keyed::from(key);
        let restorable = !attributes.outputs.is_empty();
        let answer = (!no_cache).then(|| answer::ask(&key, &whose(&cx), restorable, &cache, &cx.world.files));
        Ok((key, answer))
    };
    let asked: Result<_, KeyError> =
        if brief { work() } else { aside(work).await.map_err(|error| Failure::new(error.to_string()))? };
    asked.map(Some).map_err(|error| Failure::new(error.to_string()))
}

/// Whose last success it is.
#[must_use]
pub fn whose(cx: &Context) -> Whose<'_> {
    Whose { flow: &cx.flow, environment: &cx.cloud.target().environment, step: &cx.id }
}

/// What comes of a step whose conditions do not hold, or not yet; `None` where all of them hold.
fn unmet<'a>(
    conditions: impl Iterator<Item = &'a Condition>,
    scope: &dyn Scope,
) -> Result<Option<Proposed>, Unresolved> {
    for condition in conditions {
        match condition.evaluate(scope)? {
            Field::Known(true) => {}
            Field::Known(false) => return Ok(Some(Proposed::Skipped(condition.text.clone()))),
            Field::After(step) => return Ok(Some(Proposed::NotYet(step))),
        }
    }
    Ok(None)
}

/// The step of a node, without a look at the world; what it waits for when that is not known yet.
pub fn step_of(node: &Node, scope: &dyn Scope) -> Result<Field<Box<dyn Step>>, NoProposal> {
    let Some(kind) = steps::kind(node.step.kind.name) else {
        return Err(Failure::new(format!("there is no step kind {}", node.step.kind.name)).into());
    };
    if let (Some(Goal::Recorded(way)), Back::To(back)) = (&node.goal, kind.back) {
        let mut step = back(way)?;
        equip(node, step.as_mut(), scope);
        return Ok(Field::Known(step));
    }
    let settings = node.step.settings.resolve(scope)?;
    let attributes = match attributes(&node.step.common, scope)? {
        Field::Known(attributes) => attributes,
        Field::After(step) => return Ok(Field::After(step)),
    };
    match (kind.make)(&settings, &attributes).map_err(Failure::from) {
        Ok(step) => Ok(Field::Known(step)),
        Err(Failure { class: FailureClass::NotYet(step), .. }) => Ok(Field::After(step)),
        Err(failure) => Err(failure.into()),
    }
}

/// What a step that returns to a recorded state takes from the flow of today.
struct Today {
    attributes: Attributes,
    /// Settings that limit what it may do, and have no value now.
    unread: Vec<&'static str>,
}

/// Settings of today that limit what a return may do.
const LIMITS: [&str; 2] = ["policy", "protect"];

/// Gives a step that returns to a recorded state what the flow says of it today.
fn equip(node: &Node, step: &mut dyn Step, scope: &dyn Scope) -> Today {
    let attributes = match attributes(&node.step.common, scope) {
        Ok(Field::Known(attributes)) => attributes,
        _ => Attributes {
            timeout: node.step.common.timeout,
            grace: node.step.common.grace,
            retry: node.step.common.retry,
            ..Attributes::default()
        },
    };
    // What the flow no longer says as it was written then is not needed to return.
    let written = &node.step.settings;
    let settings = written.resolve_what_can_be(scope);
    step.equip(&settings, &attributes);
    let unread = LIMITS.into_iter().filter(|name| written.get(name).is_some() && !settings.is_known(name));
    let unread = unread.collect();
    Today { attributes, unread }
}

/// Looks at a step that returns to a recorded state. What the flow says of it today need not hold
/// any more, or have a value: only what any attempt of it may take counts, and its limits.
async fn return_to(
    node: &Node,
    mut step: Box<dyn Step>,
    around: Surroundings<'_>,
    cx: &Context,
) -> Result<Proposed, NoProposal> {
    let Today { attributes, unread } = equip(node, step.as_mut(), around.scope);
    let mut proposal = step.plan(cx).await?;
    let unasked = |name| format!("today's `{name}` has no value, and does not count");
    proposal.warnings.extend(unread.into_iter().map(unasked));
    Ok(ready(proposal, None, None, attributes))
}

/// Replaces every reference in the common attributes.
pub fn attributes(common: &Common, scope: &dyn Scope) -> Result<Field<Attributes>, Unresolved> {
    let mut later = None;
    let mut text = |template: &Template| -> Result<String, Unresolved> {
        Ok(match template.resolve(scope)? {
            Field::Known(value) => value.as_text().unwrap_or_default(),
            Field::After(step) => {
                later = Some(step);
                String::new()
            }
        })
    };
    let mut attributes = Attributes {
        inherit: common.inherit.clone(),
        aws: common.aws,
        timeout: common.timeout,
        grace: common.grace,
        retry: common.retry,
        no_cache: common.no_cache,
        ..Attributes::default()
    };
    if let Some(inputs) = &common.inputs {
        attributes.inputs = Some(Globs {
            include: inputs.globs.iter().map(&mut text).collect::<Result<_, _>>()?,
            exclude: inputs.exclude.iter().map(&mut text).collect::<Result<_, _>>()?,
        });
    }
    attributes.outputs = common.outputs.iter().map(&mut text).collect::<Result<_, _>>()?;
    for Tool { name, version_from } in &common.tools {
        let command = version_from.as_ref().map(&mut text).transpose()?;
        let argv = command.map(|line| line.split_whitespace().map(str::to_owned).collect());
        attributes.tools.push((name.clone(), argv));
    }
    if let Some(probe) = &common.probe {
        attributes.probe = Some(probe.iter().map(&mut text).collect::<Result<_, _>>()?);
    }
    attributes.undo = match &common.undo {
        None => None,
        Some(Undo::None) => Some(Vec::new()),
        Some(Undo::Command(argv)) => Some(argv.iter().map(&mut text).collect::<Result<_, _>>()?),
    };
    for (name, template) in &common.env {
        attributes.env.push((name.clone(), template.resolve(scope)?));
    }
    for (name, template) in &common.files {
        match template.resolve(scope)? {
            Field::Known(Value::Secret(secret)) => attributes.files.push((name.clone(), secret)),
            Field::Known(value) => attributes
                .files
                .push((name.clone(), crate::model::secret::Secret::new(value.as_text().unwrap_or_default()))),
            Field::After(step) => later = Some(step),
        }
    }
    Ok(later.map_or_else(|| Field::Known(attributes), Field::After))
}
