//! What a step counts by in a plan's digest.
//!
//! | part | from |
//! |---|---|
//! | `definition` | each setting and attribute, as a keyed digest: values may be private |
//! | `handed` | what steps that are as wanted hand on to it, as keyed digests |
//! | `inputs` | digests of the local files it reads, those that steps in front make left out |
//! | `tools` | versions of the programs it names |
//! | `baseline` | facts of the world |
//!
//! A plan must have the same digest before and after its file-making steps
//! ran. So in a definition a reference to another step stands for itself
//! (`${step.image[api].uri}`) and not for what that step happens to have made
//! already; what it stands for counts where that step counts. Parameters and
//! secrets stand for themselves too: their values count once, in the plan's
//! own basis, where a refusal can name them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::model::names::StepId;
use crate::model::settings::{Given, Ready, Settings};
use crate::model::step::{Common, Undo};
use crate::model::template::{Missing, Reference, RunFact, Scope, StepReference, Template, Unresolved};
use crate::model::value::{Field, Value};
use crate::world::host::Host;
use crate::world::keyed::Sealer;

use super::canonical::{Members, write_canonical, write_sum, write_text};
use super::fingerprint;
use super::graph::{Goal, Node};
use super::scope::{Known, StepScope, StepTable};
use super::seals::Seals;

type Rows = BTreeMap<String, String>;

/// What a step counts by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Basis {
    /// Keyed digest of each setting.
    #[serde(skip_serializing_if = "Seals::is_empty")]
    pub definition: Seals,
    /// Keyed digest of each value that a step hands on which is as wanted.
    #[serde(skip_serializing_if = "Seals::is_empty")]
    pub handed: Seals,
    /// Digest of each file it reads, by path relative to the project root.
    #[serde(skip_serializing_if = "Rows::is_empty")]
    pub inputs: Rows,
    /// Version of each program it names.
    #[serde(skip_serializing_if = "Rows::is_empty")]
    pub tools: Rows,
    /// Facts of the world; `null` where there is nothing to observe.
    pub baseline: Json,
    /// The step after which they can be observed, where they could not be yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<StepId>,
    /// What it would do counts too: it does not hang on files that are still to be made.
    pub decided: bool,
    /// It may read any file of the checkout.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tree: bool,
}

impl Basis {
    /// Adds it to a text as canonical JSON, for a digest; the same as from its JSON.
    pub(super) fn write(&self, text: &mut String) {
        let mut members = Members::begin(text);
        if let Some(step) = &self.after {
            write_text(&step.to_string(), members.name("after"));
        }
        write_canonical(&self.baseline, members.name("baseline"));
        write_canonical(&self.decided.into(), members.name("decided"));
        for (name, seals) in [("definition", &self.definition), ("handed", &self.handed)] {
            if !seals.is_empty() {
                let mut inner = Members::begin(members.name(name));
                for (name, sum) in seals.iter() {
                    write_sum(sum, inner.name(name));
                }
                inner.end();
            }
        }
        for (name, rows) in [("inputs", &self.inputs), ("tools", &self.tools)] {
            if !rows.is_empty() {
                let mut inner = Members::begin(members.name(name));
                for (name, value) in rows {
                    write_text(value, inner.name(name));
                }
                inner.end();
            }
        }
        if self.tree {
            write_canonical(&true.into(), members.name("tree"));
        }
        members.end();
    }
}

/// What all steps of a plan count by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanBasis {
    /// What environments and the flow say for all steps.
    pub settings: Rows,
    /// Keyed digest of each secret.
    #[serde(skip_serializing_if = "Rows::is_empty")]
    pub secrets: Rows,
    /// What each tracked file holds, where a step may read any of them.
    #[serde(skip_serializing_if = "Rows::is_empty")]
    pub tree: Rows,
}

/// A scope in which what counts elsewhere stands for itself.
pub struct Symbolic<'a> {
    /// What references mean.
    pub scope: &'a StepScope<'a>,
    /// Whether a step is part of the plan.
    pub selected: &'a (dyn Fn(&StepId) -> bool + Sync),
}

