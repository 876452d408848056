//! The order of a rollback, on small flows.

use serde_json::json;

use super::*;
use crate::model::testing;
use crate::plan::scope::Values;

/// A flow and its graph. Kinds are the tables' own; what they do in a rollback is [`back`].
fn graph(steps: &str) -> (Flow, Graph) {
    let text = format!("environment \"dev\"\nflow \"f\" {{\n{steps}\n}}\n");
    let (_, project, problems) = testing::load(&[("flows/f.kdl", &text)]);
    assert!(problems.is_empty(), "{problems:?}");
    let flow = project.flows[0].clone();
    let (graph, problems) = Graph::build(&flow, &Values::for_tests());
    assert!(problems.is_empty(), "{problems:?}");
    (flow, graph)
}

fn back(node: &Node) -> Back {
    match node.step.kind.name {
        "approve" | "http-check" | "cloudfront-invalidate" => Back::Again,
        "notify" | "wait" => Back::Nothing,
        _ => Back::To(|_| Err(crate::steps::Failure::new("not in this test"))),
    }
}

/// `step ← what it waits for`, of every step that takes part, in order of the flow.
fn drawn(steps: &str, going: &[&str], company: Company) -> Vec<String> {
    let (_, forward) = graph(steps);
    let way = Arc::new(Way { now: json!(2), to: Some(json!(1)) });
    let ways = going.iter().map(|id| {
        let id = forward.find_id(&StepId::parse(id)).unwrap();
        (id, Arc::clone(&way))
    });
    let (turned, part) = turn(&forward, &ways.collect(), company, &back);
    assert_eq!(turned.order().len(), turned.len());
    let mut place = vec![0; turned.len()];
    turned.order().iter().enumerate().for_each(|(at, id)| place[id.0] = at);
    turned
        .iter()
        .filter(|(id, _)| part[id.0])
        .map(|(id, node)| {
            let before = node.before.iter().filter(|edge| part[edge.to.0]);
            let names: Vec<String> = before
                .map(|edge| {
                    assert!(place[edge.to.0] < place[id.0], "a circle through {}", node.id);
                    turned.node(edge.to).id.to_string()
                })
                .collect();
            let before = if names.is_empty() { String::new() } else { format!(" ← {}", names.join(" ")) };
            format!("{}{before}", node.id)
        })
        .collect()
}

fn step(name: &str, more: &str) -> String {
    format!("run \"{name}\" {{ command \"true\"; {more} }}\n")
}

const LAYERS: &str = r#"
    run "schema" { command "true" }
    approve "go" { for "all of it"; needs "schema" }
    run "service" { command "true"; needs "go" }
    http-check "early" { url "http://api"; needs "service" }
    s3-sync "site" { from "dist"; to "s3://b"; needs "early" }
    cloudfront-invalidate "edge" { distribution "E1"; paths "${step.site.changed-paths}" }
    http-check "health" { url "http://site"; needs "edge" }
    notify "tell" { webhook "http://chat"; needs "health" }
"#;

#[test]
fn layers_go_back_in_reverse_and_what_deals_with_them_follows() {
    assert_eq!(
        drawn(LAYERS, &["schema", "service", "site"], Company::All),
        [
            "schema ← service",
            "go",
            "service ← go site",
            "early ← schema service",
            "site ← go",
            "edge ← go site",
            "health ← schema service site edge",
        ]
    );
}

#[test]
fn only_what_was_selected_goes_back_with_its_gates_checks_and_invalidations() {
    assert_eq!(
        drawn(LAYERS, &["site"], Company::All),
        ["go", "site ← go", "edge ← go site", "health ← site edge"]
    );
    assert_eq!(drawn(LAYERS, &["schema"], Company::All), ["schema", "early ← schema", "health ← schema"]);
}

#[test]
fn inside_another_run_gates_are_left_to_that_run() {
    assert_eq!(drawn(LAYERS, &["site"], Company::Inside), ["site", "edge ← site", "health ← site edge"]);
}

#[test]
fn taking_back_asks_nobody_and_checks_nothing() {
    assert_eq!(
        drawn(LAYERS, &["schema", "service", "site"], Company::Again),
        ["schema ← service", "service ← site", "site", "edge ← site"]
    );
}

#[test]
fn what_lies_between_two_steps_that_go_back_does_not_loosen_their_order() {
    let steps = [
        step("a", ""),
        step("b", "needs \"a\""),
        step("c", "needs \"b\""),
        step("d", "after \"c\""),
        step("e", ""),
    ]
    .concat();
    assert_eq!(drawn(&steps, &["a", "d", "e"], Company::All), ["a ← d", "d", "e"]);
}

fn release(id: u64, steps: &[(&str, serde_json::Value)]) -> Release {
    let recorded = |receipt: &serde_json::Value| Recorded { receipt: receipt.clone(), ..Recorded::default() };
    Release {
        id,
        flow: FlowName::new("f"),
        environment: EnvName::new("dev"),
        steps: steps.iter().map(|(id, receipt)| (StepId::parse(id), recorded(receipt))).collect(),
        ..Release::sample()
    }
}

#[test]
fn what_no_file_has_any_more_is_named() {
    let (flow, forward) = graph(LAYERS);
    let now = release(2, &[("schema", json!(2)), ("old", json!(1))]);
    let to = release(1, &[("schema", json!(1)), ("older", json!(1))]);
    let turned = between(&flow, &forward, &Typed::default(), Company::All, (&now, &to)).unwrap();
    let stays: Vec<String> = turned.stays.iter().map(ToString::to_string).collect();
    let gone = |step: &str| format!("{step} stays as it is: the flow files no longer have it");
    assert!(stays.ends_with(&[gone("old"), gone("older")]), "{stays:?}");
    let typed = Typed { only: vec!["nothing".to_owned()], skip: Vec::new() };
    assert!(between(&flow, &forward, &typed, Company::All, (&now, &to)).is_err());
}

#[test]
fn a_way_leads_from_what_stands_to_what_is_recorded() {
    let recorded = |receipt| Recorded { receipt, ..Recorded::default() };
    let (one, two) = (recorded(json!(1)), recorded(json!(2)));
    assert_eq!(way(Some(&two), Some(&one)), Way { now: json!(2), to: Some(json!(1)) });
    assert_eq!(way(Some(&two), None), Way { now: json!(2), to: None });
    assert_eq!(way(None, Some(&one)), Way { now: json!(null), to: Some(json!(1)) });
    assert_eq!(way(Some(&two), Some(&recorded(json!(null)))).to, None, "nothing stood there");
}
