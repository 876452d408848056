//! What the kinds that use ECS share: definitions, tasks that stopped, logs, patience.

pub mod canonical;
pub mod definition;
pub mod logs;
pub mod patience;
#[cfg(test)]
pub(crate) mod sandbox;
pub mod service;
pub mod settings;
pub mod stopped;
pub mod target;
