//! flow dies while something is taken back, and goes on taking it back.

use super::{MAY_FAIL, World, fails_at_the_end_of, step};
use crate::support::crash::{self, Went, sample};
use crate::support::shop::Shop;
use crate::support::stand::Stand;
use crate::support::wait::{kill, until};

/// A program whose effect is a file, which its probe looks for.
fn flag(name: &str, more: &str) -> String {
    format!(
        r#"run "{name}" {{
            command "sh" "-c" "echo +{name} >> $STATE/log; touch $STATE/{name}"
            probe {{ command "test" "-e" "${{env.state}}/{name}" }}
            undo {{ command "sh" "-c" "echo -{name} >> $STATE/log; rm -f $STATE/{name}" }}
            inherit "STATE"
            {more}
        }}
        "#
    )
}

impl World {
    /// A flow of three flags whose last step fails. That step writes down how many points lie behind
    /// it, where they are listed.
    fn of_flags() -> Self {
        let world = Self::new("");
        let last = r#"run "last" {
            command "sh" "-c" "if [ -e $STATE/points ]; then wc -l < $STATE/points > $STATE/failed-at; fi; false"
            inherit "STATE"; undo "none"; needs "b" "c"
        }
        "#;
        let steps = [flag("a", ""), flag("b", "needs \"a\""), flag("c", ""), last.to_owned()].concat();
        let state = world.elsewhere.path().display();
        world.project.flow_now(&format!(
            "environment \"dev\" {{ vars {{ state \"{state}\" }} }}\n\
             flow \"f\" {{\non-failure \"rollback\"\n{steps}\n}}\n"
        ));
        world
    }

    /// Which flags there are.
    fn flags(&self) -> Vec<&'static str> {
        ["a", "b", "c"].into_iter().filter(|name| self.state(name).exists()).collect()
    }
}

/// The points that a run passes from the moment when its last step failed.
fn points_behind(list: &std::path::Path, failed_at: &std::path::Path) -> (usize, Vec<String>) {
    let passed = std::fs::read_to_string(failed_at).unwrap().trim().parse().unwrap();
    (passed, crash::read(list))
}

const RUN: [&str; 4] = ["run", "f", "--env", "dev"];

#[test]
fn a_run_that_dies_while_it_is_taken_back_goes_on_taking_back() {
    let whole = World::of_flags();
    whole.project.lists(&whole.state("points"), &RUN).exits(9);
    let (passed, points) = points_behind(&whole.state("points"), &whole.state("failed-at"));
    assert!(points.len() > passed + 20, "{passed} of {}", points.len());
    assert_eq!(whole.flags(), [""; 0]);
    let releases = whole.releases();

    let mut died = 0;
    for point in sample(points.len() - passed) {
        let at = passed + point;
        let what = format!("point {at}, {}", points.get(at - 1).map_or("", String::as_str));
        let world = World::of_flags();
        if let Went::Ended(ran) = world.project.dies_at(at, &RUN) {
            ran.exits(9);
            continue;
        }
        died += 1;
        let run = world.project.newest_run();
        if run["outcome"] == "interrupted" {
            let ran = world.project.run(&["resume", run["id"].as_str().unwrap()]);
            assert_eq!(ran.code, Some(9), "{what}: {}", ran.err);
        }
        assert_eq!(world.flags(), [""; 0], "{what}");
        assert_eq!(world.outcome(), "rolled-back", "{what}");
        assert_eq!(world.releases(), releases, "{what}");
        let noted = world.noted();
        let made = noted.iter().filter(|line| line.starts_with('+')).count();
        assert_eq!(made, 3, "{what}: nothing is made once more: {noted:?}");
    }
    assert!(died > 3, "only {died} runs died");
}

#[test]
fn a_program_that_died_while_it_was_taking_back_is_asked_about() {
    for (more, settles) in [("resume \"rerun\"", false), ("probe { command \"false\" }", true)] {
        let slow = format!(
            r#"run "b" {{
                command "sh" "-c" "echo +b >> $STATE/log"
                undo {{ command "sh" "-c" "echo undoing >> $STATE/log; while [ ! -e $STATE/go ]; do sleep 0.01; done; echo -b >> $STATE/log" }}
                inherit "STATE"; needs "a"; {more}
            }}
            "#
        );
        let world = World::new(&["on-failure \"rollback\"\n", &step("a", ""), &slow, MAY_FAIL].concat());
        world.touch("fail");
        let flow = world.project.start(&RUN);
        let log = || std::fs::read_to_string(world.state("log")).unwrap_or_default();
        until("b is taken back", || log().contains("undoing"));
        kill(flow);
        world.touch("go");
        let run = world.project.newest_run()["id"].as_str().unwrap().to_owned();
        let ran = world.project.run(&["resume", &run]);
        if settles {
            assert_eq!(ran.code, Some(9), "{more}: {}", ran.err);
            assert_eq!(world.noted(), ["+a", "+b", "undoing", "-a"], "its probe says that it is gone");
            continue;
        }
        assert_eq!(ran.code, Some(7), "{more}: {}", ran.err);
        assert!(ran.err.contains(&format!("flow reconcile {run} --mark b=not-done")), "{}", ran.err);
        assert_eq!(world.noted(), ["+a", "+b", "undoing"], "nothing else is taken back meanwhile");
    }
}

