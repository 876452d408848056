//! Spaceport: a CDK app in Python, three stacks, and an account that somebody bootstrapped before.

use std::process::Command;

use super::{Dies, aws, aws_of, deploy, dies_at, edit, has, in_front_of, resume, somebody_makes};
use crate::support::crash;
use crate::support::project::{Project, Ran};
use crate::support::sandbox::{Alone, Sandbox};
use crate::support::system::system;

const REGION: &str = "us-west-2";
const STACKS: &str = "infrastructure/stacks.py";
const LAMBDA_TIMEOUT: &[&str] = &[
    "lambda",
    "get-function-configuration",
    "--function-name",
    "spaceport-ingest-sandbox",
    "--query",
    "Timeout",
];

fn spaceport() -> Option<(Alone, Project)> {
    if !has("cdk") || !has("cdk-python") {
        return None;
    }
    let sandbox = Sandbox::alone();
    let project = system("spaceport", &sandbox);
    Some((sandbox, project))
}

/// `cdk bootstrap` as a person would run it.
fn bootstrap(sandbox: &Sandbox, project: &Project, qualifier: &str) {
    let tools = std::env::var("SANDBOX_TOOLS").unwrap();
    let output = Command::new(format!("{tools}/cdk"))
        .args(["bootstrap", "aws://000000000000/us-west-2", "--qualifier", qualifier, "--ci"])
        .env("AWS_ENDPOINT_URL", &sandbox.endpoint)
        .env("HOME", project.root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn it_is_deployed_changed_broken_and_taken_back() {
    let Some((sandbox, project)) = spaceport() else { return };
    project.run(&["check"]).exits(0);
    let plan = deploy(&project, "plan", &[]).exits(0);
    plan.prints("toolkit").prints("stacks");

    deploy(&project, "run", &["--yes"]).exits(0).says("release 1").says("spaceport-uploads-sandbox");
    assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), "30");
    let role = aws(
        &sandbox,
        REGION,
        &["iam", "get-role", "--role-name", "spaceport-trainer-sandbox", "--query", "Role.RoleName"],
    );
    assert_eq!(role, "spaceport-trainer-sandbox");

    let plan = deploy(&project, "plan", &["--all"]).exits(0);
    plan.prints("no change: spaceport-sandbox, spaceport-ml-sandbox");
    super::nothing_changed(&deploy(&project, "run", &["--yes"]).exits(0));

    edit(&project, STACKS, "cdk.Duration.seconds(30)", "cdk.Duration.seconds(45)");
    let plan = deploy(&project, "plan", &["--all"]).exits(0);
    let plan = plan.prints("changed: Timeout").prints("spaceport-ml-sandbox          no change");
    assert!(!plan.out.contains("new"), "{}", plan.out);
    deploy(&project, "run", &["--yes"]).exits(0).says("release 2");
    assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), "45");

    // The table would be another one.
    edit(&project, STACKS, "spaceport-files-{suffix}", "spaceport-records-{suffix}");
    deploy(&project, "plan", &[])
        .exits(5)
        .says("would replace or delete a protected resource")
        .says("spaceport-sandbox/Files");
    edit(&project, STACKS, "spaceport-records-{suffix}", "spaceport-files-{suffix}");

    // The first stack changes well, the second waits for something that never comes.
    edit(&project, STACKS, "cdk.Duration.seconds(45)", "cdk.Duration.seconds(50)");
    edit(
        &project,
        STACKS,
        "        cdk.CfnOutput(self, \"ModelsBucket\"",
        "        handle = cdk.CfnWaitConditionHandle(self, \"Handle\")\n        \
         cdk.CfnWaitCondition(self, \"Never\", handle=handle.ref, timeout=\"2\", count=1)\n        \
         cdk.CfnOutput(self, \"ModelsBucket\"",
    );
    deploy(&project, "run", &["--yes"])
        .exits(1)
        .says("the stack spaceport-ml-sandbox could not be")
        .says("CloudFormation put it back as it was")
        .says("WaitCondition timed out")
        .says("done before it: spaceport-sandbox");
    assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), "50");

    deploy(&project, "rollback", &["--to", "1", "--yes"]).exits(0);
    assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), "30");
}

