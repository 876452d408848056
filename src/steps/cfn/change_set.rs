//! Change sets: how CloudFormation says what an update would do.

use std::time::Duration;

use aws_sdk_cloudformation::operation::describe_change_set::DescribeChangeSetOutput;
use aws_sdk_cloudformation::types::{
    ChangeAction, ChangeSetType, ExecutionStatus, Replacement, ResourceAttribute,
    ResourceChange as Described, TemplateStage,
};
use serde::Serialize;

use super::named::naming;
use super::request::Request;
use crate::model::change::{Action, Change};
use crate::steps::{Context, Failure, FailureClass};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What happens to one resource. Ordered by logical id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::steps) struct ResourceChange {
    /// Its logical id.
    pub id: String,
    /// `AWS::S3::Bucket`
    pub kind: String,
    /// What.
    pub what: What,
    /// Properties and attributes concerned, sorted.
    pub touched: Vec<String>,
    /// The physical id of what is there.
    pub physical: Option<String>,
    /// Whether the difference stands in the template or a parameter, not only in what other
    /// resources may turn out to be.
    pub certain: bool,
}

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::steps) enum What {
    Add,
    Modify,
    /// Modified, and CloudFormation only finds out on the way whether it must be replaced.
    MayReplace,
    Replace,
    Remove,
    /// It leaves the stack and stays.
    Retire,
    /// An existing thing becomes part of the stack.
    Import,
    /// CloudFormation cannot say beforehand.
    Dynamic,
}

/// What a change set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) enum Reading {
    /// The stack is as wanted.
    NoChange,
    /// These would change; empty where only the stack's outputs do.
    Changes(Vec<ResourceChange>),
}

/// How far the execution of a change set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::steps) enum Execution {
    /// Nobody has asked for it.
    NotYet,
    Running,
    Complete,
    /// CloudFormation put the stack back, or could not even do that.
    Failed,
    /// There is no such set any more.
    Gone,
}

/// A change set on its way to be read or executed.
#[derive(Clone, Debug)]
pub(in crate::steps) struct ChangeSet {
    stack: String,
    name: String,
}

impl ChangeSet {
    /// Asks for one. The name is of this attempt alone, so that one which exists already after an
    /// unclear answer is ours.
    pub(in crate::steps) async fn create(
        cx: &Context,
        request: &Request,
        kind: ChangeSetType,
    ) -> Result<Self, Failure> {
        let set = Self { stack: request.stack.clone(), name: name(cx) };
        let cloudformation = &cx.cloud.writes().await.cloudformation;
        let answer = repeat(cx.world.clock, &cx.cancel, || async {
            let call = cloudformation
                .create_change_set()
                .stack_name(&request.stack)
                .change_set_name(&set.name)
                .client_token(&set.name)
                .change_set_type(kind.clone())
                .template_body(request.template.carried())
                .set_parameters(request.sdk_parameters())
                .set_capabilities(request.sdk_capabilities())
                .set_tags(request.sdk_tags());
            call.send().await.map_err(|error| AwsError::new("CloudFormation", "CreateChangeSet", &error))
        })
        .await;
        match answer {
            Ok(_) => Ok(set),
            Err(error) if error.code.as_deref() == Some("AlreadyExistsException") => {
                match set.describe(cx, None).await {
                    Ok(_) => Ok(set),
                    Err(_) => Err(Failure::new(format!(
                        "the stack {} was created by somebody else meanwhile",
                        request.stack
                    ))
                    .help("run it again: it is then planned as an update")),
                }
            }
            Err(error) => Err(set.refused(error)),
        }
    }

    /// One that somebody else is about to make: its name is of this attempt alone.
    pub(in crate::steps) fn fresh(cx: &Context, stack: &str) -> Self {
        Self { stack: stack.to_owned(), name: name(cx) }
    }

