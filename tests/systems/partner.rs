//! `partner`: Terraform, a version on Elastic Beanstalk, a site.

use serde_json::{Value, json};

use crate::support::beanstalk::Beanstalk;
use crate::support::project::{Project, Ran};
use crate::support::sandbox::{Alone, Sandbox};
use crate::support::system::system;

/// The system with everything that is there before its first deploy.
struct Partner {
    project: Project,
    sandbox: Alone,
    beanstalk: Beanstalk,
}

impl Partner {
    /// `None`, with a word why, where a program is missing.
    fn new() -> Option<Self> {
        for program in ["terraform", "python3"] {
            if std::process::Command::new(program).arg("--version").output().is_err() {
                println!("skipped: needs {program}");
                return None;
            }
        }
        let sandbox = Sandbox::alone();
        let beanstalk = Beanstalk::start("before-flow");
        let mut project = system("partner", &sandbox);
        let tools = std::env::var("SANDBOX_BIN").unwrap();
        project.set("PATH", &format!("{tools}:{}", std::env::var("PATH").unwrap()));
        project.set("PARTNER_DATABASE_PASSWORD", "geheim-4711");
        sandbox.rest("PUT", "/partner-sandbox-terraform", &[], b"");
        let edge = distribution(&sandbox);
        let settings = project.read("flows/project.kdl");
        let settings = settings
            .replace("E1PARTNERSANDBOX", &edge)
            .replace("http://127.0.0.1:1\"", &format!("{}\"", beanstalk.url()));
        project.write("flows/project.kdl", settings);
        let partner = Self { project, sandbox, beanstalk };
        partner.commit("what is there before");
        Some(partner)
    }

    fn commit(&self, words: &str) {
        self.project.git(&["add", "--all"]);
        self.project.git(&["commit", "--quiet", "--allow-empty", "-m", words]);
    }

    fn flow(&self, words: &[&str]) -> Ran {
        self.project.run(&[words, &["--env", "sandbox"]].concat())
    }

    fn run(&self) -> Ran {
        self.flow(&["run", "deploy", "--yes"])
    }

    /// Action by step.
    fn plan(&self) -> Value {
        let plan = self.flow(&["plan", "deploy", "--json"]).exits(0).json();
        let steps = plan["steps"].as_array().unwrap().iter();
        steps.map(|step| (step["id"].as_str().unwrap().to_owned(), step["action"].clone())).collect()
    }

    fn page(&self) -> String {
        self.sandbox.rest("GET", "/partner-sandbox-site/index.html", &[], b"").text()
    }

    fn running(&self) -> String {
        self.beanstalk.state().running.clone()
    }

    /// The commit as the flow names versions.
    fn label(&self) -> String {
        let head = self.project.read(".git/refs/heads/main");
        head.chars().take(8).collect()
    }
}

/// A distribution in front of the site, as it is made once for each environment.
fn distribution(sandbox: &Sandbox) -> String {
    let config = "<DistributionConfig xmlns=\"http://cloudfront.amazonaws.com/doc/2020-05-31/\">\
        <CallerReference>partner</CallerReference><Comment>partner</Comment><Enabled>true</Enabled>\
        <Origins><Quantity>1</Quantity><Items><Origin><Id>site</Id>\
        <DomainName>partner-sandbox-site.s3.amazonaws.com</DomainName>\
        <S3OriginConfig><OriginAccessIdentity></OriginAccessIdentity></S3OriginConfig></Origin></Items></Origins>\
        <DefaultCacheBehavior><TargetOriginId>site</TargetOriginId>\
        <ViewerProtocolPolicy>redirect-to-https</ViewerProtocolPolicy></DefaultCacheBehavior></DistributionConfig>";
    let answer = sandbox.rest("POST", "/2020-05-31/distribution", &[], config.as_bytes());
    answer.elements("Id").remove(0)
}

#[test]
fn its_flows_are_right() {
    let Some(partner) = Partner::new() else { return };
    partner.project.run(&["check"]).exits(0);
}

