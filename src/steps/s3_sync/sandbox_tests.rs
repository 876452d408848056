//! Syncs into real buckets.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use super::KIND;
use crate::model::change::Action;
use crate::model::settings::Ready;
use crate::model::value::Value;
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{FailureClass, Proposal};
use crate::world::cancel::Urgency;

pub(in crate::steps) struct Site {
    pub(in crate::steps) bench: Bench,
    pub(in crate::steps) bucket: String,
}

impl Site {
    pub(super) async fn new(name: &str) -> Option<Self> {
        Some(Self::on(Bench::new(name)?).await)
    }

    pub(in crate::steps) async fn on(bench: Bench) -> Self {
        let bucket = bench.unique.clone();
        bench.aws().await.s3.create_bucket().bucket(&bucket).send().await.expect("a bucket");
        Self { bench, bucket }
    }

    /// The same place and store in another run.
    pub(in crate::steps) fn another(self) -> Self {
        Self { bench: self.bench.another(), bucket: self.bucket }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings::default().one("from", "dist").one("to", format!("s3://{}", self.bucket).as_str())
    }

    pub(super) fn with_rules(&self) -> Settings {
        let rule =
            |glob: &str, cache: &str| (Value::text(glob), Settings::default().one("cache-control", cache));
        self.settings().nodes(
            "rule",
            vec![rule("assets/**", "max-age=31536000, immutable"), rule("**/*.html", "no-cache")],
        )
    }

    pub(super) fn deleting(&self, keep: i64) -> Settings {
        let fields = Settings::default().one("keep-releases", keep);
        self.with_rules().nodes("delete", vec![(Value::Bool(true), fields)])
    }

    pub(super) async fn sync(&self, ready: &Ready) -> Proposal {
        let cx = self.bench.context(self.released());
        self.bench.run(&KIND, ready, &cx).await.expect("synced").0
    }

    pub(super) async fn plan(&self, ready: &Ready) -> Proposal {
        let cx = self.bench.context(self.released());
        self.bench.plan(&KIND, ready, &cx).await.expect("planned")
    }

    /// The receipt of the last sync, as a release would have it.
    pub(in crate::steps) fn released(&self) -> Option<serde_json::Value> {
        let names = std::fs::read_dir(self.manifests())
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let newest = names.filter(|name| name.starts_with('0')).max()?;
        Some(serde_json::json!({ "manifest": newest.strip_suffix(".json") }))
    }

    pub(super) fn manifests(&self) -> std::path::PathBuf {
        let folder = self.bench.path(&format!(".flow/store/manifests/{}", self.bucket));
        let place = std::fs::read_dir(&folder).ok().and_then(|mut places| places.next()?.ok());
        place.map_or(folder, |place| place.path())
    }

    pub(in crate::steps) async fn versioned(&self) {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = self.bench.aws().await.s3.put_bucket_versioning().bucket(&self.bucket);
        request.versioning_configuration(enabled).send().await.expect("on");
    }

    pub(in crate::steps) async fn keys(&self) -> Vec<String> {
        let listed =
            self.bench.aws().await.s3.list_objects_v2().bucket(&self.bucket).send().await.expect("listed");
        listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
    }

    pub(super) async fn header(&self, key: &str) -> (String, String) {
        let head =
            self.bench.aws().await.s3.head_object().bucket(&self.bucket).key(key).send().await.expect(key);
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        (text(head.content_type()), text(head.cache_control()))
    }
}

pub(super) fn paths(proposal: &Proposal) -> Vec<String> {
    match proposal.outputs.get("changed-paths") {
        Some(Value::List(items)) => items.iter().filter_map(Value::as_text).collect(),
        _ => Vec::new(),
    }
}

