//! A small HTTP client: one request, one answer, HTTP/1.1.
//!
//! Redirects are not followed (an answer of 301 is the answer), proxies are not
//! used, and every request makes its own connection, so that a check sees what
//! a new client would see. The certificates of the system are loaded by the
//! first https request.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use http::{Method, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

use super::crash;
use crate::model::secret::Secret;

/// Sends requests. Cheap to clone.
#[derive(Clone, Default)]
pub struct Http {
    plain: Arc<OnceLock<Client<HttpConnector, Full<Bytes>>>>,
    tls: Arc<OnceLock<Result<TlsClient, String>>>,
}

type TlsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// `http://…` or `https://…`; a secret, since some webhooks are.
    pub url: Secret,
    /// Whether messages must not show more of the URL than its host.
    pub url_is_secret: bool,
    /// Names and values.
    pub headers: Vec<(String, Secret)>,
    /// Sent as it is.
    pub body: Vec<u8>,
    /// For the whole of it: connecting, asking, reading the answer.
    pub timeout: Duration,
    /// So many bytes of the answer's body are kept.
    pub limit: usize,
}

impl Request {
    /// A GET with ten seconds of time that keeps 1 MiB of the answer.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: "GET".to_owned(),
            url: Secret::new(url),
            url_is_secret: false,
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(10),
            limit: 1024 * 1024,
        }
    }

    /// A POST of JSON, otherwise like [`Request::get`].
    #[must_use]
    pub fn post_json(url: Secret, body: &serde_json::Value) -> Self {
        Self {
            method: "POST".to_owned(),
            url,
            headers: vec![("content-type".to_owned(), Secret::new("application/json"))],
            body: body.to_string().into_bytes(),
            ..Self::get("")
        }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `200`
    pub status: u16,
    /// The body, cut at the limit.
    pub body: Vec<u8>,
    /// Whether the body was longer.
    pub truncated: bool,
}

impl Answer {
    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// No answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {fault}")]
pub struct HttpError {
    /// As far as it may be shown: without user, password and query.
    pub url: String,
    /// Why.
    pub fault: HttpFault,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// No URL that can be asked.
    #[error("this is no http:// or https:// URL")]
    Url,
    /// A header or the method holds something that cannot be sent.
    #[error("{0} cannot be sent")]
    Unsendable(String),
    /// The host has no address.
    #[error("the host name has no address")]
    Dns,
    /// Nobody listens.
    #[error("connection refused")]
    Refused,
    /// The host cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No trust, or no TLS at the other side.
    #[error("TLS: {0}")]
    Tls(String),
    /// Not in time.
    #[error("no answer within {}", crate::model::units::show_duration(*.0))]
    Timeout(Duration),
    /// The connection broke before the answer was whole.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Http {
    /// Sends a request and reads the answer.
    pub async fn send(&self, request: Request) -> Result<Answer, HttpError> {
        let shown = shown(&request);
        let timeout = request.timeout;
        let fault = |fault| HttpError { url: shown.clone(), fault };
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(answer) => answer.map_err(fault),
            Err(_) => Err(fault(HttpFault::Timeout(timeout))),
        }
    }

    async fn exchange(&self, request: Request) -> Result<Answer, HttpFault> {
        let limit = request.limit;
        let message = message(request)?;
        crash::point(format_args!("http.{}.before", message.method()));
        let is_tls = message.uri().scheme_str() == Some("https");
        let sent = if is_tls {
            self.tls_client()?.request(message).await
        } else {
            self.plain_client().request(message).await
        };
        let answer = sent.map_err(|error| {
            let connecting = error.is_connect();
            classify(&error, connecting, is_tls)
        })?;
        crash::point("http.after");
        let status = answer.status().as_u16();
        let mut stream = answer.into_body();
        let mut body = Vec::new();
        while let Some(frame) = stream.frame().await {
            let frame = frame.map_err(|error| classify(&error, false, is_tls))?;
            let Ok(data) = frame.into_data() else { continue };
            let room = limit.saturating_sub(body.len());
            body.extend_from_slice(data.get(..data.len().min(room)).unwrap_or_default());
            if data.len() > room {
                return Ok(Answer { status, body, truncated: true });
            }
        }
        Ok(Answer { status, body, truncated: false })
    }

    fn plain_client(&self) -> &Client<HttpConnector, Full<Bytes>> {
        self.plain.get_or_init(|| {
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(HttpConnector::new())
        })
    }