#[test]
fn a_toolkit_with_another_qualifier_is_found_explained_and_replaced_only_when_asked() {
    let Some((sandbox, project)) = spaceport() else { return };
    bootstrap(&sandbox, &project, "spcdkprod2");
    deploy(&project, "plan", &[])
        .exits(5)
        .says("the stack CDKToolkit is a toolkit with the qualifier spcdkprod2, and the app needs hnb659fds")
        .says("replace #true");
    let asked = ["--param", "replace-toolkit=true", "--only", "toolkit"];
    deploy(&project, "plan", &asked).exits(0).prints("toolkit spcdkprod2 → hnb659fds");
    // It stands behind a gate.
    deploy(&project, "run", &asked).exits(3);
    deploy(&project, "run", &[&asked[..], &["--yes"]].concat()).exits(0);
    let version =
        ["ssm", "get-parameter", "--name", "/cdk-bootstrap/hnb659fds/version", "--query", "Parameter.Value"];
    let version: u32 = aws(&sandbox, REGION, &version).parse().unwrap();
    assert!(version >= 6, "{version}");
    deploy(&project, "plan", &["--only", "toolkit", "--all"])
        .exits(0)
        .prints("toolkit hnb659fds is of version");
}

#[test]
fn every_conflict_of_ownership_is_named_while_planning() {
    let Some((sandbox, project)) = spaceport() else { return };
    bootstrap(&sandbox, &project, "hnb659fds");
    let only = |stack: &str| deploy(&project, "plan", &["--param", &format!("stacks={stack}")]);

    // The pipeline alone: nobody has the bucket that it imports.
    only("spaceport-ml-sandbox").exits(5).says(
        "spaceport-uploads-sandbox (AWS::S3::Bucket): spaceport-ml-sandbox imports it, and it does not exist",
    );

    // Somebody made the bucket by hand.
    aws(&sandbox, REGION, &["s3", "mb", "s3://spaceport-uploads-sandbox"]);
    deploy(&project, "plan", &[]).exits(5).says(
        "spaceport-uploads-sandbox (AWS::S3::Bucket): spaceport-sandbox creates it, and it exists and belongs to no stack",
    );
    only("spaceport-ml-sandbox").exits(0);
    aws(&sandbox, REGION, &["s3", "rb", "s3://spaceport-uploads-sandbox"]);

    // Another stack has it.
    project.write("legacy.json", r#"{"Resources": {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "spaceport-uploads-sandbox"}}}}"#);
    let file = format!("file://{}", project.path("legacy.json").display());
    aws(
        &sandbox,
        REGION,
        &["cloudformation", "create-stack", "--stack-name", "legacy", "--template-body", &file],
    );
    aws(&sandbox, REGION, &["cloudformation", "wait", "stack-create-complete", "--stack-name", "legacy"]);
    deploy(&project, "plan", &[]).exits(5).says(
        "spaceport-uploads-sandbox (AWS::S3::Bucket): spaceport-sandbox creates it, and it belongs to the stack legacy",
    );
    aws(&sandbox, REGION, &["cloudformation", "delete-stack", "--stack-name", "legacy"]);
    aws(&sandbox, REGION, &["cloudformation", "wait", "stack-delete-complete", "--stack-name", "legacy"]);

    // Another account has it.
    aws_of(&sandbox, "111111111111", REGION, &["s3", "mb", "s3://spaceport-uploads-sandbox"]);
    only("spaceport-ml-sandbox")
        .exits(5)
        .says("spaceport-ml-sandbox imports it, and these credentials may not read it");
    deploy(&project, "plan", &[]).exits(5).says("the name is taken outside of this account");
    aws_of(&sandbox, "111111111111", REGION, &["s3", "rb", "s3://spaceport-uploads-sandbox"]);

    // Two stacks of the app create it.
    edit(
        &project,
        STACKS,
        "s3.Bucket.from_bucket_name(self, \"Uploads\", f\"spaceport-uploads-{suffix}\")",
        "s3.Bucket(self, \"Uploads\", bucket_name=f\"spaceport-uploads-{suffix}\")",
    );
    deploy(&project, "plan", &[]).exits(5).says(
        "spaceport-uploads-sandbox (AWS::S3::Bucket): spaceport-sandbox and spaceport-ml-sandbox both create it",
    );
}

#[test]
fn a_wrong_stack_a_missing_value_the_wrong_cli_and_a_stack_in_other_hands_are_named_while_planning() {
    let Some((sandbox, mut project)) = spaceport() else { return };
    bootstrap(&sandbox, &project, "hnb659fds");
    deploy(&project, "plan", &["--param", "stacks=spaceport-sandobx"])
        .exits(1)
        .says("the app has no stack spaceport-sandobx")
        .says("did you mean spaceport-sandbox?");

    let flow = project.read("flows/deploy.kdl");
    project.write("flows/deploy.kdl", flow.replace("context { suffix \"${env.suffix}\"; }", ""));
    deploy(&project, "plan", &[]).exits(1).says("No context value present for");

    project.write("flows/deploy.kdl", flow.replace(">=2.1000", ">=99"));
    deploy(&project, "plan", &[])
        .exits(2)
        .says("is installed, which will not do")
        .says("wanted is cdk >=99")
        .says("npm install --global aws-cdk");
    project.write("flows/deploy.kdl", &flow);

    somebody_makes(&sandbox, REGION, "spaceport-sandbox");
    deploy(&project, "plan", &[])
        .exits(4)
        .says("the stack spaceport-sandbox is being changed by somebody else: CREATE_IN_PROGRESS")
        .says("describe-stack-events --stack-name spaceport-sandbox");

    project.set("PATH", "/usr/bin:/bin");
    deploy(&project, "plan", &[]).exits(2).says("cdk is not installed").says("wanted is cdk");
}

#[test]
fn spaceport_that_was_live_before_flow_is_adopted_and_its_stacks_go_back_to_release_0() {
    let Some((sandbox, project)) = spaceport() else { return };
    deploy(&project, "run", &["--yes"]).exits(0);
    super::forget(&project);
    deploy(&project, "adopt", &[]).exits(0).prints("release 0 of sandbox");

    edit(&project, STACKS, "cdk.Duration.seconds(30)", "cdk.Duration.seconds(45)");
    deploy(&project, "run", &["--only", "infrastructure", "--yes"]).exits(0).says("release 1\n");
    assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), "45");
    deploy(&project, "rollback", &["--to", "0", "--yes"]).exits(0);
    assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), "30");
}

