//! Approvals of runs that are gone on with: what expired meanwhile, and gates behind the first effects.

use super::*;

/// A shop whose flow has these steps behind its gate.
fn with_steps(steps: &str) -> Shop {
    let shop = Shop::new(OPS, "");
    let flow = shop.project.read("flows/main.kdl");
    let last = "run \"ship\" { needs \"go\"; script \"echo ship >> order\" }";
    assert!(flow.contains(last), "{flow}");
    shop.project.flow_now(&flow.replace(last, steps));
    shop
}

const FIRST: &str = "run \"first\" { needs \"go\"; script \"echo first >> order\" }\n";

/// A shop whose flow does one step and fails at the next until `ready` is there.
fn failing() -> Shop {
    let last = "run \"ship\" { needs \"first\"; script \"test -e ready && echo ship >> order\" }";
    with_steps(&[FIRST, last].concat())
}

#[test]
fn a_resumed_run_asks_whether_its_approval_still_counts() {
    let shop = failing();
    let plan = shop.plan(&[]);
    shop.forge(&plan, &shop.ada, NAMESPACE, |_| {});
    shop.run(&[]).exits(1);
    let run = shop.project.journal()[0]["event"]["run"].as_str().unwrap().to_owned();
    assert_eq!(shop.shipped(), 1);
    shop.project.write("ready", "");
    let past = Timestamp::now() - SignedDuration::from_mins(10);
    shop.forge(&plan, &shop.ada, NAMESPACE, |s| s["expires"] = json!(past));
    let ran = shop.project.run(&["resume", &run]).exits(3);
    tells(&ran, "does not count: ada's approval expired 10 min ago");
    assert_eq!(shop.shipped(), 1);
    shop.forge(&plan, &shop.lin, NAMESPACE, |_| {});
    shop.project.run(&["resume", &run]).exits(0);
    assert_eq!(shop.project.read("order"), "first\nship\n");
}

#[test]
fn a_break_glass_run_goes_on_and_is_still_to_be_reviewed() {
    let shop = failing();
    let words = ["run", "f", "--env", "prod", "--break-glass", "INC-2 down", "--key", &shop.ada.file];
    let ran = shop.project.run(&words).exits(1);
    let run = shop.project.journal()[0]["event"]["run"].as_str().unwrap().to_owned();
    tells(&ran, &format!("flow review {run}"));
    shop.project.write("ready", "");
    shop.project.run(&["resume", &run]).exits(0);
    assert_eq!(shop.project.read("order"), "first\nship\n");
    tells(&shop.project.run(&["run", "f", "--env", "prod"]).exits(5), "nobody else has reviewed it");
    shop.project.run(&["review", &run, "--key", &shop.lin.file]).exits(0);
    shop.project.run(&["run", "f", "--env", "prod"]).exits(3);
}

#[test]
fn a_killed_run_whose_approval_expired_meanwhile_waits_for_another() {
    let last = "run \"ship\" { needs \"first\"; resume \"rerun\"\n\
                script \"touch begun; while [ ! -e ready ]; do sleep 0.01; done; echo ship >> order\" }";
    let shop = with_steps(&[FIRST, last].concat());
    shop.plan(&[]);
    shop.run(&[]).exits(3);
    shop.approve(&shop.ada, &[]).exits(0);
    let flow = shop.project.start(&["run", "--plan", "f.plan"]);
    until("ship has begun", || shop.project.path("begun").exists());
    kill(flow);
    shop.project.write("ready", "");
    let run = shop.project.newest_run()["id"].as_str().unwrap().to_owned();

    // A signature counts for four hours.
    let later = Ahead::by(Duration::from_mins(6 * 60 + 1));
    let ran = later.run(&shop.project, &["resume", &run]).exits(3);
    tells(&ran, "does not count: ada's approval expired 2 h ago");
    tells(&ran, &format!("then: flow resume {run}"));
    assert_eq!(shop.project.read("order"), "first\n", "nothing was done without one");

    let approve = ["approve", "f.plan", "--key", &shop.lin.file];
    tells(&later.run(&shop.project, &approve).exits(0), &format!("it opens: flow resume {run}"));
    later.run(&shop.project, &["resume", &run]).exits(0);
    assert_eq!(shop.project.read("order"), "first\nship\n");
    tells(&later.run(&shop.project, &approve).exits(5), "refused: this plan was used by run ");
}

#[test]
fn a_gate_behind_the_first_effects_is_opened_for_the_run_that_waits_there() {
    let more = "approve \"on\" { needs \"first\"; from \"group:ops\" }\n\
                run \"ship\" { needs \"on\"; script \"echo ship >> order\" }";
    let shop = with_steps(&[FIRST, more].concat());
    shop.plan(&[]);
    shop.approve(&shop.ada, &["--gate", "go"]).exits(0);
    let ran = shop.run(&[]).exits(3);
    let run = shop.project.newest_run()["id"].as_str().unwrap().to_owned();
    tells(&ran, &format!("then: flow resume {run}"));
    assert_eq!(shop.project.read("order"), "first\n");
    shop.project.run(&["resume", &run]).exits(3);

    let ran = shop.approve(&shop.lin, &["--gate", "on"]).exits(0);
    tells(&ran, &format!("it opens: flow resume {run}"));
    shop.project.run(&["resume", &run]).exits(0);
    assert_eq!(shop.project.read("order"), "first\nship\n");
}
