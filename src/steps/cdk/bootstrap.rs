//! `cdk-bootstrap`: an account ready for CDK apps.
//!
//! The toolkit's version stands in an SSM parameter; what an app needs stands
//! in its assembly. A toolkit stack of the same name with another qualifier is
//! somebody's foundation: replacing it takes away the roles and the bucket that
//! other stacks are deployed through, so that is done only when the step says
//! `replace #true`. The CLI alone would do the opposite of both: without a
//! qualifier it keeps the foreign one and reports success.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::synth::{APP, App, CONTEXT};
use super::toolkit::{Toolkit, Toolkits, parameter, version};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::value::{Outputs, Value};
use crate::steps::back::Stays;
use crate::steps::cfn::stack::delete_command;
use crate::steps::infra::settings::{DIR, PREPARE, PROGRAM, VERSION};
use crate::steps::infra::{Common, Sources, Tool, Workplace};
use crate::steps::program::judge;
use crate::steps::{
    Attributes, Back, Context, Done, Effect, Failure, FailureClass, Kind, Proposal, Step, Way,
};
use crate::world::process::Tail;

/// The CDK's own.
const QUALIFIER: &str = "hnb659fds";
const TOOLKIT: &str = "CDKToolkit";
/// What new-style synthesis needs at least.
const LEAST: u64 = 6;
const SHOWN_LINES: usize = 20;
/// Parameters of the toolkit's template.
const TRUSTED: &str = "TrustedAccounts";
const POLICIES: &str = "CloudFormationExecutionPolicies";

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "cdk-bootstrap",
        about: "Makes an account ready for CDK apps, or brings its toolkit up to what an app needs.",
        settings: &[
            Setting::new(
                "qualifier",
                Shape::Text,
                "Tells toolkits of one account apart; hnb659fds, the CDK's own, without it.",
            )
            .target(),
            Setting::new("toolkit-stack", Shape::Text, "The toolkit's stack; CDKToolkit without it."),
            Setting::new(
                "trust",
                Shape::Texts,
                "Accounts that may deploy into this one; without it they stay as they are.",
            ),
            Setting::new(
                "execution-policies",
                Shape::Texts,
                "ARNs of the policies that deployments get; without it they stay as they are, and a new toolkit gets AdministratorAccess.",
            ),
            Setting::new(
                "replace",
                Shape::Bool,
                "A toolkit with another qualifier may be replaced; somebody is asked before.",
            ),
            APP,
            CONTEXT,
            DIR,
            VERSION,
            PROGRAM,
            PREPARE,
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["qualifier", "version", "bucket"]),
        nature: Nature::Infrastructure,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::To(back),
};

#[derive(Clone, Debug)]
struct Bootstrap {
    qualifier: String,
    stack: String,
    trust: Option<String>,
    policies: Option<String>,
    replace: bool,
    app: App,
    common: Common,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let qualifier = ready.opt_text("qualifier")?.unwrap_or_else(|| QUALIFIER.to_owned());
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if qualifier.is_empty() || qualifier.len() > 10 || !qualifier.chars().all(fits) {
        let why = "up to ten letters, digits, _ and -".to_owned();
        return Err(Unready::Invalid { setting: "qualifier", why });
    }
    let list = |setting: &'static str| -> Result<Option<String>, Unready> {
        let texts = ready.texts(setting)?;
        Ok(ready.get(setting).is_some().then(|| texts.join(",")))
    };
    Ok(Box::new(Bootstrap {
        qualifier,
        stack: ready.opt_text("toolkit-stack")?.unwrap_or_else(|| TOOLKIT.to_owned()),
        trust: list("trust")?,
        policies: list("execution-policies")?,
        replace: ready.flag("replace")?,
        app: App::read(ready)?,
        common: Common::read(ready, attributes)?,
    }))
}

