//! From errors to words, hints and exit codes: the only place that does it.

use crate::event::JournalDown;
use crate::exec::recover::{RecoverError, Unclear};
use crate::exit::Exit;
use crate::journal::locks::{Holder, LockError};
use crate::journal::log::{ReadError, ResumeError};
use crate::journal::plans;
use crate::journal::releases::ReleaseError;
use crate::journal::runs::FindError;
use crate::model::names::{EnvName, RunId, StepId};
use crate::model::units::count;
use crate::plan::backwards::BackError;
use crate::plan::graph::unresolved;
use crate::plan::load::LoadError;
use crate::plan::observe::PlanFailure;
use crate::plan::params::ParamError;
use crate::plan::policy::PolicyError;
use crate::plan::prepare::PrepareError;
use crate::plan::propose::NoProposal;
use crate::plan::selection::SelectionError;
use crate::report::out;
use crate::report::story::StoryError;
use crate::report::text::shell_word;
use crate::steps::FailureClass;
use crate::syntax::problem::Problems;
use crate::syntax::render::{self, Style};
use crate::syntax::source::Sources;
use crate::world::aws::IdentityError;
use crate::world::files::FileError;

use super::approving::ApprovalError;
use super::locking::Locked;
use super::saved::Refused;
use super::session::Session;

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The machine does not let flow look around.
    #[error("{0}")]
    NoFolder(String),
    /// There is no project, or it cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Several projects of the repository have it.
    #[error("several projects have the {what} {name}: say which")]
    WhichProject {
        /// `flow` or `environment`
        what: &'static str,
        /// As typed.
        name: String,
        /// What could be meant, with the projects' names.
        meant: Vec<String>,
    },
    /// No project of the repository has it.
    #[error("no project here has the {what} {name}{}", .near.as_ref().map_or_else(String::new, |near| format!("; did you mean {near}?")))]
    NoProjectHas {
        /// `flow` or `environment`
        what: &'static str,
        /// As typed.
        name: String,
        /// All there are, with the projects' names.
        known: Vec<String>,
        /// The nearest of them.
        near: Option<String>,
    },
    /// Mistakes in flow files.
    #[error("mistakes in the flow files")]
    Problems(Problems),
    /// The request cannot be planned.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Steps cannot be planned.
    #[error("steps cannot be planned")]
    Plan(Vec<PlanFailure>),
    /// A signal came before there was a run.
    #[error("interrupted while the plan was made; nothing was run")]
    Interrupted,
    /// The world could not be asked about some steps, and a run must know.
    #[error("the world could not be asked about {}", count(.0.len(), "step"))]
    Unknown(Vec<(String, String)>),
    /// A store that this version cannot use.
    #[error("the store lies in the bucket {0}, and shared stores are not part of this version")]
    SharedStore(String),
    /// What stands there is recorded already.
    #[error("{environment} has releases of {flow} already, the newest is {id}: nothing was recorded")]
    Adopted {
        /// The environment.
        environment: String,
        /// The flow.
        flow: String,
        /// The newest release.
        id: u64,
    },
    /// Something about approvals.
    #[error(transparent)]
    Approval(#[from] Box<ApprovalError>),
    /// It is not known who may approve.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// No run of that name.
    #[error(transparent)]
    FindRun(FindError),
    /// A run that cannot be told.
    #[error(transparent)]
    Story(#[from] StoryError),
    /// A run that is not gone on with.
    #[error("run {run} cannot be resumed: {why}")]
    NotResumable {
        /// The run.
        run: RunId,
        /// Why.
        why: String,
        /// The command line that begins it anew.
        again: String,
    },
    /// A run whose journal cannot be taken over.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// What an interrupted run left cannot be recorded.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// An interrupted run left effects of which nobody knows whether they were made.
    #[error("run {run} left effects of which nobody knows whether they were made")]
    Unclear {
        /// The run.
        run: RunId,
        /// The effects.
        unclear: Vec<Unclear>,
    },
    /// A step that cannot be marked.
    #[error("{why}")]
    NoMark {
        /// Why.
        why: String,
        /// The steps that can be.
        open: Vec<StepId>,
    },
    /// A release that cannot be read.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// No plan of that name.
    #[error(transparent)]
    FindPlan(#[from] plans::FindError),
    /// A saved plan that is not run.
    #[error("{}", .0.refusal)]
    Refused(Box<Refused>),
    /// A journal that cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// A lock that another run has, or that cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The same, with what the run that has it is at.
    #[error("{}", .0.message)]
    Locked(Box<Locked>),
    /// A lock that was to be taken away from somebody who does not have it any more.
    #[error("lock {token} of {environment} is not the one that is held")]
    WrongToken {
        /// The environment.
        environment: EnvName,
        /// What was typed.
        token: u64,
        /// Who has it now.
        now: Option<Box<Holder>>,
    },
    /// A journal that cannot be written.
    #[error(transparent)]
    JournalDown(#[from] JournalDown),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Says what happened, why, and what to type, and picks the exit code.
pub(super) fn report(error: &CliError, session: Option<&Session>) -> Exit {
    let (lines, exit) = words(error, session);
    for line in lines.iter().map(|line| line.trim_end_matches('\n')) {
        // What has several lines was drawn to fit.
        if line.contains('\n') { out::note(line) } else { out::reason(line) }
    }
    exit
}

/// What happened, why, and what to type; and the exit code.
pub(super) fn words(error: &CliError, session: Option<&Session>) -> (Vec<String>, Exit) {
    match (error, session) {
        (
            CliError::Problems(problems) | CliError::Prepare(PrepareError::Problems(problems)),
            Some(session),
        ) => (vec![draw(problems, &session.loaded.sources, session)], Exit::Usage),
        (CliError::NotResumable { again, .. }, _) => {
            let mut lines = vec![format!("refused: {error}")];
            lines.extend((!again.is_empty()).then(|| format!("  begin a new run: {again}")));
            (lines, Exit::Refused)
        }
        (CliError::Resume(ResumeError::Alive(run)), _) => {
            (vec![format!("error: {error}"), format!("  watch it: flow log {run} -f")], Exit::Locked)
        }
        (CliError::Resume(ResumeError::Nothing(_)), _) => (vec![error.to_string()], Exit::Usage),
        (CliError::Unclear { run, unclear }, _) => {
            let mut lines = super::recovery::mark_commands(run, unclear);
            lines.push("nothing was run: what an earlier run did must be known first".to_owned());
            (lines, Exit::Unknown)
        }
        (CliError::NoMark { open, .. }, _) => {
            let names: Vec<String> = open.iter().map(ToString::to_string).collect();
            let open = if names.is_empty() { "nothing is open".to_owned() } else { names.join(", ") };
            (vec![format!("error: {error}"), format!("  open: {open}")], Exit::Usage)
        }
        (CliError::Interrupted | CliError::Recover(RecoverError::Interrupted), _) => {
            (vec![error.to_string()], Exit::Interrupted)
        }
        (CliError::Plan(failures), Some(session)) => plan_failures(failures, session),
        (CliError::Prepare(error), _) => prepare(error),
        (CliError::Approval(error), _) => error.lines(),
        (CliError::Policy(error), _) => {
            let mut lines = vec![format!("error: {error}")];
            let exit = policy(error, &mut lines);
            (lines, exit)
        }
        (CliError::Unknown(steps), _) => {
            let mut lines = vec![format!("error: {error}; nothing was run")];
            lines.extend(steps.iter().map(|(step, why)| format!("  {step}  {why}")));
            (lines, Exit::Failed)
        }
        (CliError::Load(LoadError::NoProject(_)), _) => (
            vec![
                format!("error: {error}"),
                "  go to a project's folder, name one with --root, or begin with flows/project.kdl"
                    .to_owned(),
            ],
            Exit::Usage,
        ),
        (CliError::Load(LoadError::Twice { .. }), _) => (vec![format!("error: {error}")], Exit::Usage),
        (CliError::WhichProject { meant: known, .. } | CliError::NoProjectHas { known, .. }, _) => {
            (vec![format!("error: {error}"), format!("  there is {}", known.join(", "))], Exit::Usage)
        }
        (CliError::SharedStore(_), _) => (
            vec![format!("error: {error}"), "  name a folder: store \".flow/store\"".to_owned()],
            Exit::Usage,
        ),
        (CliError::Adopted { environment, .. }, _) => (
            vec![
                format!("error: {error}"),
                format!("  all releases: flow releases --env {}", shell_word(environment)),
            ],
            Exit::Usage,
        ),
        (CliError::FindRun(_), _) => {
            (vec![format!("error: {error}"), "  all runs: flow runs".to_owned()], Exit::Usage)
        }
        (CliError::FindPlan(plans::FindError::File(_)), _) => (vec![format!("error: {error}")], Exit::Failed),
        (CliError::FindPlan(_), _) => (
            vec![
                format!("error: {error}"),
                "  name its file, or six digits or more of its digest".to_owned(),
            ],
            Exit::Usage,
        ),
        (CliError::Refused(refused), Some(session)) => refused.lines(&session.look()),
        (CliError::Story(StoryError::NoStep { run, .. }), _) => {
            (vec![format!("error: {error}"), format!("  the whole run: flow log {run}")], Exit::Usage)
        }
        (CliError::Locked(locked), _) => (locked.lines(), Exit::Locked),
        (CliError::WrongToken { now, .. }, _) => {
            let mut lines = vec![format!("refused: {error}")];
            lines.push(match now {
                Some(now) => format!("  {} has it now, with token {}", now.who(), now.token),
                None => "  nobody has it now".to_owned(),
            });
            lines.push("  all locks: flow locks".to_owned());
            (lines, Exit::Refused)
        }
        (CliError::JournalDown(_) | CliError::Lock(LockError::File(_)), _) => (
            vec![
                format!("error: {error}"),
                "  nothing was run: what cannot be recorded is not done".to_owned(),
            ],
            Exit::Failed,
        ),
        _ => (vec![format!("error: {error}")], Exit::Failed),
    }
}

fn draw(problems: &Problems, sources: &Sources, session: &Session) -> String {
    let width = crate::world::terminal::size().map_or(100, |(columns, _)| columns.clamp(40, 160));
    let style = Style { color: session.colours(), ascii: !session.unicode(), width };
    render::report(problems, sources, style)
}

fn prepare(error: &PrepareError) -> (Vec<String>, Exit) {
    let mut lines = vec![format!("error: {error}")];
    let exit = match error {
        PrepareError::NoFlow { hint, known, .. } => {
            lines.push(suggestion(hint.as_ref(), known, "flows"));
            Exit::Usage
        }
        PrepareError::NoEnvironment { hint, known, .. } => {
            lines.push(suggestion(hint.as_ref(), known, "environments"));
            Exit::Usage
        }
        PrepareError::Auto { .. } => {
            lines.push("  name one: --env NAME".to_owned());
            Exit::Usage
        }
        PrepareError::Params(errors) => {
            lines = errors.iter().map(|error: &ParamError| format!("error: {error}")).collect();
            Exit::Usage
        }
        PrepareError::Selection(errors) => {
            lines = errors.iter().flat_map(selection).collect();
            Exit::Usage
        }
        PrepareError::Identity(IdentityError::WrongAccount { arn, .. }) => {
            lines[0] = lines[0].replacen("error", "refused", 1);
            lines.push(format!("  the caller is {arn}"));
            lines.push("  sign in to the right account, or set the environment's profile".to_owned());
            Exit::Refused
        }
        PrepareError::Identity(IdentityError::Aws(_)) => {
            lines.push("  nothing was run: flow asks whose account it is before anything else".to_owned());
            lines.push(
                "  check the credentials, the region and, if the environment names one, its endpoint"
                    .to_owned(),
            );
            Exit::Failed
        }
        PrepareError::Branch { .. } => {
            lines[0] = lines[0].replacen("error", "refused", 1);
            Exit::Refused
        }
        PrepareError::Policy(error) => policy(error, &mut lines),
        PrepareError::Stopped(_) => Exit::Interrupted,
        PrepareError::Problems(_) => Exit::Usage,
        PrepareError::Back(error) => back(error, &mut lines),
        PrepareError::File(_) | PrepareError::Release(_) => Exit::Failed,
    };
    (lines, exit)
}

/// It is not known who may approve, or the files would have it otherwise.
pub(super) fn policy(error: &PolicyError, lines: &mut Vec<String>) -> Exit {
    let refused = |lines: &mut Vec<String>| lines[0] = lines[0].replacen("error", "refused", 1);
    match error {
        PolicyError::Key { .. } | PolicyError::ValidBefore { .. } => Exit::Usage,
        PolicyError::Unread { .. } => {
            lines.push("  nothing was run: the account says who may approve there".to_owned());
            Exit::Failed
        }
        PolicyError::Unwritten { .. } => Exit::Failed,
        PolicyError::Damaged { environment, .. } => {
            refused(lines);
            lines.push(format!("  write it again: flow approvers set --env {environment}"));
            Exit::Refused
        }
        PolicyError::Loosened(_) => {
            refused(lines);
            lines.push("  files may ask for more than the account's record, never for less".to_owned());
            Exit::Refused
        }
    }
}

fn selection(error: &SelectionError) -> Vec<String> {
    let mut lines = vec![format!("error: {error}")];
    match error {
        SelectionError::Unrecorded { add, .. } => {
            lines.push(format!("  add it: --only {add}, or run everything once"));
        }
        SelectionError::Gate(_) => lines.push("  leave out what stands behind it instead".to_owned()),
        SelectionError::Unknown { .. } | SelectionError::Empty => {}
    }
    lines
}

/// Why there is nothing to go back to, and what there is.
fn back(error: &BackError, lines: &mut Vec<String>) -> Exit {
    let releases = |environment: &EnvName| format!("  all releases: flow releases --env {environment}");
    match error {
        BackError::NoRelease { environment, flow } => lines.push(format!(
            "  record what runs now: flow adopt {} --env {}",
            shell_word(flow.as_str()),
            shell_word(environment.as_str())
        )),
        BackError::NothingBefore { environment, .. } | BackError::NoSuch { environment, .. } => {
            lines.push(releases(environment));
        }
        BackError::OtherFlow { id, other, .. } => lines.push(format!(
            "  go back with its own flow: flow rollback {} --to {id} --env …",
            shell_word(other.as_str())
        )),
        BackError::Empty { .. } => lines.push("  what it records: flow releases --env … --json".to_owned()),
        BackError::Release(_) => return Exit::Failed,
    }
    Exit::Usage
}

fn suggestion(hint: Option<&String>, known: &[String], what: &str) -> String {
    match hint {
        Some(near) => format!("  did you mean {near}?"),
        None if known.is_empty() => format!("  this project has no {what}"),
        None => format!("  {what}: {}", known.join(", ")),
    }
}

/// All steps that cannot be planned. References without a value are drawn like other mistakes.
fn plan_failures(failures: &[PlanFailure], session: &Session) -> (Vec<String>, Exit) {
    let mut problems = Problems::default();
    let mut lines = Vec::new();
    let classes = |class: FailureClass| {
        let of = |why: &NoProposal| matches!(why, NoProposal::Failure(said) if said.class == class);
        failures.iter().any(|failure| of(&failure.why))
    };
    for failure in failures {
        match &failure.why {
            NoProposal::Unresolved(error) => problems.push(unresolved(error)),
            NoProposal::Failure(said) => {
                let word = if said.class == FailureClass::Refused { "refused" } else { "error" };
                let mut reason = said.record.reason.lines();
                lines.push(format!("{word}: {}  {}", failure.step, reason.next().unwrap_or_default()));
                lines.extend(reason.map(|line| format!("  {line}")));
                lines.extend(said.record.details.iter().map(|line| format!("  {line}")));
                lines.extend(said.record.help.iter().map(|help| format!("  {help}")));
            }
        }
    }
    if !problems.is_empty() {
        problems.sort();
        lines.insert(0, draw(&problems, &session.loaded.sources, session));
        return (lines, Exit::Usage);
    }
    lines.push(format!("{} cannot be planned. Nothing was run.", count(failures.len(), "step")));
    let ways = [
        (FailureClass::Refused, Exit::Refused),
        (FailureClass::Unusable, Exit::Usage),
        (FailureClass::Unknown, Exit::Unknown),
        (FailureClass::Locked, Exit::Locked),
    ];
    let exit = ways.into_iter().find_map(|(class, exit)| classes(class).then_some(exit));
    (lines, exit.unwrap_or(Exit::Failed))
}
