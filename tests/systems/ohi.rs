//! OHI: Pulumi owns everything but what the services run, and eleven of those roll at the same time.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::http;
use crate::support::project::{Project, Ran};
use crate::support::proxy::Proxy;
use crate::support::sandbox::{Alone, Sandbox};
use crate::support::shop::Plan;
use crate::support::system::system;

const SERVICES: [&str; 11] = [
    "api",
    "graphql",
    "sse",
    "provider-api",
    "reindexer",
    "blnk-api",
    "blnk-worker",
    "clickhouse",
    "otel-collector",
    "signoz-query",
    "signoz-frontend",
];
const HOSTS: [&str; 4] = ["api", "graphql", "sse", "provider-api"];

struct Ohi {
    project: Project,
    sandbox: Alone,
}

impl Ohi {
    /// Never deployed; the bucket of Pulumi's state is what somebody made by hand.
    fn new() -> Option<Self> {
        if !super::has("pulumi") {
            return None;
        }
        let sandbox = Sandbox::alone();
        let project = system("ohi", &sandbox);
        Some(Self::in_front_of(sandbox, project))
    }

    /// The same, with everything that is asked of the AWS counted.
    fn counted() -> Option<(Self, Proxy)> {
        if !super::has("pulumi") {
            return None;
        }
        let sandbox = Sandbox::alone();
        let proxy = Proxy::start(sandbox.address());
        let project = system("ohi", &sandbox.at(proxy.url()));
        Some((Self::in_front_of(sandbox, project), proxy))
    }

    fn in_front_of(sandbox: Alone, project: Project) -> Self {
        sandbox.rest("PUT", "/ohi-sandbox-pulumi", &[], b"");
        Self { project: project.var("SANDBOX_PASSPHRASE", "eine lange Losung"), sandbox }
    }

    fn run(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["run", "deploy", "--env", "sandbox"], more].concat())
    }

    fn plan(&self, more: &[&str]) -> Plan {
        let plan = [&["plan", "deploy", "--env", "sandbox", "--json"], more].concat();
        Plan(self.project.run(&plan).exits(0).json())
    }

    fn version(&self, service: &str, version: &str) {
        let path = format!("backend/services/{service}/version.h");
        self.project.write(&path, format!("#define VERSION {version}\n"));
    }

    fn commit(&self, message: &str) {
        self.project.git(&["add", "--all"]);
        self.project.git(&["commit", "--quiet", "-m", message]);
    }

    /// What a public service answers.
    fn health(&self, host: &str) -> Value {
        let url = format!("{}/_alb/ohi-sandbox/{host}/health", self.sandbox.endpoint);
        let answer = http::get(&url).unwrap();
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
        answer.json()
    }

    fn task_definitions(&self) -> Vec<String> {
        let of = |service: &&str| {
            let name = format!("ohi-sandbox-{service}");
            let request = serde_json::json!({ "cluster": "ohi-sandbox", "services": [name] });
            let answer = self.sandbox.ecs("DescribeServices", &request);
            answer["services"][0]["taskDefinition"].as_str().unwrap().to_owned()
        };
        SERVICES.iter().map(of).collect()
    }
}

#[test]
fn ohi_from_nothing_through_a_change_and_a_failure_and_back() {
    let Some(ohi) = Ohi::new() else { return };
    ohi.project.run(&["check"]).exits(0);
    let plan = ohi.plan(&[]);
    assert_eq!(plan.step("repositories")["summary"], "11 new");
    assert_eq!(plan.step("stack")["summary"], "57 new");
    assert_eq!(plan.step("service[api]")["action"], "create");

    ohi.run(&[]).exits(0);
    for host in HOSTS {
        assert_eq!(ohi.health(host)["version"], "1.0.0");
    }
    assert_eq!(ohi.plan(&[]).changing(), [""; 0]);
    super::nothing_changed(&ohi.run(&[]).exits(0));

    // One change: one service, and nothing of the infrastructure.
    ohi.version("graphql", "\"1.1.0\"");
    ohi.commit("graphql 1.1.0");
    assert_eq!(ohi.plan(&[]).changing(), ["compile[graphql]", "image[graphql]", "service[graphql]"]);
    ohi.run(&["--only", "backend"]).exits(0);
    assert_eq!(ohi.health("graphql")["version"], "1.1.0");
    let before = ohi.task_definitions();

    // A failure in the middle: one of two changed services does not start. Both go back.
    ohi.version("api", "\"1.2.0\"");
    ohi.version("sse", "(__builtin_trap(), \"1.2.0\")");
    ohi.commit("sse is broken");
    ohi.run(&[]).exits(9);
    assert_eq!(ohi.health("api")["version"], "1.0.0");
    assert_eq!(ohi.health("sse")["version"], "1.0.0");
    assert_eq!(ohi.task_definitions(), before);

    // All eleven and the site, and all of it back, measured from the incident on.
    for service in SERVICES {
        ohi.version(service, "\"2.0.0\"");
    }
    ohi.project.write("frontend/src/app.js", "document.title = \"OHI 2\";\n");
    ohi.commit("version 2");
    ohi.run(&[]).exits(0);
    assert_eq!(ohi.health("sse")["version"], "2.0.0");
    let back = ["rollback", "deploy", "--env", "sandbox", "--yes", "--incident", "1m"];
    let ran = ohi.project.run(&back).exits(0).says("healthy again");
    println!(
        "{}",
        ran.err.lines().filter(|line| line.contains("healthy again")).collect::<Vec<_>>().join("\n")
    );
    assert_eq!(ohi.task_definitions(), before);
    assert_eq!(ohi.health("graphql")["version"], "1.1.0");
}

