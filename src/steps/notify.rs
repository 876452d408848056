//! `notify`: tells a webhook. Nobody's deploy fails because a chat is down,
//! unless `required` says so.

use async_trait::async_trait;
use serde_json::{Map, Value as Json, json};

use super::{Attributes, Back, Context, Done, Effect, Failure, Kind, Proposal, Step};
use crate::model::change::Action;
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::secret::Secret;
use crate::model::settings::{Ready, Setting, Shape, Unready, known};
use crate::world::http::{Answer, HttpError, Request};

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "notify",
        about: "Tells a webhook what happened.",
        settings: &[
            Setting::new("webhook", Shape::Text, "the URL that is told").required().secret(),
            Setting::new("text", Shape::Text, "what is told; flow, environment and run without"),
            Setting::new("field", Shape::Map, "names and values shown below the text"),
            Setting::new("format", Shape::Choice(&["slack", "json"]), "how it is written; slack without"),
            Setting::new("required", Shape::Bool, "the step fails when nobody took the message"),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&[]),
        nature: Nature::Check,
        aws: false,
        repeatable: true,
    },
    make,
    back: Back::Nothing,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Slack,
    Json,
}

#[derive(Clone, Debug)]
struct Notify {
    webhook: Secret,
    text: Option<String>,
    fields: Vec<(String, String)>,
    format: Format,
    required: bool,
}

fn make(ready: &Ready, _: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let mut fields = Vec::new();
    for (name, field) in ready.map("field") {
        fields.push((name.clone(), known("field", field)?.as_text().unwrap_or_default()));
    }
    Ok(Box::new(Notify {
        webhook: ready
            .secret("webhook")?
            .ok_or(Unready::Invalid { setting: "webhook", why: "it is not given".to_owned() })?,
        text: ready.opt_text("text")?,
        fields,
        format: match ready.opt_text("format")?.as_deref() {
            Some("json") => Format::Json,
            _ => Format::Slack,
        },
        required: ready.flag("required")?,
    }))
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    NoAnswer(#[from] HttpError),
    #[error("the webhook answered {0}")]
    Status(u16),
    /// Slack answers 200 with `ok: false`.
    #[error("the webhook refused the message: {0}")]
    Refused(String),
}

impl From<NotTaken> for Failure {
    fn from(error: NotTaken) -> Self {
        Self::new(error.to_string())
    }
}

#[async_trait]
impl Step for Notify {
    async fn plan(&self, _: &Context) -> Result<Proposal, Failure> {
        let how = match self.format {
            Format::Slack => "send a message",
            Format::Json => "send JSON",
        };
        Ok(Proposal::new(Action::Run, how).with(self.clone()))
    }
}

#[async_trait]
impl Effect for Notify {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let mut request = Request::post_json(self.webhook.clone(), &self.body(cx));
        request.url_is_secret = true;
        request.headers.push(("idempotency-key".to_owned(), Secret::new(event(cx))));
        let sent = cx.cancel.unless_stopped(cx.world.http.send(request)).await?;
        let summary = match taken(sent) {
            Ok(()) => "sent".to_owned(),
            Err(why) if self.required => return Err(why.into()),
            Err(why) => {
                cx.feed.output(format!("warning: nobody was told: {why}")).await;
                format!("nobody was told: {why}")
            }
        };
        Ok(Done { summary, ..Done::default() })
    }
}

impl Notify {
    fn body(&self, cx: &Context) -> Json {
        let shown = |text: &str| cx.world.masker.mask(text).into_owned();
        let environment = &cx.cloud.target().environment;
        let run = cx.run.as_ref().map(|run| run.as_str().to_owned());
        let text = self.text.as_deref().map_or_else(
            || match &run {
                Some(run) => format!("{} to {environment}, run {run}", cx.flow),
                None => format!("{} to {environment}", cx.flow),
            },
            shown,
        );
        match self.format {
            Format::Slack => {
                let fields: Vec<Json> = self
                    .fields
                    .iter()
                    .map(|(name, value)| json!({"title": shown(name), "value": shown(value), "short": true}))
                    .collect();
                if fields.is_empty() {
                    json!({ "text": text })
                } else {
                    json!({ "text": text, "attachments": [{ "fields": fields }] })
                }
            }
            Format::Json => {
                let fields: Map<String, Json> =
                    self.fields.iter().map(|(name, value)| (shown(name), shown(value).into())).collect();
                json!({
                    "id": event(cx), "text": text, "flow": cx.flow, "environment": environment,
                    "run": run, "step": cx.id, "fields": fields,
                })
            }
        }
    }
}

