//! Functions, really called.

use serde_json::{Value as Json, json};

use super::KIND;
use super::apply::INVOKING;
use crate::journal::replay::OpenIntent;
use crate::model::change::Action;
use crate::model::secret::Secret;
use crate::model::settings::Ready;
use crate::model::value::Value;
use crate::steps::lambda::testing::{Function, handler};
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{Attributes, Done, Failure, FailureClass, Open, Settled};

impl Function {
    /// With code that answers.
    async fn answering(self) -> Self {
        self.bench.write("fn/index.py", handler("hello"));
        let ready = self.settings().one("from", "fn").one("alias", "live").ready();
        let kind = &crate::steps::lambda_deploy::KIND;
        self.bench.run(kind, &ready, &self.bench.context(None)).await.expect("deployed");
        self
    }

    async fn call(&self, settings: Settings) -> Result<Done, Failure> {
        let ready = settings.one("qualifier", "live").ready();
        let cx = self.bench.context(None);
        let mut plan = self.bench.plan(&KIND, &ready, &cx).await?;
        assert_eq!(plan.action, Action::Run);
        plan.effect.take().expect("something to do").apply(&cx).await
    }

    async fn reconcile(&self, ready: &Ready, notes: Vec<(String, Json)>) -> Settled {
        let cx = self.bench.context(None);
        let intent = OpenIntent {
            attempt: 1,
            action: Action::Run,
            summary: String::new(),
            baseline: Json::Null,
            standing: Json::Null,
            since: cx.world.clock.now(),
        };
        let step = (KIND.make)(ready, &Attributes::default()).expect("a step");
        step.reconcile(&Open { intent, notes }, &cx).await.expect("asked")
    }
}

fn probe(program: &str) -> Vec<(Value, Settings)> {
    vec![(Value::text(""), Settings::default().many("command", &[program]))]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_read_and_checked() {
    let Some(function) = Function::new("called").await else { return };
    let function = function.answering().await;
    let expect = vec![("text", Value::text("hello")), ("got.size", Value::Int(3))];
    let done =
        function.call(function.settings().one("payload", r#"{"size": 3}"#).map("expect", expect)).await;
    let done = done.expect("called");
    assert_eq!((&done.outputs["text"], &done.outputs["number"]), (&Value::text("hello"), &Value::Int(7)));
    assert!(done.summary.contains("version 1"), "{}", done.summary);
    assert!(function.bench.output().iter().any(|line| line.contains("called with ['size']")));

    let wrong = function.call(function.settings().map("expect", vec![("text", Value::text("bye"))])).await;
    let wrong = wrong.expect_err("another answer");
    assert_eq!(wrong.record.details, ["text is hello, not bye"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_fails_is_a_failure_with_its_log() {
    let Some(function) = Function::new("failing").await else { return };
    let function = function.answering().await;
    let failure = function.call(function.settings().one("payload", r#"{"fail": "no such role"}"#)).await;
    let failure = failure.expect_err("it failed");
    assert_eq!(failure.class, FailureClass::Failed);
    assert!(failure.record.reason.contains("no such role"), "{}", failure.record.reason);
    assert!(
        failure.record.details.iter().any(|line| line.contains("called with")),
        "{:?}",
        failure.record.details
    );
    let gone = Settings::default().one("function", "no-such-function");
    assert_eq!(function.call(gone).await.expect_err("not there").class, FailureClass::Missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_payload_is_not_shown() {
    let Some(function) = Function::new("secret").await else { return };
    let mut ready = function.settings().ready();
    let secret = Value::Secret(Secret::new(r#"{"password": "hunter22"}"#));
    ready.insert(
        "payload",
        crate::model::settings::Given::One(crate::model::value::Field::Known(secret)),
        crate::syntax::source::Span::default(),
    );
    let plan = function.bench.plan(&KIND, &ready, &function.bench.context(None)).await.expect("planned");
    assert_eq!(plan.changes[0].to.as_deref(), Some("a secret"));
    assert!(!format!("{plan:?} {}", plan.baseline).contains("hunter22"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_a_question_unless_a_probe_answers_it() {
    let Some((bench, lost)) = Bench::losing("lostcall", &["/invocations"]).await else { return };
    let function = Function::on(bench).await.answering().await;
    let failure = function.call(function.settings()).await.expect_err("nobody knows");
    assert!(lost.happened());
    assert_eq!(failure.class, FailureClass::Unknown);
    assert!(function.bench.note(INVOKING).is_some(), "that it was called is on disk");

    let noted = vec![(INVOKING.to_owned(), json!({}))];
    let without = function.settings().ready();
    assert!(matches!(function.reconcile(&without, noted.clone()).await, Settled::Ambiguous(_)));
    assert!(matches!(function.reconcile(&without, Vec::new()).await, Settled::NotDone), "never sent");
    for (program, done) in [("true", true), ("false", false)] {
        let with = function.settings().nodes("probe", probe(program)).ready();
        let settled = function.reconcile(&with, noted.clone()).await;
        assert_eq!(matches!(settled, Settled::Done(_)), done, "{program}");
        let plan = function.bench.plan(&KIND, &with, &function.bench.context(None)).await.expect("planned");
        assert_eq!(plan.action == Action::UpToDate, done, "{program}");
    }
}
