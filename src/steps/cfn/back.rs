//! Returns a stack to the template and parameters that a release records, by a
//! change set like every other change.
//!
//! Secret parameters keep the value that they have. What would delete or
//! replace a resource is refused and named: flow never does that by itself. A
//! stack that was deleted is made anew, with the secrets that the flow gives
//! today.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value as Json;

use super::change_set::{ResourceChange, What};
use super::deletion_policy::{Fate, fates};
use super::plan::{look, plan_change, plan_new, up_to_date};
use super::policy;
use super::record::{State, facts, kept};
use super::request::{Given, Request};
use super::stack::{self, Stack};
use super::template::Template;
use crate::model::settings::Ready;
use crate::steps::back::{Stays, read};
use crate::steps::infra::Common;
use crate::steps::{Attributes, Context, Failure, FailureClass, Open, Proposal, Settled, Step, Way};

/// The step that returns to a recorded stack.
pub(in crate::steps) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let to = way.to.as_ref().filter(|to| !to.is_null());
    match (to, way.now.is_null()) {
        (Some(to), _) => Ok(Box::new(Return::new(read(to)?))),
        (None, true) => Ok(Box::new(Stays::new("not there, as it was", Json::Null))),
        (None, false) => Ok(Box::new(Made { now: read(&way.now)? })),
    }
}

/// A stack that was made since.
#[derive(Debug)]
struct Made {
    now: State,
}

#[async_trait]
impl Step for Made {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let name = &self.now.name;
        match stack::state(cx, &self.now.stack).await? {
            stack::State::Absent => Stays::new(format!("{name} is gone"), Json::Null).plan(cx).await,
            _ => Err(Failure::of(
                FailureClass::Refused,
                format!("the stack {name} was made since, and going back would delete it"),
            )
            .help("leave it out of the rollback, or delete it with a step that says destroy #true")),
        }
    }
}

/// A stack that is to be what it was.
#[derive(Debug)]
pub(in crate::steps) struct Return {
    to: State,
    /// Values that the flow gives today, for those that are recorded nowhere.
    given: BTreeMap<String, Given>,
    /// Whose policy is asked; what may be done today is for today's to say.
    policy: Option<Arc<Common>>,
}

#[async_trait]
impl Step for Return {
    fn equip(&mut self, settings: &Ready, attributes: &Attributes) {
        self.given = Given::read(settings).unwrap_or_default();
        self.policy = Common::read(settings, attributes).ok().map(Arc::new);
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let (proposal, template) = self.propose(cx).await?;
        if let Some(common) = &self.policy {
            let told = policy::alone(&self.to.name, &proposal, &template);
            common.judge(&told, cx).await?;
        }
        Ok(proposal)
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        let found = look(cx, &self.to.name).await?;
        Ok(facts(&self.to.name, found.as_ref().map(|(stack, body)| (stack, body.as_str()))))
    }

    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        super::reconcile::settle(open, cx, &self.to.name, None).await
    }
}

impl Return {
    /// To that state.
    pub(in crate::steps) fn new(to: State) -> Self {
        Self { to, given: BTreeMap::new(), policy: None }
    }

    /// What would change, before any policy is asked, and the template that the stack would have.
    pub(in crate::steps) async fn propose(&self, cx: &Context) -> Result<(Proposal, String), Failure> {
        let name = &self.to.name;
        let found = look(cx, name).await?;
        let body = found.as_ref().map(|(_, body)| body.as_str()).unwrap_or_default();
        let text = match kept(&cx.world.store, &self.to.template)? {
            Some(text) => text,
            None if crate::world::files::digest(body.as_bytes()) == self.to.template => body.to_owned(),
            None => {
                let digest: String = self.to.template.chars().take(12).collect();
                let reason = format!("the template {digest} of the stack {name} is no longer in the store");
                return Err(Failure::missing(reason).help("deploy the older commit again"));
            }
        };
        let template = Template::of(cx, &format!("the recorded template of {name}"), text.clone()).await?;
        let Some((stack, body)) = found else { return Ok((self.anew(template)?, text)) };
        let request = self.request(template, &stack)?;
        let mut proposal = if request.is_met_by(&stack, &body) {
            up_to_date(cx, &request, stack.clone(), &body)
        } else {
            plan_change(cx, request, stack.clone(), &body, &destroys).await?
        };
        proposal.warnings.extend(self.secrets_that_stay(&stack, &body, cx));
        Ok((Proposal { baseline: facts(name, Some((&stack, &body))), ..proposal }, text))
    }

