//! Typed access to one node, which notes what was asked for and reports the rest.
//!
//! A decoder asks for the names it knows; [`NodeReader::finish`] then reports every argument,
//! property and child that nobody asked for, with the nearest name that somebody did.

use super::problem::{Problem, Problems, nearest};
use super::source::{Span, Spanned};
use super::tree::{Literal, Node, Prop};

/// A child or a property: both are ways to write `needs "test"`.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'n> {
    /// `needs "test"` in the block.
    Child(&'n Node),
    /// `needs="test"` behind the name.
    Prop(&'n Prop),
}

impl<'n> Entry<'n> {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'n str {
        match self {
            Self::Child(node) => &node.name.value,
            Self::Prop(prop) => &prop.name.value,
        }
    }

    /// Where its name stands.
    #[must_use]
    pub fn name_span(self) -> Span {
        match self {
            Self::Child(node) => node.name.span,
            Self::Prop(prop) => prop.name.span,
        }
    }

    /// Where all of it stands.
    #[must_use]
    pub fn span(self) -> Span {
        match self {
            Self::Child(node) => node.span,
            Self::Prop(prop) => prop.name.span.to(prop.value.span),
        }
    }

    /// Its values.
    #[must_use]
    pub fn args(self) -> &'n [Literal] {
        match self {
            Self::Child(node) => &node.args,
            Self::Prop(prop) => std::slice::from_ref(&prop.value),
        }
    }

    /// Its properties; a property has none.
    #[must_use]
    pub fn props(self) -> &'n [Prop] {
        match self {
            Self::Child(node) => &node.props,
            Self::Prop(_) => &[],
        }
    }

    /// Its children; a property has none.
    #[must_use]
    pub fn children(self) -> &'n [Node] {
        match self {
            Self::Child(node) => &node.children,
            Self::Prop(_) => &[],
        }
    }

    /// Whether a syntax error cut it short.
    #[must_use]
    pub fn broken(self) -> bool {
        matches!(self, Self::Child(node) if node.broken)
    }

    /// Its only value, where nothing else may stand. `None` when that was reported.
    pub fn only(self, problems: &mut Problems) -> Option<&'n Literal> {
        self.bare(problems);
        match self.args() {
            [one] => Some(one),
            [] if self.broken() => None,
            [] => {
                problems.push(Problem::at(self.name_span(), format!("{} needs a value", self.name())));
                None
            }
            [_, second, ..] => {
                problems.push(
                    Problem::at(second.span, format!("{} takes one value", self.name()))
                        .label("one too many"),
                );
                None
            }
        }
    }

    /// Reports properties and a block, where only values may stand.
    pub fn bare(self, problems: &mut Problems) {
        for prop in self.props() {
            problems.push(Problem::at(
                prop.name.span,
                format!("{} takes no property {}", self.name(), prop.name.value),
            ));
        }
        self.no_block(problems);
    }

    /// Reports a block, where none may stand.
    pub fn no_block(self, problems: &mut Problems) {
        if let Some(child) = self.children().first() {
            problems.push(Problem::at(child.name.span, format!("{} takes no block", self.name())));
        }
    }
}

/// Reads one node.
#[derive(Debug)]
pub struct NodeReader<'n> {
    /// The node.
    pub node: &'n Node,
    args: usize,
    props: Vec<bool>,
    children: Vec<bool>,
    known: Vec<&'static str>,
}

impl<'n> NodeReader<'n> {
    /// Starts to read a node.
    #[must_use]
    pub fn new(node: &'n Node) -> Self {
        Self {
            node,
            args: 0,
            props: vec![false; node.props.len()],
            children: vec![false; node.children.len()],
            known: Vec::new(),
        }
    }

