//! `.dockerignore`, as Docker reads it.
//!
//! A pattern that matches a folder matches everything in it; the last pattern
//! that matches decides; `!` takes back. Rules: docs.docker.com, "Dockerignore
//! file"; grammar and corner cases: github.com/moby/patternmatcher.

/// The patterns of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Ignore {
    patterns: Vec<Pattern>,
}

/// A pattern that Docker would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: \"{pattern}\" is no pattern: {why}")]
pub struct IgnoreError {
    line: usize,
    pattern: String,
    why: &'static str,
}

/// Which patterns match a folder; what lies in it inherits them.
#[derive(Clone, Debug, Default)]
pub(super) struct Matched(Vec<bool>);

#[derive(Clone, Debug)]
struct Pattern {
    /// Written with `!`: takes back what earlier patterns left out.
    keeps: bool,
    form: Form,
}

/// The common forms need no matching machine.
#[derive(Clone, Debug)]
enum Form {
    /// `node_modules`: exactly this path.
    Path(String),
    /// `**/node_modules`: this path in any folder.
    Anywhere(String),
    /// `*.md`: only what lies at the top.
    Top(Vec<Token>),
    /// `**/*.log`: whatever has such a name.
    Name(Vec<Token>),
    /// Anything else.
    Glob(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: any character but a slash.
    One,
    /// `*`: any number of them.
    Many,
    /// `**` at the end: anything.
    Rest,
    /// `**/`: any number of folders, each with its slash.
    Folders,
    /// `[a-z]`, `[^a-z]`
    Class {
        except: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    pub(super) fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut patterns = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let wrong = |why| IgnoreError { line: index + 1, pattern: line.trim().to_owned(), why };
            // Only a `#` in the first column starts a comment.
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let (keeps, pattern) = match line.trim().strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line.trim()),
            };
            if pattern.is_empty() {
                return Err(wrong("nothing follows the !"));
            }
            patterns.push(Pattern { keeps, form: Form::parse(&clean(pattern)).map_err(wrong)? });
        }
        Ok(Self { patterns })
    }

    /// Whether a path is left out, given what matched the folder it lies in.
    pub(super) fn look(&self, path: &str, folder: &Matched) -> (bool, Matched) {
        let mut out = false;
        let mut matched = Vec::with_capacity(self.patterns.len());
        for (index, pattern) in self.patterns.iter().enumerate() {
            let hit = folder.0.get(index).copied().unwrap_or(false) || pattern.form.matches(path);
            if hit {
                out = !pattern.keeps;
            }
            matched.push(hit);
        }
        (out, Matched(matched))
    }

    /// Whether something in a folder that is left out may be kept all the same.
    #[must_use]
    pub(super) fn may_keep_below(&self, folder: &str) -> bool {
        let inside = |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.patterns.iter().filter(|pattern| pattern.keeps).any(|pattern| match &pattern.form {
            Form::Path(path) => inside(path),
            Form::Anywhere(_) | Form::Name(_) => true,
            Form::Top(_) => false,
            Form::Glob(tokens) => {
                let fixed: String = tokens
                    .iter()
                    .map_while(|token| if let Token::Char(c) = token { Some(*c) } else { None })
                    .collect();
                fixed.starts_with(&format!("{folder}/")) || format!("{folder}/").starts_with(&fixed)
            }
        })
    }
}

/// Takes out empty parts, `.` and `..`, as Go's `filepath.Clean` does, and a slash at the start.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

