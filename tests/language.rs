//! What flow files may say, and what is said about those that cannot be read.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::project::Project;

/// Far above the 100 ms that are meant, for machines that are busy with other things.
const DEADLINE: Duration = Duration::from_secs(10);

const DEV: &str = "environment \"dev\"\n";

#[test]
fn eight_mistakes_in_three_files_are_told_together() {
    let project = Project::new()
        .file(
            "flows/a.kdl",
            r#"environment "dev" {
    vars { colour "red" }
}

flow "deploy" {
    ecs-deplo "service" { cluster "c" }
    run "build" { command "make"; dri "src" }
    run "lint" { command "make"; timeout "soon" }
}
"#,
        )
        .file(
            "flows/b.kdl",
            r#"flow "deploy" {
    secret "token" from="env:TOKEN"
    run "push" { command "push" "${secret.token}" }
}
"#,
        )
        .file(
            "flows/sub/c.kdl",
            r#"flow "check" {
    run "a" { command "true"; needs "c" }
    run "b" { command "true"; needs "a" }
    run "c" { command "true"; needs "b" }
    run "paint" { command "paint" "${env.color}" }
    run "late" { command "true"; when "env.colour = 'red'" }
}
"#,
        );
    let ran = project.run(&["check"]).exits(2);
    insta::assert_snapshot!(ran.err, @r#"
    error: there is no step kind "ecs-deplo"
      ┌ flows/a.kdl:6:5
    6 │     ecs-deplo "service" { cluster "c" }
      │     ━━━━━━━━━ did you mean ecs-deploy?

    error: run has no setting "dri"
      ┌ flows/a.kdl:7:35
    7 │     run "build" { command "make"; dri "src" }
      │                                   ━━━ did you mean dir?

    error: "soon" is no duration
      ┌ flows/a.kdl:8:42
    8 │     run "lint" { command "make"; timeout "soon" }
      │                                          ━━━━━━ write 30s, 5m or 2h

    error: there is a flow "deploy" already
      ┌ flows/b.kdl:1:6
    1 │ flow "deploy" {
      │      ━━━━━━━━ again
      ├ flows/a.kdl:5:6
    5 │ flow "deploy" {
      │      ──────── first

    error: a secret cannot stand in "command"
      ┌ flows/b.kdl:3:36
    3 │     run "push" { command "push" "${secret.token}" }
      │                                    ━━━━━━━━━━━━ anybody who lists processes could read it
      └ write env TOKEN="${secret.token}" and let the program read $TOKEN

    error: steps wait for one another: a → c → b → a
      ┌ flows/sub/c.kdl:2:37
    2 │     run "a" { command "true"; needs "c" }
      │                                     ━━━ a needs c
    3 │     run "b" { command "true"; needs "a" }
      │                                     ─── b needs a
    4 │     run "c" { command "true"; needs "b" }
      │                                     ─── c needs b

    error: no environment has a variable "color"
      ┌ flows/sub/c.kdl:5:38
    5 │     run "paint" { command "paint" "${env.color}" }
      │                                      ━━━━━━━━━ did you mean env.colour?

    error: "=" cannot stand here
      ┌ flows/sub/c.kdl:6:51
    6 │     run "late" { command "true"; when "env.colour = 'red'" }
      │                                                   ━ write == to compare

    8 mistakes in 3 files. Nothing was run.
    "#);
    // Every command that needs the flows says the same; nothing runs.
    for command in [["plan", "check", "--env", "dev"], ["run", "check", "--env", "dev"]] {
        assert_eq!(project.run(&command).exits(2).err, ran.err);
    }
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "reports a measurement")]
fn refused_fast(what: &str, text: impl AsRef<[u8]>) {
    let project = Project::new().file("flows/main.kdl", text);
    let begun = Instant::now();
    let ran = project.run(&["check"]);
    let took = begun.elapsed();
    println!("{what}: {took:.0?}");
    let ran = ran.exits(2).says("flows/main.kdl");
    assert!(ran.err.len() < 2_000_000, "{what}: {} bytes of messages", ran.err.len());
    assert!(took < DEADLINE, "{what}: {took:?}");
}

#[test]
fn hostile_files_are_refused_fast() {
    refused_fast(
        "nested slashdashes",
        format!("{DEV}flow \"f\" {{ {} }}", "/- a { ".repeat(60) + &"}".repeat(60)),
    );
    refused_fast("slashdashes in a row", format!("{DEV}flow \"f\" {{ {} x }}", "/-".repeat(60)));
    refused_fast("100 000 levels", "a {".repeat(100_000));
    refused_fast("100 000 closed levels", "a {".repeat(100_000) + &"}".repeat(100_000));
    refused_fast(
        "100 000 parentheses",
        format!("{DEV}flow \"f\" {{ run \"x\" when=\"{}true\" }}", "(".repeat(100_000)),
    );
    refused_fast("50 MB", "node \"a\"\n".repeat(50_000_000 / 9));
    refused_fast("invalid UTF-8", b"flow \"f\xff\" {\n}\n");
    refused_fast("nested comments", "/*".repeat(100_000));
    refused_fast("an open string", format!("{DEV}flow \"{}", "x".repeat(500_000)));
    refused_fast("raw strings", "#".repeat(500_000) + "\"");
    refused_fast(
        "a long line",
        format!("{DEV}flow \"f\" {{ run \"x\" {{ command {} }}; nonsense }}", "\"a\" ".repeat(1 << 18)),
    );
    let mut many = String::from(DEV);
    for number in 0..5000 {
        writeln!(many, "nonsense{number} \"x\"").unwrap();
    }
    refused_fast("thousands of mistakes", many);
    refused_fast("thousands of broken lines", "flow \"a\" = }\n".repeat(5000));
}

/// The text of every fence of a language in a page, with the line it begins at.
fn fences(page: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in page.lines().enumerate() {
        match &mut open {
            Some(_) if line.trim() == "```" => found.extend(open.take()),
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
            None if line.trim() == format!("```{language}") => open = Some((index + 1, String::new())),
            None => {}
        }
    }
    found
}

#[test]
fn every_example_in_the_manual_checks_clean() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    pages.extend(
        std::fs::read_dir(root.join("docs")).into_iter().flatten().map(|entry| entry.unwrap().path()),
    );
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let Ok(text) = std::fs::read_to_string(page) else { continue };
        for (line, example) in fences(&text, "kdl") {
            let ran = Project::new().flow(&example).run(&["check"]);
            assert_eq!(ran.code, Some(0), "{}:{line}\n{}", page.display(), ran.err);
        }
    }
}

