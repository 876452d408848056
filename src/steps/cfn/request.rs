//! What a step asks of CloudFormation, checked against the template.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_cloudformation::types::{Capability, Parameter, Tag};

use super::change_set::ChangeSet;
use super::stack::Stack;
use super::template::Template;
use crate::model::change::Change;
use crate::model::secret::Secret;
use crate::model::settings::{Ready, Unready, known};
use crate::model::value::Value;
use crate::steps::infra::{Common, Protect};
use crate::steps::{Context, Failure, FailureClass};
use crate::world::keyed::Sealer;

/// The value of a parameter.
#[derive(Clone, Debug)]
pub(in crate::steps) enum Given {
    /// In the open.
    Plain(String),
    /// Only in the request.
    Secret(Secret),
    /// What the stack has: the step does not say, and the template has no default.
    Previous,
}

impl Given {
    /// The setting `parameter`.
    pub(in crate::steps) fn read(ready: &Ready) -> Result<BTreeMap<String, Self>, Unready> {
        let mut parameters = BTreeMap::new();
        for (name, field) in ready.map("parameter") {
            let given = match known("parameter", field)? {
                Value::Secret(secret) => Self::Secret(secret.clone()),
                value => Self::Plain(
                    value.as_text().ok_or_else(|| invalid("parameter", "a list cannot hold secrets here"))?,
                ),
            };
            parameters.insert(name.clone(), given);
        }
        Ok(parameters)
    }
}

/// The setting `tags`.
pub(in crate::steps) fn tags(ready: &Ready) -> Result<BTreeMap<String, String>, Unready> {
    let mut tags = BTreeMap::new();
    for (name, field) in ready.map("tags") {
        let value = known("tags", field)?.as_text();
        tags.insert(name.clone(), value.ok_or_else(|| invalid("tags", "a secret cannot stand here"))?);
    }
    Ok(tags)
}

fn invalid(setting: &'static str, why: &str) -> Unready {
    Unready::Invalid { setting, why: why.to_owned() }
}

/// A checked request.
#[derive(Clone, Debug)]
pub(in crate::steps) struct Request {
    /// The stack's name.
    pub stack: String,
    /// The template.
    pub template: Template,
    /// A value for each parameter that the template has and that is not left to its default.
    parameters: BTreeMap<String, Given>,
    /// Acknowledged.
    pub capabilities: Vec<String>,
    /// Of the stack and what it creates; `None` leaves alone what it has.
    pub tags: Option<BTreeMap<String, String>>,
    /// Who makes the change set that is executed; flow itself without.
    pub maker: Option<Arc<dyn Maker>>,
    /// What is never replaced or deleted.
    pub protect: Protect,
    /// Whose policy is asked about what only the change set says.
    pub policy: Option<Arc<Common>>,
}

/// A program that makes change sets, since it publishes what a template refers to.
#[async_trait]
pub(in crate::steps) trait Maker: Debug + Send + Sync {
    /// Makes one, of this name if it can choose, and executes nothing; `None` when nothing would change.
    async fn make(&self, set: &ChangeSet, cx: &Context) -> Result<Option<ChangeSet>, Failure>;
}

impl Request {
    /// Checks what the step gives against the template. The stack is the one that exists, if any.
    pub(in crate::steps) fn new(
        stack: &str,
        template: Template,
        mut parameters: BTreeMap<String, Given>,
        capabilities: Vec<String>,
        tags: Option<BTreeMap<String, String>>,
        existing: Option<&Stack>,
    ) -> Result<Self, Failure> {
        for (name, given) in &parameters {
            let Some(declared) = template.parameters.get(name) else {
                let known: Vec<&str> = template.parameters.keys().map(String::as_str).collect();
                return Err(Failure::new(format!("the template has no parameter {name}")).detail(format!(
                    "it has: {}",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                )));
            };
            if matches!(given, Given::Secret(_)) && !declared.no_echo {
                return Err(Failure::of(
                    FailureClass::Refused,
                    format!(
                        "the parameter {name} is a secret, and CloudFormation would show it to everybody"
                    ),
                )
                .help(format!("write `NoEcho: true` at the parameter {name} of the template")));
            }
        }
        for (name, declared) in &template.parameters {
            if parameters.contains_key(name) || declared.default.is_some() {
                continue;
            }
            if !existing.is_some_and(|stack| stack.parameters.contains_key(name)) {
                return Err(Failure::new(format!(
                    "the parameter {name} has no value and the template no default"
                ))
                .help(format!("give it: parameter {name}=\"…\"")));
            }
            parameters.insert(name.clone(), Given::Previous);
        }
        let lacking: Vec<&str> = template
            .capabilities
            .iter()
            .filter(|needed| !acknowledged(&capabilities, needed))
            .map(String::as_str)
            .collect();
        if !lacking.is_empty() {
            return Err(Failure::new(format!("the template needs {} acknowledged", lacking.join(" and ")))
                .detail(template.capabilities_reason.clone())
                .help(format!("if that is meant, add: capability \"{}\"", lacking.join("\" \""))));
        }
        Ok(Self {
            stack: stack.to_owned(),
            template,
            parameters,
            capabilities,
            tags,
            maker: None,
            protect: Protect::default(),
            policy: None,
        })
    }

