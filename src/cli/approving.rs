//! What the commands that sign share: building a statement, signing it, and
//! what is said when it would not count.

use std::borrow::Cow;

use crate::exit::Exit;
use crate::journal::approvals::{self, Decision, Found, Marked, Signed, Statement};
use crate::model::names::{EnvName, RunId, StepId};
use crate::model::policy::{Person, Policy};
use crate::plan::document::Plan;
use crate::plan::gates::{PlannedGate, Ungated};
use crate::steps::approve::judge::{self, Bound, Case, Verdict, judge};
use crate::world::clock::Clock;
use crate::world::ssh::{self, Key, SignError};

use super::session::Session;

/// What the commands take that sign a statement of their own.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Signing {
    /// Why, or what was found
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// The SSH key to sign with; otherwise git's user.signingkey, one in ~/.ssh, or the agent's
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,

    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Why something was not signed, or may not be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApprovalError {
    /// There is no signature.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A break-glass run nobody signed.
    #[error("a break-glass run is signed by an approver, and this one is not: {0}")]
    Unsigned(SignError),
    /// A mark nobody signed.
    #[error("a mark in {environment} is signed by an approver, and this one is not: {error}")]
    UnsignedMark {
        /// The environment.
        environment: EnvName,
        /// Why it is not.
        error: SignError,
    },
    /// A mark that nobody can sign.
    #[error("a mark in {0} is signed by an approver, and nobody is named as one")]
    NobodyMarks(EnvName),
    /// A reason is missing.
    #[error("a break-glass run needs a reason")]
    NoReason,
    /// Somebody whom nobody asked.
    #[error("the key {fingerprint} is not on the list of {environment}")]
    NotListed {
        /// The key.
        fingerprint: String,
        /// The environment.
        environment: EnvName,
        /// Who is.
        names: Vec<String>,
    },
    /// An approver whose key is over.
    #[error("{name}'s key is no longer valid in {environment}")]
    KeyOver {
        /// Whose.
        name: String,
        /// The environment.
        environment: EnvName,
    },
    /// The approval would not count.
    #[error("this approval would not count: {}", .0.join("; "))]
    DoesNotCount(Vec<String>),
    /// Nothing asks.
    #[error("nothing in this plan needs an approval")]
    NoGates,
    /// No such gate.
    #[error("gate {gate} does not ask for anything in this plan")]
    NoGate {
        /// As typed.
        gate: String,
        /// Those that do.
        known: Vec<String>,
    },
    /// Several gates.
    #[error("several gates of this plan ask: {}", .0.join(", "))]
    Several(Vec<String>),
    /// Whoever was asked did not say yes.
    #[error("nothing was signed")]
    Declined,
    /// A run that broke glass, and nobody has looked at it.
    #[error("run {run} broke glass in {environment}, and nobody else has reviewed it")]
    Unreviewed {
        /// The run.
        run: RunId,
        /// The environment.
        environment: EnvName,
        /// Who let it pass, and why; absent when its record cannot be read.
        why: Option<String>,
    },
    /// Nothing to review.
    #[error("run {0} did not break glass")]
    NotBroken(RunId),
    /// Whoever let the run pass wants to review it.
    #[error("{name} let run {run} pass, and somebody else reviews it")]
    OwnReview {
        /// Who.
        name: String,
        /// The run.
        run: RunId,
    },
    /// Nobody would have approved it.
    #[error("nobody would have approved it")]
    Ungated(Vec<Ungated>),
    /// A record lies in an account.
    #[error("environment {0} names no account, and its record would lie there")]
    NoAccount(EnvName),
    /// Files without approvers.
    #[error("the files name no approver of {0}")]
    NoApprovers(EnvName),
    /// Somebody who may not change the record.
    #[error("the key {fingerprint} may not change who approves in {environment}")]
    NotInRecord {
        /// The key.
        fingerprint: String,
        /// The environment.
        environment: EnvName,
        /// Who may.
        names: Vec<String>,
    },
}

