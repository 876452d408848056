//! The settings of a step kind, as one table that feeds the reader, `flow
//! check`, help and the manual, and the typed values that a kind reads back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::syntax::source::Span;

use super::names::StepId;
use super::template::{Scope, Template, Unresolved};
use super::units;
use super::value::{Field, Value};

/// One row of a kind's table.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of its own in the table")]
pub struct Setting {
    /// As written in a flow file.
    pub name: &'static str,
    /// What may stand there.
    pub shape: Shape,
    /// Whether a step is a mistake without it.
    pub required: bool,
    /// Whether `${secret.…}` may stand there.
    pub secret: bool,
    /// Whether it names what the step changes: a service, a bucket, a database.
    pub target: bool,
    /// Whether it names an environment in whose account the step reads.
    pub environment: bool,
    /// One sentence for help and the manual.
    pub help: &'static str,
}

impl Setting {
    /// An optional setting without secrets.
    #[must_use]
    pub const fn new(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self { name, shape, required: false, secret: false, target: false, environment: false, help }
    }

    /// It must be given.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Secrets may stand there.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// It names what the step changes.
    #[must_use]
    pub const fn target(mut self) -> Self {
        self.target = true;
        self
    }

    /// It names an environment in whose account the step reads.
    #[must_use]
    pub const fn environment(mut self) -> Self {
        self.environment = true;
        self
    }
}

/// What may stand in a setting.
#[derive(Debug)]
pub enum Shape {
    /// One string.
    Text,
    /// One or more strings, or a list.
    Texts,
    /// One whole number.
    Int,
    /// `#true` or `#false`.
    Bool,
    /// `30s`, `5m`, `2h`.
    Duration,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path relative to the project root. `reads` when the step reads what lies there, so that a
    /// step whose outputs it covers decides when it can be planned.
    Path {
        /// The step reads files under it.
        reads: bool,
    },
    /// `sh` text that is never interpolated.
    Script,
    /// `NAME K=V …`, `NAME "K" "V"` or a block of `K V`.
    Map,
    /// A node with settings of its own: `container NAME image=… { … }`. Its fields may be written
    /// as properties when they hold one value.
    Node {
        /// What its first argument is.
        head: Head,
        /// Whether it may be given several times.
        many: bool,
        /// Its own settings.
        fields: &'static [Setting],
    },
}

/// The argument of a [`Shape::Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// None: `until { command … }`.
    None,
    /// A name or pattern: `container "api"`; the text says what it is called in messages.
    Text(&'static str),
    /// `#true` or `#false`: `delete #true keep-releases=3`.
    Bool,
}

/// What stands in the file for one setting; `T` is a [`Template`] as written, a [`Field`] once resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Given<T> {
    /// For every shape of one value.
    One(T),
    /// [`Shape::Texts`], also one that holds a whole list (`"${env.services}"`).
    Many(Vec<T>),
    /// [`Shape::Script`].
    Script(String),
    /// [`Shape::Map`], in order.
    Map(Vec<(String, T)>),
    /// [`Shape::Node`], in order.
    Nodes(Vec<GivenNode<T>>),
}

/// One node with settings of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenNode<T> {
    /// Its argument; absent for [`Head::None`].
    pub head: Option<T>,
    /// Its settings.
    pub settings: Settings<T>,
}

/// Settings by name, checked against their table: nothing in it is unknown, of a wrong shape or missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings<T> {
    entries: BTreeMap<&'static str, (Given<T>, Span)>,
}

/// As they stand in the file.
pub type Written = Settings<Template>;
/// With every reference replaced.
pub type Ready = Settings<Field<Value>>;

impl<T> Default for Settings<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<T> Settings<T> {
    /// Puts one in; the reader does.
    pub fn insert(&mut self, name: &'static str, given: Given<T>, span: Span) {
        self.entries.insert(name, (given, span));
    }

    /// What stands there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Given<T>> {
        self.entries.get(name).map(|(given, _)| given)
    }

    /// Where it stands.
    #[must_use]
    pub fn span(&self, name: &str) -> Option<Span> {
        self.entries.get(name).map(|(_, span)| *span)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Given<T>)> {
        self.entries.iter().map(|(name, (given, _))| (*name, given))
    }

    /// Changes every value, keeping shape and place.
    pub fn try_map<U, E>(&self, f: &mut impl FnMut(&T) -> Result<U, E>) -> Result<Settings<U>, E> {
        let mut entries = BTreeMap::new();
        for (name, (given, span)) in &self.entries {
            entries.insert(*name, (given.try_map(f)?, *span));
        }
        Ok(Settings { entries })
    }

    /// Every value in it.
    #[must_use]
    pub fn values(&self) -> Vec<&T> {
        let mut all = Vec::new();
        for (given, _) in self.entries.values() {
            given.collect(&mut all);
        }
        all
    }
}

