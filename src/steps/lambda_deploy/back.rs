//! Moves an alias back to the version that a release records.
//!
//! The function's newest code stays: nobody who uses the alias sees it, and the
//! next deployment replaces it.

use async_trait::async_trait;
use serde_json::Value as Json;

use super::apply::point;
use super::{Deployed, Standing, short};
use crate::model::change::{Action, Change, Reversible};
use crate::steps::back::{Stays, read};
use crate::steps::lambda::function::describe;
use crate::steps::{Context, Done, Effect, Failure, Proposal, Step, Way};

/// The step that returns to a recorded version.
pub(super) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let to: Option<Deployed> = way.to.as_ref().filter(|to| !to.is_null()).map(read).transpose()?;
    let now: Option<Deployed> = read(&way.now).ok();
    let what = |of: &Deployed| format!("the code of {}", of.function);
    match (to, now) {
        (Some(Deployed { function, alias: Some(alias), version: Some(version), sha256 }), _) => {
            Ok(Box::new(Return { function, alias, version, sha256 }))
        }
        (Some(to), _) if to.alias.is_none() => {
            let warning = format!("{} stays: without an alias nothing can be moved back", what(&to));
            Ok(Box::new(Stays::new("stays", way.now.clone()).warn(warning, Reversible::Manual)))
        }
        (_, Some(now)) => Ok(Box::new(Stays::unrecorded(&what(&now), way.now.clone()))),
        _ => Ok(Box::new(Stays::unrecorded("the function's code", way.now.clone()))),
    }
}

/// An alias that is to be where it was.
#[derive(Clone, Debug)]
struct Return {
    function: String,
    alias: String,
    version: String,
    sha256: String,
}

impl Return {
    fn state(&self) -> Deployed {
        Deployed {
            function: self.function.clone(),
            alias: Some(self.alias.clone()),
            version: Some(self.version.clone()),
            sha256: self.sha256.clone(),
        }
    }
}

#[async_trait]
impl Step for Return {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let found = Standing::look(cx, &self.function, Some(&self.alias)).await?;
        let then = cx.cancel.unless_stopped(describe(cx, &self.function, Some(&self.version))).await??;
        let Some(then) = then else {
            return Err(Failure::missing(format!(
                "version {} of {} was deleted",
                self.version, self.function
            ))
            .help("deploy the older commit again"));
        };
        if then.sha256 != self.sha256 {
            let reason =
                format!("version {} of {} has other code than was recorded", self.version, self.function);
            return Err(Failure::new(reason)
                .detail(format!("recorded {}, found {}", short(&self.sha256), short(&then.sha256)))
                .help("the function was deleted and made again: deploy the older commit again"));
        }
        let baseline = found.facts(&self.function);
        let at = found.alias.as_ref().filter(|at| !at.is_split).map(|at| at.version.clone());
        if at.as_deref() == Some(self.version.as_str()) {
            let summary = format!("{} is version {}", self.alias, self.version);
            let outputs = self.state().outputs(found.alias.as_ref().map_or("", |alias| &alias.arn));
            let receipt = self.state().to_json();
            return Ok(Proposal { baseline, receipt, ..Proposal::up_to_date(summary, outputs) });
        }
        let standing = Deployed {
            version: found.alias.as_ref().map(|alias| alias.version.clone()),
            sha256: found.live.as_ref().map(|live| live.sha256.clone()).unwrap_or_default(),
            ..self.state()
        };
        let words = |version: &str| format!("version {version}");
        let change = Change::new(
            format!("alias {}", self.alias),
            standing.version.as_deref().map(words),
            words(&self.version),
        );
        Ok(Proposal {
            subject: self.function.clone(),
            changes: vec![change],
            reversible: Reversible::Auto,
            baseline,
            standing: standing.to_json(),
            ..Proposal::new(Action::Update, format!("move {} back to version {}", self.alias, self.version))
        }
        .with(MoveBack { to: self.clone(), found }))
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        Ok(Standing::look(cx, &self.function, Some(&self.alias)).await?.facts(&self.function))
    }
}

/// The effect.
struct MoveBack {
    to: Return,
    found: Standing,
}

#[async_trait]
impl Effect for MoveBack {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let Self { to, found } = *self;
        let moved = point(cx, &to.function, &to.alias, found.alias.as_ref(), &to.version).await?;
        Ok(Done {
            summary: format!("{} is version {} again", to.alias, to.version),
            outputs: to.state().outputs(&moved.arn),
            receipt: to.state().to_json(),
        })
    }
}
