//! `rds-restore`: a new database instance from a snapshot, or as another one was
//! at some time.
//!
//! The source is only read. What is made bears a mark of its step, so that it is
//! found again after a lost answer and nobody else's instance is ever taken for
//! it. Who uses the new instance, and what becomes of the old one, is decided by
//! other steps.

mod apply;
mod back;
mod instance;
#[cfg(test)]
mod sandbox_tests;
mod source;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use self::apply::Restore;
use self::instance::{Instance, Stage, describe};
use self::source::{Origin, Source};
use super::ecs::patience::limit;
use super::{Attributes, Back, Context, Failure, FailureClass, Kind, Open, Proposal, Settled, Step};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::value::{Outputs, Value};
use crate::world::files::digest;

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "rds-restore",
        about: "Makes a new database instance from a snapshot, or from a point in time.",
        settings: &[
            Setting::new("from", Shape::Choice(&["snapshot", "time"]), "what it is made from").required(),
            Setting::new(
                "snapshot",
                Shape::Text,
                "the snapshot's name or ARN; the newest of `source` without",
            ),
            Setting::new(
                "time",
                Shape::Text,
                "2026-11-21T09:00:00Z; the newest that can be restored without",
            ),
            Setting::new("source", Shape::Text, "the instance whose data it is; it is only read"),
            Setting::new("as", Shape::Text, "the name of the new instance").required().target(),
            Setting::new(
                "class",
                Shape::Text,
                "its class, such as db.t4g.medium; that of the source without",
            ),
            Setting::new("rpo", Shape::Duration, "warn when what can be restored is older"),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["instance", "endpoint", "port", "arn"]),
        nature: Nature::Infrastructure,
        aws: true,
        repeatable: false,
    },
    make,
    back: Back::To(back::back),
};

/// Tags of what was made: by which step, and from what.
const MARK: &str = "flow-restore";
const MADE_FROM: &str = "flow-restored-from";

/// What is noted right before the call.
const RESTORING: &str = "restoring";

/// An `rds-restore` step, read.
#[derive(Clone, Debug)]
struct RdsRestore {
    origin: Origin,
    name: String,
    class: Option<String>,
    rpo: Option<Duration>,
    limit: Duration,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let invalid = |setting, why: &str| Unready::Invalid { setting, why: why.to_owned() };
    // A parameter that nobody gave is empty.
    let given = |name| ready.opt_text(name).map(|text| text.filter(|text| !text.is_empty()));
    let (snapshot, time, source) = (given("snapshot")?, given("time")?, given("source")?);
    let origin = match (ready.text("from")?.as_str(), source) {
        ("time", None) => return Err(invalid("source", "from \"time\" needs the instance")),
        ("time", Some(source)) => {
            if snapshot.is_some() {
                return Err(invalid("snapshot", "it is restored from a time; write from \"snapshot\""));
            }
            let time = time.as_deref().map(str::parse::<Timestamp>).transpose();
            let time = time.map_err(|_| invalid("time", "a time is written 2026-11-21T09:00:00Z"))?;
            Origin::Time { source, time }
        }
        ("snapshot", source) => {
            if time.is_some() {
                return Err(invalid("time", "it is restored from a snapshot; write from \"time\""));
            }
            match (snapshot, source) {
                (Some(snapshot), _) => Origin::Snapshot(snapshot),
                (None, Some(source)) => Origin::NewestSnapshot { source },
                (None, None) => return Err(invalid("snapshot", "snapshot or source must be given")),
            }
        }
        _ => return Err(invalid("from", "write \"snapshot\" or \"time\"")),
    };
    let name = ready.text("as")?;
    if !is_name(&name) {
        return Err(invalid("as", "a letter, then letters, digits and single dashes, 63 at most"));
    }
    if origin.source() == Some(name.as_str()) {
        return Err(invalid("as", "that is the source, and it is never touched"));
    }
    Ok(Box::new(RdsRestore {
        origin,
        name,
        class: given("class")?,
        rpo: ready.duration("rpo")?,
        limit: limit(attributes.timeout),
    }))
}

/// Whether RDS takes it as an instance's name. It turns capitals into small letters by itself, and
/// would then not be found under what was written.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(plain)
        && !name.contains("--")
        && !name.ends_with('-')
}

