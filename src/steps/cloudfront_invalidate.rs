//! `cloudfront-invalidate`: makes CloudFront ask the origin again for paths
//! that changed.
//!
//! - `…/index.html` also invalidates its folder `…/`, which is the same page
//!   under another name. `…` without the slash is not: there an origin only
//!   redirects, or a function has rewritten the path before the cache saw it.
//! - The caller reference comes from run, step and paths, so that CloudFront
//!   answers a repeated request with the invalidation that it already has.
//! - A slow invalidation is no failure: it is done, only not everywhere yet.

mod paths;
#[cfg(test)]
mod sandbox_tests;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudfront::types::{InvalidationBatch, Paths};
use serde_json::{Value as Json, json};

use self::paths::{collapse, complete};
use super::{
    Attributes, Back, Context, Done, Effect, Failure, FailureClass, Kind, Open, Proposal, Settled, Step,
};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::units::show_duration;
use crate::model::value::{Outputs, Value};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat;
use crate::world::clock::Moment;
use crate::world::files::digest;

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "cloudfront-invalidate",
        about: "Makes a CloudFront distribution fetch changed paths again.",
        settings: &[
            Setting::new("distribution", Shape::Text, "The distribution's id.").required().target(),
            Setting::new(
                "paths",
                Shape::Texts,
                "URL paths, usually `${step.SITE.changed-paths}`; `*` at the end is any rest.",
            )
            .required(),
            Setting::new("wait", Shape::Bool, "Wait until it is done everywhere; a slow one is no failure."),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["id", "paths"]),
        nature: Nature::Deploying,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::Again,
};

/// How long to wait for a free place or for the end, where the step has no timeout.
const USUAL_PATIENCE: Duration = Duration::from_mins(15);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Invalidate {
    distribution: String,
    paths: Vec<String>,
    wait: bool,
    patience: Duration,
    /// In a rollback.
    once_more: bool,
}

fn make(ready: &Ready, common: &Attributes) -> Result<Box<dyn Step>, Unready> {
    // The step's own end comes a little before its timeout, so that it can still say what it knows.
    let patience = common.timeout.map_or(USUAL_PATIENCE, |timeout| timeout.mul_f32(0.9));
    Ok(Box::new(Invalidate {
        distribution: ready.text("distribution")?,
        paths: ready.texts("paths")?,
        wait: ready.flag("wait")?,
        patience,
        once_more: false,
    }))
}

#[async_trait]
impl Step for Invalidate {
    fn once_more(&mut self) {
        self.once_more = true;
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let origins = self.origin_paths(cx).await?;
        let paths = collapse(complete(&self.paths, &origins));
        let baseline = self.facts(&origins);
        if paths.is_empty() {
            let outputs = outputs("", &paths);
            return Ok(Proposal { baseline, ..Proposal::up_to_date("nothing changed", outputs) });
        }
        let word = if paths.len() == 1 { "path" } else { "paths" };
        Ok(Proposal {
            subject: paths.iter().take(2).cloned().collect::<Vec<_>>().join(", "),
            changes: paths.iter().map(|path| Change::new(path, None, None)).collect(),
            reversible: Reversible::None,
            outputs: Outputs::from([("paths".to_owned(), Value::texts(paths.iter().cloned()))]),
            baseline,
            ..Proposal::new(Action::Run, format!("invalidate {} {word}", paths.len()))
        }
        .with(Invalidation {
            distribution: self.distribution.clone(),
            paths,
            wait: self.wait,
            patience: self.patience,
            once_more: self.once_more,
        }))
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        Ok(self.facts(&self.origin_paths(cx).await?))
    }

    /// Asking again in the same run is free, and brings the id.
    async fn reconcile(&self, _: &Open, _: &Context) -> Result<Settled, Failure> {
        Ok(Settled::NotDone)
    }
}

impl Invalidate {
    /// The paths are no facts of the distribution: they are among the changes.
    fn facts(&self, origins: &BTreeSet<String>) -> Json {
        json!({ "distribution": self.distribution, "origin paths": origins })
    }

    /// The folders in which the distribution's origins look; also tells that it exists.
    async fn origin_paths(&self, cx: &Context) -> Result<BTreeSet<String>, Failure> {
        let request = cx.cloud.reads().await.cloudfront.get_distribution().id(&self.distribution);
        let answer = cx.cancel.unless_stopped(request.send()).await?;
        let answer = answer.map_err(|error| {
            let error = AwsError::new("CloudFront", "GetDistribution", &error);
            if error.is_not_found() { missing(&self.distribution) } else { error.into() }
        })?;
        let config = answer.distribution().and_then(|distribution| distribution.distribution_config());
        let origins = config.and_then(|config| config.origins());
        Ok(origins
            .map(aws_sdk_cloudfront::types::Origins::items)
            .unwrap_or_default()
            .iter()
            .map(|origin| origin.origin_path().unwrap_or_default().trim_end_matches('/').to_owned())
            .collect())
    }
}

fn missing(distribution: &str) -> Failure {
    Failure::missing(format!("the distribution {distribution} does not exist"))
        .help("correct `distribution` or the environment's variables")
}

struct Invalidation {
    distribution: String,
    paths: Vec<String>,
    wait: bool,
    patience: Duration,
    once_more: bool,
}

