//! Changes of a stack in the form that all infrastructure kinds share.

use super::change_set::{ResourceChange, What};
use crate::steps::Failure;
use crate::steps::infra::{self, Op, Preview, Protect};

/// As a preview; `stack` stands in front of every id where a step has several.
pub(in crate::steps) fn preview(stack: Option<&str>, changes: &[ResourceChange]) -> Preview {
    Preview::new(changes.iter().map(|change| shared(stack, change)).collect())
}

/// Refuses changes that would take away what stays, and names each.
pub(in crate::steps) fn guard(
    protect: &Protect,
    stack: Option<&str>,
    changes: &[ResourceChange],
) -> Result<(), Failure> {
    preview(stack, changes).guard(protect)
}

fn shared(stack: Option<&str>, change: &ResourceChange) -> infra::ResourceChange {
    let op = match change.what {
        What::Add => Op::Create,
        What::Modify | What::MayReplace | What::Dynamic => Op::Update,
        What::Replace => Op::Replace,
        What::Remove => Op::Delete,
        What::Retire => Op::Forget,
        What::Import => Op::Import,
    };
    let id = stack.map_or_else(|| change.id.clone(), |stack| format!("{stack}/{}", change.id));
    infra::ResourceChange {
        keys: change.touched.clone(),
        ..infra::ResourceChange::new(id, change.kind.clone(), op)
    }
}
