//! Where the statements of an SQL file begin and end, and what words they
//! have. Knows strings, quoted names, dollar quotes, comments and the bodies
//! of SQL functions; nothing else of SQL.

use std::ops::Range;

/// A word, sign or quoted name of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Words in upper case, quoted names with their quotes, signs as they are; strings as `''`.
    pub text: String,
    /// Where it starts, in bytes of the file.
    pub at: usize,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// Where it stands, from its first word to its semicolon.
    pub range: Range<usize>,
    /// Its words.
    pub tokens: Vec<Token>,
}

impl Statement {
    /// Whether its words begin like this.
    pub(super) fn starts_with(&self, words: &[&str]) -> bool {
        self.tokens.len() >= words.len()
            && self.tokens.iter().zip(words).all(|(token, word)| token.text == *word)
    }
}

/// Splits a file.
pub(super) fn split(text: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut tokens: Vec<Token> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (kind, length) = piece(rest);
        let token = |word: String| Token { text: word, at };
        match kind {
            Piece::Nothing => {}
            Piece::Semicolon if depth == 0 => finish(&mut tokens, at + length, &mut statements),
            Piece::Semicolon => tokens.push(token(";".to_owned())),
            Piece::Text => tokens.push(token("''".to_owned())),
            Piece::Other => tokens.push(token(rest.get(..length).unwrap_or_default().to_owned())),
            Piece::Word => {
                let word = rest.get(..length).unwrap_or_default().to_uppercase();
                let before = tokens.last().map(|token| token.text.as_str());
                // A body `BEGIN ATOMIC … END` holds statements of its own, and CASE … END may stand in it.
                match word.as_str() {
                    "ATOMIC" if before == Some("BEGIN") => depth += 1,
                    "CASE" if depth > 0 => depth += 1,
                    "END" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                tokens.push(token(word));
            }
        }
        at += length;
    }
    finish(&mut tokens, text.len(), &mut statements);
    statements
}

fn finish(tokens: &mut Vec<Token>, end: usize, statements: &mut Vec<Statement>) {
    if let Some(first) = tokens.first() {
        let range = first.at..end;
        statements.push(Statement { range, tokens: std::mem::take(tokens) });
    }
}

enum Piece {
    /// White space or a comment.
    Nothing,
    Semicolon,
    Word,
    /// A string.
    Text,
    /// A quoted name or a sign.
    Other,
}

/// What the text begins with, and how many bytes it has (at least one).
fn piece(rest: &str) -> (Piece, usize) {
    let first = rest.chars().next().unwrap_or(' ');
    let to = |end: Option<usize>| end.unwrap_or(rest.len());
    match first {
        c if c.is_whitespace() => (Piece::Nothing, c.len_utf8()),
        '-' if rest.starts_with("--") => (Piece::Nothing, to(rest.find('\n'))),
        '/' if rest.starts_with("/*") => (Piece::Nothing, comment(rest)),
        ';' => (Piece::Semicolon, 1),
        'e' | 'E' if rest.get(1..2) == Some("'") => {
            (Piece::Text, 1 + quoted(rest.get(1..).unwrap_or_default(), true))
        }
        '\'' => (Piece::Text, quoted(rest, false)),
        '"' | '`' => (Piece::Other, quoted(rest, false)),
        '$' => match dollar_tag(rest) {
            Some(tag) => {
                let body = rest.get(tag.len()..).unwrap_or_default();
                (Piece::Text, body.find(tag).map_or(rest.len(), |end| tag.len() + end + tag.len()))
            }
            None => (Piece::Other, 1),
        },
        c if c.is_alphanumeric() || c == '_' => {
            (Piece::Word, to(rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))))
        }
        c => (Piece::Other, c.len_utf8()),
    }
}

/// Comments of `PostgreSQL` nest.
fn comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a quoted text; a doubled quote stands for itself, a backslash does where it escapes.
fn quoted(rest: &str, escapes: bool) -> usize {
    let bytes = rest.as_bytes();
    let quote = bytes.first().copied().unwrap_or(b'\'');
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match *byte {
            b'\\' if escapes => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `$$` or `$name$`.
fn dollar_tag(rest: &str) -> Option<&str> {
    let end = rest.get(1..)?.find('$')? + 2;
    let tag = rest.get(..end)?;
    let name = tag.get(1..tag.len() - 1)?;
    let good =
        name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_numeric());
    good.then_some(tag)
}

/// Line and column of a byte, both from 1, and the line's text.
pub(super) fn place(text: &str, at: usize) -> (usize, usize, &str) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let (before, after) = text.split_at(at);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let end = after.find('\n').map_or(text.len(), |end| at + end);
    let line = text.get(start..end).unwrap_or_default().trim_end_matches('\r');
    (before.matches('\n').count() + 1, text.get(start..at).unwrap_or_default().chars().count() + 1, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        split(sql).into_iter().map(|statement| sql[statement.range].to_owned()).collect()
    }

    #[test]
    fn statements_end_where_they_end() {
        for (sql, wanted) in [
            ("select 1; select 2", vec!["select 1;", "select 2"]),
            ("-- a; b\nselect ';' ; /* ; /* ; */ */", vec!["select ';' ;"]),
            ("select E'\\';' || 'it''s;'; x", vec!["select E'\\';' || 'it''s;';", "x"]),
            ("do $$ begin a; b; end $$; c", vec!["do $$ begin a; b; end $$;", "c"]),
            ("do $x$ a; $$ b; $$ $x$;c;", vec!["do $x$ a; $$ b; $$ $x$;", "c;"]),
            ("select $1; select \"a;b\"", vec!["select $1;", "select \"a;b\""]),
            (
                "create function f() returns int begin atomic select case when true then 1 end; select 2; end; x",
                vec![
                    "create function f() returns int begin atomic select case when true then 1 end; select 2; end;",
                    "x",
                ],
            ),
            ("begin; a; end; b", vec!["begin;", "a;", "end;", "b"]),
            (";;\n", vec![]),
            ("select 'open; x", vec!["select 'open; x"]),
        ] {
            assert_eq!(texts(sql), wanted, "{sql}");
        }
    }

    #[test]
    fn places_are_lines_and_columns() {
        let text = "one\r\ntwö three\n";
        assert_eq!(place(text, 0), (1, 1, "one"));
        assert_eq!(place(text, text.find("three").unwrap()), (2, 5, "twö three"));
        assert_eq!(place(text, 1000), (3, 1, ""));
    }
}
