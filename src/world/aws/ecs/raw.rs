//! ECS requests and answers as the JSON on the wire.
//!
//! The SDK's types drop members that they do not know, and a task definition
//! may have any member that ECS has learnt since. So the SDK signs, sends and
//! judges the answer, but the text of both is ours: one interceptor puts the
//! request's body in before it is signed, and keeps the answer's bytes.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use serde_json::Value;

use crate::world::aws::{AwsError, AwsErrorClass};

/// One request and its answer. Cheap to clone; the clones share the answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    request: Arc<str>,
    answer: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Exchange {
    /// A request of that JSON.
    pub(super) fn new(request: &Value) -> Self {
        Self { request: request.to_string().into(), answer: Arc::default() }
    }

    /// The answer of a call that the SDK found successful. One that cannot be read is unclear:
    /// the call may have been carried out.
    pub(super) fn answer(&self, operation: &'static str) -> Result<Value, AwsError> {
        let bytes = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let unclear = |message: String| AwsError {
            service: "ECS",
            operation,
            class: AwsErrorClass::Unclear,
            code: None,
            message,
            request_id: None,
        };
        let bytes = bytes.ok_or_else(|| unclear("the answer has no body".to_owned()))?;
        serde_json::from_slice(&bytes).map_err(|error| unclear(format!("the answer is no JSON: {error}")))
    }
}

impl Intercept for Exchange {
    fn name(&self) -> &'static str {
        "ecs-json"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let body = self.request.as_bytes();
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = SdkBody::from(body);
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Before deserialization the body is still a stream.
        let bytes = context.response().body().bytes().map(<[u8]>::to_vec);
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(())
    }
}

/// The same without members that are `null`, which mean "not given" everywhere in ECS's answers.
pub(super) fn without_nulls(json: Value) -> Value {
    match json {
        Value::Object(object) => object
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
