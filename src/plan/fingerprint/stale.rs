//! Why a step is not up to date, in one line.

use super::key::{Difference, Key, Part};

/// Why a step has to be made again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// It never succeeded here.
    #[error("it has not run here before")]
    Never,
    /// What was remembered of its last success is gone.
    #[error("what was remembered of its last success is lost")]
    Lost,
    /// What the cache has of it is not what was stored.
    #[error("{0}")]
    Damaged(String),
    /// What it made cannot be looked at.
    #[error("what it made cannot be looked at: {0}")]
    Unclear(String),
    /// Something that it refers to.
    #[error("{}", was(.0))]
    Value(Difference),
    /// Its definition changed.
    #[error("{0} of its definition changed")]
    Definition(String),
    /// Another program version.
    #[error("{}", was(.0))]
    Tool(Difference),
    /// Files changed.
    #[error("{}", files(.first, *.differ, *.of))]
    Files {
        /// The first of them.
        first: Difference,
        /// How many differ.
        differ: usize,
        /// How many there are.
        of: usize,
    },
    /// What it made is gone or differs.
    #[error("{}", made(.0, *.1))]
    Made(String, usize),
}

impl Stale {
    /// What differs from the key of the last success, the most telling first.
    #[must_use]
    pub fn between(now: &Key, then: &Key) -> Option<Self> {
        let differences = now.differences(then);
        let differ = differences.iter().filter(|difference| difference.part == Part::File).count();
        let first = differences.into_iter().next()?;
        Some(match first.part {
            Part::Value => Self::Value(first),
            Part::Definition => Self::Definition(first.name),
            Part::Tool => Self::Tool(first),
            Part::File => Self::Files { first, differ, of: now.files.len() },
        })
    }
}

/// More of a value than this does not fit a line.
const SHORT: usize = 40;

/// `node is 22.0, was 20.1`; a program says its licence behind its version, a secret nothing.
fn was(difference: &Difference) -> String {
    let Difference { name, then, now, .. } = difference;
    let line = |text: &String| text.lines().next().unwrap_or_default().trim_matches('"').to_owned();
    match (now.as_ref().map(line), then.as_ref().map(line)) {
        (Some(now), Some(then))
            if now != then
                && now.chars().count().max(then.chars().count()) <= SHORT
                && !now.starts_with("secret ") =>
        {
            format!("{name} is {now}, was {then}")
        }
        (Some(_), None) => format!("{name} is new"),
        (None, _) => format!("{name} is not used any more"),
        _ => format!("{name} changed"),
    }
}

fn files(first: &Difference, differ: usize, of: usize) -> String {
    let how = match (&first.then, &first.now) {
        (None, _) => "is new",
        (_, None) => "is gone",
        _ => "changed",
    };
    if differ == 1 {
        return format!("{} {how}", first.name);
    }
    format!("{differ} of {of} inputs differ, first {}", first.name)
}

fn made(first: &str, more: usize) -> String {
    match more {
        0 => format!("{first} is not what it made"),
        more => format!("{first} and {more} more are not what it made"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Rows;
    use super::*;

    #[test]
    fn the_line_names_the_one_thing_that_differs() {
        type Case = (fn(&mut Key), &'static str);
        let rows = |rows: &[(&str, &str)]| -> Rows {
            rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let then = Key {
            values: rows(&[("env.level", "1"), ("secret.key", "secret aa")]),
            definition: rows(&[("script", "x")]),
            tools: rows(&[("node", "20.1\nlicence")]),
            files: rows(&[("a", "1"), ("b", "2")]),
        };
        let changed = |change: fn(&mut Key)| {
            let mut now = then.clone();
            change(&mut now);
            Stale::between(&now, &then).map(|stale| stale.to_string()).unwrap_or_default()
        };
        let cases: [Case; 9] = [
            (|_| {}, ""),
            (|key| drop(key.values.insert("env.level".into(), "2".into())), "env.level is 2, was 1"),
            (|key| drop(key.values.insert("secret.key".into(), "secret bb".into())), "secret.key changed"),
            (
                |key| drop(key.definition.insert("script".into(), "y".into())),
                "script of its definition changed",
            ),
            (|key| drop(key.tools.insert("node".into(), "22.0\nmore".into())), "node is 22.0, was 20.1"),
            (|key| drop(key.files.insert("b".into(), "3".into())), "b changed"),
            (|key| drop(key.files.insert("c".into(), "3".into())), "c is new"),
            (|key| drop(key.files.remove("a")), "a is gone"),
            (
                |key| key.files = [("a".into(), "9".into()), ("b".into(), "9".into())].into(),
                "2 of 2 inputs differ, first a",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(changed(change), expected);
        }
    }
}
