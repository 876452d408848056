//! Returns the stacks of a step to the templates that a release records. What
//! those refer to was published under names made of its content, and is still there.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::model::change::Action;
use crate::model::settings::Ready;
use crate::steps::back::{Stays, read};
use crate::steps::cfn::back::Return;
use crate::steps::cfn::record::State;
use crate::steps::cfn::several::{Part, together};
use crate::steps::cfn::{policy, reconcile};
use crate::steps::infra::Common;
use crate::steps::{Attributes, Context, Failure, Open, Proposal, Settled, Step, Way};

/// What a release records of a step: its stacks, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stacks {
    stacks: Vec<State>,
}

pub(super) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let stacks = |state: &Json| -> Result<Vec<State>, Failure> {
        if state.is_null() { Ok(Vec::new()) } else { Ok(read::<Stacks>(state)?.stacks) }
    };
    let to = way.to.as_ref().map(stacks).transpose()?.unwrap_or_default();
    let now = stacks(&way.now)?;
    if to.is_empty() && now.is_empty() {
        return Ok(Box::new(Stays::new("not there, as it was", Json::Null)));
    }
    let made = now.into_iter().filter(|state| to.iter().all(|then| then.name != state.name));
    Ok(Box::new(Back { made: made.map(|state| state.name).collect(), to, policy: None }))
}

#[derive(Debug)]
struct Back {
    to: Vec<State>,
    /// Names of those that were made since.
    made: Vec<String>,
    /// Whose policy is asked, about all of them together.
    policy: Option<Common>,
}

#[async_trait]
impl Step for Back {
    fn equip(&mut self, settings: &Ready, attributes: &Attributes) {
        self.policy = Common::read(settings, attributes).ok();
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let (mut parts, mut told) = (Vec::new(), Vec::new());
        for state in &self.to {
            let (proposal, template) = Return::new(state.clone()).propose(cx).await?;
            told.push((state.name.clone(), policy::proposed(&proposal, &template)));
            parts.push(Part { stack: state.name.clone(), proposal });
        }
        if let Some(common) = &self.policy {
            common.judge(&policy::together(told), cx).await?;
        }
        // Those that came last may use what the first ones export; stacks that are made anew need
        // those exports first.
        if !parts.iter().any(|part| part.proposal.action == Action::Create) {
            parts.reverse();
        }
        let mut proposal = if parts.is_empty() {
            Stays::new("the stacks stay", Json::Null).plan(cx).await?
        } else {
            together(parts)
        };
        let stays = self.made.iter().map(|name| format!("the stack {name} was made since, and stays"));
        proposal.warnings.extend(stays);
        Ok(proposal)
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        let mut facts = serde_json::Map::new();
        for state in &self.to {
            facts.insert(state.name.clone(), super::look::facts_of(cx, &state.name).await?);
        }
        Ok(Json::Object(facts))
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        reconcile::rest(open, cx).await?;
        reconcile::by_plan(self, cx).await
    }
}
