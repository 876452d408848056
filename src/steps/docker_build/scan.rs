//! Waits for what ECR finds in an image, and holds it against a limit.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::units::{short_digest, show_duration};
use crate::steps::{Context, Failure, FailureClass};
use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::registry::{Repository, Scan};

/// A scan of a large image takes minutes; one that takes longer is stuck.
const PATIENCE: Duration = Duration::from_mins(15);
/// ECR allows few of these calls a second.
const PAUSE: Duration = Duration::from_secs(3);

/// The mildest finding that fails the step. A stricter limit is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Severity {
    /// Only critical findings.
    Critical,
    /// High and critical ones.
    High,
}

impl Severity {
    /// As written in a flow file.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "critical" => Some(Self::Critical),
            "high" => Some(Self::High),
            _ => None,
        }
    }

    fn counts(self, finding: &str) -> bool {
        finding == "CRITICAL" || (self == Self::High && finding == "HIGH")
    }
}

/// Returns once ECR has looked and found nothing that counts.
pub(super) async fn pass(
    cx: &Context,
    repository: &Repository<'_>,
    digest: &str,
    limit: Severity,
) -> Result<(), Failure> {
    let began = cx.world.clock.moment();
    let mut asked = false;
    loop {
        match Box::pin(cx.cancel.unless_stopped(repository.scan(digest))).await?.map_err(unreadable)? {
            Some(Scan::Findings(found)) => return judge(&found, digest, limit),
            Some(Scan::Failed(why)) => {
                return Err(Failure::new(format!("ECR could not scan {}: {why}", short_digest(digest))));
            }
            None if !asked => {
                repository.start_scan(digest).await.map_err(unreadable)?;
                asked = true;
            }
            None | Some(Scan::Pending) => {}
        }
        if began.elapsed() >= PATIENCE {
            return Err(Failure::new(format!(
                "ECR has no findings for {} after {}",
                short_digest(digest),
                show_duration(PATIENCE)
            )));
        }
        cx.feed
            .progress(format!(
                "waiting for the scan, {} of at most {}",
                show_duration(began.elapsed()),
                show_duration(PATIENCE)
            ))
            .await;
        cx.cancel.unless_stopped(cx.world.clock.pause(PAUSE)).await?;
    }
}

fn judge(found: &BTreeMap<String, i32>, digest: &str, limit: Severity) -> Result<(), Failure> {
    let bad: Vec<String> = found
        .iter()
        .filter(|(severity, count)| limit.counts(severity) && **count > 0)
        .map(|(severity, count)| format!("{count} {}", severity.to_lowercase()))
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Failure::of(
        FailureClass::Refused,
        format!("ECR found {} in {}", bad.join(" and "), short_digest(digest)),
    )
    .help("fix what it found, or change scan; the image stays in the registry without the wanted tags"))
}

/// A registry that knows no scans must not look like one that found nothing.
fn unreadable(error: AwsError) -> Failure {
    let unknown = error.class == AwsErrorClass::Refused
        && error
            .code
            .as_deref()
            .is_some_and(|code| code.contains("InvalidAction") || code.contains("UnknownOperation"));
    if unknown {
        return Failure::new("this registry cannot scan images")
            .detail(error.to_string())
            .help("leave scan out here");
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_decides() {
        for (found, limit, passes) in [
            (vec![], Severity::High, true),
            (vec![("MEDIUM", 7)], Severity::High, true),
            (vec![("HIGH", 1)], Severity::Critical, true),
            (vec![("HIGH", 1)], Severity::High, false),
            (vec![("CRITICAL", 2), ("HIGH", 1)], Severity::Critical, false),
            (vec![("CRITICAL", 0)], Severity::High, true),
        ] {
            let found = found.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            assert_eq!(judge(&found, "sha256:0", limit).is_ok(), passes, "{found:?} {limit:?}");
        }
        assert!(Severity::High > Severity::Critical);
    }
}
