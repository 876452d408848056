//! Who may approve what in an environment.
//!
//! A [`Policy`] comes from the flow files, or from the environment's record in
//! its own account. Where there is a record it stands above the files: they may
//! ask for more, never for less, since they come from the tree that is being
//! deployed. Pure: reading and signatures are elsewhere.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::names::EnvName;

/// How long an approval counts when its gate does not say.
pub const LIFETIME: Duration = Duration::from_hours(4);

/// Who may approve in an environment, and what is asked at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The environment.
    pub environment: EnvName,
    /// Where it was read.
    pub source: Source,
    /// Typed answers count for nothing where there is a record.
    pub protected: bool,
    /// How many must approve at least.
    pub count: u64,
    /// Whoever made a plan may not approve it.
    pub four_eyes: bool,
    /// Globs of branches that a deploy may come from; empty for any.
    pub branches: Vec<String>,
    /// Globs of tags that a deploy may come from; empty for any.
    pub tags: Vec<String>,
    /// Where the records of the environment lie, as written; `null` for the usual folder.
    pub store: Option<String>,
    /// Who may sign. A person with several keys is there several times.
    pub approvers: Vec<Person>,
}

/// Where a policy was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The flow files: there is no record, or nothing that a record is asked for.
    Files,
    /// The record in the environment's account.
    Record,
}

/// One key of somebody who may sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The person.
    pub name: String,
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub key: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// The group they answer for.
    pub group: Option<String>,
    /// Until when the key counts.
    pub valid_before: Option<Timestamp>,
}

/// What a gate asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Names, or `group:NAME`; empty for anybody on the list.
    pub from: Vec<String>,
    /// How many persons.
    pub count: u64,
    /// Whoever made the plan may not approve it.
    pub four_eyes: bool,
    /// How long an approval counts, in seconds.
    pub lifetime_s: u64,
}

/// The files ask for less than the record, or for something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loosened {
    /// `protected` is gone.
    #[error("the files no longer say that {0} is protected, and its record does")]
    Unprotected(EnvName),
    /// Somebody the record does not know.
    #[error("the files name {name} as an approver of {environment}, and its record does not")]
    Approver {
        /// Who.
        name: String,
        /// Where.
        environment: EnvName,
    },
    /// A key that the record does not know.
    #[error("the files give {name} a key that the record of {environment} does not have ({fingerprint})")]
    Key {
        /// Whose.
        name: String,
        /// The key.
        fingerprint: String,
        /// Where.
        environment: EnvName,
    },
    /// Another group.
    #[error("the files put {name} into {files}, and the record of {environment} says {record}")]
    Group {
        /// Who.
        name: String,
        /// As the files have it.
        files: String,
        /// As the record has it.
        record: String,
        /// Where.
        environment: EnvName,
    },
    /// Records and approvals would be looked for elsewhere.
    #[error("the files keep the records of {environment} in {files}, and its record says {record}")]
    Store {
        /// As the files have it.
        files: String,
        /// As the record has it.
        record: String,
        /// Where.
        environment: EnvName,
    },
}

impl Policy {
    /// What holds when the record says `self` and the tree says `files`: the stricter of the two.
    pub fn tightened_by(&self, files: &Self) -> Result<Self, Loosened> {
        let environment = || self.environment.clone();
        if self.protected && !files.protected {
            return Err(Loosened::Unprotected(environment()));
        }
        if self.store != files.store {
            let show =
                |store: &Option<String>| store.clone().unwrap_or_else(|| "the usual folder".to_owned());
            return Err(Loosened::Store {
                files: show(&files.store),
                record: show(&self.store),
                environment: environment(),
            });
        }
        let mut kept = Vec::new();
        for person in &files.approvers {
            let known = self.known(person)?;
            let earlier = [known.valid_before, person.valid_before].into_iter().flatten().min();
            kept.push(Person { valid_before: earlier, ..known.clone() });
        }
        if files.approvers.is_empty() {
            kept.clone_from(&self.approvers);
        }
        Ok(Self {
            source: Source::Record,
            protected: files.protected,
            count: self.count.max(files.count),
            four_eyes: self.four_eyes || files.four_eyes,
            approvers: kept,
            ..self.clone()
        })
    }

