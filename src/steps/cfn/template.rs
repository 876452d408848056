//! A template: its text, and what CloudFormation says of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::lint;
use crate::steps::{Context, Failure};
use crate::world::aws::AwsError;
use crate::world::files::digest;

/// The longest template that a request may carry.
const LONGEST: usize = 51_200;

/// A template that CloudFormation has accepted as such.
#[derive(Clone, Debug)]
pub(in crate::steps) struct Template {
    /// As it lies in the file.
    pub body: String,
    /// By name.
    pub parameters: BTreeMap<String, Declared>,
    /// What has to be acknowledged, and why.
    pub capabilities: Vec<String>,
    /// CloudFormation's words for them.
    pub capabilities_reason: String,
    /// Its macros.
    pub transforms: Vec<String>,
    /// What may be a mistake in it.
    pub notes: Vec<String>,
}

/// A declared parameter.
#[derive(Clone, Debug, Default)]
pub(in crate::steps) struct Declared {
    /// Taken where the step says nothing.
    pub default: Option<String>,
    /// CloudFormation shows it to nobody.
    pub no_echo: bool,
    /// `String`, `AWS::SSM::Parameter::Value<String>`, …
    pub kind: String,
}

/// A resource as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::steps) struct Written {
    /// Its logical id.
    pub id: String,
    /// Its type, where it can be told.
    pub kind: Option<String>,
}

impl Template {
    /// Reads a file and has CloudFormation validate it.
    pub(in crate::steps) async fn read(cx: &Context, path: &str) -> Result<Self, Failure> {
        let body = cx.world.files.read_text(&cx.world.files.locate(path)?)?;
        Self::of(cx, path, body).await
    }

    /// Has CloudFormation validate a text; `path` says in messages which.
    pub(in crate::steps) async fn of(cx: &Context, path: &str, body: String) -> Result<Self, Failure> {
        if body.len() > LONGEST && body.trim_start().starts_with('{') {
            let template = Self::synthesised(path, body)?;
            if template.is_portable() {
                return Ok(template);
            }
            return Err(too_long(path, template.body.len()));
        }
        if body.len() > LONGEST {
            return Err(too_long(path, body.len()));
        }
        let notes = lint::check(path, &body)?;
        let cloudformation = &cx.cloud.reads().await.cloudformation;
        let refused = |error: AwsError| match error.code.as_deref() {
            Some("ValidationError") => {
                Failure::new(format!("{path} is no valid template: {}", error.message))
            }
            _ => error.into(),
        };
        let validate = Box::pin(cloudformation.validate_template().template_body(&body).send());
        // It alone tells the types of parameters.
        let summarise = Box::pin(cloudformation.get_template_summary().template_body(&body).send());
        let (validated, summary) =
            cx.cancel.unless_stopped(async { tokio::join!(validate, summarise) }).await?;
        let validated =
            validated.map_err(|e| refused(AwsError::new("CloudFormation", "ValidateTemplate", &e)))?;
        let summary =
            summary.map_err(|e| refused(AwsError::new("CloudFormation", "GetTemplateSummary", &e)))?;
        let parameters = summary
            .parameters()
            .iter()
            .filter_map(|parameter| {
                let declared = Declared {
                    default: parameter.default_value().map(str::to_owned),
                    no_echo: parameter.no_echo() == Some(true),
                    kind: parameter.parameter_type().unwrap_or_default().to_owned(),
                };
                Some((parameter.parameter_key()?.to_owned(), declared))
            })
            .collect();
        Ok(Self {
            parameters,
            capabilities: validated.capabilities().iter().map(|c| c.as_str().to_owned()).collect(),
            capabilities_reason: validated.capabilities_reason().unwrap_or_default().to_owned(),
            transforms: summary.declared_transforms().to_vec(),
            notes,
            body,
        })
    }

    /// Reads a template in JSON that a tool made: nobody is asked, and it may have any length.
    pub(in crate::steps) fn synthesised(path: &str, body: String) -> Result<Self, Failure> {
        let json: Json = serde_json::from_str(&body)
            .map_err(|error| Failure::new(format!("{path} is no template: {error}")))?;
        let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let declared = |(name, parameter): (&String, &Json)| {
            let declared = Declared {
                default: parameter.get("Default").map(text),
                no_echo: parameter.get("NoEcho").is_some_and(|no_echo| text(no_echo) == "true"),
                kind: parameter.get("Type").map(text).unwrap_or_default(),
            };
            (name.clone(), declared)
        };
        let parameters = json.get("Parameters").and_then(Json::as_object).into_iter().flatten().map(declared);
        let transforms = match json.get("Transform") {
            None => Vec::new(),
            Some(Json::Array(all)) => all.iter().map(text).collect(),
            Some(one) => vec![text(one)],
        };
        Ok(Self {
            parameters: parameters.collect(),
            capabilities: Vec::new(),
            capabilities_reason: String::new(),
            transforms,
            notes: Vec::new(),
            body,
        })
    }

