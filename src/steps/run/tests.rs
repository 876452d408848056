//! Steps made by hand from their table, planned and applied in a folder of their own.

use std::time::Duration;

use super::*;
use crate::model::names::StepId;
use crate::model::secret::Secret;
use crate::model::settings::Given;
use crate::steps::attributes::Globs;
use crate::steps::testing::Bench;
use crate::syntax::source::Span;

fn known(text: &str) -> Field<Value> {
    Field::Known(Value::text(text))
}

fn command(words: &[&str]) -> Ready {
    let mut ready = Ready::default();
    ready.insert("command", Given::Many(words.iter().map(|w| known(w)).collect()), Span::default());
    ready
}

fn script(text: &str) -> Ready {
    let mut ready = Ready::default();
    ready.insert("script", Given::Script(text.to_owned()), Span::default());
    ready
}

async fn plan(bench: &Bench, ready: &Ready, attributes: &Attributes) -> Proposal {
    make(ready, attributes).unwrap().plan(&bench.cx).await.unwrap()
}

async fn apply(bench: &Bench, ready: &Ready, attributes: &Attributes) -> Result<Done, Failure> {
    plan(bench, ready, attributes).await.effect.unwrap().apply(&bench.cx).await
}

#[tokio::test]
async fn the_plan_shows_what_would_run() {
    let bench = Bench::new();
    let none = Attributes::default();
    let proposal = plan(&bench, &command(&["cargo", "test", "--locked"]), &none).await;
    assert_eq!((proposal.action, proposal.summary.as_str()), (Action::Run, "cargo test --locked"));
    assert_eq!(proposal.reversible, Reversible::Manual);
    assert_eq!(plan(&bench, &script("a\nb\n"), &none).await.summary, "sh script, 2 lines");

    let makes_files = Attributes { inputs: Some(Globs::default()), ..Attributes::default() };
    assert_eq!(plan(&bench, &command(&["true"]), &makes_files).await.reversible, Reversible::None);
    let undone = Attributes { undo: Some(vec!["false".to_owned()]), ..Attributes::default() };
    assert_eq!(plan(&bench, &command(&["true"]), &undone).await.reversible, Reversible::Auto);
    let unknown = Attributes {
        env: vec![("A".to_owned(), Field::After(StepId::parse("image")))],
        ..Attributes::default()
    };
    assert!(plan(&bench, &command(&["true"]), &unknown).await.effect.is_none());
}

#[tokio::test]
async fn a_probe_decides() {
    let bench = Bench::new();
    let probed =
        |program: &str| Attributes { probe: Some(vec![program.to_owned()]), ..Attributes::default() };
    assert_eq!(plan(&bench, &command(&["x"]), &probed("true")).await.action, Action::UpToDate);
    assert_eq!(plan(&bench, &command(&["x"]), &probed("false")).await.action, Action::Run);
}

