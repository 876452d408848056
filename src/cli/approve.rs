//! `flow approve PLAN|DIGEST`

use jiff::SignedDuration;
use serde_json::json;

use super::Done;
use super::approvers::agreed;
use super::approving::{
    ApprovalError, Said, Signing, approver, as_it_stands, judged, own_key, sign, statement, would_count,
};
use super::failure::CliError;
use super::resume::may_go_on;
use super::saved;
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::exit::Exit;
use crate::journal::approvals::{self, Decision, Found, Place};
use crate::model::names::{RunId, StepId};
use crate::plan::document::Plan;
use crate::plan::gates::PlannedGate;
use crate::plan::saved::{Refusal, check_unused};
use crate::report::out;
use crate::report::plan_view::{self, PlanView};
use crate::world::clock::Clock;
use crate::world::process::show_argv;
use crate::world::ssh::Key;
use crate::world::store::Store;
use crate::world::terminal;

/// Sign that a plan may be carried out, or that it may not
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plan: its file, or six digits or more of its digest
    #[arg(value_name = "PLAN")]
    plan: String,

    /// The gate, where several ask
    #[arg(long, value_name = "NAME")]
    gate: Option<String>,

    /// Keep the gate closed, whatever others say
    #[arg(long)]
    reject: bool,

    #[command(flatten)]
    signing: Signing,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Plan(&self.plan)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    block_on(approve(session, args))
}

async fn approve(session: &Session, args: &Args) -> Done {
    let plan = saved::find(session, &args.plan)?;
    let store = session.store(Some(&plan.environment.name))?;
    let used = used_by(&plan, &store)?;
    let gate = gate(&plan, args.gate.as_deref()).map_err(Box::new)?;
    if terminal::stdin_is_terminal() {
        let before = approvals::all(&store, &plan.digest)?;
        // Whoever would sign for nothing hears it before they read a plan.
        if let Some(key) = own_key(session, args.signing.key.as_deref()) {
            may_sign(&plan, gate, &key, &before, args.reject)?;
        }
        show(session, &plan, &before);
        let word = if args.reject { "reject" } else { "approve" };
        if !agreed(&format!("{word} gate {} of this plan?", gate.id)).await? {
            return Err(Box::new(ApprovalError::Declined).into());
        }
    }
    let decision = if args.reject { Decision::Reject } else { Decision::Approve };
    let lifetime = SignedDuration::try_from(gate.rule.lifetime()).ok().filter(|_| !args.reject);
    let (gate_id, reason) = (Some(gate.id.clone()), args.signing.reason.clone());
    let said = Said { gate: gate_id, lifetime, reason, ..Said::of(decision) };
    let statement = statement(&plan, said);
    let (signed, key) = sign(session, args.signing.key.as_deref(), statement.to_text())
        .map_err(|error| Box::new(ApprovalError::from(error)))?;
    let name = may_sign(&plan, gate, &key, &approvals::all(&store, &plan.digest)?, args.reject)?;
    approvals::put(&store, &plan.digest, Place::Gate(&gate.id), &key.file_name(), &signed)?;

    let verdict = judged(&plan, gate, &approvals::all(&store, &plan.digest)?);
    let run = used.map_or_else(|| run_command(&plan), |run| format!("flow resume {run}"));
    if args.signing.json {
        out::json(&json!({
            "version": 1, "plan": plan.digest, "gate": gate.id, "decision": decision, "by": name,
            "signed": statement.signed, "expires": statement.expires, "open": verdict.is_open(),
            "rejected": verdict.rejected, "needs": verdict.needs(&plan.environment.name), "run": run,
        }));
        return Ok(Exit::Success);
    }
    let short = plan.digest.get(..12).unwrap_or(&plan.digest);
    let what = format!("gate {} of {} → {}, plan {short}", gate.id, plan.flow, plan.environment.name);
    if args.reject {
        out::note(&format!("rejected by {name}: {what}"));
        out::note("  it stays closed; what follows is a new plan");
        return Ok(Exit::Success);
    }
    let until = statement.expires.map_or_else(String::new, |end| {
        format!(", counts until {}", end.to_zoned((session.look().zone)()).strftime("%H:%M"))
    });
    out::note(&format!("approved by {name}: {what}{until}"));
    match &verdict.rejected {
        Some(who) => out::reason(&format!("  it stays closed: {who}")),
        None if verdict.is_open() => out::note(&format!("  it opens: {run}")),
        None => {
            out::reason(&format!("  it still {}", verdict.needs(&plan.environment.name)));
            out::note(&format!("  then: {run}"));
        }
    }
    Ok(Exit::Success)
}

/// The run that has used a plan and can be gone on with: it may have come to a gate behind its first
/// effects, or the approvals that it began with have expired. Every other plan must still be unused.
fn used_by(plan: &Plan, store: &Store) -> Result<Option<RunId>, CliError> {
    match check_unused(plan, store, Clock.now())? {
        Ok(()) => Ok(None),
        Err(Refusal::Used(taken)) if may_go_on(store, &taken.run)? => Ok(Some(taken.run)),
        Err(refusal) => Err(saved::refuse(refusal, plan)),
    }
}

/// The gate that is meant.
fn gate<'a>(plan: &'a Plan, typed: Option<&str>) -> Result<&'a PlannedGate, ApprovalError> {
    let gates = &plan.approvals.gates;
    let known = || gates.iter().map(|gate| gate.id.to_string()).collect::<Vec<_>>();
    match (typed, gates.as_slice()) {
        (Some(typed), _) => {
            let wanted = StepId::parse(typed);
            let found = gates.iter().find(|gate| gate.id == wanted);
            found.ok_or_else(|| ApprovalError::NoGate { gate: typed.to_owned(), known: known() })
        }
        (None, []) => Err(ApprovalError::NoGates),
        (None, [one]) => Ok(one),
        (None, _) => Err(ApprovalError::Several(known())),
    }
}

/// Whose key it is, on the list of any environment behind the gate.
fn name(plan: &Plan, gate: &PlannedGate, key: &Key) -> Result<String, CliError> {
    let mut last = None;
    for policy in plan.approvals.policies_of(gate) {
        match approver(&policy, key) {
            Ok(person) => return Ok(person.name.clone()),
            Err(error) => {
                last.get_or_insert(error);
            }
        }
    }
    Err(Box::new(last.unwrap_or(ApprovalError::NoGates)).into())
}

/// What would not count is not filed: whoever signs hears it now, and not whoever runs the plan.
/// Anybody on a list may reject.
fn may_sign(
    plan: &Plan,
    gate: &PlannedGate,
    key: &Key,
    before: &[Found],
    reject: bool,
) -> Result<String, CliError> {
    let name = name(plan, gate, key)?;
    if !reject {
        would_count(plan, gate, key, before).map_err(Box::new)?;
    }
    Ok(name)
}

/// The command that runs a plan as it is.
pub(super) fn run_command(plan: &Plan) -> String {
    let short = plan.digest.get(..12).unwrap_or(&plan.digest).to_owned();
    let (flow, environment) = (plan.flow.to_string(), plan.environment.name.to_string());
    show_argv(&[
        "flow".to_owned(),
        "run".to_owned(),
        flow,
        "--env".to_owned(),
        environment,
        "--plan".to_owned(),
        short,
    ])
}

/// What is signed, before it is.
fn show(session: &Session, plan: &Plan, found: &[Found]) {
    let plan = as_it_stands(plan, found);
    for line in plan_view::lines(&session.look(), &PlanView::of(&plan, Vec::new()), false) {
        out::note(&line);
    }
}
