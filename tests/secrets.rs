//! A secret goes everywhere a program can carry it, and is found nowhere.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::project::Project;

/// 40 characters, some of which JSON, URLs and shells write in another way.
const CANARY: &str = r#"Zq7/canary+"quoted" & 100%=x\y 'Tj4wKp9'"#;

/// Every form in which somebody could read it.
fn forms() -> BTreeMap<&'static str, String> {
    let json = serde_json::to_string(CANARY).unwrap();
    let url: String = CANARY
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    let base64 = STANDARD.encode(CANARY);
    // Behind one and two other bytes; the characters at both ends depend on the neighbours.
    let shifted = |by: usize| {
        let text = STANDARD.encode(format!("{}{CANARY}", "x".repeat(by)));
        text[4..text.len() - 4].to_owned()
    };
    BTreeMap::from([
        ("raw", CANARY.to_owned()),
        ("a part", "Zq7/canary".to_owned()),
        ("another part", "Tj4wKp9".to_owned()),
        ("json", json.trim_matches('"').to_owned()),
        ("url", url),
        ("base64", base64.trim_end_matches('=')[..48].to_owned()),
        ("base64 behind one", shifted(1)),
        ("base64 behind two", shifted(2)),
    ])
}

#[track_caller]
fn nowhere(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (form, secret) in forms() {
        assert!(!text.contains(&secret), "{place} shows the secret as {form}:\n{text}");
    }
}

