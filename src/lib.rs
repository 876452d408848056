//! flow.
pub mod event;
pub mod model;
pub mod steps;
pub mod syntax;
pub mod world;
