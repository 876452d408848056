//! Against real tasks: the way back, and what is said of a deploy that nobody saw the end of.

use serde_json::{Value, json};

use super::KIND;
use crate::model::change::Action;
use crate::model::settings::Ready;
use crate::steps::ecs::sandbox::{Sandbox, Written};
use crate::steps::{Attributes, Back, Context, Done, Failure, FailureClass, Open, Proposal, Settled, Way};

fn deploy(name: &str, container: Written) -> Written {
    Written::default().with("cluster", name).with("service", name).node("container", "app", container)
}

fn image(image: &str) -> Written {
    Written::default().with("image", image)
}

/// The plan of the way back.
async fn back(cx: &Context, now: &Value, to: &Value) -> Result<Proposal, Failure> {
    let Back::To(make) = KIND.back else { panic!("a service can be rolled back") };
    make(&Way { now: now.clone(), to: Some(to.clone()) })?.plan(cx).await
}

async fn go(proposal: Proposal, cx: &Context) -> Done {
    proposal.effect.expect("something to do").apply(cx).await.unwrap()
}

async fn settle(ready: &Ready, open: &Open, cx: &Context) -> Settled {
    let step = (KIND.make)(ready, &Attributes::default()).unwrap();
    step.reconcile(open, cx).await.unwrap()
}

fn runs(sandbox: &Sandbox, revision: u32, tasks: u32) -> String {
    format!("{tasks} of {tasks} tasks of {}:{revision} run", sandbox.name)
}

#[tokio::test]
async fn a_rollback_goes_to_the_recorded_revision_with_its_settings() {
    let Some(sandbox) = Sandbox::open("back").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(&sandbox.no_image(), &[]), 0, true).await;
    let cx = sandbox.context(None);
    let a = deploy(&sandbox.name, image(first).env(&[("SAY", "hello")])).with("desired", 2).ready();
    let cold = sandbox.plan(&KIND, &a, &cx).await.unwrap();
    let adopted = cold.standing.clone();
    assert_eq!(
        cold.baseline,
        json!({
            "task definition": format!("{}:1", sandbox.name), "deployment": cold.baseline["deployment"],
            "desired": 0, "circuit-breaker": "on", "min-healthy": "100%", "max-percent": "200%",
        })
    );
    let state_a = go(cold, &cx).await.receipt;
    let cx = sandbox.context(Some(state_a.clone()));
    let again = sandbox.plan(&KIND, &a, &cx).await.unwrap();
    assert_eq!((again.action, &again.receipt), (Action::UpToDate, &state_a), "what was done is what stands");
    let step = (KIND.make)(&a, &Attributes::default()).unwrap();
    assert_eq!(step.observe(&cx).await.unwrap(), again.baseline);

    let b = deploy(&sandbox.name, image(second)).with("desired", 1).with("circuit-breaker", false).ready();
    let change = sandbox.plan(&KIND, &b, &cx).await.unwrap();
    assert_eq!(change.standing, state_a, "the state before the effect");
    let state_b = go(change, &cx).await.receipt;
    // A revision that nobody ever ran is not gone back to.
    sandbox.cloud.ecs().await.register(&sandbox.definition(second, &[("NEVER", "run")])).await.unwrap();

    let cx = sandbox.context(Some(state_b.clone()));
    let proposal = back(&cx, &state_b, &state_a).await.unwrap();
    assert_eq!(proposal.summary, "roll 2 tasks back");
    assert_eq!(proposal.subject, format!("{}:3 → :2", sandbox.name));
    let shown: Vec<_> = proposal.changes.iter().map(ToString::to_string).collect();
    assert!(shown.contains(&"desired  1 → 2".to_owned()), "{shown:?}");
    assert!(shown.contains(&"circuit-breaker  off → on".to_owned()), "{shown:?}");
    assert_eq!(proposal.standing, state_b);
    let done = go(proposal, &cx).await;
    assert_eq!(done.summary, runs(&sandbox, 2, 2));
    for same in ["taskDefinition", "definition", "desired", "configuration", "set", "scaled"] {
        assert_eq!(done.receipt[same], state_a[same], "{same}");
    }
    let again = back(&cx, &done.receipt, &state_a).await.unwrap();
    assert!(again.action == Action::UpToDate && again.effect.is_none(), "{again:?}");

    // To what was there before flow: an image that never was, which nothing has to start.
    let proposal = back(&cx, &done.receipt, &adopted).await.unwrap();
    assert_eq!(proposal.summary, "go back, with no tasks");
    assert!(
        proposal.warnings.iter().any(|w| w.contains("none-yet is no longer in")),
        "{:?}",
        proposal.warnings
    );
    let done = go(proposal, &cx).await;
    assert_eq!(done.summary, format!("{}:1 is set, but was not tried: desired is 0", sandbox.name));
    sandbox.close().await;
}

