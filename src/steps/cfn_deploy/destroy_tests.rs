//! Stacks, really deleted: what goes, what stays, what is refused, and how it ends.

use aws_sdk_cloudformation::types::StackStatus;
use aws_sdk_ecr::types::ImageIdentifier;
use serde_json::{Value as Json, json};

use super::KIND;
use super::sandbox_tests::{Stack, back, settle};
use crate::model::change::{Action, Reversible};
use crate::model::secret::Secret;
use crate::model::settings::Ready;
use crate::model::value::Value;
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{Attributes, Context, FailureClass, Proposal, Settled, Step};

const TEMPLATE: &str = "Parameters:
  Name:
    Type: String
  Key:
    Type: String
    NoEcho: true
    Default: none
Resources:
  Group:
    Type: AWS::Logs::LogGroup
    Properties:
      LogGroupName: !Ref Name
  Kept:
    Type: AWS::Logs::LogGroup
    DeletionPolicy: Retain
    Properties:
      LogGroupName: !Sub '${Name}-kept'
Outputs:
  Group:
    Value: !Ref Group
    Export:
      Name: !Sub '${Name}-group'
";

const BUCKET: &str = "Parameters:
  Name:
    Type: String
Resources:
  Uploads:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: !Ref Name
";

const REPOSITORY: &str = "Parameters:
  Name:
    Type: String
Resources:
  Images:
    Type: AWS::ECR::Repository
    Properties:
      RepositoryName: !Ref Name
";

/// The same stack, and nothing of it left.
fn gone(stack: &Stack, protect: &[&str]) -> Ready {
    let settings = stack.settings().one("destroy", true);
    if protect.is_empty() { settings.ready() } else { settings.many("protect", protect).ready() }
}

fn step(ready: &Ready) -> Box<dyn Step> {
    (KIND.make)(ready, &Attributes::default()).expect("made")
}

async fn deploy(stack: &Stack, template: &str, cx: &Context) -> Json {
    stack.0.write("stack.yaml", template);
    stack.0.run(&KIND, &stack.named(vec![]), cx).await.expect("created").1.receipt
}

async fn planned(stack: &Stack, protect: &[&str], cx: &Context) -> Proposal {
    stack.0.plan(&KIND, &gone(stack, protect), cx).await.expect("planned")
}