    /// As a request may carry it: without blanks where it would be too long, if that helps.
    pub(in crate::steps) fn carried(&self) -> Cow<'_, str> {
        if self.body.len() <= LONGEST {
            return Cow::Borrowed(&self.body);
        }
        match serde_json::from_str::<Json>(&self.body) {
            Ok(json) => Cow::Owned(json.to_string()),
            Err(_) => Cow::Borrowed(&self.body),
        }
    }

    /// Whether a request can carry it.
    pub(in crate::steps) fn is_portable(&self) -> bool {
        self.carried().len() <= LONGEST
    }

    /// Digest of its text.
    pub(in crate::steps) fn digest(&self) -> String {
        digest(self.body.as_bytes())
    }

    /// Whether the same text can mean other resources another time: macros, nested stacks, values
    /// that are looked up.
    pub(in crate::steps) fn is_open(&self) -> bool {
        !self.transforms.is_empty()
            || ["Transform", "AWS::CloudFormation::Stack", "{{resolve:"]
                .iter()
                .any(|word| self.body.contains(word))
            || self
                .parameters
                .iter()
                .any(|(name, parameter)| parameter.kind.starts_with("AWS::SSM::") && self.uses(name))
    }

    /// Whether what it makes may hang on a parameter; one that only its rules look at decides nothing.
    fn uses(&self, parameter: &str) -> bool {
        let Ok(json) = serde_json::from_str::<Json>(&self.body) else { return true };
        let parts = ["Resources", "Outputs", "Conditions", "Mappings"];
        parts.iter().filter_map(|part| json.get(part)).any(|part| refers(part, parameter))
    }

    /// Its resources in order of writing; `None` where the text does not show them plainly (flow
    /// style, macros, loops). Only for counting: CloudFormation's own answer names types, not resources.
    pub(in crate::steps) fn resources(&self) -> Option<Vec<Written>> {
        if self.body.trim_start().starts_with('{') { in_json(&self.body) } else { in_yaml(&self.body) }
    }
}

fn too_long(path: &str, size: usize) -> Failure {
    Failure::new(format!("{path} has {size} bytes, and a template may have {LONGEST}"))
        .help("split it into several stacks")
}

fn refers(value: &Json, parameter: &str) -> bool {
    match value {
        Json::String(text) => text.contains(&format!("${{{parameter}")),
        Json::Array(items) => items.iter().any(|item| refers(item, parameter)),
        Json::Object(fields) => fields.iter().any(|(key, value)| {
            (key == "Ref" && value.as_str() == Some(parameter)) || refers(value, parameter)
        }),
        _ => false,
    }
}

fn in_json(body: &str) -> Option<Vec<Written>> {
    let template: Json = serde_json::from_str(body).ok()?;
    let resources = template.get("Resources")?.as_object()?;
    let written = resources.iter().map(|(id, resource)| Written {
        id: id.clone(),
        kind: resource.get("Type").and_then(|kind| kind.as_str()).map(str::to_owned),
    });
    plain(written.collect())
}

fn in_yaml(body: &str) -> Option<Vec<Written>> {
    let lines = body.lines().filter(|line| {
        let text = line.trim_start();
        !text.is_empty() && !text.starts_with('#')
    });
    let mut lines = lines.skip_while(|line| !line.starts_with("Resources:"));
    let rest = lines.next()?.strip_prefix("Resources:")?.trim_start();
    if !rest.is_empty() && !rest.starts_with('#') {
        return None;
    }
    let mut found: Vec<Written> = Vec::new();
    let (mut margin, mut inner) = (None, None);
    for line in lines {
        let indent = line.len() - line.trim_start().len();
        if indent == 0 {
            break;
        }
        let margin = *margin.get_or_insert(indent);
        if indent == margin {
            // A key of CloudFormation's own, such as a loop, has colons in it and is no resource.
            let key = line.trim_start().split(": ").next()?.trim_end();
            let id = key.strip_suffix(':').unwrap_or(key).trim_matches(['"', '\'']).to_owned();
            found.push(Written { id, kind: None });
            inner = None;
        } else if indent > margin && indent == *inner.get_or_insert(indent) {
            let kind =
                line.trim_start().strip_prefix("Type:").map(|kind| kind.trim().trim_matches(['"', '\'']));
            if let (Some(kind), Some(last)) = (kind, found.last_mut()) {
                last.kind = Some(kind.to_owned());
            }
        }
    }
    plain(found)
}

fn plain(found: Vec<Written>) -> Option<Vec<Written>> {
    let plain = found.iter().all(|written| written.id.chars().all(|c| c.is_ascii_alphanumeric()));
    (plain && !found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(body: &str) -> Option<String> {
        let template = Template {
            body: body.to_owned(),
            parameters: BTreeMap::new(),
            capabilities: Vec::new(),
            capabilities_reason: String::new(),
            transforms: Vec::new(),
            notes: Vec::new(),
        };
        let shown = |w: Written| w.kind.map_or(w.id.clone(), |kind| format!("{} {kind}", w.id));
        template.resources().map(|all| all.into_iter().map(shown).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn resources_are_counted_where_the_text_shows_them() {
        for (body, wanted) in [
            (
                "Resources: # all\n  A:\n    Type: AWS::S3::Bucket\n    Properties:\n      Type: no\n\n  # b\n  B: {Type: X}\nOutputs:\n  C:\n    Value: 1\n",
                Some("A AWS::S3::Bucket, B"),
            ),
            (
                "Resources:\n    'A':\n      Properties:\n        x: |\n          B:\n      Type: T\n",
                Some("A T"),
            ),
            (r#"{"Resources": {"A": {"Type": "T"}, "B": {}}}"#, Some("A T, B")),
            ("Resources: {A: {Type: T}}", None),
            ("Resources:\n  Fn::ForEach::X:\n    - a\n", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(ids(body).as_deref(), wanted, "{body}");
        }
    }
}
