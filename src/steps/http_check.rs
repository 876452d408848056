//! `http-check`: asks a URL until the answer is good, often enough in a row.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;

use super::{Attributes, Back, Context, Done, Effect, Failure, Kind, Proposal, Step};
use crate::model::change::Action;
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::secret::Secret;
use crate::model::settings::{Ready, Setting, Shape, Unready, known};
use crate::model::units::show_duration;
use crate::model::value::Value;
use crate::world::http::{Answer, HttpError, HttpFault, Request};

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "http-check",
        about: "Asks a URL until it gives a good answer.",
        settings: &[
            Setting::new("url", Shape::Text, "what is asked; redirects are not followed").required(),
            Setting::new("method", Shape::Text, "GET without"),
            Setting::new("header", Shape::Map, "sent with each request").secret(),
            Setting::new("expect", Shape::Texts, "good statuses: 204, or 200..299, which is the default"),
            Setting::new("body-contains", Shape::Text, "a text that a good answer has in its first MiB"),
            Setting::new("within", Shape::Duration, "how long it may take; 1m without"),
            Setting::new("every", Shape::Duration, "pause between two requests; 1s without"),
            Setting::new("stable", Shape::Int, "so many good answers in a row; 1 without"),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["status"]),
        nature: Nature::Check,
        aws: false,
        repeatable: true,
    },
    make,
    back: Back::Again,
};

/// One request may not take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of a bad answer is shown.
const SHOWN_BYTES: usize = 200;

#[derive(Clone, Debug)]
struct HttpCheck {
    url: String,
    method: String,
    headers: Vec<(String, Secret)>,
    expect: Vec<RangeInclusive<u16>>,
    body_contains: Option<String>,
    within: Duration,
    every: Duration,
    stable: u32,
}

fn make(ready: &Ready, _: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let mut headers = Vec::new();
    for (name, field) in ready.map("header") {
        let value = match known("header", field)? {
            Value::Secret(secret) => secret.clone(),
            other => Secret::new(other.as_text().unwrap_or_default()),
        };
        headers.push((name.clone(), value));
    }
    let mut expect = Vec::new();
    for text in ready.texts("expect")? {
        expect.push(statuses(&text).ok_or_else(|| Unready::Invalid {
            setting: "expect",
            why: format!("\"{text}\" is no status; write 204 or 200..299"),
        })?);
    }
    if expect.is_empty() {
        expect.push(200..=299);
    }
    let stable = ready.int("stable")?.unwrap_or(1);
    Ok(Box::new(HttpCheck {
        url: ready.text("url")?,
        method: ready.opt_text("method")?.unwrap_or_else(|| "GET".to_owned()).to_uppercase(),
        headers,
        expect,
        body_contains: ready.opt_text("body-contains")?,
        within: ready.duration("within")?.unwrap_or(Duration::from_mins(1)),
        every: ready.duration("every")?.unwrap_or(Duration::from_secs(1)),
        stable: u32::try_from(stable).ok().filter(|n| *n > 0).ok_or_else(|| Unready::Invalid {
            setting: "stable",
            why: format!("{stable} answers in a row cannot be; write 1 or more"),
        })?,
    }))
}

/// `204`, `200..299` (both ends included).
fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (status(first)?, status(last)?),
        None => (status(text)?, status(text)?),
    };
    (first <= last).then_some(first..=last)
}

#[async_trait]
impl Step for HttpCheck {
    async fn plan(&self, _: &Context) -> Result<Proposal, Failure> {
        let mut proposal = Proposal::new(Action::Run, format!("{} {}", self.method, self.url));
        proposal.subject = format!("up to {}", show_duration(self.within));
        Ok(proposal.with(self.clone()))
    }
}

#[async_trait]
impl Effect for HttpCheck {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        cx.world
            .masker
            .learn(self.headers.iter().filter(|(name, _)| is_private(name)).map(|(_, value)| value));
        let start = cx.world.clock.moment();
        let mut good = 0;
        let mut tries = 0_u32;
        loop {
            tries += 1;
            let left = self.within.saturating_sub(start.elapsed());
            // The last request gets a second even when none is left, so that there is an answer to show.
            let patience = PATIENCE.min(left.max(Duration::from_secs(1)));
            let answer = cx.cancel.unless_stopped(cx.world.http.send(self.request(patience))).await?;
            let told = match self.judge(&answer) {
                Ok(status) => {
                    good += 1;
                    if good >= self.stable {
                        let mut done = Done {
                            // The time of a single request says nothing that the step's own does not.
                            summary: match tries {
                                1 => status.to_string(),
                                _ => format!("{status} after {}", show_duration(start.elapsed())),
                            },
                            ..Done::default()
                        };
                        done.outputs.insert("status".to_owned(), Value::Int(i64::from(status)));
                        return Ok(done);
                    }
                    format!("{status}, good {good} of {} times", self.stable)
                }
                Err(Bad { is_final: true, words, .. }) => {
                    return Err(Failure::new(format!("{}: {words}", self.url)));
                }
                Err(bad) => {
                    good = 0;
                    if start.elapsed() >= self.within {
                        return Err(self.failure(&bad, tries));
                    }
                    bad.words
                }
            };
            cx.feed
                .progress(format!(
                    "{told}; {} of {}",
                    show_duration(start.elapsed()),
                    show_duration(self.within)
                ))
                .await;
            // The last pause ends with the time there is, so that all of it is used.
            let left = self.within.saturating_sub(start.elapsed());
            let pause = if left.is_zero() { self.every } else { self.every.min(left) };
            cx.cancel.unless_stopped(cx.world.clock.pause(pause)).await?;
        }
    }
}