#[tokio::test]
async fn an_inactive_revision_is_registered_again_and_a_deleted_one_is_named() {
    let Some(sandbox) = Sandbox::open("inactive").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[("SAY", "hello")]), 1, true).await;
    let cx = sandbox.context(None);
    let next = deploy(&sandbox.name, image(second)).ready();
    let proposal = sandbox.plan(&KIND, &next, &cx).await.unwrap();
    let before = proposal.standing.clone();
    let now = go(proposal, &cx).await.receipt;
    let name = format!("{}:1", sandbox.name);
    let ecs = &sandbox.cloud.writes().await.ecs;
    ecs.deregister_task_definition().task_definition(&name).send().await.unwrap();

    let proposal = back(&cx, &now, &before).await.unwrap();
    assert_eq!(proposal.subject, format!("{}:2 → :3", sandbox.name));
    let done = go(proposal, &cx).await;
    let ecs = sandbox.cloud.ecs().await;
    let described =
        ecs.definition(done.receipt["taskDefinition"].as_str().unwrap()).await.unwrap().definition;
    assert_eq!(
        described["containerDefinitions"][0]["environment"],
        json!([{ "name": "SAY", "value": "hello" }])
    );
    let again = back(&cx, &done.receipt, &before).await.unwrap();
    assert_eq!(again.action, Action::UpToDate, "{again:?}");

    let mut deleted = before.clone();
    deleted["taskDefinition"] = format!("{}:77", sandbox.name).into();
    let failure = back(&cx, &now, &deleted).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Missing);
    let name = &sandbox.name;
    assert_eq!(
        failure.record.reason,
        format!("{name} cannot go back to {name}:77: that task definition was deleted")
    );

    // Its image is deleted from the registry.
    let registered =
        sandbox.cloud.ecs().await.register(&sandbox.definition(&sandbox.ghost(), &[])).await.unwrap();
    deleted["taskDefinition"] = registered.arn().into();
    let failure = back(&cx, &now, &deleted).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Missing);
    assert!(
        failure.record.reason.ends_with("sha256:000000000000 is no longer in ecsdev-program"),
        "{failure:?}"
    );
    sandbox.close().await;
}

#[tokio::test]
async fn a_deployment_under_way_is_taken_back() {
    let Some(sandbox) = Sandbox::open("flight").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, false).await;
    let cx = sandbox.context(None);
    let good = deploy(&sandbox.name, image(first)).with("desired", 1).ready();
    let good = sandbox.run(&KIND, &good, &cx).await.unwrap().receipt;
    // Tasks that exit after a moment keep it under way for ever.
    let bad = deploy(&sandbox.name, image(second).env(&[("EXIT", "1"), ("AFTER", "2")])).ready();
    let proposal = sandbox.plan(&KIND, &bad, &sandbox.context(Some(good.clone()))).await.unwrap();
    let standing = proposal.standing.clone();
    assert_eq!(standing["taskDefinition"], good["taskDefinition"]);
    assert!(sandbox.die(proposal.effect.unwrap(), &cx, "updated").await);

    let proposal = back(&cx, &Value::Null, &standing).await.unwrap();
    assert_eq!(proposal.summary, "roll 1 task back");
    let done = go(proposal, &cx).await;
    assert_eq!(done.summary, format!("1 of 1 task of {}:1 runs", sandbox.name));
    sandbox.close().await;
}

