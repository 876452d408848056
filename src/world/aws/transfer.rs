//! S3 for bodies. A request that says the SHA-256 of its body is signed with
//! that very digest: nothing is hashed a second time, and a body need not be
//! in memory to be signed. S3 refuses a body with any other digest.

use std::time::Duration;

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::timeout::TimeoutConfig;
use base64::Engine as _;

use crate::world::files::hex;

/// A body of many megabytes over a slow line takes longer than other calls; the SDK notices stalls itself.
const BODY_TIMEOUT: Duration = Duration::from_mins(15);

/// The same client with time for a body, signing the digest that a request says.
pub(super) fn client(writes: &aws_sdk_s3::Client) -> aws_sdk_s3::Client {
    let timeouts =
        writes.config().timeout_config().map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
    let config = writes
        .config()
        .to_builder()
        .timeout_config(timeouts.operation_attempt_timeout(BODY_TIMEOUT).build())
        .interceptor(SignWhatIsSaid);
    aws_sdk_s3::Client::from_conf(config.build())
}

#[derive(Debug)]
struct SignWhatIsSaid;

impl Intercept for SignWhatIsSaid {
    fn name(&self) -> &'static str {
        "SignWhatIsSaid"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(digest) = said(context.request()) {
            cfg.interceptor_state().store_put(PayloadSigningOverride::Precomputed(digest));
        }
        Ok(())
    }
}

/// What the request says of its own body, hexadecimal. Only a `PUT` does: elsewhere the header speaks
/// of an object.
fn said(request: &HttpRequest) -> Option<String> {
    let digest = request.headers().get("x-amz-checksum-sha256").filter(|_| request.method() == "PUT")?;
    let digest = base64::engine::general_purpose::STANDARD.decode(digest).ok()?;
    (digest.len() == 32).then(|| hex(&digest))
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn only_a_digest_of_the_body_is_signed() {
        let digest = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned();
        for (name, method, header, wanted) in [
            ("an object or a part", "PUT", Some(digest), Some(hex)),
            ("the end of an upload in parts", "POST", Some(digest), None),
            ("no digest", "PUT", None, None),
            ("a digest of parts", "PUT", Some("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=-2"), None),
            ("something shorter", "PUT", Some("47DE"), None),
        ] {
            let mut request = HttpRequest::new(SdkBody::empty());
            request.set_method(method).expect("a method");
            if let Some(header) = header {
                request.headers_mut().insert("x-amz-checksum-sha256", header);
            }
            assert_eq!(said(&request), wanted, "{name}");
        }
    }
}