#[async_trait]
impl Effect for Invalidation {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let began = cx.world.clock.moment();
        let (id, status) = self.create(cx, began).await?;
        cx.feed.note("invalidation", json!({ "distribution": self.distribution, "id": id })).await?;
        let complete = match (is_complete(&status), self.wait) {
            (false, true) => self.wait_for(cx, &id, began).await?,
            (complete, _) => complete,
        };
        let word = if self.paths.len() == 1 { "path" } else { "paths" };
        let state = if complete { "" } else { ", still propagating" };
        Ok(Done {
            summary: format!("{} {word} invalidated{state}", self.paths.len()),
            outputs: outputs(&id, &self.paths),
            receipt: json!({ "distribution": self.distribution, "id": id, "paths": self.paths }),
        })
    }
}

impl Invalidation {
    /// Asks for the invalidation, and waits for a free place where too many are in progress. Asking
    /// again with the same reference and paths is free, so an unclear answer is repeated.
    async fn create(&self, cx: &Context, began: Moment) -> Result<(String, String), Failure> {
        let cloudfront = &cx.cloud.writes().await.cloudfront;
        let batch = self.batch(cx)?;
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = repeat(cx.world.clock, &cx.cancel, || async {
                let request = cloudfront.create_invalidation().distribution_id(&self.distribution);
                let answer = request.invalidation_batch(batch.clone()).send().await;
                answer.map_err(|error| AwsError::new("CloudFront", "CreateInvalidation", &error))
            })
            .await;
            match answer {
                Ok(answer) => {
                    let made = answer.invalidation();
                    let id = made.map(|made| made.id().to_owned()).unwrap_or_default();
                    return Ok((id, made.map(|made| made.status().to_owned()).unwrap_or_default()));
                }
                Err(error) if is_full(&error) && began.elapsed() < self.patience => {
                    let text = "waiting: too many invalidations of this distribution are in progress";
                    cx.feed.progress(text).await;
                    cx.cancel.unless_stopped(cx.world.clock.pause(pause)).await?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) if is_full(&error) => {
                    let waited = show_duration(began.elapsed());
                    return Err(Failure::new(format!(
                        "CloudFront had no free place for an invalidation of {} within {waited}",
                        self.distribution
                    ))
                    .help("look what else invalidates it: aws cloudfront list-invalidations"));
                }
                Err(error) if error.is_not_found() => return Err(missing(&self.distribution)),
                Err(error) if error.is_unclear() => {
                    return Err(Failure::of(
                        FailureClass::Unknown,
                        format!("CloudFront did not say whether it invalidates: {error}"),
                    )
                    .help(format!(
                        "aws cloudfront list-invalidations --distribution-id {}",
                        self.distribution
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn batch(&self, cx: &Context) -> Result<InvalidationBatch, Failure> {
        let broken = |error| Failure::new(format!("the request to invalidate cannot be made: {error}"));
        let quantity = i32::try_from(self.paths.len()).unwrap_or(i32::MAX);
        let paths = Paths::builder().quantity(quantity).set_items(Some(self.paths.clone())).build();
        let run = cx.run.as_ref().map_or("none", |run| run.as_str());
        // What a run invalidated before it went back is another content of the same paths.
        let step = if self.once_more { format!("{} back", cx.id) } else { cx.id.to_string() };
        InvalidationBatch::builder()
            .paths(paths.map_err(broken)?)
            .caller_reference(reference(run, &step, &self.distribution, &self.paths))
            .build()
            .map_err(broken)
    }

    /// Whether it ended in time.
    async fn wait_for(&self, cx: &Context, id: &str, began: Moment) -> Result<bool, Failure> {
        let cloudfront = &cx.cloud.reads().await.cloudfront;
        let mut pause = FIRST_PAUSE;
        loop {
            let request = cloudfront.get_invalidation().distribution_id(&self.distribution).id(id);
            match cx.cancel.unless_stopped(request.send()).await? {
                Ok(answer) if answer.invalidation().is_some_and(|i| is_complete(i.status())) => {
                    return Ok(true);
                }
                // It was accepted: whoever cannot be asked does not undo that.
                Ok(_) | Err(_) if began.elapsed() + pause >= self.patience => return Ok(false),
                Ok(_) | Err(_) => {}
            }
            cx.feed.progress(format!("propagating for {}", show_duration(began.elapsed()))).await;
            cx.cancel.unless_stopped(cx.world.clock.pause(pause)).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Only the end of other invalidations helps.
fn is_full(error: &AwsError) -> bool {
    error.code.as_deref() == Some("TooManyInvalidationsInProgress")
}

fn is_complete(status: &str) -> bool {
    status.eq_ignore_ascii_case("completed")
}

fn outputs(id: &str, paths: &[String]) -> Outputs {
    Outputs::from([
        ("id".to_owned(), Value::text(id)),
        ("paths".to_owned(), Value::texts(paths.iter().cloned())),
    ])
}

/// The same for the same run, step and paths, whatever their order.
fn reference(run: &str, step: &str, distribution: &str, paths: &[String]) -> String {
    let paths: BTreeSet<&String> = paths.iter().collect();
    let text = format!("{run}\n{step}\n{distribution}\n{}", serde_json::json!(paths));
    let short: String = digest(text.as_bytes()).chars().take(32).collect();
    format!("flow-{run}-{short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_depends_on_what_is_asked_and_not_on_its_order() {
        let paths = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let of = |run, names: &[&str]| reference(run, "edge", "E1", &paths(names));
        assert_eq!(of("r1", &["/a", "/b"]), of("r1", &["/b", "/a"]));
        assert_ne!(of("r1", &["/a"]), of("r2", &["/a"]));
        assert_ne!(of("r1", &["/a"]), of("r1", &["/b"]));
    }
}