/// Whether a header's value must not be shown even where the file has it in the open.
fn is_private(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie", "token", "key", "secret"].iter().any(|word| name.contains(word))
}

/// An answer that is not good.
struct Bad {
    words: String,
    /// The start of its body.
    body: Option<String>,
    /// Asking again cannot help.
    is_final: bool,
}

impl HttpCheck {
    fn request(&self, timeout: Duration) -> Request {
        Request {
            method: self.method.clone(),
            headers: self.headers.clone(),
            timeout,
            ..Request::get(self.url.clone())
        }
    }

    fn judge(&self, answer: &Result<Answer, HttpError>) -> Result<u16, Bad> {
        let bad = |words: String, answer: &Answer| Bad {
            words,
            body: Some(beginning(answer)).filter(|body| !body.is_empty()),
            is_final: false,
        };
        match answer {
            Err(error) => Err(Bad {
                words: error.fault.to_string(),
                body: None,
                is_final: matches!(error.fault, HttpFault::Url | HttpFault::Unsendable(_)),
            }),
            Ok(answer) if !self.expect.iter().any(|good| good.contains(&answer.status)) => {
                Err(bad(answer.status.to_string(), answer))
            }
            Ok(answer) => match &self.body_contains {
                Some(text) if !answer.text().contains(text) => {
                    Err(bad(format!("{} without \"{text}\"", answer.status), answer))
                }
                _ => Ok(answer.status),
            },
        }
    }

    fn failure(&self, bad: &Bad, tries: u32) -> Failure {
        let times = if tries == 1 { "once".to_owned() } else { format!("{tries} times") };
        Failure::new(format!("no good answer within {}: {}", show_duration(self.within), bad.words))
            .detail(format!("asked {times}: {} {}", self.method, self.url))
            .details(bad.body.iter().map(|body| format!("the last answer began: {body}")))
    }
}

/// The first bytes of a body, on one line.
fn beginning(answer: &Answer) -> String {
    let bytes = answer.body.get(..answer.body.len().min(SHOWN_BYTES)).unwrap_or_default();
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::settings::Given;
    use crate::model::value::Field;
    use crate::steps::testing::Bench;
    use crate::syntax::source::Span;

    /// Gives the answers in order, the last one for ever.
    async fn server(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for index in 0.. {
                let (mut socket, _) = listener.accept().await.unwrap();
                let _ = socket.read(&mut [0; 4096]).await;
                let (status, body) = answers[index.min(answers.len() - 1)].split_once(' ').unwrap();
                let length = body.len();
                let text = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}");
                let _ = socket.write_all(text.as_bytes()).await;
            }
        });
        format!("http://{address}/health")
    }

    fn settings(url: &str, more: &[(&'static str, &str)]) -> Ready {
        let mut ready = Ready::default();
        for (name, text) in [("url", url), ("every", "10ms"), ("within", "5s")].iter().chain(more) {
            ready.insert(name, Given::One(Field::Known(Value::text(*text))), Span::default());
        }
        ready
    }

    async fn check(ready: &Ready) -> Result<Done, Failure> {
        let bench = Bench::new();
        let step = make(ready, &Attributes::default()).unwrap();
        step.plan(&bench.cx).await.unwrap().effect.unwrap().apply(&bench.cx).await
    }

    #[tokio::test]
    async fn good_answers_in_a_row_are_wanted() {
        let url = server(&["503 no", "200 ok", "500 no", "200 ok", "204 ", "200 never-asked"]).await;
        let done = check(&settings(&url, &[("stable", "2")])).await.unwrap();
        assert!(done.summary.starts_with("204 after "), "{}", done.summary);
        let url = server(&["200 old", "200 version 2"]).await;
        check(&settings(&url, &[("body-contains", "version 2")])).await.unwrap();
        let url = server(&["301 "]).await;
        check(&settings(&url, &[("expect", "301")])).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_answer_is_told() {
        let url = server(&["503 database\n  is away"]).await;
        let record = check(&settings(&url, &[("within", "100ms")])).await.unwrap_err().record;
        assert_eq!(record.reason, "no good answer within 0.1s: 503");
        assert!(
            record.details[0].starts_with("asked ") && record.details[0].ends_with(&format!("GET {url}"))
        );
        assert_eq!(record.details[1], "the last answer began: database is away");
        let record = check(&settings("http://127.0.0.1:1/", &[("within", "10ms")])).await.unwrap_err().record;
        assert_eq!(record.reason, "no good answer within 0.0s: connection refused");
        let record = check(&settings("nonsense", &[])).await.unwrap_err().record;
        assert_eq!(record.reason, "nonsense: this is no http:// or https:// URL");
    }

    #[test]
    fn statuses_are_read() {
        for (text, wanted) in [
            ("204", Some(204..=204)),
            ("200..299", Some(200..=299)),
            ("299..200", None),
            ("2xx", None),
            ("99", None),
        ] {
            assert_eq!(statuses(text), wanted, "{text}");
        }
    }
}
