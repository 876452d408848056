//! One synth for all who ask for the same.
//!
//! An assembly lies under `.flow/cache/cdk/KEY`, where the key covers the app,
//! its context, its sources, the variables that it sees, the account and the
//! CLI's version. Whoever comes second, in this process or a later one, takes
//! what is there. Apps are not asked what they read: files outside of `dir` are
//! named by `inputs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::assembly::Assembly;
use crate::model::settings::{Ready, Setting, Shape, Unready, known};
use crate::model::value::Field;
use crate::steps::infra::{Common, Sources, Tool};
use crate::steps::program::{as_secret, harmless, judge, not_yet, unknown_env};
use crate::steps::{Context, Failure};
use crate::world::depot::{Hold, Lock, touch, used};
use crate::world::files::digest;
use crate::world::process::Tail;

/// Settings of both kinds.
pub(super) const APP: Setting = Setting::new(
    "app",
    Shape::Text,
    "The command that runs the app, as in cdk.json, whose own counts without it.",
);
pub(super) const CONTEXT: Setting =
    Setting::new("context", Shape::Map, "Context values that the app reads; no secrets.");

/// How often a lock is tried that another step has.
const TRY: Duration = Duration::from_millis(50);
/// Assemblies that are kept besides the one in use.
const KEPT: usize = 6;
const SHOWN_LINES: usize = 20;
/// Beside each assembly, once it is complete.
const COMPLETE: &str = "complete";

/// An app and what it is told.
#[derive(Clone, Debug)]
pub(super) struct App {
    pub command: Option<String>,
    /// Sorted.
    pub context: Vec<(String, String)>,
}

impl App {
    /// Reads the settings.
    pub(super) fn read(ready: &Ready) -> Result<Self, Unready> {
        let mut context = Vec::new();
        for (name, field) in ready.map("context") {
            let value = known("context", field)?.as_text().ok_or_else(|| Unready::Invalid {
                setting: "context",
                why: "a secret cannot stand here: it would be part of the templates".to_owned(),
            })?;
            context.push((name.clone(), value));
        }
        context.sort();
        Ok(Self { command: ready.opt_text("app")?, context })
    }

    /// Whether there is an app at all.
    pub(super) fn is_there(&self, common: &Common, cx: &Context) -> Result<bool, Failure> {
        let file = cx.world.files.locate(&common.dir)?.join("cdk.json");
        Ok(self.command.is_some() || cx.world.files.metadata(&file)?.is_some())
    }

    /// Its assembly, synthesised unless that was done before.
    pub(super) async fn synth(
        &self,
        common: &Common,
        sources: &Sources,
        tool: &Tool,
        cx: &Context,
    ) -> Result<Assembly, Failure> {
        if let Some(step) = unknown_env(&common.attributes) {
            return Err(not_yet(step));
        }
        let key = self.key(common, sources, tool, cx).await?;
        let place = cx.world.files.root().join(".flow/cache/cdk").join(&key);
        let _turn = turn(&place.with_extension("lock"), cx).await?;
        let complete = place.join(COMPLETE);
        let folder = place.join("cdk.out");
        if cx.world.files.metadata(&complete)?.is_none() {
            cx.world.files.remove_dir(&place)?;
            cx.world.files.create_dir(&place)?;
            self.run(&folder, tool, cx).await?;
            cx.world.files.write_unsynced(&complete, b"")?;
            tidy(&place, cx)?;
        }
        touch(&complete);
        Assembly::read(&folder, &cx.world.files)
    }

    async fn run(&self, folder: &Path, tool: &Tool, cx: &Context) -> Result<(), Failure> {
        let output = folder.display().to_string();
        let mut words = vec!["synth", "--quiet", "--no-notices", "--no-lookups", "--output", &output];
        if let Some(command) = &self.command {
            words.extend(["--app", command]);
        }
        let context: Vec<String> =
            self.context.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for pair in &context {
            words.extend(["--context", pair]);
        }
        let mut tail = Tail::new(SHOWN_LINES, Some(cx.feed.clone()));
        let ending = tool.run(&words, &mut tail, cx).await?;
        harmless(judge(ending, tail.into_lines())).map_err(|failure| {
            let needs_lookup =
                failure.record.details.iter().any(|line| line.contains("lookups have been disabled"));
            let failure = failure.detail(format!("this was the synth: {}", tool.shown(&words)));
            if needs_lookup {
                failure.help("look its values up once with cdk synth, and commit cdk.context.json")
            } else {
                failure
            }
        })
    }

    async fn key(
        &self,
        common: &Common,
        sources: &Sources,
        tool: &Tool,
        cx: &Context,
    ) -> Result<String, Failure> {
        let account = &cx.cloud.verify().await?.account;
        let target = cx.cloud.target();
        let attributes = &common.attributes;
        let mut variables = Vec::new();
        for (name, field) in &attributes.env {
            if let Field::Known(value) = field {
                variables.push((name, cx.sealer.digest(as_secret(cx, value).expose())));
            }
        }
        for name in &attributes.inherit {
            if let Some(value) = cx.world.host.var(name) {
                variables.push((name, cx.sealer.digest(value)));
            }
        }
        for (name, secret) in &attributes.files {
            variables.push((name, cx.sealer.digest(secret.expose())));
        }
        let all = json!([
            self.command,
            self.context,
            common.dir,
            sources.digests(),
            variables,
            account,
            target.region,
            target.endpoint,
            tool.facts(),
            common.program,
        ]);
        Ok(digest(all.to_string().as_bytes()).chars().take(16).collect())
    }
}

/// Waits until nobody else synthesises the same.
async fn turn(path: &Path, cx: &Context) -> Result<Lock, Failure> {
    if let Some(folder) = path.parent() {
        cx.world.files.create_dir(folder)?;
    }
    loop {
        if let Some(lock) = Lock::try_take(path, Hold::Alone)? {
            return Ok(lock);
        }
        cx.cancel.unless_stopped(cx.world.clock.pause(TRY)).await?;
    }
}

/// Removes assemblies that have not been used for longest.
fn tidy(current: &Path, cx: &Context) -> Result<(), Failure> {
    let Some(folder) = current.parent() else { return Ok(()) };
    let mut others: Vec<(Option<_>, PathBuf)> = Vec::new();
    for path in cx.world.files.list(folder)? {
        if path == current {
            continue;
        }
        if let Some(found) = cx.world.files.metadata(&path.join(COMPLETE))? {
            others.push((used(&found), path));
        }
    }
    others.sort();
    let surplus = others.len().saturating_sub(KEPT);
    for (_, path) in others.into_iter().take(surplus) {
        cx.world.files.remove_dir(&path)?;
    }
    Ok(())
}
