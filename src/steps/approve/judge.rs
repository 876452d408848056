//! Whether what was signed opens a gate.
//!
//! Everything in the store is material that anybody may have put there. What
//! does not count is never passed over: it is said under the gate, each in its
//! own words. Persons are counted, not keys or files.

use jiff::{SignedDuration, Timestamp};

use crate::journal::approvals::{Decision, Found, Statement};
use crate::model::names::{EnvName, FlowName, StepId};
use crate::model::policy::{Person, Policy, Rule};
use crate::model::units::show_rough;
use crate::world::ssh;

/// Clocks may differ by so much before a statement counts as signed in the future.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What an approval is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Digest of the plan.
    pub plan: String,
    /// Its flow.
    pub flow: FlowName,
    /// Its environment.
    pub environment: EnvName,
    /// The environment's account.
    pub account: Option<String>,
    /// Its number.
    pub sequence: u64,
    /// Digest of who may approve.
    pub policy: Option<String>,
}

/// A gate, and what stands behind it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The plan.
    pub bound: &'a Bound,
    /// The gate.
    pub gate: &'a StepId,
    /// What it asks for.
    pub rule: &'a Rule,
    /// The policies of all environments that something behind it acts in, the plan's own first.
    pub policies: &'a [Policy],
    /// Now.
    pub now: Timestamp,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Somebody closed it.
    pub rejected: Option<String>,
    /// What each environment asks for, and what is there.
    pub demands: Vec<Demand>,
    /// What does not count, and why.
    pub refusals: Vec<String>,
}

/// What one environment asks for, and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The environment.
    pub environment: EnvName,
    /// `1 of group ops`, `2 (nobody signed the plan)`
    pub wanted: String,
    /// How many persons must approve.
    pub count: usize,
    /// Who did.
    pub given: Vec<String>,
    /// Who else could.
    pub others: Vec<String>,
}

impl Demand {
    /// How many are still needed.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.count.saturating_sub(self.given.len())
    }

    /// `needs 1 of group ops: ada, lin`, `needs 1 more: lin; ada approved, and it takes 2 of group ops`;
    /// names the environment where it is not the plan's own.
    #[must_use]
    pub fn show(&self, own: &EnvName) -> String {
        let (more, so_far) = if self.given.is_empty() {
            (self.wanted.clone(), String::new())
        } else {
            let so_far = format!("; {} approved, and it takes {}", self.given.join(" and "), self.wanted);
            (format!("{} more", self.missing()), so_far)
        };
        let place =
            if self.environment == *own { String::new() } else { format!(" for {}", self.environment) };
        let more = format!("{more}{place}");
        if self.others.len() < self.missing() {
            let who = if self.others.is_empty() { "nobody" } else { "only " };
            return format!("needs {more}, and {who}{} can give it{so_far}", self.others.join(", "));
        }
        format!("needs {more}: {}{so_far}", self.others.join(", "))
    }
}

impl Verdict {
    /// Whether the gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rejected.is_none() && self.demands.iter().all(|demand| demand.missing() == 0)
    }

    /// Everybody who approved, each once.
    #[must_use]
    pub fn by(&self) -> Vec<&str> {
        let mut by: Vec<&str> = Vec::new();
        for name in self.demands.iter().flat_map(|demand| &demand.given) {
            if !by.contains(&name.as_str()) {
                by.push(name);
            }
        }
        by.sort_unstable();
        by
    }

    /// What the first environment that is not content needs.
    #[must_use]
    pub fn needs(&self, own: &EnvName) -> String {
        let demand = self.demands.iter().find(|demand| demand.missing() > 0);
        demand.map_or_else(String::new, |demand| demand.show(own))
    }
}

