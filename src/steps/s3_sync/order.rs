//! In which order files go up, so that no page ever refers to a file that is
//! not there yet: hashed assets, other assets, then what visitors enter by.
//! Within a group the order does not matter; a group begins when the one
//! before it is complete.

use super::headers::Headers;

/// A group of files that may go up together. Ordered as they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Their name changes with their content: nobody refers to them yet.
    Hashed,
    /// Everything else.
    Asset,
    /// HTML, manifests and service workers: what refers to the others.
    Entry,
}

impl Phase {
    /// All, in order.
    pub(super) const ALL: [Self; 3] = [Self::Hashed, Self::Asset, Self::Entry];

    /// As the journal and messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hashed => "hashed assets",
            Self::Asset => "assets",
            Self::Entry => "pages",
        }
    }

    /// The group of a file, by its name and content type.
    pub(super) fn of(relative: &str, headers: &Headers) -> Self {
        let name = relative.rsplit('/').next().unwrap_or(relative);
        let html =
            ["text/html", "application/xhtml+xml"].iter().any(|kind| headers.content_type.starts_with(kind));
        if html || is_manifest(name) || is_service_worker(name) {
            Self::Entry
        } else if is_hashed(name) {
            Self::Hashed
        } else {
            Self::Asset
        }
    }
}

fn is_manifest(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let ends = |suffix: &str| std::path::Path::new(&name).extension().is_some_and(|e| e == suffix);
    ends("webmanifest")
        || ends("appcache")
        || (ends("json") && name.contains("manifest"))
        || name == "ngsw.json"
}

fn is_service_worker(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let Some(stem) = name.strip_suffix(".js").or_else(|| name.strip_suffix(".mjs")) else { return false };
    let stem = stem.replace(['-', '_', '.'], "");
    stem == "sw"
        || stem == "ngswworker"
        || stem == "registersw"
        || stem.contains("serviceworker")
        || name.trim_end_matches(".js").ends_with("-sw")
}

/// Whether a file name carries a hash: one of its parts between `.`, `-` and `_`, the extension
/// aside, has at least eight letters and digits, and among them both a letter and a digit, or
/// capitals behind its first letter as well as small letters. Mistakes are harmless: the name then
/// only goes up in another group before the pages.
fn is_hashed(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.split(['.', '-', '_']).any(|part| {
        let any = |test: fn(&char) -> bool| part.chars().any(|c| test(&c));
        part.len() >= 8
            && part.chars().all(|c| c.is_ascii_alphanumeric())
            && any(char::is_ascii_alphabetic)
            && (any(char::is_ascii_digit)
                || (any(char::is_ascii_lowercase) && part.chars().skip(1).any(|c| c.is_ascii_uppercase())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_last() {
        for (name, phase) in [
            ("assets/app-91c0d2e4.js", Phase::Hashed),
            ("assets/index-BQ1xYz3A.css", Phase::Hashed),
            ("assets/index-DiwrgTda.js", Phase::Hashed),
            ("main.3f2a91c0d2e4.chunk.js", Phase::Hashed),
            ("assets/app.js", Phase::Asset),
            ("robots.txt", Phase::Asset),
            ("bootstrap.min.css", Phase::Asset),
            ("index.html", Phase::Entry),
            ("docs/91c0d2e491c0.html", Phase::Entry),
            ("manifest.json", Phase::Entry),
            ("asset-manifest.json", Phase::Entry),
            ("site.webmanifest", Phase::Entry),
            ("sw.js", Phase::Entry),
            ("service-worker.js", Phase::Entry),
            ("firebase-messaging-sw.js", Phase::Entry),
        ] {
            assert_eq!(Phase::of(name, &Headers::of(name, &[])), phase, "{name}");
        }
        assert!(Phase::Hashed < Phase::Asset && Phase::Asset < Phase::Entry);
    }
}
