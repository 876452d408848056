//! happyrobot: checks of two languages, two services written once, infrastructure by Pulumi.

use super::deploy;
use crate::support::http;
use crate::support::project::{Project, Ran};
use crate::support::sandbox::{Alone, Sandbox};
use crate::support::shop::Plan;
use crate::support::system::system;

const CHECKS: [&str; 6] = ["lint-api", "types-api", "test-api", "lint-web", "types-web", "test-web"];

struct Happyrobot {
    project: Project,
    sandbox: Alone,
}

impl Happyrobot {
    fn new() -> Option<Self> {
        if !super::has("pulumi") {
            return None;
        }
        let sandbox = Sandbox::alone();
        let project = system("happyrobot", &sandbox).var("SANDBOX_PASSPHRASE", "eine lange Losung");
        sandbox.rest("PUT", "/happyrobot-sandbox-pulumi", &[], b"");
        Some(Self { project, sandbox })
    }

    fn run(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["run", "deploy", "--env", "sandbox"], more].concat())
    }

    fn plan(&self) -> Plan {
        Plan(self.project.run(&["plan", "deploy", "--env", "sandbox", "--json"]).exits(0).json())
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        super::edit(&self.project, path, from, to);
    }

    /// Whether the newest run's image found nothing that its layers could come from.
    fn found_no_layers(&self, service: &str) -> bool {
        let newest = self.project.newest_run();
        let log =
            self.project.run(&["log", newest["id"].as_str().unwrap(), &format!("image[{service}]")]).exits(0);
        log.out.contains(&format!(
            "importing cache manifest from {}/happyrobot-{service}:cache: ",
            self.sandbox.address()
        ))
    }

    fn answers(&self, path: &str) -> String {
        let answer = http::get(&format!("{}/_alb/happyrobot-fde{path}", self.sandbox.endpoint)).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["version"].as_str().unwrap().to_owned()
    }
}

#[test]
fn happyrobot_from_nothing_through_a_change_and_a_failure_and_back() {
    let Some(robot) = Happyrobot::new() else { return };
    robot.project.run(&["check"]).exits(0);
    let plan = robot.plan();
    assert_eq!(plan.step("repositories")["summary"], "2 new");
    for check in CHECKS {
        assert_eq!(plan.step(check)["action"], "run", "{check}");
    }

    robot.run(&[]).exits(0);
    assert!(robot.found_no_layers("api") && robot.found_no_layers("frontend"), "there is no image yet");
    assert_eq!(robot.answers("/api/v1/health"), "1.0.0");
    assert_eq!(robot.answers("/health"), "1.0.0");
    let plan = robot.plan();
    assert_eq!(plan.changing(), [""; 0]);
    robot.run(&[]).exits(0);

    // A change of the web client alone: its checks, its image, its service.
    robot.edit("web_client/src/format.mjs", "en-US", "en-GB");
    let changing = robot.plan().changing();
    assert_eq!(
        changing,
        ["lint-web", "types-web", "test-web", "image[frontend]", "service[frontend]"],
        "nothing of the API"
    );
    robot.run(&[]).exits(0);
    assert!(!robot.found_no_layers("frontend"), "the image before is its cache");

    // A test that fails stops everything before anything is deployed.
    robot.edit("app/rates.py", "miles * cents_a_mile // 100", "miles * cents_a_mile");
    robot.run(&[]).exits(1).says("test-api");
    robot.edit("app/rates.py", "miles * cents_a_mile", "miles * cents_a_mile // 100");

    // A version that does not start goes back by itself.
    robot.edit("server/version.h", "\"1.0.0\"", "(__builtin_trap(), \"1.1.0\")");
    robot.run(&[]).exits(9);
    assert_eq!(robot.answers("/api/v1/health"), "1.0.0");

    robot.edit("server/version.h", "(__builtin_trap(), \"1.1.0\")", "\"1.1.0\"");
    robot.run(&[]).exits(0);
    assert_eq!(robot.answers("/api/v1/health"), "1.1.0");
    let back = ["rollback", "deploy", "--env", "sandbox", "--yes", "--incident", "1m"];
    robot.project.run(&back).exits(0).says("healthy again");
    assert_eq!(robot.answers("/api/v1/health"), "1.0.0");
}

#[test]
fn happyrobot_that_was_live_before_flow_is_adopted_and_its_backend_goes_back_to_release_0() {
    let Some(robot) = Happyrobot::new() else { return };
    robot.run(&[]).exits(0);
    super::forget(&robot.project);
    deploy(&robot.project, "adopt", &[]).exits(0).prints("release 0 of sandbox");

    robot.edit("server/version.h", "\"1.0.0\"", "\"2.0.0\"");
    robot.run(&["--only", "backend"]).exits(0).says("release 1\n");
    assert_eq!(robot.answers("/api/v1/health"), "2.0.0");
    deploy(&robot.project, "rollback", &["--only", "backend", "--to", "0", "--yes"]).exits(0);
    assert_eq!(robot.answers("/api/v1/health"), "1.0.0");
}
