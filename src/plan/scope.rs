//! What `${…}` and `when` mean once an environment is chosen.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::names::{EnvName, RunId, StepId};
use crate::model::secret::Secret;
use crate::model::template::{GitFact, Missing, Reference, RunFact, Scope, StepReference};
use crate::model::value::{Field, Outputs, Value};
use crate::world::git::Git;

use super::changes::Changes;

/// Values that are the same for every step of a run.
#[derive(Clone, Debug)]
pub struct Values {
    /// The environment.
    pub environment: EnvName,
    /// `env.*`, the built-in ones included.
    pub env: BTreeMap<String, Value>,
    /// `param.*`
    pub params: BTreeMap<String, Value>,
    /// `git.*`; asked when somebody refers to it.
    pub git: Git,
    /// `secret.*`: those that selected steps refer to, or why one could not be read.
    pub secrets: BTreeMap<String, Result<Secret, String>>,
    /// `run.*`
    pub run: RunFacts,
    /// `changed(…)`
    pub changes: Changes,
}

#[cfg(test)]
impl Values {
    /// Of the environment `dev`, in a checkout of nothing.
    pub(super) fn for_tests() -> Self {
        use crate::world::host::Host;

        let git = Git::new(std::path::Path::new("."), Host::with(BTreeMap::new()));
        Self {
            environment: EnvName::new("dev"),
            env: BTreeMap::from([("name".to_owned(), Value::text("dev"))]),
            params: BTreeMap::new(),
            changes: Changes::since_nothing(git.clone()),
            git,
            secrets: BTreeMap::new(),
            run: RunFacts::default(),
        }
    }
}

/// What is known of the run.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// Its id; while planning there is none.
    pub id: Option<String>,
    /// When it started, `20260102T150405Z`.
    pub time: Option<String>,
    /// `succeeded`, `failed`, `interrupted`: only at the end.
    pub outcome: Option<String>,
    /// The steps that failed: only at the end.
    pub failed: Vec<String>,
    /// How long it took so far: only at the end.
    pub duration: Option<String>,
}

/// What is known of one instance's outputs.
#[derive(Clone, Debug)]
pub enum Known {
    /// All of them; `changed` when it did something.
    Outputs {
        /// By name.
        outputs: Arc<Outputs>,
        /// `step.x.changed`
        changed: bool,
    },
    /// Those that are certain already; the others come when it has run.
    After(Arc<Outputs>),
    /// Its condition is false.
    Skipped(String),
    /// It is not selected and no release records it.
    Nothing,
}

/// Looks up what other steps handed on.
pub trait StepTable: Sync {
    /// What is known of an instance; `None` when there is no such instance.
    fn known(&self, id: &StepId) -> Option<Known>;
    /// All instances of a step, in order.
    fn instances(&self, name: &crate::model::names::StepName) -> Vec<StepId>;
}

/// The scope of one step.
pub struct StepScope<'a> {
    /// The same for all steps.
    pub values: &'a Values,
    /// The value of each `each`.
    pub each: &'a [(String, Value)],
    /// The other steps.
    pub steps: &'a dyn StepTable,
}

/// A scope without steps, for `each` lists and brackets.
#[must_use]
pub fn each_scope<'a>(values: &'a Values, each: &'a [(String, Value)]) -> StepScope<'a> {
    StepScope { values, each, steps: &NoSteps }
}

/// No steps are known yet.
pub struct NoSteps;

impl StepTable for NoSteps {
    fn known(&self, id: &StepId) -> Option<Known> {
        Some(Known::After(Arc::default())).filter(|_| !id.name.as_str().is_empty())
    }

    fn instances(&self, name: &crate::model::names::StepName) -> Vec<StepId> {
        vec![StepId::plain(name.clone())]
    }
}

impl Scope for StepScope<'_> {
    fn lookup(&self, reference: &Reference) -> Result<Field<Value>, Missing> {
        let values = self.values;
        match reference {
            Reference::Env(name) => values.env.get(name).cloned().map(Field::Known).ok_or_else(|| {
                Missing::EnvVar { name: name.clone(), environment: values.environment.to_string() }
            }),
            Reference::Param(name) => {
                values.params.get(name).cloned().map(Field::Known).ok_or_else(|| Missing::Param(name.clone()))
            }
            Reference::Each(var, field) => self.each(var, field.as_deref()).map(Field::Known),
            Reference::Git(fact) => git_fact(&values.git, *fact).map(Field::Known),
            Reference::Run(fact) => values.run.value(*fact).map(Field::Known),
            Reference::Secret(name) => match values.secrets.get(name) {
                Some(Ok(secret)) => Ok(Field::Known(Value::Secret(secret.clone()))),
                Some(Err(why)) => Err(Missing::Secret { name: name.clone(), why: why.clone() }),
                None => Err(Missing::NotHere(format!("secret.{name}"))),
            },
            Reference::Step(step) => self.step(step),
        }
    }

    fn changed(&self, globs: &[String]) -> Result<bool, Missing> {
        self.values.changes.any(globs).map_err(Missing::NotHere)
    }
}

