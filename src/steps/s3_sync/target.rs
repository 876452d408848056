//! Where a site goes: a bucket and the part of it that belongs to the step.

/// `s3://bucket[/prefix]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) struct Target {
    /// The bucket's name.
    pub bucket: String,
    /// Empty, or ends in a slash; never starts with one.
    pub prefix: String,
}

impl Target {
    /// Reads `s3://bucket/prefix`. The error says what is wrong.
    pub(in crate::steps) fn parse(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix("s3://").ok_or_else(|| format!("\"{text}\" does not start with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("\"{text}\" names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX"));
        }
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }

    /// The key of a file.
    pub(in crate::steps) fn key(&self, relative: &str) -> String {
        format!("{}{relative}", self.prefix)
    }

    /// The path of a key below the prefix.
    pub(in crate::steps) fn relative<'a>(&self, key: &'a str) -> &'a str {
        key.strip_prefix(self.prefix.as_str()).unwrap_or(key)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bucket_and_prefix() {
        for (text, bucket, prefix) in [
            ("s3://shop", "shop", ""),
            ("s3://shop/", "shop", ""),
            ("s3://shop/a/b", "shop", "a/b/"),
            ("s3://shop/a/b/", "shop", "a/b/"),
        ] {
            let target = Target::parse(text).expect(text);
            assert_eq!((target.bucket.as_str(), target.prefix.as_str()), (bucket, prefix), "{text}");
        }
        for text in ["shop", "https://shop", "s3:///a", "s3://"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_and_paths_are_inverse() {
        let target = Target::parse("s3://shop/docs").expect("a target");
        assert_eq!(target.key("a/b.html"), "docs/a/b.html");
        assert_eq!(target.relative("docs/a/b.html"), "a/b.html");
    }
}
