//! `flow approvers list`, `flow approvers set`

use serde_json::json;

use super::Done;
use super::approving::{ApprovalError, sign};
use super::failure::CliError;
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::exit::Exit;
use crate::model::names::EnvName;
use crate::model::policy::{Person, Policy, Source};
use crate::plan::policy::{self, Found, Record, from_files};
use crate::plan::prepare::{PrepareError, find_environment};
use crate::plan::target;
use crate::report::out;
use crate::world::aws::Cloud;
use crate::world::cancel::Canceller;
use crate::world::clock::Clock;
use crate::world::git::Git;
use crate::world::terminal;

/// Who may approve in an environment
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show who may approve
    List {
        /// The environment
        #[arg(short, long, value_name = "ENV")]
        env: String,

        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write what the files say into the environment's record in its account
    Set {
        /// The environment
        #[arg(short, long, value_name = "ENV")]
        env: String,

        /// The SSH key to sign with
        #[arg(long, value_name = "FILE")]
        key: Option<String>,
    },
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        match &self.command {
            What::List { env, .. } | What::Set { env, .. } => Subject::Environment(env),
        }
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    match &args.command {
        What::List { env, json } => block_on(list(session, env, *json)),
        What::Set { env, key } => block_on(set(session, env, key.as_deref())),
    }
}

/// An environment, as the files have it and as its account does.
struct Stand {
    files: Policy,
    cloud: Cloud,
    found: Option<Found>,
}

async fn stand(session: &Session, env: &str) -> Result<Stand, CliError> {
    let project = session.project()?;
    let git = Git::new(&session.root, session.host.clone());
    let environment = find_environment(project, &EnvName::new(env), &git)?;
    let (resolved, problems) = target::resolve(environment, &git);
    if !problems.is_empty() {
        return Err(CliError::Problems(problems));
    }
    let files = from_files(project, environment)?;
    let cloud = Cloud::new(resolved.target, session.host.clone());
    let mut found = None;
    if cloud.target().account.is_some() {
        cloud.verify().await.map_err(PrepareError::from)?;
        found = policy::find(&project.name, &cloud).await?;
    }
    Ok(Stand { files, cloud, found })
}

async fn list(session: &Session, env: &str, json: bool) -> Done {
    let Stand { files, found, .. } = stand(session, env).await?;
    let holds = match &found {
        None => Ok(files.clone()),
        Some(found) => found.record.policy.tightened_by(&files),
    };
    let policy =
        holds.as_ref().unwrap_or_else(|_| found.as_ref().map_or(&files, |found| &found.record.policy));
    if json {
        let rows: Vec<_> = policy.approvers.iter().map(row).collect();
        out::json(&json!({
            "version": 1, "environment": policy.environment, "source": policy.source,
            "protected": policy.protected, "count": policy.count, "four_eyes": policy.four_eyes,
            "branches": policy.branches, "tags": policy.tags,
            "set": found.as_ref().map(|found| found.record.set),
            "signed_by": found.as_ref().map(|found| &found.fingerprint),
            "refused": holds.as_ref().err().map(ToString::to_string),
            "approvers": rows,
        }));
    } else {
        out::lines(show(policy));
        out::data(&match &found {
            Some(found) => format!(
                "  from the record in account {}, written {} and signed by {}",
                found.record.account,
                found.record.set.strftime("%Y-%m-%d %H:%M UTC"),
                signer(&found.record.policy, found),
            ),
            None => format!("  from the files: {} has no record", policy.environment),
        });
    }
    match holds {
        Ok(_) => Ok(Exit::Success),
        Err(loosened) => Err(CliError::Policy(loosened.into())),
    }
}

fn signer(policy: &Policy, found: &Found) -> String {
    policy.owner(&found.key).map_or_else(|| found.fingerprint.clone(), |person| person.name.clone())
}

fn row(person: &Person) -> serde_json::Value {
    json!({
        "id": person.name, "group": person.group, "key": person.key,
        "fingerprint": person.fingerprint, "valid_before": person.valid_before,
    })
}

/// `prod   protected, 2 must approve, four eyes` and a line for each key.
fn show(policy: &Policy) -> Vec<String> {
    let mut lines = vec![format!("{}   {}", policy.environment, terms(policy).join(", "))];
    if policy.approvers.is_empty() {
        lines.push("  nobody may approve".to_owned());
    }
    let names = policy.approvers.iter().map(|person| person.name.len()).max().unwrap_or(0);
    lines.extend(policy.approvers.iter().map(|person| format!("  {}", key_line(person, names))));
    lines
}

