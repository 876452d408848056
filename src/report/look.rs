//! How things look: marks, colours and the width of a line. Colour repeats what a mark says and
//! never says it alone.

use jiff::tz::TimeZone;

use super::text;
use crate::event::StepOutcome;
use crate::model::change::Action;
use crate::world::host::Host;

/// What the terminal, or whatever takes the text, can show.
#[derive(Clone, Debug)]
pub struct Look {
    /// Whether colours are wanted.
    pub color: bool,
    /// Whether marks may be other than ASCII.
    pub utf8: bool,
    /// Columns there are.
    pub columns: usize,
    /// The zone in which times of day are shown; asked for where one is, since finding it takes a
    /// walk through the zone files.
    pub zone: fn() -> TimeZone,
}

/// What stands in front of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something new.
    Create,
    /// Something else.
    Update,
    /// Something new in place of something.
    Replace,
    /// Something goes.
    Delete,
    /// It runs.
    Run,
    /// As wanted.
    UpToDate,
    /// Restored.
    Cached,
    /// Not run.
    Skipped,
    /// Not known.
    Unknown,
    /// A gate.
    Waiting,
    /// It went well.
    Done,
    /// It did not.
    Failed,
}

/// The few colours there are; each terminal has its own idea of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Good.
    Green,
    /// Bad.
    Red,
    /// To be looked at.
    Yellow,
    /// Going on.
    Cyan,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

impl Look {
    /// Text of 80 columns without colour: files, pipes, tests.
    #[must_use]
    pub fn plain() -> Self {
        Self { color: false, utf8: true, columns: 80, zone: || TimeZone::UTC }
    }

    /// What fits where flow runs. `columns` is the width of the terminal, `None` without one.
    #[must_use]
    pub fn detect(host: &Host, columns: Option<usize>, zone: fn() -> TimeZone) -> Self {
        let set = |name| host.var(name).is_some_and(|value| !value.is_empty());
        let dumb = host.var("TERM") == Some("dumb");
        Self {
            color: columns.is_some() && !set("NO_COLOR") && !dumb,
            utf8: speaks_utf8(host),
            columns: columns.unwrap_or(80),
            zone,
        }
    }

    /// The last column that is written to: text keeps a margin and stays easy to read on wide screens.
    #[must_use]
    pub fn right_edge(&self) -> usize {
        self.columns.clamp(40, 102) - 2
    }

    /// A text in a colour, if there are any.
    #[must_use]
    pub fn paint(&self, color: Color, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match color {
            Color::Red => 31,
            Color::Green => 32,
            Color::Yellow => 33,
            Color::Cyan => 36,
            Color::Dim => 2,
            Color::Bold => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A text in characters that can be shown.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        if self.utf8 { text.to_owned() } else { text::ascii(text) }
    }

    /// The text, cut to fit, in characters that can be shown.
    #[must_use]
    pub fn cut(&self, text: &str, columns: usize) -> String {
        if self.utf8 {
            return text::cut(text, columns);
        }
        let text = text::ascii(text);
        if text.len() <= columns {
            return text;
        }
        let kept: String = text.chars().take(columns.saturating_sub(3)).collect();
        format!("{}...", kept.trim_end()).chars().take(columns).collect()
    }

    /// How wide the widest mark is.
    #[must_use]
    pub fn mark_width(&self) -> usize {
        if self.utf8 { 1 } else { 4 }
    }

    /// A mark as wide as all of them.
    #[must_use]
    pub fn mark(&self, mark: Mark) -> String {
        let (symbol, ascii, color) = match mark {
            Mark::Create => ("+", "+", Color::Green),
            Mark::Update => ("~", "~", Color::Yellow),
            Mark::Replace => ("±", "+-", Color::Yellow),
            Mark::Delete => ("-", "-", Color::Red),
            Mark::Run => ("▸", ">", Color::Cyan),
            Mark::UpToDate => ("=", "=", Color::Dim),
            Mark::Cached => ("↺", "@", Color::Dim),
            Mark::Skipped => ("·", ".", Color::Dim),
            Mark::Unknown => ("?", "?", Color::Yellow),
            Mark::Waiting => ("‖", "||", Color::Yellow),
            Mark::Done => ("✓", "ok", Color::Green),
            Mark::Failed => ("✗", "FAIL", Color::Red),
        };
        let symbol = if self.utf8 { symbol } else { ascii };
        let spaces = " ".repeat(self.mark_width().saturating_sub(text::width(symbol)));
        format!("{}{spaces}", self.paint(color, symbol))
    }
}

/// The first of these that is set decides; where none is, as in most containers, terminals and
/// CI systems show UTF-8 all the same.
fn speaks_utf8(host: &Host) -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| host.var(name).filter(|value| !value.is_empty()))
        .is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        })
}

impl From<Action> for Mark {
    fn from(action: Action) -> Self {
        match action {
            Action::Create => Self::Create,
            Action::Update => Self::Update,
            Action::Replace => Self::Replace,
            Action::Delete => Self::Delete,
            Action::Run => Self::Run,
            Action::UpToDate => Self::UpToDate,
            Action::Cached => Self::Cached,
            Action::Skipped => Self::Skipped,
            Action::Unknown => Self::Unknown,
        }
    }
}

impl From<StepOutcome> for Mark {
    fn from(outcome: StepOutcome) -> Self {
        match outcome {
            StepOutcome::Succeeded | StepOutcome::RolledBack => Self::Done,
            StepOutcome::UpToDate => Self::UpToDate,
            StepOutcome::Cached => Self::Cached,
            StepOutcome::Skipped => Self::Skipped,
            StepOutcome::Failed
            | StepOutcome::Refused
            | StepOutcome::Locked
            | StepOutcome::Interrupted
            | StepOutcome::RollbackFailed => Self::Failed,
            StepOutcome::Unknown => Self::Unknown,
            StepOutcome::Waiting => Self::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(vars: &[(&str, &str)]) -> Host {
        Host::with(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_environment_decides_on_colour_and_characters() {
        for (vars, terminal, color, utf8) in [
            (&[][..], true, true, true),
            (&[][..], false, false, true),
            (&[("NO_COLOR", "1")][..], true, false, true),
            (&[("NO_COLOR", "")][..], true, true, true),
            (&[("TERM", "dumb")][..], true, false, true),
            (&[("LANG", "C")][..], true, true, false),
            (&[("LANG", "de_DE.UTF-8")][..], true, true, true),
            (&[("LC_ALL", "C.utf8"), ("LANG", "C")][..], true, true, true),
            (&[("LC_ALL", ""), ("LANG", "POSIX")][..], true, true, false),
        ] {
            let look = Look::detect(&host(vars), terminal.then_some(120), || TimeZone::UTC);
            assert_eq!((look.color, look.utf8), (color, utf8), "{vars:?}");
        }
    }

    #[test]
    fn every_line_fits_its_edge() {
        let look = |columns| Look { columns, ..Look::plain() };
        assert_eq!(look(80).right_edge(), 78);
        assert_eq!(look(200).right_edge(), 100);
        assert_eq!(look(10).right_edge(), 38);
        let ascii = Look { utf8: false, ..Look::plain() };
        assert_eq!(ascii.cut("shop:41 → :42 and more", 16), "shop:41 -> :4...");
        assert_eq!(ascii.mark(Mark::Failed), "FAIL");
        assert_eq!(ascii.mark(Mark::Done), "ok  ");
    }
}
