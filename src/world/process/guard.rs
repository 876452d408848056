//! The guard of a program that deploys: flow itself, started as
//! `flow __guard …`, so that no such program outlives flow, whatever ends flow.
//!
//! ```text
//! flow ──starts──▶ guard (leads the group) ──starts──▶ program (same group)
//!   └───── a socket that closes with flow ─────┘
//! ```
//!
//! The guard hands its folder, variables and streams on as they are, ignores
//! the signals that the group gets (the program gets them as a member), and
//! says over the socket how the program ended. When the socket closes before
//! that, flow is gone, and the guard kills the group.
//!
//! The socket takes the place of a stream that the program does not need from
//! the guard: standard input where the program has none, otherwise standard
//! error, where both outputs go into one pipe anyway.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group};
use tokio::signal::unix::{SignalKind, signal};

use super::child::Exit;

/// The hidden subcommand.
pub(super) const WORD: &str = "__guard";

/// Says of a `flow` that is asked to be a guard and cannot be one.
const CANNOT: u8 = 2;

/// Where the socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The program reads nothing.
    Input,
    /// The program's outputs go into one pipe, which is standard output.
    Errors,
}

impl Place {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Errors => "errors",
        }
    }
}

/// What a guard says about its program, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It ended.
    Ended(Exit),
    /// It could not be started: the system's error number.
    NotStarted(i32),
}

impl Said {
    fn text(self) -> String {
        match self {
            Self::Ended(Exit::Code(code)) => format!("code {code}\n"),
            Self::Ended(Exit::Signalled(signal)) => format!("signal {signal}\n"),
            Self::NotStarted(error) => format!("error {error}\n"),
        }
    }

    /// What stands in the socket of a guard that has ended; `None` when it could not say anything.
    pub(super) fn read(mut socket: &UnixStream) -> Option<Self> {
        let mut bytes = [0; 64];
        // The guard has ended: what it said is there at once.
        socket.set_nonblocking(true).ok()?;
        let read = socket.read(&mut bytes).ok()?;
        let text = std::str::from_utf8(bytes.get(..read)?).ok()?;
        let (word, number) = text.strip_suffix('\n')?.split_once(' ')?;
        let number = number.parse().ok()?;
        Some(match word {
            "code" => Self::Ended(Exit::Code(number)),
            "signal" => Self::Ended(Exit::Signalled(number)),
            "error" => Self::NotStarted(number),
            _ => return None,
        })
    }
}

/// Lives as a guard if this process was started as one, and returns its exit code when the program
/// has ended. For `main`, before anything else.
#[must_use]
pub fn live() -> Option<u8> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != WORD {
        return None;
    }
    Some(guard(words).unwrap_or(CANNOT))
}

fn guard(mut words: impl Iterator<Item = OsString>) -> io::Result<u8> {
    let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let place = match words.next().as_deref().and_then(|word| word.to_str()) {
        Some("input") => Place::Input,
        Some("errors") => Place::Errors,
        _ => return Err(wrong("no place")),
    };
    let program = words.next().ok_or_else(|| wrong("no program"))?;
    if getpgrp() != getpid() {
        // Started by somebody else than flow: the group is not its own to kill.
        return Err(wrong("not the leader"));
    }
    // Handlers, not "ignore": that would be handed on to the program.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    let _ignored = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);

    let mut command = Command::new(program);
    command.args(words);
    let socket = UnixStream::from(match place {
        Place::Input => {
            command.stdin(Stdio::null());
            io::stdin().as_fd().try_clone_to_owned()?
        }
        Place::Errors => {
            let out: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
            command.stderr(Stdio::from(out));
            io::stderr().as_fd().try_clone_to_owned()?
        }
    });
    watch(socket.try_clone()?)?;
    let said = match command.spawn() {
        Ok(mut program) => Said::Ended(exit(program.wait()?)),
        Err(error) => Said::NotStarted(error.raw_os_error().unwrap_or_default()),
    };
    // If flow is gone, the other thread is about to end this one.
    let _ = (&socket).write_all(said.text().as_bytes());
    Ok(match said {
        Said::Ended(Exit::Code(code)) => u8::try_from(code).unwrap_or(CANNOT),
        Said::Ended(Exit::Signalled(_)) | Said::NotStarted(_) => CANNOT,
    })
}

/// Kills the group once flow is gone.
fn watch(mut socket: UnixStream) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    let watching = move || {
        let mut nothing = [0; 1];
        loop {
            match socket.read(&mut nothing) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // flow never writes: whatever comes is its end.
                _ => break,
            }
        }
        // Nobody is left to hear of a refusal, and the group is the guard's own.
        let _ = kill_current_process_group(Signal::KILL);
    };
    std::thread::Builder::new().name("guard".to_owned()).spawn(watching).map(drop)
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signalled(signal.unwrap_or_default()),
    }
}
