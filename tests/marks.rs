//! What a person says of an effect, in an environment where not everybody's word counts.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::keys::Person;
use crate::support::project::{Project, Ran};
use crate::support::wait::{kill, until};

const NAMESPACE: &str = "flow-approval@v1";

/// A protected environment with two approvers and somebody else, and a run that died in its step `ship`.
struct Died {
    project: Project,
    run: String,
    ada: Person,
    lin: Person,
    eve: Person,
}

impl Died {
    /// With these approvers of the three.
    fn new(approvers: &[&str]) -> Self {
        let project = Project::new();
        let [ada, lin, eve] = ["ada", "lin", "eve"].map(|name| Person::new(&project, name));
        let mut died = Self { project, run: String::new(), ada, lin, eve };
        died.write("protected #true", approvers);
        let flow = died.project.start(&["run", "f", "--env", "prod"]);
        until("ship has begun", || died.order().contains("begun"));
        kill(flow);
        died.project.write("go", "");
        died.project.journal()[0]["event"]["run"].as_str().unwrap().clone_into(&mut died.run);
        died
    }

    fn write(&self, settings: &str, approvers: &[&str]) {
        let people = [&self.ada, &self.lin, &self.eve];
        let listed = people.iter().filter(|person| approvers.contains(&person.name.as_str()));
        let listed: Vec<String> =
            listed.map(|who| format!("approver \"{}\" key=\"{}\"\n", who.name, who.public)).collect();
        let listed = listed.concat();
        let approvals = if listed.is_empty() { String::new() } else { format!("approvals {{\n{listed}}}") };
        self.project.flow_now(&format!(
            "environment \"prod\" {{\n{settings}\n{approvals}\n}}\n\
             flow \"f\" {{\nrun \"ship\" {{\nungated #true\n\
             script \"echo begun >> order; while [ ! -e go ]; do sleep 0.01; done\"\n}}\n\
             run \"after\" {{ needs \"ship\"; ungated #true; script \"echo after >> order\" }}\n}}\n"
        ));
    }

    fn order(&self) -> String {
        std::fs::read_to_string(self.project.path("order")).unwrap_or_default()
    }

    fn mark(&self, word: &str, more: &[&str]) -> Ran {
        let mark = format!("ship={word}");
        let words = ["reconcile", &self.run, "--mark", &mark, "--reason", "I looked"];
        self.project.run(&[&words, more].concat())
    }

    fn resume(&self) -> Ran {
        self.project.run(&["resume", &self.run])
    }

    /// The file of the only signed mark.
    fn signed(&self) -> String {
        let files = self.project.files(".flow/store/approvals");
        let marks: Vec<&String> = files.keys().filter(|path| path.contains("/@mark/")).collect();
        assert_eq!(marks.len(), 1, "{marks:?}");
        marks[0].clone()
    }
}

#[track_caller]
fn tells(ran: &Ran, text: &str) {
    let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(text), "it does not say {text:?}:\n{}", ran.err);
}

const BOTH: [&str; 2] = ["ada", "lin"];

#[test]
fn in_a_protected_environment_an_approver_signs_what_became_of_an_effect() {
    for (word, shown, order) in
        [("done", "done", "begun\nafter\n"), ("not-done", "not done", "begun\nbegun\nafter\n")]
    {
        let died = Died::new(&BOTH);
        died.resume().exits(7);
        let marked = died.mark(word, &["--key", &died.ada.file]).exits(0);
        let line = format!("ship  {shown}  (ada (signed): I looked)");
        assert!(marked.out.contains(&line), "{}", marked.out);
        tells(&marked, &format!("go on with it: flow resume {}", died.run));
        died.project.run(&["log", &died.run]).exits(0).prints("ada (signed): I looked");
        died.resume().exits(0);
        assert_eq!(died.order(), order);
    }
}

#[test]
fn the_word_of_just_anybody_does_not_settle_what_is_protected() {
    let died = Died::new(&BOTH);
    let before = died.project.journal().len();
    let ran = died.mark("done", &[]).exits(5);
    tells(&ran, "refused: a mark in prod is signed by an approver, and this one is not: ");
    tells(&ran, "name one: --key FILE");
    let ran = died.mark("done", &["--key", &died.eve.file]).exits(5);
    tells(&ran, &format!("refused: the key {} is not on the list of prod", died.eve.fingerprint()));
    tells(&ran, "on the list: ada, lin");
    tells(&died.mark("done", &["--key", "keys/nobody"]).exits(5), "keys/nobody");
    assert_eq!(died.project.journal().len(), before, "nothing of it is recorded");
    assert!(died.project.files(".flow/store/approvals").is_empty());
    let ran = died.project.run(&["reconcile", &died.run]).exits(7);
    tells(&ran, "an approver of prod signs it: --key FILE");
}

