//! ECS as flow uses it: JSON in, JSON or the few members that matter out.
//!
//! Calls that change nothing retry by themselves; those that change something
//! never do (see [`super::Cloud`]).

mod looks;
mod poller;
mod raw;
mod view;

use aws_sdk_ecs::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use self::looks::ServiceLooks;
pub use self::poller::{Following, ServicePoller};
use self::raw::Exchange;
pub use self::view::{
    Container, Controller, Deployment, LoadBalancer, Missed, Service, ServiceDeployment, ServiceEvent,
    ServiceRevision, Task, last_part,
};
use super::{AwsError, AwsErrorClass};

/// At most so many services in one `DescribeServices`.
pub const SERVICES_PER_CALL: usize = 10;
/// At most so many tasks in one `DescribeTasks`.
const TASKS_PER_CALL: usize = 100;
/// At most so many service deployments in one `DescribeServiceDeployments`.
const HISTORY: usize = 20;
/// At most so many pages of `ListTasks`; more stopped tasks than that tell nothing new.
const PAGES: usize = 10;

/// ECS in one account and region.
#[derive(Clone, Copy, Debug)]
pub struct Ecs<'a> {
    reads: &'a Client,
    writes: &'a Client,
    looks: &'a ServiceLooks,
}

/// A registered task definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// Every member, as ECS answered it.
    pub definition: Value,
    /// Its tags, which stand beside it.
    pub tags: Vec<Value>,
}

/// What `DescribeServices` found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// These are there.
    pub services: Vec<Service>,
    /// These are not.
    pub missed: Vec<Missed>,
}

/// What `RunTask` did.
#[derive(Clone, Debug, Default)]
pub struct Started {
    /// These were started.
    pub tasks: Vec<Task>,
    /// These were not.
    pub missed: Vec<Missed>,
}

/// Sends a body as one operation and reads the answer's body.
macro_rules! exchange {
    ($client:expr, $operation:ident, $name:literal, $body:expr) => {{
        let exchange = Exchange::new(&$body);
        let sent = $client.$operation().customize().interceptor(exchange.clone()).send().await;
        match sent {
            Ok(_) => exchange.answer($name),
            Err(error) => Err(AwsError::new("ECS", $name, &error)),
        }
    }};
}

impl<'a> Ecs<'a> {
    pub(super) fn new(reads: &'a Client, writes: &'a Client, looks: &'a ServiceLooks) -> Self {
        Self { reads, writes, looks }
    }

    /// A service as it is now, `None` when there is none of that name; asked together with those that
    /// others look at in the same moment.
    pub async fn service(&self, cluster: &str, name: &str) -> Result<Option<Service>, AwsError> {
        let ask = |names: Vec<String>| async move { self.services(cluster, &names).await };
        self.looks.look(cluster, name, ask).await
    }

    /// Services of a cluster by name, at most ten.
    pub async fn services(&self, cluster: &str, names: &[String]) -> Result<Found, AwsError> {
        let body = json!({ "cluster": cluster, "services": names });
        let answer = exchange!(self.reads, describe_services, "DescribeServices", body)?;
        Ok(Found { services: read(&answer, "services")?, missed: read(&answer, "failures")? })
    }

    /// The newest deployments of a service in ECS's own history, at most twenty.
    pub async fn history(&self, cluster: &str, service: &str) -> Result<Vec<ServiceDeployment>, AwsError> {
        let body = json!({ "cluster": cluster, "service": service, "maxResults": HISTORY });
        let answer = exchange!(self.reads, list_service_deployments, "ListServiceDeployments", body)?;
        let listed = answer.get("serviceDeployments").and_then(Value::as_array).into_iter().flatten();
        let arns: Vec<_> = listed.filter_map(|one| one.get("serviceDeploymentArn")).take(HISTORY).collect();
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let body = json!({ "serviceDeploymentArns": arns });
        let answer = exchange!(self.reads, describe_service_deployments, "DescribeServiceDeployments", body)?;
        read(&answer, "serviceDeployments")
    }

    /// A task definition: `family:N`, an ARN, or `family` for its newest active revision.
    pub async fn definition(&self, name: &str) -> Result<Registered, AwsError> {
        let body = json!({ "taskDefinition": name, "include": ["TAGS"] });
        let answer = exchange!(self.reads, describe_task_definition, "DescribeTaskDefinition", body)?;
        registered(answer, "DescribeTaskDefinition")
    }

    /// Registers a body as it is. The answer names the new revision.
    pub async fn register(&self, body: &Value) -> Result<Registered, AwsError> {
        let answer = exchange!(self.writes, register_task_definition, "RegisterTaskDefinition", body)?;
        registered(answer, "RegisterTaskDefinition")
    }

    /// Sends a body as it is. The answer shows the service right after it.
    pub async fn update_service(&self, body: &Value) -> Result<Service, AwsError> {
        let answer = exchange!(self.writes, update_service, "UpdateService", body)?;
        view(answer.get("service").cloned().unwrap_or_default(), "UpdateService")
    }

