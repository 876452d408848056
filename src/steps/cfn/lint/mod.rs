//! Mistakes that a template shows by itself, found before anybody is asked:
//! CloudFormation names the first of them, in its own words and without a line.
//!
//! Two kinds: names that are referred to and do not exist, and words such as
//! OFF that stand without quotes, which CloudFormation reads as true or false.

mod tree;

use std::collections::BTreeSet;

pub(in crate::steps) use self::tree::{Node, Value, read};
use crate::steps::Failure;
use crate::syntax::problem::nearest;

/// What is wrong, and whether it is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) struct Mistake {
    pub line: usize,
    pub what: String,
    /// Whether CloudFormation would refuse it.
    pub certain: bool,
}

/// Refuses a template with mistakes, all of them named; returns what only may be one.
pub(in crate::steps) fn check(path: &str, body: &str) -> Result<Vec<String>, Failure> {
    let template = read(body)
        .map_err(|(line, why)| Failure::new(format!("{path} cannot be read: line {line}: {why}")))?;
    let (certain, perhaps): (Vec<Mistake>, Vec<Mistake>) =
        mistakes(&template).into_iter().partition(|mistake| mistake.certain);
    let line = |mistake: &Mistake| format!("line {}: {}", mistake.line, mistake.what);
    if certain.is_empty() {
        return Ok(perhaps.iter().map(|mistake| format!("{path}, {}", line(mistake))).collect());
    }
    let number = match certain.len() {
        1 => "a mistake".to_owned(),
        number => format!("{number} mistakes"),
    };
    Err(Failure::new(format!("{path} has {number}")).details(certain.iter().map(line)))
}

/// The exports that a template takes whose names stand in it plainly.
pub(in crate::steps) fn imports(body: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    if let Ok(template) = read(body) {
        walk(&template, &mut |node| {
            if let Some(("ImportValue", name)) = node.call()
                && (name.tag.is_none() || name.tag.as_deref() == Some("ImportValue"))
            {
                all.extend(name.text().map(str::to_owned));
            }
        });
    }
    all
}

fn mistakes(template: &Node) -> Vec<Mistake> {
    let mut found = Vec::new();
    // What macros make of a template is not seen here.
    if template.get("Transform").is_none() && !loops(template) {
        Names::of(template).unknown(template, &mut found);
    }
    words(template, &mut found);
    found.sort_by_key(|mistake| mistake.line);
    found
}

fn loops(template: &Node) -> bool {
    let mut found = false;
    walk(template, &mut |node| {
        let made = |(key, _): &(String, Node)| key.starts_with("Fn::ForEach") || key == "Fn::Transform";
        found |= node.tag.as_deref() == Some("Transform") || node.pairs().iter().any(made);
    });
    found
}

fn walk<'a>(node: &'a Node, each: &mut dyn FnMut(&'a Node)) {
    each(node);
    for (_, value) in node.pairs() {
        walk(value, each);
    }
    for item in node.items() {
        walk(item, each);
    }
}

