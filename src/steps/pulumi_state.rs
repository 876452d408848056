//! `pulumi-state`: an older state of a stack put back in place.
//!
//! A state is what Pulumi believes to be there. Importing another one changes no
//! resource: what the program would do about the difference is previewed right
//! afterwards and shown. Somebody has to agree in any environment.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::back::{Back, Stays, read};
use super::infra::settings::{DIR, PROGRAM};
use super::infra::{
    Common, Op, Preview, Protect, ResourceChange, Workplace, canonical, keep_bytes, kept_bytes,
};
use super::program::{not_yet, unknown_env};
use super::pulumi_up::{BACKEND, CONFIG, Pulumi, STACK, Session, Snapshot};
use super::{Attributes, Context, Done, Effect, Failure, Kind, Proposal, Step, Way};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames, Rule};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::units::short_digest;
use crate::model::value::{Outputs, Value};
use crate::world::files::digest;

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "pulumi-state",
        about: "Puts an older state of a Pulumi stack in place.",
        settings: &[
            STACK,
            BACKEND,
            Setting::new(
                "version",
                Shape::Text,
                "Which one: the digest of a state that flow kept before an apply, or its beginning; a number where \
                 the backend keeps versions.",
            ),
            Setting::new("file", Shape::Path { reads: true }, "A state as pulumi stack export writes it."),
            CONFIG,
            DIR,
            PROGRAM,
        ],
        rules: &[Rule::OneOf(&["version", "file"])],
        outputs: OutputNames::Fixed(&["before", "state"]),
        nature: Nature::Infrastructure,
        aws: true,
        repeatable: false,
    },
    make,
    back: Back::To(back),
};

/// Where the state comes from.
#[derive(Clone, Debug)]
enum Which {
    /// Kept by flow.
    Kept(String),
    /// Kept by the backend.
    Number(String),
    File(String),
}

#[derive(Debug)]
struct PulumiState {
    stack: Pulumi,
    which: Which,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let common = Common {
        dir: ready.opt_text("dir")?.unwrap_or_else(|| ".".to_owned()),
        version: None,
        program: ready.texts("program")?,
        prepare: None,
        policy: None,
        destroy: false,
        protect: Protect::new(Vec::new()),
        attributes: Common::attributes(attributes),
    };
    let which = match (ready.opt_text("version")?, ready.opt_text("file")?) {
        // A digest of digits alone is longer than any number of a version.
        (Some(version), _) if version.len() < 10 && version.bytes().all(|byte| byte.is_ascii_digit()) => {
            Which::Number(version)
        }
        (Some(version), _) => Which::Kept(version),
        (None, file) => Which::File(file.unwrap_or_default()),
    };
    Ok(Box::new(PulumiState { stack: Pulumi::of(ready, common)?, which }))
}

#[async_trait]
impl Step for PulumiState {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        if let Some(step) = unknown_env(&self.stack.common.attributes) {
            return Err(not_yet(step));
        }
        let session = Session::open(&self.stack, Workplace::here(cx), cx).await?;
        let Some(now) = session.snapshot(cx).await? else { return Err(session.no_stack(cx).await) };
        let text = self.wanted(&session, cx).await?;
        let wanted = Snapshot::read(text)?;
        let name = &self.stack.stack;
        let preview = Preview::new(differences(&now, &wanted));
        let facts =
            |state: &Snapshot| short_digest(&digest(canonical(&json!(state.known())).to_string().as_bytes()));
        let baseline = json!({ "stack": name, "state": facts(&now), "wanted": facts(&wanted) });
        if preview.is_empty() && !now.is_pending() {
            let state = short_digest(&digest(now.text.as_bytes()));
            let outputs = outputs(&state, &state);
            return Ok(Proposal { baseline, ..Proposal::up_to_date("the state is that one", outputs) });
        }
        let mut changes: Vec<Change> = preview.changes().iter().map(shown).collect();
        if now.is_pending() {
            changes.push(Change::new("pending operations", "there".to_owned(), None));
        }
        let warning = "this changes what Pulumi believes to be there, and no resource: the next apply acts on the difference";
        let proposal = Proposal {
            subject: name.clone(),
            changes,
            warnings: vec![warning.to_owned()],
            reversible: Reversible::Manual,
            baseline,
            ..Proposal::new(Action::Update, format!("import a state of {}", now_and_then(&now, &wanted)))
        };
        Ok(proposal.with(Import { stack: self.stack.clone(), session, now, wanted }))
    }
}

