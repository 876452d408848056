//! Deletes an instance that was made since, where a gate stands in front of
//! that: what was written to it goes with it.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value as Json;

use super::instance::{Instance, describe};
use super::{Made, facts};
use crate::model::change::{Action, Change, Reversible};
use crate::model::settings::Ready;
use crate::model::value::Outputs;
use crate::steps::back::{Stays, read};
use crate::steps::ecs::patience::{Patience, limit, may_pass};
use crate::steps::{Attributes, Context, Done, Effect, Failure, FailureClass, Proposal, Step, Way};
use crate::world::aws::AwsError;

/// The step that takes a restore back.
pub(super) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let recorded = |state: &Json| -> Result<Option<Made>, Failure> {
        if state.is_null() { Ok(None) } else { read(state).map(Some) }
    };
    let now = recorded(&way.now)?;
    let to = way.to.as_ref().map(recorded).transpose()?.flatten();
    match now {
        None => Ok(Box::new(Stays::new("nothing to take back", way.now.clone()))),
        Some(now) if to.as_ref().is_some_and(|to| to.resource == now.resource) => {
            Ok(Box::new(Stays::new(format!("{} was there", now.instance), way.now.clone())))
        }
        Some(made) => Ok(Box::new(Drop { made, to: way.to.clone().unwrap_or_default(), limit: limit(None) })),
    }
}

/// An instance that goes.
#[derive(Clone, Debug)]
struct Drop {
    made: Made,
    /// What stands once it is done.
    to: Json,
    limit: Duration,
}

impl Drop {
    /// The instance, if it is still the one that was made.
    async fn look(&self, cx: &Context) -> Result<Option<Instance>, Failure> {
        let Made { instance, resource, .. } = &self.made;
        let there = cx.cancel.unless_stopped(describe(cx, instance)).await??;
        match there {
            Some(there) if there.resource != *resource => {
                let reason = format!("{instance} is another instance than the one that was made");
                Err(Failure::of(FailureClass::Refused, reason)
                    .detail(format!("made was {resource}, and {} is there", there.resource))
                    .help("leave this step out of the rollback"))
            }
            there => Ok(there),
        }
    }
}

#[async_trait]
impl Step for Drop {
    fn equip(&mut self, _: &Ready, attributes: &Attributes) {
        self.limit = limit(attributes.timeout);
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let name = &self.made.instance;
        let there = self.look(cx).await?;
        let baseline = facts(name, there.as_ref());
        let Some(there) = there else {
            let receipt = self.to.clone();
            return Ok(Proposal {
                baseline,
                receipt,
                ..Proposal::up_to_date(format!("{name} is gone"), Outputs::new())
            });
        };
        if there.protected {
            let reason = format!("the instance {name} is protected from deletion");
            return Err(Failure::of(FailureClass::Refused, reason)
                .help("leave this step out of the rollback, or lift the protection yourself"));
        }
        if !cx.gatekeeper.gated {
            let reason = format!("going back would delete the database {name}, and nobody is asked before");
            return Err(Failure::of(FailureClass::Refused, reason).help(format!(
                "put an approve in front of the step, leave it out of the rollback, or delete it yourself: aws rds \
                 delete-db-instance --db-instance-identifier {name} --skip-final-snapshot"
            )));
        }
        Ok(Proposal {
            subject: name.clone(),
            changes: vec![Change::new(format!("instance {name}"), there.status.clone(), None)],
            warnings: vec![format!("what was written to {name} since it was restored goes with it")],
            reversible: Reversible::None,
            baseline,
            standing: self.made.to_json(),
            ..Proposal::new(Action::Delete, "delete what was restored")
        }
        .with(Delete { goal: self.clone() }))
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        Ok(facts(&self.made.instance, self.look(cx).await?.as_ref()))
    }
}

/// The effect.
struct Delete {
    goal: Drop,
}

#[async_trait]
impl Effect for Delete {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let Drop { made, to, limit } = &self.goal;
        let name = &made.instance;
        let patience = Patience::new(cx.world.clock, *limit);
        let done = |summary: String| Done { summary, outputs: Outputs::new(), receipt: to.clone() };
        // Asking twice is deleting once: it is the instance itself that tells whether it was heard.
        loop {
            match cx.cancel.unless_stopped(describe(cx, name)).await? {
                Ok(None) => return Ok(done(format!("{name} is deleted"))),
                Ok(Some(there)) if there.resource != made.resource => {
                    return Ok(done(format!("{name} is deleted; another one has its name")));
                }
                Ok(Some(there)) => {
                    if there.status != "deleting" {
                        delete(cx, name).await?;
                    }
                    cx.feed.progress(format!("{name} is {}", there.status)).await;
                }
                Err(error) if may_pass(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if patience.is_over() {
                let reason = format!("RDS still deletes {name}, and how that ends is not known");
                return Err(Failure::of(FailureClass::Unknown, reason));
            }
            patience.rest(&cx.cancel).await?;
        }
    }
}

async fn delete(cx: &Context, name: &str) -> Result<(), Failure> {
    let request = cx.cloud.writes().await.rds.delete_db_instance().db_instance_identifier(name);
    let sent = request.skip_final_snapshot(true).delete_automated_backups(true).send().await;
    match sent.map_err(|error| AwsError::new("RDS", "DeleteDBInstance", &error)) {
        // It is being deleted already.
        Err(error)
            if error.code.as_deref().is_some_and(|code| code.starts_with("InvalidDBInstanceState")) =>
        {
            Ok(())
        }
        Err(error) if !error.is_unclear() && !error.is_not_found() => Err(error.into()),
        // Whether it was heard shows in the next look.
        _ => Ok(()),
    }
}
