//! Marks: what a person says of an effect of which nobody could tell.
//!
//! A mark claims an outcome. In a protected environment the word of just
//! anybody does not decide: there an approver signs it, the statement lies in
//! the store, and whatever goes on with the run verifies it again. The journal
//! alone proves nothing: whoever can write it can write anything.

use super::approving::{ApprovalError, Said, approver, sign, statement};
use super::failure::CliError;
use super::glass;
use super::saved;
use super::session::Session;
use crate::event::Event;
use crate::exec::recover::Recovery;
use crate::journal::approvals::{self, Decision, Marked, Place};
use crate::journal::replay::{Mark, RunState};
use crate::model::names::{RunId, StepId};
use crate::model::policy::Policy;
use crate::plan::policy::PolicyError;
use crate::plan::prepare::Prepared;
use crate::steps::approve::vouched;
use crate::world::aws::AwsErrorClass;
use crate::world::ssh::SignError;

/// Who may mark in a run's environment; `None` where everybody may, because nothing is protected.
pub(super) async fn signers(session: &Session, p: &Prepared) -> Result<Option<Policy>, CliError> {
    match glass::policy(session, p).await {
        Ok(policy) => Ok(Some(policy).filter(|policy| policy.protected)),
        // An account that does not let this run read its parameters has no record it could pass by.
        Err(CliError::Policy(PolicyError::Unread { why, .. }))
            if why.class == AwsErrorClass::Denied && !p.environment.protected =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Has marks signed by an approver, all of them before any is recorded. Returns whose they are.
pub(super) fn sign_marks(
    session: &Session,
    p: &Prepared,
    policy: &Policy,
    state: &RunState,
    marks: &[Marked],
    (reason, key): (&str, Option<&str>),
) -> Result<String, CliError> {
    let environment = || policy.environment.clone();
    if policy.approvers.is_empty() {
        return Err(Box::new(ApprovalError::NobodyMarks(environment())).into());
    }
    let started = state.started.as_ref();
    let plan = saved::of_run(p, started.map(|started| started.plan.as_str()).unwrap_or_default())?;
    let mut all = Vec::new();
    for mark in marks {
        let said = Said {
            reason: Some(reason.to_owned()),
            run: started.map(|started| started.run.clone()),
            mark: Some(mark.clone()),
            ..Said::of(Decision::Mark)
        };
        let unsigned = |error: SignError| ApprovalError::UnsignedMark { environment: environment(), error };
        let (signed, key) = sign(session, key, statement(&plan, said).to_text())
            .map_err(|error| Box::new(unsigned(error)))?;
        let person = approver(policy, &key).map_err(Box::new)?;
        all.push((person.name.clone(), key, signed));
    }
    for (_, key, signed) in &all {
        approvals::put(&p.world.store, &plan.digest, Place::Mark, &key.file_name(), signed)?;
    }
    Ok(all.into_iter().map(|(name, ..)| name).next().unwrap_or_default())
}

/// What is signed of an effect.
pub(super) fn marked(step: &StepId, mark: &Mark) -> Marked {
    Marked { announced: mark.intent.since, done: mark.done, step: step.clone() }
}

/// Takes marks back that nobody signed who may: their effects are open again, and it is recorded.
/// Returns those steps.
pub(super) async fn refuse_unsigned(
    session: &Session,
    p: &Prepared,
    run: &RunId,
    recovery: &mut Recovery,
) -> Result<Vec<StepId>, CliError> {
    let marks: Vec<(StepId, Mark)> =
        recovery.state.marks().map(|(step, mark)| (step.clone(), mark.clone())).collect();
    let plan = recovery.state.started.as_ref().map(|started| started.plan.clone()).unwrap_or_default();
    if marks.is_empty() {
        return Ok(Vec::new());
    }
    let Some(policy) = signers(session, p).await? else { return Ok(Vec::new()) };
    let found = approvals::at(&p.world.store, &plan, Place::Mark)?;
    let mut refused = Vec::new();
    for (step, mark) in marks {
        if vouched(&policy, &plan, run, &marked(&step, &mark), &found).is_none() {
            let why = format!("nobody signed it who may approve in {} now", policy.environment);
            recovery.record(Some(p), Event::MarkRefused { step: step.clone(), by: mark.by, why })?;
            refused.push(step);
        }
    }
    Ok(refused)
}
