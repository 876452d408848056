//! Files above 16 MiB: sent in parts, through the same pool of requests as
//! whole files, and one object only when all parts are there.

use std::sync::Arc;

use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};

use super::body::{Outgoing, Piece};
use super::compare::Wanted;
use super::listing::{bare, look};
use super::upload::{Sent, UploadError, Uploader};
use crate::world::aws::AwsError;
use crate::world::aws::repeat::repeat;

/// A large file on its way.
pub(super) struct Multipart {
    /// The file.
    pub wanted: Arc<Wanted>,
    /// S3's name of the upload.
    pub id: String,
    /// What arrived.
    pub parts: Vec<CompletedPart>,
}

impl Uploader {
    /// Asks for an upload id.
    pub(super) async fn begin(&self, wanted: &Wanted) -> Result<String, UploadError> {
        let shared = &self.shared;
        let answer = repeat(shared.cx.world.clock, &shared.cx.cancel, || async {
            let request = shared
                .s3
                .create_multipart_upload()
                .bucket(&shared.bucket)
                .key(&wanted.key)
                .content_type(&wanted.headers.content_type)
                .set_cache_control(wanted.headers.cache_control.clone())
                .set_content_encoding(wanted.headers.content_encoding.clone())
                .checksum_algorithm(ChecksumAlgorithm::Sha256);
            request.send().await.map_err(|error| AwsError::new("S3", "CreateMultipartUpload", &error))
        })
        .await
        .map_err(UploadError::aws(wanted))?;
        Ok(answer.upload_id().unwrap_or_default().to_owned())
    }

    /// Sends one part, counted from 0; tells its size.
    pub(super) async fn part(
        &self,
        wanted: &Wanted,
        id: &str,
        part: usize,
    ) -> Result<(CompletedPart, u64), UploadError> {
        let shared = &self.shared;
        let size = wanted.file.part_size();
        let offset = size * part as u64;
        let length = size.min(wanted.file.size.saturating_sub(offset));
        let number = i32::try_from(part + 1).unwrap_or(i32::MAX);
        let sum = wanted.file.parts.get(part).copied().unwrap_or(wanted.file.sum);
        let piece = Piece::of(&wanted.file, offset, length, sum);
        let body = Outgoing::new(&shared.cx.world.files, piece).await?;
        let sum = sum.base64();
        let answer = repeat(shared.cx.world.clock, &shared.cx.cancel, || async {
            let request = shared
                .s3
                .upload_part()
                .bucket(&shared.bucket)
                .key(&wanted.key)
                .upload_id(id)
                .part_number(number)
                .checksum_sha256(&sum)
                .body(body.stream());
            match request.send().await {
                Ok(answer) => Ok(Ok(answer)),
                Err(error) => body.unless_broken_off(AwsError::new("S3", "UploadPart", &error)),
            }
        })
        .await
        .map_err(UploadError::aws(wanted))??;
        let done = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(answer.e_tag().map(str::to_owned))
            .checksum_sha256(sum)
            .build();
        Ok((done, length))
    }

    /// Makes the parts one object.
    pub(super) async fn complete(
        &self,
        wanted: &Wanted,
        id: &str,
        mut parts: Vec<CompletedPart>,
    ) -> Result<Sent, UploadError> {
        let shared = &self.shared;
        parts.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        // Completing twice answers NoSuchUpload the second time: then the object tells whether it is there.
        let request = shared.s3.complete_multipart_upload().bucket(&shared.bucket).key(&wanted.key);
        let request = request.upload_id(id).multipart_upload(parts);
        match request.send().await {
            Ok(answer) => Ok(Sent {
                key: wanted.key.clone(),
                etag: bare(answer.e_tag()),
                version: answer.version_id().map(str::to_owned),
            }),
            Err(error) => {
                let error = AwsError::new("S3", "CompleteMultipartUpload", &error);
                if !error.is_unclear() {
                    return Err(UploadError::aws(wanted)(error));
                }
                let settled = self.settle(wanted, id).await.map_err(UploadError::aws(wanted))?;
                settled.ok_or_else(|| UploadError::aws(wanted)(error))
            }
        }
    }

    /// After a lost answer: the upload is gone from the list of open ones only when it was completed.
    async fn settle(&self, wanted: &Wanted, id: &str) -> Result<Option<Sent>, AwsError> {
        let reads = &self.shared.cx.cloud.reads().await.s3;
        let open = reads.list_parts().bucket(&self.shared.bucket).key(&wanted.key).upload_id(id).send().await;
        match open.map_err(|error| AwsError::new("S3", "ListParts", &error)) {
            Ok(_) => return Ok(None),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let seen = look(reads, &self.shared.bucket, &wanted.key).await?;
        Ok(seen.map(|seen| Sent { key: wanted.key.clone(), etag: seen.etag, version: seen.version }))
    }

    /// Gives an upload up; what was sent of it is not paid for any longer.
    pub(super) async fn abort(&self, upload: &Multipart) {
        let shared = &self.shared;
        let request = shared.s3.abort_multipart_upload().bucket(&shared.bucket).key(&upload.wanted.key);
        if let Err(error) = request.upload_id(&upload.id).send().await {
            let error = AwsError::new("S3", "AbortMultipartUpload", &error);
            let line = format!("an unfinished upload of {} is left: {error}", upload.wanted.key);
            shared.cx.feed.output(line).await;
        }
    }
}