/// What a release records of an instance that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Made {
    instance: String,
    arn: String,
    /// RDS's own name of it, which no other instance ever gets.
    resource: String,
    /// `snapshot NAME`, `SOURCE at TIME`.
    from: String,
}

impl Made {
    fn of(instance: &Instance, from: &str) -> Self {
        Self {
            instance: instance.name.clone(),
            arn: instance.arn.clone(),
            resource: instance.resource.clone(),
            from: from.to_owned(),
        }
    }

    fn to_json(&self) -> Json {
        json!(self)
    }
}

fn outputs(instance: &Instance) -> Outputs {
    let mut outputs = Outputs::from([
        ("instance".to_owned(), Value::text(&instance.name)),
        ("arn".to_owned(), Value::text(&instance.arn)),
    ]);
    if let Some((host, port)) = &instance.endpoint {
        outputs.insert("endpoint".to_owned(), Value::text(host));
        outputs.insert("port".to_owned(), Value::Int(i64::from(*port)));
    }
    outputs
}

/// What the instance of a step is known by: RDS takes few characters in a tag.
fn mark(cx: &Context) -> String {
    digest(format!("{} {}", cx.flow, cx.id).as_bytes()).chars().take(24).collect()
}

/// Whether an instance is what this step made: by its mark, or as a release records it.
fn is_ours(instance: &Instance, cx: &Context) -> bool {
    let recorded: Option<Made> =
        cx.recorded.as_ref().and_then(|recorded| super::back::read(&recorded.receipt).ok());
    instance.tags.get(MARK) == Some(&mark(cx))
        || recorded.is_some_and(|made| !made.resource.is_empty() && made.resource == instance.resource)
}

impl RdsRestore {
    fn restore(&self, source: Option<Source>, mark: String) -> Restore {
        Restore { step: self.clone(), source, mark }
    }

    /// What to do about an instance that has the name already.
    fn found(&self, cx: &Context, there: &Instance) -> Result<Proposal, Failure> {
        let Self { name, .. } = self;
        if !is_ours(there, cx) {
            let reason = format!("there is an instance {name} already, and this step did not make it");
            return Err(Failure::of(FailureClass::Refused, reason)
                .detail(format!("it is {}", there.status))
                .help("choose another name with `as`, or delete it yourself if nobody needs it"));
        }
        let from = there.tags.get(MADE_FROM).cloned();
        if from.as_deref().is_some_and(|from| !self.origin.is_met_by(from)) {
            let reason = format!("the instance {name} was made from {}", from.unwrap_or_default());
            return Err(Failure::of(FailureClass::Refused, reason)
                .detail(format!("and {} is wanted", self.origin))
                .help("choose another name with `as`, or roll the older one back first"));
        }
        let receipt = Made::of(there, &self.origin.to_string()).to_json();
        match there.stage() {
            Stage::Available => {
                let summary = format!("{name} is {}", there.status);
                Ok(Proposal { receipt, ..Proposal::up_to_date(summary, outputs(there)) })
            }
            Stage::Working => Ok(Proposal {
                subject: name.clone(),
                reversible: Reversible::Auto,
                ..Proposal::new(Action::Update, format!("wait until it is available; it is {}", there.status))
            }
            .with(self.restore(None, mark(cx)))),
            Stage::Broken => Err(broken(there)),
        }
    }

    async fn new_one(&self, cx: &Context) -> Result<(Proposal, Json), Failure> {
        let now = cx.world.clock.now();
        let source = self.origin.look(cx, now).await?;
        let mut changes = vec![
            Change::new(format!("instance {}", self.name), None, source.class(self.class.as_deref())),
            Change::new("from", None, source.shown(now)),
        ];
        changes.extend(source.network().map(|network| Change::new("network", None, network)));
        let mut warnings = source.warnings(now, self.rpo);
        if source.model.is_none() {
            warnings.push(format!(
                "the source of {} is gone: the new instance gets the default network and security groups",
                self.origin
            ));
        }
        let facts = source.facts();
        let proposal = Proposal {
            subject: self.name.clone(),
            changes,
            warnings,
            reversible: Reversible::Auto,
            ..Proposal::new(Action::Create, format!("restore {}", source.called()))
        };
        Ok((proposal.with(self.restore(Some(source), mark(cx))), facts))
    }
}

