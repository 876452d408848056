//! Copies between real buckets.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use serde_json::Value as Json;

use super::KIND;
use crate::model::change::{Action, Reversible};
use crate::model::settings::Ready;
use crate::model::value::Value;
use crate::steps::s3_sync::sandbox_tests::{Site, whats};
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{Back, Done, Failure, FailureClass, Proposal, Way};
use crate::world::cancel::Urgency;

/// Artefacts in one bucket, to be promoted into another that keeps versions.
struct Promotion {
    to: Site,
    from: String,
}

impl Promotion {
    async fn new(name: &str) -> Option<Self> {
        Some(Self::on(Bench::new(name)?).await)
    }

    async fn on(bench: Bench) -> Self {
        let from = format!("{}-source", bench.unique);
        bench.aws().await.s3.create_bucket().bucket(&from).send().await.expect("a bucket");
        let to = Site::on(bench).await;
        to.versioned().await;
        Self { to, from }
    }

    async fn put(&self, bucket: &str, key: &str, text: &str) {
        let body = ByteStream::from(text.as_bytes().to_vec());
        let request = self.to.bench.aws().await.s3.put_object().bucket(bucket).key(key).body(body);
        request.metadata("built", "here").send().await.expect("put");
    }

    async fn artefacts(&self, number: usize, text: &str) {
        for index in 0..number {
            self.put(&self.from, &format!("release/a{index:03}.zip"), &format!("{text} {index}")).await;
        }
    }

    fn settings(&self) -> Settings {
        let from = format!("s3://{}/release", self.from);
        Settings::default()
            .nodes("from", vec![(Value::text(from), Settings::default())])
            .one("to", format!("s3://{}/live", self.to.bucket).as_str())
            .one("reason", "REL-7")
    }

    async fn plan(&self, ready: &Ready) -> Proposal {
        self.to.bench.plan(&KIND, ready, &self.to.bench.context(self.to.released())).await.expect("planned")
    }

    async fn copy(&self, ready: &Ready) -> Done {
        let cx = self.to.bench.context(self.to.released());
        self.to.bench.run(&KIND, ready, &cx).await.expect("copied").1
    }

    async fn returns(&self, now: &Json, to: &Json) -> Result<Done, Failure> {
        let Back::To(back) = KIND.back else { panic!("it returns to states") };
        let cx = self.to.bench.context(Some(now.clone()));
        let step = back(&Way { now: now.clone(), to: Some(to.clone()) }).expect("a state");
        let effect = step.plan(&cx).await?.effect.expect("something to do");
        effect.apply(&cx).await
    }

    /// What lies in the place, by key.
    async fn all(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for key in self.to.keys().await {
            let request = self.to.bench.aws().await.s3.get_object().bucket(&self.to.bucket).key(&key);
            let object = request.send().await.expect("there");
            assert_eq!(object.metadata().and_then(|all| all.get("built")).map(String::as_str), Some("here"));
            let bytes = object.body.collect().await.expect("read").into_bytes();
            all.insert(key, String::from_utf8(bytes.to_vec()).expect("text"));
        }
        all
    }

