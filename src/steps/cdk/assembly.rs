//! A cloud assembly: what a CDK app says that there should be.
//!
//! Read from `manifest.json` and the templates beside it; assemblies inside it
//! (stages) are read too. Nothing of it is executed here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::steps::Failure;
use crate::syntax::problem::nearest;
use crate::world::files::{Files, digest};

/// All stacks of an app.
#[derive(Clone, Debug)]
pub(super) struct Assembly {
    /// Where it lies.
    pub folder: PathBuf,
    /// In an order in which each comes after those that it depends on.
    pub stacks: Vec<AppStack>,
}

/// A synthesised stack.
#[derive(Clone, Debug)]
pub(super) struct AppStack {
    /// As CloudFormation calls it.
    pub name: String,
    /// As the CLI calls it: `Stage/Stack` inside of stages.
    pub path: String,
    /// The template, byte for byte.
    pub body: String,
    /// The same, read.
    pub template: Json,
    pub tags: BTreeMap<String, String>,
    /// Twelve digits; absent where the app leaves it open.
    pub account: Option<String>,
    pub region: Option<String>,
    /// What it needs of the toolkit stack; absent for apps that do without one.
    pub toolkit: Option<Needs>,
    /// Ids of the artifacts that it depends on, and its own.
    id: String,
    after: Vec<String>,
}

/// The least version of a toolkit stack, and where that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub version: u64,
    /// `/cdk-bootstrap/hnb659fds/version`
    pub parameter: String,
}

impl Needs {
    /// The toolkit's qualifier, if the parameter is called as usual.
    pub(super) fn qualifier(&self) -> Option<&str> {
        self.parameter.strip_prefix("/cdk-bootstrap/")?.strip_suffix("/version")
    }
}

impl Assembly {
    /// Reads the assembly in a folder.
    pub(super) fn read(folder: &Path, files: &Files) -> Result<Self, Failure> {
        let mut stacks = Vec::new();
        collect(folder, files, &mut stacks)?;
        Ok(Self { folder: folder.to_owned(), stacks: in_order(stacks) })
    }

    /// Those stacks, in the order in which they are named; all without names.
    pub(super) fn select(&self, names: &[String]) -> Result<Vec<&AppStack>, Failure> {
        if names.is_empty() {
            return Ok(self.stacks.iter().collect());
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            let is = |stack: &&AppStack| stack.name == *name || stack.path == *name || stack.id == *name;
            match self.stacks.iter().find(is) {
                Some(stack) => found.push(stack),
                None => missing.push(name.as_str()),
            }
        }
        let Some(first) = missing.first() else { return Ok(found) };
        let known: Vec<&str> = self.stacks.iter().map(|stack| stack.name.as_str()).collect();
        let reason = match missing.len() {
            1 => format!("the app has no stack {first}"),
            _ => format!("the app has no stacks {}", missing.join(", ")),
        };
        let failure = Failure::new(reason).detail(format!("it has: {}", known.join(", ")));
        Err(match nearest(first, known.iter().copied()) {
            Some(near) => failure.help(format!("did you mean {near}?")),
            None => failure,
        })
    }

    /// Digest over the stacks that are deployed and what they publish.
    pub(super) fn digest(stacks: &[&AppStack]) -> String {
        // Templates name every published file and image by its content.
        let parts: Vec<String> =
            stacks.iter().map(|stack| format!("{} {}", stack.name, digest(stack.body.as_bytes()))).collect();
        digest(parts.join("\n").as_bytes())
    }
}

