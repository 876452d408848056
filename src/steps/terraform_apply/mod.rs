//! `terraform-apply`: what a Terraform configuration describes.
//!
//! The plan is Terraform's own, read as JSON from a plan file that nobody else
//! can read and that is gone afterwards. The effect applies exactly the file
//! whose preview was compared with the approved one. Terraform prints sensitive
//! values in the clear in both plan and output JSON: they are hidden here,
//! before anything is shown.
//!
//! The data folder (`.terraform`) is flow's own, one for each environment: what
//! a person has initialised in the checkout is never pointed elsewhere.

mod apply;
mod back;
mod events;
mod reconcile;
mod record;
mod session;
mod show;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use self::apply::{Apply, KeepSources};
use self::record::State;
use self::session::Session;
use self::show::Shown;
use super::infra::settings::{DESTROY, DIR, POLICY, PREPARE, PROGRAM, PROTECT, VERSION};
use super::infra::{Common, Sources, Workplace};
use super::{Attributes, Back, Context, Done, Failure, Kind, Open, Proposal, Settled, Step};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready, known};
use crate::model::value::{Outputs, Value};

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "terraform-apply",
        about: "Creates or changes what a Terraform configuration describes.",
        settings: &[
            DIR,
            Setting::new("workspace", Shape::Text, "The workspace; the default one without it.").target(),
            Setting::new("var-file", Shape::Texts, "Files of variables, relative to the project root."),
            Setting::new("var", Shape::Map, "Variables; they count more than those of files.").secret(),
            Setting::new("backend-config", Shape::Map, "Settings of the backend that its block leaves open."),
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

/// A `terraform-apply` step, read.
#[derive(Clone, Debug)]
struct Terraform {
    common: Common,
    workspace: Option<String>,
    var_files: Vec<String>,
    vars: BTreeMap<String, Value>,
    backend: BTreeMap<String, String>,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let mut vars = BTreeMap::new();
    for (name, field) in ready.map("var") {
        vars.insert(name.clone(), known("var", field)?.clone());
    }
    let mut backend = BTreeMap::new();
    for (name, field) in ready.map("backend-config") {
        let text = known("backend-config", field)?.as_text();
        let secret =
            || Unready::Invalid { setting: "backend-config", why: "a secret cannot stand here".to_owned() };
        backend.insert(name.clone(), text.ok_or_else(secret)?);
    }
    Ok(Box::new(Terraform {
        common: Common::read(ready, attributes)?,
        workspace: ready.opt_text("workspace")?,
        var_files: ready.texts("var-file")?,
        vars,
        backend,
    }))
}

#[async_trait]
impl Step for Terraform {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let session = Session::open(self, Workplace::here(cx), cx).await?;
        let mut more = session.local_modules()?;
        more.extend(self.var_files.iter().cloned());
        let sources = Sources::of(&self.common, &more, cx).await?;
        let inputs = sources.digests();
        let seen = self.look(session, cx).await?;
        let (baseline, warnings) = (seen.baseline(self), seen.warnings(cx));
        let standing = seen.standing(cx);
        let (name, there) = sources.kept(cx).await?;
        let state = State::of(self, Some(name), &seen.session.facts(), cx);
        let mut proposal = seen.shown.preview.proposal();
        proposal.subject = self.subject();
        proposal.outputs = seen.shown.outputs.clone();
        proposal.warnings.extend(warnings);
        let proposal = Proposal { baseline, inputs, standing, ..proposal };
        if !seen.shown.preview.is_empty() {
            return Ok(proposal.with(Apply { seen, sources: Some(sources), then: state }));
        }
        let summary = format!("{} as described", count_resources(seen.shown.resources));
        let done = Done { summary: summary.clone(), outputs: seen.shown.outputs, receipt: json!(state) };
        let proposal =
            Proposal { summary, receipt: done.receipt.clone(), standing: done.receipt.clone(), ..proposal };
        Ok(if there { proposal } else { proposal.with(KeepSources { sources, done }) })
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        let session = Session::open(self, Workplace::here(cx), cx).await?;
        if let Some(ambiguous) = reconcile::lost(open, &session, cx).await? {
            return Ok(ambiguous);
        }
        drop(session);
        reconcile::by_planning(self, cx).await
    }
}

/// What Terraform says, and the session in which it said it.
struct Seen {
    session: Session,
    shown: Shown,
    /// The plan file; it goes with the session.
    file: String,
    /// Terraform's own warnings.
    said: Vec<String>,
}

impl Terraform {
    /// Asks Terraform what it would do; refuses what may not be done.
    async fn look(&self, mut session: Session, cx: &Context) -> Result<Seen, Failure> {
        let planned = session.plan(self, cx).await?;
        let json = session.show(&planned.file, cx).await?;
        let shown = Shown::read(&json, &cx.sealer)?;
        cx.world.masker.learn(shown.outputs.values().filter_map(|value| match value {
            Value::Secret(secret) => Some(secret),
            _ => None,
        }));
        shown.preview.guard(&self.common.protect)?;
        self.common.judge(&show::hidden(&json), cx).await?;
        Ok(Seen { session, shown, file: planned.file, said: planned.warnings })
    }

    /// `infra, workspace blue`
    fn subject(&self) -> String {
        match &self.workspace {
            Some(workspace) => format!("{}, workspace {workspace}", self.common.dir),
            None => self.common.dir.clone(),
        }
    }
}

impl Seen {
    /// What was observed: the digest of the preview is in it.
    fn baseline(&self, step: &Terraform) -> Json {
        json!({
            "program": self.session.facts(),
            "workspace": step.workspace.as_deref().unwrap_or("default"),
            "changes": self.shown.preview.fact(),
        })
    }

    fn warnings(&self, cx: &Context) -> Vec<String> {
        let mut warnings = self.said.clone();
        let shared = !cx.world.store.path("").starts_with(cx.world.files.root()) || cx.world.host.is_ci();
        if self.session.is_local() && (shared || cx.cloud.target().protected) {
            warnings.push(
                "its state lies on this machine only: nobody else sees it, and it goes with the checkout; write a \
                 backend block"
                    .to_owned(),
            );
        }
        warnings
    }

    /// What stood before, as far as a release or the state says.
    fn standing(&self, cx: &Context) -> Json {
        match &cx.recorded {
            Some(recorded) => recorded.receipt.clone(),
            None if self.shown.managed_before => json!({ "dir": "", "sources": null }),
            None => Json::Null,
        }
    }
}

/// `1 resource is`, `3 resources are`
fn count_resources(number: usize) -> String {
    let noun = crate::model::units::count(number, "resource");
    format!("{noun} {}", if number == 1 { "is" } else { "are" })
}

/// The outputs that Terraform's JSON holds; sensitive ones are secrets.
fn outputs(json: &Json) -> Outputs {
    let Some(object) = json.as_object() else { return Outputs::new() };
    let known = object.iter().filter_map(|(name, output)| Some((name, output, output.get("value")?)));
    known
        .map(|(name, output, value)| {
            let sensitive = output["sensitive"].as_bool().unwrap_or(true);
            let value = if sensitive { show::as_secret(value) } else { Value::from_json(value) };
            (name.clone(), value)
        })
        .collect()
}
