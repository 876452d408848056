use std::collections::BTreeMap;

use super::types::{Type, Types};
use super::*;
use crate::model::names::{StepId, StepName};
use crate::model::template::{Missing, Reference, Scope};
use crate::model::value::{Field, Value};
use crate::syntax::problem::Problems;
use crate::syntax::render::{Style, report};
use crate::syntax::source::{FileId, Source, Sources};
use crate::syntax::tree::Literal;

/// A condition as it would stand in a file.
fn literal(text: &str) -> (Sources, Literal) {
    let text = format!("when #\"{text}\"#\n");
    let mut sources = Sources::default();
    sources.add(Source { path: "a.kdl".to_owned(), text: text.clone() });
    let (nodes, problems) = crate::syntax::parse::parse(text.as_bytes(), FileId(0));
    assert!(problems.is_empty());
    (sources, nodes[0].args[0].clone())
}

struct World(BTreeMap<&'static str, Value>);

impl World {
    fn new() -> Self {
        Self(BTreeMap::from([
            ("name", Value::text("prod")),
            ("protected", Value::Bool(true)),
            ("count", Value::Int(3)),
            ("services", Value::texts(["api", "web"])),
            ("text", Value::text("5")),
        ]))
    }
}

impl Scope for World {
    fn lookup(&self, reference: &Reference) -> Result<Field<Value>, Missing> {
        match reference {
            Reference::Env(name) => self
                .0
                .get(name.as_str())
                .cloned()
                .map(Field::Known)
                .ok_or_else(|| Missing::EnvVar { name: name.clone(), environment: "prod".to_owned() }),
            Reference::Step(step) => Ok(Field::After(StepId::plain(StepName::new(step.name.as_str())))),
            other => Err(Missing::NotHere(format!("{other:?}"))),
        }
    }
}

impl Types for World {
    fn of(&self, reference: &Reference) -> Type {
        let Reference::Env(name) = reference else { return Type::Unknown };
        match self.0.get(name.as_str()) {
            Some(Value::Text(_)) => Type::Text,
            Some(Value::Int(_)) => Type::Int,
            Some(Value::Bool(_)) => Type::Bool,
            Some(Value::List(_)) => Type::List,
            _ => Type::Unknown,
        }
    }
}

#[test]
fn conditions_are_evaluated() {
    let cases = [
        ("env.protected", "true"),
        ("!env.protected", "false"),
        ("env.name == 'prod' && env.count >= 3", "true"),
        ("env.name != \"prod\" || env.count < 3", "false"),
        ("env.name == 'x' || env.name == 'y' && true", "false"),
        ("(true || false) && false", "false"),
        ("true || false && false", "true"),
        ("!(env.count > 3)", "true"),
        ("'api' in env.services", "true"),
        ("'db' in env.services", "false"),
        ("'prod' in env.name", "true"),
        ("env.name =~ '^pr.d$'", "true"),
        ("env.text == 5", "true"),
        ("env.text > 4", "true"),
        ("defined(env.nothing)", "false"),
        ("defined(env.name) && -1 < env.count", "true"),
        ("step.a.changed", "after a"),
        ("false && step.a.changed", "false"),
        ("step.a.changed && false", "false"),
        ("step.a.changed || env.protected", "true"),
        ("step.a.n == 3 && env.protected", "after a"),
        ("step.a.changed || env.nothing", "environment prod has no variable nothing"),
        ("true || env.nothing", "true"),
        ("env.nothing == 1", "environment prod has no variable nothing"),
        ("env.name", "\"prod\" is not #true or #false"),
    ];
    for (text, expected) in cases {
        let (_, literal) = literal(text);
        let mut problems = Problems::default();
        let condition =
            Condition::parse(&literal, &mut problems).unwrap_or_else(|| panic!("{text}: {problems:?}"));
        let result = match condition.evaluate(&World::new()) {
            Ok(Field::Known(value)) => value.to_string(),
            Ok(Field::After(step)) => format!("after {step}"),
            Err(missing) => missing.to_string(),
        };
        assert_eq!(result, expected, "{text}");
    }
}

#[test]
fn mistakes_in_conditions() {
    let mut out = String::new();
    for text in [
        "",
        "env.name = 'x'",
        "env.name == ",
        "env.name == 'x",
        "(env.protected",
        "env.protected)",
        "enf.name == 'x'",
        "protected",
        "${env.protected}",
        "changed(src)",
        "changed('[')",
        "defined()",
        "a == b == c",
        "env.a == env.b == env.c",
        "env.protected and true",
        "env.name =~ '['",
        "env.name =~ env.name",
        "env.count + 1 > 2",
        "git.shaa == 'x'",
        "step.a == 1",
        "env.name == 1x",
        "env.services in 'a'",
        "env.count && true",
        "env.name < 'b'",
        "env.name",
        "env.name == env.count",
        "!env.name",
        "env.protected =~ 'x'",
        "env..x",
        "((((((((((((((((((((((((((((((((((true))))))))))))))))))))))))))))))))))",
    ] {
        let (sources, literal) = literal(text);
        let mut problems = Problems::default();
        if let Some(condition) = Condition::parse(&literal, &mut problems) {
            condition.check(&World::new(), &mut problems);
        }
        let drawn = report(&problems, &sources, Style::default());
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines.len() > 4, "{text}: {drawn}");
        out.push_str(lines[0].trim_start_matches("error: "));
        out.push('\n');
        for line in lines[2..].iter().filter(|line| !line.contains("Nothing was run") && !line.is_empty()) {
            out.push_str(&line[line.find(['│', '└', '┌']).unwrap_or(0)..]);
            out.push('\n');
        }
    }
    insta::assert_snapshot!(out, @r##"
    this condition is empty
    │ when #""#
    │        ━
    "=" cannot stand here
    │ when #"env.name = 'x'"#
    │                 ━ write == to compare
    something is missing at the end of this condition
    │ when #"env.name == "#
    │                   ━
    this string is never closed
    │ when #"env.name == 'x"#
    │                    ━━
    "(" is never closed
    │ when #"(env.protected"#
    │        ━ no ) follows
    ")" cannot stand here
    │ when #"env.protected)"#
    │                     ━ no ( stands before it
    there is nothing called "enf"
    │ when #"enf.name == 'x'"#
    │        ━━━ did you mean env.name?
    there is nothing called "protected"
    │ when #"protected"#
    │        ━━━━━━━━━ write 'protected' for text, env.protected for a variable
    a condition needs no ${…}
    │ when #"${env.protected}"#
    │        ━━ write the name alone: env.protected
    changed needs globs in quotes
    │ when #"changed(src)"#
    │        ━━━━━━━ write changed("frontend/**")
    "[" is no glob
    │ when #"changed('[')"#
    │                ━━━ unclosed character class; missing ']'
    defined needs a name
    │ when #"defined()"#
    │        ━━━━━━━ write defined(env.NAME)
    there is nothing called "a"
    │ when #"a == b == c"#
    │        ━ write 'a' for text, env.a for a variable
    comparisons cannot be chained
    │ when #"env.a == env.b == env.c"#
    │                       ━━ write a == b && b == c
    "and" cannot stand here
    │ when #"env.protected and true"#
    │                      ━━━ write && for and
    this pattern cannot be read
    │ when #"env.name =~ '['"#
    │                    ━━━ found unclosed character class
    =~ needs a pattern in quotes at its right
    │ when #"env.name =~ env.name"#
    │                 ━━
    "+" cannot stand here
    │ when #"env.count + 1 > 2"#
    │                  ━ there is no arithmetic
    there is no git.shaa
    │ when #"git.shaa == 'x'"#
    │            ━━━━ did you mean git.sha?
    "step.a" names no output
    │ when #"step.a == 1"#
    │        ━━━━━━ write step.NAME.OUTPUT
    "1x" is no whole number
    │ when #"env.name == 1x"#
    │                    ━━ text stands in quotes
    "in" needs a list at its right
    │ when #"env.services in 'a'"#
    │                        ━━━ this is a string
    └ compare with single values by == and ||
    && joins what is true or false
    │ when #"env.count && true"#
    │        ━━━━━━━━━ this is a number
    only numbers have an order
    │ when #"env.name < 'b'"#
    │        ━━━━━━━━ this is a string
    error: only numbers have an order
    ┌ a.kdl:1:19
    │ when #"env.name < 'b'"#
    │                   ━━━ this is a string
    a condition is true or false
    │ when #"env.name"#
    │        ━━━━━━━━ this is a string
    these two can never be equal
    │ when #"env.name == env.count"#
    │        ──────── this is a string
    │                    ━━━━━━━━━ this is a number
    ! turns true and false round
    │ when #"!env.name"#
    │         ━━━━━━━━ this is a string
    =~ looks at a string
    │ when #"env.protected =~ 'x'"#
    │        ━━━━━━━━━━━━━ this is a boolean
    a name is missing behind this dot
    │ when #"env..x"#
    │           ━
    this condition nests too deeply
    │ when #"((((((((((((((((((((((((((((((((((true))))))))))))))))))))))))))))))))))"#
    │                                        ━
    "##);
}
