//! Runs that die at a point of their own choosing.
//!
//! The binary of the tests counts named points and ends itself with SIGKILL at
//! the n-th (feature `crash-points`). A normal test run takes a sample of them;
//! `FLOW_CRASH_SAMPLE=all` takes every point, `FLOW_CRASH_SAMPLE=40` so many,
//! and `FLOW_CRASH_SAMPLE=101..200` those.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use super::project::{Project, Ran};

/// Points of a scenario that a normal test run tries.
const SAMPLE: usize = 4;

/// How a run with a crash point in it went.
pub(crate) enum Went {
    /// It died there.
    Died,
    /// It ended before it came to that point: two runs do not pass quite the same ones.
    Ended(Ran),
}

impl Project {
    /// Runs `flow` until it dies at the n-th point.
    pub(crate) fn dies_at(&self, point: usize, arguments: &[&str]) -> Went {
        let output = self.command(arguments).env("FLOW_CRASH_AT", point.to_string()).output().unwrap();
        if output.status.signal() == Some(9) { Went::Died } else { Went::Ended(output.into()) }
    }

    /// Runs `flow` until it passes the n-th of the points of a name. How often it asks a service that
    /// is not ready yet differs from run to run; how often it writes does not.
    pub(crate) fn dies_at_the(&self, nth: usize, name: &str, arguments: &[&str]) -> Went {
        let mut command = self.command(arguments);
        command.env("FLOW_CRASH_AT", nth.to_string()).env("FLOW_CRASH_NAME", name);
        let output = command.output().unwrap();
        if output.status.signal() == Some(9) { Went::Died } else { Went::Ended(output.into()) }
    }

    /// Runs `flow` to its end and writes the points that it passes into a file, which must be none of
    /// the checkout.
    pub(crate) fn lists(&self, list: &Path, arguments: &[&str]) -> Ran {
        self.command(arguments).env("FLOW_CRASH_LIST", list).output().unwrap().into()
    }

    /// The newest run, as `flow runs` tells it.
    #[track_caller]
    pub(crate) fn newest_run(&self) -> serde_json::Value {
        let runs = self.run(&["runs", "--json"]).exits(0).json();
        runs["runs"].as_array().unwrap().first().cloned().unwrap_or_default()
    }
}

/// The lines of a list of points.
pub(crate) fn read(list: &Path) -> Vec<String> {
    std::fs::read_to_string(list).unwrap().lines().map(str::to_owned).collect()
}

/// Which of so many points are tried, from 1.
pub(crate) fn sample(points: usize) -> Vec<usize> {
    match std::env::var("FLOW_CRASH_SAMPLE").as_deref() {
        Ok("all") => (1..=points).collect(),
        Ok(wanted) => match wanted.split_once("..") {
            // There may be some less than in the run that the range was taken from.
            Some((first, last)) => (first.parse().unwrap()..=points.min(last.parse().unwrap())).collect(),
            None => spread(points, wanted.parse().unwrap()),
        },
        Err(_) => spread(points, SAMPLE),
    }
}

/// So many of them, evenly, from the middle of each stretch.
fn spread(points: usize, count: usize) -> Vec<usize> {
    let count = count.min(points);
    (0..count).map(|at| (2 * at + 1) * points / (2 * count) + 1).map(|point| point.min(points)).collect()
}

#[test]
fn a_sample_covers_all_stretches() {
    assert_eq!(spread(12, 3), [3, 7, 11]);
    assert_eq!(spread(2, 6), [1, 2]);
    assert_eq!(spread(100, 1), [51]);
}
