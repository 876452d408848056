//! What each step kind plans and does.
//!
//! A kind is one file and one line in [`KINDS`]. It gives a [`KindSpec`] (a
//! table that also feeds `flow check`, help and the manual) and makes a
//! [`Step`] from resolved settings. [`Step::plan`] reads the world and returns
//! a [`Proposal`]: what would change, and the [`Effect`] that would change it.
//! Only `exec` applies effects, after the intent is on disk.

pub mod approve;
pub mod attributes;
pub mod back;
pub mod cdk;
mod cfn;
pub mod cfn_deploy;
pub mod cloudfront_invalidate;
pub mod docker_build;
pub mod ecr_repository;
pub mod ecs;
pub mod ecs_deploy;
pub mod ecs_run;
pub mod failure;
mod http_check;
mod infra;
pub mod lambda;
mod lambda_deploy;
mod lambda_invoke;
mod lookup;
mod migrate;
mod notify;
mod program;
mod pulumi_state;
mod pulumi_up;
mod rds_restore;
pub mod reconcile;
mod rollback;
mod run;
mod s3_copy;
pub mod s3_sync;
pub mod sam_deploy;
#[cfg(test)]
mod sandbox;
mod terraform_apply;
#[cfg(test)]
pub(crate) mod testing;
mod wait;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::approve::{Answers, Gatekeeper};
pub use self::attributes::Attributes;
pub use self::back::{Back, Way, barred};
pub use self::failure::{Failure, FailureClass};
pub use self::reconcile::{Open, Settled};
use crate::event::Feed;
pub use crate::journal::releases::Recorded;
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::KindSpec;
use crate::model::names::{EnvName, FlowName, RunId, StepId};
use crate::model::settings::{Ready, Unready};
use crate::model::value::Outputs;
use crate::world::World;
use crate::world::aws::Cloud;
use crate::world::cancel::Cancel;
use crate::world::keyed::Sealer;

/// Makes a step from its settings, resolved, and its attributes. `Unready::After` when a setting
/// without which nothing can be said is known only after another step.
pub type Make = fn(&Ready, &Attributes) -> Result<Box<dyn Step>, Unready>;

/// A kind: its description and how its steps are made.
#[derive(Debug)]
pub struct Kind {
    /// Its table.
    pub spec: KindSpec,
    /// Reads resolved settings.
    pub make: Make,
    /// What its steps do in a rollback.
    pub back: Back,
}

/// Every kind, by name.
pub static KINDS: &[&Kind] = &[
    &approve::KIND,
    &cdk::bootstrap::KIND,
    &cdk::deploy::KIND,
    &cfn_deploy::KIND,
    &cloudfront_invalidate::KIND,
    &docker_build::KIND,
    &ecr_repository::KIND,
    &ecs_deploy::KIND,
    &ecs_run::KIND,
    &http_check::KIND,
    &lambda_deploy::KIND,
    &lambda_invoke::KIND,
    &lookup::KIND,
    &migrate::KIND,
    &notify::KIND,
    &rds_restore::KIND,
    &pulumi_state::KIND,
    &pulumi_up::KIND,
    &rollback::KIND,
    &run::KIND,
    &s3_copy::KIND,
    &s3_sync::KIND,
    &sam_deploy::KIND,
    &terraform_apply::KIND,
    &wait::KIND,
];

/// The kind of that name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.spec.name == name).copied()
}

/// Whether steps of a kind need a gate in every environment.
#[must_use]
pub fn is_always_gated(kind: &str) -> bool {
    kind == pulumi_state::KIND.spec.name
}

/// The tables of all kinds, for the reader and `flow check`.
#[must_use]
pub fn specs() -> Vec<&'static KindSpec> {
    KINDS.iter().map(|kind| &kind.spec).collect()
}

/// What a step may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// The step.
    pub id: StepId,
    /// Its flow.
    pub flow: FlowName,
    /// The run; absent while planning only.
    pub run: Option<RunId>,
    /// The machine and the project.
    pub world: World,
    /// The account the step acts in, verified.
    pub cloud: Arc<Cloud>,
    /// The accounts of the environments that settings of the run's steps name, verified: what is
    /// read there.
    pub elsewhere: Arc<BTreeMap<EnvName, Arc<Cloud>>>,
    /// What the environment's live release records of this step; absent when it records nothing.
    pub recorded: Option<Arc<Recorded>>,
    /// What the newest release of a run that succeeded records of it: differs from `recorded` after a
    /// run in which this step succeeded and a later one, which should have dealt with it, did not.
    pub settled: Option<Arc<Recorded>>,
    /// Where progress, output and notes go.
    pub feed: Feed,
    /// Whether the run is being stopped.
    pub cancel: Cancel,
    /// Who answers gates.
    pub answers: Answers,
    /// What a gate is judged by; empty for every other step.
    pub gatekeeper: Gatekeeper,
    /// For digests of values that not every reader of a record may see.
    pub sealer: Sealer,
    /// Where to write down which files its program uses; only `flow explain --audit` wants to know.
    pub trace: Option<PathBuf>,
}