fn project() -> Project {
    Project::new().var("CANARY", CANARY).flow(
        r##"
        environment "dev"
        flow "leak" {
            secret "canary" from="env:CANARY"
            on-failure "continue"

            run "by-env" {
                env SECRET="${secret.canary}"
                script "echo \"value: $SECRET.\"; echo \"on stderr $SECRET\" >&2; env"
            }
            run "by-stdin" {
                command "cat"
                stdin "${secret.canary}"
            }
            run "by-file" {
                file SECRET="${secret.canary}"
                script "cat \"$SECRET\"; echo; stat -c '%a %n' \"$SECRET\" > where"
            }
            run "escaped" {
                env SECRET="${secret.canary}"
                script #"""
                    printf '%s' "$SECRET" | base64 -w0; echo
                    printf 'x%s' "$SECRET" | base64 -w0; echo
                    printf 'xx%s' "$SECRET" | base64 -w0; echo
                    python3 -c 'import json, os, urllib.parse as u; s = os.environ["SECRET"]; print(json.dumps({"token": s})); print(u.quote(s, safe="")); print(u.quote(s)); print(u.quote_plus(s))'
                    """#
            }
            run "in-chunks" {
                env SECRET="${secret.canary}"
                script #"""
                    i=1
                    while [ $i -le 40 ]; do
                        printf '%s' "$SECRET" | cut -c $i | tr -d '\n'
                        i=$((i+1))
                    done
                    echo
                    """#
            }
            run "hands-on" {
                env SECRET="${secret.canary}"
                script "echo \"token=a$SECRET\" >> $FLOW_OUTPUT; echo plain=open >> $FLOW_OUTPUT"
            }
            run "takes" {
                env GIVEN="${step.hands-on.token}"
                script "echo \"given $GIVEN\""
            }
            run "keeps" {
                inputs "flows/*"
                outputs "kept"
                env SECRET="${secret.canary}"
                script "echo \"$SECRET\" | wc -c > kept; echo \"token=$SECRET\" >> $FLOW_OUTPUT"
            }
            run "fails" {
                env SECRET="${secret.canary}"
                script "echo \"refused: $SECRET\"; exit 3"
            }
            summary {
                row "Token" "${step.hands-on.token}"
                row "Plain" "${step.hands-on.plain}"
            }
        }"##,
    )
}

#[test]
fn a_secret_is_shown_and_kept_nowhere() {
    assert_eq!(CANARY.len(), 40);
    for log in ["plain", "json"] {
        let project = project();
        for more in [vec![], vec!["--json"], vec!["--out", "saved.plan"]] {
            let plan = project.run(&[vec!["plan", "leak", "--env", "dev"], more].concat()).exits(0);
            nowhere("the plan", plan.out.as_bytes());
            nowhere("the plan's messages", plan.err.as_bytes());
        }
        nowhere("the saved plan", project.read("saved.plan").as_bytes());
        let ran = project.run(&["run", "leak", "--env", "dev", "--log", log]).exits(1).says("***");
        nowhere("standard error", ran.err.as_bytes());
        nowhere("standard output", ran.out.as_bytes());

        let kept = project.files(".flow");
        assert!(kept.keys().any(|path| path.ends_with("journal.jsonl")), "{:?}", kept.keys());
        assert!(kept.keys().any(|path| path.contains("releases/")), "{:?}", kept.keys());
        for (path, bytes) in &kept {
            nowhere(path, bytes);
        }
        for step in ["by-env", "by-stdin", "by-file", "escaped", "in-chunks", "takes", "fails"] {
            let log = kept.iter().find(|(path, _)| path.ends_with(&format!("/{step}.log")));
            let log = String::from_utf8_lossy(log.unwrap_or_else(|| panic!("{step} has a log")).1);
            assert!(log.contains("***"), "{step}: {log}");
        }
        for step in ["by-env", "escaped", "fails"] {
            let run = project.journal()[0]["event"]["run"].as_str().unwrap().to_owned();
            for format in [None, Some("--json")] {
                let arguments: Vec<&str> = ["log", &run, step].into_iter().chain(format).collect();
                let log = project.run(&arguments).exits(0).prints("***");
                nowhere("flow log", log.out.as_bytes());
            }
        }
        let run = project.journal()[0]["event"]["run"].as_str().unwrap().to_owned();
        for arguments in [
            vec!["log", &run],
            vec!["log", &run, "--json"],
            vec!["runs", "--json"],
            vec!["releases", "--env", "dev", "--json"],
            vec!["locks", "--json"],
            vec!["audit", "verify", "--json"],
        ] {
            let shown = project.run(&arguments).exits(0);
            nowhere(&arguments.join(" "), shown.out.as_bytes());
            nowhere(&arguments.join(" "), shown.err.as_bytes());
        }
    }
}

#[test]
fn a_secret_file_is_closed_to_others_and_gone_afterwards() {
    let project = project();
    project.run(&["run", "leak", "--env", "dev", "--only", "by-file"]).exits(0);
    let said = project.read("where");
    let (mode, path) = said.trim().split_once(' ').unwrap();
    assert_eq!(mode, "600");
    assert!(!std::path::Path::new(path).exists(), "{path} is still there");
    let tmp = project.files(".flow/tmp");
    assert!(tmp.is_empty(), "{:?}", tmp.keys());
}

#[test]
fn a_secret_that_changes_is_seen_by_an_up_to_date_step_without_being_kept() {
    let project = Project::new().var("TOKEN", "swordfish-1").flow(
        r#"
        environment "dev"
        flow "make" {
            secret "token" from="env:TOKEN"
            run "file" {
                inputs "flows/*"
                outputs "made"
                env TOKEN="${secret.token}"
                script "echo $TOKEN | wc -c > made"
            }
        }"#,
    );
    let run = ["run", "make", "--env", "dev"];
    project.run(&run).exits(0);
    project.run(&run).exits(0).says("up to date");
    let project = project.var("TOKEN", "swordfish-2");
    project.run(&["plan", "make", "--env", "dev"]).exits(0).prints("secret.token changed");
    for (path, bytes) in project.files(".flow") {
        assert!(!String::from_utf8_lossy(&bytes).contains("swordfish"), "{path}");
    }
}

#[test]
fn a_missing_secret_stops_everything_before_the_first_step() {
    let project = Project::new().flow(
        r#"
        environment "dev"
        flow "make" {
            secret "token" from="env:NOT_THERE"
            run "first" { command "touch" "first" }
            run "second" { command "true"; env TOKEN="${secret.token}" }
        }"#,
    );
    let ran = project.run(&["run", "make", "--env", "dev"]);
    assert_ne!(ran.code, Some(0));
    ran.says("NOT_THERE");
    assert!(!project.path("first").exists());
}

#[test]
fn a_program_that_fails_while_the_plan_is_made_shows_no_secret() {
    let project = Project::new().var("CANARY", CANARY).flow(
        r#"
        environment "dev"
        flow "leak" {
            secret "canary" from="env:CANARY"
            run "asked" {
                env SECRET="${secret.canary}"
                command "true"
                probe { command "sh" "-c" "echo \"refused: $SECRET\" >&2; kill -SEGV $$$$" }
            }
        }"#,
    );
    for command in [vec!["plan"], vec!["plan", "--json"], vec!["run"]] {
        let arguments: Vec<&str> = command
            .iter()
            .copied()
            .take(1)
            .chain(["leak", "--env", "dev"])
            .chain(command.iter().copied().skip(1))
            .collect();
        let ran = project.run(&arguments).exits(1).says("refused: ***");
        nowhere("standard error", ran.err.as_bytes());
        nowhere("standard output", ran.out.as_bytes());
    }
}
