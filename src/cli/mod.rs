//! Words ↔ requests. Each command is one file: its arguments, whose doc
//! comments are the help, and what it does. Hints, colours and exit codes live
//! here and nowhere else.

mod adopt;
mod approve;
mod approvers;
mod approving;
mod audit;
mod cache;
mod check;
mod diff;
mod explain;
mod failure;
mod glass;
mod launch;
mod list;
mod locking;
mod locks;
mod log;
mod marking;
mod plan;
mod ready;
mod reconcile;
mod recovery;
mod releases;
mod resume;
mod review;
mod rollback;
mod run;
mod runs;
mod saved;
mod selection;
mod session;
mod show;
mod unlock;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;

use self::failure::CliError;
use self::session::Session;

/// Deploys from workflow files: one plan over all layers, gates, and a record of everything done.
#[derive(Debug, Parser)]
#[command(name = "flow", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    /// The project's folder; otherwise the nearest one at or above here that has flows/
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Check(check::Args),
    Plan(plan::Args),
    Run(run::Args),
    Resume(resume::Args),
    Reconcile(reconcile::Args),
    Runs(runs::Args),
    Log(log::Args),
    Releases(releases::Args),
    Rollback(rollback::Args),
    Adopt(adopt::Args),
    Diff(diff::Args),
    Approve(approve::Args),
    Approvers(approvers::Args),
    Review(review::Args),
    Locks(locks::Args),
    Unlock(unlock::Args),
    Audit(audit::Args),
    Explain(explain::Args),
    Cache(cache::Args),
}

/// Runs the command line and says how it ended.
#[must_use]
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; everything else is a mistake.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // A closed pipe is whoever reads having seen enough.
            let _ = error.print();
            return exit;
        }
    };
    let session = match Session::open(cli.root) {
        Ok(session) => session,
        Err(error) => return failure::report(&error, None),
    };
    let done = match cli.command {
        Command::List(args) => list::exec(&session, &args),
        Command::Show(args) => show::exec(&session, &args),
        Command::Check(args) => check::exec(&session, &args),
        Command::Plan(args) => plan::exec(&session, &args),
        Command::Run(args) => run::exec(&session, &args),
        Command::Resume(args) => resume::exec(&session, &args),
        Command::Reconcile(args) => reconcile::exec(&session, &args),
        Command::Runs(args) => runs::exec(&session, &args),
        Command::Log(args) => log::exec(&session, &args),
        Command::Releases(args) => releases::exec(&session, &args),
        Command::Rollback(args) => rollback::exec(&session, &args),
        Command::Adopt(args) => adopt::exec(&session, &args),
        Command::Diff(args) => diff::exec(&session, &args),
        Command::Approve(args) => approve::exec(&session, &args),
        Command::Approvers(args) => approvers::exec(&session, &args),
        Command::Review(args) => review::exec(&session, &args),
        Command::Locks(args) => locks::exec(&session, &args),
        Command::Unlock(args) => unlock::exec(&session, &args),
        Command::Audit(args) => audit::exec(&session, &args),
        Command::Explain(args) => explain::exec(&session, &args),
        Command::Cache(args) => cache::exec(&session, &args),
    };
    done.unwrap_or_else(|error| failure::report(&error, Some(&session)))
}

/// What a command returns: how it ended, or why it could not.
type Done = Result<Exit, CliError>;
