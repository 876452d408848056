//! What goes wrong, and what the operator reads then: the thing, the reason, and what to type next.
//! The journal shows what was done, and a run after the cause is gone ends well.

use std::io::{BufRead as _, BufReader};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::project::{Project, Ran};
use crate::support::proxy::{Fault, Proxy, Which};
use crate::support::shop::Shop;

/// Credentials for whoever answers; nobody here checks them.
fn project(flow: &str) -> Project {
    Project::new()
        .file("flows/project.kdl", "project \"shop\"\nenvironment \"here\" {}\n")
        .flow(flow)
        .var("AWS_ACCESS_KEY_ID", "test")
        .var("AWS_SECRET_ACCESS_KEY", "test")
        .var("AWS_EC2_METADATA_DISABLED", "true")
}

fn run(project: &Project, flow: &str, more: &[&str]) -> Ran {
    project.run(&[&["run", flow, "--env", "here"], more].concat()).speaks_decently()
}

impl Ran {
    /// Whatever happens: nothing on stdout, and no word that only a programmer understands.
    #[track_caller]
    fn speaks_decently(self) -> Self {
        assert_eq!(self.out, "", "stdout belongs to data; stderr:\n{}", self.err);
        for word in ["panicked", "RUST_BACKTRACE", "unwrap", "Some(", "Err(", "src/", "DispatchFailure"] {
            assert!(!self.err.contains(word), "{word:?} is no word for an operator:\n{}", self.err);
        }
        self
    }

    /// Checks that standard error does not say something.
    #[track_caller]
    fn does_not_say(self, text: &str) -> Self {
        assert!(!self.err.contains(text), "standard error says {text:?}:\n{}", self.err);
        self
    }

    /// Checks that standard error says something, wherever its lines were broken.
    #[track_caller]
    fn tells(self, text: &str) -> Self {
        let is_time = |word: &str| word.ends_with('s') && word.starts_with(|c: char| c.is_ascii_digit());
        let line = |line: &str| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            words.pop_if(|word| is_time(word));
            words.join(" ")
        };
        let said = self.err.lines().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        assert!(said.contains(text), "standard error does not tell {text:?}:\n{}", self.err);
        self
    }

    /// The id of the run, from its first line.
    #[track_caller]
    fn run_id(&self) -> String {
        let (_, rest) = self.err.split_once("   run ").unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }
}

/// The journal of a run: `step outcome`, in the order in which the steps ended.
fn ended(project: &Project, run: &str) -> Vec<String> {
    let steps = events(project, run).into_iter().filter(|event| event["type"] == "step-ended");
    steps.map(|event| format!("{} {}", text(&event["step"]), text(&event["outcome"]))).collect()
}

/// Every event that the journal has of a run.
fn events(project: &Project, run: &str) -> Vec<serde_json::Value> {
    let mut folders = vec![project.path(".flow/store")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "jsonl")
                && path.to_string_lossy().contains(run)
            {
                let written = std::fs::read_to_string(path).unwrap();
                let record =
                    |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].take();
                return written.lines().map(record).collect();
            }
        }
    }
    panic!("run {run} has no journal")
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

// ---- programs -------------------------------------------------------------------------------

#[test]
fn a_program_that_fails_shows_its_last_lines_and_what_was_not_started() {
    let project = project(
        r#"flow "build" {
            run "first" { command "true" }
            run "compile" { needs "first"; script "echo working; echo main.c:9: no such thing >&2; exit 4" }
            run "behind" { needs "compile"; command "touch" "behind" }
        }"#,
    );
    let failed = run(&project, "build", &[])
        .exits(1)
        .says("✗ compile")
        .says("exited with 4")
        .says("    working\n    main.c:9: no such thing\n")
        .says("Done: first.")
        .says("Not started: behind.")
        .says("again   flow resume ");
    let id = failed.run_id();
    let failed = failed.says(&format!("log     flow log {id} compile\n"));
    assert_eq!(ended(&project, &failed.run_id()), ["first succeeded", "compile failed"]);
    assert!(!project.path("behind").exists());

    project.write("flows/main.kdl", project.read("flows/main.kdl").replace("exit 4", "exit 0"));
    run(&project, "build", &[]).exits(0);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let project = project(
        r#"flow "a" { run "x" { command "no-such-program" "now" } }
           flow "b" { run "x" { command "true"; dir "nowhere" } }"#,
    );
    run(&project, "a", &[]).exits(1).says("there is no program \"no-such-program\" in PATH").says("install");
    run(&project, "b", &[]).exits(1).says("there is no folder").says("nowhere");
}

