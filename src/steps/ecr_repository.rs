//! `ecr-repository`: a repository in the account's registry, with the settings that a step names.
//!
//! Settings that a step does not name stay as they are. Nothing is ever
//! deleted here, and a policy that ECR would use to delete images is replaced
//! only when the step says how many to keep.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use crate::model::change::{Action, Change};
use crate::model::image::is_repository;
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::value::{Outputs, Value};
use crate::steps::{Attributes, Back, Context, Done, Effect, Failure, FailureClass, Kind, Proposal, Step};
use crate::world::aws::AwsError;
use crate::world::registry::{self, Repository, RepositorySettings};

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "ecr-repository",
        about: "Creates a repository in the account's registry, or puts its settings right.",
        settings: &[
            Setting::new("repository", Shape::Text, "Its name: shop-api or team/shop-api.").required(),
            Setting::new("immutable", Shape::Bool, "A tag that is taken never moves to another image."),
            Setting::new("scan", Shape::Bool, "ECR scans every image that is pushed."),
            Setting::new("keep", Shape::Int, "ECR drops all but the newest N images."),
        ],
        rules: &[],
        outputs: OutputNames::Fixed(&["uri", "arn"]),
        nature: Nature::Infrastructure,
        aws: true,
        repeatable: true,
    },
    make,
    back: Back::Nothing,
};

#[derive(Clone, Debug)]
struct EcrRepository {
    name: String,
    wanted: Wanted,
}

/// What a step names; the rest stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    immutable: Option<bool>,
    scan: Option<bool>,
    keep: Option<u32>,
}

fn make(settings: &Ready, _: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let invalid = |setting, why: &str| Unready::Invalid { setting, why: why.to_owned() };
    let name = settings.text("repository")?;
    if !is_repository(&name) {
        return Err(invalid("repository", "ECR takes lower case letters, digits, and . _ - / between them"));
    }
    let keep = match settings.int("keep")? {
        None => None,
        Some(keep) => Some(
            u32::try_from(keep)
                .ok()
                .filter(|keep| *keep > 0)
                .ok_or_else(|| invalid("keep", "at least 1 image must be kept"))?,
        ),
    };
    let wanted =
        Wanted { immutable: settings.opt_flag("immutable")?, scan: settings.opt_flag("scan")?, keep };
    Ok(Box::new(EcrRepository { name, wanted }))
}

#[async_trait]
impl Step for EcrRepository {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let repository = self.repository(cx).await?;
        let found = repository.settings().await?;
        let changes = self.wanted.changes(found.as_ref());
        let mut proposal = match &found {
            None => Proposal::new(Action::Create, "create"),
            Some(_) if !changes.is_empty() => Proposal::new(Action::Update, "change its settings"),
            Some(_) => Proposal::up_to_date(format!("{} is there", self.name), Outputs::new()),
        };
        if let Some(found) = &found {
            proposal.outputs = outputs(&repository, found);
        }
        proposal.changes = changes;
        proposal.baseline = found.as_ref().map_or(Json::Null, baseline);
        proposal.receipt = receipt(&self.name, found.as_ref());
        if proposal.action.will_run() {
            proposal.subject.clone_from(&self.name);
            proposal = proposal.with(SetUp { step: self.clone(), before: found });
        }
        Ok(proposal)
    }
}

impl EcrRepository {
    async fn repository<'a>(&self, cx: &'a Context) -> Result<Repository<'a>, Failure> {
        Ok(Repository::new(&cx.cloud, registry::host(&cx.cloud).await?, self.name.clone()))
    }
}

impl Wanted {
    /// What would change; all that is named when there is no repository yet.
    fn changes(self, found: Option<&RepositorySettings>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut compare = |what: &str, from: Option<String>, to: Option<String>| {
            if to.is_some() && from != to {
                changes.push(Change::new(what, from, to));
            }
        };
        let tags = |immutable: bool| if immutable { "never move" } else { "may move" }.to_owned();
        // One with exclusions is what somebody chose on purpose; it counts by its first word.
        let is_fixed = |found: &RepositorySettings| found.mutability.starts_with("IMMUTABLE");
        compare("tags", found.map(|found| tags(is_fixed(found))), self.immutable.map(tags));
        let scan = |scan: bool| if scan { "on push" } else { "by hand" }.to_owned();
        compare("scan", found.map(|found| scan(found.scan_on_push)), self.scan.map(scan));
        let kept = |found: &RepositorySettings| match &found.lifecycle {
            None => "all images".to_owned(),
            Some(policy) => kept(policy).map_or_else(|| "a policy of its own".to_owned(), show_kept),
        };
        compare("keep", found.map(kept), self.keep.map(show_kept));
        changes
    }
}

fn show_kept(keep: u32) -> String {
    format!("the newest {keep}")
}

