//! Real programs: shells, sleepers and floods.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::*;
use crate::model::secret::Secret;
use crate::world::cancel::Canceller;
use crate::world::host::Host;

fn env() -> BTreeMap<String, String> {
    BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())])
}

fn host() -> Host {
    Host::with(BTreeMap::new())
}

fn sh(dir: &Path, script: &str) -> Program {
    Program::new(["sh", "-eu", "-c", script], dir, env(), &host())
}

#[derive(Default)]
struct Heard(Vec<String>);

#[async_trait]
impl Lines for Heard {
    async fn line(&mut self, line: String) {
        self.0.push(line);
    }
}

async fn hear(program: &Program, cancel: &Cancel) -> (Result<Ending, ProcessError>, Vec<String>) {
    let mut heard = Heard::default();
    let ending = run(program, cancel, &Masker::default(), &mut heard).await;
    (ending, heard.0)
}

/// Polls until the condition holds; the test fails after ten seconds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process runs; one that is dead and not collected yet does not.
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

#[tokio::test]
async fn codes_signals_and_both_outputs_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let cancel = Canceller::new();
    let (ending, lines) =
        hear(&sh(dir.path(), "echo 1; echo 2 >&2; echo 3; printf end; exit 3"), &cancel.view()).await;
    assert_eq!(ending.unwrap(), Ending::Exited(3));
    assert_eq!(lines, ["1", "2", "3", "end"]);
    let (ending, _) = hear(&sh(dir.path(), "kill -9 $$"), &cancel.view()).await;
    assert_eq!(ending.unwrap(), Ending::Signalled(9));
}

#[tokio::test]
async fn nothing_is_inherited_and_input_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = sh(dir.path(), "cat; env | grep -v -e PWD -e _= -e SHLVL -e OLDPWD; pwd");
    program.env.insert("DECLARED".to_owned(), "x".to_owned());
    program.stdin = Some(Secret::new("typed\n"));
    let (ending, lines) = hear(&program, &Canceller::new().view()).await;
    assert_eq!(ending.unwrap(), Ending::Exited(0));
    assert_eq!(lines[0], "typed");
    assert!(lines.iter().any(|line| line == "DECLARED=x"));
    assert!(!lines.iter().any(|line| line.starts_with("HOME=") || line.starts_with("CARGO")));
    assert_eq!(lines.last().map(String::as_str), dir.path().canonicalize().unwrap().to_str());
}

#[tokio::test]
async fn input_that_nobody_reads_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = sh(dir.path(), "exec <&-; exit 0");
    program.stdin = Some(Secret::new("x".repeat(1_000_000)));
    assert_eq!(hear(&program, &Canceller::new().view()).await.0.unwrap(), Ending::Exited(0));
}

#[tokio::test]
async fn what_cannot_be_started_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gradlew"), "#!/no/such/interpreter\n").unwrap();
    let cancel = Canceller::new().view();
    let start = async |name: &str| {
        let (result, _) = hear(&Program::new([name], dir.path(), env(), &host()), &cancel).await;
        result.unwrap_err()
    };
    let error = start("gradlew").await;
    assert!(matches!(&error, ProcessError::NotFound { nearest: Some(near), .. } if near == "./gradlew"));
    assert_eq!(error.help().unwrap(), "did you mean \"./gradlew\"?");
    assert!(start("nosuch-program").await.help().unwrap().contains("searched: /"));
    assert!(matches!(start("./nosuch").await, ProcessError::NoFile { .. }));
    assert!(matches!(start("./gradlew").await, ProcessError::NotExecutable { .. }));
    std::fs::set_permissions(dir.path().join("gradlew"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(start("./gradlew").await, ProcessError::NoInterpreter { .. }));
    let nowhere = Program::new(["true"], dir.path().join("none"), env(), &host());
    assert!(matches!(hear(&nowhere, &cancel).await.0, Err(ProcessError::NoDir { .. })));
}

#[tokio::test]
async fn background_children_are_killed_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let (ending, lines) = hear(&sh(dir.path(), "sleep 1000 & echo $!"), &Canceller::new().view()).await;
    assert_eq!(ending.unwrap(), Ending::Exited(0));
    assert!(start.elapsed() < Duration::from_secs(5));
    until("the child's end", || !runs(&lines[0])).await;
}

