//! One started program and its process group.
//!
//! A thread of the blocking pool starts it and waits without collecting it: as
//! long as the dead leader is not collected, its group number cannot belong to
//! anybody else, so that no signal can reach a stranger.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::guard::{self, Line, Place};
use super::left::Note;
use super::program::{Leash, Program, StopSignal, find};
use super::{AFTER_KILL, ProcessError};
use crate::model::secret::Secret;

/// Where a program's outputs go.
pub(super) enum Outlets {
    /// Both into one pipe, so that their order is the true one.
    Merged(PipeWriter),
    /// Each into its own.
    Separate(PipeWriter, PipeWriter),
    /// flow's own terminal, which the program also reads from.
    Terminal,
}

/// What a program that ended left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Its code.
    Code(i32),
    /// The signal it died of.
    Signalled(i32),
}

/// Who gets signals; shared with the waiting thread.
#[derive(Debug)]
struct Group {
    leader: Pid,
    /// The program is alone in flow's own group: only it gets signals.
    alone: bool,
    /// Once true, the number may belong to somebody else.
    collected: Mutex<bool>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        let collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        if *collected {
            return;
        }
        // The only possible refusals say that nobody is left, or belong to programs that changed
        // their user; nothing more can be done about either.
        let _ = if self.alone {
            kill_process(self.leader, signal)
        } else {
            kill_process_group(self.leader, signal)
        };
    }

    fn mark_collected(&self) {
        *self.collected.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Holds a group. Dropped, wherever it got to (also on its way to somebody who does not wait for it
/// any more), the group is killed.
#[derive(Debug)]
struct Hold(Arc<Group>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.signal(Signal::KILL);
    }
}

/// A program that runs. Dropped, its group is killed.
#[derive(Debug)]
pub(super) struct Child {
    hold: Hold,
    exit: Option<oneshot::Receiver<Exit>>,
    exited: Option<Exit>,
    /// What closes with flow; says how the program ended once its guard has.
    guard: Option<Line>,
    /// For the next run, if flow does not live to remove it.
    note: Option<Note>,
    /// Dropped to let the waiting thread collect the dead leader.
    collect: Option<mpsc::Sender<()>>,
    collected: Option<oneshot::Receiver<()>>,
    /// The program's standard input, when something is to be written there.
    pub(super) stdin: Option<pipe::Sender>,
}

/// A pipe of which both ends close in programs that are started.
pub(super) fn pipe(program: &Program) -> Result<(pipe::Receiver, PipeWriter), ProcessError> {
    let fault = |source| ProcessError::Spawn { program: program.name(), source };
    let (read, write) = io::pipe().map_err(fault)?;
    Ok((pipe::Receiver::from_owned_fd(OwnedFd::from(read)).map_err(fault)?, write))
}

impl Child {
    /// Starts it.
    pub(super) async fn start(program: &Program, outlets: Outlets) -> Result<Self, ProcessError> {
        let fault = |source| ProcessError::Spawn { program: program.name(), source };
        if !program.is_trusted() {
            return Err(ProcessError::Untrusted { program: program.name() });
        }
        let path = find(program)?;
        let (input, stdin) = if program.stdin.is_some() {
            let (read, write) = io::pipe().map_err(fault)?;
            (Some(read), Some(pipe::Sender::from_owned_fd(OwnedFd::from(write)).map_err(fault)?))
        } else {
            (None, None)
        };
        let (expression, mut guard) = expression(program, &path, input, outlets).map_err(fault)?;
        let (started_in, started) = oneshot::channel();
        let (exit_in, exit) = oneshot::channel();
        let (collect, go) = mpsc::channel::<()>();
        let (collected_in, collected) = oneshot::channel();
        let alone = program.tty;
        tokio::task::spawn_blocking(move || {
            let handle = match expression.start() {
                Ok(handle) => handle,
                Err(error) => {
                    let _ = started_in.send(Err(error));
                    return;
                }
            };
            drop(expression);
            let Some(leader) = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
            else {
                let _ = started_in.send(Err(io::Error::other("it has no process id")));
                return;
            };
            let group = Arc::new(Group { leader, alone, collected: Mutex::new(false) });
            // Refused or never taken, the hold is dropped.
            let _ = started_in.send(Ok(Hold(Arc::clone(&group))));
            let _ = exit_in.send(wait_uncollected(leader));
            // Returns when the other side says so or is gone.
            let _ = go.recv();
            if !alone {
                group.signal(Signal::KILL);
            }
            group.mark_collected();
            let _ = handle.wait();
            let _ = collected_in.send(());
        });
        let hold = match started.await {
            Ok(Ok(hold)) => hold,
            Ok(Err(source)) => return Err(spawn_error(program, &path, source)),
            Err(_) => return Err(fault(io::Error::other("the run is over"))),
        };
        if let Some(guard) = &mut guard {
            guard.started().await.map_err(|source| spawn_error(program, &path, source))?;
        }
        let note = match &program.leash {
            Leash::Note(folder) if !alone => Note::make(folder, hold.0.leader),
            _ => None,
        };
        Ok(Self {
            hold,
            exit: Some(exit),
            exited: None,
            guard,
            note,
            collect: Some(collect),
            collected: Some(collected),
            stdin,
        })
    }

    /// Returns once it has ended; `None` when that cannot be known.
    pub(super) async fn exit(&mut self) -> Option<Exit> {
        if let Some(exit) = &mut self.exit {
            self.exited = exit.await.ok();
            self.exit = None;
            // Without a guard, or one that was killed, its own end is what is known.
            self.exited = self.guard.take().and_then(Line::ended).or(self.exited);
        }
        self.exited
    }

    /// Sends its group the signal that asks it to end.
    pub(super) fn signal(&self, signal: StopSignal) {
        self.hold.0.signal(match signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
        });
    }

    /// Kills it and its group; where it has a guard, all that it started.
    pub(super) async fn kill(&mut self) {
        if self.guard.take().is_none() {
            self.hold.0.signal(Signal::KILL);
        }
        let _ = tokio::time::timeout(AFTER_KILL, self.exit()).await;
        self.finish().await;
    }

    /// Kills what is left of its group and collects it.
    pub(super) async fn finish(&mut self) {
        self.collect = None;
        if let Some(collected) = self.collected.take() {
            let _ = tokio::time::timeout(AFTER_KILL, collected).await;
        }
        self.note = None;
    }
}

