//! A few lines of HTTP over loopback: one request a connection, whole answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than anything on loopback takes; a test then fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// `200`
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The text of every such XML element, in order.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let inside = |part: &str| part.split(&close).next().unwrap_or_default().to_owned();
        text.split(&open).skip(1).map(inside).collect()
    }
}

/// `GET`
pub(crate) fn get(url: &str) -> std::io::Result<Answer> {
    send("GET", url, &[], b"")
}

/// One request, one answer.
pub(crate) fn send(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let rest = url.strip_prefix("http://").ok_or_else(|| std::io::Error::other(format!("no http: {url}")))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(body)?;
    // As soon as the answer is whole: whether the server then closes the connection is its business.
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = stream.read(&mut buffer)?;
        bytes.extend(&buffer[..read]);
        if let Some(answer) = parse(&bytes, method == "HEAD", read == 0) {
            return Ok(answer);
        }
        if read == 0 {
            let so_far = String::from_utf8_lossy(&bytes);
            return Err(std::io::Error::other(format!("the answer ends in the middle: {so_far:?}")));
        }
    }
}

/// `None` while the answer is not whole.
fn parse(bytes: &[u8], head_only: bool, ended: bool) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let pair =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    let headers: Vec<_> = lines.filter_map(pair).collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if head_only {
        return Some(answer);
    }
    if answer.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
        answer.body = joined(&answer.body)?;
    } else if let Ok(length) = answer.header("content-length").parse::<usize>() {
        (answer.body.len() == length).then_some(())?;
    } else {
        ended.then_some(())?;
    }
    Some(answer)
}

/// Chunks put together.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = end + 2;
        body.extend(rest.get(start..start + size)?);
        rest = rest.get(start + size + 2..)?;
    }
}