    /// The stack was deleted: it is made once more.
    fn anew(&self, template: Template) -> Result<Proposal, Failure> {
        let State { name, .. } = &self.to;
        let plain =
            self.to.parameters.iter().map(|(name, value)| (name.clone(), Given::Plain(value.clone())));
        let mut parameters: BTreeMap<String, Given> = plain.collect();
        for secret in self.to.secrets.keys() {
            let Some(given) = self.given.get(secret) else {
                let reason = format!(
                    "the stack {name} no longer exists, and its secret parameter {secret} is recorded nowhere"
                );
                return Err(Failure::missing(reason)
                    .help("give it to the step again, or deploy the older commit, which gives it"));
            };
            parameters.insert(secret.clone(), given.clone());
        }
        let (capabilities, tags) = (self.to.capabilities.clone(), Some(self.to.tags.clone()));
        let stayed = stayed(&template.body);
        let mut request = Request::new(name, template, parameters, capabilities, tags, None)?;
        request.policy.clone_from(&self.policy);
        let mut proposal = plan_new(request);
        proposal.warnings.push(format!("{name} is made anew: what its resources held does not come back"));
        proposal.warnings.extend(stayed);
        Ok(Proposal { baseline: facts(name, None), ..proposal })
    }

    fn request(&self, template: Template, stack: &Stack) -> Result<Request, Failure> {
        // What it has already is left alone: of a parameter that names another one, some answers have
        // the value that was read there, which is no name.
        let plain = self.to.parameters.iter().map(|(name, value)| {
            let same = stack.parameters.get(name) == Some(value);
            (name.clone(), if same { Given::Previous } else { Given::Plain(value.clone()) })
        });
        let hidden = self.to.secrets.keys().map(|name| (name.clone(), Given::Previous));
        let parameters: BTreeMap<String, Given> = plain.chain(hidden).collect();
        let lost = self.to.secrets.keys().find(|name| !stack.parameters.contains_key(*name));
        if let Some(name) = lost {
            let reason = format!("the stack {} no longer has the secret parameter {name}", self.to.name);
            return Err(Failure::missing(reason)
                .detail("its value is recorded nowhere")
                .help("deploy the older commit again, which gives it"));
        }
        let (capabilities, tags) = (self.to.capabilities.clone(), Some(self.to.tags.clone()));
        Request::new(&self.to.name, template, parameters, capabilities, tags, Some(stack))
    }

    /// Those that are known to have been others.
    fn secrets_that_stay(&self, stack: &Stack, body: &str, cx: &Context) -> Vec<String> {
        let now = State::standing(&self.to.name, stack, body, cx);
        let differ = |name: &&String| {
            let (then, now) = (self.to.secrets.get(*name), now.secrets.get(*name));
            then != now
        };
        let names = self.to.secrets.keys().filter(differ);
        names.map(|name| format!("the secret parameter {name} keeps the value that it has now")).collect()
    }
}

/// What stayed when the stack went is in the way where the template names it.
fn stayed(template: &str) -> Option<String> {
    let all = fates(template).into_iter().filter(|(_, fate)| *fate == Fate::Stays);
    let ids: Vec<String> = all.map(|(id, _)| id).collect();
    (!ids.is_empty()).then(|| {
        format!(
            "what stayed when it was deleted cannot be made again under the same name: {}",
            ids.join(", ")
        )
    })
}

/// Refuses what takes away a resource, or what is in it.
fn destroys(changes: &[ResourceChange]) -> Result<(), Failure> {
    let lost = |change: &&ResourceChange| match change.what {
        What::Replace | What::Remove => true,
        What::MayReplace => change.certain && holds_data(&change.kind),
        What::Add | What::Modify | What::Retire | What::Import | What::Dynamic => false,
    };
    let lost: Vec<String> = changes.iter().filter(lost).map(|change| change.shown().to_string()).collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Failure::of(FailureClass::Refused, "going back would delete or replace resources")
        .details(lost)
        .help("leave this step out of the rollback, or deploy the older commit, which plans it as a change"))
}

/// What cannot be made again as it was.
const DATA: &[&str] = &[
    "AWS::Cognito::UserPool",
    "AWS::DocDB::",
    "AWS::DynamoDB::",
    "AWS::EFS::FileSystem",
    "AWS::FSx::",
    "AWS::Neptune::",
    "AWS::OpenSearchService::Domain",
    "AWS::RDS::DB",
    "AWS::RDS::GlobalCluster",
    "AWS::S3::Bucket",
];

fn holds_data(kind: &str) -> bool {
    DATA.iter().any(|data| kind.starts_with(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_away_is_refused_by_name() {
        let change = |kind: &str, what, certain| ResourceChange {
            id: "Data".to_owned(),
            kind: kind.to_owned(),
            what,
            touched: Vec::new(),
            physical: Some("shop-data".to_owned()),
            certain,
        };
        let (bucket, group) = ("AWS::S3::Bucket", "AWS::Logs::LogGroup");
        for (kind, what, certain, fine) in [
            (bucket, What::Add, true, true),
            (bucket, What::Modify, true, true),
            (bucket, What::MayReplace, false, true),
            (bucket, What::MayReplace, true, false),
            (group, What::MayReplace, true, true),
            (group, What::Replace, true, false),
            (group, What::Remove, true, false),
        ] {
            let refused = destroys(&[change(kind, what, certain)]);
            assert_eq!(refused.is_ok(), fine, "{kind} {what:?}");
            if let Err(failure) = refused {
                assert!(failure.record.details[0].starts_with("Data ("), "{failure:?}");
            }
        }
    }
}
