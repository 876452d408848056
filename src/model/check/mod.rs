//! Checks that need the whole project.

use super::decode::FlowFacts;
use super::project::Project;
use crate::syntax::problem::Problems;

/// Checks everything.
pub(in crate::model) fn check(_project: &Project, _facts: &[FlowFacts], _problems: &mut Problems) {}
