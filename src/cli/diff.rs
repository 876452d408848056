//! `flow diff R1 R2 --env ENV`

use super::Done;
use super::failure::CliError;
use super::session::Session;
use super::workspace::Subject;
use crate::exit::Exit;
use crate::journal::releases::Release;
use crate::plan::backwards::BackError;
use crate::plan::prepare::PrepareError;
use crate::report::{diff, out};

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

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Environment(&self.env)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let (name, releases) = session.releases(&args.env)?;
    let get = |id: u64| -> Result<Release, CliError> {
        let none = || BackError::NoSuch { environment: name.clone(), id };
        releases.get(&name, id)?.ok_or_else(|| CliError::Prepare(PrepareError::Back(none())))
    };
    let (from, to) = (get(args.from)?, get(args.to)?);
    let differences = diff::differences(&from, &to);
    if args.json {
        out::json(&diff::json(&from, &to, &differences));
        return Ok(Exit::Success);
    }
    out::lines(diff::lines(&session.look(), &from, &to, &differences));
    Ok(Exit::Success)
}
