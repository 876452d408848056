//! A cluster of one's own in the sandbox, for tests against real tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::{OnceCell, mpsc, oneshot};

use crate::event::{Event, Feed, Message};
use crate::model::names::{FlowName, RunId, StepId};
use crate::model::settings::{Given, Ready};
use crate::model::value::{Field, Value as Setting};
use crate::steps::{Attributes, Context, Done, Failure, Kind, Proposal, Recorded};
use crate::syntax::source::Span;
use crate::world::World;
use crate::world::aws::{Cloud, Target};
use crate::world::cancel::Canceller;
use crate::world::clock::Clock;
use crate::world::files::Files;
use crate::world::host::Host;
use crate::world::store::Store;

/// A static program whose ways are told by variables.
const PROGRAM: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void stop(int s) { (void)s; _exit(0); }
int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    signal(SIGTERM, stop); signal(SIGINT, stop);
    for (int i = 1; i < argc; i++) puts(argv[i]);
    if (getenv("SAY")) puts(getenv("SAY"));
    if (getenv("REQUIRE") && !getenv(getenv("REQUIRE"))) {
        printf("configuration error: %s is empty\n", getenv("REQUIRE"));
        return 3;
    }
    if (getenv("AFTER")) sleep(atoi(getenv("AFTER")));
    if (getenv("EXIT")) return atoi(getenv("EXIT"));
    for (;;) pause();
}
"#;

fn is_note(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Noted { key, .. } if key == wanted)
}

static IMAGES: OnceCell<[String; 2]> = OnceCell::const_new();

/// One cluster, one family and at most one service; all named alike and removed at the end.
pub(crate) struct Sandbox {
    pub cloud: Arc<Cloud>,
    pub name: String,
    pub canceller: Canceller,
    root: tempfile::TempDir,
    events: Arc<Mutex<Vec<Event>>>,
    sender: mpsc::Sender<Message>,
    death: Death,
}