#[tokio::test]
async fn a_daemon_that_left_the_group_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let script =
        "setsid sh -c 'echo $$ > daemon; exec sleep 20' & while ! [ -s daemon ]; do :; done; echo up";
    let (ending, lines) = hear(&sh(dir.path(), script), &Canceller::new().view()).await;
    assert_eq!(ending.unwrap(), Ending::Exited(0));
    assert_eq!(lines, ["up"]);
    assert!(start.elapsed() < Duration::from_secs(5));
    let pid = std::fs::read_to_string(dir.path().join("daemon")).unwrap();
    assert!(std::process::Command::new("kill").arg(pid.trim()).status().unwrap().success());
}

#[tokio::test]
async fn a_stop_is_one_signal_to_each_and_a_chance_to_clean_up() {
    let dir = tempfile::tempdir().unwrap();
    // The program and a child of its own each count; a flow that signals twice is found out while
    // they wait a moment before they end.
    let script = "
        sh -c 'trap \"echo x >> child; for i in 1 2 3 4 5 6; do sleep 0.05; done; exit 0\" TERM
               echo up > child-up; while :; do sleep 0.02; done' &
        trap 'echo x >> parent; wait; for i in 1 2 3 4 5; do sleep 0.05; done; echo clean > cleaned; exit 0' TERM
        while ! [ -e child-up ]; do sleep 0.01; done
        echo up > up
        while :; do sleep 0.02; done";
    let canceller = Canceller::new();
    let mut program = sh(dir.path(), script);
    program.grace = Duration::from_secs(8);
    let view = canceller.view();
    let task = tokio::spawn(async move { hear(&program, &view).await });
    until("the program", || dir.path().join("up").exists()).await;
    canceller.raise(Urgency::Stopping);
    canceller.raise(Urgency::Stopping);
    let (ending, _) = task.await.unwrap();
    assert_eq!(ending.unwrap(), Ending::Stopped);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    assert_eq!(read("parent"), "x\n");
    assert_eq!(read("child"), "x\n");
    assert_eq!(read("cleaned"), "clean\n");
}

#[tokio::test]
async fn who_ignores_the_signal_is_killed_with_all_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000 & echo $! > grand; sleep 1000' & \
                  while ! [ -s grand ]; do sleep 0.01; done; echo $$ > me; sleep 1000";
    let canceller = Canceller::new();
    let mut program = sh(dir.path(), script);
    program.grace = Duration::from_millis(200);
    let view = canceller.view();
    let task = tokio::spawn(async move { hear(&program, &view).await });
    until("the program", || dir.path().join("me").metadata().is_ok_and(|m| m.len() > 1)).await;
    let start = Instant::now();
    canceller.raise(Urgency::Stopping);
    assert_eq!(task.await.unwrap().0.unwrap(), Ending::Stopped);
    assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(5));
    let grand = std::fs::read_to_string(dir.path().join("grand")).unwrap();
    until("the grandchild's end", || !runs(grand.trim())).await;
}

#[tokio::test]
async fn the_worker_behind_a_shell_keeps_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let script = "sh -c 'trap \"sleep 0.2; echo saved > saved; exit 0\" TERM; echo up > up; \
                  while :; do sleep 0.02; done'; echo after";
    let canceller = Canceller::new();
    let view = canceller.view();
    let program = sh(dir.path(), script);
    let task = tokio::spawn(async move { hear(&program, &view).await });
    until("the program", || dir.path().join("up").exists()).await;
    canceller.raise(Urgency::Stopping);
    let (ending, lines) = task.await.unwrap();
    assert_eq!(ending.unwrap(), Ending::Stopped);
    assert!(!lines.contains(&"after".to_owned()));
    assert!(dir.path().join("saved").exists());
}

#[tokio::test]
async fn a_second_signal_kills_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let canceller = Canceller::new();
    let view = canceller.view();
    let program = sh(dir.path(), "trap '' TERM; echo up > up; while :; do sleep 0.02; done");
    let task = tokio::spawn(async move { hear(&program, &view).await });
    until("the program", || dir.path().join("up").exists()).await;
    canceller.raise(Urgency::Stopping);
    canceller.raise(Urgency::Killing);
    let start = Instant::now();
    assert_eq!(task.await.unwrap().0.unwrap(), Ending::Killed);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn time_runs_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = sh(dir.path(), "echo before; sleep 1000");
    program.timeout = Some(Duration::from_millis(100));
    program.grace = Duration::from_millis(100);
    let (ending, lines) = hear(&program, &Canceller::new().view()).await;
    assert_eq!(ending.unwrap(), Ending::TimedOut(Duration::from_millis(100)));
    assert_eq!(lines, ["before"]);
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let program = sh(dir.path(), "echo $$ > me; sleep 1000");
    let view = Canceller::new().view();
    let task = tokio::spawn(async move { hear(&program, &view).await.1 });
    until("the program", || dir.path().join("me").metadata().is_ok_and(|m| m.len() > 1)).await;
    task.abort();
    // Also one that is dropped while it starts.
    for _ in 0..20 {
        let starting = sh(dir.path(), "sleep 1000");
        let view = Canceller::new().view();
        let task = tokio::spawn(async move { hear(&starting, &view).await.1 });
        tokio::task::yield_now().await;
        task.abort();
    }
    let pid = std::fs::read_to_string(dir.path().join("me")).unwrap();
    until("its end", || !runs(pid.trim())).await;
}

