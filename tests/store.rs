//! A disk that is full and a store that cannot be written: nothing is done that is not recorded.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::project::{Project, Ran};

/// Steps whose effects lie outside the store: each makes a file of its name.
const EFFECTS: &str = r#"
    flow "deploy" {
        run "one" { command "touch" "done-one" }
        run "two" { needs "one"; command "touch" "done-two" }
        run "three" { needs "one"; command "touch" "done-three" }
        run "four" { needs "two" "three"; script "touch done-four; echo x=y > $FLOW_OUTPUT" }
    }"#;

const STEPS: [&str; 4] = ["one", "two", "three", "four"];

fn project(store: &Path) -> Project {
    Project::new().flow(&format!(
        "project \"p\" {{ store {:?} }}\nenvironment \"dev\"\n{EFFECTS}",
        store.display().to_string()
    ))
}

fn deploy(project: &Project) -> Ran {
    project.run(&["run", "deploy", "--env", "dev"])
}

/// Every effect that was made was announced before; the journals can be read; what a run says fits
/// what it did.
#[track_caller]
fn nothing_unannounced(project: &Project, store: &Path, ran: &Ran, when: &str) {
    let made: Vec<&str> =
        STEPS.into_iter().filter(|step| project.path(&format!("done-{step}")).exists()).collect();
    let mut announced = Vec::new();
    for run in std::fs::read_dir(store.join("runs")).into_iter().flatten().flatten() {
        let text = std::fs::read(run.path().join("journal.jsonl")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            if record["event"]["type"] == "intent" {
                announced.push(record["event"]["step"].as_str().unwrap().to_owned());
            }
        }
        if !whole.is_empty() {
            let name = run.file_name().into_string().unwrap();
            project.run(&["log", &name]).exits(0);
        }
    }
    for step in &made {
        assert!(announced.iter().any(|name| name == step), "{when}: {step} was made unannounced: {ran:?}");
    }
    match ran.code {
        Some(0) => assert_eq!(made, STEPS, "{when}: {ran:?}"),
        // What did not end well says why, in the system's words.
        Some(1 | 6 | 7) => assert!(ran.err.contains("No space left on device"), "{when}: {ran:?}"),
        _ => panic!("{when}: {ran:?}"),
    }
    if ran.code == Some(1) && made.is_empty() {
        return;
    }
    project.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_disk_that_is_full_at_any_write_leaves_no_effect_without_its_intent() {
    let mut outcomes = std::collections::BTreeMap::<i32, usize>::new();
    for at in 1.. {
        assert!(at < 400, "it never succeeds");
        let store = tempfile::tempdir().unwrap();
        let project = project(store.path()).var("FLOW_FULL_AT", &at.to_string());
        let ran = deploy(&project);
        let code = ran.code.unwrap();
        nothing_unannounced(&project, store.path(), &ran, &format!("full at write {at}"));
        *outcomes.entry(code).or_default() += 1;
        if code == 0 && !ran.err.contains("No space left") {
            break;
        }
    }
    eprintln!("exit codes over all writes: {outcomes:?}");
    assert!(outcomes.values().sum::<usize>() > 15, "{outcomes:?}");
    assert!(outcomes.contains_key(&7), "an effect whose end found no room: {outcomes:?}");
}

/// A file system of its own, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn small(kilobytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap().keep();
        let size = format!("size={kilobytes}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "flow-test"]).arg(&folder).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder));
        }
        std::fs::remove_dir(&folder).unwrap();
        eprintln!("skipped: mounting a small file system needs root");
        None
    }

    fn read_only(&self) -> bool {
        let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).output();
        remounted.is_ok_and(|remounted| remounted.status.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_small_disk_fills_up_and_everything_on_it_can_be_read() {
    for kilobytes in [16, 24, 32, 40, 48, 64] {
        let Some(mounted) = Mounted::small(kilobytes) else { return };
        let project = project(&mounted.0);
        // Until nothing more fits.
        for round in 0..60 {
            for step in STEPS {
                let _ = std::fs::remove_file(project.path(&format!("done-{step}")));
            }
            let ran = deploy(&project);
            if ran.code == Some(0) {
                continue;
            }
            let when = format!("{kilobytes} kB, round {round}");
            let made = STEPS.into_iter().filter(|step| project.path(&format!("done-{step}")).exists());
            let made = made.count();
            let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains("No space left on device"), "{when}: {ran:?}");
            assert!(matches!(ran.code, Some(1 | 6 | 7)), "{when}: {ran:?}");
            // With nothing but the release left to write the run failed, and that is recorded.
            let unreleased = said.contains("the release could not be recorded");
            assert!(made == 0 || unreleased || ran.code != Some(1), "{when}: {ran:?}");
            break;
        }
        project.run(&["runs"]).exits(0);
        project.run(&["audit", "verify"]).exits(0);
    }
}

#[test]
fn a_store_that_cannot_be_written_stops_a_run_before_it_begins() {
    let Some(mounted) = Mounted::small(1024) else { return };
    let project = project(&mounted.0);
    deploy(&project).exits(0);
    for step in STEPS {
        std::fs::remove_file(project.path(&format!("done-{step}"))).unwrap();
    }
    assert!(mounted.read_only());
    let ran = deploy(&project).exits(1).says("Read-only file system").says("nothing was run");
    assert!(STEPS.into_iter().all(|step| !project.path(&format!("done-{step}")).exists()), "{ran:?}");
    // Looking needs no room.
    project.run(&["plan", "deploy", "--env", "dev"]).exits(0);
    project.run(&["runs"]).exits(0).prints("release");
    project.run(&["locks"]).exits(0);
    project.run(&["audit", "verify"]).exits(0);
}
