//! Break-glass runs: who may let one pass, and what they leave to do.

use super::approving::{ApprovalError, Said, approver, sign, statement};
use super::failure::CliError;
use super::session::Session;
use crate::event::Glass;
use crate::journal::approvals::{self, Broken, Decision, Place, Statement, VERSION};
use crate::model::names::RunId;
use crate::model::policy::Policy;
use crate::plan::document::Plan;
use crate::plan::policy::{self, PolicyError};
use crate::plan::prepare::Prepared;
use crate::steps::approve::reviewed;
use crate::world::aws::AwsErrorClass;
use crate::world::clock::Clock;
use crate::world::ssh;

/// Refuses while a run that broke glass in the environment has not been reviewed by somebody else.
pub(super) async fn refuse_unreviewed(session: &Session, p: &Prepared) -> Result<(), CliError> {
    let environment = &p.values.environment;
    let broken = approvals::broken(&p.world.store, environment)?;
    if broken.is_empty() {
        return Ok(());
    }
    let policy = policy(session, p).await?;
    for run in broken {
        let (run, why) = match run {
            Err(run) => (run, None),
            Ok(broken) => {
                let found = approvals::at(&p.world.store, &broken.plan, Place::Review)?;
                if reviewed(&policy, &broken, &found).is_some() {
                    continue;
                }
                let why = format!("{} signed it: {}", broken.by, broken.reason);
                (broken.run, Some(why))
            }
        };
        let environment = environment.clone();
        return Err(Box::new(ApprovalError::Unreviewed { run, environment, why }).into());
    }
    Ok(())
}

/// Refuses files that no longer say what the environment's record says, where nothing else asked
/// for it: neither is anything protected nor does a gate ask. An account that does not let this run
/// read its parameters has none that such a run could pass by: protected runs need them.
pub(super) async fn refuse_loosened(session: &Session, p: &Prepared) -> Result<(), CliError> {
    if p.cloud.target().account.is_none() || p.changes().is_empty() {
        return Ok(());
    }
    match policy(session, p).await {
        Ok(_) => Ok(()),
        Err(CliError::Policy(PolicyError::Unread { why, .. })) if why.class == AwsErrorClass::Denied => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Who may approve in a run's environment, also where no gate asks.
pub(super) async fn policy(session: &Session, p: &Prepared) -> Result<Policy, CliError> {
    if let Some(policy) = p.policies.of(&p.values.environment) {
        return Ok(policy.clone());
    }
    if p.cloud.target().account.is_some() {
        p.cloud.verify().await.map_err(crate::plan::prepare::PrepareError::from)?;
    }
    Ok(policy::read(session.project()?, &p.environment, &p.cloud).await?)
}

/// Has the plan signed by an approver, so that its run passes the gates.
pub(super) async fn sign_glass(
    session: &Session,
    p: &Prepared,
    plan: &Plan,
    reason: &str,
    key: Option<&str>,
) -> Result<Glass, CliError> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(Box::new(ApprovalError::NoReason).into());
    }
    let policy = policy(session, p).await?;
    let said = Said { reason: Some(reason.to_owned()), ..Said::of(Decision::BreakGlass) };
    let (signed, key) = sign(session, key, statement(plan, said).to_text())
        .map_err(|error| Box::new(ApprovalError::Unsigned(error)))?;
    let person = approver(&policy, &key).map_err(Box::new)?;
    approvals::put(&p.world.store, &plan.digest, Place::BreakGlass, &key.file_name(), &signed)?;
    Ok(Glass { by: person.name.clone(), fingerprint: key.fingerprint(), reason: reason.to_owned() })
}

/// The signature of a break-glass run that is resumed, if it is still there and an approver's.
pub(super) async fn still_signed(
    session: &Session,
    p: &Prepared,
    plan: &Plan,
    glass: &Glass,
) -> Result<Glass, CliError> {
    let policy = policy(session, p).await?;
    let found = approvals::at(&p.world.store, &plan.digest, Place::BreakGlass)?;
    let signed = found.iter().filter_map(|found| found.signed.as_ref()).any(|signed| {
        let key = ssh::verify(&signed.signature, signed.statement.as_bytes());
        let statement = Statement::parse(&signed.statement);
        let (Ok(key), Some(statement)) = (key, statement) else { return false };
        statement.decision == Decision::BreakGlass
            && statement.plan == plan.digest
            && policy.owner(&key.to_line()).is_some_and(|person| person.name == glass.by)
    });
    if signed {
        return Ok(glass.clone());
    }
    Err(Box::new(ApprovalError::NotListed {
        fingerprint: glass.fingerprint.clone(),
        environment: policy.environment.clone(),
        names: policy.names().into_iter().map(str::to_owned).collect(),
    })
    .into())
}

/// Records that a run breaks glass, before it does anything.
pub(super) fn record(p: &Prepared, plan: &Plan, run: &RunId, glass: &Glass) -> Result<(), CliError> {
    let broken = Broken {
        version: VERSION,
        run: run.clone(),
        flow: plan.flow.clone(),
        plan: plan.digest.clone(),
        sequence: plan.sequence,
        by: glass.by.clone(),
        fingerprint: glass.fingerprint.clone(),
        reason: glass.reason.clone(),
        time: Clock.now(),
    };
    Ok(approvals::break_glass(&p.world.store, &plan.environment.name, &broken)?)
}
