//! temporary
use crate::model::names::{RunId, StepId};
use crate::world::store::Store;
pub struct Logs {}
impl Logs {
    pub fn new(_: &Store, _: &RunId) -> Self {
        Self {}
    }
    pub fn line(&mut self, _: jiff::Timestamp, _: &StepId, _: &str) {}
    pub fn flush(&mut self) {}
}