/// `48 resources in place of 50`
fn now_and_then(now: &Snapshot, wanted: &Snapshot) -> String {
    let number = crate::model::units::count(wanted.number(), "resource");
    format!("{number} in place of {}", now.number())
}

/// A difference, as the plan shows it: nothing is made or deleted.
fn shown(change: &ResourceChange) -> Change {
    let known = || Some("known".to_owned());
    match change.op {
        Op::Import => Change::new(&change.id, None, known()),
        Op::Forget => Change::new(&change.id, known(), None),
        _ => Change::new(&change.id, known(), Some("as it was then".to_owned())),
    }
}

/// What one state knows and the other does not.
fn differences(now: &Snapshot, wanted: &Snapshot) -> Vec<ResourceChange> {
    let (now, wanted) = (now.known(), wanted.known());
    let names: BTreeSet<&String> = now.keys().chain(wanted.keys()).collect();
    let mut all = Vec::new();
    for name in names {
        let op = match (now.get(name), wanted.get(name)) {
            (Some(now), Some(then)) if now == then => continue,
            (Some(_), Some(_)) => Op::Update,
            (Some(_), None) => Op::Forget,
            (None, _) => Op::Import,
        };
        all.push(ResourceChange::new(name.clone(), String::new(), op));
    }
    all
}

impl PulumiState {
    /// The text of the state that is wanted.
    async fn wanted(&self, session: &Session, cx: &Context) -> Result<String, Failure> {
        let bytes = match &self.which {
            Which::Number(number) => return session.version(number, cx).await,
            Which::File(path) => cx.world.files.read(&cx.world.files.locate(path)?)?,
            Which::Kept(start) => {
                let names = cx.world.store.list("sources")?;
                let mut found = names.iter().filter(|name| name.starts_with(start.as_str()));
                let lost = |why: &str| {
                    Failure::new(format!("{why} state {start} in the store"))
                        .help("flow releases --json names, for each release, the state before it")
                };
                let name = match (found.next(), found.next()) {
                    (Some(name), None) => name,
                    (Some(_), Some(_)) => return Err(lost("there is more than one")),
                    (None, _) => return Err(lost("there is no")),
                };
                kept_bytes(&cx.world.store, name)?.ok_or_else(|| lost("there is no sound"))?
            }
        };
        String::from_utf8(bytes).map_err(|_| Failure::new("this is no state of Pulumi: it is not text"))
    }
}

struct Import {
    stack: Pulumi,
    session: Session,
    now: Snapshot,
    wanted: Snapshot,
}

#[async_trait]
impl Effect for Import {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let before = keep_bytes(&cx.world.store, self.now.text.as_bytes())?;
        let state = keep_bytes(&cx.world.store, self.wanted.text.as_bytes())?;
        cx.feed
            .note("importing", json!({ "stack": self.stack.stack, "before": before, "state": state }))
            .await?;
        self.session.import(self.wanted.text.as_bytes(), cx).await?;
        // What it means is said at once; that the program does not run is no reason to hide the import.
        let meaning = match self.meaning(cx).await {
            Ok(preview) => format!("the program would now: {}", preview.summary()),
            Err(failure) => format!("the program cannot be previewed: {}", failure.record.reason),
        };
        let receipt = json!({ "stack": self.stack.stack, "before": before, "state": state });
        let summary = format!("imported {}; {meaning}", short_digest(&state));
        Ok(Done { summary, outputs: outputs(&before, &state), receipt })
    }
}

impl Import {
    async fn meaning(&self, cx: &Context) -> Result<Preview, Failure> {
        self.session.configure(&self.stack.config, cx).await?;
        let said = self.session.preview(false, &[], cx).await?;
        let preview = said.read(&cx.sealer);
        for change in preview.changes() {
            cx.feed.output(change.shown().to_string()).await;
        }
        Ok(preview)
    }
}

fn outputs(before: &str, state: &str) -> Outputs {
    BTreeMap::from([("before".to_owned(), Value::text(before)), ("state".to_owned(), Value::text(state))])
}

/// What is recorded of an import.
#[derive(Debug, serde::Deserialize)]
struct Receipt {
    stack: String,
    before: String,
}

/// In a rollback the state stays, and the one before it is named.
fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    if way.now.is_null() {
        return Ok(Box::new(Stays::new("not there, as it was", Json::Null)));
    }
    let now: Receipt = read(&way.now)?;
    let warning = format!(
        "the state of {} stays; the one before it is kept: pulumi-state with version \"{}\"",
        now.stack,
        short_digest(&now.before)
    );
    Ok(Box::new(Stays::new("stays", way.now.clone()).warn(warning, Reversible::Manual)))
}
