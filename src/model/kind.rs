//! What a step kind is, without what it does.

use super::settings::Setting;

/// The kind whose steps are another flow's that goes back: `check` and `plan` look at what it names.
pub const ROLLBACK: &str = "rollback";

/// The static description of a kind; `steps::KINDS` adds behaviour to it.
#[derive(Debug)]
pub struct KindSpec {
    /// As written in a flow file.
    pub name: &'static str,
    /// One sentence for `flow kinds`, help and the manual.
    pub about: &'static str,
    /// Its own settings.
    pub settings: &'static [Setting],
    /// Pairs and triples of settings that exclude or demand one another.
    pub rules: &'static [Rule],
    /// What it hands on.
    pub outputs: OutputNames,
    /// What sort of work it does.
    pub nature: Nature,
    /// Whether it talks to AWS, so that the account is verified first.
    pub aws: bool,
    /// Whether its effects are safe to repeat, so that `retry` may be given.
    pub repeatable: bool,
}

/// Which outputs a kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputNames {
    /// These.
    Fixed(&'static [&'static str]),
    /// Whatever the program or the stack says.
    Open,
}

/// What sort of work a kind does; decides what gates, locks and plans ask of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Asks a person.
    Gate,
    /// Runs programs: deploying unless the step only makes files.
    Program,
    /// Changes something outside the workspace.
    Deploying,
    /// Deploying, and creates what later steps act on.
    Infrastructure,
    /// Looks, waits or tells, and changes nothing that is deployed.
    Check,
}

/// How settings of one step relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Exactly one of these must be given: `command` or `script`.
    OneOf(&'static [&'static str]),
    /// At most one.
    AtMostOne(&'static [&'static str]),
    /// The second is demanded where the first is given.
    Needs(&'static str, &'static str),
}

impl KindSpec {
    /// Whether its steps start programs, in the plan too: those get their time to end. A kind that
    /// drives a program of somebody else's says which version will do; a policy is one of the
    /// project's own.
    #[must_use]
    pub fn starts_programs(&self) -> bool {
        self.nature == Nature::Program
            || self.setting("version").is_some()
            || self.setting("policy").is_some()
    }

    /// The row of a setting.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }
}