impl StepScope<'_> {
    fn each(&self, var: &str, field: Option<&str>) -> Result<Value, Missing> {
        let value = self
            .each
            .iter()
            .find(|(name, _)| name == var)
            .map(|(_, value)| value)
            .ok_or_else(|| Missing::NotHere(format!("each.{var}")))?;
        match (value, field) {
            (value, None) => Ok(value.clone()),
            (Value::Record(record), Some("name")) => Ok(Value::text(record.name.clone())),
            (Value::Record(record), Some(field)) => record
                .fields
                .get(field)
                .cloned()
                .ok_or_else(|| Missing::Field { record: record.name.clone(), field: field.to_owned() }),
            (other, Some(field)) => {
                Err(Missing::Field { record: other.as_text().unwrap_or_default(), field: field.to_owned() })
            }
        }
    }

    fn step(&self, reference: &StepReference) -> Result<Field<Value>, Missing> {
        let mut instance = Vec::new();
        for index in &reference.index {
            match index.resolve(self).map_err(|error| error.why)? {
                Field::Known(value) => instance.push(value.as_text().unwrap_or_default()),
                Field::After(step) => return Ok(Field::After(step)),
            }
        }
        let ids = if instance.is_empty() {
            self.steps.instances(&reference.name)
        } else {
            vec![StepId { name: reference.name.clone(), instance: instance.into() }]
        };
        match ids.as_slice() {
            [] => Err(Missing::NoStep(StepId::plain(reference.name.clone()))),
            [id] => self.output(id, &reference.output),
            // A step with `each` and no brackets: the outputs of all its instances, in order.
            several => {
                let mut list = Vec::new();
                for id in several {
                    match self.output(id, &reference.output)? {
                        Field::Known(value) => list.push(value),
                        after @ Field::After(_) => return Ok(after),
                    }
                }
                Ok(Field::Known(if reference.output == "changed" {
                    Value::Bool(list.contains(&Value::Bool(true)))
                } else {
                    Value::List(list)
                }))
            }
        }
    }

    fn output(&self, id: &StepId, output: &str) -> Result<Field<Value>, Missing> {
        match self.steps.known(id) {
            None => Err(Missing::NoStep(id.clone())),
            Some(Known::Nothing) => Err(Missing::Unselected(id.clone())),
            Some(Known::Skipped(when)) => Err(Missing::Skipped { step: id.clone(), when }),
            Some(Known::Outputs { changed, .. }) if output == "changed" => {
                Ok(Field::Known(Value::Bool(changed)))
            }
            Some(Known::Outputs { outputs, .. }) => outputs
                .get(output)
                .cloned()
                .map(Field::Known)
                .ok_or_else(|| Missing::Output { step: id.clone(), output: output.to_owned() }),
            Some(Known::After(certain)) => {
                Ok(certain.get(output).cloned().map_or_else(|| Field::After(id.clone()), Field::Known))
            }
        }
    }
}

/// A fact of the checkout. Every commit has an id and a time; a branch or a tag may be absent, and
/// is empty text then.
pub(super) fn git_fact(git: &Git, fact: GitFact) -> Result<Value, Missing> {
    let facts = git.facts();
    let certain = |value: Option<String>, name| value.map(Value::Text).ok_or(Missing::Checkout(name));
    match fact {
        GitFact::Sha => certain(facts.sha.clone(), "sha"),
        GitFact::Short => certain(facts.short.clone(), "short"),
        GitFact::Time => certain(git.time_text(), "time"),
        GitFact::Branch => Ok(Value::text(facts.branch.clone().unwrap_or_default())),
        GitFact::Tag => Ok(Value::text(git.tag().unwrap_or_default())),
        GitFact::Dirty => Ok(Value::Bool(facts.dirty)),
    }
}

impl RunFacts {
    /// Of a run that began then.
    #[must_use]
    pub fn of(run: &RunId, began: Timestamp) -> Self {
        let time = began.strftime("%Y%m%dT%H%M%SZ").to_string();
        Self { id: Some(run.to_string()), time: Some(time), ..Self::default() }
    }

    fn value(&self, fact: RunFact) -> Result<Value, Missing> {
        let known = |value: &Option<String>, name: &str| {
            value.clone().map(Value::Text).ok_or_else(|| Missing::NotHere(format!("run.{name}")))
        };
        match fact {
            // A plan has no run; whatever carries it is outside every digest.
            RunFact::Id => Ok(Value::text(self.id.clone().unwrap_or_else(|| "run".to_owned()))),
            RunFact::Time => Ok(Value::text(self.time.clone().unwrap_or_else(|| "time".to_owned()))),
            RunFact::Outcome => known(&self.outcome, "outcome"),
            RunFact::Failed => Ok(Value::texts(self.failed.clone())),
            RunFact::Duration => known(&self.duration, "duration"),
        }
    }
}
