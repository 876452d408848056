//! A function, a version of it, or an alias, as Lambda describes it.

use std::time::Duration;

use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use aws_sdk_lambda::types::{LastUpdateStatus, PackageType, State};

use crate::steps::ecs::patience::{Patience, may_pass};
use crate::steps::{Context, Failure, FailureClass};
use crate::world::aws::AwsError;

/// A function or a version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// With its version or alias, if it was asked for by one.
    pub arn: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// SHA-256 of its archive, base64.
    pub sha256: String,
    /// Another one after each change.
    pub revision: String,
    /// What it is doing.
    pub condition: Condition,
    /// It is a container image, not an archive.
    pub is_image: bool,
}

/// Whether it can be used, and changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It can.
    Ready,
    /// Lambda still works on it.
    Busy,
    /// The last change failed; why.
    Failed(String),
}

/// Where an alias points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Its ARN.
    pub arn: String,
    /// The version.
    pub version: String,
    /// Another one after each change.
    pub revision: String,
    /// Part of the calls go to other versions.
    pub is_split: bool,
}

/// A function; with a qualifier its version or alias. `None` when there is none.
pub async fn describe(
    cx: &Context,
    name: &str,
    qualifier: Option<&str>,
) -> Result<Option<Function>, AwsError> {
    let request = cx.cloud.reads().await.lambda.get_function_configuration().function_name(name);
    match request.set_qualifier(qualifier.map(str::to_owned)).send().await {
        Ok(said) => Ok(Some(Function::of(&said))),
        Err(error) => match AwsError::new("Lambda", "GetFunctionConfiguration", &error) {
            error if error.is_not_found() => Ok(None),
            error => Err(error),
        },
    }
}

/// An alias; `None` when there is none.
pub async fn alias(cx: &Context, function: &str, name: &str) -> Result<Option<Alias>, AwsError> {
    let request = cx.cloud.reads().await.lambda.get_alias().function_name(function).name(name);
    match request.send().await {
        Ok(said) => {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            let weights = said.routing_config().and_then(|config| config.additional_version_weights());
            Ok(Some(Alias {
                arn: text(said.alias_arn()),
                version: text(said.function_version()),
                revision: text(said.revision_id()),
                is_split: weights.is_some_and(|weights| !weights.is_empty()),
            }))
        }
        Err(error) => match AwsError::new("Lambda", "GetAlias", &error) {
            error if error.is_not_found() => Ok(None),
            error => Err(error),
        },
    }
}

/// Waits until Lambda has done what it was asked for, and returns what came of it.
pub async fn settled(
    cx: &Context,
    name: &str,
    qualifier: Option<&str>,
    limit: Duration,
) -> Result<Function, Failure> {
    let patience = Patience::new(cx.world.clock, limit);
    loop {
        match cx.cancel.unless_stopped(describe(cx, name, qualifier)).await? {
            Ok(Some(function)) => match &function.condition {
                Condition::Ready => return Ok(function),
                Condition::Failed(why) => {
                    return Err(Failure::new(format!("Lambda could not update {name}: {why}")));
                }
                Condition::Busy => cx.feed.progress(format!("Lambda works on {name}")).await,
            },
            Ok(None) => return Err(Failure::new(format!("the function {name} is gone"))),
            // What Lambda does goes on without being looked at.
            Err(error) if may_pass(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if patience.is_over() {
            let reason = format!("Lambda still works on {name}, and how that ends is not known");
            return Err(
                Failure::of(FailureClass::Unknown, reason).help("give the step more time with timeout")
            );
        }
        patience.rest(&cx.cancel).await?;
    }
}

/// There is no such function.
#[must_use]
pub fn missing(name: &str, cx: &Context) -> Failure {
    let target = cx.cloud.target();
    let region = target.region.as_deref().unwrap_or("the default region");
    Failure::missing(format!("there is no function {name} in {} ({region})", target.environment))
        .help("create it with your infrastructure, or correct `function`")
}

impl Function {
    fn of(said: &GetFunctionConfigurationOutput) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let failed = |why: Option<&str>| Condition::Failed(why.unwrap_or("it does not say why").to_owned());
        let condition = match (said.state(), said.last_update_status()) {
            (Some(State::Failed), _) => failed(said.state_reason()),
            (_, Some(LastUpdateStatus::Failed)) => failed(said.last_update_status_reason()),
            (Some(State::Pending), _) | (_, Some(LastUpdateStatus::InProgress)) => Condition::Busy,
            _ => Condition::Ready,
        };
        Self {
            arn: text(said.function_arn()),
            version: text(said.version()),
            sha256: text(said.code_sha256()),
            revision: text(said.revision_id()),
            condition,
            is_image: said.package_type() == Some(&PackageType::Image),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_ready_when_lambda_has_nothing_left_to_do() {
        let of = |state: Option<State>, update: Option<LastUpdateStatus>| {
            let said = GetFunctionConfigurationOutput::builder()
                .set_state(state)
                .set_last_update_status(update)
                .last_update_status_reason("no such role")
                .build();
            Function::of(&said).condition
        };
        for (state, update, wanted) in [
            (Some(State::Active), Some(LastUpdateStatus::Successful), Condition::Ready),
            (Some(State::Inactive), None, Condition::Ready),
            (None, None, Condition::Ready),
            (Some(State::Pending), Some(LastUpdateStatus::InProgress), Condition::Busy),
            (Some(State::Active), Some(LastUpdateStatus::InProgress), Condition::Busy),
            (
                Some(State::Active),
                Some(LastUpdateStatus::Failed),
                Condition::Failed("no such role".to_owned()),
            ),
        ] {
            assert_eq!(of(state, update), wanted);
        }
    }
}
