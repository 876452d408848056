//! A plan that was saved: as it was written, still to be run, or why not.
//!
//! Two things protect it. Its digest, which approvals are bound to, covers what
//! decides what will happen and can be computed by anybody from the JSON. Its
//! seal, a keyed digest with the store's key, covers every other word as well:
//! what somebody reads before saying yes is what flow wrote.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use crate::journal::sequence::{self, Taken};
use crate::model::names::{EnvName, FlowName};
use crate::world::files::FileError;
use crate::world::keyed::Sealer;
use crate::world::store::Store;

use super::backwards::Wish;
use super::canonical::canonical;
use super::compare::{Difference, differences};
use super::document::{Plan, VERSION};
use super::prepare::Request;

/// How long a plan may be run.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// The member of the JSON that holds the seal.
const SEAL: &str = "seal";

/// Why a saved plan is not run.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// It is none.
    #[error("this is no plan: {0}")]
    NotAPlan(String),
    /// A newer flow wrote it.
    #[error("this plan has version {0}, and this flow reads up to {VERSION}")]
    Newer(u64),
    /// Somebody changed it.
    #[error("the plan was altered after it was made")]
    Altered,
    /// It is of another flow.
    #[error("this plan is for flow {planned}, not {given}")]
    OtherFlow {
        /// Its own.
        planned: FlowName,
        /// As typed.
        given: FlowName,
    },
    /// It is for another environment.
    #[error("this plan is for {planned}, not {given}")]
    OtherEnvironment {
        /// Its own.
        planned: EnvName,
        /// As typed.
        given: EnvName,
    },
    /// Another flow made it, which may do something else for the same words.
    #[error("this plan was made by flow {planned}, and this is flow {ours}", ours = env!("CARGO_PKG_VERSION"))]
    OtherVersion {
        /// The version that made it.
        planned: String,
    },
    /// Its time is over.
    #[error("this plan has expired")]
    Expired {
        /// When.
        since: Timestamp,
    },
    /// A run has used it.
    #[error("this plan was used by run {}", .0.run)]
    Used(Box<Taken>),
    /// Another run has changed something since.
    #[error("another run came in between{}", .by.as_ref().map(|taken| format!(": {}", taken.run)).unwrap_or_default())]
    Overtaken {
        /// The one that took its number, where its record can be read.
        by: Option<Box<Taken>>,
    },
    /// It was made from records that this store does not have.
    #[error(
        "this plan was made with another store: it is number {planned}, and number {next} comes next here"
    )]
    OtherStore {
        /// Its number.
        planned: u64,
        /// The next one here.
        next: u64,
    },
    /// What it was made from is another now.
    #[error("the world changed since this plan was made")]
    Changed {
        /// When it was made.
        created: Timestamp,
        /// What differs.
        differences: Vec<Difference>,
    },
}

/// A plan as it is saved.
#[must_use]
pub fn write(plan: &Plan, sealer: &Sealer) -> Vec<u8> {
    let mut json = to_json(plan, sealer).to_string().into_bytes();
    json.push(b'\n');
    json
}

/// The JSON of a plan, sealed.
#[must_use]
pub fn to_json(plan: &Plan, sealer: &Sealer) -> Json {
    let mut json = serde_json::to_value(plan).unwrap_or_default();
    let seal = sealer.digest(&canonical(&json));
    if let Some(members) = json.as_object_mut() {
        members.insert(SEAL.to_owned(), seal.into());
    }
    json
}

/// What was saved, not verified yet: what it says of its environment tells which store has the key.
pub fn read(bytes: &[u8]) -> Result<Unverified, Refusal> {
    let wrong = |error: serde_json::Error| Refusal::NotAPlan(error.to_string());
    let mut json: Json = serde_json::from_slice(bytes).map_err(wrong)?;
    let version = json.get("version").and_then(Json::as_u64);
    let version = version.ok_or_else(|| Refusal::NotAPlan("it has no version".to_owned()))?;
    if version > u64::from(VERSION) {
        return Err(Refusal::Newer(version));
    }
    let seal = json.as_object_mut().and_then(|members| members.shift_remove(SEAL));
    let seal = seal.and_then(|seal| Some(seal.as_str()?.to_owned())).unwrap_or_default();
    let plan = serde_json::from_value(json.clone()).map_err(wrong)?;
    Ok(Unverified { json, seal, plan })
}

/// A plan that anybody may have written.
#[derive(Debug)]
pub struct Unverified {
    json: Json,
    seal: String,
    plan: Plan,
}

impl Unverified {
    /// The environment that it says it is for.
    #[must_use]
    pub fn environment(&self) -> &EnvName {
        &self.plan.environment.name
    }

