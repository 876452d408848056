//! Values, and values that are not known yet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::StepId;
use super::secret::Secret;

/// What a setting, a variable or an output can be.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// `#true` or `#false`.
    Bool(bool),
    /// Several values.
    List(Vec<Value>),
    /// A name with fields, from `services { api port=8000 }`. Where text is needed it is the name.
    Record(Record),
    /// A secret. It stays one through every template it enters.
    Secret(Secret),
}

/// A named row of a record variable.
#[derive(Clone, Debug)]
pub struct Record {
    /// `api` of `api port=8000`.
    pub name: String,
    /// `port` and the others.
    pub fields: BTreeMap<String, Value>,
}

/// Outputs of a step by name. Never contains secrets once it is recorded.
pub type Outputs = BTreeMap<String, Value>;

impl Value {
    /// Text from anything that becomes some.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A list of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// The value where text is needed: numbers and booleans as written, a
    /// record by its name, a list joined by commas. `None` for a secret, which
    /// is never text by accident.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        Some(match self {
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Bool(flag) => flag.to_string(),
            Self::Record(record) => record.name.clone(),
            Self::List(items) => items.iter().map(Self::as_text).collect::<Option<Vec<_>>>()?.join(","),
            Self::Secret(_) => return None,
        })
    }

    /// The items of a list; anything else is a list of one.
    #[must_use]
    pub fn into_items(self) -> Vec<Value> {
        match self {
            Self::List(items) => items,
            other => vec![other],
        }
    }

    /// Whether a secret is in it.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        match self {
            Self::Secret(_) => true,
            Self::List(items) => items.iter().any(Self::is_secret),
            Self::Record(record) => record.fields.values().any(Self::is_secret),
            _ => false,
        }
    }

    /// What a type mismatch is called in messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Int(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Record(_) => "a record",
            Self::Secret(_) => "a secret",
        }
    }

    /// The JSON of a value that may be recorded; a secret is `null`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Int(number) => (*number).into(),
            Self::Bool(flag) => (*flag).into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Record(record) => {
                let mut object = serde_json::Map::new();
                object.insert("name".to_owned(), record.name.clone().into());
                object.extend(record.fields.iter().map(|(k, v)| (k.clone(), v.to_json())));
                object.into()
            }
            Self::Secret(_) => serde_json::Value::Null,
        }
    }

    /// The value behind JSON; an object becomes a record (its `name`, else empty), numbers with
    /// fractions become text, `null` becomes empty text.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Text(String::new()),
            Json::Bool(flag) => Self::Bool(*flag),
            Json::Number(number) => number.as_i64().map_or_else(|| Self::Text(number.to_string()), Self::Int),
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            Json::Object(object) => Self::Record(Record {
                name: object.get("name").and_then(Json::as_str).unwrap_or_default().to_owned(),
                fields: object
                    .iter()
                    .filter(|(key, _)| *key != "name")
                    .map(|(key, value)| (key.clone(), Self::from_json(value)))
                    .collect(),
            }),
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Equal when both are known in the clear and the same; a secret equals nothing.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Record(a), Self::Record(b)) => a.name == b.name && a.fields == b.fields,
            _ => false,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_json(&serde_json::Value::deserialize(deserializer)?))
    }
}

/// A value that is known, or that will be known once a step has run.
#[derive(Clone, Debug, PartialEq)]
pub enum Field<T> {
    /// Known now.
    Known(T),
    /// Known after this step; shown as `(known after STEP)`.
    After(StepId),
}

impl<T> Field<T> {
    /// Changes the known value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Known(value) => Field::Known(f(value)),
            Self::After(step) => Field::After(step),
        }
    }

    /// The known value.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::After(_) => None,
        }
    }
}
