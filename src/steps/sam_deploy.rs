//! `sam-deploy`: a serverless application, through the SAM CLI.
//!
//! What a template of SAM means is known only once its code is published, and a
//! plan publishes nothing. So the plan says whether the sources or settings are
//! others than those of the last deployment, and what its template shows. The
//! effect has the CLI publish and make a change set; flow reads it, refuses what
//! would take away something protected, executes it and follows it to the end.
//!
//! With `destroy #true` flow deletes the stack itself, and starts no program: what
//! was published stays, so that the stack can be deployed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::cfn::apply::{Deploy, Planned};
use super::cfn::back::Return;
use super::cfn::change_set::ChangeSet;
use super::cfn::plan::look;
use super::cfn::record::{self, facts};
use super::cfn::request::{Given, Maker, Request, tags};
use super::cfn::stack::{CLEANING, Stack, cleaning};
use super::cfn::template::Template;
use super::cfn::{destroy, policy, reconcile};
use super::infra::settings::{DESTROY, DIR, POLICY, PREPARE, PROGRAM, PROTECT, VERSION};
use super::infra::{Common, Sources, Tool, ToolSpec, Workplace};
use super::program::{harmless, judge};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames, Rule};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::steps::back::{self, Stays};
use crate::steps::{
    Attributes, Back, Context, Done, Effect, Failure, FailureClass, Kind, Open, Proposal, Settled, Step, Way,
};
use crate::world::depot::set_mode;
use crate::world::files::digest;
use crate::world::process::{StopSignal, Tail};

/// The CLI.
static SAM: ToolSpec = ToolSpec {
    name: "sam",
    ask: &["--version"],
    needs: ">=1.100",
    get: "install it with pip install aws-sam-cli, or name it with program",
    stop: StopSignal::Int,
};

/// Enough to find the name of a change set in what the CLI says.
const HEARD_LINES: usize = 400;
const SHOWN_LINES: usize = 20;

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "sam-deploy",
        about: "Deploys a serverless application with the SAM CLI.",
        settings: &[
            Setting::new("stack", Shape::Text, "The stack's name.").required().target(),
            Setting::new(
                "template",
                Shape::Path { reads: true },
                "The template's file; template.yaml in dir without it.",
            ),
            Setting::new("bucket", Shape::Text, "Where code is published; SAM's own bucket without it."),
            Setting::new(
                "prefix",
                Shape::Text,
                "In front of what is published there; the stack's name without it.",
            ),
            Setting::new("build", Shape::Bool, "Runs sam build first, for the effect."),
            Setting::new(
                "parameter",
                Shape::Map,
                "Values of the template's parameters; secrets only for those with NoEcho.",
            )
            .secret(),
            Setting::new(
                "capability",
                Shape::Texts,
                "What the template may do: CAPABILITY_IAM, CAPABILITY_NAMED_IAM.",
            ),
            Setting::new("tags", Shape::Map, "Tags of the stack and of all that it creates."),
            DIR,
            VERSION,
            PROGRAM,
            PREPARE,
            POLICY,
            PROTECT,
            DESTROY,
        ],
        rules: &[Rule::Needs("prefix", "bucket")],
        outputs: OutputNames::Open,
        nature: Nature::Infrastructure,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::To(back_to),
};

#[derive(Clone, Debug)]
struct SamDeploy {
    stack: String,
    template: String,
    bucket: Option<String>,
    prefix: String,
    build: bool,
    parameters: BTreeMap<String, Given>,
    capabilities: Vec<String>,
    tags: BTreeMap<String, String>,
    common: Common,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let common = Common::read(ready, attributes)?;
    let stack = ready.text("stack")?;
    let mut capabilities = ready.texts("capability")?;
    // Without it no template of SAM can be deployed at all.
    if !capabilities.iter().any(|capability| capability == "CAPABILITY_AUTO_EXPAND") {
        capabilities.push("CAPABILITY_AUTO_EXPAND".to_owned());
    }
    let template = ready.opt_text("template")?;
    Ok(Box::new(SamDeploy {
        template: template.unwrap_or_else(|| format!("{}/template.yaml", common.dir.trim_end_matches('/'))),
        bucket: ready.opt_text("bucket")?,
        prefix: ready.opt_text("prefix")?.unwrap_or_else(|| stack.clone()),
        build: ready.flag("build")?,
        stack,
        parameters: Given::read(ready)?,
        capabilities,
        tags: tags(ready)?,
        common,
    }))
}

/// What a release records.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    /// The stack, with the template as it was published.
    stack: record::State,
    /// Digest of the sources.
    sources: String,
    /// Keyed digest of the settings.
    settings: String,
}

