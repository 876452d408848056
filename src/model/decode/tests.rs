mod mistakes;
mod mistakes_in_settings;

use proptest::prelude::*;

use crate::model::flow::Flow;
use crate::model::settings::Given;
use crate::model::template::{Part, Template};
use crate::model::testing::{DEPLOY, PROJECT, load};
use crate::model::value::Value;
use crate::syntax::render::{Style, report};

/// What the user sees of one file.
fn checked(text: &str) -> String {
    let (sources, _, problems) = load(&[("flows/a.kdl", text)]);
    report(&problems, &sources, Style::default())
}

/// What the user sees of a flow with this in it.
fn flow(body: &str) -> String {
    checked(&format!("flow \"f\" {{\n{body}\n}}\n"))
}

/// A template with its references as the file has them.
fn shown(template: &Template, text: &str) -> String {
    let part = |part: &Part| match part {
        Part::Literal(value) => format!("{value:?}"),
        Part::Reference(reference) => {
            text[reference.span.start as usize..reference.span.end as usize].to_owned()
        }
    };
    template.parts.iter().map(part).collect::<Vec<_>>().join(" + ")
}

fn only_flow(text: &str) -> Flow {
    let (sources, project, problems) = load(&[("flows/a.kdl", text)]);
    assert!(problems.is_empty(), "{}", report(&problems, &sources, Style::default()));
    project.flows[0].clone()
}

#[test]
fn the_examples_of_the_contract_are_clean() {
    let (_, project, problems) = load(&[("flows/project.kdl", PROJECT), ("flows/deploy.kdl", DEPLOY)]);
    assert_eq!(problems.0, []);
    let flow = &project.flows[0];
    let steps: Vec<&str> = flow.steps.iter().map(|step| step.name.value.as_str()).collect();
    assert_eq!(
        steps,
        ["go", "stack", "test", "image", "schema", "service", "healthy", "bundle", "site", "edge"]
    );
    assert_eq!(flow.finally.len(), 1);
    let needs: Vec<&str> = flow.steps[8].common.needs.iter().map(|need| need.step.as_str()).collect();
    assert_eq!(needs, ["go", "bundle", "stack", "healthy"]);
    assert_eq!(project.environments[1].vars.len(), 5);
}

#[test]
fn maps_are_written_in_three_ways() {
    let text = r#"flow "f" {
    run "a" {
        command "x"
        env A="1" B=2
        env "C" "3"
        env { D "4"; E #true }
    }
}"#;
    let flow = only_flow(text);
    let env: Vec<String> =
        flow.steps[0].common.env.iter().map(|(k, v)| format!("{k}={}", shown(v, text))).collect();
    assert_eq!(env, ["A=Text(\"1\")", "B=Int(2)", "C=Text(\"3\")", "D=Text(\"4\")", "E=Bool(true)"]);
}

#[test]
fn a_setting_of_the_kind_wins_over_an_attribute() {
    let flow = only_flow(
        "flow \"f\" {\n wait \"a\" for=\"30s\"\n docker-build \"b\" {\n context \".\"; repository \"r\"; secret \"K\" \"${secret.k}\"\n }\n secret \"k\" from=\"env:K\"\n}",
    );
    assert!(matches!(flow.steps[0].settings.get("for"), Some(Given::One(_))));
    assert!(matches!(flow.steps[1].settings.get("secret"), Some(Given::Map(pairs)) if pairs.len() == 1));
}

#[test]
fn a_template_becomes_steps_with_a_prefix() {
    let text = r#"
template "service" {
    param "name"
    param "port" type="int" default=80
    param "after" default="test"
    docker-build "image" { context "backend/${param.name}"; repository "${param.name}" }
    group "roll" {
        ecs-deploy "deploy" {
            needs "image" "${param.after}"
            when "step.image.changed && '${param.name}' != 'x' || param.port > 1"
            cluster "c"
            service "${step.image.hash}"
        }
    }
    run "outer" { command "echo" "${step.test.changed}" "${param.port}" }
}
flow "f" {
    run "test" { command "x" }
    use "service" as="api" { name "api"; port 8000 }
    run "last" needs="api/roll" { command "echo" "${step.api/image.uri}" }
}"#
    .replace("'${param.name}'", "param.name");
    let flow = only_flow(&text);
    let steps: Vec<&str> = flow.steps.iter().map(|step| step.name.value.as_str()).collect();
    assert_eq!(steps, ["test", "api/image", "api/deploy", "api/outer", "last"]);
    let needs = |i: usize| -> Vec<&str> {
        flow.steps[i].common.needs.iter().map(|need| need.step.as_str()).collect()
    };
    assert_eq!(needs(2), ["api/image", "test"]);
    assert_eq!(needs(4), ["api/deploy"]);
    assert_eq!(flow.steps[2].groups[0].as_str(), "api/roll");
    let Some(Given::One(context)) = flow.steps[1].settings.get("context") else { panic!() };
    assert_eq!(context.as_literal(), Some(&Value::text("backend/api")));
    let Some(Given::Many(command)) = flow.steps[3].settings.get("command") else { panic!() };
    assert_eq!(command[2].as_literal(), Some(&Value::Int(8000)));
    let names: Vec<String> = flow.steps[2].common.when[0]
        .expr
        .templates()
        .iter()
        .map(|template| format!("{:?}", template.parts[0]))
        .collect();
    assert!(names[0].contains("api/image"), "{names:?}");
}

