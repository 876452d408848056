//! `lookup`: what another pipeline deployed, read when the plan is made.
//!
//! It changes nothing and is always up to date, so that its outputs are known
//! in the plan and stand in the plan's digest (those of secrets as keyed
//! digests). Behind an infrastructure step that will run it is read after that
//! step: `plan::observe` sees to it.

mod cloudformation;
mod parameter;
mod program;
#[cfg(test)]
mod sandbox_tests;

use async_trait::async_trait;
use serde_json::{Map, Value as Json};

use self::program::Tool;
use super::program::unknown_env;
use super::{Attributes, Back, Context, Failure, FailureClass, Kind, Proposal, Step};
use crate::model::kind::{KindSpec, Nature, OutputNames, Rule};
use crate::model::secret::Secret;
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::units::count;
use crate::model::value::{Outputs, Value};
use crate::syntax::problem::nearest;
use crate::world::keyed::Sealer;
use crate::world::masker::is_maskable;

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "lookup",
        about: "Reads what another pipeline deployed, when the plan is made.",
        settings: &[
            Setting::new("export", Shape::Text, "a CloudFormation export; its value is the output `value`"),
            Setting::new("stack", Shape::Text, "a CloudFormation stack; its outputs by key"),
            Setting::new(
                "parameter",
                Shape::Text,
                "a parameter of Systems Manager; the output `value`, a secret when it is a SecureString",
            ),
            Setting::new(
                "terraform",
                Shape::Path { reads: true },
                "a folder with Terraform files, initialised; the outputs of its state by name",
            ),
            Setting::new("pulumi", Shape::Text, "a Pulumi stack; its outputs by name"),
            Setting::new(
                "dir",
                Shape::Path { reads: false },
                "the folder of the Pulumi project; the root without",
            ),
            Setting::new("output", Shape::Texts, "only these outputs, all of which must be there"),
        ],
        rules: &[
            Rule::OneOf(&["export", "stack", "parameter", "terraform", "pulumi"]),
            Rule::AtMostOne(&["export", "output"]),
            Rule::AtMostOne(&["parameter", "output"]),
            Rule::Needs("dir", "pulumi"),
        ],
        outputs: OutputNames::Open,
        nature: Nature::Check,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::Nothing,
};

/// The only output of what has one value.
const VALUE: &str = "value";

/// A `lookup` step, read.
#[derive(Debug)]
struct Lookup {
    place: Place,
    /// Empty: all of them.
    wanted: Vec<String>,
    attributes: Attributes,
}

/// Where it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Export(String),
    Stack(String),
    Parameter(String),
    Terraform { dir: String },
    Pulumi { stack: String, dir: String },
}

/// What lies there.
#[derive(Debug)]
struct Found {
    /// In a few words: `export base-vpc`.
    what: String,
    outputs: Outputs,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let place = if let Some(name) = ready.opt_text("export")? {
        Place::Export(name)
    } else if let Some(name) = ready.opt_text("stack")? {
        Place::Stack(name)
    } else if let Some(name) = ready.opt_text("parameter")? {
        Place::Parameter(name)
    } else if let Some(dir) = ready.opt_text("terraform")? {
        Place::Terraform { dir }
    } else {
        let dir = ready.opt_text("dir")?.unwrap_or_else(|| ".".to_owned());
        Place::Pulumi { stack: ready.text("pulumi")?, dir }
    };
    if let Some(step) = unknown_env(attributes) {
        return Err(Unready::After { setting: "env", step: step.clone() });
    }
    // A program that reads a state mostly reads it from the account.
    let attributes = Attributes { aws: true, ..attributes.clone() };
    Ok(Box::new(Lookup { place, wanted: ready.texts("output")?, attributes }))
}

#[async_trait]
impl Step for Lookup {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let Found { what, outputs } = self.look(cx).await?;
        let outputs = chosen(&what, outputs, &self.wanted)?;
        for (name, value) in &outputs {
            if let Value::Secret(secret) = value {
                learn(cx, &what, name, secret)?;
            }
        }
        let summary = summary(&what, &outputs);
        let baseline = facts(&what, &outputs, &cx.sealer);
        Ok(Proposal { baseline, ..Proposal::up_to_date(summary, outputs) })
    }

    /// Asked behind a step that will run, which may change what is read: it counts from then on.
    async fn observe(&self, _: &Context) -> Result<Json, Failure> {
        Err(Failure::missing("it is read after the step in front"))
    }
}

impl Lookup {
    async fn look(&self, cx: &Context) -> Result<Found, Failure> {
        match &self.place {
            Place::Export(name) => cloudformation::export(cx, name).await,
            Place::Stack(name) => cloudformation::stack(cx, name).await,
            Place::Parameter(name) => parameter::look(cx, name).await,
            Place::Terraform { dir } => Tool::terraform(cx, dir, &self.attributes).outputs().await,
            Place::Pulumi { stack, dir } => {
                Tool::pulumi(cx, dir, &self.attributes).stack_outputs(stack).await
            }
        }
    }
}