    /// Whether a stack with this template already has everything asked for. Where that cannot be
    /// seen from outside (hidden values, templates whose meaning may change), it says no, and a
    /// change set tells. Capabilities only acknowledge: they change nothing in a stack.
    pub(in crate::steps) fn is_met_by(&self, stack: &Stack, body: &str) -> bool {
        self.template.body == body
            && !self.template.is_open()
            && self.tags.as_ref().is_none_or(|tags| *tags == stack.tags)
            && self.template.parameters.iter().all(|(name, declared)| {
                let wanted = match self.parameters.get(name) {
                    Some(Given::Plain(value)) => Some(value),
                    Some(Given::Previous) => return true,
                    Some(Given::Secret(_)) => None,
                    None => declared.default.as_ref(),
                };
                !declared.no_echo && wanted.is_some() && wanted == stack.parameters.get(name)
            })
    }

    /// Differences of the parameters that may be shown.
    pub(in crate::steps) fn parameter_changes(&self, stack: &Stack) -> Vec<Change> {
        let declared = self.template.parameters.iter().filter(|(_, declared)| !declared.no_echo);
        declared
            .filter_map(|(name, declared)| {
                let to = match self.parameters.get(name) {
                    Some(Given::Plain(value)) => Some(value),
                    Some(Given::Previous | Given::Secret(_)) => return None,
                    None => declared.default.as_ref(),
                };
                let from = stack.parameters.get(name);
                (from != to).then(|| Change::new(format!("parameter {name}"), from.cloned(), to.cloned()))
            })
            .collect()
    }

    /// Keyed digests of the values that may not be shown.
    pub(in crate::steps) fn sealed(&self, sealer: &Sealer) -> BTreeMap<String, String> {
        let digests = self.parameters.iter().filter_map(|(name, given)| {
            let hidden = self.template.parameters.get(name).is_some_and(|declared| declared.no_echo);
            match given {
                Given::Secret(value) => Some((name.clone(), sealer.digest(value.expose()))),
                Given::Plain(value) if hidden => Some((name.clone(), sealer.digest(value))),
                Given::Plain(_) | Given::Previous => None,
            }
        });
        digests.collect()
    }

    /// For the request; never shown. An empty list would not be the same as none.
    pub(in crate::steps) fn sdk_parameters(&self) -> Option<Vec<Parameter>> {
        let parameter = |(name, given): (&String, &Given)| {
            let builder = Parameter::builder().parameter_key(name);
            match given {
                Given::Plain(value) => builder.parameter_value(value),
                Given::Secret(value) => builder.parameter_value(value.expose()),
                Given::Previous => builder.use_previous_value(true),
            }
            .build()
        };
        (!self.parameters.is_empty()).then(|| self.parameters.iter().map(parameter).collect())
    }

    /// For the request.
    pub(in crate::steps) fn sdk_capabilities(&self) -> Option<Vec<Capability>> {
        let capability = |capability: &String| Capability::from(capability.as_str());
        (!self.capabilities.is_empty()).then(|| self.capabilities.iter().map(capability).collect())
    }

    /// For the request.
    pub(in crate::steps) fn sdk_tags(&self) -> Option<Vec<Tag>> {
        let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
        self.tags.as_ref().map(|tags| tags.iter().map(tag).collect())
    }
}