    /// The plan, if every word of it is as flow wrote it.
    pub fn verify(self, sealer: &Sealer) -> Result<Plan, Refusal> {
        let steps = self.plan.steps.iter().all(|step| step.digest == step.covered());
        let digest = self.plan.digest == self.plan.covered();
        let whole = self.seal == sealer.digest(&canonical(&self.json));
        if steps && digest && whole { Ok(self.plan) } else { Err(Refusal::Altered) }
    }
}

/// Whether a plan may still be run, as far as its own words and the store say.
pub fn check_unused(plan: &Plan, store: &Store, now: Timestamp) -> Result<Result<(), Refusal>, FileError> {
    let (environment, flow) = (&plan.environment.name, &plan.flow);
    let next = sequence::next(store, environment, flow)?;
    if plan.sequence > next {
        return Ok(Err(Refusal::OtherStore { planned: plan.sequence, next }));
    }
    if plan.sequence < next {
        let taken = sequence::get(store, environment, flow, plan.sequence)?.map(Box::new);
        return Ok(Err(match taken {
            Some(taken) if taken.plan == plan.digest => Refusal::Used(taken),
            by => Refusal::Overtaken { by },
        }));
    }
    if plan.flow_version != env!("CARGO_PKG_VERSION") {
        return Ok(Err(Refusal::OtherVersion { planned: plan.flow_version.clone() }));
    }
    for inside in &plan.inside {
        let next = sequence::next(store, environment, &inside.flow)?;
        if inside.sequence != next {
            let by = sequence::get(store, environment, &inside.flow, inside.sequence)?.map(Box::new);
            return Ok(Err(Refusal::Overtaken { by }));
        }
    }
    Ok(match plan.expires {
        Some(expires) if now >= expires => Err(Refusal::Expired { since: expires }),
        _ => Ok(()),
    })
}

/// Whether the world is still the one that a plan was made for.
pub fn check_unchanged(saved: &Plan, fresh: &Plan) -> Result<(), Refusal> {
    let differences = differences(saved, fresh, &std::collections::BTreeSet::new());
    if differences.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Changed { created: saved.created, differences })
    }
}

