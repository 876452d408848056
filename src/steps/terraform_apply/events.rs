//! What Terraform says with `-json`: one object on each line.
//!
//! Sensitive values are left out of these lines by Terraform itself. What is
//! no JSON (a plug-in's last words) is passed on as it is.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use crate::event::JournalDown;
use crate::steps::Context;
use crate::steps::infra::{Op, Preview};
use crate::world::process::Lines;

/// How many last lines that are no JSON a failure shows.
const RAW_LINES: usize = 20;

/// Key of the notes of what happens to single resources.
pub(super) const RESOURCE: &str = "resource";

/// Hears Terraform, tells the operator, and writes down which resources it begins to make.
pub(super) struct Stream<'a> {
    cx: &'a Context,
    /// Every step of an apply is told and the making of resources noted.
    applies: bool,
    /// Addresses of what takes the place of something.
    replaces: BTreeSet<String>,
    total: usize,
    done: usize,
    heard: Heard,
}

/// What it said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    diagnostics: Vec<Diagnostic>,
    raw: Vec<String>,
    /// Resources whose making began and has no end yet.
    pub making: BTreeSet<String>,
    /// A note could not be written.
    pub journal: Option<JournalDown>,
}

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Diagnostic {
    is_error: bool,
    summary: String,
    detail: String,
    /// `main.tf:12`
    place: Option<String>,
    address: Option<String>,
}

/// Who holds the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub id: String,
    pub path: String,
    pub operation: String,
    pub who: String,
    pub created: String,
}

impl<'a> Stream<'a> {
    /// Of a plan.
    pub(super) fn quiet(cx: &'a Context) -> Self {
        Self { cx, applies: false, replaces: BTreeSet::new(), total: 0, done: 0, heard: Heard::default() }
    }

    /// Of an apply of this preview.
    pub(super) fn of_apply(cx: &'a Context, preview: &Preview) -> Self {
        let replacing = preview.changes().iter().filter(|change| change.op == Op::Replace);
        let total = preview.changes().iter().filter(|change| change.op != Op::Read).count();
        let replaces = replacing.map(|change| change.id.clone()).collect();
        Self { applies: true, replaces, total, ..Self::quiet(cx) }
    }

    /// All that was heard.
    pub(super) fn into_heard(self) -> Heard {
        self.heard
    }

    async fn diagnostic(&mut self, said: &Json) {
        let Some(diagnostic) = Diagnostic::read(said) else { return };
        for line in diagnostic.lines() {
            self.cx.feed.output(line).await;
        }
        self.heard.diagnostics.push(diagnostic);
    }

    /// Writes down what happens to a resource: if Terraform is killed, its state may know nothing of
    /// what it made.
    async fn resource(&mut self, sort: &str, hook: &Json) {
        let address = hook["resource"]["addr"].as_str().unwrap_or_default().to_owned();
        let makes = matches!(hook["action"].as_str(), Some("create" | "replace"));
        let is = match sort {
            "apply_start" => "making",
            "apply_complete" => "made",
            _ => "failed",
        };
        if sort == "apply_complete" {
            self.done += 1;
            self.cx.feed.progress(format!("{} of {} resources", self.done.min(self.total), self.total)).await;
        }
        if !makes {
            return;
        }
        if sort == "apply_start" {
            self.heard.making.insert(address.clone());
        } else {
            self.heard.making.remove(&address);
        }
        let mut note = json!({ "address": address, "is": is });
        if let Some(id) = hook["id_value"].as_str() {
            note["id"] = json!(id);
        }
        if self.replaces.contains(&address) {
            note["replaces"] = json!(true);
        }
        if let Err(down) = self.cx.feed.note(RESOURCE, note).await {
            self.heard.journal.get_or_insert(down);
        }
    }
}

