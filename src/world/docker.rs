//! The Docker engine, over its API.
//!
//! Builds run on the engine's own BuildKit. The context is a stream that the
//! caller makes, so memory stays bounded; progress is a stream that the caller
//! reads. Dropping a [`Build`] or a [`Push`] closes its connection, and the
//! engine stops the work.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::grpc::build::moby::buildkit::v1::StatusResponse;
use bollard::models::{BuildInfo, BuildInfoAux, PushImageInfo};
use bollard::query_parameters::{
    BuildImageOptions, BuilderVersion, ListImagesOptions, PushImageOptions, RemoveImageOptions,
};
use futures_util::{Stream, StreamExt};
use hyper::body::Bytes;

use super::host::Host;
use super::registry::Login;

/// How long the engine may take to say its version: it does nothing for that.
const GREETING: Duration = Duration::from_secs(10);
/// How long a request may take until its answer begins; builds and pushes stream theirs at once.
const ANSWER: Duration = Duration::from_mins(10);
/// How many of a build's last lines a failure shows.
const LAST_LINES: usize = 20;

/// A running engine. Its API version is agreed on.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
    address: String,
}

/// Why the engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers there.
    #[error("no Docker engine answers at {address}: {why}")]
    Unreachable {
        /// What was tried.
        address: String,
        /// The system's words.
        why: String,
    },
    /// It was there and is gone.
    #[error("the connection to the Docker engine at {address} broke: {why}")]
    Lost {
        /// What it was reached by.
        address: String,
        /// The system's words.
        why: String,
    },
    /// It has no such image.
    #[error("{0}")]
    NotFound(String),
    /// Any other refusal.
    #[error("the Docker engine refused: {0}")]
    Refused(String),
    /// The build failed.
    #[error("{reason}")]
    Build {
        /// BuildKit's words.
        reason: String,
        /// The last lines that the failed step wrote.
        log: Vec<String>,
    },
    /// The push failed.
    #[error("{0}")]
    Push(String),
}

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// Path of the Dockerfile inside the context.
    pub dockerfile: String,
    /// The name the image gets in the engine: `HOST/NAME:TAG`.
    pub name: String,
    /// Stage to stop at.
    pub target: Option<String>,
    /// `linux/amd64`
    pub platform: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Images whose layers may be taken.
    pub cache_from: Vec<String>,
    /// Ask the registries for every base image, even if the engine has one of that name.
    pub pull: bool,
    /// For base images.
    pub login: Option<Login>,
}

/// An image of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// Digest of its configuration.
    pub id: String,
    /// `REPOSITORY@sha256:…`, for each repository it was pushed to or pulled from.
    pub repository_digests: Vec<String>,
}

/// What happens during a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// A step of the Dockerfile begins: `[2/5] RUN npm ci`.
    Step(String),
    /// A line that it wrote.
    Line(String),
}

impl Engine {
    /// Reaches the engine that `DOCKER_HOST` names, else the usual socket.
    pub async fn connect(host: &Host) -> Result<Self, EngineError> {
        let address = address(host);
        let unreachable = |error: Error| EngineError::Unreachable {
            address: address.clone(),
            why: match error {
                Error::SocketNotFoundError(_) => "there is no such socket".to_owned(),
                other => innermost(&other),
            },
        };
        let docker = Docker::connect_with_host(&address)
            .map_err(unreachable)?
            .with_timeout(GREETING)
            .negotiate_version()
            .await
            .map_err(unreachable)?
            .with_timeout(ANSWER);
        Ok(Self { docker, address })
    }

