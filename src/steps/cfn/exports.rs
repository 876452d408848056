//! Exports: what stacks hand to other stacks.

use std::collections::BTreeMap;

use crate::steps::{Context, Failure};
use crate::world::aws::AwsError;

/// The exports of all stacks: name and value.
pub(in crate::steps) async fn all_exports(cx: &Context) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    let mut token = None;
    loop {
        let call = cx.cloud.reads().await.cloudformation.list_exports().set_next_token(token.take());
        let page = cx.cancel.unless_stopped(call.send()).await?;
        let page = page.map_err(|error| AwsError::new("CloudFormation", "ListExports", &error))?;
        for export in page.exports() {
            if let (Some(name), Some(value)) = (export.name(), export.value()) {
                all.insert(name.to_owned(), value.to_owned());
            }
        }
        match page.next_token() {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(all),
        }
    }
}

/// Refuses a template that takes exports which no stack has; a step in front may still make them.
pub(in crate::steps) async fn demand(cx: &Context, path: &str, body: &str) -> Result<(), Failure> {
    let taken = super::lint::imports(body);
    if taken.is_empty() {
        return Ok(());
    }
    let there = all_exports(cx).await?;
    let missing: Vec<&str> =
        taken.iter().filter(|name| !there.contains_key(*name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = if missing.len() == 1 { "an export that no stack has" } else { "exports that no stack has" };
    Err(Failure::missing(format!("{path} imports {what}: {}", missing.join(", ")))
        .help("deploy the stack that exports it first"))
}

/// Names of the stacks that take an export.
pub(in crate::steps) async fn importers(cx: &Context, export: &str) -> Result<Vec<String>, Failure> {
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let call = cx.cloud.reads().await.cloudformation.list_imports().export_name(export);
        let page = cx.cancel.unless_stopped(call.set_next_token(token.take()).send()).await?;
        let page = match page.map_err(|error| AwsError::new("CloudFormation", "ListImports", &error)) {
            Ok(page) => page,
            // Nobody at all is an error to CloudFormation.
            Err(error) if error.message.contains("is not imported by any stack") => return Ok(all),
            Err(error) => return Err(error.into()),
        };
        all.extend(page.imports().iter().cloned());
        match page.next_token() {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(all),
        }
    }
}