/// How many images a policy keeps, if it is of the form that this kind writes.
fn kept(policy: &str) -> Option<u32> {
    let policy: Json = serde_json::from_str(policy).ok()?;
    let [rule] = policy.get("rules")?.as_array()?.as_slice() else { return None };
    let selection = rule.get("selection")?;
    let is = |key: &str, value: &str| selection.get(key).and_then(Json::as_str) == Some(value);
    let expires = rule.pointer("/action/type").and_then(Json::as_str) == Some("expire");
    if !expires || !is("tagStatus", "any") || !is("countType", "imageCountMoreThan") {
        return None;
    }
    u32::try_from(selection.get("countNumber")?.as_u64()?).ok()
}

fn policy(keep: u32) -> String {
    json!({ "rules": [{
        "rulePriority": 1,
        "description": format!("keep the newest {keep}"),
        "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": keep },
        "action": { "type": "expire" },
    }]})
    .to_string()
}

fn baseline(found: &RepositorySettings) -> Json {
    json!({ "tags": found.mutability, "scan": found.scan_on_push, "lifecycle": found.lifecycle })
}

fn receipt(name: &str, before: Option<&RepositorySettings>) -> Json {
    json!({ "repository": name, "before": before.map(baseline) })
}

fn outputs(repository: &Repository<'_>, found: &RepositorySettings) -> Outputs {
    [("uri", repository.uri()), ("arn", found.arn.clone())]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::Text(value)))
        .collect()
}

/// The effect.
#[derive(Debug)]
struct SetUp {
    step: EcrRepository,
    before: Option<RepositorySettings>,
}

#[async_trait]
impl Effect for SetUp {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let repository = self.step.repository(cx).await?;
        let wanted = self.step.wanted;
        if self.before.is_none() {
            repository.create(wanted.immutable.unwrap_or(false), wanted.scan.unwrap_or(false)).await?;
        }
        // A lost answer changes nothing here: each call says what shall be, and what is gets asked below.
        let settled = |sent: Result<(), AwsError>| match sent {
            Err(error) if !error.is_unclear() => Err(error),
            _ => Ok(()),
        };
        let now = found(&repository).await?;
        for change in wanted.changes(Some(&now)) {
            settled(match (change.what.as_str(), wanted) {
                ("tags", Wanted { immutable: Some(immutable), .. }) => {
                    repository.set_immutable(immutable).await
                }
                ("scan", Wanted { scan: Some(scan), .. }) => repository.set_scan_on_push(scan).await,
                ("keep", Wanted { keep: Some(keep), .. }) => repository.set_lifecycle(&policy(keep)).await,
                _ => Ok(()),
            })?;
        }
        let now = found(&repository).await.map_err(|failure| {
            Failure::of(FailureClass::Unknown, format!("how {} is set up now is not known", repository.name))
                .detail(failure.record.reason)
        })?;
        if let Some(left) = wanted.changes(Some(&now)).first() {
            return Err(Failure::new(format!("{} still has {left}", self.step.name)));
        }
        Ok(Done {
            summary: if self.before.is_none() { "created" } else { "settings changed" }.to_owned(),
            outputs: outputs(&repository, &now),
            receipt: receipt(&self.step.name, self.before.as_ref()),
        })
    }
}

async fn found(repository: &Repository<'_>) -> Result<RepositorySettings, Failure> {
    repository
        .settings()
        .await?
        .ok_or_else(|| Failure::new(format!("{} is gone; somebody else deleted it", repository.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mutability: &str, scan_on_push: bool, lifecycle: Option<&str>) -> RepositorySettings {
        RepositorySettings {
            uri: String::new(),
            arn: String::new(),
            mutability: mutability.to_owned(),
            scan_on_push,
            lifecycle: lifecycle.map(str::to_owned),
        }
    }

    #[test]
    fn only_what_is_named_changes() {
        let all = Wanted { immutable: Some(true), scan: Some(true), keep: Some(5) };
        for (wanted, found, changes) in [
            (Wanted::default(), found("MUTABLE", false, None), vec![]),
            (all, found("IMMUTABLE", true, Some(&policy(5))), vec![]),
            (all, found("IMMUTABLE_WITH_EXCLUSION", true, Some(&policy(5))), vec![]),
            (
                all,
                found("MUTABLE", false, Some(&policy(9))),
                vec![
                    "tags  may move → never move",
                    "scan  by hand → on push",
                    "keep  the newest 9 → the newest 5",
                ],
            ),
            (all, found("IMMUTABLE", true, None), vec!["keep  all images → the newest 5"]),
            (
                all,
                found("IMMUTABLE", true, Some("{\"rules\":[]}")),
                vec!["keep  a policy of its own → the newest 5"],
            ),
        ] {
            let shown: Vec<String> = wanted.changes(Some(&found)).iter().map(ToString::to_string).collect();
            assert_eq!(shown, changes);
        }
        assert_eq!(all.changes(None).len(), 3);
    }
}