/// Judges a gate by all that lies under its plan.
#[must_use]
pub fn judge(case: Case<'_>, found: &[Found]) -> Verdict {
    let planners = planners(case, found);
    let mut verdict = Verdict { rejected: None, demands: Vec::new(), refusals: Vec::new() };
    let mut given: Vec<Vec<String>> = vec![Vec::new(); case.policies.len()];
    for found in found.iter().filter(|found| !found.place.starts_with('@')) {
        match examine(case, found) {
            Ok(Given { statement, key }) if statement.decision == Decision::Reject => {
                let name = owner(case, &key).map_or("somebody", |person| person.name.as_str());
                let reason = statement.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                let ago = ago(case.now, statement.signed);
                verdict.rejected.get_or_insert(format!("{name} rejected it {ago}{reason}"));
            }
            Ok(Given { key, .. }) => {
                let mut counted = false;
                let mut whys = Vec::new();
                for (given, policy) in given.iter_mut().zip(case.policies) {
                    match counts(case, policy, &key, &planners) {
                        Ok(name) => {
                            counted = true;
                            push(given, name);
                        }
                        Err(why) => whys.push(why),
                    }
                }
                // Whoever answers for one environment need not answer for the others.
                whys.into_iter().filter(|_| !counted).for_each(|why| push(&mut verdict.refusals, why));
            }
            Err(why) => push(&mut verdict.refusals, why),
        }
    }
    for (policy, given) in case.policies.iter().zip(given) {
        verdict.demands.push(demand(case, policy, given, &planners));
    }
    verdict
}

/// Whether an approval by this key would count in any environment behind the gate, and why not.
pub fn would_count(case: Case<'_>, key: &str, found: &[Found]) -> Result<(), Vec<String>> {
    let planners = planners(case, found);
    let mut whys = Vec::new();
    for policy in case.policies {
        match counts(case, policy, key, &planners) {
            Ok(_) => return Ok(()),
            Err(why) => push(&mut whys, why),
        }
    }
    Err(whys)
}

/// Each once.
fn push(all: &mut Vec<String>, one: String) {
    if !all.contains(&one) {
        all.push(one);
    }
}

fn demand(case: Case<'_>, policy: &Policy, given: Vec<String>, planners: &[String]) -> Demand {
    let rule = policy.applied_to(case.rule);
    // Without a signature nobody knows who made the plan: two persons then, of whom one is another.
    let unsigned = rule.four_eyes && planners.is_empty();
    let count = if unsigned { rule.count.max(2) } else { rule.count };
    let mut wanted = Rule { count, ..rule.clone() }.show();
    if unsigned && rule.count < 2 {
        wanted.push_str(" (four eyes, and nobody signed the plan)");
    } else if rule.four_eyes && !planners.is_empty() {
        wanted = format!("{wanted}, not {} who made the plan", planners.join(", "));
    }
    let able = policy.approvers.iter().filter(|person| {
        person.answers_for(&rule.from)
            && person.counted_at(case.now)
            && !(rule.four_eyes && planners.contains(&person.name))
    });
    let mut others: Vec<String> = Vec::new();
    for person in able {
        if !given.contains(&person.name) && !others.contains(&person.name) {
            others.push(person.name.clone());
        }
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    Demand { environment: policy.environment.clone(), wanted, count, given, others }
}

/// A statement about this gate of this plan by somebody on a list.
struct Given {
    statement: Statement,
    key: String,
}

fn owner<'a>(case: Case<'a>, key: &str) -> Option<&'a Person> {
    case.policies.iter().find_map(|policy| policy.owner(key))
}

/// Whether a statement is one about this gate, whoever's environment it is for.
fn examine(case: Case<'_>, found: &Found) -> Result<Given, String> {
    let Some(signed) = &found.signed else { return Err("an approval that cannot be read".to_owned()) };
    let key =
        ssh::verify(&signed.signature, signed.statement.as_bytes()).map_err(|fault| fault.to_string())?;
    let Some(statement) = Statement::parse(&signed.statement) else {
        return Err("a signed text that is no statement of flow".to_owned());
    };
    let line = key.to_line();
    let Some(person) = owner(case, &line) else {
        return Err(format!("a key that is not on the list ({})", key.fingerprint()));
    };
    belongs(case, &statement, person)?;
    if !person.counted_at(statement.signed) {
        return Err(format!("{}'s key was no longer valid when it was used", person.name));
    }
    if statement.decision == Decision::Reject {
        return Ok(Given { statement, key: line });
    }
    in_time(case, &statement, person)?;
    Ok(Given { statement, key: line })
}