#[test]
fn ohi_goes_back_with_few_questions() {
    let Some((ohi, proxy)) = Ohi::counted() else { return };
    ohi.run(&[]).exits(0);
    for service in SERVICES {
        ohi.version(service, "\"2.0.0\"");
    }
    ohi.project.write("frontend/src/app.js", "document.title = \"OHI 2\";\n");
    ohi.commit("version 2");
    ohi.run(&[]).exits(0);

    proxy.forget();
    ohi.project.run(&["rollback", "deploy", "--env", "sandbox", "--yes", "--to", "1"]).exits(0);
    assert_eq!(ohi.health("sse")["version"], "1.0.0");
    let calls = proxy.calls();
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *asked.entry(call).or_default() += 1;
    }
    println!("{} calls: {asked:#?}", calls.len());
    let count = |operation: &str| asked.get(operation).copied().unwrap_or_default();
    assert_eq!(count("ecs:UpdateService"), SERVICES.len());
    // For the plan and right before the effect: what runs, and what is gone back to.
    assert_eq!(count("ecs:DescribeTaskDefinition"), 4 * SERVICES.len());
    // Each image with its tags, and that a service can pull it: for the plan and right before the effect.
    assert_eq!(count("ecr:BatchGetImage"), 3 * SERVICES.len());
    // Ten services fit into a question; how many ask in the same moment, the machine decides.
    let before = calls.iter().take_while(|call| *call != "ecs:UpdateService");
    let looks = before.filter(|call| *call == "ecs:DescribeServices").count();
    println!("{looks} looks at services before the first is rolled");
    assert!(looks <= SERVICES.len(), "{looks} looks at services before the first is rolled");
}

#[test]
fn ohi_a_plan_says_when_the_infrastructure_would_put_images_back() {
    let Some(ohi) = Ohi::new() else { return };
    ohi.run(&["--only", "infrastructure"]).exits(0);
    let program = ohi.project.read("infrastructure/Pulumi.yaml");
    ohi.project
        .write("infrastructure/Pulumi.yaml", program.replacen("memory: \"512\"", "memory: \"1024\"", 1));
    let plan = ohi.plan(&["--only", "infrastructure"]);
    let warnings = plan.step("stack")["warnings"].to_string();
    assert!(warnings.contains("ecs-deploy") && warnings.contains("task-api"), "{warnings}");

    // The database is not replaced, whatever the program says.
    ohi.project.write("infrastructure/Pulumi.yaml", program.replacen("default: a\n", "default: b\n", 1));
    ohi.run(&["--only", "infrastructure"]).exits(5).says("rds:Instance::database");
}

#[test]
fn ohi_that_was_live_before_flow_is_adopted_and_its_backend_goes_back_to_release_0() {
    let Some(ohi) = Ohi::new() else { return };
    ohi.run(&[]).exits(0);
    super::forget(&ohi.project);
    let before = ohi.task_definitions();
    ohi.project.run(&["adopt", "deploy", "--env", "sandbox"]).exits(0).prints("release 0 of sandbox");

    ohi.version("api", "\"2.0.0\"");
    ohi.commit("api 2.0.0");
    ohi.run(&["--only", "backend"]).exits(0).says("release 1\n");
    assert_eq!(ohi.health("api")["version"], "2.0.0");
    let back = ["rollback", "deploy", "--env", "sandbox", "--only", "backend", "--to", "0", "--yes"];
    ohi.project.run(&back).exits(0);
    assert_eq!(ohi.task_definitions(), before);
    assert_eq!(ohi.health("api")["version"], "1.0.0");
}
