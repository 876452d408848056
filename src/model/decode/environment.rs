//! `environment NAME extends="base" { … }`

use std::collections::BTreeMap;

use crate::model::names::EnvName;
use crate::model::project::{Approver, Environment, SecretDeclaration, Store, Trigger, Var};
use crate::model::template::Template;
use crate::model::value::Value;
use crate::syntax::problem::Problem;
use crate::syntax::reader::{Entry, NodeReader};
use crate::syntax::source::{Span, Spanned};
use crate::syntax::tree::{Node, Scalar};

use super::body::Body;
use super::context::Ctx;
use super::project::store;
use super::secret::secrets;

/// Names of `env.*` that are not variables.
pub const BUILT_IN: [&str; 4] = ["name", "account", "region", "protected"];

const TEXTS: [&str; 6] = ["account", "region", "profile", "role", "endpoint", "registry"];

const TRIGGERS: [(&str, Trigger); 3] =
    [("push", Trigger::Push), ("release", Trigger::Release), ("manual", Trigger::Manual)];

/// An environment before `extends` is followed.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub name: Spanned<EnvName>,
    pub extends: Option<Spanned<String>>,
    texts: BTreeMap<&'static str, Template>,
    branches: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    trigger: Option<Trigger>,
    protected: Option<bool>,
    store: Option<Spanned<Store>>,
    vars: BTreeMap<String, Var>,
    secrets: Vec<SecretDeclaration>,
    approvals: Approvals,
}

/// `approvals { … }`
#[derive(Clone, Debug, Default)]
struct Approvals {
    approvers: Vec<Approver>,
    least: Option<u64>,
    four_eyes: Option<bool>,
}

/// Reads one node.
pub(super) fn environment(ctx: &mut Ctx, node: &Node) -> Option<Raw> {
    let body = Body::default();
    let mut reader = NodeReader::new(node);
    let name = reader.name(&mut ctx.problems)?;
    ctx.check_name(&name, "environment");
    let extends = reader.one("extends", &mut ctx.problems).and_then(|entry| {
        let literal = entry.only(&mut ctx.problems)?;
        Some(Spanned::new(ctx.text(literal, &body, "extends")?, literal.span))
    });
    let mut texts = BTreeMap::new();
    for key in TEXTS {
        if let Some(entry) = reader.one(key, &mut ctx.problems) {
            texts.extend(text(ctx, entry).map(|template| (key, template)));
        }
    }
    let branches = globs(ctx, &mut reader, "branch");
    let tags = globs(ctx, &mut reader, "tag");
    let trigger = reader.one("trigger", &mut ctx.problems).and_then(|entry| {
        let literal = entry.only(&mut ctx.problems)?;
        ctx.choice(literal, &body, "trigger", &TRIGGERS)
    });
    let protected = reader.one("protected", &mut ctx.problems).and_then(|entry| ctx.entry_flag(entry, &body));
    let store = reader.one("store", &mut ctx.problems).and_then(|entry| store(ctx, entry));
    let mut all_vars = BTreeMap::new();
    for entry in reader.all("vars") {
        vars(ctx, entry, &mut all_vars);
    }
    let entries = reader.all("secret");
    let secrets = secrets(ctx, &entries);
    let approvals = approvals(ctx, &mut reader);
    reader.finish("environment", &mut ctx.problems);
    Some(Raw {
        name: name.map(EnvName::new),
        extends,
        texts,
        branches,
        tags,
        trigger,
        protected,
        store,
        vars: all_vars.into_iter().map(|(name, (_, var))| (name, var)).collect(),
        secrets,
        approvals,
    })
}

/// `account`, `region` and the others.
fn text(ctx: &mut Ctx, entry: Entry) -> Option<Template> {
    let literal = entry.only(&mut ctx.problems)?;
    if literal.as_text().is_none() {
        ctx.push(
            Problem::at(literal.span, format!("{} is a string", entry.name()))
                .label(format!("this is {}", literal.type_name()))
                .help("put it in quotes, which also keeps zeros at its start"),
        );
        return None;
    }
    let template = ctx.template(literal, &Body::default())?;
    if entry.name() == "account"
        && let Some(Value::Text(text)) = template.as_literal()
        && !(text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()))
    {
        ctx.push(Problem::at(literal.span, "this is no AWS account").label("an account has 12 digits"));
    }
    Some(template)
}

