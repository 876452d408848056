//! The terminal flow was started at, if there is one. Asking is for gates;
//! showing is the reports' business.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::cancel::{Cancel, Stopped};

/// Whether a person can type an answer.
#[must_use]
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether messages are read by a person.
#[must_use]
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Columns and rows of standard error; `None` when it is no terminal. One that does not know its
/// size counts as 80 by 24.
#[must_use]
pub fn size() -> Option<(usize, usize)> {
    if !stderr_is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stderr().as_fd()).ok();
    let known = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    Some(known.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row))))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The input ended: Ctrl-D.
    #[error("the input ended without an answer")]
    Ended,
    /// The run is being stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The terminal.
    #[error("cannot read the answer: {0}")]
    Io(#[from] io::Error),
}

/// Reads one line from the terminal, without its end.
///
/// A thread of its own waits for the line, and ends soon after nobody wants it any more: it never
/// sits in a read that nobody could end.
pub async fn read_line(cancel: &Cancel) -> Result<String, NoAnswer> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    cancel.unless_stopped(line_from(input)).await?
}

async fn line_from(input: OwnedFd) -> Result<String, NoAnswer> {
    let (mut sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("answer".to_owned()).spawn(move || {
        if let Some(answer) = wait_for_line(&input, &mut sender) {
            let _ = sender.send(answer);
        }
    })?;
    receiver.await.unwrap_or(Err(NoAnswer::Ended))
}

/// How often the waiting thread looks whether it is still wanted.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Blocks until there is a line; `None` when nobody wants it any more.
fn wait_for_line(
    input: &OwnedFd,
    wanted: &mut oneshot::Sender<Result<String, NoAnswer>>,
) -> Option<Result<String, NoAnswer>> {
    let mut line = Vec::new();
    while !wanted.is_closed() {
        let mut ready = [PollFd::new(input, PollFlags::IN)];
        match poll(&mut ready, Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Some(Err(NoAnswer::Io(error.into()))),
        }
        // One byte at a time: what follows the line belongs to the next question.
        let mut byte = [0];
        match rustix::io::read(input, &mut byte) {
            Ok(0) => return Some(Err(NoAnswer::Ended)),
            Ok(_) if byte == [b'\n'] => {
                return Some(Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()));
            }
            Ok(_) => line.extend_from_slice(&byte),
            Err(Errno::INTR) => {}
            Err(error) => return Some(Err(NoAnswer::Io(error.into()))),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::world::cancel::{Canceller, Urgency};

    #[tokio::test]
    async fn a_line_is_read_when_it_comes() {
        let (read, mut write) = io::pipe().unwrap();
        write.write_all(b"y").unwrap();
        let asked = tokio::spawn(line_from(read.into()));
        tokio::task::yield_now().await;
        write.write_all(b"es\r\n").unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), "yes");
    }

    #[tokio::test]
    async fn the_end_and_a_stop_are_no_answers() {
        let (read, write) = io::pipe().unwrap();
        drop(write);
        assert!(matches!(line_from(read.into()).await, Err(NoAnswer::Ended)));
        let (read, _write) = io::pipe().unwrap();
        let canceller = Canceller::new();
        canceller.raise(Urgency::Stopping);
        assert!(canceller.view().unless_stopped(line_from(read.into())).await.is_err());
    }
}
