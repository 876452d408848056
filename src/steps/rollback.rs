//! `rollback`: another flow goes back inside the run.
//!
//! Such a step does nothing by itself. When a run is prepared, `plan::inside`
//! puts the steps of the flow that goes back into its place, and each of them
//! is planned and carried out by its own kind. What is here is only left where
//! the step does not take part: its `when` is false, or it is not selected.

use async_trait::async_trait;

use super::{Attributes, Back, Context, Failure, Kind, Proposal, Step};
use crate::model::kind::{KindSpec, Nature, OutputNames, ROLLBACK};
use crate::model::settings::{Ready, Setting, Shape, Unready};

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: ROLLBACK,
        about: "Takes another flow back to a release, inside this run.",
        settings: &[
            Setting::new("flow", Shape::Text, "the flow that goes back").required(),
            Setting::new("only", Shape::Texts, "only these groups, steps or instances of that flow"),
            Setting::new("to", Shape::Text, "a release's number, or last-good, which it is without"),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&[]),
        nature: Nature::Deploying,
        aws: false,
        repeatable: false,
    },
    make: |_: &Ready, _: &Attributes| -> Result<Box<dyn Step>, Unready> { Ok(Box::new(Unexpanded)) },
    back: Back::Nothing,
};

/// A step in whose place nothing was put.
#[derive(Debug)]
struct Unexpanded;

#[async_trait]
impl Step for Unexpanded {
    async fn plan(&self, _: &Context) -> Result<Proposal, Failure> {
        Err(Failure::new("it is not known which steps go back")
            .help("name what goes back directly: flow rollback FLOW --env ENV"))
    }
}
