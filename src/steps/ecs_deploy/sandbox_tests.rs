//! Against real tasks.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::KIND;
use crate::model::change::Action;
use crate::model::names::StepId;
use crate::model::settings::Ready;
use crate::model::value::Field;
use crate::steps::ecs::sandbox::{Fault, Sandbox, Written};
use crate::steps::{Failure, FailureClass, Proposal};
use crate::world::cancel::Urgency;

fn deploy(name: &str, container: Written) -> Written {
    Written::default().with("cluster", name).with("service", name).node("container", "app", container)
}

fn image(image: &str) -> Written {
    Written::default().with("image", image)
}

fn shown(proposal: &Proposal) -> Vec<String> {
    proposal.changes.iter().map(ToString::to_string).collect()
}

fn text(failure: &Failure) -> String {
    let mut lines = vec![failure.record.reason.clone()];
    lines.extend(failure.record.details.iter().cloned());
    lines.join("\n")
}

#[tokio::test]
async fn a_roll_and_then_nothing_to_do() {
    let Some(sandbox) = Sandbox::open("roll").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(&sandbox.no_image(), &[]), 0, true).await;
    let cx = sandbox.context(None);

    let wanted = || deploy(&sandbox.name, image(first).env(&[("SAY", "hello")])).with("desired", 2).ready();
    let proposal = sandbox.plan(&KIND, &wanted(), &cx).await.unwrap();
    assert_eq!(proposal.action, Action::Update);
    assert_eq!(proposal.summary, "start 2 tasks");
    assert_eq!(proposal.subject, format!("{}:1 → :2", sandbox.name));
    assert!(shown(&proposal).iter().any(|change| change == "desired  0 → 2"), "{:?}", shown(&proposal));
    assert!(!format!("{:?}", proposal.changes).contains("hello"));
    assert!(proposal.warnings.iter().any(|warning| warning.contains("none-yet")), "{:?}", proposal.warnings);

    let done = sandbox.run(&KIND, &wanted(), &cx).await.unwrap();
    assert_eq!(done.summary, format!("2 of 2 tasks of {}:2 run", sandbox.name));
    assert_eq!(done.outputs["revision"].as_text().unwrap(), "2");
    assert_eq!(done.outputs["running"].as_text().unwrap(), "2");
    assert!(!done.receipt.to_string().contains("hello"));

    let cx = sandbox.context(Some(done.receipt));
    let again = sandbox.plan(&KIND, &wanted(), &cx).await.unwrap();
    assert_eq!(again.action, Action::UpToDate, "{:?}", shown(&again));
    assert!(again.effect.is_none());
    assert_eq!(again.outputs["revision"].as_text().unwrap(), "2");

    // Another image and no variable any more.
    let next = deploy(&sandbox.name, image(second)).ready();
    let proposal = sandbox.plan(&KIND, &next, &cx).await.unwrap();
    let changes = shown(&proposal);
    assert_eq!(proposal.summary, "roll 2 tasks");
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes.iter().any(|change| change.starts_with("image  sha256:")), "{changes:?}");
    assert!(changes.iter().any(|change| change.starts_with("env SAY  hmac:") && change.ends_with("none")));
    let done = proposal.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(done.summary, format!("2 of 2 tasks of {}:3 run", sandbox.name));
    assert_eq!(sandbox.revisions().await, 3);

    let forced = deploy(&sandbox.name, image(second)).with("force", true).ready();
    let done = sandbox.run(&KIND, &forced, &sandbox.context(Some(done.receipt))).await.unwrap();
    assert_eq!(done.summary, format!("2 of 2 tasks of {}:3 run", sandbox.name));
    assert_eq!(sandbox.revisions().await, 3, "forcing registers nothing");
    sandbox.close().await;
}

