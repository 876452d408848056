//! The one integration binary: the real `flow` against real files, programs
//! and, where a provider is involved, the sandbox (`scripts/sandbox up`).
//!
//! The tests read like the manual: a module a topic, a sentence a test.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it should be")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what was counted, and what was skipped")]
#![expect(clippy::disallowed_methods, reason = "tests are a world of their own")]

mod support;

mod approvals;
mod approvers;
mod audit;
mod cache;
mod crash;
mod deploy;
mod destroy;
mod failures;
mod language;
mod layers;
mod load;
mod locks;
mod lookups;
mod lost_replies;
mod marks;
mod plans;
mod projects;
mod pulumi;
mod ready;
mod resume;
mod rollback;
mod running;
mod secrets;
mod signals;
mod store;
mod systems;
mod terraform;