    /// Ends a deployment that is under way: ECS goes back to the one before.
    pub async fn stop_deployment(&self, arn: &str) -> Result<(), AwsError> {
        let body = json!({ "serviceDeploymentArn": arn, "stopType": "ROLLBACK" });
        exchange!(self.writes, stop_service_deployment, "StopServiceDeployment", body).map(drop)
    }

    /// Sends a body as it is.
    pub async fn run_task(&self, body: &Value) -> Result<Started, AwsError> {
        let answer = exchange!(self.writes, run_task, "RunTask", body)?;
        Ok(Started { tasks: read(&answer, "tasks")?, missed: read(&answer, "failures")? })
    }

    /// Asks a task to stop: its containers get TERM, and KILL after their stop timeout.
    pub async fn stop_task(&self, cluster: &str, task: &str, reason: &str) -> Result<(), AwsError> {
        let body = json!({ "cluster": cluster, "task": task, "reason": reason });
        exchange!(self.writes, stop_task, "StopTask", body).map(drop)
    }

    /// ARNs of the stopped tasks of a service; ECS remembers them for about an hour.
    pub async fn list_stopped(&self, cluster: &str, service: &str) -> Result<Vec<String>, AwsError> {
        self.list(json!({ "cluster": cluster, "serviceName": service, "desiredStatus": "STOPPED" })).await
    }

    /// ARNs of the tasks that `RunTask` started with that mark, also of stopped ones.
    pub async fn list_started_by(&self, cluster: &str, mark: &str) -> Result<Vec<String>, AwsError> {
        let mut arns = Vec::new();
        for status in ["RUNNING", "STOPPED"] {
            let body = json!({ "cluster": cluster, "startedBy": mark, "desiredStatus": status });
            arns.extend(self.list(body).await?);
        }
        Ok(arns)
    }

    async fn list(&self, mut body: Value) -> Result<Vec<String>, AwsError> {
        let mut arns = Vec::new();
        for _ in 0..PAGES {
            let answer = exchange!(self.reads, list_tasks, "ListTasks", body)?;
            arns.extend(read::<Vec<String>>(&answer, "taskArns")?);
            match answer.get("nextToken") {
                Some(token) if token.as_str().is_some_and(|token| !token.is_empty()) => {
                    body["nextToken"] = token.clone();
                }
                _ => break,
            }
        }
        Ok(arns)
    }

    /// Tasks by ARN; those that ECS has forgotten are left out.
    pub async fn tasks(&self, cluster: &str, arns: &[String]) -> Result<Vec<Task>, AwsError> {
        let mut tasks = Vec::with_capacity(arns.len());
        for some in arns.chunks(TASKS_PER_CALL) {
            let body = json!({ "cluster": cluster, "tasks": some });
            let answer = exchange!(self.reads, describe_tasks, "DescribeTasks", body)?;
            tasks.extend(read::<Vec<Task>>(&answer, "tasks")?);
        }
        Ok(tasks)
    }
}

fn registered(mut answer: Value, operation: &'static str) -> Result<Registered, AwsError> {
    let definition = answer.get_mut("taskDefinition").map(Value::take).unwrap_or_default();
    if !definition.is_object() {
        return Err(unreadable(operation, "it shows no task definition"));
    }
    let tags = match answer.get_mut("tags").map(Value::take) {
        Some(Value::Array(tags)) => tags,
        _ => Vec::new(),
    };
    let registered = Registered { definition, tags };
    if registered.arn().is_empty() {
        return Err(unreadable(operation, "its task definition has no ARN"));
    }
    Ok(registered)
}

fn read<T: DeserializeOwned + Default>(answer: &Value, member: &'static str) -> Result<T, AwsError> {
    match answer.get(member) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => view(value.clone(), member),
    }
}

fn view<T: DeserializeOwned>(json: Value, what: &'static str) -> Result<T, AwsError> {
    serde_json::from_value(raw::without_nulls(json)).map_err(|error| unreadable(what, &error.to_string()))
}

fn unreadable(operation: &'static str, why: &str) -> AwsError {
    AwsError {
        service: "ECS",
        operation,
        class: AwsErrorClass::Unclear,
        code: None,
        message: format!("the answer cannot be read: {why}"),
        request_id: None,
    }
}

impl Registered {
    /// Full ARN, with the revision.
    #[must_use]
    pub fn arn(&self) -> &str {
        self.text("taskDefinitionArn")
    }

    /// Whether services and tasks may be moved to it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.text("status"), "ACTIVE" | "")
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> &str {
        self.text("family")
    }

    /// The revision, from 1.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.definition.get("revision").and_then(Value::as_i64).unwrap_or_default()
    }

    fn text(&self, member: &str) -> &str {
        self.definition.get(member).and_then(Value::as_str).unwrap_or_default()
    }
}