#[test]
fn environments_extend_one_another() {
    let (_, project, problems) = load(&[(
        "flows/a.kdl",
        r#"
environment "base" {
    region "eu-west-1"
    protected #true
    vars { a "1"; b "x" "y" }
    secret "s" from="env:A"
}
environment "prod" extends="base" {
    protected #false
    vars { a "2"; services { api port=8000; web port=3000 } }
    secret "s" from="aws-secretsmanager:id#key"
}"#,
    )]);
    assert_eq!(problems.0, []);
    let prod = &project.environments[1];
    assert!(!prod.protected && prod.region.is_some());
    assert_eq!(prod.vars.keys().collect::<Vec<_>>(), ["a", "b", "services"]);
    assert_eq!(prod.secrets.len(), 1);
}

#[test]
fn everything_of_the_language_checks_clean() {
    let flow = only_flow(
        r##"
project "ohi" { store "s3://ohi-flow?prefix=state&region=eu-west-1&endpoint=http://127.0.0.1" }
environment "base" {
    region "eu-west-1"; role "arn:aws:iam::333333333333:role/x"
    vars two="y"; vars "three" "z"
    vars { one "x"; none-of #false; size 3; services { api port=8000; web port=3000 } }
}
environment "prod" extends="base" {
    account "333333333333"; trigger "release"; branch "main" "release/*"; tag "v*"; protected #true
    approvals { approver "ada" key="ssh-ed25519 AAAA" group="ops" valid-before="2030-01-01" }
    secret "a" from="env:A"; secret "b" from="aws-ssm:/b"; secret "c" from="file:c"
    secret "d" from="dotenv:.env#D"; secret "e" from="sops:s.yaml#e"; secret "f" from="command:pass show f"
}
flow "f" {
    about "x"
    target "15m"
    param "n" type="int" default=3 { help "how many"; choices 1 2 3 }
    param "l" type="list" default="a"
    secret "own" from="env:OWN"
    pool "db" size=4
    approve "go" { for "deploy?"; from "group:ops"; count 2; expires "4h"; four-eyes #true; when "env.protected" }
    run "build" needs="go" {
        each "svc" in="${env.services}"
        each "n" in="${param.l}"
        command "make" "${each.svc}" "${each.svc.port}" "-j${param.n}"
        dir "x"; timeout "1h30m"; grace "10s"; retry 3 backoff="1s" max="30s"; pool "db"
        inputs "src/**" "Cargo.*" { exclude "src/gen/**"; exclude "x" }
        outputs "out/${each.svc}" "y"; tool "make" version-from="make --version"; tool "sh"; cache #false
        inherit "HOME" "USER"; aws #true; file KEY="${secret.own}"; env { A "${git.sha}"; B "$$HOME" }
        probe { command "test" "-f" "x" }
        undo { command "rm" "x" }
        on-failure "continue"; ungated #true; resume "rerun"
    }
    run "two" {
        needs "build[api,a]" "build[${each.svc},a]"; each "svc" in="${env.services}"
        after "go"; environment "prod"; undo "none"
        script #"""
            echo "${HOME}" ${x:-y}
            """#
        shell "bash"
    }
    on-failure "continue"
    summary { row "N" "${param.n}" "${run.outcome}" "${run.duration}" }
    finally { run "end" ungated=#true { command "echo" "${run.failed}" } }
}"##,
    );
    assert_eq!(flow.steps[1].common.each.len(), 2);
    assert_eq!(flow.pools["db"], 4);
    let inputs = flow.steps[1].common.inputs.clone().unwrap();
    assert_eq!((inputs.globs.len(), inputs.exclude.len()), (2, 2));
    assert_eq!(
        flow.steps[2].settings.get("script"),
        Some(&Given::Script("echo \"${HOME}\" ${x:-y}".to_owned()))
    );
}

/// Text made of the language's own words, in any order.
fn soup() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "flow",
        "environment",
        "template",
        "project",
        "group",
        "use",
        "run",
        "docker-build",
        "approve",
        "ecs-deploy",
        "s3-sync",
        "wait",
        "needs",
        "after",
        "when",
        "each",
        "env",
        "vars",
        "param",
        "secret",
        "pool",
        "retry",
        "inputs",
        "exclude",
        "tool",
        "probe",
        "undo",
        "command",
        "script",
        "container",
        "delete",
        "until",
        "summary",
        "row",
        "finally",
        "approvals",
        "approver",
        "\"a\"",
        "\"b\"",
        "\"a\"",
        "\"${env.a}\"",
        "\"${step.a.x}\"",
        "\"${each.a}\"",
        "\"${param.a}\"",
        "\"step.a.changed && env.a\"",
        "\"b[${each.a}]\"",
        "\"a[\"",
        "5",
        "#true",
        "in=\"${env.a}\"",
        "as=\"p\"",
        "extends=\"a\"",
        "needs=\"a\"",
        "from=\"env:A\"",
        "size=2",
        "image=\"x\"",
        "name=\"a\"",
        "{",
        "{",
        "{",
        "}",
        "}",
        "\n",
        "\n",
        "\n",
        ";",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(text in soup()) {
        let _ = checked(&text);
    }
}
