//! Gates that open by signatures: for exactly one plan, by exactly the people who may.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::ahead::Ahead;
use crate::support::keys::Person;
use crate::support::project::{Project, Ran};
use crate::support::wait::{kill, until};

mod resumed;

const NAMESPACE: &str = "flow-approval@v1";

/// A project with a protected environment, three approvers, and a flow behind gate `go`.
struct Shop {
    project: Project,
    ada: Person,
    lin: Person,
    eve: Person,
}

impl Shop {
    /// With these settings of the gate, and more lines in `approvals`.
    fn new(gate: &str, approvals: &str) -> Self {
        let project = Project::new();
        let [ada, lin, eve] = ["ada", "lin", "eve"].map(|name| Person::new(&project, name));
        let shop = Self { project, ada, lin, eve };
        shop.write(gate, approvals, "");
        shop
    }

    fn write(&self, gate: &str, approvals: &str, more: &str) {
        self.project.flow_now(&format!(
            "environment \"prod\" {{\nprotected #true\n{more}\napprovals {{\n{approvals}\n{}{}{}}}\n}}\n\
             flow \"f\" {{\napprove \"go\" {{ {gate} }}\n\
             run \"ship\" {{ needs \"go\"; script \"echo ship >> order\" }}\n}}\n",
            approver(&self.ada, "ops"),
            approver(&self.lin, "ops"),
            approver(&self.eve, "dev"),
        ));
    }

    /// Saves a plan and returns it.
    #[track_caller]
    fn plan(&self, more: &[&str]) -> Value {
        let words = ["plan", "f", "--env", "prod", "--out", "f.plan", "--json"];
        self.project.run(&[&words, more].concat()).exits(0).json()
    }

    fn approve(&self, by: &Person, more: &[&str]) -> Ran {
        self.project.run(&[&["approve", "f.plan", "--key", &by.file], more].concat())
    }

    fn run(&self, more: &[&str]) -> Ran {
        self.project.run(&[&["run", "--plan", "f.plan"], more].concat())
    }

    fn shipped(&self) -> usize {
        std::fs::read_to_string(self.project.path("order")).unwrap_or_default().lines().count()
    }

    /// Puts a statement into the store that flow would not have written there.
    fn forge(&self, plan: &Value, by: &Person, namespace: &str, change: impl Fn(&mut Value)) {
        let digest = plan["digest"].as_str().unwrap();
        let now = Timestamp::now();
        let mut statement = json!({
            "account": null, "decision": "approve", "environment": "prod",
            "expires": now + SignedDuration::from_hours(1), "flow": "f", "gate": "go", "nonce": "1",
            "plan": digest, "policy": plan["policy"], "reason": null, "run": null,
            "sequence": plan["sequence"], "signed": now, "type": "flow-statement", "version": 1,
        });
        change(&mut statement);
        let text = statement.to_string();
        let signed = json!({ "version": 1, "statement": text, "signature": by.sign(namespace, &text) });
        self.put(plan, &signed.to_string());
    }

    fn put(&self, plan: &Value, text: &str) {
        let digest = plan["digest"].as_str().unwrap();
        self.project.write(&format!(".flow/store/approvals/{digest}/go/forged-1.json"), text);
    }
}

fn approver(person: &Person, group: &str) -> String {
    format!("approver \"{}\" key=\"{}\" group=\"{group}\"\n", person.name, person.public)
}

