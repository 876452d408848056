//! Returns in real buckets.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value as Json, json};

use super::sandbox_tests::{Site, paths, whats};
use super::{KIND, State};
use crate::model::change::Action;
use crate::model::settings::Ready;
use crate::model::value::Value;
use crate::steps::reconcile::{Open, Settled};
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{Attributes, Back, Context, Done, Failure, FailureClass, Proposal, Step, Way};

fn back(now: &Json, to: &Json) -> Box<dyn Step> {
    let Back::To(back) = KIND.back else { panic!("it returns to states") };
    back(&Way { now: now.clone(), to: Some(to.clone()) }).expect("a state")
}

impl Site {
    async fn returns(&self, now: &Json, to: &Json) -> Result<(Proposal, Done), Failure> {
        let cx = self.bench.context(Some(now.clone()));
        let mut proposal = back(now, to).plan(&cx).await?;
        let effect = proposal.effect.take().expect("something to do");
        Ok((proposal, effect.apply(&cx).await?))
    }

    async fn deploy(&self, ready: &Ready, files: &[(&str, &str)]) -> Done {
        let _ = std::fs::remove_dir_all(self.bench.path("dist"));
        for (name, bytes) in files {
            self.bench.write(&format!("dist/{name}"), bytes);
        }
        let cx = self.bench.context(self.released());
        self.bench.run(&KIND, ready, &cx).await.expect("synced").1
    }

    /// Bytes and headers of every object.
    async fn all(&self) -> BTreeMap<String, (Vec<u8>, [Option<String>; 3])> {
        let mut all = BTreeMap::new();
        for key in self.keys().await {
            let object = self.bench.aws().await.s3.get_object().bucket(&self.bucket).key(&key);
            let object = object.send().await.expect("there");
            let headers = [object.content_type(), object.cache_control(), object.content_encoding()];
            let headers = headers.map(|header| header.map(str::to_owned));
            all.insert(key, (object.body.collect().await.expect("read").into_bytes().to_vec(), headers));
        }
        all
    }

    async fn versions(&self, key: &str) -> usize {
        let listed = self.bench.aws().await.s3.list_object_versions().bucket(&self.bucket).prefix(key);
        listed.send().await.expect("listed").versions().len()
    }
}

impl Site {
    /// The store as it is when flow dies between its last request and the manifest.
    fn forget_the_last(&self, changed: &[String]) {
        let name = self.released().expect("a manifest")["manifest"].as_str().expect("a name").to_owned();
        let folder = self.manifests();
        std::fs::remove_file(folder.join(format!("{name}.json"))).expect("removed");
        let keys: Vec<&str> = B.iter().map(|(key, _)| *key).collect();
        let open = json!({ "changed": changed, "keys": keys });
        std::fs::write(folder.join("open.json"), open.to_string()).expect("written");
    }
}

fn nothing(site: &Site) -> Json {
    json!({ "bucket": site.bucket, "prefix": "", "manifest": null })
}

