//! Exports and the outputs of stacks.

use super::{Found, VALUE, lacking};
use crate::model::value::{Outputs, Value};
use crate::steps::cfn_deploy::stack::describe;
use crate::steps::{Context, Failure};
use crate::world::aws::AwsError;

/// The value of an export.
pub(super) async fn export(cx: &Context, name: &str) -> Result<Found, Failure> {
    let mut known = Vec::new();
    let mut token = None;
    loop {
        let request = cx.cloud.reads().await.cloudformation.list_exports().set_next_token(token.take());
        let page = cx.cancel.unless_stopped(request.send()).await?;
        let page = page.map_err(|error| AwsError::new("CloudFormation", "ListExports", &error))?;
        for export in page.exports() {
            if export.name() == Some(name) {
                let value = Value::text(export.value().unwrap_or_default());
                let outputs = Outputs::from([(VALUE.to_owned(), value)]);
                return Ok(Found { what: format!("export {name}"), outputs });
            }
            known.extend(export.name().map(str::to_owned));
        }
        token = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let place = place(cx);
    Err(lacking(&format!("no stack in {place} exports {name}"), name, &known))
}

/// All outputs of a stack.
pub(super) async fn stack(cx: &Context, name: &str) -> Result<Found, Failure> {
    match cx.cancel.unless_stopped(describe(cx, name)).await?? {
        Some(stack) if stack.status != "REVIEW_IN_PROGRESS" => {
            Ok(Found { what: format!("stack {name}"), outputs: stack.outputs })
        }
        _ => {
            // What else there is only helps: that it cannot be listed is nobody's trouble.
            let known = cx.cancel.unless_stopped(names(cx)).await?.unwrap_or_default();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            Err(lacking(&format!("there is no stack {name} in {}", place(cx)), name, &known))
        }
    }
}

/// The names of the stacks of the first page: enough to find a mistyped one in most accounts.
async fn names(cx: &Context) -> Result<Vec<String>, AwsError> {
    let page = cx.cloud.reads().await.cloudformation.describe_stacks().send().await;
    let page = page.map_err(|error| AwsError::new("CloudFormation", "DescribeStacks", &error))?;
    Ok(page.stacks().iter().filter_map(|stack| stack.stack_name()).map(str::to_owned).collect())
}

/// Where was looked: names are unique only there.
fn place(cx: &Context) -> String {
    let target = cx.cloud.target();
    match &target.region {
        Some(region) => format!("{} ({region})", target.environment),
        None => target.environment.to_string(),
    }
}
