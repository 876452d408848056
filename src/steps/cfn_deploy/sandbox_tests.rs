//! Stacks, really created and changed.

use serde_json::{Value as Json, json};

use super::KIND;
use crate::model::change::Action;
use crate::model::secret::Secret;
use crate::model::settings::Ready;
use crate::model::value::Value;
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{Attributes, Back, Context, FailureClass, Open, Settled, Step, Way};

const TEMPLATE: &str = "Parameters:
  Name:
    Type: String
  Days:
    Type: Number
    Default: 7
Resources:
  Group:
    Type: AWS::Logs::LogGroup
    Properties:
      LogGroupName: !Ref Name
      RetentionInDays: !Ref Days
  Other:
    Type: AWS::Logs::LogGroup
    Properties:
      LogGroupName: !Sub '${Name}-other'
Outputs:
  Group:
    Value: !Ref Group
";

const FAILING: &str = "Resources:
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Never:
    Type: AWS::CloudFormation::WaitCondition
    Properties:
      Handle: !Ref Handle
      Timeout: '1'
      Count: 1
";

pub(super) struct Stack(pub(super) Bench);

impl Stack {
    pub(super) fn new(name: &str) -> Option<Self> {
        Some(Self(Bench::new(name)?))
    }

    pub(super) fn settings(&self) -> Settings {
        Settings::default().one("stack", self.0.unique.as_str()).one("template", "stack.yaml")
    }

    pub(super) fn named(&self, more: Vec<(&str, Value)>) -> Ready {
        let mut pairs = vec![("Name", Value::text(&self.0.unique))];
        pairs.extend(more);
        self.settings().map("parameter", pairs).ready()
    }

    /// Those that nobody has executed.
    async fn change_sets(&self) -> usize {
        let call = self.0.aws().await.cloudformation.list_change_sets().stack_name(&self.0.unique);
        let listed = call.send().await.expect("listed");
        let open = |set: &&aws_sdk_cloudformation::types::ChangeSetSummary| {
            set.execution_status().is_none_or(|status| !status.as_str().starts_with("EXECUTE_"))
        };
        listed.summaries().iter().filter(open).count()
    }