    fn refused(&self, error: AwsError) -> Failure {
        let stack = &self.stack;
        match error.code.as_deref() {
            // One change set on its way is no effect: nothing is executed.
            _ if error.is_unclear() => Failure::of(FailureClass::Passing, error.to_string()),
            Some("ValidationError") if error.message.contains("_IN_PROGRESS state") => self.overtaken(),
            Some("ValidationError" | "InsufficientCapabilitiesException") => {
                Failure::new(format!("CloudFormation refuses the change of {stack}: {}", error.message))
            }
            Some("LimitExceededException") => Failure::new(error.to_string()).help(format!(
                "delete old change sets: aws cloudformation list-change-sets --stack-name {stack}"
            )),
            _ => error.into(),
        }
    }

    /// Waits until it is made and reads all of it.
    pub(in crate::steps) async fn read(&self, cx: &Context) -> Result<Reading, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let first = cx.cancel.unless_stopped(self.look(cx, None)).await??;
            let status = first.status().map(|status| status.as_str().to_owned()).unwrap_or_default();
            match status.as_str() {
                "CREATE_COMPLETE" => return self.all(cx, first).await,
                "CREATE_PENDING" | "CREATE_IN_PROGRESS" => {
                    cx.cancel.unless_stopped(cx.world.clock.pause(pause)).await?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                _ => {
                    let reason = first.status_reason().unwrap_or_default();
                    return if says_no_change(reason) {
                        Ok(Reading::NoChange)
                    } else {
                        let text =
                            format!("CloudFormation cannot plan the change of {}: {reason}", self.stack);
                        Err(Failure::new(text))
                    };
                }
            }
        }
    }

    async fn all(&self, cx: &Context, first: DescribeChangeSetOutput) -> Result<Reading, Failure> {
        let mut changes = Vec::new();
        let mut page = first;
        loop {
            changes
                .extend(page.changes().iter().filter_map(|c| c.resource_change()).map(ResourceChange::from));
            match page.next_token() {
                Some(token) => page = cx.cancel.unless_stopped(self.look(cx, Some(token))).await??,
                None => break,
            }
        }
        changes.sort();
        Ok(Reading::Changes(changes))
    }

    /// One that was made before.
    pub(in crate::steps) fn named(stack: &str, name: &str) -> Self {
        Self { stack: stack.to_owned(), name: name.to_owned() }
    }

    /// Its name, which is also the token with which it is executed.
    pub(in crate::steps) fn name(&self) -> &str {
        &self.name
    }

    /// How far its execution is.
    pub(in crate::steps) async fn execution(&self, cx: &Context) -> Result<Execution, AwsError> {
        match self.describe(cx, None).await {
            Ok(found) => Ok(match found.execution_status().map_or("", ExecutionStatus::as_str) {
                "EXECUTE_COMPLETE" => Execution::Complete,
                "EXECUTE_FAILED" => Execution::Failed,
                "EXECUTE_IN_PROGRESS" => Execution::Running,
                "OBSOLETE" => Execution::Gone,
                _ => Execution::NotYet,
            }),
            Err(error) if error.is_not_found() || super::stack::is_absent(&error) => Ok(Execution::Gone),
            Err(error) => Err(error),
        }
    }

    /// Whether it was executed, whatever came of it.
    pub(in crate::steps) async fn is_executed(&self, cx: &Context) -> Result<bool, AwsError> {
        // One that is gone tells nothing: executing another one takes it away too.
        let found = self.describe(cx, None).await?;
        Ok(found.execution_status().is_some_and(|status| status.as_str().starts_with("EXECUTE_")))
    }

    /// Starts the change.
    pub(in crate::steps) async fn execute(&self, cx: &Context) -> Result<(), AwsError> {
        let call = cx.cloud.writes().await.cloudformation.execute_change_set();
        let call = call.stack_name(&self.stack).change_set_name(&self.name).client_request_token(&self.name);
        let answer = call.send().await;
        answer.map(drop).map_err(|error| AwsError::new("CloudFormation", "ExecuteChangeSet", &error))
    }

    /// Removes it; done again, it changes nothing. The error says what is left behind.
    pub(in crate::steps) async fn delete(&self, cx: &Context) -> Result<(), String> {
        let cloudformation = &cx.cloud.writes().await.cloudformation;
        repeat(cx.world.clock, &cx.cancel, || async {
            let call = cloudformation.delete_change_set().stack_name(&self.stack).change_set_name(&self.name);
            call.send().await.map_err(|error| AwsError::new("CloudFormation", "DeleteChangeSet", &error))
        })
        .await
        .map(drop)
        .map_err(|error| format!("the change set {} of {} is left behind: {error}", self.name, self.stack))
    }

    /// The template that it would deploy, with all that macros make of it.
    pub(super) async fn template(&self, cx: &Context) -> Result<String, Failure> {
        let call = cx.cloud.reads().await.cloudformation.get_template();
        let call = call.stack_name(&self.stack).change_set_name(&self.name);
        let answer = cx.cancel.unless_stopped(call.template_stage(TemplateStage::Processed).send()).await?;
        let answer = answer.map_err(|error| AwsError::new("CloudFormation", "GetTemplate", &error))?;
        Ok(answer.template_body().unwrap_or_default().to_owned())
    }

    async fn look(&self, cx: &Context, token: Option<&str>) -> Result<DescribeChangeSetOutput, Failure> {
        self.describe(cx, token).await.map_err(|error| {
            // Executing another one drops all others of the stack.
            if error.is_not_found() { self.overtaken() } else { error.into() }
        })
    }

    fn overtaken(&self) -> Failure {
        let text = format!("the stack {} is being changed by somebody else", self.stack);
        Failure::of(FailureClass::Locked, text).help("wait until it is done, and run it again")
    }

    async fn describe(&self, cx: &Context, token: Option<&str>) -> Result<DescribeChangeSetOutput, AwsError> {
        let call = cx.cloud.reads().await.cloudformation.describe_change_set();
        let call = call.stack_name(&self.stack).change_set_name(&self.name);
        let answer = call.set_next_token(token.map(str::to_owned)).send().await;
        answer.map_err(|error| AwsError::new("CloudFormation", "DescribeChangeSet", &error))
    }
}

