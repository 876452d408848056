//! `flow explain FLOW STEP --env ENV`

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Done;
use super::failure::CliError;
use super::plan::look;
use super::selection::parameter;
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::model::names::{EnvName, FlowName, StepId};
use crate::plan::explain;
use crate::plan::graph::NodeId;
use crate::plan::observe::PlanFailure;
use crate::plan::prepare::{Prepared, Request};
use crate::plan::propose::NoProposal;
use crate::plan::selection::Typed;
use crate::report::{explain as told, out};
use crate::steps::Failure;
use crate::world::cancel::Canceller;
use crate::world::clock::Clock;

/// Say why a step that makes files would run, and what its key is made of
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The flow
    #[arg(value_name = "FLOW")]
    flow: String,

    /// The step, or one instance of it (bundle[web])
    #[arg(value_name = "STEP")]
    step: String,

    /// The environment; auto takes the one whose branch or tag matches the checkout
    #[arg(short, long, value_name = "ENV")]
    env: String,

    /// A parameter of the flow
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, String)>,

    /// Run the step under strace, and name the files and programs that it uses without declaring
    /// them; nothing of it is stored
    #[arg(long)]
    audit: bool,

    /// Every row
    #[arg(long)]
    all: bool,

    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Flow(&self.flow)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    block_on(async {
        let canceller = Arc::new(Canceller::new());
        // No run will record them.
        let _signals = Signals::listen(Arc::clone(&canceller));
        let cancel = canceller.view();
        let request = Request {
            flow: FlowName::new(&args.flow),
            environment: EnvName::new(&args.env),
            typed: Typed { only: vec![args.step.clone()], skip: Vec::new() },
            params: args.param.clone(),
            no_cache: false,
            untrusted: false,
            resumes: None,
            back: None,
            inside: BTreeMap::new(),
        };
        let (p, observed) = look(session, request, &cancel).await?;
        let mut explained = Vec::new();
        for id in chosen(&p, &args.step) {
            let step = p.graph.node(id).id.clone();
            let failed = |why: NoProposal| {
                let why = why.masked(&p.world.masker);
                CliError::Plan(vec![PlanFailure { step: step.clone(), why }])
            };
            if !p.graph.node(id).step.makes_files() {
                return Err(failed(Failure::new(NOT_CACHED).help(HELP).into()));
            }
            let one = explain::explain(&p, &observed, id, &cancel).await.map_err(failed)?;
            let found = if args.audit {
                check_strace(&p).map_err(|failure| failed(failure.into()))?;
                Some(explain::audit(&p, &observed, id, &cancel).await.map_err(failed)?)
            } else {
                None
            };
            explained.push((one, found));
        }
        let clean =
            |found: &crate::plan::audit::Undeclared| found.read.is_empty() && found.written.is_empty();
        let exit = if explained.iter().all(|(_, found)| found.as_ref().is_none_or(clean)) {
            Exit::Success
        } else {
            Exit::Failed
        };
        if args.json {
            out::json(&told::json(&explained));
            return Ok(exit);
        }
        let look = session.look();
        for (one, found) in &explained {
            out::lines(told::lines(&look, one, args.all, Clock.now()));
            out::lines(found.iter().flat_map(|found| told::audit(&look, found, args.all)));
        }
        Ok(exit)
    })
}

const NOT_CACHED: &str =
    "it does more than make files, so it has no key: it asks its provider each time, or always runs";
const HELP: &str = "a step with a key is a run with inputs, and without aws, environment, probe and undo";

/// The instances that were named.
fn chosen(p: &Prepared, typed: &str) -> Vec<NodeId> {
    let wanted = StepId::parse(typed);
    let matches = |id: &StepId| *id == wanted || (wanted.instance.is_empty() && id.name == wanted.name);
    p.graph
        .iter()
        .filter(|(id, node)| p.selection.contains(*id) && matches(&node.id))
        .map(|(id, _)| id)
        .collect()
}

fn check_strace(p: &Prepared) -> Result<(), Failure> {
    let path = p.world.host.var("PATH").unwrap_or_default();
    let found = path.split(':').filter(|folder| !folder.is_empty()).any(|folder| {
        let program = std::path::Path::new(folder).join("strace");
        p.world.files.metadata(&program).is_ok_and(|found| found.is_some())
    });
    if found {
        return Ok(());
    }
    Err(Failure::new("an audit needs strace, and there is none in PATH")
        .help("install it: apt-get install strace, dnf install strace, apk add strace"))
}