#[test]
fn a_cold_run_another_a_change_a_failure_and_the_way_back() {
    let Some(partner) = Partner::new() else { return };

    // Cold: nothing is there but the state's bucket, the distribution and the environment on Beanstalk.
    let planned = partner.plan();
    assert_eq!(planned["base"], json!("create"), "{planned}");
    assert_eq!(planned["site"], json!("create"), "{planned}");
    let ran = partner.run().exits(0);
    assert!(!format!("{}{}", ran.out, ran.err).contains("geheim-4711"));
    let first = partner.label();
    assert_eq!(partner.running(), first);
    assert!(partner.page().contains("<h1>Partner</h1>"));
    let extension = "SELECT extversion FROM pg_extension WHERE extname = 'pg_trgm'";
    assert_eq!(partner.sandbox.rows(extension), ["1.6"], "the function installed it, and said so");
    for (path, bytes) in partner.project.files(".flow/store") {
        assert!(!String::from_utf8_lossy(&bytes).contains("geheim-4711"), "{path}");
    }

    // Again: nothing to do.
    let again = partner.plan();
    let quiet = ["up-to-date", "cached", "skipped"];
    for (step, action) in again.as_object().unwrap() {
        assert!(quiet.contains(&action.as_str().unwrap()), "{step}: {action}");
    }
    let calls = partner.beanstalk.state().calls.len();
    partner.run().exits(0);
    assert_eq!(partner.beanstalk.state().calls.len(), calls);

    // One change: a larger database and another page.
    partner.project.write("infra/sandbox.tfvars", "database_class = \"db.t4g.large\"\n");
    partner.project.write("site/index.html", "<h1>Partner 2</h1>");
    partner.commit("larger");
    assert_eq!(partner.plan()["base"], json!("update"));
    partner.run().exits(0);
    let second = partner.label();
    assert_eq!(partner.running(), second);
    assert!(partner.page().contains("Partner 2"));

    // A failure in the middle: the environment does not take the version, and everything goes back.
    partner.project.write("infra/sandbox.tfvars", "database_class = \"db.t4g.xlarge\"\n");
    partner.commit("broken");
    let third = partner.label();
    partner.beanstalk.state().broken.insert(third);
    let failed = partner.run().exits(9);
    assert_eq!(partner.running(), second, "{}", failed.err);
    let shown = partner.flow(&["releases", "--json"]).exits(0).json();
    assert!(shown["releases"].as_array().unwrap().len() >= 2, "{shown}");

    // Back to the first release: infrastructure, application and site.
    partner.flow(&["rollback", "deploy", "--yes", "--to", "1"]).exits(0);
    assert_eq!(partner.running(), first);
    assert!(partner.page().contains("<h1>Partner</h1>"));
}

#[test]
fn a_database_that_would_be_replaced_and_a_public_bucket_are_refused() {
    let Some(partner) = Partner::new() else { return };
    partner.run().exits(0);
    partner.project.write("infra/sandbox.tfvars", "database_engine = \"postgres16\"\n");
    partner.commit("another engine");
    partner
        .flow(&["plan", "deploy"])
        .exits(5)
        .says("this would replace or delete a protected resource")
        .says("terraform_data.database");
    partner.project.write("infra/sandbox.tfvars", "public_site = true\n");
    partner.commit("public");
    partner.flow(&["plan", "deploy"]).exits(5).says("a bucket would be public");
}

#[test]
fn a_development_environment_is_destroyed_behind_its_gate() {
    let Some(partner) = Partner::new() else { return };
    partner.run().exits(0);
    let planned = partner.flow(&["plan", "destroy", "--json"]).exits(0).json();
    assert_eq!(planned["steps"][1]["action"], "delete", "{planned}");
    partner.flow(&["run", "destroy"]).exits(3);
    partner.flow(&["run", "destroy", "--yes"]).exits(0);
    let left = partner.sandbox.rest("GET", "/", &[], b"").elements("Name");
    assert_eq!(left, ["partner-sandbox-terraform"]);
}

#[test]
fn partner_that_was_live_before_flow_is_adopted_and_its_site_goes_back_to_release_0() {
    let Some(partner) = Partner::new() else { return };
    partner.run().exits(0);
    super::forget(&partner.project);
    let first = partner.label();
    partner.flow(&["adopt", "deploy"]).exits(0).prints("release 0 of sandbox");

    partner.project.write("site/index.html", "<h1>Partner 2</h1>");
    partner.commit("another page");
    partner.flow(&["run", "deploy", "--only", "frontend", "--yes"]).exits(0).says("release 1\n");
    assert!(partner.page().contains("Partner 2"));
    partner.flow(&["rollback", "deploy", "--only", "frontend", "--to", "0", "--yes"]).exits(0);
    assert!(partner.page().contains("<h1>Partner</h1>"));
    assert_eq!(partner.running(), first);
}
