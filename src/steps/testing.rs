//! A bench for the tests of kinds: a project in a folder of its own, a context
//! without an account, and everything that the step said.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Context;
use crate::event::{Event, Feed, Message};
use crate::model::names::{FlowName, RunId, StepId};
use crate::world::World;
use crate::world::aws::{Cloud, Target};
use crate::world::cancel::Canceller;
use crate::world::host::Host;
use crate::world::store::Store;

/// One step's surroundings.
pub(crate) struct Bench {
    /// What the step gets.
    pub(crate) cx: Context,
    /// Stops it.
    pub(crate) canceller: Canceller,
    events: Arc<std::sync::Mutex<Vec<Event>>>,
    root: tempfile::TempDir,
}

impl Bench {
    /// With PATH, one variable to inherit and one that must stay hidden. Needs a runtime: the
    /// events are answered by a task.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let vars = BTreeMap::from([
            ("PATH".to_owned(), std::env::var("PATH").unwrap()),
            ("GIVEN".to_owned(), "given".to_owned()),
            ("HIDDEN".to_owned(), "hidden".to_owned()),
        ]);
        let host = Host::with(vars);
        let target = Target::for_tests(None);
        let (sender, mut receiver) = mpsc::channel::<Message>(16);
        let events = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = Arc::clone(&events);
        tokio::spawn(async move {
            while let Some(message) = receiver.recv().await {
                kept.lock().unwrap().push(message.event);
                if let Some(stored) = message.stored {
                    let _ = stored.send(Ok(()));
                }
            }
        });
        let canceller = Canceller::new();
        let id = StepId::parse("step");
        let cx = Context {
            id: id.clone(),
            flow: FlowName::new("deploy"),
            run: Some(RunId::new("k3f9")),
            world: World::new(host.clone(), root.path(), Store::folder(root.path().join(".flow/store"))),
            cloud: Arc::new(Cloud::new(target, host)),
            elsewhere: Arc::default(),
            recorded: None,
            settled: None,
            feed: Feed::new(id, sender),
            cancel: canceller.view(),
            answers: super::Answers::Nobody,
            gatekeeper: super::Gatekeeper::default(),
            sealer: crate::world::keyed::Sealer::load(&Store::folder(root.path().join(".flow/store")))
                .unwrap(),
            trace: None,
        };
        Self { cx, canceller, events, root }
    }

    /// An account at this endpoint, with the credentials of the surroundings.
    pub(crate) fn sandbox(endpoint: &str) -> Arc<Cloud> {
        Arc::new(Cloud::new(Target::for_tests(Some(endpoint)), Host::current()))
    }

    /// The project's folder.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The lines of output since the last time.
    pub(crate) async fn heard(&mut self) -> Vec<String> {
        let lines = self.events().await.into_iter().filter_map(|event| match event {
            Event::Output { line, .. } => Some(line),
            _ => None,
        });
        lines.collect()
    }

    /// All events since the last time.
    pub(crate) async fn events(&mut self) -> Vec<Event> {
        // Answered after all that was sent before it.
        self.cx.feed.note("mark", serde_json::Value::Null).await.unwrap();
        let mut events = std::mem::take(&mut *self.events.lock().unwrap());
        events.retain(|event| !matches!(event, Event::Noted { key, .. } if key == "mark"));
        events
    }
}
