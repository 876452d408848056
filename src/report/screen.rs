//! A terminal of which the last few lines are drawn again and again.
//!
//! `indicatif` owns the block at the bottom: it knows how many rows it took and
//! erases what it drew. Finished lines never go through it: they are written
//! while the block is put away, with a line end of their own, so that they can
//! be copied and survive a change of the window's width. What a frame consists
//! of is collected and written at once, so that nothing flickers.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::Out;

/// Columns and rows, asked before each frame.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send + Sync>;

/// Every frame is drawn when it is asked for; between frames nothing is, so the lowest rate does.
const BETWEEN_FRAMES: u8 = 1;

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
        let terminal = Terminal {
            sheet: Arc::new(Mutex::new(Sheet { out, text: String::new() })),
            size: Arc::new(size),
        };
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), BETWEEN_FRAMES);
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
        for (at, line) in block.iter().enumerate() {
            if let Some(row) = self.rows.get(at) {
                row.set_message(line.clone());
            } else {
                let row = self.block.add(ProgressBar::new_spinner().with_style(message_only()));
                row.set_message(line.clone());
                self.rows.push(row);
            }
        }
        // Putting the block away and back draws it in any case, with what its rows say now.
        self.block.suspend(|| lines.iter().for_each(|line| self.terminal.add(&format!("{line}\r\n"))));
        self.terminal.show();
    }

    /// Writes a question behind which the operator types. The block must be gone.
    pub fn prompt(&mut self, question: &str) {
        self.terminal.add(question);
        self.terminal.show();
    }
}

/// A row is the line that the report made, and nothing else.
fn message_only() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// What both the block and the finished lines are written to.
#[derive(Clone)]
struct Terminal {
    sheet: Arc<Mutex<Sheet>>,
    size: Arc<Size>,
}

/// A frame in the making.
struct Sheet {
    out: Out,
    text: String,
}

impl Terminal {
    fn add(&self, text: &str) {
        self.sheet.lock().unwrap_or_else(PoisonError::into_inner).text.push_str(text);
    }

    /// Writes the frame. Nobody is left to tell when the terminal is gone, and the run goes on.
    fn show(&self) {
        let mut sheet = self.sheet.lock().unwrap_or_else(PoisonError::into_inner);
        let text = std::mem::take(&mut sheet.text);
        if !text.is_empty() {
            // Synchronised output (mode 2026): shown whole; terminals that do not know it ignore it.
            let frame = format!("\u{1b}[?2026h{text}\u{1b}[?2026l");
            let _ = sheet.out.write_all(frame.as_bytes()).and_then(|()| sheet.out.flush());
        }
    }

    fn step(&self, count: usize, end: char) {
        if count > 0 {
            self.add(&format!("\u{1b}[{count}{end}"));
        }
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
        self.step(n, 'A');
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.step(n, 'B');
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.step(n, 'C');
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.step(n, 'D');
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(&format!("{text}\r\n"));
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\u{1b}[2K");
        Ok(())
    }

    /// The frame is written when it is whole.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