impl<T> Given<T> {
    fn try_map<U, E>(&self, f: &mut impl FnMut(&T) -> Result<U, E>) -> Result<Given<U>, E> {
        Ok(match self {
            Self::One(value) => Given::One(f(value)?),
            Self::Many(values) => Given::Many(values.iter().map(&mut *f).collect::<Result<_, _>>()?),
            Self::Script(text) => Given::Script(text.clone()),
            Self::Map(pairs) => Given::Map(
                pairs.iter().map(|(key, value)| Ok((key.clone(), f(value)?))).collect::<Result<_, E>>()?,
            ),
            Self::Nodes(nodes) => {
                let mut mapped = Vec::with_capacity(nodes.len());
                for node in nodes {
                    let head = node.head.as_ref().map(&mut *f).transpose()?;
                    mapped.push(GivenNode { head, settings: node.settings.try_map(f)? });
                }
                Given::Nodes(mapped)
            }
        })
    }

    /// Adds every value in it to `all`.
    pub fn collect<'a>(&'a self, all: &mut Vec<&'a T>) {
        match self {
            Self::One(value) => all.push(value),
            Self::Many(values) => all.extend(values),
            Self::Script(_) => {}
            Self::Map(pairs) => all.extend(pairs.iter().map(|(_, value)| value)),
            Self::Nodes(nodes) => {
                for node in nodes {
                    all.extend(node.head.as_ref());
                    for (given, _) in node.settings.entries.values() {
                        given.collect(all);
                    }
                }
            }
        }
    }
}

impl Written {
    /// Replaces every reference. Lists inside [`Given::Many`] stay lists here; the readers below
    /// flatten them.
    pub fn resolve(&self, scope: &dyn Scope) -> Result<Ready, Unresolved> {
        self.try_map(&mut |template: &Template| template.resolve(scope))
    }

    /// The same without those settings that refer to something without a value.
    #[must_use]
    pub fn resolve_what_can_be(&self, scope: &dyn Scope) -> Ready {
        let mut ready = Ready::default();
        for (name, (given, span)) in &self.entries {
            if let Ok(given) = given.try_map(&mut |template: &Template| template.resolve(scope)) {
                ready.insert(name, given, *span);
            }
        }
        ready
    }
}

/// Why a kind cannot read a setting (yet).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unready {
    /// It is known only after a step: the step is planned as "(known after STEP)".
    #[error("{setting} is known after {step}")]
    After {
        /// The setting.
        setting: &'static str,
        /// The step that will say it.
        step: StepId,
    },
    /// Its value came out wrong: `within` is "soon".
    #[error("{setting}: {why}")]
    Invalid {
        /// The setting.
        setting: &'static str,
        /// What is wrong and what was expected.
        why: String,
    },
}

