//! JSON as one text whatever the order of its members was: what digests are
//! made of.
//!
//! Members stand in the order of their names, and nothing stands between two
//! tokens. What is digested for each of a hundred thousand steps is written
//! straight from its fields, with [`Members`].

use serde_json::Value as Json;

use crate::world::digests::Sum;
use crate::world::files::add_hex;

/// JSON as one text whatever the order of its members was.
pub(super) fn canonical(json: &Json) -> String {
    let mut text = String::new();
    write_canonical(json, &mut text);
    text
}

/// Adds it to a text.
pub(super) fn write_canonical(json: &Json, text: &mut String) {
    match json {
        Json::Object(members) => {
            let mut sorted: Vec<(&String, &Json)> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            let mut members = Members::begin(text);
            for (name, value) in sorted {
                write_canonical(value, members.name(name));
            }
            members.end();
        }
        Json::Array(items) => write_list(items, text, write_canonical),
        Json::String(plain) => write_text(plain, text),
        other => text.push_str(&other.to_string()),
    }
}

/// Adds a string. Most are names and digests, in which nothing needs an escape.
pub(super) fn write_text(plain: &str, text: &mut String) {
    if plain.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        text.push('"');
        text.push_str(plain);
        text.push('"');
    } else {
        text.push_str(&Json::from(plain).to_string());
    }
}

/// Adds a digest.
pub(super) fn write_sum(sum: &Sum, text: &mut String) {
    text.push('"');
    add_hex(&sum.0, text);
    text.push('"');
}

/// Adds a list.
pub(super) fn write_list<T>(items: &[T], text: &mut String, write: impl Fn(&T, &mut String)) {
    text.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write(item, text);
    }
    text.push(']');
}

/// An object that is being written; whoever writes it gives its members in the order of their names.
pub(super) struct Members<'t> {
    text: &'t mut String,
    first: bool,
}

impl<'t> Members<'t> {
    /// Begins one.
    pub(super) fn begin(text: &'t mut String) -> Self {
        text.push('{');
        Self { text, first: true }
    }

    /// Begins a member; its value goes to what this returns.
    pub(super) fn name(&mut self, name: &str) -> &mut String {
        if !std::mem::take(&mut self.first) {
            self.text.push(',');
        }
        write_text(name, self.text);
        self.text.push(':');
        self.text
    }

    /// Ends it.
    pub(super) fn end(self) {
        self.text.push('}');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_stand_in_order_at_any_depth() {
        let json = json!({ "b": [{ "z": 1, "a": null }, {}, []], "a": "x", "": -1.5 });
        assert_eq!(canonical(&json), r#"{"":-1.5,"a":"x","b":[{"a":null,"z":1},{},[]]}"#);
    }

    proptest! {
        #[test]
        fn whatever_a_text_holds_is_read_back(name in any::<String>(), text in any::<String>()) {
            let json = json!({ name: text });
            prop_assert_eq!(serde_json::from_str::<Json>(&canonical(&json)).expect("it is JSON"), json);
        }
    }
}
