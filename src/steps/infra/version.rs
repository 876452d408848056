//! Versions of programs, and what a flow demands of them.

use std::cmp::Ordering;
use std::fmt;

/// A version as a program tells it: numbers, and what follows them (`-beta1`). Without numbers it is
/// not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::steps) struct Version {
    numbers: Vec<u64>,
    rest: String,
}

impl Version {
    /// The first version in a text: `Terraform v1.11.4`, `2.1148.1 (build ab12)`.
    pub(in crate::steps) fn find(text: &str) -> Option<Self> {
        text.split(|c: char| c.is_whitespace() || "\"',()/".contains(c)).find_map(Self::parse)
    }

    /// `1.11.4`, `v3.200.0`, `1.12.0-beta1`; at least two numbers.
    fn parse(word: &str) -> Option<Self> {
        let word = word.strip_prefix('v').unwrap_or(word);
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let (numbers, rest) = word.split_at(end);
        let numbers = numbers.split('.').map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        (numbers.len() > 1).then(|| Self { numbers, rest: rest.to_owned() })
    }

    /// Compares the numbers; missing ones are zero. What follows them does not count.
    fn compare(&self, other: &[u64]) -> Ordering {
        let length = self.numbers.len().max(other.len());
        let at = |numbers: &[u64], place: usize| numbers.get(place).copied().unwrap_or(0);
        let each = (0..length).map(|place| at(&self.numbers, place).cmp(&at(other, place)));
        each.fold(Ordering::Equal, Ordering::then)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.numbers.iter().map(u64::to_string).collect();
        write!(f, "{}{}", numbers.join("."), self.rest)
    }
}

/// Bounds that a version must meet, all of them: `>=1.5`, `>=1.5 <2`, `1.11`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) struct Requirement {
    text: String,
    bounds: Vec<(Bound, Vec<u64>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AtLeast,
    Above,
    AtMost,
    Below,
    /// The same as far as it is written: `1.11` is any 1.11.x.
    Is,
}

const BOUNDS: [(&str, Bound); 5] = [
    (">=", Bound::AtLeast),
    ("<=", Bound::AtMost),
    (">", Bound::Above),
    ("<", Bound::Below),
    ("=", Bound::Is),
];

impl Requirement {
    /// Reads it; the error says what is wrong.
    pub(in crate::steps) fn parse(text: &str) -> Result<Self, String> {
        let mut bounds = Vec::new();
        // A blank may stand behind the sign.
        let mut sign = None;
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            let (bound, number) = BOUNDS
                .iter()
                .find_map(|(prefix, bound)| Some((Some(*bound), word.strip_prefix(prefix)?)))
                .unwrap_or((None, word));
            if number.is_empty() {
                sign = bound;
                continue;
            }
            let number = number.strip_prefix('v').unwrap_or(number);
            let numbers = number.split('.').map(str::parse).collect::<Result<Vec<u64>, _>>();
            let numbers = numbers
                .map_err(|_| format!("\"{text}\" is no version; write >=1.5, \">=1.5 <2\" or 1.11"))?;
            bounds.push((bound.or(sign.take()).unwrap_or(Bound::Is), numbers));
        }
        if bounds.is_empty() {
            return Err(format!("\"{text}\" is no version; write >=1.5, \">=1.5 <2\" or 1.11"));
        }
        Ok(Self { text: text.to_owned(), bounds })
    }

    /// Whether a version will do.
    pub(in crate::steps) fn is_met_by(&self, version: &Version) -> bool {
        self.bounds.iter().all(|(bound, wanted)| match bound {
            Bound::AtLeast => version.compare(wanted).is_ge(),
            Bound::Above => version.compare(wanted).is_gt(),
            Bound::AtMost => version.compare(wanted).is_le(),
            Bound::Below => version.compare(wanted).is_lt(),
            Bound::Is => version.numbers.get(..wanted.len()) == Some(wanted),
        })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_a_program_says() {
        for (text, found) in [
            ("Terraform v1.11.4\non linux_amd64", Some("1.11.4")),
            ("v3.200.0", Some("3.200.0")),
            ("2.1148.1 (build ab12)", Some("2.1148.1")),
            ("SAM CLI, version 1.170.0", Some("1.170.0")),
            ("{\"terraform_version\":\"1.12.0-beta1\"}", Some("1.12.0-beta1")),
            ("usage: x [4]", None),
        ] {
            let version = Version::find(text).map(|version| version.to_string());
            assert_eq!(version.as_deref(), found, "{text}");
        }
    }

    #[test]
    fn bounds_hold_together() {
        let version = Version::find("1.11.4").unwrap();
        for (text, met) in [
            (">=1.0", true),
            (">= 1.11.4", true),
            (">1.11.4", false),
            (">=1.5 <2", true),
            (">=1.5, <1.11", false),
            ("<=1.11.4", true),
            ("1.11", true),
            ("1.1", false),
            ("=1.11.3", false),
            (">=1.11.4.1", false),
        ] {
            assert_eq!(Requirement::parse(text).unwrap().is_met_by(&version), met, "{text}");
        }
        assert_eq!(
            Requirement::parse("newest").unwrap_err(),
            "\"newest\" is no version; write >=1.5, \">=1.5 <2\" or 1.11"
        );
        assert!(Requirement::parse(">=").is_err());
    }
}
