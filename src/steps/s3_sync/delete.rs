//! Deletes objects, many in a request.

use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};
use serde_json::json;

use super::target::Target;
use super::{count, listing};
use crate::steps::{Context, Failure};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat_unless_done;

/// S3 takes no more keys in one request.
const DELETES: usize = 1000;

/// Deletes these keys.
pub(super) async fn delete(cx: &Context, target: &Target, keys: &[String]) -> Result<(), Failure> {
    let s3 = &cx.cloud.writes().await.s3;
    for keys in keys.chunks(DELETES) {
        if cx.cancel.is_stopping() {
            return Err(crate::world::cancel::Stopped.into());
        }
        let objects = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(key).build())
            .collect::<Result<Vec<_>, _>>()
            .and_then(|keys| Delete::builder().set_objects(Some(keys)).quiet(true).build())
            .map_err(|error| Failure::new(format!("the request to delete cannot be made: {error}")))?;
        let call = || async {
            let request = s3.delete_objects().bucket(&target.bucket).delete(objects.clone());
            let answer =
                request.send().await.map_err(|error| AwsError::new("S3", "DeleteObjects", &error))?;
            Ok(answer.errors().iter().map(refusal).collect::<Vec<String>>())
        };
        // Once more would be one more mark of a deletion in a bucket that keeps versions.
        let gone = || async {
            let listed = listing::all(cx, target, &[]).await?;
            Ok(keys.iter().all(|key| !listed.contains_key(key)).then(Vec::new))
        };
        // A success may carry refusals of single keys.
        let refused = repeat_unless_done(cx.world.clock, &cx.cancel, call, gone)
            .await
            .map_err(|error| listing::bucket_failure(error, target, cx))?;
        if !refused.is_empty() {
            let reason = format!("{} could not be deleted", count(refused.len(), "object"));
            return Err(Failure::new(reason).details(refused));
        }
        cx.feed.note("deleted", json!({ "objects": keys.len() })).await?;
    }
    Ok(())
}

fn refusal(error: &Error) -> String {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    format!("{}: {} {}", text(error.key()), text(error.code()), text(error.message()))
}
