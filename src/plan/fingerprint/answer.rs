//! Asks the cache about a key: whether what it makes is there already.

use crate::cache::local::{Entry, Found, Plan};
use crate::cache::manifest::Manifest;
use crate::cache::successes::Success;
use crate::cache::{Cache, Whose};
use crate::model::value::Outputs;
use crate::world::files::Files;

use super::key::Key;
use super::stale::Stale;

/// A key and its digest.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// The key.
    pub key: Key,
    /// Its digest.
    pub digest: String,
}

impl From<Key> for Keyed {
    fn from(key: Key) -> Self {
        Self { digest: key.digest(), key }
    }
}

/// What the cache says of a key.
#[derive(Debug)]
pub enum Answer {
    /// All that it makes stands where it belongs; this is what it hands on.
    UpToDate(Outputs),
    /// It was made before and can be put back.
    Stored(Box<Stored>),
    /// It has to be made.
    Stale(Stale),
}

/// What was made before and does not stand where it belongs.
#[derive(Debug)]
pub struct Stored {
    /// What was made.
    pub entry: Entry,
    /// What the step's last success made, which makes room for it.
    pub before: Option<Manifest>,
    /// What has to be done.
    pub plan: Plan,
    /// Why it does not stand there.
    pub why: Stale,
}

/// Asks about a key. A cache that cannot be read says so and counts as empty. `restorable`: whether
/// what the step makes are outputs that may be put back, and nothing else.
#[must_use]
pub fn ask(keyed: &Keyed, whose: &Whose<'_>, restorable: bool, cache: &Cache, files: &Files) -> Answer {
    let last = cache.successes.get(whose).unwrap_or_else(|error| {
        cache.complain(format!("the cache cannot be read: {error}"));
        None
    });
    let why = match &last {
        Some(last) if last.key == keyed.digest => match &last.made {
            None => Stale::Lost,
            Some(made) => match made.differing(files) {
                Err(error) => Stale::Unclear(error.to_string()),
                Ok(differing) => match differing.first() {
                    None => return Answer::UpToDate(last.outputs.clone()),
                    Some(first) => Stale::Made(first.clone(), differing.len() - 1),
                },
            },
        },
        Some(last) => since(&keyed.key, last),
        None => Stale::Never,
    };
    if !restorable {
        return Answer::Stale(why);
    }
    let before = last.and_then(|last| last.made);
    match cache.local.entry(&keyed.digest) {
        Ok(Found::Entry(entry)) => match cache.local.plan(&entry, before.as_ref()) {
            Ok(plan) if plan == Plan::default() => Answer::UpToDate(entry.outputs),
            Ok(plan) => Answer::Stored(Box::new(Stored { entry: *entry, before, plan, why })),
            Err(error) => Answer::Stale(Stale::Unclear(error.to_string())),
        },
        Ok(Found::Nothing) => Answer::Stale(why),
        Ok(Found::Broken) => Answer::Stale(Stale::Damaged("its entry in the cache is damaged".to_owned())),
        Err(error) => {
            cache.complain(format!("the cache cannot be read: {error}"));
            Answer::Stale(why)
        }
    }
}

/// What differs from the last success.
fn since(key: &Key, last: &Success) -> Stale {
    then(last).and_then(|then| Stale::between(key, &then)).unwrap_or(Stale::Lost)
}

/// The key of a success; `None` when it is lost, or written by another flow.
#[must_use]
pub fn then(last: &Success) -> Option<Key> {
    let key: Key = serde_json::from_str(&last.rows).ok()?;
    (key.digest() == last.key).then_some(key)
}
