//! What went wrong, in the operator's words.

use super::context::ContextError;
use super::dockerfile::DockerfileError;
use crate::model::units::short_digest;
use crate::steps::{Failure, FailureClass};
use crate::world::docker::EngineError;
use crate::world::registry::Repository;

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let reason = error.to_string();
        match error {
            EngineError::Unreachable { .. } => {
                Self::of(FailureClass::Passing, reason).help("start the engine, or set DOCKER_HOST")
            }
            EngineError::Lost { .. } => {
                Self::of(FailureClass::Passing, reason).help("look at the engine's own log, then try again")
            }
            EngineError::Build { log, .. } => Self::new(plain(&reason)).details(log),
            EngineError::NoSecrets(_) => {
                Self::new(reason).help("build on an engine of this machine, or of the CI job")
            }
            // What was pushed is named by its content: doing it again is free.
            EngineError::Push(_) => {
                let (class, cause) = cause(&reason);
                Self::of(class, cause).details([format!("the engine said: {reason}")])
            }
            EngineError::NotFound(_) | EngineError::Refused(_) => Self::new(reason),
        }
    }
}

/// What stopped a push, by the words that engines and registries have for it: the first that fits.
/// A refusal stays one however often it is asked; what is not known may pass.
const CAUSES: [(&[&str], FailureClass, &str); 8] = [
    (
        &["no basic auth", "unauthorized", "authorization token"],
        FailureClass::Failed,
        "the registry did not accept the login that it was sent",
    ),
    (
        &["denied", "forbidden", "not authorized"],
        FailureClass::Failed,
        "the registry does not let these credentials push there",
    ),
    (&["name unknown", "does not exist"], FailureClass::Failed, "the registry has no such repository"),
    (&["name invalid", "tag invalid"], FailureClass::Failed, "the registry does not take that name or tag"),
    (
        &["no such host", "connection refused", "no route to host", "network is unreachable"],
        FailureClass::Passing,
        "the push broke off: the registry could not be reached",
    ),
    (
        &["timeout", "deadline exceeded", "timed out"],
        FailureClass::Passing,
        "the push broke off: the registry did not answer in time",
    ),
    (
        &[
            "connection reset",
            "broken pipe",
            "unexpected eof",
            ": eof",
            "closed network connection",
            "connection lost",
        ],
        FailureClass::Passing,
        "the push broke off: the connection to the registry was lost",
    ),
    (
        &["toomanyrequests", "too many requests"],
        FailureClass::Passing,
        "the push broke off: the registry takes no more requests for now",
    ),
];

fn cause(said: &str) -> (FailureClass, &'static str) {
    let said = said.to_lowercase();
    let fits = |words: &&[&str]| words.iter().any(|word| said.contains(word));
    CAUSES.iter().find(|(words, ..)| fits(words)).map_or(
        (FailureClass::Passing, "the push broke off, and why is only in the engine's words"),
        |(_, class, cause)| (class.clone(), *cause),
    )
}

/// `BuildKit`'s reason without the names of its parts in front.
fn plain(reason: &str) -> String {
    const PARTS: [&str; 5] = [
        "failed to solve: ",
        "failed to solve with frontend dockerfile.v0: ",
        "failed to create LLB definition: ",
        "failed to compute cache key: ",
        "rpc error: code = Unknown desc = ",
    ];
    let mut rest = reason;
    while let Some(shorter) = PARTS.iter().find_map(|part| rest.strip_prefix(part)) {
        rest = shorter;
    }
    match rest.strip_suffix(" not found: not found") {
        Some(path) => format!("the context has no {path}, which the Dockerfile copies"),
        None => rest.replacen("dockerfile parse error line", "the Dockerfile cannot be read, line", 1),
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        let reason = error.to_string();
        match error {
            ContextError::NoDockerfile(_) => Self::new(reason).help("set dockerfile if it lies elsewhere"),
            _ => Self::new(reason),
        }
    }
}

impl From<DockerfileError> for Failure {
    fn from(error: DockerfileError) -> Self {
        let reason = format!("the Dockerfile cannot be built: {error}");
        match error {
            DockerfileError::NoBase { .. } => Self::new(reason).help("give it a default, or an arg"),
            _ => Self::new(reason),
        }
    }
}

/// A tag that names another image in a repository that lets no tag move.
pub(super) fn fixed_tag(repository: &Repository<'_>, tag: &str, has: &str, wanted: &str) -> Failure {
    Failure::of(
        FailureClass::Refused,
        format!(
            "{tag} already names {} in {}, which lets no tag move, and this image is {}",
            short_digest(has),
            repository.name,
            short_digest(wanted)
        ),
    )
    .help(format!("choose another tag, or take that image with existing #true and tag \"{tag}\""))
}

/// A worker thread ended without a result.
pub(super) fn broken(error: &tokio::task::JoinError) -> Failure {
    Failure::new(format!("reading the context broke off: {error}"))
}
