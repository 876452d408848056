//! `destroy #true` of CloudFormation stacks, from the gate to what is left when flow dies.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::crash::{self, Went};
use crate::support::project::{Project, Ran};
use crate::support::sandbox::{Alone, Sandbox};

const BASE: &str = "Parameters:
  Name:
    Type: String
Resources:
  Users:
    Type: AWS::SSM::Parameter
    Properties:
      Name: !Sub '/${Name}/users'
      Type: String
      Value: none
Outputs:
  Users:
    Value: !Ref Users
    Export:
      Name: !Sub '${Name}-users'
";

const APPLICATION: &str = "Parameters:
  Name:
    Type: String
Resources:
  Settings:
    Type: AWS::SSM::Parameter
    Properties:
      Name: !Sub '/${Name}/settings'
      Type: String
      Value: !ImportValue NAME-users
";

const TABLE: &str = "Parameters:
  Name:
    Type: String
Resources:
  Orders:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: !Ref Name
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - { AttributeName: id, AttributeType: S }
      KeySchema:
        - { AttributeName: id, KeyType: HASH }
";

/// Two stacks, of which the second imports what the first exports; `clear` deletes what is written.
struct Stacks {
    project: Project,
    name: String,
    environment: String,
    /// Others empty theirs when they begin.
    _sandbox: Alone,
}

impl Stacks {
    fn new() -> Self {
        let sandbox = Sandbox::alone();
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let name = format!("clear-{}", nanos % 1_000_000_000_000);
        let mut project = Project::new();
        for (name, value) in sandbox.variables() {
            project = project.var(name, value);
        }
        let environment = format!(
            "environment \"dev\" {{ account \"000000000000\"; region \"us-east-1\"; endpoint \"{}\" }}\n",
            sandbox.endpoint
        );
        let stacks = Self { project, name, environment, _sandbox: sandbox };
        stacks.project.write("base.yaml", BASE);
        stacks
            .project
            .write("application.yaml", APPLICATION.replace("NAME", &format!("{}-base", stacks.name)));
        stacks.flows("");
        stacks
    }

    /// A step of one of the stacks.
    fn step(&self, stack: &str, more: &str) -> String {
        let name = format!("{}-{stack}", self.name);
        format!(
            "cfn-deploy \"{stack}\" {{ stack \"{name}\"; template \"{stack}.yaml\"; parameter Name=\"{name}\"; {more} }}\n"
        )
    }

    /// The flow `ship`, which deploys both, and `clear` with these steps.
    fn flows(&self, clear: &str) {
        let ship = self.step("base", "") + &self.step("application", "needs \"base\"");
        let clear = if clear.is_empty() { self.step("base", "destroy #true") } else { clear.to_owned() };
        self.project.flow_now(&format!(
            "{}flow \"ship\" {{\n{ship}}}\nflow \"clear\" {{\n{clear}}}\n",
            self.environment
        ));
    }

    fn flow(&self, words: &[&str]) -> Ran {
        self.project.run(&[words, &["--env", "dev"]].concat())
    }

    fn ship(&self, only: &str) {
        self.flow(&["run", "ship", "--only", only]).exits(0);
    }

    /// Action by step of what `clear` would do.
    fn plan(&self) -> serde_json::Value {
        let plan = self.flow(&["plan", "clear", "--json"]).exits(0).json();
        let steps = plan["steps"].as_array().unwrap().iter();
        steps.map(|step| (step["id"].as_str().unwrap().to_owned(), step["action"].clone())).collect()
    }
}

#[test]
fn a_stack_waits_at_a_gate_that_no_file_has_and_is_gone_afterwards() {
    let stacks = Stacks::new();
    stacks.ship("base");
    assert_eq!(stacks.plan(), serde_json::json!({ "base/gate": "run", "base": "delete" }));
    let plan = stacks.flow(&["plan", "clear"]).exits(0);
    plan.prints("1 deleted").prints("Users (AWS::SSM::Parameter)");
    stacks
        .flow(&["run", "clear"])
        .exits(3)
        .says("base/gate")
        .says("base deletes, replaces or overwrites what is there");
    assert_eq!(stacks.plan()["base"], "delete", "nobody said yes");

    stacks.flow(&["run", "clear", "--yes"]).exits(0).says("1 deleted");
    let newest = stacks.project.newest_run();
    let log = stacks.project.run(&["log", newest["id"].as_str().unwrap(), "base"]).exits(0);
    log.prints("DELETE_COMPLETE Users");
    // Gone: there is nothing to ask anybody.
    assert_eq!(stacks.plan(), serde_json::json!({ "base/gate": "up-to-date", "base": "up-to-date" }));
    stacks
        .flow(&["plan", "clear", "--all"])
        .exits(0)
        .prints(&format!("there is no stack {}-base", stacks.name));
    stacks.flow(&["run", "clear"]).exits(0);
}

