//! `tool "command"`: programs of the project list and apply; flow reads the
//! files only to say what they would break.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::json;

use super::lint::Dialect;
use super::state::{Migration, State};
use super::{Phase, files, outputs};
use crate::model::change::{Action, Change, Reversible};
use crate::model::secret::Secret;
use crate::model::units::count;
use crate::steps::program::{Surroundings, harmless, judge, not_yet, program, unknown_env};
use crate::steps::{Attributes, Context, Done, Effect, Failure, Open, Proposal, Settled, Step};
use crate::world::process::{Program, Tail, capture, run, show_argv};

/// A `migrate` step with another tool, read.
#[derive(Clone, Debug)]
pub(super) struct CommandTool {
    pub dir: String,
    pub url: Option<Secret>,
    pub list: Option<Vec<String>>,
    pub apply: Vec<String>,
    pub attributes: Attributes,
}

/// A list of pending files is not longer.
const LIST_LIMIT: usize = 1024 * 1024;

/// How many of the last lines a failure shows.
const SHOWN_LINES: usize = 10;

#[async_trait]
impl Step for CommandTool {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        if let Some(step) = unknown_env(&self.attributes) {
            return Err(not_yet(step));
        }
        let Some(pending) = self.pending(cx).await? else {
            let mut proposal = Proposal::new(Action::Update, show_argv(&self.apply));
            proposal.reversible = Reversible::ForwardOnly;
            let then = recorded(cx);
            proposal.standing = then.to_json();
            return Ok(proposal.with(ApplyCommand { tool: self.clone(), pending: Vec::new(), then }));
        };
        let names: Vec<&str> = pending.iter().map(String::as_str).collect();
        let standing = recorded(cx);
        let inputs = self.inputs(cx)?;
        let baseline = json!({ "pending": names });
        if names.is_empty() {
            let receipt = standing.to_json();
            let proposal = Proposal::up_to_date("nothing is pending", outputs(&[], None));
            return Ok(Proposal { baseline, inputs, receipt, ..proposal });
        }
        let mut proposal = Proposal::new(Action::Update, count(names.len(), "migration"));
        proposal.inputs = inputs;
        proposal.standing = standing.to_json();
        proposal.subject = names.join(", ");
        proposal.reversible = Reversible::ForwardOnly;
        proposal.baseline = baseline;
        proposal.outputs = outputs(&names, None);
        // Other tools name their files otherwise: those that flow can read are judged.
        let read =
            files::read(&cx.world.files, &self.dir, Dialect::of(self.url.as_ref())).unwrap_or_default();
        let mut then = standing;
        for name in &names {
            let file = read.iter().find(|file| file.name == *name);
            let phase = file.map_or("not read", |file| file.phase.as_str());
            proposal.changes.push(Change::new(*name, None, phase.to_owned()));
            let phase = file.map(|file| file.phase);
            then.migrations.push(Migration { version: None, name: Some((*name).to_owned()), phase });
            let risky = file.filter(|file| file.phase == Phase::Contract);
            for (file, finding) in risky.iter().flat_map(|file| file.findings.iter().map(move |f| (file, f)))
            {
                proposal.warnings.push(format!("{}: {}", file.line(finding.at), finding.what));
            }
        }
        Ok(proposal.with(ApplyCommand { tool: self.clone(), pending: pending.clone(), then }))
    }

    /// Only when nothing is pending any more it is sure how far the tool came.
    async fn reconcile(&self, _: &Open, cx: &Context) -> Result<Settled, Failure> {
        let shown = show_argv(&self.apply);
        let Some(pending) = self.pending(cx).await? else {
            return Ok(Settled::Ambiguous(format!(
                "nothing tells how far {shown} came: the step has no list"
            )));
        };
        if !pending.is_empty() {
            let why =
                format!("{shown} was cut off, and {} pending: {}", are(pending.len()), pending.join(", "));
            return Ok(Settled::Ambiguous(why));
        }
        let Proposal { summary, outputs, receipt, .. } = self.plan(cx).await?;
        Ok(Settled::Done(Done { summary, outputs, receipt }))
    }
}

/// What flow saw the tool apply so far.
fn recorded(cx: &Context) -> State {
    let receipt = cx.recorded.as_ref().map(|recorded| recorded.receipt.clone()).unwrap_or_default();
    serde_json::from_value(receipt).unwrap_or_default()
}

/// `1 migration is`, `2 migrations are`
fn are(number: usize) -> String {
    format!("{} {}", count(number, "migration"), if number == 1 { "is" } else { "are" })
}

impl CommandTool {
    /// Digests of what lies in the folder.
    fn inputs(&self, cx: &Context) -> Result<BTreeMap<String, String>, Failure> {
        let files = &cx.world.files;
        let mut inputs = BTreeMap::new();
        for path in files.list(&files.locate(&self.dir)?)? {
            if files.metadata(&path)?.is_some_and(|found| found.is_file()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                inputs.insert(format!("{}/{name}", self.dir.trim_end_matches('/')), files.digest(&path)?);
            }
        }
        Ok(inputs)
    }

    /// What the list prints; `None` without one.
    async fn pending(&self, cx: &Context) -> Result<Option<Vec<String>>, Failure> {
        let Some(list) = &self.list else { return Ok(None) };
        let surroundings = Surroundings::new(&self.attributes, cx).await?;
        let said = capture(&self.program(list, &surroundings, cx), &cx.cancel, LIST_LIMIT).await?;
        harmless(judge(said.ending, said.stderr))
            .map_err(|failure| failure.detail(format!("this was the list: {}", show_argv(list))))?;
        let text = String::from_utf8_lossy(&said.stdout);
        Ok(Some(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()))
    }

    fn program(&self, argv: &[String], surroundings: &Surroundings, cx: &Context) -> Program {
        let root = cx.world.files.root();
        let mut program =
            program(argv, root, surroundings.env.clone(), &self.attributes, cx).guarded(&cx.world.host);
        if let Some(url) = &self.url {
            cx.world.masker.learn([url]);
            program.env.insert("DATABASE_URL".to_owned(), url.expose().to_owned());
        }
        program
    }
}

struct ApplyCommand {
    tool: CommandTool,
    pending: Vec<String>,
    /// What stands afterwards.
    then: State,
}

#[async_trait]
impl Effect for ApplyCommand {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let surroundings = Surroundings::new(&self.tool.attributes, cx).await?;
        let program = self.tool.program(&self.tool.apply, &surroundings, cx);
        let mut tail = Tail::new(SHOWN_LINES, Some(cx.feed.clone()));
        let ending = run(&program, &cx.cancel, &cx.world.masker, &mut tail).await?;
        judge(ending, tail.into_lines())?;
        let names: Vec<&str> = self.pending.iter().map(String::as_str).collect();
        Ok(Done {
            summary: if names.is_empty() {
                show_argv(&self.tool.apply)
            } else {
                count(names.len(), "migration")
            },
            outputs: outputs(&names, None),
            receipt: self.then.to_json(),
        })
    }
}
