//! Several stacks in one step: one proposal, and effects one after another.

use async_trait::async_trait;
use serde_json::{Map, Value as Json, json};

use crate::model::change::{Action, Change, Reversible};
use crate::model::value::Outputs;
use crate::steps::{Context, Done, Effect, Failure, Proposal};

/// A planned stack, in the order in which they are deployed.
pub(in crate::steps) struct Part {
    pub stack: String,
    pub proposal: Proposal,
}

impl Part {
    /// What is said of it where nothing changes.
    fn unchanged(&self) -> &'static str {
        if self.proposal.receipt.is_null() { "not there" } else { "no change" }
    }
}

/// All of them as one. Outputs are `STACK.KEY`; the recorded state is theirs, in order.
pub(in crate::steps) fn together(mut parts: Vec<Part>) -> Proposal {
    let held = parts.iter_mut().filter_map(|part| part.proposal.held.take());
    let held = held.reduce(|first, next| first.details(next.record.details));
    let (changing, same): (Vec<&Part>, Vec<&Part>) =
        parts.iter().partition(|part| part.proposal.action.will_run());
    let names = |parts: &[&Part]| parts.iter().map(|part| part.stack.as_str()).collect::<Vec<_>>().join(", ");
    let mut proposal = Proposal::new(action(&changing), String::new());
    proposal.summary = match (changing.as_slice(), same.as_slice()) {
        ([], same) => unchanged(same),
        ([one], _) => one.proposal.summary.clone(),
        (several, _) => format!("{} of {} stacks", several.len(), parts.len()),
    };
    if !changing.is_empty() {
        proposal.subject = names(&changing);
    }
    proposal.reversible = worst(changing.iter().map(|part| part.proposal.reversible));
    let state = |pick: fn(&Proposal) -> &Json| {
        let all: Vec<&Json> =
            parts.iter().map(|part| pick(&part.proposal)).filter(|state| !state.is_null()).collect();
        if all.is_empty() { Json::Null } else { json!({ "stacks": all }) }
    };
    proposal.standing = state(|proposal| &proposal.standing);
    proposal.receipt = state(|proposal| &proposal.receipt);
    let mut baseline = Map::new();
    for part in &parts {
        let Part { stack, proposal: own } = part;
        if own.action.will_run() {
            let prefixed =
                |change: &Change| Change { what: format!("{stack}/{}", change.what), ..change.clone() };
            proposal.changes.extend(own.changes.iter().map(prefixed));
        } else if !changing.is_empty() {
            proposal.changes.push(Change::new(stack.as_str(), None, part.unchanged().to_owned()));
        }
        proposal.warnings.extend(own.warnings.iter().map(|warning| format!("{stack}: {warning}")));
        baseline.insert(stack.clone(), own.baseline.clone());
        if changing.is_empty() {
            proposal.outputs.extend(named(stack, &own.outputs));
        }
    }
    proposal.baseline = Json::Object(baseline);
    proposal.held = held;
    if parts.iter().any(|part| part.proposal.effect.is_some()) {
        proposal.with(Several { parts })
    } else {
        proposal
    }
}

