//! What stands in the place of a `rollback` step, on small flows.

use serde_json::json;

use super::*;
use crate::journal::releases::Recorded;
use crate::model::names::EnvName;
use crate::model::testing;
use crate::plan::selection;

const FLOWS: &str = r#"
environment "dev"
flow "deploy" {
    param "tag" default="v0"
    pool "p" size=3
    approve "ok"
    group "data" {
        run "schema" needs="ok" { command "x"; undo { command "y" "${param.tag}" }; pool "p" }
    }
    group "app" {
        run "service" needs="schema" { command "x"; undo { command "y" } }
    }
    http-check "health" needs="service" { url "http://x" }
    finally { run "tidy" { command "x" } }
}
flow "incident" {
    param "mode" default="on"
    approve "go"
    run "before" needs="go" { command "x" }
    rollback "back" needs="before" when="param.mode == 'on'" { LINES }
    run "after" needs="back" { command "x" }
}
"#;

struct Bench {
    project: Project,
    values: Values,
    releases: Releases,
    store: Store,
    _folder: tempfile::TempDir,
}

fn bench(lines: &str, mode: &str) -> Bench {
    let (_, project, problems) = testing::load(&[("flows/f.kdl", &FLOWS.replace("LINES", lines))]);
    assert!(problems.is_empty(), "{problems:?}");
    let folder = tempfile::tempdir().unwrap();
    let store = Store::folder(folder.path().to_owned());
    let params = BTreeMap::from([("mode".to_owned(), Value::text(mode))]);
    let values = Values { params, ..Values::for_tests() };
    Bench { project, values, releases: Releases::new(store.clone()), store, _folder: folder }
}

impl Bench {
    /// Two releases of `deploy`: `v1` and `v2`.
    fn released(self) -> Self {
        for tag in ["v1", "v2"] {
            let steps = ["schema", "service"].map(|step| {
                (StepId::parse(step), Recorded { receipt: json!({ "is": tag }), ..Recorded::default() })
            });
            let release = Release {
                environment: EnvName::new("dev"),
                params: BTreeMap::from([("tag".to_owned(), json!(tag))]),
                steps: steps.into(),
                ..Release::sample()
            };
            self.releases.write(release).unwrap();
        }
        self
    }

    fn expand(&self, only: &[&str]) -> Result<Expanded, PrepareError> {
        let flow = &self.project.flows[1];
        let (graph, problems) = Graph::build(flow, &self.values);
        assert!(problems.is_empty(), "{problems:?}");
        let around = Around {
            project: &self.project,
            values: &self.values,
            releases: &self.releases,
            store: &self.store,
        };
        expand(flow, graph, &request(only), around)
    }
}

fn request(only: &[&str]) -> Request {
    let only = only.iter().map(|name| (*name).to_owned()).collect();
    Request {
        flow: FlowName::new("incident"),
        environment: EnvName::new("dev"),
        typed: Typed { only, skip: Vec::new() },
        params: Vec::new(),
        no_cache: false,
        untrusted: false,
        resumes: None,
        back: None,
        inside: BTreeMap::new(),
    }
}

/// `step ← what it waits for` of every step that takes part.
fn drawn(expanded: &Expanded, only: &[&str]) -> Vec<String> {
    let graph = &expanded.graph;
    let recorded = |_: &StepId| None;
    let selection = selection::select(&expanded.flow, graph, &request(only).typed, &recorded)
        .unwrap_or_else(|e| panic!("{e:?}"));
    let name = |id: NodeId| graph.node(id).id.to_string();
    let taking = graph.iter().filter(|(id, _)| selection.contains(*id));
    taking
        .map(|(id, node)| {
            let before: Vec<String> = node.before.iter().map(|edge| name(edge.to)).collect();
            format!("{} ← {}", name(id), before.join(" ")).trim_end_matches(" ← ").to_owned()
        })
        .collect()
}