/// The request that a plan answers.
#[must_use]
pub fn request(plan: &Plan) -> Request {
    let text = |name: &String| {
        let value = crate::model::value::Value::from_json(plan.selection.params.get(name)?);
        Some((name.clone(), value.as_text()?))
    };
    Request {
        flow: plan.flow.clone(),
        environment: plan.environment.name.clone(),
        typed: plan.selection.typed.clone(),
        params: plan.selection.given.iter().filter_map(text).collect(),
        no_cache: plan.selection.no_cache,
        untrusted: false,
        resumes: None,
        back: plan.back_to.map(|to| Wish { to: Some(to), incident: plan.incident }),
        inside: plan.inside.iter().map(|inside| (inside.step.clone(), inside.back_to)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::{Action, Change, Reversible};
    use crate::model::names::StepId;
    use crate::plan::basis::{Basis, PlanBasis};
    use crate::plan::document::{PlannedEnvironment, PlannedSelection, PlannedStep, Source};

    fn sealer() -> (tempfile::TempDir, Sealer) {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::load(&Store::folder(folder.path().to_owned())).unwrap();
        (folder, sealer)
    }

    fn plan() -> Plan {
        let step = |id: &str, decided: bool| PlannedStep {
            id: StepId::parse(id),
            kind: "ecs-deploy".to_owned(),
            group: None,
            heading: None,
            needs: Vec::new(),
            action: Action::Update,
            summary: "roll 2 tasks".to_owned(),
            subject: "shop-api:41 → :42".to_owned(),
            changes: vec![Change::new("memory", "512".to_owned(), "1024".to_owned())],
            warnings: Vec::new(),
            reversible: Reversible::Auto,
            cached: false,
            basis: Basis {
                baseline: serde_json::json!({ "task definition": "shop-api:41", "load": 1.5 }),
                decided,
                ..Basis::default()
            },
            digest: String::new(),
            upkeep: false,
            outputs: crate::model::value::Outputs::new(),
            receipt: Json::Null,
            standing: Json::Null,
            hangs_on: std::collections::BTreeSet::new(),
        };
        let mut plan = Plan {
            version: VERSION,
            flow: FlowName::new("deploy"),
            environment: PlannedEnvironment { name: EnvName::new("prod"), account: None, region: None },
            digest: String::new(),
            back_to: None,
            incident: None,
            inside: Vec::new(),
            sequence: 1,
            created: "2026-11-21T04:12:00Z".parse().unwrap(),
            expires: Some("2026-11-22T04:12:00Z".parse().unwrap()),
            flow_version: "0.4.0".to_owned(),
            policy: None,
            approvals: crate::plan::gates::PlannedApprovals::default(),
            source: Source { commit: None, dirty: Some(false), files_digest: "f".to_owned() },
            selection: PlannedSelection {
                typed: crate::plan::selection::Typed::default(),
                params: [("tag".to_owned(), "v1".into())].into(),
                given: ["tag".to_owned()].into(),
                from_release: Vec::new(),
                no_cache: false,
            },
            basis: PlanBasis::default(),
            live: None,
            notes: Vec::new(),
            steps: vec![step("service[api]", true), step("service[web]", false)],
            counts: std::collections::BTreeMap::new(),
        };
        plan.seal();
        plan
    }

    #[test]
    fn what_was_written_is_read_again() {
        let (_folder, sealer) = sealer();
        let bytes = write(&plan(), &sealer);
        let read = read(&bytes).unwrap().verify(&sealer).unwrap();
        assert_eq!(read.digest, plan().digest);
        assert_eq!(write(&read, &sealer), bytes);
        assert_eq!(differences(&read, &plan(), &std::collections::BTreeSet::new()), []);
        assert_eq!(request(&read).params, [("tag".to_owned(), "v1".to_owned())]);
    }

    #[test]
    fn a_plans_digest_can_be_computed_from_its_json_alone() {
        let json = serde_json::to_value(plan()).unwrap();
        let digests: Vec<&Json> =
            json["steps"].as_array().unwrap().iter().map(|step| &step["digest"]).collect();
        let selection = &json["selection"];
        let covered = serde_json::json!({
            "version": json["version"], "flow": json["flow"], "environment": json["environment"],
            "sequence": json["sequence"], "flow_version": json["flow_version"], "policy": json["policy"],
            "params": selection["params"], "typed": plan().selection.typed,
            "from_release": selection["from_release"], "back_to": json["back_to"],
            "basis": json["basis"], "inside": [], "steps": digests,
        });
        let text = crate::plan::canonical::canonical(&covered);
        assert_eq!(json["digest"], crate::world::files::digest(text.as_bytes()));
    }

    #[test]
    fn every_altered_word_is_found() {
        let (_folder, sealer) = sealer();
        let text = String::from_utf8(write(&plan(), &sealer)).unwrap();
        for (from, to) in [
            ("1024", "2048"),
            ("shop-api:41\"", "shop-api:43\""),
            ("roll 2 tasks", "roll 1 task"),
            ("2026-11-22", "2027-11-22"),
            ("\"sequence\":1", "\"sequence\":2"),
            ("\"prod\"", "\"test\""),
            ("\"v1\"", "\"v2\""),
            ("\"seal\":\"", "\"seal\":\"0"),
            ("\"seal\"", "\"no-seal\""),
        ] {
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, text, "{from}");
            let refused = read(altered.as_bytes()).and_then(|plan| plan.verify(&sealer)).unwrap_err();
            assert!(matches!(refused, Refusal::Altered), "{from}: {refused}");
        }
        // Whoever computes the digests anew does not have the key.
        let mut forged = plan();
        forged.steps[0].changes.clear();
        forged.seal();
        let (_other, another) = self::sealer();
        let refused = read(&write(&forged, &another)).unwrap().verify(&sealer).unwrap_err();
        assert!(matches!(refused, Refusal::Altered));
    }

    #[test]
    fn words_that_are_only_read_are_not_in_the_digest() {
        let digest = plan().digest;
        let altered = |change: &dyn Fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.seal();
            plan.digest
        };
        assert_eq!(altered(&|plan| plan.created = Timestamp::UNIX_EPOCH), digest);
        assert_eq!(altered(&|plan| plan.source.dirty = Some(true)), digest);
        assert_eq!(altered(&|plan| plan.steps[0].summary.clear()), digest);
        assert_eq!(altered(&|plan| plan.steps[1].changes.clear()), digest, "it hangs on what is made");
        assert_ne!(altered(&|plan| plan.steps[0].changes.clear()), digest);
        assert_ne!(altered(&|plan| plan.steps[1].basis.baseline = Json::Null), digest);
        assert_ne!(altered(&|plan| plan.policy = Some("p".to_owned())), digest);
        assert_ne!(altered(&|plan| plan.flow_version = "0.5.0".to_owned()), digest);
    }

    #[test]
    fn what_is_no_plan_says_so() {
        for text in ["", "{", "{}", "[]", "{\"version\":1}"] {
            assert!(matches!(read(text.as_bytes()), Err(Refusal::NotAPlan(_))), "{text}");
        }
        assert!(matches!(read(b"{\"version\":9}"), Err(Refusal::Newer(9))));
    }
}
