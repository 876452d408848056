//! `lambda-deploy`: new code for a function, published as a version, and the
//! alias moved to it.
//!
//! The alias is what callers use and what a rollback moves back; versions never
//! change. Without an alias a version is published all the same, so that the
//! code of then can still be looked at, but nothing can move back to it.

mod apply;
mod back;
#[cfg(test)]
mod sandbox_tests;

use std::time::Duration;

use async_trait::async_trait;
use globset::GlobMatcher;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use self::apply::Deploy;
use super::ecs::patience::limit;
use super::lambda::function::{Alias, Function, alias, describe, missing};
use super::lambda::package::Origin;
use super::s3_sync::glob;
use super::{Attributes, Back, Context, Failure, FailureClass, Kind, Proposal, Step};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::units::show_size;
use crate::model::value::{Outputs, Value};

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "lambda-deploy",
        about: "Gives a Lambda function new code, publishes a version and moves an alias to it.",
        settings: &[
            Setting::new("function", Shape::Text, "its name or ARN; it exists already").required().target(),
            Setting::new(
                "from",
                Shape::Path { reads: true },
                "a folder, a ZIP file, or an object `s3://BUCKET/KEY`",
            )
            .required(),
            Setting::new("exclude", Shape::Texts, "globs relative to the folder: not in the archive"),
            Setting::new("alias", Shape::Text, "moved to the new version; created if there is none"),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["version", "arn", "sha256"]),
        nature: Nature::Deploying,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::To(back::back),
};

/// A `lambda-deploy` step, read.
#[derive(Debug)]
struct LambdaDeploy {
    function: String,
    from: Origin,
    exclude: Vec<GlobMatcher>,
    alias: Option<String>,
    limit: Duration,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let invalid = |setting: &'static str| move |why: String| Unready::Invalid { setting, why };
    let alias = ready.opt_text("alias")?;
    if alias.as_deref().is_some_and(|alias| alias.is_empty() || alias.bytes().all(|c| c.is_ascii_digit())) {
        return Err(invalid("alias")("a name is expected, not a version's number".to_owned()));
    }
    Ok(Box::new(LambdaDeploy {
        function: ready.text("function")?,
        from: Origin::parse(&ready.text("from")?).map_err(invalid("from"))?,
        exclude: ready
            .texts("exclude")?
            .iter()
            .map(|text| glob(text).map_err(invalid("exclude")))
            .collect::<Result<_, _>>()?,
        alias,
        limit: limit(attributes.timeout),
    }))
}

/// What a release records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Deployed {
    function: String,
    alias: Option<String>,
    /// The alias's, or the one that was published; `None` before the first.
    version: Option<String>,
    /// Of that version.
    sha256: String,
}

impl Deployed {
    fn to_json(&self) -> Json {
        json!(self)
    }

    fn outputs(&self, arn: &str) -> Outputs {
        let version = self.version.clone().unwrap_or_default();
        [("version", version), ("arn", arn.to_owned()), ("sha256", self.sha256.clone())]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::Text(value)))
            .collect()
    }
}

/// What is there before the effect.
#[derive(Clone, Debug)]
struct Standing {
    /// What the next deployment starts from.
    latest: Function,
    alias: Option<Alias>,
    /// What callers of the alias get.
    live: Option<Function>,
}

impl Standing {
    async fn look(cx: &Context, function: &str, name: Option<&str>) -> Result<Self, Failure> {
        let found = cx.cancel.unless_stopped(describe(cx, function, None)).await??;
        let latest = found.ok_or_else(|| missing(function, cx))?;
        let (mut at, mut live) = (None, None);
        if let Some(name) = name {
            at = cx.cancel.unless_stopped(alias(cx, function, name)).await??;
            if let Some(at) = &at {
                live = cx.cancel.unless_stopped(describe(cx, function, Some(&at.version))).await??;
            }
        }
        Ok(Self { latest, alias: at, live })
    }

    /// What callers get: with an alias its version, without one the newest code.
    fn sha256(&self, has_alias: bool) -> Option<&str> {
        let at = if has_alias { self.live.as_ref() } else { Some(&self.latest) };
        at.map(|function| function.sha256.as_str())
    }

