//! Stands between flow and AWS: counts what is asked, and breaks what it is
//! told to break.
//!
//! Requests and answers pass through unchanged, host name and bodies included
//! (the sandbox does not check signatures). Operations are named as in IAM:
//! `ecs:RegisterTaskDefinition`, `s3:PutObject`, `cloudformation:CreateChangeSet`;
//! calls without an operation's name, those of the image registry above all, by
//! method and path: `registry:PUT /v2/shop-api/manifests/1a2b3c4`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::Either;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

type Body = http_body_util::combinators::BoxBody<Bytes, hyper::Error>;

/// What happens to a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is answered with this status and body and never reaches AWS.
    Answer(u16, String),
    /// It reaches AWS after this time.
    Delay(Duration),
    /// AWS does it, and its answer is lost.
    LoseAnswer,
    /// It never reaches AWS, and nobody answers any more.
    Down,
}

/// Which of the calls that a rule is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Only this one since the rule was made, from 1.
    Nth(usize),
    /// All of them.
    Every,
}

#[derive(Debug)]
struct Rule {
    operation: String,
    which: Which,
    fault: Fault,
    seen: usize,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<String>,
    rules: Vec<Rule>,
}

/// The proxy; ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Dropped without waiting for connections that are still open.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    state: Mutex<State>,
    down: watch::Sender<bool>,
}

