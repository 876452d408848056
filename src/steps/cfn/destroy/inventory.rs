//! What is in a stack, its nested stacks included, and what of it stays when the
//! stack goes.

use serde_json::{Value as Json, json};

use crate::model::units::short_digest;
use crate::steps::cfn::change_set::{ResourceChange, What};
use crate::steps::cfn::deletion_policy::{Fate, fates};
use crate::steps::cfn::resources::{StackResource, resources};
use crate::steps::cfn::stack::processed;
use crate::steps::{Context, Failure};
use crate::world::files::digest;

const NESTED: &str = "AWS::CloudFormation::Stack";

/// The resources of a stack, each as something that goes or stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    /// [`What::Remove`] or [`What::Retire`]; sorted. Those of a nested stack as `NESTED/ID`.
    pub resources: Vec<ResourceChange>,
    /// Ids of those of which a snapshot is taken first.
    snapshots: Vec<String>,
}

impl Inventory {
    /// Of the stack with that ARN.
    pub(super) async fn of(cx: &Context, id: &str) -> Result<Self, Failure> {
        let mut found = Self::default();
        found.add(cx, id, "").await?;
        found.resources.sort();
        found.snapshots.sort();
        Ok(found)
    }

    async fn add(&mut self, cx: &Context, id: &str, prefix: &str) -> Result<(), Failure> {
        // A nested stack that failed to delete may be gone already.
        let there = resources(cx, id).await?;
        if there.is_empty() {
            return Ok(());
        }
        let fates = fates(&processed(cx, id).await?);
        for StackResource { id, kind, physical } in there {
            let fate = fates.get(&id);
            let stays = fate == Some(&Fate::Stays);
            let shown = format!("{prefix}{id}");
            if fate == Some(&Fate::Snapshot) {
                self.snapshots.push(shown.clone());
            }
            if let (false, NESTED, Some(nested)) = (stays, kind.as_str(), &physical) {
                Box::pin(self.add(cx, nested, &format!("{shown}/"))).await?;
            }
            self.resources.push(ResourceChange {
                id: shown,
                kind,
                what: if stays { What::Retire } else { What::Remove },
                touched: Vec::new(),
                physical,
                certain: true,
            });
        }
        Ok(())
    }

    fn number(&self, what: What) -> usize {
        self.resources.iter().filter(|resource| resource.what == what).count()
    }

    /// How many are the stack's own, and not those of a nested one, whose events are its own too.
    pub(super) fn own(&self) -> usize {
        self.resources.iter().filter(|resource| !resource.id.contains('/')).count()
    }

    /// `3 deleted, 1 stays`
    pub(super) fn summary(&self) -> String {
        let (going, staying) = (self.number(What::Remove), self.number(What::Retire));
        let stays = match staying {
            0 => String::new(),
            1 => ", 1 stays".to_owned(),
            number => format!(", {number} stay"),
        };
        if self.resources.is_empty() {
            "an empty stack".to_owned()
        } else {
            format!("{going} deleted{stays}")
        }
    }

    /// What the operator should know of single resources.
    pub(super) fn warnings(&self) -> Vec<String> {
        let staying = self.resources.iter().filter(|resource| resource.what == What::Retire);
        let stays = staying.map(|resource| {
            let named =
                resource.physical.as_ref().map(|physical| format!(": {physical}")).unwrap_or_default();
            format!("{} ({}) stays, and belongs to no stack then{named}", resource.id, resource.kind)
        });
        let snapshots =
            self.snapshots.iter().map(|id| format!("a last snapshot of {id} is taken, and stays"));
        stays.chain(snapshots).collect()
    }

    /// For a baseline: the same resources under the same names, going and staying as now.
    pub(super) fn fact(&self) -> Json {
        let digest = digest(json!([self.resources, self.snapshots]).to_string().as_bytes());
        json!(format!("{} ({})", self.summary(), short_digest(&digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(id: &str, what: What) -> ResourceChange {
        ResourceChange {
            id: id.to_owned(),
            kind: "AWS::S3::Bucket".to_owned(),
            what,
            touched: Vec::new(),
            physical: Some(format!("shop-{id}")),
            certain: true,
        }
    }

    #[test]
    fn what_stays_is_said_with_its_name() {
        let both = Inventory {
            resources: vec![resource("Data", What::Remove), resource("Logs", What::Retire)],
            snapshots: vec!["Data".to_owned()],
        };
        assert_eq!(both.summary(), "1 deleted, 1 stays");
        assert_eq!(
            both.warnings(),
            [
                "Logs (AWS::S3::Bucket) stays, and belongs to no stack then: shop-Logs",
                "a last snapshot of Data is taken, and stays"
            ]
        );
        assert_eq!(Inventory::default().summary(), "an empty stack");
    }

    #[test]
    fn another_resource_and_another_policy_are_another_fact() {
        let of = |what| Inventory { resources: vec![resource("Data", what)], snapshots: Vec::new() };
        let mut renamed = of(What::Remove);
        renamed.resources[0].physical = Some("other".to_owned());
        assert_ne!(of(What::Remove).fact(), renamed.fact());
        assert_ne!(of(What::Remove).fact(), of(What::Retire).fact());
        assert_eq!(of(What::Remove).fact(), of(What::Remove).fact());
    }
}
