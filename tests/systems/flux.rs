//! Flux: a base that survives, an application and functions that are deployed often, and promotion.

use std::path::Path;

use super::{Dies, aws, dies_at, edit, has, in_front_of, resume, somebody_makes};
use crate::support::crash;
use crate::support::project::{Project, Ran};
use crate::support::sandbox::{Alone, Sandbox};
use crate::support::system::system;

const REGION: &str = "us-east-1";
const APPLICATION: &str = "infrastructure/application.yaml";

fn flux() -> Option<(Alone, Project)> {
    if !has("sam") {
        return None;
    }
    let sandbox = Sandbox::alone();
    let project = system("flux", &sandbox).var("FLUX_DATABASE_PASSWORD", "correct horse battery");
    Some((sandbox, project))
}

fn flow(project: &Project, command: &str, name: &str, more: &[&str]) -> Ran {
    project.run(&[&[command, name, "--env", "bed"], more].concat())
}

/// What the function's live alias answers.
fn version(sandbox: &Sandbox, project: &Project) -> String {
    let file = project.path("answer.json");
    let function = ["lambda", "invoke", "--function-name", "flux-ingest-bed:live", "--payload", "e30="];
    aws(sandbox, REGION, &[&function[..], &[file.to_str().unwrap()]].concat());
    let answer: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    answer["version"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_base_survives_and_the_application_comes_and_goes() {
    let Some((sandbox, project)) = flux() else { return };
    project.run(&["check"]).exits(0);
    assert_ne!(flow(&project, "plan", "deploy", &[]).code, Some(0), "there is no base");
    flow(&project, "run", "base", &["--yes"]).exits(0).says("release 1");
    flow(&project, "plan", "base", &[]).exits(0).prints("up to date");

    // Another database under the application's feet: refused, and named.
    edit(&project, "infrastructure/base.yaml", "DBName: flux", "DBName: records");
    flow(&project, "plan", "base", &[])
        .exits(5)
        .says("would replace or delete a protected resource")
        .says("Database");
    edit(&project, "infrastructure/base.yaml", "DBName: records", "DBName: flux");
    // A word without quotes.
    edit(&project, "infrastructure/base.yaml", "MfaConfiguration: 'OFF'", "MfaConfiguration: OFF");
    let plan = flow(&project, "plan", "base", &[]);
    assert_ne!(plan.code, Some(0));
    plan.says("MfaConfiguration is text, and OFF without quotes is read as false: write \"OFF\"");
    edit(&project, "infrastructure/base.yaml", "MfaConfiguration: OFF", "MfaConfiguration: 'OFF'");

    flow(&project, "plan", "deploy", &[]).exits(0).prints("application").prints("functions");
    flow(&project, "run", "deploy", &["--yes"]).exits(0);
    assert_eq!(version(&sandbox, &project), "1");
    super::nothing_changed(&flow(&project, "run", "deploy", &["--yes"]).exits(0));

    edit(&project, "functions/ingest/app.py", "VERSION = \"1\"", "VERSION = \"2\"");
    let plan = flow(&project, "plan", "deploy", &["--all"]).exits(0);
    plan.prints("publish and deploy").prints("flux-systems-pilot is");
    flow(&project, "run", "deploy", &["--yes"]).exits(0);
    assert_eq!(version(&sandbox, &project), "2");

    // The functions go well, the application does not: what this run did is taken back.
    edit(&project, "functions/ingest/app.py", "VERSION = \"2\"", "VERSION = \"3\"");
    edit(
        &project,
        APPLICATION,
        "Outputs:\n",
        "  Handle:\n    Type: AWS::CloudFormation::WaitConditionHandle\n  Never:\n    \
         Type: AWS::CloudFormation::WaitCondition\n    Properties: {Handle: !Ref Handle, Timeout: '2', Count: 1}\n\
         Outputs:\n",
    );
    let failed = flow(&project, "run", "deploy", &["--yes"]);
    assert!(matches!(failed.code, Some(1 | 9)), "{failed:?}");
    failed.says("WaitCondition timed out");
    assert_eq!(version(&sandbox, &project), "2");

    project.run(&["rollback", "deploy", "--env", "bed", "--yes"]).exits(0);
    assert_eq!(version(&sandbox, &project), "1");
}

#[test]
fn two_hundred_and_two_artefacts_are_promoted_with_a_reason_and_once() {
    let Some((sandbox, project)) = flux() else { return };
    let folder = project.path("builds");
    std::fs::create_dir_all(&folder).unwrap();
    for number in 0..202 {
        std::fs::write(folder.join(format!("function-{number:03}.zip")), format!("artefact {number}"))
            .unwrap();
    }
    std::fs::write(folder.join("notes.txt"), "not promoted").unwrap();
    for bucket in ["flux-pilot-artefacts-develop", "flux-pilot-artefacts-bed"] {
        aws(&sandbox, REGION, &["s3", "mb", &format!("s3://{bucket}")]);
    }
    let from = folder.to_str().unwrap();
    aws(
        &sandbox,
        REGION,
        &["s3", "sync", "--quiet", from, "s3://flux-pilot-artefacts-develop/builds/current"],
    );
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(!Path::new(from).exists());

    let reason = ["--param", "reason=tested in develop"];
    flow(&project, "plan", "promote", &[]).exits(2).says("reason");
    flow(&project, "run", "promote", &reason).exits(3);
    flow(&project, "run", "promote", &[&reason[..], &["--yes"]].concat()).exits(0).says("202 of 202");
    let keys =
        ["s3api", "list-objects-v2", "--bucket", "flux-pilot-artefacts-bed", "--query", "length(Contents)"];
    assert_eq!(aws(&sandbox, REGION, &keys), "202");
    assert!(project.journal().iter().any(|record| record.to_string().contains("tested in develop")));
    super::nothing_changed(&flow(&project, "run", "promote", &[&reason[..], &["--yes"]].concat()).exits(0));
}

/// The functions, without what they are deployed with.
const ALONE: &str = r#"flow "alone" {
    sam-deploy "functions" {
        stack "flux-alone"
        dir "functions"
        bucket "flux-alone"
        parameter Stage="bed" Records="none"
        capability "CAPABILITY_IAM"
        version ">=1.100"
        ungated #true
    }
}
"#;

#[test]
fn a_missing_value_the_wrong_cli_and_a_stack_in_other_hands_are_named_while_planning() {
    let Some((sandbox, mut project)) = flux() else { return };
    aws(&sandbox, REGION, &["s3", "mb", "s3://flux-alone"]);
    let plan = |project: &Project, from: &str, to: &str| {
        assert!(ALONE.contains(from));
        project.write("flows/alone.kdl", ALONE.replace(from, to));
        flow(project, "plan", "alone", &[])
    };
    plan(&project, "", "").exits(0).prints("functions");
    plan(&project, "Stage=", "Stege=").exits(1).says("the template has no parameter Stege");
    plan(&project, ">=1.100", ">=99")
        .exits(2)
        .says("is installed, which will not do")
        .says("wanted is sam >=99")
        .says("pip install aws-sam-cli");

    somebody_makes(&sandbox, REGION, "flux-alone");
    plan(&project, "", "")
        .exits(4)
        .says("the stack flux-alone is being changed by somebody else: CREATE_IN_PROGRESS");

    project.set("PATH", "/usr/bin:/bin");
    plan(&project, "", "").exits(2).says("sam is not installed").says("wanted is sam");
}

#[test]
fn flux_that_was_live_before_flow_is_adopted_and_its_functions_go_back_to_release_0() {
    let Some((sandbox, project)) = flux() else { return };
    flow(&project, "run", "base", &["--yes"]).exits(0);
    flow(&project, "run", "deploy", &["--yes"]).exits(0);
    super::forget(&project);
    flow(&project, "adopt", "deploy", &[]).exits(0).prints("release 0 of bed");

    edit(&project, "functions/ingest/app.py", "VERSION = \"1\"", "VERSION = \"2\"");
    flow(&project, "run", "deploy", &["--only", "infrastructure", "--yes"]).exits(0).says("release 1\n");
    assert_eq!(version(&sandbox, &project), "2");
    flow(&project, "rollback", "deploy", &["--to", "0", "--yes"]).exits(0);
    assert_eq!(version(&sandbox, &project), "1");
}

/// Three moments: before the CLI published anything, when it had, and while CloudFormation works.
#[test]
fn a_run_of_flux_that_is_killed_at_any_moment_is_gone_on_with() {
    let Some((sandbox, mut project)) = flux() else { return };
    let run = ["run", "deploy", "--env", "bed", "--yes"];
    let next = |project: &Project, number: usize| {
        let (from, to) = (format!("VERSION = \"{}\"", number - 1), format!("VERSION = \"{number}\""));
        edit(project, "functions/ingest/app.py", &from, &to);
    };
    flow(&project, "run", "base", &["--yes"]).exits(0);
    project.run(&run).exits(0);
    let alive = format!("{}:{}", std::env::var("SANDBOX_TOOLS").unwrap(), std::env::var("PATH").unwrap());
    for (number, dies) in [(2, Dies::Before), (3, Dies::After)] {
        next(&project, number);
        let (folder, path) = in_front_of("sam", dies);
        project.set("PATH", &path);
        project.run(&run).exits(9).says("functions").says("ended by signal KILL");
        assert_eq!(version(&sandbox, &project), (number - 1).to_string(), "{dies:?}");
        drop(folder);
        project.set("PATH", &alive);
        project.run(&run).exits(0);
        assert_eq!(version(&sandbox, &project), number.to_string(), "{dies:?}");
    }

    let beside = tempfile::tempdir().unwrap();
    let list = beside.path().join("points");
    next(&project, 4);
    project.lists(&list, &run).exits(0);
    next(&project, 5);
    dies_at(&project, &crash::read(&list), "ExecuteChangeSet.after", &run);
    resume(&project).exits(0);
    assert_eq!(version(&sandbox, &project), "5");
    super::nothing_changed(&project.run(&run).exits(0));
}

/// All that flux is made of, taken away from behind.
const CLEAR: &str = r#"flow "clear" {
    param "protect" default="AWS::KMS::Key"
    sam-deploy "functions" {
        stack "${env.functions}"
        dir "functions"
        destroy #true
        ungated #true
        policy { command "sh" "-c" "cat > ../seen.json"; }
    }
    cfn-deploy "application" {
        needs "functions"
        stack "${env.application}"
        template "infrastructure/application.yaml"
        protect "${param.protect}"
        destroy #true
        ungated #true
    }
    cfn-deploy "base" {
        needs "application"
        stack "${env.base}"
        template "infrastructure/base.yaml"
        protect "${param.protect}"
        destroy #true
        ungated #true
    }
}
"#;

