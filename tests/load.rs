//! Many steps, deep chains, much output: time and memory stay small.

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::project::{Project, Ran};

/// What a run of any size may take, kilobytes.
const MEMORY: u64 = 100 * 1024;

/// Generous against what is seen (a few seconds), for machines that are busy with other things.
const DEADLINE: Duration = Duration::from_mins(1);

/// Runs `flow` to its end and says the most memory it had, in kilobytes.
#[expect(clippy::print_stdout, reason = "reports a measurement")]
fn watched(project: &Project, arguments: &[&str]) -> (Ran, u64) {
    let begun = Instant::now();
    let mut child = project.start(arguments);
    let mut err = child.stderr.take().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    let reading_out = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        text
    });
    let mut peak = 0;
    let status = loop {
        peak = peak.max(high_water(&child).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < DEADLINE, "not done after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    println!("{arguments:?}: {:.1?}, {peak} kB", begun.elapsed());
    let ran = Ran { code: status.code(), out: reading_out.join().unwrap(), err: reading.join().unwrap() };
    (ran, peak)
}

/// `VmHWM` of a process that runs.
fn high_water(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
fn a_thousand_steps_beside_each_other_finish_in_little_memory() {
    let project = Project::new().flow(
        r#"
        environment "dev" { vars { digits 0 1 2 3 4 5 6 7 8 9 } }
        flow "load" {
            run "step" {
                each "a" in="${env.digits}"
                each "b" in="${env.digits}"
                each "c" in="${env.digits}"
                command "true"
            }
        }"#,
    );
    let (ran, peak) = watched(&project, &["run", "load", "--env", "dev"]);
    let ran = ran.exits(0);
    assert_eq!(ran.err.lines().filter(|line| line.contains("step[")).count(), 1000);
    ran.says("step[9,9,9]");
    assert!((1..MEMORY).contains(&peak), "{peak} kB");
}

#[test]
fn a_chain_of_a_thousand_steps_finishes_in_order() {
    let mut text = "environment \"dev\"\nflow \"load\" {\n".to_owned();
    for step in 0..1000 {
        let needs = if step == 0 { String::new() } else { format!("; needs \"s{}\"", step - 1) };
        writeln!(text, "    run \"s{step}\" {{ command \"true\"{needs} }}").unwrap();
    }
    let project = Project::new().flow(&(text + "}\n"));
    let (ran, peak) = watched(&project, &["run", "load", "--env", "dev"]);
    let ran = ran.exits(0);
    let order: Vec<&str> = ran
        .err
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('s')))
        .collect();
    let order: Vec<&str> = order.into_iter().filter(|word| word[1..].parse::<u32>().is_ok()).collect();
    let wanted: Vec<String> = (0..1000).map(|step| format!("s{step}")).collect();
    assert_eq!(order, wanted);
    assert!((1..MEMORY).contains(&peak), "{peak} kB");
}

#[test]
fn twenty_megabytes_of_output_pass_through_bounded_memory() {
    let project = Project::new().flow(
        r#"
        environment "dev"
        flow "load" {
            run "loud" { command "sh" "-c" "yes 'a line of output that says little' | head -c 20000000" }
            run "long" { command "sh" "-c" "head -c 20000000 /dev/zero | tr '\\0' x" }
        }"#,
    );
    let (ran, peak) = watched(&project, &["run", "load", "--env", "dev"]);
    ran.exits(0);
    assert!((1..MEMORY).contains(&peak), "{peak} kB");
    for step in ["loud", "long"] {
        let logged = project.logged(step);
        assert!(logged > 20_000_000, "{step}: {logged}");
    }
}

#[test]
fn nothing_is_kept_open_by_whoever_no_longer_reads() {
    let project = Project::new().flow(
        r#"
        environment "dev"
        flow "load" { run "one" { command "true" } }"#,
    );
    let mut child = project
        .command(&["run", "load", "--env", "dev"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    // A report that cannot be written fails no run.
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// More steps than are looked at in one go, so that those of one plan are spread over threads: a
/// chain, and beside it steps that hang on some of its links.
#[test]
fn a_plan_is_the_same_however_its_steps_are_spread() {
    let mut text = "environment \"dev\"\nflow \"load\" {\n".to_owned();
    for step in 0..200 {
        let word = if step == 0 { "start".to_owned() } else { format!("${{step.s{}.word}}", step - 1) };
        writeln!(text, "    run \"s{step}\" {{ command \"echo\" \"{word}\"; undo \"none\" }}").unwrap();
        let link = step * 7 % 200;
        writeln!(
            text,
            "    run \"x{step}\" {{ command \"echo\" \"${{step.s{link}.word}}\"; undo \"none\" }}"
        )
        .unwrap();
    }
    let project = Project::new().flow(&(text + "}\n"));
    let plan = || {
        let mut plan = project.run(&["plan", "load", "--env", "dev", "--json"]).exits(0).json();
        let steps = plan["steps"].as_array().unwrap().clone();
        (plan["digest"].take(), steps)
    };
    let (digest, steps) = plan();
    let ids: Vec<&str> = steps.iter().filter_map(|step| step["id"].as_str()).collect();
    let written: Vec<String> = (0..200).flat_map(|step| [format!("s{step}"), format!("x{step}")]).collect();
    assert_eq!(ids, written);
    for _ in 0..9 {
        assert_eq!(plan(), (digest.clone(), steps.clone()));
    }
}
