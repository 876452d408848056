//! What steps that only make files left behind.

pub mod successes;