impl Form {
    fn parse(pattern: &str) -> Result<Self, &'static str> {
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if plain(pattern) {
            return Ok(Self::Path(pattern.to_owned()));
        }
        if let Some(rest) = pattern.strip_prefix("**/").filter(|rest| plain(rest)) {
            return Ok(Self::Anywhere(rest.to_owned()));
        }
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if chars.peek() == Some(&'*') => {
                    // Any further star says the same.
                    while chars.next_if_eq(&'*').is_some() {}
                    let slash = chars.next_if_eq(&'/').is_some();
                    if chars.peek().is_none() {
                        Token::Rest
                    } else if slash {
                        Token::Folders
                    } else {
                        // `a**b`: the folders are optional, so what is left is `*` over slashes.
                        Token::Folders
                    }
                }
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => Token::Char(chars.next().ok_or("nothing follows the \\")?),
                '[' => class(&mut chars)?,
                c => Token::Char(c),
            });
        }
        let flat = |tokens: &[Token]| {
            !tokens.iter().any(|token| matches!(token, Token::Char('/') | Token::Rest | Token::Folders))
        };
        Ok(match tokens.split_first() {
            Some((Token::Folders, name)) if pattern.starts_with("**/") && flat(name) => {
                Self::Name(name.to_vec())
            }
            _ if flat(&tokens) => Self::Top(tokens),
            _ => Self::Glob(tokens),
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Path(pattern) => pattern == path,
            Self::Anywhere(name) => path
                .strip_suffix(name.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('/')),
            Self::Top(tokens) => !path.contains('/') && matches(tokens, path),
            Self::Name(tokens) => matches(tokens, path.rsplit_once('/').map_or(path, |(_, name)| name)),
            Self::Glob(tokens) => matches(tokens, path),
        }
    }
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "a [ is not closed";
    let except = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next().ok_or(OPEN)? {
            ']' if ranges.is_empty() => return Err("a [] is empty"),
            ']' => return Ok(Token::Class { except, ranges }),
            '\\' => chars.next().ok_or(OPEN)?,
            c => c,
        };
        let high = if chars.next_if_eq(&'-').is_some() {
            match chars.next().ok_or(OPEN)? {
                '\\' => chars.next().ok_or(OPEN)?,
                ']' => return Err("a range has no end"),
                c => c,
            }
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// Runs all ways of matching at once, so that no pattern takes more than pattern × path steps.
fn matches(tokens: &[Token], path: &str) -> bool {
    // State `2 * i`: token i is next. State `2 * i + 1`: inside the folders of token i.
    let mut states = vec![false; tokens.len() * 2 + 1];
    enter(tokens, &mut states, 0);
    let mut next = vec![false; states.len()];
    for c in path.chars() {
        next.fill(false);
        for (index, token) in tokens.iter().enumerate() {
            let (here, inside) = (states.get(2 * index), states.get(2 * index + 1));
            let (here, inside) = (here == Some(&true), inside == Some(&true));
            match token {
                Token::Char(wanted) if here && *wanted == c => enter(tokens, &mut next, index + 1),
                Token::One if here && c != '/' => enter(tokens, &mut next, index + 1),
                Token::Many if here && c != '/' => enter(tokens, &mut next, index),
                Token::Rest if here => enter(tokens, &mut next, index),
                Token::Class { except, ranges } if here => {
                    let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                    if inside != *except && c != '/' {
                        enter(tokens, &mut next, index + 1);
                    }
                }
                Token::Folders if here || inside => {
                    if let Some(state) = next.get_mut(2 * index + 1) {
                        *state = true;
                    }
                    if c == '/' {
                        enter(tokens, &mut next, index + 1);
                    }
                }
                _ => {}
            }
        }
        std::mem::swap(&mut states, &mut next);
        if !states.contains(&true) {
            return false;
        }
    }
    states.last() == Some(&true)
}

/// Marks a state, and those that are reached from it without reading anything.
fn enter(tokens: &[Token], states: &mut [bool], mut index: usize) {
    loop {
        if let Some(state) = states.get_mut(2 * index) {
            *state = true;
        }
        match tokens.get(index) {
            Some(Token::Many | Token::Rest | Token::Folders) => index += 1,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks from the root down, as the context does.
    fn left_out(ignore: &Ignore, path: &str) -> bool {
        let mut matched = Matched::default();
        let mut out = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (out, matched) = ignore.look(&path[..end], &matched);
        }
        out
    }

    #[test]
    fn what_docker_leaves_out() {
        for (text, out, kept) in [
            (
                "node_modules",
                vec!["node_modules", "node_modules/a/b"],
                vec!["src/node_modules", "node_modules2"],
            ),
            ("/dist/", vec!["dist", "dist/a"], vec!["src/dist"]),
            ("*.md\n!README.md", vec!["a.md"], vec!["README.md", "docs/a.md", "a.mdx"]),
            ("!README.md\n*.md", vec!["README.md"], vec![]),
            ("docs\n!docs/api", vec!["docs", "docs/a"], vec!["docs/api", "docs/api/x"]),
            ("**/*.log", vec!["a.log", "x/y/a.log"], vec!["a.logs"]),
            ("**/tmp", vec!["tmp", "a/tmp", "a/b/tmp/c"], vec!["a/xtmp"]),
            ("*/temp*", vec!["a/temp", "a/temporary.txt", "a/temp/x"], vec!["temp", "a/b/temp"]),
            ("temp?", vec!["tempa"], vec!["temp", "temp/a", "tempab"]),
            ("a/**", vec!["a/b", "a/b/c"], vec!["b"]),
            ("a/**/z", vec!["a/z", "a/b/z", "a/b/c/z"], vec!["az", "a/bz"]),
            ("[a-c]1\n[^x]2", vec!["a1", "c1", "y2"], vec!["d1", "x2"]),
            ("a\\*b", vec!["a*b"], vec!["acb"]),
            ("# comment\n  \n #no-comment", vec!["#no-comment"], vec!["# comment"]),
            ("**", vec!["a", "a/b"], vec![]),
            ("**z", vec!["z", "a/z"], vec!["az"]),
            ("**/[ab]?", vec!["a1", "x/b2", "x/b2/c"], vec!["x/c1", "x/a"]),
            ("*\n!src", vec!["a", ".env"], vec!["src", "src/a/b"]),
            ("./a/../b/./c", vec!["b/c"], vec!["a", "b"]),
            ("a.b(c)+", vec!["a.b(c)+"], vec!["aXb(c)+"]),
            ("\u{feff}bom", vec!["bom"], vec![]),
        ] {
            let ignore = Ignore::parse(text).unwrap();
            for path in out {
                assert!(left_out(&ignore, path), "{text:?} must leave out {path}");
            }
            for path in kept {
                assert!(!left_out(&ignore, path), "{text:?} must keep {path}");
            }
        }
    }

    #[test]
    fn folders_are_entered_only_where_something_may_be_kept() {
        let ignore = Ignore::parse("*\n!src/app/*.rs\n!docs/a").unwrap();
        for (folder, may) in [
            ("src", true),
            ("src/app", true),
            ("docs", true),
            ("other", false),
            ("src/lib", false),
            ("srcs", false),
        ] {
            assert_eq!(ignore.may_keep_below(folder), may, "{folder}");
        }
        assert!(Ignore::parse("*\n!**/keep").unwrap().may_keep_below("anything"));
        assert!(!Ignore::parse("node_modules").unwrap().may_keep_below("node_modules"));
    }

    #[test]
    fn wrong_patterns_are_named() {
        for text in ["!", "ok\n[a", "a\\", "[]", "[a-]"] {
            assert!(Ignore::parse(text).is_err(), "{text}");
        }
        assert_eq!(Ignore::parse("ok\n[a").unwrap_err().line, 2);
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let ignore = Ignore::parse(&"*a".repeat(200)).unwrap();
        assert!(!left_out(&ignore, &"a".repeat(190)));
        assert!(!left_out(&ignore, &"ab".repeat(2000)));
    }
}
