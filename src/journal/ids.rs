//! Run ids: short, easy to read out, hard to mistake for one another.

use std::hash::{BuildHasher, RandomState};

use crate::model::names::RunId;

/// Consonants and digits: no words by accident, nothing that looks like something else.
const ALPHABET: &[u8] = b"bcdfghjkmnpqrstvwxz23456789";

/// Characters of an id: half a million ids.
const LENGTH: u32 = 4;

/// How often an id may be taken before longer ones are made.
const PATIENCE: u32 = 32;

/// A candidate for the n-th try, from 0. Whether it is free is decided by creating its journal.
#[must_use]
pub fn candidate(attempt: u32) -> RunId {
    let mut text = String::new();
    // std seeds every hasher from the system's random source; nothing secret hangs on it.
    let mut random = RandomState::new().hash_one(attempt);
    for _ in 0..LENGTH + attempt / PATIENCE {
        let base = ALPHABET.len() as u64;
        let index = usize::try_from(random % base).unwrap_or_default();
        text.extend(ALPHABET.get(index).map(|byte| char::from(*byte)));
        random /= base;
    }
    RunId::new(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_short_and_different() {
        let ids: BTreeSet<RunId> = (0..PATIENCE).map(candidate).collect();
        assert!(ids.len() >= 30, "{ids:?}");
        for id in &ids {
            assert_eq!(id.as_str().len(), 4);
            assert!(id.as_str().bytes().all(|byte| ALPHABET.contains(&byte)), "{id}");
        }
        assert_eq!(candidate(PATIENCE).as_str().len(), 5);
    }
}
