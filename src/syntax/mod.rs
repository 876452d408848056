//! Text without meaning: files, places, the guarded KDL parser, and how
//! mistakes are drawn. Knows nothing of flows and reads no files itself.

pub mod problem;
pub mod source;
