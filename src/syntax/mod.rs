//! Text without meaning: files, places, the guarded KDL parser, and how
//! mistakes are drawn. Knows nothing of flows and reads no files itself.

mod convert;
mod guard;
pub mod parse;
pub mod problem;
pub mod reader;
pub mod render;
pub mod source;
pub mod tree;
