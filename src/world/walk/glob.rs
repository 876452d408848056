//! One glob. The usual ones are taken apart so that neither compiling nor
//! matching them costs anything; the rest go to `globset`.

use globset::{Glob, GlobBuilder};

/// A glob, by what it takes to match it. It matches what it names and all that lies below that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `a/b`, `a/b/**`, `a/**/*.c`, `a/*.c`, `**/name/**`.
    Simple {
        /// The folder or file that it starts with; empty for the root.
        base: String,
        rest: Rest,
        /// Only what lies below, not the thing itself.
        below: bool,
    },
    /// Anything else.
    Glob {
        base: String,
        /// The same without `/**` at its end.
        stem: String,
        whole: String,
    },
}

/// What follows the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// A name right below the base.
    Name(Name),
    /// A name anywhere below the base.
    Deep(Name),
}

/// A name with at most one star.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Any,
    Is(String),
    Starts(String),
    Ends(String),
}

impl Name {
    fn new(part: &str) -> Option<Self> {
        if part.contains(['?', '[', ']', '{', '}', '\\']) {
            return None;
        }
        let Some((start, end)) = part.split_once('*') else { return Some(Self::Is(part.to_owned())) };
        match (start, end) {
            (_, end) if end.contains('*') => None,
            ("", "") => Some(Self::Any),
            ("", end) => Some(Self::Ends(end.to_owned())),
            (start, "") => Some(Self::Starts(start.to_owned())),
            _ => None,
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Is(text) => name == text,
            Self::Starts(text) => name.starts_with(text.as_str()),
            Self::Ends(text) => name.ends_with(text.as_str()),
        }
    }
}

impl Pattern {
    /// Takes a glob apart.
    pub(super) fn new(text: &str) -> Self {
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let plain = parts.iter().take_while(|part| matches!(Name::new(part), Some(Name::Is(_)))).count();
        let (plain, rest) = parts.split_at(plain);
        let root = if text.starts_with('/') { "/" } else { "" };
        let base = format!("{root}{}", plain.join("/"));
        let simple = |rest, below| Self::Simple { base: base.clone(), rest, below };
        let name = |part: &str| Name::new(part).filter(|_| part != "**");
        let found = match rest {
            [] => Some(simple(Rest::Nothing, false)),
            ["**"] => Some(simple(Rest::Nothing, true)),
            [one] => name(one).map(|name| simple(Rest::Name(name), false)),
            ["**", one] => name(one).map(|name| simple(Rest::Deep(name), false)),
            [one, "**"] => name(one).map(|name| simple(Rest::Name(name), true)),
            ["**", one, "**"] => name(one).map(|name| simple(Rest::Deep(name), true)),
            _ => None,
        };
        found.unwrap_or_else(|| {
            let whole = format!("{root}{}", parts.join("/"));
            let stem = whole.trim_end_matches("/**").to_owned();
            Self::Glob { base, stem, whole }
        })
    }

    /// Where a walk can start.
    pub(super) fn base(&self) -> &str {
        match self {
            Self::Simple { base, .. } | Self::Glob { base, .. } => base,
        }
    }

    /// Whether it is a path without any star.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Simple { rest: Rest::Nothing, below: false, .. })
    }

    /// Whether a path counts; never where [`Pattern::globs`] has to tell.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Simple { base, rest, below } => rest.matches(base, *below, path),
            Self::Glob { .. } => false,
        }
    }
    /// Whether all that lies below a folder counts; never where the glob of the stem has to tell.
    pub(super) fn covers(&self, folder: &str) -> bool {
        match self {
            Self::Simple { base, rest, .. } => rest.matches(base, false, folder),
            Self::Glob { .. } => false,
        }
    }

    /// Whether something below a folder could count.
    pub(super) fn reaches(&self, folder: &str) -> bool {
        let base = self.base();
        let Some(inside) = below_base(folder, base) else { return below_base(base, folder).is_some() };
        match self {
            Self::Simple { rest: Rest::Name(name), .. } => {
                inside.split('/').next().is_none_or(|first| first.is_empty() || name.matches(first))
            }
            _ => true,
        }
    }

    /// What `globset` has to match for it: the glob itself and what lies below, and the stem.
    pub(super) fn globs(&self) -> Result<Option<(Vec<Glob>, Glob)>, globset::Error> {
        let Self::Glob { stem, whole, .. } = self else { return Ok(None) };
        let glob = |text: &str| GlobBuilder::new(text).literal_separator(true).build();
        Ok(Some((vec![glob(whole)?, glob(&format!("{whole}/**"))?], glob(stem)?)))
    }
}

