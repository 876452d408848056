//! Where a secret may stand.

use super::Checker;
use super::sites::{Part, Site};
use crate::model::kind::{KindSpec, Nature};
use crate::model::template::Reference;
use crate::syntax::problem::Problem;

impl Checker<'_> {
    /// Reports a secret where it would become visible.
    pub(super) fn secret(&mut self, site: &Site, kind: &KindSpec) {
        if site.secret || site.part == Part::Condition {
            return;
        }
        for reference in site.template.references() {
            if let Reference::Secret(name) = &reference.value {
                self.problems.push(
                    Problem::at(reference.span, format!("a secret cannot stand in \"{}\"", site.name))
                        .label(if site.part == Part::Argv {
                            "anybody who lists processes could read it"
                        } else {
                            ""
                        })
                        .help(right_way(name, kind, site)),
                );
            }
        }
    }
}

/// How to hand over the secret instead.
fn right_way(name: &str, kind: &KindSpec, site: &Site) -> String {
    let program = matches!(kind.nature, Nature::Program | Nature::Infrastructure);
    if program && site.part == Part::Argv {
        let var: String = name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }).collect();
        return format!("write env {var}=\"${{secret.{name}}}\" and let the program read ${var}");
    }
    let mut places: Vec<&str> = if program { vec!["env", "file"] } else { Vec::new() };
    places.extend(kind.settings.iter().filter(|setting| setting.secret).map(|setting| setting.name));
    match places.as_slice() {
        [] => format!("{} takes no secrets", kind.name),
        places => format!("in {} a secret may stand in {}", kind.name, places.join(", ")),
    }
}
