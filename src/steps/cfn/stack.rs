//! A stack as CloudFormation describes it, and what may be done in its state.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::{Stack as Described, TemplateStage};

use crate::model::value::{Outputs, Value};
use crate::steps::{Context, Failure, FailureClass};
use crate::world::aws::AwsError;

/// A stack that exists.
#[derive(Clone, Debug)]
pub(in crate::steps) struct Stack {
    /// Its ARN.
    pub id: String,
    /// `UPDATE_COMPLETE`, …
    pub status: String,
    /// CloudFormation's words for it; may be empty.
    pub reason: String,
    /// As they are now; those that CloudFormation hides as stars.
    pub parameters: BTreeMap<String, String>,
    /// Those given to the stack itself.
    pub tags: BTreeMap<String, String>,
    /// Acknowledged the last time.
    pub capabilities: Vec<String>,
    /// By key.
    pub outputs: Outputs,
    /// Names of the exports among them.
    pub exports: Vec<String>,
    /// CloudFormation refuses to delete it.
    pub keeps_itself: bool,
}

/// It is updated, and old resources are still being removed.
pub(in crate::steps) const CLEANING: &str = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS";

/// What may be done.
#[derive(Clone, Debug)]
pub(in crate::steps) enum State {
    /// There is no stack, or only one that was prepared and never created.
    Absent,
    /// It may be updated.
    Ready(Stack),
    /// It is as its last update says; old resources are still being removed.
    Cleaning(Stack),
    /// Somebody changes it right now.
    Busy(Stack),
    /// Nothing can be done before somebody has repaired or deleted it.
    Stuck(Stack),
}

impl State {
    fn of(stack: Stack) -> Self {
        match stack.status.as_str() {
            "REVIEW_IN_PROGRESS" | "DELETE_COMPLETE" => Self::Absent,
            CLEANING => Self::Cleaning(stack),
            status if status.ends_with("_IN_PROGRESS") => Self::Busy(stack),
            "CREATE_COMPLETE"
            | "UPDATE_COMPLETE"
            | "UPDATE_ROLLBACK_COMPLETE"
            | "IMPORT_COMPLETE"
            | "IMPORT_ROLLBACK_COMPLETE"
            | "UPDATE_FAILED" => Self::Ready(stack),
            _ => Self::Stuck(stack),
        }
    }
}

/// The state of a stack, by name or ARN.
pub(in crate::steps) async fn state(cx: &Context, name: &str) -> Result<State, Failure> {
    let found = cx.cancel.unless_stopped(describe(cx, name)).await??;
    Ok(found.map_or(State::Absent, State::of))
}