/// How kinds read their settings. `Ok(None)` and empty lists mean "not given".
impl Ready {
    /// Whether it is given, and everything in it known.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        let mut all = Vec::new();
        self.get(name).map(|given| given.collect(&mut all)).is_some()
            && all.iter().all(|field| matches!(field, Field::Known(_)))
    }

    /// The value, known or not.
    #[must_use]
    pub fn field(&self, name: &'static str) -> Option<&Field<Value>> {
        match self.get(name) {
            Some(Given::One(field)) => Some(field),
            _ => None,
        }
    }

    /// The value where it must be known by now.
    pub fn value(&self, name: &'static str) -> Result<Option<&Value>, Unready> {
        self.field(name).map(|field| known(name, field)).transpose()
    }

    /// Text.
    pub fn opt_text(&self, name: &'static str) -> Result<Option<String>, Unready> {
        self.value(name)?.map(|value| text(name, value)).transpose()
    }

    /// Text of a required setting.
    pub fn text(&self, name: &'static str) -> Result<String, Unready> {
        self.opt_text(name)?.ok_or_else(|| missing(name))
    }

    /// A secret or, where a file gives one in the open, text as a secret.
    pub fn secret(&self, name: &'static str) -> Result<Option<super::secret::Secret>, Unready> {
        Ok(match self.value(name)? {
            None => None,
            Some(Value::Secret(secret)) => Some(secret.clone()),
            Some(other) => Some(super::secret::Secret::new(text(name, other)?)),
        })
    }

    /// Several texts; lists are flattened.
    pub fn texts(&self, name: &'static str) -> Result<Vec<String>, Unready> {
        let mut all = Vec::new();
        let fields = match self.get(name) {
            Some(Given::Many(fields)) => fields.as_slice(),
            Some(Given::One(field)) => std::slice::from_ref(field),
            _ => &[],
        };
        for field in fields {
            for item in known(name, field)?.clone().into_items() {
                all.push(text(name, &item)?);
            }
        }
        Ok(all)
    }

    /// A whole number, also one written in a string.
    pub fn int(&self, name: &'static str) -> Result<Option<i64>, Unready> {
        self.value(name)?
            .map(|value| match value {
                Value::Int(number) => Ok(*number),
                other => text(name, other)?.parse().map_err(|_| Unready::Invalid {
                    setting: name,
                    why: "a whole number is expected".to_owned(),
                }),
            })
            .transpose()
    }

    /// `#true` or `#false`; absent is `#false`.
    pub fn flag(&self, name: &'static str) -> Result<bool, Unready> {
        Ok(self.opt_flag(name)?.unwrap_or(false))
    }

    /// `#true` or `#false`.
    pub fn opt_flag(&self, name: &'static str) -> Result<Option<bool>, Unready> {
        self.value(name)?
            .map(|value| match value {
                Value::Bool(flag) => Ok(*flag),
                other => match text(name, other)?.as_str() {
                    "true" => Ok(true),
                    "false" => Ok(false),
                    _ => {
                        Err(Unready::Invalid { setting: name, why: "#true or #false is expected".to_owned() })
                    }
                },
            })
            .transpose()
    }

    /// A duration.
    pub fn duration(&self, name: &'static str) -> Result<Option<Duration>, Unready> {
        self.opt_text(name)?
            .map(|text| {
                units::parse_duration(&text).ok_or_else(|| Unready::Invalid {
                    setting: name,
                    why: format!("\"{text}\" is no duration; write 30s, 5m or 2h"),
                })
            })
            .transpose()
    }

    /// A script.
    #[must_use]
    pub fn script(&self, name: &'static str) -> Option<&str> {
        match self.get(name) {
            Some(Given::Script(text)) => Some(text),
            _ => None,
        }
    }

    /// Pairs, whose values may be secrets or not known yet.
    #[must_use]
    pub fn map(&self, name: &'static str) -> &[(String, Field<Value>)] {
        match self.get(name) {
            Some(Given::Map(pairs)) => pairs,
            _ => &[],
        }
    }

    /// Nodes with settings of their own.
    #[must_use]
    pub fn nodes(&self, name: &'static str) -> &[GivenNode<Field<Value>>] {
        match self.get(name) {
            Some(Given::Nodes(nodes)) => nodes,
            _ => &[],
        }
    }

    /// The only node of that name.
    #[must_use]
    pub fn node(&self, name: &'static str) -> Option<&GivenNode<Field<Value>>> {
        self.nodes(name).first()
    }
}

impl GivenNode<Field<Value>> {
    /// The head as text.
    pub fn name(&self, setting: &'static str) -> Result<String, Unready> {
        let field = self.head.as_ref().ok_or_else(|| missing(setting))?;
        text(setting, known(setting, field)?)
    }

    /// The head as a switch; absent is on, since the node was written.
    pub fn is_on(&self, setting: &'static str) -> Result<bool, Unready> {
        match &self.head {
            None => Ok(true),
            Some(field) => Ok(!matches!(known(setting, field)?, Value::Bool(false))),
        }
    }
}

/// The value of a field that must be known by now.
pub fn known<'a>(setting: &'static str, field: &'a Field<Value>) -> Result<&'a Value, Unready> {
    match field {
        Field::Known(value) => Ok(value),
        Field::After(step) => Err(Unready::After { setting, step: step.clone() }),
    }
}

fn text(setting: &'static str, value: &Value) -> Result<String, Unready> {
    value.as_text().ok_or_else(|| Unready::Invalid { setting, why: "a secret cannot stand here".to_owned() })
}

fn missing(setting: &'static str) -> Unready {
    Unready::Invalid { setting, why: "it is not given".to_owned() }
}
