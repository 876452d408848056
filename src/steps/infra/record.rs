//! What a release records of the shared settings, so that an apply can be done
//! again from its kept sources.
//!
//! Secrets are recorded nowhere: they are taken from the step as the flow has
//! it today, and without them nothing is done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::protect::Protect;
use super::settings::{Common, Prepare};
use super::version::Requirement;
use crate::model::change::Action;
use crate::model::value::{Field, Value};
use crate::steps::{Attributes, Failure, FailureClass};

/// The shared part of a recorded state; a kind flattens it into its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::steps) struct Kept {
    /// Digest of the archive of its sources; absent where nothing was applied by flow.
    pub sources: Option<String>,
    pub dir: String,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub program: Vec<String>,
    #[serde(default)]
    pub prepare: Option<Prepare>,
    #[serde(default)]
    pub policy: Option<Vec<String>>,
    #[serde(default)]
    pub protect: Vec<String>,
    /// Variables that are no secrets.
    #[serde(default)]
    pub env: BTreeMap<String, Value>,
    /// Names of those that are, and of those that name a secret file.
    #[serde(default)]
    pub secrets: Vec<String>,
    #[serde(default)]
    pub inherit: Vec<String>,
}

impl Kept {
    /// Of an apply whose sources are kept.
    pub(in crate::steps) fn of(common: &Common, sources: Option<String>) -> Self {
        let attributes = &common.attributes;
        let mut kept = Self {
            sources,
            dir: common.dir.clone(),
            version: common.version.as_ref().map(ToString::to_string),
            program: common.program.clone(),
            prepare: common.prepare.clone(),
            policy: common.policy.clone(),
            protect: common.protect.texts(),
            env: BTreeMap::new(),
            secrets: attributes.files.iter().map(|(name, _)| name.clone()).collect(),
            inherit: attributes.inherit.clone(),
        };
        for (name, field) in &attributes.env {
            match field {
                Field::Known(value) if !value.is_secret() => {
                    kept.env.insert(name.clone(), value.clone());
                }
                _ => kept.secrets.push(name.clone()),
            }
        }
        kept
    }

    /// The settings of then, with the secrets, limits and protection of today: what a flow protects
    /// now stays in a rollback too. Refused where a secret is not given any more.
    pub(in crate::steps) fn common(&self, today: &Attributes, protect: &[String]) -> Result<Common, Failure> {
        let env = self.env.iter().map(|(name, value)| (name.clone(), Field::Known(value.clone())));
        let mut attributes = Attributes {
            env: env.collect(),
            inherit: self.inherit.clone(),
            timeout: today.timeout,
            grace: today.grace,
            retry: today.retry,
            ..Attributes::default()
        };
        let mut missing = Vec::new();
        for name in &self.secrets {
            let known = |(given, field): &&(String, Field<Value>)| {
                given == name && matches!(field, Field::Known(value) if value.is_secret())
            };
            if let Some(variable) = today.env.iter().find(known) {
                attributes.env.push(variable.clone());
            } else if let Some(file) = today.files.iter().find(|(given, _)| given == name) {
                attributes.files.push(file.clone());
            } else {
                missing.push(name.as_str());
            }
        }
        if !missing.is_empty() {
            return Err(lacks(&missing));
        }
        let mut protected = self.protect.clone();
        protected.extend(protect.iter().cloned());
        let version = self.version.as_deref().map(Requirement::parse).transpose().map_err(Failure::new)?;
        Ok(Common {
            dir: self.dir.clone(),
            version,
            program: self.program.clone(),
            prepare: self.prepare.clone(),
            policy: self.policy.clone(),
            destroy: false,
            protect: Protect::new(protected),
            attributes: Common::attributes(&attributes),
        })
    }
}

/// Secrets that an earlier apply had and the flow no longer gives.
pub(in crate::steps) fn lacks(names: &[&str]) -> Failure {
    Failure::of(FailureClass::Refused, "going back needs secrets that the flow no longer has")
        .detail(format!("not given any more: {}", names.join(", ")))
        .help("give them to the step again, or deploy the older commit")
}

/// The action of a step that goes back. One that takes anything away says so with its action, since
/// that needs somebody's word: `on-failure` never does it, and a rollback only behind a gate.
pub(in crate::steps) fn refuses_unasked(action: Action, preview: &super::Preview) -> Action {
    match action {
        Action::Update if preview.takes_away() => Action::Delete,
        action => action,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;
    use crate::model::settings::Ready;

    #[test]
    fn secrets_are_recorded_nowhere_and_taken_from_today() {
        let secret = |text: &str| Field::Known(Value::Secret(Secret::new(text.to_owned())));
        let then = Attributes {
            env: vec![
                ("MODE".to_owned(), Field::Known(Value::text("blue"))),
                ("TOKEN".to_owned(), secret("geheim-1")),
            ],
            ..Attributes::default()
        };
        let common = Common::read(&Ready::default(), &then).unwrap();
        let kept = Kept::of(&common, Some("ab".to_owned()));
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.contains("geheim"), "{text}");
        let read: Kept = serde_json::from_str(&text).unwrap();
        assert_eq!(read, kept);

        let failure = read.common(&Attributes::default(), &[]).unwrap_err();
        assert_eq!(failure.record.details, ["not given any more: TOKEN"]);
        let today =
            Attributes { env: vec![("TOKEN".to_owned(), secret("geheim-2"))], ..Attributes::default() };
        let back = read.common(&today, &["x".to_owned()]).unwrap();
        assert_eq!(back.attributes.env.len(), 2);
        assert!(back.attributes.aws);
        assert_eq!(back.protect.texts(), ["x"]);
    }
}
