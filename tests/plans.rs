//! Saved plans: run only as they are, once, and refused with what differs.

use std::process::Command;
use std::time::Duration;

use flow::plan::saved;
use flow::world::keyed::Sealer;
use flow::world::store::Store;
use serde_json::{Value, json};

use crate::support::ahead::Ahead;
use crate::support::project::{Project, Ran};
use crate::support::shop::Shop;
use crate::support::stand::Stand;
use crate::support::wait::until;

/// A checkout with one environment and these lines in flow `f`.
fn project(lines: &str) -> Project {
    let project = Project::new().file(".gitignore", ".flow/\n*.plan\nout/\n").flow(&flow(lines));
    git(&project, &["init", "--quiet"]);
    commit(&project);
    project
}

fn flow(lines: &str) -> String {
    format!("environment \"dev\"\nflow \"f\" {{\n{lines}\n}}\n")
}

fn git(project: &Project, arguments: &[&str]) {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@shop.example"];
    let mut git = Command::new("git");
    git.args(identity).args(arguments).current_dir(project.root());
    let done = git.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn commit(project: &Project) {
    git(project, &["add", "--all"]);
    git(project, &["commit", "--quiet", "--message", "x"]);
}

/// Saves the plan in `f.plan` and returns it.
#[track_caller]
fn save(project: &Project, more: &[&str]) -> Value {
    let saved = ["plan", "f", "--env", "dev", "--out", "f.plan", "--json"];
    project.run(&[&saved, more].concat()).exits(0).json()
}

#[track_caller]
fn digest(project: &Project) -> String {
    let plan = project.run(&["plan", "f", "--env", "dev", "--json"]).exits(0).json();
    plan["digest"].as_str().unwrap().to_owned()
}

fn run_saved(project: &Project) -> Ran {
    project.run(&["run", "--plan", "f.plan"])
}

/// What steps wrote into `out/order`.
fn order(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path("out/order")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// A deploying step that writes its name into `out/order`.
fn noting(name: &str, more: &str) -> String {
    format!("run \"{name}\" {{ script \"mkdir -p out; echo {name} >> out/order\"; {more} }}\n")
}

/// A flow with everything that can differ.
fn varied() -> Project {
    let lines = format!(
        "param \"tag\" default=\"v1\"\nsecret \"token\" from=\"env:TOKEN\"\n\
         run \"bundle\" {{ command \"cp\" \"src/a\" \"out/a\"; inputs \"src/**\"; outputs \"out/a\" }}\n{}{}",
        noting("first", "needs \"bundle\"; env TOKEN=\"${secret.token}\" LEVEL=\"1\" TAG=\"${param.tag}\""),
        noting("second", "needs \"first\"; inherit \"WHERE\"")
    );
    let project = project(&lines).var("TOKEN", "not-so-secret").file("src/a", "1").file("scripts/x.sh", "1");
    std::fs::create_dir_all(project.path("out")).unwrap();
    commit(&project);
    project
}

#[test]
fn a_saved_plan_is_run_as_it_is_and_only_once() {
    let project = varied();
    let plan = save(&project, &[]);
    assert_eq!(plan["sequence"], 1);
    run_saved(&project).exits(0);
    assert_eq!(order(&project), ["first", "second"]);
    run_saved(&project)
        .exits(5)
        .says("refused: this plan was used by run ")
        .says("  make a new plan: flow plan f --env dev --out f.plan");
    assert_eq!(order(&project), ["first", "second"]);
    assert_eq!(save(&project, &[])["sequence"], 2);
}

#[test]
fn a_plan_is_found_by_its_digest_and_lies_in_the_store_after_a_run() {
    let project = varied();
    let plan = save(&project, &[]);
    let digest = plan["digest"].as_str().unwrap();
    project.run(&["run", "--plan", &digest[..12]]).exits(0);
    let used = project.run(&["run", "f", "--env", "dev", "--plan", digest]).exits(5);
    used.says("this plan was used by run ");
    project.run(&["run", "f", "--env", "dev"]).exits(0);
    let kept = project.files(".flow/store/plans").len();
    assert_eq!(kept, 2, "a run keeps the plan that it made");
    project.run(&["run", "--plan", "123456789"]).exits(2).says("error: there is no plan 123456789");
    project.run(&["run", "--plan", "none.plan"]).exits(2).says("error: there is no plan none.plan");
}

#[test]
fn a_saved_plan_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = varied();
    save(&project, &[]);
    let mode = project.path("f.plan").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = project.read("f.plan");
    assert!(!text.contains("not-so-secret"), "{text}");
}

/// What somebody does between a plan and its run.
type Edit = Box<dyn Fn(&mut Project)>;

#[test]
fn whatever_differs_is_named() {
    let edit = |project: &Project, from: &str, to: &str| {
        let text = project.read("flows/main.kdl");
        assert!(text.contains(from), "{text}");
        project.flow_now(&text.replace(from, to));
    };
    let cases: Vec<(&str, Edit, &str)> = vec![
        ("an input of a file-making step", Box::new(|p| p.write("src/a", "2")), "  bundle  src/a changed\n"),
        ("a new input", Box::new(|p| p.write("src/b", "2")), "  bundle  src/b is new\n"),
        ("a tracked file", Box::new(|p| p.write("scripts/x.sh", "2")), "  scripts/x.sh changed\n"),
        ("a parameter", Box::new(move |p| edit(p, "\"v1\"", "\"v2\"")), "  parameter tag v1 → v2\n"),
        (
            "a setting",
            Box::new(move |p| edit(p, "LEVEL=\"1\"", "LEVEL=\"2\"")),
            "  first  env LEVEL changed\n",
        ),
        ("a script", Box::new(move |p| edit(p, "echo second", "echo third")), "  second  script changed\n"),
        (
            "the order",
            Box::new(move |p| edit(p, "needs \"first\"", "needs \"bundle\"")),
            "  second  what it waits for changed\n",
        ),
        (
            "a step that is gone",
            Box::new(move |p| edit(p, "run \"second\"", "/- run \"second\"")),
            "  second  the step is gone\n",
        ),
        ("a secret", Box::new(|p| p.set("TOKEN", "another-secret")), "  secret token changed\n"),
        ("an inherited variable", Box::new(|p| p.set("WHERE", "here")), "  second  inherit WHERE changed\n"),
        (
            "what a failure does",
            Box::new(move |p| edit(p, "param \"tag\"", "on-failure \"continue\"\nparam \"tag\"")),
            "  on-failure stop → continue\n",
        ),
    ];
    for (name, change, named) in cases {
        let mut project = varied();
        save(&project, &[]);
        change(&mut project);
        let ran = run_saved(&project);
        assert_eq!(ran.code, Some(5), "{name}: {}", ran.err);
        assert!(
            ran.err.starts_with("refused: the project changed since this plan was made ("),
            "{name}: {}",
            ran.err
        );
        assert!(ran.err.contains(named), "{name}: {}", ran.err);
        let lines = ran.err.lines().count();
        assert_eq!(lines, 3, "{name}: only that is named: {}", ran.err);
        assert!(ran.err.ends_with("  make a new plan: flow plan f --env dev --out f.plan\n"), "{}", ran.err);
        assert_eq!(order(&project), [""; 0], "{name}");
    }
}

#[test]
fn what_changes_nothing_changes_no_digest() {
    let project = varied();
    let digest = digest(&project);
    let same = |project: &Project, why: &str| assert_eq!(self::digest(project), digest, "{why}");
    save(&project, &[]);
    let text = project.read("flows/main.kdl");
    project.flow_now(&format!("// a comment\n{}", text.replace("{ script", "{\n    script")));
    same(&project, "layout and comments");
    project.write("untracked", "1");
    same(&project, "a file that is not tracked");
    std::fs::remove_file(project.path("untracked")).unwrap();
    project.run(&["run", "f", "--env", "dev", "--only", "bundle"]).exits(0);
    assert!(project.path("out/a").exists());
    same(&project, "file-making steps ran");
    commit(&project);
    same(&project, "the same files in another commit");
    run_saved(&project).exits(0);
    assert_eq!(order(&project), ["first", "second"]);
}

/// A step that makes files of made files counts by the files that nobody makes, whichever are there.
#[test]
fn what_is_made_of_what_is_made_changes_no_digest_either() {
    let project = project(
        r#"
        run "bundle" { script "mkdir -p out; cp src/a out/a"; inputs "src/a"; outputs "out/a" }
        run "pack" { needs "bundle"; script "cat out/a src/b > out/b"; inputs "out/a" "src/b"; outputs "out/b" }
        run "send" { needs "pack"; script "cp out/b sent" }
        "#,
    )
    .file("src/a", "a")
    .file("src/b", "b");
    commit(&project);
    let before = digest(&project);
    for step in ["bundle", "pack"] {
        project.run(&["run", "f", "--env", "dev", "--only", step]).exits(0);
        assert_eq!(digest(&project), before, "{step} ran");
    }
    project.write("src/b", "c");
    assert_ne!(digest(&project), before, "what it reads beside them counts");
}

#[test]
fn in_a_strangers_checkout_nothing_is_started_and_no_secret_is_read() {
    let project = project(
        r#"
        secret "told" from="command:sh tell.sh"
        secret "known" from="env:KNOWN"
        run "probed" { probe { command "touch" "probed"; }; command "true" }
        run "made" { inputs "flows/**"; outputs "out/made"; tool "t" version-from="sh ask.sh"; command "true" }
        run "after" {
            needs "made"; inputs "out/made"; outputs "out/after"; tool "t" version-from="sh ask.sh"; command "true"
        }
        run "tells" { env TOLD="${secret.told}"; command "true"; probe { command "true"; } }
        run "knows" { env KEY="${secret.known}"; command "true" }
        run "plain" { command "true" }
        "#,
    )
    .var("KNOWN", "known-4711")
    .file("tell.sh", "touch told\necho told-4711\n")
    .file("ask.sh", "touch asked\necho 1\n");
    let looked = |more: &[&str]| project.run(&[&["plan", "f", "--env", "dev", "--json"], more].concat());
    let left = || ["told", "probed", "asked"].map(|name| project.path(name).exists());

    let plan = looked(&["--untrusted"]).exits(0).json();
    let actions: Vec<&str> =
        plan["steps"].as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["unknown", "unknown", "run", "unknown", "unknown", "run"], "{plan:#}");
    assert_eq!(left(), [false; 3]);
    assert!(!plan.to_string().contains("4711"));
    let why = |step: usize| plan["steps"][step]["summary"].as_str().unwrap().to_owned();
    assert_eq!(why(0), "touch is not started: the checkout is not trusted");
    assert_eq!(why(4), "secret known is not read: the checkout is not trusted");
    looked(&["--untrusted", "--out", "f.plan"]).exits(2);

    looked(&[]).exits(0);
    assert_eq!(left(), [true; 3]);
}

