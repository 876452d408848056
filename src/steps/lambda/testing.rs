//! A function in the sandbox, for the tests of the kinds about functions.

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionCode, Runtime};

use super::zip;
use crate::steps::sandbox::{Bench, Settings};

/// A function of its own.
pub(in crate::steps) struct Function {
    pub bench: Bench,
}

impl Function {
    pub(in crate::steps) async fn new(name: &str) -> Option<Self> {
        Some(Self::on(Bench::new(name)?).await)
    }

    pub(in crate::steps) async fn on(bench: Bench) -> Self {
        let entry =
            zip::Entry { name: "index.py".to_owned(), executable: false, bytes: handler("none").into() };
        let archive = zip::write(vec![entry]).expect("small");
        let request = bench.aws().await.lambda.create_function().function_name(&bench.unique);
        let request = request.runtime(Runtime::Python312).handler("index.handler");
        let request = request.role("arn:aws:iam::000000000000:role/functions");
        let code = FunctionCode::builder().zip_file(Blob::new(archive)).build();
        request.code(code).send().await.expect("a function");
        Self { bench }
    }

    pub(in crate::steps) fn name(&self) -> &str {
        &self.bench.unique
    }

    pub(in crate::steps) fn settings(&self) -> Settings {
        Settings::default().one("function", self.name())
    }
}

/// Code that answers its own text and what it was sent; `fail` in that makes it fail.
pub(in crate::steps) fn handler(text: &str) -> String {
    format!(
        "def handler(event, context):\n    print('called with', sorted(event))\n    if event.get('fail'):\n        \
         raise ValueError(event['fail'])\n    return {{'text': '{text}', 'number': 7, 'got': event}}\n"
    )
}