    /// What callers call.
    fn arn(&self) -> &str {
        self.alias.as_ref().map_or(&self.latest.arn, |alias| &alias.arn)
    }

    fn facts(&self, function: &str) -> Json {
        json!({
            "function": function,
            "code": short(&self.latest.sha256),
            "alias at version": self.alias.as_ref().map(|alias| alias.version.clone()),
        })
    }
}

impl LambdaDeploy {
    fn state(&self, version: Option<String>, sha256: &str) -> Deployed {
        let sha256 = sha256.to_owned();
        Deployed { function: self.function.clone(), alias: self.alias.clone(), version, sha256 }
    }

    /// What stands: the alias's version, or the one that the last release published.
    fn standing(&self, found: &Standing, cx: &Context) -> Deployed {
        match (&self.alias, &found.live) {
            (Some(_), Some(live)) => self.state(Some(live.version.clone()), &live.sha256),
            (Some(_), None) => self.state(None, ""),
            (None, _) => {
                let recorded: Option<Deployed> =
                    cx.recorded.as_ref().and_then(|recorded| super::back::read(&recorded.receipt).ok());
                let version =
                    recorded.filter(|then| then.sha256 == found.latest.sha256).and_then(|then| then.version);
                self.state(version, &found.latest.sha256)
            }
        }
    }
}

#[async_trait]
impl Step for LambdaDeploy {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let found = Standing::look(cx, &self.function, self.alias.as_deref()).await?;
        if found.latest.is_image {
            let reason = format!("{} runs a container image, not an archive", self.function);
            return Err(Failure::of(FailureClass::Refused, reason));
        }
        let package = self.from.package(cx, &self.exclude).await?;
        let standing = self.standing(&found, cx);
        let baseline = found.facts(&self.function);
        let now = found.sha256(self.alias.is_some());
        let published = standing.version.is_some();
        if now == Some(package.sha256.as_str()) && published {
            let what = match (&self.alias, &standing.version) {
                (Some(alias), Some(version)) => {
                    format!("{alias} is version {version}, {}", short(&package.sha256))
                }
                _ => format!("{} is {}", self.function, short(&package.sha256)),
            };
            let outputs = standing.outputs(found.arn());
            let receipt = standing.to_json();
            return Ok(Proposal {
                baseline,
                inputs: package.inputs,
                receipt,
                ..Proposal::up_to_date(what, outputs)
            });
        }
        let mut changes = vec![Change::new("code", now.map(short), short(&package.sha256))];
        if let Some(alias) = &self.alias {
            let at = standing.version.clone().map(|version| format!("version {version}"));
            changes.push(Change::new(format!("alias {alias}"), at, "a new version".to_owned()));
        }
        let mut warnings = Vec::new();
        if let (Some(name), Some(_)) = (&self.alias, found.alias.as_ref().filter(|alias| alias.is_split)) {
            warnings.push(format!(
                "{name} sends part of its calls to other versions; they all go to the new one"
            ));
        }
        let sends = found.latest.sha256 != package.sha256;
        let summary = if sends {
            format!("new code, {}", show_size(package.size))
        } else {
            "publish the code that it has".to_owned()
        };
        let action = if now.is_none() { Action::Create } else { Action::Update };
        let inputs = package.inputs.clone();
        Ok(Proposal {
            subject: self.function.clone(),
            changes,
            warnings,
            reversible: if standing.version.is_some() && self.alias.is_some() {
                Reversible::Auto
            } else {
                Reversible::Manual
            },
            baseline,
            inputs,
            standing: standing.to_json(),
            ..Proposal::new(action, summary)
        }
        .with(Deploy {
            function: self.function.clone(),
            alias: self.alias.clone(),
            package,
            sends,
            found,
            limit: self.limit,
        }))
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        match Standing::look(cx, &self.function, self.alias.as_deref()).await {
            Ok(found) => Ok(found.facts(&self.function)),
            Err(failure) if failure.class == FailureClass::Missing => Ok(Json::Null),
            Err(failure) => Err(failure),
        }
    }
}

/// The beginning of a digest in base64, for people.
fn short(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}