    /// The record's entry of somebody whom the files name.
    fn known(&self, person: &Person) -> Result<&Person, Loosened> {
        let environment = || self.environment.clone();
        let mut named = self.approvers.iter().filter(|known| known.name == person.name).peekable();
        if named.peek().is_none() {
            return Err(Loosened::Approver { name: person.name.clone(), environment: environment() });
        }
        let Some(known) = named.find(|known| known.key == person.key) else {
            return Err(Loosened::Key {
                name: person.name.clone(),
                fingerprint: person.fingerprint.clone(),
                environment: environment(),
            });
        };
        if known.group != person.group {
            let show = |group: &Option<String>| {
                group.as_ref().map_or_else(|| "no group".to_owned(), |group| format!("group {group}"))
            };
            return Err(Loosened::Group {
                name: person.name.clone(),
                files: show(&person.group),
                record: show(&known.group),
                environment: environment(),
            });
        }
        Ok(known)
    }

    /// Whose key this is, if it is on the list.
    #[must_use]
    pub fn owner(&self, key: &str) -> Option<&Person> {
        self.approvers.iter().find(|person| person.key == key)
    }

    /// The names on the list, each once, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.of(&[])
    }

    /// The names that may answer for these, each once, in order.
    #[must_use]
    pub fn of(&self, from: &[String]) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for person in self.approvers.iter().filter(|person| person.answers_for(from)) {
            if !names.contains(&person.name.as_str()) {
                names.push(&person.name);
            }
        }
        names
    }

    /// What a gate asks for here: what it says, and at least what the environment says.
    #[must_use]
    pub fn applied_to(&self, rule: &Rule) -> Rule {
        Rule {
            count: rule.count.max(self.count).max(1),
            four_eyes: rule.four_eyes || self.four_eyes,
            ..rule.clone()
        }
    }

    /// Whether a gate without `from`, `count` and `four-eyes` needs signatures here all the same.
    #[must_use]
    pub fn wants_signatures(&self) -> bool {
        (self.protected && self.source == Source::Record) || self.count > 1 || self.four_eyes
    }
}

impl Person {
    /// Whether an approval of theirs counts where these are asked.
    #[must_use]
    pub fn answers_for(&self, from: &[String]) -> bool {
        from.is_empty()
            || from.iter().any(|who| match who.strip_prefix("group:") {
                Some(group) => self.group.as_deref() == Some(group),
                None => self.name == *who,
            })
    }

    /// Whether the key counted at a moment.
    #[must_use]
    pub fn counted_at(&self, moment: Timestamp) -> bool {
        self.valid_before.is_none_or(|end| moment < end)
    }
}

impl Rule {
    /// `1 of group ops`, `2`.
    #[must_use]
    pub fn show(&self) -> String {
        let from: Vec<String> = self.from.iter().map(|who| who.replacen("group:", "group ", 1)).collect();
        let of = if from.is_empty() { String::new() } else { format!(" of {}", from.join(", ")) };
        format!("{}{of}", self.count)
    }

    /// Whether an answer that is typed does not open such a gate under these policies.
    #[must_use]
    pub fn wants_signatures(&self, policies: &[Policy]) -> bool {
        !self.from.is_empty()
            || self.count > 0
            || self.four_eyes
            || policies.iter().any(Policy::wants_signatures)
    }

    /// How long an approval counts.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        if self.lifetime_s == 0 { LIFETIME } else { Duration::from_secs(self.lifetime_s) }
    }
}

