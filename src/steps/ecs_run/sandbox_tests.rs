//! Against real tasks.

use std::time::Duration;

use serde_json::{Value, json};

use super::{KIND, Run};
use crate::model::change::Action;
use crate::model::names::RunId;
use crate::steps::ecs::sandbox::{Fault, Sandbox, Written};
use crate::steps::{Attributes, Context, FailureClass, Settled};
use crate::world::aws::ecs::Service;
use crate::world::cancel::Urgency;

#[test]
fn where_it_runs_is_copied_from_the_service() {
    let service: Service = serde_json::from_value(json!({
        "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["a"], "notInventedYet": 1 } },
        "capacityProviderStrategy": [], "launchType": "FARGATE", "platformVersion": "LATEST",
    }))
    .unwrap();
    let ready = run("c").texts("command", &["migrate"]).env(&[("A", "1")]).with("memory", 64).ready();
    let run = Run::read(&ready, &Attributes::default()).unwrap();
    assert_eq!(
        Value::Object(run.body("arn:42", "api", Some(&service))),
        json!({
            "cluster": "c", "taskDefinition": "arn:42", "count": 1,
            "overrides": { "containerOverrides": [{
                "name": "api", "command": ["migrate"], "environment": [{ "name": "A", "value": "1" }], "memory": 64,
            }] },
            "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["a"], "notInventedYet": 1 } },
            "launchType": "FARGATE", "platformVersion": "LATEST",
        })
    );
    let neither = Written::default().with("cluster", "c").ready();
    let error = Run::read(&neither, &Attributes::default()).unwrap_err();
    assert_eq!(error.to_string(), "service: service or task-definition must be given");
}

fn run(name: &str) -> Written {
    Written::default().with("cluster", name).with("service", name)
}

/// Another run.
fn next(cx: &Context, run: &str) -> Context {
    Context { run: Some(RunId::new(run)), ..cx.clone() }
}

#[tokio::test]
async fn the_exit_code_decides_and_the_log_is_shown() {
    let Some(sandbox) = Sandbox::open("run").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let cx = sandbox.context(None);

    let ready = run(&sandbox.name).texts("command", &["one", "two"]).env(&[("EXIT", "0")]).ready();
    let proposal = sandbox.plan(&KIND, &ready, &cx).await.unwrap();
    assert_eq!(proposal.action, Action::Run);
    assert_eq!(proposal.summary, "run one two in app");
    let done = proposal.effect.unwrap().apply(&cx).await.unwrap();
    assert_eq!(done.summary, "container app exited with 0");
    assert_eq!(done.outputs["exit-code"].as_text().unwrap(), "0");
    let told = sandbox.told();
    let at = |line: &str| told.iter().position(|told| told == line);
    assert!(at("one").is_some() && at("one") < at("two"), "{told:?}");

    let ready = run(&sandbox.name).env(&[("REQUIRE", "URL")]).ready();
    let failure = sandbox.run(&KIND, &ready, &next(&cx, "b")).await.unwrap_err();
    assert_eq!(failure.record.reason, "container app exited with 3");
    assert!(failure.record.details[0].ends_with("configuration error: URL is empty"), "{failure:?}");
    assert_eq!(failure.class, FailureClass::Failed);
    sandbox.close().await;
}

#[tokio::test]
async fn a_lost_answer_starts_no_second_task() {
    let Some((sandbox, faults)) = Sandbox::with_faults("once").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let cx = sandbox.context(None);
    let ready = run(&sandbox.name).texts("command", &["hello"]).env(&[("EXIT", "0")]).ready();
    faults.plan("RunTask", Fault::LostAnswer);
    faults.plan("DescribeTasks", Fault::Throttled);
    sandbox.run(&KIND, &ready, &cx).await.unwrap();
    assert_eq!(faults.calls("RunTask"), 1);
    assert_eq!(sandbox.told().iter().filter(|line| *line == "hello").count(), 1, "{:?}", sandbox.told());

    faults.plan("RunTask", Fault::LostRequest);
    sandbox.run(&KIND, &ready, &next(&cx, "b")).await.unwrap();
    assert_eq!(faults.calls("RunTask"), 3);
    sandbox.close().await;
}

