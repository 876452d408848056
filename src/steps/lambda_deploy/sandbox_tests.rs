//! Functions, really deployed.

use serde_json::{Value as Json, json};

use super::KIND;
use crate::model::change::{Action, Reversible};
use crate::model::settings::Ready;
use crate::model::value::Value;
use crate::steps::lambda::testing::{Function, handler};
use crate::steps::sandbox::Bench;
use crate::steps::{Back, Done, Proposal, Way};

impl Function {
    fn live(&self) -> Ready {
        self.settings().one("from", "fn").one("alias", "live").ready()
    }

    async fn deploy(&self, ready: &Ready) -> (Proposal, Done) {
        self.bench.run(&KIND, ready, &self.bench.context(None)).await.expect("deployed")
    }

    async fn plan(&self, ready: &Ready) -> Proposal {
        self.bench.plan(&KIND, ready, &self.bench.context(None)).await.expect("planned")
    }

    async fn alias(&self) -> String {
        let request = self.bench.aws().await.lambda.get_alias().function_name(self.name()).name("live");
        request.send().await.expect("an alias").function_version().expect("a version").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_is_published_and_the_alias_moved_only_when_it_differs() {
    let Some(function) = Function::new("deployed").await else { return };
    function.bench.write("fn/index.py", handler("one"));
    let ready = function.live();
    let plan = function.plan(&ready).await;
    assert_eq!((plan.action, plan.reversible), (Action::Create, Reversible::Manual));
    assert_eq!(plan.inputs.keys().collect::<Vec<_>>(), ["fn/index.py"]);
    let (_, done) = function.deploy(&ready).await;
    let first = function.alias().await;
    assert_eq!(done.summary, format!("live is version {first}"));
    assert_eq!(done.outputs["version"], Value::text(&first));
    assert!(done.outputs["arn"].as_text().expect("text").ends_with(":live"));
    assert_eq!(function.plan(&ready).await.action, Action::UpToDate);

    function.bench.write("fn/index.py", handler("two"));
    let plan = function.plan(&ready).await;
    assert_eq!(plan.reversible, Reversible::Auto);
    assert_eq!(plan.standing, done.receipt);
    assert_eq!(plan.changes[1].from, Some(format!("version {first}")));
    let (_, second) = function.deploy(&ready).await;
    assert_ne!(function.alias().await, first);

    let Back::To(back) = KIND.back else { panic!("it returns to versions") };
    let way = Way { now: second.receipt, to: Some(done.receipt.clone()) };
    let cx = function.bench.context(None);
    let mut plan = back(&way).expect("a way").plan(&cx).await.expect("planned");
    assert_eq!(plan.summary, format!("move live back to version {first}"));
    let done = plan.effect.take().expect("something to do").apply(&cx).await.expect("moved");
    assert_eq!(
        (function.alias().await, done.summary),
        (first.clone(), format!("live is version {first} again"))
    );
    let again = back(&way).expect("a way").plan(&cx).await.expect("planned");
    assert_eq!(again.action, Action::UpToDate);
    assert_eq!(function.plan(&ready).await.action, Action::Update, "the newer code is not what callers get");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_publishes_no_second_version() {
    for words in [&["PUT ", "/code"][..], &["POST ", "/versions"], &["POST ", "/aliases"]] {
        let Some((bench, lost)) = Bench::losing("lostcode", words).await else { return };
        let function = Function::on(bench).await;
        function.bench.write("fn/index.py", handler("one"));
        function.deploy(&function.live()).await;
        assert!(lost.happened(), "{words:?}");
        let request = function.bench.aws().await.lambda.list_versions_by_function();
        let versions = request.function_name(function.name()).send().await.expect("listed");
        assert_eq!(versions.versions().len(), 2, "$LATEST and one: {words:?}");
        assert_eq!(function.alias().await, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_a_bucket_is_taken_from_there() {
    let Some(function) = Function::new("bucket").await else { return };
    function.bench.write("fn/index.py", handler("one"));
    let (_, done) = function.deploy(&function.live()).await;
    let package = crate::steps::lambda::package::Origin::Path("fn".to_owned());
    let package = package.package(&function.bench.context(None), &[]).await.expect("a package");
    let crate::steps::lambda::package::Code::Bytes(bytes) = package.code else { panic!("bytes") };
    let bucket = function.bench.unique.clone();
    let s3 = &function.bench.aws().await.s3;
    s3.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    s3.put_object().bucket(&bucket).key("a.zip").body(bytes.into()).send().await.expect("put");
    let from = format!("s3://{bucket}/a.zip");
    let ready = function.settings().one("from", from.as_str()).one("alias", "live").ready();
    let plan = function.plan(&ready).await;
    assert_eq!((plan.action, plan.receipt), (Action::UpToDate, done.receipt));

    let gone = function.settings().one("from", format!("s3://{bucket}/b.zip").as_str()).ready();
    let gone = function.bench.plan(&KIND, &gone, &function.bench.context(None)).await.expect_err("not there");
    assert_eq!(gone.record.reason, format!("there is no object s3://{bucket}/b.zip"));
}

#[test]
fn what_was_never_recorded_stays() {
    let Back::To(back) = KIND.back else { panic!("it returns to versions") };
    let now = json!({ "function": "f", "alias": "live", "version": "1", "sha256": "s" });
    for to in [None, Some(Json::Null), Some(json!({ "function": "f", "alias": "live", "version": null }))] {
        assert!(back(&Way { now: now.clone(), to }).is_ok());
    }
}
