//! `pulumi-up`: a stack of a Pulumi program.
//!
//! The plan is the CLI's own preview, in which names of what changes are shown
//! and values never. The effect keeps the sources and the state as it was, and
//! applies exactly the update plan that this preview saved: the CLI refuses
//! whatever the program says otherwise meanwhile.
//!
//! Every failure of the CLI is the same exit code; [`fault`] tells them apart. A
//! CLI that is killed while it creates something leaves a pending operation, of
//! which neither the next preview nor the next `up` says a word before the thing
//! is there twice: the state is therefore looked at before each of them.
//!
//! The checkout stays as it is: the stack's settings are copied, and what the
//! step adds to them is set in the copy.

mod apply;
mod back;
mod fault;
mod preview;
mod record;
mod session;
mod snapshot;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use self::apply::{Destroy, KeepSource, Up};
use self::record::State;
pub(super) use self::session::Session;
pub(super) use self::snapshot::Snapshot;
use super::infra::settings::{DESTROY, DIR, POLICY, PREPARE, PROGRAM, PROTECT, VERSION};
use super::infra::{Common, Op, Preview, ResourceChange, Sources, Workplace, refuses_unasked};
use super::program::{not_yet, unknown_env};
use super::{Attributes, Back, Context, Done, Failure, Kind, Open, Proposal, Settled, Step};
use crate::model::change::{Action, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::secret::Secret;
use crate::model::settings::{Ready, Setting, Shape, Unready, known};
use crate::model::units::{count, short_digest};
use crate::model::value::Value;

/// Where the state lies and of which stack: shared with `pulumi-state`.
pub(super) const STACK: Setting = Setting::new("stack", Shape::Text, "The stack's name.").required().target();
/// `backend "s3://…"`
pub(super) const BACKEND: Setting = Setting::new(
    "backend",
    Shape::Text,
    "Where the state lies, as pulumi login takes it: s3://bucket, file://folder; else as the program says.",
);
/// `config K=V …`
pub(super) const CONFIG: Setting = Setting::new(
    "config",
    Shape::Map,
    "Values of the stack's configuration besides those in its file; a secret reaches the program by its standard input.",
)
.secret();

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "pulumi-up",
        about: "Creates or updates a stack of a Pulumi program.",
        settings: &[
            STACK,
            BACKEND,
            Setting::new(
                "create-stack",
                Shape::Bool,
                "A stack that does not exist is made; else it is an error.",
            ),
            CONFIG,
            Setting::new("refresh", Shape::Bool, "What the provider says is read first, in plan and apply."),
            Setting::new(
                "target",
                Shape::Texts,
                "Only these resources, by URN; * stands for a part of one, ** for any number: \"**:ecr:Repository::*\".",
            ),
            DIR,
            VERSION,
            PROGRAM,
            PREPARE,
            POLICY,
            DESTROY,
            PROTECT,
        ],
        rules: &[],
        outputs: OutputNames::Open,
        nature: Nature::Infrastructure,
        aws: true,
        repeatable: false,
    },
    make,
    back: Back::To(back::back),
};

/// A value of the stack's configuration.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Plain(String),
    Secret(Secret),
}

/// A step, read.
#[derive(Clone, Debug)]
pub(super) struct Pulumi {
    pub stack: String,
    pub backend: Option<String>,
    pub create_stack: bool,
    pub config: BTreeMap<String, Given>,
    pub refresh: bool,
    pub targets: Vec<String>,
    pub common: Common,
}

impl Pulumi {
    fn read(ready: &Ready, attributes: &Attributes) -> Result<Self, Unready> {
        let own = Self::of(ready, Common::read(ready, attributes)?)?;
        Ok(Self {
            create_stack: ready.flag("create-stack")?,
            refresh: ready.flag("refresh")?,
            targets: ready.texts("target")?,
            ..own
        })
    }

    /// Which stack, where, and its configuration.
    pub(super) fn of(ready: &Ready, common: Common) -> Result<Self, Unready> {
        let mut config = BTreeMap::new();
        for (name, field) in ready.map("config") {
            let given = match known("config", field)? {
                Value::Secret(secret) => Given::Secret(secret.clone()),
                value => Given::Plain(value.as_text().ok_or_else(|| Unready::Invalid {
                    setting: "config",
                    why: format!("{name} is a list that holds a secret"),
                })?),
            };
            config.insert(name.clone(), given);
        }
        Ok(Self {
            stack: ready.text("stack")?,
            backend: ready.opt_text("backend")?,
            create_stack: false,
            config,
            refresh: false,
            targets: Vec::new(),
            common,
        })
    }
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    Ok(Box::new(Pulumi::read(ready, attributes)?))
}