fn globs(ctx: &mut Ctx, reader: &mut NodeReader, name: &'static str) -> Option<Vec<String>> {
    let entries = reader.all(name);
    let mut globs = Vec::new();
    for entry in &entries {
        entry.bare(&mut ctx.problems);
        for literal in entry.args() {
            let Some(glob) = ctx.text(literal, &Body::default(), name) else { continue };
            if let Err(error) = globset::Glob::new(&glob) {
                let problem = Problem::at(literal.span, "this pattern cannot be read");
                ctx.push(problem.label(error.kind().to_string()));
            }
            globs.push(glob);
        }
    }
    (!entries.is_empty()).then_some(globs)
}

/// `vars { name value… }`
fn vars(ctx: &mut Ctx, entry: Entry, all: &mut BTreeMap<String, (Span, Var)>) {
    let found = entry
        .props()
        .iter()
        .map(Entry::Prop)
        .chain(entry.children().iter().map(Entry::Child))
        .collect::<Vec<_>>();
    match entry.args() {
        [] => {}
        [key, value] if key.as_text().is_some() => {
            let name = Spanned::new(key.as_text().unwrap_or_default().to_owned(), key.span);
            let value = ctx.template(value, &Body::default()).map(Var::One);
            declare(ctx, name, value, all);
        }
        [first, ..] => {
            let problem = Problem::at(first.span, "vars takes names and values");
            ctx.push(problem.label("write vars NAME=\"value\""));
        }
    }
    for var in found {
        let name = Spanned::new(var.name().to_owned(), var.name_span());
        let value = value(ctx, var);
        declare(ctx, name, value, all);
    }
}

/// Takes a variable. One whose value was wrong exists all the same.
fn declare(
    ctx: &mut Ctx,
    name: Spanned<String>,
    value: Option<Var>,
    all: &mut BTreeMap<String, (Span, Var)>,
) {
    ctx.check_name(&name, "variable");
    if BUILT_IN.contains(&name.value.as_str()) {
        let problem = Problem::at(name.span, format!("env.{} is set already", name.value));
        ctx.push(problem.label("choose another name"));
    } else if let Some((first, _)) = all.get(&name.value) {
        let problem = Problem::at(name.span, format!("variable \"{}\" is given twice", name.value));
        ctx.push(problem.label("again").also(*first, "first"));
    } else {
        all.insert(name.value, (name.span, value.unwrap_or_else(|| Var::List(Vec::new()))));
    }
}

fn value(ctx: &mut Ctx, var: Entry) -> Option<Var> {
    let body = Body::default();
    if var.children().is_empty() {
        for prop in var.props() {
            ctx.push(
                Problem::at(prop.name.span, "a variable has values and no properties")
                    .label("a list of records is a block"),
            );
        }
        let mut values = ctx.all_templates(var.args(), &body);
        return match (var.args().len(), values.len()) {
            (0, _) if var.broken() => None,
            (0, _) => {
                ctx.push(Problem::at(var.name_span(), format!("variable \"{}\" has no value", var.name())));
                None
            }
            (given, read) if given != read => None,
            (1, _) => values.pop().map(Var::One),
            _ => Some(Var::List(values)),
        };
    }
    if let Some(first) = var.args().first() {
        ctx.push(Problem::at(first.span, "a variable has either values or a block of records"));
    }
    let mut records: Vec<(String, BTreeMap<String, Template>)> = Vec::new();
    for child in var.children() {
        for arg in &child.args {
            ctx.push(
                Problem::at(arg.span, "a record has properties only")
                    .label(format!("write {} NAME=\"value\"", child.name.value)),
            );
        }
        Entry::Child(child).no_block(&mut ctx.problems);
        let mut fields = BTreeMap::new();
        for prop in &child.props {
            if prop.name.value == "name" || matches!(prop.value.scalar, Scalar::Null) {
                ctx.push(Problem::at(prop.name.span, "the name of a record stands before its fields"));
            } else if let Some(value) = ctx.template(&prop.value, &body) {
                fields.insert(prop.name.value.clone(), value);
            }
        }
        if records.iter().any(|(name, _)| *name == child.name.value) {
            ctx.push(Problem::at(child.name.span, format!("record \"{}\" is given twice", child.name.value)));
        } else {
            records.push((child.name.value.clone(), fields));
        }
    }
    Some(Var::Records(records))
}

