//! `cdk-deploy`: stacks of a CDK app, in the order in which the step names them.
//!
//! The plan synthesises, looks whose the resources are, and asks CloudFormation
//! about every stack that exists: nothing is published, and no change set stays.
//! The effect has the CLI publish and prepare a change set for each stack that
//! changes, compares it with the plan, and executes it itself. With `destroy #true`
//! the stacks go, the last one first.

mod back;
mod look;
mod prepare;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use self::look::Look;
use super::assembly::{AppStack, Assembly};
use super::ownership::Check;
use super::synth::{APP, App, CONTEXT};
use super::{bootstrap, toolkit};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::units::short_digest;
use crate::steps::cfn::several::{Part, together};
use crate::steps::cfn::{destroy, policy, reconcile};
use crate::steps::infra::settings::{DESTROY, DIR, POLICY, PREPARE, PROGRAM, PROTECT, VERSION};
use crate::steps::infra::{Common, Sources, Tool, Workplace};
use crate::steps::{Attributes, Back, Context, Failure, Kind, Open, Proposal, Settled, Step};

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "cdk-deploy",
        about: "Deploys stacks of a CDK app.",
        settings: &[
            Setting::new("stacks", Shape::Texts, "The stacks, in this order; all of the app without it.")
                .target(),
            APP,
            CONTEXT,
            Setting::new(
                "foreign",
                Shape::Texts,
                "Names of buckets and exports that are not looked up: others make them.",
            ),
            DIR,
            VERSION,
            PROGRAM,
            PREPARE,
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

#[derive(Clone, Debug)]
struct CdkDeploy {
    stacks: Vec<String>,
    app: App,
    foreign: Vec<String>,
    common: Common,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    Ok(Box::new(CdkDeploy {
        stacks: ready.texts("stacks")?,
        app: App::read(ready)?,
        foreign: ready.texts("foreign")?,
        common: Common::read(ready, attributes)?,
    }))
}

#[async_trait]
impl Step for CdkDeploy {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let (tool, sources, assembly) = self.synth(cx).await?;
        let stacks = assembly.select(&self.stacks)?;
        let account = cx.cloud.verify().await?.account.clone();
        let region = bootstrap::region(cx).await?;
        look::places(&stacks, &account, &region)?;
        if self.common.destroy {
            let proposal = together(destroy::plan(cx, &leaving(&stacks), &self.common).await?);
            return Ok(Proposal { inputs: sources.digests(), ..proposal });
        }
        let check = Check {
            app: &assembly.stacks,
            chosen: &stacks,
            foreign: &self.foreign,
            account: &account,
            region: &region,
        };
        check.run(cx).await?;
        let needs: Vec<_> = stacks.iter().filter_map(|stack| stack.toolkit.as_ref()).collect();
        toolkit::check(cx, &needs).await?;
        let cli = prepare::Cli::new(tool, &assembly.folder);
        let mut parts = Vec::new();
        let mut told = Vec::new();
        for stack in &stacks {
            let look = Look { stack, common: &self.common, account: &account, region: &region };
            let proposal = look.plan(&cli, cx).await?;
            told.push((stack.name.clone(), policy::proposed(&proposal, &stack.body)));
            parts.push(Part { stack: stack.name.clone(), proposal });
        }
        self.common.judge(&policy::together(told), cx).await?;
        let mut proposal = together(parts);
        if let Some(facts) = proposal.baseline.as_object_mut() {
            facts.insert("assembly".to_owned(), json!(short_digest(&Assembly::digest(&stacks))));
        }
        Ok(Proposal { inputs: sources.digests(), ..proposal })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        let (_, _, assembly) = self.synth(cx).await?;
        let stacks = assembly.select(&self.stacks)?;
        let mut facts = serde_json::Map::new();
        if self.common.destroy {
            for name in leaving(&stacks) {
                facts.insert(name.clone(), destroy::observe(cx, &name).await?);
            }
            return Ok(Json::Object(facts));
        }
        for stack in &stacks {
            facts.insert(stack.name.clone(), look::facts_of(cx, &stack.name).await?);
        }
        facts.insert("assembly".to_owned(), json!(short_digest(&Assembly::digest(&stacks))));
        Ok(Json::Object(facts))
    }

    async fn inputs(&self, cx: &Context) -> Result<Option<BTreeMap<String, String>>, Failure> {
        Ok(Some(Sources::of(&self.common, &[], cx).await?.digests()))
    }

    /// Once CloudFormation has come to rest, the stacks themselves say what is left to do.
    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        if self.common.destroy {
            let (_, _, assembly) = self.synth(cx).await?;
            return destroy::settle(open, cx, &leaving(&assembly.select(&self.stacks)?)).await;
        }
        reconcile::rest(open, cx).await?;
        reconcile::by_plan(self, cx).await
    }
}

/// Names in the order in which stacks go: what came last may use what the first ones export.
fn leaving(stacks: &[&AppStack]) -> Vec<String> {
    stacks.iter().rev().map(|stack| stack.name.clone()).collect()
}

impl CdkDeploy {
    async fn synth(&self, cx: &Context) -> Result<(Tool, Sources, Assembly), Failure> {
        let sources = Sources::of(&self.common, &[], cx).await?;
        self.common.prepare(&Workplace::here(cx), cx).await?;
        let tool = super::tool(&self.common, cx).await?;
        let assembly = self.app.synth(&self.common, &sources, &tool, cx).await?;
        Ok((tool, sources, assembly))
    }
}