/// Lets a receiver drop a message that came twice: a run that was cut off tells again.
fn event(cx: &Context) -> String {
    format!("{}/{}", cx.run.as_ref().map_or("", |run| run.as_str()), cx.id)
}

fn taken(sent: Result<Answer, HttpError>) -> Result<(), NotTaken> {
    let answer = sent?;
    let said: Json = serde_json::from_slice(&answer.body).unwrap_or(Json::Null);
    if said.get("ok") == Some(&Json::Bool(false)) {
        let why = said.get("error").and_then(Json::as_str).unwrap_or("it gives no reason");
        return Err(NotTaken::Refused(why.to_owned()));
    }
    if (200..300).contains(&answer.status) { Ok(()) } else { Err(NotTaken::Status(answer.status)) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::settings::Given;
    use crate::model::value::{Field, Value};
    use crate::steps::testing::Bench;
    use crate::syntax::source::Span;

    /// Answers once, and gives back the body that it was told.
    async fn told(answer: &'static str, ready: &mut Ready) -> (Result<Done, Failure>, Json) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/services/T0K3N", listener.local_addr().unwrap());
        ready.insert("webhook", Given::One(Field::Known(Value::Secret(Secret::new(url)))), Span::default());
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            let mut buffer = [0; 4096];
            while !request.ends_with('}') {
                let read = socket.read(&mut buffer).await.unwrap();
                request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            let _ = socket.write_all(answer.as_bytes()).await;
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("idempotency-key: k3f9/step"), "{head}");
            body.to_owned()
        });
        let bench = Bench::new();
        bench.cx.world.masker.learn([&Secret::new("swordfish")]);
        let step = make(ready, &Attributes::default()).unwrap();
        let done = step.plan(&bench.cx).await.unwrap().effect.unwrap().apply(&bench.cx).await;
        (done, serde_json::from_str(&server.await.unwrap()).unwrap())
    }

    fn with(format: &str, required: bool) -> Ready {
        let mut ready = Ready::default();
        ready.insert("format", Given::One(Field::Known(Value::text(format))), Span::default());
        ready.insert("required", Given::One(Field::Known(Value::Bool(required))), Span::default());
        let fields = vec![("API".to_owned(), Field::Known(Value::text("v2 swordfish")))];
        ready.insert("field", Given::Map(fields), Span::default());
        ready
    }

    #[tokio::test]
    async fn slack_and_json_are_told() {
        let (done, body) =
            told("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", &mut with("slack", true)).await;
        assert_eq!(done.unwrap().summary, "sent");
        assert_eq!(
            body,
            json!({"text": "deploy to sandbox, run k3f9",
                   "attachments": [{"fields": [{"title": "API", "value": "v2 ***", "short": true}]}]})
        );
        let (_, body) = told("HTTP/1.1 204 x\r\n\r\n", &mut with("json", true)).await;
        assert_eq!((&body["id"], &body["fields"]["API"]), (&json!("k3f9/step"), &json!("v2 ***")));
    }

    #[tokio::test]
    async fn a_refusal_fails_only_when_required() {
        const NO: &str =
            "HTTP/1.1 200 OK\r\ncontent-length: 35\r\n\r\n{\"ok\":false,\"error\":\"no_such_chan\"}";
        let (done, _) = told(NO, &mut with("slack", true)).await;
        let reason = done.unwrap_err().record.reason;
        assert!(reason.starts_with("the webhook refused the message"), "{reason}");
        let (done, _) = told("HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n", &mut with("slack", false)).await;
        assert_eq!(done.unwrap().summary, "nobody was told: the webhook answered 500");
    }
}
