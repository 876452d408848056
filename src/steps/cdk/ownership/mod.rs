//! Whose resources are: what CloudFormation would only say in the middle of a
//! deployment, found while planning.
//!
//! Looked at are resources that a template names itself and that its stack does
//! not have yet, buckets that a template refers to by name without making them,
//! and exports that it imports. Only what is certain is reported: where nobody
//! can say whether a name is taken, nothing is.

mod names;
mod world;

use std::collections::BTreeMap;
use std::fmt;

use self::names::{Literals, Named};
pub(super) use self::world::There;
use self::world::World;
use super::assembly::AppStack;
use crate::model::units::count;
use crate::steps::cfn::exports::all_exports;
use crate::steps::cfn::named::is_called;
use crate::steps::{Context, Failure, FailureClass};

const BUCKET: &str = "AWS::S3::Bucket";

/// One resource that is not whose a template takes it for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Conflict {
    /// The name.
    resource: String,
    kind: String,
    /// The stack that will not do.
    stack: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// Another stack of the app creates it too.
    Twice { other: String },
    /// Another stack of the account has it.
    Owned { by: String },
    /// It is there, and no stack has it.
    Nobodys,
    /// The name is taken, and these credentials may not see by whom.
    Taken,
    /// It is referred to and does not exist.
    Missing,
    /// It is referred to and may not be read.
    Forbidden,
    /// It is referred to, and made only by a stack that comes later.
    Later { by: String },
    /// An export that no stack has.
    NoExport,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, kind, stack, why } = self;
        let what = if kind.is_empty() { resource.clone() } else { format!("{resource} ({kind})") };
        match why {
            Why::Twice { other } => write!(f, "{what}: {stack} and {other} both create it"),
            Why::Owned { by } => write!(f, "{what}: {stack} creates it, and it belongs to the stack {by}"),
            Why::Nobodys => write!(f, "{what}: {stack} creates it, and it exists and belongs to no stack"),
            Why::Taken => {
                write!(f, "{what}: {stack} creates it, and the name is taken outside of this account")
            }
            Why::Missing => write!(f, "{what}: {stack} imports it, and it does not exist"),
            Why::Forbidden => write!(f, "{what}: {stack} imports it, and these credentials may not read it"),
            Why::Later { by } => write!(f, "{what}: {stack} imports it, and {by} creates it only later"),
            Why::NoExport => write!(f, "{what}: {stack} imports this export, and no stack has it"),
        }
    }
}

impl Why {
    fn help(&self) -> &'static str {
        match self {
            Self::Twice { .. } => "let one stack create it and the other import it by name",
            Self::Owned { .. } => "import it by name, or take it out of the other stack first",
            Self::Nobodys => "bring it into the stack with cdk import, or delete it",
            Self::Taken => "choose another name",
            Self::Missing | Self::NoExport => {
                "deploy the stack that creates it first; a name that is meant to be free stands in foreign"
            }
            Self::Forbidden => {
                "let these credentials read it; a name that is meant to be foreign stands in foreign"
            }
            Self::Later { .. } => "name the stack that creates it first in stacks",
        }
    }
}

/// What a check is about.
pub(super) struct Check<'a> {
    /// All stacks of the app.
    pub app: &'a [AppStack],
    /// Those that are deployed, in order.
    pub chosen: &'a [&'a AppStack],
    /// Names that are left alone.
    pub foreign: &'a [String],
    pub account: &'a str,
    pub region: &'a str,
}

