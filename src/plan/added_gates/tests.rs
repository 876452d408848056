//! Where flow puts gates of its own, on small flows.

use serde_json::json;

use super::*;
use crate::model::testing;
use crate::plan::graph::{Edge, Why};
use crate::plan::selection::{self, Typed};
use crate::steps::Way;

/// `step ← what it waits for` of every selected step once gates are added; those of `back` go back.
fn drawn(steps: &str, only: &[&str], back: &[&str]) -> Vec<String> {
    let text = format!("environment \"dev\"\nflow \"f\" {{\n{steps}\n}}\n");
    let (_, project, problems) = testing::load_with(&[("flows/f.kdl", &text)], &crate::steps::specs());
    assert!(problems.is_empty(), "{problems:?}");
    let (flow, values) = (&project.flows[0], Values::for_tests());
    let (graph, problems) = Graph::build(flow, &values);
    assert!(problems.is_empty(), "{problems:?}");
    let way = Arc::new(Way { now: json!(2), to: Some(json!(1)) });
    let graph = graph.redrawn(|_, node| {
        let goes = back.contains(&node.id.to_string().as_str());
        (node.before.clone(), goes.then(|| Goal::Recorded(Arc::clone(&way))))
    });
    let typed = Typed { only: only.iter().map(|name| (*name).to_owned()).collect(), skip: Vec::new() };
    let selection = selection::select(flow, &graph, &typed, &|_| None).unwrap_or_else(|e| panic!("{e:?}"));
    let (graph, selection) = add(graph, selection, &values);
    for (id, node) in graph.iter() {
        assert_eq!(graph.find_id(&node.id), Some(id));
        assert!(graph.instances(&node.id.name).contains(&id), "{}", node.id);
    }
    let name = |edge: &Edge| match edge.why {
        Why::Needs => graph.node(edge.to).id.to_string(),
        why => format!("{} ({why:?})", graph.node(edge.to).id),
    };
    let taking = graph.iter().filter(|(id, _)| selection.contains(*id));
    taking
        .map(|(_, node)| {
            let before: Vec<String> = node.before.iter().map(name).collect();
            format!("{} ← {}", node.id, before.join(", ")).trim_end().to_owned()
        })
        .collect()
}

const DESTROY: &str = r#"
    run "first" { command "x" }
    run "key" { command "x" }
    terraform-apply "infra" { dir "i"; destroy #true; needs "key" }
    run "last" { command "x"; needs "infra" }
"#;

#[test]
fn what_is_destroyed_waits_for_a_gate_of_its_own_that_asks_at_once() {
    assert_eq!(
        drawn(DESTROY, &[], &[]),
        ["first ←", "key ←", "infra/gate ←", "infra ← key, infra/gate", "last ← infra"]
    );
}

#[test]
fn what_is_not_selected_gets_none() {
    assert_eq!(drawn(DESTROY, &["first", "key"], &[]), ["first ←", "key ←"]);
}

#[test]
fn instances_share_one() {
    let steps = DESTROY.replace("destroy #true", "destroy #true; each \"zone\" { in \"a\" \"b\" }");
    assert_eq!(
        drawn(&steps, &[], &[])[2..],
        [
            "infra/gate ←",
            "infra[a] ← key, infra/gate",
            "infra[b] ← key, infra/gate",
            "last ← infra[a], infra[b]"
        ]
    );
}

#[test]
fn several_stand_right_in_front_of_their_steps() {
    let steps = r#"
        terraform-apply "b" { dir "b"; destroy #true }
        run "between" { command "x"; needs "b" }
        terraform-apply "a" { dir "a"; destroy #true; needs "between" }
    "#;
    assert_eq!(
        drawn(steps, &[], &[]),
        ["b/gate ←", "b ← b/gate", "between ← b", "a/gate ←", "a ← between, a/gate"]
    );
}

#[test]
fn a_gate_of_the_flow_is_enough_unless_it_never_asks() {
    let steps = |when: &str| {
        format!(
            "approve \"sure\" {{ {when} }}\nrun \"key\" {{ command \"x\"; needs \"sure\" }}\n\
             terraform-apply \"infra\" {{ dir \"i\"; destroy #true; needs \"key\" }}"
        )
    };
    assert_eq!(drawn(&steps(""), &[], &[]), ["sure ←", "key ← sure", "infra ← key"]);
    assert_eq!(
        drawn(&steps("when \"env.name == 'prod'\""), &[], &[]),
        ["sure ←", "key ← sure", "infra/gate ←", "infra ← key, infra/gate"]
    );
}

#[test]
fn infrastructure_that_goes_back_has_one_and_what_only_goes_forward_none() {
    let steps = r#"
        terraform-apply "infra" { dir "i"; destroy #false }
        run "ship" { command "x"; undo { command "y" }; needs "infra" }
    "#;
    assert_eq!(drawn(steps, &[], &[]), ["infra ←", "ship ← infra"]);
    // Nobody takes half of it back.
    assert_eq!(
        drawn(steps, &[], &["infra", "ship"]),
        ["rollback/gate ←", "infra ← rollback/gate", "ship ← rollback/gate, infra"]
    );
}

#[test]
fn in_finally_the_gate_stands_there_too() {
    let steps =
        "run \"key\" { command \"x\" }\nfinally { terraform-apply \"infra\" { dir \"i\"; destroy #true } }";
    assert_eq!(drawn(steps, &[], &[]), ["key ←", "infra/gate ←", "infra ← infra/gate"]);
}