#[test]
fn a_failed_deploy_of_the_shop_that_dies_while_it_is_taken_back_ends_where_it_began() {
    let shop = Shop::deployed();
    let elsewhere = tempfile::tempdir().unwrap();
    let [list, failed_at] = ["points", "failed-at"].map(|name| elsewhere.path().join(name));
    let counts =
        format!("if [ -e {0} ]; then wc -l < {0} > {1}; fi; false", list.display(), failed_at.display());
    fails_at_the_end_of(&shop, &format!("\"sh\" \"-c\" \"{counts}\""));
    let before = Stand::of(&shop);
    let definitions = shop.task_definitions();
    shop.change(0);
    let deploy = ["run", "deploy", "--env", "sandbox"];
    shop.project.lists(&list, &deploy).exits(9);
    let (passed, points) = points_behind(&list, &failed_at);
    std::fs::remove_file(&list).unwrap();

    let mut died = 0;
    for (number, point) in sample(points.len() - passed).into_iter().enumerate() {
        let at = passed + point;
        let what = format!("point {at}, {}", points.get(at - 1).map_or("", String::as_str));
        shop.change(number + 1);
        if matches!(shop.project.dies_at(at, &deploy), Went::Died) {
            died += 1;
            let run = shop.project.newest_run();
            if run["outcome"] == "interrupted" {
                let ran = shop.project.run(&["resume", run["id"].as_str().unwrap()]);
                assert_eq!(ran.code, Some(9), "{what}: {}", ran.err);
            }
        }
        let after = Stand::of(&shop);
        assert_eq!((&after.versions, &after.site), (&before.versions, &before.site), "{what}");
        assert_eq!(shop.task_definitions(), definitions, "{what}");
    }
    println!("{} points while it is taken back, {died} runs died there", points.len() - passed);
    assert!(died > 3, "only {died} runs died");
}

#[test]
fn a_rollback_of_programs_and_services_that_dies_goes_on_to_the_same_end() {
    let shop = Shop::deployed();
    let first = Stand::of(&shop);
    let elsewhere = tempfile::tempdir().unwrap();
    let state = elsewhere.path().display();
    let flagged = format!(
        r#"run "flag" {{
            command "sh" "-c" "touch {state}/flag"
            probe {{ command "test" "-e" "{state}/flag" }}
            undo {{ command "sh" "-c" "echo undone >> {state}/log; rm -f {state}/flag" }}
            needs "schema"
        }}
        "#
    );
    shop.edit("flows/deploy.kdl", "on-failure \"rollback\"", &flagged);
    let back = ["rollback", "deploy", "--env", "sandbox", "--to", "1"];
    shop.change(0);
    shop.run(&[]).exits(0);
    let list = elsewhere.path().join("points");
    shop.project.lists(&list, &back).exits(0);
    let points = crash::read(&list);
    let flag = elsewhere.path().join("flag");
    assert!(!flag.exists());

    let mut died = 0;
    for (number, point) in sample(points.len()).into_iter().enumerate() {
        let what = format!("point {point}, {}", points[point - 1]);
        shop.change(number + 1);
        shop.run(&[]).exits(0);
        assert!(flag.exists(), "{what}");
        shop.proxy.forget();
        if matches!(shop.project.dies_at(point, &back), Went::Died) {
            died += 1;
            let run = shop.project.newest_run();
            if run["outcome"] == "interrupted" {
                let ran = shop.project.run(&["resume", run["id"].as_str().unwrap()]);
                assert_eq!(ran.code, Some(0), "{what}: {}", ran.err);
            } else if flag.exists() {
                // It died before its first record.
                shop.project.run(&back).exits(0);
            }
        }
        let after = Stand::of(&shop);
        assert_eq!((&after.versions, &after.site), (&first.versions, &first.site), "{what}");
        assert!(!flag.exists(), "{what}");
        assert_eq!(shop.proxy.count("ecs:UpdateService"), 1, "{what}");
    }
    println!("{} points of a rollback, {died} runs died there", points.len());
    assert!(died > 3, "only {died} runs died");
}
