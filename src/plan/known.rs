//! What is known of the outputs of each step: before anything is looked at, while
//! the plan is made, and while it is carried out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::names::{StepId, StepName};

use super::prepare::{DoneBefore, Prepared};
use super::scope::{Known, StepTable};

/// What is known of each instance's outputs.
#[derive(Debug, Default)]
pub struct Table {
    known: Mutex<HashMap<StepId, Known>>,
    by_name: HashMap<StepName, Vec<StepId>>,
}

impl Table {
    /// What is known before anything was looked at.
    #[must_use]
    pub fn new(p: &Prepared) -> Self {
        let mut table = Self::default();
        for (id, node) in p.graph.iter() {
            table.by_name.entry(node.id.name.clone()).or_default().push(node.id.clone());
            if let Some(guest) = node.guest.as_ref().filter(|guest| guest.takes_part) {
                table.by_name.entry(guest.host.clone()).or_default().push(node.id.clone());
            }
            if let Some(outputs) = p.recorded_outputs(&node.id) {
                let outputs = Arc::new(outputs);
                table.set(
                    &node.id,
                    if p.selection.contains(id) {
                        Known::After(outputs)
                    } else {
                        Known::Outputs { outputs, changed: false }
                    },
                );
            } else if p.selection.contains(id) {
                table.set(&node.id, Known::After(Arc::default()));
            } else if let Some(record) = p.selection.from_release.get(&node.id) {
                table.set(
                    &node.id,
                    Known::Outputs { outputs: Arc::new(record.outputs.clone()), changed: false },
                );
            } else {
                table.set(&node.id, Known::Nothing);
            }
            if let Some(done) = p.done.get(&node.id) {
                table.set(&node.id, known_before(done));
            }
        }
        table
    }

    /// Replaces what is known of a step.
    pub fn set(&self, id: &StepId, known: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), known);
    }
}

impl Clone for Table {
    fn clone(&self) -> Self {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { known: Mutex::new(known), by_name: self.by_name.clone() }
    }
}

impl StepTable for Table {
    fn known(&self, id: &StepId) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn instances(&self, name: &StepName) -> Vec<StepId> {
        self.by_name.get(name).cloned().unwrap_or_default()
    }
}

/// What is known of a step that the run did before it was interrupted.
pub(super) fn known_before(done: &DoneBefore) -> Known {
    Known::Outputs { outputs: Arc::new(done.outputs.clone()), changed: true }
}
