//! A `BuildKit` session of flow's own, for builds with secrets.
//!
//! The engine calls back over an upgraded connection and asks for a secret by
//! its id when a step of the Dockerfile mounts it; it goes straight into that
//! step's memory-backed file and into no layer. The client library serves
//! registry credentials only, so both are served here. Values never leave
//! memory. Protocol: github.com/moby/buildkit, `session/`.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bollard::grpc::build::health::health_check_response::ServingStatus;
use bollard::grpc::build::health::health_server::{Health, HealthServer};
use bollard::grpc::build::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard::grpc::build::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard::grpc::build::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::grpc::build::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard::grpc::build::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use futures_util::stream;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

use crate::model::secret::Secret;
use crate::world::registry::Login;

/// What the engine may call, as it wants to be told beforehand.
const METHODS: [&str; 3] = [
    "/grpc.health.v1.Health/Check",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
];

/// Serves the engine until it is dropped.
#[derive(Debug)]
pub(super) struct Session {
    _connection: AbortOnDropHandle<()>,
    _server: AbortOnDropHandle<()>,
}

impl Session {
    /// Offers secrets and credentials to the engine at `address`, for the build that names `id`.
    pub(super) async fn open(
        address: &str,
        id: &str,
        secrets: BTreeMap<String, Secret>,
        login: Option<Login>,
    ) -> io::Result<Self> {
        match (address.strip_prefix("unix://"), tcp(address)) {
            (Some(path), _) => Self::over(UnixStream::connect(path).await?, id, secrets, login).await,
            (None, Some(host)) => Self::over(TcpStream::connect(host).await?, id, secrets, login).await,
            (None, None) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "build secrets reach an engine only by a Unix socket or plain TCP",
            )),
        }
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        id: &str,
        secrets: BTreeMap<String, Secret>,
        login: Option<Login>,
    ) -> io::Result<Self> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(async move {
            // How it ended is told by whoever still uses it.
            let _ = connection.with_upgrades().await;
        });
        let mut request = http::Request::post("/session")
            .header("Host", "docker")
            .header("Connection", "Upgrade")
            .header("Upgrade", "h2c")
            .header("X-Docker-Expose-Session-Uuid", id);
        for method in METHODS {
            request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(io::Error::other(format!("the engine answered {} to a session", answer.status())));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(io::Error::other)?;
        let server = tonic::transport::Server::builder()
            .add_service(HealthServer::new(Alive))
            .add_service(AuthServer::new(Credentials { login }))
            .add_service(SecretsServer::new(Vault { secrets }))
            .serve_with_incoming(stream::iter([Ok::<_, io::Error>(Line(TokioIo::new(upgraded)))]));
        let server = tokio::spawn(async move {
            // A broken session shows as a failed build.
            let _ = server.await;
        });
        Ok(Self { _connection: AbortOnDropHandle::new(connection), _server: AbortOnDropHandle::new(server) })
    }
}

fn tcp(address: &str) -> Option<&str> {
    address
        .strip_prefix("tcp://")
        .or_else(|| address.strip_prefix("http://"))
        .map(|host| host.trim_end_matches('/'))
}

/// The upgraded connection, as the server wants it.
struct Line(TokioIo<Upgraded>);

impl Connected for Line {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The engine ends a session that does not answer this.
#[derive(Debug)]
struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(not_offered())
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(not_offered())
    }
}

#[derive(Debug)]
struct Vault {
    secrets: BTreeMap<String, Secret>,
}

#[tonic::async_trait]
impl Secrets for Vault {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = &request.get_ref().id;
        match self.secrets.get(id) {
            Some(secret) => {
                Ok(Response::new(GetSecretResponse { data: secret.expose().as_bytes().to_vec() }))
            }
            None => Err(Status::not_found(format!("the step gives no secret {id}"))),
        }
    }
}

#[derive(Debug)]
struct Credentials {
    login: Option<Login>,
}

#[tonic::async_trait]
impl Auth for Credentials {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let known = self.login.as_ref().filter(|login| login.host == request.get_ref().host);
        Ok(Response::new(known.map_or_else(CredentialsResponse::default, |login| CredentialsResponse {
            username: login.username.clone(),
            secret: login.password.expose().to_owned(),
        })))
    }

    // Without these the engine fetches tokens by itself, with the credentials above.
    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(not_offered())
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(not_offered())
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(not_offered())
    }
}

fn not_offered() -> Status {
    Status::unimplemented("flow does not offer this")
}
