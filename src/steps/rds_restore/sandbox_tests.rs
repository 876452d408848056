//! Restores as far as the sandbox has them: instances and snapshots are states
//! without data. A restore to a point in time is known to moto alone.

use serde_json::Value as Json;

use super::{KIND, Made, RESTORING};
use crate::journal::replay::OpenIntent;
use crate::model::change::{Action, Reversible};
use crate::model::settings::Ready;
use crate::model::value::Value;
use crate::steps::sandbox::{Bench, Settings};
use crate::steps::{Attributes, Back, Context, Done, Failure, FailureClass, Open, Proposal, Settled, Way};

/// An instance with one snapshot.
struct Database {
    bench: Bench,
}

impl Database {
    async fn new(name: &str) -> Option<Self> {
        Some(Self::on(Bench::new(name)?).await)
    }

    async fn on(bench: Bench) -> Self {
        let rds = &bench.aws().await.rds;
        let request = rds.create_db_instance().db_instance_identifier(&bench.unique);
        let request = request.db_instance_class("db.t3.micro").engine("postgres").allocated_storage(20);
        let request = request.master_username("flow").master_user_password("flowflow");
        request.send().await.expect("an instance");
        let request = rds.create_db_snapshot().db_instance_identifier(&bench.unique);
        request.db_snapshot_identifier(format!("{}-s1", bench.unique)).send().await.expect("a snapshot");
        Self { bench }
    }

    fn snapshot(&self) -> String {
        format!("{}-s1", self.bench.unique)
    }

    fn name(&self) -> String {
        format!("{}-drill", self.bench.unique)
    }

    fn settings(&self) -> Settings {
        Settings::default().one("from", "snapshot").one("as", self.name().as_str())
    }

    fn restore(&self) -> Ready {
        self.settings().one("snapshot", self.snapshot().as_str()).ready()
    }

    async fn plan(&self, ready: &Ready) -> Result<Proposal, Failure> {
        self.bench.plan(&KIND, ready, &self.bench.context(None)).await
    }

    async fn done(&self, ready: &Ready) -> Done {
        self.bench.run(&KIND, ready, &self.bench.context(None)).await.expect("restored").1
    }

    async fn exists(&self) -> bool {
        let request = self.bench.aws().await.rds.describe_db_instances();
        request.db_instance_identifier(self.name()).send().await.is_ok()
    }

