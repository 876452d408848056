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
mod workspace;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;

use self::failure::CliError;
use self::session::Session;
use self::workspace::{Subject, Workspace};

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
    carry_out(&cli).unwrap_or_else(|error| failure::report(&error, None))
}

/// Finds the project and does what is asked.
fn carry_out(cli: &Cli) -> Done {
    let workspace = Workspace::open(cli.root.clone())?;
    let one = |subject, exec: &dyn Fn(&Session) -> Done| {
        let session = workspace.about(subject)?;
        Ok(exec(&session).unwrap_or_else(|error| failure::report(&error, Some(&session))))
    };
    match &cli.command {
        Command::List(args) => Ok(list::exec(&workspace.everything()?, args)),
        Command::Check(args) => Ok(check::exec(&workspace.everything()?, args)),
        Command::Runs(args) => runs::exec(&workspace.everything()?, args),
        Command::Locks(args) => locks::exec(&workspace.everything()?, args),
        Command::Audit(args) => audit::exec(&workspace.everything()?, args),
        Command::Cache(args) => one(Subject::Here, &|session| cache::exec(session, args)),
        Command::Show(args) => one(args.subject(), &|session| show::exec(session, args)),
        Command::Plan(args) => one(args.subject(), &|session| plan::exec(session, args)),
        Command::Run(args) => one(args.subject(), &|session| run::exec(session, args)),
        Command::Resume(args) => one(args.subject(), &|session| resume::exec(session, args)),
        Command::Reconcile(args) => one(args.subject(), &|session| reconcile::exec(session, args)),
        Command::Log(args) => one(args.subject(), &|session| log::exec(session, args)),
        Command::Releases(args) => one(args.subject(), &|session| releases::exec(session, args)),
        Command::Rollback(args) => one(args.subject(), &|session| rollback::exec(session, args)),
        Command::Adopt(args) => one(args.subject(), &|session| adopt::exec(session, args)),
        Command::Diff(args) => one(args.subject(), &|session| diff::exec(session, args)),
        Command::Approve(args) => one(args.subject(), &|session| approve::exec(session, args)),
        Command::Approvers(args) => one(args.subject(), &|session| approvers::exec(session, args)),
        Command::Review(args) => one(args.subject(), &|session| review::exec(session, args)),
        Command::Unlock(args) => one(args.subject(), &|session| unlock::exec(session, args)),
        Command::Explain(args) => one(args.subject(), &|session| explain::exec(session, args)),
    }
}

/// What a command returns: how it ended, or why it could not.
type Done = Result<Exit, CliError>;
