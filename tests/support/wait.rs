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

/// `kill -9`.
#[track_caller]
pub(crate) fn kill(mut flow: Child) {
    flow.kill().unwrap();
    flow.wait().unwrap();
}
