//! The effect: one call, never repeated.

use async_trait::async_trait;
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType, LogType};
use base64::Engine as _;
use serde_json::{Value as Json, json};

use super::answer::{Expected, differences, outputs};
use crate::model::secret::Secret;
use crate::model::units::show_duration;
use crate::steps::program::is_there;
use crate::steps::{Attributes, Context, Done, Effect, Failure, FailureClass};
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::cancel::Urgency;
use crate::world::process::DEFAULT_GRACE;

/// What is noted right before the call.
pub(super) const INVOKING: &str = "invoking";

/// A planned call.
pub(super) struct Invoke {
    pub function: String,
    pub qualifier: Option<String>,
    /// With its qualifier.
    pub called: String,
    pub payload: Secret,
    pub expect: Vec<Expected>,
    pub probe: Option<(Vec<String>, Attributes)>,
}

#[async_trait]
impl Effect for Invoke {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        cx.feed.note(INVOKING, json!({ "function": self.called })).await?;
        let begun = cx.world.clock.moment();
        let call = cx
            .cloud
            .invocations()
            .await
            .invoke()
            .function_name(&self.function)
            .set_qualifier(self.qualifier.clone())
            .invocation_type(InvocationType::RequestResponse)
            .log_type(LogType::Tail)
            .payload(Blob::new(self.payload.expose()));
        let answered = tokio::select! {
            answered = call.send() => answered,
            () = given_up(cx) => return self.lost(cx, "the run was stopped while it worked").await,
        };
        let answer = match answered.map_err(|error| AwsError::new("Lambda", "Invoke", &error)) {
            Ok(answer) => answer,
            Err(error) if error.is_unclear() => return self.lost(cx, &error.to_string()).await,
            Err(error) if error.class == AwsErrorClass::NotFound => {
                return Err(Failure::missing(format!("there is no function {}", self.called)));
            }
            Err(error) => return Err(error.into()),
        };
        let took = show_duration(begun.elapsed());
        let log = tail(answer.log_result());
        if let Some(kind) = answer.function_error() {
            return Err(failed(&self.called, kind, &answer).details(last(log)));
        }
        for line in log {
            cx.feed.output(line).await;
        }
        let said = read(&answer);
        let wrong = differences(&said, &self.expect);
        if !wrong.is_empty() {
            return Err(Failure::new(format!("{} answered something else than was expected", self.called))
                .details(wrong));
        }
        let version = answer.executed_version().unwrap_or("an unknown version");
        let summary = format!("{} answered in {took}, version {version}", self.called);
        Ok(Done { summary, outputs: outputs(&said), receipt: json!({ "function": self.called }) })
    }
}

/// Returns when a stopped run waits no longer for the answer: what is lost is a question to a person.
async fn given_up(cx: &Context) {
    cx.cancel.reached(Urgency::Stopping).await;
    tokio::select! {
        () = cx.world.clock.pause(DEFAULT_GRACE) => {}
        () = cx.cancel.reached(Urgency::Killing) => {}
    }
}

impl Invoke {
    /// Nobody knows what became of the call, but perhaps its probe.
    async fn lost(&self, cx: &Context, why: &str) -> Result<Done, Failure> {
        if let Some((probe, attributes)) = &self.probe
            && !cx.cancel.is_stopping()
            && is_there(probe, None, attributes, cx).await.unwrap_or(false)
        {
            let summary = format!("{} was called; its answer is lost, and probe says done", self.called);
            return Ok(Done { summary, ..Done::default() });
        }
        let reason = format!("{} was called, and its answer is lost", self.called);
        Err(Failure::of(FailureClass::Unknown, reason)
            .detail(why)
            .help(format!("look into its log: aws logs tail /aws/lambda/{} --since 1h", self.function)))
    }
}

/// The answer; text that is no JSON is a JSON string.
fn read(answer: &InvokeOutput) -> Json {
    let bytes = answer.payload().map(|payload| payload.as_ref().to_vec()).unwrap_or_default();
    if bytes.is_empty() {
        return Json::Null;
    }
    serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
}

/// Why a function failed, in its own words.
fn failed(called: &str, kind: &str, answer: &InvokeOutput) -> Failure {
    let said = read(answer);
    let text = |name: &str| said.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let (type_of, message) = (text("errorType"), text("errorMessage"));
    let words = match (type_of.is_empty(), message.is_empty()) {
        (false, false) => format!("{type_of}: {message}"),
        (true, false) => message,
        (false, true) => type_of,
        (true, true) => kind.to_owned(),
    };
    Failure::new(format!("{called} failed: {words}"))
}

/// The last lines of its log that are its own: the last 4 kB are all that Lambda tells.
fn tail(log: Option<&str>) -> Vec<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(log.unwrap_or_default()).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let own = |line: &&str| {
        let lambda = ["START RequestId", "END RequestId", "REPORT RequestId", "INIT_START"];
        !line.trim().is_empty() && !lambda.iter().any(|word| line.starts_with(word))
    };
    text.lines().filter(own).map(str::to_owned).collect()
}

/// As many as a failure shows.
fn last(mut lines: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 10;
    lines.split_off(lines.len().saturating_sub(SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_function_is_quoted() {
        for (payload, wanted) in [
            (
                r#"{"errorMessage":"no such role","errorType":"ValueError"}"#,
                "f:live failed: ValueError: no such role",
            ),
            (
                r#"{"errorMessage":"2026 Task timed out after 3.00 seconds"}"#,
                "f:live failed: 2026 Task timed out after 3.00 seconds",
            ),
            ("", "f:live failed: Unhandled"),
        ] {
            let answer = InvokeOutput::builder().payload(Blob::new(payload)).build();
            assert_eq!(failed("f:live", "Unhandled", &answer).record.reason, wanted);
        }
    }

    #[test]
    fn only_its_own_lines_are_told() {
        let log =
            "START RequestId: 1 Version: 2\nhello\n\nEND RequestId: 1\nREPORT RequestId: 1 Duration: 2 ms\n";
        let encoded = base64::engine::general_purpose::STANDARD.encode(log);
        assert_eq!(tail(Some(&encoded)), ["hello"]);
        assert_eq!(tail(None), Vec::<String>::new());
        let many: Vec<String> = (0..12).map(|line| line.to_string()).collect();
        assert_eq!(last(many).len(), 10);
    }
}
