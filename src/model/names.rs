//! Names, each its own type, so that a flow cannot be taken for a step.
//!
//! They are handed on in thousands of copies; a copy shares its text.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes a name as it stands.
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(name.as_ref().into())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::new(String::deserialize(deserializer)?))
            }
        }
    };
}

name!(
    /// A flow, as in `flow run NAME`.
    FlowName
);
name!(
    /// An environment, as in `--env NAME`.
    EnvName
);
name!(
    /// A step as written; with `each` it stands for several [`StepId`]s.
    StepName
);
name!(
    /// A group of steps.
    GroupName
);
name!(
    /// One run of a flow: four characters that are easy to read out.
    RunId
);

/// One instance of a step: its name and, with `each`, the values it stands for.
///
/// Written `image[api]`, with several `each` `image[api,eu]` in order of declaration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId {
    /// The step as written.
    pub name: StepName,
    /// The value of each `each`, in order of declaration; empty without.
    pub instance: Arc<[String]>,
}

impl StepId {
    /// A step without `each`.
    #[must_use]
    pub fn plain(name: StepName) -> Self {
        Self { name, instance: Arc::default() }
    }

    /// Reads `image` or `image[api,eu]`. Nothing is looked up.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix(']').and_then(|t| t.split_once('[')) {
            Some((name, values)) => Self {
                name: StepName::new(name),
                instance: values.split(',').map(|v| v.trim().to_owned()).collect(),
            },
            None => Self::plain(StepName::new(text)),
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.instance.is_empty() {
            return f.pad(self.name.as_str());
        }
        f.pad(&format!("{}[{}]", self.name, self.instance.join(",")))
    }
}

impl Serialize for StepId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StepId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}