#[async_trait]
impl Lines for Stream<'_> {
    async fn line(&mut self, line: String) {
        let Ok(said) = serde_json::from_str::<Json>(&line) else {
            if self.heard.raw.len() == RAW_LINES {
                self.heard.raw.remove(0);
            }
            self.heard.raw.push(line.clone());
            self.cx.feed.output(line).await;
            return;
        };
        let sort = said["type"].as_str().unwrap_or_default();
        match sort {
            "diagnostic" => self.diagnostic(&said["diagnostic"]).await,
            "apply_start" | "apply_complete" | "apply_errored" if self.applies => {
                self.resource(sort, &said["hook"]).await;
            }
            _ => {}
        }
        let told = matches!(
            sort,
            "apply_start"
                | "apply_progress"
                | "apply_complete"
                | "apply_errored"
                | "provision_progress"
                | "provision_errored"
        ) || (sort == "change_summary" && self.applies);
        if told && let Some(message) = said["@message"].as_str() {
            self.cx.feed.output(message).await;
        }
    }
}

impl Diagnostic {
    fn read(said: &Json) -> Option<Self> {
        let text = |name: &str| said[name].as_str().unwrap_or_default().trim().to_owned();
        let file = said["range"]["filename"].as_str();
        Some(Self {
            is_error: said["severity"].as_str()? == "error",
            summary: text("summary"),
            detail: text("detail"),
            place: file.map(|file| format!("{file}:{}", said["range"]["start"]["line"])),
            address: said["address"].as_str().map(str::to_owned),
        })
    }

    /// `main.tf:12  aws_x.y: Unsupported argument`, then what it says besides.
    fn lines(&self) -> Vec<String> {
        let mut first = String::new();
        if let Some(place) = &self.place {
            first.push_str(place);
            first.push_str("  ");
        }
        if let Some(address) = &self.address {
            first.push_str(address);
            first.push_str(": ");
        }
        first.push_str(&self.summary);
        let more = self.detail.lines().map(str::trim_end).filter(|line| !line.is_empty());
        std::iter::once(first).chain(more.map(|line| format!("  {line}"))).collect()
    }
}

impl Heard {
    /// The errors, or else the last that was said otherwise.
    pub(super) fn errors(&self) -> Vec<String> {
        let errors: Vec<String> =
            self.diagnostics.iter().filter(|one| one.is_error).flat_map(Diagnostic::lines).collect();
        if errors.is_empty() { self.raw.clone() } else { errors }
    }

    /// What Terraform warns of, each in one line.
    pub(super) fn warnings(&self) -> Vec<String> {
        let warnings = self.diagnostics.iter().filter(|one| !one.is_error);
        warnings.filter_map(|one| one.lines().into_iter().next()).collect()
    }

    /// Whether an error has this summary.
    pub(super) fn says(&self, summary: &str) -> bool {
        self.diagnostics.iter().any(|one| one.is_error && one.summary == summary)
    }

    /// Who holds the state, where that is why it failed.
    pub(super) fn lock(&self) -> Option<Lock> {
        let locked = |one: &&Diagnostic| one.is_error && one.summary == "Error acquiring the state lock";
        Lock::read(&self.diagnostics.iter().find(locked)?.detail)
    }
}

