//! A bench for tests of kinds against the sandbox: a project in a folder of its
//! own, a store that stays between steps, and every event that a step sent.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{Answers, Attributes, Context, Done, Failure, Gatekeeper, Kind, Proposal, Recorded};
use crate::event::{Event, Feed, Message};
use crate::model::names::{FlowName, RunId, StepId};
use crate::model::settings::{Given, GivenNode, Ready};
use crate::model::value::{Field, Outputs, Value};
use crate::syntax::source::Span;
use crate::world::World;
use crate::world::aws::{Clients, Cloud, Target};
use crate::world::cancel::Canceller;
use crate::world::host::Host;
use crate::world::store::Store;

/// One project in front of the sandbox.
pub(crate) struct Bench {
    /// Names resources apart from those of other tests.
    pub unique: String,
    root: tempfile::TempDir,
    cloud: Arc<Cloud>,
    /// Raises signals.
    pub canceller: Canceller,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Bench {
    /// `None`, and a line that says so, where there is no sandbox.
    pub(super) fn new(name: &str) -> Option<Self> {
        let host = Host::current();
        let Some(endpoint) = host.var("SANDBOX_ENDPOINT").map(str::to_owned) else {
            eprintln!("skipped: SANDBOX_ENDPOINT is not set (scripts/sandbox env)");
            return None;
        };
        Some(Self::at(name, &endpoint, host))
    }

    /// In front of another AWS than the sandbox's.
    pub(super) fn in_front_of(name: &str, endpoint: &str) -> Self {
        Self::at(name, endpoint, Host::current())
    }

    /// Behind a proxy that loses the answer to the first request that has all these words in it.
    pub(super) async fn losing(name: &str, words: &[&str]) -> Option<(Self, Lost)> {
        let direct = Self::new(name)?;
        let sandbox = direct.cloud.target().endpoint.clone().expect("an endpoint");
        let (endpoint, lost) = Lost::proxy(&sandbox, words).await;
        Some((Self::at(name, &endpoint, Host::current()), lost))
    }

    fn at(name: &str, endpoint: &str, host: Host) -> Self {
        let target = Target::for_tests(Some(endpoint));
        let nanos = crate::world::clock::Clock.now().as_nanosecond();
        Self {
            unique: format!("sitedev-{name}-{}", nanos % 1_000_000_000_000),
            root: tempfile::tempdir().expect("a folder"),
            cloud: Arc::new(Cloud::new(target, host)),
            canceller: Canceller::new(),
            events: Arc::default(),
        }
    }

    /// The same project in another run: nobody has told it to stop, and nothing was said yet.
    pub(super) fn another(self) -> Self {
        Self { canceller: Canceller::new(), events: Arc::default(), ..self }
    }

    /// The sandbox's clients.
    pub(super) async fn aws(&self) -> &Clients {
        self.cloud.reads().await
    }

    /// Where a file of the project lies.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file of the project.
    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }

    /// Removes a file of the project.
    pub(super) fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).expect("removed");
    }

    /// What a step gets; `recorded` is what the last release, of a run that succeeded, has of it.
    pub(super) fn context(&self, recorded: Option<serde_json::Value>) -> Context {
        let (sender, mut receiver) = mpsc::channel::<Message>(64);
        let events = Arc::clone(&self.events);
        tokio::spawn(async move {
            while let Some(message) = receiver.recv().await {
                events.lock().expect("events").push(message.event);
                if let Some(stored) = message.stored {
                    // A step that was dropped does not wait any more.
                    let _ = stored.send(Ok(()));
                }
            }
        });
        let id = StepId::parse("site");
        let recorded = recorded.map(|receipt| {
            Arc::new(Recorded { kind: "k".to_owned(), outputs: Outputs::new(), receipt, adopted: false })
        });
        let host = Host::current();
        Context {
            id: id.clone(),
            flow: FlowName::new("deploy"),
            run: Some(RunId::new("k3f9")),
            world: World::new(host, self.root.path(), Store::folder(self.path(".flow/store"))),
            cloud: Arc::clone(&self.cloud),
            elsewhere: Arc::default(),
            settled: recorded.clone(),
            recorded,
            feed: Feed::new(id, sender),
            cancel: self.canceller.view(),
            answers: Answers::Nobody,
            gatekeeper: Gatekeeper::default(),
            sealer: crate::world::keyed::Sealer::load(&Store::folder(self.path(".flow/store"))).unwrap(),
            trace: None,
        }
    }

    /// Plans a step.
    pub(super) async fn plan(&self, kind: &Kind, ready: &Ready, cx: &Context) -> Result<Proposal, Failure> {
        let step = (kind.make)(ready, &Attributes::default()).map_err(Failure::from)?;
        let _ = self;
        step.plan(cx).await
    }

    /// Plans a step that has something to do, and does it.
    pub(super) async fn run(
        &self,
        kind: &Kind,
        ready: &Ready,
        cx: &Context,
    ) -> Result<(Proposal, Done), Failure> {
        let mut proposal = self.plan(kind, ready, cx).await?;
        let effect = proposal.effect.take().expect("something to do");
        let done = effect.apply(cx).await?;
        Ok((proposal, done))
    }

    /// How far the step said it is, last.
    pub(super) fn progress(&self) -> Option<String> {
        let events = self.events.lock().expect("events");
        let text = |event: &Event| match event {
            Event::Progress { text, .. } => Some(text.clone()),
            _ => None,
        };
        events.iter().rev().find_map(text)
    }

    /// What was noted last under a key.
    pub(super) fn note(&self, wanted: &str) -> Option<serde_json::Value> {
        let events = self.events.lock().expect("events");
        let noted = |event: &Event| match event {
            Event::Noted { key, data, .. } if key == wanted => Some(data.clone()),
            _ => None,
        };
        events.iter().rev().find_map(noted)
    }

    /// Every line of output so far.
    pub(super) fn output(&self) -> Vec<String> {
        let events = self.events.lock().expect("events");
        let line = |event: &Event| match event {
            Event::Output { line, .. } => Some(line.clone()),
            _ => None,
        };
        events.iter().filter_map(line).collect()
    }
}