impl ApprovalError {
    /// What is shown, and how flow ends.
    pub(super) fn lines(&self) -> (Vec<String>, Exit) {
        let (word, exit) = match self {
            Self::Sign(SignError::Missing(_) | SignError::NoKey | SignError::Several(_))
            | Self::NoReason
            | Self::NoGates
            | Self::NoGate { .. }
            | Self::Several(_)
            | Self::NotBroken(_)
            | Self::NoAccount(_)
            | Self::NoApprovers(_) => ("error", Exit::Usage),
            Self::Sign(_) | Self::Declined => ("error", Exit::Failed),
            _ => ("refused", Exit::Refused),
        };
        let mut lines = vec![format!("{word}: {self}")];
        match self {
            Self::Sign(error) | Self::Unsigned(error) | Self::UnsignedMark { error, .. } => {
                lines.extend(key_help(error));
            }
            Self::NoReason => lines.push("  --break-glass \"INC-1 why\"".to_owned()),
            Self::NotListed { names, .. } | Self::NotInRecord { names, .. } => {
                let who = if names.is_empty() { "nobody is".to_owned() } else { names.join(", ") };
                lines.push(format!("  on the list: {who}"));
                lines.push("  another key: --key FILE".to_owned());
            }
            Self::NoGate { known, .. } if !known.is_empty() => {
                lines.push(format!("  gates that ask: {}", known.join(", ")));
            }
            Self::Several(_) => lines.push("  name one: --gate NAME".to_owned()),
            Self::Unreviewed { run, why, .. } => {
                lines.extend(why.iter().map(|why| format!("  {why}")));
                lines.push(format!("  look at it: flow log {run}"));
                lines.push(format!("  then another approver: flow review {run}"));
            }
            Self::OwnReview { .. } => lines.push("  another key: --key FILE".to_owned()),
            Self::Ungated(steps) => {
                lines = steps.iter().map(|step| format!("refused: {step}")).collect();
                lines.push(
                    "  put a gate in front: needs=\"GATE\", with a condition that holds here".to_owned(),
                );
            }
            Self::NoApprovers(_) | Self::NobodyMarks(_) => {
                lines.push("  approvals { approver \"NAME\" key=\"ssh-ed25519 …\" group=\"…\" }".to_owned());
            }
            _ => {}
        }
        (lines, exit)
    }
}

fn key_help(error: &SignError) -> Option<String> {
    match error {
        SignError::Missing(_) | SignError::NoKey | SignError::Several(_) => {
            Some("  name one: --key FILE (a private key, or a public key that the agent holds)".to_owned())
        }
        _ => None,
    }
}

/// What is signed, besides the plan.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// What was decided.
    pub decision: Decision,
    /// The gate.
    pub gate: Option<StepId>,
    /// How long it counts; `None` for always.
    pub lifetime: Option<jiff::SignedDuration>,
    /// Why.
    pub reason: Option<String>,
    /// The run.
    pub run: Option<RunId>,
    /// What is said of an effect.
    pub mark: Option<Marked>,
}

impl Said {
    /// A decision, and nothing else about it.
    pub(super) fn of(decision: Decision) -> Self {
        Self { decision, gate: None, lifetime: None, reason: None, run: None, mark: None }
    }
}

/// A statement about a plan.
pub(super) fn statement(plan: &Plan, said: Said) -> Statement {
    let signed = Clock.now();
    // Whole seconds are what people read and compare.
    let signed = signed.round(jiff::Unit::Second).unwrap_or(signed).min(signed);
    Statement {
        account: plan.environment.account.clone(),
        decision: said.decision,
        environment: plan.environment.name.clone(),
        expires: said.lifetime.and_then(|lifetime| signed.checked_add(lifetime).ok()),
        flow: plan.flow.clone(),
        gate: said.gate,
        mark: said.mark,
        nonce: approvals::nonce(),
        plan: plan.digest.clone(),
        policy: plan.policy.clone(),
        reason: said.reason,
        run: said.run,
        sequence: plan.sequence,
        signed,
        sort: approvals::TYPE.to_owned(),
        version: approvals::VERSION,
    }
}

