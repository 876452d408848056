//! Plain `run` steps: what they get, when they run, in which order, how they end.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::support::project::{Project, Ran};

/// A project with one environment and these lines in flow `f`.
fn project(lines: &str) -> Project {
    Project::new().flow(&format!("environment \"dev\"\nflow \"f\" {{\n{lines}\n}}\n"))
}

const RUN: [&str; 4] = ["run", "f", "--env", "dev"];

fn run(project: &Project, more: &[&str]) -> Ran {
    project.run(&[&RUN, more].concat())
}

/// What steps wrote into the file `order`.
fn order(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path("order")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// A step that writes its name into `order`, with more settings.
fn noting(name: &str, more: &str) -> String {
    format!("run \"{name}\" {{ script \"echo {name} >> order\"; {more} }}\n")
}

#[test]
fn programs_get_what_is_declared_and_a_short_list_else() {
    let project = project(
        r#"
        run "env" {
            command "sh" "-c" "env | sort > env"
            env GREETING="hello" { LIST "a" ; COUNT 3 }
            inherit "WANTED" "NOT_SET"
        }"#,
    )
    .var("WANTED", "yes")
    .var("UNWANTED", "no")
    .var("AWS_SECRET_ACCESS_KEY", "no")
    .var("LC_TIME", "C")
    .var("https_proxy", "http://proxy");
    run(&project, &[]).exits(0);
    let env = project.read("env");
    let names: Vec<&str> = env.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for name in [
        "PATH",
        "HOME",
        "LANG",
        "LC_TIME",
        "https_proxy",
        "FLOW_OUTPUT",
        "GREETING",
        "LIST",
        "COUNT",
        "WANTED",
    ] {
        assert!(names.contains(&name), "{name}: {env}");
    }
    for name in ["UNWANTED", "NOT_SET", "AWS_SECRET_ACCESS_KEY"] {
        assert!(!names.contains(&name), "{name}: {env}");
    }
    assert!(
        env.contains("GREETING=hello\n") && env.contains("COUNT=3\n") && env.contains("WANTED=yes\n"),
        "{env}"
    );
}

#[test]
fn scripts_are_the_shells_and_values_reach_them_by_variables() {
    let project = project(
        r##"
        param "who" default="a 'b' $(touch hacked)"
        run "greet" {
            dir "sub"
            env WHO="${param.who}"
            script #"""
                greeting="${GREETING:-hi} $$"
                echo "${greeting%% *} $WHO" > said
                """#
        }
        run "fails" { needs "greet"; script "false; touch on" }"##,
    )
    .file("sub/keep", "");
    run(&project, &[]).exits(1).says("exited with 1");
    assert_eq!(project.read("sub/said"), "hi a 'b' $(touch hacked)\n");
    assert!(!project.path("sub/hacked").exists() && !project.path("on").exists());
}

#[test]
fn what_a_step_hands_on_reaches_the_ones_that_refer_to_it() {
    let project = project(
        r##"
        run "reads" { command "sh" "-c" "echo \"$1 $2\" > read" "-" "${step.makes.url}" "${step.makes.hosts}" }
        run "makes" {
            script #"""
                echo 'url=https://example.com/?a=b' >> "$FLOW_OUTPUT"
                echo '{"hosts": "one"}' >> "$FLOW_OUTPUT"
                """#
        }
        run "gets" { env COUNT="${step.makes.changed}"; script "echo $COUNT > changed" }
        summary { row "Link" "${step.makes.url}" "and" "more"; row "Outcome" "${run.outcome}" }"##,
    );
    project.run(&["plan", "f", "--env", "dev"]).exits(0).prints("known after makes");
    run(&project, &[]).exits(0).says("Link").says("https://example.com/?a=b  and  more").says("succeeded");
    assert_eq!(project.read("read"), "https://example.com/?a=b one\n");
    assert_eq!(project.read("changed"), "true\n");
}

/// A step with inputs and outputs, and how often it ran.
fn making() -> Project {
    Project::new()
        .var("LEVEL", "1")
        .file("src/a.txt", "a")
        .file("src/b.txt", "b")
        .file("src/skip.log", "x")
        .file("version", "1\n")
        .flow(MAKING)
}

const MAKING: &str = r#"environment "dev"
flow "f" {
    run "make" {
        inputs "src/**" { exclude "**/*.log" }
        outputs "out/all.txt"
        tool "thing" version-from="cat version"
        env MODE="fast"
        inherit "LEVEL"
        script "mkdir -p out; cat src/*.txt > out/all.txt; echo ran >> runs"
    }
}
"#;

fn runs(project: &Project) -> usize {
    std::fs::read_to_string(project.path("runs")).unwrap_or_default().lines().count()
}

#[test]
fn a_step_that_makes_files_runs_again_only_when_something_of_it_changed() {
    type Change = (&'static str, fn(&Project), &'static str);
    let changes: [Change; 7] = [
        ("an input", |p| p.write("src/a.txt", "A"), "src/a.txt changed"),
        (
            "two inputs",
            |p| {
                p.write("src/c.txt", "c");
                p.write("src/d.txt", "d");
            },
            "2 of 4 inputs differ, first src/c.txt",
        ),
        ("a removed input", |p| std::fs::remove_file(p.path("src/d.txt")).unwrap(), "src/d.txt is gone"),
        (
            "the executable bit",
            |p| {
                std::fs::set_permissions(p.path("src/a.txt"), std::fs::Permissions::from_mode(0o755))
                    .unwrap();
            },
            "src/a.txt changed",
        ),
        ("a tool", |p| p.write("version", "2\n"), "thing is 2, was 1"),
        ("a variable", |p| p.flow_now(&MAKING.replace("fast", "slow")), "env MODE of its definition changed"),
        (
            "the script",
            |p| p.flow_now(&MAKING.replace("fast", "slow").replace("echo ran", "echo again")),
            "script of its definition changed",
        ),
    ];
    let project = making();
    project.run(&["plan", "f", "--env", "dev"]).exits(0).prints("it has not run here before");
    run(&project, &[]).exits(0);
    run(&project, &[]).exits(0).says("up to date");
    assert_eq!(runs(&project), 1);
    // Neither times nor what is excluded count.
    project.write("src/a.txt", "a");
    project.write("src/skip.log", "y");
    run(&project, &[]).exits(0).says("up to date");
    assert_eq!(runs(&project), 1);
    for (number, (what, change, reason)) in changes.into_iter().enumerate() {
        change(&project);
        let plan = project.run(&["plan", "f", "--env", "dev"]).exits(0);
        assert!(plan.out.contains(reason), "{what}: {}", plan.out);
        run(&project, &[]).exits(0);
        assert_eq!(runs(&project), number + 2, "{what}");
        run(&project, &[]).exits(0).says("up to date");
        assert_eq!(runs(&project), number + 2, "{what}");
    }
    run(&project, &["--no-cache"]).exits(0);
    assert_eq!(runs(&project), 9);
}

#[test]
fn a_failed_step_is_not_up_to_date_and_an_input_that_changes_meanwhile_is_not_trusted() {
    let project = project(
        r#"
        run "fails" { inputs "in"; script "echo ran >> runs; exit $(cat in)" }
        run "moves" { inputs "moving"; script "echo x >> moving; echo ran >> moved" }
        "#,
    )
    .file("in", "1")
    .file("moving", "");
    run(&project, &["--keep-going"]).exits(1);
    run(&project, &["--keep-going"]).exits(1);
    assert_eq!(runs(&project), 2);
    assert_eq!(project.read("moved").lines().count(), 2);
}

#[test]
fn outputs_that_hold_a_secret_are_not_kept() {
    let project = project(
        r#"
        secret "key" from="env:KEY"
        run "make" {
            inputs "flows/*"
            outputs "made"
            env KEY="${secret.key}"
            script "echo $KEY > made; echo \"key=$KEY\" >> $FLOW_OUTPUT; echo ran >> runs"
        }
        run "use" { env K="${step.make.key}"; script "test ${#K} -eq 20" }"#,
    )
    .var("KEY", "swordfish-in-the-sea");
    run(&project, &[]).exits(0);
    run(&project, &[]).exits(0);
    assert_eq!(runs(&project), 2, "what hands on a secret runs each time");
    for (path, bytes) in project.files(".flow") {
        assert!(!String::from_utf8_lossy(&bytes).contains("swordfish"), "{path}");
    }
}

#[test]
fn one_job_runs_in_order_of_appearance() {
    let steps: String = ["one", "two", "three", "four"].map(|name| noting(name, "")).concat();
    let project = project(&(noting("last", "needs \"four\"") + &steps));
    run(&project, &["-j", "1"]).exits(0);
    assert_eq!(order(&project), ["one", "two", "three", "four", "last"]);
}

#[test]
fn a_pool_lets_one_in_at_a_time_and_as_many_as_it_is_wide() {
    let step = |name: &str, pool: &str| {
        format!(
            r#"run "{name}" {{ pool "{pool}"; script "echo in >> {pool}; sleep 0.1; echo out >> {pool}" }}
            "#
        )
    };
    let steps: String =
        (0..4).map(|n| step(&format!("n{n}"), "narrow") + &step(&format!("w{n}"), "wide")).collect();
    let project = project(&format!("pool \"wide\" size=2\n{steps}"));
    run(&project, &["-j", "8"]).exits(0);
    let most = |pool: &str| {
        let mut now = 0;
        let text = project.read(pool);
        text.lines()
            .map(|line| {
                now += if line == "in" { 1 } else { -1 };
                now
            })
            .max()
            .unwrap()
    };
    assert_eq!(most("narrow"), 1);
    assert_eq!(most("wide"), 2);
}

#[test]
fn a_retry_tries_again_and_gives_up() {
    let project = project(
        r#"
        run "second" { retry 2 backoff="10ms"; script "echo x >> tries; test $(wc -l < tries) -ge 2" }
        run "never" { after "second"; retry 2 backoff="10ms"; script "echo x >> never; exit 4" }"#,
    );
    run(&project, &[]).exits(1).says("exited with 4").says("second");
    assert_eq!(project.read("tries").lines().count(), 2);
    assert_eq!(project.read("never").lines().count(), 3);
}

#[test]
fn a_timeout_ends_a_step_and_what_it_started() {
    let project = project(
        r#"run "slow" { timeout "300ms"; grace "200ms"; script "(trap '' TERM; sleep 60) & trap 'echo TERM >> terms' TERM; sleep 60 & wait; wait" }"#,
    );
    let begun = Instant::now();
    run(&project, &[]).exits(1).says("not done after 0.3s");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(project.read("terms"), "TERM\n");
}

#[test]
fn a_probe_that_says_done_makes_the_step_unnecessary() {
    let project = project(r#"run "once" { command "touch" "done"; probe { command "test" "-e" "done" } }"#);
    project.run(&["plan", "f", "--env", "dev"]).exits(0).prints("touch done");
    run(&project, &[]).exits(0);
    assert!(project.path("done").exists());
    run(&project, &[]).exits(0).says("up to date");
}

#[test]
fn a_failure_stops_what_needs_it_and_nothing_else_starts() {
    let steps = noting("first", "")
        + "run \"bad\" { needs \"first\"; command \"false\" }\n"
        + &noting("behind", "needs \"bad\"")
        + &noting("beside", "needs \"first\"; after \"slow\"")
        + "run \"slow\" { needs \"first\"; command \"sleep\" \"0.3\" }\n";
    let project = project(&steps);
    run(&project, &["-j", "4"]).exits(1).says("bad").says("Not started: behind, beside");
    assert_eq!(order(&project), ["first"]);
    run(&project, &["-j", "4", "--keep-going"]).exits(1).says("bad");
    assert_eq!(order(&project), ["first", "first", "beside"]);
}

#[test]
fn a_step_may_fail_without_stopping_the_others() {
    let project = project(&format!(
        "run \"bad\" {{ command \"false\"; on-failure \"continue\" }}\n{}{}",
        noting("good", "after \"bad2\""),
        "run \"bad2\" { command \"false\"; on-failure \"continue\" }\n"
    ));
    run(&project, &["-j", "1"]).exits(1).says("bad");
}

#[test]
fn a_false_condition_skips_a_step_and_holds_nobody_up() {
    let project = project(&format!(
        "param \"deep\" type=\"bool\" default=#false\n{}{}{}",
        noting("clean", "when \"param.deep\""),
        noting("build", "needs \"clean\""),
        noting("check", "needs \"build\"; when \"step.build.changed\"")
    ));
    run(&project, &[]).exits(0);
    assert_eq!(order(&project), ["build", "check"]);
    run(&project, &["-p", "deep=true"]).exits(0);
    assert_eq!(order(&project)[2..], ["clean", "build", "check"]);
}

#[test]
fn a_selection_runs_what_it_names_and_says_what_is_missing() {
    let steps = [
        format!("group \"back\" {{ {} {} }}", noting("api", ""), noting("db", "")),
        noting("site", "after \"api\""),
        noting("smoke", "needs \"site\""),
        "run \"each\" { each \"n\" in=\"${env.numbers}\"; command \"sh\" \"-c\" \"echo $0 >> order\" \"${each.n}\" }".to_owned(),
    ];
    let text =
        format!("environment \"dev\" {{ vars {{ numbers 1 2 3 }} }}\nflow \"f\" {{ {} }}", steps.join("\n"));
    let project = Project::new().flow(&text);
    let ran = |more: &[&str]| {
        let _ = std::fs::remove_file(project.path("order"));
        run(&project, &[&["-j", "1"], more].concat()).exits(0);
        order(&project)
    };
    run(&project, &["--only", "smoke"]).exits(2).says("--only site");
    assert_eq!(ran(&["--only", "back"]), ["api", "db"]);
    assert_eq!(ran(&["--only", "site,each[2]"]), ["site", "2"]);
    assert_eq!(ran(&["--only", "each[1]", "--only", "each[3]"]), ["1", "3"]);
    assert_eq!(ran(&["--skip", "back,each"]), ["site", "smoke"]);
    // By now a release records it.
    assert_eq!(ran(&["--only", "smoke"]), ["smoke"]);
    run(&project, &["--only", "smok"]).exits(2).says("smoke");
}

#[test]
fn finally_runs_whatever_happens_and_knows_how_it_went() {
    let text = r#"
        param "code" default="0"
        run "work" { command "sh" "-c" "exit $0" "${param.code}" }
        finally {
            run "tell" { env HOW="${run.outcome}" WHO="${run.failed}"; script "echo \"$HOW [$WHO]\" >> told" }
            run "alarm" { when "run.outcome == 'failed'"; command "touch" "alarmed" }
        }"#;
    let project = project(text);
    run(&project, &[]).exits(0);
    assert!(!project.path("alarmed").exists());
    run(&project, &["-p", "code=3"]).exits(1).says("exited with 3");
    assert_eq!(project.read("told"), "succeeded []\nfailed [work]\n");
    assert!(project.path("alarmed").exists());
}

const GATED: &str = r#"
environment "dev"
environment "prod" { protected #true }
flow "f" {
    approve "go" { for "really?" }
    run "act" { needs "go"; command "touch" "acted"; probe { command "test" "-e" "acted" } }
}"#;

#[test]
fn a_gate_without_a_terminal_waits_unless_yes_answers_it() {
    let project = Project::new().flow(GATED);
    run(&project, &[]).exits(3).says("--yes");
    assert!(!project.path("acted").exists());
    run(&project, &["--yes"]).exits(0);
    assert!(project.path("acted").exists());
    // Nothing behind it changes: it is not asked.
    run(&project, &[]).exits(0).says("up to date");
}

#[test]
fn yes_answers_nothing_where_an_environment_is_protected() {
    let project = Project::new().flow(GATED);
    project.run(&["run", "f", "--env", "prod", "--yes"]).exits(3).says("type the environment's name");
    assert!(!project.path("acted").exists());
    run(&project, &["--skip", "go"]).exits(2).says("go");
    assert!(!project.path("acted").exists());
}

#[test]
fn a_program_that_is_not_there_is_named_with_what_was_meant() {
    let project = project("run \"a\" { command \"gradlew\" }").file("gradlew", "");
    run(&project, &[]).exits(1).says("gradlew").says("./gradlew");
    project.flow_now("environment \"dev\"\nflow \"f\" { run \"a\" { command \"./gradlew\" } }");
    run(&project, &[]).exits(1).says("chmod +x");
}

#[test]
fn a_dry_run_runs_nothing() {
    let project = project(&noting("a", ""));
    run(&project, &["--dry-run"]).exits(0).prints("1 to run");
    assert!(order(&project).is_empty());
    assert!(project.journal().is_empty());
}
