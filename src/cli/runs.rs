//! `flow runs`
use super::Done;
use super::session::Session;
use crate::exit::Exit;
/// temporary
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) fn exec(_: &Session, _: &Args) -> Done {
    Ok(Exit::Success)
}