#[tokio::test]
async fn an_image_known_later_shows_the_rest_of_the_difference() {
    let Some(sandbox) = Sandbox::open("later").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let later = Field::After(StepId::parse("image[api]"));
    let ready = deploy(&sandbox.name, Written::default().field("image", later).with("memory", 128)).ready();
    let proposal = sandbox.plan(&KIND, &ready, &sandbox.context(None)).await.unwrap();
    assert_eq!(proposal.action, Action::Update);
    assert!(proposal.effect.is_none());
    let changes = shown(&proposal);
    assert!(changes[0].starts_with("image  sha256:"), "{changes:?}");
    assert!(changes[0].ends_with("→ (known after image[api])"), "{changes:?}");
    assert_eq!(changes[1], "memory  64 → 128");
    sandbox.close().await;
}

#[tokio::test]
async fn a_program_that_exits_at_once_is_rolled_back_and_explained() {
    let Some(sandbox) = Sandbox::open("exits").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let cx = sandbox.context(None);
    let good = deploy(&sandbox.name, image(first)).with("desired", 2).ready();
    let done = sandbox.run(&KIND, &good, &cx).await.unwrap();

    let bad = deploy(&sandbox.name, image(second).env(&[("REQUIRE", "DATABASE_URL")])).ready();
    let started = Instant::now();
    let failure = sandbox.run(&KIND, &bad, &sandbox.context(Some(done.receipt))).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(failure.class, FailureClass::Failed);
    let text = text(&failure);
    assert!(text.starts_with(&format!("ECS rolled it back to {}:1\n", sandbox.name)), "{text}");
    assert!(
        text.contains(&format!("tasks of {}:2 stopped: EssentialContainerExited", sandbox.name)),
        "{text}"
    );
    assert!(text.contains("container app exited with 3"), "{text}");
    assert!(text.contains("configuration error: DATABASE_URL is empty"), "{text}");
    assert!(text.contains(&format!("{}:1 runs with 2 of 2 tasks", sandbox.name)), "{text}");
    assert!(!text.contains("no release"), "{text}");
    sandbox.close().await;
}

#[tokio::test]
async fn a_first_deployment_that_fails_goes_back_to_the_placeholder() {
    let Some(sandbox) = Sandbox::open("first").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(&sandbox.no_image(), &[]), 0, true).await;
    let bad = deploy(&sandbox.name, image(first).env(&[("EXIT", "3")])).with("desired", 2).ready();
    let failure = sandbox.run(&KIND, &bad, &sandbox.context(None)).await.unwrap_err();
    let text = text(&failure);
    assert!(text.contains("container app exited with 3"), "{text}");
    assert!(text.contains(&format!("{}:1 does not run either", sandbox.name)), "{text}");
    assert!(text.contains("no release of this flow"), "{text}");
    assert!(text.contains(":none-yet)"), "{text}");

    // The same content is not registered twice, and a good one works from here.
    let revisions = sandbox.revisions().await;
    let proposal = sandbox.plan(&KIND, &bad, &sandbox.context(None)).await.unwrap();
    assert_eq!(proposal.subject, format!("{}:1 → :2", sandbox.name));
    assert_eq!(sandbox.revisions().await, revisions);
    let good = deploy(&sandbox.name, image(first)).with("desired", 2).ready();
    let done = sandbox.run(&KIND, &good, &sandbox.context(None)).await.unwrap();
    assert_eq!(done.summary, format!("2 of 2 tasks of {}:3 run", sandbox.name));
    sandbox.close().await;
}

#[tokio::test]
async fn a_fixed_host_port_keeps_the_second_task_from_starting() {
    let Some(sandbox) = Sandbox::open("port").await else { return };
    let [first, second] = sandbox.images().await;
    let mut definition = sandbox.definition(first, &[]);
    definition["containerDefinitions"][0]["portMappings"] =
        serde_json::json!([{ "containerPort": 8080, "hostPort": 18473 }]);
    sandbox.service(&definition, 0, true).await;
    let start = deploy(&sandbox.name, image(first)).with("desired", 1).ready();
    let done = sandbox.run(&KIND, &start, &sandbox.context(None)).await.unwrap();
    let next = deploy(&sandbox.name, image(second)).ready();
    let failure = sandbox.run(&KIND, &next, &sandbox.context(Some(done.receipt))).await.unwrap_err();
    let text = text(&failure);
    assert!(text.starts_with("ECS rolled it back to"), "{text}");
    assert!(text.contains("TaskFailedToStart"), "{text}");
    assert!(text.contains("port is already allocated"), "{text}");
    sandbox.close().await;
}