    /// The next argument.
    pub fn arg(&mut self) -> Option<&'n Literal> {
        let arg = self.node.args.get(self.args)?;
        self.args += 1;
        Some(arg)
    }

    /// All further arguments.
    pub fn args(&mut self) -> &'n [Literal] {
        let rest = self.node.args.get(self.args..).unwrap_or_default();
        self.args = self.node.args.len();
        rest
    }

    /// The next argument as the name of what the node declares; a mistake when there is none.
    pub fn name(&mut self, problems: &mut Problems) -> Option<Spanned<String>> {
        let what = &self.node.name.value;
        match self.arg() {
            Some(Literal { scalar: super::tree::Scalar::Text(text), span, .. }) => {
                Some(Spanned::new(text.clone(), *span))
            }
            Some(other) => {
                problems.push(
                    Problem::at(other.span, format!("the name of {what} is a string"))
                        .label(format!("this is {}", other.type_name())),
                );
                None
            }
            None => {
                if !self.node.broken {
                    problems.push(
                        Problem::at(self.node.name.span, format!("{what} needs a name"))
                            .label(format!("write {what} \"NAME\"")),
                    );
                }
                None
            }
        }
    }

    /// Every child and property of that name, properties first, and notes that the name is known.
    pub fn all(&mut self, name: &'static str) -> Vec<Entry<'n>> {
        self.knows(name);
        let mut found = Vec::new();
        for (read, prop) in self.props.iter_mut().zip(&self.node.props) {
            if !*read && prop.name.value == name {
                *read = true;
                found.push(Entry::Prop(prop));
            }
        }
        for (read, child) in self.children.iter_mut().zip(&self.node.children) {
            if !*read && child.name.value == name {
                *read = true;
                found.push(Entry::Child(child));
            }
        }
        found
    }

    /// The child or property of that name; a second one is reported.
    pub fn one(&mut self, name: &'static str, problems: &mut Problems) -> Option<Entry<'n>> {
        let all = self.all(name);
        let first = *all.first()?;
        for second in all.iter().skip(1) {
            problems.push(
                Problem::at(second.name_span(), format!("{name} is given twice"))
                    .label("again")
                    .also(first.name_span(), "first"),
            );
        }
        Some(first)
    }

    /// Children that nobody asked for yet, in order; they count as read.
    pub fn rest(&mut self) -> Vec<&'n Node> {
        let mut found = Vec::new();
        for (read, child) in self.children.iter_mut().zip(&self.node.children) {
            if !*read {
                *read = true;
                found.push(child);
            }
        }
        found
    }

    /// Properties that nobody asked for yet, in order; they count as read.
    pub fn rest_props(&mut self) -> Vec<&'n Prop> {
        let mut found = Vec::new();
        for (read, prop) in self.props.iter_mut().zip(&self.node.props) {
            if !*read {
                *read = true;
                found.push(prop);
            }
        }
        found
    }

    /// Notes a name that may stand here, for "did you mean".
    pub fn knows(&mut self, name: &'static str) {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
    }

    /// Reports what nobody asked for. `what` is the node in messages: `flow`, `docker-build`.
    pub fn finish(self, what: &str, problems: &mut Problems) {
        for arg in self.node.args.get(self.args..).unwrap_or_default() {
            let text = if self.args == 0 { "takes no argument" } else { "takes no further argument" };
            problems.push(Problem::at(arg.span, format!("{what} {text}")));
        }
        let props = self.props.iter().zip(&self.node.props).filter(|(read, _)| !**read);
        let children = self.children.iter().zip(&self.node.children).filter(|(read, _)| !**read);
        let names = props.map(|(_, prop)| &prop.name).chain(children.map(|(_, child)| &child.name));
        for name in names {
            problems.push(unknown(what, name, self.known.iter().copied()));
        }
    }
}

/// A name that may not stand in `what`.
#[must_use]
pub fn unknown<'a>(
    what: &str,
    name: &Spanned<String>,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Problem {
    let problem = Problem::at(name.span, format!("{what} has no setting \"{}\"", name.value));
    if let Some(near) = nearest(&name.value, known.clone()) {
        return problem.label(format!("did you mean {near}?"));
    }
    let mut all: Vec<&str> = known.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() { problem } else { problem.help(format!("it has {}", all.join(", "))) }
}
