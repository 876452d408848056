//! Keyed digests by name: what a step counts by, without what it says.
//!
//! A plan of a hundred thousand steps holds half a million of them, so they are
//! kept as bytes in one piece; their JSON is an object of hexadecimal texts.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::world::digests::Sum;

/// Digests by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seals {
    /// Sorted by name, and each name once.
    rows: Vec<(Box<str>, Sum)>,
}

impl Seals {
    /// Adds one, or replaces it.
    pub fn insert(&mut self, name: &str, sum: Sum) {
        match self.place(name) {
            Ok(at) => self.rows[at].1 = sum,
            Err(at) => self.rows.insert(at, (name.into(), sum)),
        }
    }

    /// The digest of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Sum> {
        self.rows.get(self.place(name).ok()?).map(|(_, sum)| sum)
    }

    /// All of them in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Sum)> {
        self.rows.iter().map(|(name, sum)| (&**name, sum))
    }

    /// Their names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.rows.binary_search_by(|(other, _)| (**other).cmp(name))
    }
}

impl Serialize for Seals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, sum)| (name, sum.to_string())))
    }
}

impl<'de> Deserialize<'de> for Seals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Seals;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("digests by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Seals, A::Error> {
                let mut seals = Seals::default();
                while let Some((name, text)) = members.next_entry::<String, String>()? {
                    let sum = Sum::parse(&text).ok_or_else(|| A::Error::custom("this is no SHA-256"))?;
                    seals.insert(&name, sum);
                }
                Ok(seals)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    proptest! {
        #[test]
        fn they_read_as_a_sorted_map_does(rows in prop::collection::vec((".{0,3}", any::<[u8; 32]>()), 0..9)) {
            let (mut seals, mut map) = (Seals::default(), BTreeMap::new());
            for (name, sum) in rows {
                seals.insert(&name, Sum(sum));
                map.insert(name, Sum(sum).to_string());
            }
            for (name, text) in &map {
                prop_assert_eq!(&seals.get(name).expect("it was put in").to_string(), text);
            }
            let json = serde_json::to_string(&seals).expect("JSON");
            prop_assert_eq!(&json, &serde_json::to_string(&map).expect("JSON"));
            prop_assert_eq!(serde_json::from_str::<Seals>(&json).expect("seals"), seals);
        }
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in [r#"{"a":"1f"}"#, r#"{"a":1}"#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(64))] {
            assert!(serde_json::from_str::<Seals>(text).is_err(), "{text}");
        }
    }
}