/// What the step works with.
struct Needed {
    tool: Tool,
    sources: Sources,
    /// Of the toolkit.
    version: u64,
    /// Of the app, if there is one.
    assembly: Option<PathBuf>,
}

/// What is there.
struct Seen {
    version: Option<u64>,
    needed: u64,
    toolkits: Toolkits,
}

impl Seen {
    fn toolkit(&self, stack: &str) -> Option<&Toolkit> {
        self.toolkits.all.iter().find(|toolkit| toolkit.stack == stack)
    }
}

#[async_trait]
impl Step for Bootstrap {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let Needed { tool, sources, version, assembly } = self.needed(cx).await?;
        let seen = self.look(cx, version).await?;
        let baseline = self.facts(&seen);
        let proposal = self.propose(cx, &seen, tool, assembly).await?;
        Ok(Proposal { baseline, inputs: sources.digests(), ..proposal })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        let needed = self.needed(cx).await?.version;
        Ok(self.facts(&self.look(cx, needed).await?))
    }

    async fn inputs(&self, cx: &Context) -> Result<Option<BTreeMap<String, String>>, Failure> {
        Ok(Some(self.sources(cx).await?.digests()))
    }
}

impl Bootstrap {
    async fn sources(&self, cx: &Context) -> Result<Sources, Failure> {
        if self.app.is_there(&self.common, cx)? {
            Sources::of(&self.common, &[], cx).await
        } else {
            Ok(Sources::default())
        }
    }

    /// The CLI, and what the app needs.
    async fn needed(&self, cx: &Context) -> Result<Needed, Failure> {
        let sources = self.sources(cx).await?;
        self.common.prepare(&Workplace::here(cx), cx).await?;
        let tool = super::tool(&self.common, cx).await?;
        if !self.app.is_there(&self.common, cx)? {
            return Ok(Needed { tool, sources, version: LEAST, assembly: None });
        }
        let assembly = self.app.synth(&self.common, &sources, &tool, cx).await?;
        let needs = assembly.stacks.iter().filter_map(|stack| stack.toolkit.as_ref());
        if let Some(other) = needs.clone().find(|needs| needs.parameter != parameter(&self.qualifier)) {
            let wanted = other.qualifier().unwrap_or(&other.parameter);
            return Err(Failure::of(
                FailureClass::Refused,
                format!("the app wants the toolkit {wanted}, and this step makes {}", self.qualifier),
            )
            .help("let both name the same qualifier"));
        }
        let version = needs.map(|needs| needs.version).max().unwrap_or(LEAST);
        Ok(Needed { tool, sources, version, assembly: Some(assembly.folder) })
    }

    async fn look(&self, cx: &Context, needed: u64) -> Result<Seen, Failure> {
        let version = version(cx, &parameter(&self.qualifier)).await?;
        Ok(Seen { version, needed, toolkits: Toolkits::find(cx).await? })
    }

    fn facts(&self, seen: &Seen) -> Json {
        let toolkit = seen.toolkit(&self.stack);
        json!({
            "stack": self.stack,
            "qualifier": toolkit.map(|toolkit| &toolkit.qualifier),
            "version": seen.version,
            "needed": seen.needed,
            "trust": toolkit.and_then(|toolkit| toolkit.parameters.get(TRUSTED)),
            "execution-policies": toolkit.and_then(|toolkit| toolkit.parameters.get(POLICIES)),
        })
    }