#[test]
fn a_program_that_does_not_make_its_outputs_has_failed() {
    let project =
        project(r#"flow "a" { run "x" { command "true"; inputs "flows/**"; outputs "dist/app" } }"#);
    run(&project, "a", &[]).exits(1).says("it made nothing at dist/app");
    project.write("dist/app", "made");
    run(&project, "a", &[]).exits(0);
}

#[test]
fn a_failure_stops_what_has_not_begun() {
    let project = project(
        r#"flow "a" {
            run "bad" { command "false" }
            run "free" { needs "pause"; command "touch" "free" }
            wait "pause" { for "300ms" }
        }"#,
    );
    run(&project, "a", &[]).exits(1).says("Not started: free.");
    assert!(!project.path("free").exists());
    let failed = run(&project, "a", &["--keep-going"]).exits(1).does_not_say("Not started");
    assert!(project.path("free").exists());
    assert!(ended(&project, &failed.run_id()).contains(&"free succeeded".to_owned()));
}

#[test]
fn on_failure_continue_stops_only_what_depends_on_it() {
    let steps = r#"
        run "bad" { command "false"; STEP }
        run "behind" { needs "bad"; command "touch" "behind" }
        wait "pause" { for "300ms" }
        run "free" { needs "pause"; command "touch" "free" }"#;
    let whole = format!("flow \"a\" {{ {}\n on-failure \"continue\" }}", steps.replace("STEP", ""));
    let one = format!("flow \"a\" {{ {} }}", steps.replace("STEP", "on-failure \"continue\""));
    for flow in [whole, one] {
        let project = project(&flow);
        run(&project, "a", &[]).exits(1).says("Not started: behind.").says("free");
        assert!(project.path("free").exists() && !project.path("behind").exists(), "{flow}");
    }
}

#[test]
fn a_step_is_tried_again_as_often_as_it_says() {
    let project = project(
        r#"flow "late" {
            run "x" { script "echo x >> tries; test $(wc -l < tries) -ge 3"; retry 3 backoff="10ms" }
        }
        flow "never" {
            run "x" { script "exit 5"; retry 2 backoff="10ms" }
        }"#,
    );
    let late = run(&project, "late", &[]).exits(0).says("attempt 1 failed: exited with 1");
    assert_eq!(project.read("tries").lines().count(), 3);
    let retried = |event: &serde_json::Value| event["type"] == "step-retried";
    assert_eq!(events(&project, &late.run_id()).iter().filter(|event| retried(event)).count(), 2);
    run(&project, "never", &[]).exits(1).says("exited with 5").says("tried 3 times");
}

#[test]
fn a_step_that_takes_too_long_is_stopped_and_shows_what_it_last_said() {
    let project = project(
        r#"flow "a" {
            run "slow" { script "echo waiting for godot; sleep 60"; timeout "500ms" }
        }
        flow "deaf" {
            run "slow" { script "trap '' TERM; echo hears nothing; sleep 60 & wait; wait"; timeout "500ms"; grace "500ms" }
        }"#,
    );
    let began = Instant::now();
    run(&project, "a", &[]).exits(1).says("not done after 0.5s").says("waiting for godot").says("timeout");
    run(&project, "deaf", &[]).exits(1).says("not done after 0.5s").says("hears nothing");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn what_stands_in_finally_runs_after_a_failure_and_can_fail_too() {
    let project = project(
        r#"flow "a" {
            run "bad" { script "exit 3" }
            finally {
                run "tidy" { command "touch" "tidied" }
                run "worse" { script "exit 4" }
            }
        }"#,
    );
    run(&project, "a", &[]).exits(1).says("exited with 3").says("exited with 4").says("Done: tidy.");
    assert!(project.path("tidied").exists());
}

