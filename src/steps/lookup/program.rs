//! Outputs that only a program can read: those of Terraform's and Pulumi's states.
//!
//! Both are asked for JSON and nothing else; neither changes anything, nor is
//! anything initialised here.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{Found, lacking};
use crate::model::secret::Secret;
use crate::model::value::{Outputs, Value};
use crate::steps::program::{Surroundings, harmless, judge, program};
use crate::steps::{Attributes, Context, Failure};
use crate::world::process::{Captured, Ending, capture};

/// Outputs are values, not data.
const LARGEST: usize = 4 * 1024 * 1024;
/// What Pulumi writes in place of a secret.
const HIDDEN: &str = "[secret]";

/// A program that knows outputs.
pub(super) struct Tool<'a> {
    cx: &'a Context,
    name: &'static str,
    dir: &'a str,
    attributes: &'a Attributes,
}

impl<'a> Tool<'a> {
    /// Terraform, in the folder of its files.
    pub(super) fn terraform(cx: &'a Context, dir: &'a str, attributes: &'a Attributes) -> Self {
        Self { cx, name: "terraform", dir, attributes }
    }

    /// Pulumi, in the folder of its project.
    pub(super) fn pulumi(cx: &'a Context, dir: &'a str, attributes: &'a Attributes) -> Self {
        Self { cx, name: "pulumi", dir, attributes }
    }

    /// The outputs of Terraform's state.
    pub(super) async fn outputs(&self) -> Result<Found, Failure> {
        let said = self.ask(&["output", "-json", "-no-color"]).await?;
        if said.stderr.iter().any(|line| line.contains("Backend initialization required")) {
            let reason = format!("the folder {} is not initialised for its backend", self.dir);
            return Err(Failure::new(reason).help(format!("run terraform -chdir={} init first", self.dir)));
        }
        let outputs = terraform(&self.text(said)?).map_err(|error| self.unreadable(&error))?;
        let what = format!("terraform in {}", self.dir);
        if outputs.is_empty() {
            return Err(Failure::missing(format!("{what} has no outputs"))
                .help("apply it first, choose another workspace with env TF_WORKSPACE, or declare outputs"));
        }
        Ok(Found { what, outputs })
    }

    /// The outputs of a Pulumi stack.
    pub(super) async fn stack_outputs(&self, stack: &str) -> Result<Found, Failure> {
        let ask = ["stack", "output", "--json", "--non-interactive", "--stack", stack];
        let said = self.ask(&ask).await?;
        if said.stderr.iter().any(|line| line.contains("no stack named")) {
            let known = self.stacks().await;
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            return Err(lacking(&format!("there is no Pulumi stack {stack}"), stack, &known));
        }
        let open = object(&self.text(said)?).map_err(|error| self.unreadable(&error))?;
        // Asked for in the open only where something is hidden: fewer accounts may decrypt.
        let shown = if open.values().any(is_hidden) {
            let said = self.ask(&[&ask[..], &["--show-secrets"]].concat()).await?;
            object(&self.text(said)?).map_err(|error| self.unreadable(&error))?
        } else {
            open.clone()
        };
        Ok(Found { what: format!("Pulumi stack {stack}"), outputs: pulumi(&open, &shown) })
    }

    /// The names of the project's stacks, as far as they can be had: they only help.
    async fn stacks(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Row {
            name: String,
        }
        let Ok(said) = self.ask(&["stack", "ls", "--json", "--non-interactive"]).await else {
            return Vec::new();
        };
        let rows: Vec<Row> = serde_json::from_slice(&said.stdout).unwrap_or_default();
        rows.into_iter().map(|row| row.name).collect()
    }

    async fn ask(&self, arguments: &[&str]) -> Result<Captured, Failure> {
        let surroundings = Surroundings::new(self.attributes, self.cx).await?;
        let folder: PathBuf = self.cx.world.files.locate(self.dir)?;
        let argv = std::iter::once(self.name).chain(arguments.iter().copied());
        let program = program(argv, folder, surroundings.env.clone(), self.attributes, self.cx);
        Ok(capture(&program, &self.cx.cancel, LARGEST).await?)
    }