    /// An image that the engine has.
    pub async fn image(&self, name: &str) -> Result<Option<LocalImage>, EngineError> {
        match self.docker.inspect_image(name).await {
            Ok(found) => Ok(Some(LocalImage {
                id: found.id.unwrap_or_default(),
                repository_digests: found.repo_digests.unwrap_or_default(),
            })),
            Err(error) => match self.said(error) {
                EngineError::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// The digest that a registry, asked by the engine, has under a name.
    pub async fn registry_digest(&self, name: &str, login: Option<&Login>) -> Result<String, EngineError> {
        let answer = self
            .docker
            .inspect_registry_image(name, login.map(credentials))
            .await
            .map_err(|error| self.said(error))?;
        answer
            .descriptor
            .digest
            .ok_or_else(|| EngineError::Refused(format!("the registry said no digest for {name}")))
    }

    /// Starts a build. The context is a tar archive; an error in it ends the build.
    pub fn build(
        &self,
        request: BuildRequest,
        context: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Build<'_> {
        let login = request.login.as_ref().map(|login| (login.host.clone(), credentials(login)));
        let options = BuildImageOptions {
            dockerfile: request.dockerfile,
            t: Some(request.name),
            target: request.target.unwrap_or_default(),
            platform: request.platform,
            buildargs: Some(request.args.into_iter().collect()),
            cachefrom: Some(request.cache_from).filter(|images| !images.is_empty()),
            pull: request.pull.then(|| "1".to_owned()),
            version: BuilderVersion::BuilderBuildKit,
            session: Some(session_id()),
            ..BuildImageOptions::default()
        };
        let stream = self.docker.build_image(
            options,
            Some(login.into_iter().collect::<HashMap<_, _>>()),
            Some(bollard::body_try_stream(context)),
        );
        Build { engine: self, stream: Box::pin(stream), trace: Trace::default(), image: None }
    }

    /// Starts a push of one tag.
    pub fn push(&self, repository: &str, tag: &str, login: &Login) -> Push<'_> {
        let options = PushImageOptions { tag: Some(tag.to_owned()), platform: None };
        let stream = self.docker.push_image(repository, Some(options), Some(credentials(login)));
        Push { engine: self, stream: Box::pin(stream) }
    }

    /// Takes the names of a repository off the engine's images, and drops those that have no other.
    pub async fn forget(&self, repository: &str) -> Result<(), EngineError> {
        let mut wanted = HashMap::new();
        wanted.insert("reference".to_owned(), vec![repository.to_owned()]);
        let options = ListImagesOptions { filters: Some(wanted), ..ListImagesOptions::default() };
        let images = self.docker.list_images(Some(options)).await.map_err(|error| self.said(error))?;
        for name in images.into_iter().flat_map(|image| image.repo_tags) {
            if name.starts_with(repository) {
                self.docker
                    .remove_image(&name, None::<RemoveImageOptions>, None)
                    .await
                    .map_err(|error| self.said(error))?;
            }
        }
        Ok(())
    }

    /// What an error of a single request means.
    fn said(&self, error: Error) -> EngineError {
        match error {
            Error::DockerResponseServerError { status_code: 404, message } => EngineError::NotFound(message),
            Error::DockerResponseServerError { message, .. }
            | Error::DockerStreamError { error: message } => EngineError::Refused(message),
            other => EngineError::Lost { address: self.address.clone(), why: innermost(&other) },
        }
    }
}

/// A build that is under way.
pub struct Build<'a> {
    engine: &'a Engine,
    stream: Pin<Box<dyn Stream<Item = Result<BuildInfo, Error>> + Send + 'a>>,
    trace: Trace,
    image: Option<String>,
}

impl Build<'_> {
    /// What happens next; `None` once the image is there.
    pub async fn next(&mut self) -> Result<Option<BuildEvent>, EngineError> {
        loop {
            if let Some(event) = self.trace.events.pop_front() {
                return Ok(Some(event));
            }
            match self.stream.next().await {
                None if self.image.is_some() => return Ok(None),
                None => {
                    return Err(EngineError::Lost {
                        address: self.engine.address.clone(),
                        why: "the build ended without an image".to_owned(),
                    });
                }
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

/// What BuildKit has told so far.
#[derive(Debug, Default)]
struct Trace {
    events: VecDeque<BuildEvent>,
    started: std::collections::HashSet<String>,
    /// The unfinished line of each vertex.
    open: HashMap<String, Vec<u8>>,
    last: VecDeque<String>,
}

impl Trace {
    fn take(&mut self, status: StatusResponse) {
        for vertex in status.vertexes {
            // BuildKit's own chores say nothing that an operator could use.
            let own = vertex.name.starts_with("[internal]");
            if vertex.started.is_some() && !own && self.started.insert(vertex.digest) {
                self.events.push_back(BuildEvent::Step(vertex.name));
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
        self.last
            .iter()
            .cloned()
            .chain(open.map(|rest| String::from_utf8_lossy(rest).trim_end().to_owned()))
            .collect()
    }
}

/// A push that is under way.
pub struct Push<'a> {
    engine: &'a Engine,
    stream: Pin<Box<dyn Stream<Item = Result<PushImageInfo, Error>> + Send + 'a>>,
}

impl Push<'_> {
    /// What the engine says next, for people only; `None` once it is over.
    pub async fn next(&mut self) -> Result<Option<String>, EngineError> {
        match self.stream.next().await {
            None => Ok(None),
            Some(Ok(info)) => Ok(Some(info.status.unwrap_or_default())),
            Some(Err(error)) => Err(match self.engine.said(error) {
                EngineError::Refused(why) | EngineError::NotFound(why) => EngineError::Push(why),
                other => other,
            }),
        }
    }
}

fn address(host: &Host) -> String {
    match host.var("DOCKER_HOST") {
        Some(given) if !given.is_empty() => given.to_owned(),
        _ => "unix:///var/run/docker.sock".to_owned(),
    }
}

fn credentials(login: &Login) -> DockerCredentials {
    DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.expose().to_owned()),
        serveraddress: Some(login.host.clone()),
        ..DockerCredentials::default()
    }
}

/// Names the session of one build. Two that run at once must differ; nothing else hangs on it.
fn session_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("flow-{:016x}{:016x}", random(), random())
}

/// The innermost cause says what happened; the outer ones only that something did.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
