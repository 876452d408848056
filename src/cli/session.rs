//! What every command starts from: the project's folder and its files.

use std::path::{Path, PathBuf};

use crate::journal;
use crate::journal::releases::Releases;
use crate::model::names::EnvName;
use crate::model::project::{Project, Store as Written};
use crate::plan::load::{self, Loaded};
use crate::plan::places::Place;
use crate::plan::prepare::{Prepared, Request, find_environment, prepare};
use crate::report::look::Look;
use crate::world::World;
use crate::world::cancel::Cancel;
use crate::world::clock::Clock;
use crate::world::git::Git;
use crate::world::host::Host;
use crate::world::store::Store;
use crate::world::terminal;

use super::failure::CliError;

/// Where the store of a project lies when it does not say, in a folder of its own where there are
/// several: `.flow/store`, `.flow/ohi/store`.
const FOLDER: &str = ".flow";
const STORE: &str = "store";

/// The project that a command is about.
#[derive(Debug)]
pub(super) struct Session {
    /// flow's own process.
    pub host: Host,
    /// The folder that has `flows/`.
    pub repository: PathBuf,
    /// The project's folder: the same, unless its `root` says otherwise.
    pub root: PathBuf,
    /// Its files.
    pub loaded: Loaded,
}

impl Session {
    /// Reads a project. Mistakes in it are no error yet: `flow runs` works all the same.
    pub(super) fn read(host: &Host, repository: &Path, place: &Place) -> Result<Self, CliError> {
        let loaded = load::load(repository, place)?;
        let moved = loaded.project.root.as_ref().map(|root| repository.join(&root.value));
        let root = moved.unwrap_or_else(|| repository.to_owned());
        Ok(Self { host: host.clone(), repository: repository.to_owned(), root, loaded })
    }

    /// The project, if nothing is wrong with its files.
    pub(super) fn project(&self) -> Result<&Project, CliError> {
        if self.loaded.problems.is_empty() {
            Ok(&self.loaded.project)
        } else {
            Err(CliError::Problems(self.loaded.problems.clone()))
        }
    }

    /// The store of an environment, or of the project.
    pub(super) fn store(&self, environment: Option<&EnvName>) -> Result<Store, CliError> {
        let project = &self.loaded.project;
        let own = environment
            .and_then(|name| project.environment(name.as_str()))
            .and_then(|environment| environment.store.as_ref());
        match own.or(project.store.as_ref()).map(|store| &store.value) {
            None => {
                let own = self.loaded.project.address.as_deref().unwrap_or_default();
                Ok(Store::folder(self.repository.join(FOLDER).join(own).join(STORE)))
            }
            Some(Written::Folder(folder)) => Ok(Store::folder(self.root.join(folder))),
            Some(Written::S3 { bucket, .. }) => Err(CliError::SharedStore(bucket.clone())),
        }
    }

    /// Every store of the project that can be read: history is looked for in all of them.
    pub(super) fn stores(&self) -> Vec<Store> {
        let environments =
            self.loaded.project.environments.iter().map(|environment| Some(&environment.name.value));
        let mut stores: Vec<Store> = Vec::new();
        for name in std::iter::once(None).chain(environments) {
            if let Ok(store) = self.store(name)
                && !stores.iter().any(|known| known.path("") == store.path(""))
            {
                stores.push(store);
            }
        }
        stores
    }

    /// The store in which a run is recorded.
    pub(super) fn store_of_run(&self, run: &str) -> Result<(Store, crate::model::names::RunId), CliError> {
        let mut last = None;
        for store in self.stores() {
            match journal::runs::find(&store, run) {
                Ok(id) => return Ok((store, id)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| CliError::NoFolder("there is no store".to_owned()), CliError::FindRun))
    }

    /// The releases of an environment, and its name as the files have it.
    pub(super) fn releases(&self, typed: &str) -> Result<(EnvName, Releases), CliError> {
        let git = Git::new(&self.root, self.host.clone());
        let environment =
            find_environment(self.project()?, &EnvName::new(typed), &git).map_err(CliError::Prepare)?;
        let name = environment.name.value.clone();
        let releases = Releases::new(self.store(Some(&name))?);
        Ok((name, releases))
    }

    /// Prepares a request.
    pub(super) async fn prepare(&self, request: Request, cancel: &Cancel) -> Result<Prepared, CliError> {
        let project = self.project()?;
        let named = find_environment(project, &request.environment, &Git::new(&self.root, self.host.clone()));
        let store = self.store(named.ok().map(|environment| &environment.name.value))?;
        let host = if request.untrusted { self.host.clone().distrusting() } else { self.host.clone() };
        let world = World::new(host, &self.root, store);
        Ok(prepare(project, request, world, self.loaded.digest.clone(), cancel).await?)
    }

    /// How reports look here: colours, characters, width.
    pub(super) fn look(&self) -> Look {
        Look::detect(&self.host, terminal::size().map(|(columns, _)| columns), || Clock.zone())
    }

    /// Whether text on standard error may be coloured.
    pub(super) fn colours(&self) -> bool {
        let plain = |name| self.host.var(name).is_some_and(|value| !value.is_empty());
        terminal::stderr_is_terminal() && !plain("NO_COLOR") && self.host.var("TERM") != Some("dumb")
    }

    /// Whether text may have other characters than ASCII.
    pub(super) fn unicode(&self) -> bool {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| self.host.var(name).filter(|v| !v.is_empty()));
        // Without any word most systems read UTF-8 today; only a plain C or POSIX locale does not.
        locale.is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf") || !matches!(locale.as_str(), "c" | "posix")
        })
    }
}

/// Runs asynchronous work of a command.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .map_err(|error| CliError::NoFolder(error.to_string()))?;
    let done = runtime.block_on(work);
    // Reading an answer from a terminal cannot be taken back; it must not hold up the end.
    runtime.shutdown_background();
    done
}