const A: &[(&str, &str)] = &[
    ("index.html", "<h1>A</h1>"),
    ("about.html", "about"),
    ("assets/app-91c0d2e0.js", "a()"),
    ("style.css", "a{}"),
    ("grün & ä.txt", "ü"),
];
const B: &[(&str, &str)] = &[
    ("index.html", "<h1>B</h1>"),
    ("new.html", "new"),
    ("assets/app-91c0d2e1.js", "b()"),
    ("style.css", "a{}"),
    ("grün & ä.txt", "b"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_old_site_is_there_again_byte_for_byte_and_header_for_header() {
    let Some(site) = Site::new("back").await else { return };
    site.versioned().await;
    let ready = site.deleting(0).ready();
    let a = site.deploy(&ready, A).await.receipt;
    let was = site.all().await;
    let rule = (Value::text("**/*.css"), Settings::default().one("cache-control", "no-store"));
    let other_rules = site.settings().nodes("rule", vec![rule]);
    let deletes = vec![(Value::Bool(true), Settings::default())];
    let b = site.deploy(&other_rules.nodes("delete", deletes).ready(), B).await.receipt;
    assert_ne!(site.all().await, was);

    let (proposal, done) = site.returns(&b, &a).await.expect("returned");
    assert_eq!((proposal.action, proposal.summary.as_str()), (Action::Update, "5 restores, 2 deletes"));
    assert_eq!(proposal.standing, b, "what is left can be returned to in its turn");
    assert_eq!(site.all().await, was);
    let urls =
        ["/about.html", "/assets/app-91c0d2e0.js", "/assets/app-91c0d2e1.js", "/gr%C3%BCn%20&%20%C3%A4.txt"];
    let pages = ["/index.html", "/new.html", "/style.css"];
    let changed: Vec<String> = urls.iter().chain(&pages).map(|&path| path.to_owned()).collect();
    assert_eq!(paths(&proposal), changed);
    assert_eq!(done.outputs.get("changed-paths"), Some(&Value::texts(changed)));

    let cx = site.bench.context(Some(done.receipt.clone()));
    let again = back(&done.receipt, &a).plan(&cx).await.expect("planned");
    assert_eq!((again.action, again.effect.is_some(), paths(&again)), (Action::UpToDate, false, vec![]));
    let (_, forth) = site.returns(&done.receipt, &b).await.expect("returned");
    assert_eq!(site.header("style.css").await.1, "no-store");
    let manifest = |receipt: &Json| receipt["manifest"].as_str().unwrap_or_default()[7..].to_owned();
    assert_eq!(manifest(&forth.receipt), manifest(&b), "the same release");
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_stay_for_the_pages_that_are_open_and_pages_do_not() {
    let Some(site) = Site::new("keeps").await else { return };
    site.versioned().await;
    let ready = site.deleting(3).ready();
    let a = site.deploy(&ready, A).await.receipt;
    let b = site.deploy(&ready, B).await.receipt;
    let (proposal, _) = site.returns(&b, &a).await.expect("returned");
    assert_eq!(proposal.summary, "2 restores, 1 delete");
    assert_eq!(whats(&proposal), ["grün & ä.txt", "index.html", "new.html"]);
    let keys = site.keys().await;
    assert!(keys.contains(&"assets/app-91c0d2e1.js".to_owned()) && !keys.contains(&"new.html".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_version_keeps_is_named_before_anything_happens() {
    let Some(site) = Site::new("unversioned").await else { return };
    let ready = site.deleting(3).ready();
    let a = site.deploy(&ready, A).await.receipt;
    let b = site.deploy(&ready, B).await.receipt;
    let cx = site.bench.context(Some(b.clone()));
    let failure = back(&b, &a).plan(&cx).await.expect_err("gone");
    assert_eq!(failure.class, FailureClass::Missing);
    assert_eq!(
        failure.record.reason,
        format!("2 objects as they were are no longer in s3://{}/", site.bucket)
    );
    assert_eq!(failure.record.details[..2], ["grün & ä.txt", "index.html"]);

    // The same bytes under another name will do, with the old one's headers.
    let c = site
        .deploy(&ready, &[("assets/copy.html", "<h1>B</h1>"), ("index.html", "<h1>C</h1>")])
        .await
        .receipt;
    let lost = back(&c, &b).plan(&site.bench.context(Some(c.clone()))).await;
    assert!(lost.is_ok(), "{lost:?}");
    let (_, done) = site.returns(&c, &b).await.expect("returned");
    assert_eq!(site.header("index.html").await.1, "no-cache");
    assert_eq!(done.outputs.get("uploaded"), Some(&Value::Int(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lay_there_before_flow_is_part_of_it() {
    let Some(site) = Site::new("found").await else { return };
    site.versioned().await;
    let s3 = &site.bench.aws().await.s3;
    let body = ByteStream::from_static(b"by hand");
    let put = s3.put_object().bucket(&site.bucket).key("index.html").body(body);
    put.content_type("text/html")
        .cache_control("max-age=5")
        .metadata("by", "hand")
        .send()
        .await
        .expect("put");
    let was = site.all().await;
    let ready = site.deleting(0).ready();
    site.bench.write("dist/index.html", "<h1>A</h1>");
    let cx = site.bench.context(None);
    let planned = site.plan(&ready).await;
    assert_eq!(
        planned.standing,
        json!({ "keep-releases": 0, "bucket": site.bucket, "prefix": "", "manifest": null })
    );
    let (_, first) = site.bench.run(&KIND, &ready, &cx).await.expect("synced");
    let second = site.deploy(&ready, A).await.receipt;
    assert_ne!(first.receipt, second);
    let (_, done) = site.returns(&second, &nothing(&site)).await.expect("returned");
    assert_eq!(site.all().await, was);
    let head = s3.head_object().bucket(&site.bucket).key("index.html").send().await.expect("there");
    assert_eq!(head.metadata().and_then(|m| m.get("by")).map(String::as_str), Some("hand"));
    let cx = site.bench.context(Some(done.receipt.clone()));
    let again = back(&done.receipt, &nothing(&site)).plan(&cx).await.expect("planned");
    assert_eq!((again.action, again.effect.is_some()), (Action::UpToDate, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_needs_no_files_and_says_the_same() {
    let Some(site) = Site::new("observes").await else { return };
    let ready = site.deleting(1).ready();
    site.deploy(&ready, A).await;
    let planned = site.plan(&ready).await;
    assert_eq!(planned.inputs.get("dist/about.html").map(String::len), Some(64));
    let observe = async || {
        let step = (KIND.make)(&ready, &Attributes::default()).expect("made");
        step.observe(&site.bench.context(None)).await.expect("observed")
    };
    std::fs::remove_dir_all(site.bench.path("dist")).expect("removed");
    assert_eq!(observe().await, planned.baseline);
    assert_eq!(planned.baseline.get("object about.html"), None);
    let s3 = &site.bench.aws().await.s3;
    s3.put_object().bucket(&site.bucket).key("about.html").send().await.expect("put");
    let now = observe().await;
    assert!(now["object about.html"].as_str().is_some_and(|text| text.starts_with("replaced at ")), "{now}");
    assert_eq!(now["manifest"], planned.baseline["manifest"]);
}

async fn settle(site: &Site, step: &dyn Step, cx: &Context) -> Option<Done> {
    let open = Open {
        intent: crate::journal::replay::OpenIntent {
            attempt: 1,
            action: Action::Update,
            summary: String::new(),
            baseline: Json::Null,
            standing: Json::Null,
            since: site.bench.context(None).world.clock.now(),
        },
        notes: vec![("uploaded".to_owned(), json!({ "files": 4, "bytes": 12 }))],
    };
    match step.reconcile(&open, cx).await.expect("asked") {
        Settled::Done(done) => Some(done),
        Settled::NotDone => None,
        Settled::Ambiguous(why) => panic!("{why}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_sync_comes_out_as_if_it_had_not_been() {
    let Some(site) = Site::new("resumes").await else { return };
    site.versioned().await;
    let ready = site.deleting(3).ready();
    let a = site.deploy(&ready, A).await.receipt;
    // Everything is sent, and then flow dies before it can say so.
    for (name, bytes) in B {
        site.bench.write(&format!("dist/{name}"), bytes);
    }
    let cx = site.bench.context(Some(a.clone()));
    let mut proposal = site.bench.plan(&KIND, &ready, &cx).await.expect("planned");
    let expected = paths(&proposal);
    proposal.effect.take().expect("an effect").apply(&cx).await.expect("applied");
    let versions = site.versions("index.html").await;
    site.forget_the_last(&expected);
    let step = (KIND.make)(&ready, &Attributes::default()).expect("made");
    assert!(settle(&site, step.as_ref(), &cx).await.is_none(), "its manifest is missing");
    let (resumed, done) = site.bench.run(&KIND, &ready, &cx).await.expect("resumed");
    assert_eq!((resumed.summary.as_str(), paths(&resumed)), ("finish an interrupted sync", expected.clone()));
    assert_eq!(done.outputs.get("changed-paths"), Some(&Value::texts(expected)));
    assert_eq!(site.versions("index.html").await, versions, "nothing is sent twice");
    // And once it is complete, asking finds that out, with the numbers that the journal noted.
    let settled = settle(&site, step.as_ref(), &cx).await.expect("done");
    assert_eq!(settled.receipt, done.receipt);
    assert_eq!(settled.outputs.get("uploaded"), Some(&Value::Int(4)));
    let state: State = serde_json::from_value(done.receipt).expect("a state");
    assert_eq!(state.keep_releases, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_of_copies_and_uploads_make_no_second_version() {
    let Some((bench, lost)) = Bench::losing("lostcopy", &["x-amz-copy-source", "index.html"]).await else {
        return;
    };
    let site = Site::on(bench).await;
    site.versioned().await;
    let ready = site.deleting(3).ready();
    let a = site.deploy(&ready, A).await.receipt;
    let was = site.header("index.html").await;
    let b = site.deploy(&ready, B).await.receipt;
    site.returns(&b, &a).await.expect("returned");
    assert!(lost.happened());
    assert_eq!((site.versions("index.html").await, site.header("index.html").await), (3, was));

    let Some((bench, lost)) = Bench::losing("lostonce", &["PUT /", "/index.html"]).await else { return };
    let site = Site::on(bench).await;
    site.versioned().await;
    site.deploy(&site.deleting(3).ready(), A).await;
    assert!(lost.happened());
    assert_eq!(site.versions("index.html").await, 1);

    let Some((bench, lost)) = Bench::losing("lostdelete", &["POST /", "?delete"]).await else { return };
    let site = Site::on(bench).await;
    site.versioned().await;
    let ready = site.deleting(0).ready();
    site.deploy(&ready, A).await;
    site.deploy(&ready, B).await;
    assert!(lost.happened());
    let listed = site.bench.aws().await.s3.list_object_versions().bucket(&site.bucket).prefix("about.html");
    assert_eq!(listed.send().await.expect("listed").delete_markers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_that_arrived_is_not_sent_again() {
    let Some(site) = Site::new("largeback").await else { return };
    site.versioned().await;
    let ready = site.settings().ready();
    site.bench.write("dist/video.mp4", vec![7; 17 * 1024 * 1024]);
    let cx = site.bench.context(None);
    let (_, first) = site.bench.run(&KIND, &ready, &cx).await.expect("synced");
    std::fs::remove_dir_all(site.bench.path(".flow/store/manifests")).expect("removed");
    let again = site.plan(&ready).await;
    assert_eq!(again.action, Action::UpToDate, "{again:?}");
    let (_, second) = site.bench.run(&KIND, &ready, &cx).await.expect("recorded");
    assert_eq!(second.receipt["manifest"], first.receipt["manifest"], "a lost record is written again");
    site.bench.write("dist/video.mp4", vec![8; 17 * 1024 * 1024]);
    let (_, third) = site.bench.run(&KIND, &ready, &cx).await.expect("synced");
    site.returns(&third.receipt, &second.receipt).await.expect("returned");
    let object = site.bench.aws().await.s3.get_object().bucket(&site.bucket).key("video.mp4");
    let bytes = object.send().await.expect("there").body.collect().await.expect("read").into_bytes();
    assert!(bytes.len() == 17 * 1024 * 1024 && bytes.iter().all(|byte| *byte == 7));
}
