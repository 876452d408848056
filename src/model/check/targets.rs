//! In a protected environment nobody approves what is not known: the target of
//! a deploying step may be read from the files or from infrastructure that
//! flow makes, never from what a program will have printed by then.

use super::Checker;
use super::sites::Site;
use crate::model::kind::Nature;
use crate::model::step::Step;
use crate::model::template::Reference;
use crate::syntax::problem::Problem;

impl Checker<'_> {
    /// Reports a target that a program names, where an environment is protected.
    pub(super) fn target(&mut self, site: &Site, step: &Step) {
        if !site.target || !step.is_deploying(true) {
            return;
        }
        let Some(protected) = self.project.environments.iter().find(|env| env.protected) else { return };
        for reference in site.template.references() {
            let Reference::Step(read) = &reference.value else { continue };
            let program = self.steps().find(|step| step.name.value == read.name);
            let Some(program) = program.filter(|step| step.kind.nature == Nature::Program) else { continue };
            let (name, printed) = (site.name, program.name.value.as_str());
            self.problems.push(
                Problem::at(
                    reference.span,
                    format!("what \"{name}\" is would be decided by a program after the approval"),
                )
                .label(format!("what step \"{printed}\" prints"))
                .help(format!(
                    "environment \"{}\" is protected: take it from its vars, or from an infrastructure step",
                    protected.name.value
                )),
            );
        }
    }
}