#[async_trait]
impl Step for SamDeploy {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        if self.common.destroy {
            let mut proposal = destroy::plan_one(cx, &self.stack, &self.common).await?;
            proposal.standing = standing(std::mem::take(&mut proposal.standing), cx);
            return Ok(proposal);
        }
        let sources = self.sources(cx).await?;
        self.common.prepare(&Workplace::here(cx), cx).await?;
        let tool = Tool::find(&SAM, &self.common, &Workplace::here(cx), &variables(), cx).await?;
        let template = Template::read(cx, &self.template).await?;
        let found = look(cx, &self.stack).await?;
        let mut baseline = facts(&self.stack, found.as_ref().map(|(stack, body)| (stack, body.as_str())));
        if let Some(facts) = baseline.as_object_mut() {
            facts.insert("program".to_owned(), json!(tool.facts()));
        }
        let (notes, text) = (template.notes.clone(), template.body.clone());
        let (now, settings) = (digest(json!(sources.digests()).to_string().as_bytes()), self.settings(cx));
        let mut proposal = if let Some((stack, body)) = found {
            let then = recorded(cx).filter(|then| {
                then.stack.stack == stack.id && then.stack.template == digest(body.as_bytes())
            });
            if let Some(then) = then.as_ref().filter(|then| then.sources == now && then.settings == settings)
            {
                let mut same =
                    Proposal::up_to_date(format!("{} is {}", self.stack, stack.status), stack.outputs);
                same.receipt = json!(then);
                same.standing = json!(then);
                same
            } else if stack.status == CLEANING {
                return Err(cleaning(&self.stack, &stack));
            } else {
                self.change(then.as_ref(), stack, body, template, tool, &now, &settings, cx)?
            }
        } else {
            let request = self.request(template, tool, None)?;
            let number = request.template.resources().map_or(0, |all| all.len());
            let mut new = Proposal::new(Action::Create, crate::model::units::count(number, "resource"));
            new.subject.clone_from(&self.stack);
            new.reversible = Reversible::Manual;
            new.with(effect(request, Planned::Create, &now, &settings))
        };
        proposal.warnings.extend(notes);
        let told = policy::alone(&self.stack, &proposal, &text);
        self.common.judge(&told, cx).await?;
        Ok(Proposal { baseline, inputs: sources.digests(), ..proposal })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        if self.common.destroy {
            return destroy::observe(cx, &self.stack).await;
        }
        let found = look(cx, &self.stack).await?;
        Ok(facts(&self.stack, found.as_ref().map(|(stack, body)| (stack, body.as_str()))))
    }

    async fn inputs(&self, cx: &Context) -> Result<Option<BTreeMap<String, String>>, Failure> {
        if self.common.destroy {
            return Ok(Some(BTreeMap::new()));
        }
        Ok(Some(self.sources(cx).await?.digests()))
    }

    /// What CloudFormation came to is seen in the stack; the code behind it is content-addressed, so
    /// that publishing it again changes nothing.
    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        if self.common.destroy {
            return destroy::settle(open, cx, std::slice::from_ref(&self.stack)).await;
        }
        reconcile::rest(open, cx).await?;
        Ok(Settled::NotDone)
    }
}

fn effect(request: Request, planned: Planned, sources: &str, settings: &str) -> Apply {
    let (sources, settings) = (sources.to_owned(), settings.to_owned());
    Apply { deploy: Deploy { request, planned }, sources, settings }
}

fn recorded(cx: &Context) -> Option<State> {
    let recorded = cx.recorded.as_ref()?;
    serde_json::from_value(recorded.receipt.clone()).ok()
}

/// What a release records of a stack that stands, as far as that is known.
fn standing(stack: Json, cx: &Context) -> Json {
    let Ok(stack) = serde_json::from_value::<record::State>(stack) else { return Json::Null };
    let then = recorded(cx).filter(|then| then.stack.template == stack.template);
    let (sources, settings) = then.map(|then| (then.sources, then.settings)).unwrap_or_default();
    json!(State { stack, sources, settings })
}