    fn tls_client(&self) -> Result<&TlsClient, HttpFault> {
        let made = self.tls.get_or_init(|| {
            let roots = HttpsConnectorBuilder::new().with_native_roots();
            let connector = roots
                .map_err(|error| format!("the system's certificates cannot be read: {error}"))?
                .https_only()
                .enable_http1()
                .build();
            Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
        });
        made.as_ref().map_err(|why| HttpFault::Tls(why.clone()))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

fn message(request: Request) -> Result<http::Request<Full<Bytes>>, HttpFault> {
    let uri: Uri = request.url.expose().parse().map_err(|_| HttpFault::Url)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(HttpFault::Url);
    }
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| HttpFault::Unsendable(format!("method {}", request.method)))?;
    let user = uri.authority().and_then(|a| a.as_str().rsplit_once('@')).map(|(user, _)| user.to_owned());
    let mut message = http::Request::builder()
        .method(method)
        .uri(uri)
        .header(header::USER_AGENT, concat!("flow/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*");
    if let Some(user) = user {
        let basic = base64::engine::general_purpose::STANDARD.encode(user);
        message = message.header(header::AUTHORIZATION, format!("Basic {basic}"));
    }
    for (name, value) in &request.headers {
        message = message.header(name.as_str(), value.expose());
        if message.headers_ref().is_none() {
            return Err(HttpFault::Unsendable(format!("header {name}")));
        }
    }
    message
        .body(Full::new(Bytes::from(request.body)))
        .map_err(|_| HttpFault::Unsendable("this request".to_owned()))
}

/// The URL as messages show it.
fn shown(request: &Request) -> String {
    let Ok(uri) = request.url.expose().parse::<Uri>() else {
        return if request.url_is_secret { "the given URL" } else { request.url.expose() }.to_owned();
    };
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = format!("{}://{}{port}", uri.scheme_str().unwrap_or("?"), uri.host().unwrap_or_default());
    if request.url_is_secret { host } else { host + uri.path() }
}

fn classify(error: &(dyn std::error::Error + 'static), connecting: bool, is_tls: bool) -> HttpFault {
    let mut cause = error;
    let mut system = None;
    let mut is_dns = false;
    loop {
        is_dns |= cause.to_string().starts_with("dns error");
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            system = io.raw_os_error().map(|_| io.kind()).or(system);
        }
        match cause.source() {
            Some(next) => cause = next,
            None => break,
        }
    }
    let words = cause.to_string();
    match (connecting, system) {
        (true, _) if is_dns => HttpFault::Dns,
        (true, Some(io::ErrorKind::ConnectionRefused)) => HttpFault::Refused,
        (true, None) if is_tls => HttpFault::Tls(words),
        (true, _) => HttpFault::Connect(words),
        (false, _) => HttpFault::Broken(words),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every connection with the same bytes and gives back what was asked.
    async fn server(answer: &'static [u8]) -> (u16, tokio::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                let read = socket.read(&mut buffer).await.unwrap_or(0);
                let _ = sender.send(String::from_utf8_lossy(&buffer[..read]).into_owned()).await;
                let _ = socket.write_all(answer).await;
            }
        });
        (port, receiver)
    }

    #[tokio::test]
    async fn asks_and_reads_up_to_the_limit() {
        let (port, mut asked) = server(b"HTTP/1.1 418 x\r\ncontent-length: 5\r\n\r\nhello").await;
        let mut request = Request::get(format!("http://me:pw@127.0.0.1:{port}/a?b=c"));
        request.headers.push(("X-Key".to_owned(), Secret::new("v")));
        request.limit = 4;
        let answer = Http::default().send(request).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str(), answer.truncated), (418, "hell", true));
        let asked = asked.recv().await.unwrap();
        assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\n") && asked.contains("x-key: v\r\n"), "{asked}");
        assert!(asked.contains("authorization: Basic bWU6cHc="), "{asked}");
    }

    #[tokio::test]
    async fn faults_are_told_apart() {
        let http = Http::default();
        let fault = async |url: String| {
            let mut request = Request::get(url);
            request.timeout = Duration::from_millis(500);
            http.send(request).await.unwrap_err()
        };
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let error = fault(format!("http://u:secret@127.0.0.1:{closed}/path?token=x")).await;
        assert_eq!(error.to_string(), format!("http://127.0.0.1:{closed}/path: connection refused"));
        assert_eq!(fault("ftp://x/".to_owned()).await.fault, HttpFault::Url);
        assert_eq!(fault("http://name.invalid/".to_owned()).await.fault, HttpFault::Dns);
        let (port, _asked) = server(b"this is no TLS and no HTTP").await;
        assert!(matches!(fault(format!("https://127.0.0.1:{port}/")).await.fault, HttpFault::Tls(_)));
        assert!(matches!(fault(format!("http://127.0.0.1:{port}/")).await.fault, HttpFault::Broken(_)));
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        assert!(matches!(fault(format!("http://127.0.0.1:{port}/")).await.fault, HttpFault::Timeout(_)));
    }

    #[tokio::test]
    async fn a_secret_url_is_not_shown() {
        let mut request =
            Request::post_json(Secret::new("http://127.0.0.1:1/hook/T0K3N"), &serde_json::json!({}));
        request.url_is_secret = true;
        let error = Http::default().send(request).await.unwrap_err();
        assert!(!error.to_string().contains("T0K3N"), "{error}");
    }
}
