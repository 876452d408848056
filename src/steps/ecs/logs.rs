//! What containers wrote, read back from CloudWatch Logs.

use aws_sdk_cloudwatchlogs::config::{Builder, Region};
use aws_sdk_cloudwatchlogs::types::OutputLogEvent;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::definition::{Definition, name_of};
use crate::world::aws::{AwsError, Cloud};

/// At most so many pages in one look; the next look goes on from there.
const PAGES: usize = 20;

/// Where a container of a definition writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    group: String,
    prefix: String,
    container: String,
    region: Option<String>,
}

/// Why a container's log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLog {
    /// It is not in CloudWatch Logs.
    #[error("container {container} has no log in CloudWatch Logs (log driver {driver})")]
    OtherDriver {
        /// The container.
        container: String,
        /// `none` when the definition says nothing.
        driver: String,
    },
    /// Without a prefix ECS does not name the stream after the task.
    #[error("the log of container {0} cannot be found: awslogs-stream-prefix is not set")]
    NoPrefix(String),
}

impl LogPlace {
    /// Reads `logConfiguration` of a container.
    pub fn of(definition: &Definition, container: &str) -> Result<Self, NoLog> {
        let log = definition.containers().find(|one| name_of(one) == container);
        let log = log.and_then(|one| one.get("logConfiguration"));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let option = |name: &str| text(log.and_then(|log| log.get("options")).and_then(|all| all.get(name)));
        let driver = text(log.and_then(|log| log.get("logDriver"))).unwrap_or_else(|| "none".to_owned());
        match (driver.as_str(), option("awslogs-group"), option("awslogs-stream-prefix")) {
            ("awslogs", Some(group), Some(prefix)) => {
                Ok(Self { group, prefix, container: container.to_owned(), region: option("awslogs-region") })
            }
            ("awslogs", Some(_), None) => Err(NoLog::NoPrefix(container.to_owned())),
            _ => Err(NoLog::OtherDriver { container: container.to_owned(), driver }),
        }
    }

    /// The log group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The stream of one task.
    #[must_use]
    pub fn stream(&self, task: &str) -> String {
        format!("{}/{}/{task}", self.prefix, self.container)
    }

    async fn page(&self, cloud: &Cloud, stream: &str, from: From<'_>) -> Result<Page, AwsError> {
        let call = cloud.reads().await.logs.get_log_events();
        let call = call.log_group_name(&self.group).log_stream_name(stream);
        let call = match from {
            From::Start => call.start_from_head(true),
            From::Token(token) => call.start_from_head(true).next_token(token),
            From::End(limit) => call.start_from_head(false).limit(limit),
        };
        let region = self.region.clone().filter(|region| !region.is_empty());
        let sent = match region {
            Some(region) => {
                call.customize().config_override(Builder::new().region(Region::new(region))).send().await
            }
            None => call.send().await,
        };
        match sent {
            Ok(page) => {
                let next = page.next_forward_token().map(str::to_owned);
                Ok(Page { lines: page.events().iter().map(line).collect(), next })
            }
            Err(error) => Err(AwsError::new("CloudWatch Logs", "GetLogEvents", &error)),
        }
    }

    /// The last lines of a task, with their times; none when it wrote nothing (yet).
    pub async fn last_lines(&self, cloud: &Cloud, task: &str, limit: i32) -> Result<Vec<String>, AwsError> {
        match self.page(cloud, &self.stream(task), From::End(limit)).await {
            Ok(page) => Ok(page.lines.iter().map(|(at, text)| format!("{at}  {text}")).collect()),
            // The stream comes with the first line.
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

enum From<'a> {
    Start,
    Token(&'a str),
    End(i32),
}

struct Page {
    /// Time of day and text.
    lines: Vec<(String, String)>,
    next: Option<String>,
}

/// The log of one running task, read from its start, each line once.
#[derive(Debug)]
pub struct Tail {
    place: LogPlace,
    stream: String,
    token: Option<String>,
}

impl Tail {
    /// From the start.
    #[must_use]
    pub fn new(place: LogPlace, task: &str) -> Self {
        let stream = place.stream(task);
        Self { place, stream, token: None }
    }

    /// What came since the last look, without times.
    pub async fn read(&mut self, cloud: &Cloud) -> Result<Vec<String>, AwsError> {
        let mut lines = Vec::new();
        for _ in 0..PAGES {
            let from = self.token.as_deref().map_or(From::Start, From::Token);
            let page = match self.place.page(cloud, &self.stream, from).await {
                Ok(page) => page,
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error),
            };
            lines.extend(page.lines.into_iter().map(|(_, text)| text));
            // The same token again means the end for now.
            if page.next.is_none() || page.next == self.token {
                break;
            }
            self.token = page.next;
        }
        Ok(lines)
    }
}

fn line(event: &OutputLogEvent) -> (String, String) {
    let at = event.timestamp().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    let at = at.map(|at| at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S").to_string());
    (at.unwrap_or_default(), event.message().unwrap_or_default().trim_end().to_owned())
}