#[tokio::test]
async fn without_the_circuit_breaker_a_crash_loop_ends_the_wait() {
    let Some(sandbox) = Sandbox::open("loop").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, false).await;
    let bad = deploy(&sandbox.name, image(first).env(&[("EXIT", "4")])).with("desired", 1).ready();
    let cx = sandbox.context(None);
    let proposal = sandbox.plan(&KIND, &bad, &cx).await.unwrap();
    assert!(proposal.warnings.iter().any(|warning| warning.contains("circuit breaker")));
    let failure = proposal.effect.unwrap().apply(&cx).await.unwrap_err();
    let text = text(&failure);
    assert!(text.contains("does not stay up"), "{text}");
    assert!(text.contains("container app exited with 4"), "{text}");
    sandbox.close().await;
}

#[tokio::test]
async fn another_deployment_that_takes_over_is_named() {
    let Some(sandbox) = Sandbox::open("taken").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, false).await;
    let cx = sandbox.context(None);
    // Tasks that exit after a moment keep the deployment open.
    let ours =
        deploy(&sandbox.name, image(first).env(&[("EXIT", "1"), ("AFTER", "3")])).with("desired", 1).ready();
    let run = sandbox.run(&KIND, &ours, &cx);
    let other = async {
        let ecs = sandbox.cloud.ecs().await;
        while !sandbox.told().iter().any(|line| line.starts_with("updated ")) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let theirs = ecs.register(&sandbox.definition(second, &[])).await.unwrap();
        let body = serde_json::json!({ "cluster": sandbox.name, "service": sandbox.name, "taskDefinition": theirs.arn() });
        ecs.update_service(&body).await.unwrap();
    };
    let (done, ()) = tokio::join!(run, other);
    let failure = done.unwrap_err();
    let text = text(&failure);
    assert!(text.starts_with("another deployment took over"), "{text}");
    assert!(text.contains(&format!("{}:3", sandbox.name)), "{text}");
    sandbox.close().await;
}