impl Scope for Symbolic<'_> {
    fn lookup(&self, reference: &Reference) -> Result<Field<Value>, Missing> {
        let itself = |text: String| Ok(Field::Known(Value::Text(format!("${{{text}}}"))));
        match reference {
            Reference::Param(name) => itself(format!("param.{name}")),
            Reference::Secret(name) => itself(format!("secret.{name}")),
            Reference::Run(fact) => itself(format!("run.{}", run_fact(*fact))),
            Reference::Step(step) => {
                let (id, ids) = self.referred(step)?;
                if ids.iter().any(self.selected) {
                    itself(format!("step.{id}.{}", step.output))
                } else {
                    self.scope.lookup(reference)
                }
            }
            Reference::Env(_) | Reference::Each(..) | Reference::Git(_) => self.scope.lookup(reference),
        }
    }

    fn changed(&self, globs: &[String]) -> Result<bool, Missing> {
        self.scope.changed(globs)
    }
}

impl Symbolic<'_> {
    /// The step that is referred to, and its instances.
    fn referred(&self, step: &StepReference) -> Result<(StepId, Vec<StepId>), Missing> {
        let mut instance = Vec::new();
        for index in &step.index {
            let value = index.resolve(self.scope).map_err(|error| error.why)?;
            instance.push(value.known().and_then(Value::as_text).unwrap_or_default());
        }
        let id = StepId { name: step.name.clone(), instance: instance.into() };
        let ids =
            if id.instance.is_empty() { self.scope.steps.instances(&step.name) } else { vec![id.clone()] };
        Ok((id, ids))
    }
}

fn run_fact(fact: RunFact) -> &'static str {
    match fact {
        RunFact::Id => "id",
        RunFact::Time => "time",
        RunFact::Outcome => "outcome",
        RunFact::Failed => "failed",
        RunFact::Duration => "duration",
    }
}

/// A table in which some steps have handed nothing on yet, whether or not they have.
pub struct Unmade<'a> {
    /// What is known.
    pub table: &'a dyn StepTable,
    /// Whether a step counts as not done.
    pub unmade: &'a (dyn Fn(&StepId) -> bool + Sync),
}

impl StepTable for Unmade<'_> {
    fn known(&self, id: &StepId) -> Option<Known> {
        match self.table.known(id)? {
            // What is certain of it already is certain only once its files are there.
            Known::Outputs { .. } | Known::After(_) if (self.unmade)(id) => {
                Some(Known::After(std::sync::Arc::default()))
            }
            known => Some(known),
        }
    }

    fn instances(&self, name: &crate::model::names::StepName) -> Vec<StepId> {
        self.table.instances(name)
    }
}

/// What a step is, as keyed digests by name.
pub fn definition(
    node: &Node,
    scope: &Symbolic<'_>,
    host: &Host,
    sealer: &Sealer,
) -> Result<Seals, Unresolved> {
    let mut rows = Described { rows: Seals::default(), sealer };
    if let Some(Goal::Recorded(way)) = &node.goal {
        rows.add("state to return to", &way.to.clone().unwrap_or_default().to_string());
        rows.add("state to leave", &way.now.to_string());
        // What the flow says today gives it what states do not hold; it need not hold any more.
        if let Ok(settings) = node.step.settings.resolve(scope) {
            rows.settings("", &settings);
        }
        let _ = rows.common(&node.step.common, scope);
        return Ok(rows.rows);
    }
    rows.settings("", &node.step.settings.resolve(scope)?);
    rows.common(&node.step.common, scope)?;
    for name in &node.step.common.inherit {
        rows.add(
            &format!("inherit {name}"),
            &host.var(name).map(|value| format!("={value}")).unwrap_or_default(),
        );
    }
    for (name, value) in node.each.iter() {
        rows.add(&format!("each {name}"), &value.to_json().to_string());
    }
    Ok(rows.rows)
}

/// What steps that are as wanted hand on to this one.
pub fn handed(
    node: &Node,
    scope: &StepScope<'_>,
    stands: &dyn Fn(&StepId) -> bool,
    sealer: &Sealer,
) -> Seals {
    let mut rows = Seals::default();
    let all = |_: &StepId| true;
    let symbolic = Symbolic { scope, selected: &all };
    for template in node.step.templates() {
        for reference in template.references() {
            let Reference::Step(step) = &reference.value else { continue };
            let Ok((id, ids)) = symbolic.referred(step) else { continue };
            if let (true, Ok(Field::Known(value))) = (ids.iter().all(stands), scope.lookup(&reference.value))
            {
                let shown = fingerprint::show(&Given::One(Field::Known(value)), sealer);
                rows.insert(&format!("step.{id}.{}", step.output), sealer.sum(&shown));
            }
        }
    }
    rows
}