fn terms(policy: &Policy) -> Vec<String> {
    let mut terms = vec![if policy.protected { "protected" } else { "not protected" }.to_owned()];
    if policy.count > 1 {
        terms.push(format!("{} must approve", policy.count));
    }
    terms.extend(policy.four_eyes.then(|| "four eyes".to_owned()));
    let from: Vec<&str> = policy.branches.iter().chain(&policy.tags).map(String::as_str).collect();
    if !from.is_empty() {
        terms.push(format!("from {}", from.join(", ")));
    }
    terms.extend(policy.store.as_ref().map(|store| format!("records in {store}")));
    terms
}

fn key_line(person: &Person, names: usize) -> String {
    let group = person.group.as_ref().map_or_else(String::new, |group| format!("  group {group}"));
    let end = person.valid_before.map_or_else(String::new, |end| format!("  until {end}"));
    format!("{:names$}  {}{group}{end}", person.name, person.fingerprint)
}

async fn set(session: &Session, env: &str, key: Option<&str>) -> Done {
    let Stand { files, cloud, found } = stand(session, env).await?;
    let environment = files.environment.clone();
    let Some(account) = cloud.target().account.clone() else {
        return Err(Box::new(ApprovalError::NoAccount(environment)).into());
    };
    if files.approvers.is_empty() {
        return Err(Box::new(ApprovalError::NoApprovers(environment)).into());
    }
    let wanted = Policy { source: Source::Record, ..files };
    let before = found.as_ref().map(|found| &found.record.policy);
    if before == Some(&wanted) {
        out::note(&format!("{environment}: the record says that already"));
        return Ok(Exit::Success);
    }
    for line in difference(before, &wanted) {
        out::note(&line);
    }
    if terminal::stdin_is_terminal() && !agreed(&format!("write the record of {environment}?")).await? {
        return Err(Box::new(ApprovalError::Declined).into());
    }
    let project = session.project()?.name.clone();
    let record = Record {
        account: account.clone(),
        policy: wanted.clone(),
        previous: found.as_ref().map(|found| found.digest.clone()),
        project: project.clone(),
        set: Clock.now(),
        sort: policy::TYPE.to_owned(),
        version: policy::VERSION,
    };
    let text = serde_json::to_string(&record).unwrap_or_default();
    let (signed, key) = sign(session, key, text).map_err(|error| Box::new(ApprovalError::from(error)))?;
    // Those who could approve say who can from now on; the first record says so of itself.
    let may = before.unwrap_or(&wanted);
    let Some(person) = may.owner(&key.to_line()).filter(|person| person.counted_at(Clock.now())) else {
        return Err(Box::new(ApprovalError::NotInRecord {
            fingerprint: key.fingerprint(),
            environment,
            names: may.names().into_iter().map(str::to_owned).collect(),
        })
        .into());
    };
    let name = policy::parameter(&project, &environment);
    let value = serde_json::to_string(&signed).unwrap_or_default();
    let unread =
        |why| policy::PolicyError::Unwritten { environment: environment.clone(), why: Box::new(why) };
    cloud
        .put_parameter(&name, &value, "Who may approve; written by flow approvers set")
        .await
        .map_err(unread)?;
    out::note(&format!("{environment}: written to {name} in account {account}, signed by {}", person.name));
    Ok(Exit::Success)
}

/// What the record will say that it did not say.
fn difference(before: Option<&Policy>, wanted: &Policy) -> Vec<String> {
    let Some(before) = before else {
        let mut lines = vec![format!("{}: the first record", wanted.environment)];
        lines.extend(show(wanted).into_iter().skip(1).map(|line| line.replacen("  ", "  + ", 1)));
        lines.insert(1, format!("  {}", terms(wanted).join(", ")));
        return lines;
    };
    let mut lines = vec![format!("{}: the record changes", wanted.environment)];
    let (old, new) = (terms(before), terms(wanted));
    if old != new {
        lines.push(format!("  ~ {} → {}", old.join(", "), new.join(", ")));
    }
    for gone in before.approvers.iter().filter(|person| !wanted.approvers.contains(person)) {
        lines.push(format!("  - {}", key_line(gone, 0)));
    }
    for come in wanted.approvers.iter().filter(|person| !before.approvers.contains(person)) {
        lines.push(format!("  + {}", key_line(come, 0)));
    }
    lines
}

/// Asks at the terminal; only `yes` is yes.
pub(super) async fn agreed(question: &str) -> Result<bool, CliError> {
    out::note(&format!("  {question} type yes"));
    let canceller = Canceller::new();
    let answer = terminal::read_line(&canceller.view()).await;
    Ok(answer.is_ok_and(|answer| matches!(answer.trim(), "yes" | "y" | "Y")))
}