// ---- checks ---------------------------------------------------------------------------------

#[test]
fn a_check_that_never_gets_a_good_answer_shows_the_last_one() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            use std::io::{Read as _, Write as _};
            let mut stream = stream.unwrap();
            // One read holds the whole of so small a request.
            let _ = stream.read(&mut [0; 4096]);
            let body = "{\"status\":\"starting\"}";
            let _ = write!(
                stream,
                "HTTP/1.1 503 No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let flow = format!(
        "flow \"a\" {{\n http-check \"healthy\" {{ url \"http://{address}/health\"; within \"1s\"; every \"200ms\" }} \n}}"
    );
    let began = Instant::now();
    run(&project(&flow), "a", &[])
        .exits(1)
        .says("no good answer within 1.0s: 503")
        .says(&format!("GET http://{address}/health"))
        .says("{\"status\":\"starting\"}");
    assert!(began.elapsed() >= Duration::from_secs(1), "gave up after {:?}", began.elapsed());
}

// ---- whose account, and whether anybody answers -------------------------------------------------

const CLOUD: &str = r#"flow "a" {
    run "before" { command "touch" "began" }
    ecs-deploy "service" { needs "before"; cluster "c"; service "s"; force #true }
}"#;

#[test]
fn without_an_endpoint_that_answers_nothing_is_run() {
    // A port that was free a moment ago, and that nobody is told of.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let project = project(CLOUD).file(
        "flows/project.kdl",
        format!("project \"shop\"\nenvironment \"here\" {{ account \"000000000000\"; region \"us-east-1\"; endpoint \"http://{address}\" }}\n"),
    );
    run(&project, "a", &[])
        .exits(1)
        .says(&format!("Connection refused (os error 111) at http://{address}"))
        .says("nothing was run")
        .says("check the credentials, the region");
    assert!(!project.path("began").exists());
}

#[test]
fn without_credentials_nothing_is_run() {
    let project = Project::new()
        .file("flows/project.kdl", "project \"shop\"\nenvironment \"here\" { region \"us-east-1\" }\n")
        .flow(CLOUD)
        .var("AWS_EC2_METADATA_DISABLED", "true");
    run(&project, "a", &[])
        .exits(1)
        .says("there are no credentials")
        .says("nothing was run")
        .does_not_say("chain")
        .does_not_say("IMDS");
    assert!(!project.path("began").exists());
}

// ---- the shop -------------------------------------------------------------------------------

const FLOW: &str = "flows/deploy.kdl";
const ENVIRONMENT: &str = "flows/project.kdl";
const IMAGE: &str = "image=\"${step.image[each.svc].uri}\"";
const EXITS_AT_ONCE: &str = "image=\"${step.image[each.svc].uri}\" { env REQUIRE=\"DATABASE_URL\" }";

/// The shop with one service instead of three, and nothing taken back: all that a failure needs.
fn small_shop() -> Shop {
    let shop = Shop::new();
    shop.edit(FLOW, "on-failure \"rollback\"", "on-failure \"stop\"");
    shop.edit(ENVIRONMENT, "services \"api\" \"catalog\" \"worker\"", "services \"api\"");
    let flow = shop.project.read(FLOW);
    let of_others =
        |line: &&str| !(line.contains("step.service[catalog]") || line.contains("step.service[worker]"));
    shop.project.write(FLOW, flow.lines().filter(of_others).collect::<Vec<_>>().join("\n"));
    shop
}

fn deploy(shop: &Shop, more: &[&str]) -> Ran {
    shop.run(more).speaks_decently()
}