#[async_trait]
impl Step for Pulumi {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        if let Some(step) = unknown_env(&self.common.attributes) {
            return Err(not_yet(step));
        }
        let sources = Sources::of(&self.common, &[], cx).await?;
        Box::pin(self.propose(Origin::Checkout(sources), Workplace::here(cx), cx)).await
    }

    async fn inputs(&self, cx: &Context) -> Result<Option<BTreeMap<String, String>>, Failure> {
        Ok(Some(Sources::of(&self.common, &[], cx).await?.digests()))
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        let sources = Sources::of(&self.common, &[], cx).await?;
        Box::pin(self.settle(open, Origin::Checkout(sources), Workplace::here(cx), cx)).await
    }
}

/// Where the program comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Checkout(Sources),
    /// The kept sources of that digest.
    Release(String),
}

impl Pulumi {
    /// What the program would change, and the effect that changes exactly that.
    async fn propose(&self, origin: Origin, workplace: Workplace, cx: &Context) -> Result<Proposal, Failure> {
        self.common.prepare(&workplace, cx).await?;
        let mut session = Session::open(self, workplace, cx).await?;
        let before = session.snapshot(cx).await?;
        match &before {
            Some(snapshot) => snapshot.refuse_pending(&session)?,
            None if self.create_stack && !self.common.destroy => session.imagine(cx).await?,
            None if self.common.destroy => {
                return Ok(Proposal::up_to_date("there is no such stack", BTreeMap::new()));
            }
            None => return Err(session.no_stack(cx).await),
        }
        let inputs = match &origin {
            Origin::Checkout(sources) => sources.digests(),
            Origin::Release(_) => BTreeMap::new(),
        };
        let standing = State::standing(self, before.is_some(), cx);
        if self.common.destroy {
            let proposal = self.propose_nothing_left(session, before.unwrap_or_default(), cx).await?;
            return Ok(Proposal { inputs, standing, ..proposal });
        }
        session.configure(&self.config, cx).await?;
        let said = session.preview(self.refresh, &self.targets, cx).await?;
        let preview = said.read(&cx.sealer);
        preview.guard(&self.common.protect)?;
        self.common.judge(&said.json, cx).await?;
        let baseline = self.baseline(&preview, before.is_some());
        let mut proposal = preview.proposal();
        proposal.warnings.extend(said.warnings);
        proposal.warnings.extend(images_that_go_back(preview.changes()));
        if matches!(origin, Origin::Release(_)) {
            // What takes something away needs somebody's word.
            proposal.action = refuses_unasked(proposal.action, &preview);
        }
        let subject = self.stack.clone();
        let mut proposal = Proposal { subject, baseline, inputs, standing, ..proposal };
        if let (true, Some(snapshot)) = (preview.is_empty(), &before) {
            let outputs = session.outputs(snapshot, cx).await?;
            let there = count(snapshot.number(), "resource");
            let (sources, is_kept) = origin.sources(cx).await?;
            let receipt = State::of(self, Some(sources)).to_json();
            let summary = format!("{there} as they should be");
            let done = Done { summary: summary.clone(), outputs: outputs.clone(), receipt: receipt.clone() };
            proposal.summary = summary;
            proposal.outputs = outputs;
            proposal.receipt = receipt;
            return Ok(match origin {
                Origin::Checkout(sources) if !is_kept => proposal.with(KeepSource { sources, done }),
                _ => proposal,
            });
        }
        let effect = Up { step: self.clone(), origin, session, before, plan: said.plan };
        Ok(proposal.with(effect))
    }

    /// Everything that the state knows goes.
    async fn propose_nothing_left(
        &self,
        session: Session,
        before: Snapshot,
        cx: &Context,
    ) -> Result<Proposal, Failure> {
        let preview = Preview::new(before.deletions());
        preview.guard(&self.common.protect)?;
        self.common.judge(&json!({ "destroy": before.urns() }), cx).await?;
        let proposal = Proposal { baseline: self.baseline(&preview, true), ..preview.proposal() };
        if preview.is_empty() {
            return Ok(proposal);
        }
        let subject = self.stack.clone();
        let effect = Destroy { step: self.clone(), session, before };
        Ok(Proposal { subject, reversible: Reversible::Manual, ..proposal }.with(effect))
    }

