//! What people signed: approvals, rejections, and other statements about a plan.
//!
//! ```text
//! approvals/<plan digest>/<gate>/<key>-<n>.json
//! ```
//!
//! Each is a statement, word for word as it was signed, and the signature over
//! exactly these bytes. They are only ever created. Nothing here says whether
//! one counts: whoever can write to the store can put anything there, and what
//! is read is material to judge.

use std::hash::{BuildHasher as _, RandomState};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::names::{EnvName, FlowName, RunId, StepId};
use crate::world::files::FileError;
use crate::world::store::Store;

/// Version of the format.
pub const VERSION: u32 = 1;

/// What a statement says that it is, so that it is never taken for another signed text.
pub const TYPE: &str = "flow-statement";

/// What somebody decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The gate may open.
    Approve,
    /// The gate stays closed, whatever others say.
    Reject,
    /// The plan is theirs.
    Plan,
    /// The run may pass its gates without the other approvals.
    BreakGlass,
    /// A run that broke glass was looked at.
    Review,
    /// An effect of which nobody could tell was made, or was not.
    Mark,
}

/// A statement. The fields stand in the order of their names: that makes its JSON canonical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The environment's account.
    pub account: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// The environment.
    pub environment: EnvName,
    /// Until when it counts; `null` for always.
    pub expires: Option<Timestamp>,
    /// The flow.
    pub flow: FlowName,
    /// The gate, for approvals and rejections.
    pub gate: Option<StepId>,
    /// What it says of which effect, for marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Marked>,
    /// Makes every statement another one.
    pub nonce: String,
    /// Digest of the plan.
    pub plan: String,
    /// Digest of who may approve, as the plan has it.
    pub policy: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The run, for reviews and marks.
    pub run: Option<RunId>,
    /// The plan's number.
    pub sequence: u64,
    /// When it was signed.
    pub signed: Timestamp,
    /// [`TYPE`]
    #[serde(rename = "type")]
    pub sort: String,
    /// [`VERSION`]
    pub version: u32,
}

/// What a mark says, and of which effect. The fields stand in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marked {
    /// When the effect was announced: a later one of the same step is another one.
    pub announced: Timestamp,
    /// Whether it was made.
    pub done: bool,
    /// The step.
    pub step: StepId,
}

/// Where a statement is filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// Approvals and rejections of a gate.
    Gate(&'a StepId),
    /// Who made the plan.
    Plan,
    /// Who let a run pass.
    BreakGlass,
    /// Who looked at it afterwards.
    Review,
    /// Who said what became of an effect.
    Mark,
}

/// A statement as signed. Not verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// [`VERSION`]
    pub version: u32,
    /// The statement's bytes, as text.
    pub statement: String,
    /// The armoured signature over them.
    pub signature: String,
}

/// Something that lies where statements lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key in the store.
    pub key: String,
    /// The folder it lies in, as a gate's name: `go`, or one of flow's own that begins with `@`.
    pub place: String,
    /// What it is; `None` when that cannot be read.
    pub signed: Option<Signed>,
}

impl Statement {
    /// The bytes to sign.
    #[must_use]
    pub fn to_text(&self) -> String {
        // A statement has nothing that JSON could not hold.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a statement of this version; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let statement: Self = serde_json::from_str(text).ok()?;
        (statement.sort == TYPE && statement.version == VERSION).then_some(statement)
    }
}

impl Place<'_> {
    fn folder(self) -> String {
        match self {
            Self::Gate(gate) => file_name(&gate.to_string()),
            Self::Plan => "@plan".to_owned(),
            Self::BreakGlass => "@break-glass".to_owned(),
            Self::Review => "@review".to_owned(),
            Self::Mark => "@mark".to_owned(),
        }
    }
}

/// Files a statement and makes it last. `key` is the signing key's name for files.
pub fn put(
    store: &Store,
    plan: &str,
    place: Place<'_>,
    key: &str,
    signed: &Signed,
) -> Result<String, FileError> {
    let bytes = serde_json::to_vec(signed).unwrap_or_default();
    let mut number = 1_u32;
    loop {
        let name = format!("{}/{}/{key}-{number}.json", folder(plan), place.folder());
        if store.create(&name, &bytes)? {
            store.settle(&name)?;
            return Ok(name);
        }
        number += 1;
    }
}

/// Everything that lies under a plan, also what belongs to other gates.
pub fn all(store: &Store, plan: &str) -> Result<Vec<Found>, FileError> {
    let folder = folder(plan);
    let mut found = Vec::new();
    for place in store.list(&folder)? {
        for name in store.list(&format!("{folder}/{place}"))? {
            let key = format!("{folder}/{place}/{name}");
            let Some(bytes) = store.get(&key)? else { continue };
            let signed = serde_json::from_slice::<Signed>(&bytes).ok().filter(|s| s.version == VERSION);
            found.push(Found { key, place: place.clone(), signed });
        }
    }
    Ok(found)
}

