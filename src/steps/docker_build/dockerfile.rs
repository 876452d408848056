//! Which images a Dockerfile builds on.
//!
//! Only what decides that is read: `ARG` before the first `FROM`, `FROM`,
//! `COPY --from` and `RUN --mount=…,from=`. Whether the rest makes sense is
//! `BuildKit`'s to say. Grammar: docs.docker.com, "Dockerfile reference".

use std::collections::BTreeMap;

/// What a Dockerfile builds on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bases {
    /// References of images, each once, in order.
    pub images: Vec<String>,
    /// Places where the reference is known only inside the build.
    pub unclear: Vec<String>,
}

/// A Dockerfile of which the base images cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileError {
    /// Nothing to build on.
    #[error("it has no FROM")]
    Empty,
    /// `FROM ${X}` without a value for X.
    #[error("line {line}: FROM {text} names no image: {why}")]
    NoBase {
        /// From 1.
        line: usize,
        /// As written.
        text: String,
        /// Which variable.
        why: String,
    },
    /// `target` names no stage.
    #[error("it has no stage \"{target}\"{}", said(.stages))]
    NoStage {
        /// As given.
        target: String,
        /// Those it has.
        stages: Vec<String>,
    },
}

fn said(stages: &[String]) -> String {
    if stages.is_empty() { String::new() } else { format!("; it has {}", stages.join(", ")) }
}

/// One instruction, continuation lines joined.
#[derive(Debug, PartialEq, Eq)]
struct Instruction {
    line: usize,
    word: String,
    rest: String,
}

/// Reads a Dockerfile up to the stage `target`, with these build arguments.
pub(super) fn bases(
    text: &str,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
    platform: &str,
) -> Result<Bases, DockerfileError> {
    let mut scope = Scope { escape: escape(text), values: platform_values(platform), given: args };
    let mut found = Bases::default();
    let mut stages: Vec<String> = Vec::new();
    for Instruction { line, word, rest } in instructions(text, scope.escape) {
        match word.as_str() {
            "ARG" if stages.is_empty() => scope.declare(&rest),
            "FROM" => {
                if target.is_some_and(|target| is_stage(&stages, target, stages.len().checked_sub(1))) {
                    break;
                }
                let (_, words) = flags(&rest);
                let image = words.first().copied().unwrap_or_default();
                let no_base = |why: String| DockerfileError::NoBase { line, text: image.to_owned(), why };
                let name = scope.expand(image).map_err(no_base)?;
                if name.is_empty() {
                    return Err(no_base("it is empty".to_owned()));
                }
                if name != "scratch" && !is_stage(&stages, &name, None) {
                    found.add(name);
                }
                let alias = match words.as_slice() {
                    [_, word, alias, ..] if word.eq_ignore_ascii_case("as") => alias.to_ascii_lowercase(),
                    _ => String::new(),
                };
                stages.push(alias);
            }
            "COPY" | "RUN" | "ADD" => {
                for from in sources(&word, &rest) {
                    let number =
                        from.parse::<usize>().is_ok_and(|number| word == "COPY" && number < stages.len());
                    if from == "scratch" || number || is_stage(&stages, from, None) {
                        continue;
                    }
                    match scope.expand(from) {
                        Ok(name) if !from.contains('$') => found.add(name),
                        _ => found.unclear.push(format!("line {line}: {word} … from={from}")),
                    }
                }
            }
            _ => {}
        }
    }
    if stages.is_empty() {
        return Err(DockerfileError::Empty);
    }
    match target {
        Some(target) if !is_stage(&stages, target, stages.len().checked_sub(1)) => {
            Err(DockerfileError::NoStage {
                target: target.to_owned(),
                stages: stages.into_iter().filter(|stage| !stage.is_empty()).collect(),
            })
        }
        _ => Ok(found),
    }
}

impl Bases {
    fn add(&mut self, name: String) {
        if !self.images.contains(&name) {
            self.images.push(name);
        }
    }
}

/// Whether a name or, up to `last`, a number is a stage.
fn is_stage(stages: &[String], name: &str, last: Option<usize>) -> bool {
    stages.iter().any(|stage| !stage.is_empty() && stage.eq_ignore_ascii_case(name))
        || last.is_some_and(|last| name.parse::<usize>().is_ok_and(|number| number <= last))
}

/// The images named by `--from=…` and `--mount=…,from=…`.
fn sources<'a>(word: &str, rest: &'a str) -> Vec<&'a str> {
    let (flags, _) = flags(rest);
    let mut found = Vec::new();
    for flag in flags {
        match flag.split_once('=') {
            Some(("--from", from)) if word == "COPY" => found.push(from.trim_matches('"')),
            Some(("--mount", options)) if word == "RUN" => {
                found.extend(
                    options.trim_matches('"').split(',').filter_map(|option| option.strip_prefix("from=")),
                );
            }
            _ => {}
        }
    }
    found
}