/// Breaks a file for one run, and puts it back.
fn with_edit(shop: &Shop, path: &str, from: &str, to: &str, more: &[&str]) -> Ran {
    let whole = shop.project.read(path);
    shop.edit(path, from, to);
    let ran = deploy(shop, more);
    shop.project.write(path, whole);
    ran
}

#[test]
fn a_service_that_exits_at_once_is_explained_on_the_first_deployment_and_on_a_later_one() {
    let shop = small_shop();
    shop.edit(FLOW, IMAGE, EXITS_AT_ONCE);
    let first = deploy(&shop, &[])
        .exits(1)
        .says("ECS rolled it back to shop-sandbox-api:1")
        .says("of shop-sandbox-api:2 stopped: EssentialContainerExited")
        .says("container api exited with 3")
        .tells("configuration error: DATABASE_URL is empty")
        .tells("that is no release of this flow but what the service had before")
        .says("log     flow log");
    let journal = ended(&shop.project, &first.run_id());
    assert!(journal.contains(&"schema succeeded".to_owned()), "{journal:?}");
    assert!(journal.contains(&"service[api] failed".to_owned()), "{journal:?}");
    assert!(
        !journal.iter().any(|step| step.starts_with("healthy") || step.starts_with("site")),
        "{journal:?}"
    );

    // The cause is gone: the same command ends well, and does only what is left.
    shop.edit(FLOW, EXITS_AT_ONCE, IMAGE);
    deploy(&shop, &[]).exits(0).does_not_say("image[api]");
    let live = shop.task_definition("api");

    let began = Instant::now();
    let later = with_edit(&shop, FLOW, IMAGE, EXITS_AT_ONCE, &[])
        .exits(1)
        .says(&format!("ECS rolled it back to {}", short(&live)))
        .says("container api exited with 3")
        .tells(&format!("{} runs with 2 of 2 tasks", short(&live)))
        .says("is the last good one")
        .says("again   flow resume ");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(shop.task_definition("api"), live);
    let registered = |event: &serde_json::Value| event["type"] == "noted" && event["key"] == "registered";
    assert_eq!(events(&shop.project, &later.run_id()).iter().filter(|event| registered(event)).count(), 1);

    a_fixed_host_port(&shop, &live);
    deploy(&shop, &[]).exits(0);
}

/// The second task finds the port taken; ministack cannot say it shorter, flow says it once.
fn a_fixed_host_port(shop: &Shop, live: &str) {
    let file = "tests/fixtures/shop/infrastructure/fixed-port.json";
    let text = shop.project.read(file).replace("catalog", "api");
    shop.project.write(file, text);
    let settings = format!("desired 2; task-definition \"{file}\"");
    let failed = with_edit(shop, FLOW, "desired 2 ", &settings, &[])
        .exits(1)
        .says(&format!("ECS rolled it back to {}", short(live)))
        .says("TaskFailedToStart")
        .tells("port is already allocated");
    assert_eq!(failed.err.matches("port is already allocated").count(), 1, "{}", failed.err);
    assert_eq!(shop.task_definition("api"), live);
}

fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap()
}