/// Told once a note of this key is on disk; whoever wrote it never hears of it.
type Death = Arc<Mutex<Option<(&'static str, oneshot::Sender<()>)>>>;

impl Sandbox {
    /// An image that nobody pushed.
    pub(crate) fn no_image(&self) -> String {
        format!("{}:none-yet", repository(&self.cloud))
    }

    /// An image by a digest that nothing has.
    pub(crate) fn ghost(&self) -> String {
        format!("{}@sha256:{}", repository(&self.cloud), "0".repeat(64))
    }

    /// `None`, said on stderr, where there is no sandbox.
    pub(crate) async fn open(name: &str) -> Option<Self> {
        Self::behind(name, None).await
    }

    /// The same, with a proxy between it and the sandbox.
    pub(crate) async fn with_faults(name: &str) -> Option<(Self, Faults)> {
        let faults = Faults::default();
        Some((Self::behind(name, Some(faults.clone())).await?, faults))
    }

    async fn behind(name: &str, faults: Option<Faults>) -> Option<Self> {
        let host = Host::current();
        let Some(endpoint) = host.var("SANDBOX_ENDPOINT").map(str::to_owned) else {
            eprintln!("skipped: SANDBOX_ENDPOINT is not set");
            return None;
        };
        let registry = endpoint.trim_start_matches("http://").to_owned();
        let endpoint = match faults {
            Some(faults) => faults.listen(&endpoint).await,
            None => endpoint,
        };
        let target = Target { registry: Some(registry), ..Target::for_tests(Some(&endpoint)) };
        let events = Arc::new(Mutex::new(Vec::new()));
        let (sender, mut receiver) = mpsc::channel::<Message>(64);
        let kept = Arc::clone(&events);
        let death = Death::default();
        let dying = Arc::clone(&death);
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(message) = receiver.recv().await {
                let last = dying.lock().unwrap().take_if(|(at, _)| is_note(&message.event, at));
                kept.lock().unwrap().push(message.event);
                if let Some((_, died)) = last {
                    unanswered.push(message.stored);
                    died.send(()).unwrap();
                    continue;
                }
                if let Some(stored) = message.stored {
                    stored.send(Ok(())).unwrap();
                }
            }
        });
        let sandbox = Self {
            cloud: Arc::new(Cloud::new(target, host)),
            name: format!("ecsdev-{name}-{}", unique()),
            canceller: Canceller::new(),
            root: tempfile::tempdir().unwrap(),
            events,
            sender,
            death,
        };
        let writes = sandbox.cloud.writes().await;
        writes.ecs.create_cluster().cluster_name(&sandbox.name).send().await.unwrap();
        let _ = writes.logs.create_log_group().log_group_name(sandbox.log_group()).send().await;
        Some(sandbox)
    }

    fn log_group(&self) -> String {
        format!("/{}", self.name)
    }

    /// Two images with the same program and different digests.
    pub(crate) async fn images(&self) -> &'static [String; 2] {
        IMAGES.get_or_init(|| build(&self.cloud)).await
    }

    /// A definition of one container `app`.
    pub(crate) fn definition(&self, image: &str, env: &[(&str, &str)]) -> Value {
        let env: Vec<_> = env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        json!({
            "family": self.name,
            "containerDefinitions": [{
                "name": "app", "image": image, "memory": 64, "environment": env,
                "logConfiguration": { "logDriver": "awslogs", "options": {
                    "awslogs-group": self.log_group(), "awslogs-region": "us-east-1", "awslogs-stream-prefix": "ecs",
                }},
            }],
        })
    }

    /// A service that was created with that definition.
    pub(crate) async fn service(&self, definition: &Value, desired: i32, breaker: bool) {
        use aws_sdk_ecs::types::{DeploymentCircuitBreaker, DeploymentConfiguration};
        let registered = self.cloud.ecs().await.register(definition).await.unwrap();
        let breaker = DeploymentCircuitBreaker::builder().enable(breaker).rollback(breaker).build();
        let call = self.cloud.writes().await.ecs.create_service();
        call.cluster(&self.name)
            .service_name(&self.name)
            .task_definition(registered.arn())
            .desired_count(desired)
            .deployment_configuration(
                DeploymentConfiguration::builder().deployment_circuit_breaker(breaker).build(),
            )
            .send()
            .await
            .unwrap();
    }

    /// What a step of this sandbox may use.
    pub(crate) fn context(&self, recorded: Option<Value>) -> Context {
        let id = StepId::parse("service[app]");
        Context {
            id: id.clone(),
            flow: FlowName::new("deploy"),
            run: Some(RunId::new("k3f9")),
            world: World::new(
                Host::with(BTreeMap::new()),
                self.root.path(),
                Store::folder(self.root.path().to_owned()),
            ),
            cloud: Arc::clone(&self.cloud),
            elsewhere: Arc::default(),
            settled: None,
            answers: crate::steps::Answers::Nobody,
            gatekeeper: crate::steps::Gatekeeper::default(),
            sealer: crate::world::keyed::Sealer::load(&Store::folder(self.root.path().to_owned())).unwrap(),
            trace: None,
            recorded: recorded.map(|receipt| Arc::new(Recorded { receipt, ..Recorded::default() })),
            feed: Feed::new(id, self.sender.clone()),
            cancel: self.canceller.view(),
        }
    }

    /// Plans a step of a kind.
    pub(crate) async fn plan(&self, kind: &Kind, ready: &Ready, cx: &Context) -> Result<Proposal, Failure> {
        (kind.make)(ready, &Attributes::default()).map_err(Failure::from)?.plan(cx).await
    }

    /// Plans it and makes the effect.
    pub(crate) async fn run(&self, kind: &Kind, ready: &Ready, cx: &Context) -> Result<Done, Failure> {
        let proposal = self.plan(kind, ready, cx).await?;
        proposal.effect.expect("something to do").apply(cx).await
    }

    /// What steps told so far: progress and output, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let text = |event: &Event| match event {
            Event::Progress { text, .. } => Some(text.clone()),
            Event::Output { line, .. } => Some(line.clone()),
            Event::Noted { key, data, .. } => Some(format!("{key} {data}")),
            _ => None,
        };
        events.iter().filter_map(text).collect()
    }

    /// What steps noted so far.
    pub(crate) fn notes(&self) -> Vec<(String, Value)> {
        let events = self.events.lock().unwrap();
        let note = |event: &Event| match event {
            Event::Noted { key, data, .. } => Some((key.clone(), data.clone())),
            _ => None,
        };
        events.iter().filter_map(note).collect()
    }

    /// Makes an effect until it has written a note of this key; then flow dies. Whether it came so far.
    pub(crate) async fn die(
        &self,
        effect: Box<dyn crate::steps::Effect>,
        cx: &Context,
        at: &'static str,
    ) -> bool {
        let (died, death) = oneshot::channel();
        *self.death.lock().unwrap() = Some((at, died));
        tokio::select! {
            Ok(()) = death => true,
            _ = effect.apply(cx) => false,
        }
    }

    /// An effect that was announced by this proposal and of which nothing more is known.
    pub(crate) fn announced(&self, proposal: &Proposal) -> crate::steps::Open {
        let intent = crate::journal::replay::OpenIntent {
            attempt: 1,
            action: proposal.action,
            summary: proposal.summary.clone(),
            baseline: proposal.baseline.clone(),
            standing: proposal.standing.clone(),
            since: Clock.now(),
        };
        crate::steps::Open { intent, notes: self.notes() }
    }

    /// How many revisions are registered.
    pub(crate) async fn revisions(&self) -> usize {
        let reads = self.cloud.reads().await;
        let listed = reads.ecs.list_task_definitions().family_prefix(&self.name).send().await.unwrap();
        listed.task_definition_arns().len()
    }

    /// Removes what was made.
    pub(crate) async fn close(self) {
        let writes = self.cloud.writes().await;
        let delete = writes.ecs.delete_service().cluster(&self.name).service(&self.name).force(true);
        let _ = delete.send().await;
        let _ = writes.ecs.delete_cluster().cluster(&self.name).send().await;
        let _ = writes.logs.delete_log_group().log_group_name(self.log_group()).send().await;
    }
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is carried out, and the answer is lost.
    LostAnswer,
    /// It does not arrive.
    LostRequest,
    /// It is refused because of too many requests.
    Throttled,
}

