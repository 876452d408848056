//! An environment's record in its account stands above the files, and a step
//! that acts in another environment obeys that one.

use serde_json::{Value, json};

use crate::support::keys::Person;
use crate::support::project::{Project, Ran};
use crate::support::sandbox::{Alone, Sandbox};

/// A project of its own name, so that its record is its own.
struct Place {
    project: Project,
    name: String,
    sandbox: Alone,
    ada: Person,
    lin: Person,
}

impl Place {
    fn new() -> Self {
        // Others empty the account, and the records with it.
        let sandbox = Sandbox::alone();
        let mut project = Project::new();
        for (name, value) in sandbox.variables() {
            project = project.var(name, value);
        }
        let [ada, lin] = ["ada", "lin"].map(|name| Person::new(&project, name));
        // The folder of a test is new each time.
        let name = project.root().file_name().unwrap().to_string_lossy().replace('.', "t");
        let place = Self { project, name, sandbox, ada, lin };
        place.write("protected #true", &[(&place.ada, "ops"), (&place.lin, "ops")], "");
        place
    }

    fn account(&self) -> String {
        format!("account \"000000000000\"\nregion \"us-east-1\"\nendpoint \"{}\"\n", self.sandbox.endpoint)
    }

    fn write(&self, settings: &str, approvers: &[(&Person, &str)], flows: &str) {
        let approvers: Vec<String> = approvers
            .iter()
            .map(|(p, group)| format!("approver \"{}\" key=\"{}\" group=\"{group}\"\n", p.name, p.public))
            .collect();
        let approvers = approvers.concat();
        let gated = "flow \"f\" {\napprove \"go\" { from \"group:ops\" }\n\
                     run \"ship\" { needs \"go\"; script \"echo ship >> order\" }\n}\n\
                     flow \"plain\" {\nrun \"ship\" { ungated #true; script \"echo plain >> order\" }\n}\n";
        self.project.flow_now(&format!(
            "project \"{}\"\nenvironment \"prod\" {{\n{}{settings}\napprovals {{\n{approvers}}}\n}}\n{gated}{flows}",
            self.name,
            self.account(),
        ));
    }

    fn set(&self, by: &Person) -> Ran {
        self.project.run(&["approvers", "set", "--env", "prod", "--key", &by.file])
    }

    fn list(&self) -> Ran {
        self.project.run(&["approvers", "list", "--env", "prod", "--json"])
    }

    fn plan(&self) -> Ran {
        self.project.run(&["plan", "f", "--env", "prod", "--out", "f.plan", "--json"])
    }

    fn ordered(&self) -> String {
        std::fs::read_to_string(self.project.path("order")).unwrap_or_default()
    }
}