#[test]
fn mistakes_in_what_is_deployed_change_nothing_that_runs() {
    let shop = small_shop();
    deploy(&shop, &[]).exits(0);
    let live = shop.task_definition("api");
    let api = "tests/fixtures/shop/backend/api";

    // A migration with a syntax error: its file, its line, and no trace of it.
    let migration = "tests/fixtures/shop/backend/migrations/0003_note.sql";
    shop.project.write(
        migration,
        "-- flow: expand x\nCREATE TABLE note (id int);\n\nALTER TABL item ADD COLUMN x int;\n",
    );
    let failed = deploy(&shop, &[])
        .exits(1)
        .tells(&format!("{migration}:4:7: syntax error at or near \"TABL\""))
        .says("4 │ ALTER TABL item ADD COLUMN x int;")
        .tells("the database is unchanged");
    assert!(
        !events(&shop.project, &failed.run_id())
            .iter()
            .any(|event| event["step"] == "healthy[api]" && event["type"] == "intent")
    );
    assert!(shop.sandbox.rows("select tablename::text from pg_tables where tablename = 'note'").is_empty());
    std::fs::remove_file(shop.project.path(migration)).unwrap();

    // A compiler that says no.
    with_edit(&shop, &format!("{api}/main.c"), "#include", "int x = ;\n#include", &[])
        .exits(1)
        .says("main.c:")
        .tells("Not started: image[api], service[api]");

    // Dockerfiles, in the operator's words.
    with_edit(&shop, &format!("{api}/Dockerfile"), "EXPOSE 8080", "EXPOSED 8080", &[])
        .exits(1)
        .tells("the Dockerfile cannot be read, line 3: unknown instruction: EXPOSED")
        .does_not_say("frontend");
    with_edit(&shop, &format!("{api}/Dockerfile"), "COPY service /service", "COPY no-service /service", &[])
        .exits(1)
        .tells("the context has no \"/no-service\", which the Dockerfile copies");

    // What does not exist and nobody in front creates.
    with_edit(&shop, FLOW, "s3://${env.site}", "s3://no-such-bucket-of-ours", &[])
        .exits(1)
        .tells("the bucket no-such-bucket-of-ours does not exist");
    with_edit(&shop, FLOW, "cluster \"${env.cluster}\"", "cluster \"none\"", &[])
        .exits(1)
        .says("error: service[api]  there is no cluster none\n  correct the name")
        .says("Nothing was run.");
    with_edit(&shop, FLOW, "service \"${env.cluster}-", "service \"none-", &["--skip", "infrastructure"])
        .exits(1)
        .says("cluster shop-sandbox has no service none-api")
        .says("Nothing was run.");
    let base = "tests/fixtures/shop/infrastructure/base.yaml";
    with_edit(&shop, base, "Type: AWS::EC2::VPC\n", "Type: AWS::EC2::NVPC\n", &[])
        .exits(1)
        .says("error: base  ")
        .says("AWS::EC2::NVPC")
        .says("Nothing was run.");

    // Somebody else's account: refused before anything else is asked.
    shop.proxy.forget();
    with_edit(&shop, ENVIRONMENT, "account \"000000000000\"", "account \"111111111111\"", &[])
        .exits(5)
        .says("refused: these credentials belong to account 000000000000")
        .says("environment sandbox is account 111111111111");
    assert_eq!(shop.proxy.calls(), ["sts:GetCallerIdentity"]);

    // Credentials that are no longer good.
    let expired = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code>\
        <Message>The security token included in the request is expired</Message></Error></ErrorResponse>";
    shop.proxy.rule("sts:GetCallerIdentity", Which::Nth(1), Fault::Answer(403, expired.to_owned()));
    deploy(&shop, &[])
        .exits(1)
        .tells("ExpiredToken: The security token included in the request is expired")
        .says("nothing was run");

    assert_eq!(shop.task_definition("api"), live);
    deploy(&shop, &[]).exits(0).tells("nothing changed");
}