/// What may be referred to.
struct Names<'a> {
    resources: BTreeSet<&'a str>,
    parameters: BTreeSet<&'a str>,
    conditions: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(template: &'a Node) -> Self {
        let keys = |section: &str| {
            let pairs = template.get(section).map(Node::pairs).unwrap_or_default();
            pairs.iter().map(|(name, _)| name.as_str()).collect()
        };
        Self { resources: keys("Resources"), parameters: keys("Parameters"), conditions: keys("Conditions") }
    }

    fn unknown(&self, template: &Node, found: &mut Vec<Mistake>) {
        for section in ["Resources", "Outputs", "Conditions"] {
            if let Some(node) = template.get(section) {
                walk(node, &mut |node| self.look(node, found));
            }
        }
        for (id, resource) in template.get("Resources").map(Node::pairs).unwrap_or_default() {
            for attribute in ["DependsOn", "Condition"] {
                let Some(node) = resource.get(attribute) else { continue };
                let known = if attribute == "DependsOn" { &self.resources } else { &self.conditions };
                for name in std::iter::once(node).chain(node.items()) {
                    if let Some(text) = name.text().filter(|text| !known.contains(text)) {
                        found.push(missing(
                            &format!("{attribute} of {id}"),
                            text,
                            name.line,
                            known.iter().copied(),
                        ));
                    }
                }
            }
        }
    }

    fn look(&self, node: &Node, found: &mut Vec<Mistake>) {
        let mut refer = |how: &str, name: &str, attribute: bool, line: usize| {
            let known = self.resources.contains(name)
                || (!attribute && (self.parameters.contains(name) || name.starts_with("AWS::")));
            if !known && !name.is_empty() {
                let others = self.resources.iter().chain(&self.parameters).copied();
                found.push(missing(how, name, line, others));
            }
        };
        match node.call() {
            Some(("Ref", name)) => {
                if let Some(text) = name.text() {
                    refer("Ref", text, false, name.line);
                }
            }
            Some(("GetAtt", what)) => {
                let first = what.items().first().unwrap_or(what);
                if let Some(text) = first.text() {
                    refer("GetAtt", text.split('.').next().unwrap_or_default(), true, first.line);
                }
            }
            Some(("Sub", what)) => {
                let first = what.items().first().unwrap_or(what);
                let own: Vec<&str> = what
                    .items()
                    .get(1)
                    .map(Node::pairs)
                    .unwrap_or_default()
                    .iter()
                    .map(|(k, _)| k.as_str())
                    .collect();
                for name in first.text().map(variables).unwrap_or_default() {
                    let base = name.split('.').next().unwrap_or_default();
                    if !own.contains(&name) {
                        refer("Sub", base, name.contains('.'), first.line);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The names between `${` and `}`, without those that stay as they are.
fn variables(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else { break };
        if !name.starts_with('!') {
            all.push(name.trim());
        }
        rest = after;
    }
    all
}

fn missing<'a>(how: &str, name: &str, line: usize, known: impl IntoIterator<Item = &'a str>) -> Mistake {
    let meant = nearest(name, known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Mistake {
        line,
        what: format!("{how} names {name}, which the template does not have{meant}"),
        certain: true,
    }
}

/// Words that YAML 1.1, and so CloudFormation, reads as true or false.
fn is_switch(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Properties whose value is a word, of which one is such a switch.
const WORDS: &[&str] = &[
    "AdvancedSecurityMode",
    "CertificateTransparencyLoggingPreference",
    "DeadLetterQueueRequired",
    "MfaConfiguration",
    "PerformanceInsights",
    "StorageEncryptionMode",
    "Value",
];
/// Maps of text.
const TEXTS: &[&str] = &["Labels", "Options", "Variables"];

fn words(template: &Node, found: &mut Vec<Mistake>) {
    let section = |name: &str| template.get(name).map(Node::pairs).unwrap_or_default();
    for (name, parameter) in section("Parameters") {
        if parameter.get("Type").and_then(Node::text) == Some("String") {
            for field in ["Default", "AllowedValues"] {
                let Some(node) = parameter.get(field) else { continue };
                for value in std::iter::once(node).chain(node.items()) {
                    switch(value, &format!("{field} of the parameter {name}"), true, found);
                }
            }
        }
    }
    for (_, resource) in section("Resources") {
        if let Some(properties) = resource.get("Properties") {
            in_properties(properties, false, found);
        }
    }
}

fn in_properties(node: &Node, texts: bool, found: &mut Vec<Mistake>) {
    for (name, value) in node.pairs() {
        let is_text = texts || WORDS.contains(&name.as_str());
        for one in std::iter::once(value).chain(value.items()) {
            switch(one, name, is_text, found);
            in_properties(one, TEXTS.contains(&name.as_str()), found);
        }
    }
}

fn switch(node: &Node, what: &str, is_text: bool, found: &mut Vec<Mistake>) {
    let Value::Text { text, plain: true } = &node.value else { return };
    let Some(on) = is_switch(text) else { return };
    // Small words are how some people write switches.
    if node.tag.is_some() || (!is_text && text.chars().any(|c| c.is_ascii_lowercase())) {
        return;
    }
    let what = if is_text {
        format!("{what} is text, and {text} without quotes is read as {on}: write \"{text}\"")
    } else {
        format!("{what}: {text} without quotes is read as {on}; where the word is meant, write \"{text}\"")
    };
    found.push(Mistake { line: node.line, what, certain: is_text });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> Vec<String> {
        let template = read(body).expect("a template");
        mistakes(&template)
            .iter()
            .map(|m| format!("{}{} {}", m.line, if m.certain { "" } else { "?" }, m.what))
            .collect()
    }

    #[test]
    fn a_word_that_is_read_as_a_switch_is_named_with_its_line() {
        let body = "Parameters:
  Mode:
    Type: String
    Default: NO
Resources:
  Pool:
    Type: AWS::Cognito::UserPool
    Properties:
      MfaConfiguration: OFF
      Enabled: yes
      Name: 'ON'
      Tags:
        - Key: a
          Value: YES
  Function:
    Type: AWS::Lambda::Function
    Properties:
      Sleep: ON
      Environment:
        Variables:
          DEBUG: off
";
        assert_eq!(
            told(body),
            [
                "4 Default of the parameter Mode is text, and NO without quotes is read as false: write \"NO\"",
                "9 MfaConfiguration is text, and OFF without quotes is read as false: write \"OFF\"",
                "14 Value is text, and YES without quotes is read as true: write \"YES\"",
                "18? Sleep: ON without quotes is read as true; where the word is meant, write \"ON\"",
                "21 DEBUG is text, and off without quotes is read as false: write \"off\"",
            ]
        );
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_with_the_one_that_was_meant() {
        let body = "Parameters: {Size: {Type: String}}
Conditions: {Big: !Equals [!Ref Siz, large]}
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Condition: Small
    DependsOn: [Bucket, Topic]
  Policy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Bucke
      A: !GetAtt Bucket.Arn
      B: !Sub '${AWS::Region}-${!kept}-${Own}-${Bukcet.Arn}'
      C: {'Fn::Sub': ['${Own}', {Own: x}]}
Outputs:
  X: {Value: {Ref: Size}}
";
        assert_eq!(
            told(body),
            [
                "2 Ref names Siz, which the template does not have; did you mean Size?",
                "6 Condition of Bucket names Small, which the template does not have",
                "7 DependsOn of Bucket names Topic, which the template does not have",
                "11 Ref names Bucke, which the template does not have; did you mean Bucket?",
                "13 Sub names Own, which the template does not have",
                "13 Sub names Bukcet, which the template does not have; did you mean Bucket?",
            ]
        );
        assert_eq!(told("Transform: x\nResources: {A: {Type: T, Properties: {B: !Ref Made}}}\n"), [""; 0]);
        assert_eq!(
            told(r#"{"Resources": {"A": {"Type": "T", "Properties": {"B": {"Ref": "C"}}}}}"#).len(),
            1
        );
    }

    #[test]
    fn exports_that_are_taken() {
        let body = "Resources:\n  A:\n    Type: T\n    Properties:\n      B: !ImportValue base-Db\n      C: {'Fn::ImportValue': base-Pool}\n      D: !ImportValue {'Fn::Sub': '${X}-Y'}\n";
        assert_eq!(imports(body).into_iter().collect::<Vec<_>>(), ["base-Db", "base-Pool"]);
    }
}
