//! A template as a tree whose every text knows its line and how it was written.
//!
//! JSON is read as the YAML that it also is. Nothing here knows CloudFormation.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// Deeper texts are no templates.
const DEEPEST: usize = 200;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) struct Node {
    /// `Ref`, `Sub`, `GetAtt`, …, of a short form.
    pub tag: Option<String>,
    /// From one on.
    pub line: usize,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) enum Value {
    /// `plain` when it stands without quotes.
    Text {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In order of writing.
    Map(Vec<(String, Node)>),
    /// What an alias repeats.
    Alias,
}

impl Node {
    pub(in crate::steps::cfn) fn get(&self, key: &str) -> Option<&Self> {
        self.pairs().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    pub(in crate::steps::cfn) fn pairs(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(pairs) => pairs,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(in crate::steps::cfn) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A function and its argument, in the short or in the long form, without `Fn::`.
    pub(super) fn call(&self) -> Option<(&str, &Self)> {
        if let Some(tag) = &self.tag {
            return Some((tag, self));
        }
        match self.pairs() {
            [(name, argument)] if name == "Ref" || name == "Condition" => Some((name, argument)),
            [(name, argument)] => Some((name.strip_prefix("Fn::")?, argument)),
            _ => None,
        }
    }
}

/// Reads a text; the error has the line and what is wrong there.
pub(in crate::steps) fn read(text: &str) -> Result<Node, (usize, String)> {
    let mut open: Vec<Open> = Vec::new();
    let mut whole = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| (error.marker().line(), error.info().to_owned()))?;
        let line = span.start.line();
        let done = match event {
            Event::Scalar(text, style, _, tag) => {
                let value = Value::Text { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                Node { tag: short(tag.as_deref()), line, value }
            }
            Event::Alias(_) => Node { tag: None, line, value: Value::Alias },
            Event::SequenceStart(_, tag) => {
                open.push(Open::List(
                    Node { tag: short(tag.as_deref()), line, value: Value::Alias },
                    Vec::new(),
                ));
                deep(&open, line)?;
                continue;
            }
            Event::MappingStart(_, tag) => {
                let node = Node { tag: short(tag.as_deref()), line, value: Value::Alias };
                open.push(Open::Map(node, Vec::new(), None));
                deep(&open, line)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(node, items)) => Node { value: Value::List(items), ..node },
                Some(Open::Map(node, pairs, _)) => Node { value: Value::Map(pairs), ..node },
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(_, items)) => items.push(done),
            Some(Open::Map(_, pairs, key)) => match key.take() {
                Some(key) => pairs.push((key, done)),
                None => *key = Some(done.text().unwrap_or_default().to_owned()),
            },
            None => whole = Some(done),
        }
    }
    whole.ok_or_else(|| (1, "the file is empty".to_owned()))
}

/// A list or map whose end was not met yet.
enum Open {
    List(Node, Vec<Node>),
    Map(Node, Vec<(String, Node)>, Option<String>),
}

fn deep(open: &[Open], line: usize) -> Result<(), (usize, String)> {
    if open.len() > DEEPEST { Err((line, format!("more than {DEEPEST} levels"))) } else { Ok(()) }
}

fn short(tag: Option<&Tag>) -> Option<String> {
    tag.filter(|tag| tag.handle == "!").map(|tag| tag.suffix.clone())
}