fn variables() -> [(&'static str, String); 1] {
    [("SAM_CLI_TELEMETRY", "0".to_owned())]
}

impl SamDeploy {
    async fn sources(&self, cx: &Context) -> Result<Sources, Failure> {
        Sources::of(&self.common, std::slice::from_ref(&self.template), cx).await
    }

    /// What counts besides the sources, without showing it.
    fn settings(&self, cx: &Context) -> String {
        let value = |given: &Given| match given {
            Given::Plain(text) => text.clone(),
            Given::Secret(secret) => secret.expose().to_owned(),
            Given::Previous => String::new(),
        };
        let parameters: BTreeMap<&String, String> =
            self.parameters.iter().map(|(name, given)| (name, value(given))).collect();
        cx.sealer
            .digest(&json!([parameters, self.tags, self.capabilities, self.bucket, self.prefix]).to_string())
    }

    fn request(&self, template: Template, tool: Tool, existing: Option<&Stack>) -> Result<Request, Failure> {
        let tags = (!self.tags.is_empty()).then(|| self.tags.clone());
        let (parameters, capabilities) = (self.parameters.clone(), self.capabilities.clone());
        let mut request = Request::new(&self.stack, template, parameters, capabilities, tags, existing)?;
        let maker = Publish { step: self.clone(), tool: tokio::sync::Mutex::new(tool) };
        request.protect = self.common.protect.clone();
        request.policy = Some(Arc::new(self.common.clone()));
        request.maker = Some(Arc::new(maker));
        Ok(request)
    }

    #[expect(clippy::too_many_arguments, reason = "what was found out, each once")]
    fn change(
        &self,
        then: Option<&State>,
        stack: Stack,
        body: String,
        template: Template,
        tool: Tool,
        sources: &str,
        settings: &str,
        cx: &Context,
    ) -> Result<Proposal, Failure> {
        let request = self.request(template, tool, Some(&stack))?;
        let mut proposal = Proposal::new(Action::Update, "publish and deploy");
        proposal.subject.clone_from(&self.stack);
        proposal.changes = request.parameter_changes(&stack);
        match then {
            None => proposal.warnings.push("nothing says which sources it was deployed from last".to_owned()),
            Some(then) => {
                if then.sources != sources {
                    proposal.changes.push(Change::new("sources", None, "changed".to_owned()));
                }
                if then.settings != settings {
                    proposal.changes.push(Change::new("settings", None, "changed".to_owned()));
                }
            }
        }
        proposal.warnings.push(
            "what SAM makes of it is known once it is published: what would take away protected resources is refused then"
                .to_owned(),
        );
        proposal.reversible = Reversible::Auto;
        // What stands can be returned to, whoever deployed it.
        let standing = State {
            stack: record::State::standing(&self.stack, &stack, &body, cx),
            sources: then.map(|then| then.sources.clone()).unwrap_or_default(),
            settings: then.map(|then| then.settings.clone()).unwrap_or_default(),
        };
        proposal.standing = json!(standing);
        let planned = Planned::Unseen { id: stack.id, template: body };
        Ok(proposal.with(effect(request, planned, sources, settings)))
    }
}

struct Apply {
    deploy: Deploy,
    sources: String,
    settings: String,
}

#[async_trait]
impl Effect for Apply {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let Self { deploy, sources, settings } = *self;
        let done = Box::new(deploy).apply(cx).await?;
        let receipt = json!({ "stack": done.receipt, "sources": sources, "settings": settings });
        Ok(Done { receipt, ..done })
    }
}

/// Has the CLI publish and make the change set.
struct Publish {
    step: SamDeploy,
    tool: tokio::sync::Mutex<Tool>,
}

impl std::fmt::Debug for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publish").field("stack", &self.step.stack).finish_non_exhaustive()
    }
}

#[async_trait]
impl Maker for Publish {
    async fn make(&self, _: &ChangeSet, cx: &Context) -> Result<Option<ChangeSet>, Failure> {
        let mut tool = self.tool.lock().await;
        let step = &self.step;
        let mut template = cx.world.files.locate(&step.template)?.display().to_string();
        if step.build {
            let folder = cx.world.files.root().join(".flow/cache/sam").join(&step.stack);
            let place = folder.display().to_string();
            hear(&tool, &["build", "--template-file", &template, "--build-dir", &place], cx).await?;
            template = folder.join("template.yaml").display().to_string();
        }
        let config = self.config(&mut tool, cx)?;
        let mut words = vec!["deploy", "--template-file", &template, "--stack-name", &step.stack];
        words.extend(["--no-execute-changeset", "--no-confirm-changeset", "--no-fail-on-empty-changeset"]);
        words.extend(["--no-progressbar", "--config-file", &config]);
        match &step.bucket {
            Some(bucket) => words.extend(["--s3-bucket", bucket, "--s3-prefix", &step.prefix]),
            None => words.push("--resolve-s3"),
        }
        let tags: Vec<String> = step.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if !tags.is_empty() {
            words.push("--tags");
            words.extend(tags.iter().map(String::as_str));
        }
        words.push("--capabilities");
        words.extend(step.capabilities.iter().map(String::as_str));
        let said = hear(&tool, &words, cx).await?;
        let name = said.iter().rev().find_map(|line| change_set(line));
        Ok(name.map(|name| ChangeSet::named(&step.stack, name)))
    }
}

