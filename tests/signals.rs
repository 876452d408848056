//! INT, TERM and HUP to flow alone: every child hears it once, none is left, and it is written down.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::project::{Project, Ran};
use crate::support::wait::until;

/// A variable by which the processes of one project are found.
const MARKER: &str = "FLOW_TEST_PROJECT";

fn send(flow: &Child, signal: Signal) {
    kill_process(Pid::from_child(flow), signal).unwrap();
}

fn end(flow: Child) -> Ran {
    flow.wait_with_output().unwrap().into()
}

/// Processes that a project started and that still live, with their command lines.
fn left(project: &Project) -> Vec<String> {
    let marker = format!("{MARKER}={}", project.root().display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        // Processes come and go while this looks.
        let Ok(environ) = std::fs::read(path.join("environ")) else { continue };
        if environ.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes()) {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

#[track_caller]
fn none_is_left(project: &Project) {
    // A killed process needs a moment to go.
    until("all processes are gone", || left(project).is_empty());
}

/// A project whose steps are marked, with these steps in its flow.
fn project(steps: &str) -> Project {
    let project = Project::new();
    let root = project.root().display().to_string();
    project.var(MARKER, &root).flow(&format!(
        r#"
        environment "dev"
        flow "wait" {{
            {steps}
        }}"#
    ))
}

/// Writes `started-NAME`, then a line to `terms-NAME` for each TERM.
fn listener(name: &str) -> String {
    format!(
        r#"run "{name}" {{ inherit "{MARKER}"; script "trap 'echo TERM >> terms-{name}; exit 0' TERM; touch started-{name}; while :; do sleep 5 & wait $!; done" }}
        "#
    )
}

fn three() -> Project {
    project(&["a", "b", "c"].map(listener).concat())
}

fn terms(project: &Project, name: &str) -> String {
    std::fs::read_to_string(project.path(&format!("terms-{name}"))).unwrap_or_default()
}

#[test]
fn each_of_the_three_signals_reaches_every_child_once_and_leaves_none() {
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP")] {
        let project = three();
        let flow = project.start(&["run", "wait", "--env", "dev", "-j", "3"]);
        until("all have started", || {
            ["a", "b", "c"].iter().all(|step| project.path(&format!("started-{step}")).exists())
        });
        send(&flow, signal);
        let ran = end(flow).exits(6).says(&format!("interrupted by {name}"));
        none_is_left(&project);
        for step in ["a", "b", "c"] {
            assert_eq!(terms(&project, step), "TERM\n", "{name} {step}\n{}", ran.err);
        }
        let journal = project.journal();
        let kinds: Vec<String> = journal.iter().map(|record| record["event"].to_string()).collect();
        let told = kinds.iter().position(|event| event.contains(name)).unwrap();
        let over = kinds.iter().position(|event| event.contains("run-ended")).unwrap();
        assert!(told < over, "{kinds:#?}");
        assert!(kinds[over].contains("interrupted"), "{}", kinds[over]);
        project.run(&["runs"]).exits(0).prints("interrupted");
    }
}

#[test]
fn what_has_not_started_does_not_start() {
    let project =
        project(&format!("{}run \"next\" {{ needs \"a\"; command \"touch\" \"next\" }}", listener("a")));
    let flow = project.start(&["run", "wait", "--env", "dev"]);
    until("it has started", || project.path("started-a").exists());
    send(&flow, Signal::TERM);
    end(flow).exits(6);
    assert!(!project.path("next").exists());
    none_is_left(&project);
}

/// Whether whoever started this test ignores INT, as a shell does for what it starts in the background:
/// flow then ignores it too until it listens, and a signal in that moment means nothing.
fn ignores_int() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 0b10 != 0
}

