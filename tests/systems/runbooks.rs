//! What to do when it burns: every runbook rehearsed, carried out, and taken back.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::http;
use crate::support::project::{Project, Ran, copy};
use crate::support::sandbox::{Alone, Sandbox};

/// The shop and its runbooks, as they would lie in a repository of their own.
struct Runbooks {
    project: Project,
    sandbox: Alone,
}

impl Runbooks {
    fn new() -> Self {
        let sandbox = Sandbox::alone();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut project = Project::new();
        for (name, value) in sandbox.variables() {
            project = project.var(name, value);
        }
        let programs = std::env::var("SANDBOX_BIN").unwrap();
        project = project.var("PATH", &format!("{programs}:{}", std::env::var("PATH").unwrap()));
        for folder in ["shop", "runbooks"] {
            copy(&repository.join("tests/fixtures").join(folder), &project.path(folder));
        }
        copy(&repository.join("flows/runbooks"), &project.path("flows"));
        let settings = project.read("flows/project.kdl");
        let kept: Vec<&str> =
            settings.lines().filter(|line| !line.trim_start().starts_with("root ")).collect();
        project.write("flows/project.kdl", kept.join("\n").replace("127.0.0.1:4566", sandbox.address()));
        project.write(".gitignore", ".flow/\n");
        project.git(&["init", "--quiet", "--initial-branch", "main"]);
        let runbooks = Self { project, sandbox };
        runbooks.commit("the shop and its runbooks");
        runbooks
    }

    fn commit(&self, message: &str) {
        self.project.git(&["add", "--all"]);
        self.project.git(&["commit", "--quiet", "--message", message]);
    }

    /// `flow run NAME --env sandbox …`
    fn run(&self, name: &str, more: &[&str]) -> Ran {
        self.project.run(&[&["run", name, "--env", "sandbox"], more].concat())
    }

    /// A runbook is looked at before it is needed: nothing changes.
    #[track_caller]
    fn rehearsed(&self, name: &str, more: &[&str]) {
        self.run(name, &[more, &["--dry-run"]].concat()).exits(0);
    }

