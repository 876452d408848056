//! Applies the sources of an earlier apply again, in a folder of their own.
//!
//! Variables are those of then, secrets those of today. A preview that takes
//! anything away is planned as such: `on-failure` never does that, and a
//! rollback needs somebody's word for it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value as Json;

use super::apply::Apply;
use super::record::State;
use super::session::Session;
use super::{Terraform, reconcile};
use crate::model::settings::Ready;
use crate::model::value::{Field, Value};
use crate::steps::back::{Stays, read};
use crate::steps::infra::{Workplace, lacks, refuses_unasked};
use crate::steps::{Attributes, Context, Failure, FailureClass, Open, Proposal, Settled, Step, Way};

/// The step that returns to a recorded apply.
pub(super) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let state = |json: &Json| if json.is_null() { Ok(None) } else { read::<State>(json).map(Some) };
    let now = state(&way.now)?;
    let to = way.to.as_ref().map(state).transpose()?.flatten();
    let gone = now.as_ref().is_none_or(|now| now.destroyed);
    let stays = |summary: &str| Stays::new(summary, way.now.clone());
    Ok(match to {
        None if gone => Box::new(stays("not there, as it was")),
        Some(to) if to.destroyed && gone => Box::new(stays("not there, as it was")),
        None => Box::new(Made { dir: now.map(|now| now.kept.dir).unwrap_or_default() }),
        Some(to) if to.destroyed => Box::new(Made { dir: to.kept.dir }),
        Some(to) if to.kept.sources.is_none() => {
            Box::new(Stays::unrecorded("what Terraform made before flow", way.now.clone()))
        }
        Some(to) => Box::new(Return {
            to,
            today: Attributes::default(),
            secrets: BTreeMap::new(),
            protect: Vec::new(),
        }),
    })
}

/// Resources that were made since.
#[derive(Debug)]
struct Made {
    dir: String,
}

#[async_trait]
impl Step for Made {
    async fn plan(&self, _: &Context) -> Result<Proposal, Failure> {
        let reason =
            format!("{} was applied for the first time since, and going back would destroy it all", self.dir);
        Err(Failure::of(FailureClass::Refused, reason)
            .help("leave it out of the rollback, or destroy it with a step that says destroy #true"))
    }
}

/// A configuration that is to be applied as it was.
#[derive(Clone, Debug)]
struct Return {
    to: State,
    today: Attributes,
    secrets: BTreeMap<String, Value>,
    /// What the flow protects today.
    protect: Vec<String>,
}

#[async_trait]
impl Step for Return {
    fn equip(&mut self, settings: &Ready, attributes: &Attributes) {
        self.today = attributes.clone();
        self.protect = settings.texts("protect").unwrap_or_default();
        let given = settings.map("var").iter().filter_map(|(name, field)| match field {
            Field::Known(value) if value.is_secret() => Some((name.clone(), value.clone())),
            _ => None,
        });
        self.secrets = given.collect();
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let step = self.step()?;
        let sources = self.to.kept.sources.as_deref().unwrap_or_default();
        let session = Session::open(&step, Workplace::unpacked(cx, sources)?, cx).await?;
        let seen = step.look(session, cx).await?;
        let preview = &seen.shown.preview;
        let mut proposal = preview.proposal();
        proposal.action = refuses_unasked(proposal.action, preview);
        proposal.subject = step.subject();
        proposal.outputs = seen.shown.outputs.clone();
        proposal.warnings.extend(seen.warnings(cx));
        proposal.warnings.extend(self.other_secrets(cx));
        let standing = cx.recorded.as_ref().map(|recorded| recorded.receipt.clone()).unwrap_or_default();
        let receipt = serde_json::json!(self.to);
        let proposal = Proposal { baseline: seen.baseline(&step), standing, receipt, ..proposal };
        if preview.is_empty() {
            return Ok(Proposal { summary: "as it was".to_owned(), ..proposal });
        }
        Ok(proposal.with(Apply { seen, sources: None, then: self.to.clone() }))
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        let session = Session::open(&self.step()?, Workplace::here(cx), cx).await?;
        if let Some(ambiguous) = reconcile::lost(open, &session, cx).await? {
            return Ok(ambiguous);
        }
        drop(session);
        reconcile::by_planning(self, cx).await
    }
}

impl Return {
    /// The step of then.
    fn step(&self) -> Result<Terraform, Failure> {
        let mut vars = self.to.vars.clone();
        let missing: Vec<&str> = self
            .to
            .secret_vars
            .keys()
            .filter(|name| !self.secrets.contains_key(*name))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            return Err(lacks(&missing));
        }
        for name in self.to.secret_vars.keys() {
            vars.extend(self.secrets.get(name).map(|value| (name.clone(), value.clone())));
        }
        Ok(Terraform {
            common: self.to.kept.common(&self.today, &self.protect)?,
            workspace: self.to.workspace.clone(),
            var_files: self.to.var_files.clone(),
            vars,
            backend: self.to.backend.clone(),
        })
    }

    /// Secrets that are known to have been others.
    fn other_secrets(&self, cx: &Context) -> Vec<String> {
        let other = |(name, digest): &(&String, &String)| match self.secrets.get(*name) {
            Some(Value::Secret(secret)) => cx.sealer.digest(secret.expose()) != **digest,
            _ => true,
        };
        let names = self.to.secret_vars.iter().filter(other);
        names.map(|(name, _)| format!("the secret variable {name} keeps the value of today")).collect()
    }
}
