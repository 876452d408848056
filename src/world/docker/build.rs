//! A build that is under way, and what it says.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;

use bollard::errors::Error;
use bollard::grpc::build::moby::buildkit::v1::StatusResponse;
use bollard::models::{BuildInfo, BuildInfoAux};
use futures_util::{Stream, StreamExt};

use super::session::Session;
use super::{Engine, EngineError};
use crate::world::crash;

/// How many of a build's last lines a failure shows.
const LAST_LINES: usize = 20;

/// What happens during a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// A step of the Dockerfile begins: `[2/5] RUN npm ci`.
    Step(String),
    /// A line that it wrote.
    Line(String),
}

/// A build. Dropping it closes its connection, and the engine stops building.
pub struct Build<'a> {
    pub(super) engine: &'a Engine,
    pub(super) stream: Pin<Box<dyn Stream<Item = Result<BuildInfo, Error>> + Send + 'a>>,
    /// Serves the engine as long as it builds.
    pub(super) _session: Option<Session>,
    pub(super) trace: Trace,
    pub(super) image: Option<String>,
}

impl Build<'_> {
    /// What happens next; `None` once the image is there.
    pub async fn next(&mut self) -> Result<Option<BuildEvent>, EngineError> {
        loop {
            if let Some(event) = self.trace.events.pop_front() {
                return Ok(Some(event));
            }
            match self.stream.next().await {
                None if self.image.is_some() => {
                    crash::point("engine.build.after");
                    return Ok(None);
                }
                // A whole answer without an image: the engine did not get to the end.
                None => return Err(self.engine.lost("the build ended without an image")),
                Some(Ok(info)) => self.take(info),
                Some(Err(error)) => return Err(self.failed(error)),
            }
        }
    }

    /// The image's identifier, once the build is over.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    fn take(&mut self, info: BuildInfo) {
        match info.aux {
            Some(BuildInfoAux::BuildKit(status)) => self.trace.take(status),
            Some(BuildInfoAux::Default(image)) => self.image = image.id.or(self.image.take()),
            None => {}
        }
    }

    fn failed(&self, error: Error) -> EngineError {
        match self.engine.said(error) {
            EngineError::Refused(reason) | EngineError::NotFound(reason) => {
                EngineError::Build { reason, log: self.trace.last_lines() }
            }
            other => other,
        }
    }
}

/// What `BuildKit` has told so far.
#[derive(Debug, Default)]
pub(super) struct Trace {
    events: VecDeque<BuildEvent>,
    started: HashSet<String>,
    /// Caches that could not be read.
    failed: HashSet<String>,
    /// The unfinished line of each vertex.
    open: HashMap<String, Vec<u8>>,
    last: VecDeque<String>,
}

impl Trace {
    fn take(&mut self, status: StatusResponse) {
        for vertex in status.vertexes {
            // BuildKit's own chores say nothing that an operator could use.
            let own = vertex.name.starts_with("[internal]");
            if vertex.started.is_some() && !own && self.started.insert(vertex.digest.clone()) {
                self.events.push_back(BuildEvent::Step(vertex.name.clone()));
            }
            // A cache that cannot be read fails no build, so nothing else would tell.
            let cache = vertex.name.starts_with("importing cache manifest");
            if cache && !vertex.error.is_empty() && self.failed.insert(vertex.name.clone()) {
                self.events.push_back(BuildEvent::Line(format!("{}: {}", vertex.name, vertex.error)));
            }
        }
        for log in status.logs {
            let mut rest = self.open.remove(&log.vertex).unwrap_or_default();
            rest.extend(log.msg);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if self.last.len() == LAST_LINES {
                    self.last.pop_front();
                }
                self.last.push_back(line.clone());
                self.events.push_back(BuildEvent::Line(line));
            }
            self.open.insert(log.vertex, rest);
        }
    }

    fn last_lines(&self) -> Vec<String> {
        let open = self.open.values().filter(|rest| !rest.is_empty());
        let open = open.map(|rest| String::from_utf8_lossy(rest).trim_end().to_owned());
        self.last.iter().cloned().chain(open).collect()
    }
}

#[cfg(test)]
mod tests {
    use bollard::grpc::build::moby::buildkit::v1::{Vertex, VertexLog};

    use super::*;

    fn log(vertex: &str, text: &str) -> VertexLog {
        VertexLog { vertex: vertex.to_owned(), msg: text.into(), ..VertexLog::default() }
    }

    fn vertex(name: &str, started: bool) -> Vertex {
        Vertex {
            digest: name.to_owned(),
            name: name.to_owned(),
            started: started.then(Default::default),
            ..Vertex::default()
        }
    }

    #[test]
    fn steps_are_said_once_and_lines_are_put_together_by_step() {
        let mut trace = Trace::default();
        trace.take(StatusResponse {
            vertexes: vec![
                vertex("[internal] load", true),
                vertex("[1/2] RUN a", true),
                vertex("[2/2] RUN b", false),
            ],
            logs: vec![log("a", "one\r\ntw"), log("b", "other\n")],
            ..StatusResponse::default()
        });
        trace.take(StatusResponse {
            vertexes: vec![vertex("[1/2] RUN a", true)],
            logs: vec![log("a", "o\nrest")],
            ..StatusResponse::default()
        });
        let events: Vec<BuildEvent> = trace.events.iter().cloned().collect();
        let line = |text: &str| BuildEvent::Line(text.to_owned());
        assert_eq!(
            events,
            [BuildEvent::Step("[1/2] RUN a".to_owned()), line("one"), line("other"), line("two")]
        );
        assert_eq!(trace.last_lines(), ["one", "other", "two", "rest"]);
    }

    #[test]
    fn a_cache_that_cannot_be_read_is_said_once() {
        let mut trace = Trace::default();
        let import = "importing cache manifest from shop-api:cache";
        for _ in 0..2 {
            let failed = |name| Vertex { error: "not found".to_owned(), ..vertex(name, true) };
            trace.take(StatusResponse {
                vertexes: vec![failed(import), failed("[1/2] RUN a")],
                ..StatusResponse::default()
            });
        }
        let step = |text: &str| BuildEvent::Step(text.to_owned());
        let line = BuildEvent::Line(format!("{import}: not found"));
        assert_eq!(
            trace.events,
            [step(import), line, step("[1/2] RUN a")],
            "the build's own end tells the other"
        );
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut trace = Trace::default();
        for number in 0..100 {
            trace.take(StatusResponse {
                logs: vec![log("a", &format!("{number}\n"))],
                ..StatusResponse::default()
            });
        }
        assert_eq!(trace.last_lines().len(), LAST_LINES);
        assert_eq!(trace.last_lines().last().map(String::as_str), Some("99"));
    }
}
