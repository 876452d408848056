//! The effect: one call that is never repeated, its mark, and the wait.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_rds::types::Tag;
use serde_json::json;

use super::instance::{Instance, Stage, describe};
use super::source::{Source, What};
use super::{MADE_FROM, MARK, Made, RESTORING, RdsRestore, broken, outputs};
use crate::model::units::show_duration;
use crate::steps::ecs::patience::{Patience, may_pass};
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat;

/// How long RDS may take to list an instance that it was asked for.
const SETTLE: Duration = Duration::from_secs(15);

/// A planned restore.
pub(super) struct Restore {
    pub step: RdsRestore,
    /// Absent when it was asked for already, and is only waited for.
    pub source: Option<Source>,
    pub mark: String,
}

#[async_trait]
impl Effect for Restore {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let begun = cx.world.clock.moment();
        let name = &self.step.name;
        if let Some(source) = &self.source {
            cx.feed.note(RESTORING, json!({ "instance": name, "from": source.called() })).await?;
            self.ask(cx, source).await?;
            let made = self.listed(cx, source).await?;
            cx.feed.note("restored", json!({ "instance": name, "resource": made.resource })).await?;
        }
        let there = self.available(cx).await?;
        let receipt = Made::of(&there, &self.step.origin.to_string()).to_json();
        let took = show_duration(begun.elapsed());
        Ok(Done { summary: format!("{name} is available after {took}"), outputs: outputs(&there), receipt })
    }
}

impl Restore {
    /// Asks for it. After a lost answer the instance itself tells whether RDS heard.
    async fn ask(&self, cx: &Context, source: &Source) -> Result<(), Failure> {
        let Err(error) = self.call(cx, source).await else { return Ok(()) };
        if !error.is_unclear() {
            return Err(error.into());
        }
        let name = &self.step.name;
        if let Ok(Some(_)) = appears(cx, name).await {
            return Ok(());
        }
        let reason = format!("RDS did not say whether it makes {name}: {error}");
        Err(Failure::of(FailureClass::Unknown, reason).help(format!(
            "see whether it is there: aws rds describe-db-instances --db-instance-identifier {name}"
        )))
    }

    async fn call(&self, cx: &Context, source: &Source) -> Result<(), AwsError> {
        let rds = &cx.cloud.writes().await.rds;
        let model = source.model.as_ref();
        let class = self.step.class.clone().or_else(|| model.map(|model| model.class.clone()));
        let class = class.filter(|class| !class.is_empty());
        let subnets = model.and_then(|model| model.subnet_group.clone());
        let parameters = model.and_then(|model| model.parameter_group.clone());
        let groups = model.map(|model| model.security_groups.clone()).filter(|groups| !groups.is_empty());
        let public = model.map(|model| model.public);
        let tags = Some(self.tags(source));
        match &source.what {
            What::Snapshot { name, .. } => {
                let request = rds.restore_db_instance_from_db_snapshot();
                let request = request.db_instance_identifier(&self.step.name).db_snapshot_identifier(name);
                let request = request.set_db_instance_class(class).set_db_subnet_group_name(subnets);
                let request =
                    request.set_vpc_security_group_ids(groups).set_db_parameter_group_name(parameters);
                let sent = request.set_publicly_accessible(public).set_tags(tags).send().await;
                sent.map(drop)
                    .map_err(|error| AwsError::new("RDS", "RestoreDBInstanceFromDBSnapshot", &error))
            }
            What::Time { source, time, .. } => {
                let request = rds.restore_db_instance_to_point_in_time();
                let request = request.source_db_instance_identifier(source);
                let request = request.target_db_instance_identifier(&self.step.name);
                let request = match time {
                    Some(time) => {
                        request.restore_time(aws_smithy_types::DateTime::from_secs(time.as_second()))
                    }
                    None => request.use_latest_restorable_time(true),
                };
                let request = request.set_db_instance_class(class).set_db_subnet_group_name(subnets);
                let request =
                    request.set_vpc_security_group_ids(groups).set_db_parameter_group_name(parameters);
                let sent = request.set_publicly_accessible(public).set_tags(tags).send().await;
                sent.map(drop).map_err(|error| AwsError::new("RDS", "RestoreDBInstanceToPointInTime", &error))
            }
        }
    }

    fn tags(&self, source: &Source) -> Vec<Tag> {
        let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build();
        vec![tag(MARK, self.mark.clone()), tag(MADE_FROM, source.tag())]
    }

    /// The instance that is being made, with its mark: not every RDS takes tags in the request.
    async fn listed(&self, cx: &Context, source: &Source) -> Result<Instance, Failure> {
        let name = &self.step.name;
        let Some(made) = appears(cx, name).await? else {
            let reason = format!("RDS makes {name}, and does not list it");
            return Err(Failure::of(FailureClass::Unknown, reason));
        };
        if made.tags.get(MARK) != Some(&self.mark) {
            let marked = repeat(cx.world.clock, &cx.cancel, || async {
                let request = cx.cloud.writes().await.rds.add_tags_to_resource();
                let request = request.resource_name(&made.arn).set_tags(Some(self.tags(source)));
                let sent = request.send().await;
                sent.map(drop).map_err(|error| AwsError::new("RDS", "AddTagsToResource", &error))
            });
            if let Err(error) = marked.await {
                // The receipt and the notes know it too.
                cx.feed.output(format!("{name} could not be marked as made by this step: {error}")).await;
            }
        }
        Ok(made)
    }

    async fn available(&self, cx: &Context) -> Result<Instance, Failure> {
        let name = &self.step.name;
        let patience = Patience::new(cx.world.clock, self.step.limit);
        let goes_on = |why: String| {
            Failure::of(FailureClass::Unknown, format!("RDS goes on making {name}: {why}"))
                .help("resume the run later, or give the step more time with timeout")
        };
        loop {
            let looked = cx.cancel.unless_stopped(describe(cx, name)).await;
            match looked.map_err(|_| goes_on("the run was stopped".to_owned()))? {
                Ok(Some(there)) => match there.stage() {
                    Stage::Available if there.endpoint.is_some() => return Ok(there),
                    Stage::Available | Stage::Working => {
                        let elapsed = show_duration(patience.elapsed());
                        cx.feed.progress(format!("{name} is {}, {elapsed}", there.status)).await;
                    }
                    Stage::Broken => return Err(broken(&there)),
                },
                Ok(None) => {
                    return Err(Failure::new(format!(
                        "the instance {name} is gone; somebody else deleted it"
                    )));
                }
                // What RDS does goes on without being looked at.
                Err(error) if may_pass(&error) => {}
                Err(error) => return Err(goes_on(error.to_string())),
            }
            if patience.is_over() {
                return Err(goes_on(format!("not available after {}", show_duration(patience.elapsed()))));
            }
            patience.rest(&cx.cancel).await.map_err(|_| goes_on("the run was stopped".to_owned()))?;
        }
    }
}

/// The instance of that name, as soon as RDS lists it; `None` when it does not for a while.
pub(super) async fn appears(cx: &Context, name: &str) -> Result<Option<Instance>, Failure> {
    let patience = Patience::new(cx.world.clock, SETTLE);
    loop {
        match describe(cx, name).await {
            Ok(Some(there)) => return Ok(Some(there)),
            Ok(None) if patience.is_over() => return Ok(None),
            Ok(None) => {}
            Err(error) if may_pass(&error) && !patience.is_over() => {}
            Err(error) => return Err(error.into()),
        }
        // A stop does not cut this short: what was sent must be known.
        cx.world.clock.pause(patience.pause()).await;
    }
}
