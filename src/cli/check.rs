//! `flow check`

use super::failure;
use super::session::Session;
use crate::exit::Exit;
use crate::model::units::count;
use crate::report::out;

/// Check every flow file and report all mistakes
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn exec(projects: &[Session], _: &Args) -> Exit {
    let mut exit = Exit::Success;
    for session in projects {
        match session.project() {
            Ok(project) => out::note(&format!(
                "{}{} with {} and {}: no mistakes",
                project.address.as_deref().map_or_else(String::new, |address| format!("{address}: ")),
                count(session.loaded.sources.len(), "file"),
                count(project.flows.len(), "flow"),
                count(project.environments.len(), "environment"),
            )),
            Err(error) => exit = failure::report(&error, Some(session)),
        }
    }
    exit
}
