//! Text that has to fit: widths as a terminal counts them, cut and wrapped.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text on one line that cannot move the cursor: escape sequences and control characters of
/// programs are taken out, tabs and line ends become spaces.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' | '\n' | '\r' => clean.push(' '),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// ECMA-48: `ESC [ … letter`, `ESC ] … BEL` or `ESC ] … ESC \`, else two characters.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => {
            chars.find(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
        Some(']') if chars.find(|c| matches!(c, '\u{7}' | '\u{1b}')) == Some('\u{1b}') => {
            chars.next_if_eq(&'\\');
        }
        _ => {}
    }
}

/// The text, or its beginning and `…` when it is too wide.
#[must_use]
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = head(text, columns.saturating_sub(1)).trim_end().to_owned();
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// The text, or its beginning, `…` and its end when it is too wide: names tell apart at both ends.
#[must_use]
pub fn cut_middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns < 4 {
        return cut(text, columns);
    }
    let room = columns - 1;
    let before = head(text, room / 2);
    let mut after = text.len();
    let mut taken = 0;
    for (at, c) in text.char_indices().rev() {
        taken += c.width().unwrap_or(0);
        if taken > room - room / 2 {
            break;
        }
        after = at;
    }
    format!("{before}…{}", &text[after..])
}

fn head(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        taken += c.width().unwrap_or(0);
        if taken > columns {
            return &text[..at];
        }
    }
    text
}

/// The text and spaces behind it.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Spaces before the text.
#[must_use]
pub fn pad_left(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Lines as [`wrap`] makes them; those that follow the first begin two columns further in.
#[must_use]
pub fn hanging(text: &str, columns: usize) -> Vec<String> {
    let lines = wrap(text, columns);
    if lines.len() < 2 {
        return lines;
    }
    let (first, rest) = text.split_at(lines[0].len());
    let indent = text.len() - text.trim_start().len();
    let rest = format!("{}{}", " ".repeat(indent + 2), rest.trim_start());
    std::iter::once(first.to_owned()).chain(wrap(&rest, columns)).collect()
}

/// Lines of at most so many columns, broken at spaces; the text's own indent is kept in front of
/// each. A word that is wider stays whole, so that it can be copied.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let body = text.trim_start();
    let indent = &text[..text.len() - body.len()];
    if width(text) <= columns {
        return vec![text.trim_end().to_owned()];
    }
    let mut lines = Vec::new();
    let mut line = indent.to_owned();
    for word in body.split(' ') {
        let bare = line.len() == indent.len();
        if !bare && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
        } else if !bare {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// The text for a terminal without UTF-8.
#[must_use]
pub fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '→' => plain.push_str("->"),
            '←' => plain.push_str("<-"),
            '…' => plain.push_str("..."),
            '×' => plain.push('x'),
            '·' | '•' => plain.push('.'),
            '–' | '—' | '‑' => plain.push('-'),
            '‘' | '’' => plain.push('\''),
            '“' | '”' => plain.push('"'),
            '│' | '‖' => plain.push('|'),
            '≤' => plain.push_str("<="),
            '≥' => plain.push_str(">="),
            '\u{a0}' => plain.push(' '),
            c if c.is_ascii() => plain.push(c),
            _ => plain.push('?'),
        }
    }
    plain
}

/// A word as a shell takes it: `'service[api]'`.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `a, b, c`; more than `most` end in `and 3 more`.
#[must_use]
pub fn name_list<T: std::fmt::Display>(items: &[T], most: usize) -> String {
    // One name takes no more room than the words that would stand for it.
    let shown = if items.len() <= most + 1 { items.len() } else { most };
    let names: Vec<String> = items.iter().take(shown).map(ToString::to_string).collect();
    match items.len() - shown {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_fit() {
        for (text, columns, start, middle) in [
            ("short", 5, "short", "short"),
            ("service[graphql]", 10, "service[g…", "serv…hql]"),
            ("a b c d", 3, "a…", "a…"),
            ("日本語です", 5, "日本…", "日…す"),
            ("x", 0, "", ""),
        ] {
            assert_eq!(cut(text, columns), start);
            assert!(width(&cut_middle(text, columns)) <= columns);
            if columns != 10 {
                assert_eq!(cut_middle(text, columns), middle);
            }
        }
        assert_eq!(cut_middle("service[graphql]", 10), "serv…phql]");
    }

    #[test]
    fn programs_cannot_draw_on_the_screen() {
        for (raw, expected) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text\u{1b}]8;;url\u{1b}\\link", "textlink"),
            ("a\tb\r\n", "a b"),
            ("\u{1b}[2K\u{1b}[1Gdone", "done"),
            ("half \u{1b}[", "half"),
            ("\u{8}\u{0}bell\u{7}", "bell"),
        ] {
            assert_eq!(clean(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn long_text_is_wrapped_at_words() {
        assert_eq!(wrap("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap("see https://example.com/long", 10), ["see", "https://example.com/long"]);
        assert_eq!(wrap("", 10), [""]);
    }

    #[test]
    fn words_for_the_shell_and_for_people() {
        assert_eq!(shell_word("service[api]"), "'service[api]'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("prod-1"), "prod-1");
        assert_eq!(name_list(&["a", "b", "c"], 2), "a, b, c");
        assert_eq!(name_list(&["a", "b", "c", "d"], 2), "a, b and 2 more");
        assert_eq!(ascii("shop:41 → :42 …"), "shop:41 -> :42 ...");
    }
}