#[test]
fn the_flows_of_this_repository_and_the_example_check_clean() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for project in [root.to_owned(), root.join("tests/fixtures/example")] {
        let mut flow = Command::new(env!("CARGO_BIN_EXE_flow"));
        let out = flow.arg("--root").arg(&project).arg("check").output().unwrap();
        assert!(out.status.success(), "{}:\n{}", project.display(), String::from_utf8_lossy(&out.stderr));
    }
}

fn colours() -> Project {
    Project::new()
        .file(
            "flows/project.kdl",
            r#"
            project "paint"
            environment "base" { vars { colour "red"; sizes 1 2; walls { hall area=10; yard area=20 } } }
            environment "prod" extends="base" { vars { colour "white" } }
            environment "dev" extends="base" { branch "feature/*" }
            "#,
        )
        .file(
            "flows/rooms/paint.kdl",
            r#"
            flow "paint" {
                about "Paints walls"
                param "coats" type="int" default=2 help="How often"
                param "finish" default="matt" { choices "matt" "gloss" }
                group "walls" when="env.colour != 'white'" {
                    run "wall" {
                        each "wall" in="${env.walls}"
                        each "size" in="${env.sizes}"
                        command "echo" "${each.wall}" "${each.wall.area}" "${each.size}" "${env.colour}" "${param.coats}" "${param.finish}"
                    }
                }
                use "inspection" as="look" { what "paint" }
                use "inspection" as="again" { what "lid" }
            }
            "#,
        )
        .file(
            "flows/shared/templates.kdl",
            r#"
            template "inspection" {
                param "what"
                run "see" { command "echo" "${param.what}" }
                run "say" { command "echo" "seen"; needs "see" }
            }
            "#,
        )
}

