//! What a `policy` reads of stacks: `{ STACK: { action, changes, template } }`.
//!
//! Changes are those of the plan, with the same names; the template is the one
//! that is to be deployed, or that stands where all of it is deleted. Secrets are
//! in neither: values of parameters with `NoEcho` are no part of a plan.

use serde_json::{Map, Value as Json, json};

use super::written_out::written_out;
use crate::model::change::{Action, Change};
use crate::steps::Proposal;

/// What is told of one stack.
pub(in crate::steps) fn told(action: Action, changes: &[Change], template: &str) -> Json {
    json!({ "action": action, "changes": changes, "template": written_out(template) })
}

/// The same of a stack that was planned.
pub(in crate::steps) fn proposed(proposal: &Proposal, template: &str) -> Json {
    let changes = if proposal.action.will_run() { proposal.changes.as_slice() } else { &[] };
    told(proposal.action, changes, template)
}

/// The same where a step has only one stack; `template` is what it would have afterwards.
pub(in crate::steps) fn alone(stack: &str, proposal: &Proposal, template: &str) -> Json {
    together([(stack.to_owned(), proposed(proposal, template))])
}

/// Stacks by name.
pub(in crate::steps) fn together(stacks: impl IntoIterator<Item = (String, Json)>) -> Json {
    Json::Object(stacks.into_iter().collect::<Map<String, Json>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_changes_as_the_plan_has_them() {
        let change = || Change::new("A (AWS::S3::Bucket)", Some("shop".to_owned()), None);
        let planned = Proposal { changes: vec![change()], ..Proposal::new(Action::Delete, "1 deleted") };
        let same = Proposal { changes: vec![change()], ..Proposal::new(Action::UpToDate, "as it was") };
        let template = "Resources: {}";
        let all = [&planned, &same].map(|one| (one.summary.clone(), proposed(one, template)));
        assert_eq!(
            together(all),
            json!({
                "1 deleted": {
                    "action": "delete",
                    "changes": [{ "what": "A (AWS::S3::Bucket)", "from": "shop", "to": null }],
                    "template": { "Resources": {} },
                },
                "as it was": { "action": "up-to-date", "changes": [], "template": { "Resources": {} } },
            })
        );
    }
}
