//! Which project of the repository a command is about.
//!
//! Nearly always there is one. Where folders of `flows/` are projects of their
//! own, what was typed decides: `ohi/deploy` names one, `deploy` means the
//! project that one stands in, else the only one that has it; a run or a plan
//! lies in the store of one.

use std::path::PathBuf;

use super::failure::CliError;
use super::saved;
use super::session::Session;
use crate::model::names::EnvName;
use crate::plan::load::{self, LoadError};
use crate::plan::places::{Place, places};
use crate::syntax::problem::nearest as nearest_name;
use crate::world::host::Host;

/// What a command names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// Nothing: it is about the project that one stands in.
    Here,
    /// A flow, `deploy` or `ohi/deploy`.
    Flow(&'a str),
    /// An environment, `prod` or `ohi/prod`.
    Environment(&'a str),
    /// A run, or how its id begins.
    Run(&'a str),
    /// A plan: its file or how its digest begins.
    Plan(&'a str),
}

/// A repository and its projects, not read yet.
#[derive(Debug)]
pub(super) struct Workspace {
    host: Host,
    root: PathBuf,
    places: Vec<Place>,
    here: PathBuf,
}

impl Workspace {
    /// Finds the repository: the nearest folder at or above here that has `flows/`.
    pub(super) fn open(root: Option<PathBuf>) -> Result<Self, CliError> {
        let host = Host::current().is_flow();
        let here = host.current_dir().map_err(|error| CliError::NoFolder(error.to_string()))?;
        let root = match root {
            Some(root) => here.join(root),
            None => load::find_root(&here)?,
        };
        let places = places(&root)?;
        Ok(Self { host, root, places, here })
    }

    /// The project that a command is about.
    pub(super) fn about(&self, subject: Subject<'_>) -> Result<Session, CliError> {
        match subject {
            // Which branch the checkout is on is a question to one project.
            Subject::Here | Subject::Environment("auto") => self.nearest(),
            Subject::Flow(name) => self.that_has("flow", name),
            Subject::Environment(name) => self.that_has("environment", name),
            Subject::Run(run) => self.that_keeps(|session| session.store_of_run(run).is_ok()),
            Subject::Plan(plan) => self.that_keeps(|session| saved::find(session, plan).is_ok()),
        }
    }

    /// Every project, or the one that one stands in.
    pub(super) fn everything(&self) -> Result<Vec<Session>, CliError> {
        let nearest = self.nearest()?;
        if nearest.loaded.project.address.is_some() {
            return Ok(vec![nearest]);
        }
        // A repository may have no flows beside those in folders.
        let written = self.places.iter().filter(|place| self.is_alone() || !place.files.is_empty());
        written.map(|place| self.read(place)).collect()
    }

    fn is_alone(&self) -> bool {
        self.places.len() == 1
    }

    fn read(&self, place: &Place) -> Result<Session, CliError> {
        Session::read(&self.host, &self.root, place)
    }

    /// The project that one stands in, by the folder of its flows or by its root; else the
    /// repository's own.
    fn nearest(&self) -> Result<Session, CliError> {
        let (own, others) =
            self.places.split_first().ok_or_else(|| LoadError::NoProject(self.root.clone()))?;
        if let Some(place) = others.iter().find(|place| self.here.starts_with(&place.folder)) {
            return self.read(place);
        }
        if self.here != self.root {
            for place in others {
                let session = self.read(place)?;
                if session.root != self.root && self.here.starts_with(&session.root) {
                    return Ok(session);
                }
            }
        }
        self.read(own)
    }

    /// The project whose name stands before the slash, else the nearest if it has what is named, else
    /// the only one that has.
    fn that_has(&self, what: &'static str, name: &str) -> Result<Session, CliError> {
        let before = name.split_once('/').map(|(before, _)| before);
        if let Some(place) =
            self.places.iter().find(|place| before.is_some() && place.name.as_deref() == before)
        {
            return self.read(place);
        }
        let nearest = self.nearest()?;
        if self.is_alone() || names(&nearest, what).iter().any(|known| is_called(known, name)) {
            return Ok(nearest);
        }
        let all: Vec<Session> = self.places.iter().map(|place| self.read(place)).collect::<Result<_, _>>()?;
        let known: Vec<String> = all.iter().flat_map(|session| names(session, what)).collect();
        let meant: Vec<String> = known.iter().filter(|known| is_called(known, name)).cloned().collect();
        if let [one] = meant.as_slice() {
            let found = all.into_iter().find(|session| names(session, what).contains(one));
            return Ok(found.unwrap_or(nearest));
        }
        let name = name.to_owned();
        if !meant.is_empty() {
            return Err(CliError::WhichProject { what, name, meant });
        }
        let near = nearest_name(&name, known.iter().map(String::as_str)).map(str::to_owned);
        Err(CliError::NoProjectHas { what, name, known, near })
    }

    /// The nearest project if it keeps what is looked for, else the first that does.
    fn that_keeps(&self, keeps: impl Fn(&Session) -> bool) -> Result<Session, CliError> {
        let nearest = self.nearest()?;
        if self.is_alone() || keeps(&nearest) {
            return Ok(nearest);
        }
        for place in &self.places {
            let session = self.read(place)?;
            if keeps(&session) {
                return Ok(session);
            }
        }
        Ok(nearest)
    }
}

/// What a project has of one sort, as it is called from outside.
fn names(session: &Session, what: &str) -> Vec<String> {
    let project = &session.loaded.project;
    if what == "flow" {
        return project.flows.iter().map(|flow| flow.name.to_string()).collect();
    }
    let called = |name: &EnvName| match &project.address {
        Some(address) => format!("{address}/{name}"),
        None => name.to_string(),
    };
    project.environments.iter().map(|environment| called(&environment.name.value)).collect()
}

/// Whether a name means `known`, which may begin with a project's.
fn is_called(known: &str, name: &str) -> bool {
    known == name || known.split_once('/').is_some_and(|(_, short)| short == name)
}