/// Three moments: before the CLI published anything, when it had, and while CloudFormation works.
#[test]
fn a_run_of_spaceport_that_is_killed_at_any_moment_is_gone_on_with() {
    let Some((sandbox, mut project)) = spaceport() else { return };
    let run = ["run", "deploy", "--env", "sandbox", "--yes"];
    let next = |project: &Project, from: usize, to: usize| {
        edit(
            project,
            STACKS,
            &format!("cdk.Duration.seconds({from})"),
            &format!("cdk.Duration.seconds({to})"),
        );
    };
    project.run(&run).exits(0);
    let alive = format!("{}:{}", std::env::var("SANDBOX_TOOLS").unwrap(), std::env::var("PATH").unwrap());
    for (from, to, dies) in [(30, 31, Dies::Before), (31, 32, Dies::After)] {
        next(&project, from, to);
        let (folder, path) = in_front_of("cdk", dies);
        project.set("PATH", &path);
        project.run(&run).exits(1).says("stacks").says("ended by signal KILL");
        assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), from.to_string(), "{dies:?}");
        drop(folder);
        project.set("PATH", &alive);
        resume(&project).exits(0);
        assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), to.to_string(), "{dies:?}");
    }

    let beside = tempfile::tempdir().unwrap();
    let list = beside.path().join("points");
    next(&project, 32, 33);
    project.lists(&list, &run).exits(0);
    next(&project, 33, 34);
    dies_at(&project, &crash::read(&list), "ExecuteChangeSet.after", &run);
    resume(&project).exits(0);
    assert_eq!(aws(&sandbox, REGION, LAMBDA_TIMEOUT), "34");
    super::nothing_changed(&project.run(&run).exits(0));
}

