//! The settings that all infrastructure kinds share, and what they come to.

use std::time::Duration;

use super::protect::Protect;
use super::version::Requirement;
use crate::model::settings::{Head, Ready, Setting, Shape, Unready};
use crate::steps::Attributes;

/// Rows for a kind's table: `settings: &[DIR, VERSION, …, Setting::new("stack", …)]`.
pub(in crate::steps) const DIR: Setting = Setting::new(
    "dir",
    Shape::Path { reads: true },
    "The folder of its files, where the program runs; the project root without it.",
);
/// `version ">=1.5"`
pub(in crate::steps) const VERSION: Setting = Setting::new(
    "version",
    Shape::Text,
    "The versions of the program that will do: >=1.5, \">=1.5 <2\", 1.11.",
);
/// `program "npx" "cdk"`
pub(in crate::steps) const PROGRAM: Setting = Setting::new(
    "program",
    Shape::Texts,
    "How the program is started where it is not simply in PATH; a name with a slash is relative to dir.",
);
/// `prepare { command …; inputs …; outputs … }`
pub(in crate::steps) const PREPARE: Setting = Setting::new(
    "prepare",
    Shape::Node { head: Head::None, many: false, fields: PREPARE_FIELDS },
    "Local work that the program needs, done for the plan too; left out while its inputs and outputs are what they were.",
);
/// `policy { command … }`
pub(in crate::steps) const POLICY: Setting = Setting::new(
    "policy",
    Shape::Node { head: Head::None, many: false, fields: POLICY_FIELDS },
    "A program that reads the preview as JSON and refuses it by any exit but 0.",
);
/// `destroy #true`
pub(in crate::steps) const DESTROY: Setting =
    Setting::new("destroy", Shape::Bool, "Everything is deleted; somebody is always asked before.");
/// `protect TYPE|NAME…`
pub(in crate::steps) const PROTECT: Setting = Setting::new(
    "protect",
    Shape::Texts,
    "Types and names of resources that are never replaced or deleted, besides what holds data; none ends that.",
);

const PREPARE_FIELDS: &[Setting] = &[
    Setting::new("command", Shape::Texts, "the program and its arguments; no shell").required(),
    Setting::new("inputs", Shape::Texts, "globs of what decides whether it must run again"),
    Setting::new("outputs", Shape::Texts, "what it leaves behind"),
];

const POLICY_FIELDS: &[Setting] =
    &[Setting::new("command", Shape::Texts, "the program and its arguments; no shell").required()];

/// How long these programs may clean up after a signal when the step says nothing.
const GRACE: Duration = Duration::from_mins(2);

/// What the shared settings say.
#[derive(Clone, Debug)]
pub(in crate::steps) struct Common {
    /// Relative to the project root; `.` without it.
    pub dir: String,
    /// The versions that will do.
    pub version: Option<Requirement>,
    /// How the program is started; empty for its name.
    pub program: Vec<String>,
    /// Local work first.
    pub prepare: Option<Prepare>,
    /// Argv of the program that judges a preview.
    pub policy: Option<Vec<String>>,
    /// Everything goes.
    pub destroy: bool,
    /// What stays.
    pub protect: Protect,
    /// The step's, with `aws` on and the grace of these kinds.
    pub attributes: Attributes,
}

/// Local work that the program needs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::steps) struct Prepare {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Globs relative to the project root; none: it always runs.
    pub inputs: Vec<String>,
    /// Paths relative to the project root.
    pub outputs: Vec<String>,
}

impl Common {
    /// Reads the rows that a kind's table has; those it lacks count as not given.
    pub(in crate::steps) fn read(ready: &Ready, attributes: &Attributes) -> Result<Self, Unready> {
        let version = ready.opt_text("version")?.map(|text| {
            Requirement::parse(&text).map_err(|why| Unready::Invalid { setting: "version", why })
        });
        let prepare = ready.node("prepare").map(|node| {
            Ok::<_, Unready>(Prepare {
                command: node.settings.texts("command")?,
                inputs: node.settings.texts("inputs")?,
                outputs: node.settings.texts("outputs")?,
            })
        });
        Ok(Self {
            dir: ready.opt_text("dir")?.unwrap_or_else(|| ".".to_owned()),
            version: version.transpose()?,
            program: ready.texts("program")?,
            prepare: prepare.transpose()?,
            policy: ready.node("policy").map(|node| node.settings.texts("command")).transpose()?,
            destroy: ready.flag("destroy")?,
            protect: Protect::new(ready.texts("protect")?),
            attributes: Self::attributes(attributes),
        })
    }

    /// A step's attributes as these kinds take them.
    pub(in crate::steps) fn attributes(attributes: &Attributes) -> Attributes {
        Attributes { aws: true, grace: attributes.grace.or(Some(GRACE)), ..attributes.clone() }
    }

    /// The attributes of what only works on local files: no credentials.
    pub(super) fn local(&self) -> Attributes {
        Attributes { aws: false, inputs: None, ..self.attributes.clone() }
    }
}
