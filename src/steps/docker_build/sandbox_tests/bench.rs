//! What the tests run in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::{Event, Feed, Message};
use crate::model::names::{FlowName, StepId, StepName};
use crate::model::settings::{Given, Settings};
use crate::model::value::{Field, Value};
use crate::steps::{Attributes, Context, Done, Failure, Kind, Proposal, Step, Way};
use crate::syntax::source::Span;
use crate::world::World;
use crate::world::aws::{Cloud, Target};
use crate::world::cancel::Canceller;
use crate::world::host::Host;
use crate::world::store::Store;

/// A project, a repository of its own, and what a run would give to a step.
pub(super) struct Bench {
    pub(super) folder: tempfile::TempDir,
    pub(super) repository: String,
    pub(super) cloud: Arc<Cloud>,
    pub(super) canceller: Canceller,
    pub(super) host: Host,
    pub(super) events: Arc<std::sync::Mutex<Vec<Event>>>,
    pub(super) registry: String,
}

impl Bench {
    pub(super) async fn new(name: &str, immutable: bool) -> Option<Self> {
        let Ok(endpoint) = std::env::var("SANDBOX_ENDPOINT") else {
            println!("skipped: SANDBOX_ENDPOINT is not set; source the sandbox's variables first");
            return None;
        };
        let registry = endpoint.trim_start_matches("http://").to_owned();
        let target = Target { registry: Some(registry.clone()), ..Target::for_tests(Some(&endpoint)) };
        let host = Host::current();
        let cloud = Arc::new(Cloud::new(target, host.clone()));
        let folder = tempfile::tempdir().unwrap();
        let unique =
            folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches(".tmp").to_lowercase();
        let repository = format!("imgdev-{name}-{unique}");
        let kind = if immutable { "IMMUTABLE" } else { "MUTABLE" };
        let ecr = &cloud.writes().await.ecr;
        let create = ecr.create_repository().repository_name(&repository).image_tag_mutability(kind.into());
        create.send().await.unwrap();
        let bench = Self {
            folder,
            repository,
            cloud,
            canceller: Canceller::new(),
            host,
            events: Arc::default(),
            registry,
        };
        bench.write("api/Dockerfile", "FROM scratch\nCOPY . /\n");
        bench.write("api/.dockerignore", "*.log\n");
        bench.write("api/main.txt", &bench.repository);
        bench.write("api/noise.log", "1");
        Some(bench)
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn without_engine(&self) -> Host {
        let mut vars: BTreeMap<String, String> =
            self.host.vars().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        vars.insert("DOCKER_HOST".to_owned(), "unix:///nowhere/docker.sock".to_owned());
        Host::with(vars)
    }

    pub(super) fn context(&self, host: Host) -> Context {
        let id = StepId::plain(StepName::new("image"));
        let (sender, mut receiver) = mpsc::channel::<Message>(64);
        let events = Arc::clone(&self.events);
        tokio::spawn(async move {
            while let Some(message) = receiver.recv().await {
                events.lock().unwrap().push(message.event);
                if let Some(stored) = message.stored {
                    let _ = stored.send(Ok(()));
                }
            }
        });
        let store = Store::folder(self.path(".flow/store"));
        Context {
            sealer: crate::world::keyed::Sealer::load(&store).unwrap(),
            trace: None,
            feed: Feed::new(id.clone(), sender),
            id,
            flow: FlowName::new("deploy"),
            run: None,
            world: World::new(host, self.folder.path(), store),
            cloud: Arc::clone(&self.cloud),
            elsewhere: Arc::default(),
            recorded: None,
            settled: None,
            answers: crate::steps::Answers::Nobody,
            gatekeeper: crate::steps::Gatekeeper::default(),
            cancel: self.canceller.view(),
        }
    }

    pub(super) async fn plan_with(
        &self,
        host: Host,
        more: &[(&'static str, Given<Field<Value>>)],
    ) -> Result<Proposal, Failure> {
        let mut settings = vec![("context", text("api")), ("repository", text(&self.repository))];
        settings.extend(more.iter().cloned());
        // The last one given counts.
        plan(&super::super::KIND, &self.context(host), settings).await
    }

    pub(super) async fn plan(
        &self,
        more: &[(&'static str, Given<Field<Value>>)],
    ) -> Result<Proposal, Failure> {
        self.plan_with(self.host.clone(), more).await
    }

    pub(super) async fn run(&self, more: &[(&'static str, Given<Field<Value>>)]) -> Result<Done, Failure> {
        let proposal = self.plan(more).await?;
        proposal.effect.expect("something to do").apply(&self.context(self.host.clone())).await
    }

    pub(super) async fn close(self) {
        let ecr = &self.cloud.writes().await.ecr;
        ecr.delete_repository().repository_name(&self.repository).force(true).send().await.unwrap();
        if let Ok(engine) = crate::world::docker::Engine::connect(&self.host).await {
            engine.forget(&format!("{}/{}", self.registry, self.repository)).await.unwrap();
        }
    }
}

pub(super) fn text(text: &str) -> Given<Field<Value>> {
    Given::One(Field::Known(Value::text(text)))
}

pub(super) fn texts(all: &[&str]) -> Given<Field<Value>> {
    Given::Many(all.iter().map(|text| Field::Known(Value::text(*text))).collect())
}

pub(super) async fn plan(
    kind: &Kind,
    cx: &Context,
    given: Vec<(&'static str, Given<Field<Value>>)>,
) -> Result<Proposal, Failure> {
    made(kind, given).plan(cx).await
}

pub(super) fn made(kind: &Kind, given: Vec<(&'static str, Given<Field<Value>>)>) -> Box<dyn Step> {
    let mut settings = Settings::default();
    for (name, value) in given {
        assert!(kind.spec.setting(name).is_some(), "{name} is in the table");
        settings.insert(name, value, Span::default());
    }
    (kind.make)(&settings, &Attributes::default()).unwrap()
}

/// The step of a rollback.
pub(super) fn way(kind: &Kind, now: serde_json::Value, to: Option<serde_json::Value>) -> Box<dyn Step> {
    let crate::steps::Back::To(make) = kind.back else { panic!("{} has a way back", kind.spec.name) };
    make(&Way { now, to }).unwrap()
}

pub(super) fn output(done: &Done, name: &str) -> String {
    done.outputs.get(name).and_then(Value::as_text).unwrap_or_default()
}
