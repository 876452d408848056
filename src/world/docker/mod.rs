//! The Docker engine, over its API.
//!
//! Builds run on the engine's own `BuildKit`. The context is a stream that the
//! caller makes, so memory stays bounded; progress is a stream that the caller
//! reads. Dropping a [`Build`] or a [`Push`] closes its connection, and the
//! engine stops the work.

mod address;
mod build;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::PushImageInfo;
use bollard::query_parameters::{BuildImageOptions, BuilderVersion, PushImageOptions};
use bollard::{BollardRequest, Docker};
use futures_util::{Stream, StreamExt};
use hyper::body::Bytes;

use self::build::Trace;
pub use self::build::{Build, BuildEvent};
use self::session::Session;
use super::crash;
use super::host::Host;
use super::registry::Login;
use crate::model::secret::Secret;

/// How long the engine may take to say its version: it does nothing for that.
const GREETING: Duration = Duration::from_secs(10);
/// How long a request may take until its answer begins; builds and pushes stream theirs at once.
const ANSWER: Duration = Duration::from_mins(10);

/// A running engine. Its API version is agreed on.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
    /// For builds whose session is flow's own.
    own_session: Docker,
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
    /// The way to it does not carry sessions of flow's own.
    #[error("build secrets reach an engine only by a Unix socket or plain TCP, not by {0}")]
    NoSecrets(String),
    /// Any other refusal.
    #[error("the Docker engine refused: {0}")]
    Refused(String),
    /// The build failed.
    #[error("{reason}")]
    Build {
        /// `BuildKit`'s words.
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
    /// What steps of the Dockerfile may mount, by id.
    pub secrets: BTreeMap<String, Secret>,
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

impl Engine {
    /// Reaches the engine that `DOCKER_HOST` or the Docker context names, else the usual socket.
    pub async fn connect(host: &Host) -> Result<Self, EngineError> {
        let address = address::address(host);
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
        let own_session = docker.clone().with_request_modifier(as_buildkit);
        Ok(Self { docker, own_session, address })
    }

    /// An image that the engine has.
    pub async fn image(&self, name: &str) -> Result<Option<LocalImage>, EngineError> {
        crash::point("engine.inspect.before");
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
        crash::point("registry.inspect.before");
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
    pub async fn build(
        &self,
        request: BuildRequest,
        context: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Build<'_>, EngineError> {
        crash::point("engine.build.before");
        let id = session_id();
        let session = if request.secrets.is_empty() {
            None
        } else {
            let opened = Session::open(&self.address, &id, request.secrets, request.login.clone()).await;
            Some(opened.map_err(|error| match error.kind() {
                io::ErrorKind::Unsupported => EngineError::NoSecrets(self.address.clone()),
                _ => self.lost(error.to_string()),
            })?)
        };
        let (docker, version, logins) = if session.is_some() {
            // To the client library a session of somebody else's is the older builder's affair.
            (&self.own_session, BuilderVersion::BuilderV1, None)
        } else {
            let login = request.login.as_ref().map(|login| (login.host.clone(), credentials(login)));
            (
                &self.docker,
                BuilderVersion::BuilderBuildKit,
                Some(login.into_iter().collect::<HashMap<_, _>>()),
            )
        };
        let options = BuildImageOptions {
            dockerfile: request.dockerfile,
            t: Some(request.name),
            target: request.target.unwrap_or_default(),
            platform: request.platform,
            buildargs: Some(request.args.into_iter().collect()),
            cachefrom: Some(request.cache_from).filter(|images| !images.is_empty()),
            pull: request.pull.then(|| "1".to_owned()),
            version,
            session: Some(id),
            ..BuildImageOptions::default()
        };
        let stream = docker.build_image(options, logins, Some(bollard::body_try_stream(context)));
        Ok(Build {
            engine: self,
            stream: Box::pin(stream),
            _session: session,
            trace: Trace::default(),
            image: None,
        })
    }

    /// Starts a push of one tag.
    #[must_use]
    pub fn push(&self, repository: &str, tag: &str, login: &Login) -> Push<'_> {
        crash::point("registry.push.before");
        let options = PushImageOptions { tag: Some(tag.to_owned()), platform: None };
        let stream = self.docker.push_image(repository, Some(options), Some(credentials(login)));
        Push { engine: self, stream: Box::pin(stream) }
    }

    /// What an error of a single request means.
    fn said(&self, error: Error) -> EngineError {
        match error {
            Error::DockerResponseServerError { status_code: 404, message } => EngineError::NotFound(message),
            Error::DockerResponseServerError { message, .. }
            | Error::DockerStreamError { error: message } => EngineError::Refused(message),
            other => self.lost(innermost(&other)),
        }
    }

    fn lost(&self, why: impl Into<String>) -> EngineError {
        EngineError::Lost { address: self.address.clone(), why: why.into() }
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
            None => {
                crash::point("registry.push.after");
                Ok(None)
            }
            Some(Ok(info)) => Ok(Some(info.status.unwrap_or_default())),
            Some(Err(error)) => Err(match self.engine.said(error) {
                EngineError::Refused(why) | EngineError::NotFound(why) => EngineError::Push(why),
                other => other,
            }),
        }
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

/// Makes a build request of the older builder one of `BuildKit`.
fn as_buildkit(mut request: BollardRequest) -> BollardRequest {
    let target = request.uri().to_string();
    if let Some((path, query)) = target.split_once('?')
        && path.ends_with("/build")
    {
        let words: Vec<&str> =
            query.split('&').map(|word| if word == "version=1" { "version=2" } else { word }).collect();
        // A URI with one digit replaced is one again.
        if let Ok(uri) = format!("{path}?{}", words.join("&")).parse() {
            *request.uri_mut() = uri;
        }
    }
    request
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

#[cfg(test)]
mod tests {
    use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    impl Engine {
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
    }

    const VERSION: &str =
        "HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: close\r\n\r\n{\"ApiVersion\":\"1.41\"}";

    /// An engine that says its version, and this to every other request.
    fn engine(folder: &tempfile::TempDir, answer: &'static str) -> Host {
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = vec![0; 4096];
                    let read = stream.read(&mut buffer).await.unwrap();
                    let asked = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    let answer = if asked.contains("/version") { VERSION } else { answer };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        let vars = [("DOCKER_HOST".to_owned(), format!("unix://{}", socket.display()))];
        Host::with(vars.into_iter().collect())
    }

    async fn build(host: &Host) -> EngineError {
        let engine = Engine::connect(host).await.unwrap();
        let context = futures_util::stream::iter([Ok(Bytes::from_static(&[0; 1024]))]);
        let mut build = engine.build(BuildRequest::default(), context).await.unwrap();
        loop {
            match build.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("there is no image"),
                Err(error) => return error,
            }
        }
    }

    #[tokio::test]
    async fn an_engine_that_dies_while_it_builds_is_no_success() {
        let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n{\"stream\":\"begun\"}\r\n";
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"stream\":\"begun\"}\r\n";
        for answer in ["", chunk, whole] {
            let folder = tempfile::tempdir().unwrap();
            let error = build(&engine(&folder, answer)).await;
            assert!(matches!(error, EngineError::Lost { .. }), "{answer:?}: {error:?}");
            assert!(error.to_string().contains("docker.sock broke: "), "{error}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_refuses_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = "HTTP/1.1 500 No\r\nContent-Length: 27\r\n\r\n{\"message\":\"disk is full\"}\n";
        match build(&engine(&folder, refusal)).await {
            EngineError::Build { reason, .. } => assert_eq!(reason, "disk is full"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let stale = folder.path().join("stale.sock");
        drop(UnixListener::bind(&stale).unwrap());
        for (address, why) in [
            ("unix:///nowhere/docker.sock".to_owned(), "there is no such socket"),
            (format!("unix://{}", stale.display()), "Connection refused"),
            ("ssh://somewhere".to_owned(), "not supported"),
        ] {
            let vars = [("DOCKER_HOST".to_owned(), address.clone())];
            let error =
                Engine::connect(&Host::with(vars.into_iter().collect())).await.unwrap_err().to_string();
            assert!(error.contains(&address) && error.contains(why), "{error}");
        }
    }
}