#[tokio::test]
async fn a_script_gets_its_variables_and_hands_on_outputs() {
    let mut bench = Bench::new();
    let attributes = Attributes {
        env: vec![
            ("NAME".to_owned(), known("a b")),
            ("PASS".to_owned(), Field::Known(Value::Secret(Secret::new("swordfish")))),
        ],
        inherit: vec!["GIVEN".to_owned()],
        files: vec![("KEY_FILE".to_owned(), Secret::new("private-key-text"))],
        inputs: Some(Globs::default()),
        ..Attributes::default()
    };
    let text = r#"
        echo "$NAME $PASS $GIVEN $LANG $TZ ${HIDDEN-unset}"
        stat -c %a "$KEY_FILE"; cat "$KEY_FILE"; echo
        echo "name=$NAME" >> "$FLOW_OUTPUT"
        echo "leak=x-$PASS" >> "$FLOW_OUTPUT""#;
    let done = apply(&bench, &script(text), &attributes).await.unwrap();
    assert_eq!(done.outputs["name"], Value::text("a b"));
    assert!(done.outputs["leak"].is_secret());
    assert_eq!(bench.heard().await, ["a b *** given C.UTF-8 UTC unset", "600", "***"]);
    assert_eq!(std::fs::read_dir(bench.root().join(".flow/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_failure_shows_its_code_and_the_last_lines() {
    let bench = Bench::new();
    let none = Attributes::default();
    let failure = apply(&bench, &script("seq 1 15; false; echo never"), &none).await.unwrap_err();
    assert_eq!(failure.record.reason, "exited with 1");
    assert_eq!(failure.record.details, (6..=15).map(|n| n.to_string()).collect::<Vec<_>>());
    let mut bash = script("false | true");
    bash.insert("shell", Given::One(known("bash")), Span::default());
    assert_eq!(apply(&bench, &bash, &none).await.unwrap_err().record.reason, "exited with 1");
    let failure = apply(&bench, &script("echo nonsense >> $FLOW_OUTPUT"), &none).await.unwrap_err();
    assert!(failure.record.reason.contains("line 1 of its outputs"), "{}", failure.record.reason);
    let failure = apply(&bench, &command(&["no-such-program"]), &none).await.unwrap_err();
    assert!(failure.record.help.unwrap().starts_with("install no-such-program"));
}

#[tokio::test]
async fn input_folder_and_time() {
    let mut bench = Bench::new();
    std::fs::create_dir(bench.root().join("sub")).unwrap();
    let mut ready = command(&["sh", "-c", "cat; basename $PWD"]);
    ready.insert("dir", Given::One(known("sub")), Span::default());
    ready.insert("stdin", Given::One(known("typed\n")), Span::default());
    apply(&bench, &ready, &Attributes::default()).await.unwrap();
    assert_eq!(bench.heard().await, ["typed", "sub"]);
    let short = Attributes { timeout: Some(Duration::from_millis(50)), ..Attributes::default() };
    let failure = apply(&bench, &command(&["sleep", "100"]), &short).await.unwrap_err();
    assert_eq!(failure.record.reason, "not done after 0.1s, and stopped");
}

#[test]
fn the_table_is_consistent() {
    let spec = &KIND.spec;
    for rule in spec.rules {
        let names: Vec<&str> = match rule {
            Rule::OneOf(names) | Rule::AtMostOne(names) => names.to_vec(),
            Rule::Needs(a, b) => vec![a, b],
        };
        assert!(names.iter().all(|name| spec.setting(name).is_some()), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_steps_cost_little() {
    let bench = Bench::new();
    let start = std::time::Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        if running.len() >= 8 {
            running.join_next().await.unwrap().unwrap();
        }
        let cx = bench.cx.clone();
        running.spawn(async move {
            let step = make(&command(&["true"]), &Attributes::default()).unwrap();
            step.plan(&cx).await.unwrap().effect.unwrap().apply(&cx).await.unwrap();
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    println!("1000 steps in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_program_gets_the_account_only_when_asked() {
    let Ok(endpoint) = std::env::var("SANDBOX_ENDPOINT") else {
        println!("skipped: SANDBOX_ENDPOINT is not set (source the sandbox's environment)");
        return;
    };
    let mut bench = Bench::new();
    bench.cx.cloud = Bench::sandbox(&endpoint);
    let text = script("env | grep ^AWS_ | cut -d= -f1 | sort; echo ${AWS_ENDPOINT_URL-none}");
    apply(&bench, &text, &Attributes::default()).await.unwrap();
    assert_eq!(bench.heard().await, ["none"]);
    let attributes = Attributes { aws: true, ..Attributes::default() };
    apply(&bench, &text, &attributes).await.unwrap();
    let names = ["ACCESS_KEY_ID", "DEFAULT_REGION", "ENDPOINT_URL", "REGION", "SECRET_ACCESS_KEY"];
    let wanted: Vec<String> = names.iter().map(|name| format!("AWS_{name}")).chain([endpoint]).collect();
    assert_eq!(bench.heard().await, wanted);
}
