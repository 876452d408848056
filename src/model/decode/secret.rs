//! `secret NAME from=SOURCE`

use crate::model::project::{SecretDeclaration, SecretSource};
use crate::syntax::problem::{Problem, nearest};
use crate::syntax::reader::{Entry, NodeReader};
use crate::syntax::source::Span;

use super::body::Body;
use super::context::Ctx;

/// The schemes of sources and how each is written.
const SCHEMES: [(&str, &str); 7] = [
    ("env", "env:VARIABLE"),
    ("aws-ssm", "aws-ssm:/path/of/parameter"),
    ("aws-secretsmanager", "aws-secretsmanager:id#json-key"),
    ("file", "file:path"),
    ("dotenv", "dotenv:file#KEY"),
    ("sops", "sops:file#key"),
    ("command", "command:prog arg"),
];

/// Reads all secrets of a flow or an environment; a name given twice is reported.
pub(super) fn secrets(ctx: &mut Ctx, entries: &[Entry]) -> Vec<SecretDeclaration> {
    let mut all: Vec<SecretDeclaration> = Vec::new();
    for entry in entries {
        let Some(secret) = secret(ctx, *entry) else { continue };
        if let Some(first) = all.iter().find(|known| known.name == secret.name) {
            ctx.push(
                Problem::at(secret.span, format!("secret \"{}\" is declared twice", secret.name))
                    .label("again")
                    .also(first.span, "first"),
            );
        } else {
            all.push(secret);
        }
    }
    all
}

fn secret(ctx: &mut Ctx, entry: Entry) -> Option<SecretDeclaration> {
    let Entry::Child(node) = entry else {
        ctx.push(
            Problem::at(entry.name_span(), "a secret is a node")
                .label("write secret \"NAME\" from=\"env:VARIABLE\""),
        );
        return None;
    };
    let mut reader = NodeReader::new(node);
    let name = reader.name(&mut ctx.problems);
    let from = reader.one("from", &mut ctx.problems);
    reader.finish("secret", &mut ctx.problems);
    let name = name?;
    ctx.check_name(&name, "secret");
    let Some(from) = from else {
        if !node.broken {
            ctx.push(
                Problem::at(node.span, format!("secret \"{}\" does not say where it comes from", name.value))
                    .label("write from=\"env:VARIABLE\""),
            );
        }
        return Some(SecretDeclaration {
            name: name.value,
            source: SecretSource::Env(String::new()),
            span: name.span,
        });
    };
    let literal = from.only(&mut ctx.problems)?;
    let text = ctx.text(literal, &Body::default(), "the source of a secret")?;
    let source = match source(&text) {
        Ok(source) => source,
        Err(why) => {
            ctx.push(wrong(literal.span, &text, why));
            // It counts as declared, so that references to it are not mistakes too.
            SecretSource::Env(String::new())
        }
    };
    Some(SecretDeclaration { name: name.value, source, span: name.span })
}

/// Reads `SCHEME:REST`; in the error the form that was meant, if one is near.
fn source(text: &str) -> Result<SecretSource, Option<&'static str>> {
    let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
    let form = |scheme: &str| SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, form)| *form);
    let Some(known) = form(scheme) else {
        return Err(nearest(scheme, SCHEMES.iter().map(|(name, _)| *name)).and_then(form));
    };
    let with_key = || match rest.split_once('#') {
        Some((file, key)) if !file.is_empty() && !key.is_empty() => Ok((file.to_owned(), key.to_owned())),
        _ => Err(Some(known)),
    };
    if rest.trim().is_empty() {
        return Err(Some(known));
    }
    Ok(match scheme {
        "env" => SecretSource::Env(rest.to_owned()),
        "aws-ssm" => SecretSource::AwsSsm(rest.to_owned()),
        "aws-secretsmanager" => match rest.split_once('#') {
            Some((id, key)) => {
                SecretSource::AwsSecretsManager { id: id.to_owned(), key: Some(key.to_owned()) }
            }
            None => SecretSource::AwsSecretsManager { id: rest.to_owned(), key: None },
        },
        "file" => SecretSource::File(rest.to_owned()),
        "dotenv" => with_key().map(|(file, key)| SecretSource::Dotenv { file, key })?,
        "sops" => with_key().map(|(file, key)| SecretSource::Sops { file, key })?,
        _ => SecretSource::Command(rest.split_whitespace().map(str::to_owned).collect()),
    })
}

fn wrong(span: Span, text: &str, form: Option<&str>) -> Problem {
    // A value that was written here by mistake is not repeated in the message.
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let message = match scheme {
        "" => "a secret comes from somewhere and is never written here".to_owned(),
        scheme => format!("\"{scheme}:\" is no complete source of secrets"),
    };
    let problem = Problem::at(span, message);
    let Some(form) = form else {
        let names: Vec<String> = SCHEMES.iter().map(|(name, _)| format!("{name}:")).collect();
        return problem.help(format!("sources are {}", names.join(" ")));
    };
    problem.label(format!("write {form}"))
}
