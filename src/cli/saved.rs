//! Plans as files and by digest: writing them, finding them again, and saying
//! why one is not run.

use std::path::PathBuf;

use jiff::Timestamp;

use super::failure::CliError;
use super::session::Session;
use crate::exit::Exit;
use crate::journal::plans;
use crate::journal::sequence::Taken;
use crate::model::names::{EnvName, FlowName};
use crate::plan::compare::{Difference, Side};
use crate::plan::document::Plan;
use crate::plan::prepare::{Prepared, Request};
use crate::plan::saved::{self, Refusal};
use crate::report::look::Look;
use crate::report::{text, when};
use crate::world::clock::Clock;
use crate::world::files::Files;
use crate::world::keyed::Sealer;

/// Most differences that are named of one step.
const DIFFERENCES: usize = 8;

/// A plan that is not run, and the command that makes a new one where that is known.
#[derive(Debug)]
pub(super) struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// `flow plan deploy --env prod --out deploy.plan`
    pub new: Option<String>,
}

/// Keeps a plan in the environment's store.
pub(super) fn keep(prepared: &Prepared, plan: &Plan) -> Result<Vec<u8>, CliError> {
    let bytes = saved::write(plan, &prepared.sealer);
    plans::put(&prepared.world.store, &plan.digest, &bytes)?;
    Ok(bytes)
}

/// Keeps the plan of a run, as durably as what the run changes asks for.
pub(super) fn remember(prepared: &Prepared, plan: &Plan) -> Result<(), CliError> {
    if prepared.changes().is_empty() {
        let bytes = saved::write(plan, &prepared.sealer);
        return Ok(plans::remember(&prepared.world.store, &plan.digest, &bytes)?);
    }
    keep(prepared, plan).map(drop)
}

/// Keeps a plan and writes it to a file, which nobody else may read.
pub(super) fn write(session: &Session, prepared: &Prepared, plan: &Plan, file: &str) -> Result<(), CliError> {
    let bytes = keep(prepared, plan)?;
    Ok(Files::new("/").write(&here(session)?.join(file), &bytes)?)
}

fn here(session: &Session) -> Result<PathBuf, CliError> {
    session.host.current_dir().map_err(|error| CliError::NoFolder(error.to_string()))
}

/// A plan by its file or by (the beginning of) its digest, with every word as it was written.
pub(super) fn find(session: &Session, typed: &str) -> Result<Plan, CliError> {
    let refused = |refusal| CliError::Refused(Box::new(Refused { refusal, new: None }));
    let unverified = saved::read(&bytes(session, typed)?).map_err(refused)?;
    let store = session.store(Some(unverified.environment()))?;
    unverified.verify(&Sealer::load(&store)?).map_err(refused)
}

/// The plan that a run began with.
pub(super) fn of_run(prepared: &Prepared, digest: &str) -> Result<Plan, CliError> {
    let refused = |refusal| CliError::Refused(Box::new(Refused { refusal, new: None }));
    let (_, bytes) = plans::find(&prepared.world.store, digest).map_err(CliError::FindPlan)?;
    saved::read(&bytes).map_err(refused)?.verify(&prepared.sealer).map_err(refused)
}

