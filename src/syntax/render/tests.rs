use super::*;
use crate::syntax::source::Source;

const NARROW: Style = Style { color: false, ascii: false, width: 80 };

const TEXT: &str = r#"flow "deploy" {
    group "backend" {
        ecs-deplo "service" {
            container "api" image="${step.image[each.svc].url}"
        }
    }
}
"#;

fn sources(text: &str) -> Sources {
    let mut sources = Sources::default();
    sources.add(Source { path: "flows/deploy.kdl".to_owned(), text: text.to_owned() });
    sources
}

fn span(text: &str, needle: &str) -> Span {
    let start = text.find(needle).unwrap();
    let offset = |at: usize| u32::try_from(at).unwrap();
    Span { file: FileId(0), start: offset(start), end: offset(start + needle.len()) }
}

fn draw(text: &str, problem: Problem, style: Style) -> String {
    report(&Problems(vec![problem]), &sources(text), style)
}

#[test]
fn one_place_with_a_label() {
    let problem = Problem::at(span(TEXT, "ecs-deplo"), "there is no step kind \"ecs-deplo\"")
        .label("did you mean ecs-deploy?");
    insta::assert_snapshot!(draw(TEXT, problem, Style::default()), @r#"
    error: there is no step kind "ecs-deplo"
      ┌ flows/deploy.kdl:3:9
    3 │         ecs-deplo "service" {
      │         ━━━━━━━━━ did you mean ecs-deploy?

    1 mistake in flows/deploy.kdl. Nothing was run.
    "#);
}

#[test]
fn several_places_and_help() {
    let problem = Problem::at(span(TEXT, "url"), "step.image has no output \"url\"")
        .label("it has uri, digest, tag, hash")
        .also(span(TEXT, "each.svc"), "of this instance")
        .also(span(TEXT, "flow"), "in this flow")
        .help(
            "an image is named by its digest, so that a tag that moves does not change what runs; write uri",
        );
    insta::assert_snapshot!(draw(TEXT, problem.clone(), NARROW), @r#"
    error: step.image has no output "url"
      ┌ flows/deploy.kdl:4:59
    1 │ flow "deploy" {
      │ ──── in this flow
      ⋮
    4 │             container "api" image="${step.image[each.svc].url}"
      │                                                 ──────── of this instance
      │                                                           ━━━
      │                                                it has uri, digest, tag, hash
      └ an image is named by its digest, so that a tag that moves does not change
        what runs; write uri

    1 mistake in flows/deploy.kdl. Nothing was run.
    "#);
    insta::assert_snapshot!(draw(TEXT, problem.clone(), Style { ascii: true, ..NARROW }), @r#"
    error: step.image has no output "url"
      --> flows/deploy.kdl:4:59
    1 | flow "deploy" {
      | ---- in this flow
      :
    4 |             container "api" image="${step.image[each.svc].url}"
      |                                                 -------- of this instance
      |                                                           ^^^
      |                                                it has uri, digest, tag, hash
      = an image is named by its digest, so that a tag that moves does not change
        what runs; write uri

    1 mistake in flows/deploy.kdl. Nothing was run.
    "#);
    let style = Style { color: true, ..NARROW };
    insta::assert_snapshot!(draw(TEXT, problem, style).replace('\x1b', "ESC"), @r#"
    ESC[1;31merrorESC[0m: ESC[1mstep.image has no output "url"ESC[0m
      ESC[2m┌ESC[0m flows/deploy.kdl:4:59
    ESC[2m1ESC[0m ESC[2m│ESC[0m flow "deploy" {
      ESC[2m│ESC[0m ESC[34m──── in this flowESC[0m
      ESC[2m⋮ESC[0m
    ESC[2m4ESC[0m ESC[2m│ESC[0m             container "api" image="${step.image[each.svc].url}"
      ESC[2m│ESC[0m                                                 ESC[34m──────── of this instanceESC[0m
      ESC[2m│ESC[0m                                                           ESC[1;31m━━━ESC[0m
      ESC[2m│ESC[0m                                                ESC[1;31mit has uri, digest, tag, hashESC[0m
      ESC[2m└ESC[0m ESC[36man image is named by its digest, so that a tag that moves does not changeESC[0m
        ESC[36mwhat runs; write uriESC[0m

    1 mistake in flows/deploy.kdl. Nothing was run.
    "#);
}

#[test]
fn tabs_wide_and_hostile_characters() {
    let text = "flow \"x\" {\n\trun \"日本\u{1b}[31m\u{202e}\" oops=1\n}\n";
    let problem = Problem::at(span(text, "oops"), "run has no setting \"oops\u{7}\"").label("here");
    insta::assert_snapshot!(draw(text, problem.clone(), Style::default()), @r#"
    error: run has no setting "oops␇"
      ┌ flows/deploy.kdl:2:17
    2 │     run "日本␛[31m<U+202E>" oops=1
      │                             ━━━━ here

    1 mistake in flows/deploy.kdl. Nothing was run.
    "#);
    insta::assert_snapshot!(draw(text, problem, Style { ascii: true, ..NARROW }), @r#"
    error: run has no setting "oops^G"
      --> flows/deploy.kdl:2:17
    2 |     run "??^[[31m<U+202E>" oops=1
      |                            ^^^^ here

    1 mistake in flows/deploy.kdl. Nothing was run.
    "#);
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let long = "abcdefghi ".repeat(1_000);
    for (text, needle) in [
        (format!("{long}HERE {long}"), "HERE"),
        (format!("HERE {long}"), "HERE"),
        (format!("{long}HERE"), "HERE"),
    ] {
        let problem = Problem::at(span(&text, needle), "wrong").label("a label that says something");
        let drawn = draw(&text, problem, NARROW);
        assert!(drawn.lines().all(|line| width(line) <= 80), "{drawn}");
        let lines: Vec<&str> = drawn.lines().collect();
        let column = lines[3].find('━').map(|at| lines[3][..at].chars().count()).unwrap();
        let shown: String = lines[2].chars().skip(column).take(4).collect();
        assert_eq!(shown, "HERE", "{drawn}");
    }
}

#[test]
fn a_span_over_several_lines_underlines_the_first() {
    let problem = Problem::at(span(TEXT, "\"service\" {\n            container"), "wrong");
    insta::assert_snapshot!(draw(TEXT, problem, Style::default()), @r#"
    error: wrong
      ┌ flows/deploy.kdl:3:19
    3 │         ecs-deplo "service" {
      │                   ━━━━━━━━━━━

    1 mistake in flows/deploy.kdl. Nothing was run.
    "#);
}

#[test]
fn places_outside_the_text_do_not_panic() {
    for (start, end) in [(0, 0), (9_999, 99_999), (5, 2), (u32::MAX, u32::MAX)] {
        let span = Span { file: FileId(0), start, end };
        let _ = draw("é\n", Problem::at(span, "wrong").label("x").also(span, "y"), Style::default());
        let _ = draw("", Problem::at(span, "wrong"), Style { width: 0, ..Style::default() });
    }
}
