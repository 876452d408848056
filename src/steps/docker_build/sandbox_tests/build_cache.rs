//! The engine's own build cache: what a test made in it, and nothing else, is taken out again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::UnixStream;

use crate::world::host::Host;

/// How long the engine may be busy with what others do to it.
const PATIENCE: Duration = Duration::from_mins(1);
const BETWEEN: Duration = Duration::from_millis(100);

/// Speaks the engine's API by itself: the client library reads only the newer form of these answers.
pub(super) struct BuildCache {
    socket: PathBuf,
}

/// One record: what a step of a Dockerfile left behind.
struct Record {
    id: String,
    /// The record that it stands on, of the layer below.
    parent: String,
    description: String,
}

impl BuildCache {
    /// `None` where the engine is not reached by a socket of this machine.
    pub(super) fn of(host: &Host) -> Option<Self> {
        let socket = host.var("DOCKER_HOST")?.strip_prefix("unix://")?.into();
        Some(Self { socket })
    }

    /// Forgets what was built or fetched by steps whose text has `mark` in it, with the layers above
    /// them, and those below on which nothing else stands. Answers with how many records that were.
    pub(super) async fn forget(&self, mark: &str) -> usize {
        let records = self.records().await;
        let mut wanted: BTreeSet<&str> = records
            .iter()
            .filter(|record| record.description.contains(mark))
            .map(|record| record.id.as_str())
            .collect();
        let marked = wanted.clone();
        // Above: children of children. Below: parents that carry nothing but these.
        loop {
            let before = wanted.len();
            let above = records.iter().filter(|record| wanted.contains(record.parent.as_str()));
            let above: Vec<&str> = above.map(|record| record.id.as_str()).collect();
            wanted.extend(above);
            let below = records.iter().filter(|record| {
                let mut children = records.iter().filter(|child| child.parent == record.id).peekable();
                children.peek().is_some() && children.all(|child| wanted.contains(child.id.as_str()))
            });
            let below: Vec<&str> = below.map(|record| record.id.as_str()).collect();
            wanted.extend(below);
            if wanted.len() == before {
                break;
            }
        }
        // The engine keeps what something stands on: from the top down.
        let mut left: Vec<&Record> =
            records.iter().filter(|record| wanted.contains(record.id.as_str())).collect();
        while !left.is_empty() {
            let (lower, top): (Vec<&Record>, Vec<&Record>) =
                left.iter().partition(|record| left.iter().any(|other| other.parent == record.id));
            for record in top {
                self.prune(&record.id).await;
            }
            left = lower;
        }
        let still = self.records().await;
        let still: Vec<&str> = still.iter().map(|record| record.id.as_str()).collect();
        assert!(marked.iter().all(|id| !still.contains(id)), "the engine keeps what it was told to forget");
        wanted.len()
    }

    async fn records(&self) -> Vec<Record> {
        // The engine counts for one at a time, and not while somebody else removes what it counts.
        let begun = Instant::now();
        let usage = loop {
            match self.ask(http::Method::GET, "/v1.41/system/df").await {
                Ok(usage) => break usage,
                Err(said) => assert!(begun.elapsed() < PATIENCE, "{said}"),
            }
            tokio::time::sleep(BETWEEN).await;
        };
        let text = |record: &Json, name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let all = usage["BuildCache"].as_array().cloned().unwrap_or_default();
        all.iter()
            .map(|record| Record {
                id: text(record, "ID"),
                parent: text(record, "Parent"),
                description: text(record, "Description"),
            })
            .collect()
    }

    async fn prune(&self, id: &str) {
        let filters = json!({ "id": { id: true } }).to_string();
        let filters = filters.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        let path = format!("/v1.41/build/prune?all=true&filters={filters}");
        self.ask(http::Method::POST, &path).await.unwrap();
    }

    /// What the engine answers, or what it says is wrong.
    async fn ask(&self, method: http::Method, path: &str) -> Result<Json, String> {
        let stream = TokioIo::new(UnixStream::connect(&self.socket).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::builder().method(method).uri(path).header("Host", "docker");
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        connection.abort();
        if !status.is_success() {
            return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)));
        }
        Ok(serde_json::from_slice(&body).unwrap())
    }
}
