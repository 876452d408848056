//! What is there: names that are taken, and the stacks that have them.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::OnceCell;

use crate::steps::cdk::assembly::AppStack;
use crate::steps::cfn::exports::all_exports;
use crate::steps::cfn::named::is_called;
use crate::steps::cfn::resources::resources;
use crate::steps::{Context, Failure};
use crate::world::aws::{AwsError, AwsErrorClass};

/// How many stacks are asked at once; CloudFormation throttles more.
const AT_ONCE: usize = 6;

/// Whether something exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::steps::cdk) enum There {
    Yes,
    No,
    /// Something is there, and these credentials may not see it.
    Forbidden,
    /// Nobody was asked: the type is not one of those that can be looked up.
    Unknown,
}

/// A resource of a stack.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub kind: String,
    pub physical: String,
}

type Resources = BTreeMap<String, Vec<Owned>>;

/// The stacks that are deployed, as they are.
pub(super) struct World {
    stacks: Resources,
    exports: OnceCell<BTreeMap<String, String>>,
}

impl World {
    pub(super) async fn look(cx: &Context, stacks: &[&AppStack]) -> Result<Self, Failure> {
        let names = stacks.iter().map(|stack| stack.name.clone()).collect();
        Ok(Self { stacks: all(cx, names).await?, exports: OnceCell::new() })
    }

    /// Whether a stack has that resource already.
    pub(super) fn has(&self, stack: &str, kind: &str, name: &str) -> bool {
        let owned = self.stacks.get(stack);
        owned.is_some_and(|all| all.iter().any(|r| r.kind == kind && is_called(kind, &r.physical, name)))
    }

    /// All exports, asked for once.
    pub(super) async fn exports(&self, cx: &Context) -> Result<&BTreeMap<String, String>, Failure> {
        self.exports.get_or_try_init(|| all_exports(cx)).await
    }
}

/// Every stack of the account and what it has.
pub(super) async fn everybody(cx: &Context) -> Result<Resources, Failure> {
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let call = cx.cloud.reads().await.cloudformation.describe_stacks().set_next_token(token.take());
        let page = cx.cancel.unless_stopped(call.send()).await?;
        let page = page.map_err(|error| AwsError::new("CloudFormation", "DescribeStacks", &error))?;
        names.extend(page.stacks().iter().filter_map(|stack| stack.stack_name()).map(str::to_owned));
        match page.next_token() {
            Some(next) => token = Some(next.to_owned()),
            None => return all(cx, names).await,
        }
    }
}

async fn all(cx: &Context, names: Vec<String>) -> Result<Resources, Failure> {
    let asked = names.into_iter().map(|name| async move {
        let resources = resources(cx, &name).await?.into_iter();
        let owned = resources.filter_map(|it| Some(Owned { kind: it.kind, physical: it.physical? }));
        Ok::<_, Failure>((name, owned.collect()))
    });
    stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await
}

/// Whether a name of a type is taken.
pub(super) async fn look_for(cx: &Context, kind: &str, name: &str) -> Result<There, Failure> {
    let clients = cx.cloud.reads().await;
    let asked = async {
        match kind {
            "AWS::S3::Bucket" => {
                let said = clients.s3.head_bucket().bucket(name).send().await;
                return bucket(
                    said.map(drop).map_err(|e| (status(&e), AwsError::new("S3", "HeadBucket", &e))),
                );
            }
            "AWS::Logs::LogGroup" => {
                let said = clients.logs.describe_log_groups().log_group_name_prefix(name).send().await;
                said.map(|said| said.log_groups().iter().any(|group| group.log_group_name() == Some(name)))
                    .map_err(|error| AwsError::new("CloudWatch Logs", "DescribeLogGroups", &error))
            }
            "AWS::ECR::Repository" => {
                let said = clients.ecr.describe_repositories().repository_names(name).send().await;
                said.map(|_| true).map_err(|error| AwsError::new("ECR", "DescribeRepositories", &error))
            }
            "AWS::SSM::Parameter" => {
                let said = clients.ssm.get_parameter().name(name).send().await;
                said.map(|_| true).map_err(|error| AwsError::new("SSM", "GetParameter", &error))
            }
            "AWS::SecretsManager::Secret" => {
                let said = clients.secrets.describe_secret().secret_id(name).send().await;
                said.map(|_| true).map_err(|error| AwsError::new("Secrets Manager", "DescribeSecret", &error))
            }
            "AWS::ElasticLoadBalancingV2::LoadBalancer" => {
                let said = clients.elb.describe_load_balancers().names(name).send().await;
                said.map(|_| true).map_err(|error| AwsError::new("ELB", "DescribeLoadBalancers", &error))
            }
            _ => return Ok(There::Unknown),
        }
        .map_or_else(judged, |there| Ok(if there { There::Yes } else { There::No }))
    };
    Ok(cx.cancel.unless_stopped(asked).await??)
}

/// A refusal to say is no answer; what is not found is not there.
fn judged(error: AwsError) -> Result<There, AwsError> {
    match error.class {
        AwsErrorClass::NotFound => Ok(There::No),
        AwsErrorClass::Denied => Ok(There::Unknown),
        _ => Err(error),
    }
}

/// `HeadBucket` answers without a body: only its status says something.
fn bucket(said: Result<(), (Option<u16>, AwsError)>) -> Result<There, AwsError> {
    match said {
        Err((Some(404), _)) => Ok(There::No),
        Err((Some(403), _)) => Ok(There::Forbidden),
        // Those in another region, too: the name is taken all the same.
        Ok(()) | Err((Some(301 | 400), _)) => Ok(There::Yes),
        Err((_, error)) => judged(error),
    }
}

fn status<E>(
    error: &aws_smithy_runtime_api::client::result::SdkError<
        E,
        aws_smithy_runtime_api::client::orchestrator::HttpResponse,
    >,
) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
