use std::fmt::Write as _;

use super::{checked, flow};

#[test]
fn mistakes_in_templates_and_uses() {
    insta::assert_snapshot!(checked(r#"
template "service" {
    param "name"
    param "unused"
    param "size" type="int"
    run "a" { command "x" "${param.name}"; retry "${param.size}" }
}
template "loop" {
    use "loop" as="x"
}
template "nobody" {
    run "b" { comand "x" }
}
flow "f" {
    use "service" as="s" { name "n"; nmae "m"; size "big" }
    use "service" as="t" { unused "u"; size 2 }
    use "servce" as="u"
    use "loop" as="l"
    use "service"
}"#), @r#"
    error: nothing in the template uses "unused"
      ┌ flows/a.kdl:4:11
    4 │     param "unused"
      │           ━━━━━━━━ no ${param.unused}

    error: a template cannot use itself
      ┌ flows/a.kdl:9:9
    9 │     use "loop" as="x"
      │         ━━━━━━ loop → loop

    error: run "b" needs command or script
       ┌ flows/a.kdl:12:5
    12 │     run "b" { comand "x" }
       │     ━━━

    error: run has no setting "comand"
       ┌ flows/a.kdl:12:15
    12 │     run "b" { comand "x" }
       │               ━━━━━━ did you mean command?

    error: template "service" needs "unused"
       ┌ flows/a.kdl:15:9
     4 │     param "unused"
       │           ──────── declared here
       ⋮
    15 │     use "service" as="s" { name "n"; nmae "m"; size "big" }
       │         ━━━━━━━━━

    error: template "service" has no parameter "nmae"
       ┌ flows/a.kdl:15:38
    15 │     use "service" as="s" { name "n"; nmae "m"; size "big" }
       │                                      ━━━━ did you mean name?

    error: "size" is a whole number
       ┌ flows/a.kdl:15:53
    15 │     use "service" as="s" { name "n"; nmae "m"; size "big" }
       │                                                     ━━━━━ this is a string

    error: template "service" needs "name"
       ┌ flows/a.kdl:16:9
     3 │     param "name"
       │           ────── declared here
       ⋮
    16 │     use "service" as="t" { unused "u"; size 2 }
       │         ━━━━━━━━━

    error: there is no template "servce"
       ┌ flows/a.kdl:17:9
    17 │     use "servce" as="u"
       │         ━━━━━━━━ did you mean service?

    error: use needs a prefix for the names of its steps
       ┌ flows/a.kdl:19:5
    19 │     use "service"
       │     ━━━ write use "service" as="p"

    10 mistakes in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn mistakes_in_environments() {
    insta::assert_snapshot!(checked(r#"
projct "p"
project "p" { store "gs://x"; rot "." }
project "q"
environment "a" extends="b" {
    account 12
    region "${param.x}"
    branch "["
    protected "true"
    trigger "pushed"
    vars { name "x"; list; r { api 1; api port=1 }; c "${env.d}"; d "${env.c}" }
    secret "k" from="awssm:x"
    secret "l" from="hunter2"
    secret "m"
    approvals { approver "ada" group="ops" }
}
environment "b" extends="a" { account "12" }
environment "c" extends="prd"
environment "prod" { store "s3://b?prefx=x" }
"#), @r#"
    error: "projct" cannot stand at the top of a file
      ┌ flows/a.kdl:2:1
    2 │ projct "p"
      │ ━━━━━━ did you mean project?

    error: a store cannot be at "gs://"
      ┌ flows/a.kdl:3:22
    3 │ project "p" { store "gs://x"; rot "." }
      │                      ━━ a folder, or s3://bucket?prefix=p

    error: project has no setting "rot"
      ┌ flows/a.kdl:3:31
    3 │ project "p" { store "gs://x"; rot "." }
      │                               ━━━ did you mean root?

    error: there is a project node already
      ┌ flows/a.kdl:4:1
    3 │ project "p" { store "gs://x"; rot "." }
      │ ─────── first
    4 │ project "q"
      │ ━━━━━━━ again

    error: environments extend one another: a → b → a
       ┌ flows/a.kdl:5:25
     5 │ environment "a" extends="b" {
       │                         ━━━ a extends b
       ⋮
    17 │ environment "b" extends="a" { account "12" }
       │                         ─── b extends a

    error: account is a string
      ┌ flows/a.kdl:6:13
    6 │     account 12
      │             ━━ this is a number
      └ put it in quotes, which also keeps zeros at its start

    error: this is not known in an environment
      ┌ flows/a.kdl:7:15
    7 │     region "${param.x}"
      │               ━━━━━━━ env and git are

    error: this pattern cannot be read
      ┌ flows/a.kdl:8:12
    8 │     branch "["
      │            ━━━ unclosed character class; missing ']'

    error: protected is #true or #false
      ┌ flows/a.kdl:9:15
    9 │     protected "true"
      │               ━━━━━━ this is a string
      └ write #true, without quotes

    error: trigger cannot be "pushed"
       ┌ flows/a.kdl:10:13
    10 │     trigger "pushed"
       │             ━━━━━━━━ did you mean push?

    error: env.name is set already
       ┌ flows/a.kdl:11:12
    11 │     vars { name "x"; list; r { api 1; api port=1 }; c "${env.d}"; d "${env.c}" }
       │            ━━━━ choose another name

    error: variable "list" has no value
       ┌ flows/a.kdl:11:22
    11 │     vars { name "x"; list; r { api 1; api port=1 }; c "${env.d}"; d "${env.c}" }
       │                      ━━━━

    error: a record has properties only
       ┌ flows/a.kdl:11:36
    11 │     vars { name "x"; list; r { api 1; api port=1 }; c "${env.d}"; d "${env.c}" }
       │                                    ━ write api NAME="value"

    error: record "api" is given twice
       ┌ flows/a.kdl:11:39
    11 │     vars { name "x"; list; r { api 1; api port=1 }; c "${env.d}"; d "${env.c}" }
       │                                       ━━━

    error: variables are made of one another: env.c → env.d → env.c
       ┌ flows/a.kdl:11:55
    11 │     vars { name "x"; list; r { api 1; api port=1 }; c "${env.d}"; d "${env.c}" }
       │                                                       ━━━━━━━━━━
       │                                                                     ──────────

    error: "awssm:" is no complete source of secrets
       ┌ flows/a.kdl:12:21
    12 │     secret "k" from="awssm:x"
       │                     ━━━━━━━━━ write aws-ssm:/path/of/parameter

    error: a secret comes from somewhere and is never written here
       ┌ flows/a.kdl:13:21
    13 │     secret "l" from="hunter2"
       │                     ━━━━━━━━━
       └ sources are env: aws-ssm: aws-secretsmanager: file: dotenv: sops: command:

    error: secret "m" does not say where it comes from
       ┌ flows/a.kdl:14:5
    14 │     secret "m"
       │     ━━━━━━━━━━ write from="env:VARIABLE"

    error: an approver needs a key
       ┌ flows/a.kdl:15:17
    15 │     approvals { approver "ada" group="ops" }
       │                 ━━━━━━━━ write key="ssh-ed25519 …"

    error: this is no AWS account
       ┌ flows/a.kdl:17:39
    17 │ environment "b" extends="a" { account "12" }
       │                                       ━━━━ an account has 12 digits

    error: there is no environment "prd"
       ┌ flows/a.kdl:18:25
    18 │ environment "c" extends="prd"
       │                         ━━━━━ did you mean prod?

    error: a store has no "prefx"
       ┌ flows/a.kdl:19:36
    19 │ environment "prod" { store "s3://b?prefx=x" }
       │                                    ━━━━━ did you mean prefix?

    22 mistakes in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn mistakes_in_a_flow() {
    insta::assert_snapshot!(checked(r#"
flow "f" {
    abut "x"
    target "soon"
    param "a" type="int" default="x"
    param "a"
    param "b" required=#true default="x" { choices "y" "z" }
    pool "p" size=0
    pool "q" size=2
    on-failure "panic"
    run "x" pool="r" { command "true" }
    group "x" { run "y" { command "true" } }
    group "g" nedes="x" { run "in" needs="g" { command "true" } }
    run "z" needs="yy" after="in[a]" { command "true" }
    summary { row "a"; rwo "b" "c" }
    finally { run "end" needs="x" { command "true" } }
    run "early" needs="end" { command "true" }
}
flow
flwo "x"
run "x" { command "true" }
"#), @r#"
    error: there is no step kind "abut"
      ┌ flows/a.kdl:3:5
    3 │     abut "x"
      │     ━━━━ did you mean about?

    error: "soon" is no duration
      ┌ flows/a.kdl:4:12
    4 │     target "soon"
      │            ━━━━━━ write 30s, 5m or 2h

    error: "a" is a whole number
      ┌ flows/a.kdl:5:34
    5 │     param "a" type="int" default="x"
      │                                  ━━━ this is a string

    error: parameter "a" is declared twice
      ┌ flows/a.kdl:6:11
    5 │     param "a" type="int" default="x"
      │           ─── first
    6 │     param "a"
      │           ━━━ again

    error: "b" is required and has a default
      ┌ flows/a.kdl:7:30
    7 │     param "b" required=#true default="x" { choices "y" "z" }
      │                              ━━━━━━━ it can never be missing

    error: "b" cannot be this
      ┌ flows/a.kdl:7:38
    7 │     param "b" required=#true default="x" { choices "y" "z" }
      │                                      ━━━ it is one of y, z

    error: no step is in pool "p"
      ┌ flows/a.kdl:8:10
    8 │     pool "p" size=0
      │          ━━━ did you mean r?

    error: size cannot be 0
      ┌ flows/a.kdl:8:19
    8 │     pool "p" size=0
      │                   ━ at least 1

    error: no step is in pool "q"
      ┌ flows/a.kdl:9:10
    9 │     pool "q" size=2
      │          ━━━ did you mean r?

    error: on-failure cannot be "panic"
       ┌ flows/a.kdl:10:16
    10 │     on-failure "panic"
       │                ━━━━━━━ it is one of stop, continue, rollback

    error: the name "x" is taken
       ┌ flows/a.kdl:12:11
    11 │     run "x" pool="r" { command "true" }
       │         ─── first
    12 │     group "x" { run "y" { command "true" } }
       │           ━━━ again

    error: group has no setting "nedes"
       ┌ flows/a.kdl:13:15
    13 │     group "g" nedes="x" { run "in" needs="g" { command "true" } }
       │               ━━━━━ did you mean needs?

    error: a step cannot wait for group "g", which it is in
       ┌ flows/a.kdl:13:42
    13 │     group "g" nedes="x" { run "in" needs="g" { command "true" } }
       │           ─── the group
       │                                          ━━━

    error: there is no step or group "yy"
       ┌ flows/a.kdl:14:19
    14 │     run "z" needs="yy" after="in[a]" { command "true" }
       │                   ━━━━ did you mean y?

    error: step "in" has no instances
       ┌ flows/a.kdl:14:30
    14 │     run "z" needs="yy" after="in[a]" { command "true" }
       │                              ━━━━━━━ it has no each

    error: row "a" shows nothing
       ┌ flows/a.kdl:15:19
    15 │     summary { row "a"; rwo "b" "c" }
       │                   ━━━ a value is missing

    error: summary has no setting "rwo"
       ┌ flows/a.kdl:15:24
    15 │     summary { row "a"; rwo "b" "c" }
       │                        ━━━ did you mean row?

    error: "end" runs at the end, after this step
       ┌ flows/a.kdl:17:23
    16 │     finally { run "end" needs="x" { command "true" } }
       │                   ───── declared here
    17 │     run "early" needs="end" { command "true" }
       │                       ━━━━━ steps in finally run last

    error: flow needs a name
       ┌ flows/a.kdl:19:1
    19 │ flow
       │ ━━━━ write flow "NAME"

    error: "flwo" cannot stand at the top of a file
       ┌ flows/a.kdl:20:1
    20 │ flwo "x"
       │ ━━━━ did you mean flow?

    error: "run" cannot stand at the top of a file
       ┌ flows/a.kdl:21:1
    21 │ run "x" { command "true" }
       │ ━━━ a step stands in a flow

    21 mistakes in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn scripts_are_left_alone() {
    insta::assert_snapshot!(flow(r#"    run "a" {
        script """
            echo ${HOME:-x} $1 ${#a} ${x.y}
            echo "tag ${param.tag} of ${step.image[each.svc].uri}"
            """
    }"#), @r#"
    error: nothing is put into a script
      ┌ flows/a.kdl:5:23
    5 │             echo "tag ${param.tag} of ${step.image[each.svc].uri}"
      │                       ━━━━━━━━━━━━ sh cannot read this
      └ pass it as env TAG="${param.tag}" and write "$TAG" here

    error: nothing is put into a script
      ┌ flows/a.kdl:5:39
    5 │             echo "tag ${param.tag} of ${step.image[each.svc].uri}"
      │                                       ━━━━━━━━━━━━━━━━━━━━━━━━━━━ sh cannot read this
      └ pass it as env URI="${step.image[each.svc].uri}" and write "$URI" here

    2 mistakes in flows/a.kdl. Nothing was run.
    "#);
}

#[test]
fn templates_and_variables_that_multiply_are_refused() {
    let mut text = String::new();
    for i in 0..30 {
        let _ = writeln!(
            text,
            "template \"t{i}\" {{\n param \"p\"\n use \"t{0}\" as=\"a\" {{ p \"${{param.p}}${{param.p}}\" }}\n use \"t{0}\" as=\"b\" p=\"x\"\n}}",
            i + 1
        );
    }
    text.push_str("template \"t30\" {\n param \"p\"\n run \"x\" { command \"${param.p}\" }\n}\n");
    text.push_str("flow \"f\" {\n use \"t0\" as=\"z\" p=\"x\"\n}\n");
    text.push_str("environment \"e\" { vars {\n v30 \"x\"\n");
    for i in 0..30 {
        let _ = writeln!(text, " v{i} \"${{env.v{0}}}${{env.v{0}}}\"", i + 1);
    }
    text.push_str(" l");
    (0..320).for_each(|i| {
        let _ = write!(text, " \"{i}\"");
    });
    text.push_str("\n} }\nflow \"g\" { run \"r\" { command \"x\"; each \"a\" in=\"${env.l}\"; each \"b\" in=\"${env.l}\" } }\n");
    let found = checked(&text);
    let lines: Vec<&str> = found.lines().filter(|line| line.starts_with("error")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    error: this becomes too long once parameters are put in
    error: templates make more than 20000 steps or 2000 uses of this flow
    error: variable "v3" becomes too long once others are put in
    error: variable "v15" becomes too long once others are put in
    error: step "r" would have 102400 instances
    "#);
}
