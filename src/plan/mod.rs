//! From a flow as written to what would happen.
//!
//! ```text
//! Request ─ prepare ─▶ Prepared (graph, selection, values) ─ observe ─▶ Plan
//! ```
//!
//! A rollback is a request like any other: [`backwards`] turns the graph round.
//! Where a flow goes back inside another one's run, [`inside`] puts its turned
//! graph into that run's.
//!
//! [`prepare`] needs no network: it expands `each`, selects, and finds what is
//! missing. [`observe`] asks the world, every step as soon as what it refers
//! to is known. `exec` uses [`propose`] again right before each effect.

mod access;
mod added_gates;
pub mod audit;
pub mod backwards;
pub mod basis;
mod canonical;
pub mod changes;
pub mod compare;
pub mod document;
pub mod explain;
pub mod fingerprint;
pub mod fronts;
pub mod gates;
pub mod graph;
pub mod inside;
pub mod known;
pub mod load;
pub mod moved;
pub mod observe;
pub mod params;
pub mod places;
pub mod policy;
pub mod prepare;
pub mod propose;
mod queue;
pub mod saved;
pub mod scope;
pub mod seals;
pub mod selection;
pub mod target;
pub mod tools;
mod weigh;
