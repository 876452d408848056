//! Plans as they were made, by digest: what approvals are bound to, and what a
//! resumed run is compared with.
//!
//! Bytes only: what they mean, and whether they are as they were written, is
//! `plan`'s to say.

use crate::world::files::FileError;
use crate::world::store::Store;

/// A prefix of a digest must have so many digits to name a plan.
pub const SHORTEST: usize = 6;

/// A plan that could not be found by what was typed.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The file system's word.
    #[error(transparent)]
    File(#[from] FileError),
    /// None.
    #[error("there is no plan {0}")]
    None(String),
    /// Several.
    #[error("{typed} could be {}", .matching.join(", "))]
    Several {
        /// What was typed.
        typed: String,
        /// Their digests, shortened.
        matching: Vec<String>,
    },
}

/// Whether a text can be the beginning of a digest.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    (SHORTEST..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Keeps a plan; its name lasts once this returns. The same plan again is the same.
pub fn put(store: &Store, digest: &str, bytes: &[u8]) -> Result<(), FileError> {
    let key = key(digest);
    // The newest has the newest times; all else is what the digest says.
    store.put(&key, bytes)?;
    store.settle(&key)
}

/// Keeps a plan that changes nothing for anybody else: it need not survive a power failure.
pub fn remember(store: &Store, digest: &str, bytes: &[u8]) -> Result<(), FileError> {
    store.remember(&key(digest), bytes)
}

/// The plan of a digest, or of a prefix that only one has; with its whole digest.
pub fn find(store: &Store, typed: &str) -> Result<(String, Vec<u8>), FindError> {
    let wanted = typed.to_ascii_lowercase();
    let names = store.list("plans")?;
    let digests = names.iter().filter_map(|name| name.strip_suffix(".json"));
    let matching: Vec<&str> = digests.filter(|digest| digest.starts_with(&wanted)).collect();
    let none = || FindError::None(typed.to_owned());
    match matching.as_slice() {
        _ if !is_digest(&wanted) => Err(none()),
        [] => Err(none()),
        [one] => Ok(((*one).to_owned(), store.get(&key(one))?.ok_or_else(none)?)),
        several => Err(FindError::Several {
            typed: typed.to_owned(),
            matching: several.iter().map(|digest| digest.chars().take(12).collect()).collect(),
        }),
    }
}

fn key(digest: &str) -> String {
    format!("plans/{digest}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_prefix_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let (a, b) = (format!("7f3a9c21{}", "0".repeat(56)), format!("7f3a9c22{}", "0".repeat(56)));
        put(&store, &a, b"a").unwrap();
        put(&store, &b, b"b").unwrap();
        assert_eq!(find(&store, "7f3a9c21").unwrap(), (a.clone(), b"a".to_vec()));
        assert_eq!(find(&store, "7F3A9C22").unwrap().1, b"b");
        let said = |typed: &str| find(&store, typed).unwrap_err().to_string();
        assert_eq!(said("7f3a9c2"), "7f3a9c2 could be 7f3a9c210000, 7f3a9c220000");
        for typed in ["7f3a9", "91bc00", "deploy", "../../x"] {
            assert_eq!(said(typed), format!("there is no plan {typed}"));
        }
    }
}