pub(in crate::steps) fn whats(proposal: &Proposal) -> Vec<&str> {
    proposal.changes.iter().map(|change| change.what.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_sent() {
    let Some(site) = Site::new("differs").await else { return };
    site.bench.write("dist/index.html", "<h1>1</h1>");
    site.bench.write("dist/assets/app-91c0d2e4.js", "one()");
    site.bench.write("dist/grün & ä/ü.txt", "ü");
    let ready = site.with_rules().ready();

    let first = site.sync(&ready).await;
    assert_eq!((first.action, first.summary.as_str()), (Action::Create, "3 uploads"));
    assert_eq!(
        paths(&first),
        ["/assets/app-91c0d2e4.js", "/gr%C3%BCn%20&%20%C3%A4/%C3%BC.txt", "/index.html"]
    );
    assert_eq!(site.keys().await, ["assets/app-91c0d2e4.js", "grün & ä/ü.txt", "index.html"]);
    assert_eq!(
        site.header("index.html").await,
        ("text/html; charset=utf-8".to_owned(), "no-cache".to_owned())
    );

    let again = site.plan(&ready).await;
    assert_eq!(again.action, Action::UpToDate);
    assert!(again.effect.is_none() && paths(&again).is_empty());

    // The run ended before what it changed was invalidated: it stays changed until one succeeds.
    let mut cx = site.bench.context(site.released());
    cx.settled = None;
    let after_failure = site.bench.plan(&KIND, &ready, &cx).await.expect("planned");
    assert_eq!((after_failure.action, paths(&after_failure)), (Action::UpToDate, paths(&first)));

    site.bench.write("dist/index.html", "<h1>2</h1>");
    let changed = site.sync(&ready).await;
    assert_eq!((changed.action, changed.summary.as_str()), (Action::Update, "1 upload"));
    assert_eq!((whats(&changed), paths(&changed)), (vec!["index.html"], vec!["/index.html".to_owned()]));

    let rules = vec![(Value::text("**"), Settings::default().one("cache-control", "no-store"))];
    let other_rules = site.settings().nodes("rule", rules).ready();
    let headers = site.sync(&other_rules).await;
    assert_eq!(headers.summary, "3 uploads");
    assert!(whats(&headers).contains(&"index.html cache-control"), "{headers:?}");
    assert_eq!(site.header("assets/app-91c0d2e4.js").await.1, "no-store");
    assert_eq!(site.plan(&other_rules).await.action, Action::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_is_put_right() {
    let Some(site) = Site::new("tampered").await else { return };
    site.bench.write("dist/index.html", "<h1>1</h1>");
    site.bench.write("dist/robots.txt", "all");
    let ready = site.with_rules().ready();
    site.sync(&ready).await;

    let s3 = &site.bench.aws().await.s3;
    let body = ByteStream::from_static(b"<h1>!</h1>");
    s3.put_object().bucket(&site.bucket).key("index.html").body(body).send().await.expect("put");
    let repaired = site.sync(&ready).await;
    assert_eq!(repaired.summary, "1 upload");
    assert_eq!(repaired.changes[0].from.as_deref(), Some("changed by somebody else"));
    assert_eq!(site.plan(&ready).await.action, Action::UpToDate);

    // Without any record the bucket itself is believed, object by object.
    std::fs::remove_dir_all(site.bench.path(".flow")).expect("removed");
    let unrecorded = site.plan(&ready).await;
    assert_eq!(unrecorded.action, Action::UpToDate, "{unrecorded:?}");
    let tagged = s3.copy_object().bucket(&site.bucket).key("robots.txt");
    let tagged = tagged.copy_source(format!("{}/robots.txt", site.bucket)).cache_control("max-age=9");
    let replace = aws_sdk_s3::types::MetadataDirective::Replace;
    tagged.content_type("text/plain").metadata_directive(replace).send().await.expect("copied");
    let unrecorded = site.plan(&ready).await;
    assert_eq!(whats(&unrecorded), ["robots.txt cache-control", "robots.txt content-type"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_assets_stay_for_some_releases() {
    let Some(site) = Site::new("deletes").await else { return };
    let ready = site.deleting(2).ready();
    let release = |n: u32| format!("dist/assets/app-91c0d2e{n}.js");
    site.bench.write("dist/index.html", "0");
    site.bench.write(&release(0), "0");
    site.sync(&ready).await;
    for n in 1..=2 {
        site.bench.write("dist/index.html", n.to_string());
        site.bench.remove(&release(n - 1));
        site.bench.write(&release(n), n.to_string());
        assert_eq!(site.sync(&ready).await.summary, "2 uploads", "release {n}");
        assert_eq!(site.plan(&ready).await.action, Action::UpToDate, "release {n}");
    }
    site.bench.write("dist/index.html", "3");
    let third = site.sync(&ready).await;
    assert_eq!(third.summary, "1 upload, 1 delete");
    assert_eq!(paths(&third), ["/assets/app-91c0d2e0.js", "/index.html"]);
    assert_eq!(site.keys().await, ["assets/app-91c0d2e1.js", "assets/app-91c0d2e2.js", "index.html"]);
    assert_eq!(site.plan(&ready).await.action, Action::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_empty_a_site_is_refused() {
    let Some(site) = Site::new("guards").await else { return };
    for n in 0..30 {
        site.bench.write(&format!("dist/{n}.txt"), "x");
    }
    let ready = site.deleting(0).ready();
    site.sync(&ready).await;
    let refused = async |ready: &Ready| {
        let cx = site.bench.context(None);
        site.bench.plan(&KIND, ready, &cx).await.expect_err("refused")
    };
    for n in 0..12 {
        site.bench.remove(&format!("dist/{n}.txt"));
    }
    let failure = refused(&ready).await;
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.record.reason.contains("12 of 30 objects"), "{failure:?}");
    assert!(failure.record.help.is_some_and(|help| help.contains("max-share=\"40%\"")));
    for n in 12..30 {
        site.bench.remove(&format!("dist/{n}.txt"));
    }
    let failure = refused(&ready).await;
    assert_eq!(
        (failure.class, failure.record.reason.as_str()),
        (FailureClass::Refused, "dist holds no files")
    );

    site.bench.write("dist/a.txt", "x");
    let elsewhere = Settings::default().one("from", "dist").one("to", "s3://sitedev-no-such-bucket").ready();
    let failure = refused(&elsewhere).await;
    assert_eq!(failure.class, FailureClass::Missing);
    assert!(failure.record.reason.contains("sitedev-no-such-bucket"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_a_prefix() {
    let Some(site) = Site::new("versions").await else { return };
    let s3 = &site.bench.aws().await.s3;
    site.versioned().await;
    s3.put_object().bucket(&site.bucket).key("other/a.txt").send().await.expect("put");
    site.bench.write("dist/docs/index.html", "1");
    let to = format!("s3://{}/www/", site.bucket);
    let fields = Settings::default();
    let ready = Settings::default()
        .one("from", "dist")
        .one("to", to.as_str())
        .nodes("delete", vec![(Value::Bool(true), fields)])
        .ready();
    let first = site.sync(&ready).await;
    assert_eq!(
        (first.subject.as_str(), paths(&first)),
        ("docs/index.html", vec!["/www/docs/index.html".to_owned()])
    );
    assert_eq!(
        site.keys().await,
        ["other/a.txt", "www/docs/index.html"],
        "what lies elsewhere is left alone"
    );
    let place = std::fs::read_dir(site.bench.path(&format!(".flow/store/manifests/{}", site.bucket)))
        .expect("manifests")
        .next()
        .expect("one")
        .expect("one")
        .path();
    let name = site.released().expect("a manifest")["manifest"].as_str().expect("a name").to_owned();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.join(format!("{name}.json"))).expect("read"))
            .expect("JSON");
    assert!(manifest["objects"]["www/docs/index.html"]["version"].is_string(), "{manifest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_up_in_parts() {
    let Some(site) = Site::new("large").await else { return };
    let bytes: Vec<u8> = (0..40 * 1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    site.bench.write("dist/video.mp4", &bytes);
    let ready = site.settings().ready();
    site.sync(&ready).await;
    let object = site.bench.aws().await.s3.get_object().bucket(&site.bucket).key("video.mp4");
    let object = object.send().await.expect("there");
    assert_eq!(object.content_type(), Some("video/mp4"));
    assert!(object.e_tag().is_some_and(|etag| etag.contains("-5")), "five parts");
    let arrived = object.body.collect().await.expect("read").into_bytes();
    assert!(arrived == bytes, "the same bytes");
    assert_eq!(site.plan(&ready).await.action, Action::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_after_the_plan_stops_the_step() {
    let Some(site) = Site::new("changes").await else { return };
    site.bench.write("dist/a.txt", "planned");
    site.bench.write("dist/index.html", "planned");
    let ready = site.settings().ready();
    let mut proposal = site.plan(&ready).await;
    site.bench.write("dist/a.txt", "planned and more");
    let cx = site.bench.context(None);
    let failure = proposal.effect.take().expect("an effect").apply(&cx).await.expect_err("stopped");
    assert_eq!(failure.record.reason, "a.txt changed since the plan");
    assert!(site.keys().await.is_empty(), "no page goes up before what it refers to");

    // The paths of the sync that never ended are not forgotten.
    std::fs::remove_file(site.bench.path("dist/index.html")).expect("removed");
    let cx = site.bench.context(None);
    let (next, _) = site.bench.run(&KIND, &ready, &cx).await.expect("synced");
    assert_eq!(paths(&next), ["/a.txt", "/index.html"]);
}

/// The check right before the effect asks for few of many objects one by one, and lists the place
/// otherwise: both see what somebody else does between the plan and the effect.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_sends_after_the_plan_stops_the_step() {
    for (name, files) in [("meanwhile-few", 2), ("meanwhile-many", 1200)] {
        let Some(site) = Site::new(name).await else { return };
        for n in 0..files {
            site.bench.write(&format!("dist/{n:04}.txt"), "planned");
        }
        let ready = site.deleting(0).ready();
        site.sync(&ready).await;

        // One is changed, one is new, and one goes.
        site.bench.write("dist/0001.txt", "changed");
        site.bench.write("dist/0001.txt.map", "new, and its name begins like another one's");
        std::fs::remove_file(site.bench.path("dist/0000.txt")).expect("removed");
        let theirs = [("0001.txt", "theirs"), ("0001.txt.map", "theirs"), ("0000.txt", "theirs!")];
        let s3 = &site.bench.aws().await.s3;
        for (key, body) in theirs {
            let mut proposal = site.plan(&ready).await;
            let put = s3.put_object().bucket(&site.bucket).key(key);
            put.body(ByteStream::from_static(body.as_bytes())).send().await.expect("put");
            let cx = site.bench.context(site.released());
            let applied = proposal.effect.take().expect("an effect").apply(&cx).await;
            let reason = applied.expect_err("stopped").record.reason;
            assert_eq!(reason, format!("objects in s3://{}/ changed since the plan", site.bucket), "{key}");
            let stands = s3.get_object().bucket(&site.bucket).key(key).send().await.expect("there");
            let stands = stands.body.collect().await.expect("read").into_bytes();
            assert_eq!(stands, body.as_bytes(), "{key} was not touched");
        }

        // Seen by the next plan, it is put right.
        let next = site.sync(&ready).await;
        assert_eq!(next.summary, "2 uploads, 1 delete", "{name}");
        assert_eq!(site.plan(&ready).await.action, Action::UpToDate, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_between_requests() {
    let Some(site) = Site::new("signal").await else { return };
    for n in 0..400 {
        site.bench.write(&format!("dist/{n}.txt"), "x");
    }
    let ready = site.settings().ready();
    let mut proposal = site.plan(&ready).await;
    let cx = site.bench.context(None);
    let effect = proposal.effect.take().expect("an effect");
    let running = tokio::spawn(async move { effect.apply(&cx).await });
    while site.bench.progress().is_none() {
        tokio::task::yield_now().await;
    }
    site.bench.canceller.raise(Urgency::Stopping);
    let failure = running.await.expect("joined").expect_err("stopped");
    assert_eq!(failure.class, FailureClass::Interrupted);
    assert!(failure.record.details[0].contains(" of 400 files were sent"), "{failure:?}");
    let arrived = site.keys().await.len();
    assert!(arrived > 0 && arrived < 400, "{arrived}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_are_asked_for_again() {
    let Some((bench, lost)) = Bench::losing("lostput", &["PUT /", "/a.txt"]).await else { return };
    let site = Site::on(bench).await;
    site.bench.write("dist/a.txt", "x");
    site.sync(&site.settings().ready()).await;
    assert!(lost.happened());
    assert_eq!(site.keys().await, ["a.txt"]);

    let Some((bench, lost)) = Bench::losing("lostparts", &["POST /", "/big.bin?uploadId="]).await else {
        return;
    };
    let site = Site::on(bench).await;
    site.bench.write("dist/big.bin", vec![1; 17 * 1024 * 1024]);
    let ready = site.settings().ready();
    site.sync(&ready).await;
    assert!(lost.happened());
    assert_eq!(site.plan(&ready).await.action, Action::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_files() {
    let Some(site) = Site::new("many").await else { return };
    for n in 0..500 {
        site.bench.write(&format!("dist/assets/{}/f-{n}.js", n % 7), format!("// {n}\n").repeat(200));
    }
    let ready = site.settings().ready();
    let clock = crate::world::clock::Clock;
    let began = clock.moment();
    let first = site.sync(&ready).await;
    let sent = began.elapsed();
    assert_eq!(first.summary, "500 uploads");
    let began = clock.moment();
    assert_eq!(site.plan(&ready).await.action, Action::UpToDate);
    eprintln!("500 files: first {sent:?}, again {:?}", began.elapsed());
}
