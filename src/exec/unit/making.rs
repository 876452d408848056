//! What a step that only makes files does besides running: it takes its turn,
//! puts back what was made before, and remembers what it made.
//!
//! Nothing here fails a run: a cache that is full, read-only or spoilt is told
//! once and gone without.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Whose;
use crate::cache::local::{Entry, NotKept, NotRestored, Restored};
use crate::cache::manifest::Manifest;
use crate::cache::successes::Success;
use crate::event::Event;
use crate::exec::Shared;
use crate::model::units::{count, show_size};
use crate::model::value::Value;
use crate::plan::fingerprint::{self, answer::Keyed, answer::Stored};
use crate::plan::graph::NodeId;
use crate::plan::propose::whose;
use crate::steps::{Attributes, Context, Done, Failure};
use crate::world::clock::Clock;
use crate::world::depot::Lock;
use crate::world::scratch::Scratch;
use crate::world::walk::Matcher;

use super::Unit;

/// Between two looks at whether another flow is done with the same outputs.
const POLL: Duration = Duration::from_millis(20);

/// A step's turn to make its outputs; dropped, the next one's.
pub(super) struct Turn {
    _lock: Option<Lock>,
    /// Somebody made them since the step was looked at.
    pub(super) look_again: bool,
}

/// Why nothing was put back.
pub(super) enum NotBack {
    /// The run is being stopped.
    Stopped,
    /// It has to run after all, for this reason.
    Run(String),
}

impl Unit {
    /// Waits until nobody else makes the same outputs; `known` is whether the store has them.
    pub(super) async fn turn(
        &self,
        key: &Keyed,
        outputs: &[String],
        known: bool,
        cx: &Context,
    ) -> Result<Turn, Failure> {
        let p = &self.shared.prepared;
        let whose = whose(cx);
        let mut waited = false;
        let lock = loop {
            match p.cache.turn(&whose, outputs) {
                Ok(Some(lock)) => break Some(lock),
                Ok(None) => {}
                Err(error) => {
                    p.cache.complain(format!("the cache cannot be used: {error}"));
                    break None;
                }
            }
            if !waited {
                waited = true;
                self.feed.progress("waits for another flow that makes the same").await;
            }
            cx.cancel.unless_stopped(p.world.clock.pause(POLL)).await?;
        };
        if lock.as_ref().is_some_and(Lock::is_abandoned) {
            // The program of a flow that was killed must not write there any more.
            Scratch::clear(&p.world.files)?;
        }
        let made = || {
            let newer = p.cache.successes.refresh(&whose).unwrap_or_default();
            newer || (!known && !outputs.is_empty() && p.cache.local.has(&key.digest))
        };
        Ok(Turn { look_again: !p.request.no_cache && made(), _lock: lock })
    }

    /// Puts back what was made before.
    pub(super) async fn put_back(
        &self,
        stored: Box<Stored>,
        key: Keyed,
        cx: &Context,
    ) -> Result<Done, NotBack> {
        let (shared, cx) = (Arc::clone(&self.shared), cx.clone());
        let work = tokio::task::spawn_blocking(move || {
            let Stored { entry, before, why, .. } = *stored;
            let cache = &shared.prepared.cache;
            let restored = cache.local.restore(&entry, before.as_ref(), &cx.cancel);
            if let Err(NotRestored::Damaged(_)) = &restored
                && let Err(error) = cache.local.forget(&entry.key)
            {
                cache.complain(format!("the cache cannot be written: {error}"));
            }
            let restored = restored?;
            let done = Done {
                summary: format!("{} ({why})", told(restored)),
                outputs: entry.outputs.clone(),
                receipt: serde_json::Value::Null,
            };
            put(&shared, &whose(&cx), &key, entry.made, &done, Duration::from_millis(entry.took_ms));
            Ok(done)
        });
        match work.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(NotRestored::Stopped)) => Err(NotBack::Stopped),
            Ok(Err(error)) => Err(NotBack::Run(error.to_string())),
            Err(error) => Err(NotBack::Run(error.to_string())),
        }
    }

    /// What only makes files is up to date from now on, unless its inputs changed meanwhile.
    pub(super) async fn remember(
        &self,
        key: Keyed,
        attributes: &Attributes,
        done: &Done,
        (cx, took): (&Context, Duration),
    ) -> Result<(), Failure> {
        let making = Making { shared: Arc::clone(&self.shared), id: self.id, key, took };
        let (attributes, done, cx) = (attributes.clone(), done.clone(), cx.clone());
        let remembered = tokio::task::spawn_blocking(move || making.remember(&attributes, &done, &cx)).await;
        let note = remembered.map_err(|error| Failure::new(error.to_string()))??;
        if let Some(text) = note {
            self.feed.send(Event::Warning { text: format!("{}: {text}", self.step()) }).await;
        }
        Ok(())
    }

    /// Tells what is wrong with the cache, once.
    pub(super) async fn tell_complaints(&self) {
        if let Some(text) = self.shared.prepared.cache.new_complaint() {
            self.feed.send(Event::Warning { text: format!("{text}; flow goes on without it") }).await;
        }
    }
}

