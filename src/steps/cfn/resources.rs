//! What CloudFormation says that a stack has.

use aws_sdk_cloudformation::types::ResourceStatus;

use super::stack::is_absent;
use crate::steps::{Context, Failure};
use crate::world::aws::AwsError;

/// A resource of a stack.
#[derive(Clone, Debug)]
pub(in crate::steps) struct StackResource {
    /// Its name in the template.
    pub id: String,
    /// `AWS::S3::Bucket`
    pub kind: String,
    /// What its provider calls it; `None` where it was not made.
    pub physical: Option<String>,
}

/// The resources of a stack, by its name or ARN, without those that are gone or were left behind;
/// nothing where there is no such stack.
pub(in crate::steps) async fn resources(cx: &Context, stack: &str) -> Result<Vec<StackResource>, Failure> {
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let call = cx.cloud.reads().await.cloudformation.list_stack_resources().stack_name(stack);
        let page = cx.cancel.unless_stopped(call.set_next_token(token.take()).send()).await?;
        let page = match page.map_err(|error| AwsError::new("CloudFormation", "ListStackResources", &error)) {
            Ok(page) => page,
            Err(error) if is_absent(&error) => return Ok(all),
            Err(error) => return Err(error.into()),
        };
        for resource in page.stack_resource_summaries() {
            let status = resource.resource_status().map(ResourceStatus::as_str).unwrap_or_default();
            if matches!(status, "DELETE_COMPLETE" | "DELETE_SKIPPED") {
                continue;
            }
            all.push(StackResource {
                id: resource.logical_resource_id().unwrap_or_default().to_owned(),
                kind: resource.resource_type().unwrap_or_default().to_owned(),
                physical: resource.physical_resource_id().filter(|id| !id.is_empty()).map(str::to_owned),
            });
        }
        match page.next_token() {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(all),
        }
    }
}
