//! Programs: started in a process group of their own, heard line by line, and
//! never left behind.
//!
//! - Nothing is inherited: `env` is the whole environment, `dir` the folder.
//! - When the run is being stopped, or the time is over, the group gets exactly
//!   one signal, then its grace, then KILL.
//! - When the program itself has ended, the rest of its group is killed, and
//!   pipes that somebody still holds are not waited for. One exception: a
//!   program that *died of* the signal (a shell around the real worker) had no
//!   say, so what still writes to its output keeps the grace that is left.
//! - When flow itself is killed, the program's guard ends all of it at once, or
//!   the next run does: see [`Leash`].
//! - Memory does not grow with the output.
//!
//! Dropping the future of [`run`] or [`capture`] kills the group.

mod child;
mod guard;
mod left;
mod lines;
mod proc;
mod program;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::child::{Child, Exit, Outlets, write_all};
pub use self::guard::live as live_as_guard;
pub(super) use self::left::end as end_left;
pub use self::lines::{Lines, Tail};
use self::lines::{Pump, drain};
pub use self::program::{DEFAULT_GRACE, Leash, Program, StopSignal, base_env, show_argv};
use super::cancel::{Cancel, Urgency};
use super::crash;
use super::masker::Masker;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that flow did not send.
    Signalled(i32),
    /// It took longer than this and was ended.
    TimedOut(Duration),
    /// The run is being stopped: it got its signal and ended within its grace, or was killed after it.
    Stopped,
    /// The run is being stopped at once: it was killed.
    Killed,
}

/// A program that could not be started or heard.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// An empty argv.
    #[error("no program is named")]
    Empty,
    /// The checkout that names it is not trusted.
    #[error("{program} is not started: the checkout is not trusted")]
    Untrusted {
        /// As written.
        program: String,
    },
    /// Not in any folder of PATH.
    #[error("there is no program \"{program}\" in PATH")]
    NotFound {
        /// As written.
        program: String,
        /// The folders that were searched, as PATH has them.
        searched: String,
        /// What was probably meant: `./gradlew`.
        nearest: Option<String>,
    },
    /// A name with a slash that leads nowhere.
    #[error("there is no file {}", path.display())]
    NoFile {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is there and may not be run.
    #[error("{} is not executable", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// The first line of a script names a program that does not exist.
    #[error("the interpreter that the first line of {} names does not exist", path.display())]
    NoInterpreter {
        /// The script.
        path: PathBuf,
    },
    /// The folder to run in.
    #[error("there is no folder {} to run in", path.display())]
    NoDir {
        /// The folder.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// As written.
        program: String,
        /// The system's words.
        source: io::Error,
    },
}

impl ProcessError {
    /// What to type or change.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { nearest: Some(nearest), .. } => format!("did you mean \"{nearest}\"?"),
            Self::NotFound { searched, .. } if searched.is_empty() => "PATH is empty".to_owned(),
            Self::NotFound { program, searched, .. } => {
                format!("install {program}, or extend PATH; searched: {searched}")
            }
            Self::NoFile { .. } => {
                "program names with a slash are relative to dir, which is the project root without one"
                    .to_owned()
            }
            Self::NotExecutable { path } => format!("chmod +x {}", path.display()),
            _ => return None,
        })
    }
}

/// What a program said.
#[derive(Clone, Debug)]
pub struct Captured {
    /// How it ended.
    pub ending: Ending,
    /// Its standard output; cut at the limit.
    pub stdout: Vec<u8>,
    /// Whether there was more than the limit.
    pub truncated: bool,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}

/// Runs a program; both its outputs go to `lines`, masked, in the order in which they were written.
pub async fn run(
    program: &Program,
    cancel: &Cancel,
    masker: &Masker,
    lines: &mut dyn Lines,
) -> Result<Ending, ProcessError> {
    if program.tty {
        let mut child = Child::start(program, Outlets::Terminal).await?;
        return Ok(control(&mut child, program, cancel, &CancellationToken::new(), None).await);
    }
    let (read, write) = child::pipe(program)?;
    crash::point("program.start.before");
    let mut child = Child::start(program, Outlets::Merged(write)).await?;
    crash::point("program.start.after");
    let ended = CancellationToken::new();
    let closed = CancellationToken::new();
    let input = child.stdin.take();
    let (ending, (), ()) = tokio::join!(
        control(&mut child, program, cancel, &ended, Some(&closed)),
        Pump::new(read, masker).run(&ended, &closed, lines),
        write_all(input, program.stdin.as_ref(), &ended),
    );
    crash::point("program.end");
    Ok(ending)
}

/// Runs a program for what it says; `limit` bytes of its standard output are kept.
pub async fn capture(program: &Program, cancel: &Cancel, limit: usize) -> Result<Captured, ProcessError> {
    let (out_read, out_write) = child::pipe(program)?;
    let (err_read, err_write) = child::pipe(program)?;
    let mut child = Child::start(program, Outlets::Separate(out_write, err_write)).await?;
    let ended = CancellationToken::new();
    let closed = CancellationToken::new();
    let input = child.stdin.take();
    let never = CancellationToken::new();
    let masker = Masker::default();
    let mut stderr = Tail::new(20, None);
    let mut stdout = Vec::new();
    let (ending, truncated, (), ()) = tokio::join!(
        control(&mut child, program, cancel, &ended, Some(&closed)),
        drain(out_read, &ended, &closed, &mut stdout, limit),
        Pump::new(err_read, &masker).run(&ended, &never, &mut stderr),
        write_all(input, program.stdin.as_ref(), &ended),
    );
    Ok(Captured { ending, stdout, truncated, stderr: stderr.into_lines() })
}

/// How long a killed program may take to disappear; longer means that it hangs in the kernel.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Waits for the end, or brings it about. `ended` is raised when it is there; `closed` is raised by
/// the reader when nobody writes any more.
async fn control(
    child: &mut Child,
    program: &Program,
    cancel: &Cancel,
    ended: &CancellationToken,
    closed: Option<&CancellationToken>,
) -> Ending {
    let _raised_when_done = ended.clone().drop_guard();
    let ending = tokio::select! {
        biased;
        exit = child.exit() => {
            child.finish().await;
            return exit.map_or(Ending::Killed, Ending::from);
        }
        () = cancel.reached(Urgency::Killing) => Ending::Killed,
        () = cancel.reached(Urgency::Stopping) => Ending::Stopped,
        after = passed(program.timeout) => Ending::TimedOut(after),
    };
    if ending == Ending::Killed {
        child.kill().await;
        return ending;
    }
    child.signal(program.stop);
    let killed = tokio::select! {
        biased;
        () = cancel.reached(Urgency::Killing) => true,
        () = tokio::time::sleep(program.grace) => false,
        () = gone(child, closed) => false,
    };
    child.kill().await;
    match ending {
        Ending::Stopped if killed => Ending::Killed,
        ending => ending,
    }
}

/// Returns once the program has ended; if the signal ended it, once nobody holds its output.
async fn gone(child: &mut Child, closed: Option<&CancellationToken>) {
    let exit = child.exit().await;
    if let (Some(Exit::Signalled(_)), Some(closed)) = (exit, closed) {
        closed.cancelled().await;
    }
}

async fn passed(timeout: Option<Duration>) -> Duration {
    match timeout {
        Some(timeout) => {
            tokio::time::sleep(timeout).await;
            timeout
        }
        None => std::future::pending().await,
    }
}

impl From<Exit> for Ending {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::Exited(code),
            Exit::Signalled(signal) => Self::Signalled(signal),
        }
    }
}