fn told(restored: Restored) -> String {
    let Restored { placed, size, removed } = restored;
    let mut parts = Vec::new();
    if placed > 0 {
        parts.push(format!("restored {}, {}", count(placed, "file"), show_size(size)));
    }
    if removed > 0 {
        parts.push(format!("removed {}", count(removed, "file")));
    }
    parts.join(", ")
}

/// A step that was made right now.
struct Making {
    shared: Arc<Shared>,
    id: NodeId,
    key: Keyed,
    took: Duration,
}

impl Making {
    /// Remembers it; `Some` is why not, where the operator should know.
    fn remember(self, attributes: &Attributes, done: &Done, cx: &Context) -> Result<Option<String>, Failure> {
        let p = &self.shared.prepared;
        let files = &p.world.files;
        for output in &attributes.outputs {
            match Manifest::look(files, std::slice::from_ref(output)) {
                Ok(made) if made.rows.is_empty() => {
                    return Err(Failure::new(format!("it made nothing at {output}, which its outputs name"))
                        .help("correct outputs, or find out why the program does not make it"));
                }
                Ok(_) => {}
                Err(error) => return Ok(Some(format!("nothing of it is remembered: {error}"))),
            }
        }
        let globs = attributes.inputs.clone().unwrap_or_default();
        match fingerprint::inputs(&globs, &p.world) {
            Ok(now) => {
                if let Some(changed) = changed(&now, &self.key.key.files) {
                    let own = Matcher::new(&attributes.outputs, &[])
                        .is_ok_and(|outputs| outputs.matches(std::path::Path::new(changed)));
                    return Ok(Some(if own {
                        format!(
                            "its inputs name {changed}, which it makes: exclude it, or nothing of it is remembered"
                        )
                    } else {
                        format!("{changed} changed while it ran, so nothing of it is remembered")
                    }));
                }
            }
            Err(error) => return Ok(Some(format!("nothing of it is remembered: {error}"))),
        }
        if done.outputs.values().any(Value::is_secret) {
            return Ok(None);
        }
        let made = match Manifest::look(files, &attributes.outputs) {
            Ok(made) => made,
            Err(error) => return Ok(Some(format!("nothing of it is remembered: {error}"))),
        };
        let mut note = None;
        if !attributes.outputs.is_empty() {
            match self.keep(&made, done) {
                Ok(()) | Err(NotKept::Secret(_) | NotKept::Busy) => {}
                Err(NotKept::File(error)) => {
                    p.cache.complain(format!("the cache cannot be written: {error}"));
                }
                Err(changed @ NotKept::Changed(_)) => {
                    return Ok(Some(format!("{changed}, so nothing of it is remembered")));
                }
                Err(outside @ NotKept::Outside(_)) => note = Some(format!("{outside} and is not stored")),
            }
        }
        put(&self.shared, &whose(cx), &self.key, made, done, self.took);
        Ok(note)
    }

    fn keep(&self, made: &Manifest, done: &Done) -> Result<(), NotKept> {
        let p = &self.shared.prepared;
        let node = p.graph.node(self.id);
        let sees_secrets =
            node.step.is_private() || self.key.key.values.values().any(|value| value.starts_with("secret "));
        let entry = Entry {
            version: Entry::VERSION,
            key: self.key.digest.clone(),
            step: node.id.to_string(),
            made_at: p.world.clock.now(),
            took_ms: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            made: made.clone(),
            outputs: done.outputs.clone(),
        };
        p.cache.local.keep(&entry, sees_secrets.then_some(&p.world.masker))
    }
}

type Rows = std::collections::BTreeMap<String, String>;

/// The first input that is not as it was.
fn changed<'a>(now: &'a Rows, then: &'a Rows) -> Option<&'a String> {
    let here = now.iter().find(|(name, value)| then.get(*name) != Some(value)).map(|(name, _)| name);
    here.or_else(|| then.keys().find(|name| !now.contains_key(*name)))
}

/// Adds the last success of a step.
fn put(shared: &Shared, whose: &Whose<'_>, key: &Keyed, made: Manifest, done: &Done, took: Duration) {
    let cache = &shared.prepared.cache;
    let success = Success {
        key: key.digest.clone(),
        rows: serde_json::to_string(&key.key).unwrap_or_default(),
        made: Some(made),
        outputs: done.outputs.clone(),
        at: Clock.now(),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    };
    if let Err(error) = cache.successes.put(whose, &success) {
        cache.complain(format!("the cache cannot be written: {error}"));
    }
}
