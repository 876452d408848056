//! A point before each request to AWS and one after its answer, for the tests that end flow there.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

use crate::world::crash;

/// A client whose requests pass a point before and after.
pub(super) fn watched(client: SharedHttpClient) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        SharedHttpConnector::new(Watched(client.http_connector(settings, components)))
    })
}

#[derive(Debug)]
struct Watched(SharedHttpConnector);

impl HttpConnector for Watched {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let name = name(&request);
        let inner = self.0.clone();
        HttpConnectorFuture::new(async move {
            crash::point(format_args!("aws.{name}.before"));
            let answer = inner.call(request).await;
            crash::point(format_args!("aws.{name}.after"));
            answer
        })
    }
}

/// The operation, as far as the request tells: by header, in the form, or method and path.
fn name(request: &HttpRequest) -> String {
    if let Some(target) = request.headers().get("x-amz-target") {
        return target.rsplit('.').next().unwrap_or(target).to_owned();
    }
    let form = request.body().bytes().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    if let Some(action) = form.strip_prefix("Action=") {
        return action.split('&').next().unwrap_or(action).to_owned();
    }
    let uri = request.uri();
    let path = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    format!("{} {path}", request.method())
}
