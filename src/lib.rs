//! flow.
pub mod model;
pub mod syntax;
