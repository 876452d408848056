//! The runs of a flow in an environment that changed something, numbered.
//!
//! A plan carries the number that comes next; the first effect of its run
//! takes it. Who takes a number is decided by creating its record, so that of
//! two runs with one number, or of two runs of one plan, only one goes on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::names::{EnvName, FlowName, RunId};
use crate::world::files::FileError;
use crate::world::store::Store;

/// Version of the format.
pub const VERSION: u32 = 1;

/// A number, and who took it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// [`VERSION`]
    pub version: u32,
    /// From 1.
    pub number: u64,
    /// The run.
    pub run: RunId,
    /// Digest of its plan.
    pub plan: String,
    /// When.
    pub time: Timestamp,
}

/// What became of an attempt to take a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is this run's.
    Ours,
    /// Another run has it; `None` when its record cannot be read.
    Theirs(Option<Taken>),
}

/// The number of a flow's next run in an environment.
pub fn next(store: &Store, environment: &EnvName, flow: &FlowName) -> Result<u64, FileError> {
    let names = store.list(&folder(environment, flow))?;
    let numbers = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
    Ok(numbers.max().unwrap_or(0) + 1)
}

/// Who took a number; `None` when nobody did, or when the record cannot be read.
pub fn get(
    store: &Store,
    environment: &EnvName,
    flow: &FlowName,
    number: u64,
) -> Result<Option<Taken>, FileError> {
    let bytes = store.get(&key(environment, flow, number))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Takes a number. The run that has it already has it still. On disk once this returns.
pub fn take(store: &Store, environment: &EnvName, flow: &FlowName, taken: &Taken) -> Result<Take, FileError> {
    let key = key(environment, flow, taken.number);
    let json = serde_json::to_vec(taken).unwrap_or_default();
    if store.create(&key, &json)? {
        store.settle(&key)?;
        return Ok(Take::Ours);
    }
    Ok(match get(store, environment, flow, taken.number)? {
        Some(found) if found.run == taken.run => Take::Ours,
        found => Take::Theirs(found),
    })
}

fn folder(environment: &EnvName, flow: &FlowName) -> String {
    format!("sequences/{environment}/{flow}")
}

fn key(environment: &EnvName, flow: &FlowName, number: u64) -> String {
    format!("{}/{number:08}.json", folder(environment, flow))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(number: u64, run: &str) -> Taken {
        let time = "2026-11-21T04:12:00Z".parse().unwrap();
        Taken { version: VERSION, number, run: RunId::new(run), plan: "7f3a".to_owned(), time }
    }

    #[test]
    fn a_number_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let (prod, deploy) = (EnvName::new("prod"), FlowName::new("deploy"));
        let take = |number, run| take(&store, &prod, &deploy, &taken(number, run)).unwrap();
        assert_eq!(next(&store, &prod, &deploy).unwrap(), 1);
        assert_eq!(take(1, "k3f9"), Take::Ours);
        assert_eq!(take(1, "k3f9"), Take::Ours, "a run that is resumed has it still");
        assert_eq!(take(1, "h2x1"), Take::Theirs(Some(taken(1, "k3f9"))));
        assert_eq!(next(&store, &prod, &deploy).unwrap(), 2);
        assert_eq!(next(&store, &prod, &FlowName::new("site")).unwrap(), 1, "each flow counts for itself");
        assert_eq!(next(&store, &EnvName::new("test"), &deploy).unwrap(), 1);
    }

    #[test]
    fn of_many_that_want_a_number_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let (prod, deploy) = (EnvName::new("prod"), FlowName::new("deploy"));
        let ours = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|n| {
                    let (store, prod, deploy) = (&store, &prod, &deploy);
                    scope.spawn(move || take(store, prod, deploy, &taken(1, &format!("run{n}"))).unwrap())
                })
                .collect();
            takers.into_iter().map(|t| t.join().unwrap()).filter(|t| *t == Take::Ours).count()
        });
        assert_eq!(ours, 1);
    }
}
