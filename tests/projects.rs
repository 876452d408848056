//! Several projects in one repository: `flow run ohi/deploy --env prod`.

use crate::support::project::{Project, Ran};

/// A flow that writes into the project's folder, so that one sees where its paths begin.
fn flow(name: &str) -> String {
    format!(
        "flow \"{name}\" {{\n    about \"{name} it\"\n    run \"make\" {{ command \"sh\" \"-c\" \"echo {name} >> made\"; undo \"none\" }}\n}}\n"
    )
}

fn two() -> Project {
    Project::new()
        .file("flows/ohi/project.kdl", "project \"ohi\" { root \"systems/ohi\" }\nenvironment \"prod\"\n")
        .file("flows/ohi/deploy.kdl", flow("deploy"))
        .file("flows/flux/project.kdl", "project \"flux\"\nenvironment \"prod\"\nenvironment \"dev\"\n")
        .file("flows/flux/deploy.kdl", flow("deploy"))
        .file("flows/flux/more/promote.kdl", flow("promote"))
        .file("systems/ohi/README", "ohi")
}

fn in_folder(project: &Project, folder: &str, arguments: &[&str]) -> Ran {
    project.command(arguments).current_dir(project.path(folder)).output().unwrap().into()
}

#[test]
fn all_projects_are_listed_and_checked() {
    let project = two();
    project
        .run(&["list"])
        .exits(0)
        .prints("flux/deploy   deploy it\nflux/promote  promote it\nohi/deploy    deploy it\n");
    project
        .run(&["check"])
        .exits(0)
        .says("flux: 3 files with 2 flows and 2 environments: no mistakes")
        .says("ohi: 2 files with 1 flow and 1 environment: no mistakes");
    project.write("flows/ohi/deploy.kdl", "flow \"deploy\" {\n    rnu \"a\"\n}\n");
    project.run(&["check"]).exits(2).says("flux: 3 files").says("flows/ohi/deploy.kdl").says("rnu");
}

#[test]
fn a_flow_is_named_with_its_project_and_has_paths_and_records_of_its_own() {
    let project = two();
    project.run(&["run", "ohi/deploy", "--env", "prod"]).exits(0).says("ohi/deploy → prod");
    assert_eq!(project.read("systems/ohi/made"), "deploy\n");
    project.run(&["run", "flux/deploy", "--env", "flux/prod"]).exits(0);
    assert_eq!(project.read("made"), "deploy\n");
    let releases = |environment| {
        let said = project.run(&["releases", "--env", environment, "--json"]).exits(0).json();
        said["releases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|release| release["flow"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(releases("ohi/prod")[0], "\"ohi/deploy\"");
    assert_eq!(releases("flux/prod")[0], "\"flux/deploy\"");
    let runs = project.run(&["runs", "--json"]).exits(0).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);
    let first = runs["runs"][1]["id"].as_str().unwrap();
    project.run(&["log", first]).exits(0).prints("ohi/deploy");
}

#[test]
fn a_bare_name_is_enough_where_one_project_has_it() {
    let project = two();
    project.run(&["run", "promote", "--env", "dev"]).exits(0).says("flux/promote → dev");
    let twice = project.run(&["run", "deploy", "--env", "prod"]).exits(2);
    twice.says("several projects have the flow deploy: say which").says("there is flux/deploy, ohi/deploy");
    project.run(&["run", "ohi/deplyo", "--env", "prod"]).exits(2).says("ohi/deploy");
    project
        .run(&["run", "promotte", "--env", "prod"])
        .exits(2)
        .says("no project here has the flow promotte")
        .says("flux/promote");
    project.run(&["releases", "--env", "prod"]).exits(2).says("there is flux/prod, ohi/prod");
}

#[test]
fn inside_a_project_its_own_names_come_first() {
    let project = two();
    for folder in ["flows/ohi", "systems/ohi"] {
        in_folder(&project, folder, &["run", "deploy", "--env", "prod"]).exits(0).says("ohi/deploy → prod");
        in_folder(&project, folder, &["list"]).exits(0).prints("ohi/deploy  deploy it\n");
    }
    assert_eq!(project.read("systems/ohi/made"), "deploy\ndeploy\n");
}

#[test]
fn a_saved_plan_finds_its_project() {
    let project = two();
    project.run(&["plan", "ohi/deploy", "--env", "prod", "--out", "ohi.plan"]).exits(0);
    project.run(&["run", "--plan", "ohi.plan"]).exits(0).says("ohi/deploy → prod");
    project.run(&["run", "--plan", "ohi.plan"]).exits(5).says("flow plan ohi/deploy --env prod --out");
}

#[test]
fn a_root_outside_of_the_repository_is_refused() {
    let project = two();
    project.write("flows/ohi/project.kdl", "project \"ohi\" { root \"../other\" }\nenvironment \"prod\"\n");
    project.run(&["check"]).exits(2).says("the root \"../other\" lies outside the repository");
}