fn bytes(session: &Session, typed: &str) -> Result<Vec<u8>, CliError> {
    let files = Files::new("/");
    let path = here(session)?.join(typed);
    if files.metadata(&path)?.is_some() {
        return Ok(files.read(&path)?);
    }
    let mut last = None;
    for store in session.stores() {
        match plans::find(&store, typed) {
            Ok((_, bytes)) => return Ok(bytes),
            Err(plans::FindError::None(_)) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(CliError::FindPlan(last.unwrap_or_else(|| plans::FindError::None(typed.to_owned()))))
}

/// A plan that is to be run now, as far as it can be told before the world is asked.
pub(super) fn for_run(
    session: &Session,
    typed: &str,
    flow: Option<&FlowName>,
    environment: Option<&EnvName>,
) -> Result<Plan, CliError> {
    let plan = find(session, typed)?;
    let refused = |refusal| refuse(refusal, &plan);
    let project = &session.loaded.project;
    let meant = |given: &FlowName| project.flow(given.as_str()).map_or(given, |flow| &flow.name).clone();
    if let Some(given) = flow.map(meant).filter(|given| *given != plan.flow) {
        return Err(refused(Refusal::OtherFlow { planned: plan.flow.clone(), given }));
    }
    let planned = &plan.environment.name;
    let meant = |given: &EnvName| {
        project.environment(given.as_str()).map_or(given, |environment| &environment.name.value).clone()
    };
    if let Some(given) = environment.map(meant).filter(|given| given != planned) {
        return Err(refused(Refusal::OtherEnvironment { planned: planned.clone(), given }));
    }
    let store = session.store(Some(planned))?;
    saved::check_unused(&plan, &store, Clock.now())?.map_err(refused)?;
    Ok(plan)
}

/// A refusal of a plan, with the command that makes a new one.
pub(super) fn refuse(refusal: Refusal, plan: &Plan) -> CliError {
    let new = plan.back_to.is_none().then(|| {
        let out = ["--out".to_owned(), file_name(plan)];
        command_line(&saved::request(plan), "plan", &out)
    });
    let new = new.or_else(|| Some(command_line(&saved::request(plan), "rollback", &[])));
    CliError::Refused(Box::new(Refused { refusal, new }))
}

/// What a plan's file is called where nobody says.
pub(super) fn file_name(plan: &Plan) -> String {
    format!("{}.plan", plan.flow.as_str().replace('/', "-"))
}

/// The command line that asks for the same.
pub(super) fn command_line(request: &Request, command: &str, more: &[String]) -> String {
    let mut words = vec!["flow".to_owned(), command.to_owned(), request.flow.to_string(), "--env".to_owned()];
    words.push(request.environment.to_string());
    if let Some(to) = request.back.as_ref().and_then(|wish| wish.to) {
        words.extend(["--to".to_owned(), to.to_string()]);
    }
    if let Some(began) = request.back.as_ref().and_then(|wish| wish.incident) {
        words.extend(["--incident".to_owned(), began.to_string()]);
    }
    for (flag, names) in [("--only", &request.typed.only), ("--skip", &request.typed.skip)] {
        words.extend(names.iter().flat_map(|name| [flag.to_owned(), name.clone()]));
    }
    words
        .extend(request.params.iter().flat_map(|(name, value)| ["-p".to_owned(), format!("{name}={value}")]));
    words.extend(request.no_cache.then(|| "--no-cache".to_owned()));
    words.extend(more.iter().cloned());
    crate::world::process::show_argv(&words)
}

impl Refused {
    /// What is said, and how flow ends.
    pub(super) fn lines(&self, look: &Look) -> (Vec<String>, Exit) {
        let now = Clock.now();
        let refusal = &self.refusal;
        let mut lines = vec![format!("refused: {refusal}")];
        let mut exit = Exit::Refused;
        match refusal {
            Refusal::NotAPlan(_) | Refusal::Newer(_) => {
                lines[0] = lines[0].replacen("refused", "error", 1);
                exit = Exit::Usage;
            }
            Refusal::Altered => lines.push("  what it says is not what flow wrote".to_owned()),
            Refusal::Expired { since } => lines[0].push_str(&format!(" ({})", ago(*since, now))),
            Refusal::Used(taken) | Refusal::Overtaken { by: Some(taken) } => {
                lines.push(format!("  {}", by(taken, look, now)));
            }
            Refusal::Changed { created, differences } => {
                lines[0] = format!("refused: {} ({})", changed(differences), ago(*created, now));
                lines.extend(list(differences));
            }
            Refusal::Overtaken { by: None }
            | Refusal::OtherFlow { .. }
            | Refusal::OtherEnvironment { .. }
            | Refusal::OtherVersion { .. }
            | Refusal::OtherStore { .. } => {}
        }
        let other = matches!(refusal, Refusal::OtherFlow { .. } | Refusal::OtherEnvironment { .. });
        if let Some(new) = self.new.as_ref().filter(|_| !other) {
            lines.push(format!("  make a new plan: {new}"));
        }
        (lines.iter().map(|line| look.text(line)).collect(), exit)
    }
}

fn by(taken: &Taken, look: &Look, now: Timestamp) -> String {
    format!("{}: flow log {}", when::day_and_time(look, taken.time, now), taken.run)
}

/// `the world changed since this plan was made`
fn changed(differences: &[Difference]) -> String {
    let on = |side| differences.iter().any(|difference| difference.side == side);
    let what = match (on(Side::World), on(Side::Project)) {
        (true, false) => "the world",
        (false, true) => "the project",
        _ => "the world and the project",
    };
    format!("{what} changed since this plan was made")
}

/// One line a difference, steps in a column of their own.
fn list(differences: &[Difference]) -> Vec<String> {
    let name = |difference: &Difference| difference.step.as_ref().map(ToString::to_string);
    let width = differences.iter().filter_map(name).map(|name| text::width(&name)).max().unwrap_or_default();
    let mut lines = Vec::new();
    let mut rest = differences;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|difference| difference.step == first.step).count();
        let (these, others) = rest.split_at(same);
        let column = match name(first) {
            Some(name) => format!("  {}  ", text::pad(&name, width)),
            None => "  ".to_owned(),
        };
        let shown = if these.len() > DIFFERENCES + 1 { DIFFERENCES } else { these.len() };
        for difference in these.iter().take(shown) {
            lines.push(format!("{column}{}", text::clean(&difference.to_string())));
        }
        if these.len() > shown {
            lines.push(format!("{column}and {} more", these.len() - shown));
        }
        rest = others;
    }
    lines
}

/// `14 min ago`
fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..90 => format!("{seconds} s ago"),
        90..5400 => format!("{} min ago", seconds / 60),
        5400..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