#[test]
fn all_of_it_is_deleted_behind_gates_and_what_survives_is_said() {
    let Some((sandbox, project)) = flux() else { return };
    flow(&project, "run", "base", &["--yes"]).exits(0);
    flow(&project, "run", "deploy", &["--yes"]).exits(0);
    project.write("flows/clear.kdl", CLEAR);

    flow(&project, "plan", "clear", &[])
        .exits(5)
        .says("Records  there → none")
        .says("Database  there → none");
    let may_go = ["--param", "protect=none"];
    let plan = flow(&project, "plan", "clear", &may_go).exits(0);
    plan.prints("a last snapshot of Database is taken").prints("flux-pilot-artefacts-bed");
    // What SAM made of its template is what is judged, and what goes.
    let seen: serde_json::Value = serde_json::from_str(&project.read("seen.json")).unwrap();
    let functions = &seen["flux-systems-pilot-functions"];
    assert_eq!(functions["action"], "delete");
    let changes = functions["changes"].to_string();
    assert!(changes.contains("AWS::Lambda::Alias") && changes.contains("AWS::IAM::Role"), "{changes}");
    flow(&project, "run", "clear", &may_go).exits(3).says("functions/gate");

    flow(&project, "run", "clear", &[&may_go[..], &["--yes"]].concat()).exits(0);
    let left = ["cloudformation", "describe-stacks", "--query", "Stacks[].StackName"];
    assert!(!aws(&sandbox, REGION, &left).contains("flux-systems"));
    aws(&sandbox, REGION, &["s3api", "head-bucket", "--bucket", "flux-pilot-artefacts-bed"]);
    let plan = flow(&project, "plan", "clear", &["--all"]).exits(0);
    plan.prints("there is no stack flux-systems-pilot-functions");

    // The functions come back without anything being built or published.
    project.run(&["rollback", "clear", "--env", "bed", "--only", "functions", "--yes"]).exits(0);
    assert_eq!(version(&sandbox, &project), "1");
}

#[test]
fn a_policy_judges_what_sam_makes_of_a_template_before_it_is_done() {
    let Some((sandbox, project)) = flux() else { return };
    aws(&sandbox, REGION, &["s3", "mb", "s3://flux-alone"]);
    let judge = "grep -q AWS::IAM::Role && echo no roles here && exit 1 || exit 0";
    let policy = format!("policy {{ command \"sh\" \"-c\" \"{judge}\"; }}\n        ungated #true");
    project.write("flows/alone.kdl", ALONE.replace("ungated #true", &policy));
    // The role that a function gets is in no file.
    flow(&project, "plan", "alone", &[]).exits(0);
    flow(&project, "run", "alone", &["--yes"]).exits(5).says("the policy").says("no roles here");
    let left = ["cloudformation", "describe-stacks", "--query", "Stacks[].StackName"];
    assert!(!aws(&sandbox, REGION, &left).contains("flux-alone"), "nothing was made");
}
