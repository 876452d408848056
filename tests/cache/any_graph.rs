//! Whatever the graph and the edits: what a run with a cache leaves is what a clean run leaves.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Project, run};

const SOURCES: usize = 4;
const STEPS: usize = 4;

/// A step: which sources and which earlier steps it reads, and whether it makes a folder.
#[derive(Clone, Debug)]
struct Step {
    sources: [bool; SOURCES],
    before: [bool; STEPS],
    folder: bool,
}

#[derive(Clone, Debug)]
enum Edit {
    Source(usize, Option<u8>),
    Output(usize, bool),
    Definition(usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    (any::<[bool; SOURCES]>(), any::<[bool; STEPS]>(), any::<bool>())
        .prop_map(|(sources, before, folder)| Step { sources, before, folder })
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..SOURCES, proptest::option::weighted(0.8, 0..3_u8)).prop_map(|(at, text)| Edit::Source(at, text)),
        (0..STEPS, any::<bool>()).prop_map(|(at, delete)| Edit::Output(at, delete)),
        (0..STEPS, 0..2_u8).prop_map(|(at, value)| Edit::Definition(at, value)),
    ]
}

fn flow(steps: &[Step], definitions: &[u8]) -> String {
    let mut text = "environment \"dev\"\nflow \"f\" {\n".to_owned();
    for (at, step) in steps.iter().enumerate() {
        let sources =
            (0..SOURCES).filter(|source| step.sources[*source]).map(|source| format!("in/{source}"));
        let before = (0..at).filter(|before| step.before[*before]);
        let reads: Vec<String> =
            sources.chain(before.clone().map(|before| format!("out/{before}/**"))).collect();
        let inputs = if reads.is_empty() {
            "\"in/0\"".to_owned()
        } else {
            reads.iter().map(|glob| format!("{glob:?}")).collect::<Vec<_>>().join(" ")
        };
        let needs: Vec<String> = before.map(|before| format!("\"s{before}\"")).collect();
        let needs = if needs.is_empty() { String::new() } else { format!("needs {}; ", needs.join(" ")) };
        let names: Vec<String> = reads.iter().map(|glob| glob.trim_end_matches("/**").to_owned()).collect();
        // As many files as it read lines, when it makes a folder.
        let split = if step.folder {
            format!(
                "n=0; while read -r line; do n=$((n+1)); echo \\\"$line\\\" > out/{at}/$n; done < out/{at}/all"
            )
        } else {
            ":".to_owned()
        };
        text.push_str(&format!(
            "run \"s{at}\" {{ {needs}inputs {inputs}; outputs \"out/{at}\"; env D=\"{}\"; \
             script \"rm -rf out/{at}; mkdir -p out/{at}; {{ echo s{at} $D; find {} -type f 2>/dev/null | sort | xargs -r cat; }} > out/{at}/all; {split}\" }}\n",
            definitions[at], if names.is_empty() { "in/0".to_owned() } else { names.join(" ") },
        ));
    }
    text.push_str("}\n");
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cached_run_leaves_what_a_clean_run_leaves(
        steps in proptest::collection::vec(step(), STEPS),
        edits in proptest::collection::vec(proptest::collection::vec(edit(), 1..3), 5),
    ) {
        let mut sources: BTreeMap<usize, u8> = (0..SOURCES).map(|at| (at, 0)).collect();
        let mut definitions = vec![0; STEPS];
        let cached = Project::new();
        for round in std::iter::once(&Vec::new()).chain(&edits) {
            for edit in round {
                match edit {
                    Edit::Source(at, Some(text)) => drop(sources.insert(*at, *text)),
                    Edit::Source(at, None) => drop(sources.remove(at)),
                    Edit::Definition(at, value) => definitions[*at] = *value,
                    Edit::Output(at, true) => drop(std::fs::remove_dir_all(cached.path(&format!("out/{at}")))),
                    Edit::Output(at, false) => cached.write(&format!("out/{at}/all"), "tampered"),
                }
            }
            let clean = Project::new();
            for project in [&cached, &clean] {
                let _ = std::fs::remove_dir_all(project.path("in"));
                std::fs::create_dir(project.path("in")).unwrap();
                for (at, text) in &sources {
                    project.write(&format!("in/{at}"), "line\n".repeat(usize::from(*text) + 1));
                }
                project.flow_now(&flow(&steps, &definitions));
                run(project).exits(0);
            }
            prop_assert_eq!(cached.files("out"), clean.files("out"));
        }
    }
}
