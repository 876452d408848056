//! The sample shop in a project of its own, in front of an empty sandbox.
//!
//! Everything that flow and the Docker engine ask of AWS and its registry goes
//! through a [`Proxy`]; visitors of the load balancer go there directly.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::project::{Project, Ran, copy};
use super::proxy::Proxy;
use super::sandbox::{Alone, Sandbox};

/// The services, in the order of the environment's list.
pub(crate) const SERVICES: [&str; 3] = ["api", "catalog", "worker"];

/// What the endpoint, the registry and the load balancer are called in `flows/project.kdl`.
const WRITTEN: &str = "127.0.0.1:4566";

/// The shop.
pub(crate) struct Shop {
    /// Its checkout.
    pub project: Project,
    /// Between flow and AWS.
    pub proxy: Proxy,
    /// What it is deployed to.
    pub sandbox: Alone,
}

impl Shop {
    /// The shop as it is in this repository, committed and never deployed.
    pub(crate) fn new() -> Self {
        Self::in_front_of(Sandbox::alone())
    }

    /// The same once more, in front of the same sandbox, emptied.
    pub(crate) fn again(self) -> Self {
        self.sandbox.reset();
        Self::in_front_of(self.sandbox)
    }

    fn in_front_of(sandbox: Alone) -> Self {
        let proxy = Proxy::start(sandbox.address());
        let mut project = Project::new();
        for (name, value) in sandbox.variables() {
            project = project.var(name, value);
        }
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        copy(&repository.join("tests/fixtures/shop"), &project.path("tests/fixtures/shop"));
        // The folders beside them are projects of their own.
        for file in ["flows/project.kdl", "flows/deploy.kdl"] {
            project.write(file, std::fs::read(repository.join(file)).unwrap());
        }
        project.write(".gitignore", ".flow/\n");
        let shop = Self { project, proxy, sandbox };
        let balancer = format!("{}/_alb", shop.sandbox.endpoint);
        shop.edit("flows/project.kdl", &format!("http://{WRITTEN}/_alb"), &balancer);
        // With its quote, since the address of the load balancer begins in the same way.
        shop.edit("flows/project.kdl", &format!("http://{WRITTEN}\""), &format!("{}\"", shop.proxy.url()));
        shop.edit("flows/project.kdl", &format!("\"{WRITTEN}\""), &format!("\"{}\"", shop.proxy.address()));
        shop.git(&["init", "--quiet", "--initial-branch", "main"]);
        shop.commit("the shop");
        shop
    }

    /// The shop after its first deployment.
    pub(crate) fn deployed() -> Self {
        let shop = Self::new();
        shop.run(&[]).exits(0);
        shop
    }

    /// Replaces a text that stands in a file, everywhere in it.
    #[track_caller]
    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.project.read(path);
        assert!(text.contains(from), "{path} does not say {from:?}");
        self.project.write(path, text.replace(from, to));
    }

    /// Gives a service another version: one line of one file.
    pub(crate) fn set_version(&self, service: &str, version: &str) {
        let path = format!("tests/fixtures/shop/backend/{service}/version.h");
        self.project.write(&path, format!("#define VERSION \"{version}\"\n"));
    }

    /// The next version of everything: one service, the site's page, an expand migration.
    pub(crate) fn change(&self, number: usize) {
        self.set_version("api", &format!("2.0.{number}"));
        let page = "tests/fixtures/shop/frontend/src/index.html";
        let text = self.project.read(page);
        let body = text.split("<!-- build").next().unwrap_or_default().trim_end().to_owned();
        self.project.write(page, format!("{body}\n<!-- build {number} -->\n"));
        self.project.write(
            &format!("tests/fixtures/shop/backend/migrations/{:04}_note.sql", 100 + number),
            format!("-- flow: expand a table of its own\ncreate table note_{number} (id int primary key);\n"),
        );
        self.commit(&format!("change {number}"));
    }

    /// Commits everything.
    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    fn git(&self, arguments: &[&str]) {
        self.project.git(arguments);
    }

    /// `flow run deploy --env sandbox …`
    pub(crate) fn run(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["run", "deploy", "--env", "sandbox"], more].concat())
    }

    /// `flow plan deploy --env sandbox --json …`
    #[track_caller]
    pub(crate) fn plan(&self, more: &[&str]) -> Plan {
        Plan(
            self.project
                .run(&[&["plan", "deploy", "--env", "sandbox", "--json"], more].concat())
                .exits(0)
                .json(),
        )
    }

    /// The task definition that a service is told to run.
    pub(crate) fn task_definition(&self, service: &str) -> String {
        let name = format!("shop-sandbox-{service}");
        let request = json!({ "cluster": "shop-sandbox", "services": [name] });
        let answer = self.sandbox.ecs("DescribeServices", &request);
        answer["services"][0]["taskDefinition"].as_str().unwrap().to_owned()
    }

    /// All three of them.
    pub(crate) fn task_definitions(&self) -> [String; 3] {
        SERVICES.map(|service| self.task_definition(service))
    }

    /// What a service answers at the load balancer. The sandbox's sends requests to a task from the
    /// moment that its container runs, where a real one waits for the program behind it to answer.
    pub(crate) fn ask(&self, service: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = super::http::get(&self.sandbox.service_url(service)).unwrap();
            if answer.status == 200 {
                return answer.json();
            }
            assert!(answer.status == 502 && Instant::now() < deadline, "{} {}", answer.status, answer.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What `flow plan --json` printed.
#[derive(Debug)]
pub(crate) struct Plan(pub(crate) Value);

impl Plan {
    /// A step of the plan.
    #[track_caller]
    pub(crate) fn step(&self, id: &str) -> &Value {
        let steps = self.0["steps"].as_array().unwrap();
        steps.iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step {id} in {:#}", self.0))
    }

    /// Every step.
    pub(crate) fn steps(&self) -> Vec<String> {
        let steps = self.0["steps"].as_array().unwrap();
        steps.iter().map(|step| step["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Steps with something to do, checks and gates aside: they look and ask, and change nothing.
    pub(crate) fn changing(&self) -> Vec<String> {
        let still = ["up-to-date", "cached", "skipped"];
        let looks = ["http-check", "approve"];
        let steps = self.0["steps"].as_array().unwrap().iter();
        let changing = steps.filter(|step| {
            !still.iter().any(|action| step["action"] == *action)
                && !looks.iter().any(|kind| step["kind"] == *kind)
        });
        changing.map(|step| step["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Steps outside the selection that the last release stands for.
    pub(crate) fn taken_from_release(&self) -> Vec<String> {
        let steps = self.0["selection"]["from_release"].as_array().unwrap();
        steps.iter().map(|step| step.as_str().unwrap().to_owned()).collect()
    }
}
