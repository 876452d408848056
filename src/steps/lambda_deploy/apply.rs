//! The effect: code, a version, the alias.
//!
//! Each call is safe to repeat: the same code again changes nothing, publishing
//! names the digest that it publishes, and an alias is where it is. After a lost
//! answer Lambda is asked before anything is sent again.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::AliasRoutingConfiguration;
use serde_json::json;

use super::{Deployed, Standing, short};
use crate::steps::lambda::function::{Alias, Condition, alias, describe, settled};
use crate::steps::lambda::package::{Code, Package};
use crate::steps::{Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat_unless_done;

/// A planned deployment.
pub(super) struct Deploy {
    pub function: String,
    pub alias: Option<String>,
    pub package: Package,
    /// The function does not have this code yet.
    pub sends: bool,
    pub found: Standing,
    pub limit: Duration,
}

#[async_trait]
impl Effect for Deploy {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let mut latest = self.found.latest.clone();
        if latest.condition == Condition::Busy {
            latest = settled(cx, &self.function, None, self.limit).await?;
        }
        if self.sends {
            cx.feed
                .note("sending", json!({ "function": self.function, "code": self.package.sha256 }))
                .await?;
            self.send(cx, &latest.revision).await?;
            latest = settled(cx, &self.function, None, self.limit).await?;
        }
        if latest.sha256 != self.package.sha256 {
            return Err(Failure::of(
                FailureClass::Refused,
                format!("{} has other code than was sent: somebody else deploys it too", self.function),
            )
            .detail(format!("sent {}, found {}", short(&self.package.sha256), short(&latest.sha256)))
            .help("find out who, and plan again"));
        }
        cx.feed.progress("publishing a version").await;
        let version = self.publish(cx).await?;
        cx.feed.note("published", json!({ "function": self.function, "version": version })).await?;
        let published = settled(cx, &self.function, Some(&version), self.limit).await?;
        let mut arn = published.arn;
        if let Some(name) = &self.alias {
            let at = self.found.alias.as_ref();
            arn = point(cx, &self.function, name, at, &version).await?.arn;
        }
        let state = Deployed {
            function: self.function.clone(),
            alias: self.alias.clone(),
            version: Some(version.clone()),
            sha256: self.package.sha256.clone(),
        };
        let summary = match &self.alias {
            Some(alias) => format!("{alias} is version {version}"),
            None => format!("version {version}"),
        };
        Ok(Done { summary, outputs: state.outputs(&arn), receipt: state.to_json() })
    }
}

impl Deploy {
    async fn send(&self, cx: &Context, revision: &str) -> Result<(), Failure> {
        let call = || async {
            // A body of megabytes takes longer than other calls.
            let request = cx.cloud.invocations().await.update_function_code().function_name(&self.function);
            let request = request.revision_id(revision);
            let request = match &self.package.code {
                Code::Bytes(bytes) => request.zip_file(Blob::new(bytes.clone())),
                Code::Object { bucket, key, version } => {
                    request.s3_bucket(bucket).s3_key(key).set_s3_object_version(version.clone())
                }
            };
            let sent = request.send().await;
            sent.map(drop).map_err(|error| AwsError::new("Lambda", "UpdateFunctionCode", &error))
        };
        let there = || async {
            let now = describe(cx, &self.function, None).await?;
            Ok(now.is_some_and(|now| now.sha256 == self.package.sha256).then_some(()))
        };
        repeat_unless_done(cx.world.clock, &cx.cancel, call, there).await.map_err(|error| {
            if error.code.as_deref() == Some("PreconditionFailedException") {
                let reason = format!("{} changed since the plan, so nothing was sent", self.function);
                return Failure::of(FailureClass::Refused, reason)
                    .help("plan again and look at the difference");
            }
            error.into()
        })
    }

