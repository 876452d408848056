//! `flow review RUN`

use serde_json::json;

use super::Done;
use super::approving::{ApprovalError, Signing, approver, sign};
use super::failure::CliError;
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::event::Event;
use crate::exit::Exit;
use crate::journal::approvals::{self, Decision, Place, Statement};
use crate::journal::log;
use crate::plan::policy;
use crate::plan::prepare::{PrepareError, find_environment};
use crate::plan::target;
use crate::report::out;
use crate::steps::approve::reviewed;
use crate::world::aws::Cloud;
use crate::world::clock::Clock;
use crate::world::git::Git;

/// Sign that a break-glass run was looked at, so that its environment can be deployed to again
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    signing: Signing,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Run(&self.run)
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    block_on(review(session, args))
}

async fn review(session: &Session, args: &Args) -> Done {
    let (store, run) = session.store_of_run(&args.run)?;
    let records = log::read(&store, &run)?;
    let started = records.iter().find_map(|record| match &record.event {
        Event::RunStarted(started) => Some(started),
        _ => None,
    });
    let not_broken = || Box::new(ApprovalError::NotBroken(run.clone()));
    let started = started.ok_or_else(not_broken)?;
    let broken = approvals::broken(&store, &started.environment)?;
    let broken = broken.into_iter().filter_map(Result::ok).find(|b| b.run == run).ok_or_else(not_broken)?;

    let project = session.project()?;
    let git = Git::new(&session.root, session.host.clone());
    let environment = find_environment(project, &started.environment, &git)?;
    let (resolved, problems) = target::resolve(environment, &git);
    if !problems.is_empty() {
        return Err(CliError::Problems(problems));
    }
    let cloud = Cloud::new(resolved.target, session.host.clone());
    if cloud.target().account.is_some() {
        cloud.verify().await.map_err(PrepareError::from)?;
    }
    let policy = policy::read(project, environment, &cloud).await?;

    let found = approvals::at(&store, &broken.plan, Place::Review)?;
    if let Some(by) = reviewed(&policy, &broken, &found) {
        out::note(&format!("run {run} was reviewed by {by} already"));
        return Ok(Exit::Success);
    }
    let statement = Statement {
        account: started.account.clone(),
        decision: Decision::Review,
        environment: started.environment.clone(),
        expires: None,
        flow: started.flow.clone(),
        gate: None,
        mark: None,
        nonce: approvals::nonce(),
        plan: broken.plan.clone(),
        policy: None,
        reason: args.signing.reason.clone(),
        run: Some(run.clone()),
        sequence: broken.sequence,
        signed: Clock.now(),
        sort: approvals::TYPE.to_owned(),
        version: approvals::VERSION,
    };
    let (signed, key) = sign(session, args.signing.key.as_deref(), statement.to_text())
        .map_err(|error| Box::new(ApprovalError::from(error)))?;
    let person = approver(&policy, &key).map_err(Box::new)?;
    if person.name == broken.by {
        return Err(Box::new(ApprovalError::OwnReview { name: person.name.clone(), run }).into());
    }
    approvals::put(&store, &broken.plan, Place::Review, &key.file_name(), &signed)?;
    if args.signing.json {
        out::json(&json!({ "version": 1, "run": run, "by": person.name, "signed": statement.signed }));
    } else {
        out::note(&format!("run {run} ({}: {}) is reviewed by {}", broken.by, broken.reason, person.name));
    }
    Ok(Exit::Success)
}
