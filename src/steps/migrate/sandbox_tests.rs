//! Against a real PostgreSQL (`SANDBOX_DATABASE_URL`), one database a test, and
//! SQLite everywhere. Without the sandbox the PostgreSQL ones say so and pass.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::*;
use crate::event::Event;
use crate::model::settings::Given;
use crate::model::value::Field;
use crate::steps::testing::Bench;
use crate::steps::{Back, Done, FailureClass, Way};
use crate::syntax::source::Span;
use crate::world::cancel::Urgency;

/// A database of its own, removed by [`Base::drop_it`].
struct Base {
    admin: PgConnection,
    name: String,
    url: String,
}

impl Base {
    async fn new(test: &str) -> Option<Self> {
        let Ok(url) = std::env::var("SANDBOX_DATABASE_URL") else {
            println!("skipped: SANDBOX_DATABASE_URL is not set (source the sandbox's environment)");
            return None;
        };
        let name = format!("progdev_{test}_{}", std::process::id());
        let mut admin = PgConnection::connect(&url).await.unwrap();
        let sql = format!("create database {name}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        let url = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
        Some(Self { admin, name, url })
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn versions(&self) -> Vec<i64> {
        let mut connection = self.connect().await;
        sqlx::query_scalar("select version from _sqlx_migrations where success order by version")
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }

    /// Polls until flow's session runs a statement like this, and gives its process.
    async fn running(&mut self, like: &str) -> i32 {
        let start = Instant::now();
        loop {
            let sql = "select pid from pg_stat_activity where datname = $1 and application_name = 'flow' \
                       and state = 'active' and query like $2";
            let found: Option<i32> = sqlx::query_scalar(sql)
                .bind(&self.name)
                .bind(like)
                .fetch_optional(&mut self.admin)
                .await
                .unwrap();
            if let Some(found) = found {
                return found;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{like} never ran");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn drop_it(mut self) {
        let sql = format!("drop database {} with (force)", self.name);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.admin).await.unwrap();
    }
}

fn files(bench: &Bench, files: &[(&str, &str)]) {
    std::fs::create_dir_all(bench.root().join("db")).unwrap();
    for (name, text) in files {
        std::fs::write(bench.root().join("db").join(name), text).unwrap();
    }
}

fn step(url: &str, more: &[(&'static str, Value)], attributes: &Attributes) -> Box<dyn Step> {
    let mut ready = Ready::default();
    let fixed = [("dir", Value::text("db")), ("url", Value::Secret(Secret::new(url)))];
    for (name, value) in fixed.iter().chain(more) {
        ready.insert(name, Given::One(Field::Known(value.clone())), Span::default());
    }
    make(&ready, attributes).unwrap()
}

async fn plan(bench: &Bench, url: &str, more: &[(&'static str, Value)]) -> Result<Proposal, Failure> {
    step(url, more, &Attributes::default()).plan(&bench.cx).await
}

async fn migrate(bench: &Bench, url: &str) -> Result<Done, Failure> {
    plan(bench, url, &[]).await?.effect.unwrap().apply(&bench.cx).await
}

#[tokio::test]
async fn pending_files_are_planned_applied_and_then_up_to_date() {
    let Some(base) = Base::new("apply").await else { return };
    let mut bench = Bench::new();
    files(
        &bench,
        &[
            ("0001_note.sql", "create table note (id int);\ninsert into note values (1);"),
            ("0002_index.sql", "-- no-transaction\ncreate index concurrently i on note (id);\nselect 1;"),
            ("0003_gone.sql", "\nalter table note\n  drop column id;"),
        ],
    );
    let planned = plan(&bench, &base.url, &[("phase", Value::text("expand"))]).await.unwrap();
    assert_eq!((planned.action, planned.summary.as_str()), (Action::Update, "2 migrations"));
    assert_eq!(planned.subject, "0001_note.sql, 0002_index.sql");
    assert_eq!(planned.warnings, ["left for a step with phase \"contract\": 0003_gone.sql"]);
    assert_eq!(planned.baseline["head"], serde_json::Value::Null);
    // Planning leaves nothing in the database.
    assert!(
        sqlx::raw_sql("select 1 from _sqlx_migrations").execute(&mut base.connect().await).await.is_err()
    );

    let done = planned.effect.unwrap().apply(&bench.cx).await.unwrap();
    assert_eq!(done.outputs["head"], Value::Int(2));
    assert_eq!(base.versions().await, [1, 2]);
    let noted: Vec<_> = bench
        .events()
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::Noted { key, data, .. } if key == "applied" => Some(data["version"].clone()),
            _ => None,
        })
        .collect();
    assert_eq!(noted, [1, 2]);

    let planned = plan(&bench, &base.url, &[]).await.unwrap();
    assert_eq!(planned.subject, "0003_gone.sql  contract");
    assert_eq!(planned.warnings, ["db/0003_gone.sql:3: drops column id of note"]);
    assert_eq!(planned.reversible, Reversible::ForwardOnly);
    let done = planned.effect.unwrap().apply(&bench.cx).await.unwrap();
    assert_eq!(
        (done.summary.as_str(), &done.receipt["migrations"][2]),
        ("0003_gone.sql", &json!({ "version": 3, "name": "0003_gone.sql", "phase": "contract" }))
    );

    // sqlx itself agrees with the table, and line endings are no edit.
    sqlx::migrate::Migrator::new(bench.root().join("db"))
        .await
        .unwrap()
        .run(&mut base.connect().await)
        .await
        .unwrap();
    files(&bench, &[("0001_note.sql", "create table note (id int);\r\ninsert into note values (1);")]);
    let planned = plan(&bench, &base.url, &[]).await.unwrap();
    assert_eq!((planned.action, planned.summary.as_str()), (Action::UpToDate, "at 3"));
    assert!(planned.warnings.is_empty());
    files(&bench, &[("0001_note.sql", "create table other (id int);")]);
    std::fs::remove_file(bench.root().join("db/0002_index.sql")).unwrap();
    let planned = plan(&bench, &base.url, &[]).await.unwrap();
    assert_eq!(
        planned.warnings,
        [
            "db/0001_note.sql was changed after it was applied; the change has no effect",
            "migration 2 is applied and has no file"
        ]
    );
    base.drop_it().await;
}

#[tokio::test]
async fn a_failing_file_changes_nothing_and_shows_its_line() {
    let Some(base) = Base::new("fail").await else { return };
    let bench = Bench::new();
    files(
        &bench,
        &[
            ("0001_a.sql", "create table a (id int);"),
            ("0002_b.sql", "-- b\ncreate table b (id int);\n\tcreate tabel c (id int);\n"),
        ],
    );
    let record = migrate(&bench, &base.url).await.unwrap_err().record;
    assert_eq!(record.reason, "db/0002_b.sql:3:9: syntax error at or near \"tabel\"");
    assert_eq!(
        record.details,
        [
            "3 │ \tcreate tabel c (id int);",
            "  │ \t       ^",
            "the database is unchanged by this file",
            "applied before it, and stays: 0001_a.sql",
        ]
    );
    assert_eq!(base.versions().await, [1]);
    // An error that PostgreSQL gives no place for is at its statement.
    files(&bench, &[("0002_b.sql", "create table b (id int);\ncreate table\n  a (id int);")]);
    let record = migrate(&bench, &base.url).await.unwrap_err().record;
    assert_eq!(record.reason, "db/0002_b.sql:2:1: relation \"a\" already exists");
    files(&bench, &[("0002_b.sql", "-- no-transaction\ncreate table b (id int);\nselect 1/0;")]);
    let record = migrate(&bench, &base.url).await.unwrap_err().record;
    assert_eq!(record.reason, "db/0002_b.sql:3:1: division by zero");
    assert!(record.details.iter().any(|line| line.starts_with("the file is not one transaction")));
    // The lock is free again.
    files(&bench, &[("0002_b.sql", "select 1;")]);
    migrate(&bench, &base.url).await.unwrap();
    assert_eq!(base.versions().await, [1, 2]);
    base.drop_it().await;
}

#[tokio::test]
async fn a_stop_and_a_timeout_leave_the_database_unchanged() {
    let Some(mut base) = Base::new("stop").await else { return };
    let bench = Bench::new();
    files(&bench, &[("0001_slow.sql", "create table a (id int); select pg_sleep(60);")]);
    let short = Attributes { timeout: Some(Duration::from_millis(300)), ..Attributes::default() };
    let effect = step(&base.url, &[], &short).plan(&bench.cx).await.unwrap().effect.unwrap();
    let record = effect.apply(&bench.cx).await.unwrap_err().record;
    assert_eq!(record.reason, "0001_slow.sql was not done after 0.3s, and stopped");
    assert_eq!(record.details, ["the database is unchanged by this file"]);

    // Planned before: the stop is for the effect.
    let planned = step(&base.url, &[], &Attributes::default()).plan(&bench.cx).await.unwrap();
    let (cx, effect) = (bench.cx.clone(), planned.effect.unwrap());
    let running = tokio::spawn(async move { effect.apply(&cx).await });
    base.running("%pg_sleep%").await;
    bench.canceller.raise(Urgency::Stopping);
    let failure = running.await.unwrap().unwrap_err();
    assert_eq!(failure.class, FailureClass::Interrupted);
    assert_eq!(base.versions().await, Vec::<i64>::new());
    base.drop_it().await;
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_asking_again() {
    let Some(mut base) = Base::new("lost").await else { return };
    let bench = Bench::new();
    files(&bench, &[("0001_slow.sql", "create table a (id int); select pg_sleep(60);")]);
    let (cx, url) = (bench.cx.clone(), base.url.clone());
    let running = tokio::spawn(async move { plan_and_apply(&cx, &url).await });
    let process = base.running("%pg_sleep%").await;
    sqlx::query("select pg_terminate_backend($1)").bind(process).execute(&mut base.admin).await.unwrap();
    let failure = running.await.unwrap().unwrap_err();
    assert_eq!(failure.class, FailureClass::Failed, "{:?}", failure.record);
    assert!(failure.record.reason.contains("broke"), "{:?}", failure.record);
    assert_eq!(failure.record.details, ["0001_slow.sql was not applied"]);
    base.drop_it().await;
}

async fn plan_and_apply(cx: &Context, url: &str) -> Result<Done, Failure> {
    step(url, &[], &Attributes::default()).plan(cx).await?.effect.unwrap().apply(cx).await
}

#[tokio::test]
async fn locks_are_not_waited_for_for_ever() {
    let Some(base) = Base::new("lock").await else { return };
    let bench = Bench::new();
    files(&bench, &[("0001_a.sql", "create table a (id int);")]);
    migrate(&bench, &base.url).await.unwrap();
    files(&bench, &[("0002_b.sql", "alter table a add column b int;")]);
    let mut other = base.connect().await;
    sqlx::raw_sql("begin; lock table a;").execute(&mut other).await.unwrap();
    let limit = [("lock-timeout", Value::text("200ms"))];
    let effect = plan(&bench, &base.url, &limit).await.unwrap().effect.unwrap();
    let record = effect.apply(&bench.cx).await.unwrap_err().record;
    assert_eq!(record.reason, "db/0002_b.sql:1:1: canceling statement due to lock timeout");
    assert!(record.help.unwrap().contains("lock-timeout"));
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();

    sqlx::migrate::Migrate::lock(&mut other).await.unwrap();
    let effect = plan(&bench, &base.url, &limit).await.unwrap().effect.unwrap();
    let record = effect.apply(&bench.cx).await.unwrap_err().record;
    assert!(record.reason.contains("is being migrated by somebody else"), "{}", record.reason);
    base.drop_it().await;
}

#[tokio::test]
async fn databases_that_are_not_there_are_named_without_the_password() {
    let Some(base) = Base::new("none").await else { return };
    let bench = Bench::new();
    files(&bench, &[("0001_a.sql", "select 1;")]);
    let fault = async |url: &str| {
        let failure = plan(&bench, url, &[]).await.unwrap_err();
        assert!(!format!("{:?}", failure.record).contains("hunter22"));
        (failure.class, failure.record.reason)
    };
    let at = base.url.rsplit_once('@').unwrap().1.split('/').next().unwrap();
    let (class, reason) = fault(&format!("{}x", base.url)).await;
    assert_eq!(
        (class, reason),
        (FailureClass::Missing, format!("there is no database {}x on {at}", base.name))
    );
    let (class, reason) = fault("postgres://u:hunter22@127.0.0.1:1/shop").await;
    assert_eq!(class, FailureClass::Passing);
    assert!(reason.starts_with("database shop on 127.0.0.1:1 cannot be reached: "), "{reason}");
    assert_eq!(fault("hunter22").await.1, "this is no URL of a database");
    base.drop_it().await;
}

#[tokio::test]
async fn sqlite_goes_the_same_way() {
    let bench = Bench::new();
    let file = bench.root().join("shop.db");
    let url = format!("sqlite:{}", file.display());
    files(&bench, &[("0001_a.sql", "create table a (id int);"), ("0002_b.sql", "create tabel b (id int);")]);
    let failure = plan(&bench, &url, &[]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Missing, "{:?}", failure.record);
    std::fs::write(&file, "").unwrap();
    let record = migrate(&bench, &url).await.unwrap_err().record;
    assert!(record.reason.starts_with("db/0002_b.sql: near \"tabel\""), "{}", record.reason);
    files(&bench, &[("0002_b.sql", "create table b (id int);")]);
    assert_eq!(migrate(&bench, &url).await.unwrap().summary, "0002_b.sql");
    assert_eq!(plan(&bench, &url, &[]).await.unwrap().action, Action::UpToDate);
}

#[tokio::test]
async fn another_tool_lists_and_applies() {
    let bench = Bench::new();
    files(&bench, &[("2_b.sql", "drop table a;")]);
    std::fs::write(bench.root().join("pending"), "2_b.sql\n").unwrap();
    let mut ready = Ready::default();
    for (name, text) in [("dir", "db"), ("tool", "command"), ("url", "postgres://u:hunter22@h/d")] {
        ready.insert(name, Given::One(Field::Known(Value::text(text))), Span::default());
    }
    for (name, words) in
        [("list", ["sh", "-c", "cat pending"]), ("apply", ["sh", "-c", "echo $DATABASE_URL; : > pending"])]
    {
        let mut settings = Ready::default();
        let words = words.map(|word| Field::Known(Value::text(word))).to_vec();
        settings.insert("command", Given::Many(words), Span::default());
        let node = crate::model::settings::GivenNode { head: None, settings };
        ready.insert(name, Given::Nodes(vec![node]), Span::default());
    }
    let mut bench = bench;
    let step = make(&ready, &Attributes::default()).unwrap();
    let planned = step.plan(&bench.cx).await.unwrap();
    assert_eq!(planned.changes, [Change::new("2_b.sql", None, "contract".to_owned())]);
    assert_eq!(planned.warnings, ["db/2_b.sql:1: drops table a"]);
    planned.effect.unwrap().apply(&bench.cx).await.unwrap();
    assert_eq!(bench.heard().await, ["***"]);
    assert_eq!(step.plan(&bench.cx).await.unwrap().action, Action::UpToDate);
}

fn open(notes: &[(&str, Json)]) -> Open {
    Open {
        intent: crate::journal::replay::OpenIntent {
            attempt: 1,
            action: Action::Update,
            summary: String::new(),
            baseline: Json::Null,
            standing: Json::Null,
            since: crate::world::clock::Clock.now(),
        },
        notes: notes.iter().map(|(key, data)| ((*key).to_owned(), data.clone())).collect(),
    }
}

const ROWS: &[(&str, &str)] = &[
    ("0001_note.sql", "create table note (id int);"),
    ("0002_more.sql", "alter table note add more text;"),
    ("0003_index.sql", "-- no-transaction\ncreate index concurrently i on note (id);"),
];

#[tokio::test]
async fn the_table_tells_what_became_of_an_interrupted_run() {
    let Some(base) = Base::new("settle").await else { return };
    let bench = Bench::new();
    files(&bench, &ROWS[..1]);
    let asked = step(&base.url, &[], &Attributes::default());
    let settle = async |notes: &[(&str, Json)]| match asked.reconcile(&open(notes), &bench.cx).await.unwrap()
    {
        Settled::Done(done) => format!("done {}", done.summary),
        Settled::NotDone => "not done".to_owned(),
        Settled::Ambiguous(why) => why,
    };
    let all = ("applying", json!({ "files": ["0001_note.sql", "0002_more.sql", "0003_index.sql"] }));
    migrate(&bench, &base.url).await.unwrap();
    files(&bench, ROWS);
    let begins = ("begins", json!({ "version": 3, "file": "0003_index.sql" }));
    assert_eq!(settle(&[]).await, "not done", "nothing was sent");
    assert_eq!(settle(std::slice::from_ref(&all)).await, "not done", "the rest is applied now");
    let cut_off = settle(&[all.clone(), begins.clone()]).await;
    assert!(cut_off.starts_with("db/0003_index.sql began outside a transaction"), "{cut_off}");

    let uninterrupted = migrate(&bench, &base.url).await.unwrap();
    assert_eq!(settle(&[all.clone(), begins]).await, "done 3 migrations");
    let Settled::Done(done) = asked.reconcile(&open(&[all]), &bench.cx).await.unwrap() else {
        panic!("it is done")
    };
    assert_eq!(done.receipt, uninterrupted.receipt);
    base.drop_it().await;
}

#[tokio::test]
async fn a_session_that_still_works_is_waited_for() {
    let Some(mut base) = Base::new("alone").await else { return };
    let bench = Bench::new();
    files(&bench, &[("0001_slow.sql", "select pg_sleep(1);")]);
    let mut planned = plan(&bench, &base.url, &[]).await.unwrap();
    let cx = bench.cx.clone();
    let running = tokio::spawn(async move { planned.effect.take().unwrap().apply(&cx).await });
    base.running("%pg_sleep%").await;
    let asked = step(&base.url, &[], &Attributes::default());
    let announced = open(&[("applying", json!({ "files": ["0001_slow.sql"] }))]);
    let settled = asked.reconcile(&announced, &bench.cx).await.unwrap();
    assert!(matches!(settled, Settled::Done(_)), "{settled:?}");
    running.await.unwrap().unwrap();
    base.drop_it().await;
}

#[tokio::test]
async fn a_rollback_asks_the_database_what_was_applied_since() {
    let Some(base) = Base::new("back").await else { return };
    let bench = Bench::new();
    files(&bench, &ROWS[..1]);
    let then = migrate(&bench, &base.url).await.unwrap().receipt;
    files(&bench, ROWS);
    let planned = plan(&bench, &base.url, &[]).await.unwrap();
    assert_eq!((&planned.standing, planned.inputs.len()), (&then, 3));
    let now = planned.effect.unwrap().apply(&bench.cx).await.unwrap().receipt;
    let mut settings = Ready::default();
    for (name, value) in [("dir", Value::text("db")), ("url", Value::Secret(Secret::new(base.url.clone())))] {
        settings.insert(name, Given::One(Field::Known(value)), Span::default());
    }
    let back = async |now: &Json| {
        let Back::To(back) = KIND.back else { panic!("it returns to states") };
        let mut step = back(&Way { now: now.clone(), to: Some(then.clone()) }).unwrap();
        step.equip(&settings, &Attributes::default());
        step.plan(&bench.cx).await
    };
    let planned = back(&now).await.unwrap();
    assert_eq!(
        (planned.action, planned.summary.as_str(), planned.receipt == now),
        (Action::UpToDate, "stays at 3", true)
    );
    assert_eq!(planned.warnings.len(), 2, "{:?}", planned.warnings);
    assert!(planned.warnings[0].starts_with("0002_more.sql stays"));
    // The same without a record: the run that applied them failed.
    assert_eq!(back(&then).await.unwrap().warnings, planned.warnings);

    files(&bench, &[("0004_gone.sql", "alter table note drop column more;")]);
    migrate(&bench, &base.url).await.unwrap();
    let failure = back(&now).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.record.reason.starts_with("0004_gone.sql is a contract migration"), "{failure:?}");

    std::fs::remove_dir_all(bench.root().join("db")).unwrap();
    let asked = step(&base.url, &[], &Attributes::default());
    let observed = asked.observe(&bench.cx).await.unwrap();
    assert_eq!(observed["migration head"], 4);
    files(&bench, ROWS);
    assert_eq!(asked.plan(&bench.cx).await.unwrap().baseline, observed);
    base.drop_it().await;
}
