//! From bytes to lines, in bounded memory.

use std::collections::VecDeque;

use async_trait::async_trait;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use crate::event::Feed;
use crate::world::masker::{MaskStream, Masker};

/// A longer line is handed on in pieces of this many bytes.
const LONGEST: usize = 64 * 1024;

/// Who hears a program. May take its time: the program waits.
#[async_trait]
pub trait Lines: Send {
    /// One line without its end; bytes that are not UTF-8 are replaced.
    async fn line(&mut self, line: String);
}

#[async_trait]
impl Lines for Feed {
    async fn line(&mut self, line: String) {
        self.output(line).await;
    }
}

/// Keeps the last lines and passes all on.
#[derive(Debug)]
pub struct Tail {
    last: VecDeque<String>,
    keep: usize,
    feed: Option<Feed>,
}

impl Tail {
    /// Keeps `keep` lines.
    #[must_use]
    pub fn new(keep: usize, feed: Option<Feed>) -> Self {
        Self { last: VecDeque::with_capacity(keep), keep, feed }
    }

    /// What was kept, oldest first.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.last.into()
    }
}

/// A kept line is shown in a report: nobody reads more of it.
const KEPT_CHARS: usize = 2000;

#[async_trait]
impl Lines for Tail {
    async fn line(&mut self, line: String) {
        if self.last.len() == self.keep {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(KEPT_CHARS).collect());
        if let Some(feed) = &self.feed {
            feed.output(line).await;
        }
    }
}

/// Reads one pipe and hands on its lines, masked.
pub(super) struct Pump<'a> {
    pipe: pipe::Receiver,
    splitter: Splitter<'a>,
}

impl<'a> Pump<'a> {
    pub(super) fn new(pipe: pipe::Receiver, masker: &'a Masker) -> Self {
        Self { pipe, splitter: Splitter::new(masker) }
    }

    /// Until nobody writes any more (then `closed` is raised), or until the program has ended and
    /// what it wrote is read.
    pub(super) async fn run(
        mut self,
        ended: &CancellationToken,
        closed: &CancellationToken,
        lines: &mut dyn Lines,
    ) {
        let mut buffer = vec![0; 32 * 1024];
        while let Some(read) = next(&self.pipe, ended, closed, &mut buffer).await {
            for line in self.splitter.push(buffer.get(..read).unwrap_or_default()) {
                lines.line(line).await;
            }
        }
        if let Some(line) = self.splitter.finish() {
            lines.line(line).await;
        }
    }
}

/// Reads one pipe to its end and keeps at most `limit` bytes; says whether there were more.
pub(super) async fn drain(
    pipe: pipe::Receiver,
    ended: &CancellationToken,
    closed: &CancellationToken,
    into: &mut Vec<u8>,
    limit: usize,
) -> bool {
    let mut buffer = vec![0; 32 * 1024];
    let mut truncated = false;
    while let Some(read) = next(&pipe, ended, closed, &mut buffer).await {
        let room = limit.saturating_sub(into.len());
        truncated |= read > room;
        into.extend_from_slice(buffer.get(..read.min(room)).unwrap_or_default());
    }
    truncated
}

/// The next bytes; `None` at the end.
async fn next(
    pipe: &pipe::Receiver,
    ended: &CancellationToken,
    closed: &CancellationToken,
    buffer: &mut [u8],
) -> Option<usize> {
    loop {
        let over = ended.is_cancelled();
        // tokio reads only once its driver has seen that there is something, which may be after the
        // program's end: then the system itself is asked, so that nothing is lost.
        let read = if over {
            rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut *buffer)).map_err(std::io::Error::from)
        } else {
            pipe.try_read(buffer)
        };
        match read {
            Ok(read) if read > 0 => return Some(read),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !over => {
                tokio::select! {
                    ready = pipe.readable() => if ready.is_err() { break },
                    () = ended.cancelled() => {}
                }
            }
            // The end, or nothing left to read of a program that is over.
            Ok(_) | Err(_) => break,
        }
    }
    closed.cancel();
    None
}

