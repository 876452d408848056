//! What would change in one stack of an app.

use std::sync::Arc;

use serde_json::Value as Json;

use super::prepare::{Cli, Prepare};
use crate::steps::cdk::assembly::AppStack;
use crate::steps::cdk::ownership::waits_for_exports;
use crate::steps::cfn::outline::outline;
use crate::steps::cfn::plan::{look, plan_change, plan_new, plan_outline, up_to_date};
use crate::steps::cfn::protect::guard;
use crate::steps::cfn::record::facts;
use crate::steps::cfn::request::Request;
use crate::steps::cfn::stack::{CLEANING, Stack, cleaning};
use crate::steps::cfn::template::Template;
use crate::steps::infra::Common;
use crate::steps::{Context, Failure, FailureClass, Proposal};

/// What the CLI acknowledges for every app.
const CAPABILITIES: [&str; 3] = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"];

/// One stack.
pub(super) struct Look<'a> {
    pub stack: &'a AppStack,
    pub common: &'a Common,
    pub account: &'a str,
    pub region: &'a str,
}

impl Look<'_> {
    /// Its proposal.
    pub(super) async fn plan(&self, cli: &Arc<Cli>, cx: &Context) -> Result<Proposal, Failure> {
        let name = &self.stack.name;
        let found = look(cx, name).await?;
        let baseline = facts(name, found.as_ref().map(|(stack, body)| (stack, body.as_str())));
        let mut request = self.request(found.as_ref().map(|(stack, _)| stack))?;
        request.protect = self.common.protect.clone();
        request.policy = Some(Arc::new(self.common.clone()));
        request.maker = Some(Arc::new(Prepare::new(cli, self.stack)));
        let proposal = match found {
            None => plan_new(request),
            Some((stack, body)) if stack.status != "UPDATE_FAILED" && request.is_met_by(&stack, &body) => {
                up_to_date(cx, &request, stack, &body)
            }
            Some((stack, _)) if stack.status == CLEANING => return Err(cleaning(name, &stack)),
            Some((stack, body)) => Box::pin(self.change(request, stack, &body, cx)).await?,
        };
        Ok(Proposal { baseline, ..proposal })
    }

    async fn change(
        &self,
        request: Request,
        stack: Stack,
        body: &str,
        cx: &Context,
    ) -> Result<Proposal, Failure> {
        let allowed = |changes: &[_]| guard(&self.common.protect, Some(&self.stack.name), changes);
        let waits = waits_for_exports(self.stack, self.account, self.region, cx).await?;
        if request.template.is_portable() && !waits {
            return plan_change(cx, request, stack, body, &allowed).await;
        }
        let Some(changes) = outline(body, &self.stack.body) else {
            return Err(Failure::new(format!(
                "what would change in {} cannot be told: its template is too long for a request, and the one that it has is not JSON",
                self.stack.name
            )));
        };
        allowed(&changes)?;
        let why = if waits {
            "it needs what another stack of this step is still to export"
        } else {
            "its template is too long for a request"
        };
        Ok(plan_outline(cx, request, &stack, changes, body, why))
    }

    fn request(&self, existing: Option<&Stack>) -> Result<Request, Failure> {
        let AppStack { name, body, tags, .. } = self.stack;
        let template = Template::synthesised(name, body.clone())?;
        let capabilities = CAPABILITIES.map(str::to_owned).to_vec();
        Request::new(
            name,
            template,
            std::collections::BTreeMap::new(),
            capabilities,
            Some(tags.clone()),
            existing,
        )
    }
}

/// What stands of a stack.
pub(super) async fn facts_of(cx: &Context, name: &str) -> Result<Json, Failure> {
    let found = look(cx, name).await?;
    Ok(facts(name, found.as_ref().map(|(stack, body)| (stack, body.as_str()))))
}

/// Refuses stacks that belong somewhere else.
pub(super) fn places(stacks: &[&AppStack], account: &str, region: &str) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for stack in stacks {
        if let Some(theirs) = stack.account.as_deref().filter(|theirs| *theirs != account) {
            wrong.push(format!("{}: account {theirs}, and this environment is {account}", stack.name));
        }
        if let Some(theirs) = stack.region.as_deref().filter(|theirs| *theirs != region) {
            wrong.push(format!("{}: region {theirs}, and this environment is {region}", stack.name));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::of(FailureClass::Refused, "the app puts stacks into another place than this environment")
        .details(wrong)
        .help("deploy them with a step of their own that says environment NAME"))
}
