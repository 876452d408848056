//! Whether stacks whose deletion was announced are gone: CloudFormation knows
//! each of them by its ARN, and goes on whether or not somebody watches.

use std::collections::BTreeMap;

use crate::model::value::Outputs;
use crate::steps::cfn::follow::rested;
use crate::steps::cfn::stack::{self, State};
use crate::steps::{Context, Done, Failure, Open, Settled};

/// What is noted right before CloudFormation is asked to delete a stack.
pub(super) const DELETING: &str = "deleting";

/// Settles the deletion of stacks, by name; waits for those that CloudFormation works on. Where one
/// is left, the rest is not done: deleting it once more is free.
pub(in crate::steps) async fn settle(
    open: &Open,
    cx: &Context,
    names: &[String],
) -> Result<Settled, Failure> {
    let begun = begun(open);
    if begun.is_empty() {
        return Ok(Settled::NotDone);
    }
    for id in begun.values() {
        if rested(cx, id).await?.is_some() {
            return Ok(Settled::NotDone);
        }
    }
    for name in names.iter().filter(|name| !begun.contains_key(name.as_str())) {
        if !matches!(stack::state(cx, name).await?, State::Absent) {
            return Ok(Settled::NotDone);
        }
    }
    let summary = format!("{} deleted", names.join(", "));
    Ok(Settled::Done(Done { summary, outputs: Outputs::new(), receipt: serde_json::Value::Null }))
}

/// ARNs by name.
fn begun(open: &Open) -> BTreeMap<&str, &str> {
    let notes = open.notes.iter().filter(|(key, _)| key == DELETING);
    notes.filter_map(|(_, note)| Some((note["name"].as_str()?, note["stack"].as_str()?))).collect()
}