/// The stacks, and nothing of them left.
const CLEAR: &str = r#"flow "clear" {
    param "protect" default="AWS::KMS::Key"
    cdk-deploy "stacks" {
        stacks "${env.stacks}"
        dir "infrastructure"
        app "${env.python} app.py"
        context { suffix "${env.suffix}"; }
        protect "${param.protect}"
        destroy #true
        ungated #true
    }
}
"#;

const DATA_MAY_GO: [&str; 2] = ["--param", "protect=none"];

fn clear(project: &Project, command: &str, more: &[&str]) -> Ran {
    project.run(&[&[command, "clear", "--env", "sandbox"], more].concat())
}

/// What the newest run asked CloudFormation to delete, in this order.
fn deleted(project: &Project) -> Vec<String> {
    let noted = |record: &serde_json::Value| {
        let told = record.to_string().contains("\"deleting\"");
        let event =
            told.then(|| record.as_object()?.values().find_map(|value| value["data"]["name"].as_str()))?;
        event.or_else(|| record["data"]["name"].as_str()).map(str::to_owned)
    };
    project.journal().iter().filter_map(noted).collect()
}

/// Whether there is such a stack.
fn is_there(sandbox: &Sandbox, stack: &str) -> bool {
    let listed = ["cloudformation", "describe-stacks", "--query", "Stacks[].StackName"];
    aws(sandbox, REGION, &listed).split_whitespace().any(|name| name == stack)
}

#[test]
fn its_stacks_are_deleted_the_last_one_first_also_when_that_is_interrupted() {
    let Some((sandbox, project)) = spaceport() else { return };
    project.write("flows/clear.kdl", CLEAR);
    edit(&project, STACKS, "cdk.RemovalPolicy.RETAIN", "cdk.RemovalPolicy.DESTROY");
    clear(&project, "plan", &["--all"]).exits(0).prints("not there: spaceport-auth-sandbox");
    deploy(&project, "run", &["--yes"]).exits(0);

    clear(&project, "plan", &[])
        .exits(5)
        .says("this would replace or delete protected resources")
        .says("spaceport-sandbox/Files")
        .says("spaceport-auth-sandbox/Users");
    let plan = clear(&project, "plan", &DATA_MAY_GO).exits(0);
    plan.prints("3 of 3 stacks").prints("leaves the stack, and stays").prints("spaceport-models-sandbox");
    clear(&project, "run", &DATA_MAY_GO).exits(3).says("stacks/gate");
    assert!(is_there(&sandbox, "spaceport-auth-sandbox"), "nobody said yes");

    let run = [&["run", "clear", "--env", "sandbox", "--yes"], &DATA_MAY_GO[..]].concat();
    let beside = tempfile::tempdir().unwrap();
    let list = beside.path().join("points");
    project.lists(&list, &run).exits(0);
    assert_eq!(deleted(&project), ["spaceport-auth-sandbox", "spaceport-ml-sandbox", "spaceport-sandbox"]);
    assert_eq!(
        aws(
            &sandbox,
            REGION,
            &["s3api", "list-buckets", "--query", "Buckets[?contains(Name,'spaceport')].Name"]
        ),
        "spaceport-models-sandbox"
    );
    clear(&project, "plan", &["--all"]).exits(0).prints("not there: spaceport-auth-sandbox");
    clear(&project, "run", &[]).exits(0);

    // Once more, and it dies when the first of three is on its way.
    aws(&sandbox, REGION, &["s3", "rb", "s3://spaceport-models-sandbox"]);
    aws(&sandbox, REGION, &["logs", "delete-log-group", "--log-group-name", "/spaceport/training-sandbox"]);
    deploy(&project, "run", &["--yes"]).exits(0);
    let points = crash::read(&list);
    let at = points.iter().position(|point| point.contains("DeleteStack.after")).unwrap() + 1;
    assert!(matches!(project.dies_at(at, &run), crash::Went::Died), "{points:#?}");
    assert!(is_there(&sandbox, "spaceport-sandbox"), "it comes last");
    resume(&project).exits(0);
    assert!(!is_there(&sandbox, "spaceport-sandbox"));
    clear(&project, "plan", &["--all"]).exits(0).prints("not there: spaceport-auth-sandbox");
}