/// Reads `2026-12-31`, a date with a time, or what OpenSSH takes (`20261231`, `202612312359Z`).
/// Without a zone it is UTC; a date alone is its first moment.
#[must_use]
pub fn parse_moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let utc = |at: DateTime| at.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let format = match digits.len() {
            8 => return utc(Date::strptime("%Y%m%d", digits).ok()?.at(0, 0, 0, 0)),
            12 => "%Y%m%d%H%M",
            14 => "%Y%m%d%H%M%S",
            _ => return None,
        };
        return utc(DateTime::strptime(format, digits).ok()?);
    }
    if let Ok(date) = text.parse::<Date>()
        && text.len() == 10
    {
        return utc(date.at(0, 0, 0, 0));
    }
    utc(text.parse::<DateTime>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, key: &str, group: Option<&str>) -> Person {
        Person {
            name: name.to_owned(),
            key: key.to_owned(),
            fingerprint: format!("SHA256:{key}"),
            group: group.map(str::to_owned),
            valid_before: None,
        }
    }

    fn policy(approvers: &[Person]) -> Policy {
        Policy {
            environment: EnvName::new("prod"),
            source: Source::Files,
            protected: true,
            count: 1,
            four_eyes: false,
            branches: Vec::new(),
            tags: Vec::new(),
            store: None,
            approvers: approvers.to_vec(),
        }
    }

    #[test]
    fn the_files_may_only_ask_for_more() {
        let ada = person("ada", "A", Some("ops"));
        let lin = person("lin", "L", Some("ops"));
        let record = policy(&[ada.clone(), lin.clone()]);
        let said = |files: &Policy| record.tightened_by(files).unwrap_err().to_string();
        assert_eq!(
            said(&Policy { protected: false, ..record.clone() }),
            "the files no longer say that prod is protected, and its record does"
        );
        assert_eq!(
            said(&policy(&[ada.clone(), person("eve", "E", Some("ops"))])),
            "the files name eve as an approver of prod, and its record does not"
        );
        assert_eq!(
            said(&policy(&[person("ada", "E", Some("ops"))])),
            "the files give ada a key that the record of prod does not have (SHA256:E)"
        );
        assert_eq!(
            said(&policy(&[person("ada", "A", Some("dba"))])),
            "the files put ada into group dba, and the record of prod says group ops"
        );
        assert_eq!(
            said(&Policy { store: Some("mine".to_owned()), ..record.clone() }),
            "the files keep the records of prod in mine, and its record says the usual folder"
        );

        let stricter = Policy { count: 2, four_eyes: true, ..policy(std::slice::from_ref(&ada)) };
        let holds = record.tightened_by(&stricter).unwrap();
        assert_eq!((holds.count, holds.four_eyes, holds.names()), (2, true, vec!["ada"]));
        assert_eq!(holds.source, Source::Record);
        let silent = record.tightened_by(&policy(&[])).unwrap();
        assert_eq!(silent.names(), ["ada", "lin"], "files that name nobody leave it to the record");

        let end = "2026-12-31T00:00:00Z".parse().unwrap();
        let short = Person { valid_before: Some(end), ..ada };
        let holds = record.tightened_by(&policy(&[short])).unwrap();
        assert_eq!(holds.approvers[0].valid_before, Some(end), "a key may end sooner");
    }

    #[test]
    fn people_are_counted_and_not_keys() {
        let policy =
            policy(&[person("ada", "A", Some("ops")), person("ada", "B", None), person("lin", "L", None)]);
        assert_eq!(policy.names(), ["ada", "lin"]);
        assert_eq!(policy.of(&["group:ops".to_owned()]), ["ada"]);
        assert_eq!(policy.of(&["group:dba".to_owned(), "lin".to_owned()]), ["lin"]);
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2026-12-31", "2026-12-31T00:00:00Z"),
            ("20261231", "2026-12-31T00:00:00Z"),
            ("202612312359Z", "2026-12-31T23:59:00Z"),
            ("20261231235959", "2026-12-31T23:59:59Z"),
            ("2026-12-31T12:00:00+02:00", "2026-12-31T10:00:00Z"),
            ("2026-12-31T12:00:00", "2026-12-31T12:00:00Z"),
        ] {
            assert_eq!(parse_moment(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "soon", "2026", "2026-13-01"] {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }
}
