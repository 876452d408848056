//! The headers of an object. They count as content: an object whose bytes are
//! right and whose headers are not is sent again, with all of them.
//!
//! Content types come from `mime_guess`, which is compiled in and so the same
//! on every machine, under a short table of our own.

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use crate::model::change::Change;

/// What is sent along with an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::steps) struct Headers {
    /// Always there.
    pub content_type: String,
    /// As a rule says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// As a rule says; the bytes are sent as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
}

/// `rule GLOB cache-control=… content-type=… content-encoding=…`
#[derive(Clone, Debug)]
pub(in crate::steps) struct Rule {
    /// Which files, relative to the source folder.
    pub files: GlobMatcher,
    /// As written.
    pub content_type: Option<String>,
    /// As written.
    pub cache_control: Option<String>,
    /// As written.
    pub content_encoding: Option<String>,
}

/// A glob over paths with forward slashes; `*` stays within one folder, `**/` is any depth, also none.
pub(in crate::steps) fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| format!("\"{pattern}\" is no glob: {}", error.kind()))
}

impl Headers {
    /// The headers of a file: what the rules say, each header from the **last** rule that matches
    /// and names it, and else what its name tells.
    pub(in crate::steps) fn of(relative: &str, rules: &[Rule]) -> Self {
        let mut headers =
            Self { content_type: content_type(relative), cache_control: None, content_encoding: None };
        for rule in rules.iter().filter(|rule| rule.files.is_match(relative)) {
            if let Some(value) = &rule.content_type {
                headers.content_type.clone_from(value);
            }
            if let Some(value) = &rule.cache_control {
                headers.cache_control = Some(value.clone());
            }
            if let Some(value) = &rule.content_encoding {
                headers.content_encoding = Some(value.clone());
            }
        }
        headers
    }

    /// What differs, as `KEY cache-control`.
    pub(super) fn changes_to(&self, wanted: &Self, key: &str) -> Vec<Change> {
        let rows = [
            ("content-type", Some(&self.content_type), Some(&wanted.content_type)),
            ("cache-control", self.cache_control.as_ref(), wanted.cache_control.as_ref()),
            ("content-encoding", self.content_encoding.as_ref(), wanted.content_encoding.as_ref()),
        ];
        rows.into_iter()
            .filter(|(_, from, to)| from != to)
            .map(|(name, from, to)| Change::new(format!("{key} {name}"), from.cloned(), to.cloned()))
            .collect()
    }
}

/// Types that `mime_guess` does not know or names in an older way (RFC 9239 for `text/javascript`).
const TYPES: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("cjs", "text/javascript"),
    ("ico", "image/x-icon"),
    ("js", "text/javascript"),
    ("map", "application/json"),
    ("mjs", "text/javascript"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
];

fn content_type(relative: &str) -> String {
    let name = relative.rsplit('/').next().unwrap_or(relative);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let known = extension.and_then(|extension| TYPES.iter().find(|(known, _)| *known == extension));
    let plain = known.map_or_else(
        || mime_guess::from_path(name).first_or_octet_stream().essence_str().to_owned(),
        |(_, plain)| (*plain).to_owned(),
    );
    // Without it browsers may take text for Latin-1.
    if plain.starts_with("text/") { format!("{plain}; charset=utf-8") } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, cache: Option<&str>, kind: Option<&str>) -> Rule {
        Rule {
            files: glob(pattern).expect(pattern),
            content_type: kind.map(str::to_owned),
            cache_control: cache.map(str::to_owned),
            content_encoding: None,
        }
    }

    #[test]
    fn types_are_the_same_everywhere() {
        for (name, wanted) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/app-91c0.JS", "text/javascript; charset=utf-8"),
            ("a/app.css", "text/css; charset=utf-8"),
            ("f.woff2", "font/woff2"),
            ("p.avif", "image/avif"),
            ("p.svg", "image/svg+xml"),
            ("site.webmanifest", "application/manifest+json"),
            ("robots.txt", "text/plain; charset=utf-8"),
            ("data.json", "application/json"),
            ("app.js.map", "application/json"),
            ("about", "application/octet-stream"),
        ] {
            assert_eq!(Headers::of(name, &[]).content_type, wanted, "{name}");
        }
    }

    #[test]
    fn the_last_matching_rule_wins_header_by_header() {
        let rules = [
            rule("**", Some("no-cache"), Some("text/plain")),
            rule("assets/**", Some("immutable"), None),
            rule("*.html", None, Some("text/html")),
        ];
        let of = |name: &str| {
            let headers = Headers::of(name, &rules);
            (headers.cache_control.unwrap_or_default(), headers.content_type)
        };
        assert_eq!(of("assets/a/b.js"), ("immutable".to_owned(), "text/plain".to_owned()));
        assert_eq!(of("index.html"), ("no-cache".to_owned(), "text/html".to_owned()));
        assert_eq!(of("sub/index.html"), ("no-cache".to_owned(), "text/plain".to_owned()));
    }

    #[test]
    fn differences_are_named_by_header() {
        let old = Headers::of("a.html", &[]);
        let new = Headers::of("a.html", &[rule("**/*.html", Some("no-cache"), None)]);
        let changes = old.changes_to(&new, "a.html");
        assert_eq!(changes, [Change::new("a.html cache-control", None, "no-cache".to_owned())]);
        assert!(new.changes_to(&new, "a.html").is_empty());
    }
}