impl Rest {
    fn matches(&self, base: &str, below: bool, path: &str) -> bool {
        let Some(inside) = below_base(path, base) else { return false };
        match self {
            Self::Nothing => !(below && inside.is_empty()),
            Self::Name(_) | Self::Deep(_) if inside.is_empty() => false,
            Self::Name(name) => match inside.split_once('/') {
                Some((first, _)) => name.matches(first),
                None => !below && name.matches(inside),
            },
            Self::Deep(name) => match inside.rsplit_once('/') {
                None => !below && name.matches(inside),
                Some((parents, own)) => {
                    !below && name.matches(own) || parents.split('/').any(|part| name.matches(part))
                }
            },
        }
    }
}

/// What of a path lies below a base: empty for the base itself, `None` when it lies elsewhere.
fn below_base<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    if base.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(base)?;
    if rest.is_empty() || base.ends_with('/') { Some(rest) } else { rest.strip_prefix('/') }
}

#[cfg(test)]
mod tests {
    use globset::{GlobBuilder, GlobSetBuilder};
    use proptest::prelude::*;

    use super::*;

    /// What `globset` says of the glob and all below it.
    fn told_by_globset(text: &str, path: &str) -> bool {
        let mut set = GlobSetBuilder::new();
        for text in [text.to_owned(), format!("{text}/**")] {
            set.add(GlobBuilder::new(&text).literal_separator(true).build().expect("a glob"));
        }
        set.build().expect("globs").is_match(path)
    }

    #[test]
    fn usual_globs_are_taken_apart() {
        for text in [
            "a", "a/b", "a/**", "**", "*", "a/*", "a/*.c", "a/**/*.c", "**/*.c", "**/x", "**/x/**", "*.c/**",
            "x*",
        ] {
            assert!(matches!(Pattern::new(text), Pattern::Simple { .. }), "{text}");
        }
        for text in ["a/*/c", "a?", "{a,b}", "[ab]", "a*b", "**/a/b", "a/**/**", "\\*"] {
            assert!(matches!(Pattern::new(text), Pattern::Glob { .. }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_glob_taken_apart_matches_what_globset_matches(
            glob in "(a|b|\\*\\*)?(/(a|\\*)){0,1}(/\\*\\*)?(/(a|b|\\*|\\*c|a\\*))?(/\\*\\*)?",
            path in "(a|b|ac|c)(/(a|b|ac|bc|\\.c)){0,3}",
        ) {
            let glob = glob.trim_start_matches('/');
            prop_assume!(!glob.is_empty());
            let pattern = Pattern::new(glob);
            if matches!(pattern, Pattern::Simple { .. }) {
                prop_assert_eq!(pattern.matches(&path), told_by_globset(glob, &path), "{} {}", glob, path);
            }
        }

        #[test]
        fn a_folder_that_is_covered_holds_only_what_matches_and_one_out_of_reach_nothing(
            glob in "(a|b|\\*\\*)?(/(a|\\*)){0,1}(/\\*\\*)?(/(a|b|\\*|\\*c|a\\*))?(/\\*\\*)?",
            folder in "(a|b|ac|c)(/(a|b|ac|bc)){0,2}",
            file in "(a|b|ac|c)(/(a|b|ac)){0,2}",
        ) {
            let glob = glob.trim_start_matches('/');
            prop_assume!(!glob.is_empty());
            let pattern = Pattern::new(glob);
            let inside = told_by_globset(glob, &format!("{folder}/{file}"));
            if pattern.covers(&folder) {
                prop_assert!(inside, "{} covers {}, not {}", glob, folder, file);
            }
            if !pattern.reaches(&folder) {
                prop_assert!(!inside, "{} does not reach {}, but {}", glob, folder, file);
            }
        }
    }
}