/// A name of this attempt alone: letters, digits and hyphens, at most 128. Also a request's token.
pub(super) fn name(cx: &Context) -> String {
    let run = cx.run.as_ref().map_or("plan", |run| run.as_str());
    let text = format!("flow-{run}-{}-{}", cx.id, cx.world.clock.now().as_nanosecond());
    let clean = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    clean.take(128).collect()
}

/// CloudFormation reports "nothing to do" as a failure, in one of these wordings.
fn says_no_change(reason: &str) -> bool {
    reason.contains("didn't contain changes") || reason.contains("No updates are to be performed")
}

impl From<&Described> for ResourceChange {
    fn from(change: &Described) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let replacement = change.replacement().map(Replacement::as_str).unwrap_or_default();
        let mut touched: Vec<String> = change
            .details()
            .iter()
            .filter_map(|detail| detail.target())
            .filter_map(|target| {
                target.name().or_else(|| target.attribute().map(ResourceAttribute::as_str)).map(str::to_owned)
            })
            .collect();
        touched.sort();
        touched.dedup();
        let certain = change
            .details()
            .iter()
            .any(|detail| detail.evaluation().is_some_and(|evaluation| evaluation.as_str() == "Static"));
        let kind = text(change.resource_type());
        // Another name is another thing, whatever the provider says of it beforehand.
        let renamed = certain && naming(&kind).is_some_and(|property| touched.iter().any(|t| t == property));
        let keeps = change.policy_action().is_some_and(|policy| policy.as_str() == "Retain");
        let what = match (change.action().map(ChangeAction::as_str).unwrap_or_default(), replacement) {
            ("Add", _) => What::Add,
            ("Remove", _) if keeps => What::Retire,
            ("Remove", _) => What::Remove,
            ("Import", _) => What::Import,
            ("Modify", "True") => What::Replace,
            ("Modify", "Conditional") if renamed => What::Replace,
            ("Modify", "Conditional") => What::MayReplace,
            ("Modify", _) => What::Modify,
            _ => What::Dynamic,
        };
        Self {
            id: text(change.logical_resource_id()),
            kind,
            what,
            touched,
            physical: change.physical_resource_id().map(str::to_owned),
            certain,
        }
    }
}