/// A stack, by name or ARN.
pub(in crate::steps) async fn describe(cx: &Context, name: &str) -> Result<Option<Stack>, AwsError> {
    let answer = cx.cloud.reads().await.cloudformation.describe_stacks().stack_name(name).send().await;
    match answer.map_err(|error| AwsError::new("CloudFormation", "DescribeStacks", &error)) {
        Ok(answer) => Ok(answer.stacks().first().map(Stack::from)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// CloudFormation has no code of its own for a stack that does not exist.
pub(in crate::steps) fn is_absent(error: &AwsError) -> bool {
    error.code.as_deref() == Some("ValidationError") && error.message.contains("does not exist")
}

/// The template that the stack was last deployed with, byte for byte.
pub(in crate::steps) async fn template(cx: &Context, id: &str) -> Result<String, Failure> {
    template_at(cx, id, TemplateStage::Original).await
}

/// The same with all that macros made of it.
pub(in crate::steps) async fn processed(cx: &Context, id: &str) -> Result<String, Failure> {
    template_at(cx, id, TemplateStage::Processed).await
}

async fn template_at(cx: &Context, id: &str, stage: TemplateStage) -> Result<String, Failure> {
    let request = cx.cloud.reads().await.cloudformation.get_template().stack_name(id);
    let answer = cx.cancel.unless_stopped(request.template_stage(stage).send()).await?;
    let answer = answer.map_err(|error| AwsError::new("CloudFormation", "GetTemplate", &error))?;
    Ok(answer.template_body().unwrap_or_default().to_owned())
}

impl From<&Described> for Stack {
    fn from(stack: &Described) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let parameters = stack.parameters().iter();
        let outputs = stack.outputs().iter();
        Self {
            id: text(stack.stack_id()),
            status: stack.stack_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            reason: text(stack.stack_status_reason()),
            parameters: parameters.map(|p| (text(p.parameter_key()), text(p.parameter_value()))).collect(),
            tags: stack.tags().iter().map(|tag| (text(tag.key()), text(tag.value()))).collect(),
            capabilities: stack.capabilities().iter().map(|c| c.as_str().to_owned()).collect(),
            outputs: outputs.map(|o| (text(o.output_key()), Value::text(text(o.output_value())))).collect(),
            exports: stack.outputs().iter().filter_map(|o| o.export_name()).map(str::to_owned).collect(),
            keeps_itself: stack.enable_termination_protection() == Some(true),
        }
    }
}

/// Why nothing can be done with a stack that somebody else is changing.
pub(in crate::steps) fn busy(name: &str, stack: &Stack) -> Failure {
    if stack.status.ends_with("_CLEANUP_IN_PROGRESS") {
        return cleaning(name, stack);
    }
    Failure::of(
        FailureClass::Locked,
        format!("the stack {name} is being changed by somebody else: {}", stack.status),
    )
    .help(format!("wait until it is done: aws cloudformation describe-stack-events --stack-name {name}"))
}

/// Why a stack cannot be changed for some moments after it was.
pub(in crate::steps) fn cleaning(name: &str, stack: &Stack) -> Failure {
    let reason = format!("the stack {name} still tidies up after its last update: {}", stack.status);
    Failure::of(FailureClass::Passing, reason).help(format!(
        "wait until it is done: aws cloudformation wait stack-update-complete --stack-name {name}"
    ))
}

/// Why nothing can be done with a stack before somebody repaired it, and how.
pub(in crate::steps) fn stuck(name: &str, stack: &Stack) -> Failure {
    let failure = match stack.status.as_str() {
        "ROLLBACK_COMPLETE" => Failure::new(format!(
            "the stack {name} is ROLLBACK_COMPLETE: its first creation failed, and CloudFormation updates it no more"
        ))
        .help(format!("delete what is left and run it again: {}", delete_command(name))),
        "CREATE_FAILED" | "ROLLBACK_FAILED" | "DELETE_FAILED" => {
            Failure::new(format!("the stack {name} is {}: CloudFormation can only delete it", stack.status))
                .help(format!("see why, then delete it and run it again: {}", delete_command(name)))
        }
        "UPDATE_ROLLBACK_FAILED" => Failure::new(format!(
            "the stack {name} is UPDATE_ROLLBACK_FAILED: an update failed and could not be taken back"
        ))
        .help(format!(
            "repair what its events name, then: aws cloudformation continue-update-rollback --stack-name {name}"
        )),
        status => Failure::new(format!("the stack {name} is {status}, in which nothing can be deployed")),
    };
    if stack.reason.is_empty() { failure } else { failure.detail(stack.reason.clone()) }
}

pub(in crate::steps) fn delete_command(name: &str) -> String {
    format!("aws cloudformation delete-stack --stack-name {name}")
}

#[cfg(test)]
impl Stack {
    /// One in that state, without anything in it.
    pub(in crate::steps) fn for_tests(status: &str) -> Self {
        Self {
            id: "arn".to_owned(),
            status: status.to_owned(),
            reason: String::new(),
            parameters: BTreeMap::new(),
            tags: BTreeMap::new(),
            capabilities: Vec::new(),
            outputs: Outputs::new(),
            exports: Vec::new(),
            keeps_itself: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let word = |status: &str| match State::of(Stack::for_tests(status)) {
            State::Absent => "absent",
            State::Ready(_) => "ready",
            State::Cleaning(_) => "cleaning",
            State::Busy(_) => "busy",
            State::Stuck(_) => "stuck",
        };
        for (status, wanted) in [
            ("REVIEW_IN_PROGRESS", "absent"),
            ("CREATE_COMPLETE", "ready"),
            ("UPDATE_ROLLBACK_COMPLETE", "ready"),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "cleaning"),
            ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "busy"),
            ("CREATE_IN_PROGRESS", "busy"),
            ("DELETE_IN_PROGRESS", "busy"),
            ("ROLLBACK_COMPLETE", "stuck"),
            ("UPDATE_ROLLBACK_FAILED", "stuck"),
            ("SOMETHING_NEW", "stuck"),
        ] {
            assert_eq!(word(status), wanted, "{status}");
        }
    }
}
