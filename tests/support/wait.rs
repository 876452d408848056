//! Waiting for what happens at once, on a machine that is busy.

use std::process::Child;
use std::time::{Duration, Instant};

/// How long "at once" may take.
const SOON: Duration = Duration::from_secs(30);

/// Returns as soon as the condition holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `kill -9`, until the programs that flow had started under its guard are gone too: what a test does
/// next, none of them sees.
#[track_caller]
pub(crate) fn kill(mut flow: Child) {
    let started = descendants(flow.id());
    flow.kill().unwrap();
    flow.wait().unwrap();
    until("what flow had started is gone", || !started.iter().any(|id| runs(*id)));
}

fn descendants(of: u32) -> Vec<u32> {
    let mut found = children(of);
    let mut at = 0;
    while let Some(id) = found.get(at) {
        found.extend(children(*id));
        at += 1;
    }
    found
}

/// What the threads of a process have started.
fn children(of: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let listed = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    listed.flat_map(|ids| ids.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// Whether there is such a process, and it is not one that only waits to be collected.
fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
