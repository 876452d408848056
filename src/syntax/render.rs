//! Draws problems: the line, the gutter, the underline, the help.
//!
//! Pure: text in, text out. `cli` prints what comes out, `lsp` has no use for it. Text of files and
//! of messages passes through [`visible`], so that no byte of a flow file reaches a terminal as a
//! command.

mod line;
mod visible;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::problem::{Label, Problem, Problems};
use super::source::{FileId, Sources};
use crate::syntax::source::Span;
use line::Excerpt;
pub use visible::{visible, width};

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colour repeats what the marks say.
    pub color: bool,
    /// Only ASCII: for terminals without UTF-8.
    pub ascii: bool,
    /// Columns to fit into.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, ascii: false, width: 100 }
    }
}

/// All problems and the closing line; nothing where nothing is wrong.
#[must_use]
pub fn report(problems: &Problems, sources: &Sources, style: Style) -> String {
    let mut text = String::new();
    if problems.is_empty() {
        return text;
    }
    for problem in &problems.0 {
        text.push_str(&render(problem, sources, style));
        text.push('\n');
    }
    text.push_str(&closing(problems, sources));
    text.push('\n');
    text
}

/// `2 mistakes in flows/deploy.kdl. Nothing was run.`
#[must_use]
pub fn closing(problems: &Problems, sources: &Sources) -> String {
    let files: BTreeSet<FileId> =
        problems.0.iter().filter_map(|problem| problem.labels.first()).map(|label| label.span.file).collect();
    let place = match files.iter().collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        [one] => format!(" in {}", sources.get(**one).path),
        several => format!(" in {} files", several.len()),
    };
    let number = problems.0.len();
    let noun = if number == 1 { "mistake" } else { "mistakes" };
    format!("{number} {noun}{place}. Nothing was run.")
}

/// One problem, ending in a line break.
#[must_use]
pub fn render(problem: &Problem, sources: &Sources, style: Style) -> String {
    let mut draw = Draw { sources, style, pad: gutter(problem, sources), out: String::new() };
    draw.heading(&problem.message);
    let Some(main) = problem.labels.first() else {
        if let Some(help) = &problem.help {
            draw.help(help);
        }
        return draw.out;
    };
    draw.place(main.span, true);
    let mut files = vec![main.span.file];
    files.extend(problem.labels.iter().map(|label| label.span.file).filter(|file| *file != main.span.file));
    files.dedup();
    let mut done: Vec<FileId> = Vec::new();
    for file in files {
        if done.contains(&file) {
            continue;
        }
        done.push(file);
        let mut labels: Vec<&Label> = problem.labels.iter().filter(|label| label.span.file == file).collect();
        if let (Some(first), false) = (labels.first(), file == main.span.file) {
            draw.place(first.span, false);
        }
        labels.sort_by_key(|label| label.span);
        draw.labels(&labels, main);
    }
    if let Some(help) = &problem.help {
        draw.help(help);
    }
    draw.out
}

/// Digits of the largest line number that is shown.
fn gutter(problem: &Problem, sources: &Sources) -> usize {
    let lines = problem.labels.iter().map(|label| sources.position(label.span).0);
    lines.max().unwrap_or(1).to_string().len()
}

#[derive(Clone, Copy)]
enum Paint {
    Error,
    Strong,
    Gutter,
    Other,
    Help,
}

struct Draw<'a> {
    sources: &'a Sources,
    style: Style,
    pad: usize,
    out: String,
}

impl Draw<'_> {
    fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.style.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Error => "1;31",
            Paint::Strong => "1",
            Paint::Gutter => "2",
            Paint::Other => "34",
            Paint::Help => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    fn mark<'m>(&self, pretty: &'m str, plain: &'m str) -> &'m str {
        if self.style.ascii { plain } else { pretty }
    }

    fn heading(&mut self, message: &str) {
        let message = visible(message, self.style.ascii);
        let lines = wrap(&message, self.style.width.saturating_sub(7));
        for (i, line) in lines.iter().enumerate() {
            let head = if i == 0 { self.paint(Paint::Error, "error") + ": " } else { " ".repeat(7) };
            let line = self.paint(Paint::Strong, line);
            let _ = writeln!(self.out, "{head}{line}");
        }
    }

    fn place(&mut self, span: Span, main: bool) {
        let (line, column) = self.sources.position(span);
        let path = visible(&self.sources.get(span.file).path, self.style.ascii);
        let mark = if main { self.mark("┌", "-->") } else { self.mark("├", "-->") };
        let mark = self.paint(Paint::Gutter, mark);
        let _ = writeln!(self.out, "{:pad$} {mark} {path}:{line}:{column}", "", pad = self.pad);
    }

    fn labels(&mut self, labels: &[&Label], main: &Label) {
        let mut last: Option<usize> = None;
        for label in labels {
            let (line, _) = self.sources.position(label.span);
            let excerpt = Excerpt::new(self.sources, label.span, self.room(), self.style.ascii);
            if last != Some(line) {
                if last.is_some_and(|last| line > last + 1) {
                    let mark = self.paint(Paint::Gutter, self.mark("⋮", ":"));
                    let _ = writeln!(self.out, "{:pad$} {mark}", "", pad = self.pad);
                }
                let number = self.paint(Paint::Gutter, &format!("{line:>pad$}", pad = self.pad));
                let bar = self.paint(Paint::Gutter, self.mark("│", "|"));
                let _ = writeln!(self.out, "{}", format!("{number} {bar} {}", excerpt.text).trim_end());
            }
            last = Some(line);
            self.underline(&excerpt, label, std::ptr::eq(*label, main));
        }
    }

    /// Columns right of the gutter.
    fn room(&self) -> usize {
        self.style.width.saturating_sub(self.pad + 3).max(20)
    }

    fn underline(&mut self, excerpt: &Excerpt, label: &Label, main: bool) {
        let (line, paint) =
            if main { (self.mark("━", "^"), Paint::Error) } else { (self.mark("─", "-"), Paint::Other) };
        let bar = self.paint(Paint::Gutter, self.mark("│", "|"));
        let gutter = format!("{:pad$} {bar} ", "", pad = self.pad);
        let marks = line.repeat(excerpt.len);
        let text = visible(&label.text, self.style.ascii);
        let beside = excerpt.start + excerpt.len + 1 + width(&text) <= self.room();
        let first = if beside && !text.is_empty() { format!("{marks} {text}") } else { marks };
        let first = self.paint(paint, &first);
        let _ = writeln!(self.out, "{gutter}{:start$}{first}", "", start = excerpt.start);
        if !beside {
            // Under the underline, moved left as far as it needs to fit.
            let lines = wrap(&text, self.room().min(60));
            let longest = lines.iter().map(|line| width(line)).max().unwrap_or(0);
            let start = excerpt.start.min(self.room().saturating_sub(longest));
            for line in lines {
                let line = self.paint(paint, &line);
                let _ = writeln!(self.out, "{gutter}{:start$}{line}", "");
            }
        }
    }

    fn help(&mut self, help: &str) {
        let mark = self.paint(Paint::Gutter, self.mark("└", "="));
        let help = visible(help, self.style.ascii);
        for (i, line) in wrap(&help, self.room()).iter().enumerate() {
            let mark = if i == 0 { mark.as_str() } else { " " };
            let line = self.paint(Paint::Help, line);
            let _ = writeln!(self.out, "{:pad$} {mark} {line}", "", pad = self.pad);
        }
    }
}

/// Breaks text between words.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= room.max(20) {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests;