#[test]
fn what_holds_data_is_refused_and_named_until_somebody_says_that_it_may_go() {
    let stacks = Stacks::new();
    stacks.project.write("base.yaml", TABLE);
    stacks.ship("base");
    for command in ["plan", "run"] {
        stacks
            .flow(&[command, "clear"])
            .exits(5)
            .says("this would replace or delete a protected resource")
            .says("Orders  there → none")
            .says("protect \"none\"");
    }
    stacks.flows(&stacks.step("base", "destroy #true; protect \"none\""));
    stacks.flow(&["run", "clear", "--yes"]).exits(0);
}

#[test]
fn a_policy_of_the_project_may_forbid_it() {
    let stacks = Stacks::new();
    stacks.ship("base");
    let judge = "grep -q '\\\"action\\\":\\\"delete\\\"' && echo nothing is deleted on a Friday && exit 3";
    stacks.flows(
        &stacks.step("base", &format!("destroy #true; policy {{ command \"sh\" \"-c\" \"{judge}\" }}")),
    );
    stacks.flow(&["plan", "clear"]).exits(5).says("the policy").says("nothing is deleted on a Friday");
    stacks.flows("");
    stacks.flow(&["run", "clear", "--yes"]).exits(0);
}

#[test]
fn an_export_that_another_stack_takes_is_named_unless_that_goes_first() {
    let stacks = Stacks::new();
    stacks.flow(&["run", "ship"]).exits(0);
    let name = &stacks.name;
    stacks
        .flow(&["plan", "clear"])
        .exits(5)
        .says("this would delete an export that is still in use")
        .says(&format!("{name}-base-users of {name}-base is imported by {name}-application"));
    // The other way round it is a plan.
    let both = stacks.step("application", "destroy #true")
        + &stacks.step("base", "destroy #true; needs \"application\"");
    stacks.flows(&both);
    stacks.flow(&["plan", "clear"]).exits(0).prints("only after application");
    stacks.flow(&["run", "clear", "--yes"]).exits(0);
    assert_eq!(stacks.plan()["base"], "up-to-date");
}

#[test]
fn a_run_that_is_killed_while_it_deletes_is_gone_on_with() {
    let stacks = Stacks::new();
    let run = ["run", "clear", "--env", "dev", "--yes"];
    let beside = tempfile::tempdir().unwrap();
    let list = beside.path().join("points");
    stacks.ship("base");
    stacks.project.lists(&list, &run).exits(0);
    let points = crash::read(&list);
    for point in ["DeleteStack.before", "DeleteStack.after"] {
        stacks.ship("base");
        let at =
            points.iter().rposition(|name| name.contains(point)).unwrap_or_else(|| panic!("{points:#?}"));
        match stacks.project.dies_at(at + 1, &run) {
            Went::Died => {}
            Went::Ended(ran) => panic!("{point}: it did not die: {ran:?}"),
        }
        let newest = stacks.project.newest_run();
        let resumed = stacks.project.run(&["resume", newest["id"].as_str().unwrap(), "--yes"]);
        resumed.exits(0);
        assert_eq!(stacks.plan()["base"], "up-to-date", "{point}");
    }
}

#[test]
fn a_rollback_makes_the_deleted_stack_anew_from_its_record() {
    let stacks = Stacks::new();
    let step = stacks.step("base", "destroy \"${param.destroy}\"");
    let text = format!(
        "{}flow \"ship\" {{\nparam \"destroy\" type=\"bool\" default=#false\n{step}}}\n",
        stacks.environment
    );
    stacks.project.flow_now(&text);
    stacks.flow(&["run", "ship"]).exits(0).says("release 1");
    stacks.flow(&["run", "ship", "-p", "destroy=true", "--yes"]).exits(0).says("release 2");
    // The checkout of today is not what it is made from.
    stacks.project.write("base.yaml", "Resources: {}\n");
    stacks
        .flow(&["rollback", "ship", "--to", "1", "--dry-run"])
        .exits(0)
        .prints(&format!("{}-base is made anew", stacks.name));
    stacks.flow(&["rollback", "ship", "--to", "1", "--yes"]).exits(0);
    stacks.project.write("base.yaml", BASE);
    let plan = stacks.flow(&["plan", "ship", "--json"]).exits(0).json();
    assert_eq!(plan["steps"][0]["action"], "up-to-date", "{plan:#}");
    stacks.flow(&["run", "ship", "-p", "destroy=true", "--yes"]).exits(0);
}