#[test]
fn another_clone_with_the_same_store_runs_the_plan() {
    let project = varied();
    let store = tempfile::tempdir().unwrap();
    let text = project.read("flows/main.kdl");
    project.flow_now(&format!("project \"p\" {{ store \"{}\" }}\n{text}", store.path().display()));
    commit(&project);
    save(&project, &[]);
    let clone = varied();
    for path in ["flows/main.kdl", "f.plan"] {
        clone.write(path, project.read(path));
    }
    commit(&clone);
    assert_eq!(digest(&clone), digest(&project));
    run_saved(&clone).exits(0);
    run_saved(&project).exits(5).says("this plan was used by run ");
}

#[test]
fn an_altered_plan_is_refused() {
    let project = varied();
    save(&project, &[]);
    let text = project.read("f.plan");
    for (from, to) in [
        ("\"first\"", "\"frist\""),
        ("\"expires\":\"2", "\"expires\":\"3"),
        ("sh script", "a script"),
        ("\"v1\"", "\"v2\""),
    ] {
        let altered = text.replacen(from, to, 1);
        assert_ne!(altered, text, "{from}");
        project.write("f.plan", altered);
        run_saved(&project).exits(5).says("refused: the plan was altered after it was made");
    }
    for (text, said) in
        [("", "error: this is no plan: "), ("{\"version\":7}", "error: this plan has version 7")]
    {
        project.write("f.plan", text);
        run_saved(&project).exits(2).says(said);
    }
    assert_eq!(order(&project), [""; 0]);
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn a_plan_that_is_a_day_old_is_refused() {
    let project = varied();
    save(&project, &[]);
    let run = ["run", "--plan", "f.plan"];
    Ahead::by(24 * HOUR + Duration::from_mins(10))
        .run(&project, &run)
        .exits(5)
        .says("refused: this plan has expired (10 min ago)\n")
        .says("  make a new plan: flow plan f --env dev --out f.plan\n");
    assert_eq!(order(&project), [""; 0]);
    assert!(project.files(".flow/store/sequences").is_empty(), "it is still unused");
    Ahead::by(23 * HOUR).run(&project, &run).exits(0);
    assert_eq!(order(&project), ["first", "second"]);
}

#[test]
fn a_plan_of_another_version_of_flow_is_refused() {
    let project = varied();
    save(&project, &[]);
    // As another version would have written it: with its number, under the store's own seal.
    let sealer = Sealer::load(&Store::folder(project.path(".flow/store"))).unwrap();
    let mut plan = saved::read(project.read("f.plan").as_bytes()).unwrap().verify(&sealer).unwrap();
    let ours = std::mem::replace(&mut plan.flow_version, "0.0.9".to_owned());
    plan.seal();
    project.write("f.plan", saved::write(&plan, &sealer));
    let refusal = format!("refused: this plan was made by flow 0.0.9, and this is flow {ours}\n");
    run_saved(&project)
        .exits(5)
        .says(&refusal)
        .says("  make a new plan: flow plan f --env dev --out f.plan\n");
    project.run(&["approve", "f.plan"]).exits(5).says(&refusal);
    assert_eq!(order(&project), [""; 0]);

    // The same way of writing it, with the right number, is a plan like any other.
    plan.flow_version = ours;
    plan.seal();
    project.write("f.plan", saved::write(&plan, &sealer));
    run_saved(&project).exits(0);
}

#[test]
fn a_plan_is_for_its_flow_and_environment() {
    let project = project(&noting("first", ""));
    let text = project.read("flows/main.kdl");
    project.flow_now(&format!(
        "{text}\nenvironment \"other\"\nflow \"g\" {{ run \"x\" {{ command \"true\" }} }}\n"
    ));
    save(&project, &[]);
    let with = |more: &[&str]| project.run(&[&["run", "--plan", "f.plan"], more].concat());
    with(&["g"]).exits(5).says("refused: this plan is for flow f, not g");
    with(&["--env", "other"]).exits(5).says("refused: this plan is for dev, not other");
    for more in [["--only", "first"], ["--skip", "first"], ["-p", "a=b"]] {
        with(&more).exits(2);
    }
    project.run(&["run", "f"]).exits(2);
    with(&["f", "--env", "dev"]).exits(0);
}

#[test]
fn the_selection_and_parameters_are_the_plans() {
    let project = varied();
    let plan = save(&project, &["--only", "first", "-p", "tag=v9"]);
    assert_eq!(plan["selection"]["only"][0], "first");
    let ran = run_saved(&project).exits(0);
    assert_eq!(order(&project), ["first"]);
    assert!(!ran.err.contains("second"), "{}", ran.err);
}

#[test]
fn another_run_in_between_makes_a_plan_stale() {
    let project = varied();
    save(&project, &[]);
    project.run(&["run", "f", "--env", "dev", "--only", "first"]).exits(0);
    run_saved(&project).exits(5).says("refused: another run came in between: ");
    // A run that only makes files comes in between of nothing.
    save(&project, &[]);
    project.write("src/b", "2");
    project.run(&["run", "f", "--env", "dev", "--only", "bundle"]).exits(0);
    std::fs::remove_file(project.path("src/b")).unwrap();
    run_saved(&project).exits(0);
}

#[test]
fn a_refusal_before_the_first_effect_leaves_the_plan_unused() {
    let project = project(&format!("approve \"go\" {{}}\n{}", noting("first", "needs \"go\"")));
    save(&project, &[]);
    run_saved(&project).exits(3);
    assert_eq!(project.files(".flow/store/sequences").len(), 0);
    project.run(&["run", "--plan", "f.plan", "--yes"]).exits(0);
    assert_eq!(order(&project), ["first"]);
    assert_eq!(project.files(".flow/store/sequences").len(), 1);
}

#[test]
fn a_plan_says_what_to_type_next() {
    let project = varied();
    let plan = project.run(&["plan", "f", "--env", "dev"]).exits(0);
    let plan = plan.prints("flow plan f --env dev --out f.plan").prints("flow run f --env dev");
    assert!(!plan.out.contains("--plan "), "{}", plan.out);
    let saved = project.run(&["plan", "f", "--env", "dev", "--out", "x.plan"]).exits(0);
    saved.prints("flow run f --env dev --plan x.plan");
}

/// Saves the shop's plan, changes something, and says what the refusal names. Nothing is done.
#[track_caller]
fn refused(shop: &Shop, change: impl FnOnce(&Shop), named: &str) {
    let file = ["plan", "deploy", "--env", "sandbox", "--out", "deploy.plan"];
    shop.project.run(&file).exits(0);
    change(shop);
    let before = shop.task_definitions();
    let ran = shop.project.run(&["run", "--plan", "deploy.plan"]).exits(5).says(named);
    assert!(ran.err.starts_with("refused: the "), "{}", ran.err);
    assert_eq!(shop.task_definitions(), before);
}

/// Somebody registers a task definition and makes the service run it.
fn roll_by_hand(shop: &Shop, service: &str) {
    let now = json!({ "taskDefinition": shop.task_definition(service) });
    let mut definition = shop.sandbox.ecs("DescribeTaskDefinition", &now)["taskDefinition"].take();
    for member in
        ["taskDefinitionArn", "revision", "status", "registeredAt", "registeredBy", "compatibilities"]
    {
        definition.as_object_mut().unwrap().remove(member);
    }
    let registered = shop.sandbox.ecs("RegisterTaskDefinition", &definition);
    let arn = registered["taskDefinition"]["taskDefinitionArn"].as_str().unwrap();
    let name = format!("shop-sandbox-{service}");
    let update = json!({ "cluster": "shop-sandbox", "service": name, "taskDefinition": arn });
    shop.sandbox.ecs("UpdateService", &update);
}

#[test]
fn whatever_somebody_changes_in_the_world_is_named() {
    let shop = Shop::deployed();
    let digest = || shop.plan(&[]).0["digest"].clone();
    let deployed = digest();
    assert_eq!(digest(), deployed, "the same world");

    refused(
        &shop,
        |shop| roll_by_hand(shop, "api"),
        "  service[api]  task definition shop-sandbox-api:2 → :3\n",
    );
    let html = [("Content-Type", "text/html")];
    let put =
        |key: &str| drop(shop.sandbox.rest("PUT", &format!("/shop-sandbox-site/{key}"), &html, b"by hand"));
    refused(&shop, |_| put("index.html"), "index.html");
    refused(&shop, |_| put("foreign.html"), "  site  other objects ");
    let migration = "tests/fixtures/shop/backend/migrations/0099_note.sql";
    let write = |shop: &Shop, text: &str| shop.project.write(migration, text);
    let named = |what: &str| format!("  schema  {migration} {what}\n");
    refused(&shop, |shop| write(shop, "-- flow: expand\nCREATE TABLE note (id int);\n"), &named("is new"));
    refused(&shop, |shop| write(shop, "-- flow: expand\nCREATE TABLE note (n int);\n"), &named("changed"));
    std::fs::remove_file(shop.project.path(migration)).unwrap();
    let version = "  compile[api]  tests/fixtures/shop/backend/api/version.h changed\n";
    refused(&shop, |shop| shop.set_version("api", "2.0.0"), version);
    let (from, to) = ("each.svc].uri}\"", "each.svc].uri}\" memory=99");
    refused(
        &shop,
        |shop| shop.edit("flows/deploy.kdl", from, to),
        "  service[api]      container api memory is new\n",
    );

    // Neither a comment nor what file-making steps made is a difference.
    let planned = digest();
    shop.project.run(&["plan", "deploy", "--env", "sandbox", "--out", "deploy.plan"]).exits(0);
    shop.edit("flows/deploy.kdl", "// flows/deploy.kdl", "// what is deployed:");
    shop.run(&["--only", "compile"]).exits(0);
    assert_eq!(digest(), planned);
    shop.project.run(&["run", "--plan", "deploy.plan"]).exits(0);
    assert_eq!(shop.ask("api")["version"], "2.0.0");
    shop.project.run(&["run", "--plan", "deploy.plan"]).exits(5).says("this plan was used by run ");
}

/// Nothing of AWS is there yet: what reads the made files waits for the stack too.
#[test]
fn a_first_plan_stays_the_same_while_its_files_are_made() {
    let shop = Shop::new();
    let digest = || shop.plan(&[]).0["digest"].clone();
    let before = digest();
    shop.project.run(&["plan", "deploy", "--env", "sandbox", "--out", "deploy.plan"]).exits(0);
    for step in ["bundle", "compile[api]", "compile"] {
        // A run that changes nothing in AWS leaves no release, and so no other sequence.
        shop.run(&["--only", step]).exits(0);
        assert_eq!(digest(), before, "{step} ran");
    }
    shop.project.run(&["run", "--plan", "deploy.plan"]).exits(0);
    assert_eq!(shop.ask("api")["version"], "1.0.0");
}

/// Deploys a change; while the run stands in front of this step, somebody changes what it acts on. It
/// is refused, names what differs, and asks nothing of AWS that begins with `effect`.
#[track_caller]
fn refused_at_the_effect(
    edit: (&str, &str),
    effect: &str,
    step: &str,
    change: impl FnOnce(&Shop),
    named: &str,
) {
    let shop = Shop::deployed();
    // Outside of the checkout: what the run waits for is no input of it.
    let gate = tempfile::tempdir().unwrap();
    let [reached, open] = ["reached", "open"].map(|name| gate.path().join(name));
    let waits = format!("touch {}; until [ -e {} ]; do sleep 0.01; done", reached.display(), open.display());
    let waits =
        format!("run \"meanwhile\" {{ command \"sh\" \"-c\" \"{waits}\"; needs \"go\"; undo \"none\" }}");
    shop.edit("flows/deploy.kdl", "on-failure \"rollback\"", &waits);
    shop.edit("flows/deploy.kdl", edit.0, edit.1);
    shop.change(1);
    let before = Stand::of(&shop);
    shop.proxy.forget();

    let flow = shop.project.start(&["run", "deploy", "--env", "sandbox"]);
    until("the run has looked at the world", || reached.exists());
    change(&shop);
    std::fs::write(open, "").unwrap();
    let ran = Ran::from(flow.wait_with_output().unwrap())
        .exits(5)
        .says("the world changed since the plan was made, so")
        .says(named)
        .says("look at a new plan: flow plan deploy --env sandbox");
    println!("{}", ran.err);
    assert_eq!(shop.proxy.count(effect), 0, "{:?}", shop.proxy.effects());
    let ended = shop.project.journal().into_iter().map(|mut record| record["event"].take());
    let of_step: Vec<Value> = ended.filter(|event| event["step"] == step).collect();
    assert!(of_step.iter().all(|event| event["type"] != "intent"), "{of_step:#?}");
    assert_eq!(of_step.last().unwrap()["outcome"], "refused", "{of_step:#?}");
    let after = Stand::of(&shop);
    assert_eq!(after.versions["worker"], before.versions["worker"]);
}

#[test]
fn a_service_that_somebody_rolls_during_a_run_is_not_touched() {
    let waits = ("needs \"schema\"\n", "needs \"schema\" \"meanwhile\"\n");
    refused_at_the_effect(
        waits,
        "ecs:UpdateService",
        "service[api]",
        |shop| roll_by_hand(shop, "api"),
        "task definition shop-sandbox-api:2 → :3",
    );
}

#[test]
fn a_page_that_somebody_writes_during_a_run_is_not_overwritten() {
    let waits = ("needs \"bundle\"\n", "needs \"bundle\" \"meanwhile\"\n");
    let html = [("Content-Type", "text/html")];
    let put = |shop: &Shop| {
        drop(shop.sandbox.rest("PUT", "/shop-sandbox-site/index.html", &html, b"by hand"));
    };
    refused_at_the_effect(waits, "s3:PutObject", "site", put, "index.html");
}