impl Proxy {
    /// In front of `127.0.0.1:4566`.
    pub(crate) fn start(upstream: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            state: Mutex::default(),
            down: watch::Sender::new(false),
        });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// `127.0.0.1:40123`
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:40123`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every call so far, in order of arrival.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.state().calls.clone()
    }

    /// How many calls began with this: `ecs:UpdateService`, `registry:PUT`.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.shared.state().calls.iter().filter(|call| call.starts_with(operation)).count()
    }

    /// The calls that are not known to leave everything as it is.
    pub(crate) fn effects(&self) -> Vec<String> {
        self.calls().into_iter().filter(|call| !is_read(call)).collect()
    }

    /// Counts from zero.
    pub(crate) fn forget(&self) {
        self.shared.state().calls.clear();
    }

    /// Breaks calls from now on. The first rule that fits decides.
    pub(crate) fn rule(&self, operation: &str, which: Which, fault: Fault) {
        self.shared.state().rules.push(Rule { operation: operation.to_owned(), which, fault, seen: 0 });
    }

    /// Breaks nothing any more.
    pub(crate) fn clear_rules(&self) {
        self.shared.state().rules.clear();
    }

    /// Closes every connection and refuses new ones.
    pub(crate) fn refuse(&self) {
        self.shared.down.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call and says what is to happen to it.
    fn note(&self, call: String) -> Option<Fault> {
        let mut state = self.state();
        let mut fault = None;
        for rule in state.rules.iter_mut().filter(|rule| call.starts_with(&rule.operation)) {
            rule.seen += 1;
            let meant = match rule.which {
                Which::Nth(nth) => rule.seen == nth,
                Which::Every => true,
            };
            if meant && fault.is_none() {
                fault = Some(rule.fault.clone());
            }
        }
        state.calls.push(call);
        fault
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut down = shared.down.subscribe();
    loop {
        let stream = tokio::select! {
            // The port is closed with the listener: connections are refused.
            _ = down.wait_for(|down| *down) => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

/// One connection, until either side closes it or the proxy goes down.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    let mut down = shared.down.subscribe();
    let service = service_fn(|request| pass(request, Arc::clone(&shared)));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = down.wait_for(|down| *down) => {}
        // A connection that broke is what some rules want.
        _ = connection => {}
    }
}

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer is lost")]
struct Lost;

/// Passes one call on, or does with it what a rule says. An error closes the connection.
async fn pass(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Lost> {
    let (head, body) = request.into_parts();
    // A form names its operation in its body; forms are small.
    let (call, body) = if is_form(&head.headers) {
        let bytes = body.collect().await.map_err(|_| Lost)?.to_bytes();
        (name(&head, &String::from_utf8_lossy(&bytes)), Either::Left(Full::new(bytes)))
    } else {
        (name(&head, ""), Either::Right(body))
    };
    let body = match body {
        Either::Left(whole) => whole.map_err(|never: Infallible| match never {}).boxed(),
        Either::Right(streamed) => streamed.boxed(),
    };
    let request = Request::from_parts(head, body);
    match shared.note(call) {
        None => forward(request, &shared.upstream).await,
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            forward(request, &shared.upstream).await
        }
        Some(Fault::Answer(status, text)) => {
            let whole = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed();
            let mut answer = Response::new(whole);
            *answer.status_mut() = StatusCode::from_u16(status).map_err(|_| Lost)?;
            Ok(answer)
        }
        Some(Fault::LoseAnswer) => {
            // To its end: AWS has then done all that it does.
            let answer = forward(request, &shared.upstream).await?;
            let _ = answer.into_body().collect().await;
            Err(Lost)
        }
        Some(Fault::Down) => {
            shared.down.send_replace(true);
            Err(Lost)
        }
    }
}

/// Over a connection of its own: one that AWS closed meanwhile would be a fault nobody asked for.
async fn forward(mut request: Request<Body>, upstream: &str) -> Result<Response<Body>, Lost> {
    let stream = TcpStream::connect(upstream).await.map_err(|_| Lost)?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| Lost)?;
    tokio::spawn(connection);
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    let answer = sender.send_request(request).await.map_err(|_| Lost)?;
    Ok(answer.map(BodyExt::boxed))
}

fn is_form(headers: &http::HeaderMap) -> bool {
    text(headers, "content-type").starts_with("application/x-www-form-urlencoded")
}

fn text<'a>(headers: &'a http::HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What a call is called.
fn name(head: &http::request::Parts, form: &str) -> String {
    // The scope of the signature: KEY/DATE/REGION/SERVICE/aws4_request.
    let service = text(&head.headers, "authorization")
        .split_once("Credential=")
        .and_then(|(_, scope)| scope.split('/').nth(3))
        .unwrap_or("registry");
    let query = head.uri.query().unwrap_or_default();
    let field = |pairs: &str, name: &str| {
        let mut pairs = pairs.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let target = text(&head.headers, "x-amz-target").rsplit('.').next().unwrap_or_default();
    let operation = Some(target.to_owned())
        .filter(|target| !target.is_empty())
        .or_else(|| field(form, "Action"))
        .or_else(|| field(query, "x-id"))
        .unwrap_or_else(|| format!("{} {}", head.method, head.uri));
    format!("{service}:{operation}")
}

fn is_read(call: &str) -> bool {
    let operation = call.split_once(':').map_or(call, |(_, operation)| operation);
    let method = operation.split(' ').next().unwrap_or_default();
    let reads = ["Describe", "List", "Get", "BatchGet", "Head", "Validate"];
    method == Method::GET.as_str()
        || method == Method::HEAD.as_str()
        || reads.iter().any(|verb| operation.starts_with(verb))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Instant;

    use super::super::http::{get, send};
    use super::*;

    const SIGNED: (&str, &str) = (
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/ecs/aws4_request, SignedHeaders=host",
    );
    const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

    /// A proxy in front of a proxy that answers everything.
    fn pair() -> (Proxy, Proxy) {
        let behind = Proxy::start("127.0.0.1:9");
        behind.rule("", Which::Every, Fault::Answer(200, "done".to_owned()));
        (Proxy::start(&behind.address()), behind)
    }

    #[test]
    fn calls_pass_and_are_counted_by_operation() {
        let (proxy, behind) = pair();
        let target = ("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.UpdateService");
        send("POST", &proxy.url(), &[SIGNED, target], b"{}").unwrap();
        send("POST", &proxy.url(), &[SIGNED, FORM], b"Action=DescribeStacks&Version=1").unwrap();
        send("PUT", &format!("{}/site/index.html?x-id=PutObject", proxy.url()), &[SIGNED], b"<p>").unwrap();
        let answer = get(&format!("{}/v2/shop-api/manifests/v1", proxy.url())).unwrap();

        assert_eq!(answer.text(), "done");
        let expected = [
            "ecs:UpdateService",
            "ecs:DescribeStacks",
            "ecs:PutObject",
            "registry:GET /v2/shop-api/manifests/v1",
        ];
        assert_eq!(proxy.calls(), expected);
        assert_eq!(behind.calls(), expected);
        assert_eq!(proxy.effects(), ["ecs:UpdateService", "ecs:PutObject"]);
        assert_eq!(proxy.count("registry:GET"), 1);
        proxy.forget();
        assert_eq!(proxy.calls(), [""; 0]);
    }

    #[test]
    fn the_nth_call_is_answered_delayed_or_loses_its_answer() {
        let (proxy, behind) = pair();
        proxy.rule("registry:GET", Which::Nth(1), Fault::Answer(503, "busy".to_owned()));
        proxy.rule("registry:GET", Which::Nth(2), Fault::LoseAnswer);
        proxy.rule("registry:GET", Which::Nth(3), Fault::Delay(Duration::from_millis(80)));

        let answer = get(&proxy.url()).unwrap();
        assert_eq!((answer.status, answer.text(), behind.count("")), (503, "busy".to_owned(), 0));
        get(&proxy.url()).unwrap_err();
        assert_eq!(behind.count(""), 1, "what lost its answer was done");
        let asked = Instant::now();
        assert_eq!(get(&proxy.url()).unwrap().status, 200);
        assert!(asked.elapsed() >= Duration::from_millis(80));
    }

    #[test]
    fn connections_are_refused_at_a_call_or_from_now_on() {
        let refused = |proxy: &Proxy| {
            let end = Instant::now() + Duration::from_secs(5);
            // The listener is closed by another thread.
            while Instant::now() < end {
                if get(&proxy.url()).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                    return true;
                }
            }
            false
        };
        let (proxy, behind) = pair();
        proxy.rule("registry:GET", Which::Nth(1), Fault::Down);
        get(&proxy.url()).unwrap_err();
        assert!(refused(&proxy));
        assert_eq!(behind.count(""), 0);

        let (proxy, _behind) = pair();
        proxy.refuse();
        assert!(refused(&proxy));
    }
}
