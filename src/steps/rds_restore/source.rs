//! What an instance is made from, and what the plan can say of it: which
//! snapshot or time, how old, and what the new instance takes over.

use std::fmt;
use std::time::Duration;

use aws_sdk_rds::types::DbSnapshot;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::instance::{Instance, describe, time};
use crate::model::units::{show_duration, show_rough};
use crate::steps::{Context, Failure, FailureClass};
use crate::syntax::problem::nearest;
use crate::world::aws::AwsError;

/// As written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This snapshot.
    Snapshot(String),
    /// The newest of an instance.
    NewestSnapshot { source: String },
    /// An instance at a time; the newest possible without.
    Time { source: String, time: Option<Timestamp> },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(name) => write!(f, "snapshot {name}"),
            Self::NewestSnapshot { source } => write!(f, "the newest snapshot of {source}"),
            Self::Time { source, time: Some(time) } => write!(f, "{source} at {time}"),
            Self::Time { source, time: None } => write!(f, "{source} at the newest time"),
        }
    }
}

/// As looked up.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub what: What,
    /// The instance whose class and network the new one gets, if it still exists.
    pub model: Option<Instance>,
}

/// What exactly is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Snapshot { name: String, taken: Option<Timestamp> },
    Time { source: String, time: Option<Timestamp>, newest: Timestamp },
}

impl Origin {
    /// The instance that is named.
    pub(super) fn source(&self) -> Option<&str> {
        match self {
            Self::Snapshot(_) => None,
            Self::NewestSnapshot { source } | Self::Time { source, .. } => Some(source),
        }
    }

    /// Whether what a tag says of an instance is what is wanted. The newest of then is.
    pub(super) fn is_met_by(&self, tag: &str) -> bool {
        match self {
            Self::Snapshot(name) => tag == format!("snapshot:{}", in_tag(name)),
            Self::NewestSnapshot { .. } => tag.starts_with("snapshot:"),
            Self::Time { source, time: None } => tag.starts_with(&format!("time:{source}@")),
            Self::Time { source, time: Some(time) } => tag == format!("time:{source}@{time}"),
        }
    }

    /// Looks it up.
    pub(super) async fn look(&self, cx: &Context, now: Timestamp) -> Result<Source, Failure> {
        match self {
            Self::Snapshot(name) => {
                let found = cx.cancel.unless_stopped(snapshots(cx, Some(name), None)).await?;
                let found = match found {
                    Ok(found) => found.into_iter().next(),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error.into()),
                };
                match found {
                    Some(found) => of_snapshot(cx, &found).await,
                    None => Err(no_snapshot(cx, name).await),
                }
            }
            Self::NewestSnapshot { source } => {
                let found = cx.cancel.unless_stopped(snapshots(cx, None, Some(source))).await??;
                let ready = found.iter().filter(|snapshot| snapshot.status() == Some("available"));
                match ready.max_by_key(|snapshot| time(snapshot.snapshot_create_time())) {
                    Some(found) => of_snapshot(cx, found).await,
                    None => {
                        Err(Failure::missing(format!("there is no snapshot of {source} that is available"))
                            .help("make one: aws rds create-db-snapshot, or restore from \"time\""))
                    }
                }
            }
            Self::Time { source, time } => at_a_time(cx, source, *time, now).await,
        }
    }
}

async fn of_snapshot(cx: &Context, snapshot: &DbSnapshot) -> Result<Source, Failure> {
    let name = snapshot.db_snapshot_identifier().unwrap_or_default().to_owned();
    let status = snapshot.status().unwrap_or("in an unknown state");
    if status != "available" {
        return Err(Failure::of(FailureClass::Passing, format!("the snapshot {name} is {status}")));
    }
    // One of another account can only be named by its ARN.
    let own = snapshot.db_snapshot_arn().filter(|_| snapshot.snapshot_type() == Some("shared"));
    let name = own.map_or(name, str::to_owned);
    let model = match snapshot.db_instance_identifier() {
        Some(source) => cx.cancel.unless_stopped(describe(cx, source)).await??,
        None => None,
    };
    let taken = time(snapshot.snapshot_create_time());
    Ok(Source { what: What::Snapshot { name, taken }, model })
}