    async fn propose(
        &self,
        cx: &Context,
        seen: &Seen,
        tool: Tool,
        assembly: Option<PathBuf>,
    ) -> Result<Proposal, Failure> {
        let toolkit = seen.toolkit(&self.stack);
        let mut proposal = match toolkit {
            Some(foreign) if foreign.qualifier != self.qualifier => self.replacement(foreign, seen)?,
            Some(own) => self.upgrade(own, seen)?,
            None => {
                let mut proposal = Proposal::new(Action::Create, format!("toolkit {}", self.qualifier));
                proposal.reversible = Reversible::Manual;
                if let Some(version) = seen.version {
                    proposal.warnings.push(format!(
                        "{} says version {version}, and there is no stack {}: the toolkit lies under another name",
                        parameter(&self.qualifier),
                        self.stack
                    ));
                }
                proposal
            }
        };
        for other in seen.toolkits.all.iter().filter(|other| other.stack != self.stack) {
            proposal
                .warnings
                .push(format!("the toolkit {} in the stack {} is left alone", other.qualifier, other.stack));
        }
        if !proposal.action.will_run() {
            let state = State::of(self, seen.version);
            proposal.outputs = toolkit.map(|own| outputs(own, seen.version)).unwrap_or_default();
            proposal.receipt = json!(state);
            return Ok(proposal);
        }
        if self.policies.is_none()
            && toolkit.is_none_or(|t| t.parameters.get(POLICIES).is_none_or(String::is_empty))
        {
            proposal.warnings.push(
                "deployments through it get AdministratorAccess: name other policies with execution-policies"
                    .to_owned(),
            );
        }
        let own = toolkit.is_some_and(|toolkit| toolkit.qualifier == self.qualifier);
        proposal.standing = if own { json!(State::of(self, seen.version)) } else { Json::Null };
        let account = cx.cloud.verify().await?.account.clone();
        let region = region(cx).await?;
        let place = format!("aws://{account}/{region}");
        Ok(proposal.with(Make { step: self.clone(), tool, assembly, place, needed: seen.needed }))
    }

    /// In place of one with another qualifier.
    fn replacement(&self, foreign: &Toolkit, seen: &Seen) -> Result<Proposal, Failure> {
        let (stack, theirs, own) = (&self.stack, &foreign.qualifier, &self.qualifier);
        let users = seen.toolkits.users(theirs);
        let through = match users.as_slice() {
            [] => format!("no stack here says that it was deployed through {theirs}"),
            users => format!("deployed through {theirs}: {}", users.join(", ")),
        };
        if !self.replace {
            return Err(Failure::of(
                FailureClass::Refused,
                format!(
                    "the stack {stack} is a toolkit with the qualifier {theirs}, and the app needs {own}"
                ),
            )
            .detail(through)
            .detail(format!("replacing it takes away the roles and the bucket of {theirs}"))
            .help("if that is meant, write replace #true; else give the step a toolkit-stack of its own"));
        }
        let mut proposal = Proposal::new(Action::Replace, format!("toolkit {theirs} → {own}"));
        proposal.subject.clone_from(stack);
        proposal.changes.push(Change::new("qualifier", theirs.clone(), own.clone()));
        proposal.warnings.push(format!("{through}; they can be deployed again only with {own}"));
        if let Some(bucket) = foreign.outputs.get("BucketName") {
            proposal.warnings.push(format!("the bucket {bucket} stays, and belongs to no stack any more"));
        }
        proposal.reversible = Reversible::Manual;
        Ok(proposal)
    }

    /// Of its own stack.
    fn upgrade(&self, own: &Toolkit, seen: &Seen) -> Result<Proposal, Failure> {
        let stack = &self.stack;
        if matches!(own.status.as_str(), "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED") {
            return Err(Failure::new(format!(
                "the stack {stack} is {}: its first creation failed",
                own.status
            ))
            .help(format!("delete what is left and run it again: {}", delete_command(stack))));
        }
        let mut changes = Vec::new();
        let needed = seen.needed;
        match seen.version {
            Some(version) if version >= needed => {}
            version => {
                let from = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
                changes.push(Change::new("version", from, format!("at least {needed}")));
            }
        }
        for (what, name, wanted) in
            [("trust", TRUSTED, &self.trust), ("execution-policies", POLICIES, &self.policies)]
        {
            let now = own.parameters.get(name).cloned().unwrap_or_default();
            if let Some(wanted) = wanted.as_ref().filter(|wanted| **wanted != now) {
                changes.push(Change::new(what, now, wanted.clone()));
            }
        }
        if changes.is_empty() {
            let version = seen.version.unwrap_or_default();
            let summary = format!("toolkit {} is of version {version}, needed is {needed}", self.qualifier);
            return Ok(Proposal::up_to_date(summary, Outputs::new()));
        }
        let mut proposal = Proposal::new(Action::Update, format!("toolkit {}", self.qualifier));
        proposal.subject.clone_from(stack);
        proposal.changes = changes;
        proposal.reversible = Reversible::Manual;
        Ok(proposal)
    }
}