/// `no change: main, auth`, `not there: old`
fn unchanged(parts: &[&Part]) -> String {
    let of = |words: &str| {
        let names = parts.iter().filter(|part| part.unchanged() == words).map(|part| part.stack.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{words}: {names}"))
    };
    ["no change", "not there"].into_iter().filter_map(of).collect::<Vec<_>>().join("; ")
}

fn action(changing: &[&Part]) -> Action {
    let all = |action: Action| changing.iter().all(|part| part.proposal.action == action);
    if changing.is_empty() {
        Action::UpToDate
    } else if changing.iter().any(|part| part.proposal.action == Action::Replace) {
        Action::Replace
    } else if all(Action::Create) {
        Action::Create
    } else if all(Action::Delete) {
        Action::Delete
    } else {
        Action::Update
    }
}

fn worst(all: impl Iterator<Item = Reversible>) -> Reversible {
    let rank = |reversible: &Reversible| match reversible {
        Reversible::None => 0,
        Reversible::Auto => 1,
        Reversible::Manual => 2,
        Reversible::ForwardOnly => 3,
    };
    all.max_by_key(rank).unwrap_or(Reversible::None)
}

fn named(stack: &str, outputs: &Outputs) -> Outputs {
    outputs.iter().map(|(key, value)| (format!("{stack}.{key}"), value.clone())).collect()
}

struct Several {
    parts: Vec<Part>,
}

#[async_trait]
impl Effect for Several {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let (mut outputs, mut states, mut told) = (Outputs::new(), Vec::new(), Vec::new());
        for part in self.parts {
            let unchanged = part.unchanged();
            let Part { stack, mut proposal } = part;
            let changes = proposal.action.will_run();
            let done = match proposal.effect.take() {
                None => Done { summary: String::new(), outputs: proposal.outputs, receipt: proposal.receipt },
                Some(effect) => {
                    if changes {
                        cx.feed.output(format!("{stack}: {}", proposal.summary)).await;
                    }
                    let done = effect.apply(cx).await;
                    done.map_err(|failure| after(&told, failure))?
                }
            };
            let text = if changes { done.summary } else { unchanged.to_owned() };
            if !changes {
                cx.feed.output(format!("{stack}: {unchanged}")).await;
            }
            told.push(format!("{stack}: {text}"));
            outputs.extend(named(&stack, &done.outputs));
            if !done.receipt.is_null() {
                states.push(done.receipt);
            }
        }
        let receipt = if states.is_empty() { Json::Null } else { json!({ "stacks": states }) };
        Ok(Done { summary: told.join("; "), outputs, receipt })
    }
}

/// A failure in the middle says what was done before it.
fn after(told: &[String], failure: Failure) -> Failure {
    if told.is_empty() { failure } else { failure.detail(format!("done before it: {}", told.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::Value;

    fn part(stack: &str, action: Action) -> Part {
        let outputs = Outputs::from([("Url".to_owned(), Value::text("x"))]);
        let receipt = json!({ "name": stack });
        let mut proposal = Proposal { outputs, receipt, ..Proposal::new(action, "1 changed") };
        proposal.changes.push(Change::new("A", None, "new".to_owned()));
        Part { stack: stack.to_owned(), proposal }
    }

    #[test]
    fn each_stack_says_what_it_does() {
        let same = together(vec![part("main", Action::UpToDate), part("auth", Action::UpToDate)]);
        assert_eq!((same.action, same.summary.as_str()), (Action::UpToDate, "no change: main, auth"));
        assert_eq!(same.outputs.keys().collect::<Vec<_>>(), ["auth.Url", "main.Url"]);

        let mixed = together(vec![part("main", Action::Create), part("auth", Action::UpToDate)]);
        assert_eq!((mixed.action, mixed.subject.as_str()), (Action::Create, "main"));
        let shown: Vec<String> = mixed.changes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["main/A  new", "auth  no change"]);

        let both = together(vec![part("main", Action::Create), part("auth", Action::Replace)]);
        assert_eq!((both.action, both.summary.as_str()), (Action::Replace, "2 of 2 stacks"));
    }

    #[test]
    fn stacks_that_are_gone_are_said_to_be() {
        let gone = |stack: &str| Part {
            stack: stack.to_owned(),
            proposal: Proposal::up_to_date("there is no stack", Outputs::new()),
        };
        let all = together(vec![gone("main"), gone("auth")]);
        assert_eq!((all.summary.as_str(), &all.receipt), ("not there: main, auth", &Json::Null));
        let one = together(vec![part("main", Action::Delete), gone("auth")]);
        assert_eq!(one.action, Action::Delete);
        assert_eq!(one.changes.last().map(ToString::to_string).as_deref(), Some("auth  not there"));
    }

    #[test]
    fn what_holds_one_back_holds_all_back() {
        let held = |stack: &str| {
            let mut part = part(stack, Action::Delete);
            part.proposal.held = Some(Failure::new("in use").detail(stack));
            part
        };
        let all = together(vec![held("main"), part("auth", Action::Delete), held("ml")]);
        assert_eq!(all.held.expect("held").record.details, ["main", "ml"]);
    }
}
