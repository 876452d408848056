//! A project as written: its environments and flows.

use std::collections::BTreeMap;

use crate::syntax::source::{Span, Spanned};

use super::flow::Flow;
use super::names::{EnvName, FlowName};
use super::template::Template;

/// Everything that the flow files of a project say, checked.
#[derive(Clone, Debug, Default)]
pub struct Project {
    /// `project NAME`; without the node the name of the root folder.
    pub name: String,
    /// What it is called from outside, where it is a project inside another one's repository.
    pub address: Option<String>,
    /// `root DIR`: what its paths are relative to, itself relative to the repository's root.
    pub root: Option<Spanned<String>>,
    /// `store URL` as written; `.flow/store` without.
    pub store: Option<Spanned<Store>>,
    /// All environments, `extends` already followed.
    pub environments: Vec<Environment>,
    /// All flows.
    pub flows: Vec<Flow>,
}

impl Project {
    /// Says that it lies in a repository of several: its flows are named as they are from outside,
    /// `ohi/deploy`, wherever a person or a record reads them.
    pub fn lies_in(&mut self, address: &str) {
        for flow in &mut self.flows {
            flow.name = FlowName::new(format!("{address}/{}", flow.name));
        }
        self.address = Some(address.to_owned());
    }

    /// The flow of that name, which may leave out the project's.
    #[must_use]
    pub fn flow(&self, name: &str) -> Option<&Flow> {
        let short = |flow: &&Flow| {
            flow.name
                .as_str()
                .strip_prefix(self.address.as_deref()?)?
                .strip_prefix('/')
                .map(|short| short == name)
        };
        let whole = self.flows.iter().find(|flow| flow.name.as_str() == name);
        whole.or_else(|| self.flows.iter().find(|flow| short(flow) == Some(true)))
    }

    /// The environment of that name, which may begin with the project's: `ohi/prod`.
    #[must_use]
    pub fn environment(&self, name: &str) -> Option<&Environment> {
        let short = self.address.as_deref().and_then(|address| name.strip_prefix(address)?.strip_prefix('/'));
        let name = short.unwrap_or(name);
        self.environments.iter().find(|environment| environment.name.value.as_str() == name)
    }
}

/// Where releases, locks, approvals and journals live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A folder, relative to the project root.
    Folder(String),
    /// `s3://bucket?prefix=p&endpoint=…&region=…`
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys start with; empty for none.
        prefix: String,
        /// Another endpoint than the region's.
        endpoint: Option<String>,
        /// The bucket's region.
        region: Option<String>,
    },
}

/// `environment NAME extends=… { … }`
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its name.
    pub name: Spanned<EnvName>,
    /// Twelve digits, compared with what STS says before anything else.
    pub account: Option<Template>,
    /// `eu-west-1`
    pub region: Option<Template>,
    /// Of the AWS configuration, unless the surroundings already give credentials.
    pub profile: Option<Template>,
    /// ARN of a role to assume.
    pub role: Option<Template>,
    /// Of every AWS client of this environment.
    pub endpoint: Option<Template>,
    /// Host that replaces the account's ECR host for push and pull.
    pub registry: Option<Template>,
    /// Globs of branches that a deploy may come from; empty for any.
    pub branches: Vec<String>,
    /// Globs of tags that a deploy may come from; empty for any.
    pub tags: Vec<String>,
    /// What CI may start it.
    pub trigger: Option<Trigger>,
    /// Deploying steps need a gate.
    pub protected: bool,
    /// Its own store.
    pub store: Option<Spanned<Store>>,
    /// `env.NAME`.
    pub vars: BTreeMap<String, Var>,
    /// `secret.NAME`.
    pub secrets: Vec<SecretDeclaration>,
    /// Who may sign.
    pub approvers: Vec<Approver>,
    /// How many must sign at least, whatever a gate says.
    pub least: u64,
    /// Whoever made a plan may never approve it.
    pub four_eyes: bool,
}

/// A variable of an environment.
#[derive(Clone, Debug, PartialEq)]
pub enum Var {
    /// `cluster "shop"`; accepted where a list is expected.
    One(Template),
    /// `services "api" "web"`
    List(Vec<Template>),
    /// `services { api port=8000; web port=3000 }`
    Records(Vec<(String, BTreeMap<String, Template>)>),
}

/// What CI may start a deploy to an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A push to its branch.
    Push,
    /// A published release.
    Release,
    /// A person.
    Manual,
}

/// `approver NAME key=… group=… valid-before=…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// The person.
    pub name: String,
    /// OpenSSH public key.
    pub key: String,
    /// The group they answer for.
    pub group: Option<String>,
    /// Until when the key counts, as written.
    pub valid_before: Option<String>,
}

/// `secret NAME from=SOURCE`
#[derive(Clone, Debug, PartialEq)]
pub struct SecretDeclaration {
    /// `secret.NAME`
    pub name: String,
    /// Where it comes from.
    pub source: SecretSource,
    /// Where the declaration stands.
    pub span: Span,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `env:VAR`
    Env(String),
    /// `aws-ssm:/path`
    AwsSsm(String),
    /// `aws-secretsmanager:id#json-key`
    AwsSecretsManager {
        /// Name or ARN.
        id: String,
        /// A key inside the JSON.
        key: Option<String>,
    },
    /// `file:path`, relative to the project root.
    File(String),
    /// `dotenv:file#KEY`
    Dotenv {
        /// The file.
        file: String,
        /// The variable.
        key: String,
    },
    /// `sops:file#key`
    Sops {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// `command:prog arg`, split at blanks, no shell.
    Command(Vec<String>),
}
