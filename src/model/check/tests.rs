use crate::model::testing::{PROJECT, load};
use crate::syntax::render::{Style, report};

/// What the user sees of these files.
fn checked(files: &[(&str, &str)]) -> String {
    let (sources, _, problems) = load(files);
    report(&problems, &sources, Style::default())
}

#[test]
fn eight_mistakes_in_three_files_are_all_reported() {
    let project = PROJECT.replace("region \"eu-west-1\"", "regoin \"eu-west-1\"");
    let deploy = r#"
flow "deploy" {
    approve "go"
    group "backend" needs="go" {
        run "test" needs="lint" {
            command "cargo" "test" "--token" "${secret.database-url}"
            timeout 15
        }
        run "lint" needs="test" { command "cargo" "clippy" }
        docker-bild "image" { context "." }
        migrate "schema" when="env.protected == 'yes'" {
            needs "image"
            dir "migrations"
            url "${secret.database-url}"
        }
        ecs-deploy "service" {
            cluster "${env.clutser}"
            service "api"
        }
    }
}
"#;
    let other = "flow \"deploy\" {\n    run \"x\" { command \"true\"; ungated #true; }\n}\n";
    insta::assert_snapshot!(checked(&[
        ("flows/project.kdl", &project),
        ("flows/deploy.kdl", deploy),
        ("flows/other.kdl", other),
    ]), @r#"
    error: environment has no setting "regoin"
       ┌ flows/project.kdl:23:5
    23 │     regoin "eu-west-1"
       │     ━━━━━━ did you mean region?

    error: steps wait for one another: test → lint → test
      ┌ flows/deploy.kdl:5:26
    5 │         run "test" needs="lint" {
      │                          ━━━━━━ test needs lint
      ⋮
    9 │         run "lint" needs="test" { command "cargo" "clippy" }
      │                          ────── lint needs test

    error: a secret cannot stand in "command"
      ┌ flows/deploy.kdl:6:49
    6 │             command "cargo" "test" "--token" "${secret.database-url}"
      │                                                 ━━━━━━━━━━━━━━━━━━━
      │                                                 anybody who lists processes could read it
      └ write env DATABASE_URL="${secret.database-url}" and let the program read $DATABASE_URL

    error: timeout needs a unit
      ┌ flows/deploy.kdl:7:21
    7 │             timeout 15
      │                     ━━ write "15s" or "15m"

    error: there is no step kind "docker-bild"
       ┌ flows/deploy.kdl:10:9
    10 │         docker-bild "image" { context "." }
       │         ━━━━━━━━━━━ did you mean docker-build?

    error: these two can never be equal
       ┌ flows/deploy.kdl:11:49
    11 │         migrate "schema" when="env.protected == 'yes'" {
       │                                ───────────── this is a boolean
       │                                                 ━━━━━ this is a string

    error: no environment has a variable "clutser"
       ┌ flows/deploy.kdl:17:24
    17 │             cluster "${env.clutser}"
       │                        ━━━━━━━━━━━ did you mean env.cluster?

    error: there is a flow "deploy" already
      ┌ flows/other.kdl:1:6
    1 │ flow "deploy" {
      │      ━━━━━━━━ again
      ├ flows/deploy.kdl:2:6
    2 │ flow "deploy" {
      │      ──────── first

    8 mistakes in 3 files. Nothing was run.
    "#);
}

/// What the user sees of one file.
fn one(text: &str) -> String {
    checked(&[("flows/a.kdl", text)])
}

#[test]
fn references_must_exist_and_be_in_scope() {
    insta::assert_snapshot!(one(r#"
environment "e" {
    vars { services { api port=1 }; plain "a" "b" }
    secret "s" from="env:S"
}
flow "f" {
    param "tag" default="${step.a.x}"
    docker-build "image" {
        each "svc" in="${env.services}"
        each "svc" in="${step.a.x}"
        context "${each.svc.prt}/${each.scv}/${run.outcome}"
        repository "${param.tga}/${each.svc.port}"
        tag "${run.time}" "${git.short}"
    }
    run "a" {
        command "x" "${step.image.uri}" "${step.image[api].uri}" "${step.image[api,b].url}"
        env T="${run.time}" S="${secret.z}"
    }
    run "b" {
        each "x" in="${env.plain}"
        command "${step.aa.x}" "${step.g.x}" "${step.end.x}" "${step.a[1].x}" "${each.x.y}" "${step.image.changed}"
        environment "prod"
    }
    group "g" { run "c" needs="image[api]" { command "${each.svc}" } }
    finally { run "end" { command "${run.outcome}" "${step.a.x}" } }
    summary { row "x" "${run.duration}" "${secret.s}" "${each.x}" "${step.nope.x}" }
}"#), @r#"
    error: a step's output cannot be the default of a parameter
      ┌ flows/a.kdl:7:28
    7 │     param "tag" default="${step.a.x}"
      │                            ━━━━━━━━ env, git and run.id can

    error: each "svc" is declared twice
       ┌ flows/a.kdl:10:14
     9 │         each "svc" in="${env.services}"
       │              ───── first
    10 │         each "svc" in="${step.a.x}"
       │              ━━━━━ again

    error: the instances of a step must be known before the run
       ┌ flows/a.kdl:10:26
    10 │         each "svc" in="${step.a.x}"
       │                          ━━━━━━━━ an environment's variable or a parameter

    error: each.svc has no field "prt"
       ┌ flows/a.kdl:11:29
    11 │         context "${each.svc.prt}/${each.scv}/${run.outcome}"
       │                             ━━━ did you mean port?

    error: there is no each "scv" here
       ┌ flows/a.kdl:11:36
    11 │         context "${each.svc.prt}/${each.scv}/${run.outcome}"
       │                                    ━━━━━━━━ did you mean each.svc?

    error: this is known only when the run is over
       ┌ flows/a.kdl:11:48
    11 │         context "${each.svc.prt}/${each.scv}/${run.outcome}"
       │                                                ━━━━━━━━━━━ it may stand in finally and summary

    error: there is no parameter "tga"
       ┌ flows/a.kdl:12:23
    12 │         repository "${param.tga}/${each.svc.port}"
       │                       ━━━━━━━━━ did you mean param.tag?

    error: step "image" has one instance per value
       ┌ flows/a.kdl:16:29
    16 │         command "x" "${step.image.uri}" "${step.image[api].uri}" "${step.image[api,b].url}"
       │                             ━━━━━ write step.image[VALUE].uri

    error: step "image" has 2 each
       ┌ flows/a.kdl:16:44
    16 │         command "x" "${step.image.uri}" "${step.image[api].uri}" "${step.image[api,b].url}"
       │                                            ━━━━━━━━━━━━━━━━━━━ write [each.svc,each.svc]

    error: step.image has no output "url"
       ┌ flows/a.kdl:16:87
    16 │         command "x" "${step.image.uri}" "${step.image[api].uri}" "${step.image[api,b].url}"
       │                                                                                       ━━━
       │                                                                   it has uri, digest, tag, hash

    error: run.time may stand in tags only
       ┌ flows/a.kdl:17:18
    17 │         env T="${run.time}" S="${secret.z}"
       │                  ━━━━━━━━ elsewhere it would make every run differ
       └ git.time is the time of the commit

    error: neither the flow nor an environment has a secret "z"
       ┌ flows/a.kdl:17:34
    17 │         env T="${run.time}" S="${secret.z}"
       │                                  ━━━━━━━━ did you mean secret.s?

    error: there is no step "aa"
       ┌ flows/a.kdl:21:25
    21 │         command "${step.aa.x}" "${step.g.x}" "${step.end.x}" "${step.a[1].x}" "${each.x.y}" "$…
       │                         ━━ did you mean step.a?

    error: "g" is a group, and only steps have outputs
       ┌ flows/a.kdl:21:40
    21 │         command "${step.aa.x}" "${step.g.x}" "${step.end.x}" "${step.a[1].x}" "${each.x.y}" "$…
       │                                        ━
       ⋮
    24 │     group "g" { run "c" needs="image[api]" { command "${each.svc}" } }
       │           ─── declared here

    error: "end" runs at the end, after this step
       ┌ flows/a.kdl:21:54
    21 │         command "${step.aa.x}" "${step.g.x}" "${step.end.x}" "${step.a[1].x}" "${each.x.y}" "$…
       │                                                      ━━━ steps in finally run last
       ⋮
    25 │     finally { run "end" { command "${run.outcome}" "${step.a.x}" } }
       │                   ───── declared here

    error: step "a" has no instances
       ┌ flows/a.kdl:21:65
    21 │ …    command "${step.aa.x}" "${step.g.x}" "${step.end.x}" "${step.a[1].x}" "${each.x.y}" "${st…
       │                                                              ━━━━━━━━━━━ it has no each

    error: each.x has no field "y"
       ┌ flows/a.kdl:21:89
    21 │ …{step.aa.x}" "${step.g.x}" "${step.end.x}" "${step.a[1].x}" "${each.x.y}" "${step.image.chang…
       │                                                                        ━
       │                                                                     its list holds plain values

    error: there is no environment "prod"
       ┌ flows/a.kdl:22:21
    22 │         environment "prod"
       │                     ━━━━━━ there is e

    error: step "image" has 2 each
       ┌ flows/a.kdl:24:31
    24 │     group "g" { run "c" needs="image[api]" { command "${each.svc}" } }
       │                               ━━━━━━━━━━━━ 1 in brackets

    error: there is no each "svc" here
       ┌ flows/a.kdl:24:57
    24 │     group "g" { run "c" needs="image[api]" { command "${each.svc}" } }
       │                                                         ━━━━━━━━ the step has no each

    error: a secret cannot be shown
       ┌ flows/a.kdl:26:44
    26 │     summary { row "x" "${run.duration}" "${secret.s}" "${each.x}" "${step.nope.x}" }
       │                                            ━━━━━━━━ leave it out

    error: there is no each "x" here
       ┌ flows/a.kdl:26:58
    26 │     summary { row "x" "${run.duration}" "${secret.s}" "${each.x}" "${step.nope.x}" }
       │                                                          ━━━━━━ each is known in its step only

    error: there is no step "nope"
       ┌ flows/a.kdl:26:75
    26 │     summary { row "x" "${run.duration}" "${secret.s}" "${each.x}" "${step.nope.x}" }
       │                                                                           ━━━━
       │                                                                    there is a, b, c, end, image

    23 mistakes in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn circles_are_named_whole() {
    insta::assert_snapshot!(one(r#"
flow "f" {
    run "a" needs="c" { command "x" }
    run "b" after="a" { command "x" }
    run "c" { command "x" "${step.b.out}" }
    run "self" needs="self" { command "x" }
    run "outside" needs="a" { command "x" }
    group "g" needs="h" { run "in-g" { command "x" } }
    group "h" needs="g" { run "in-h" { command "x" } }
}"#), @r#"
    error: steps wait for one another: a → c → b → a
      ┌ flows/a.kdl:3:19
    3 │     run "a" needs="c" { command "x" }
      │                   ━━━ a needs c
    4 │     run "b" after="a" { command "x" }
      │                   ─── b comes after a
    5 │     run "c" { command "x" "${step.b.out}" }
      │                              ────────── c reads an output of b

    error: step "self" waits for itself
      ┌ flows/a.kdl:6:22
    6 │     run "self" needs="self" { command "x" }
      │                      ━━━━━━ self needs self

    error: steps wait for one another: in-g → in-h → in-g
      ┌ flows/a.kdl:8:21
    8 │     group "g" needs="h" { run "in-g" { command "x" } }
      │                     ━━━ in-g needs in-h
    9 │     group "h" needs="g" { run "in-h" { command "x" } }
      │                     ─── in-h needs in-g

    3 mistakes in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn secrets_stand_where_nobody_can_read_them() {
    insta::assert_snapshot!(one(r#"
environment "e" { secret "db" from="env:DB"; vars { v "${secret.db}" } }
flow "f" {
    run "fine" {
        command "x"
        env DB="${secret.db}"
        file PG="${secret.db}"
        stdin "${secret.db}"
        when "defined(secret.db)"
    }
    run "wrong" {
        command "x" "--password=${secret.db}"
        inputs "${secret.db}"
        when "secret.db == 'x'"
        probe { command "${secret.db}" }
    }
    migrate "schema" { dir "${secret.db}"; url "${secret.db}" }
    docker-build "image" { context "."; repository "r"; tag "${secret.db}"; arg K="${secret.db}" }
    notify "n" { webhook "${secret.db}"; text "${secret.db}" }
}"#), @r#"
    error: a secret cannot stand in an environment
      ┌ flows/a.kdl:2:58
    2 │ environment "e" { secret "db" from="env:DB"; vars { v "${secret.db}" } }
      │                                                          ━━━━━━━━━
      │                                                          a step names it where it is used

    error: a secret cannot stand in "command"
       ┌ flows/a.kdl:12:35
    12 │         command "x" "--password=${secret.db}"
       │                                   ━━━━━━━━━ anybody who lists processes could read it
       └ write env DB="${secret.db}" and let the program read $DB

    error: a secret cannot stand in "inputs"
       ┌ flows/a.kdl:13:19
    13 │         inputs "${secret.db}"
       │                   ━━━━━━━━━
       └ in run a secret may stand in env, file, stdin

    error: a secret cannot be compared
       ┌ flows/a.kdl:14:15
    14 │         when "secret.db == 'x'"
       │               ━━━━━━━━━

    error: a secret cannot stand in "probe"
       ┌ flows/a.kdl:15:28
    15 │         probe { command "${secret.db}" }
       │                            ━━━━━━━━━ anybody who lists processes could read it
       └ write env DB="${secret.db}" and let the program read $DB

    error: a secret cannot stand in "dir"
       ┌ flows/a.kdl:17:31
    17 │     migrate "schema" { dir "${secret.db}"; url "${secret.db}" }
       │                               ━━━━━━━━━
       └ in migrate a secret may stand in url

    error: a secret cannot stand in "tag"
       ┌ flows/a.kdl:18:64
    18 │     docker-build "image" { context "."; repository "r"; tag "${secret.db}"; arg K="${secret.db…
       │                                                                ━━━━━━━━━
       └ in docker-build a secret may stand in secret

    error: a secret cannot stand in "arg"
       ┌ flows/a.kdl:18:86
    18 │ …" { context "."; repository "r"; tag "${secret.db}"; arg K="${secret.db}" }
       │                                                                ━━━━━━━━━
       └ in docker-build a secret may stand in secret

    error: a secret cannot stand in "text"
       ┌ flows/a.kdl:19:50
    19 │     notify "n" { webhook "${secret.db}"; text "${secret.db}" }
       │                                                  ━━━━━━━━━
       └ in notify a secret may stand in webhook

    9 mistakes in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn nobody_approves_a_target_that_a_program_will_name() {
    let flow = |protected: bool| {
        one(&format!(
            r#"environment "prod" {{ protected #{protected} }}
flow "f" {{
    approve "go"
    run "which" needs="go" {{ command "x" }}
    cfn-deploy "base" needs="go" {{ stack "s"; template "t" }}
    ecs-deploy "roll" needs="go" {{
        cluster "${{step.base.Cluster}}"
        service "${{step.which.name}}"
    }}
}}
"#
        ))
    };
    assert_eq!(flow(false), "");
    insta::assert_snapshot!(flow(true), @r#"
    error: what "service" is would be decided by a program after the approval
      ┌ flows/a.kdl:8:20
    8 │         service "${step.which.name}"
      │                    ━━━━━━━━━━━━━━━ what step "which" prints
      └ environment "prod" is protected: take it from its vars, or from an infrastructure step

    1 mistake in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn deploying_steps_need_a_gate() {
    let steps = r#"
    run "test" { command "x"; inputs "a" }
    run "open" { command "x" }
    docker-build "image" needs="go" { context "."; repository "r" }
    ecs-deploy "roll" { cluster "${step.image.uri}"; service "s" }
    http-check "healthy" url="http://x"
    migrate "free" ungated=#true { dir "m" }
    run "private" { command "x"; inputs "a"; inherit "HOME" }
"#;
    let flow = |gate: &str, protected: bool| {
        one(&format!(
            "environment \"prod\" {{ protected #{protected} }}\nflow \"f\" {{\n    {gate}{steps}}}\n"
        ))
    };
    assert_eq!(flow("approve \"go\" when=\"env.protected\"", false), "");
    insta::assert_snapshot!(flow("approve \"go\" when=\"env.protected\"", true), @r#"
    error: 2 steps of flow "f" deploy, and no gate stands in front of them
       ┌ flows/a.kdl:5:9
     5 │     run "open" { command "x" }
       │         ━━━━━━
       ⋮
    10 │     run "private" { command "x"; inputs "a"; inherit "HOME" }
       │         ─────────
       └ environment "prod" is protected: write needs="go", or ungated #true where nobody has to agree

    1 mistake in flows/a.kdl. Nothing was run.
    "#);
    insta::assert_snapshot!(flow("run \"go\" { command \"x\"; inputs \"a\" }", true), @r#"
    error: 4 steps of flow "f" deploy, and no gate stands in front of them
       ┌ flows/a.kdl:5:9
     5 │     run "open" { command "x" }
       │         ━━━━━━
     6 │     docker-build "image" needs="go" { context "."; repository "r" }
       │                  ───────
     7 │     ecs-deploy "roll" { cluster "${step.image.uri}"; service "s" }
       │                ──────
       ⋮
    10 │     run "private" { command "x"; inputs "a"; inherit "HOME" }
       │         ─────────
       └ environment "prod" is protected: put approve "go" into the flow and write needs="go", or
         ungated #true where nobody has to agree

    1 mistake in flows/a.kdl. Nothing was run.
    "#);
    // A gate of a misspelt kind may have been meant: that is the only mistake.
    insta::assert_snapshot!(flow("aprove \"go\"", true), @r#"
    error: there is no step kind "aprove"
      ┌ flows/a.kdl:3:5
    3 │     aprove "go"
      │     ━━━━━━ did you mean approve?

    1 mistake in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn a_thousand_steps_are_checked_quickly() {
    use std::fmt::Write as _;
    let mut text =
        "environment \"e\" { protected #true }\nflow \"f\" {\n approve \"go\"\n group \"a\" needs=\"go\" {\n"
            .to_owned();
    for i in 0..500 {
        let _ = writeln!(text, "run \"a{i}\" {{ command \"x\" \"${{env.name}}\" }}");
    }
    text.push_str("}\ngroup \"b\" needs=\"a\" {\n");
    for i in 0..500 {
        let before = if i == 0 { "a0".to_owned() } else { format!("b{}", i - 1) };
        let _ = writeln!(text, "run \"b{i}\" needs=\"{before}\" {{ command \"x\" }}");
    }
    text.push_str("}\n}\n");
    let start = std::time::Instant::now();
    let found = one(&text);
    assert_eq!(found, "");
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

/// A flow that is taken back, and what else there is.
fn back(lines: &str) -> String {
    let text = format!(
        r#"environment "dev"
flow "deploy" {{
    group "backend" {{ run "image" {{ command "make" }} }}
    run "site" {{ command "make" }}
}}
{lines}
"#
    );
    checked(&[("f.kdl", &text)])
}

#[test]
fn a_flow_takes_another_one_back() {
    let steps = r#"flow "incident" {
    param "release" default="last-good"
    run "before" { command "true" }
    rollback "all" { flow "deploy"; needs "before" }
    rollback "some" { flow "deploy"; only "backend" "site[eu]"; to "${param.release}"; when "step.before.changed" }
    rollback "one" { flow "deploy"; to "17"; on-failure "continue" }
    run "after" { command "true"; needs "all" "some" }
}"#;
    assert_eq!(back(steps), "");
}

#[test]
fn a_rollback_that_names_what_is_not_there_is_a_mistake() {
    let steps = r#"flow "incident" {
    rollback "a" { flow "deplyo" }
    rollback "b" { flow "deploy"; only "bakend" "site"; to "soon" }
    rollback "c" { flow "incident" }
    rollback "d" { flow "${env.name}" }
    rollback "e" { to "last-good" }
    rollback "f" { flow "deploy"; timeout "5m"; only "${step.a.changed}" }
    finally { rollback "g" { flow "deploy" } }
}"#;
    let report = back(steps);
    let told: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert_eq!(
        told,
        [
            "there is no flow \"deplyo\"",
            "flow \"deploy\" has no step or group \"bakend\"",
            "\"soon\" is no release",
            "flow \"incident\" would go back inside itself",
            "which flow goes back must stand there",
            "rollback \"e\" needs \"flow\"",
            "a rollback step takes no timeout",
            "what goes back must be known before the run",
            "a flow cannot go back in finally",
        ],
        "{report}"
    );
    for said in [
        "did you mean deploy?",
        "did you mean backend?",
        "a release's number or last-good",
        "━━━━━━━━━━ this is the flow that it stands in",
        "put the step into another flow, or type flow rollback incident",
        "the steps that go back have their own",
    ] {
        assert!(report.contains(said), "{said}: {report}");
    }
}

#[test]
fn flows_that_take_one_another_back_are_told_once() {
    let flows = r#"flow "a" { rollback "x" { flow "b" } }
flow "b" { rollback "x" { flow "c" } }
flow "c" { rollback "x" { flow "a" } }
flow "d" { rollback "x" { flow "a" } }"#;
    insta::assert_snapshot!(back(flows), @r#"
    error: flows take one another back: a → b → c → a
      ┌ f.kdl:6:32
    6 │ flow "a" { rollback "x" { flow "b" } }
      │                                ━━━ this closes the circle
      └ let one flow, which nothing takes back, take back the others

    1 mistake in f.kdl. Nothing was run.
    "#);
}

#[test]
fn a_rollback_deploys_and_needs_a_gate_where_that_counts() {
    let text = |needs: &str| {
        format!(
            r#"environment "prod" {{ protected #true }}
flow "deploy" {{ run "site" {{ command "make"; ungated #true }} }}
flow "incident" {{
    approve "go"
    rollback "back" {{ flow "deploy"; {needs} }}
}}
"#
        )
    };
    assert_eq!(checked(&[("f.kdl", &text("needs \"go\""))]), "");
    assert_eq!(checked(&[("f.kdl", &text("ungated #true"))]), "");
    let open = checked(&[("f.kdl", &text(""))]);
    assert!(open.contains("step \"back\" deploys, and no gate stands in front of it"), "{open}");
}