/// The stronger of the two capabilities for roles includes the weaker one.
fn acknowledged(given: &[String], needed: &str) -> bool {
    given.iter().any(|given| given == needed)
        || (needed == "CAPABILITY_IAM" && given.iter().any(|given| given == "CAPABILITY_NAMED_IAM"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::cfn::template::Declared;

    fn template(parameters: &[(&str, Option<&str>, bool)], capabilities: &[&str]) -> Template {
        let declared = |default: Option<&str>, no_echo| Declared {
            default: default.map(str::to_owned),
            no_echo,
            kind: "String".to_owned(),
        };
        Template {
            body: "Resources: {}".to_owned(),
            parameters: parameters.iter().map(|&(n, d, e)| (n.to_owned(), declared(d, e))).collect(),
            capabilities: capabilities.iter().map(|&c| c.to_owned()).collect(),
            capabilities_reason: "roles".to_owned(),
            transforms: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn stack(parameters: &[(&str, &str)]) -> Stack {
        Stack {
            parameters: parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
            ..Stack::for_tests("CREATE_COMPLETE")
        }
    }

    fn request(
        template: Template,
        parameters: &[(&str, Given)],
        capabilities: &[&str],
        existing: Option<&Stack>,
    ) -> Result<Request, String> {
        let parameters = parameters.iter().map(|(n, g)| ((*n).to_owned(), g.clone())).collect();
        let capabilities = capabilities.iter().map(|&c| c.to_owned()).collect();
        Request::new("s", template, parameters, capabilities, None, existing)
            .map_err(|failure| failure.record.reason)
    }

    fn plain(value: &str) -> Given {
        Given::Plain(value.to_owned())
    }

    #[test]
    fn what_does_not_fit_the_template_is_refused() {
        let one = || template(&[("Name", None, false), ("Key", Some("k"), true)], &["CAPABILITY_IAM"]);
        let secret = Given::Secret(Secret::new("s3cr3t"));
        for (parameters, capabilities, wanted) in [
            (&[("Nam", plain("x"))][..], &["CAPABILITY_IAM"][..], "no parameter Nam"),
            (&[("Name", secret.clone())], &["CAPABILITY_IAM"], "would show it"),
            (&[], &["CAPABILITY_IAM"], "Name has no value"),
            (&[("Name", plain("x"))], &[], "needs CAPABILITY_IAM"),
        ] {
            let error = request(one(), parameters, capabilities, None).expect_err(wanted);
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains("s3cr3t"));
        }
        assert!(
            request(one(), &[("Name", plain("x")), ("Key", secret)], &["CAPABILITY_NAMED_IAM"], None).is_ok()
        );
        let existing = stack(&[("Name", "x")]);
        assert!(request(one(), &[], &["CAPABILITY_IAM"], Some(&existing)).is_ok(), "it keeps what it has");
    }

    #[test]
    fn a_stack_is_as_wanted_only_where_that_can_be_seen() {
        let given = |value: &str| {
            let template = template(&[("Name", Some("d"), false)], &[]);
            request(template, &[("Name", plain(value))], &[], None).expect("fits")
        };
        let body = "Resources: {}";
        assert!(given("x").is_met_by(&stack(&[("Name", "x")]), body));
        assert!(!given("y").is_met_by(&stack(&[("Name", "x")]), body));
        assert!(!given("x").is_met_by(&stack(&[("Name", "x")]), "other"));
        let left_out = request(template(&[("Name", Some("d"), false)], &[]), &[], &[], None).expect("fits");
        assert!(!left_out.is_met_by(&stack(&[("Name", "x")]), body), "the default is wanted");
        let hidden = request(template(&[("Key", Some("d"), true)], &[]), &[], &[], None).expect("fits");
        assert!(!hidden.is_met_by(&stack(&[("Key", "****")]), body));
    }

    #[test]
    fn hidden_values_are_never_recorded() {
        let template = template(&[("Name", None, false), ("Key", None, true)], &[]);
        let given = [("Name", plain("n")), ("Key", plain("s3cr3t"))];
        let request = request(template, &given, &[], None).expect("fits");
        let folder = tempfile::tempdir().expect("a folder");
        let store = crate::world::store::Store::folder(folder.path().to_owned());
        let sealed = request.sealed(&Sealer::load(&store).expect("a key"));
        assert_eq!(sealed.keys().collect::<Vec<_>>(), ["Key"]);
        let shown = format!("{sealed:?} {:?}", request.parameter_changes(&stack(&[])));
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
