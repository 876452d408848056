//! One CloudFormation stack: what it is, what would change in it, and how it is changed.
//!
//! Shared by every kind that deploys stacks. Invariants: a plan executes
//! nothing and leaves no change set behind; an effect executes only a change
//! set that says what its plan said, after the note that it is about to.

pub(in crate::steps) mod apply;
pub(in crate::steps) mod back;
pub(in crate::steps) mod change_set;
mod deletion_policy;
pub(in crate::steps) mod destroy;
pub(in crate::steps) mod events;
pub(in crate::steps) mod exports;
mod follow;
pub(in crate::steps) mod lint;
pub(in crate::steps) mod named;
pub(in crate::steps) mod outline;
pub(in crate::steps) mod plan;
pub(in crate::steps) mod policy;
pub(in crate::steps) mod protect;
pub(in crate::steps) mod reconcile;
pub(in crate::steps) mod record;
pub(in crate::steps) mod request;
pub(in crate::steps) mod resources;
pub(in crate::steps) mod several;
pub(in crate::steps) mod stack;
pub(in crate::steps) mod template;
mod written_out;
