//! References to container images, as people and task definitions write them.

use std::fmt;

/// `host:port/path:tag@sha256:…`; everything but the path may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// The registry; absent for Docker Hub's short names.
    pub host: Option<String>,
    /// The repository inside the registry: `library/alpine`, `shop-api`.
    pub path: String,
    /// `latest` and the like.
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

/// Text that no registry would take as an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no image reference")]
pub struct NoImageReference(pub String);

impl ImageReference {
    /// Reads a reference. The grammar is that of the distribution project: a first part counts as a
    /// host when it has a dot or a port, or is `localhost`.
    pub fn parse(text: &str) -> Result<Self, NoImageReference> {
        let wrong = || NoImageReference(text.to_owned());
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) if is_digest(digest) => (named, Some(digest.to_owned())),
            Some(_) => return Err(wrong()),
            None => (text, None),
        };
        let (host, rest) = match named.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
            _ => (None, named),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
            Some(_) => return Err(wrong()),
            None => (rest, None),
        };
        if !is_repository(path) {
            return Err(wrong());
        }
        Ok(Self { host: host.map(str::to_owned), path: path.to_owned(), tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        f.write_str(&self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether registries take it as a tag: at most 128 letters, digits, `_`, `.` and `-`, not starting
/// with the last two.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// Whether registries take it as the name of a repository: lower case, parts divided by slashes,
/// each part words divided by `.`, `_`, `__` or dashes.
#[must_use]
pub fn is_repository(text: &str) -> bool {
    let ends = |part: &str, c: fn(char) -> bool| part.starts_with(c) && part.ends_with(c);
    text.len() <= 255
        && text.split('/').all(|part| {
            ends(part, |c| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
                && !part.contains("..")
        })
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_back_as_they_were_written() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, host, path, tag) in [
            ("alpine", None, "alpine", None),
            ("library/alpine:3.20", None, "library/alpine", Some("3.20")),
            ("localhost/api", Some("localhost"), "api", None),
            ("127.0.0.1:4566/shop-api:v1", Some("127.0.0.1:4566"), "shop-api", Some("v1")),
            ("1.dkr.ecr.eu-west-1.amazonaws.com/a/b", Some("1.dkr.ecr.eu-west-1.amazonaws.com"), "a/b", None),
        ] {
            let plain = ImageReference::parse(text).unwrap();
            assert_eq!(plain.host.as_deref(), host, "{text}");
            assert_eq!(plain.path, path, "{text}");
            assert_eq!(plain.tag.as_deref(), tag, "{text}");
            assert_eq!(plain.to_string(), text);
            let pinned = ImageReference::parse(&format!("{text}@{digest}")).unwrap();
            assert_eq!(pinned.digest.as_deref(), Some(digest.as_str()));
            assert_eq!(pinned.to_string(), format!("{text}@{digest}"));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "Api", "api:", "api:-x", "api@sha256:12", "a//b", "api:a:b", "${X}", "a b"] {
            assert!(ImageReference::parse(text).is_err(), "{text}");
        }
    }
}
