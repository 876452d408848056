//! Everything outside: files, processes, the clock, AWS, the Docker engine,
//! HTTP, the terminal. No other module touches them.

pub mod aws;
pub mod cancel;
pub mod clock;
pub mod files;
pub mod growing;
pub mod host;
pub mod store;
pub mod terminal;

use std::sync::Arc;

use self::clock::Clock;
use self::files::Files;
use self::host::Host;
use self::store::Store;

/// The machine flow runs on and the project it runs in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    /// flow's own process.
    pub host: Host,
    /// The project's files.
    pub files: Files,
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
        Self { host, files: Files::new(root), store, clock: Clock }
    }
}
