//! `cfn-deploy`: a CloudFormation stack from a template.
//!
//! The plan validates the template and asks CloudFormation itself what would
//! change: by comparison where all that decides can be seen, else by a change
//! set that is read and deleted again. A stack that does not exist yet is
//! planned from its template. The effect makes the change set once more,
//! refuses to go on when it says something else than the plan, and follows the
//! stack's events to their end. With `destroy #true` the stack goes, and its
//! template is not read.

#[cfg(test)]
mod destroy_tests;
#[cfg(test)]
mod sandbox_tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value as Json;

use super::cfn::plan::{look, plan_change, plan_new, up_to_date};
use super::cfn::protect::guard;
use super::cfn::record::facts;
use super::cfn::request::{Given, Request, tags};
use super::cfn::stack::{self, CLEANING, Stack, cleaning};
use super::cfn::template::Template;
use super::cfn::{back, destroy, exports, policy, reconcile};
use super::infra::Common;
use super::infra::settings::{DESTROY, POLICY, PROTECT};
use super::{Attributes, Back, Context, Failure, Kind, Open, Proposal, Settled, Step};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "cfn-deploy",
        about: "Creates or updates a CloudFormation stack from a template.",
        settings: &[
            Setting::new("stack", Shape::Text, "The stack's name.").required().target(),
            Setting::new("template", Shape::Path { reads: true }, "The template's file, YAML or JSON.").required(),
            Setting::new(
                "parameter",
                Shape::Map,
                "Values of the template's parameters; secrets only for those with NoEcho. One that is left out takes \
                 the template's default, and without one keeps its value.",
            )
            .secret(),
            Setting::new(
                "capability",
                Shape::Texts,
                "What the template may do: CAPABILITY_IAM, CAPABILITY_NAMED_IAM, CAPABILITY_AUTO_EXPAND.",
            ),
            Setting::new("tags", Shape::Map, "Tags of the stack and of all that it creates; without it they stay as they are."),
            POLICY,
            PROTECT,
            DESTROY,
        ],
        rules: &[],
        outputs: OutputNames::Open,
        nature: Nature::Infrastructure,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::To(back::back),
};

#[derive(Debug)]
struct CfnDeploy {
    stack: String,
    template: String,
    parameters: BTreeMap<String, Given>,
    capabilities: Vec<String>,
    tags: Option<BTreeMap<String, String>>,
    common: Common,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    Ok(Box::new(CfnDeploy {
        stack: ready.text("stack")?,
        template: ready.text("template")?,
        parameters: Given::read(ready)?,
        capabilities: ready.texts("capability")?,
        tags: ready.get("tags").map(|_| tags(ready)).transpose()?,
        common: Common::read(ready, attributes)?,
    }))
}

#[async_trait]
impl Step for CfnDeploy {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        if self.common.destroy {
            return destroy::plan_one(cx, &self.stack, &self.common).await;
        }
        let (template, found) = tokio::try_join!(Template::read(cx, &self.template), look(cx, &self.stack))?;
        let inputs = BTreeMap::from([(self.template.clone(), template.digest())]);
        exports::demand(cx, &self.template, &template.body).await?;
        let (notes, text) = (template.notes.clone(), template.body.clone());
        let baseline = facts(&self.stack, found.as_ref().map(|(stack, body)| (stack, body.as_str())));
        let proposal = match found {
            None => plan_new(self.request(template, None)?),
            Some((stack, body)) => {
                let request = self.request(template, Some(&stack))?;
                // After a failed update without rollback, equality of what was asked says nothing.
                if stack.status != "UPDATE_FAILED" && request.is_met_by(&stack, &body) {
                    up_to_date(cx, &request, stack, &body)
                } else if stack.status == CLEANING {
                    return Err(cleaning(&self.stack, &stack));
                } else {
                    plan_change(cx, request, stack, &body, &|changes| {
                        guard(&self.common.protect, None, changes)
                    })
                    .await?
                }
            }
        };
        let mut proposal = Proposal { baseline, inputs, ..proposal };
        proposal.warnings.extend(notes);
        let told = policy::alone(&self.stack, &proposal, &text);
        self.common.judge(&told, cx).await?;
        Ok(proposal)
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        if self.common.destroy {
            return destroy::observe(cx, &self.stack).await;
        }
        let found = look(cx, &self.stack).await?;
        Ok(facts(&self.stack, found.as_ref().map(|(stack, body)| (stack, body.as_str()))))
    }

    async fn inputs(&self, _: &Context) -> Result<Option<BTreeMap<String, String>>, Failure> {
        Ok(self.common.destroy.then(BTreeMap::new))
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        if self.common.destroy {
            return destroy::settle(open, cx, std::slice::from_ref(&self.stack)).await;
        }
        // The file may be another by now; it only tells which secrets were given.
        let existing = stack::describe(cx, &self.stack).await?;
        let template = Template::read(cx, &self.template).await.ok();
        let request = template.and_then(|template| self.request(template, existing.as_ref()).ok());
        reconcile::settle(open, cx, &self.stack, request.as_ref()).await
    }
}

impl CfnDeploy {
    fn request(&self, template: Template, existing: Option<&Stack>) -> Result<Request, Failure> {
        let (parameters, capabilities) = (self.parameters.clone(), self.capabilities.clone());
        let mut request =
            Request::new(&self.stack, template, parameters, capabilities, self.tags.clone(), existing)?;
        request.protect = self.common.protect.clone();
        request.policy = Some(Arc::new(self.common.clone()));
        Ok(request)
    }
}
