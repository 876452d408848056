//! One line of a file as it is shown: tabs opened, control characters visible, cut to fit.

use super::visible;
use crate::syntax::source::{Sources, Span};

/// Bytes looked at on either side of a place: a line may be a megabyte long.
const AROUND: usize = 600;

/// Columns of a tab.
const TAB: usize = 4;

/// A line, and where in it a span stands.
pub(super) struct Excerpt {
    /// As shown.
    pub text: String,
    /// First column of the underline.
    pub start: usize,
    /// Columns of the underline; at least one.
    pub len: usize,
}

struct Cell {
    text: String,
    width: usize,
}

impl Excerpt {
    pub(super) fn new(sources: &Sources, span: Span, room: usize, ascii: bool) -> Self {
        let text = &sources.get(span.file).text;
        let at = floor(text, span.start as usize);
        let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
        let from = if at - start > AROUND { floor(text, at - AROUND) } else { start };
        let to = if end - at > AROUND { floor(text, at + AROUND) } else { end };
        let line = text[from..to].trim_end_matches('\r');
        let until = floor(text, span.end as usize).clamp(at, from + line.len().max(at - from));
        let cells = cells(line, ascii);
        let chars = |to: usize| text[from..to.max(from)].chars().count();
        let columns = |cells: &[Cell]| cells.iter().map(|cell| cell.width).sum::<usize>();
        let (first, last) = (chars(at).min(cells.len()), chars(until).min(cells.len()));
        let start_column = columns(&cells[..first]);
        let len = columns(&cells[first..last.max(first)]).max(1);
        let cut = (from > start, to < end);
        fit(&cells, start_column, len, room, cut, ascii)
    }
}

fn cells(line: &str, ascii: bool) -> Vec<Cell> {
    let mut column = 0;
    let mut cells = Vec::new();
    for c in line.chars() {
        let text = if c == '\t' { " ".repeat(TAB - column % TAB) } else { visible::char(c, ascii) };
        let width = visible::width(&text);
        column += width;
        cells.push(Cell { text, width });
    }
    cells
}

/// The part of a line that shows the underlined place, at most `room` wide.
fn fit(cells: &[Cell], start: usize, len: usize, room: usize, cut: (bool, bool), ascii: bool) -> Excerpt {
    let dots = if ascii { "..." } else { "…" };
    let edge = visible::width(dots);
    let total: usize = cells.iter().map(|cell| cell.width).sum();
    // Some room to the right of the place stays, so that one sees what follows.
    let overhang = (start + len.min(room / 2) + room / 4).saturating_sub(room);
    let skip =
        if total <= room && !cut.0 { 0 } else { overhang.min(start).min(total.saturating_sub(room / 2)) };
    let left = skip > 0 || cut.0;
    let mut text = if left { dots.to_owned() } else { String::new() };
    let mut column = 0;
    let mut shown = if left { edge } else { 0 };
    let mut skipped = 0;
    let mut right = cut.1;
    for cell in cells {
        if column < skip + if left { edge } else { 0 } {
            column += cell.width;
            skipped = column;
            continue;
        }
        if shown + cell.width > room.saturating_sub(edge) && total - column > room.saturating_sub(shown) {
            right = true;
            break;
        }
        text.push_str(&cell.text);
        column += cell.width;
        shown += cell.width;
    }
    if right {
        text.push_str(dots);
    }
    let start = if left { (start + edge).saturating_sub(skipped) } else { start };
    let start = start.min(room - 1);
    Excerpt { text, start, len: len.min(shown.saturating_sub(start)).max(1) }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