async fn groups(bench: &Bench) -> Vec<String> {
    let call = bench.aws().await.logs.describe_log_groups().log_group_name_prefix(&bench.unique);
    let found = call.send().await.expect("listed");
    found.log_groups().iter().filter_map(|group| group.log_group_name()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_but_what_the_template_retains() {
    let Some(stack) = Stack::new("destroy") else { return };
    let bench = &stack.0;
    let cx = bench.context(None);
    let receipt = deploy(&stack, TEMPLATE, &cx).await;
    // Nobody needs the template for it.
    bench.remove("stack.yaml");
    let cx = bench.context(Some(receipt.clone()));
    let mut plan = planned(&stack, &[], &cx).await;
    assert_eq!((plan.action, plan.summary.as_str()), (Action::Delete, "1 deleted, 1 stays"));
    assert_eq!((plan.subject.as_str(), plan.reversible), (bench.unique.as_str(), Reversible::Manual));
    let shown: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    let name = &bench.unique;
    assert_eq!(
        shown,
        [
            format!("Group (AWS::Logs::LogGroup)  {name} → none"),
            "Kept (AWS::Logs::LogGroup)  leaves the stack, and stays".to_owned()
        ]
    );
    let stays = format!("Kept (AWS::Logs::LogGroup) stays, and belongs to no stack then: {name}-kept");
    assert_eq!(plan.warnings, [stays]);
    assert_eq!(plan.standing, receipt, "what goes can be returned to");
    assert_eq!(plan.baseline, step(&gone(&stack, &[])).observe(&cx).await.expect("observed"));
    assert!(plan.held.is_none() && plan.inputs.is_empty());
    assert_eq!(groups(bench).await.len(), 2, "a plan deletes nothing");

    let done = plan.effect.take().expect("an effect").apply(&cx).await.expect("deleted");
    assert_eq!((done.summary.as_str(), &done.receipt), ("1 deleted, 1 stays", &Json::Null));
    assert!(done.outputs.is_empty());
    // Lines are heard in order: this note is behind all of them.
    cx.feed.note("read", Json::Null).await.expect("noted");
    let said = bench.output();
    for line in ["DELETE_COMPLETE Group", "DELETE_SKIPPED Kept"] {
        assert!(said.iter().any(|said| said.starts_with(line)), "{said:?}");
    }
    assert_eq!(groups(bench).await, [format!("{name}-kept")]);

    let again = planned(&stack, &[], &cx).await;
    assert_eq!((again.action, again.summary), (Action::UpToDate, format!("there is no stack {name}")));
    assert!(again.effect.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_was_never_there_is_up_to_date() {
    let Some(stack) = Stack::new("never") else { return };
    let plan = planned(&stack, &[], &stack.0.context(None)).await;
    assert_eq!((plan.action, &plan.standing), (Action::UpToDate, &Json::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_data_is_refused_by_name_also_in_a_nested_stack() {
    let Some(stack) = Stack::new("protected") else { return };
    let bench = &stack.0;
    let (name, cx) = (&bench.unique, bench.context(None));
    let s3 = &bench.aws().await.s3;
    let templates = format!("{name}-templates");
    s3.create_bucket().bucket(&templates).send().await.expect("a bucket");
    let body = BUCKET.as_bytes().to_vec().into();
    s3.put_object().bucket(&templates).key("inner.yaml").body(body).send().await.expect("put");
    let url =
        format!("{}/{templates}/inner.yaml", cx.cloud.target().endpoint.as_deref().expect("an endpoint"));
    let outer = format!(
        "Parameters:\n  Name:\n    Type: String\nResources:\n  Inner:\n    Type: AWS::CloudFormation::Stack\n    \
         Properties:\n      TemplateURL: {url}\n      Parameters:\n        Name: !Ref Name\n"
    );
    deploy(&stack, &outer, &cx).await;

    let failure = bench.plan(&KIND, &gone(&stack, &[]), &cx).await.expect_err("refused");
    assert_eq!(failure.class, FailureClass::Refused);
    assert_eq!(failure.record.reason, "this would replace or delete a protected resource");
    assert_eq!(failure.record.details, ["Inner/Uploads  there → none"]);
    for named in ["AWS::S3::Bucket", "Uploads", "Inner"] {
        let failure = bench.plan(&KIND, &gone(&stack, &["none", named]), &cx).await.expect_err(named);
        assert!(failure.record.details[0].starts_with("Inner"), "{failure:?}");
    }
    let mut free = planned(&stack, &["none"], &cx).await;
    assert_eq!(free.summary, "2 deleted");
    free.effect.take().expect("an effect").apply(&cx).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_keeps_itself_and_one_whose_exports_are_in_use_are_named() {
    let Some(stack) = Stack::new("obstacles") else { return };
    let bench = &stack.0;
    let (name, cx) = (&bench.unique, bench.context(None));
    deploy(&stack, TEMPLATE, &cx).await;
    let cloudformation = &bench.aws().await.cloudformation;

    let protection = async |on: bool| {
        let call = cloudformation.update_termination_protection().stack_name(name);
        call.enable_termination_protection(on).send().await.expect("switched");
    };
    protection(true).await;
    let failure = bench.plan(&KIND, &gone(&stack, &[]), &cx).await.expect_err("refused");
    assert_eq!(failure.class, FailureClass::Refused);
    assert_eq!(failure.record.reason, format!("the stack {name} has termination protection"));
    assert!(failure.record.help.is_some_and(|help| help.contains("--no-enable-termination-protection")));
    protection(false).await;

    let taker = format!("{name}-taker");
    let template = format!(
        "Resources:\n  P:\n    Type: AWS::SSM::Parameter\n    Properties:\n      Type: String\n      \
         Name: {name}\n      Value: !ImportValue {name}-group\n"
    );
    let call = cloudformation.create_stack().stack_name(&taker).template_body(template);
    call.send().await.expect("asked");
    until(bench, &taker, &StackStatus::CreateComplete).await;
    let plan = planned(&stack, &[], &cx).await;
    let held = plan.held.expect("held");
    assert_eq!(held.class, FailureClass::Refused);
    assert_eq!(held.record.reason, "this would delete an export that is still in use");
    assert_eq!(held.record.details, [format!("{name}-group of {name} is imported by {taker}")]);

    // CloudFormation says the same to who asks all the same.
    let failure = plan.effect.expect("an effect").apply(&cx).await.expect_err("refused");
    assert_eq!(failure.class, FailureClass::Refused, "{failure:?}");
    assert!(failure.record.reason.contains(&taker), "{failure:?}");

    cloudformation.delete_stack().stack_name(&taker).send().await.expect("deleted");
    assert!(planned(&stack, &[], &cx).await.held.is_none());
    stack.delete().await;
}

/// Waits until a stack is in a state.
async fn until(bench: &Bench, stack: &str, wanted: &StackStatus) {
    let clock = crate::world::clock::Clock;
    let began = clock.moment();
    loop {
        let found = bench.aws().await.cloudformation.describe_stacks().stack_name(stack).send().await;
        let found = found.expect("described");
        let status = found.stacks().first().and_then(|stack| stack.stack_status());
        if status == Some(wanted) {
            return;
        }
        assert!(began.elapsed().as_secs() < 20, "{stack} is {status:?}");
        clock.pause(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_that_the_plan_did_not_say() {
    let Some(stack) = Stack::new("drift") else { return };
    let bench = &stack.0;
    let cx = bench.context(None);
    deploy(&stack, TEMPLATE, &cx).await;
    let mut plan = planned(&stack, &[], &cx).await;
    let more = "  More:\n    Type: AWS::Logs::LogGroup\nOutputs:";
    deploy(&stack, &TEMPLATE.replace("Outputs:", more), &cx).await;

    let failure = plan.effect.take().expect("an effect").apply(&cx).await.expect_err("refused");
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.record.details[0].starts_with("now: More (AWS::Logs::LogGroup)"), "{failure:?}");
    assert_eq!(groups(bench).await.len(), 2, "and nothing went");
    assert_ne!(planned(&stack, &[], &cx).await.baseline, plan.baseline);
    stack.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_fails_names_the_resource_and_why_and_can_be_done_again() {
    let Some(stack) = Stack::new("stuck") else { return };
    let bench = &stack.0;
    let (name, cx) = (&bench.unique, bench.context(None));
    deploy(&stack, REPOSITORY, &cx).await;
    let ecr = &bench.aws().await.ecr;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": digest("44136fa3") },
        "layers": [],
    });
    let call = ecr.put_image().repository_name(name).image_tag("left").image_manifest(manifest.to_string());
    call.send().await.expect("an image in it");

    let failure = bench.run(&KIND, &gone(&stack, &[]), &cx).await.expect_err("not empty");
    assert_eq!(failure.class, FailureClass::Failed);
    assert_eq!(failure.record.reason, format!("the stack {name} could not be deleted"));
    assert!(failure.record.details[0].starts_with("Images (AWS::ECR::Repository): "), "{failure:?}");

    // It failed for good: to a run that goes on it is not done.
    let note = bench.note("deleting").expect("noted");
    let ready = gone(&stack, &[]);
    let settled = settle(step(&ready).as_ref(), &[("deleting", note)], &cx).await;
    assert!(matches!(settled, Settled::NotDone), "{settled:?}");
    let left = ImageIdentifier::builder().image_tag("left").build();
    ecr.batch_delete_image().repository_name(name).image_ids(left).send().await.expect("emptied");
    let (_, done) = bench.run(&KIND, &ready, &cx).await.expect("deleted");
    assert_eq!(done.summary, "1 deleted");
}

/// A digest that begins so.
fn digest(begin: &str) -> String {
    format!("sha256:{begin:0<64}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_deletion_is_known_by_the_stack_itself() {
    let Some(stack) = Stack::new("settled") else { return };
    let bench = &stack.0;
    let cx = bench.context(None);
    deploy(&stack, BUCKET, &cx).await;
    let ready = gone(&stack, &["none"]);
    assert!(matches!(settle(step(&ready).as_ref(), &[], &cx).await, Settled::NotDone), "nothing was asked");
    let id = planned(&stack, &["none"], &cx).await.baseline["id"].clone();
    let never = json!({ "stack": id, "name": bench.unique });
    let settled = settle(step(&ready).as_ref(), &[("deleting", never)], &cx).await;
    assert!(matches!(settled, Settled::NotDone), "it was not heard");

    bench.run(&KIND, &ready, &cx).await.expect("deleted");
    let note = bench.note("deleting").expect("noted");
    assert_eq!(note["stack"], id);
    let Settled::Done(done) = settle(step(&ready).as_ref(), &[("deleting", note.clone())], &cx).await else {
        panic!("it is gone");
    };
    assert_eq!((done.summary, done.receipt), (format!("{} deleted", bench.unique), Json::Null));

    // One of the same name that somebody made since is another stack.
    deploy(&stack, BUCKET, &cx).await;
    let settled = settle(step(&ready).as_ref(), &[("deleting", note)], &cx).await;
    assert!(matches!(settled, Settled::Done(_)), "{settled:?}");
    bench.run(&KIND, &ready, &cx).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_once_more() {
    let Some((bench, lost)) = Bench::losing("unheard", &["Action=DeleteStack&"]).await else { return };
    let stack = Stack(bench);
    let cx = stack.0.context(None);
    deploy(&stack, TEMPLATE, &cx).await;
    let (_, done) = stack.0.run(&KIND, &gone(&stack, &[]), &cx).await.expect("deleted");
    assert!(lost.happened());
    assert_eq!(done.summary, "1 deleted, 1 stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stack_returns_from_what_a_release_records() {
    let Some(stack) = Stack::new("returns") else { return };
    let bench = &stack.0;
    let cx = bench.context(None);
    let template = TEMPLATE.replace("    DeletionPolicy: Retain\n", "").replace("    Default: none\n", "");
    bench.write("stack.yaml", &template);
    let key = || Value::Secret(Secret::new("s3cr3t-1"));
    let (_, made) = bench.run(&KIND, &stack.named(vec![("Key", key())]), &cx).await.expect("created");
    let cx = bench.context(Some(made.receipt.clone()));
    let (_, done) = bench.run(&KIND, &gone(&stack, &[]), &cx).await.expect("deleted");
    bench.remove("stack.yaml");

    let mut returning = back(&done.receipt, Some(&made.receipt));
    let failure = returning.plan(&cx).await.expect_err("a secret is recorded nowhere");
    assert_eq!(failure.class, FailureClass::Missing);
    assert!(failure.record.reason.contains("its secret parameter Key is recorded nowhere"), "{failure:?}");

    returning.equip(&stack.named(vec![("Key", key())]), &Attributes::default());
    let mut plan = returning.plan(&cx).await.expect("planned");
    assert_eq!(plan.action, Action::Create);
    let anew = format!("{} is made anew: what its resources held does not come back", bench.unique);
    assert_eq!(plan.warnings, [anew]);
    let back_again = plan.effect.take().expect("an effect").apply(&cx).await.expect("made anew");
    assert_eq!(back_again.receipt["template"], made.receipt["template"]);
    assert_eq!(back_again.receipt["parameters"], made.receipt["parameters"]);
    assert_eq!(groups(bench).await.len(), 2);
    // It was gone when the release was recorded: going there is for a step that says so.
    let failure = back(&back_again.receipt, None).plan(&cx).await.expect_err("it would be deleted");
    assert!(failure.record.help.is_some_and(|help| help.contains("destroy #true")));
    stack.delete().await;
}

/// With a policy that keeps what it reads, and forbids what has this word in it.
fn judged(settings: Settings, word: &str) -> Ready {
    let script = format!("cat > seen.json; ! grep -q {word} seen.json");
    let command = Settings::default().many("command", &["sh", "-c", &script]);
    settings.nodes("policy", vec![(Value::text(""), command)]).ready()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_reads_the_plan_without_secrets_and_may_forbid_it() {
    let Some(stack) = Stack::new("policy") else { return };
    let bench = &stack.0;
    let cx = bench.context(None);
    bench.write("stack.yaml", TEMPLATE);
    let secret = Secret::new("s3cr3t-1");
    let given = |days: &str| {
        let pairs = vec![("Name", Value::text(days)), ("Key", Value::Secret(secret.clone()))];
        stack.settings().map("parameter", pairs)
    };
    let failure =
        bench.plan(&KIND, &judged(given(&bench.unique), "LogGroup"), &cx).await.expect_err("forbidden");
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.record.reason.contains("forbids this preview"), "{failure:?}");
    let seen = |bench: &Bench| -> Json {
        serde_json::from_str(&std::fs::read_to_string(bench.path("seen.json")).expect("read")).expect("JSON")
    };
    let read = seen(bench);
    let one = &read[&bench.unique];
    assert_eq!(one["action"], "create");
    assert_eq!(
        one["changes"][0],
        json!({ "what": "Group (AWS::Logs::LogGroup)", "from": null, "to": "new" })
    );
    assert_eq!(one["template"]["Resources"]["Group"]["Properties"]["LogGroupName"], json!({ "Ref": "Name" }));
    assert!(!read.to_string().contains("s3cr3t"), "{read}");

    bench.run(&KIND, &judged(given(&bench.unique), "nothing-forbidden"), &cx).await.expect("created");
    let destroying = judged(stack.settings().one("destroy", true), "delete");
    let failure = bench.plan(&KIND, &destroying, &cx).await.expect_err("forbidden");
    assert_eq!(failure.class, FailureClass::Refused);
    let read = seen(bench);
    assert_eq!(read[&bench.unique]["action"], "delete");
    assert_eq!(read[&bench.unique]["template"]["Resources"]["Kept"]["DeletionPolicy"], "Retain");
    stack.delete().await;
}