/// The moments are the same in every run of this test, and spread over planning, start and end.
#[test]
fn at_any_moment_nothing_is_left_and_nobody_hears_it_twice() {
    let mut seed: u64 = 20_240_717;
    for round in 0..16 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_millis((seed >> 33) % 400);
        let steps: String = (0..6).map(|step| listener(&format!("s{step}"))).collect();
        let project = project(&format!(
            "{steps}run \"asked\" {{ command \"touch\" \"asked\"; probe {{ command \"sleep\" \"0.1\" }} }}"
        ));
        let flow = project.start(&["run", "wait", "--env", "dev", "-j", "6"]);
        std::thread::sleep(moment);
        send(&flow, if round % 2 == 0 || ignores_int() { Signal::TERM } else { Signal::INT });
        let ran = end(flow);
        // Before flow listens the signal simply ends it; there are no children then.
        assert!(matches!(ran.code, None | Some(6)), "after {moment:?}: {ran:?}");
        none_is_left(&project);
        for step in 0..6 {
            let heard = terms(&project, &format!("s{step}"));
            let started = project.path(&format!("started-s{step}")).exists();
            assert!(
                heard == "TERM\n" || (heard.is_empty() && !started),
                "after {moment:?}: s{step} {heard:?}"
            );
        }
        let ended =
            project.journal().iter().any(|record| record["event"].to_string().contains("interrupted"));
        assert!(project.journal().is_empty() || ended, "after {moment:?}: {:?}", project.journal());
    }
}

#[test]
fn while_the_plan_is_made_its_programs_are_stopped_too() {
    let project = project(
        r#"run "asked" {
            inherit "FLOW_TEST_PROJECT"
            command "true"
            probe {
                command "sh" "-c" "trap 'echo TERM >> terms-probe; exit 1' TERM; touch started; while :; do sleep 5 & wait $!; done"
            }
        }"#,
    );
    for command in ["plan", "run"] {
        let flow = project.start(&[command, "wait", "--env", "dev"]);
        until("the probe has started", || project.path("started").exists());
        send(&flow, Signal::TERM);
        end(flow).exits(6).says("interrupted while the plan was made; nothing was run");
        none_is_left(&project);
        assert_eq!(terms(&project, "probe"), "TERM\n");
        std::fs::remove_file(project.path("terms-probe")).unwrap();
        std::fs::remove_file(project.path("started")).unwrap();
    }
    assert!(project.journal().is_empty());
}

#[test]
fn a_grandchild_that_ignores_the_signal_is_gone_after_the_grace() {
    let project = project(
        r#"run "parent" {
            inherit "FLOW_TEST_PROJECT"
            grace "1s"
            script "(trap '' TERM; touch started; while :; do sleep 1; done) & wait"
        }"#,
    );
    let flow = project.start(&["run", "wait", "--env", "dev"]);
    until("the grandchild has started", || project.path("started").exists());
    let begun = Instant::now();
    send(&flow, Signal::TERM);
    let ran = end(flow);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(matches!(ran.code, Some(6 | 7)), "{ran:?}");
    none_is_left(&project);
}

/// Ignores TERM for as long as it is let.
const STUBBORN: &str = r#"run "stubborn" {
    inherit "FLOW_TEST_PROJECT"
    grace "10m"
    script "trap '' TERM; touch started; while :; do sleep 1; done"
}"#;

#[test]
fn the_second_signal_kills_at_once_and_the_outcome_is_unknown() {
    let project = project(STUBBORN);
    let flow = project.start(&["run", "wait", "--env", "dev"]);
    until("it has started", || project.path("started").exists());
    send(&flow, Signal::INT);
    until("the journal says interrupted", || {
        project.journal().iter().any(|record| record["event"].to_string().contains("SIGINT"))
    });
    assert!(!left(&project).is_empty(), "it has its grace");
    send(&flow, Signal::INT);
    let begun = Instant::now();
    end(flow).exits(7).says("stubborn");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    none_is_left(&project);
}

#[test]
fn three_signals_in_one_moment_end_flow_and_its_children() {
    let project = project(STUBBORN);
    let flow = project.start(&["run", "wait", "--env", "dev"]);
    until("it has started", || project.path("started").exists());
    // Three of one sort would be one to the kernel.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        send(&flow, signal);
    }
    let begun = Instant::now();
    let ran = end(flow);
    assert!(matches!(ran.code, Some(6 | 7)), "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    none_is_left(&project);
}

#[test]
fn finally_tidies_up_after_an_interruption() {
    let project = Project::new().flow(&format!(
        r#"
        environment "dev"
        flow "wait" {{
            {}
            finally {{
                run "tidy" {{ script "sleep 0.2; echo $HOW > tidied"; env HOW="${{run.outcome}}" }}
            }}
        }}"#,
        listener("a")
    ));
    let flow = project.start(&["run", "wait", "--env", "dev"]);
    until("it has started", || project.path("started-a").exists());
    send(&flow, Signal::TERM);
    end(flow).exits(6);
    assert_eq!(project.read("tidied"), "interrupted\n");
}

