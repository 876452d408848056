//! The one masker: secrets become `***` in every text that leaves flow.
//!
//! It knows each secret in the forms in which programs print one (see
//! [`forms`]) and finds them all in one pass. It is shared: what
//! [`Masker::learn`] adds in one clone, every clone knows. Values of fewer than
//! [`SHORTEST`] characters cannot be masked without making the output
//! unreadable; whoever loads secrets asks [`is_maskable`] and says so.
//!
//! What it does not find: reversed, encrypted or compressed secrets, and base64
//! whose lines are broken at another width than 64 or 76.

mod forms;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};

use crate::model::secret::Secret;

/// A value with fewer characters is not masked.
pub const SHORTEST: usize = 4;

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Whether a secret is long enough to be masked.
#[must_use]
pub fn is_maskable(secret: &Secret) -> bool {
    secret.expose().trim().chars().count() >= SHORTEST
}

/// Masks secrets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masker {
    known: Arc<RwLock<Arc<Known>>>,
}

/// What is looked for at one time.
#[derive(Default)]
struct Known {
    needles: BTreeSet<String>,
    longest: usize,
    finder: Finder,
}

#[derive(Default)]
enum Finder {
    /// There are no secrets.
    #[default]
    Nothing,
    /// All needles in one automaton.
    Automaton(AhoCorasick),
    /// More than an automaton can hold: rather nothing is shown than a secret.
    Everything,
}

impl Masker {
    /// Knows these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let masker = Self::default();
        masker.learn(secrets);
        masker
    }

    /// Knows these secrets too, from now on and in every clone.
    pub fn learn<'a>(&self, secrets: impl IntoIterator<Item = &'a Secret>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut needles = known.needles.clone();
        for secret in secrets.into_iter().filter(|secret| is_maskable(secret)) {
            forms::add(secret.expose(), &mut needles);
        }
        if needles.len() != known.needles.len() {
            *known = Arc::new(Known::new(needles));
        }
    }

    /// Whether there is nothing to hide, so that texts need not be looked through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.snapshot().finder, Finder::Nothing)
    }

    /// The text without secrets.
    #[must_use]
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let known = self.snapshot();
        if matches!(known.finder, Finder::Nothing) {
            return Cow::Borrowed(text);
        }
        let hits = known.hits(text);
        if hits.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut at = 0;
        for hit in hits {
            masked.push_str(text.get(at..hit.start).unwrap_or_default());
            masked.push_str(MASK);
            at = hit.end;
        }
        masked.push_str(text.get(at..).unwrap_or_default());
        Cow::Owned(masked)
    }

    /// For one text that comes in pieces.
    #[must_use]
    pub fn stream(&self) -> MaskStream {
        MaskStream { known: self.snapshot(), carry: String::new(), masked: 0 }
    }

    fn snapshot(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says only how much it knows.
impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masker({} forms)", self.snapshot().needles.len())
    }
}

impl Known {
    fn new(needles: BTreeSet<String>) -> Self {
        let finder = if needles.is_empty() {
            Finder::Nothing
        } else {
            AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .build(&needles)
                .map_or(Finder::Everything, Finder::Automaton)
        };
        Self { longest: needles.iter().map(String::len).max().unwrap_or(0), needles, finder }
    }

    /// Where secrets stand; overlapping ones count as one.
    fn hits(&self, text: &str) -> Vec<Range<usize>> {
        match &self.finder {
            Finder::Nothing => Vec::new(),
            Finder::Everything if text.is_empty() => Vec::new(),
            Finder::Everything => std::iter::once(0..text.len()).collect(),
            Finder::Automaton(automaton) => {
                merged(automaton.find_overlapping_iter(text).map(|hit| hit.range()).collect())
            }
        }
    }
}

