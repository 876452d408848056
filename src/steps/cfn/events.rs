//! A stack's events, each told once.
//!
//! CloudFormation lists them newest first, many within one millisecond: only
//! the event's id tells whether it is new.

use std::collections::{BTreeMap, HashSet};

use crate::steps::Context;
use crate::world::aws::AwsError;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) struct Event {
    /// Of the resource; the stack's own name for the stack itself.
    pub resource: String,
    /// `AWS::S3::Bucket`
    pub kind: String,
    /// `CREATE_FAILED`, …
    pub status: String,
    /// May be empty.
    pub reason: String,
    /// Whether it is about the stack itself.
    pub of_stack: bool,
}

/// Follows one stack.
#[derive(Debug)]
pub(in crate::steps) struct Events {
    stack: String,
    seen: HashSet<String>,
    all: Vec<Event>,
}

impl Events {
    /// From now on: what is there already is not told.
    pub(in crate::steps) async fn from_now(cx: &Context, stack: &str) -> Result<Self, AwsError> {
        let mut events = Self { stack: stack.to_owned(), seen: HashSet::new(), all: Vec::new() };
        events.fresh(cx).await?;
        events.all.clear();
        Ok(events)
    }

    /// What is new, oldest first.
    pub(in crate::steps) async fn fresh(&mut self, cx: &Context) -> Result<Vec<Event>, AwsError> {
        let first_look = self.seen.is_empty();
        let mut fresh = Vec::new();
        let mut token = None;
        loop {
            let call = cx.cloud.reads().await.cloudformation.describe_stack_events();
            let answer = call.stack_name(&self.stack).set_next_token(token.take()).send().await;
            let page =
                answer.map_err(|error| AwsError::new("CloudFormation", "DescribeStackEvents", &error))?;
            let mut known = false;
            for event in page.stack_events() {
                if self.seen.insert(event.event_id().unwrap_or_default().to_owned()) {
                    fresh.push(Event::from(event));
                } else {
                    known = true;
                }
            }
            match page.next_token() {
                // Older pages hold nothing new once something known was met.
                Some(next) if !known && !first_look => token = Some(next.to_owned()),
                _ => break,
            }
        }
        fresh.reverse();
        self.all.extend(fresh.iter().cloned());
        Ok(fresh)
    }

    /// The stack's last own state, once its operation is over.
    pub(in crate::steps) fn ended(&self) -> Option<&str> {
        let last = self.all.iter().rev().find(|event| event.of_stack)?;
        (!last.status.ends_with("_IN_PROGRESS")).then_some(last.status.as_str())
    }

    /// How many resources are done.
    pub(in crate::steps) fn complete(&self) -> usize {
        let mut last = BTreeMap::new();
        for event in self.all.iter().filter(|event| !event.of_stack) {
            last.insert(event.resource.as_str(), event.status.as_str());
        }
        last.values().filter(|status| status.ends_with("_COMPLETE")).count()
    }

    /// What went wrong, in the order in which it did, without the resources that were only stopped
    /// because of another.
    pub(in crate::steps) fn causes(&self) -> Vec<String> {
        let failed = |event: &&Event| event.status.ends_with("_FAILED");
        let caused = |event: &&Event| {
            !event.reason.contains("cancelled")
                && !event.reason.contains("Cancelled")
                && !event.reason.is_empty()
        };
        let own: Vec<String> = self
            .all
            .iter()
            .filter(|event| !event.of_stack)
            .filter(failed)
            .filter(caused)
            .map(|event| format!("{} ({}): {}", event.resource, event.kind, event.reason))
            .collect();
        if own.is_empty() {
            self.all
                .iter()
                .filter(|event| event.of_stack && !event.reason.is_empty())
                .filter(|event| event.status.contains("FAILED") || event.status.contains("ROLLBACK"))
                .map(|event| format!("{}: {}", event.status, event.reason))
                .take(5)
                .collect()
        } else {
            own.into_iter().take(5).collect()
        }
    }
}

impl Event {
    /// As a line of output.
    pub(in crate::steps) fn line(&self) -> String {
        let Self { status, resource, kind, reason, .. } = self;
        if reason.is_empty() {
            format!("{status} {resource} ({kind})")
        } else {
            format!("{status} {resource} ({kind}): {reason}")
        }
    }
}

impl From<&aws_sdk_cloudformation::types::StackEvent> for Event {
    fn from(event: &aws_sdk_cloudformation::types::StackEvent) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Self {
            resource: text(event.logical_resource_id()),
            kind: text(event.resource_type()),
            status: event.resource_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            reason: text(event.resource_status_reason()),
            of_stack: event.physical_resource_id().is_some()
                && event.physical_resource_id() == event.stack_id(),
        }
    }
}

/// Whether any event of a stack was caused by the request with this token.
pub(in crate::steps) async fn was_asked_by(cx: &Context, stack: &str, token: &str) -> Result<bool, AwsError> {
    let mut page = None;
    loop {
        let call = cx.cloud.reads().await.cloudformation.describe_stack_events();
        let answer = call.stack_name(stack).set_next_token(page.take()).send().await;
        let answer =
            answer.map_err(|error| AwsError::new("CloudFormation", "DescribeStackEvents", &error))?;
        if answer.stack_events().iter().any(|event| event.client_request_token() == Some(token)) {
            return Ok(true);
        }
        match answer.next_token() {
            Some(next) => page = Some(next.to_owned()),
            None => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(rows: &[(&str, &str, &str)]) -> Events {
        let event = |&(resource, status, reason): &(&str, &str, &str)| Event {
            resource: resource.to_owned(),
            kind: "T".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            of_stack: resource == "shop",
        };
        Events { stack: "shop".to_owned(), seen: HashSet::new(), all: rows.iter().map(event).collect() }
    }

    #[test]
    fn the_stack_itself_says_when_it_is_over() {
        let mut rows = vec![("shop", "UPDATE_IN_PROGRESS", ""), ("A", "UPDATE_COMPLETE", "")];
        assert_eq!(events(&rows).ended(), None);
        assert_eq!(events(&rows).complete(), 1);
        rows.push(("shop", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", ""));
        assert_eq!(events(&rows).ended(), None);
        rows.push(("shop", "UPDATE_COMPLETE", ""));
        assert_eq!(events(&rows).ended(), Some("UPDATE_COMPLETE"));
        assert_eq!(events(&[]).ended(), None);
    }

    #[test]
    fn causes_come_before_their_consequences() {
        let all = events(&[
            ("A", "CREATE_FAILED", "name is taken"),
            ("B", "CREATE_FAILED", "Resource creation cancelled"),
            ("shop", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [A, B]."),
        ]);
        assert_eq!(all.causes(), ["A (T): name is taken"]);
        let early = events(&[
            ("shop", "ROLLBACK_IN_PROGRESS", "Validation failed"),
            ("shop", "ROLLBACK_COMPLETE", ""),
        ]);
        assert_eq!(early.causes(), ["ROLLBACK_IN_PROGRESS: Validation failed"]);
    }
}
