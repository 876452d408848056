//! A flow in types, and nothing else: no files, no clock, no network.

pub mod change;
pub mod check;
pub mod decode;
pub mod expr;
pub mod flow;
pub mod image;
pub mod kind;
pub mod names;
pub mod policy;
pub mod project;
pub mod secret;
pub mod settings;
pub mod step;
pub mod template;
#[cfg(test)]
pub mod testing;
pub mod units;
pub mod value;