    pub(super) async fn delete(&self) {
        let call = self.0.aws().await.cloudformation.delete_stack().stack_name(&self.0.unique);
        call.send().await.expect("deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_created_kept_changed_and_shrunk() {
    let Some(stack) = Stack::new("stack") else { return };
    let bench = &stack.0;
    bench.write("stack.yaml", TEMPLATE);
    let cx = bench.context(None);

    let (plan, done) = bench.run(&KIND, &stack.named(vec![]), &cx).await.expect("created");
    assert_eq!((plan.action, plan.summary.as_str()), (Action::Create, "2 resources"));
    assert_eq!(done.summary, "created, 2 resources");
    assert_eq!(done.outputs.get("Group"), Some(&Value::text(&bench.unique)));
    assert!(
        bench.output().iter().any(|line| line.starts_with("CREATE_COMPLETE Group")),
        "{:?}",
        bench.output()
    );

    let again = bench.plan(&KIND, &stack.named(vec![]), &cx).await.expect("planned");
    assert_eq!(again.action, Action::UpToDate, "{again:?}");
    assert_eq!(again.outputs, done.outputs);

    bench.write("stack.yaml", format!("# only a comment\n{TEMPLATE}"));
    let comment = bench.plan(&KIND, &stack.named(vec![]), &cx).await.expect("planned");
    assert_eq!(comment.action, Action::UpToDate, "{comment:?}");

    let longer = stack.named(vec![("Days", Value::Int(14))]);
    let changed = bench.plan(&KIND, &longer, &cx).await.expect("planned");
    assert_eq!(changed.action, Action::Update, "{changed:?}");
    assert_eq!(changed.changes[0].to_string(), "parameter Days  7 → 14");
    assert!(changed.changes.iter().any(|change| change.what == "Group (AWS::Logs::LogGroup)"));
    assert_eq!(stack.change_sets().await, 0, "a plan leaves nothing behind");
    bench.run(&KIND, &longer, &cx).await.expect("changed");
    let again = bench.plan(&KIND, &longer, &cx).await.expect("planned");
    assert_eq!(again.action, Action::UpToDate, "{again:?}");

    let (start, rest) = TEMPLATE.split_once("  Other:").expect("two resources");
    let (_, outputs) = rest.split_once("Outputs:").expect("outputs");
    bench.write("stack.yaml", format!("{start}Outputs:{outputs}"));
    let smaller = bench.plan(&KIND, &longer, &cx).await.expect("planned");
    assert_eq!((smaller.action, smaller.summary.as_str()), (Action::Delete, "1 removed"));
    assert_eq!(smaller.warnings.len(), 1);
    stack.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_is_refused_when_the_stack_moved_on() {
    let Some(stack) = Stack::new("moved") else { return };
    let bench = &stack.0;
    bench.write("stack.yaml", TEMPLATE);
    let cx = bench.context(None);
    bench.run(&KIND, &stack.named(vec![]), &cx).await.expect("created");
    let longer = stack.named(vec![("Days", Value::Int(14))]);
    let mut planned = bench.plan(&KIND, &longer, &cx).await.expect("planned");
    let (start, rest) = TEMPLATE.split_once("  Other:").expect("two resources");
    let (_, outputs) = rest.split_once("Outputs:").expect("outputs");
    bench.write("stack.yaml", format!("{start}Outputs:{outputs}"));
    bench.run(&KIND, &stack.named(vec![]), &cx).await.expect("changed by somebody else");

    let failure = planned.effect.take().expect("an effect").apply(&cx).await.expect_err("refused");
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.record.details.iter().any(|line| line.contains("now: Other")), "{failure:?}");
    assert_eq!(stack.change_sets().await, 0);
    stack.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_creation_says_why_and_what_to_do() {
    let Some(stack) = Stack::new("failing") else { return };
    let bench = &stack.0;
    bench.write("stack.yaml", FAILING);
    let cx = bench.context(None);
    let ready = stack.settings().ready();
    let failure = bench.run(&KIND, &ready, &cx).await.expect_err("failed");
    assert!(failure.record.reason.contains("could not be created"), "{failure:?}");
    assert!(
        failure.record.details[0].starts_with("Never (AWS::CloudFormation::WaitCondition)"),
        "{failure:?}"
    );
    let help = failure.record.help.expect("help");
    assert!(help.contains(&format!("delete-stack --stack-name {}", bench.unique)), "{help}");

    let failure = bench.plan(&KIND, &ready, &cx).await.expect_err("stuck");
    assert!(failure.record.reason.contains("ROLLBACK_COMPLETE"), "{failure:?}");
    stack.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_change_is_taken_back_and_a_running_one_is_left_alone() {
    let Some(stack) = Stack::new("update") else { return };
    let bench = &stack.0;
    bench.write("stack.yaml", "Resources:\n  Handle:\n    Type: AWS::CloudFormation::WaitConditionHandle\n");
    let cx = bench.context(None);
    let ready = stack.settings().ready();
    bench.run(&KIND, &ready, &cx).await.expect("created");
    bench.write("stack.yaml", FAILING.replace("'1'", "'2'"));
    let mut plan = bench.plan(&KIND, &ready, &cx).await.expect("planned");
    assert_eq!(plan.summary, "1 new");
    let effect = plan.effect.take().expect("an effect");
    let running = tokio::spawn({
        let cx = cx.clone();
        async move { effect.apply(&cx).await }
    });
    let clock = crate::world::clock::Clock;
    let began = clock.moment();
    let busy = loop {
        match bench.plan(&KIND, &ready, &cx).await {
            Err(failure) => break failure,
            Ok(_) => assert!(began.elapsed().as_secs() < 10, "it never became busy"),
        }
    };
    assert!(busy.record.reason.contains("being changed by somebody else"), "{busy:?}");
    assert_eq!(busy.class, crate::steps::FailureClass::Locked);
    let failure = running.await.expect("joined").expect_err("failed");
    assert!(failure.record.reason.contains("put it back as it was"), "{failure:?}");
    assert!(failure.record.details[0].starts_with("Never ("), "{failure:?}");
    stack.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_and_parameters_are_checked_first() {
    let Some(stack) = Stack::new("checks") else { return };
    let bench = &stack.0;
    let cx = bench.context(None);
    let reason =
        async |ready: &Ready| bench.plan(&KIND, ready, &cx).await.expect_err("refused").record.reason;
    assert!(reason(&stack.named(vec![])).await.contains("stack.yaml"), "a missing file is named");
    bench.write("stack.yaml", "Resources:\n  A:\n    Type: [\n");
    assert!(reason(&stack.named(vec![])).await.contains("stack.yaml cannot be read: line "));
    bench.write("stack.yaml", TEMPLATE);
    assert!(reason(&stack.named(vec![("Nam", Value::text("x"))])).await.contains("no parameter Nam"));
    let secret = Value::Secret(Secret::new("s3cr3t"));
    assert!(reason(&stack.named(vec![("Days", secret)])).await.contains("would show it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_parameters_are_compared_by_cloudformation_and_shown_nowhere() {
    let Some(stack) = Stack::new("hidden") else { return };
    let bench = &stack.0;
    let template = TEMPLATE.replace("  Days:\n", "  Key:\n    Type: String\n    NoEcho: true\n  Days:\n");
    bench.write("stack.yaml", template);
    let cx = bench.context(None);
    let with = |key: &str| stack.named(vec![("Key", Value::Secret(Secret::new(key)))]);
    let (plan, done) = bench.run(&KIND, &with("s3cr3t-1"), &cx).await.expect("created");
    let again = bench.plan(&KIND, &with("s3cr3t-1"), &cx).await.expect("planned");
    assert_eq!(again.action, Action::UpToDate, "{again:?}");
    assert_eq!(stack.change_sets().await, 0);
    let shown = format!("{:?} {} {} {:?}", plan.changes, plan.baseline, done.receipt, bench.output());
    assert!(!shown.contains("s3cr3t"), "{shown}");
    stack.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_are_settled() {
    for action in ["CreateChangeSet", "ExecuteChangeSet"] {
        let Some((bench, lost)) = Bench::losing("lost", &[&format!("Action={action}&")]).await else {
            return;
        };
        let stack = Stack(bench);
        stack.0.write("stack.yaml", TEMPLATE);
        let cx = stack.0.context(None);
        let ready = stack.named(vec![]);
        let (_, done) = stack.0.run(&KIND, &ready, &cx).await.expect(action);
        assert!(lost.happened(), "{action}");
        assert_eq!(done.summary, "created, 2 resources", "{action}");
        assert_eq!(stack.0.plan(&KIND, &ready, &cx).await.expect("planned").action, Action::UpToDate);
        stack.delete().await;
    }
}

pub(super) fn back(now: &Json, to: Option<&Json>) -> Box<dyn Step> {
    let Back::To(back) = KIND.back else { panic!("it returns to states") };
    back(&Way { now: now.clone(), to: to.cloned() }).expect("a state")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_returns_to_what_a_release_records() {
    let Some(stack) = Stack::new("back") else { return };
    let bench = &stack.0;
    let template = TEMPLATE.replace("  Days:\n", "  Key:\n    Type: String\n    NoEcho: true\n  Days:\n");
    bench.write("stack.yaml", &template);
    let cx = bench.context(None);
    let with = |key: &str, days: i64| {
        stack.named(vec![("Key", Value::Secret(Secret::new(key))), ("Days", Value::Int(days))])
    };
    let (first, a) = bench.run(&KIND, &with("s3cr3t-1", 7), &cx).await.expect("created");
    assert_eq!(first.standing, Json::Null);
    assert_eq!(first.inputs.keys().collect::<Vec<_>>(), ["stack.yaml"]);
    let more = "  More:\n    Type: AWS::Logs::LogGroup\n    Properties:\n      LogGroupName: !Sub '${Name}-more'\nOutputs:";
    bench.write("stack.yaml", template.replace("Outputs:", more));
    let cx = bench.context(Some(a.receipt.clone()));
    let (second, b) = bench.run(&KIND, &with("s3cr3t-2", 14), &cx).await.expect("changed");
    assert_eq!(second.standing, a.receipt, "what is replaced can be returned to");

    // What was added would have to be deleted.
    let cx = bench.context(Some(b.receipt.clone()));
    let failure = back(&b.receipt, Some(&a.receipt)).plan(&cx).await.expect_err("refused");
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.record.details[0].starts_with("More (AWS::Logs::LogGroup)"), "{failure:?}");
    assert_eq!(stack.change_sets().await, 0);

    // A change of parameters goes back, without the checkout and without the secret.
    bench.write("stack.yaml", &template);
    bench.run(&KIND, &with("s3cr3t-2", 7), &cx).await.expect("without More");
    let (_, c) = bench.run(&KIND, &with("s3cr3t-2", 14), &cx).await.expect("fourteen days");
    bench.remove("stack.yaml");
    let cx = bench.context(Some(c.receipt.clone()));
    let step = back(&c.receipt, Some(&a.receipt));
    let mut planned = step.plan(&cx).await.expect("planned");
    assert_eq!(planned.changes[0].to_string(), "parameter Days  14 → 7");
    let kept = "the secret parameter Key keeps the value that it has now";
    assert_eq!(planned.warnings.last().map(String::as_str), Some(kept));
    assert_eq!(planned.baseline, step.observe(&cx).await.expect("observed"));
    let done = planned.effect.take().expect("an effect").apply(&cx).await.expect("returned");
    assert_eq!(done.receipt["parameters"], a.receipt["parameters"]);
    assert_eq!(done.receipt["template"], a.receipt["template"]);
    assert_eq!(
        step.plan(&bench.context(Some(done.receipt))).await.expect("planned").action,
        Action::UpToDate
    );

    let failure = back(&c.receipt, None).plan(&cx).await.expect_err("it would be deleted");
    assert!(failure.record.reason.contains("was made since"), "{failure:?}");
    stack.delete().await;
    let failure = back(&c.receipt, Some(&a.receipt)).plan(&cx).await.expect_err("gone");
    assert_eq!(failure.class, FailureClass::Missing);
    let gone = back(&c.receipt, None).plan(&cx).await.expect("nothing to delete");
    assert_eq!(gone.action, Action::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_needs_no_template_and_says_the_same() {
    let Some(stack) = Stack::new("observe") else { return };
    let bench = &stack.0;
    let cx = bench.context(None);
    let ready = stack.named(vec![]);
    let step = (KIND.make)(&ready, &Attributes::default()).expect("made");
    let before = step.observe(&cx).await.expect("observed");
    bench.write("stack.yaml", TEMPLATE);
    assert_eq!(step.plan(&cx).await.expect("planned").baseline, before);
    bench.run(&KIND, &ready, &cx).await.expect("created");
    let after = step.observe(&cx).await.expect("observed");
    assert_ne!(after, before);
    assert_eq!(step.plan(&cx).await.expect("planned").baseline, after);
    // A store that does not know the template yet gets it.
    std::fs::remove_dir_all(bench.path(".flow/store/sources")).expect("removed");
    let planned = step.plan(&cx).await.expect("planned");
    assert_eq!((planned.action, planned.effect.is_some()), (Action::UpToDate, true));
    let done = planned.effect.expect("upkeep").apply(&cx).await.expect("kept");
    assert_eq!(done.receipt, planned.receipt);
    assert!(step.plan(&cx).await.expect("planned").effect.is_none());
    stack.delete().await;
}

pub(super) async fn settle(step: &dyn Step, notes: &[(&str, Json)], cx: &Context) -> Settled {
    let open = Open {
        intent: crate::journal::replay::OpenIntent {
            attempt: 1,
            action: Action::Update,
            summary: String::new(),
            baseline: Json::Null,
            standing: Json::Null,
            since: cx.world.clock.now(),
        },
        notes: notes.iter().map(|(key, data)| ((*key).to_owned(), data.clone())).collect(),
    };
    step.reconcile(&open, cx).await.expect("asked")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_change_is_found_and_waited_for() {
    let Some(stack) = Stack::new("settle") else { return };
    let bench = &stack.0;
    bench.write("stack.yaml", TEMPLATE);
    let cx = bench.context(None);
    let ready = stack.named(vec![]);
    let step = (KIND.make)(&ready, &Attributes::default()).expect("made");
    assert!(matches!(settle(step.as_ref(), &[], &cx).await, Settled::NotDone));

    let (_, done) = bench.run(&KIND, &ready, &cx).await.expect("created");
    let note = bench.note("executing").expect("noted");
    let Settled::Done(found) = settle(step.as_ref(), &[("executing", note.clone())], &cx).await else {
        panic!("it was executed");
    };
    assert_eq!((found.receipt, found.outputs), (done.receipt, done.outputs));

    // Another one takes the set away; the stack's events still name it, or nothing was done.
    let longer = stack.named(vec![("Days", Value::Int(14))]);
    bench.run(&KIND, &longer, &cx).await.expect("changed");
    let never = json!({ "stack": note["stack"], "set": "flow-never-executed" });
    assert!(matches!(settle(step.as_ref(), &[("executing", never)], &cx).await, Settled::NotDone));

    // A change that CloudFormation still works on, and that fails.
    bench.write("stack.yaml", FAILING.replace("'1'", "'2'"));
    let ready = stack.settings().ready();
    let mut planned = bench.plan(&KIND, &ready, &cx).await.expect("planned");
    let effect = planned.effect.take().expect("an effect");
    let running = tokio::spawn({
        let cx = cx.clone();
        async move { effect.apply(&cx).await }
    });
    let last = loop {
        let noted = bench.note("executing").expect("one before");
        if noted != note && bench.note("executed").is_some_and(|_| bench.progress().is_some()) {
            break noted;
        }
        tokio::task::yield_now().await;
    };
    let step = (KIND.make)(&ready, &Attributes::default()).expect("made");
    assert!(matches!(settle(step.as_ref(), &[("executing", last)], &cx).await, Settled::NotDone));
    running.await.expect("joined").expect_err("failed");
    stack.delete().await;
}