/// Counts the calls that pass, and makes some of them go wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    state: Arc<Mutex<Traffic>>,
}

#[derive(Debug, Default)]
struct Traffic {
    calls: BTreeMap<String, usize>,
    planned: Vec<(String, Fault)>,
}

impl Faults {
    /// The next call of that operation that has no fault yet goes wrong.
    pub(crate) fn plan(&self, operation: &str, fault: Fault) {
        self.state.lock().unwrap().planned.push((operation.to_owned(), fault));
    }

    /// How often an operation was called.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.state.lock().unwrap().calls.get(operation).copied().unwrap_or(0)
    }

    fn next(&self, operation: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        *state.calls.entry(operation.to_owned()).or_default() += 1;
        let at = state.planned.iter().position(|(name, _)| name == operation)?;
        Some(state.planned.remove(at).1)
    }

    async fn listen(&self, endpoint: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let faults = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (faults, upstream) = (faults.clone(), upstream.clone());
                tokio::spawn(async move { faults.pass(client, &upstream).await });
            }
        });
        format!("http://{address}")
    }

    /// One request a connection.
    async fn pass(&self, mut client: tokio::net::TcpStream, upstream: &str) -> Option<()> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = Vec::new();
        let (head, body) = loop {
            if client.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
            if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                break (String::from_utf8_lossy(&request[..at]).into_owned(), at + 4);
            }
        };
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while request.len() < body + length {
            client.read_buf(&mut request).await.ok()?;
        }
        let target = header("x-amz-target").unwrap_or_default();
        let fault = self.next(target.rsplit('.').next().unwrap_or_default());
        match fault {
            Some(Fault::LostRequest) => return None,
            Some(Fault::Throttled) => {
                let said = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
                let length = said.len();
                let answer = format!(
                    "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{said}"
                );
                return client.write_all(answer.as_bytes()).await.ok();
            }
            _ => {}
        }
        let mut server = tokio::net::TcpStream::connect(upstream).await.ok()?;
        let first = head.lines().next()?;
        let rest = head.lines().skip(1).filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let lines: Vec<_> = std::iter::once(first).chain(rest).chain(["connection: close"]).collect();
        server.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).await.ok()?;
        server.write_all(&request[body..]).await.ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await.ok()?;
        if fault != Some(Fault::LostAnswer) {
            // The connection ends with this answer, whatever it says of keeping it.
            let text = String::from_utf8_lossy(&answer[..answer.len().min(4096)]).to_ascii_lowercase();
            assert!(!text.contains("connection: keep-alive"), "{text}");
            client.write_all(&answer).await.ok()?;
        }
        Some(())
    }
}