    /// What it said, if it ended well.
    fn text(&self, said: Captured) -> Result<Vec<u8>, Failure> {
        if said.truncated {
            return Err(Failure::new(format!("the outputs that {} tells are more than 4 MiB", self.name)));
        }
        if said.ending == Ending::Exited(0) {
            return Ok(said.stdout);
        }
        let words = said.stderr.into_iter().filter(|line| !line.trim().is_empty()).collect();
        harmless(judge(said.ending, words))
            .map(|()| said.stdout)
            .map_err(|failure| failure.detail(format!("this was {} in {}", self.name, self.dir)))
    }

    fn unreadable(&self, error: &serde_json::Error) -> Failure {
        // Where it is wrong, not what stands there: that may be half a secret.
        let at = format!("line {}, column {}", error.line(), error.column());
        Failure::new(format!("the outputs that {} tells cannot be read (at {at})", self.name))
    }
}

/// `{"NAME": {"sensitive": …, "type": …, "value": …}}`
fn terraform(text: &[u8]) -> Result<Outputs, serde_json::Error> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(default)]
        sensitive: bool,
        value: Json,
    }
    let rows: std::collections::BTreeMap<String, Row> = serde_json::from_slice(text)?;
    let value = |row: Row| if row.sensitive { hidden(&row.value) } else { Value::from_json(&row.value) };
    Ok(rows.into_iter().map(|(name, row)| (name, value(row))).collect())
}

fn object(text: &[u8]) -> Result<Map<String, Json>, serde_json::Error> {
    serde_json::from_slice(text)
}

/// A value is a secret when it was hidden as long as nobody asked for secrets.
fn pulumi(open: &Map<String, Json>, shown: &Map<String, Json>) -> Outputs {
    let value = |name: &str, value: &Json| match open.get(name) {
        Some(before) if !is_hidden(before) => Value::from_json(value),
        _ => hidden(value),
    };
    shown.iter().map(|(name, shown)| (name.clone(), value(name, shown))).collect()
}

/// Whether it is hidden, or something in it.
fn is_hidden(value: &Json) -> bool {
    match value {
        Json::String(text) => text == HIDDEN,
        Json::Array(items) => items.iter().any(is_hidden),
        Json::Object(fields) => fields.values().any(is_hidden),
        _ => false,
    }
}

/// A secret holds text; anything else is kept as its JSON.
fn hidden(value: &Json) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Value::Secret(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terraform_calls_sensitive_is_a_secret() {
        let outputs = terraform(
            br#"{"url":{"sensitive":false,"type":"string","value":"http://x"},
                "zones":{"sensitive":false,"type":["list","string"],"value":["a","b"]},
                "password":{"sensitive":true,"type":"string","value":"hunter22"}}"#,
        )
        .expect("outputs");
        assert_eq!(outputs["url"], Value::text("http://x"));
        assert_eq!(outputs["zones"], Value::texts(["a", "b"]));
        assert!(matches!(&outputs["password"], Value::Secret(secret) if secret.expose() == "hunter22"));
        assert!(terraform(b"{}").expect("none").is_empty());
        assert!(terraform(b"Warning: no").is_err());
    }

    #[test]
    fn what_pulumi_hides_is_a_secret() {
        let open = object(br#"{"url":"http://x","password":"[secret]","all":{"key":"[secret]","n":1}}"#);
        let shown = object(br#"{"url":"http://x","password":"hunter22","all":{"key":"k","n":1}}"#);
        let outputs = pulumi(&open.expect("hidden"), &shown.expect("shown"));
        assert_eq!(outputs["url"], Value::text("http://x"));
        assert!(matches!(&outputs["password"], Value::Secret(secret) if secret.expose() == "hunter22"));
        assert!(
            matches!(&outputs["all"], Value::Secret(secret) if secret.expose() == r#"{"key":"k","n":1}"#)
        );
    }
}
