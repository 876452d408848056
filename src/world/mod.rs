//! Everything outside: files, processes, the clock, AWS, the Docker engine,
//! HTTP, the terminal. No other module touches them.

#![expect(clippy::disallowed_methods, reason = "this is the one place that may")]

pub mod aws;
pub mod bundle;
pub mod cancel;
pub mod clock;
pub mod crash;
pub mod database;
pub mod depot;
pub mod digests;
pub mod docker;
pub mod files;
pub mod git;
pub mod growing;
pub mod host;
pub mod http;
pub mod keyed;
pub mod masker;
pub mod parallel;
pub mod process;
pub mod registry;
pub mod scratch;
pub mod secrets;
pub mod ssh;
pub mod store;
pub mod terminal;
pub mod walk;

use std::sync::Arc;

use self::clock::Clock;
use self::files::Files;
use self::git::Git;
use self::host::Host;
use self::http::Http;
use self::masker::Masker;
use self::store::Store;

/// The machine flow runs on and the project it runs in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    /// flow's own process.
    pub host: Host,
    /// The project's files.
    pub files: Files,
    /// The checkout that the project lies in.
    pub git: Git,
    /// Requests to anybody but AWS and the engine.
    pub http: Http,
    /// Hides the run's secrets in whatever is shown; whoever loads a secret teaches it.
    pub masker: Masker,
    /// The project's records.
    pub store: Store,
    /// Time.
    pub clock: Clock,
}

/// Shared between all steps of a run.
pub type SharedCloud = Arc<aws::Cloud>;

impl World {
    /// The world as seen from a project's root folder.
    #[must_use]
    pub fn new(host: Host, root: impl Into<std::path::PathBuf>, store: Store) -> Self {
        let files = Files::new(root);
        Self {
            git: Git::new(files.root(), host.clone()),
            host,
            files,
            http: Http::default(),
            masker: Masker::default(),
            store,
            clock: Clock,
        }
    }
}
