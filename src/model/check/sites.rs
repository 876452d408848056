//! Every place of a step where a value stands, and what may stand there.

use crate::model::settings::{Given, Setting, Shape, Written};
use crate::model::step::{Step, Undo};
use crate::model::template::Template;

/// A value and its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    /// The value.
    pub template: &'a Template,
    /// The setting or attribute, as written.
    pub name: &'a str,
    /// Whether a secret may stand there.
    pub secret: bool,
    /// Whether it names what the step changes.
    pub target: bool,
    /// What it is a part of.
    pub part: Part,
}

/// What a value is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A setting or an attribute.
    Setting,
    /// The arguments of a program.
    Argv,
    /// A condition, where types say what may stand there.
    Condition,
}

impl<'a> Site<'a> {
    fn new(name: &'a str, template: &'a Template) -> Self {
        Self { template, name, secret: false, target: false, part: Part::Setting }
    }
}

/// All places of a step, in no particular order.
pub(super) fn sites(step: &Step) -> Vec<Site<'_>> {
    let mut all = Vec::new();
    settings(&step.settings, step.kind.settings, &mut all);
    let common = &step.common;
    for need in &common.needs {
        all.extend(need.index.iter().map(|index| Site::new("needs", index)));
    }
    for condition in &common.when {
        let templates = condition.expr.templates().into_iter();
        all.extend(templates.map(|template| Site { part: Part::Condition, ..Site::new("when", template) }));
    }
    all.extend(common.env.iter().map(|(_, value)| Site { secret: true, ..Site::new("env", value) }));
    all.extend(common.files.iter().map(|(_, value)| Site { secret: true, ..Site::new("file", value) }));
    all.extend(common.environment.iter().map(|value| Site::new("environment", value)));
    if let Some(inputs) = &common.inputs {
        all.extend(inputs.globs.iter().chain(&inputs.exclude).map(|glob| Site::new("inputs", glob)));
    }
    all.extend(common.outputs.iter().map(|path| Site::new("outputs", path)));
    let argv = |name, template| Site { part: Part::Argv, ..Site::new(name, template) };
    let tools = common.tools.iter().filter_map(|tool| tool.version_from.as_ref());
    all.extend(tools.map(|command| argv("version-from", command)));
    all.extend(common.probe.iter().flatten().map(|arg| argv("probe", arg)));
    if let Some(Undo::Command(command)) = &common.undo {
        all.extend(command.iter().map(|arg| argv("undo", arg)));
    }
    all
}

fn settings<'a>(written: &'a Written, table: &'static [Setting], all: &mut Vec<Site<'a>>) {
    for (name, given) in written.iter() {
        let Some(setting) = table.iter().find(|setting| setting.name == name) else { continue };
        let site = |template| Site {
            template,
            name,
            secret: setting.secret,
            part: if name == "command" { Part::Argv } else { Part::Setting },
            target: setting.target,
        };
        if let (Given::Nodes(nodes), Shape::Node { fields, .. }) = (given, &setting.shape) {
            for node in nodes {
                all.extend(node.head.iter().map(site));
                settings(&node.settings, fields, all);
            }
        } else {
            let mut values = Vec::new();
            given.collect(&mut values);
            all.extend(values.into_iter().map(site));
        }
    }
}
