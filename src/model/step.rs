//! A step as written: its kind, its checked settings, and the attributes that all kinds share.

use std::time::Duration;

use crate::syntax::source::{Span, Spanned};

use super::expr::Condition;
use super::kind::{KindSpec, Nature, ROLLBACK};
use super::names::{GroupName, StepName};
use super::settings::Written;
use super::template::Template;

/// A step of a flow. Attributes of its groups are already merged in; groups named in `needs` and
/// `after` are already replaced by their steps.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its kind.
    pub kind: &'static KindSpec,
    /// Its name, and where that stands.
    pub name: Spanned<StepName>,
    /// The groups around it, outermost first.
    pub groups: Vec<GroupName>,
    /// What all kinds share.
    pub common: Common,
    /// What its kind reads.
    pub settings: Written,
    /// The whole node.
    pub span: Span,
}

/// Attributes common to all kinds; see the manual's page "Steps".
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent attributes, as in a flow file")]
pub struct Common {
    /// What must have succeeded before (`needs`) or run before if selected (`after`).
    pub needs: Vec<Need>,
    /// All must hold, else the step is skipped; those of groups first.
    pub when: Vec<Condition>,
    /// One instance per value; several give the product.
    pub each: Vec<Each>,
    /// Process environment, in order.
    pub env: Vec<(String, Template)>,
    /// Variables of flow's own environment that are passed on.
    pub inherit: Vec<String>,
    /// Secrets that lie in a file, whose path is in this variable.
    pub files: Vec<(String, Template)>,
    /// The program gets verified credentials.
    pub aws: bool,
    /// The step acts in this other environment.
    pub environment: Option<Template>,
    /// Per attempt.
    pub timeout: Option<Duration>,
    /// How long it may clean up after a signal.
    pub grace: Option<Duration>,
    /// Further attempts.
    pub retry: Option<Retry>,
    /// Steps in one pool share its places.
    pub pool: Option<String>,
    /// What the content hash covers.
    pub inputs: Option<Inputs>,
    /// What it leaves behind, relative to the project root.
    pub outputs: Vec<Template>,
    /// Programs whose version is part of the content hash.
    pub tools: Vec<Tool>,
    /// `cache #false`: always runs.
    pub no_cache: bool,
    /// Argv; exit 0 means that the effect is already there.
    pub probe: Option<Vec<Template>>,
    /// How a rollback takes it back.
    pub undo: Option<Undo>,
    /// A failure here stops only what depends on it.
    pub continue_on_failure: bool,
    /// Needs no gate in a protected environment.
    pub ungated: bool,
}

/// One edge as written.
#[derive(Clone, Debug)]
pub struct Need {
    /// The step waited for.
    pub step: StepName,
    /// One instance; empty for all of them.
    pub index: Vec<Template>,
    /// `needs` (true) or `after` (false: only if that step is selected too).
    pub required: bool,
    /// Where it stands.
    pub span: Span,
}

/// `each VAR in=LIST`
#[derive(Clone, Debug)]
pub struct Each {
    /// `svc`
    pub var: String,
    /// `${env.services}`
    pub list: Template,
    /// Where the variable is named.
    pub span: Span,
}

/// `retry N backoff="2s" max="1m"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first.
    pub times: u32,
    /// Pause before the first of them; doubled each time, with jitter.
    pub backoff: Duration,
    /// The longest pause.
    pub max: Duration,
}

/// `inputs GLOB… { exclude … }`
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Globs relative to the project root.
    pub globs: Vec<Template>,
    /// Globs that are left out.
    pub exclude: Vec<Template>,
}

/// `tool NAME version-from="cmd"`
#[derive(Clone, Debug)]
pub struct Tool {
    /// The program.
    pub name: String,
    /// Split at blanks; run without a shell in `dir`. Without it the program's own digest counts.
    pub version_from: Option<Template>,
}

/// How a `run` step is rolled back.
#[derive(Clone, Debug)]
pub enum Undo {
    /// `undo "none"`: there is nothing to take back.
    None,
    /// `undo { command … }`
    Command(Vec<Template>),
}

impl Step {
    /// Whether the step only makes files in the workspace: a `run` with `inputs` and without
    /// `aws`, `environment`, `probe` and `undo`. (In protected environments secrets and `inherit`
    /// end that too: see [`Step::is_deploying`].)
    #[must_use]
    pub fn makes_files(&self) -> bool {
        let c = &self.common;
        self.kind.nature == Nature::Program
            && c.inputs.is_some()
            && !c.aws
            && c.environment.is_none()
            && c.probe.is_none()
            && c.undo.is_none()
    }

    /// Whether the step changes something outside the workspace, as a gate sees it.
    #[must_use]
    pub fn is_deploying(&self, protected: bool) -> bool {
        match self.kind.nature {
            Nature::Gate | Nature::Check => false,
            Nature::Deploying | Nature::Infrastructure => true,
            Nature::Program => !self.makes_files() || (protected && self.is_private()),
        }
    }

    /// Whether it takes another flow back inside the run.
    #[must_use]
    pub fn is_rollback(&self) -> bool {
        self.kind.name == ROLLBACK
    }

    /// Whether it sees secrets or variables of flow's own environment.
    #[must_use]
    pub fn is_private(&self) -> bool {
        use super::template::Reference;
        let secret = |t: &Template| t.references().iter().any(|r| matches!(r.value, Reference::Secret(_)));
        !self.common.inherit.is_empty()
            || !self.common.files.is_empty()
            || self.common.env.iter().any(|(_, value)| secret(value))
            || self.settings.values().into_iter().any(secret)
    }
}

impl Step {
    /// Every value of the step in which a reference can stand, conditions included.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        let mut all = self.values();
        all.extend(self.common.when.iter().flat_map(|condition| condition.expr.templates()));
        all
    }

    /// Every value of the step in which a reference can stand, without conditions.
    #[must_use]
    pub fn values(&self) -> Vec<&Template> {
        let c = &self.common;
        let mut all = self.settings.values();
        all.extend(c.env.iter().chain(&c.files).map(|(_, value)| value));
        all.extend(c.environment.as_ref());
        all.extend(c.inputs.iter().flat_map(|inputs| inputs.globs.iter().chain(&inputs.exclude)));
        all.extend(&c.outputs);
        all.extend(c.tools.iter().filter_map(|tool| tool.version_from.as_ref()));
        all.extend(c.probe.iter().flatten());
        if let Some(Undo::Command(argv)) = &c.undo {
            all.extend(argv);
        }
        all
    }
}
