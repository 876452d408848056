//! `flow unlock ENV --token N --reason TEXT`

use super::Done;
use super::failure::CliError;
use super::session::Session;
use super::workspace::Subject;
use crate::exit::Exit;
use crate::journal::locks::{Holder, Locks, Standing};
use crate::model::names::EnvName;
use crate::plan::prepare::find_environment;
use crate::report::out;
use crate::world::clock::Clock;
use crate::world::git::Git;

/// Take the lock away from a run that hangs; it stops before its next effect
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment
    #[arg(value_name = "ENV")]
    environment: String,

    /// Which lock, as flow locks and the message of the refused run show it
    #[arg(long, value_name = "N")]
    token: u64,

    /// Why; it is recorded, and the run that loses the lock says it
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Environment(&self.environment)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let git = Git::new(&session.root, session.host.clone());
    let name = EnvName::new(&args.environment);
    // Also with mistakes in the files: a lock must not stay because of them.
    let environment = find_environment(&session.loaded.project, &name, &git).map_err(CliError::Prepare)?;
    let environment = &environment.name.value;
    let locks = Locks::new(session.store(Some(environment))?, Clock);
    let holder = match locks.standing(environment)? {
        Standing::Free => return Ok(nothing_to_do(&format!("{environment} is not locked"))),
        Standing::TakenAway(taken) => return Ok(nothing_to_do(&taken.to_string())),
        Standing::Left(holder) => {
            let text = format!(
                "{} died and holds nothing any more; the next run takes the lock by itself",
                holder.who()
            );
            return Ok(nothing_to_do(&text));
        }
        Standing::Held(holder) => holder,
    };
    if holder.token != args.token {
        return Err(wrong_token(environment, args.token, Some(holder)));
    }
    if locks.take_away(&holder, &session.host.operator(), &args.reason)?.is_none() {
        let now = match locks.standing(environment)? {
            Standing::Held(holder) => Some(holder),
            _ => None,
        };
        return Err(wrong_token(environment, args.token, now));
    }
    out::note(&format!("{environment} is unlocked; {} stops before its next effect", holder.who()));
    out::note(&format!("  its process is {} on {}", holder.pid, host(&holder)));
    if let Some(run) = &holder.run {
        out::note(&format!("  what it did: flow log {run}"));
    }
    Ok(Exit::Success)
}

fn nothing_to_do(text: &str) -> Exit {
    out::note(&format!("nothing to unlock: {text}"));
    Exit::Success
}

fn wrong_token(environment: &EnvName, token: u64, now: Option<Holder>) -> CliError {
    CliError::WrongToken { environment: environment.clone(), token, now: now.map(Box::new) }
}

fn host(holder: &Holder) -> &str {
    let person = holder.by.split(' ').next().unwrap_or_default();
    person.rsplit('@').next().unwrap_or(person)
}