/// An instance that will not become available by itself.
fn broken(there: &Instance) -> Failure {
    Failure::new(format!("the instance {} is {}", there.name, there.status)).help(format!(
        "see why: aws rds describe-events --source-type db-instance --source-identifier {}",
        there.name
    ))
}

#[async_trait]
impl Step for RdsRestore {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let there = cx.cancel.unless_stopped(describe(cx, &self.name)).await??;
        let (proposal, from) = match &there {
            Some(there) => (self.found(cx, there)?, Json::Null),
            None => self.new_one(cx).await?,
        };
        let mut baseline = facts(&self.name, there.as_ref());
        if let (Some(facts), Json::Object(from)) = (baseline.as_object_mut(), from) {
            facts.extend(from);
        }
        Ok(Proposal { baseline, ..proposal })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        Ok(facts(&self.name, cx.cancel.unless_stopped(describe(cx, &self.name)).await??.as_ref()))
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        // Noted and on disk before the call: without it there was none.
        if !open.notes.iter().any(|(key, _)| key == RESTORING) {
            return Ok(Settled::NotDone);
        }
        let Some(there) = apply::appears(cx, &self.name).await? else { return Ok(Settled::NotDone) };
        let from = self.origin.to_string();
        let noted = open.notes.iter().rev().find_map(|(key, data)| {
            (key == "restored").then(|| data["resource"].as_str().map(str::to_owned)).flatten()
        });
        let ours = is_ours(&there, cx) || noted.is_some_and(|resource| resource == there.resource);
        Ok(match there.stage() {
            _ if !ours => Settled::Ambiguous(format!(
                "there is an instance {} now, and it does not say that this step made it",
                self.name
            )),
            Stage::Available => {
                let receipt = Made::of(&there, &from).to_json();
                let summary = format!("{} is {}", self.name, there.status);
                Settled::Done(super::Done { summary, outputs: outputs(&there), receipt })
            }
            // The step goes on by waiting for it.
            Stage::Working | Stage::Broken => Settled::NotDone,
        })
    }
}

/// What is observed of the place: whether there is an instance of the name, and which.
fn facts(name: &str, there: Option<&Instance>) -> Json {
    json!({ "instance": name, "resource": there.map(|there| there.resource.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::sandbox::Settings;

    #[test]
    fn what_it_is_made_from_must_be_said_and_the_source_is_never_the_target() {
        let of = |rows: &[(&'static str, &str)]| {
            let settings =
                rows.iter().fold(Settings::default(), |settings, (name, value)| settings.one(name, *value));
            make(&settings.ready(), &Attributes::default()).map(drop).map_err(|unready| unready.to_string())
        };
        for (rows, wanted) in [
            (&[("from", "snapshot"), ("snapshot", "s1"), ("as", "drill")][..], Ok(())),
            (&[("from", "snapshot"), ("source", "shop"), ("as", "drill")], Ok(())),
            (&[("from", "time"), ("source", "shop"), ("as", "drill")], Ok(())),
            (
                &[("from", "time"), ("source", "shop"), ("time", "2026-11-21T09:00:00Z"), ("as", "drill")],
                Ok(()),
            ),
            (&[("from", "snapshot"), ("as", "drill")], Err("snapshot: snapshot or source must be given")),
            (&[("from", "time"), ("as", "drill")], Err("source: from \"time\" needs the instance")),
            (
                &[("from", "time"), ("source", "shop"), ("time", "yesterday"), ("as", "drill")],
                Err("time: a time is written 2026-11-21T09:00:00Z"),
            ),
            (
                &[("from", "time"), ("source", "shop"), ("as", "shop")],
                Err("as: that is the source, and it is never touched"),
            ),
            (
                &[("from", "snapshot"), ("snapshot", "s1"), ("as", "Drill--")],
                Err("as: a letter, then letters, digits and single dashes, 63 at most"),
            ),
        ] {
            assert_eq!(of(rows), wanted.map_err(str::to_owned), "{rows:?}");
        }
    }
}
