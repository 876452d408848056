use crate::model::testing::{DEPLOY, PROJECT, load};

#[test]
fn the_examples_of_the_contract_are_clean() {
    let (_, project, problems) = load(&[("flows/project.kdl", PROJECT), ("flows/deploy.kdl", DEPLOY)]);
    assert_eq!(problems.0, []);
    let flow = &project.flows[0];
    let steps: Vec<&str> = flow.steps.iter().map(|step| step.name.value.as_str()).collect();
    assert_eq!(
        steps,
        ["go", "stack", "test", "image", "schema", "service", "healthy", "bundle", "site", "edge"]
    );
    assert_eq!(flow.finally.len(), 1);
    let needs: Vec<&str> = flow.steps[8].common.needs.iter().map(|need| need.step.as_str()).collect();
    assert_eq!(needs, ["go", "bundle", "stack", "healthy"]);
    assert_eq!(project.environments[1].vars.len(), 5);
}