#[test]
fn check_list_and_show_read_every_folder_under_flows() {
    let project = colours();
    project.run(&["check"]).exits(0).says("no mistakes");
    project.run(&["list"]).exits(0).prints("paint").prints("Paints walls");
    let shown = project.run(&["show", "paint"]).exits(0);
    for word in ["coats", "How often", "wall", "look/see", "again/say"] {
        assert!(shown.out.contains(word), "{word}:\n{}", shown.out);
    }
    // From a folder below, and from outside.
    let below = project.command(&["list"]).current_dir(project.path("flows/rooms")).output().unwrap();
    assert!(String::from_utf8_lossy(&below.stdout).contains("paint"));
    let root = project.root().display().to_string();
    let outside = project.command(&["--root", &root, "list"]).current_dir("/").output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stdout).contains("paint"));
}

#[test]
fn environments_extend_each_other_and_groups_hand_down_their_attributes() {
    let project = colours();
    let plan = project.run(&["plan", "paint", "--env", "dev", "-p", "coats=3", "--json"]).exits(0).json();
    let steps: Vec<(&str, &str, &str)> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            let text = |name: &str| step[name].as_str().unwrap_or_default();
            (text("id"), text("action"), text("summary"))
        })
        .collect();
    assert_eq!(
        steps,
        [
            ("wall[hall,1]", "run", "echo hall 10 1 red 3 matt"),
            ("wall[hall,2]", "run", "echo hall 10 2 red 3 matt"),
            ("wall[yard,1]", "run", "echo yard 20 1 red 3 matt"),
            ("wall[yard,2]", "run", "echo yard 20 2 red 3 matt"),
            ("look/see", "run", "echo paint"),
            ("look/say", "run", "echo seen"),
            ("again/see", "run", "echo lid"),
            ("again/say", "run", "echo seen"),
        ]
    );
}

#[test]
fn words_that_are_no_commands_flows_or_environments_are_told_with_what_was_meant() {
    let project = Project::new().flow(
        r#"
        environment "prod" { branch "main" }
        environment "test" { branch "main" }
        flow "deploy" {
            param "tag" default="x"
            param "count" type="int" default=1
            param "mode" default="a" { choices "a" "b" }
            run "go" { command "echo" "${param.tag}" "${param.count}" "${param.mode}" }
        }"#,
    );
    for (words, expected) in [
        (vec!["rollback"], "rollback"),
        (vec!["chekc"], "check"),
        (vec!["run", "deply", "--env", "prod"], "did you mean deploy?"),
        (vec!["run", "deploy", "--env", "prd"], "did you mean prod?"),
        (vec!["run", "deploy"], "--env"),
        (vec!["plan", "deploy"], "--env"),
        (vec!["show", "deply"], "deploy"),
        (vec!["plan", "deploy", "--env", "prod", "-p", "tga=1"], "tga"),
        (vec!["plan", "deploy", "--env", "prod", "-p", "tag"], "tag=VALUE"),
        (vec!["plan", "deploy", "--env", "prod", "-p", "count=many"], "count"),
        (vec!["plan", "deploy", "--env", "prod", "-p", "mode=c"], "mode"),
        (vec!["plan", "deploy", "--env", "prod", "--only", "og"], "og"),
        (vec!["plan", "deploy", "--env", "auto"], "no branch"),
    ] {
        let ran = project.run(&words).exits(2);
        assert!(ran.err.contains(expected), "{words:?}: {}", ran.err);
        assert!(ran.out.is_empty(), "{words:?}: {}", ran.out);
    }
    let nowhere = Project::new();
    nowhere.run(&["list"]).exits(2).says("flows/");
}

#[test]
fn auto_takes_the_environment_of_the_branch() {
    let project = Project::new().flow(
        r#"
        environment "prod" { branch "main" }
        environment "test" { branch "feature/*" }
        environment "review" { branch "feature/*-review" }
        flow "deploy" { run "go" { command "echo" "${env.name}" } }"#,
    );
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.com"]).args(arguments);
        assert!(git.current_dir(project.root()).output().unwrap().status.success(), "{arguments:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    let plan = ["plan", "deploy", "--env", "auto"];
    project.run(&plan).exits(0).prints("prod");
    git(&["checkout", "-qb", "feature/x"]);
    project.run(&plan).exits(0).prints("test");
    git(&["checkout", "-qb", "feature/x-review"]);
    project.run(&plan).exits(2).says("review").says("test");
    git(&["checkout", "-qb", "other"]);
    project.run(&plan).exits(2).says("other");
}