    /// What an approval holds on to: what happens to each resource, and with what values.
    fn baseline(&self, preview: &Preview, exists: bool) -> Json {
        let sealed = |change: &ResourceChange| {
            let word = serde_json::to_value(change.op).unwrap_or_default();
            format!("{} ({})", word.as_str().unwrap_or_default(), short_digest(&change.values))
        };
        let changes: BTreeMap<&str, String> =
            preview.changes().iter().map(|change| (change.id.as_str(), sealed(change))).collect();
        json!({
            "stack": if exists { json!(self.stack) } else { Json::Null },
            "preview": preview.fact(),
            "resources": changes,
        })
    }

    /// Whether an apply that was cut off came to its end.
    async fn settle(
        &self,
        open: &Open,
        origin: Origin,
        workplace: Workplace,
        cx: &Context,
    ) -> Result<Settled, Failure> {
        // Nothing is applied before that is written down.
        if !open.notes.iter().any(|(key, _)| key == apply::APPLYING) {
            return Ok(Settled::NotDone);
        }
        let session = Session::open(self, workplace, cx).await?;
        let Some(snapshot) = session.snapshot(cx).await? else { return Ok(Settled::NotDone) };
        match snapshot.refuse_pending(&session) {
            Ok(()) => {}
            Err(failure) => {
                let lines = std::iter::once(failure.record.reason).chain(failure.record.details);
                let help = failure.record.help.into_iter();
                return Ok(Settled::Ambiguous(lines.chain(help).collect::<Vec<_>>().join("; ")));
            }
        }
        let workplace = session.close();
        let Proposal { action, summary, outputs, receipt, .. } =
            Box::pin(self.propose(origin, workplace, cx)).await?;
        Ok(match action {
            Action::UpToDate => Settled::Done(Done { summary, outputs, receipt }),
            _ => Settled::NotDone,
        })
    }
}

impl Origin {
    /// The digest of the sources, and whether they are kept already.
    async fn sources(&self, cx: &Context) -> Result<(String, bool), Failure> {
        match self {
            Self::Checkout(sources) => sources.kept(cx).await,
            Self::Release(digest) => Ok((digest.clone(), true)),
        }
    }

    /// Keeps them, and says their digest.
    async fn keep(&self, cx: &Context) -> Result<String, Failure> {
        match self {
            Self::Checkout(sources) => sources.keep(cx).await,
            Self::Release(digest) => Ok(digest.clone()),
        }
    }
}

/// A program that owns a service's task definition puts its own image back with every change of it.
fn images_that_go_back(changes: &[ResourceChange]) -> Option<String> {
    let is = |change: &ResourceChange, name: &str| {
        change.kind.contains("ecs") && change.kind.rsplit(':').next() == Some(name)
    };
    let goes_back = |change: &&ResourceChange| match change.op {
        Op::Update | Op::Replace => {
            is(change, "TaskDefinition")
                || (is(change, "Service") && change.keys.iter().any(|key| key.ends_with("taskDefinition")))
        }
        _ => false,
    };
    let ids: Vec<&str> = changes.iter().filter(goes_back).map(|change| change.id.as_str()).collect();
    (!ids.is_empty()).then(|| {
        format!(
            "this touches what an ecs-deploy step rolls: with {} services go back to the images of the Pulumi \
             program until they are deployed again; ignoreChanges on the service's task definition keeps them",
            ids.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_definition_that_is_there_takes_images_back() {
        let change = |kind: &str, op, keys: &[&str]| ResourceChange {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..ResourceChange::new(format!("{kind}::api"), kind, op)
        };
        let (task, service) = ("aws:ecs/taskDefinition:TaskDefinition", "aws:ecs/service:Service");
        for (changed, warns) in [
            (change(task, Op::Create, &[]), false),
            (change(task, Op::Replace, &["containerDefinitions"]), true),
            (change("sandbox:ecs:TaskDefinition", Op::Update, &[]), true),
            (change(service, Op::Update, &["desiredCount"]), false),
            (change(service, Op::Update, &["taskDefinition"]), true),
            (change(service, Op::Update, &["request.taskDefinition"]), true),
            (change("aws:s3/bucket:Bucket", Op::Update, &["tags"]), false),
        ] {
            assert_eq!(images_that_go_back(std::slice::from_ref(&changed)).is_some(), warns, "{changed:?}");
        }
    }
}
