//! The locks of a run: who gets them, and what is said to whoever does not.

use std::collections::BTreeSet;

use super::failure::CliError;
use super::session::Session;
use crate::journal::locks::{Doing, Held, Holder, LockError, Locks, Standing};
use crate::model::names::EnvName;
use crate::report::lines;
use crate::world::clock::Clock;

/// Another run has the lock.
#[derive(Debug)]
pub(super) struct Locked {
    /// `prod is locked by run h2x1 of ada@build-7`
    pub message: String,
    holder: Holder,
    doing: Option<Doing>,
}

/// Takes the locks of these environments, all or none.
pub(super) fn take(session: &Session, environments: &BTreeSet<EnvName>) -> Result<Vec<Held>, CliError> {
    let by = session.host.operator();
    let mut held = Vec::new();
    // In the order of their names; whoever does not get one gives back those it has.
    for environment in environments {
        let locks = Locks::new(session.store(Some(environment))?, Clock);
        match locks.take(environment, &by) {
            Ok(lock) => held.push(lock),
            Err(LockError::Held(holder)) => return Err(locked(&locks, *holder)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(held)
}

/// Refuses what another run is about to change, without taking anything.
pub(super) fn refuse_held(session: &Session, environments: &BTreeSet<EnvName>) -> Result<(), CliError> {
    for environment in environments {
        let locks = Locks::new(session.store(Some(environment))?, Clock);
        if let Standing::Held(holder) = locks.standing(environment)? {
            return Err(locked(&locks, holder));
        }
    }
    Ok(())
}

fn locked(locks: &Locks, holder: Holder) -> CliError {
    let doing = locks.doing(&holder);
    let message = LockError::Held(Box::new(holder.clone())).to_string();
    CliError::Locked(Box::new(Locked { message, holder, doing }))
}

impl Locked {
    /// What happened, by whom and where, and what to type.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { message, holder, doing } = self;
        let mut lines = vec![format!("{message} since {}", lines::elapsed(holder.since, Clock.now()))];
        if let Some(doing) = doing {
            lines.push(format!("  it is at   {}  {}", doing.step, doing.what));
        }
        if let Some(job) = holder.job() {
            lines.push(format!("  its job    {job}"));
        }
        if let Some(run) = &holder.run {
            lines.push(format!("  watch it   flow log {run} -f"));
        }
        lines.push(format!("  if it hangs: {}", unlock_command(holder)));
        lines
    }
}

/// What takes a lock away from its holder.
pub(super) fn unlock_command(holder: &Holder) -> String {
    format!("flow unlock {} --token {} --reason \"…\"", holder.environment, holder.token)
}