    async fn versions(&self) -> usize {
        let listed = self.to.bench.aws().await.s3.list_object_versions().bucket(&self.to.bucket);
        listed.send().await.expect("listed").versions().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_copied_and_the_plan_says_which() {
    let Some(shop) = Promotion::new("copies").await else { return };
    shop.artefacts(3, "one").await;
    shop.put(&shop.from, "release/notes.txt", "not this").await;
    shop.put(&shop.to.bucket, "live/a001.zip", "one 1").await;
    shop.put(&shop.to.bucket, "live/a002.zip", "older").await;
    let ready = shop.settings().many("include", &["*.zip"]).ready();
    let plan = shop.plan(&ready).await;
    assert_eq!(plan.summary, "copy 2 objects, 10 B: 1 new, 1 changed, 1 the same");
    assert_eq!(whats(&plan), ["live/a000.zip", "live/a002.zip"]);
    assert!(plan.subject.ends_with("REL-7"), "{}", plan.subject);
    assert_eq!((plan.action, plan.reversible), (Action::Update, Reversible::Auto));

    let done = shop.copy(&ready).await;
    assert_eq!(done.summary, "2 objects copied, 10 B");
    assert_eq!(done.receipt["reason"], "REL-7");
    assert_eq!(shop.all().await.into_values().collect::<Vec<_>>(), ["one 0", "one 1", "one 2"]);
    let noted = shop.to.bench.note("copied").expect("noted");
    assert_eq!((&noted["objects"], &noted["reason"]), (&2.into(), &"REL-7".into()));

    let again = shop.plan(&ready).await;
    assert_eq!(again.action, Action::UpToDate);
    assert!(again.summary.starts_with("3 objects of"), "{}", again.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_copy_is_gone_on_with_and_nothing_is_copied_twice() {
    let Some(shop) = Promotion::new("stopped").await else { return };
    shop.artefacts(202, "one").await;
    let ready = shop.settings().ready();
    let cx = shop.to.bench.context(None);
    let mut plan = shop.to.bench.plan(&KIND, &ready, &cx).await.expect("planned");
    assert!(plan.summary.starts_with("copy 202 objects"), "{}", plan.summary);
    let effect = plan.effect.take().expect("something to do");
    let stopper = &shop.to.bench.canceller;
    let watched = async {
        while shop.to.bench.progress().is_none() {
            tokio::task::yield_now().await;
        }
        stopper.raise(Urgency::Stopping);
    };
    let (ended, ()) = tokio::join!(effect.apply(&cx), watched);
    let failure = ended.expect_err("it was stopped");
    assert_eq!(failure.class, FailureClass::Interrupted);
    let copied = shop.versions().await;
    assert!((100..202).contains(&copied), "{copied} were copied");

    let rest = Promotion { to: shop.to.another(), from: shop.from };
    let ready = rest.settings().ready();
    let plan = rest.plan(&ready).await;
    assert!(plan.summary.starts_with(&format!("copy {} objects", 202 - copied)), "{}", plan.summary);
    let done = rest.copy(&ready).await;
    assert_eq!(rest.versions().await, 202, "each was copied once");

    let before = serde_json::json!({ "bucket": rest.to.bucket, "prefix": "live/", "manifest": null });
    rest.returns(&done.receipt, &before).await.expect("taken back");
    assert!(rest.to.keys().await.is_empty(), "also what the first half had copied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_restores_what_was_overwritten_and_removes_what_was_new() {
    let Some(shop) = Promotion::new("returned").await else { return };
    shop.put(&shop.to.bucket, "live/a000.zip", "from before flow").await;
    shop.put(&shop.to.bucket, "other/x.txt", "nobody's business").await;
    let before = shop.plan_standing().await;
    shop.artefacts(2, "one").await;
    let ready = shop.settings().ready();
    let first = shop.copy(&ready).await;
    // A copy of something else to the same place leaves what the first one put there.
    shop.put(&shop.from, "release/b.zip", "b").await;
    let second = shop.copy(&shop.settings().many("include", &["b.zip"]).ready()).await;
    shop.artefacts(2, "two").await;
    let third = shop.copy(&ready).await;
    let live = || async { shop.all().await.into_values().collect::<Vec<_>>() };
    assert_eq!(live().await, ["two 0", "two 1", "b", "nobody's business"]);

    shop.returns(&third.receipt, &second.receipt).await.expect("back to the second");
    assert_eq!(live().await, ["one 0", "one 1", "b", "nobody's business"]);
    shop.returns(&second.receipt, &first.receipt).await.expect("back to the first");
    assert_eq!(live().await, ["one 0", "one 1", "nobody's business"]);
    shop.returns(&first.receipt, &before).await.expect("back to what was there");
    assert_eq!(live().await, ["from before flow", "nobody's business"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_looked_into_and_not_copied_again() {
    let Some((bench, lost)) = Bench::losing("lostcopy", &["x-amz-copy-source", "a000.zip"]).await else {
        return;
    };
    let shop = Promotion::on(bench).await;
    shop.artefacts(1, "one").await;
    shop.copy(&shop.settings().ready()).await;
    assert!(lost.happened());
    assert_eq!(shop.versions().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_said_before_anything_is() {
    let Some(shop) = Promotion::new("refused").await else { return };
    let plan = |ready: Ready| {
        let shop = &shop;
        async move { shop.to.bench.plan(&KIND, &ready, &shop.to.bench.context(None)).await.expect_err("refused") }
    };
    let empty = plan(shop.settings().ready()).await;
    assert_eq!(empty.record.reason, format!("there is nothing to copy in s3://{}/release/", shop.from));
    shop.artefacts(1, "one").await;
    let none = plan(shop.settings().many("include", &["*.jar"]).ready()).await;
    assert_eq!(none.record.details, ["1 object there, and `include` and `exclude` leave none"]);
    let gone = Settings::default()
        .nodes("from", vec![(Value::text("s3://no-such-bucket-at-all"), Settings::default())])
        .one("to", format!("s3://{}/live", shop.to.bucket).as_str());
    let gone = plan(gone.ready()).await;
    assert_eq!(gone.record.reason, "the bucket no-such-bucket-at-all does not exist in sandbox");
    let elsewhere = Settings::default().one("environment", "prod");
    let unknown = Settings::default()
        .nodes("from", vec![(Value::text(format!("s3://{}", shop.from)), elsewhere)])
        .one("to", format!("s3://{}/live", shop.to.bucket).as_str());
    assert_eq!(plan(unknown.ready()).await.class, FailureClass::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changed_since_the_plan_is_not_copied() {
    let Some(shop) = Promotion::new("moved").await else { return };
    shop.artefacts(1, "one").await;
    let cx = shop.to.bench.context(None);
    let mut plan = shop.to.bench.plan(&KIND, &shop.settings().ready(), &cx).await.expect("planned");
    shop.artefacts(1, "two").await;
    let failure = plan.effect.take().expect("something to do").apply(&cx).await.expect_err("another one");
    assert_eq!(failure.class, FailureClass::Refused);
    assert_eq!(failure.record.reason, "release/a000.zip changed since the plan");
    assert!(shop.to.keys().await.is_empty());
}

impl Promotion {
    /// The state before the first copy, as a release would record it.
    async fn plan_standing(&self) -> Json {
        self.put(&self.from, "release/a000.zip", "one 0").await;
        self.plan(&self.settings().ready()).await.standing
    }
}