/// What approvals of a plan are bound to.
pub(super) fn bound(plan: &Plan) -> Bound {
    Bound {
        plan: plan.digest.clone(),
        flow: plan.flow.clone(),
        environment: plan.environment.name.clone(),
        account: plan.environment.account.clone(),
        sequence: plan.sequence,
        policy: plan.policy.clone(),
    }
}

/// What the approvals that lie there make of a gate.
pub(super) fn judged(plan: &Plan, gate: &PlannedGate, found: &[Found]) -> Verdict {
    with_case(plan, gate, |case| judge(case, found))
}

/// Whether an approval by this key would count beside what lies there.
pub(super) fn would_count(
    plan: &Plan,
    gate: &PlannedGate,
    key: &Key,
    found: &[Found],
) -> Result<(), ApprovalError> {
    with_case(plan, gate, |case| judge::would_count(case, &key.to_line(), found))
        .map_err(ApprovalError::DoesNotCount)
}

/// A gate of a plan as it is judged now.
fn with_case<T>(plan: &Plan, gate: &PlannedGate, judge: impl FnOnce(Case<'_>) -> T) -> T {
    let (bound, policies) = (bound(plan), plan.approvals.policies_of(gate));
    judge(Case { bound: &bound, gate: &gate.id, rule: &gate.rule, policies: &policies, now: Clock.now() })
}

/// The plan with what its gates need by what is signed now. When it was made nobody had signed it.
pub(super) fn as_it_stands<'p>(plan: &'p Plan, found: &[Found]) -> Cow<'p, Plan> {
    let mut plan = Cow::Borrowed(plan);
    for gate in plan.approvals.gates.clone() {
        let policies = plan.approvals.policies_of(&gate);
        if !gate.rule.wants_signatures(&policies) {
            continue;
        }
        let verdict = judged(&plan, &gate, found);
        let says = match &verdict.rejected {
            Some(who) => format!("stays closed: {who}"),
            None if verdict.is_open() => format!("is approved by {}", verdict.by().join(", ")),
            None => verdict.needs(&plan.environment.name),
        };
        if let Some(step) = plan.to_mut().steps.iter_mut().find(|step| step.id == gate.id) {
            step.summary = says;
        }
    }
    plan
}

/// Signs a text with the named key or the person's own.
pub(super) fn sign(session: &Session, key: Option<&str>, text: String) -> Result<(Signed, Key), SignError> {
    let here = session.host.current_dir().unwrap_or_else(|_| session.root.clone());
    let signature = ssh::sign(&session.host, &here, key, text.as_bytes())?;
    let refused = |said: String| SignError::Refused { key: key.unwrap_or("the key").to_owned(), said };
    // What flow could not check later is not handed out.
    let key = ssh::verify(&signature, text.as_bytes()).map_err(|fault| refused(fault.to_string()))?;
    Ok((Signed { version: approvals::VERSION, statement: text, signature }, key))
}

/// Whose key [`sign`] would use, as far as that can be told without using it.
pub(super) fn own_key(session: &Session, key: Option<&str>) -> Option<Key> {
    let here = session.host.current_dir().unwrap_or_else(|_| session.root.clone());
    ssh::public(&session.host, &here, key)
}

/// The approver whose key this is, if it counts now.
pub(super) fn approver<'a>(policy: &'a Policy, key: &Key) -> Result<&'a Person, ApprovalError> {
    let environment = || policy.environment.clone();
    let Some(person) = policy.owner(&key.to_line()) else {
        return Err(ApprovalError::NotListed {
            fingerprint: key.fingerprint(),
            environment: environment(),
            names: policy.names().into_iter().map(str::to_owned).collect(),
        });
    };
    if !person.counted_at(Clock.now()) {
        return Err(ApprovalError::KeyOver { name: person.name.clone(), environment: environment() });
    }
    Ok(person)
}