async fn at_a_time(
    cx: &Context,
    source: &str,
    wanted: Option<Timestamp>,
    now: Timestamp,
) -> Result<Source, Failure> {
    let Some(model) = cx.cancel.unless_stopped(describe(cx, source)).await?? else {
        return Err(Failure::missing(format!("there is no instance {source}"))
            .help("correct `source`, or restore from a snapshot of it"));
    };
    let Some(newest) = model.restorable else {
        return Err(Failure::new(format!("{source} keeps no backups that can be restored to a time"))
            .help("switch automated backups on, and restore from \"snapshot\" until then"));
    };
    if let Some(wanted) = wanted.filter(|wanted| *wanted > newest) {
        return Err(Failure::new(format!("{source} cannot be restored to {wanted} yet"))
            .detail(format!("the newest time is {newest}, {}", ago(newest, now)))
            .help("leave `time` out for the newest, or wait"));
    }
    let what = What::Time { source: source.to_owned(), time: wanted, newest };
    Ok(Source { what, model: Some(model) })
}

async fn no_snapshot(cx: &Context, name: &str) -> Failure {
    let failure = Failure::missing(format!("there is no snapshot {name}"));
    // What else there is only helps.
    let known = snapshots(cx, None, None).await.unwrap_or_default();
    let known: Vec<&str> = known.iter().filter_map(|one| one.db_snapshot_identifier()).collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => failure.help(format!("did you mean {near}?")),
        None => failure.help("list them: aws rds describe-db-snapshots"),
    }
}

async fn snapshots(
    cx: &Context,
    name: Option<&str>,
    source: Option<&str>,
) -> Result<Vec<DbSnapshot>, AwsError> {
    let mut all = Vec::new();
    let mut marker = None;
    loop {
        let request = cx.cloud.reads().await.rds.describe_db_snapshots();
        let request = request
            .set_db_snapshot_identifier(name.map(str::to_owned))
            .set_db_instance_identifier(source.map(str::to_owned))
            .set_include_shared(name.is_some_and(|name| name.starts_with("arn:")).then_some(true))
            .set_marker(marker.take());
        let page =
            request.send().await.map_err(|error| AwsError::new("RDS", "DescribeDBSnapshots", &error))?;
        all.extend(page.db_snapshots().iter().cloned());
        marker = page.marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
        if marker.is_none() {
            return Ok(all);
        }
    }
}

impl Source {
    /// In a few words: `snapshot s1`, `shop as it was at …`.
    pub(super) fn called(&self) -> String {
        match &self.what {
            What::Snapshot { name, .. } => format!("snapshot {name}"),
            What::Time { source, time: Some(time), .. } => format!("{source} at {time}"),
            What::Time { source, time: None, .. } => format!("{source} at the newest time"),
        }
    }

    /// With its age.
    pub(super) fn shown(&self, now: Timestamp) -> String {
        match &self.what {
            What::Snapshot { name, taken: Some(taken) } => {
                format!("{name}, taken {taken}, {}", ago(*taken, now))
            }
            What::Snapshot { name, taken: None } => name.clone(),
            What::Time { time, newest, .. } => {
                let newest_shown = format!("the newest restorable time is {newest}, {}", ago(*newest, now));
                time.map_or(newest_shown.clone(), |time| format!("{time}; {newest_shown}"))
            }
        }
    }

    /// The class of the new instance.
    pub(super) fn class(&self, wanted: Option<&str>) -> String {
        let model = self.model.as_ref().map(|model| model.class.as_str());
        wanted.or(model).unwrap_or("the class of its source").to_owned()
    }