#[test]
fn a_signal_during_finally_leaves_no_success() {
    let project = Project::new().flow(&format!(
        r#"
        environment "dev"
        flow "wait" {{
            run "first" {{ command "true" }}
            finally {{ {} }}
        }}"#,
        listener("a")
    ));
    let flow = project.start(&["run", "wait", "--env", "dev"]);
    until("it has started", || project.path("started-a").exists());
    send(&flow, Signal::TERM);
    end(flow).exits(6);
    assert_eq!(terms(&project, "a"), "TERM\n");
}

/// A child and a grandchild, each of which writes down the signals it gets.
const FAMILY: &str = r#"
    inherit "FLOW_TEST_PROJECT"
    script """
        (
            trap 'echo TERM >> terms-grandchild; exit 0' TERM
            touch started-grandchild
            while :; do sleep 5 & wait $!; done
        ) &
        trap 'echo TERM >> terms-child; wait; exit 0' TERM
        touch started-child
        while :; do sleep 5 & wait $!; done
        """
"#;

fn family_started(project: &Project) {
    until("child and grandchild have started", || {
        project.path("started-child").exists() && project.path("started-grandchild").exists()
    });
}

#[test]
fn a_family_hears_the_first_signal_once_each() {
    let project = project(&format!("run \"family\" {{ {FAMILY} }}"));
    let flow = project.start(&["run", "wait", "--env", "dev"]);
    family_started(&project);
    send(&flow, Signal::INT);
    end(flow).exits(6);
    none_is_left(&project);
    assert_eq!((terms(&project, "child"), terms(&project, "grandchild")), ("TERM\n".into(), "TERM\n".into()));
}

#[test]
fn after_kill_nothing_that_deploys_goes_on() {
    let project = project(&format!("run \"family\" {{ {FAMILY} }}"));
    let flow = project.start(&["run", "wait", "--env", "dev"]);
    family_started(&project);
    assert!(!left(&project).is_empty());
    send(&flow, Signal::KILL);
    end(flow);
    none_is_left(&project);
    assert_eq!(terms(&project, "child"), "", "nobody was there to ask");
}

/// As Pulumi starts its providers: in a session of their own, and deaf to everything but KILL.
const RUNAWAY: &str = r#"
    inherit "FLOW_TEST_PROJECT"
    grace "10m"
    script """
        trap '' TERM
        setsid sh -c 'trap "" TERM HUP; (touch started; while :; do sleep 5; done) & exec sleep 600' &
        wait
        wait
        """
"#;

#[test]
fn what_left_its_group_is_ended_too() {
    for (signals, code) in [(&[Signal::KILL][..], None), (&[Signal::INT, Signal::TERM], Some(7))] {
        let project = project(&format!("run \"runaway\" {{ {RUNAWAY} }}"));
        let flow = project.start(&["run", "wait", "--env", "dev"]);
        until("it has started", || project.path("started").exists());
        for signal in signals {
            send(&flow, *signal);
        }
        assert_eq!(end(flow).code, code);
        none_is_left(&project);
    }
}

/// A guard adopts orphans, and the dead among them must not stay: `$PPID` is the guard.
#[test]
fn orphans_that_died_are_not_kept() {
    let project = project(
        r#"run "orphans" {
            timeout "20s"
            script """
                dead() { cat /proc/[0-9]*/stat 2>/dev/null | grep -c ") Z $PPID "; }
                for i in 1 2 3; do (sh -c 'kill -STOP $$' & echo $! >> orphans); done
                until [ "$(wc -l < orphans)" = 3 ]; do :; done
                for id in $(cat orphans); do
                    until grep -q ") T $PPID " /proc/$id/stat; do :; done
                    kill -KILL $id
                done
                until [ "$(dead)" = 0 ]; do :; done
                """
        }"#,
    );
    project.run(&["run", "wait", "--env", "dev"]).exits(0);
    assert_eq!(project.read("orphans").lines().count(), 3);
}

#[test]
fn after_kill_a_probe_does_not_go_on_either() {
    let project = project(
        r#"run "asked" {
            inherit "FLOW_TEST_PROJECT"
            command "true"
            probe { command "sh" "-c" "touch started; while :; do sleep 1; done" }
        }"#,
    );
    let flow = project.start(&["plan", "wait", "--env", "dev"]);
    until("the probe has started", || project.path("started").exists());
    send(&flow, Signal::KILL);
    end(flow);
    none_is_left(&project);
}

