//! A terminal of which the last few lines are drawn again and again.
//!
//! Finished lines are written once and end in a real line end, so that they can
//! be copied and survive a change of the window's width (a library that fills
//! lines with spaces up to the edge would make one long line of them). Each
//! frame is one write, and lines are overwritten rather than erased, so that
//! nothing flickers.

use std::io::Write as _;

use super::{Out, text};

/// Columns and rows, asked before each frame.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send>;

/// The terminal. Nobody else may write to it while a block is on it.
pub struct Screen {
    out: Out,
    size: Size,
    block: Vec<usize>,
    columns: usize,
}

impl Screen {
    /// A terminal and how to ask for its size.
    #[must_use]
    pub fn new(out: Out, size: Size) -> Self {
        Self { out, size, block: Vec::new(), columns: 0 }
    }

    /// Columns and rows.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.size)()
    }

    /// Adds lines above the block and draws the block anew. Lines of the block must fit.
    pub fn frame(&mut self, lines: &[String], block: &[String]) {
        if lines.is_empty() && block.is_empty() && self.block.is_empty() {
            return;
        }
        // Synchronised output (mode 2026): shown whole; terminals that do not know it ignore it.
        let mut frame = "\u{1b}[?2026h".to_owned();
        let (columns, _) = self.size();
        let up = rows(&self.block, columns);
        if up > 0 {
            frame.push_str(&format!("\r\u{1b}[{up}A"));
        }
        if columns != self.columns {
            // Rows that the terminal took for one wrapped line must not stay joined.
            frame.push_str("\u{1b}[J");
            self.columns = columns;
        }
        for line in lines.iter().chain(block) {
            frame.push_str(line);
            frame.push_str("\u{1b}[K\r\n");
        }
        frame.push_str("\u{1b}[J\u{1b}[?2026l");
        self.block = block.iter().map(|line| text::width(&text::clean(line))).collect();
        self.write(&frame);
    }

    /// Writes a question behind which the operator types. The block must be gone.
    pub fn prompt(&mut self, question: &str) {
        self.write(question);
    }

    fn write(&mut self, text: &str) {
        // Nobody is left to tell when the terminal is gone, and the run goes on.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// Rows that lines of these widths take: a terminal that became narrower has wrapped them.
fn rows(widths: &[usize], columns: usize) -> usize {
    widths.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum()
}