#[tokio::test]
async fn a_task_that_nobody_saw_the_end_of_is_neither_lost_nor_repeated() {
    let Some((sandbox, faults)) = Sandbox::with_faults("orphan").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let cx = sandbox.context(None);
    let settle = |ready: crate::model::settings::Ready, notes: usize, cx: Context| {
        let mut open = sandbox.announced(&crate::steps::Proposal::new(Action::Run, ""));
        open.notes.truncate(open.notes.len() - notes);
        async move {
            let step = (KIND.make)(&ready, &Attributes::default()).unwrap();
            step.reconcile(&open, &cx).await.unwrap()
        }
    };
    let slow = || run(&sandbox.name).env(&[("AFTER", "2"), ("EXIT", "0"), ("SAY", "once")]).ready();
    let before = settle(slow(), 0, cx.clone()).await;
    assert!(matches!(before, Settled::NotDone), "nothing was sent: {before:?}");

    // It dies while the task runs; a new attempt of the same run waits for that task.
    let proposal = sandbox.plan(&KIND, &slow(), &cx).await.unwrap();
    assert_eq!(proposal.baseline, json!({ "task definition": format!("{}:1", sandbox.name) }));
    assert!(sandbox.die(proposal.effect.unwrap(), &cx, "started").await);
    let done = sandbox.run(&KIND, &slow(), &cx).await.unwrap();
    assert_eq!((done.receipt["exitCode"].as_i64(), faults.calls("RunTask")), (Some(0), 1));

    // Whoever asks waits for it too, whether its ARN was noted or not.
    let cx = next(&cx, "b");
    let proposal = sandbox.plan(&KIND, &slow(), &cx).await.unwrap();
    assert!(sandbox.die(proposal.effect.unwrap(), &cx, "started").await);
    for unnoted in [1, 0] {
        let settled = settle(slow(), unnoted, cx.clone()).await;
        assert!(
            matches!(&settled, Settled::Done(done) if done.summary.ends_with("exited with 0")),
            "{settled:?}"
        );
    }
    assert_eq!(faults.calls("RunTask"), 2);

    // One that failed was made and is known to have failed: the next attempt starts another.
    let cx = next(&cx, "c");
    let bad = || run(&sandbox.name).env(&[("AFTER", "1"), ("EXIT", "4")]).ready();
    let proposal = sandbox.plan(&KIND, &bad(), &cx).await.unwrap();
    assert!(sandbox.die(proposal.effect.unwrap(), &cx, "started").await);
    let settled = settle(bad(), 0, cx.clone()).await;
    assert!(matches!(settled, Settled::NotDone), "{settled:?}");
    // Answered after all that was said before it.
    cx.feed.note("heard", Value::Null).await.unwrap();
    assert!(sandbox.told().iter().any(|line| line.ends_with("container app exited with 4")));
    sandbox.run(&KIND, &bad(), &cx).await.unwrap_err();
    assert_eq!(faults.calls("RunTask"), 4);
    sandbox.close().await;
}

#[tokio::test]
async fn a_container_that_never_ran_is_a_failure() {
    let Some(sandbox) = Sandbox::open("never").await else { return };
    sandbox.service(&sandbox.definition(&sandbox.no_image(), &[]), 0, true).await;
    let failure = sandbox.run(&KIND, &run(&sandbox.name).ready(), &sandbox.context(None)).await.unwrap_err();
    assert!(failure.record.reason.starts_with("container app never ran: "), "{failure:?}");
    assert_eq!(failure.class, FailureClass::Failed);
    sandbox.close().await;
}

#[tokio::test]
async fn a_stop_stops_the_task() {
    let Some(sandbox) = Sandbox::open("halt").await else { return };
    let [first, _] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let cx = sandbox.context(None);
    let ready = run(&sandbox.name).env(&[("SAY", "up")]).ready();
    let stop = async {
        while !sandbox.told().iter().any(|line| line == "up") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sandbox.canceller.raise(Urgency::Stopping);
    };
    let (done, ()) = tokio::join!(sandbox.run(&KIND, &ready, &cx), stop);
    let failure = done.unwrap_err();
    assert_eq!(failure.class, FailureClass::Interrupted, "{failure:?}");
    assert!(failure.record.reason.ends_with("was stopped"), "{failure:?}");
    sandbox.close().await;
}
