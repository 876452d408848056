//! What another pipeline deployed, read for the plan, and read again behind a step that changes it.

use crate::support::project::Project;
use crate::support::sandbox::Sandbox;

const TEMPLATE: &str = "Parameters:
  Word:
    Type: String
Resources:
  Group:
    Type: AWS::Logs::LogGroup
    Properties:
      LogGroupName: !Sub 'lookups-${Word}'
Outputs:
  Word:
    Value: !Ref Word
";

fn flow(endpoint: &str, word: &str, output: &str) -> String {
    format!(
        r#"environment "sandbox" {{ account "000000000000"; region "us-east-1"; endpoint "{endpoint}"; }}
flow "base" {{
    cfn-deploy "stack" {{ stack "lookups"; template "stack.yaml"; parameter Word="{word}"; }}
    lookup "read" {{ needs "stack"; stack "lookups"; output "{output}"; }}
    run "use" {{ command "echo" "the word is ${{step.read.{output}}}"; undo "none"; }}
}}
flow "app" {{
    lookup "read" {{ stack "lookups"; output "{output}"; }}
    run "use" {{ command "echo" "the word is ${{step.read.{output}}}"; undo "none"; }}
}}
"#
    )
}

#[test]
fn what_is_read_is_known_in_the_plan_unless_a_step_in_front_changes_it() {
    let sandbox = Sandbox::alone();
    let mut project = Project::new();
    for (name, value) in sandbox.variables() {
        project = project.var(name, value);
    }
    project.write("stack.yaml", TEMPLATE);
    let written = |word: &str, output: &str| {
        project.write("flows/f.kdl", flow(&sandbox.endpoint, word, output));
    };
    let told = |flow: &str| project.run(&["run", flow, "--env", "sandbox"]).exits(0);
    let used = || {
        let logs = project.files(".flow/store/runs");
        let log = logs.iter().filter(|(path, _)| path.ends_with("/logs/use.log"));
        let newest = log.max_by_key(|(path, _)| project.path(path).metadata().unwrap().modified().unwrap());
        String::from_utf8_lossy(newest.unwrap().1).into_owned()
    };

    written("one", "Word");
    project.run(&["plan", "app", "--env", "sandbox"]).exits(1).says("there is no stack lookups");
    project.run(&["plan", "base", "--env", "sandbox"]).exits(0).prints("(known after stack)");
    told("base");
    assert!(used().contains("the word is one"), "{}", used());
    project.run(&["plan", "app", "--env", "sandbox"]).exits(0).prints("the word is one");

    written("two", "Word");
    project.run(&["plan", "base", "--env", "sandbox"]).exits(0).prints("(known after stack)");
    told("base");
    assert!(used().contains("the word is two"), "what stood before is not used: {}", used());
    told("app");

    written("two", "Wort");
    let wrong = project.run(&["plan", "app", "--env", "sandbox"]).exits(1);
    wrong.says("stack lookups has no output Wort").says("did you mean Word?");
}