#[test]
fn the_steps_that_go_back_stand_where_the_rollback_stands() {
    let bench = bench("flow \"deploy\"", "on").released();
    let expanded = bench.expand(&[]).unwrap();
    assert_eq!(
        drawn(&expanded, &[]),
        [
            "go",
            "before ← go",
            "back/service ← before",
            "back/schema ← before back/service",
            "back/health ← before back/schema back/service",
            "after ← back/service back/schema back/health",
        ],
        "in the order in which they go back; gates and finally are the run's own"
    );
    let inside = &expanded.inside[&StepName::new("back")];
    assert_eq!((inside.back.to.id, inside.current.id, inside.sequence), (1, 2, 1));
    assert_eq!(inside.params["tag"].as_text().as_deref(), Some("v1"), "as the release was made");
    let called: Vec<String> = called_params(&expanded.inside).map(|(name, _)| name).collect();
    assert_eq!(called, ["back/tag"]);
    assert_eq!(expanded.flow.pools.get("back/p"), Some(&3));
}

#[test]
fn a_selection_may_be_the_rollback_a_group_of_it_or_one_step() {
    let bench = bench("flow \"deploy\"", "on").released();
    let drawn = |only: &[&str]| {
        let expanded = bench.expand(only).unwrap();
        drawn(&Expanded { graph: loosened(&expanded.graph), ..expanded }, only)
    };
    assert_eq!(drawn(&["back"]), ["back/service", "back/schema", "back/health"]);
    assert_eq!(drawn(&["back/data"]), ["back/schema"]);
    assert_eq!(drawn(&["back/service"]), ["back/service"]);
}

/// Without edges, so that a selection needs nothing that is recorded.
fn loosened(graph: &Graph) -> Graph {
    graph.redrawn(|_, node| (Vec::new(), node.goal.clone()))
}

#[test]
fn what_is_not_to_happen_need_not_be_possible() {
    let off = bench("flow \"deploy\"", "off");
    let names = |expanded: Expanded| {
        let names = expanded.graph.iter().map(|(_, node)| node.id.to_string()).collect::<Vec<_>>();
        (names, expanded.inside.len())
    };
    let as_written = ["go", "before", "back", "after"].map(str::to_owned).to_vec();
    assert_eq!(names(off.expand(&[]).unwrap()), (as_written.clone(), 0));
    let on = bench("flow \"deploy\"", "on");
    assert_eq!(names(on.expand(&["before"]).unwrap()), (as_written, 0));
    assert!(matches!(on.expand(&[]), Err(PrepareError::Back(BackError::NoRelease { .. }))));
}

#[test]
fn where_it_goes_is_said_as_for_a_rollback() {
    let to = |lines: &str| bench(lines, "on").released().expand(&[]);
    let of = |expanded: Expanded| expanded.inside[&StepName::new("back")].back.to.id;
    assert_eq!(of(to("flow \"deploy\"; to \"last-good\"").unwrap()), 1);
    assert_eq!(of(to("flow \"deploy\"; to \"2\"").unwrap()), 2);
    let error = |lines: &str| to(lines).unwrap_err();
    assert_eq!(error("flow \"deploy\"; to \"9\"").to_string(), "dev has no release 9");
    let PrepareError::Problems(problems) = error("flow \"deploy\"; to \"${param.mode}\"") else {
        panic!("a mistake in the file")
    };
    assert!(format!("{problems:?}").contains("a release's number or last-good is expected, not"));
    assert!(matches!(error("flow \"deploy\"; only \"health\""), PrepareError::Back(BackError::Empty { .. })));
}

#[test]
fn a_release_that_was_decided_before_stays_decided() {
    let bench = bench("flow \"deploy\"", "on").released();
    let flow = &bench.project.flows[1];
    let (graph, _) = Graph::build(flow, &bench.values);
    let around = Around {
        project: &bench.project,
        values: &bench.values,
        releases: &bench.releases,
        store: &bench.store,
    };
    let request = Request { inside: BTreeMap::from([(StepName::new("back"), 2)]), ..request(&[]) };
    let expanded = expand(flow, graph, &request, around).unwrap();
    assert_eq!(expanded.inside[&StepName::new("back")].back.to.id, 2);
}