fn merged(mut hits: Vec<Range<usize>>) -> Vec<Range<usize>> {
    hits.sort_unstable_by_key(|hit| hit.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(hits.len());
    for hit in hits {
        match merged.last_mut() {
            Some(last) if hit.start < last.end => last.end = last.end.max(hit.end),
            _ => merged.push(hit),
        }
    }
    merged
}

/// Masks one text that comes in pieces: the pieces put together give what [`Masker::mask`] gives
/// for the whole. Holds back as many bytes as the longest form has.
pub struct MaskStream {
    known: Arc<Known>,
    carry: String,
    /// So many bytes at the start of `carry` belong to a secret for which `***` was already said.
    masked: usize,
}

impl MaskStream {
    /// Takes a piece and gives what is decided by now.
    pub fn push(&mut self, text: &str) -> String {
        self.carry.push_str(text);
        let mut decided = (self.carry.len() + 1).saturating_sub(self.known.longest.max(1));
        while !self.carry.is_char_boundary(decided) {
            decided -= 1;
        }
        self.emit(decided)
    }

    /// Gives the rest.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.emit(self.carry.len())
    }

    fn emit(&mut self, decided: usize) -> String {
        let mut hits = self.known.hits(&self.carry);
        hits.retain(|hit| hit.start < decided.max(self.masked));
        if self.masked > 0 {
            hits.insert(0, 0..self.masked);
            hits = merged(hits);
        }
        let mut out = String::with_capacity(decided);
        let mut at = 0;
        for hit in hits {
            if hit.start >= decided {
                break;
            }
            out.push_str(self.carry.get(at..hit.start).unwrap_or_default());
            if !(hit.start == 0 && self.masked > 0) {
                out.push_str(MASK);
            }
            at = hit.end;
        }
        out.push_str(self.carry.get(at.min(decided)..decided).unwrap_or_default());
        self.masked = at.saturating_sub(decided);
        self.carry.drain(..decided);
        out
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn masker(values: &[&str]) -> Masker {
        let secrets: Vec<Secret> = values.iter().map(|value| Secret::new(*value)).collect();
        Masker::new(&secrets)
    }

    #[test]
    fn secrets_are_masked_in_every_form() {
        let value = "p4ss'w\"ör d&<x>/\\$1";
        let m = masker(&[value]);
        for text in [
            value.to_owned(),
            serde_json::to_string(value).unwrap(),
            "p4ss%27w%22%C3%B6r%20d%26%3Cx%3E%2F%5C%241".to_owned(),
            "p4ss%27w%22%c3%b6r+d%26%3cx%3e%2f%5c%241".to_owned(),
            "p4ss&#39;w&quot;ör d&amp;&lt;x&gt;/\\$1".to_owned(),
            r#"'p4ss'\''w"ör d&<x>/\$1'"#.to_owned(),
            r#"p4ss\'w\"ör\ d\&\<x\>/\\\$1"#.to_owned(),
            STANDARD.encode(value),
            URL_SAFE_NO_PAD.encode(value),
            crate::world::files::hex(value.as_bytes()),
        ] {
            let shown = m.mask(&text).into_owned();
            assert!(shown.contains(MASK) && shown.len() < MASK.len() + 8, "{text} → {shown}");
        }
    }

    #[test]
    fn base64_is_found_at_every_alignment() {
        let secret = "correct-horse-battery-staple-0123456789";
        let m = masker(&[secret]);
        for before in 0..7 {
            for after in 0..4 {
                let blob = format!("{}{secret}{}", "u".repeat(before), "z".repeat(after));
                assert!(m.mask(&STANDARD.encode(&blob)).contains(MASK), "{before} {after}");
                assert!(m.mask(&URL_SAFE_NO_PAD.encode(&blob)).contains(MASK), "{before} {after}");
            }
        }
    }

    #[test]
    fn parts_of_a_secret_are_secrets() {
        let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n";
        let m = masker(&[pem, r#"{"username":"postgres","password":"tr0ub4dor&3"}"#]);
        assert_eq!(m.mask("log: kqhkiG9w0BAQEF."), "log: ***.");
        assert_eq!(m.mask("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
        assert_eq!(m.mask("postgres says tr0ub4dor&3"), "postgres says ***");
        let m = masker(&["postgres://app:s%40cret-long@db.example.com/shop"]);
        assert_eq!(m.mask("wrong password s@cret-long for app"), "wrong password *** for app");
    }

    #[test]
    fn short_and_missing_secrets_leave_the_text_alone() {
        assert!(matches!(masker(&[]).mask("text"), Cow::Borrowed("text")));
        assert_eq!(masker(&["abc", ""]).mask("abc"), "abc");
        assert!(!is_maskable(&Secret::new(" ab \n")));
        assert!(is_maskable(&Secret::new("abcd")));
    }

    #[test]
    fn overlapping_secrets_leave_no_rest() {
        assert_eq!(masker(&["abcdXX", "XXefgh"]).mask("-abcdXXefgh-"), "-***-");
    }

    #[test]
    fn what_one_clone_learns_all_know() {
        let m = Masker::default();
        let clone = m.clone();
        m.learn([&Secret::new("swordfish")]);
        assert_eq!(clone.mask("swordfish"), MASK);
        assert!(!format!("{clone:?}").contains("swordfish"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// No chunking and no surrounding text lets a canary through, and pieces give what the whole gives.
        #[test]
        fn a_canary_never_survives(
            canary in "[!-~]{40}",
            other in "[a-z]{6,12}",
            before in "[ -~]{0,30}",
            after in "[ -~]{0,30}",
            form in 0usize..6,
            size in 1usize..70,
        ) {
            let m = masker(&[&canary, &other]);
            let printed = match form {
                0 => canary.clone(),
                1 => serde_json::to_string(&canary).unwrap(),
                2 => STANDARD.encode(&canary),
                3 => STANDARD.encode(format!("x{canary}y")),
                4 => URL_SAFE_NO_PAD.encode(format!("xy{canary}z")),
                _ => forms::percent(&canary, true, false),
            };
            let text = format!("{before}{printed}{other}{after}{printed}");
            let whole = m.mask(&text).into_owned();
            let mut stream = m.stream();
            let mut pieces = String::new();
            let chars: Vec<char> = text.chars().collect();
            for chunk in chars.chunks(size) {
                pieces.push_str(&stream.push(&chunk.iter().collect::<String>()));
            }
            pieces.push_str(&stream.finish());
            prop_assert_eq!(&pieces, &whole);
            prop_assert!(!whole.contains(&canary));
            // What is left of an encoded canary is at most the characters that neighbours share.
            let inner = printed.get(4..printed.len() - 4).unwrap_or_default();
            prop_assert!(!whole.contains(inner));
        }
    }
}
