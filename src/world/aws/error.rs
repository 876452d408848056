//! What AWS answered when it did not answer what was asked.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// A call that did not succeed. Says which call, so that the text stands on its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{service} {operation}: {}", self.text())]
pub struct AwsError {
    /// `ECS`, `S3`, …
    pub service: &'static str,
    /// `UpdateService`, …
    pub operation: &'static str,
    /// What sort of answer it was.
    pub class: AwsErrorClass,
    /// The provider's code, when there was an answer.
    pub code: Option<String>,
    /// The provider's or the transport's words.
    pub message: String,
    /// What AWS support asks for.
    pub request_id: Option<String>,
}

/// What sort of answer it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsErrorClass {
    /// The request never left: no connection, no credentials.
    NotSent,
    /// It may have been carried out: timeout, broken connection, server error.
    Unclear,
    /// The provider refused because of too many requests: not carried out.
    Throttled,
    /// The caller may not.
    Denied,
    /// The thing is not there.
    NotFound,
    /// Any other refusal: not carried out.
    Refused,
}

impl AwsError {
    /// Reads the answer of a call.
    pub fn new<E, R>(service: &'static str, operation: &'static str, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).map(str::to_owned);
        let said = error.as_service_error().and_then(ProvideErrorMetadata::message).map(str::to_owned);
        let class = match error {
            SdkError::DispatchFailure(failure) if failure.is_timeout() => AwsErrorClass::Unclear,
            SdkError::DispatchFailure(failure)
                if failure
                    .as_connector_error()
                    .is_some_and(|error| may_have_left(error, failure.is_io())) =>
            {
                AwsErrorClass::Unclear
            }
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) => AwsErrorClass::NotSent,
            SdkError::ServiceError(_) => classify(code.as_deref().unwrap_or_default()),
            _ => AwsErrorClass::Unclear,
        };
        Self {
            service,
            operation,
            class,
            message: said.unwrap_or_else(|| plain(innermost(error))),
            request_id: error
                .as_service_error()
                .and_then(|e| e.meta().extra("aws_request_id"))
                .map(str::to_owned),
            code,
        }
    }

    /// Whether nobody can tell if the call was carried out.
    #[must_use]
    pub fn is_unclear(&self) -> bool {
        self.class == AwsErrorClass::Unclear
    }

    /// Whether the thing asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.class == AwsErrorClass::NotFound
    }

    fn text(&self) -> String {
        match (&self.code, self.message.is_empty()) {
            (Some(code), true) => code.clone(),
            (Some(code), false) if !self.message.contains(code.as_str()) => {
                format!("{code}: {}", self.message)
            }
            _ => self.message.clone(),
        }
    }
}

fn classify(code: &str) -> AwsErrorClass {
    let has = |needles: &[&str]| needles.iter().any(|needle| code.contains(needle));
    if has(&["Throttl", "TooManyRequests", "RequestLimitExceeded", "SlowDown", "Rate exceeded"]) {
        AwsErrorClass::Throttled
    } else if has(&[
        "AccessDenied",
        "Unauthorized",
        "NotAuthorized",
        "Forbidden",
        "InvalidClientToken",
        "ExpiredToken",
        "SignatureDoesNotMatch",
    ]) {
        AwsErrorClass::Denied
    } else if has(&["NotFound", "NoSuch", "DoesNotExist", "ClusterNotFound", "ServiceNotFound"]) {
        AwsErrorClass::NotFound
    } else if has(&[
        "InternalFailure",
        "InternalError",
        "InternalServer",
        "ServerException",
        "ServiceUnavailable",
        "RequestTimeout",
    ]) || code.is_empty()
    {
        AwsErrorClass::Unclear
    } else {
        AwsErrorClass::Refused
    }
}

/// Whether a request without an answer may have reached the provider. A connection that broke is
/// one that was made; missing credentials never come as far as a connection.
fn may_have_left(error: &(dyn std::error::Error + 'static), is_io: bool) -> bool {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if let Some(error) = one.downcast_ref::<hyper_util::client::legacy::Error>() {
            return !error.is_connect();
        }
        if one.is::<hyper::Error>() {
            return true;
        }
        cause = one.source();
    }
    is_io
}

/// The SDK lists every place it looked at, in its own names and on many lines.
fn plain(message: String) -> String {
    if message.starts_with("no credentials found in chain") {
        return "there are no credentials, neither in the environment nor in a profile, \
                and this machine has no role"
            .to_owned();
    }
    message
}

/// The innermost cause says what happened; the outer ones only that something did.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