/// Cuts bytes into lines.
struct Splitter<'a> {
    masker: &'a Masker,
    /// What came since the last line end.
    rest: Vec<u8>,
    /// Set while a line is handed on in pieces.
    pieces: Option<MaskStream>,
}

impl<'a> Splitter<'a> {
    fn new(masker: &'a Masker) -> Self {
        Self { masker, rest: Vec::new(), pieces: None }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, after) = bytes.split_at(end);
            self.rest.extend_from_slice(line);
            lines.push(self.whole());
            bytes = after.get(1..).unwrap_or_default();
        }
        self.rest.extend_from_slice(bytes);
        while self.rest.len() > LONGEST {
            lines.extend(self.piece());
        }
        lines
    }

    fn finish(&mut self) -> Option<String> {
        (!self.rest.is_empty() || self.pieces.is_some()).then(|| self.whole())
    }

    /// The end of a line.
    fn whole(&mut self) -> String {
        let mut bytes = std::mem::take(&mut self.rest);
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        match self.pieces.take() {
            Some(mut stream) => stream.push(&text) + &stream.finish(),
            None => match self.masker.mask(&text) {
                std::borrow::Cow::Borrowed(_) => text,
                std::borrow::Cow::Owned(masked) => masked,
            },
        }
    }

    /// The next piece of a line that is too long; `None` while the masker holds it back.
    fn piece(&mut self) -> Option<String> {
        // Not in the middle of a character.
        let cut = (LONGEST - 3..=LONGEST)
            .rev()
            .find(|cut| self.rest.get(*cut).is_some_and(|byte| byte & 0xC0 != 0x80))
            .unwrap_or(LONGEST);
        let after = self.rest.split_off(cut);
        let bytes = std::mem::replace(&mut self.rest, after);
        let masker = self.masker;
        let text = self.pieces.get_or_insert_with(|| masker.stream()).push(&String::from_utf8_lossy(&bytes));
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;

    fn split(masker: &Masker, chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = Splitter::new(masker);
        let mut lines: Vec<String> = chunks.iter().flat_map(|chunk| splitter.push(chunk)).collect();
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn lines_come_out_whole_whatever_the_chunks() {
        let none = Masker::default();
        assert_eq!(split(&none, &[b"a\nb", b"c\r\n", b"\nend"]), ["a", "bc", "", "end"]);
        assert_eq!(split(&none, &[b"\xff\xfe\n"]), ["\u{fffd}\u{fffd}"]);
        assert!(split(&none, &[]).is_empty());
    }

    #[test]
    fn long_lines_come_in_pieces_at_character_borders() {
        let none = Masker::default();
        let long = "é".repeat(LONGEST);
        let lines = split(&none, &[long.as_bytes(), b"\nnext"]);
        assert_eq!(lines.last().map(String::as_str), Some("next"));
        assert!(lines.iter().all(|line| line.len() <= LONGEST && !line.contains('\u{fffd}')));
        assert_eq!(lines[..lines.len() - 1].concat(), long);
    }

    #[test]
    fn a_secret_across_two_pieces_is_masked() {
        let secret = Secret::new("correct-horse-battery");
        let masker = Masker::new([&secret]);
        for shift in 0..25 {
            let text = format!("{}correct-horse-battery{}", "x".repeat(LONGEST - shift), "y".repeat(LONGEST));
            let whole = split(&masker, &[text.as_bytes()]).concat();
            assert!(whole.contains("xx***yy"), "shift {shift}");
            assert!(!whole.contains("horse"), "shift {shift}");
        }
    }

    #[tokio::test]
    async fn what_a_program_wrote_right_before_its_end_is_read() {
        use std::io::Write as _;
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(b"gcc 12.2.0\n").unwrap();
        drop(write);
        let pipe = pipe::Receiver::from_owned_fd(read.into()).unwrap();
        // The program is over before tokio's driver has looked at its pipe for the first time.
        let (ended, closed) = (CancellationToken::new(), CancellationToken::new());
        ended.cancel();
        let mut said = Vec::new();
        drain(pipe, &ended, &closed, &mut said, 100).await;
        assert_eq!(said, b"gcc 12.2.0\n");
    }
}
