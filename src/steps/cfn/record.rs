//! What a release records of a stack, and what of it is observed.
//!
//! The text of each template lies in the store under `sources/DIGEST`, so that
//! a release can be had again without the checkout that made it. Secret
//! parameters are recorded as keyed digests: enough to tell that one changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::request::Request;
use super::stack::Stack;
use crate::steps::Context;
use crate::steps::infra::kept_bytes;
use crate::world::files::{FileError, digest};
use crate::world::store::Store;

/// A deployed stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::steps) struct State {
    /// Its ARN.
    pub stack: String,
    pub name: String,
    /// Digest of its template's text.
    pub template: String,
    /// All that CloudFormation shows.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// All that it hides; the keyed digest where flow gave the value.
    #[serde(default)]
    pub secrets: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl State {
    /// A stack as it is; `given` are keyed digests of the secrets that it was given.
    pub(in crate::steps) fn of(
        name: &str,
        stack: &Stack,
        body: &str,
        given: &BTreeMap<String, String>,
    ) -> Self {
        let (secret, open): (Vec<_>, Vec<_>) =
            stack.parameters.iter().partition(|(_, value)| is_hidden(value));
        Self {
            stack: stack.id.clone(),
            name: name.to_owned(),
            template: digest(body.as_bytes()),
            parameters: open.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            secrets: secret.into_iter().map(|(name, _)| (name.clone(), given.get(name).cloned())).collect(),
            tags: stack.tags.clone(),
            capabilities: stack.capabilities.clone(),
        }
    }

    /// The stack before an effect: what is known of its secrets is what the last release says.
    pub(in crate::steps) fn standing(name: &str, stack: &Stack, body: &str, cx: &Context) -> Self {
        let last = cx.recorded.as_ref().and_then(|recorded| Self::read(&recorded.receipt));
        let known = last.filter(|last| last.stack == stack.id).map(|last| last.secrets).unwrap_or_default();
        let known = known.into_iter().filter_map(|(name, digest)| Some((name, digest?))).collect();
        Self::of(name, stack, body, &known)
    }

    /// The stack after a request was met.
    pub(in crate::steps) fn met(request: &Request, stack: &Stack, body: &str, cx: &Context) -> Self {
        let before = Self::standing(&request.stack, stack, body, cx).secrets;
        let mut given: BTreeMap<String, String> =
            before.into_iter().filter_map(|(name, digest)| Some((name, digest?))).collect();
        given.extend(request.sealed(&cx.sealer));
        Self::of(&request.stack, stack, body, &given)
    }

    fn read(receipt: &Json) -> Option<Self> {
        serde_json::from_value(receipt.clone()).ok()
    }

    /// As it is recorded.
    pub(in crate::steps) fn to_json(&self) -> Json {
        json!(self)
    }
}

/// CloudFormation shows stars for parameters with `NoEcho`.
fn is_hidden(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte == b'*')
}

/// What is observed of a stack: what it was deployed with, not what became of it.
pub(in crate::steps) fn facts(name: &str, stack: Option<(&Stack, &str)>) -> Json {
    let Some((stack, body)) = stack else { return json!({ "stack": name, "id": null }) };
    let template: String = digest(body.as_bytes()).chars().take(12).collect();
    json!({
        "stack": name,
        "id": stack.id,
        "template": template,
        "parameters": stack.parameters,
        "tags": stack.tags,
    })
}

/// A template's text, if it was kept and is still what it was.
pub(in crate::steps) fn kept(store: &Store, template: &str) -> Result<Option<String>, FileError> {
    Ok(kept_bytes(store, template)?.and_then(|bytes| String::from_utf8(bytes).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_values_are_no_values() {
        let parameters = [("Name", "shop"), ("Key", "****"), ("Empty", "")];
        let stack = Stack {
            parameters: parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
            ..Stack::for_tests("CREATE_COMPLETE")
        };
        let given = BTreeMap::from([("Key".to_owned(), "aa".to_owned())]);
        let state = State::of("shop", &stack, "Resources: {}", &given);
        assert_eq!(state.parameters.keys().collect::<Vec<_>>(), ["Empty", "Name"]);
        assert_eq!(state.secrets, BTreeMap::from([("Key".to_owned(), Some("aa".to_owned()))]));
        assert_eq!(State::read(&state.to_json()), Some(state));
        assert_eq!(facts("shop", Some((&stack, "x")))["parameters"]["Key"], "****");
        assert_eq!(facts("shop", None)["id"], Json::Null);
    }
}
