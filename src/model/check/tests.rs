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
    let other = "flow \"deploy\" {\n    run \"x\" { command \"true\" }\n}\n";
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