/// Other names in every process, so that nobody meets what another left behind.
fn unique() -> String {
    format!("{:x}", Clock.now().as_microsecond())
}

/// Where the images of all these tests lie.
fn repository(cloud: &Cloud) -> String {
    format!("{}/ecsdev-program", cloud.target().registry.as_deref().unwrap())
}

async fn build(cloud: &Cloud) -> [String; 2] {
    let writes = cloud.writes().await;
    let _ = writes.ecr.create_repository().repository_name("ecsdev-program").send().await;
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(folder.path());
    let write = |name: &str, text: &str| files.write(&folder.path().join(name), text.as_bytes()).unwrap();
    write("program.c", PROGRAM);
    write("Dockerfile", "FROM scratch\nCOPY program /program\nENTRYPOINT [\"/program\"]\n");
    duct::cmd!("gcc", "-static", "-Os", "-o", "program", "program.c").dir(folder.path()).run().unwrap();
    let mut images = Vec::new();
    for version in ["1", "2"] {
        let tag = format!("{}:{version}-{}", repository(cloud), unique());
        // Other tests remove images that a cache would name.
        duct::cmd!(
            "docker",
            "build",
            "-q",
            "--no-cache",
            "--label",
            format!("version={version}"),
            "-t",
            &tag,
            "."
        )
        .dir(folder.path())
        .env("DOCKER_BUILDKIT", "0")
        .stdout_null()
        .run()
        .unwrap();
        duct::cmd!("docker", "push", "-q", &tag).stdout_null().run().unwrap();
        let image =
            aws_sdk_ecr::types::ImageIdentifier::builder().image_tag(tag.rsplit_once(':').unwrap().1).build();
        let call = cloud.reads().await.ecr.describe_images().repository_name("ecsdev-program");
        let found = call.image_ids(image).send().await.unwrap();
        let digest = found.image_details()[0].image_digest().unwrap().to_owned();
        images.push(format!("{}@{digest}", repository(cloud)));
    }
    images.try_into().unwrap()
}

/// Settings as a flow file would give them.
#[derive(Default)]
pub(crate) struct Written(Ready);

impl Written {
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Setting>) -> Self {
        self.0.insert(name, Given::One(Field::Known(value.into())), Span::default());
        self
    }

    pub(crate) fn env(self, pairs: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, Setting::text(*value))).collect();
        self.map("env", &pairs)
    }

    pub(crate) fn map(mut self, name: &'static str, pairs: &[(&str, Setting)]) -> Self {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), Field::Known(value.clone())));
        self.0.insert(name, Given::Map(pairs.collect()), Span::default());
        self
    }

    pub(crate) fn texts(mut self, name: &'static str, texts: &[&str]) -> Self {
        let texts = texts.iter().map(|text| Field::Known(Setting::text(*text))).collect();
        self.0.insert(name, Given::Many(texts), Span::default());
        self
    }

    pub(crate) fn field(mut self, name: &'static str, field: Field<Setting>) -> Self {
        self.0.insert(name, Given::One(field), Span::default());
        self
    }

    pub(crate) fn node(mut self, name: &'static str, head: &str, inner: Self) -> Self {
        let head = Some(Field::Known(Setting::text(head)));
        let mut nodes = self.0.nodes(name).to_vec();
        nodes.push(crate::model::settings::GivenNode { head, settings: inner.0 });
        self.0.insert(name, Given::Nodes(nodes), Span::default());
        self
    }

    pub(crate) fn ready(self) -> Ready {
        self.0
    }
}

impl From<&str> for Setting {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<i64> for Setting {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Setting {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}