#[tokio::test]
async fn a_stop_leaves_the_deployment_to_ecs_and_the_next_run_waits_for_it() {
    let Some(sandbox) = Sandbox::open("stop").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let ready = || deploy(&sandbox.name, image(first).env(&[("SAY", "x")])).with("desired", 2).ready();
    let cx = sandbox.context(None);
    let stop = async {
        while !sandbox.told().iter().any(|line| line.starts_with("updated ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sandbox.canceller.raise(Urgency::Stopping);
    };
    let wanted = ready();
    let (done, ()) = tokio::join!(sandbox.run(&KIND, &wanted, &cx), stop);
    let failure = done.unwrap_err();
    assert_eq!(failure.class, FailureClass::Interrupted);
    assert!(failure.record.reason.contains("goes on in ECS"), "{}", failure.record.reason);

    let fresh = crate::world::cancel::Canceller::new();
    let mut cx = sandbox.context(None);
    cx.cancel = fresh.view();
    let proposal = sandbox.plan(&KIND, &ready(), &cx).await.unwrap();
    if let Some(effect) = proposal.effect {
        assert!(proposal.summary.starts_with("wait for 2 tasks"), "{}", proposal.summary);
        let done = effect.apply(&cx).await.unwrap();
        assert_eq!(done.summary, format!("2 of 2 tasks of {}:2 run", sandbox.name));
    }
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let Some(sandbox) = Sandbox::open("absent").await else { return };
    let cx = sandbox.context(None);
    let plan = |ready: Ready| {
        let (sandbox, cx) = (&sandbox, &cx);
        async move { sandbox.plan(&KIND, &ready, cx).await.unwrap_err() }
    };
    let service = plan(deploy(&sandbox.name, Written::default()).ready()).await;
    assert_eq!(service.class, FailureClass::Missing);
    assert_eq!(service.record.reason, format!("cluster {0} has no service {0}", sandbox.name));
    let cluster = plan(deploy("ecsdev-nowhere", Written::default()).ready()).await;
    assert_eq!(cluster.class, FailureClass::Missing);
    assert_eq!(cluster.record.reason, "there is no cluster ecsdev-nowhere");

    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let other = Written::default().with("cluster", &*sandbox.name).with("service", &*sandbox.name);
    let container = plan(other.node("container", "web", Written::default().with("memory", 64)).ready()).await;
    assert!(container.record.reason.ends_with("has no container web, it has app"), "{}", text(&container));
    let tag = plan(deploy(&sandbox.name, image("shop:v1")).ready()).await;
    assert_eq!(tag.class, FailureClass::Refused);
    assert!(tag.record.reason.contains("is not pinned"), "{}", text(&tag));
    assert_eq!(Value::Null, tag.record.help.map_or(Value::Null, Value::from));
    sandbox.close().await;
}

#[tokio::test]
async fn lost_answers_and_throttling_are_settled() {
    let Some((sandbox, faults)) = Sandbox::with_faults("lost").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let cx = sandbox.context(None);
    let first_roll = deploy(&sandbox.name, image(second)).with("desired", 1).ready();
    faults.plan("RegisterTaskDefinition", Fault::LostAnswer);
    faults.plan("UpdateService", Fault::LostAnswer);
    let registered = faults.calls("RegisterTaskDefinition");
    let done = sandbox.run(&KIND, &first_roll, &cx).await.unwrap();
    assert_eq!(done.summary, format!("1 of 1 task of {}:2 runs", sandbox.name));
    assert_eq!(faults.calls("RegisterTaskDefinition"), registered + 1, "a lost answer is settled by a query");
    assert_eq!(faults.calls("UpdateService"), 1);
    assert_eq!(sandbox.revisions().await, 2);

    let next = deploy(&sandbox.name, image(second).env(&[("A", "1")])).ready();
    for _ in 0..2 {
        faults.plan("RegisterTaskDefinition", Fault::Throttled);
        faults.plan("UpdateService", Fault::Throttled);
    }
    faults.plan("DescribeTasks", Fault::Throttled);
    let cx = sandbox.context(Some(done.receipt));
    let proposal = sandbox.plan(&KIND, &next, &cx).await.unwrap();
    for _ in 0..5 {
        faults.plan("DescribeServices", Fault::Throttled);
    }
    let done = proposal.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(done.summary, format!("1 of 1 task of {}:3 runs", sandbox.name));
    assert_eq!(sandbox.revisions().await, 3);

    // Nothing to do: nothing is changed.
    let before = (faults.calls("RegisterTaskDefinition"), faults.calls("UpdateService"));
    let again = sandbox.plan(&KIND, &next, &sandbox.context(Some(done.receipt))).await.unwrap();
    assert_eq!(again.action, Action::UpToDate);
    assert_eq!((faults.calls("RegisterTaskDefinition"), faults.calls("UpdateService")), before);
    sandbox.close().await;
}

#[tokio::test]
async fn an_update_that_never_arrives_is_sent_again() {
    let Some((sandbox, faults)) = Sandbox::with_faults("gone").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let cx = sandbox.context(None);
    faults.plan("UpdateService", Fault::LostRequest);
    let ready = deploy(&sandbox.name, image(second)).with("desired", 1).ready();
    let done = sandbox.run(&KIND, &ready, &cx).await.unwrap();
    assert_eq!(done.summary, format!("1 of 1 task of {}:2 runs", sandbox.name));
    assert_eq!(faults.calls("UpdateService"), 2);
    sandbox.close().await;
}

#[tokio::test]
async fn a_file_that_says_the_same_is_no_change() {
    let Some(sandbox) = Sandbox::open("file").await else { return };
    let [first, _] = sandbox.images().await;
    let mut definition = sandbox.definition(first, &[("B", "2"), ("A", "1")]);
    definition["containerDefinitions"][0]["portMappings"] = serde_json::json!([{ "containerPort": 8080 }]);
    definition["tags"] = serde_json::json!([{ "key": "team", "value": "shop" }]);
    sandbox.service(&definition, 0, true).await;
    let cx = sandbox.context(None);
    let file = cx.world.files.locate("task.json").unwrap();
    cx.world.files.write(&file, definition.to_string().as_bytes()).unwrap();
    let base = |task: &str| {
        let step = Written::default().with("cluster", &*sandbox.name).with("service", &*sandbox.name);
        step.with("task-definition", task)
    };
    let same = sandbox.plan(&KIND, &base("task.json").ready(), &cx).await.unwrap();
    assert_eq!(same.action, Action::UpToDate, "{:?}", shown(&same));

    definition["containerDefinitions"][0]["stopTimeout"] = 5.into();
    definition["containerDefinitions"][0]["environment"][0]["value"] = "3".into();
    cx.world.files.write(&file, definition.to_string().as_bytes()).unwrap();
    let other = sandbox.plan(&KIND, &base("task.json").ready(), &cx).await.unwrap();
    let changes = shown(&other);
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes.iter().any(|change| change == "stopTimeout  5"), "{changes:?}");
    assert!(changes.iter().any(|change| change.starts_with("env B  hmac:")), "{changes:?}");
    assert!(other.warnings.iter().any(|warning| warning.contains("desired is 0")), "{:?}", other.warnings);
    let done = other.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(done.summary, format!("{}:2 is set, but was not tried: desired is 0", sandbox.name));

    // Back to a revision by name: nothing new is registered.
    let back = base(&format!("{}:1", sandbox.name)).ready();
    let proposal = sandbox.plan(&KIND, &back, &cx).await.unwrap();
    assert_eq!(proposal.subject, format!("{}:2 → :1", sandbox.name));
    proposal.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(sandbox.revisions().await, 2);
    let nothing = sandbox.plan(&KIND, &base("ecsdev-none:7").ready(), &cx).await.unwrap_err();
    assert_eq!(nothing.record.reason, "there is no task definition ecsdev-none:7");
    sandbox.close().await;
}

#[tokio::test]
async fn deployment_settings_alone_start_no_task() {
    let Some(sandbox) = Sandbox::open("config").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 1, false).await;
    let cx = sandbox.context(None);
    let ready = || {
        deploy(&sandbox.name, Written::default())
            .with("circuit-breaker", true)
            .with("min-healthy", 50)
            .ready()
    };
    let proposal = sandbox.plan(&KIND, &ready(), &cx).await.unwrap();
    assert_eq!(proposal.summary, "change how it is deployed");
    assert_eq!(shown(&proposal), ["circuit-breaker  off → on", "min-healthy  100% → 50%"]);
    let done = proposal.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(done.outputs["revision"].as_text().unwrap(), "1");
    let again = sandbox.plan(&KIND, &ready(), &cx).await.unwrap();
    assert_eq!(again.action, Action::UpToDate, "{:?}", shown(&again));
    assert_eq!(sandbox.revisions().await, 1);
    sandbox.close().await;
}

#[tokio::test]
async fn all_services_of_a_run_share_a_poll() {
    let Some((sandbox, faults)) = Sandbox::with_faults("batch").await else { return };
    let followed: Vec<_> =
        (0..25).map(|number| sandbox.cloud.poller().follow(&sandbox.name, &format!("s{number}"))).collect();
    let ecs = sandbox.cloud.ecs().await;
    for round in 1..=2 {
        let looks = followed.iter().map(|one| one.look(ecs, Duration::from_millis(500)));
        let looks = futures_util::future::join_all(looks).await;
        assert!(looks.into_iter().all(|look| look.unwrap().is_none()));
        assert_eq!(faults.calls("DescribeServices"), 3 * round);
        // Looks have to age before anybody asks again.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    drop(followed);
    sandbox.close().await;
}