struct Described<'a> {
    rows: Seals,
    sealer: &'a Sealer,
}

impl Described<'_> {
    fn add(&mut self, name: &str, text: &str) {
        // The same name twice: two nodes of one name count in their order.
        let mut free = name.to_owned();
        let mut further = 1;
        while self.rows.get(&free).is_some() {
            further += 1;
            free = format!("{name} ({further})");
        }
        self.rows.insert(&free, self.sealer.sum(&format!("{free}\n{text}")));
    }

    fn value(&mut self, name: &str, value: Field<Value>) {
        let shown = fingerprint::show(&Given::One(value), self.sealer);
        self.add(name, &shown);
    }

    fn settings(&mut self, before: &str, settings: &Ready) {
        for (name, given) in Settings::iter(settings) {
            let name = format!("{before}{name}");
            match given {
                Given::Map(pairs) => {
                    for (key, value) in pairs {
                        self.value(&format!("{name} {key}"), value.clone());
                    }
                }
                Given::Nodes(nodes) => {
                    for node in nodes {
                        let head = node.head.as_ref().and_then(|head| head.known()?.as_text());
                        let head = head.map(|head| format!(" {head}")).unwrap_or_default();
                        self.add(&format!("{name}{head}"), "");
                        self.settings(&format!("{name}{head} "), &node.settings);
                    }
                }
                other => {
                    let shown = fingerprint::show(other, self.sealer);
                    self.add(&name, &shown);
                }
            }
        }
    }

    fn templates<'t>(
        &mut self,
        name: &str,
        templates: impl IntoIterator<Item = &'t Template>,
        scope: &Symbolic<'_>,
    ) -> Result<(), Unresolved> {
        let fields: Vec<Field<Value>> =
            templates.into_iter().map(|template| template.resolve(scope)).collect::<Result<_, _>>()?;
        if !fields.is_empty() {
            let shown = fingerprint::show(&Given::Many(fields), self.sealer);
            self.add(name, &shown);
        }
        Ok(())
    }

    fn common(&mut self, common: &Common, scope: &Symbolic<'_>) -> Result<(), Unresolved> {
        for condition in &common.when {
            self.add(&format!("when {}", condition.text), "");
            let templates = condition.expr.templates();
            self.templates(&format!("what when {} refers to", condition.text), templates, scope)?;
        }
        for (name, template) in &common.env {
            self.value(&format!("env {name}"), template.resolve(scope)?);
        }
        for (name, template) in &common.files {
            self.value(&format!("file {name}"), template.resolve(scope)?);
        }
        self.templates("environment", &common.environment, scope)?;
        if let Some(inputs) = &common.inputs {
            self.templates("inputs", &inputs.globs, scope)?;
            self.templates("exclude", &inputs.exclude, scope)?;
        }
        self.templates("outputs", &common.outputs, scope)?;
        for tool in &common.tools {
            self.add(&format!("tool {}", tool.name), "");
            self.templates(&format!("version-from of {}", tool.name), &tool.version_from, scope)?;
        }
        self.templates("probe", common.probe.iter().flatten(), scope)?;
        match &common.undo {
            None => {}
            Some(Undo::None) => self.add("undo", "none"),
            Some(Undo::Command(argv)) => self.templates("undo", argv, scope)?,
        }
        let plain = [
            ("aws", flag(common.aws)),
            ("timeout", common.timeout.map(|time| format!("{time:?}")).unwrap_or_default()),
            ("grace", common.grace.map(|time| format!("{time:?}")).unwrap_or_default()),
            ("retry", common.retry.map(|retry| format!("{retry:?}")).unwrap_or_default()),
            ("pool", common.pool.clone().unwrap_or_default()),
            ("cache", flag(common.no_cache)),
            ("on-failure", flag(common.continue_on_failure)),
            ("ungated", flag(common.ungated)),
        ];
        for (name, text) in plain.iter().filter(|(_, text)| !text.is_empty()) {
            self.add(name, text);
        }
        Ok(())
    }
}

fn flag(on: bool) -> String {
    if on { "on".to_owned() } else { String::new() }
}