/// The `--x=y` in front, and the words behind.
fn flags(rest: &str) -> (Vec<&str>, Vec<&str>) {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let split = words.iter().position(|word| !word.starts_with("--")).unwrap_or(words.len());
    let (flags, words) = words.split_at(split);
    (flags.to_vec(), words.to_vec())
}

/// `# escape=` stands among the directives at the very top.
fn escape(text: &str) -> char {
    for line in text.trim_start_matches('\u{feff}').lines() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            break;
        };
        if name.trim().eq_ignore_ascii_case("escape") {
            return if value.trim() == "`" { '`' } else { '\\' };
        }
    }
    '\\'
}

fn instructions(text: &str, escape: char) -> Vec<Instruction> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
    let mut at = 0;
    while let Some(first) = lines.get(at) {
        let line = at + 1;
        at += 1;
        if first.trim().is_empty() || first.trim_start().starts_with('#') {
            continue;
        }
        let mut joined = String::new();
        let mut part = *first;
        while let Some(open) = part.trim_end().strip_suffix(escape) {
            joined.push_str(open);
            // Comments and empty lines inside a continued instruction do not end it.
            while lines.get(at).is_some_and(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
                at += 1;
            }
            let Some(next) = lines.get(at) else {
                part = "";
                break;
            };
            part = next;
            at += 1;
        }
        joined.push_str(part);
        let (word, rest) = joined.trim().split_once(char::is_whitespace).unwrap_or((joined.trim(), ""));
        let word = word.to_ascii_uppercase();
        if matches!(word.as_str(), "RUN" | "COPY" | "ADD") {
            for end in heredocs(rest) {
                // One that never ends is none: `<<` is also a shift.
                if let Some(length) = lines.get(at..).and_then(|rest| rest.iter().position(|l| end.is(l))) {
                    at += length + 1;
                }
            }
        }
        found.push(Instruction { line, word, rest: rest.trim().to_owned() });
    }
    found
}

/// The end of a heredoc: its word, and whether tabs may stand before it.
#[derive(Debug, PartialEq, Eq)]
struct HeredocEnd {
    word: String,
    tabs: bool,
}

impl HeredocEnd {
    fn is(&self, line: &str) -> bool {
        let line = if self.tabs { line.trim_start_matches('\t') } else { line };
        line == self.word
    }
}

fn heredocs(rest: &str) -> Vec<HeredocEnd> {
    rest.split_whitespace()
        .filter_map(|word| {
            let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
            let (word, tabs) = word.strip_prefix('-').map_or((word, false), |word| (word, true));
            let word = word.trim_matches(['"', '\'']);
            (!word.is_empty() && !word.contains('<')).then(|| HeredocEnd { word: word.to_owned(), tabs })
        })
        .collect()
}

/// The arguments that `FROM` sees.
struct Scope<'a> {
    escape: char,
    values: BTreeMap<String, String>,
    given: &'a BTreeMap<String, String>,
}

