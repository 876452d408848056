//! The attributes that all kinds share.
//!
//! A kind whose own table has a setting of the same name wins: the attribute does not exist for it.

use std::time::Duration;

use crate::model::kind::{KindSpec, Nature};
use crate::model::step::{Common, Each, Inputs, Retry, Tool, Undo};
use crate::model::template::{Part, Template};
use crate::model::value::Value;
use crate::syntax::problem::Problem;
use crate::syntax::reader::{Entry, NodeReader};
use crate::syntax::source::Span;

use super::body::Body;
use super::context::Ctx;
use super::settings::map;

/// All common attributes, for "did you mean" and for editors.
pub const ATTRIBUTES: [&str; 21] = [
    "needs",
    "after",
    "when",
    "each",
    "env",
    "inherit",
    "file",
    "aws",
    "environment",
    "timeout",
    "grace",
    "retry",
    "pool",
    "inputs",
    "outputs",
    "tool",
    "cache",
    "probe",
    "undo",
    "on-failure",
    "ungated",
];

/// `needs` or `after` before it is known whether a name is a step or a group.
#[derive(Clone, Debug)]
pub(in crate::model) struct RawNeed {
    /// The full name.
    pub name: String,
    /// What stands in brackets.
    pub index: Vec<Template>,
    /// `needs` and not `after`.
    pub required: bool,
    /// Where it stands.
    pub span: Span,
}

/// Reads every attribute that `kind` does not have itself.
pub(super) fn common(
    ctx: &mut Ctx,
    body: &Body,
    reader: &mut NodeReader,
    kind: &KindSpec,
) -> (Common, Vec<RawNeed>) {
    let mut attributes = Attributes { ctx, body, reader, kind };
    let mut common = Common::default();
    let needs = attributes.ordering(&mut common);
    attributes.process(&mut common);
    attributes.caching(&mut common);
    attributes.failure(&mut common);
    (common, needs)
}

/// Reads `needs` and `after` of a step or a group.
pub(super) fn needs(ctx: &mut Ctx, body: &Body, entries: &[Entry], required: bool) -> Vec<RawNeed> {
    let mut needs = Vec::new();
    for entry in entries {
        entry.bare(&mut ctx.problems);
        if entry.args().is_empty() && !entry.broken() {
            ctx.push(Problem::at(entry.name_span(), format!("{} names no step", entry.name())));
        }
        for literal in entry.args() {
            if literal.as_text().is_none() {
                let message = format!("{} takes names of steps", entry.name());
                ctx.push(
                    Problem::at(literal.span, message).label(format!("this is {}", literal.type_name())),
                );
            } else if let Some(template) = ctx.template(literal, body) {
                needs.extend(need(ctx, body, &template, required));
            }
        }
    }
    needs
}

/// `image` or `image[${each.svc},eu]`.
fn need(ctx: &mut Ctx, body: &Body, template: &Template, required: bool) -> Option<RawNeed> {
    let span = template.span;
    let wrong = |ctx: &mut Ctx, message: &str, label: &str| {
        ctx.push(Problem::at(span, message).label(label));
        None
    };
    let Some((Part::Literal(Value::Text(first)), rest)) = template.parts.split_first() else {
        return wrong(ctx, "the name of a step cannot be put together", "only what stands in [ ] can");
    };
    let Some((name, tail)) = first.split_once('[') else {
        if rest.is_empty() {
            return Some(RawNeed { name: body.full(first), index: Vec::new(), required, span });
        }
        return wrong(ctx, "the name of a step cannot be put together", "only what stands in [ ] can");
    };
    let mut items: Vec<Vec<Part>> = vec![Vec::new()];
    let mut closed = false;
    let tail = Part::Literal(Value::text(tail));
    for part in std::iter::once(&tail).chain(rest) {
        let Part::Literal(Value::Text(text)) = part else {
            items.last_mut()?.push(part.clone());
            continue;
        };
        closed = text.ends_with(']');
        for (i, piece) in text.strip_suffix(']').unwrap_or(text).split(',').enumerate() {
            if i > 0 {
                items.push(Vec::new());
            }
            if !piece.trim().is_empty() {
                items.last_mut()?.push(Part::Literal(Value::text(piece.trim())));
            }
        }
    }
    if !closed {
        return wrong(ctx, "\"[\" is never closed", "no ] follows");
    }
    if items.iter().any(Vec::is_empty) {
        return wrong(ctx, "an index is missing here", "write image[api] or image[${each.svc}]");
    }
    let index = items.into_iter().map(|parts| Template { parts, span }).collect();
    Some(RawNeed { name: body.full(name), index, required, span })
}

struct Attributes<'c, 'a, 'b, 'r, 'n> {
    ctx: &'c mut Ctx<'a>,
    body: &'b Body<'b>,
    reader: &'r mut NodeReader<'n>,
    kind: &'r KindSpec,
}