    /// What the aws CLI answers, as text.
    #[track_caller]
    fn aws(&self, arguments: &[&str]) -> String {
        let program = Path::new(&std::env::var("SANDBOX_BIN").unwrap()).join("aws");
        let done = Command::new(program)
            .args(["--endpoint-url", &self.sandbox.endpoint, "--output", "text"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "aws {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    fn secret(&self, name: &str) -> String {
        self.aws(&["secretsmanager", "get-secret-value", "--secret-id", name, "--query", "SecretString"])
    }

    fn databases(&self) -> String {
        self.aws(&["rds", "describe-db-instances", "--query", "DBInstances[].DBInstanceIdentifier"])
    }

    /// The version that the API answers with.
    fn version(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = http::get(&self.sandbox.service_url("api")).unwrap();
            if answer.status == 200 {
                return answer.json()["version"].as_str().unwrap().to_owned();
            }
            assert!(Instant::now() < deadline, "{} {}", answer.status, answer.text());
        }
    }

    /// The database, its snapshot, and the secrets that the services read.
    fn with_data(self) -> Self {
        let create = ["rds", "create-db-instance", "--db-instance-identifier", "shop-sandbox"];
        let class =
            ["--db-instance-class", "db.t3.micro", "--engine", "postgres", "--allocated-storage", "20"];
        let user = ["--master-username", "shop", "--master-user-password", "not-used-here"];
        self.aws(&[&create[..], &class, &user].concat());
        let snapshot = ["--db-instance-identifier", "shop-sandbox", "--db-snapshot-identifier", "nightly"];
        self.aws(&[&["rds", "create-db-snapshot"], &snapshot[..]].concat());
        let connection = r#"{"host": "live.internal", "port": 5432, "user": "shop", "password": "hunter22"}"#;
        for (name, value) in
            [("shop/sandbox/connection", connection), ("shop/sandbox/session-key", "first-key")]
        {
            self.aws(&["secretsmanager", "create-secret", "--name", name, "--secret-string", value]);
        }
        self
    }
}

#[test]
fn a_promotion_that_was_killed_goes_on_copies_nothing_twice_and_can_be_taken_back() {
    const OBJECTS: usize = 202;
    let shop = Runbooks::new();
    shop.project.run(&["check"]).exits(0);
    for bucket in ["shop-develop-artefacts", "shop-sandbox-live"] {
        shop.sandbox.rest("PUT", &format!("/{bucket}"), &[], b"");
    }
    let versions = ["s3api", "put-bucket-versioning", "--bucket", "shop-sandbox-live"];
    shop.aws(&[&versions[..], &["--versioning-configuration", "Status=Enabled"]].concat());
    for index in 0..OBJECTS {
        let path = format!("/shop-develop-artefacts/functions/f{index:03}.zip");
        shop.sandbox.rest("PUT", &path, &[], format!("release 41, function {index}").as_bytes());
    }
    shop.sandbox.rest("PUT", "/shop-develop-artefacts/functions/notes.txt", &[], b"not an artefact");
    shop.sandbox.rest("PUT", "/shop-sandbox-live/functions/f007.zip", &[], b"release 40");
    let keys = |what: &str| {
        let answer = http::get(&format!("{}/shop-sandbox-live?{what}", shop.sandbox.endpoint)).unwrap();
        answer.elements("Key").len()
    };
    let reason = ["-p", "reason=REL-41"];
    shop.rehearsed("promote", &reason);
    let plan = shop.project.run(&[&["plan", "promote", "--env", "sandbox"], &reason[..]].concat()).exits(0);
    plan.prints("copy 202 objects").prints("201 new, 1 changed").prints("REL-41");
    assert_eq!(keys("list-type=2"), 1, "rehearsals and plans copy nothing");

    let started = shop.project.start(&[&["run", "promote", "--env", "sandbox"], &reason[..]].concat());
    let mut started = started;
    while keys("list-type=2") < OBJECTS / 4 {
        assert!(started.try_wait().unwrap().is_none(), "it ended before it could be killed");
    }
    started.kill().unwrap();
    started.wait().unwrap();
    let copied = keys("list-type=2");
    assert!(copied < OBJECTS, "{copied} of {OBJECTS} were there already");
    let run = shop.project.newest_run()["id"].as_str().unwrap().to_owned();
    shop.project.run(&["resume", &run]).exits(0).says("copied");
    assert_eq!(keys("list-type=2"), OBJECTS);
    assert_eq!(keys("versions"), OBJECTS + 1, "each was copied once, and one was there before");
    let journal = serde_json::to_string(&shop.project.journal()).unwrap();
    assert!(journal.contains("REL-41"), "the reason stands in the journal");
    super::nothing_changed(&shop.run("promote", &reason).exits(0));

    shop.project.run(&["rollback", "promote", "--env", "sandbox"]).exits(0);
    assert_eq!(keys("list-type=2"), 1);
    let left = shop.sandbox.rest("GET", "/shop-sandbox-live/functions/f007.zip", &[], b"");
    assert_eq!(left.text(), "release 40");
}

#[test]
fn a_drill_restores_and_deletes_and_the_real_thing_switches_rolls_and_goes_back() {
    let shop = Runbooks::new().with_data();
    shop.run("deploy", &[]).exits(0);
    let connection = shop.secret("shop/sandbox/connection");

    shop.rehearsed("restore", &[]);
    let plan = shop.project.run(&["plan", "restore", "--env", "sandbox"]).exits(0);
    plan.prints("restore snapshot nightly");
    shop.run("restore", &[]).exits(0).says("target 15m");
    assert_eq!(shop.databases(), "shop-sandbox", "a drill leaves nothing behind");
    assert_eq!(shop.secret("shop/sandbox/connection"), connection);

    let real = ["-p", "drill=false", "-p", "as=shop-sandbox-2", "-p", "snapshot=nightly", "--yes"];
    shop.run("restore", &real).exits(0);
    assert!(shop.databases().contains("shop-sandbox-2"));
    let switched = shop.secret("shop/sandbox/connection");
    assert!(switched.contains("\"host\": \"localhost\""), "{switched}");
    assert!(
        switched.contains("\"user\": \"shop\", \"password\": \"hunter22\""),
        "the rest stays: {switched}"
    );
    let logs = shop.project.files(".flow/store/runs");
    let told = logs.values().any(|bytes| String::from_utf8_lossy(bytes).contains("hunter22"));
    assert!(!told, "no log and no journal tells the password");

    let back = ["rollback", "restore", "--env", "sandbox"];
    // The drill before it had no gate: one is added, in front of all of it.
    shop.project
        .run(&back)
        .exits(3)
        .says("rollback/gate")
        .says("going back deletes or replaces what is there");
    assert!(shop.databases().contains("shop-sandbox-2"), "nobody has answered");
    assert_eq!(shop.secret("shop/sandbox/connection"), switched);
    shop.project.run(&[&back[..], &["--yes"]].concat()).exits(0);
    assert_eq!(shop.secret("shop/sandbox/connection"), connection);
    assert_eq!(shop.databases(), "shop-sandbox", "it was made since, and somebody was asked");
}

#[test]
fn services_the_site_and_everything_go_back_and_a_key_is_rotated() {
    let shop = Runbooks::new().with_data();
    shop.run("deploy", &[]).exits(0);
    let first = shop.version();
    shop.project.write("shop/backend/api/version.h", "#define VERSION \"9.9.9\"\n");
    let page = shop.project.read("shop/frontend/src/index.html");
    shop.project.write("shop/frontend/src/index.html", format!("{page}\n<!-- bad -->\n"));
    shop.commit("a bad release");
    shop.run("deploy", &[]).exits(0);
    assert_eq!(shop.version(), "9.9.9");
    let is_bad =
        || shop.sandbox.rest("GET", "/shop-sandbox-site/index.html", &[], b"").text().contains("bad");
    assert!(is_bad());

    shop.rehearsed("back-services", &[]);
    assert_eq!(shop.version(), "9.9.9", "a rehearsal changes nothing");
    shop.run("back-services", &[]).exits(0).says("target 15m");
    assert_eq!((shop.version(), is_bad()), (first.clone(), true), "the services alone");
    shop.rehearsed("back-site", &["-p", "to=1"]);
    shop.run("back-site", &["-p", "to=1"]).exits(0);
    assert!(!is_bad());

    shop.run("deploy", &[]).exits(0);
    assert_eq!((shop.version(), is_bad()), ("9.9.9".to_owned(), true));
    shop.run("back-everything", &["-p", "to=1"]).exits(0);
    assert_eq!((shop.version(), is_bad()), (first, false));

    shop.rehearsed("rotate", &[]);
    assert_eq!(shop.secret("shop/sandbox/session-key"), "first-key");
    shop.run("rotate", &["--yes"]).exits(0);
    assert_eq!(shop.secret("shop/sandbox/session-key").len(), 64);
    shop.project.run(&["rollback", "rotate", "--env", "sandbox"]).exits(0);
    assert_eq!(shop.secret("shop/sandbox/session-key"), "first-key");
}