#[tokio::test]
async fn a_deploy_that_nobody_saw_the_end_of_is_neither_lost_nor_repeated() {
    let Some((sandbox, faults)) = Sandbox::with_faults("died").await else { return };
    let [first, second] = sandbox.images().await;
    sandbox.service(&sandbox.definition(first, &[]), 0, true).await;
    let cx = sandbox.context(None);
    let ready = deploy(&sandbox.name, image(second)).with("desired", 2).ready();
    let proposal = sandbox.plan(&KIND, &ready, &cx).await.unwrap();
    let nothing = settle(&ready, &sandbox.announced(&proposal), &cx).await;
    assert!(matches!(nothing, Settled::NotDone), "{nothing:?}");

    // It died when the revision was registered, and somebody registered another one since.
    assert!(sandbox.die(proposal.effect.unwrap(), &cx, "registered").await);
    sandbox.cloud.ecs().await.register(&sandbox.definition(second, &[("BY", "eve")])).await.unwrap();
    let proposal = sandbox.plan(&KIND, &ready, &cx).await.unwrap();
    let registered = settle(&ready, &sandbox.announced(&proposal), &cx).await;
    assert!(matches!(registered, Settled::NotDone | Settled::Done(_)), "{registered:?}");
    assert!(proposal.subject.ends_with(":1 → :2"), "ours is found again: {}", proposal.subject);
    let registrations = faults.calls("RegisterTaskDefinition");

    // It died while ECS rolled, before and after the deployment's id was noted.
    assert!(sandbox.die(proposal.effect.unwrap(), &cx, "updated").await);
    let mut open = sandbox.announced(&sandbox.plan(&KIND, &ready, &cx).await.unwrap());
    open.notes.retain(|(key, _)| key != "updated");
    let Settled::Done(done) = settle(&ready, &open, &cx).await else { panic!("it was made") };
    assert_eq!(done.summary, runs(&sandbox, 2, 2));
    assert_eq!(done.outputs["revision"].as_text().unwrap(), "2");
    let Settled::Done(again) =
        settle(&ready, &sandbox.announced(&Proposal::new(Action::Update, "")), &cx).await
    else {
        panic!("it was made")
    };
    assert_eq!(again.receipt, done.receipt);
    assert_eq!((faults.calls("RegisterTaskDefinition"), faults.calls("UpdateService")), (registrations, 1));

    // New tasks of the same definition: forced once, however often flow dies.
    let cx = sandbox.context(Some(done.receipt));
    let force = deploy(&sandbox.name, image(second)).with("force", true).ready();
    let proposal = sandbox.plan(&KIND, &force, &cx).await.unwrap();
    assert!(sandbox.die(proposal.effect.unwrap(), &cx, "updated").await);
    for noted in [false, true] {
        let mut open = sandbox.announced(&Proposal::new(Action::Update, ""));
        if !noted {
            open.notes.pop();
        }
        let settled = settle(&force, &open, &cx).await;
        assert!(matches!(settled, Settled::Done(_)), "{settled:?}");
    }
    assert_eq!((faults.calls("RegisterTaskDefinition"), faults.calls("UpdateService")), (registrations, 2));

    // One that ECS gave up was not made.
    let bad = deploy(&sandbox.name, image(second).env(&[("EXIT", "3")])).ready();
    let proposal = sandbox.plan(&KIND, &bad, &cx).await.unwrap();
    assert!(sandbox.die(proposal.effect.unwrap(), &cx, "updated").await);
    let settled = settle(&bad, &sandbox.announced(&Proposal::new(Action::Update, "")), &cx).await;
    assert!(matches!(settled, Settled::NotDone), "{settled:?}");
    // Answered after all that was said before it.
    cx.feed.note("heard", Value::Null).await.unwrap();
    assert!(
        // Waited for, or given up before anybody looked.
        sandbox
            .told()
            .iter()
            .any(|line| ["ECS rolled it back to", "ECS gave up"].iter().any(|said| line.starts_with(said))),
        "{:?}",
        sandbox.told()
    );
    sandbox.close().await;
}
