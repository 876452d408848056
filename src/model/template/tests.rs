use super::*;
use crate::syntax::problem::Problems;
use crate::syntax::render::{Style, report};
use crate::syntax::source::{FileId, Source, Sources};

fn parsed(text: &str) -> (Option<Template>, String, String) {
    let file = format!("a {text}\n");
    let mut sources = Sources::default();
    sources.add(Source { path: "a.kdl".to_owned(), text: file.clone() });
    let (nodes, problems) = crate::syntax::parse::parse(file.as_bytes(), FileId(0));
    assert!(problems.is_empty(), "{problems:?}");
    let mut problems = Problems::default();
    let template = Template::parse(&nodes[0].args[0], &mut problems);
    (template, report(&problems, &sources, Style::default()), file)
}

#[test]
fn templates_are_read() {
    let cases = [
        ("\"plain\"", "Text(\"plain\")"),
        ("\"\"", "Text(\"\")"),
        ("5", "Int(5)"),
        ("#true", "Bool(true)"),
        ("\"a $ b $$ c $${x} $5\"", "Text(\"a $ b $ c ${x} $5\")"),
        ("\"${env.a}\"", "env.a"),
        ("\"x-${ env.a-b }/${git.sha}\"", "Text(\"x-\") + env.a-b + Text(\"/\") + git.sha"),
        ("\"${step.image[each.svc,eu].uri}\"", "step.image[each.svc,eu].uri"),
        ("\"${step.p/image.a.b}\"", "step.p/image.a.b"),
        ("\"tab\\t${env.a}\"", "Text(\"tab\\t\") + env.a"),
        ("\"${each.svc.port}\"", "each.svc.port"),
    ];
    for (text, expected) in cases {
        let (template, drawn, file) = parsed(text);
        let template = template.unwrap_or_else(|| panic!("{drawn}"));
        let parts: Vec<String> = template
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(value) => format!("{value:?}"),
                Part::Reference(r) => file[r.span.start as usize..r.span.end as usize].to_owned(),
            })
            .collect();
        assert_eq!(parts.join(" + "), expected, "{text}");
    }
}

#[test]
fn an_index_is_a_reference_or_a_word() {
    let (template, ..) = parsed("\"${step.image[each.svc, eu].uri}\"");
    let template = template.unwrap();
    let Part::Reference(reference) = &template.parts[0] else { panic!() };
    let Reference::Step(step) = &reference.value else { panic!() };
    assert_eq!(step.index.len(), 2);
    assert_eq!(step.index[1].as_literal(), Some(&Value::text("eu")));
    assert_eq!(template.references().len(), 2);
}

#[test]
fn mistakes_in_templates() {
    let mut out = String::new();
    for text in [
        "\"a ${env.x b\"",
        "\"${}\"",
        "\"${x}\"",
        "\"${enf.x}\"",
        "\"${env}\"",
        "\"${env.a.b}\"",
        "\"${env.a b}\"",
        "\"${git.shaa}\"",
        "\"${run.nme}\"",
        "\"${step.image}\"",
        "\"${step.image[.uri}\"",
        "\"${step.image[].uri}\"",
        "\"${env.}\"",
        "\"${HOME}\"",
        "\"x\\t${foo.bar}\"",
        "1.5",
        "#null",
        "\"${env.a} ${env.b ${env.c}\"",
    ] {
        let (_, drawn, _) = parsed(text);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines.len() > 4, "{text}: {drawn}");
        out.push_str(lines[0].trim_start_matches("error: "));
        out.push('\n');
        for line in &lines[2..lines.len() - 2] {
            out.push_str(line.get(2..).unwrap_or(line));
            out.push('\n');
        }
    }
    insta::assert_snapshot!(out, @r#"
    "${" is never closed
    │ a "a ${env.x b"
    │      ━━ no } follows
    └ write $$ for a dollar that means nothing
    "${}" names nothing
    │ a "${}"
    │      ━ write env.NAME, param.NAME, step.NAME.OUTPUT, …
    there is nothing called "x"
    │ a "${x}"
    │      ━
    └ write env.x, param.x or each.x; $${…} for a plain ${…}
    there is nothing called "enf"
    │ a "${enf.x}"
    │      ━━━ did you mean env.x?
    "env" is not complete
    │ a "${env}"
    │      ━━━ write env.NAME
    env.a has no parts
    │ a "${env.a.b}"
    │           ━━ fields are read through each
    a name cannot contain " "
    │ a "${env.a b}"
    │           ━ letters, digits, - and _
    there is no git.shaa
    │ a "${git.shaa}"
    │          ━━━━ did you mean git.sha?
    there is no run.nme
    │ a "${run.nme}"
    │          ━━━ run has id, time, outcome, failed, duration
    "step.image" names no output
    │ a "${step.image}"
    │      ━━━━━━━━━━ write step.NAME.OUTPUT
    "[" is never closed
    │ a "${step.image[.uri}"
    │                ━ no ] follows
    an index is missing here
    │ a "${step.image[].uri}"
    │                ━━
    "env." is not complete
    │ a "${env.}"
    │      ━━━━ write env.NAME
    there is nothing called "HOME"
    │ a "${HOME}"
    │      ━━━━
    └ write env.HOME, param.HOME or each.HOME; $${…} for a plain ${…}
    there is nothing called "foo"
    │ a "x\t${foo.bar}"
    │         ━━━
    └ a reference starts with one of env, param, each, git, run, step, secret
    a number with a fraction cannot stand here
    │ a 1.5
    │   ━━━ write "1.5"
    #null means nothing here
    │ a #null
    │   ━━━━━ leave it out
    "${" is never closed
    │ a "${env.a} ${env.b ${env.c}"
    │             ━━ no } follows
    └ write $$ for a dollar that means nothing
    "#);
}