impl<'n> Attributes<'_, '_, '_, '_, 'n> {
    fn all(&mut self, name: &'static str) -> Vec<Entry<'n>> {
        if self.kind.setting(name).is_some() { Vec::new() } else { self.reader.all(name) }
    }

    fn one(&mut self, name: &'static str) -> Option<Entry<'n>> {
        if self.kind.setting(name).is_some() {
            return None;
        }
        self.reader.one(name, &mut self.ctx.problems)
    }

    fn flag(&mut self, name: &'static str) -> Option<bool> {
        let entry = self.one(name)?;
        self.ctx.entry_flag(entry, self.body)
    }

    fn duration(&mut self, name: &'static str) -> Option<Duration> {
        let literal = self.one(name)?.only(&mut self.ctx.problems)?;
        self.ctx.duration(literal, self.body, name)
    }

    fn map(&mut self, name: &'static str) -> Vec<(String, Template)> {
        let entries = self.all(name);
        map(self.ctx, self.body, &entries)
    }

    /// Reports an attribute that means something only where a program is started.
    fn program_only(&mut self, name: &'static str, why: &str) {
        if self.kind.nature == Nature::Program || self.kind.setting(name).is_some() {
            return;
        }
        let node = self.reader.node;
        let prop = node.props.iter().map(|prop| &prop.name);
        if let Some(name) =
            prop.chain(node.children.iter().map(|child| &child.name)).find(|found| found.value == name)
        {
            let message = format!("{} stands on run steps only", name.value);
            self.ctx.push(Problem::at(name.span, message).label(why));
        }
    }

    fn ordering(&mut self, common: &mut Common) -> Vec<RawNeed> {
        let entries = self.all("needs");
        let mut found = needs(self.ctx, self.body, &entries, true);
        let entries = self.all("after");
        found.extend(needs(self.ctx, self.body, &entries, false));
        for entry in self.all("when") {
            let literal = entry.only(&mut self.ctx.problems);
            common.when.extend(literal.and_then(|literal| self.ctx.condition(literal, self.body)));
        }
        for entry in self.all("each") {
            common.each.extend(self.each(entry));
        }
        if let Some(entry) = self.one("pool") {
            common.pool = self.ctx.entry_text(entry, self.body);
        }
        found
    }

    /// `each VAR in=LIST`
    fn each(&mut self, entry: Entry<'n>) -> Option<Each> {
        let Entry::Child(node) = entry else {
            self.ctx.push(each_form(entry.name_span()));
            return None;
        };
        let mut reader = NodeReader::new(node);
        let var = reader.name(&mut self.ctx.problems);
        let list = reader.one("in", &mut self.ctx.problems);
        reader.finish("each", &mut self.ctx.problems);
        if list.is_none() && !node.broken {
            self.ctx.push(each_form(node.name.span));
        }
        let var = var?;
        self.ctx.check_name(&var, "variable");
        let list = list?;
        let items = self.ctx.all_templates(list.args(), self.body);
        list.bare(&mut self.ctx.problems);
        let list = match items.as_slice() {
            [] => return None,
            [one] => one.clone(),
            several => {
                let values: Option<Vec<Value>> =
                    several.iter().map(|item| item.as_literal().cloned()).collect();
                let Some(values) = values else {
                    self.ctx.push(each_form(list.name_span()));
                    return None;
                };
                Template::literal(Value::List(values), list.span())
            }
        };
        Some(Each { var: var.value, list, span: var.span })
    }

    fn process(&mut self, common: &mut Common) {
        common.env = self.map("env");
        common.files = self.map("file");
        for entry in self.all("inherit") {
            entry.bare(&mut self.ctx.problems);
            for literal in entry.args() {
                common.inherit.extend(self.ctx.text(literal, self.body, "inherit"));
            }
        }
        self.program_only("aws", "the kinds that need credentials have them");
        common.aws = self.flag("aws").unwrap_or(false);
        if let Some(entry) = self.one("environment") {
            common.environment = self.ctx.entry_template(entry, self.body);
        }
        common.timeout = self.duration("timeout");
        common.grace = self.duration("grace");
    }

    fn caching(&mut self, common: &mut Common) {
        if let Some(entry) = self.one("inputs") {
            common.inputs = Some(self.inputs(entry));
        }
        for entry in self.all("outputs") {
            entry.bare(&mut self.ctx.problems);
            common.outputs.extend(self.ctx.all_templates(entry.args(), self.body));
        }
        for entry in self.all("tool") {
            common.tools.extend(self.tool(entry));
        }
        common.no_cache = self.flag("cache") == Some(false);
    }

    /// `inputs GLOB… { exclude … }`
    fn inputs(&mut self, entry: Entry<'n>) -> Inputs {
        let globs = self.ctx.all_templates(entry.args(), self.body);
        let mut exclude = Vec::new();
        if let Entry::Child(node) = entry {
            let mut reader = NodeReader::new(node);
            reader.args();
            for inner in reader.all("exclude") {
                inner.bare(&mut self.ctx.problems);
                exclude.extend(self.ctx.all_templates(inner.args(), self.body));
            }
            reader.finish("inputs", &mut self.ctx.problems);
            if node.args.is_empty() && !node.broken {
                let problem = Problem::at(node.name.span, "inputs names no files");
                self.ctx.push(problem.label("write inputs \"src/**\""));
            }
        }
        Inputs { globs, exclude }
    }

    /// `tool NAME version-from="cmd"`
    fn tool(&mut self, entry: Entry<'n>) -> Option<Tool> {
        let Entry::Child(node) = entry else {
            let name = self.ctx.entry_text(entry, self.body)?;
            return Some(Tool { name, version_from: None });
        };
        let mut reader = NodeReader::new(node);
        let name = reader.name(&mut self.ctx.problems);
        let from = reader.one("version-from", &mut self.ctx.problems);
        let version_from = from.and_then(|entry| self.ctx.entry_template(entry, self.body));
        reader.finish("tool", &mut self.ctx.problems);
        Some(Tool { name: name?.value, version_from })
    }

    fn failure(&mut self, common: &mut Common) {
        if let Some(entry) = self.one("retry") {
            if !self.kind.repeatable && self.kind.nature != Nature::Program {
                let message = format!("{} is not safe to repeat, so it cannot be retried", self.kind.name);
                self.ctx.push(Problem::at(entry.name_span(), message).label("leave it out"));
            }
            common.retry = self.retry(entry);
        }
        if let Some(entry) = self.one("probe") {
            common.probe = self.command(entry);
        }
        self.program_only("undo", "the other kinds know themselves how they are rolled back");
        self.program_only("probe", "the other kinds ask their provider");
        if let Some(entry) = self.one("undo") {
            common.undo = self.undo(entry);
        }
        if let Some(entry) = self.one("on-failure") {
            let literal = entry.only(&mut self.ctx.problems);
            let choice = literal.and_then(|literal| {
                self.ctx.choice(literal, self.body, "on-failure of a step", &[("continue", true)])
            });
            common.continue_on_failure = choice.unwrap_or(false);
        }
        common.ungated = self.flag("ungated").unwrap_or(false);
    }

    /// `retry N backoff="2s" max="1m"`
    fn retry(&mut self, entry: Entry<'n>) -> Option<Retry> {
        let mut retry = Retry { times: 0, backoff: Duration::from_secs(2), max: Duration::from_mins(1) };
        let literal = match entry {
            Entry::Prop(prop) => &prop.value,
            Entry::Child(node) => {
                let mut reader = NodeReader::new(node);
                let times = reader.arg();
                for (name, place) in [("backoff", &mut retry.backoff), ("max", &mut retry.max)] {
                    let given = reader.one(name, &mut self.ctx.problems);
                    let literal = given.and_then(|given| given.only(&mut self.ctx.problems));
                    if let Some(duration) =
                        literal.and_then(|literal| self.ctx.duration(literal, self.body, name))
                    {
                        *place = duration;
                    }
                }
                reader.finish("retry", &mut self.ctx.problems);
                match times {
                    Some(times) => times,
                    None if node.broken => return None,
                    None => {
                        let problem = Problem::at(node.name.span, "retry does not say how often");
                        self.ctx.push(problem.label("write retry 3"));
                        return None;
                    }
                }
            }
        };
        retry.times = self.ctx.number(literal, self.body, "retry", 0)?;
        Some(retry)
    }

    /// A block that holds only `command`.
    fn command(&mut self, entry: Entry<'n>) -> Option<Vec<Template>> {
        let name = entry.name();
        let form = format!("write {name} {{ command \"prog\" \"arg\" }}");
        let Entry::Child(node) = entry else {
            self.ctx.push(Problem::at(entry.name_span(), format!("{name} needs a command")).label(form));
            return None;
        };
        let mut reader = NodeReader::new(node);
        reader.args();
        let command = reader.one("command", &mut self.ctx.problems);
        reader.finish(name, &mut self.ctx.problems);
        match command {
            Some(command) if !command.args().is_empty() => {
                command.bare(&mut self.ctx.problems);
                Some(self.ctx.all_templates(command.args(), self.body))
            }
            _ => {
                if !node.broken {
                    self.ctx.push(Problem::at(node.name.span, format!("{name} needs a command")).label(form));
                }
                None
            }
        }
    }

    /// `undo { command … }` or `undo "none"`
    fn undo(&mut self, entry: Entry<'n>) -> Option<Undo> {
        if entry.args().is_empty() {
            return self.command(entry).map(Undo::Command);
        }
        let literal = entry.only(&mut self.ctx.problems)?;
        self.ctx.choice(literal, self.body, "undo", &[("none", ())])?;
        Some(Undo::None)
    }
}

fn each_form(span: Span) -> Problem {
    Problem::at(span, "each needs a variable and a list").label("write each \"svc\" in=\"${env.services}\"")
}