fn collect(folder: &Path, files: &Files, stacks: &mut Vec<AppStack>) -> Result<(), Failure> {
    let json = |path: &Path| -> Result<(String, Json), Failure> {
        let text = files.read_text(path)?;
        let json = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))?;
        Ok((text, json))
    };
    let (_, manifest) = json(&folder.join("manifest.json"))?;
    let artifacts = manifest.get("artifacts").and_then(Json::as_object);
    for (id, artifact) in artifacts.into_iter().flatten() {
        let properties = &artifact["properties"];
        let text = |field: &str| properties[field].as_str().map(str::to_owned);
        match artifact["type"].as_str() {
            Some("cdk:cloud-assembly") => {
                if let Some(inner) = text("directoryName") {
                    collect(&folder.join(inner), files, stacks)?;
                }
            }
            Some("aws:cloudformation:stack") => {
                let file = text("templateFile").unwrap_or_default();
                let (body, template) = json(&folder.join(file))?;
                let (account, region) = place(artifact["environment"].as_str().unwrap_or_default());
                let needs = properties["requiresBootstrapStackVersion"]
                    .as_u64()
                    .zip(text("bootstrapStackVersionSsmParameter"));
                stacks.push(AppStack {
                    name: text("stackName").unwrap_or_else(|| id.clone()),
                    path: artifact["displayName"].as_str().unwrap_or(id).to_owned(),
                    body,
                    template,
                    tags: strings(&properties["tags"]),
                    account,
                    region,
                    toolkit: needs.map(|(version, parameter)| Needs { version, parameter }),
                    id: id.clone(),
                    after: artifact["dependencies"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(Json::as_str)
                        .map(str::to_owned)
                        .collect(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// `aws://123456789012/eu-west-1`, either part perhaps `unknown-…`.
fn place(environment: &str) -> (Option<String>, Option<String>) {
    let mut parts = environment.trim_start_matches("aws://").splitn(2, '/');
    let known = |part: Option<&str>| part.filter(|part| !part.starts_with("unknown-")).map(str::to_owned);
    (known(parts.next()), known(parts.next()))
}

fn strings(json: &Json) -> BTreeMap<String, String> {
    let fields = json.as_object().into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Each behind those that it depends on, else in the order of the manifest.
fn in_order(mut rest: Vec<AppStack>) -> Vec<AppStack> {
    let mut ordered: Vec<AppStack> = Vec::new();
    while !rest.is_empty() {
        let waits = |stack: &AppStack| stack.after.iter().any(|id| rest.iter().any(|other| other.id == *id));
        // A circle cannot be deployed at all; CloudFormation will say so.
        let next = rest.iter().position(|stack| !waits(stack)).unwrap_or(0);
        ordered.push(rest.remove(next));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join(name), text).expect("written");
    }

    #[test]
    fn stacks_of_stages_too_each_behind_what_it_needs() {
        let root = tempfile::tempdir().expect("a folder");
        let stage = root.path().join("assembly-Prod");
        write(
            root.path(),
            "manifest.json",
            r#"{"artifacts": {
              "Api": {"type": "aws:cloudformation:stack", "environment": "aws://123456789012/eu-west-1",
                "properties": {"templateFile": "api.json", "stackName": "shop-api", "tags": {"team": "shop"},
                  "requiresBootstrapStackVersion": 6, "bootstrapStackVersionSsmParameter": "/cdk-bootstrap/q1/version"},
                "dependencies": ["Api.assets", "Data"]},
              "Api.assets": {"type": "cdk:asset-manifest"},
              "Data": {"type": "aws:cloudformation:stack", "environment": "aws://unknown-account/unknown-region",
                "properties": {"templateFile": "data.json"}},
              "assembly-Prod": {"type": "cdk:cloud-assembly", "properties": {"directoryName": "assembly-Prod"}}}}"#,
        );
        write(root.path(), "api.json", r#"{"Resources": {}}"#);
        write(root.path(), "data.json", r#"{"Resources": {}}"#);
        write(
            &stage,
            "manifest.json",
            r#"{"artifacts": {"ProdSite": {"type": "aws:cloudformation:stack", "displayName": "Prod/Site",
                "properties": {"templateFile": "site.json", "stackName": "Prod-Site"}}}}"#,
        );
        write(&stage, "site.json", "{}");
        let assembly = Assembly::read(root.path(), &Files::new(root.path())).expect("read");
        let names: Vec<&str> = assembly.stacks.iter().map(|stack| stack.name.as_str()).collect();
        assert_eq!(names, ["Data", "shop-api", "Prod-Site"]);
        let api = &assembly.stacks[1];
        assert_eq!(api.account.as_deref(), Some("123456789012"));
        assert_eq!(api.toolkit.as_ref().and_then(Needs::qualifier), Some("q1"));
        assert_eq!(assembly.stacks[0].region, None);
        let chosen = assembly.select(&["Prod/Site".to_owned(), "Api".to_owned()]).expect("there");
        assert_eq!(
            chosen.iter().map(|stack| stack.name.as_str()).collect::<Vec<_>>(),
            ["Prod-Site", "shop-api"]
        );
        let failure = assembly.select(&["Web".to_owned()]).expect_err("no such");
        assert_eq!(failure.record.reason, "the app has no stack Web");
        assert_eq!(failure.record.details, ["it has: Data, shop-api, Prod-Site"]);
    }
}
