//! What the operator sees: views of events, and nothing else prints.
//!
//! `exec`'s dispatcher hands every event to one [`Subscriber`] in the order of
//! the journal, secrets masked already. A report that cannot be written never
//! fails a run, so nothing here returns an error.
//!
//! ```text
//! look, text     marks, colours, widths: how a line is built     board    what runs right now
//! lines          one event, one line                             ending   the last lines of a run
//! console, screen   a terminal: lines scroll up, a block is redrawn
//! plain          a pipe or a CI job: the same lines              json     for programs
//! plan_view         a plan, before anybody says yes               history  runs and releases
//! story             a run or a step, told from its records        when     times of day
//! ```

pub mod board;
pub mod cache;
pub mod console;
pub mod diff;
pub mod ending;
pub mod explain;
pub mod history;
pub mod json;
pub mod lines;
pub mod look;
pub mod out;
pub mod plain;
pub mod plan_view;
#[cfg(test)]
mod sample;
pub mod screen;
pub mod story;
pub mod text;
pub mod when;

use std::io::Write;

pub use crate::event::Subscriber;

/// Where a report is written: standard error, or a buffer in tests.
pub type Out = Box<dyn Write + Send>;
