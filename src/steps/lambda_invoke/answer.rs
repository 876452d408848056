//! What a function answered: whether that is what was expected, and what of it
//! later steps can refer to.

use serde_json::Value as Json;

use crate::model::value::{Outputs, Value};

/// One field that an answer must have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expected {
    /// Dotted: `database.version`; numbers count into lists from 0.
    pub path: String,
    /// As written in the flow.
    pub value: Value,
}

/// The output that holds the whole answer.
const WHOLE: &str = "answer";
/// A larger answer is data, not a value.
const LARGEST: usize = 64 * 1024;

/// Each field that is not as expected, in words.
pub(super) fn differences(answer: &Json, expected: &[Expected]) -> Vec<String> {
    let differs = |one: &&Expected| at(answer, &one.path).is_none_or(|found| !equals(found, &one.value));
    expected
        .iter()
        .filter(differs)
        .map(|one| {
            let wanted = one.value.as_text().unwrap_or_default();
            match at(answer, &one.path) {
                Some(found) => format!("{} is {}, not {wanted}", one.path, short(found)),
                None => format!("{} is not in the answer, and {wanted} was expected", one.path),
            }
        })
        .collect()
}

/// The whole as text, and the plain fields of an object by name.
pub(super) fn outputs(answer: &Json) -> Outputs {
    let name = |name: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !name.is_empty() && name != "changed" && name.chars().all(good)
    };
    let plain = |value: &Json| value.is_string() || value.is_number() || value.is_boolean();
    let mut outputs: Outputs = answer
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| name(key) && plain(value))
        .map(|(key, value)| (key.clone(), Value::from_json(value)))
        .collect();
    let text = answer.to_string();
    if text.len() <= LARGEST {
        outputs.insert(WHOLE.to_owned(), Value::Text(text));
    }
    outputs
}

fn at<'a>(answer: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(answer, |at, part| match at {
        Json::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

/// Numbers and switches may be written as text in either place.
fn equals(found: &Json, wanted: &Value) -> bool {
    let found = match found {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    wanted.as_text().is_some_and(|wanted| wanted == found)
}

fn short(value: &Json) -> String {
    const SHOWN: usize = 60;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let first: String = text.chars().take(SHOWN).collect();
    if first.len() < text.len() { format!("{first}…") } else { first }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_that_differs_is_named() {
        let answer =
            json!({ "ok": true, "database": { "version": "0.8.0", "hosts": ["a", "b"] }, "number": 7 });
        let expect = |path: &str, value: Value| Expected { path: path.to_owned(), value };
        for (path, value) in [
            ("ok", Value::Bool(true)),
            ("ok", Value::text("true")),
            ("number", Value::Int(7)),
            ("database.version", Value::text("0.8.0")),
            ("database.hosts.1", Value::text("b")),
        ] {
            assert_eq!(differences(&answer, &[expect(path, value)]), Vec::<String>::new(), "{path}");
        }
        let wrong = [
            expect("ok", Value::Bool(false)),
            expect("database.version", Value::text("0.7.0")),
            expect("database.hosts.2", Value::text("c")),
        ];
        assert_eq!(
            differences(&answer, &wrong),
            [
                "ok is true, not false",
                "database.version is 0.8.0, not 0.7.0",
                "database.hosts.2 is not in the answer, and c was expected"
            ]
        );
    }

    #[test]
    fn plain_fields_can_be_referred_to() {
        let outputs = outputs(&json!({ "version": "0.8.0", "n": 7, "list": [1], "changed": 1, "a b": 1 }));
        assert_eq!(outputs.keys().collect::<Vec<_>>(), ["answer", "n", "version"]);
        assert_eq!(outputs["n"], Value::Int(7));
    }
}