/// What `BuildKit` sets by itself for the platform that is built for.
fn platform_values(platform: &str) -> BTreeMap<String, String> {
    let mut parts = platform.split('/');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (os, architecture, variant) = (part(), part(), part());
    [
        ("TARGETPLATFORM", platform.to_owned()),
        ("TARGETOS", os),
        ("TARGETARCH", architecture),
        ("TARGETVARIANT", variant),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

impl Scope<'_> {
    /// `ARG A=1 B`: what the step gives counts more than what stands there.
    fn declare(&mut self, rest: &str) {
        for word in words(rest) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
                None => (word, None),
            };
            let value = self
                .given
                .get(&name)
                .cloned()
                .or_else(|| default.and_then(|default| self.expand(&default).ok()));
            if let Some(value) = value {
                self.values.insert(name, value);
            }
        }
    }

    /// Replaces `$X`, `${X}`, `${X:-else}` and `${X:+then}`. The error says what cannot be replaced.
    fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text.trim_matches('"');
        while let Some(at) = rest.find(['$', self.escape]) {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let mut chars = from.chars();
            if chars.next() == Some(self.escape) {
                out.extend(chars.next());
                rest = chars.as_str();
                continue;
            }
            let after = chars.as_str();
            if let Some(braced) = after.strip_prefix('{') {
                let end = closing(braced).ok_or_else(|| format!("{from} is not closed"))?;
                let (inside, behind) = braced.split_at(end);
                out.push_str(&self.braced(inside)?);
                rest = behind.get(1..).unwrap_or_default();
            } else {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                let (name, behind) = after.split_at(end);
                out.push_str(self.value(name).ok_or_else(|| format!("{name} has no value"))?);
                rest = behind;
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn braced(&self, inside: &str) -> Result<String, String> {
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
        let (name, operator) = inside.split_at(end);
        let value = self.value(name);
        let filled = value.filter(|value| !value.is_empty());
        if operator.is_empty() {
            return value.map(str::to_owned).ok_or_else(|| format!("{name} has no value"));
        }
        if let Some(otherwise) = operator.strip_prefix(":-") {
            return filled.map_or_else(|| self.expand(otherwise), |value| Ok(value.to_owned()));
        }
        if let Some(otherwise) = operator.strip_prefix('-') {
            return value.map_or_else(|| self.expand(otherwise), |value| Ok(value.to_owned()));
        }
        if let Some(then) = operator.strip_prefix(":+") {
            return if filled.is_some() { self.expand(then) } else { Ok(String::new()) };
        }
        if let Some(then) = operator.strip_prefix('+') {
            return if value.is_some() { self.expand(then) } else { Ok(String::new()) };
        }
        Err(format!("${{{inside}}} is a form that flow cannot read"))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// Where the brace that was opened before `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Splits at blanks outside quotes and takes the quotes away.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            (_, c) => word.push(c),
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Result<Bases, DockerfileError> {
        let args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        bases(text, target, &args, "linux/arm64")
    }

    #[test]
    fn base_images_are_found() {
        for (text, wanted) in [
            ("FROM scratch", vec![]),
            ("FROM alpine:3.20", vec!["alpine:3.20"]),
            (
                "# c\nfrom --platform=$BUILDPLATFORM golang:1 as build\nFROM scratch\nCOPY --from=BUILD /a /a",
                vec!["golang:1"],
            ),
            ("FROM a AS x\nFROM x\nFROM b\nFROM a", vec!["a", "b"]),
            ("ARG V=3.20\nFROM alpine:${V}", vec!["alpine:3.20"]),
            ("ARG V\nFROM alpine:${V:-edge}", vec!["alpine:edge"]),
            ("ARG R=reg/ V=\"1\"\nARG I=${R}api:$V\nFROM $I", vec!["reg/api:1"]),
            ("FROM base-${TARGETARCH}", vec!["base-arm64"]),
            ("FROM \\\n  # why\n\n  alpine \\\n  AS x\nRUN x", vec!["alpine"]),
            ("# escape=`\nFROM `\n win", vec!["win"]),
            (
                "FROM a\nCOPY --chown=1 --from=nginx:1 /x /y\nCOPY --from=0 /x /y\nRUN --mount=type=bind,from=tools,target=/t x",
                vec!["a", "nginx:1", "tools"],
            ),
            (
                "FROM a\nRUN <<EOF\nFROM b\nEOF\nRUN psql <<-'S'\nFROM t\n\tS\nRUN echo $((1 <<2))\nFROM c",
                vec!["a", "c"],
            ),
            ("FROM a\nRUN echo FROM b \\\n && FROM c", vec!["a"]),
        ] {
            let found = read(text, None, &[]).unwrap();
            assert_eq!(found.images, wanted, "{text}");
            assert_eq!(found.unclear, Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn arguments_and_targets_decide() {
        let text = "ARG V=1\nFROM a:$V AS one\nFROM b AS two\nFROM c";
        assert_eq!(read(text, None, &[("V", "2")]).unwrap().images, ["a:2", "b", "c"]);
        assert_eq!(read(text, Some("one"), &[]).unwrap().images, ["a:1"]);
        assert_eq!(read(text, Some("TWO"), &[]).unwrap().images, ["a:1", "b"]);
        assert_eq!(read(text, Some("1"), &[]).unwrap().images, ["a:1", "b"]);
        assert_eq!(
            read(text, Some("three"), &[]).unwrap_err().to_string(),
            "it has no stage \"three\"; it has one, two"
        );
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        assert_eq!(read("RUN x", None, &[]), Err(DockerfileError::Empty));
        assert_eq!(
            read("ARG V\nFROM alpine:$V", None, &[]).unwrap_err().to_string(),
            "line 2: FROM alpine:$V names no image: V has no value"
        );
        let found = read("FROM scratch\nARG X=a\nRUN --mount=type=bind,from=$X y", None, &[]).unwrap();
        assert_eq!(found.unclear, ["line 3: RUN … from=$X"]);
    }
}