#[tokio::test]
async fn a_flood_passes_in_little_memory() {
    struct Counted(usize, usize);
    #[async_trait]
    impl Lines for Counted {
        async fn line(&mut self, line: String) {
            self.0 += line.len();
            self.1 = self.1.max(line.len());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut counted = Counted(0, 0);
    let flood = sh(dir.path(), "head -c 100000000 /dev/zero | tr '\\0' x; printf '\\n\\377\\376'");
    let cancel = Canceller::new();
    let ending = run(&flood, &cancel.view(), &Masker::default(), &mut counted).await.unwrap();
    assert_eq!(ending, Ending::Exited(0));
    assert_eq!(counted.0, 100_000_000 + 2 * '\u{fffd}'.len_utf8());
    assert!(counted.1 <= 64 * 1024);
}

#[tokio::test]
async fn secrets_never_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let masker = Masker::new([&Secret::new("swordfish")]);
    let mut heard = Heard::default();
    let program = sh(dir.path(), "echo pass swordfish; printf sword; printf fish");
    run(&program, &Canceller::new().view(), &masker, &mut heard).await.unwrap();
    assert_eq!(heard.0, ["pass ***", "***"]);
}

#[tokio::test]
async fn what_a_program_says_is_captured() {
    let dir = tempfile::tempdir().unwrap();
    let program = sh(dir.path(), "echo out; echo err >&2; printf more; exit 4");
    let said = capture(&program, &Canceller::new().view(), 6).await.unwrap();
    assert_eq!(said.ending, Ending::Exited(4));
    assert_eq!(said.stdout, b"out\nmo");
    assert!(said.truncated);
    assert_eq!(said.stderr, ["err"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_programs_cost_little() {
    let dir = tempfile::tempdir().unwrap();
    let cancel = Canceller::new();
    let program = Program::new(["true"], dir.path(), env(), &host());
    let start = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        if running.len() >= 8 {
            assert_eq!(running.join_next().await.unwrap().unwrap(), Ending::Exited(0));
        }
        let (program, view) = (program.clone(), cancel.view());
        running.spawn(async move { hear(&program, &view).await.0.unwrap() });
    }
    while let Some(ending) = running.join_next().await {
        assert_eq!(ending.unwrap(), Ending::Exited(0));
    }
    println!("1000 programs in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn argv_is_shown_as_typed_and_the_environment_is_the_short_list() {
    assert_eq!(show_argv(&["cargo", "test", "--locked"]), "cargo test --locked");
    assert_eq!(show_argv(&["sh", "-c", "echo $x", "", "it's"]), r"sh -c 'echo $x' '' 'it'\''s'");
    let vars = [("PATH", "/bin"), ("LC_ALL", "C"), ("AWS_SECRET_ACCESS_KEY", "x"), ("HTTPS_PROXY", "p")];
    let host = Host::with(vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
    assert_eq!(base_env(&host).keys().collect::<Vec<_>>(), ["HTTPS_PROXY", "LC_ALL", "PATH"]);
    let shown =
        format!("{:?}", Program::new(["x"], "/", BTreeMap::from([("A".into(), "secret".into())]), &host));
    assert!(!shown.contains("secret"));
}

#[tokio::test]
async fn what_a_checkout_names_that_is_not_trusted_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let stranger = Program::new(["touch", "was-here"], dir.path(), env(), &host().distrusting());
    let (heard, _) = hear(&stranger, &Canceller::new().view()).await;
    assert!(matches!(heard, Err(ProcessError::Untrusted { .. })), "{heard:?}");
    let captured = capture(&stranger, &Canceller::new().view(), 10).await;
    assert!(matches!(captured, Err(ProcessError::Untrusted { .. })), "{captured:?}");
    assert!(!dir.path().join("was-here").exists());
}