impl Publish {
    /// The parameters, in a file that only its owner reads: some are secrets. As a table: in lists
    /// the CLI drops all that follows a blank. Its name must end as the CLI expects.
    fn config(&self, tool: &mut Tool, cx: &Context) -> Result<String, Failure> {
        let mut text = "version = 0.1\n[default.deploy.parameters.parameter_overrides]\n".to_owned();
        for (name, given) in &self.step.parameters {
            let value = match given {
                Given::Plain(value) => value.as_str(),
                Given::Secret(secret) => secret.expose(),
                Given::Previous => continue,
            };
            if is_garbled(value) {
                return Err(Failure::of(
                    FailureClass::Refused,
                    format!("sam would change the value of the parameter {name}"),
                )
                .detail("it drops quotes around a value, and a backslash in front of a quote or a blank")
                .help("let the function read the value from a parameter or secret of the account"));
            }
            // JSON writes texts as TOML does.
            text.push_str(&format!("{} = {}\n", json!(name), json!(value)));
        }
        let path = tool.scratch().folder("sam")?.join("samconfig.toml");
        cx.world.files.write_unsynced(&path, text.as_bytes())?;
        set_mode(&path, 0o600)?;
        Ok(path.display().to_string())
    }
}

/// Whether the CLI hands on another value than it was given.
fn is_garbled(value: &str) -> bool {
    let wrapped = |quote: char| value.starts_with(quote) && value.ends_with(quote);
    wrapped('"') || wrapped('\'') || value.contains("\\\"") || value.contains("\\ ")
}

/// Runs the CLI and returns what it said.
async fn hear(tool: &Tool, words: &[&str], cx: &Context) -> Result<Vec<String>, Failure> {
    let mut tail = Tail::new(HEARD_LINES, Some(cx.feed.clone()));
    let ending = tool.run(words, &mut tail, cx).await?;
    let lines = tail.into_lines();
    let last: Vec<String> = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .skip(lines.iter().filter(|line| !line.trim().is_empty()).count().saturating_sub(SHOWN_LINES))
        .cloned()
        .collect();
    // Published code and a change set that nobody executes change nothing for anybody.
    harmless(judge(ending, last))
        .map_err(|failure| failure.detail(format!("this was: {}", tool.shown(words))))?;
    Ok(lines)
}

/// The name in the ARN of a change set.
fn change_set(line: &str) -> Option<&str> {
    line.split_once(":changeSet/")?.1.split(['/', ' ']).next().filter(|name| !name.is_empty())
}

fn back_to(way: &Way) -> Result<Box<dyn Step>, Failure> {
    match way.to.as_ref().filter(|to| !to.is_null()) {
        Some(to) => {
            let to: State = back::read(to)?;
            Ok(Box::new(Returned { to: Return::new(to.stack.clone()), state: to }))
        }
        None if way.now.is_null() => Ok(Box::new(Stays::new("not there, as it was", Json::Null))),
        None => Ok(Box::new(Stays::unrecorded("the stack", way.now.clone()))),
    }
}

/// A stack that is to be what it was; its code is still where it was published.
#[derive(Debug)]
struct Returned {
    to: Return,
    state: State,
}

#[async_trait]
impl Step for Returned {
    fn equip(&mut self, settings: &Ready, attributes: &Attributes) {
        self.to.equip(settings, attributes);
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let mut proposal = self.to.plan(cx).await?;
        let wrap = |stack: Json| {
            if stack.is_null() {
                return Json::Null;
            }
            json!({ "stack": stack, "sources": self.state.sources, "settings": self.state.settings })
        };
        proposal.receipt = wrap(std::mem::take(&mut proposal.receipt));
        proposal.standing = wrap(std::mem::take(&mut proposal.standing));
        if let Some(effect) = proposal.effect.take() {
            let (sources, settings) = (self.state.sources.clone(), self.state.settings.clone());
            proposal.effect = Some(Box::new(Wrapped { effect, sources, settings }));
        }
        Ok(proposal)
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        self.to.observe(cx).await
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        reconcile::rest(open, cx).await?;
        reconcile::by_plan(self, cx).await
    }
}

struct Wrapped {
    effect: Box<dyn Effect>,
    sources: String,
    settings: String,
}

#[async_trait]
impl Effect for Wrapped {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let Self { effect, sources, settings } = *self;
        let done = effect.apply(cx).await?;
        let receipt = json!({ "stack": done.receipt, "sources": sources, "settings": settings });
        Ok(Done { receipt, ..done })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_program_would_change_are_known() {
        for (value, garbled) in [
            ("de bug", false),
            ("a\"b", false),
            ("a\\b\\", false),
            ("", false),
            ("a\\\"b", true),
            ("a\\ b", true),
            ("\"q\"", true),
            ("'q'", true),
        ] {
            assert_eq!(is_garbled(value), garbled, "{value}");
        }
    }

    #[test]
    fn the_change_set_is_found_in_what_the_program_says() {
        let line = "Changeset created successfully. arn:aws:cloudformation:us-east-1:000000000000:changeSet/samcli-deploy17/b5-27";
        assert_eq!(change_set(line), Some("samcli-deploy17"));
        assert_eq!(change_set("No changes to deploy. Stack shop is up to date"), None);
    }
}