impl Context {
    /// The account of an environment that a setting names.
    pub fn cloud_of(&self, environment: &EnvName) -> Result<Arc<Cloud>, Failure> {
        self.elsewhere.get(environment).map(Arc::clone).ok_or_else(|| {
            Failure::of(FailureClass::Refused, format!("the account of {environment} was not verified"))
                .help("name the environment by itself, or by a parameter: no step may decide which it is")
        })
    }
}

/// A step whose settings are known well enough to plan it.
#[async_trait]
pub trait Step: Debug + Send + Sync {
    /// What the flow says of the step today, without settings that refer to something without a
    /// value. Told before anything else to a step that returns to a recorded state, which may need
    /// secrets: those are recorded nowhere.
    fn equip(&mut self, _settings: &Ready, _attributes: &Attributes) {}

    /// Told before anything else to a step that a rollback does once more: what the same run did
    /// before does not count for it.
    fn once_more(&mut self) {}

    /// Reads the world and says what would change. Changes nothing there.
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure>;

    /// The same facts as [`Proposal::baseline`], for a step that cannot be planned yet because files
    /// or outputs it reads are still to be made: what stands in the world does not hang on them.
    /// `Null` where there is nothing to observe without them.
    async fn observe(&self, _cx: &Context) -> Result<serde_json::Value, Failure> {
        Ok(serde_json::Value::Null)
    }

    /// Digests of the local files it is made from, as far as they exist, by path relative to the
    /// project root: the same as [`Proposal::inputs`], for a step that cannot be planned yet. `None`
    /// where every file counts that its settings name.
    async fn inputs(&self, _cx: &Context) -> Result<Option<BTreeMap<String, String>>, Failure> {
        Ok(None)
    }

    /// Whether an effect was made that was announced and has no recorded end. Changes nothing. By
    /// default the world is asked once more what would change: right for whatever is described by
    /// how it should be, not by what to do.
    async fn reconcile(&self, _open: &Open, cx: &Context) -> Result<Settled, Failure> {
        let Proposal { action, summary, outputs, receipt, .. } = self.plan(cx).await?;
        Ok(match action {
            Action::UpToDate => Settled::Done(Done { summary, outputs, receipt }),
            _ => Settled::NotDone,
        })
    }
}

/// Something that changes the world, decided by [`Step::plan`].
#[async_trait]
pub trait Effect: Send {
    /// Makes it. Called once, after the intent is on disk.
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure>;
}

/// What a step would do.
pub struct Proposal {
    /// What sort of change.
    pub action: Action,
    /// In a few words: `build and push`, `roll 2 tasks`.
    pub summary: String,
    /// What it is about, in a few words at the right: `14 files under backend/api changed`,
    /// `shop-api:41 → :42`. May be empty.
    pub subject: String,
    /// Every difference.
    pub changes: Vec<Change>,
    /// What the operator should know before saying yes.
    pub warnings: Vec<String>,
    /// Whether it can be taken back.
    pub reversible: Reversible,
    /// What later steps can already refer to: all of them when up to date.
    pub outputs: Outputs,
    /// What was observed, for the plan's digest and for the check right before the effect: an object
    /// whose names and values an operator understands, since a refusal shows what differs.
    pub baseline: serde_json::Value,
    /// Digests of the local files it is made from, by path relative to the project root; a refusal
    /// names those that differ.
    pub inputs: BTreeMap<String, String>,
    /// The state that stands before the effect, as [`back`] defines it; `Null` when nothing stands.
    pub standing: serde_json::Value,
    /// The state that stands, for steps that are up to date.
    pub receipt: serde_json::Value,
    /// Why it cannot be done as things stand, unless an infrastructure step in front of it, which will
    /// run, takes away what is in the way: exports of a stack that another one still imports. Without
    /// such a step it is the step's failure.
    pub held: Option<Failure>,
    /// The change itself; `None` when there is nothing to do or something is not known yet. A step
    /// that is up to date may have one all the same: upkeep that changes nothing for anybody, such as
    /// a further tag on an image.
    pub effect: Option<Box<dyn Effect>>,
}

impl Proposal {
    /// Nothing to do; `summary` says what is there (`sha256:93ab04c1d2e7 is in the registry`).
    pub fn up_to_date(summary: impl Into<String>, outputs: Outputs) -> Self {
        Self { outputs, ..Self::new(Action::UpToDate, summary) }
    }

    /// A change without an effect yet; fill in the rest.
    pub fn new(action: Action, summary: impl Into<String>) -> Self {
        Self {
            action,
            summary: summary.into(),
            subject: String::new(),
            changes: Vec::new(),
            warnings: Vec::new(),
            reversible: Reversible::None,
            outputs: Outputs::new(),
            baseline: serde_json::Value::Null,
            inputs: BTreeMap::new(),
            standing: serde_json::Value::Null,
            receipt: serde_json::Value::Null,
            held: None,
            effect: None,
        }
    }

    /// With the effect that makes the change.
    #[must_use]
    pub fn with(mut self, effect: impl Effect + 'static) -> Self {
        self.effect = Some(Box::new(effect));
        self
    }
}

impl Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proposal")
            .field("action", &self.action)
            .field("summary", &self.summary)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

/// An effect that was made.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// What to show behind the step's name: `pushed sha256:11aa93f0b2c4`.
    pub summary: String,
    /// What later steps can refer to.
    pub outputs: Outputs,
    /// The state that stands now, as [`back`] defines it.
    pub receipt: serde_json::Value,
}