impl ResourceChange {
    /// As a plan shows it.
    pub(in crate::steps) fn shown(&self) -> Change {
        let resource = format!("{} ({})", self.id, self.kind);
        let touched = self.touched.join(", ");
        let with =
            |word: &str| if touched.is_empty() { word.to_owned() } else { format!("{word}: {touched}") };
        match self.what {
            What::Add => Change::new(resource, None, "new".to_owned()),
            What::Import => Change::new(resource, None, "imported".to_owned()),
            What::Retire => Change::new(resource, None, "leaves the stack, and stays".to_owned()),
            What::Remove => {
                Change::new(resource, Some(self.physical.clone().unwrap_or_else(|| "there".to_owned())), None)
            }
            What::Modify => Change::new(resource, None, with("changed")),
            What::MayReplace => Change::new(resource, None, with("changed, perhaps replaced")),
            What::Replace => Change::new(resource, self.physical.clone(), with("replaced")),
            What::Dynamic => Change::new(resource, None, "known only while it is changed".to_owned()),
        }
    }

    /// What the operator should know before saying yes.
    pub(in crate::steps) fn warning(&self) -> Option<String> {
        let Self { id, kind, .. } = self;
        match self.what {
            What::Replace => Some(format!("{id} ({kind}) is replaced: what it holds is not carried over")),
            What::MayReplace if self.certain => {
                Some(format!("{id} ({kind}) is perhaps replaced: what it holds would not be carried over"))
            }
            What::Remove => {
                Some(format!("{id} ({kind}) leaves the stack and is deleted unless the template retains it"))
            }
            _ => None,
        }
    }
}

/// The plan's word for all of them together.
pub(in crate::steps) fn action(changes: &[ResourceChange]) -> Action {
    let any = |what: What| changes.iter().any(|change| change.what == what);
    if any(What::Replace) {
        Action::Replace
    } else if !changes.is_empty() && changes.iter().all(|change| change.what == What::Remove) {
        Action::Delete
    } else {
        Action::Update
    }
}

/// `1 new, 2 changed, 1 replaced, 1 removed`
pub(in crate::steps) fn summary(changes: &[ResourceChange]) -> String {
    let count = |wanted: &[What]| changes.iter().filter(|change| wanted.contains(&change.what)).count();
    let parts: Vec<String> = [
        (count(&[What::Add]), "new"),
        (count(&[What::Import]), "imported"),
        (count(&[What::Modify, What::MayReplace, What::Dynamic]), "changed"),
        (count(&[What::Replace]), "replaced"),
        (count(&[What::Remove]), "removed"),
        (count(&[What::Retire]), "no longer managed"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, word)| format!("{number} {word}"))
    .collect();
    if parts.is_empty() { "only the stack's outputs".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: &str, what: What) -> ResourceChange {
        ResourceChange {
            id: id.to_owned(),
            kind: "AWS::S3::Bucket".to_owned(),
            what,
            touched: vec!["BucketName".to_owned()],
            physical: Some("shop".to_owned()),
            certain: true,
        }
    }

    #[test]
    fn words() {
        let changes = [change("A", What::Add), change("B", What::Replace), change("C", What::Remove)];
        assert_eq!(summary(&changes), "1 new, 1 replaced, 1 removed");
        assert_eq!(action(&changes), Action::Replace);
        assert_eq!(action(&[change("C", What::Remove)]), Action::Delete);
        assert_eq!(action(&[]), Action::Update);
        assert_eq!(summary(&[]), "only the stack's outputs");
        assert_eq!(
            change("B", What::Replace).shown().to_string(),
            "B (AWS::S3::Bucket)  shop → replaced: BucketName"
        );
        assert!(change("B", What::Replace).warning().is_some());
        assert!(change("B", What::Modify).warning().is_none());
    }

    #[test]
    fn both_wordings_of_no_change() {
        assert!(says_no_change(
            "The submitted information didn't contain changes. Submit different information"
        ));
        assert!(says_no_change("No updates are to be performed."));
        assert!(!says_no_change("Parameters: [X] must have values"));
    }
}