    fn gated(&self, gated: bool) -> Context {
        let mut cx = self.bench.context(None);
        cx.gatekeeper.gated = gated;
        cx
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_becomes_a_new_instance_and_a_rollback_deletes_it_behind_a_gate() {
    let Some(database) = Database::new("restored").await else { return };
    let ready = database.restore();
    let plan = database.plan(&ready).await.expect("planned");
    assert_eq!((plan.action, plan.reversible), (Action::Create, Reversible::Auto));
    assert_eq!(plan.summary, format!("restore snapshot {}", database.snapshot()));
    assert_eq!(plan.changes[0].to.as_deref(), Some("db.t3.micro"), "as its source");
    let from = plan.changes[1].to.clone().expect("from");
    assert!(from.starts_with(&format!("{}, taken 20", database.snapshot())), "{from}");

    let done = database.done(&ready).await;
    assert_eq!(done.outputs["instance"], Value::text(database.name()));
    assert!(matches!(done.outputs["port"], Value::Int(port) if port > 0));
    assert!(done.outputs.contains_key("endpoint"));
    let again = database.plan(&ready).await.expect("planned");
    assert_eq!((again.action, &again.receipt), (Action::UpToDate, &done.receipt));
    assert_eq!(again.outputs, done.outputs);

    let Back::To(back) = KIND.back else { panic!("it can be taken back") };
    let way = Way { now: done.receipt.clone(), to: None };
    let refused = back(&way).expect("a way").plan(&database.gated(false)).await.expect_err("nobody is asked");
    assert_eq!(refused.class, FailureClass::Refused);
    assert!(database.exists().await);
    let cx = database.gated(true);
    let mut plan = back(&way).expect("a way").plan(&cx).await.expect("planned");
    assert_eq!((plan.action, plan.warnings.len()), (Action::Delete, 1));
    let gone = plan.effect.take().expect("something to do").apply(&cx).await.expect("deleted");
    assert_eq!((gone.summary, gone.receipt), (format!("{} is deleted", database.name()), Json::Null));
    assert!(!database.exists().await);
    let again = back(&way).expect("a way").plan(&cx).await.expect("planned");
    assert_eq!(again.action, Action::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_elses_instance_is_taken_or_deleted() {
    let Some(database) = Database::new("foreign").await else { return };
    let rds = &database.bench.aws().await.rds;
    let request = rds.create_db_instance().db_instance_identifier(database.name());
    let request = request.db_instance_class("db.t3.micro").engine("postgres").allocated_storage(20);
    request.master_username("flow").master_user_password("flowflow").send().await.expect("somebody's");
    let refused = database.plan(&database.restore()).await.expect_err("it is not ours");
    assert_eq!(refused.class, FailureClass::Refused);
    assert!(refused.record.reason.ends_with("this step did not make it"), "{}", refused.record.reason);

    let Back::To(back) = KIND.back else { panic!("it can be taken back") };
    let made = Made { instance: database.name(), resource: "db-OTHER".to_owned(), ..Made::default() };
    let way = Way { now: made.to_json(), to: None };
    let refused = back(&way).expect("a way").plan(&database.gated(true)).await.expect_err("another one");
    assert_eq!(refused.class, FailureClass::Refused);
    assert!(database.exists().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_no_second_instance_and_is_waited_for() {
    let Some((bench, lost)) = Bench::losing("lostrestore", &["RestoreDBInstanceFromDBSnapshot"]).await else {
        return;
    };
    let database = Database::on(bench).await;
    let ready = database.restore();
    let done = database.done(&ready).await;
    assert!(lost.happened());
    let cx = database.bench.context(None);
    let intent = OpenIntent {
        attempt: 1,
        action: Action::Create,
        summary: String::new(),
        baseline: Json::Null,
        standing: Json::Null,
        since: cx.world.clock.now(),
    };
    let step = (KIND.make)(&ready, &Attributes::default()).expect("a step");
    let nothing = Open { intent: intent.clone(), notes: Vec::new() };
    assert!(matches!(step.reconcile(&nothing, &cx).await.expect("asked"), Settled::NotDone), "never sent");
    let open = Open { intent, notes: vec![(RESTORING.to_owned(), Json::Null)] };
    let Settled::Done(settled) = step.reconcile(&open, &cx).await.expect("asked") else {
        panic!("it is there")
    };
    assert_eq!(settled.receipt, done.receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_with_what_was_probably_meant() {
    let Some(database) = Database::new("nosnapshot").await else { return };
    let wrong = format!("{}x", database.snapshot());
    let missing = database.plan(&database.settings().one("snapshot", wrong.as_str()).ready()).await;
    let missing = missing.expect_err("it is not there");
    assert_eq!(missing.class, FailureClass::Missing);
    assert_eq!(missing.record.help, Some(format!("did you mean {}?", database.snapshot())));
    let newest = database.settings().one("source", database.bench.unique.as_str()).ready();
    let newest = database.plan(&newest).await.expect("the newest");
    assert_eq!(newest.summary, format!("restore snapshot {}", database.snapshot()));
    let none = database.settings().one("source", "no-such-instance").ready();
    let none = database.plan(&none).await.expect_err("no snapshot");
    assert_eq!(none.record.reason, "there is no snapshot of no-such-instance that is available");
}

/// A moto of its own, ended with the test.
struct Moto {
    server: std::process::Child,
    endpoint: String,
}

impl Moto {
    /// `None`, and a line that says so, where it is not installed.
    async fn start() -> Option<Self> {
        let tools = std::env::var("SANDBOX_TOOLS").unwrap_or_default();
        let program = std::path::Path::new(&tools).join("moto_server");
        // Bound and let go: the system gives it to nobody else so soon.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("its number")
            .port();
        let mut command = std::process::Command::new(&program);
        command.args(["-p", &port.to_string()]);
        let quiet = std::process::Stdio::null;
        let Ok(server) = command.stdout(quiet()).stderr(quiet()).spawn() else {
            eprintln!("skipped: needs moto (scripts/sandbox tools)");
            return None;
        };
        let address = format!("127.0.0.1:{port}");
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Some(Self { server, endpoint: format!("http://{address}") })
    }
}

impl std::ops::Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_made_again_as_it_was_at_a_time() {
    let Some(moto) = Moto::start().await else { return };
    let bench = Bench::in_front_of("time", &moto.endpoint);
    let source = bench.unique.clone();
    let request = bench.aws().await.rds.create_db_instance().db_instance_identifier(&source);
    let request = request.db_instance_class("db.t3.micro").engine("postgres").allocated_storage(20);
    request.master_username("flow").master_user_password("flowflow").send().await.expect("an instance");
    let settings = || {
        let name = format!("{source}-then");
        Settings::default().one("from", "time").one("source", source.as_str()).one("as", name.as_str())
    };
    let cx = bench.context(None);
    let late = settings().one("time", "2999-01-01T00:00:00Z").ready();
    let late = bench.plan(&KIND, &late, &cx).await.expect_err("nobody knows that yet");
    assert_eq!(late.record.reason, format!("{source} cannot be restored to 2999-01-01T00:00:00Z yet"));
    let ready = settings().one("rpo", "5m").ready();
    let plan = bench.plan(&KIND, &ready, &cx).await.expect("planned");
    let from = plan.changes[1].to.clone().expect("from");
    assert!(from.starts_with("the newest restorable time is 20") && from.ends_with(" s ago"), "{from}");
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let same = bench.plan(&KIND, &ready, &cx).await.expect("planned");
    assert_eq!(plan.baseline, same.baseline, "a newer restorable time makes no other plan");

    let (_, done) = bench.run(&KIND, &ready, &cx).await.expect("restored");
    assert_eq!(done.outputs["port"], Value::Int(5432));
    let again = bench.plan(&KIND, &ready, &cx).await.expect("planned");
    assert_eq!((again.action, again.receipt), (Action::UpToDate, done.receipt));
    let other = settings().one("time", "2026-01-01T00:00:00Z").ready();
    let other = bench.plan(&KIND, &other, &cx).await.expect_err("it was made from another time");
    assert_eq!(other.class, FailureClass::Refused);
}