fn words(ran: &Ran) -> String {
    ran.err.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn tells(ran: &Ran, text: &str) {
    assert!(words(ran).contains(text), "it does not say {text:?}:\n{}", ran.err);
}

#[test]
fn the_record_is_written_by_those_it_names() {
    let place = Place::new();
    let mallory = Person::new(&place.project, "mallory");
    let listed = place.list().exits(0).json();
    assert_eq!((&listed["source"], &listed["set"]), (&json!("files"), &Value::Null));
    assert_eq!(listed["approvers"][0]["id"], "ada");
    tells(&place.set(&mallory).exits(5), "may not change who approves in prod");
    let ran = place.set(&place.ada).exits(0);
    tells(&ran, "prod: the first record");
    tells(&ran, &format!("written to /flow/{}/prod in account 000000000000, signed by ada", place.name));
    let listed = place.list().exits(0).json();
    assert_eq!(listed["source"], "record");
    assert_eq!(listed["signed_by"], place.ada.fingerprint());
    tells(&place.set(&place.ada).exits(0), "the record says that already");

    // Whoever is new is let in by those who are there, and not by themselves.
    place.write("protected #true", &[(&place.ada, "ops"), (&mallory, "ops")], "");
    let ran = place.set(&mallory).exits(5);
    tells(&ran, &format!("- lin {} group ops", place.lin.fingerprint()));
    tells(&ran, &format!("+ mallory {} group ops", mallory.fingerprint()));
    tells(&ran, "on the list: ada, lin");
    tells(&place.list().exits(5), "the files name mallory as an approver of prod, and its record does not");
    place.set(&place.lin).exits(0);
    assert_eq!(place.list().exits(0).json()["approvers"][1]["id"], "mallory");
}

#[test]
fn files_that_ask_for_less_than_the_record_are_refused() {
    let place = Place::new();
    let both = [(&place.ada, "ops"), (&place.lin, "ops")];
    place.set(&place.ada).exits(0);
    let mallory = Person::new(&place.project, "mallory");
    let run = |flow: &str| place.project.run(&["run", flow, "--env", "prod"]);

    place.write("", &both, "");
    let said = "refused: the files no longer say that prod is protected, and its record does";
    tells(&place.plan().exits(5), said);
    tells(&run("f").exits(5), said);
    tells(&run("plain").exits(5), said);
    place.write("protected #true", &[(&place.ada, "ops"), (&mallory, "ops")], "");
    let said = "refused: the files name mallory as an approver of prod, and its record does not";
    tells(&place.plan().exits(5), said);
    let stolen = Person { public: mallory.public.clone(), ..place.ada.clone() };
    place.write("protected #true", &[(&stolen, "ops")], "");
    tells(&place.plan().exits(5), "the files give ada a key that the record of prod does not have");
    place.write("protected #true; store \".flow/mine\"", &both, "");
    tells(&place.plan().exits(5), "the files keep the records of prod in .flow/mine");
    assert_eq!(place.ordered(), "");

    // Asking for more is nobody's loss, and the approvals count by the record.
    place.write("protected #true", &[(&place.ada, "ops")], "");
    let plan = place.plan().exits(0).json();
    assert_eq!(plan["approvals"]["policies"][0]["source"], "record");
    tells(&place.project.run(&["approve", "f.plan", "--key", &place.lin.file]).exits(5), "on the list: ada");
    place.project.run(&["approve", "f.plan", "--key", &place.ada.file]).exits(0);
    place.project.run(&["run", "--plan", "f.plan"]).exits(0);
    assert_eq!(place.ordered(), "ship\n");
}

#[test]
fn a_record_that_was_tampered_with_is_not_believed() {
    let place = Place::new();
    place.set(&place.ada).exits(0);
    let name = format!("/flow/{}/prod", place.name);
    let get = json!({ "Name": name });
    let value = place.sandbox.json("AmazonSSM.GetParameter", &get)["Parameter"]["Value"].clone();
    let mut record: Value = serde_json::from_str(value.as_str().unwrap()).unwrap();
    let put = |value: &str| {
        let put = json!({ "Name": name, "Value": value, "Type": "String", "Overwrite": true });
        place.sandbox.json("AmazonSSM.PutParameter", &put);
    };
    record["statement"] =
        record["statement"].as_str().unwrap().replace("\"protected\":true", "\"protected\":false").into();
    put(&record.to_string());
    let ran = place.plan().exits(5);
    tells(&ran, &format!("the record of prod ({name}) cannot be trusted: a signature that does not belong"));
    put("nonsense");
    tells(&place.plan().exits(5), "cannot be trusted");
}

#[test]
fn a_change_of_the_record_makes_another_plan() {
    let place = Place::new();
    place.set(&place.ada).exits(0);
    place.plan().exits(0);
    place.project.run(&["approve", "f.plan", "--key", &place.lin.file]).exits(0);
    place.write("protected #true", &[(&place.ada, "ops")], "");
    place.set(&place.ada).exits(0);
    place.write("protected #true", &[(&place.ada, "ops")], "// again");
    let ran = place.project.run(&["run", "--plan", "f.plan"]).exits(5);
    tells(&ran, "who may approve");
    assert_eq!(place.ordered(), "");
}

#[test]
fn a_step_that_acts_elsewhere_obeys_that_environment() {
    let place = Place::new();
    place.set(&place.ada).exits(0);
    let bob = Person::new(&place.project, "bob");
    let side = format!(
        "environment \"dev\" {{\n{}approvals {{ approver \"bob\" key=\"{}\" group=\"ops\" }}\n}}\n\
         flow \"side\" {{\napprove \"go\" {{ when \"env.protected\" }}\n\
         run \"copy\" {{ needs \"go\"; environment \"prod\"; script \"echo copy >> order\" }}\n}}\n\
         flow \"gated\" {{\napprove \"go\" {{ from \"group:ops\" }}\n\
         run \"copy\" {{ needs \"go\"; environment \"prod\"; script \"echo copy >> order\" }}\n}}\n",
        place.account(),
        bob.public,
    );
    place.write("protected #true", &[(&place.ada, "ops"), (&place.lin, "ops")], &side);
    let ran = place.project.run(&["run", "side", "--env", "dev", "--yes"]).exits(5);
    tells(&ran, "refused: copy acts in prod, which is protected, and no gate stands in front of it");
    tells(&ran, "go is skipped (when env.protected)");

    place.project.run(&["plan", "gated", "--env", "dev", "--out", "side.plan"]).exits(0);
    let ran = place.project.run(&["approve", "side.plan", "--key", &bob.file]).exits(0);
    tells(&ran, "it still needs 1 of group ops for prod: ada, lin");
    tells(
        &place.project.run(&["run", "--plan", "side.plan"]).exits(3),
        "needs 1 of group ops for prod: ada, lin",
    );
    place.project.run(&["approve", "side.plan", "--key", &place.lin.file]).exits(0);
    place.project.run(&["run", "--plan", "side.plan"]).exits(0);
    assert_eq!(place.ordered(), "copy\n");

    place.write("protected #true; branch \"main\"", &[(&place.ada, "ops"), (&place.lin, "ops")], &side);
    place.set(&place.ada).exits(0);
    let ran = place.project.run(&["run", "gated", "--env", "dev"]).exits(5);
    tells(&ran, "prod is deployed from main, and this checkout is on no branch");
}
