//! The arguments that `plan` and `run` share: what, where, and with which values.

use crate::model::names::{EnvName, FlowName};
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
    /// As a request.
    pub(super) fn request(&self) -> Request {
        let all = |typed: &[String]| typed.iter().flat_map(|names| split(names)).collect();
        Request {
            flow: FlowName::new(&self.flow),
            environment: EnvName::new(&self.env),
            typed: Typed { only: all(&self.only), skip: all(&self.skip) },
            params: self.param.clone(),
            no_cache: self.no_cache,
            back: None,
        }
    }

    /// The command line that does the same with another command.
    pub(super) fn command_line(&self, command: &str) -> String {
        let mut words =
            vec!["flow".to_owned(), command.to_owned(), self.flow.clone(), "--env".into(), self.env.clone()];
        for (flag, names) in [("--only", &self.only), ("--skip", &self.skip)] {
            words.extend(names.iter().flat_map(|name| [flag.to_owned(), name.clone()]));
        }
        words
            .extend(self.param.iter().flat_map(|(name, value)| ["-p".to_owned(), format!("{name}={value}")]));
        words.extend(self.no_cache.then(|| "--no-cache".to_owned()));
        crate::world::process::show_argv(&words)
    }
}