#[test]
fn what_only_makes_files_is_ended_by_the_next_run() {
    let project = project(&format!(
        "run \"family\" {{ inputs \"flows/*\"; {FAMILY} }}
         run \"other\" {{ command \"true\" }}"
    ));
    let flow = project.start(&["run", "wait", "--env", "dev", "--only", "family"]);
    family_started(&project);
    until("it is noted", || project.files(".flow/tmp").keys().any(|name| name.contains("-group-")));
    send(&flow, Signal::KILL);
    end(flow);
    assert!(!left(&project).is_empty(), "nobody has ended it yet");
    project.run(&["run", "wait", "--env", "dev", "--only", "other"]).exits(0);
    none_is_left(&project);
    assert!(project.files(".flow/tmp").is_empty(), "{:?}", project.files(".flow/tmp").keys());
}

/// A program under a guard cannot tell, and neither can whoever reads what became of it.
#[test]
fn a_guard_changes_nothing_about_a_program() {
    let project = Project::new()
        .var("PASSED", "a b")
        .file("tool", "#!/nowhere/interpreter\n")
        .flow(
            r#"
            environment "dev"
            flow "all" {
                on-failure "continue"
                run "streams" {
                    inherit "PASSED"
                    dir "flows"
                    command "sh" "-c" "cat; echo \"$1|$PASSED|$(pwd | sed 's|.*/||')\"; echo err >&2; echo out; exit 3" "sh" "x  y"
                    stdin "typed\n"
                }
                run "quiet" { script "read line || echo nothing to read; echo err >&2; echo out" }
                run "dies" { script "kill -SEGV $$" }
                run "hung-up" { script "kill -HUP $$" }
                run "none" { command "no-such-program" }
                run "broken" { command "./tool" }
            }"#,
        );
    rustix::fs::chmod(project.path("tool"), 0o755.into()).unwrap();
    let ran = project.run(&["run", "all", "--env", "dev", "-j", "1"]).exits(1);
    for text in [
        "exited with 3",
        "ended by signal SEGV",
        "ended by signal HUP",
        "there is no program \"no-such-program\" in PATH",
        "the interpreter that the first line of",
    ] {
        assert!(ran.err.contains(text), "{text}\n{}", ran.err);
    }
    let run = project.journal()[0]["event"]["run"].as_str().unwrap().to_owned();
    let said = |step: &str| {
        let lines = project.run(&["log", &run, step, "--json"]).exits(0).json();
        let lines = lines["lines"].as_array().unwrap();
        lines.iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(said("streams"), ["typed", "x  y|a b|flows", "err", "out"]);
    assert_eq!(said("quiet"), ["nothing to read", "err", "out"]);
}

/// As somebody who is not root, from whom nothing can be closed.
#[test]
fn programs_cannot_look_into_flow() {
    let nobody = 65534;
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let project = Project::new().var("HIDDEN", "in-flow-alone").flow(
        r#"
        environment "dev"
        flow "look" {
            run "looks" {
                script "flow=$(cut -d' ' -f4 /proc/$PPID/stat); tr '\\0' ' ' < /proc/$flow/cmdline; cat /proc/$flow/environ || echo closed"
            }
        }"#,
    );
    let chown = |path: &std::path::Path| std::os::unix::fs::chown(path, Some(nobody), Some(nobody)).unwrap();
    chown(project.root());
    chown(&project.path("flows"));
    let mut command = project.command(&["run", "look", "--env", "dev"]);
    std::os::unix::process::CommandExt::uid(&mut command, nobody);
    std::os::unix::process::CommandExt::gid(&mut command, nobody);
    let ran: Ran = match command.output() {
        Ok(output) => output.into(),
        Err(error) => {
            eprintln!("skipped: somebody else cannot start the binary: {error}");
            return;
        }
    };
    ran.exits(0);
    let run = project.journal()[0]["event"]["run"].as_str().unwrap().to_owned();
    let log = project.run(&["log", &run, "looks"]).exits(0);
    assert!(log.out.contains(" run look --env dev") && log.out.contains("closed"), "{}", log.out);
    assert!(!log.out.contains("in-flow-alone"), "{}", log.out);
}