#[test]
fn where_nobody_is_named_nobody_can_mark() {
    let died = Died::new(&[]);
    let ran = died.mark("done", &["--key", &died.ada.file]).exits(5);
    tells(&ran, "refused: a mark in prod is signed by an approver, and nobody is named as one");
    tells(&ran, "approvals { approver");
}

#[test]
fn where_nothing_is_protected_a_mark_needs_no_signature() {
    let died = Died::new(&BOTH);
    died.write("", &BOTH);
    let ran = died.mark("done", &["--key", &died.ada.file]).exits(0);
    tells(&ran, "prod is not protected: this mark counts without a signature, and --key was not used");
    assert!(died.project.files(".flow/store/approvals").is_empty());
}

/// The statement in the store is changed after it was signed, or another one lies there.
#[test]
fn a_mark_that_no_approver_signed_as_it_stands_does_not_count() {
    let died = Died::new(&BOTH);
    died.mark("done", &["--key", &died.ada.file]).exits(0);
    let journal = format!(".flow/store/runs/{}/journal.jsonl", died.run);
    let (records, path) = (died.project.read(&journal), died.signed());
    let signed: Value = serde_json::from_str(&died.project.read(&path)).unwrap();
    let whole: Value = serde_json::from_str(signed["statement"].as_str().unwrap()).unwrap();
    let forge = |by: &Person, namespace: &str, field: &str, value: &Value| {
        let mut statement = whole.clone();
        *statement.pointer_mut(field).unwrap() = value.clone();
        let text = statement.to_string();
        json!({ "version": 1, "statement": text, "signature": by.sign(namespace, &text) }).to_string()
    };
    let ada = |field: &str, value: Value| forge(&died.ada, NAMESPACE, field, &value);
    let earlier = Timestamp::now() - SignedDuration::from_hours(1);
    let altered = signed.to_string().replace("I looked", "I thought");
    for (what, file) in [
        ("no signature", None),
        ("altered", Some(altered)),
        ("not an approver", Some(forge(&died.eve, NAMESPACE, "/nonce", &json!("1")))),
        ("another namespace", Some(forge(&died.ada, "file", "/nonce", &json!("1")))),
        ("another run", Some(ada("/run", json!("aaaa")))),
        ("another plan", Some(ada("/plan", json!("7f3a")))),
        ("another environment", Some(ada("/environment", json!("dev")))),
        ("another decision", Some(ada("/decision", json!("approve")))),
        ("another step", Some(ada("/mark/step", json!("after")))),
        ("another word", Some(ada("/mark/done", json!(false)))),
        ("another effect", Some(ada("/mark/announced", json!(earlier)))),
    ] {
        died.project.write(&journal, &records);
        match file {
            Some(file) => died.project.write(&path, file),
            None => std::fs::remove_file(died.project.path(&path)).unwrap(),
        }
        let ran = died.resume();
        assert_eq!(ran.code, Some(7), "{what}:\n{}", ran.err);
        tells(&ran, "this mark does not count: nobody signed it who may approve in prod now");
        tells(&ran, &format!("flow reconcile {} --mark ship=done", died.run));
        assert_eq!(died.order(), "begun\n", "{what}");
    }
    // It is open again, for whoever asks next, and can be marked by somebody who may.
    died.project.run(&["run", "f", "--env", "prod"]).exits(7);
    died.mark("done", &["--key", &died.lin.file]).exits(0);
    died.resume().exits(0);
    assert_eq!(died.order(), "begun\nafter\n");
}

#[test]
fn whoever_asks_what_is_open_hears_of_a_mark_that_does_not_count() {
    let died = Died::new(&BOTH);
    died.write("", &BOTH);
    died.mark("done", &[]).exits(0);
    died.write("protected #true", &BOTH);
    let ran = died.project.run(&["reconcile", &died.run]).exits(7);
    tells(&ran, "this mark of ship does not count: nobody signed it who may approve in prod now");
    died.mark("done", &["--key", &died.lin.file]).exits(0);
    died.resume().exits(0);
    assert_eq!(died.order(), "begun\nafter\n");
    died.project.run(&["reconcile", &died.run]).exits(0).says("left nothing open");
}
