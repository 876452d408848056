//! Cuts a listing into ranges of keys that can be read at the same time.
//!
//! Together the ranges are all keys of the place, also those that nobody knew
//! of, and no key lies in two. They are cut where names part, at a folder or a
//! numeral, so that most of them are just the keys with some prefix: some servers
//! find those faster than keys between two others.

/// The keys from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// What all of them begin with.
    pub prefix: String,
    /// A key before all of them; `None` when nothing with the prefix lies before.
    pub after: Option<String>,
    /// Whether it is the only range, so that it does not matter in which order a server lists.
    pub is_all: bool,
    /// Where it begins; `None` when nothing with the prefix lies before.
    from: Option<String>,
    /// Where the next begins; `None` when nothing with the prefix lies behind.
    to: Option<String>,
}

impl Range {
    /// Every key with a prefix.
    pub(super) fn all(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), after: None, is_all: true, from: None, to: None }
    }

    /// Whether a key lies before it.
    pub(super) fn is_before(&self, key: &str) -> bool {
        self.from.as_deref().is_some_and(|from| key < from)
    }

    /// Whether a key lies behind it.
    pub(super) fn is_behind(&self, key: &str) -> bool {
        self.to.as_deref().is_some_and(|to| key >= to)
    }

    /// From the first to the second of two cuts; nothing for the ends of the place.
    fn between(prefix: &str, from: Option<&Cut>, to: Option<&Cut>) -> Self {
        let range = Self { is_all: from.is_none() && to.is_none(), ..Self::all(prefix) };
        let at = |cut: Option<&Cut>| cut.map(|cut| cut.at.clone());
        let after = from.map(|cut| cut.after.clone());
        match (from, to) {
            (Some(from), Some(to)) if next(&from.at).as_ref() == Some(&to.at) => {
                Self { prefix: from.at.clone(), ..range }
            }
            (Some(start), Some(end)) => {
                let common = common(&start.at, &end.at);
                let prefix = if common.len() > prefix.len() { common } else { prefix };
                Self { prefix: prefix.to_owned(), after, from: at(from), to: at(to), ..range }
            }
            _ => Self { after, from: at(from), to: at(to), ..range },
        }
    }
}

/// Where one range ends and the next begins.
struct Cut {
    /// The first that any key of the next may be.
    at: String,
    /// The last known key of the one before.
    after: String,
}

/// Ranges with at most `most` of the `known` keys each. These are in order, and begin with `prefix`.
pub(super) fn cut(prefix: &str, known: &[&str], most: usize) -> Vec<Range> {
    let mut groups = Vec::new();
    split(known, most.max(1), &mut groups);
    let cuts: Vec<Cut> = groups
        .windows(2)
        .filter_map(|pair| {
            let [before, behind] = pair else { return None };
            let (last, first) = (before.last()?, behind.first()?);
            let shared = common(last, first).len();
            let at = first.get(..shared)?.chars().chain(first.get(shared..)?.chars().next()).collect();
            Some(Cut { at, after: (*last).to_owned() })
        })
        .collect();
    let starts = std::iter::once(None).chain(cuts.iter().map(Some));
    let ends = cuts.iter().map(Some).chain(std::iter::once(None));
    starts.zip(ends).map(|(from, to)| Range::between(prefix, from, to)).collect()
}

/// Groups of at most `most` keys, each of neighbours that share as much as possible.
fn split<'k, 'a>(keys: &'k [&'a str], most: usize, groups: &mut Vec<&'k [&'a str]>) {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return };
    if keys.len() <= most {
        groups.push(keys);
        return;
    }
    let shared = common(first, last).len();
    // Branches from `open` to `end` still have room for another.
    let (mut open, mut end) = (0, 0);
    for branch in keys.chunk_by(|a, b| letter(a, shared) == letter(b, shared)) {
        if end + branch.len() - open > most {
            groups.extend(keys.get(open..end).filter(|group| !group.is_empty()));
            open = end;
        }
        end += branch.len();
        // Only one key many times would be no shorter: nothing to cut at.
        if branch.len() > most && branch.len() < keys.len() {
            split(branch, most, groups);
            open = end;
        }
    }
    groups.extend(keys.get(open..end).filter(|group| !group.is_empty()));
}

fn letter(key: &str, at: usize) -> Option<char> {
    key.get(at..).and_then(|rest| rest.chars().next())
}

/// What both begin with.
fn common<'a>(a: &'a str, b: &str) -> &'a str {
    let end = a.char_indices().zip(b.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    a.get(..end.unwrap_or(a.len().min(b.len()))).unwrap_or_default()
}

/// The first text behind all that begin with this one, as far as it differs in the last letter only.
fn next(text: &str) -> Option<String> {
    let mut letters = text.chars();
    let last = letters.next_back()?;
    let next = char::from_u32(u32::from(last) + 1)?;
    Some(letters.chain(std::iter::once(next)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(ranges: &[Range]) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        ranges.iter().map(|r| format!("{}*[{},{})", r.prefix, text(&r.from), text(&r.to))).collect()
    }

    #[test]
    fn folders_and_numerals_make_ranges_of_one_prefix() {
        let keys: Vec<String> =
            (0..40).flat_map(|n| (0..10).map(move |m| format!("a/{n:02}/f{m}.js"))).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(shown(&cut("a/", &keys, 100)), ["a/*[,a/1)", "a/1*[,)", "a/2*[,)", "a/*[a/3,)"]);
        assert_eq!(cut("a/", &keys, 400), [Range::all("a/")]);
        assert_eq!(cut("a/", &[], 10), [Range::between("a/", None, None)]);
    }

    #[test]
    fn names_that_are_not_neighbours_leave_no_gap() {
        let keys = ["about/x", "about/y", "docs/1", "docs/2", "img/1", "img/2"];
        assert_eq!(
            shown(&cut("", &keys, 2)),
            ["*[,d)", "*[d,i)", "*[i,)"],
            "whatever lies between the folders is read too"
        );
    }

    proptest! {
        #[test]
        fn every_key_lies_in_exactly_one_range(
            known in proptest::collection::btree_set("p/[ab/é1-3]{0,6}", 0..60),
            others in proptest::collection::vec("p/[ab/éz0-4]{0,7}", 0..60),
            most in 1_usize..9,
        ) {
            let keys: Vec<&str> = known.iter().map(String::as_str).collect();
            let ranges = cut("p/", &keys, most);
            for key in known.iter().chain(&others) {
                let holds = |range: &&Range| {
                    key.starts_with(&range.prefix)
                        && !range.is_before(key)
                        && !range.is_behind(key)
                };
                let found: Vec<&Range> = ranges.iter().filter(holds).collect();
                prop_assert_eq!(found.len(), 1, "{} in {:?}", key, found);
                prop_assert!(found.iter().all(|range| range.after.as_ref().is_none_or(|after| after < key)));
            }
            for range in &ranges {
                let inside = keys.iter().filter(|key| {
                    key.starts_with(&range.prefix) && !range.is_before(key) && !range.is_behind(key)
                });
                prop_assert!(inside.count() <= most);
            }
        }
    }
}