/// What is to be started, and flow's end of the socket to its guard.
fn expression(
    program: &Program,
    path: &Path,
    input: Option<PipeReader>,
    outlets: Outlets,
) -> io::Result<(duct::Expression, Option<Line>)> {
    let place = match (&outlets, &input) {
        (Outlets::Terminal, _) | (Outlets::Separate(..), Some(_)) => None,
        (_, None) => Some(Place::Input),
        (Outlets::Merged(_), Some(_)) => Some(Place::Errors),
    };
    let mut expression = duct::cmd(path.as_os_str(), program.argv.iter().skip(1));
    let mut sockets = None;
    if let (Leash::Guard(flow), Some(place)) = (&program.leash, place) {
        let mut words = vec![OsString::from(guard::WORD), place.word().into(), path.into()];
        words.extend(program.argv.iter().skip(1).map(OsString::from));
        expression = duct::cmd(flow.as_os_str(), words);
        let (ours, theirs) = Line::new()?;
        sockets = Some((ours, theirs, place));
    }
    expression = expression.dir(&program.dir).full_env(&program.env).unchecked();
    if !program.tty {
        let guarded = sockets.is_some();
        expression = expression.before_spawn(move |command| {
            use std::os::unix::process::CommandExt as _;
            if guarded {
                command.arg0("flow");
            }
            command.process_group(0);
            Ok(())
        });
    }
    let (ours, theirs) = match sockets {
        Some((ours, theirs, place)) => (Some(ours), Some((theirs, place))),
        None => (None, None),
    };
    expression = match (outlets, &theirs) {
        (Outlets::Terminal, _) => return Ok((expression, ours)),
        (Outlets::Merged(write), Some((theirs, Place::Errors))) => {
            expression.stderr_file(theirs.try_clone()?).stdout_file(write)
        }
        (Outlets::Merged(write), _) => expression.stderr_to_stdout().stdout_file(write),
        (Outlets::Separate(out, err), _) => expression.stdout_file(out).stderr_file(err),
    };
    expression = match (input, theirs) {
        (None, Some((theirs, Place::Input))) => expression.stdin_file(theirs),
        (Some(read), _) => expression.stdin_file(read),
        (None, _) => expression.stdin_null(),
    };
    Ok((expression, ours))
}

/// Blocks until the process has ended, and leaves it uncollected.
fn wait_uncollected(pid: Pid) -> Exit {
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signalled(signal),
                    (None, None) => Exit::Signalled(0),
                };
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            // Nobody else collects flow's children, so that there is always one to wait for.
            Err(_) => return Exit::Signalled(0),
        }
    }
}

/// Writes a program's input. Not reading it is the program's own business.
pub(super) async fn write_all(to: Option<pipe::Sender>, text: Option<&Secret>, ended: &CancellationToken) {
    if let (Some(mut to), Some(text)) = (to, text) {
        tokio::select! {
            () = ended.cancelled() => {}
            _ = to.write_all(text.expose().as_bytes()) => {}
        }
    }
}

fn spawn_error(program: &Program, path: &Path, source: io::Error) -> ProcessError {
    match source.kind() {
        io::ErrorKind::NotFound if path.exists() && program.dir.is_dir() => {
            ProcessError::NoInterpreter { path: path.to_owned() }
        }
        io::ErrorKind::NotFound if !program.dir.is_dir() => ProcessError::NoDir { path: program.dir.clone() },
        _ => ProcessError::Spawn { program: program.name(), source },
    }
}
