//! `destroy #true`: everything of one stack, or of several one after the other,
//! is deleted.
//!
//! The plan lists what is in each stack and what of it stays, refuses what is
//! protected, and finds what CloudFormation would refuse in the middle. The
//! effect asks CloudFormation to delete exactly the stack that was planned, by
//! its ARN, so that one of the same name that somebody made since is left alone.

mod apply;
mod inventory;
mod obstacles;
mod plan;
mod settle;

pub(in crate::steps) use self::plan::{observe, plan, plan_one};
pub(in crate::steps) use self::settle::settle;
