//! Scripts, which flow never touches: what is written is what `sh` reads.

use crate::model::template::parse::ROOTS;
use crate::syntax::problem::Problem;
use crate::syntax::reader::Entry;
use crate::syntax::tree::Literal;

use super::context::{Ctx, mismatch};

/// The text of a script, as it stands.
pub(super) fn text(ctx: &mut Ctx, entry: Entry) -> Option<String> {
    let literal = entry.only(&mut ctx.problems)?;
    let Some(text) = literal.as_text() else {
        ctx.push(mismatch(literal, entry.name(), "a string"));
        return None;
    };
    references(ctx, literal, text);
    Some(text.to_owned())
}

/// Reports `${param.tag}`: a shell would only say "bad substitution", and only when it runs.
fn references(ctx: &mut Ctx, literal: &Literal, text: &str) {
    for (at, _) in text.match_indices("${") {
        let inner = &text[at + 2..];
        let Some(end) = inner.find(['}', '\n', '{', ' ']).filter(|end| inner[*end..].starts_with('}')) else {
            continue;
        };
        let path = &inner[..end];
        if path.split_once('.').is_some_and(|(root, _)| ROOTS.contains(&root)) {
            let name: String = path
                .rsplit(['.', ']'])
                .next()
                .unwrap_or_default()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect();
            ctx.push(
                Problem::at(literal.place(at, at + end + 3), "nothing is put into a script")
                    .label("sh cannot read this")
                    .help(format!("pass it as env {name}=\"${{{path}}}\" and write \"${name}\" here")),
            );
        }
    }
}
