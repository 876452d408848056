//! The key itself: rows in four parts, and the one walk over them.
//!
//! The hash, the text of `flow explain` and the difference to another key all
//! come from [`Key::walk`], so that what is hashed and what is shown cannot
//! drift apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::world::depot::Hasher;

/// Rows by name.
pub type Rows = BTreeMap<String, String>;

/// Everything that decides what a step makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What its references stand for: `env.level`, `step.gen.version`.
    pub values: Rows,
    /// What is run, and how, after substitution.
    pub definition: Rows,
    /// Versions of programs.
    pub tools: Rows,
    /// Digests of inputs by path.
    pub files: Rows,
}

/// A part of a key. Their order is that in which differences are told: what a person changed comes
/// before what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What a reference stands for.
    Value,
    /// A setting or attribute.
    Definition,
    /// A program's version.
    Tool,
    /// An input.
    File,
}

impl Part {
    /// As `flow explain` writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Definition => "definition",
            Self::Tool => "tool",
            Self::File => "file",
        }
    }
}

/// Sees every row of a key, in order.
pub trait Visitor {
    /// One row.
    fn row(&mut self, part: Part, name: &str, value: &str);
}

impl Key {
    fn parts(&self) -> [(Part, &Rows); 4] {
        [
            (Part::Value, &self.values),
            (Part::Definition, &self.definition),
            (Part::Tool, &self.tools),
            (Part::File, &self.files),
        ]
    }

    /// Shows every row to a visitor.
    pub fn walk(&self, visitor: &mut impl Visitor) {
        for (part, rows) in self.parts() {
            for (name, value) in rows {
                visitor.row(part, name, value);
            }
        }
    }

    /// SHA-256 of the whole, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = Hasher::default();
        self.walk(&mut hasher);
        hasher.finish()
    }

    /// Every row that differs from another key, in the order of the parts.
    #[must_use]
    pub fn differences(&self, then: &Self) -> Vec<Difference> {
        let mut all = Vec::new();
        for ((part, now), (_, then)) in self.parts().into_iter().zip(then.parts()) {
            let names: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
            let differing = names.into_iter().filter(|name| now.get(*name) != then.get(*name));
            all.extend(differing.map(|name| Difference {
                part,
                name: name.clone(),
                then: then.get(name).cloned(),
                now: now.get(name).cloned(),
            }));
        }
        all
    }
}

/// Each text with its length in front, so that no two keys look the same.
impl Visitor for Hasher {
    fn row(&mut self, part: Part, name: &str, value: &str) {
        for text in [part.name(), name, value] {
            self.add(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            self.add(text.as_bytes());
        }
    }
}

/// A row in which two keys differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where.
    pub part: Part,
    /// Which.
    pub name: String,
    /// What it was; absent when it was not there.
    pub then: Option<String>,
    /// What it is; absent when it is not there any more.
    pub now: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, &str)]) -> Rows {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_row_counts_and_says_where_it_stands() {
        let key = Key { definition: rows(&[("ab", "c")]), files: rows(&[("a", "1")]), ..Key::default() };
        let others = [
            Key { definition: rows(&[("a", "bc")]), ..key.clone() },
            Key { tools: rows(&[("ab", "c")]), definition: Rows::new(), ..key.clone() },
            Key { files: rows(&[("a", "1"), ("b", "")]), ..key.clone() },
            Key { files: Rows::new(), ..key.clone() },
        ];
        for other in others {
            assert_ne!(key.digest(), other.digest(), "{other:?}");
            assert!(!key.differences(&other).is_empty());
        }
        assert_eq!(key.digest(), key.clone().digest());
        assert_eq!(key.differences(&key), []);
    }
}