/// Where the step acts.
pub(super) async fn region(cx: &Context) -> Result<String, Failure> {
    let region = cx.cloud.config().await.region().map(ToString::to_string);
    region.ok_or_else(|| {
        Failure::of(FailureClass::Refused, "no region is given")
            .help("name one in the environment: region \"us-west-2\"")
    })
}

fn outputs(toolkit: &Toolkit, version: Option<u64>) -> Outputs {
    let mut outputs = Outputs::from([("qualifier".to_owned(), Value::text(&toolkit.qualifier))]);
    if let Some(version) = version {
        outputs.insert("version".to_owned(), Value::text(version.to_string()));
    }
    if let Some(bucket) = toolkit.outputs.get("BucketName") {
        outputs.insert("bucket".to_owned(), Value::text(bucket));
    }
    outputs
}

/// What a release records.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    stack: String,
    qualifier: String,
    version: Option<u64>,
}

impl State {
    fn of(step: &Bootstrap, version: Option<u64>) -> Self {
        Self { stack: step.stack.clone(), qualifier: step.qualifier.clone(), version }
    }
}

/// A toolkit is what others stand on: no rollback takes it away.
#[expect(clippy::unnecessary_wraps, reason = "as every kind's way back is called")]
fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    Ok(Box::new(Stays::new("the toolkit stays: stacks are deployed through it", way.now.clone())))
}

struct Make {
    step: Bootstrap,
    tool: Tool,
    assembly: Option<PathBuf>,
    place: String,
    needed: u64,
}

#[async_trait]
impl Effect for Make {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let Self { step, tool, assembly, place, needed } = *self;
        let mut words = vec!["bootstrap", &place, "--ci", "--no-notices"];
        words.extend(["--qualifier", &step.qualifier, "--toolkit-stack-name", &step.stack]);
        // Else the CLI runs the app of cdk.json once more, without its context.
        let app = assembly.map(|folder| folder.display().to_string());
        if let Some(app) = &app {
            words.extend(["--app", app]);
        }
        let lists = [("--trust", &step.trust), ("--cloudformation-execution-policies", &step.policies)];
        for (option, list) in &lists {
            for one in list.iter().flat_map(|list| list.split(',')).filter(|one| !one.is_empty()) {
                words.extend([option, one]);
            }
        }
        let mut tail = Tail::new(SHOWN_LINES, Some(cx.feed.clone()));
        let ending = tool.run(&words, &mut tail, cx).await?;
        judge(ending, tail.into_lines())
            .map_err(|failure| failure.detail(format!("this was: {}", tool.shown(&words))))?;
        let seen = step.look(cx, needed).await?;
        let version = seen.version.filter(|version| *version >= needed);
        let (Some(version), Some(toolkit)) = (version, seen.toolkit(&step.stack)) else {
            let found = seen.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
            return Err(Failure::new(format!(
                "cdk bootstrap ended well, and {} says version {found} where {needed} is needed",
                parameter(&step.qualifier)
            ))
            .help("use a newer cdk"));
        };
        Ok(Done {
            summary: format!("toolkit {}, version {version}", step.qualifier),
            outputs: outputs(toolkit, Some(version)),
            receipt: json!(State::of(&step, Some(version))),
        })
    }
}
