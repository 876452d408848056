//! `flow check`

use super::Done;
use super::session::Session;
use crate::exit::Exit;
use crate::model::units::count;
use crate::report::out;

/// Check every flow file and report all mistakes
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn exec(session: &Session, _: &Args) -> Done {
    let project = session.project()?;
    out::note(&format!(
        "{} with {} and {}: no mistakes",
        count(session.loaded.sources.len(), "file"),
        count(project.flows.len(), "flow"),
        count(project.environments.len(), "environment"),
    ));
    Ok(Exit::Success)
}
