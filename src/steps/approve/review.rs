//! Whether somebody else has looked at a run that broke glass.

use crate::journal::approvals::{Broken, Decision, Found, Statement};
use crate::model::policy::Policy;
use crate::world::ssh;

/// Who reviewed it: an approver, and another person than the one who let the run pass.
#[must_use]
pub fn reviewed(policy: &Policy, broken: &Broken, found: &[Found]) -> Option<String> {
    found.iter().filter(|found| found.place == "@review").find_map(|found| {
        let signed = found.signed.as_ref()?;
        let key = ssh::verify(&signed.signature, signed.statement.as_bytes()).ok()?;
        let statement = Statement::parse(&signed.statement)?;
        let person = policy.owner(&key.to_line())?;
        let about = statement.decision == Decision::Review
            && statement.plan == broken.plan
            && statement.run.as_ref() == Some(&broken.run)
            && statement.environment == policy.environment;
        let other = person.name != broken.by && person.counted_at(statement.signed);
        (about && other).then(|| person.name.clone())
    })
}