/// What lies in one place.
pub fn at(store: &Store, plan: &str, place: Place<'_>) -> Result<Vec<Found>, FileError> {
    let mut found = all(store, plan)?;
    found.retain(|found| found.place == place.folder());
    Ok(found)
}

fn folder(plan: &str) -> String {
    format!("approvals/{}", file_name(plan))
}

/// What makes a statement different from every other one.
#[must_use]
pub fn nonce() -> String {
    // std seeds every hasher from the system's random source; uniqueness is all that is asked.
    let part = || RandomState::new().hash_one(0_u8);
    format!("{:016x}{:016x}", part(), part())
}

/// A name as one part of a path, whatever is in it.
fn file_name(name: &str) -> String {
    let mut safe = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    safe
}

/// Runs that broke glass, by environment, until somebody else has looked at them.
///
/// ```text
/// break-glass/<env>/<run>.json
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// [`VERSION`]
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Its flow.
    pub flow: FlowName,
    /// Digest of its plan.
    pub plan: String,
    /// Its number.
    pub sequence: u64,
    /// Who let it pass.
    pub by: String,
    /// With which key, `SHA256:…`.
    pub fingerprint: String,
    /// Why.
    pub reason: String,
    /// When.
    pub time: Timestamp,
}

/// Records that a run breaks glass. On disk once this returns.
pub fn break_glass(store: &Store, environment: &EnvName, broken: &Broken) -> Result<(), FileError> {
    let key = broken_key(environment, &broken.run);
    store.put(&key, &serde_json::to_vec(broken).unwrap_or_default())?;
    store.settle(&key)
}

/// All runs that broke glass in an environment, reviewed or not. What cannot be read is there as
/// `Err` with its run: it is not passed over.
pub fn broken(store: &Store, environment: &EnvName) -> Result<Vec<Result<Broken, RunId>>, FileError> {
    let mut all = Vec::new();
    for name in store.list(&format!("break-glass/{environment}"))? {
        let Some(run) = name.strip_suffix(".json").map(RunId::new) else { continue };
        let Some(bytes) = store.get(&broken_key(environment, &run))? else { continue };
        all.push(serde_json::from_slice(&bytes).map_err(|_| run));
    }
    Ok(all)
}

fn broken_key(environment: &EnvName, run: &RunId) -> String {
    format!("break-glass/{environment}/{run}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        Statement {
            account: Some("333333333333".to_owned()),
            decision: Decision::Approve,
            environment: EnvName::new("prod"),
            expires: Some("2026-11-21T08:12:00Z".parse().unwrap()),
            flow: FlowName::new("deploy"),
            gate: Some(StepId::parse("p/go[eu]")),
            mark: Some(Marked {
                announced: "2026-11-21T04:10:00Z".parse().unwrap(),
                done: true,
                step: StepId::parse("schema"),
            }),
            nonce: "n".to_owned(),
            plan: "7f3a".to_owned(),
            policy: None,
            reason: None,
            run: None,
            sequence: 7,
            signed: "2026-11-21T04:12:00Z".parse().unwrap(),
            sort: TYPE.to_owned(),
            version: VERSION,
        }
    }

    #[test]
    fn a_statement_is_canonical_and_strict() {
        let text = statement().to_text();
        let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert!(json.keys().is_sorted(), "{text}");
        assert_eq!(Statement::parse(&text), Some(statement()));
        for other in [
            text.replace("flow-statement", "flow-record"),
            text.replace("\"version\":1", "\"version\":2"),
            text.replace("\"nonce\"", "\"extra\":1,\"nonce\""),
            text.replace("approve", "perhaps"),
        ] {
            assert_eq!(Statement::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn statements_are_only_ever_added() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned());
        let gate = StepId::parse("p/go[eu]");
        let signed = |statement: &str| Signed {
            version: VERSION,
            statement: statement.to_owned(),
            signature: String::new(),
        };
        let put = |place, text| put(&store, "7f3a", place, "aa", &signed(text)).unwrap();
        assert_eq!(put(Place::Gate(&gate), "1"), "approvals/7f3a/p%2Fgo%5Beu%5D/aa-1.json");
        assert_eq!(put(Place::Gate(&gate), "2"), "approvals/7f3a/p%2Fgo%5Beu%5D/aa-2.json");
        put(Place::Plan, "3");
        store.put("approvals/7f3a/other/x.json", b"{").unwrap();
        let found = all(&store, "7f3a").unwrap();
        let texts: Vec<Option<&str>> =
            found.iter().map(|found| Some(found.signed.as_ref()?.statement.as_str())).collect();
        assert_eq!(texts, [Some("3"), None, Some("1"), Some("2")]);
        assert_eq!(at(&store, "7f3a", Place::Gate(&gate)).unwrap().len(), 2);
        assert!(all(&store, "91bc").unwrap().is_empty());
    }
}
