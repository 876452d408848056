//! flow.
pub mod event;
pub mod journal;
pub mod model;
pub mod report;
pub mod steps;
pub mod syntax;
pub mod world;