/// Whether an answer was lost.
#[derive(Clone, Default)]
pub(crate) struct Lost(Arc<AtomicBool>);

impl Lost {
    /// Whether it was.
    pub(super) fn happened(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    async fn proxy(sandbox: &str, words: &[&str]) -> (String, Self) {
        let upstream = sandbox.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let words: Arc<[String]> = words.iter().map(|&word| word.to_owned()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let lost = Self::default();
        let proxy = lost.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&upstream).await.expect("the sandbox");
                tokio::spawn(proxy.clone().pass(client, server, Arc::clone(&words)));
            }
        });
        (format!("http://{address}"), lost)
    }

    async fn pass(self, mut client: TcpStream, mut server: TcpStream, words: Arc<[String]>) {
        let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
        let mut meant = false;
        loop {
            tokio::select! {
                sent = client.read(&mut up) => match sent {
                    Ok(length @ 1..) => {
                        let text = String::from_utf8_lossy(&up[..length]);
                        meant |= words.iter().all(|word| text.contains(word.as_str()));
                        if server.write_all(&up[..length]).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
                answered = server.read(&mut down) => match answered {
                    // The sandbox has done it; nobody hears of that.
                    Ok(1..) if meant && !self.0.swap(true, Ordering::SeqCst) => return,
                    Ok(length @ 1..) => {
                        if client.write_all(&down[..length]).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
            }
        }
    }
}

/// Settings, put together by hand.
#[derive(Default)]
pub(crate) struct Settings(Ready);

impl Settings {
    /// One value.
    pub(super) fn one(self, name: &'static str, value: impl Into<Plain>) -> Self {
        self.put(name, Given::One(Field::Known(value.into().0)))
    }

    /// Several texts.
    pub(super) fn many(self, name: &'static str, values: &[&str]) -> Self {
        let fields = values.iter().map(|&value| Field::Known(Value::text(value))).collect();
        self.put(name, Given::Many(fields))
    }

    /// Pairs.
    pub(super) fn map(self, name: &'static str, pairs: Vec<(&str, Value)>) -> Self {
        let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), Field::Known(value))).collect();
        self.put(name, Given::Map(pairs))
    }

    /// Nodes with a head and settings of their own.
    pub(super) fn nodes(self, name: &'static str, nodes: Vec<(Value, Settings)>) -> Self {
        let node = |(head, settings): (Value, Settings)| GivenNode {
            head: Some(Field::Known(head)),
            settings: settings.0,
        };
        self.put(name, Given::Nodes(nodes.into_iter().map(node).collect()))
    }

    /// As a kind reads them.
    pub(super) fn ready(self) -> Ready {
        self.0
    }

    fn put(mut self, name: &'static str, given: Given<Field<Value>>) -> Self {
        self.0.insert(name, given, Span::default());
        self
    }
}

/// Text, number or switch.
pub(crate) struct Plain(Value);

impl From<&str> for Plain {
    fn from(text: &str) -> Self {
        Self(Value::text(text))
    }
}

impl From<i64> for Plain {
    fn from(number: i64) -> Self {
        Self(Value::Int(number))
    }
}

impl From<bool> for Plain {
    fn from(flag: bool) -> Self {
        Self(Value::Bool(flag))
    }
}
