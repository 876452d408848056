//! What a release records of a stack: all that is needed to apply the same
//! sources again, without the flow file that did it and without secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Given, Pulumi};
use crate::steps::infra::Kept;
use crate::steps::{Context, Failure};

/// An applied stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct State {
    pub stack: String,
    #[serde(default)]
    pub backend: Option<String>,
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Names of those that are recorded nowhere.
    #[serde(default)]
    pub config_secrets: Vec<String>,
    #[serde(default)]
    pub refresh: bool,
    #[serde(default)]
    pub targets: Vec<String>,
    /// Digest of the state before it, which lies in the store.
    #[serde(default)]
    #[serde(rename = "state-before")]
    pub before: Option<String>,
    #[serde(flatten)]
    pub kept: Kept,
}

impl State {
    /// After an apply of sources that are kept.
    pub(super) fn of(up: &Pulumi, sources: Option<String>) -> Self {
        let (mut config, mut config_secrets) = (BTreeMap::new(), Vec::new());
        for (name, given) in &up.config {
            match given {
                Given::Plain(value) => drop(config.insert(name.clone(), value.clone())),
                Given::Secret(_) => config_secrets.push(name.clone()),
            }
        }
        Self {
            stack: up.stack.clone(),
            backend: up.backend.clone(),
            config,
            config_secrets,
            refresh: up.refresh,
            targets: up.targets.clone(),
            before: None,
            kept: Kept::of(&up.common, sources),
        }
    }

    /// What stands before an effect: as the last release says, since the stack does not know what
    /// it was made from.
    pub(super) fn standing(up: &Pulumi, exists: bool, cx: &Context) -> Json {
        if !exists {
            return Json::Null;
        }
        let last = cx.recorded.as_ref().and_then(|recorded| {
            serde_json::from_value::<Self>(recorded.receipt.clone())
                .ok()
                .filter(|last| last.stack == up.stack)
        });
        last.unwrap_or_else(|| Self::of(up, None)).to_json()
    }

    /// As it is recorded.
    pub(super) fn to_json(&self) -> Json {
        json!(self)
    }

    /// The step of then, with the secrets and the protection of today.
    pub(super) fn step(&self, today: Option<&Pulumi>) -> Result<Pulumi, Failure> {
        let mut config: BTreeMap<String, Given> =
            self.config.iter().map(|(name, value)| (name.clone(), Given::Plain(value.clone()))).collect();
        let mut lost = Vec::new();
        for name in &self.config_secrets {
            match today.and_then(|today| today.config.get(name)) {
                Some(secret @ Given::Secret(_)) => drop(config.insert(name.clone(), secret.clone())),
                _ => lost.push(name.as_str()),
            }
        }
        if !lost.is_empty() {
            return Err(crate::steps::infra::lacks(&lost));
        }
        let attributes = today.map(|today| today.common.attributes.clone()).unwrap_or_default();
        let protect = today.map(|today| today.common.protect.texts()).unwrap_or_default();
        Ok(Pulumi {
            stack: self.stack.clone(),
            backend: self.backend.clone(),
            create_stack: false,
            config,
            refresh: self.refresh,
            targets: self.targets.clone(),
            common: self.kept.common(&attributes, &protect)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;
    use crate::model::settings::Ready;
    use crate::steps::Attributes;
    use crate::steps::infra::Common;

    #[test]
    fn secrets_of_the_configuration_are_taken_from_today() {
        let secret = |text: &str| Given::Secret(Secret::new(text.to_owned()));
        let mut up = Pulumi {
            stack: "dev".to_owned(),
            backend: Some("s3://state".to_owned()),
            create_stack: true,
            config: BTreeMap::from([
                ("size".to_owned(), Given::Plain("2".to_owned())),
                ("password".to_owned(), secret("geheim-1")),
            ]),
            refresh: false,
            targets: Vec::new(),
            common: Common::read(&Ready::default(), &Attributes::default()).unwrap(),
        };
        let state = State::of(&up, Some("ab".to_owned()));
        assert!(!state.to_json().to_string().contains("geheim"));
        let read: State = serde_json::from_value(state.to_json()).unwrap();
        assert_eq!(read, state);
        assert!(read.step(None).is_err());
        up.config.insert("password".to_owned(), secret("geheim-2"));
        let back = read.step(Some(&up)).unwrap();
        assert!(matches!(&back.config["password"], Given::Secret(now) if now.expose() == "geheim-2"));
        assert!(!back.create_stack);
    }
}
