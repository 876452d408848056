//! `ecr-repository`: a repository in the account's registry, with the settings that a step names.
//!
//! Settings that a step does not name stay as they are. Nothing is ever
//! deleted here, and a policy that ECR would use to delete images is replaced
//! only when the step says how many to keep. A rollback puts recorded settings
//! back and lets a repository stay that was not there then.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::back::{self, Stays};
use crate::model::change::{Action, Change, Reversible};
use crate::model::image::is_repository;
use crate::model::kind::{KindSpec, Nature, OutputNames};
use crate::model::settings::{Ready, Setting, Shape, Unready};
use crate::model::units::short_digest;
use crate::model::value::{Outputs, Value};
use crate::steps::{
    Attributes, Back, Context, Done, Effect, Failure, FailureClass, Kind, Proposal, Step, Way,
};
use crate::world::aws::AwsError;
use crate::world::files::digest;
use crate::world::registry::{self, Repository, RepositorySettings};

/// The kind.
pub static KIND: Kind = Kind {
    spec: KindSpec {
        name: "ecr-repository",
        about: "Creates a repository in the account's registry, or puts its settings right.",
        settings: &[
            Setting::new("repository", Shape::Text, "Its name: shop-api or team/shop-api.")
                .required()
                .target(),
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
    back: Back::To(back_to),
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
        proposal.baseline = baseline(found.as_ref());
        if let Some(found) = &found {
            proposal.outputs = outputs(&repository, found);
            proposal.receipt = State::of(&self.name, found).to_json();
        }
        proposal.changes = changes;
        if proposal.action.will_run() {
            if found.is_some() {
                proposal.reversible = Reversible::Auto;
                proposal.standing = std::mem::take(&mut proposal.receipt);
            }
            proposal.subject.clone_from(&self.name);
            proposal = proposal.with(SetUp { step: self.clone(), before: found });
        }
        Ok(proposal)
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        Ok(baseline(self.repository(cx).await?.settings().await?.as_ref()))
    }
}

impl EcrRepository {
    async fn repository<'a>(&self, cx: &'a Context) -> Result<Repository<'a>, Failure> {
        Ok(Repository::new(&cx.cloud, registry::host(&cx.cloud).await?, self.name.clone()))
    }
}

/// What a release keeps of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct State {
    repository: String,
    /// `MUTABLE` and the like.
    mutability: String,
    exclusions: Vec<String>,
    scan: bool,
    lifecycle: Option<String>,
}

impl State {
    fn of(name: &str, found: &RepositorySettings) -> Self {
        Self {
            repository: name.to_owned(),
            mutability: found.mutability.clone(),
            exclusions: found.exclusions.clone(),
            scan: found.scan_on_push,
            lifecycle: found.lifecycle.clone(),
        }
    }

    fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What is not as it was: changes in words.
    fn changes(&self, found: &RepositorySettings) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.mutability != found.mutability || self.exclusions != found.exclusions {
            let shown = |mutability: &str, exclusions: &[String]| match exclusions {
                [] => tags_shown(mutability),
                but => format!("{}, but {}", tags_shown(mutability), but.join(", ")),
            };
            let from = shown(&found.mutability, &found.exclusions);
            changes.push(Change::new("tags", from, shown(&self.mutability, &self.exclusions)));
        }
        if self.scan != found.scan_on_push {
            changes.push(Change::new("scan", scan_shown(found.scan_on_push), scan_shown(self.scan)));
        }
        // ECR may answer the same policy with other spaces.
        let rules = |policy: &Option<String>| {
            policy.as_deref().map(|text| serde_json::from_str(text).unwrap_or_else(|_| Json::from(text)))
        };
        if rules(&self.lifecycle) != rules(&found.lifecycle) {
            let shown = |policy: &Option<String>| kept_shown(policy.as_deref());
            changes.push(Change::new("keep", shown(&found.lifecycle), shown(&self.lifecycle)));
        }
        changes
    }
}

fn back_to(way: &Way) -> Result<Box<dyn Step>, Failure> {
    if let Some(to) = &way.to {
        let to: State = back::read(to)?;
        if to.repository.is_empty() {
            return Err(Failure::new("that release does not say how the repository was set up"));
        }
        Ok(Box::new(Return(to)))
    } else {
        let now: State = back::read(&way.now).unwrap_or_default();
        let what = if now.repository.is_empty() { "the repository".to_owned() } else { now.repository };
        Ok(Box::new(Stays::unrecorded(&what, way.now.clone())))
    }
}

/// The way back to recorded settings.
#[derive(Clone, Debug)]
struct Return(State);

#[async_trait]
impl Step for Return {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let Self(to) = self;
        let repository = Repository::new(&cx.cloud, registry::host(&cx.cloud).await?, to.repository.clone());
        let Some(found) = repository.settings().await? else {
            return Err(Failure::missing(format!("the repository {} is gone", to.repository))
                .help("create it again; its images are gone with it"));
        };
        let changes = to.changes(&found);
        let standing = State::of(&to.repository, &found).to_json();
        let mut proposal = if changes.is_empty() {
            let mut same = Proposal::up_to_date(format!("{} is set up so", to.repository), Outputs::new());
            same.receipt = standing;
            same
        } else {
            let mut other = Proposal::new(Action::Update, "put its settings back");
            other.subject.clone_from(&to.repository);
            other.reversible = Reversible::Auto;
            other.standing = standing;
            other.changes = changes;
            other.with(PutBack(to.clone()))
        };
        proposal.baseline = baseline(Some(&found));
        proposal.outputs = outputs(&repository, &found);
        Ok(proposal)
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
        let tags = |found: &RepositorySettings| tags_shown(&found.mutability);
        compare("tags", found.map(tags), self.immutable.map(|fixed| tags_shown(wanted_tags(fixed))));
        let scan = |found: &RepositorySettings| scan_shown(found.scan_on_push);
        compare("scan", found.map(scan), self.scan.map(scan_shown));
        let kept = |found: &RepositorySettings| kept_shown(found.lifecycle.as_deref());
        compare("keep", found.map(kept), self.keep.map(show_kept));
        changes
    }
}

