//! Whether an approver said what became of an effect.

use crate::journal::approvals::{Decision, Found, Marked, Statement};
use crate::model::names::RunId;
use crate::model::policy::Policy;
use crate::world::ssh;

/// The approver whose signature stands behind a mark in a run: for this effect, with this answer.
/// Their key must have counted when they signed, and stand on the list now.
#[must_use]
pub fn vouched(policy: &Policy, plan: &str, run: &RunId, mark: &Marked, found: &[Found]) -> Option<String> {
    found.iter().filter(|found| found.place == "@mark").find_map(|found| {
        let signed = found.signed.as_ref()?;
        let key = ssh::verify(&signed.signature, signed.statement.as_bytes()).ok()?;
        let statement = Statement::parse(&signed.statement)?;
        let person = policy.owner(&key.to_line())?;
        let about = statement.decision == Decision::Mark
            && statement.plan == plan
            && statement.run.as_ref() == Some(run)
            && statement.environment == policy.environment
            && statement.mark.as_ref() == Some(mark);
        (about && person.counted_at(statement.signed)).then(|| person.name.clone())
    })
}
