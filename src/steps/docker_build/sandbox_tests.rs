//! The kind against a real engine and registry. Needs the sandbox's variables; says so without them.

mod bench;
mod build_cache;
mod layers;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::model::change::Action;
use crate::model::settings::Given;
use crate::model::value::{Field, Value};
use crate::steps::{FailureClass, Settled};
use crate::world::cancel::Urgency;

use bench::{Bench, made, output, plan, text, texts, way};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_once_and_found_without_an_engine() {
    let Some(bench) = Bench::new("cold", false).await else { return };
    let first = bench.plan(&[("tag", texts(&["v1"]))]).await.unwrap();
    assert_eq!((first.action, first.summary.as_str()), (Action::Create, "build and push"));
    assert!(first.subject.starts_with("3 files, "), "{}", first.subject);
    let done = bench.run(&[("tag", texts(&["v1"]))]).await.unwrap();
    let digest = output(&done, "digest");
    assert_eq!(done.summary, format!("pushed {}", &digest[..19]));
    assert_eq!(output(&done, "uri"), format!("{}/{}@{digest}", bench.registry, bench.repository));
    assert_eq!(output(&done, "tag"), "v1");
    let noted = bench.events.lock().unwrap().iter().any(
        |event| matches!(event, Event::Noted { key, data, .. } if key == "pushed" && data["digest"] == digest),
    );
    assert!(noted);

    // Times, ignored files and mode bits that no program sees change nothing.
    bench.write("api/noise.log", "2");
    bench.write("api/main.txt", &bench.repository);
    std::fs::set_permissions(bench.path("api/main.txt"), PermissionsExt::from_mode(0o600)).unwrap();
    let began = Instant::now();
    let again = bench.plan_with(bench.without_engine(), &[("tag", texts(&["v1"]))]).await.unwrap();
    println!("plan of an unchanged image: {:?}", began.elapsed());
    assert_eq!(again.action, Action::UpToDate);
    assert_eq!(again.outputs, done.outputs);
    assert_eq!(again.receipt, done.receipt);

    // A new tag alone is put on in the registry, also without an engine, and the digest is known before.
    let tags = [("tag", texts(&["v2", "v3"]))];
    let tag = bench.plan_with(bench.without_engine(), &tags).await.unwrap();
    assert_eq!(tag.action, Action::UpToDate, "a further tag is upkeep");
    assert!(tag.summary.ends_with("is in the registry, gets tag v2, v3"), "{}", tag.summary);
    assert_eq!(tag.outputs.get("digest").and_then(Value::as_text), Some(digest.clone()));
    tag.effect.unwrap().apply(&bench.context(bench.without_engine())).await.unwrap();
    let tagged = bench.plan_with(bench.without_engine(), &tags).await.unwrap();
    assert!(tagged.action == Action::UpToDate && tagged.effect.is_none(), "{tagged:?}");

    // What the tag names, never built.
    let existing = [("tag", texts(&["v3"])), ("existing", Given::One(Field::Known(Value::Bool(true))))];
    let taken = bench.plan_with(bench.without_engine(), &existing).await.unwrap();
    assert_eq!(taken.outputs.get("digest").and_then(Value::as_text), Some(digest));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_named_and_built() {
    let Some(bench) = Bench::new("change", false).await else { return };
    let first = bench.run(&[]).await.unwrap();
    assert!(output(&first, "tag").starts_with("flow-"));

    bench.write("api/main.txt", "other");
    let proposal = bench.plan(&[]).await.unwrap();
    assert_eq!((proposal.action, proposal.subject.as_str()), (Action::Update, "api/main.txt changed"));
    assert_eq!(proposal.changes.len(), 1);
    let second = bench.run(&[]).await.unwrap();
    assert_ne!(output(&second, "digest"), output(&first, "digest"));

    std::fs::set_permissions(bench.path("api/main.txt"), PermissionsExt::from_mode(0o755)).unwrap();
    let proposal = bench.plan(&[]).await.unwrap();
    assert_eq!(proposal.subject, "api/main.txt changed");
    assert!(proposal.changes[0].to.as_deref().unwrap().ends_with("executable"), "{:?}", proposal.changes);
    let third = bench.run(&[]).await.unwrap();
    assert_ne!(output(&third, "digest"), output(&second, "digest"));

    // Back to what was built before: nothing to build.
    std::fs::set_permissions(bench.path("api/main.txt"), PermissionsExt::from_mode(0o644)).unwrap();
    let back = bench.plan_with(bench.without_engine(), &[]).await.unwrap();
    assert_eq!(back.action, Action::UpToDate);
    assert_eq!(back.outputs, second.outputs);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_after_the_plan_is_not_built() {
    let Some(bench) = Bench::new("stale", false).await else { return };
    for (change, path) in [("bytes", "main.txt"), ("new", "new.txt"), ("gone", "main.txt")] {
        bench.write("api/main.txt", "planned");
        let proposal = bench.plan(&[]).await.unwrap();
        match change {
            "bytes" => bench.write("api/main.txt", "chanced"),
            "new" => bench.write("api/new.txt", "x"),
            _ => std::fs::remove_file(bench.path("api/main.txt")).unwrap(),
        }
        let failure = proposal.effect.unwrap().apply(&bench.context(bench.host.clone())).await.unwrap_err();
        assert_eq!(failure.record.reason, format!("{path} changed since the plan"), "{change}");
        assert_eq!(failure.class, FailureClass::Refused);
        let _ = std::fs::remove_file(bench.path("api/new.txt"));
    }
    assert_eq!(bench.plan(&[]).await.unwrap().action, Action::Create, "nothing was recorded");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_flow_did_not_make_is_not_believed() {
    let Some(bench) = Bench::new("trust", false).await else { return };
    let first = bench.run(&[("tag", texts(&["v1"]))]).await.unwrap();
    std::fs::remove_dir_all(bench.path(".flow")).unwrap();
    let again = bench.plan(&[("tag", texts(&["v1"]))]).await.unwrap();
    assert_eq!(again.summary, "build and push");
    assert!(again.warnings[0].contains("not in this store's records"), "{:?}", again.warnings);
    // The engine builds the very same image from its cache: then the registry's is proven.
    let second = again.effect.unwrap().apply(&bench.context(bench.host.clone())).await.unwrap();
    assert_eq!(output(&second, "digest"), output(&first, "digest"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_takes_the_tags_back_to_an_image_that_is_still_there() {
    let Some(bench) = Bench::new("back", false).await else { return };
    let cx = || bench.context(bench.without_engine());
    let live = [("tag", texts(&["live"]))];
    let first = bench.run(&live).await.unwrap();
    bench.write("api/main.txt", "other");
    let change = bench.plan(&live).await.unwrap();
    assert_eq!(change.baseline, serde_json::json!({ "tag live": output(&first, "digest") }));
    let step = made(
        &super::KIND,
        vec![("context", text("api")), ("repository", text(&bench.repository)), live[0].clone()],
    );
    assert_eq!(step.observe(&cx()).await.unwrap(), change.baseline);
    assert_eq!(
        change.inputs.keys().collect::<Vec<_>>(),
        ["api/.dockerignore", "api/Dockerfile", "api/main.txt"]
    );
    assert_eq!(change.standing["digest"], first.receipt["digest"]);
    let second = change.effect.unwrap().apply(&bench.context(bench.host.clone())).await.unwrap();

    let back = |to: &serde_json::Value| way(&super::KIND, second.receipt.clone(), Some(to.clone()));
    let proposal = back(&first.receipt).plan(&cx()).await.unwrap();
    let short = crate::model::units::short_digest(&output(&first, "digest"));
    assert_eq!((proposal.action, proposal.summary.as_str()), (Action::Update, "tag live"));
    assert_eq!(proposal.subject, format!("back to {short}"));
    assert_eq!(proposal.standing["digest"], second.receipt["digest"]);
    let done = proposal.effect.unwrap().apply(&cx()).await.unwrap();
    assert_eq!((&done.receipt, &done.outputs), (&first.receipt, &first.outputs));
    let again = back(&first.receipt).plan(&cx()).await.unwrap();
    assert!(again.action == Action::UpToDate && again.effect.is_none(), "{again:?}");

    let ecr = &bench.cloud.writes().await.ecr;
    let old = aws_sdk_ecr::types::ImageIdentifier::builder().image_digest(output(&second, "digest")).build();
    ecr.batch_delete_image().repository_name(&bench.repository).image_ids(old).send().await.unwrap();
    let gone = back(&second.receipt).plan(&cx()).await.unwrap_err();
    let short = crate::model::units::short_digest(&output(&second, "digest"));
    assert_eq!(gone.record.reason, format!("{short} is no longer in {}", bench.repository));
    assert_eq!(gone.class, FailureClass::Missing);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_nobody_recorded_is_proven_by_what_was_built() {
    let Some(bench) = Bench::new("dead", true).await else { return };
    let settings =
        || vec![("context", text("api")), ("repository", text(&bench.repository)), ("tag", texts(&["v1"]))];
    let done = bench.run(&[("tag", texts(&["v1"]))]).await.unwrap();
    let notes: Vec<_> = bench
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match event {
            Event::Noted { key, data, .. } => Some((key.clone(), data.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(notes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["built", "pushed"]);
    let open = |notes: &[(String, serde_json::Value)]| crate::steps::Open {
        intent: crate::journal::replay::OpenIntent {
            attempt: 1,
            action: Action::Create,
            summary: String::new(),
            baseline: serde_json::Value::Null,
            standing: serde_json::Value::Null,
            since: crate::world::clock::Clock.now(),
        },
        notes: notes.to_vec(),
    };
    // It died between the push and the record.
    std::fs::remove_dir_all(bench.path(".flow/store/builds")).unwrap();
    let cx = bench.context(bench.without_engine());
    let step = made(&super::KIND, settings());
    let unknown = step.reconcile(&open(&[]), &cx).await.unwrap();
    assert!(matches!(unknown, Settled::NotDone), "{unknown:?}");
    let forged =
        [("built".to_owned(), serde_json::json!({ "hash": notes[0].1["hash"], "image": "sha256:0" }))];
    let forged = step.reconcile(&open(&forged), &cx).await.unwrap();
    assert!(matches!(forged, Settled::NotDone), "{forged:?}");
    let Settled::Done(settled) = step.reconcile(&open(&notes), &cx).await.unwrap() else {
        panic!("it was pushed")
    };
    assert_eq!((&settled.receipt, &settled.outputs), (&done.receipt, &done.outputs));

    // It died before the tag: the step puts that on itself.
    let more =
        vec![("context", text("api")), ("repository", text(&bench.repository)), ("tag", texts(&["v2"]))];
    let settled = made(&super::KIND, more).reconcile(&open(&notes), &cx).await.unwrap();
    assert!(matches!(settled, Settled::NotDone), "{settled:?}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_cannot_move_is_refused_with_both_digests() {
    let Some(bench) = Bench::new("fixed", true).await else { return };
    let tags = [("tag", texts(&["v1"]))];
    let first = output(&bench.run(&tags).await.unwrap(), "digest");
    assert_eq!(bench.plan(&tags).await.unwrap().action, Action::UpToDate, "the same digest is success");

    bench.write("api/main.txt", "other");
    let proposal = bench.plan(&tags).await.unwrap();
    assert!(proposal.warnings[0].contains(&first[..19]), "{:?}", proposal.warnings);
    let failure = proposal.effect.unwrap().apply(&bench.context(bench.host.clone())).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.record.reason.contains(&first[..19]), "{:?}", failure.record);

    // Under another tag it goes through; then the first tag is refused while planning.
    let second = output(&bench.run(&[("tag", texts(&["v2"]))]).await.unwrap(), "digest");
    let failure = bench.plan(&tags).await.unwrap_err();
    assert!(
        failure.record.reason.contains(&first[..19]) && failure.record.reason.contains(&second[..19]),
        "{:?}",
        failure.record
    );
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_happened() {
    let Some(bench) = Bench::new("fails", false).await else { return };
    let nobody = bench.plan_with(bench.without_engine(), &[]).await.unwrap();
    let failure = nobody.effect.unwrap().apply(&bench.context(bench.without_engine())).await.unwrap_err();
    assert_eq!(
        failure.record.reason,
        "no Docker engine answers at unix:///nowhere/docker.sock: there is no such socket"
    );
    assert_eq!(failure.record.help.as_deref(), Some("start the engine, or set DOCKER_HOST"));

    bench.write("api/Dockerfile", "FROM scratch\nCOPY missing /\n");
    let failure = bench.run(&[]).await.unwrap_err();
    assert!(failure.record.reason.contains("missing"), "{:?}", failure.record);

    bench.write("api/Dockerfile", "FROM imgdev-no-such-base:1\n");
    let failure = bench.plan(&[]).await.unwrap_err();
    assert!(failure.record.reason.contains("imgdev-no-such-base:1 is neither"), "{:?}", failure.record);

    std::fs::remove_file(bench.path("api/Dockerfile")).unwrap();
    let failure = bench.plan(&[]).await.unwrap_err();
    assert_eq!(failure.record.reason, "there is no Dockerfile at api/Dockerfile");

    bench.write("api/Dockerfile", "FROM scratch\nCOPY . /\n");
    let cx = bench.context(bench.host.clone());
    let given = vec![("context", text("api")), ("repository", text("imgdev-none"))];
    let failure = plan(&super::KIND, &cx, given).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Missing);

    let existing = [("tag", texts(&["v9"])), ("existing", Given::One(Field::Known(Value::Bool(true))))];
    let failure = bench.plan(&existing).await.unwrap_err();
    assert!(failure.record.reason.ends_with("has no image tagged v9"), "{:?}", failure.record);

    let scan = bench.run(&[("scan", text("high"))]).await.unwrap_err();
    assert_eq!(scan.record.reason, "this registry cannot scan images");

    bench.write("api/main.txt", "another");
    let proposal = bench.plan(&[]).await.unwrap();
    bench.canceller.raise(Urgency::Stopping);
    let failure = proposal.effect.unwrap().apply(&bench.context(bench.host.clone())).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Interrupted);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_created_changed_and_left_alone() {
    let Some(bench) = Bench::new("repo", false).await else { return };
    let name = format!("{}/made", bench.repository);
    let step = |more: Vec<(&'static str, Given<Field<Value>>)>| {
        let cx = bench.context(bench.host.clone());
        let given = [vec![("repository", text(&name))], more].concat();
        async move { (plan(&crate::steps::ecr_repository::KIND, &cx, given).await.unwrap(), cx) }
    };
    let yes = || Given::One(Field::Known(Value::Bool(true)));
    let back = |to: serde_json::Value| {
        let cx = bench.context(bench.host.clone());
        let step = way(&crate::steps::ecr_repository::KIND, serde_json::Value::Null, Some(to));
        async move { (step.plan(&cx).await.unwrap(), cx) }
    };
    let keep = |number| ("keep", Given::One(Field::Known(Value::Int(number))));

    let (proposal, cx) = step(vec![("immutable", yes()), keep(5)]).await;
    assert_eq!((proposal.action, proposal.changes.len()), (Action::Create, 2));
    let done = proposal.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(output(&done, "uri"), format!("{}/{name}", bench.registry));
    assert!(output(&done, "arn").ends_with(&name));

    let (again, _) = step(vec![("immutable", yes()), keep(5)]).await;
    assert_eq!((again.action, &again.outputs), (Action::UpToDate, &done.outputs));
    let (plain, _) = step(vec![]).await;
    assert_eq!(plain.action, Action::UpToDate);

    let (more, cx) = step(vec![("scan", yes()), keep(7)]).await;
    assert_eq!((more.action, more.changes.len()), (Action::Update, 2));
    assert_eq!(more.standing, done.receipt);
    let changed = more.effect.unwrap().apply(&cx).await.unwrap();
    let (after, _) = step(vec![("immutable", yes()), ("scan", yes()), keep(7)]).await;
    assert_eq!((after.action, &after.receipt), (Action::UpToDate, &changed.receipt));

    let (proposal, cx) = back(done.receipt.clone()).await;
    let shown: Vec<_> = proposal.changes.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["scan  on push → by hand", "keep  the newest 7 → the newest 5"]);
    let returned = proposal.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(returned.receipt, done.receipt);
    assert_eq!(back(done.receipt.clone()).await.0.action, Action::UpToDate);
    let mut plain = done.receipt.clone();
    plain["lifecycle"] = serde_json::Value::Null;
    plain["mutability"] = "MUTABLE".into();
    let (proposal, cx) = back(plain.clone()).await;
    proposal.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(back(plain.clone()).await.0.action, Action::UpToDate);
    let stays = way(&crate::steps::ecr_repository::KIND, plain.clone(), None);
    let stays = stays.plan(&bench.context(bench.host.clone())).await.unwrap();
    assert_eq!((stays.action, stays.receipt), (Action::UpToDate, plain.clone()));
    plain["repository"] = format!("{name}/none").into();
    let gone = way(&crate::steps::ecr_repository::KIND, serde_json::Value::Null, Some(plain));
    let gone = gone.plan(&bench.context(bench.host.clone())).await.unwrap_err();
    assert_eq!(gone.class, FailureClass::Missing);

    let ecr = &bench.cloud.writes().await.ecr;
    ecr.delete_repository().repository_name(&name).force(true).send().await.unwrap();
    bench.close().await;
}

/// A program for images without anything else: says what it was given, and fails when told to.
const TOOL: &str = r#"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char text[64] = "nothing";
    FILE *secret = fopen("/run/secrets/token", "r");
    if (secret) fgets(text, sizeof text, secret);
    printf("read %zu characters\n", __builtin_strlen(text));
    if (argc > 1 && !strcmp(argv[1], "wait")) {
        puts("waiting");
        fflush(stdout);
        pause();
    }
    puts(argc > 1 ? "cannot reach the moon" : "fine");
    fclose(fopen("/done", "w"));
    return argc > 1 ? 3 : 0;
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_build_and_its_lines_reach_the_operator() {
    let Some(bench) = Bench::new("steps", false).await else { return };
    // Its own program, so that the engine cannot answer from its cache.
    bench.write("tool.c", &TOOL.replace("fine", &bench.repository));
    let cc = std::process::Command::new("cc")
        .args(["-static", "-s", "-o"])
        .args([bench.path("api/tool"), bench.path("tool.c")])
        .status();
    if !cc.is_ok_and(|status| status.success()) {
        println!("skipped: cc cannot make a static program here");
        return bench.close().await;
    }
    let dockerfile = |arguments: &str| {
        format!("FROM scratch\nCOPY tool /tool\nRUN --mount=type=secret,id=token [\"/tool\"{arguments}]\n")
    };
    bench.write("api/Dockerfile", &dockerfile(""));
    let secret = |text: &str| {
        let secret = Value::Secret(crate::model::secret::Secret::new(text));
        [("secret", Given::Map(vec![("token".to_owned(), Field::Known(secret))]))]
    };
    let done = bench.run(&secret("hunter2")).await.unwrap();
    let lines = |bench: &Bench| -> Vec<String> {
        let events = bench.events.lock().unwrap();
        events
            .iter()
            .filter_map(
                |event| if let Event::Output { line, .. } = event { Some(line.clone()) } else { None },
            )
            .collect()
    };
    assert!(lines(&bench).contains(&"read 7 characters".to_owned()), "{:?}", lines(&bench));
    // Another secret makes no other image.
    let again = bench.plan_with(bench.without_engine(), &secret("other")).await.unwrap();
    assert_eq!((again.action, &again.outputs), (Action::UpToDate, &done.outputs));

    bench.write("api/Dockerfile", &dockerfile(", \"fail\""));
    let failure = bench.run(&[]).await.unwrap_err();
    assert!(failure.record.reason.contains("exit code: 3"), "{:?}", failure.record);
    assert_eq!(failure.record.details, ["read 7 characters", "cannot reach the moon"]);

    // Stopped in the middle of a step.
    bench.write("api/Dockerfile", &dockerfile(", \"wait\""));
    let proposal = bench.plan(&[]).await.unwrap();
    let cx = bench.context(bench.host.clone());
    let stop = async {
        while !lines(&bench).contains(&"waiting".to_owned()) {
            cx.world.clock.pause(Duration::from_millis(20)).await;
        }
        bench.canceller.raise(Urgency::Stopping);
        Instant::now()
    };
    let (ended, stopped) = tokio::join!(proposal.effect.unwrap().apply(&cx), stop);
    assert_eq!(ended.unwrap_err().class, FailureClass::Interrupted);
    assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn base_images_count_by_what_they_are_now() {
    let Some(bench) = Bench::new("base", false).await else { return };
    bench.run(&[("tag", texts(&["base"]))]).await.unwrap();
    let base = format!("{}/{}:base", bench.registry, bench.repository);

    // In the registry that is pushed to: no engine is needed to know it.
    bench.write("api/Dockerfile", &format!("FROM {base} AS one\nFROM one\nCOPY main.txt /again\n"));
    let first = bench.run(&[]).await.unwrap();
    let again = bench.plan_with(bench.without_engine(), &[]).await.unwrap();
    assert_eq!((again.action, &again.outputs), (Action::UpToDate, &first.outputs));

    // It moves between plan and run, and then again before the next plan.
    bench.write("other/Dockerfile", "FROM scratch\nCOPY . /\n");
    let planned = bench.plan(&[("target", text("one"))]).await.unwrap();
    bench.run(&[("context", text("other")), ("tag", texts(&["base"]))]).await.unwrap();
    let failure = planned.effect.unwrap().apply(&bench.context(bench.host.clone())).await.unwrap_err();
    assert_eq!(failure.record.reason, format!("the base image {base} moved since the plan"));
    let moved = bench.plan(&[]).await.unwrap();
    assert_eq!(
        (moved.summary.as_str(), moved.subject.as_str()),
        ("build and push", format!("base {base} changed").as_str())
    );
    bench.close().await;
}