impl Check<'_> {
    /// Refuses what CloudFormation would refuse in the middle.
    pub(super) async fn run(&self, cx: &Context) -> Result<(), Failure> {
        let world = World::look(cx, self.chosen).await?;
        let mut conflicts = self.created(cx, &world).await?;
        conflicts.extend(self.imported(cx).await?);
        conflicts.extend(self.exports(cx, &world).await?);
        conflicts.sort();
        conflicts.dedup();
        let Some(first) = conflicts.first() else { return Ok(()) };
        let help = first.why.help();
        let reason = match conflicts.len() {
            1 => "a resource is not whose the templates take it for".to_owned(),
            number => format!("{} are not whose the templates take them for", count(number, "resource")),
        };
        Err(Failure::of(FailureClass::Refused, reason)
            .details(conflicts.iter().map(ToString::to_string))
            .help(help))
    }

    fn literals<'a>(&'a self, stack: &'a AppStack) -> Literals<'a> {
        Literals::new(stack, self.account, self.region)
    }

    fn is_foreign(&self, name: &str) -> bool {
        self.foreign.iter().any(|foreign| foreign == name)
    }

    /// Resources that a stack would make and cannot.
    async fn created(&self, cx: &Context, world: &World) -> Result<Vec<Conflict>, Failure> {
        let chosen = |name: &str| self.chosen.iter().any(|stack| stack.name == name);
        let mut makers: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for stack in self.app {
            for Named { kind, name } in self.literals(stack).named() {
                makers.entry((kind, name)).or_default().push(stack.name.clone());
            }
        }
        let (mut conflicts, mut fresh) = (Vec::new(), Vec::new());
        for ((kind, name), stacks) in makers {
            if self.is_foreign(&name) || !stacks.iter().any(|stack| chosen(stack)) {
                continue;
            }
            if let [stack, other, ..] = stacks.as_slice() {
                conflicts.push(Conflict {
                    resource: name,
                    kind,
                    stack: stack.clone(),
                    why: Why::Twice { other: other.clone() },
                });
            } else if let Some(stack) = stacks.into_iter().next()
                && !world.has(&stack, &kind, &name)
            {
                fresh.push((kind, name, stack));
            }
        }
        let mut suspects = Vec::new();
        for (kind, name, stack) in fresh {
            match world::look_for(cx, &kind, &name).await? {
                There::No => {}
                there => suspects.push((kind, name, stack, there)),
            }
        }
        if suspects.is_empty() {
            return Ok(conflicts);
        }
        let everybody = world::everybody(cx).await?;
        for (kind, name, stack, there) in suspects {
            let owner = everybody.iter().find(|(owner, resources)| {
                **owner != stack
                    && resources.iter().any(|r| r.kind == kind && is_called(&kind, &r.physical, &name))
            });
            let why = match (owner, there) {
                (Some((by, _)), _) => Why::Owned { by: by.clone() },
                (None, There::Yes) => Why::Nobodys,
                (None, There::Forbidden) => Why::Taken,
                (None, There::No | There::Unknown) => continue,
            };
            conflicts.push(Conflict { resource: name, kind, stack, why });
        }
        Ok(conflicts)
    }

    /// Buckets that a stack takes for granted.
    async fn imported(&self, cx: &Context) -> Result<Vec<Conflict>, Failure> {
        let mut conflicts = Vec::new();
        for (place, stack) in self.chosen.iter().enumerate() {
            let literals = self.literals(stack);
            let own = literals.named();
            for name in literals.buckets() {
                let is_own = own.iter().any(|named| named.kind == BUCKET && named.name == name);
                if is_own || self.is_foreign(&name) {
                    continue;
                }
                let creates = |other: &&&AppStack| {
                    self.literals(other)
                        .named()
                        .iter()
                        .any(|named| named.kind == BUCKET && named.name == name)
                };
                let maker = self.chosen.iter().position(|other| creates(&other));
                if maker.is_some_and(|maker| maker < place) {
                    continue;
                }
                let why =
                    match (world::look_for(cx, BUCKET, &name).await?, maker.and_then(|m| self.chosen.get(m)))
                    {
                        (There::Yes | There::Unknown, _) => continue,
                        (There::No, Some(later)) => Why::Later { by: later.name.clone() },
                        (There::No, None) => Why::Missing,
                        (There::Forbidden, _) => Why::Forbidden,
                    };
                conflicts.push(Conflict {
                    resource: name,
                    kind: BUCKET.to_owned(),
                    stack: stack.name.clone(),
                    why,
                });
            }
        }
        Ok(conflicts)
    }

    /// Exports that a stack takes for granted.
    async fn exports(&self, cx: &Context, world: &World) -> Result<Vec<Conflict>, Failure> {
        let mut conflicts = Vec::new();
        let mut made: Vec<String> = Vec::new();
        for stack in self.chosen {
            let literals = self.literals(stack);
            for name in literals.imports() {
                if !made.contains(&name)
                    && !self.is_foreign(&name)
                    && !world.exports(cx).await?.contains_key(&name)
                {
                    let why = Why::NoExport;
                    conflicts.push(Conflict {
                        resource: name,
                        kind: String::new(),
                        stack: stack.name.clone(),
                        why,
                    });
                }
            }
            made.extend(literals.exports());
        }
        Ok(conflicts)
    }
}

/// Whether a stack needs an export that no stack has yet.
pub(super) async fn waits_for_exports(
    stack: &AppStack,
    account: &str,
    region: &str,
    cx: &Context,
) -> Result<bool, Failure> {
    let imports = Literals::new(stack, account, region).imports();
    if imports.is_empty() {
        return Ok(false);
    }
    let there = all_exports(cx).await?;
    Ok(imports.iter().any(|name| !there.contains_key(name)))
}