impl Lock {
    /// From the text of the error: there is no other form of it.
    fn read(detail: &str) -> Option<Self> {
        let (_, info) = detail.split_once("Lock Info:")?;
        let rows: BTreeMap<&str, &str> = info
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let row = |name: &str| rows.get(name).copied().unwrap_or("unknown").to_owned();
        let operation = match rows.get("Operation").copied().unwrap_or_default() {
            "OperationTypeApply" => "an apply".to_owned(),
            "OperationTypePlan" => "a plan".to_owned(),
            other => other.to_owned(),
        };
        Some(Self {
            id: rows.get("ID")?.to_string(),
            path: row("Path"),
            operation,
            who: row("Who"),
            created: row("Created"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::steps::testing::Bench;

    /// As the real program (1.11.4) wrote it, the lock in S3.
    const LOCKED: &str = r#"{"@level":"error","@message":"Error: Error acquiring the state lock","@module":"terraform.ui","@timestamp":"2026-11-21T16:18:44.638689Z","diagnostic":{"severity":"error","summary":"Error acquiring the state lock","detail":"Error message: operation error S3: PutObject, https response error StatusCode: 412, api error PreconditionFailed: At least one of the pre-conditions you specified did not hold\nLock Info:\n  ID:        493e0b1d-a8c5-c2e4-edef-06d46c009596\n  Path:      tf-state/env:/blue/x/terraform.tfstate\n  Operation: OperationTypeApply\n  Who:       root@vm\n  Version:   1.11.4\n  Created:   2026-11-21 16:18:43.216027437 +0000 UTC\n  Info:      \n\n\nTerraform acquires a state lock to protect the state from being written\nby multiple users at the same time."},"type":"diagnostic"}"#;

    async fn heard(bench: &Bench, lines: &[&str]) -> Heard {
        let preview = Preview::default();
        let mut stream = Stream::of_apply(&bench.cx, &preview);
        for line in lines {
            stream.line((*line).to_owned()).await;
        }
        stream.into_heard()
    }

    #[tokio::test]
    async fn a_held_lock_says_who_holds_it() {
        let bench = Bench::new();
        let lock = heard(&bench, &[LOCKED]).await.lock().unwrap();
        assert_eq!(
            lock,
            Lock {
                id: "493e0b1d-a8c5-c2e4-edef-06d46c009596".to_owned(),
                path: "tf-state/env:/blue/x/terraform.tfstate".to_owned(),
                operation: "an apply".to_owned(),
                who: "root@vm".to_owned(),
                created: "2026-11-21 16:18:43.216027437 +0000 UTC".to_owned(),
            }
        );
    }

    #[tokio::test]
    async fn what_is_made_is_written_down_and_told() {
        let mut bench = Bench::new();
        let lines = [
            r#"{"@message":"terraform_data.a: Creating...","hook":{"resource":{"addr":"terraform_data.a"},"action":"create"},"type":"apply_start"}"#,
            r#"{"@message":"terraform_data.b: Destroying...","hook":{"resource":{"addr":"terraform_data.b"},"action":"delete"},"type":"apply_start"}"#,
            r#"{"@message":"terraform_data.a: Creation complete after 0s [id=cd55]","hook":{"resource":{"addr":"terraform_data.a"},"action":"create","id_key":"id","id_value":"cd55"},"type":"apply_complete"}"#,
            r#"{"@message":"terraform_data.c: Creating...","hook":{"resource":{"addr":"terraform_data.c"},"action":"create"},"type":"apply_start"}"#,
            "panic: plugin",
        ];
        let heard = heard(&bench, &lines).await;
        assert_eq!(heard.making.iter().collect::<Vec<_>>(), ["terraform_data.c"]);
        assert_eq!(heard.errors(), ["panic: plugin"]);
        let notes: Vec<Json> = bench
            .events()
            .await
            .into_iter()
            .filter_map(|event| match event {
                Event::Noted { key, data, .. } if key == RESOURCE => Some(data),
                _ => None,
            })
            .collect();
        assert_eq!(
            notes,
            [
                json!({ "address": "terraform_data.a", "is": "making" }),
                json!({ "address": "terraform_data.a", "is": "made", "id": "cd55" }),
                json!({ "address": "terraform_data.c", "is": "making" }),
            ]
        );
    }

    #[tokio::test]
    async fn errors_name_file_and_line() {
        let bench = Bench::new();
        let line = r#"{"@level":"error","@message":"Error: x","diagnostic":{"severity":"error","summary":"Unsupported argument","detail":"An argument named \"inptu\" is not expected here.","range":{"filename":"main.tf","start":{"line":3,"column":2,"byte":40},"end":{"line":3,"column":7,"byte":45}}},"type":"diagnostic"}"#;
        let heard = heard(&bench, &[line]).await;
        assert_eq!(
            heard.errors(),
            ["main.tf:3  Unsupported argument", "  An argument named \"inptu\" is not expected here."]
        );
        assert!(heard.warnings().is_empty());
        assert!(heard.says("Unsupported argument") && heard.lock().is_none());
    }
}