/// One with exclusions is what somebody chose on purpose; it counts by its first word.
fn tags_shown(mutability: &str) -> String {
    if mutability.starts_with("IMMUTABLE") { "never move" } else { "may move" }.to_owned()
}

fn wanted_tags(immutable: bool) -> &'static str {
    if immutable { "IMMUTABLE" } else { "MUTABLE" }
}

fn scan_shown(on_push: bool) -> String {
    if on_push { "on push" } else { "by hand" }.to_owned()
}

fn kept_shown(policy: Option<&str>) -> String {
    match policy {
        None => "all images".to_owned(),
        Some(policy) => kept(policy).map_or_else(|| "a policy of its own".to_owned(), show_kept),
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

/// How it is set up, as an operator would say it.
fn baseline(found: Option<&RepositorySettings>) -> Json {
    let Some(found) = found else { return json!({ "repository": "is not there" }) };
    let mut tags = tags_shown(&found.mutability);
    if !found.exclusions.is_empty() {
        tags = format!("{tags}, but {}", found.exclusions.join(", "));
    }
    let keep = match found.lifecycle.as_deref().map(|policy| (kept(policy), policy)) {
        Some((None, policy)) => {
            format!("a policy of its own, {}", short_digest(&format!("sha256:{}", digest(policy.as_bytes()))))
        }
        _ => kept_shown(found.lifecycle.as_deref()),
    };
    json!({
        "repository": "is there", "tags": tags, "scan": scan_shown(found.scan_on_push), "keep": keep,
    })
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
        let now = found(&repository).await?;
        for change in wanted.changes(Some(&now)) {
            settled(match (change.what.as_str(), wanted) {
                ("tags", Wanted { immutable: Some(immutable), .. }) => {
                    repository.set_mutability(wanted_tags(immutable), &[]).await
                }
                ("scan", Wanted { scan: Some(scan), .. }) => repository.set_scan_on_push(scan).await,
                ("keep", Wanted { keep: Some(keep), .. }) => repository.set_lifecycle(&policy(keep)).await,
                _ => Ok(()),
            })?;
        }
        let now = found_after(&repository).await?;
        if let Some(left) = wanted.changes(Some(&now)).first() {
            return Err(Failure::new(format!("{} still has {left}", self.step.name)));
        }
        Ok(Done {
            summary: if self.before.is_none() { "created" } else { "settings changed" }.to_owned(),
            outputs: outputs(&repository, &now),
            receipt: State::of(&self.step.name, &now).to_json(),
        })
    }
}

/// The effect of a way back.
#[derive(Debug)]
struct PutBack(State);

#[async_trait]
impl Effect for PutBack {
    async fn apply(self: Box<Self>, cx: &Context) -> Result<Done, Failure> {
        let Self(to) = *self;
        let repository = Repository::new(&cx.cloud, registry::host(&cx.cloud).await?, to.repository.clone());
        let now = found(&repository).await?;
        for change in to.changes(&now) {
            settled(match (change.what.as_str(), &to.lifecycle) {
                ("tags", _) => repository.set_mutability(&to.mutability, &to.exclusions).await,
                ("scan", _) => repository.set_scan_on_push(to.scan).await,
                ("keep", Some(policy)) => repository.set_lifecycle(policy).await,
                ("keep", None) => repository.drop_lifecycle().await,
                _ => Ok(()),
            })?;
        }
        let now = found_after(&repository).await?;
        if let Some(left) = to.changes(&now).first() {
            return Err(Failure::new(format!("{} still has {left}", to.repository)));
        }
        Ok(Done {
            summary: "settings put back".to_owned(),
            outputs: outputs(&repository, &now),
            receipt: State::of(&to.repository, &now).to_json(),
        })
    }
}

/// A lost answer changes nothing here: each call says what shall be, and what is gets asked afterwards.
fn settled(sent: Result<(), AwsError>) -> Result<(), AwsError> {
    match sent {
        Err(error) if !error.is_unclear() => Err(error),
        _ => Ok(()),
    }
}

async fn found_after(repository: &Repository<'_>) -> Result<RepositorySettings, Failure> {
    found(repository).await.map_err(|failure| {
        Failure::of(FailureClass::Unknown, format!("how {} is set up now is not known", repository.name))
            .detail(failure.record.reason)
    })
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
            exclusions: Vec::new(),
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

    #[test]
    fn a_state_says_what_is_not_as_it_was() {
        let before = found("IMMUTABLE", true, Some(&policy(5)));
        let state = State::of("shop", &before);
        assert_eq!(state.changes(&before), []);
        let spaced = policy(5).replace(':', ": ");
        assert_eq!(state.changes(&found("IMMUTABLE", true, Some(&spaced))), []);
        let shown: Vec<String> =
            state.changes(&found("MUTABLE", false, None)).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["tags  may move → never move", "scan  by hand → on push", "keep  all images → the newest 5"]
        );
        assert_eq!(back::read::<State>(&state.to_json()).unwrap(), state);
        assert_eq!(baseline(None), json!({ "repository": "is not there" }));
        assert_eq!(
            baseline(Some(&before)),
            json!({ "repository": "is there", "tags": "never move", "scan": "on push", "keep": "the newest 5" })
        );
    }
}
