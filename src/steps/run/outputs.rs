//! What a program hands on by the file that `FLOW_OUTPUT` names: lines of
//! `name=value`, or lines of JSON objects for lists and text of several lines.

use std::path::Path;

use crate::model::secret::Secret;
use crate::model::units::{count, show_size};
use crate::model::value::{Outputs, Record, Value};
use crate::steps::Failure;
use crate::world::World;
use crate::world::files::FileError;
use crate::world::masker::Masker;

/// Outputs are kept in the journal and in releases; more than this is data, not a value.
const LARGEST: u64 = 1024 * 1024;

/// Something in the file that is no output.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not UTF-8.
    #[error("its outputs in FLOW_OUTPUT are not UTF-8")]
    NotText,
    /// It is too big.
    #[error("its outputs in FLOW_OUTPUT are {}, more than {}", show_size(*.size), show_size(LARGEST))]
    TooBig {
        /// Bytes.
        size: u64,
    },
    /// A line of another form.
    #[error("line {line} of its outputs in FLOW_OUTPUT is wrong: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What was expected. The line itself is not shown: it may hold half a secret.
        why: String,
    },
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        let failure = Self::new(format!("it exited with 0, but {error}"));
        match error {
            OutputError::Line { .. } => failure.help("write name=value, or a JSON object on one line"),
            OutputError::TooBig { .. } => failure.help("hand on a path and declare the file under outputs"),
            OutputError::File(_) | OutputError::NotText => failure,
        }
    }
}

/// Reads the file. Values in which a secret stands are secrets.
pub(super) fn read(world: &World, path: &Path) -> Result<Outputs, OutputError> {
    match world.files.metadata(path)? {
        // A program may remove it: then it hands on nothing.
        None => return Ok(Outputs::new()),
        Some(metadata) if metadata.len() > LARGEST => {
            return Err(OutputError::TooBig { size: metadata.len() });
        }
        Some(_) => {}
    }
    let text = String::from_utf8(world.files.read(path)?).map_err(|_| OutputError::NotText)?;
    parse(&text, &world.masker)
}

fn parse(text: &str, masker: &Masker) -> Result<Outputs, OutputError> {
    let mut outputs = Outputs::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |why: String| OutputError::Line { line: index + 1, why };
        if line.trim().is_empty() {
            continue;
        }
        if line.trim_start().starts_with('{') {
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)
                .map_err(|error| wrong(format!("no JSON object (at column {})", error.column())))?;
            for (name, value) in object {
                check_name(&name).map_err(wrong)?;
                outputs.insert(name, seal(Value::from_json(&value), masker));
            }
        } else {
            let (name, value) = line.split_once('=').ok_or_else(|| wrong("there is no =".to_owned()))?;
            check_name(name).map_err(wrong)?;
            outputs.insert(name.to_owned(), seal(Value::text(value), masker));
        }
    }
    Ok(outputs)
}

fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(good) {
        return Err(format!(
            "a name holds letters, digits, - and _, and this one is of {}",
            count(name.chars().count(), "character")
        ));
    }
    if name == "changed" {
        return Err("changed is a name that flow gives itself".to_owned());
    }
    Ok(())
}

/// Makes secrets of texts in which one stands.
fn seal(value: Value, masker: &Masker) -> Value {
    match value {
        Value::Text(text) if matches!(masker.mask(&text), std::borrow::Cow::Owned(_)) => {
            Value::Secret(Secret::new(text))
        }
        Value::List(items) => Value::List(items.into_iter().map(|item| seal(item, masker)).collect()),
        Value::Record(record) => Value::Record(Record {
            name: record.name,
            fields: record.fields.into_iter().map(|(name, value)| (name, seal(value, masker))).collect(),
        }),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_json_are_read() {
        let text = "url=https://a/?x=1\n\n{\"count\":3,\"hosts\":[\"a\",\"b\"]}\nempty=\n";
        let outputs = parse(text, &Masker::default()).unwrap();
        assert_eq!(outputs["url"], Value::text("https://a/?x=1"));
        assert_eq!(outputs["count"], Value::Int(3));
        assert_eq!(outputs["hosts"], Value::texts(["a", "b"]));
        assert_eq!(outputs["empty"], Value::text(""));
        assert_eq!(outputs.len(), 4);
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, line) in [("ok=1\nno", 2), ("a b=1", 1), ("{\"a\":", 1), ("=x", 1), ("changed=1", 1)] {
            match parse(text, &Masker::default()) {
                Err(OutputError::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_secret_stays_one() {
        let masker = Masker::new([&Secret::new("swordfish")]);
        let outputs = parse("a=x-swordfish\n{\"b\":[\"swordfish\"]}\nc=plain", &masker).unwrap();
        assert!(outputs["a"].is_secret() && outputs["b"].is_secret() && !outputs["c"].is_secret());
    }
}