#[test]
fn an_engine_or_an_aws_that_goes_away_is_named_and_the_next_run_ends_well() {
    let mut shop = small_shop();
    deploy(&shop, &[]).exits(0);
    let dockerfile = "tests/fixtures/shop/backend/api/Dockerfile";
    let with_engine = |shop: &Shop, address: &str, more: &[&str]| {
        let mut command = shop.project.command(&[&["run", "deploy", "--env", "sandbox"], more].concat());
        command.env("DOCKER_HOST", address);
        command
    };

    // An engine that is not there: missed only where there is something to build.
    let nowhere = "unix:///nowhere/docker.sock";
    Ran::from(with_engine(&shop, nowhere, &[]).output().unwrap()).exits(0);
    shop.set_version("api", "2.0.0");
    Ran::from(with_engine(&shop, nowhere, &[]).output().unwrap())
        .speaks_decently()
        .exits(1)
        .says("no Docker engine answers at")
        .tells("unix:///nowhere/docker.sock: there is no such socket")
        .tells("start the engine, or set DOCKER_HOST")
        .says("again   flow resume ");

    // One that dies in the middle of a build, in a step that would go on for ever.
    let whole = shop.project.read(dockerfile);
    shop.project.write(dockerfile, format!("{whole}RUN [\"/service\"]\n"));
    let engine = Engine::start(&shop.project.path("engine.sock"));
    let mut child = with_engine(&shop, &engine.address, &["--log", "json"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("progress") && line.contains("RUN [")), "the build did not begin");
    engine.die();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:#?}");
    let end = rest.iter().find(|line| line.contains("step-ended") && line.contains("image[api]")).unwrap();
    assert!(
        end.contains("no Docker engine answers at") || end.contains("the connection to the Docker engine"),
        "{end}"
    );
    assert!(end.contains("tried 3 times; the first time: the connection to the Docker engine at"), "{end}");
    shop.project.write(dockerfile, whole);

    // AWS goes away while the service rolls: what goes on there is said, and so is what to do.
    shop.edit(FLOW, "timeout \"5m\"", "timeout \"8s\"");
    shop.proxy.rule("ecs:ListTasks", Which::Nth(2), Fault::Down);
    let failed = deploy(&shop, &[])
        .exits(1)
        .says("✗ service[api]")
        .tells("the deployment goes on in ECS")
        .tells("Done: image[api]")
        .says("Not started: healthy[api]");
    let journal = events(&shop.project, &failed.run_id());
    assert!(
        journal.iter().any(|event| event["type"] == "noted" && event["key"] == "updated"),
        "{journal:#?}"
    );

    // AWS is down from the start: nothing is run.
    deploy(&shop, &[]).exits(1).says("Connection refused").says(&shop.proxy.url()).says("nothing was run");

    shop.edit(FLOW, "timeout \"8s\"", "timeout \"5m\"");
    another_proxy(&mut shop);
    deploy(&shop, &[]).exits(0);
    assert_eq!(shop.ask("api")["version"], "2.0.0");

    // The call itself is lost, and nobody can be asked whether it was carried out.
    shop.set_version("api", "3.0.0");
    shop.proxy.rule("ecs:UpdateService", Which::Nth(1), Fault::Down);
    let lost = deploy(&shop, &[])
        .exits(7)
        .tells("the answer to UpdateService for shop-sandbox-api was lost and ECS cannot tell")
        .tells("a new run starts from what it finds there");
    assert!(ended(&shop.project, &lost.run_id()).contains(&"service[api] unknown".to_owned()));
    another_proxy(&mut shop);
    deploy(&shop, &[]).exits(0);
    assert_eq!(shop.ask("api")["version"], "3.0.0");
}

/// AWS answers again, at another port.
fn another_proxy(shop: &mut Shop) {
    let down = shop.proxy.address();
    shop.proxy = Proxy::start(shop.sandbox.address());
    shop.edit(ENVIRONMENT, &down, &shop.proxy.address());
}

/// A way to the engine that can be cut, as if the engine had died.
struct Engine {
    address: String,
    path: PathBuf,
    open: Arc<Mutex<Option<Vec<UnixStream>>>>,
}

impl Engine {
    fn start(path: &Path) -> Self {
        let real = std::env::var("DOCKER_HOST").unwrap();
        let real = real.strip_prefix("unix://").unwrap().to_owned();
        let listener = UnixListener::bind(path).unwrap();
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let streams = Arc::clone(&open);
        std::thread::spawn(move || {
            for near in listener.incoming().map(Result::unwrap) {
                let far = UnixStream::connect(&real).unwrap();
                match streams.lock().unwrap().as_mut() {
                    Some(open) => open.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]),
                    None => return,
                }
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    std::thread::spawn(move || {
                        // It ends when either side does, or is cut.
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Self { address: format!("unix://{}", path.display()), path: path.to_owned(), open }
    }

    fn die(&self) {
        std::fs::remove_file(&self.path).unwrap();
        for stream in self.open.lock().unwrap().take().unwrap() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