/// What is said, whatever width it was wrapped to.
fn words(ran: &Ran) -> String {
    ran.err.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn tells(ran: &Ran, text: &str) {
    assert!(words(ran).contains(text), "it does not say {text:?}:\n{}", ran.err);
}

const OPS: &str = "from \"group:ops\"";

#[test]
fn a_plan_is_made_in_one_terminal_approved_in_another_and_run() {
    let shop = Shop::new(OPS, "");
    let plan = shop.plan(&[]);
    let short = &plan["digest"].as_str().unwrap()[..12];
    let ran = shop.run(&[]).exits(3);
    tells(&ran, "needs 1 of group ops: ada, lin");
    tells(&ran, &format!("flow approve {short}"));
    tells(&ran, &format!("then: flow run f --env prod --plan {short}"));
    assert_eq!(shop.shipped(), 0);
    assert!(shop.project.files(".flow/store/sequences").is_empty(), "the plan is still unused");

    let ran = shop.project.run(&["approve", short, "--key", &shop.lin.file]).exits(0);
    tells(&ran, &format!("approved by lin: gate go of f → prod, plan {short}, counts until "));
    tells(&ran, &format!("it opens: flow run f --env prod --plan {short}"));
    let ran = shop.project.run(&["run", "f", "--env", "prod", "--plan", short]).exits(0);
    tells(&ran, "opened by lin (signed)");
    assert_eq!(shop.shipped(), 1);

    tells(&shop.run(&[]).exits(5), "refused: this plan was used by run ");
    tells(&shop.approve(&shop.ada, &[]).exits(5), "refused: this plan was used by run ");
    assert_eq!(shop.shipped(), 1);
}

#[test]
fn what_flow_writes_is_verified_by_ssh_keygen() {
    let shop = Shop::new(OPS, "");
    shop.plan(&[]);
    shop.approve(&shop.ada, &["--reason", "looks right"]).exits(0);
    let files = shop.project.files(".flow/store/approvals");
    let (_, bytes) = files.iter().next().unwrap();
    let signed: Value = serde_json::from_slice(bytes).unwrap();
    let statement: Value = serde_json::from_str(signed["statement"].as_str().unwrap()).unwrap();
    assert_eq!(statement["reason"], "looks right");
    shop.project.write("statement", signed["statement"].as_str().unwrap());
    shop.project.write("statement.sig", signed["signature"].as_str().unwrap());
    shop.project.write("allowed", format!("ada namespaces=\"{NAMESPACE}\" {}\n", shop.ada.public));
    let mut verify = std::process::Command::new("ssh-keygen");
    verify.args(["-Y", "verify", "-f", "allowed", "-I", "ada", "-n", NAMESPACE, "-s", "statement.sig"]);
    let statement = std::fs::File::open(shop.project.path("statement")).unwrap();
    let done = verify.current_dir(shop.project.root()).stdin(statement).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn whatever_does_not_count_is_said_in_its_own_words() {
    type Change = fn(&mut Value);
    let shop = Shop::new(OPS, "");
    let plan = shop.plan(&[]);
    let mallory = Person::new(&shop.project, "mallory");
    let hours = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
    let not_listed = format!("a key that is not on the list ({})", mallory.fingerprint());
    let nothing: Change = |_| {};
    let cases: Vec<(&Person, &str, Change, &str)> = vec![
        (&mallory, NAMESPACE, nothing, &not_listed),
        (&shop.ada, "git", nothing, "a signature of another namespace (git)"),
        (&shop.eve, NAMESPACE, nothing, "eve approved, and is not group ops"),
        (&shop.ada, NAMESPACE, |s| s["gate"] = "other".into(), "ada's approval is for another gate (other)"),
        (
            &shop.ada,
            NAMESPACE,
            |s| s["plan"] = "91bc55d0aa17ffff".into(),
            "ada's approval is for another plan (91bc55d0aa17)",
        ),
        (
            &shop.ada,
            NAMESPACE,
            |s| s["environment"] = "test".into(),
            "ada's approval is for another environment (test)",
        ),
        (
            &shop.ada,
            NAMESPACE,
            |s| s["account"] = "111111111111".into(),
            "ada's approval is for another account (111111111111)",
        ),
        (&shop.ada, NAMESPACE, |s| s["flow"] = "g".into(), "ada's approval is for another flow (g)"),
        (
            &shop.ada,
            NAMESPACE,
            |s| s["sequence"] = 9.into(),
            "ada's approval is for another run (number 9, this is number 1)",
        ),
        (
            &shop.ada,
            NAMESPACE,
            |s| s["policy"] = "old".into(),
            "ada signed when others could approve: the list has changed",
        ),
        (
            &shop.ada,
            NAMESPACE,
            |s| s["decision"] = "plan".into(),
            "something that ada signed and that is no approval",
        ),
        (&shop.ada, NAMESPACE, |s| s["version"] = 2.into(), "a signed text that is no statement of flow"),
    ];
    for (by, namespace, change, said) in cases {
        shop.forge(&plan, by, namespace, change);
        let ran = shop.run(&[]).exits(3);
        tells(&ran, &format!("does not count: {said}"));
        tells(&ran, "needs 1 of group ops: ada, lin");
    }
    shop.forge(&plan, &shop.ada, NAMESPACE, |s| s["expires"] = json!(hours(-2)));
    tells(&shop.run(&[]).exits(3), "does not count: ada's approval expired 2 h ago");
    // However long somebody lets it count, the gate does not.
    shop.forge(&plan, &shop.ada, NAMESPACE, |s| {
        s["signed"] = json!(hours(-6));
        s["expires"] = json!(hours(100));
    });
    tells(&shop.run(&[]).exits(3), "does not count: ada's approval expired 2 h ago");
    shop.forge(&plan, &shop.ada, NAMESPACE, |s| s["signed"] = json!(hours(3)));
    tells(&shop.run(&[]).exits(3), "does not count: ada's approval was signed in the future");

    let text = json!({ "plan": plan["digest"] }).to_string();
    let signature = shop.ada.sign(NAMESPACE, "something else");
    shop.put(&plan, &json!({ "version": 1, "statement": text, "signature": signature }).to_string());
    tells(
        &shop.run(&[]).exits(3),
        "does not count: a signature that does not belong to what it stands under",
    );
    shop.put(&plan, "{");
    tells(&shop.run(&[]).exits(3), "does not count: an approval that cannot be read");

    assert_eq!(shop.shipped(), 0);
    shop.forge(&plan, &shop.ada, NAMESPACE, |_| {});
    shop.run(&[]).exits(0);
    assert_eq!(shop.shipped(), 1, "the same statement counts when nothing is wrong with it");
}

#[test]
fn whoever_signs_hears_at_once_what_would_not_count() {
    let shop = Shop::new(OPS, "");
    shop.plan(&[]);
    let mallory = Person::new(&shop.project, "mallory");
    let ran = shop.approve(&mallory, &[]).exits(5);
    tells(&ran, &format!("refused: the key {} is not on the list of prod", mallory.fingerprint()));
    tells(&ran, "on the list: ada, lin, eve");
    let ran = shop.approve(&shop.eve, &[]).exits(5);
    tells(&ran, "refused: this approval would not count: eve approved, and is not group ops");
    tells(&shop.approve(&shop.ada, &["--gate", "come"]).exits(2), "gates that ask: go");
    let ran = shop.project.run(&["approve", "f.plan", "--key", "keys/nobody"]).exits(2);
    tells(&ran, "error: there is no key keys/nobody");
    tells(&shop.project.run(&["approve", "f.plan"]).exits(2), "there is no SSH key to sign with");
    assert!(shop.project.files(".flow/store/approvals").is_empty());

    let plan = shop.project.read("f.plan");
    shop.project.write("f.plan", plan.replace("echo ship", "echo shop"));
    let altered = plan != shop.project.read("f.plan");
    if altered {
        tells(&shop.approve(&shop.ada, &[]).exits(5), "refused: the plan was altered after it was made");
    }
}

#[test]
fn a_rejection_sticks() {
    let shop = Shop::new(OPS, "");
    shop.plan(&[]);
    shop.approve(&shop.ada, &[]).exits(0);
    shop.approve(&shop.lin, &["--reject", "--reason", "not today"]).exits(0);
    let ran = shop.approve(&shop.ada, &[]).exits(0);
    tells(&ran, "it stays closed: lin rejected it ");
    let ran = shop.run(&[]).exits(5);
    tells(&ran, "lin rejected it ");
    tells(&ran, "not today");
    assert_eq!(shop.shipped(), 0);
}

#[test]
fn persons_are_counted_and_not_keys() {
    let shop = Shop::new("from \"group:ops\"; count 2", "");
    let second = Person::new(&shop.project, "ada-yubikey");
    let extra = format!("approver \"ada\" key=\"{}\" group=\"ops\"\n", second.public);
    shop.write("from \"group:ops\"; count 2", &extra, "");
    shop.plan(&[]);
    shop.approve(&shop.ada, &[]).exits(0);
    let ran = shop.approve(&second, &[]).exits(0);
    tells(&ran, "it still needs 1 more: lin; ada approved, and it takes 2 of group ops");
    tells(&shop.run(&[]).exits(3), "needs 1 more: lin; ada approved, and it takes 2 of group ops");
    tells(&shop.approve(&shop.lin, &[]).exits(0), "it opens: ");
    tells(&shop.run(&[]).exits(0), "opened by ada, lin (signed)");
}

#[test]
fn under_four_eyes_the_planner_is_not_one_of_them() {
    let gate = "from \"group:ops\"; four-eyes #true";
    let shop = Shop::new(gate, "");
    let shown = |more: &[&str]| {
        let ran = shop.project.run(&[&["plan", "f", "--env", "prod"], more].concat()).exits(0);
        ran.out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let unsigned = shown(&[]);
    let needs = "Gate go needs 2 of group ops (four eyes, and nobody signed the plan): ada, lin.";
    assert!(unsigned.contains(needs), "{unsigned}");
    let signed = shown(&["--sign", "--key", &shop.ada.file]);
    assert!(signed.contains("Gate go needs 1 of group ops, not ada who made the plan: lin."), "{signed}");
    shop.plan(&["--sign", "--key", &shop.ada.file]);
    let ran = shop.approve(&shop.ada, &[]).exits(5);
    tells(&ran, "refused: this approval would not count: ada made the plan and may not approve it");
    let plan = shop.plan(&[]);
    shop.forge(&plan, &shop.ada, NAMESPACE, |_| {});
    let ran = shop.run(&[]).exits(3);
    tells(&ran, "does not count: ada made the plan and may not approve it");
    tells(&ran, "needs 1 of group ops, not ada who made the plan: lin");
    shop.approve(&shop.lin, &[]).exits(0);
    shop.run(&[]).exits(0);

    // A plan that nobody signed needs two.
    shop.plan(&[]);
    let ran = shop.approve(&shop.lin, &[]).exits(0);
    tells(
        &ran,
        "needs 1 more: ada; lin approved, and it takes 2 of group ops (four eyes, and nobody signed the plan)",
    );
    shop.run(&[]).exits(3);
    shop.approve(&shop.ada, &[]).exits(0);
    shop.run(&[]).exits(0);
    assert_eq!(shop.shipped(), 2);
}

#[test]
fn a_stranger_cannot_pose_as_the_planner() {
    let shop = Shop::new("from \"group:ops\"; four-eyes #true", "");
    let mallory = Person::new(&shop.project, "mallory");
    shop.plan(&["--sign", "--key", &mallory.file]);
    let ran = shop.approve(&shop.lin, &[]).exits(0);
    tells(
        &ran,
        "needs 1 more: ada; lin approved, and it takes 2 of group ops (four eyes, and nobody signed the plan)",
    );
}

#[test]
fn the_environment_says_what_every_gate_asks_at_least() {
    let shop = Shop::new("", "count 2");
    shop.plan(&[]);
    tells(&shop.run(&[]).exits(3), "needs 2: ada, lin, eve");
    shop.approve(&shop.ada, &[]).exits(0);
    shop.approve(&shop.eve, &[]).exits(0);
    shop.run(&[]).exits(0);
}

#[test]
fn a_key_that_is_over_does_not_count() {
    let shop = Shop::new(OPS, "");
    shop.plan(&[]);
    let flow = shop.project.read("flows/main.kdl");
    let soon = Timestamp::now() - SignedDuration::from_mins(10);
    let ended = flow.replace(&shop.ada.public, &format!("{}\" valid-before=\"{soon}", shop.ada.public));
    shop.project.flow_now(&ended);
    let plan = shop.plan(&[]);
    tells(&shop.approve(&shop.ada, &[]).exits(5), "refused: ada's key is no longer valid in prod");
    shop.forge(&plan, &shop.ada, NAMESPACE, |_| {});
    let ran = shop.run(&[]).exits(3);
    tells(&ran, "does not count: ada's key was no longer valid when it was used");
    tells(&ran, "needs 1 of group ops: lin");
    let earlier = soon - SignedDuration::from_mins(20);
    shop.forge(&plan, &shop.ada, NAMESPACE, |s| s["signed"] = json!(earlier));
    tells(&shop.run(&[]).exits(3), "does not count: ada's key is no longer valid since 10 min");
}

#[test]
fn a_change_of_who_may_approve_makes_another_plan() {
    let shop = Shop::new(OPS, "");
    shop.plan(&[]);
    shop.approve(&shop.ada, &[]).exits(0);
    let mallory = Person::new(&shop.project, "mallory");
    shop.write(OPS, &approver(&mallory, "ops"), "");
    tells(&shop.run(&[]).exits(5), "who may approve");
    assert_eq!(shop.shipped(), 0);
}

#[test]
fn an_approval_for_another_plan_opens_nothing_and_the_same_plan_stays_approved() {
    let shop = Shop::new(OPS, "");
    shop.plan(&[]);
    shop.approve(&shop.ada, &[]).exits(0);
    let flow = shop.project.read("flows/main.kdl");
    shop.project.flow_now(&format!("// a comment\n{flow}"));
    shop.run(&["--log", "json"]).exits(0);
    assert_eq!(shop.shipped(), 1);
    let flow = flow.replace("echo ship", "echo shop");
    shop.project.flow_now(&flow);
    shop.project.run(&["run", "f", "--env", "prod"]).exits(3);
    assert_eq!(shop.shipped(), 1);
}

#[test]
fn a_typed_yes_does_not_open_a_gate_that_asks_for_signatures() {
    let shop = Shop::new(OPS, "");
    tells(&shop.project.run(&["run", "f", "--env", "prod", "--yes"]).exits(3), "needs 1 of group ops");
    let run = shop.project.run(&["run", "f", "--env", "prod", "--log", "json"]).exits(3);
    let started: Value = serde_json::from_str(run.err.lines().next().unwrap()).unwrap();
    let digest = started["event"]["plan"].as_str().or_else(|| started["plan"].as_str()).unwrap();
    shop.project.run(&["approve", digest, "--key", &shop.ada.file]).exits(0);
    shop.project.run(&["run", "f", "--env", "prod"]).exits(0);
}

#[test]
fn a_run_waits_for_its_approval_as_long_as_it_is_told() {
    let shop = Shop::new(OPS, "");
    let plan = shop.plan(&[]);
    let ran = shop.run(&["--wait-approval", "1s"]).exits(3);
    tells(&ran, "needs 1 of group ops: ada, lin");
    let waiting = shop.project.start(&["run", "--plan", "f.plan", "--wait-approval", "60s"]);
    let began = Instant::now();
    let asked = |record: &Value| record["event"]["type"] == "step-started" && record["event"]["step"] == "go";
    while !shop.project.journal().iter().any(asked) {
        assert!(began.elapsed() < Duration::from_secs(20), "the gate was not reached");
        std::thread::yield_now();
    }
    let short = &plan["digest"].as_str().unwrap()[..12];
    shop.project.run(&["approve", short, "--key", &shop.lin.file]).exits(0);
    let ran: Ran = waiting.wait_with_output().unwrap().into();
    tells(&ran.exits(0), "opened by lin (signed)");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(shop.shipped(), 1);
}

#[test]
fn a_gate_whose_condition_is_false_stands_in_front_of_nothing() {
    let shop = Shop::new("when \"env.name == 'test'\"", "");
    let ran = shop.project.run(&["run", "f", "--env", "prod"]).exits(5);
    tells(&ran, "refused: ship acts in prod, which is protected, and no gate stands in front of it");
    tells(&ran, "go is skipped (when env.name == 'test')");
    assert_eq!(shop.shipped(), 0);
}

#[test]
fn breaking_glass_is_signed_and_reviewed_by_somebody_else() {
    let shop = Shop::new(OPS, "");
    let run = |more: &[&str]| shop.project.run(&[&["run", "f", "--env", "prod"], more].concat());
    let glass = ["--break-glass", "INC-1 the shop is down"];
    tells(&run(&glass).exits(5), "refused: a break-glass run is signed by an approver, and this one is not");
    let mallory = Person::new(&shop.project, "mallory");
    let ran = run(&[&glass[..], &["--key", &mallory.file]].concat()).exits(5);
    tells(&ran, &format!("refused: the key {} is not on the list of prod", mallory.fingerprint()));
    tells(&run(&["--break-glass", " ", "--key", &shop.ada.file]).exits(2), "needs a reason");
    assert_eq!(shop.shipped(), 0);

    let ran = run(&[&glass[..], &["--key", &shop.ada.file]].concat()).exits(0);
    tells(&ran, "opened by ada (break-glass: INC-1 the shop is down)");
    let started = shop.project.journal()[0]["event"].clone();
    assert_eq!(started["break_glass"]["by"], "ada");
    let id = started["run"].as_str().unwrap().to_owned();
    assert_eq!(shop.shipped(), 1);

    let ran = run(&[]).exits(5);
    tells(&ran, &format!("refused: run {id} broke glass in prod, and nobody else has reviewed it"));
    tells(&ran, &format!("then another approver: flow review {id}"));
    let review = |by: &Person| shop.project.run(&["review", &id, "--key", &by.file]);
    tells(
        &review(&shop.ada).exits(5),
        &format!("refused: ada let run {id} pass, and somebody else reviews it"),
    );
    tells(&review(&mallory).exits(5), "is not on the list of prod");
    run(&[]).exits(5);
    tells(&review(&shop.lin).exits(0), &format!("run {id} (ada: INC-1 the shop is down) is reviewed by lin"));
    run(&[]).exits(3);
    shop.project.run(&["review", "zzzz"]).exits(2);
}

#[test]
fn keys_of_an_agent_and_of_git_are_found() {
    let mut shop = Shop::new(OPS, "");
    shop.plan(&[]);
    let git = |arguments: &[&str]| {
        let done = std::process::Command::new("git")
            .args(arguments)
            .current_dir(shop.project.root())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(done.status.success());
    };
    let home = shop.project.path(".ssh/id_ed25519");
    std::fs::create_dir_all(home.parent().unwrap()).unwrap();
    std::fs::copy(shop.project.path(&shop.lin.file), &home).unwrap();
    std::fs::copy(shop.project.path("keys/lin.pub"), home.with_extension("pub")).unwrap();
    tells(&shop.project.run(&["approve", "f.plan"]).exits(0), "approved by lin");
    std::fs::remove_dir_all(home.parent().unwrap()).unwrap();

    git(&["init", "--quiet"]);
    git(&["config", "user.signingkey", shop.project.path(&shop.ada.file).to_str().unwrap()]);
    tells(&shop.project.run(&["approve", "f.plan"]).exits(0), "approved by ada");
    git(&["config", "--unset", "user.signingkey"]);

    let socket = shop.project.path("agent.sock");
    let mut agent = std::process::Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !socket.exists() {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    let add = |file: &str| {
        let added = std::process::Command::new("ssh-add")
            .arg(shop.project.path(file))
            .env("SSH_AUTH_SOCK", &socket)
            .output()
            .unwrap();
        assert!(added.status.success());
    };
    add(&shop.ada.file);
    let second = shop.lin.file.clone();
    std::fs::remove_file(shop.project.path(&shop.ada.file)).unwrap();
    let sock = socket.to_str().unwrap().to_owned();
    shop.project.set("SSH_AUTH_SOCK", &sock);
    tells(&shop.project.run(&["approve", "f.plan"]).exits(0), "approved by ada");
    let by_public = shop.project.run(&["approve", "f.plan", "--key", "keys/ada.pub"]);
    tells(&by_public.exits(0), "approved by ada");
    let added = std::process::Command::new("ssh-add")
        .arg(shop.project.path(&second))
        .env("SSH_AUTH_SOCK", &socket)
        .output()
        .unwrap();
    assert!(added.status.success());
    tells(&shop.project.run(&["approve", "f.plan"]).exits(2), "the agent holds 2 keys");
    agent.kill().unwrap();
    agent.wait().unwrap();
}
