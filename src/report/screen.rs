//! A terminal of which the last few lines are drawn again and again.
//!
//! `indicatif` owns the block at the bottom: it knows how many rows it took,
//! draws at most twenty times a second and erases what it drew. Finished lines
//! never go through it: they are written while the block is put away, with a
//! line end of their own, so that they can be copied and survive a change of
//! the window's width.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::Out;

/// Columns and rows, asked before each frame.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send + Sync>;

/// Most frames a second.
const FRAMES: u8 = 20;

/// The terminal. Nobody else may write to it while a block is on it.
pub struct Screen {
    terminal: Terminal,
    block: MultiProgress,
    rows: Vec<ProgressBar>,
}

impl Screen {
    /// A terminal and how to ask for its size.
    #[must_use]
    pub fn new(out: Out, size: Size) -> Self {
        let terminal = Terminal { out: Arc::new(Mutex::new(out)), size: Arc::new(size) };
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), FRAMES);
        Self { terminal, block: MultiProgress::with_draw_target(target), rows: Vec::new() }
    }

    /// Columns and rows.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.terminal.size)()
    }

    /// Adds lines above the block and draws the block anew. Lines of the block must fit.
    pub fn frame(&mut self, lines: &[String], block: &[String]) {
        while self.rows.len() > block.len()
            && let Some(row) = self.rows.pop()
        {
            row.finish_and_clear();
            self.block.remove(&row);
        }
        if !lines.is_empty() {
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            self.block.suspend(|| self.terminal.write(&text));
        }
        for (at, line) in block.iter().enumerate() {
            if let Some(row) = self.rows.get(at) {
                row.set_message(line.clone());
            } else {
                let row = self.block.add(ProgressBar::new_spinner().with_style(message_only()));
                row.set_message(line.clone());
                self.rows.push(row);
            }
        }
    }

    /// Writes a question behind which the operator types. The block must be gone.
    pub fn prompt(&mut self, question: &str) {
        self.terminal.write(question);
    }
}

/// A row is the line that the report made, and nothing else.
fn message_only() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// What both the block and the finished lines are written to.
#[derive(Clone)]
struct Terminal {
    out: Arc<Mutex<Out>>,
    size: Arc<Size>,
}

impl Terminal {
    /// Nobody is left to tell when the terminal is gone, and the run goes on.
    fn write(&self, text: &str) {
        let _ = self.try_write(text);
    }

    fn try_write(&self, text: &str) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn step(&self, count: usize, end: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.try_write(&format!("\u{1b}[{count}{end}")) }
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminal")
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        u16::try_from((self.size)().0).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        u16::try_from((self.size)().1).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.step(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.step(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.step(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.step(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.try_write(&format!("{text}\r\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.try_write(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.try_write("\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        self.try_write("")
    }
}
