//! `lambda-invoke`: calls a function and takes its answer seriously.
//!
//! That Lambda answers says nothing: a function that failed answers too. What a
//! call did cannot be seen from outside, so it is never repeated, and a lost
//! answer is a question for `probe` or for a person.

mod answer;
mod apply;
#[cfg(test)]
mod sandbox_tests;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use self::answer::Expected;
use self::apply::{INVOKING, Invoke};
use super::lambda::function::{Function, describe, missing};
use super::program::is_there;
use super::{Attributes, Back, Context, Done, Failure, FailureClass, Kind, Open, Proposal, Settled, Step};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Head, Ready, Setting, Shape, Unready, known};
use crate::model::value::Value;

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "lambda-invoke",
        about: "Calls a Lambda function; that it failed is a failure.",
        settings: &[
            Setting::new("function", Shape::Text, "its name or ARN").required().target(),
            Setting::new("qualifier", Shape::Text, "an alias or a version; the newest code without"),
            Setting::new("payload", Shape::Text, "JSON that it is called with; {} without").secret(),
            Setting::new("expect", Shape::Map, "fields of the answer, by dotted path, and their values"),
            Setting::new(
                "probe",
                Shape::Node {
                    head: Head::None,
                    many: false,
                    fields: &[Setting::new("command", Shape::Texts, "exit 0: it is done already; no shell")
                        .required()],
                },
                "a program that tells whether the call is still needed, and whether one with a lost answer was made",
            ),
        ],
        rules: &[],
        outputs: OutputNames::Open,
        nature: Nature::Deploying,
        aws: true,
        repeatable: false,
    },
    make,
    back: Back::Nothing,
};

/// A `lambda-invoke` step, read.
#[derive(Debug)]
struct LambdaInvoke {
    function: String,
    qualifier: Option<String>,
    payload: Value,
    expect: Vec<Expected>,
    probe: Option<Vec<String>>,
    attributes: Attributes,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let payload = ready.value("payload")?.cloned().unwrap_or_else(|| Value::text("{}"));
    let text = match &payload {
        Value::Secret(secret) => secret.expose().to_owned(),
        open => open.as_text().unwrap_or_default(),
    };
    if serde_json::from_str::<Json>(&text).is_err() {
        // What stands there may be a secret.
        return Err(Unready::Invalid { setting: "payload", why: "it is no JSON".to_owned() });
    }
    let mut expect = Vec::new();
    for (path, field) in ready.map("expect") {
        let value = known("expect", field)?;
        if value.is_secret() {
            let why = "a secret cannot stand here".to_owned();
            return Err(Unready::Invalid { setting: "expect", why });
        }
        expect.push(Expected { path: path.clone(), value: value.clone() });
    }
    Ok(Box::new(LambdaInvoke {
        function: ready.text("function")?,
        qualifier: ready.opt_text("qualifier")?,
        payload,
        expect,
        probe: ready.node("probe").map(|node| node.settings.texts("command")).transpose()?,
        // A probe looks where the function works.
        attributes: Attributes { aws: true, ..attributes.clone() },
    }))
}

impl LambdaInvoke {
    /// `shop-vector:live`
    fn called(&self) -> String {
        match &self.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", self.function),
            None => self.function.clone(),
        }
    }

    async fn look(&self, cx: &Context) -> Result<Function, Failure> {
        let found = describe(cx, &self.function, self.qualifier.as_deref());
        let found = cx.cancel.unless_stopped(found).await??;
        found.ok_or_else(|| missing(&self.called(), cx))
    }

    async fn is_done(&self, cx: &Context) -> Result<bool, Failure> {
        match &self.probe {
            Some(probe) => is_there(probe, None, &self.attributes, cx).await,
            None => Ok(false),
        }
    }

    /// What of the call is shown: nothing of a secret payload.
    fn shown(&self) -> Option<String> {
        const SHOWN: usize = 80;
        let text = self.payload.as_text()?;
        let first: String =
            text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
        Some(first)
    }
}

#[async_trait]
impl Step for LambdaInvoke {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let function = self.look(cx).await?;
        let baseline = facts(&self.called(), &function);
        if self.is_done(cx).await? {
            let outputs = cx.recorded.as_ref().map(|recorded| recorded.outputs.clone()).unwrap_or_default();
            return Ok(Proposal { baseline, ..Proposal::up_to_date("probe says done", outputs) });
        }
        let payload = self.shown().unwrap_or_else(|| "a secret".to_owned());
        Ok(Proposal {
            subject: format!("version {}", function.version),
            changes: vec![Change::new("payload", None, payload)],
            reversible: Reversible::Manual,
            baseline,
            ..Proposal::new(Action::Run, format!("call {}", self.called()))
        }
        .with(Invoke {
            function: self.function.clone(),
            qualifier: self.qualifier.clone(),
            called: self.called(),
            payload: super::program::as_secret(cx, &self.payload),
            expect: self.expect.clone(),
            probe: self.probe.clone().map(|probe| (probe, self.attributes.clone())),
        }))
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        match self.look(cx).await {
            Ok(function) => Ok(facts(&self.called(), &function)),
            Err(failure) if failure.class == FailureClass::Missing => Ok(Json::Null),
            Err(failure) => Err(failure),
        }
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        // Noted and on disk before the call: without it there was none.
        if !open.notes.iter().any(|(key, _)| key == INVOKING) {
            return Ok(Settled::NotDone);
        }
        if self.probe.is_none() {
            return Ok(Settled::Ambiguous(format!(
                "{} was called and its answer is lost; its log tells: aws logs tail /aws/lambda/{} --since 1h",
                self.called(),
                self.function
            )));
        }
        Ok(if self.is_done(cx).await? {
            let summary = "probe says done".to_owned();
            Settled::Done(Done { summary, outputs: BTreeMap::new(), receipt: Json::Null })
        } else {
            Settled::NotDone
        })
    }
}

/// What decides what is called, besides the flow file.
fn facts(called: &str, function: &Function) -> Json {
    let code: String = function.sha256.chars().take(12).collect();
    json!({ "function": called, "version": function.version, "code": code })
}
