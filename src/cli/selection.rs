//! The arguments that `plan` and `run` share: what, where, and with which values.

use std::collections::BTreeMap;

use super::failure::CliError;
use super::saved;
use super::session::Session;
use super::workspace::Subject;
use crate::model::names::{EnvName, FlowName};
use crate::plan::document::Plan;
use crate::plan::prepare::Request;
use crate::plan::selection::{Typed, split};

/// What, where, and with which values.
#[derive(Debug, clap::Args)]
pub(super) struct Selection {
    /// The flow
    #[arg(value_name = "FLOW")]
    flow: String,

    /// The environment; auto takes the one whose branch or tag matches the checkout
    #[arg(short, long, value_name = "ENV")]
    env: String,

    #[command(flatten)]
    part: Part,
}

/// The same where a saved plan may say it.
#[derive(Debug, clap::Args)]
pub(super) struct Planned {
    /// The flow
    #[arg(value_name = "FLOW", required_unless_present = "plan")]
    flow: Option<String>,

    /// The environment; auto takes the one whose branch or tag matches the checkout
    #[arg(short, long, value_name = "ENV", required_unless_present = "plan")]
    env: Option<String>,

    /// A plan that was made before, by its file or its digest: refused if anything differs now
    #[arg(long, value_name = "FILE|DIGEST", conflicts_with_all = ["only", "skip", "param", "no_cache"])]
    plan: Option<String>,

    #[command(flatten)]
    part: Part,
}

/// Which part of a flow, and with which values.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Part {
    /// Only these groups, steps or instances (image[api]); gates in front of them stay
    #[arg(long, value_name = "NAMES")]
    only: Vec<String>,

    /// All but these groups, steps or instances
    #[arg(long, value_name = "NAMES")]
    skip: Vec<String>,

    /// A parameter of the flow
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, String)>,

    /// Run steps that only make files even when they are up to date
    #[arg(long)]
    no_cache: bool,
}

pub(super) fn parameter(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("write {text}=VALUE"))
}

impl Selection {
    /// The flow, as typed.
    pub(super) fn flow(&self) -> &str {
        &self.flow
    }

    /// As a request.
    pub(super) fn request(&self) -> Request {
        request(&self.flow, &self.env, &self.part)
    }

    /// The command line that does the same with another command.
    pub(super) fn command_line(&self, command: &str) -> String {
        command_line(command, &self.flow, &self.env, &self.part, &[])
    }

    /// The command line that saves the plan in a file.
    pub(super) fn saving(&self, file: &str) -> String {
        command_line("plan", &self.flow, &self.env, &self.part, &["--out", file])
    }
}

/// What a run was asked for.
pub(super) enum Asked {
    /// What flow plans now.
    Now {
        /// The request.
        request: Box<Request>,
        /// The command line that asks for it again.
        again: String,
    },
    /// A plan that was made before.
    Saved(Box<Plan>),
}

impl Planned {
    /// What was asked for. A saved plan must be one that may still be run.
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        match (&self.plan, &self.flow) {
            (Some(plan), _) => Subject::Plan(plan),
            (None, flow) => Subject::Flow(flow.as_deref().unwrap_or_default()),
        }
    }

    pub(super) fn asked(&self, session: &Session) -> Result<Asked, CliError> {
        match (&self.plan, &self.flow, &self.env) {
            (Some(plan), flow, env) => {
                let flow = flow.as_ref().map(FlowName::new);
                let env = env.as_ref().map(EnvName::new);
                Ok(Asked::Saved(Box::new(saved::for_run(session, plan, flow.as_ref(), env.as_ref())?)))
            }
            (None, flow, env) => {
                // Both are there: the command line was not accepted without.
                let (flow, env) = (flow.as_deref().unwrap_or_default(), env.as_deref().unwrap_or_default());
                let again = command_line("run", flow, env, &self.part, &[]);
                Ok(Asked::Now { request: Box::new(request(flow, env, &self.part)), again })
            }
        }
    }
}

fn request(flow: &str, env: &str, part: &Part) -> Request {
    let all = |typed: &[String]| typed.iter().flat_map(|names| split(names)).collect();
    Request {
        flow: FlowName::new(flow),
        environment: EnvName::new(env),
        typed: Typed { only: all(&part.only), skip: all(&part.skip) },
        params: part.param.clone(),
        no_cache: part.no_cache,
        untrusted: false,
        resumes: None,
        inside: BTreeMap::new(),
        back: None,
    }
}

fn command_line(command: &str, flow: &str, env: &str, part: &Part, more: &[&str]) -> String {
    let mut words = ["flow", command, flow, "--env", env].map(str::to_owned).to_vec();
    for (flag, names) in [("--only", &part.only), ("--skip", &part.skip)] {
        words.extend(names.iter().flat_map(|name| [flag.to_owned(), name.clone()]));
    }
    words.extend(part.param.iter().flat_map(|(name, value)| ["-p".to_owned(), format!("{name}={value}")]));
    words.extend(part.no_cache.then(|| "--no-cache".to_owned()));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    crate::world::process::show_argv(&words)
}
