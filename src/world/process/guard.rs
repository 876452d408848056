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
//! that, flow is gone or wants an end of it, and the guard kills everything that
//! the program started. That may be more than the group: Pulumi puts its
//! providers into groups of their own. So the guard adopts orphans, and whoever
//! descends from it is meant.
//!
//! The socket takes the place of a stream that the program does not need from
//! the guard: standard input where the program has none, otherwise standard
//! error, where both outputs go into one pipe anyway.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{
    Pid, Signal, WaitOptions, getpgrp, getpid, kill_current_process_group, set_child_subreaper, wait,
};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::child::Exit;
use super::proc;

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

/// What a guard says: first that its program has started or cannot be, then how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// From now on the program hears the signals that its group gets.
    Started,
    /// It could not be started: the system's error number.
    NotStarted(i32),
    /// It ended.
    Ended(Exit),
}

impl Said {
    fn text(self) -> String {
        match self {
            Self::Started => "started 0\n".to_owned(),
            Self::NotStarted(error) => format!("error {error}\n"),
            Self::Ended(Exit::Code(code)) => format!("code {code}\n"),
            Self::Ended(Exit::Signalled(signal)) => format!("signal {signal}\n"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (word, number) = line.split_once(' ')?;
        let number = number.parse().ok()?;
        Some(match word {
            "started" => Self::Started,
            "error" => Self::NotStarted(number),
            "code" => Self::Ended(Exit::Code(number)),
            "signal" => Self::Ended(Exit::Signalled(number)),
            _ => return None,
        })
    }
}

/// flow's end of the socket to a guard.
#[derive(Debug)]
pub(super) struct Line {
    socket: tokio::net::UnixStream,
    heard: Vec<u8>,
}

impl Line {
    /// A line to a guard, and the guard's end of it.
    pub(super) fn new() -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(ours)?;
        Ok((Self { socket, heard: Vec::new() }, theirs))
    }

    /// Returns once the program has started, so that a signal reaches it and not its beginnings; an
    /// error if it cannot be. A guard that was killed says nothing: then its own end tells.
    pub(super) async fn started(&mut self) -> io::Result<()> {
        while !self.heard.contains(&b'\n') {
            if self.socket.read_buf(&mut self.heard).await? == 0 {
                return Ok(());
            }
        }
        match self.said() {
            Some(Said::NotStarted(error)) => Err(io::Error::from_raw_os_error(error)),
            _ => Ok(()),
        }
    }

    /// How the program ended, once its guard has; `None` when the guard could not say.
    pub(super) fn ended(mut self) -> Option<Exit> {
        // What a process wrote is there when it has ended; the runtime may not have looked yet.
        let socket = self.socket.into_std().ok()?;
        let mut bytes = [0; 64];
        let read = (&socket).read(&mut bytes).unwrap_or_default();
        self.heard.extend(bytes.get(..read).unwrap_or_default());
        let said = std::str::from_utf8(&self.heard).ok()?.lines().last().and_then(Said::parse);
        match said {
            Some(Said::Ended(exit)) => Some(exit),
            _ => None,
        }
    }

    fn said(&self) -> Option<Said> {
        Said::parse(std::str::from_utf8(&self.heard).ok()?.lines().next()?)
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
    // If flow is gone, nobody needs to hear it, and the watching thread ends this process.
    let say = |said: Said| drop((&socket).write_all(said.text().as_bytes()));
    let ending = Arc::new(Mutex::new(()));
    let mut started = || {
        set_child_subreaper(Some(getpid()))?;
        // Handlers, not "ignore": that would be handed on to the program.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let _entered = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            drop(signal(kind)?);
        }
        watch(socket.try_clone()?, Arc::clone(&ending))?;
        command.spawn()
    };
    let program = match started() {
        Ok(program) => program,
        Err(error) => {
            say(Said::NotStarted(error.raw_os_error().unwrap_or_default()));
            return Ok(CANNOT);
        }
    };
    say(Said::Started);
    let exit = outlive(&program)?;
    // Taken for good once flow is gone: the end of this process is then part of the other's work.
    let _held = ending.lock().unwrap_or_else(PoisonError::into_inner);
    say(Said::Ended(exit));
    Ok(match exit {
        Exit::Code(code) => u8::try_from(code).unwrap_or(CANNOT),
        Exit::Signalled(_) => CANNOT,
    })
}

/// Kills all that descends from this process, and then this process, once flow is gone.
fn watch(mut socket: UnixStream, ending: Arc<Mutex<()>>) -> io::Result<()> {
    let watching = move || {
        let mut nothing = [0; 1];
        loop {
            match socket.read(&mut nothing) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // flow never writes: whatever comes is its end.
                _ => break,
            }
        }
        let _held = ending.lock().unwrap_or_else(PoisonError::into_inner);
        kill_descendants();
        // Nobody is left to hear of a refusal, and the group is the guard's own.
        let _ = kill_current_process_group(Signal::KILL);
    };
    std::thread::Builder::new().name("guard".to_owned()).spawn(watching).map(drop)
}

/// Those that others started meanwhile come to this process when their parents die.
fn kill_descendants() {
    let mut killed = BTreeSet::new();
    loop {
        let mut found = proc::descendants(getpid().as_raw_nonzero().get());
        found.retain(|stat| killed.insert((stat.id, stat.started)));
        if found.is_empty() {
            return;
        }
        for stat in found {
            // One that is gone by now is what was wanted; one of another user cannot be helped.
            let _ = stat.kill();
        }
    }
}

/// Returns how the program ended. Orphans that this process adopted are collected meanwhile: the dead
/// among them would be kept for as long as it lives.
fn outlive(program: &Child) -> io::Result<Exit> {
    let program = Pid::from_child(program);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((id, status))) if id == program => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, signal) => Exit::Signalled(signal.unwrap_or_default()),
                });
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