    /// The number of the version that has this code. Lambda makes no second version of code and
    /// settings that did not change since the last one.
    async fn publish(&self, cx: &Context) -> Result<String, Failure> {
        let run = cx.run.as_ref().map(ToString::to_string).unwrap_or_default();
        let before = self.newest(cx).await?;
        let call = || async {
            let request = cx.cloud.writes().await.lambda.publish_version().function_name(&self.function);
            let request = request.code_sha256(&self.package.sha256).description(format!("flow {run}"));
            let said = request.send().await;
            let said = said.map_err(|error| AwsError::new("Lambda", "PublishVersion", &error))?;
            Ok(said.version().unwrap_or_default().to_owned())
        };
        let there = || async {
            let now = self.newest(cx).await?;
            Ok(now.filter(|now| before.as_ref() != Some(now)).map(|(version, _)| version))
        };
        Ok(repeat_unless_done(cx.world.clock, &cx.cancel, call, there).await?)
    }

    /// The newest version and its code.
    async fn newest(&self, cx: &Context) -> Result<Option<(String, String)>, AwsError> {
        let mut newest: Option<(u64, String)> = None;
        let mut marker = None;
        loop {
            let request =
                cx.cloud.reads().await.lambda.list_versions_by_function().function_name(&self.function);
            let page = request.set_marker(marker.take()).send().await;
            let page = page.map_err(|error| AwsError::new("Lambda", "ListVersionsByFunction", &error))?;
            for version in page.versions() {
                let Some(number) = version.version().and_then(|version| version.parse().ok()) else {
                    continue;
                };
                if newest.as_ref().is_none_or(|(highest, _)| number > *highest) {
                    newest = Some((number, version.code_sha256().unwrap_or_default().to_owned()));
                }
            }
            marker = page.next_marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
            if marker.is_none() {
                return Ok(newest.map(|(number, sha256)| (number.to_string(), sha256)));
            }
        }
    }
}

/// Points an alias at a version, all of it; one that does not exist is created. `at` is what the
/// plan saw: somebody else's change since is not overwritten.
pub(super) async fn point(
    cx: &Context,
    function: &str,
    name: &str,
    at: Option<&Alias>,
    version: &str,
) -> Result<Alias, Failure> {
    let there = || async {
        let now = alias(cx, function, name).await?;
        Ok(now.filter(|now| now.version == version && !now.is_split))
    };
    if let Some(already) = there().await? {
        return Ok(already);
    }
    let call = || async {
        let lambda = &cx.cloud.writes().await.lambda;
        match at {
            None => {
                let request =
                    lambda.create_alias().function_name(function).name(name).function_version(version);
                request
                    .send()
                    .await
                    .map(drop)
                    .map_err(|error| AwsError::new("Lambda", "CreateAlias", &error))?;
            }
            Some(at) => {
                let request =
                    lambda.update_alias().function_name(function).name(name).function_version(version);
                // All calls go there: no weights for other versions.
                let whole = at.is_split.then(|| {
                    AliasRoutingConfiguration::builder()
                        .set_additional_version_weights(Some(std::collections::HashMap::new()))
                        .build()
                });
                let request = request.revision_id(&at.revision).set_routing_config(whole);
                request
                    .send()
                    .await
                    .map(drop)
                    .map_err(|error| AwsError::new("Lambda", "UpdateAlias", &error))?;
            }
        }
        there().await
    };
    let moved =
        repeat_unless_done(cx.world.clock, &cx.cancel, call, || async { Ok(there().await?.map(Some)) });
    let moved = moved.await.map_err(|error| match error.code.as_deref() {
        Some("PreconditionFailedException" | "ResourceConflictException") => Failure::of(
            FailureClass::Refused,
            format!("the alias {name} of {function} was moved by somebody else"),
        )
        .help("plan again and look at the difference"),
        _ => error.into(),
    })?;
    moved.ok_or_else(|| {
        let reason = format!("the alias {name} of {function} was moved away again by somebody else");
        Failure::new(reason).help("find out who, and plan again")
    })
}