    /// What it takes over of the network.
    pub(super) fn network(&self) -> Option<String> {
        let model = self.model.as_ref()?;
        let subnets = model.subnet_group.clone().map(|group| format!("subnet group {group}"));
        let groups = (!model.security_groups.is_empty()).then(|| model.security_groups.join(", "));
        let parts: Vec<String> = subnets.into_iter().chain(groups).collect();
        (!parts.is_empty()).then(|| format!("{}, as {}", parts.join(", "), model.name))
    }

    /// What is older than it may be.
    pub(super) fn warnings(&self, now: Timestamp, rpo: Option<Duration>) -> Vec<String> {
        let at = match &self.what {
            What::Snapshot { taken, .. } => *taken,
            What::Time { newest, .. } => Some(*newest),
        };
        let (Some(at), Some(rpo)) = (at, rpo) else { return Vec::new() };
        let age = now.duration_since(at).unsigned_abs();
        if now < at || age <= rpo {
            return Vec::new();
        }
        vec![format!(
            "what can be restored is {} old, more than the {} that may be lost",
            show_rough(age),
            show_duration(rpo)
        )]
    }

    /// What counts for the plan: a newer restorable time makes no other plan.
    pub(super) fn facts(&self) -> Json {
        match &self.what {
            What::Snapshot { name, taken } => {
                json!({ "snapshot": name, "taken": taken.map(|taken| taken.to_string()) })
            }
            What::Time { source, time, .. } => {
                let resource = self.model.as_ref().map(|model| model.resource.clone());
                json!({ "source": source, "source's resource": resource, "time": time.map(|time| time.to_string()) })
            }
        }
    }

    /// For the tag of what is made: RDS takes letters, digits and `_.:/=+-@`.
    pub(super) fn tag(&self) -> String {
        match &self.what {
            What::Snapshot { name, .. } => format!("snapshot:{}", in_tag(name)),
            What::Time { source, time, newest } => format!("time:{source}@{}", time.unwrap_or(*newest)),
        }
    }
}

/// A snapshot's name as a tag's value may be.
fn in_tag(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "_.:/=+-@".contains(*c)).collect()
}

/// `3 min ago`
fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", show_rough(now.duration_since(then).unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    fn source(time: Option<&str>) -> Source {
        let newest = at("2026-11-21T09:55:00Z");
        Source { what: What::Time { source: "shop".to_owned(), time: time.map(at), newest }, model: None }
    }

    #[test]
    fn the_newest_time_and_its_age_are_told() {
        let now = at("2026-11-21T10:02:00Z");
        assert_eq!(source(None).shown(now), "the newest restorable time is 2026-11-21T09:55:00Z, 7 min ago");
        assert_eq!(
            source(Some("2026-11-21T09:00:00Z")).shown(now),
            "2026-11-21T09:00:00Z; the newest restorable time is 2026-11-21T09:55:00Z, 7 min ago"
        );
        assert_eq!(
            source(None).warnings(now, Some(Duration::from_mins(5))),
            ["what can be restored is 7 min old, more than the 5m00s that may be lost"]
        );
        assert!(source(None).warnings(now, Some(Duration::from_mins(10))).is_empty());
        assert!(source(None).warnings(now, None).is_empty());
    }

    #[test]
    fn a_tag_tells_what_an_instance_was_made_from() {
        let newest = source(None).tag();
        assert_eq!(newest, "time:shop@2026-11-21T09:55:00Z");
        let of = |time: Option<&str>| Origin::Time { source: "shop".to_owned(), time: time.map(at) };
        assert!(of(None).is_met_by(&newest));
        assert!(!of(Some("2026-11-21T09:00:00Z")).is_met_by(&newest));
        assert!(of(Some("2026-11-21T09:55:00Z")).is_met_by(&newest));
        assert!(!Origin::Snapshot("s1".to_owned()).is_met_by(&newest));
        assert!(Origin::Snapshot("rds:s1 x".to_owned()).is_met_by("snapshot:rds:s1x"));
    }
}
