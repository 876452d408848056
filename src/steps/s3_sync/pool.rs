//! One pool of requests over all files of a group and all parts of the large
//! ones.
//!
//! A large file is begun when the requests for the one before it have all
//! started, and completed as soon as its last part is there: the pool never
//! runs dry, and few uploads are open when a run dies.

use std::collections::VecDeque;
use std::sync::Arc;

use aws_sdk_s3::types::CompletedPart;
use tokio::task::JoinSet;

use super::compare::Wanted;
use super::multipart::Multipart;
use super::upload::{Sent, UploadError, Uploader};

/// Requests at a time. Each holds less than a megabyte of a body, whatever the sizes.
const REQUESTS: usize = 32;

/// One request.
enum Job {
    Whole(Wanted),
    Begin(Arc<Wanted>),
    Part { upload: usize, part: usize, id: String, wanted: Arc<Wanted> },
    Complete { upload: usize, id: String, wanted: Arc<Wanted>, parts: Vec<CompletedPart> },
}

/// What came of one.
enum Finished {
    Whole { sent: Sent, bytes: u64 },
    Begun(Multipart),
    Part { upload: usize, part: Box<CompletedPart>, bytes: u64 },
    Complete { upload: usize, sent: Sent },
}

/// What is left to do of a group, and what came of the rest.
#[derive(Default)]
struct Work {
    waiting: VecDeque<Job>,
    /// In the order in which they were begun; `None` once complete, and so not to be given up any more.
    uploads: Vec<Option<Multipart>>,
    sent: Vec<Sent>,
}

impl Work {
    fn new(group: Vec<Wanted>) -> Self {
        let (large, small): (Vec<_>, Vec<_>) = group.into_iter().partition(|w| !w.file.parts.is_empty());
        let begins = large.into_iter().map(|wanted| Job::Begin(Arc::new(wanted)));
        Self { waiting: begins.chain(small.into_iter().map(Job::Whole)).collect(), ..Self::default() }
    }

    fn take(&mut self, finished: Finished) {
        match finished {
            Finished::Whole { sent, .. } => self.sent.push(sent),
            Finished::Begun(multipart) => {
                let upload = self.uploads.len();
                for part in (0..multipart.wanted.file.parts.len()).rev() {
                    let (id, wanted) = (multipart.id.clone(), Arc::clone(&multipart.wanted));
                    self.waiting.push_front(Job::Part { upload, part, id, wanted });
                }
                self.uploads.push(Some(multipart));
            }
            Finished::Part { upload, part, .. } => {
                let Some(Some(multipart)) = self.uploads.get_mut(upload) else { return };
                multipart.parts.push(*part);
                if multipart.parts.len() == multipart.wanted.file.parts.len() {
                    let parts = std::mem::take(&mut multipart.parts);
                    let (id, wanted) = (multipart.id.clone(), Arc::clone(&multipart.wanted));
                    self.waiting.push_front(Job::Complete { upload, id, wanted, parts });
                }
            }
            Finished::Complete { upload, sent } => {
                self.sent.push(sent);
                if let Some(complete) = self.uploads.get_mut(upload) {
                    *complete = None;
                }
            }
        }
    }
}

impl Uploader {
    /// Sends a group. After an error or a signal nothing new starts, what is on its way ends, and
    /// unfinished multipart uploads are given up.
    pub(super) async fn send(&self, group: Vec<Wanted>) -> Result<Vec<Sent>, UploadError> {
        let mut work = Work::new(group);
        match self.work_off(&mut work).await {
            None => Ok(work.sent),
            Some(problem) => {
                for upload in work.uploads.iter().flatten() {
                    self.abort(upload).await;
                }
                Err(problem)
            }
        }
    }

    async fn work_off(&self, work: &mut Work) -> Option<UploadError> {
        let mut running: JoinSet<Result<Finished, UploadError>> = JoinSet::new();
        let mut problem = None;
        loop {
            while problem.is_none() && running.len() < REQUESTS {
                let Some(job) = work.waiting.pop_front() else { break };
                if self.shared.cx.cancel.is_stopping() {
                    problem = Some(UploadError::Stopped);
                    break;
                }
                let this = self.clone();
                running.spawn(async move { this.run(job).await });
            }
            match running.join_next().await {
                None => return problem,
                Some(Ok(Ok(done))) => {
                    let (files, bytes) = done.counts();
                    work.take(done);
                    self.count(files, bytes).await;
                }
                Some(Ok(Err(error))) => {
                    problem.get_or_insert(error);
                }
                Some(Err(_)) => {
                    problem.get_or_insert(UploadError::Stopped);
                }
            }
        }
    }

    async fn run(&self, job: Job) -> Result<Finished, UploadError> {
        Ok(match job {
            Job::Whole(wanted) => {
                Finished::Whole { sent: self.whole(&wanted).await?, bytes: wanted.file.size }
            }
            Job::Begin(wanted) => {
                let id = self.begin(&wanted).await?;
                Finished::Begun(Multipart { wanted, id, parts: Vec::new() })
            }
            Job::Part { upload, part, id, wanted } => {
                let (part, bytes) = self.part(&wanted, &id, part).await?;
                Finished::Part { upload, part: Box::new(part), bytes }
            }
            Job::Complete { upload, id, wanted, parts } => {
                Finished::Complete { upload, sent: self.complete(&wanted, &id, parts).await? }
            }
        })
    }
}

impl Finished {
    /// Files and bytes that are there now.
    fn counts(&self) -> (usize, u64) {
        match self {
            Self::Whole { bytes, .. } => (1, *bytes),
            Self::Begun(_) => (0, 0),
            Self::Part { bytes, .. } => (0, *bytes),
            Self::Complete { .. } => (1, 0),
        }
    }
}
