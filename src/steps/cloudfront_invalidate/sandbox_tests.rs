//! Invalidations of a real distribution.

use aws_sdk_cloudfront::types::ViewerProtocolPolicy;
use aws_sdk_cloudfront::types::builders::{
    DefaultCacheBehaviorBuilder, DistributionConfigBuilder, OriginBuilder, OriginsBuilder,
};

use super::KIND;
use crate::model::change::Action;
use crate::model::value::Value;
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{Attributes, FailureClass};

async fn distribution(bench: &Bench, origin_path: &str) -> String {
    let origin = OriginBuilder::default()
        .id("site")
        .domain_name("sitedev.s3.amazonaws.com")
        .origin_path(origin_path)
        .build()
        .expect("an origin");
    let origins = OriginsBuilder::default().quantity(1).items(origin).build().expect("origins");
    let behavior = DefaultCacheBehaviorBuilder::default()
        .target_origin_id("site")
        .viewer_protocol_policy(ViewerProtocolPolicy::RedirectToHttps)
        .build()
        .expect("a behavior");
    let config = DistributionConfigBuilder::default()
        .caller_reference(&bench.unique)
        .origins(origins)
        .default_cache_behavior(behavior)
        .comment(&bench.unique)
        .enabled(true)
        .build()
        .expect("a configuration");
    let made = bench.aws().await.cloudfront.create_distribution().distribution_config(config).send().await;
    made.expect("a distribution").distribution().expect("a distribution").id().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_invalidated_once() {
    let Some(bench) = Bench::new("edge") else { return };
    let id = distribution(&bench, "/www").await;
    let settings = |paths: &[&str]| {
        Settings::default().one("distribution", id.as_str()).many("paths", paths).one("wait", true).ready()
    };
    let cx = bench.context(None);
    let nothing = bench.plan(&KIND, &settings(&[]), &cx).await.expect("planned");
    assert_eq!((nothing.action, nothing.summary.as_str()), (Action::UpToDate, "nothing changed"));
    assert!(nothing.effect.is_none());

    let ready = settings(&["/www/index.html", "/www/ä.txt"]);
    let (plan, done) = bench.run(&KIND, &ready, &cx).await.expect("invalidated");
    assert_eq!(plan.summary, "invalidate 3 paths");
    assert_eq!(done.summary, "3 paths invalidated");
    assert_eq!(done.outputs.get("paths"), Some(&Value::texts(["/", "/%C3%A4.txt", "/index.html"])));
    let (_, again) = bench.run(&KIND, &ready, &cx).await.expect("invalidated");
    assert_eq!(again.outputs, done.outputs, "the same run asks for the same invalidation");
    let listed = bench.aws().await.cloudfront.list_invalidations().distribution_id(&id).send().await;
    let listed = listed.expect("listed");
    assert_eq!(listed.invalidation_list().map(|list| list.items().len()), Some(1));

    // When the same run takes it back, the same paths have another content.
    let mut back = (KIND.make)(&ready, &Attributes::default()).expect("made");
    back.once_more();
    let mut proposal = back.plan(&cx).await.expect("planned");
    assert_eq!(proposal.baseline, back.observe(&cx).await.expect("observed"));
    let done = proposal.effect.take().expect("an effect").apply(&cx).await.expect("invalidated");
    assert_ne!(done.outputs.get("id"), again.outputs.get("id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distribution_that_does_not_exist_is_named() {
    let Some(bench) = Bench::new("noedge") else { return };
    let ready = Settings::default().one("distribution", "ENOSUCH").many("paths", &["/a"]).ready();
    let failure = bench.plan(&KIND, &ready, &bench.context(None)).await.expect_err("missing");
    assert_eq!(failure.class, FailureClass::Missing);
    assert!(failure.record.reason.contains("ENOSUCH"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_no_second_invalidation() {
    let Some((bench, lost)) = Bench::losing("lostedge", &["POST /", "/invalidation"]).await else { return };
    let id = distribution(&bench, "").await;
    let ready = Settings::default().one("distribution", id.as_str()).many("paths", &["/a"]).ready();
    bench.run(&KIND, &ready, &bench.context(None)).await.expect("invalidated");
    assert!(lost.happened());
    let listed = bench.aws().await.cloudfront.list_invalidations().distribution_id(&id).send().await;
    assert_eq!(listed.expect("listed").invalidation_list().map(|list| list.items().len()), Some(1));
}
