//! `flow diff R1 R2 --env ENV`

use super::Done;
use super::failure::CliError;
use super::session::Session;
use crate::exit::Exit;
use crate::journal::releases::{Release, Releases};
use crate::model::names::EnvName;
use crate::plan::backwards::BackError;
use crate::plan::prepare::{PrepareError, find_environment};
use crate::report::{diff, out};
use crate::world::git::Git;

/// Show what differs between two releases
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The one
    #[arg(value_name = "R1")]
    from: u64,

    /// The other
    #[arg(value_name = "R2")]
    to: u64,

    /// The environment
    #[arg(short, long, value_name = "ENV")]
    env: String,

    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let git = Git::new(&session.root, session.host.clone());
    let environment =
        find_environment(session.project()?, &EnvName::new(&args.env), &git).map_err(CliError::Prepare)?;
    let name = &environment.name.value;
    let releases = Releases::new(session.store(Some(name))?);
    let get = |id: u64| -> Result<Release, CliError> {
        let none = || BackError::NoSuch { environment: name.clone(), id };
        releases.get(name, id)?.ok_or_else(|| CliError::Prepare(PrepareError::Back(none())))
    };
    let (from, to) = (get(args.from)?, get(args.to)?);
    let differences = diff::differences(&from, &to);
    if args.json {
        out::json(&diff::json(&from, &to, &differences));
        return Ok(Exit::Success);
    }
    for line in diff::lines(&session.look(), &from, &to, &differences) {
        out::data(&line);
    }
    Ok(Exit::Success)
}
