//! Returns a stack to the sources and the configuration that a release records,
//! by a preview and an apply like every other change.

use async_trait::async_trait;
use serde_json::Value as Json;

use super::record::State;
use super::{Origin, Pulumi};
use crate::model::change::Reversible;
use crate::model::settings::Ready;
use crate::steps::back::{Stays, read};
use crate::steps::infra::Workplace;
use crate::steps::{Attributes, Context, Failure, Open, Proposal, Settled, Step, Way};

/// The step that returns to a recorded stack.
pub(super) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let to = way.to.as_ref().filter(|to| !to.is_null());
    let Some(to) = to else {
        if way.now.is_null() {
            return Ok(Box::new(Stays::new("not there, as it was", Json::Null)));
        }
        let now: State = read(&way.now)?;
        let warning = format!(
            "the stack {} was made since and stays: pulumi destroy --stack {} deletes what is in it",
            now.stack, now.stack
        );
        return Ok(Box::new(Stays::new("stays", way.now.clone()).warn(warning, Reversible::Manual)));
    };
    let to: State = read(to)?;
    match to.kept.sources.clone() {
        Some(sources) => Ok(Box::new(Return { to, sources, today: None })),
        None => Ok(Box::new(Stays::unrecorded(&format!("the stack {}", to.stack), way.now.clone()))),
    }
}

#[derive(Debug)]
struct Return {
    to: State,
    sources: String,
    /// What the flow says today, as far as it is known.
    today: Option<Pulumi>,
}

#[async_trait]
impl Step for Return {
    fn equip(&mut self, settings: &Ready, attributes: &Attributes) {
        self.today = Pulumi::read(settings, attributes).ok();
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let step = self.to.step(self.today.as_ref())?;
        let workplace = Workplace::unpacked(cx, &self.sources)?;
        Box::pin(step.propose(Origin::Release(self.sources.clone()), workplace, cx)).await
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        let step = self.to.step(self.today.as_ref())?;
        let workplace = Workplace::unpacked(cx, &self.sources)?;
        Box::pin(step.settle(open, Origin::Release(self.sources.clone()), workplace, cx)).await
    }
}