/// Whether a statement is about this gate of this plan.
fn belongs(case: Case<'_>, statement: &Statement, person: &Person) -> Result<(), String> {
    let (bound, name) = (case.bound, &person.name);
    let what = match statement.decision {
        Decision::Approve => "approval",
        Decision::Reject => "rejection",
        _ => return Err(format!("something that {name} signed and that is no approval")),
    };
    let other = |of: &str, theirs: &str| Err(format!("{name}'s {what} is for another {of} ({theirs})"));
    if statement.plan != bound.plan {
        return other("plan", statement.plan.get(..12).unwrap_or(&statement.plan));
    }
    if statement.gate.as_ref() != Some(case.gate) {
        let gate = statement.gate.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        return other("gate", &gate);
    }
    if statement.environment != bound.environment {
        return other("environment", statement.environment.as_str());
    }
    if statement.account != bound.account {
        return other("account", statement.account.as_deref().unwrap_or("none"));
    }
    if statement.flow != bound.flow {
        return other("flow", statement.flow.as_str());
    }
    if statement.sequence != bound.sequence {
        return other("run", &format!("number {}, this is number {}", statement.sequence, bound.sequence));
    }
    if statement.policy != bound.policy {
        return Err(format!("{name} signed when others could approve: the list has changed"));
    }
    Ok(())
}

fn in_time(case: Case<'_>, statement: &Statement, person: &Person) -> Result<(), String> {
    let (name, now) = (&person.name, case.now);
    if statement.signed.duration_since(now) > SKEW {
        return Err(format!("{name}'s approval was signed in the future, {}", statement.signed));
    }
    let longest = SignedDuration::try_from(case.rule.lifetime())
        .ok()
        .and_then(|lifetime| statement.signed.checked_add(lifetime).ok());
    let Some(end) = statement.expires.into_iter().chain(longest).min() else {
        return Err(format!("{name}'s approval does not say until when it counts"));
    };
    if now >= end {
        return Err(format!("{name}'s approval expired {}", ago(now, end)));
    }
    if !person.counted_at(now) {
        let since = person.valid_before.map_or_else(String::new, |end| format!(" since {}", ago(now, end)));
        return Err(format!("{name}'s key is no longer valid{}", since.trim_end_matches(" ago")));
    }
    Ok(())
}

/// Whether a good approval counts in one environment, and as whose.
fn counts(case: Case<'_>, policy: &Policy, key: &str, planners: &[String]) -> Result<String, String> {
    let Some(person) = policy.owner(key) else {
        let name = owner(case, key).map_or("somebody", |person| person.name.as_str());
        return Err(format!("{name} approved, and is not on the list of {}", policy.environment));
    };
    let rule = policy.applied_to(case.rule);
    if !person.answers_for(&rule.from) {
        let from: Vec<String> = rule.from.iter().map(|who| who.replacen("group:", "group ", 1)).collect();
        return Err(format!("{} approved, and is not {}", person.name, from.join(" or ")));
    }
    if rule.four_eyes && planners.contains(&person.name) {
        return Err(format!("{} made the plan and may not approve it", person.name));
    }
    Ok(person.name.clone())
}

/// Who signed the plan as theirs. Only people on a list: anybody could sign with a key of their own.
fn planners(case: Case<'_>, found: &[Found]) -> Vec<String> {
    let mut names = Vec::new();
    for found in found.iter().filter(|found| found.place == "@plan") {
        let Some(signed) = &found.signed else { continue };
        let Ok(key) = ssh::verify(&signed.signature, signed.statement.as_bytes()) else { continue };
        let Some(statement) = Statement::parse(&signed.statement) else { continue };
        if statement.decision != Decision::Plan || statement.plan != case.bound.plan {
            continue;
        }
        if let Some(person) = owner(case, &key.to_line())
            && !names.contains(&person.name)
        {
            names.push(person.name.clone());
        }
    }
    names
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", show_rough(now.duration_since(then).unsigned_abs()))
}
