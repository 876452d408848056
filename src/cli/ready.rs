//! `flow rollback … --check`: proves that a rollback could be done now. Changes nothing.
//!
//! Every step that would go back is looked at. Run nightly it says
//! `rollback-ready`, or each reason why not.

use std::sync::Arc;

use serde_json::json;

use super::Done;
use super::failure::CliError;
use super::plan::look;
use super::session::{Session, block_on};
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::model::change::Action;
use crate::model::names::StepId;
use crate::model::units::{count, show_duration};
use crate::plan::graph::unresolved;
use crate::plan::observe::{Observed, PlanFailure};
use crate::plan::prepare::{Prepared, Request};
use crate::plan::propose::NoProposal;
use crate::report::out;
use crate::world::cancel::Canceller;
use crate::world::clock::Clock;

/// Version of the JSON object.
const VERSION: u32 = 1;

/// Why a step could not go back.
#[derive(Debug)]
struct Reason {
    step: StepId,
    lines: Vec<String>,
}

pub(super) fn exec(session: &Session, request: Request, as_json: bool) -> Done {
    block_on(async {
        let begun = Clock.moment();
        let canceller = Arc::new(Canceller::new());
        // No run will record them.
        let _signals = Signals::listen(Arc::clone(&canceller));
        let (flow, environment) = (request.flow.clone(), request.environment.clone());
        let (reasons, stays, to) = match look(session, request.clone(), &canceller.view()).await {
            Ok((prepared, observed)) => {
                (unknown(&observed), stays(&prepared, &observed), prepared.back.clone())
            }
            Err(CliError::Plan(failures)) => {
                let prepared = session.prepare(request, &canceller.view()).await?;
                (failures.iter().map(reason).collect(), Vec::new(), prepared.back)
            }
            Err(other) => return Err(other),
        };
        let to = to.map_or(0, |back| back.to.id);
        let ready = reasons.is_empty();
        if as_json {
            let rows: Vec<_> =
                reasons.iter().map(|reason| json!({ "id": reason.step, "why": reason.lines })).collect();
            out::json(&json!({
                "version": VERSION, "flow": flow, "environment": environment, "to": to,
                "ready": ready, "reasons": rows, "stays": stays,
            }));
        } else {
            let took = show_duration(begun.elapsed());
            let what = if ready {
                format!("rollback-ready: release {to} ({took})")
            } else {
                format!(
                    "not rollback-ready: {} against release {to} ({took})",
                    count(reasons.len(), "reason")
                )
            };
            let look = session.look();
            out::data(&look.text(&format!("{flow} → {environment}: {what}")));
            for Reason { step, lines } in &reasons {
                let mut lines = lines.iter();
                let first = lines.next().map_or("", String::as_str);
                out::data(&look.text(&format!("  {step}  {first}")));
                for line in lines {
                    out::data(&look.text(&format!("    {line}")));
                }
            }
            for line in &stays {
                out::data(&look.text(&format!("  {line}")));
            }
        }
        Ok(if ready { Exit::Success } else { Exit::Refused })
    })
}

fn reason(failure: &PlanFailure) -> Reason {
    let lines = match &failure.why {
        NoProposal::Unresolved(error) => vec![unresolved(error).message],
        NoProposal::Failure(said) => {
            let record = &said.record;
            std::iter::once(&record.reason).chain(&record.details).chain(&record.help).cloned().collect()
        }
    };
    Reason { step: failure.step.clone(), lines }
}

/// What could not be asked is not proven.
fn unknown(observed: &Observed) -> Vec<Reason> {
    let unknown = observed.plan.steps.iter().filter(|step| step.action == Action::Unknown);
    let reason = |lines: Vec<String>, step: &StepId| Reason { step: step.clone(), lines };
    unknown
        .map(|step| reason(std::iter::once(&step.summary).chain(&step.warnings).cloned().collect(), &step.id))
        .collect()
}

/// What the rollback would leave as it is.
fn stays(prepared: &Prepared, observed: &Observed) -> Vec<String> {
    let named = prepared.back.iter().flat_map(|back| &back.stays).map(ToString::to_string);
    let warned = observed.plan.steps.iter().filter(|step| step.action != Action::Unknown);
    let warned = warned.flat_map(|step| step.warnings.iter().map(move |text| format!("{}  {text}", step.id)));
    named.chain(warned).collect()
}
