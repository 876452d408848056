//! Toolkit stacks: what `cdk bootstrap` leaves in an account, and who deploys through it.

use std::collections::BTreeMap;

use super::assembly::Needs;
use crate::steps::{Context, Failure};
use crate::world::aws::AwsError;

/// A toolkit stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toolkit {
    /// `CDKToolkit`, unless somebody called it otherwise.
    pub stack: String,
    pub qualifier: String,
    /// `CREATE_COMPLETE`, …
    pub status: String,
    pub parameters: BTreeMap<String, String>,
    pub outputs: BTreeMap<String, String>,
}

/// What an account has of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Toolkits {
    pub all: Vec<Toolkit>,
    /// Stacks that say through which toolkit they were deployed: name and parameter.
    users: Vec<(String, String)>,
}

impl Toolkits {
    /// Looks at all stacks of the account.
    pub(super) async fn find(cx: &Context) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut token = None;
        loop {
            let call = cx.cloud.reads().await.cloudformation.describe_stacks().set_next_token(token.take());
            let page = cx.cancel.unless_stopped(call.send()).await?;
            let page = page.map_err(|error| AwsError::new("CloudFormation", "DescribeStacks", &error))?;
            for stack in page.stacks() {
                found.add(stack);
            }
            match page.next_token() {
                Some(next) => token = Some(next.to_owned()),
                None => return Ok(found),
            }
        }
    }

    fn add(&mut self, stack: &aws_sdk_cloudformation::types::Stack) {
        let name = stack.stack_name().unwrap_or_default().to_owned();
        let status = stack.stack_status().map(|status| status.as_str().to_owned()).unwrap_or_default();
        let parameters: BTreeMap<String, String> = stack
            .parameters()
            .iter()
            .filter_map(|p| Some((p.parameter_key()?.to_owned(), p.parameter_value()?.to_owned())))
            .collect();
        let outputs: BTreeMap<String, String> = stack
            .outputs()
            .iter()
            .filter_map(|o| Some((o.output_key()?.to_owned(), o.output_value()?.to_owned())))
            .collect();
        let is_toolkit =
            parameters.contains_key("FileAssetsBucketName") && parameters.contains_key("TrustedAccounts");
        if let (true, Some(qualifier)) = (is_toolkit, parameters.get("Qualifier").cloned()) {
            self.all.push(Toolkit { stack: name, qualifier, status, parameters, outputs });
        } else if let Some(parameter) = parameters.get("BootstrapVersion") {
            self.users.push((name, parameter.clone()));
        }
    }

    /// The stacks that were deployed through the toolkit with a qualifier.
    pub(super) fn users(&self, qualifier: &str) -> Vec<&str> {
        let parameter = parameter(qualifier);
        self.users.iter().filter(|(_, used)| *used == parameter).map(|(name, _)| name.as_str()).collect()
    }
}

/// Where a toolkit's version stands.
pub(super) fn parameter(qualifier: &str) -> String {
    format!("/cdk-bootstrap/{qualifier}/version")
}

/// The version that a parameter says.
pub(super) async fn version(cx: &Context, parameter: &str) -> Result<Option<u64>, Failure> {
    let said = cx.cancel.unless_stopped(cx.cloud.parameter(parameter)).await??;
    Ok(said.and_then(|text| text.trim().parse().ok()))
}

/// Whether the account is ready for what an app needs; else why not, and what helps.
pub(super) async fn check(cx: &Context, needs: &[&Needs]) -> Result<(), Failure> {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for need in needs {
        let most = seen.entry(need.parameter.as_str()).or_default();
        *most = need.version.max(*most);
    }
    for (parameter, needed) in seen {
        let found = version(cx, parameter).await?;
        if found.is_some_and(|found| found >= needed) {
            continue;
        }
        let reason = match found {
            Some(found) => {
                format!("the account's CDK toolkit is of version {found}, and the app needs {needed}")
            }
            None => format!("the account is not bootstrapped for the CDK: there is no parameter {parameter}"),
        };
        let mut failure = Failure::missing(reason);
        for other in Toolkits::find(cx).await?.all {
            if super::toolkit::parameter(&other.qualifier) != parameter {
                failure = failure.detail(format!(
                    "the stack {} is a toolkit with the qualifier {}",
                    other.stack, other.qualifier
                ));
            }
        }
        return Err(failure.help("put a cdk-bootstrap step in front of it"));
    }
    Ok(())
}
