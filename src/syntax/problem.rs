//! What is wrong with a flow file, as data.
//!
//! Parsing, decoding and checking return what they could make *and* every
//! [`Problem`]; only the command line turns problems into text and an exit
//! code (`syntax::render` draws them).

use super::source::Span;

/// One mistake: a message, the places it is about, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in one sentence without a full stop: `there is no step kind "ecs-deplo"`.
    pub message: String,
    /// The places, the main one first, each with a short text behind its underline (may be empty).
    pub labels: Vec<Label>,
    /// What to write instead, in one sentence.
    pub help: Option<String>,
}

/// A place and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What: `did you mean ecs-deploy?`.
    pub text: String,
}

impl Problem {
    /// A mistake at one place.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), labels: vec![Label { span, text: String::new() }], help: None }
    }

    /// Says something behind the underline of the main place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// Every mistake found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds all of another list.
    pub fn extend(&mut self, other: Problems) {
        self.0.extend(other.0);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Orders by place and drops what was said twice.
    pub fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            let key = |p: &Problem| p.labels.first().map(|l| l.span);
            key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
        });
        self.0.dedup();
    }
}

/// The name among `known` that is nearest to `wrong`, if one is near enough to be meant. What is
/// longer than any name is near to none.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > 100 {
        return None;
    }
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
