//! The sandbox: a real Docker engine, an AWS and a PostgreSQL on this machine.
//!
//! The shop fits into an AWS once: whoever deploys it holds [`Sandbox::alone`]
//! and begins with nothing in it. There may be a second AWS with its database,
//! so that two do so at once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use sqlx::{Connection, Row};

use super::http::{self, Answer};

/// The variables that `scripts/sandbox env` prints and that a deploy needs.
const VARIABLES: [&str; 7] = [
    "DOCKER_HOST",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "SANDBOX_ENDPOINT",
    "SANDBOX_DATABASE_URL",
];

/// What nobody has alone; `None` before anybody asked.
static FREE: Mutex<Option<Vec<Sandbox>>> = Mutex::new(None);
static FREED: Condvar = Condvar::new();

fn free() -> MutexGuard<'static, Option<Vec<Sandbox>>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the sandbox is.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    /// `http://127.0.0.1:4566`
    pub endpoint: String,
    /// `postgres://…`
    pub database: String,
    home: PathBuf,
    variables: Vec<(String, String)>,
}

/// A sandbox for one test alone.
#[derive(Debug)]
pub(crate) struct Alone(Sandbox);

impl std::ops::Deref for Alone {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.0
    }
}

impl Drop for Alone {
    /// A test that failed leaves nothing that the next one's reset does not remove.
    fn drop(&mut self) {
        free().get_or_insert_default().push(self.0.clone());
        FREED.notify_one();
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run scripts/test, or scripts/sandbox up and eval \"$(scripts/sandbox env)\""
        )
    })
}

impl Sandbox {
    /// The sandbox that the environment names. A test that needs one fails without it.
    pub(crate) fn find() -> Self {
        Self {
            endpoint: variable("SANDBOX_ENDPOINT"),
            database: variable("SANDBOX_DATABASE_URL"),
            home: variable("SANDBOX_HOME").into(),
            variables: VARIABLES.iter().map(|name| ((*name).to_owned(), variable(name))).collect(),
        }
    }

    /// The one beside it, where `scripts/sandbox second up` started one.
    fn second() -> Option<Self> {
        let second = |name: &str| std::env::var(format!("SECOND_{name}")).ok();
        let its = |name: &&str| ((*name).to_owned(), second(name).unwrap_or_else(|| variable(name)));
        Some(Self {
            endpoint: second("SANDBOX_ENDPOINT")?,
            database: second("SANDBOX_DATABASE_URL")?,
            home: second("SANDBOX_HOME")?.into(),
            variables: VARIABLES.iter().map(its).collect(),
        })
    }

    /// A sandbox for this test alone, and empty: no AWS resource, no table, no container.
    pub(crate) fn alone() -> Alone {
        let all = || [Some(Self::find()), Self::second()].into_iter().flatten().collect();
        let mut free = free();
        let alone = loop {
            match free.get_or_insert_with(all).pop() {
                Some(sandbox) => break Alone(sandbox),
                None => free = FREED.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        alone.reset();
        alone
    }

    /// What a shell gets from `scripts/sandbox env`.
    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The same, reached by another address.
    pub(crate) fn at(&self, endpoint: String) -> Self {
        Self { endpoint, ..self.clone() }
    }

    /// `127.0.0.1:4566`
    pub(crate) fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// Where the load balancer forwards to a service of the shop.
    pub(crate) fn service_url(&self, service: &str) -> String {
        format!("{}/_alb/shop-sandbox/{service}/", self.endpoint)
    }

    /// Empties it.
    pub(crate) fn reset(&self) {
        let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
        let database = self.database.split('/').nth(2).unwrap_or_default();
        let done = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/sandbox"))
            .arg("reset")
            .env("FLOW_SANDBOX_HOME", &self.home)
            .env("FLOW_SANDBOX_AWS_PORT", port(&self.endpoint))
            .env("FLOW_SANDBOX_PG_PORT", port(database))
            .output()
            .unwrap();
        assert!(done.status.success(), "scripts/sandbox reset: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Asks ECS, ECR or another service that speaks JSON.
    #[track_caller]
    pub(crate) fn json(&self, target: &str, request: &Value) -> Value {
        let headers = [("X-Amz-Target", target), ("Content-Type", "application/x-amz-json-1.1")];
        let answer = http::send("POST", &self.endpoint, &headers, request.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }

    /// Asks ECS.
    #[track_caller]
    pub(crate) fn ecs(&self, operation: &str, request: &Value) -> Value {
        self.json(&format!("AmazonEC2ContainerServiceV20141113.{operation}"), request)
    }

    /// How many things a listing names, over all of its pages.
    #[track_caller]
    pub(crate) fn count(&self, target: &str, mut request: Value, field: &str) -> usize {
        let mut count = 0;
        loop {
            let page = self.json(target, &request);
            count += page[field].as_array().unwrap().len();
            match page.get("nextToken") {
                None | Some(Value::Null) => return count,
                Some(token) => request["nextToken"] = token.clone(),
            }
        }
    }

    /// Asks a service by method and path: S3, CloudFront, the registry.
    #[track_caller]
    pub(crate) fn rest(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = http::send(method, &format!("{}{path}", self.endpoint), headers, body).unwrap();
        assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
        answer
    }

    /// The first column of every row that a query gives.
    pub(crate) fn rows(&self, query: &'static str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = sqlx::PgConnection::connect(&self.database).await.unwrap();
            let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }
}
