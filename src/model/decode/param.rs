//! `param NAME type=… default=… required=#true { help; choices … }`

use crate::model::flow::{Param, ParamType};
use crate::model::template::Template;
use crate::model::value::Value;
use crate::syntax::problem::Problem;
use crate::syntax::reader::{Entry, NodeReader};
use crate::syntax::tree::Node;

use super::body::Body;
use super::context::Ctx;

const TYPES: [(&str, ParamType); 5] = [
    ("string", ParamType::Text),
    ("int", ParamType::Int),
    ("bool", ParamType::Bool),
    ("list", ParamType::List),
    ("path", ParamType::Path),
];

/// Reads all parameters of a flow or a template; a name given twice is reported.
pub(super) fn params(ctx: &mut Ctx, entries: &[Entry]) -> Vec<Param> {
    let mut params: Vec<Param> = Vec::new();
    for entry in entries {
        let Entry::Child(node) = entry else {
            ctx.push(Problem::at(entry.name_span(), "a parameter is a node").label("write param \"NAME\""));
            continue;
        };
        let Some(param) = param(ctx, node) else { continue };
        if let Some(first) = params.iter().find(|known| known.name == param.name) {
            ctx.push(
                Problem::at(param.span, format!("parameter \"{}\" is declared twice", param.name))
                    .label("again")
                    .also(first.span, "first"),
            );
        } else {
            params.push(param);
        }
    }
    params
}

fn param(ctx: &mut Ctx, node: &Node) -> Option<Param> {
    let body = Body::default();
    let mut reader = NodeReader::new(node);
    let name = reader.name(&mut ctx.problems)?;
    ctx.check_name(&name, "parameter");
    let mut param = Param {
        name: name.value,
        kind: ParamType::default(),
        default: None,
        required: false,
        help: None,
        choices: Vec::new(),
        span: name.span,
    };
    if let Some(entry) = reader.one("type", &mut ctx.problems)
        && let Some(literal) = entry.only(&mut ctx.problems)
    {
        param.kind = ctx.choice(literal, &body, "type", &TYPES).unwrap_or_default();
    }
    if let Some(entry) = reader.one("required", &mut ctx.problems) {
        param.required = ctx.entry_flag(entry, &body).unwrap_or(false);
    }
    if let Some(entry) = reader.one("help", &mut ctx.problems) {
        param.help = ctx.entry_text(entry, &body);
    }
    if let Some(entry) = reader.one("choices", &mut ctx.problems) {
        entry.bare(&mut ctx.problems);
        param.choices =
            entry.args().iter().filter_map(|literal| ctx.fixed(literal, &body, "choices")).collect();
        for (literal, choice) in entry.args().iter().zip(&param.choices) {
            if let Some(wanted) = misfit(param.kind, choice) {
                ctx.push(Problem::at(literal.span, format!("a choice of \"{}\" is {wanted}", param.name)));
            }
        }
    }
    if let Some(entry) = reader.one("default", &mut ctx.problems) {
        param.default = default(ctx, &param, entry);
        if param.required {
            ctx.push(
                Problem::at(entry.name_span(), format!("\"{}\" is required and has a default", param.name))
                    .label("it can never be missing"),
            );
        }
    }
    reader.finish("param", &mut ctx.problems);
    Some(param)
}

fn default(ctx: &mut Ctx, param: &Param, entry: Entry) -> Option<Template> {
    entry.bare(&mut ctx.problems);
    let mut values = ctx.all_templates(entry.args(), &Body::default());
    if values.len() > 1 {
        let items: Vec<Value> = values.iter().filter_map(|value| value.as_literal().cloned()).collect();
        values = vec![Template::literal(Value::List(items), entry.span())];
    }
    let value = values.pop()?;
    fits(ctx, param, &value).then_some(value)
}

/// Whether a value that is known already suits a parameter; if not, that is reported.
pub(super) fn fits(ctx: &mut Ctx, param: &Param, value: &Template) -> bool {
    let Some(known) = value.as_literal() else { return true };
    if let Some(wanted) = misfit(param.kind, known) {
        ctx.push(
            Problem::at(value.span, format!("\"{}\" is {wanted}", param.name))
                .label(format!("this is {}", known.type_name())),
        );
        return false;
    }
    if !param.choices.is_empty() && !param.choices.contains(known) {
        let choices: Vec<String> = param.choices.iter().filter_map(Value::as_text).collect();
        ctx.push(
            Problem::at(value.span, format!("\"{}\" cannot be this", param.name))
                .label(format!("it is one of {}", choices.join(", "))),
        );
        return false;
    }
    true
}

/// What a value should have been.
fn misfit(kind: ParamType, value: &Value) -> Option<&'static str> {
    match (kind, value) {
        (ParamType::Text | ParamType::Path, Value::Text(_))
        | (ParamType::Int, Value::Int(_))
        | (ParamType::Bool, Value::Bool(_))
        | (ParamType::List, _) => None,
        (ParamType::Text | ParamType::Path, _) => Some("a string"),
        (ParamType::Int, _) => Some("a whole number"),
        (ParamType::Bool, _) => Some("#true or #false"),
    }
}