/// Those that are wanted; all that are missing are named together.
fn chosen(what: &str, mut outputs: Outputs, wanted: &[String]) -> Result<Outputs, Failure> {
    if wanted.is_empty() {
        return Ok(outputs);
    }
    let missing: Vec<&String> = wanted.iter().filter(|name| !outputs.contains_key(*name)).collect();
    if let Some(first) = missing.first() {
        let names: Vec<&str> = missing.iter().map(|name| name.as_str()).collect();
        let known: Vec<&str> = outputs.keys().map(String::as_str).collect();
        return Err(lacking(&format!("{what} has no output {}", names.join(", ")), first, &known));
    }
    outputs.retain(|name, _| wanted.contains(name));
    Ok(outputs)
}

/// Something is not there; what is there is told, and what was probably meant.
fn lacking(reason: &str, wanted: &str, known: &[&str]) -> Failure {
    const SHOWN: usize = 12;
    let mut failure = Failure::missing(reason);
    if let Some(shown) = known.get(..known.len().min(SHOWN)).filter(|shown| !shown.is_empty()) {
        let more =
            if known.len() > SHOWN { format!(" and {} more", known.len() - SHOWN) } else { String::new() };
        failure = failure.detail(format!("there is: {}{more}", shown.join(", ")));
    }
    match nearest(wanted, known.iter().copied()) {
        Some(near) => failure.help(format!("did you mean {near}?")),
        None => failure,
    }
}

/// A secret that could not be hidden is not taken.
fn learn(cx: &Context, what: &str, name: &str, secret: &Secret) -> Result<(), Failure> {
    if !is_maskable(secret) {
        let reason = format!("the secret {name} of {what} is too short to be hidden in what is shown");
        return Err(Failure::of(FailureClass::Refused, reason).help("give it 4 characters or more"));
    }
    cx.world.masker.learn([secret]);
    Ok(())
}

/// `export base-vpc is vpc-1234`, `3 outputs of stack base`
fn summary(what: &str, outputs: &Outputs) -> String {
    const SHOWN: usize = 60;
    match outputs.get(VALUE).filter(|_| outputs.len() == 1) {
        Some(Value::Secret(_)) => format!("{what} is a secret"),
        Some(value) => {
            let text = value.as_text().unwrap_or_default();
            let first: String = text.lines().next().unwrap_or_default().chars().take(SHOWN).collect();
            let more = if first.len() < text.len() { "…" } else { "" };
            format!("{what} is {first}{more}")
        }
        None => format!("{} of {what}", count(outputs.len(), "output")),
    }
}

/// Each value by its name: another one makes another plan.
fn facts(what: &str, outputs: &Outputs, sealer: &Sealer) -> Json {
    let sealed = |value: &Value| match value {
        Value::Secret(secret) => format!("secret {}", sealer.digest(secret.expose())).into(),
        value => value.to_json(),
    };
    let mut facts = Map::from_iter([("read from".to_owned(), what.into())]);
    facts.extend(outputs.iter().map(|(name, value)| (format!("output {name}"), sealed(value))));
    Json::Object(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(rows: &[(&str, &str)]) -> Outputs {
        rows.iter().map(|(name, value)| ((*name).to_owned(), Value::text(*value))).collect()
    }

    #[test]
    fn all_that_is_missing_is_named_with_what_was_probably_meant() {
        let there = outputs(&[("DbHost", "db"), ("DbPort", "5432")]);
        let wanted = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(chosen("stack base", there.clone(), &[]).expect("all"), there);
        let one = chosen("stack base", there.clone(), &wanted(&["DbPort"])).expect("one");
        assert_eq!(one, outputs(&[("DbPort", "5432")]));
        let failure = chosen("stack base", there, &wanted(&["DBHost", "Vpc"])).expect_err("two are missing");
        assert_eq!(failure.record.reason, "stack base has no output DBHost, Vpc");
        assert_eq!(failure.record.details, ["there is: DbHost, DbPort"]);
        assert_eq!(failure.record.help.as_deref(), Some("did you mean DbHost?"));
    }

    #[test]
    fn a_secret_is_neither_shown_nor_observed_in_the_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let sealer =
            Sealer::load(&crate::world::store::Store::folder(folder.path().to_owned())).expect("a key");
        let secret = Outputs::from([(VALUE.to_owned(), Value::Secret(Secret::new("s3cr3t")))]);
        assert_eq!(summary("parameter /pw", &secret), "parameter /pw is a secret");
        let facts = facts("parameter /pw", &secret, &sealer);
        assert_eq!(facts["output value"], format!("secret {}", sealer.digest("s3cr3t")));
        assert_eq!(facts["read from"], "parameter /pw");
        for (value, wanted) in [("vpc-1", "export vpc is vpc-1"), ("a\nb", "export vpc is a…")] {
            assert_eq!(summary("export vpc", &outputs(&[(VALUE, value)])), wanted);
        }
        assert_eq!(summary("stack base", &outputs(&[("A", "1"), ("B", "2")])), "2 outputs of stack base");
    }
}