/// `approvals { count N; four-eyes #true; approver NAME key=… group=… valid-before=… }`
fn approvals(ctx: &mut Ctx, reader: &mut NodeReader) -> Approvals {
    let body = Body::default();
    let mut all = Approvals::default();
    for entry in reader.all("approvals") {
        let Entry::Child(node) = entry else {
            ctx.push(Problem::at(entry.name_span(), "approvals is a block"));
            continue;
        };
        let mut inner = NodeReader::new(node);
        if let Some(entry) = inner.one("count", &mut ctx.problems) {
            all.least = least(ctx, entry).or(all.least);
        }
        if let Some(entry) = inner.one("four-eyes", &mut ctx.problems) {
            all.four_eyes = ctx.entry_flag(entry, &body).or(all.four_eyes);
        }
        for entry in inner.all("approver") {
            let Entry::Child(node) = entry else { continue };
            all.approvers.extend(approver(ctx, node));
        }
        inner.finish("approvals", &mut ctx.problems);
    }
    all
}

fn least(ctx: &mut Ctx, entry: Entry) -> Option<u64> {
    let literal = entry.only(&mut ctx.problems)?;
    let count = match literal.scalar {
        Scalar::Int(count) => u64::try_from(count).ok().filter(|count| *count > 0),
        _ => None,
    };
    if count.is_none() {
        ctx.push(
            Problem::at(literal.span, "count is how many must approve at least").label("write 1 or more"),
        );
    }
    count
}

fn approver(ctx: &mut Ctx, node: &Node) -> Option<Approver> {
    let body = Body::default();
    let mut reader = NodeReader::new(node);
    let name = reader.name(&mut ctx.problems);
    let mut text = |reader: &mut NodeReader, key| {
        let entry = reader.one(key, &mut ctx.problems)?;
        ctx.entry_text(entry, &body)
    };
    let key = text(&mut reader, "key");
    let group = text(&mut reader, "group");
    let valid_before = text(&mut reader, "valid-before");
    let given = node.props.iter().any(|prop| prop.name.value == "key")
        || node.children.iter().any(|child| child.name.value == "key");
    if !given && !node.broken {
        ctx.push(Problem::at(node.name.span, "an approver needs a key").label("write key=\"ssh-ed25519 …\""));
    }
    reader.finish("approver", &mut ctx.problems);
    Some(Approver { name: name?.value, key: key?, group, valid_before })
}

impl Raw {
    /// Takes from `base` what this environment does not say itself.
    pub(super) fn inherit(&mut self, base: &Raw) {
        for (key, value) in &base.texts {
            self.texts.entry(key).or_insert_with(|| value.clone());
        }
        self.branches = self.branches.take().or_else(|| base.branches.clone());
        self.tags = self.tags.take().or_else(|| base.tags.clone());
        self.trigger = self.trigger.or(base.trigger);
        self.protected = self.protected.or(base.protected);
        self.store = self.store.take().or_else(|| base.store.clone());
        for (name, var) in &base.vars {
            self.vars.entry(name.clone()).or_insert_with(|| var.clone());
        }
        for secret in &base.secrets {
            if !self.secrets.iter().any(|own| own.name == secret.name) {
                self.secrets.push(secret.clone());
            }
        }
        let own: Vec<String> = self.approvals.approvers.iter().map(|own| own.name.clone()).collect();
        let further = base.approvals.approvers.iter().filter(|approver| !own.contains(&approver.name));
        self.approvals.approvers.extend(further.cloned());
        self.approvals.least = self.approvals.least.or(base.approvals.least);
        self.approvals.four_eyes = self.approvals.four_eyes.or(base.approvals.four_eyes);
    }

    /// The environment as the rest of the program sees it.
    pub(super) fn finish(mut self) -> Environment {
        let mut text = |key| self.texts.remove(key);
        Environment {
            name: self.name,
            account: text("account"),
            region: text("region"),
            profile: text("profile"),
            role: text("role"),
            endpoint: text("endpoint"),
            registry: text("registry"),
            branches: self.branches.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            trigger: self.trigger,
            protected: self.protected.unwrap_or(false),
            store: self.store,
            vars: self.vars,
            secrets: self.secrets,
            approvers: self.approvals.approvers,
            least: self.approvals.least.unwrap_or(1),
            four_eyes: self.approvals.four_eyes.unwrap_or(false),
        }
    }
}
