//! `migrate`: brings a database's schema to where the files are.
//!
//! Built in are sqlx's files and table, read when the flow runs; any other tool
//! through `tool "command"`. Migrations only go forward. A file that breaks code
//! which still runs counts as `contract`, whoever wrote it: see [`lint`].

mod apply;
mod back;
mod command;
mod files;
mod lint;
mod state;
mod statements;

#[cfg(test)]
mod sandbox_tests;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use self::apply::Apply;
pub(super) use self::back::barred;
use self::command::CommandTool;
use self::files::{Compared, File, Phase, compare};
use self::lint::Dialect;
use self::state::State;
use super::{Attributes, Back, Context, Done, Failure, FailureClass, Kind, Open, Proposal, Settled, Step};
use crate::model::change::{Action, Change, Reversible};
use crate::model::kind::{KindSpec, Nature, OutputNames, Rule};
use crate::model::secret::Secret;
use crate::model::settings::{Head, Ready, Setting, Shape, Unready};
use crate::model::units::count;
use crate::model::value::{Outputs, Value};
use crate::world::database::{Database, DatabaseError, History, Place};
use crate::world::files::{digest, hex};

/// The kind.
pub(super) static KIND: Kind = Kind {
    spec: KindSpec {
        name: "migrate",
        about: "Applies SQL migrations that a database does not have yet.",
        settings: &[
            Setting::new("dir", Shape::Path { reads: true }, "the folder of the .sql files").required(),
            Setting::new("url", Shape::Text, "the database: postgres://, mysql:// or sqlite:")
                .secret()
                .target(),
            Setting::new(
                "tool",
                Shape::Choice(&["sqlx", "command"]),
                "sqlx's files and table, built in, is the default",
            ),
            Setting::new("target", Shape::Int, "the last number that is applied; all without"),
            Setting::new(
                "phase",
                Shape::Choice(&["expand", "contract"]),
                "expand stops before the first file that breaks running code",
            ),
            Setting::new(
                "lock-timeout",
                Shape::Duration,
                "how long a statement waits for a lock; 10s without",
            ),
            Setting::new(
                "list",
                Shape::Node { head: Head::None, many: false, fields: COMMAND },
                "for tool \"command\": prints what is not applied, one on each line",
            ),
            Setting::new(
                "apply",
                Shape::Node { head: Head::None, many: false, fields: COMMAND },
                "for tool \"command\": applies it; the database's URL is in DATABASE_URL",
            ),
        ],
        rules: &[Rule::Needs("list", "apply"), Rule::Needs("apply", "tool")],
        outputs: OutputNames::Fixed(&["applied", "head"]),
        nature: Nature::Deploying,
        aws: false,
        repeatable: true,
    },
    make,
    back: Back::To(back::back),
};

const COMMAND: &[Setting] =
    &[Setting::new("command", Shape::Texts, "the program and its arguments; no shell").required()];

/// A `migrate` step with the built-in tool, read.
#[derive(Clone, Debug)]
struct Migrate {
    dir: String,
    url: Secret,
    target: Option<i64>,
    phase: Option<Phase>,
    lock_timeout: Duration,
    attributes: Attributes,
}

fn make(ready: &Ready, attributes: &Attributes) -> Result<Box<dyn Step>, Unready> {
    let invalid = |setting, why: &str| Unready::Invalid { setting, why: why.to_owned() };
    let dir = ready.text("dir")?;
    let url = ready.secret("url")?;
    if ready.opt_text("tool")?.as_deref() == Some("command") {
        let argv = |name| ready.node(name).map(|node| node.settings.texts("command")).transpose();
        let apply = argv("apply")?.ok_or_else(|| invalid("apply", "tool \"command\" needs it"))?;
        let tool = CommandTool { dir, url, list: argv("list")?, apply, attributes: attributes.clone() };
        return Ok(Box::new(tool));
    }
    Ok(Box::new(Migrate {
        dir,
        url: url.ok_or_else(|| invalid("url", "it is not given"))?,
        target: ready.int("target")?,
        phase: ready.opt_text("phase")?.map(|phase| match phase.as_str() {
            "contract" => Phase::Contract,
            _ => Phase::Expand,
        }),
        lock_timeout: ready.duration("lock-timeout")?.unwrap_or(Duration::from_secs(10)),
        attributes: attributes.clone(),
    }))
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        let reason = error.to_string();
        match error {
            DatabaseError::Url => {
                Self::of(FailureClass::Refused, reason).help("write postgres://USER:PASSWORD@HOST/DATABASE")
            }
            DatabaseError::Unreachable { place, .. } => Self::of(FailureClass::Passing, reason)
                .help(format!("check that {} answers from this machine", place.host)),
            DatabaseError::NoDatabase { place } => {
                Self::missing(reason).help(format!("create it, or correct the name {}", place.database))
            }
            DatabaseError::Denied { .. } => Self::new(reason).help("check user and password in the secret"),
            DatabaseError::Locked { .. } => Self::of(FailureClass::Passing, reason)
                .help("wait for the other run, or end its session in the database"),
            DatabaseError::Broken { .. } => Self::of(FailureClass::Passing, reason),
            DatabaseError::Sql(fault) => Self::new(reason).details(fault.more),
        }
    }
}

#[async_trait]
impl Step for Migrate {
    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        cx.world.masker.learn([&self.url]);
        if !cx.world.host.trusts_the_checkout() {
            // It says where to, and what this machine keeps for databases goes with it.
            let reason = "the database is not asked: the checkout is not trusted";
            return Err(Failure::of(FailureClass::Passing, reason));
        }
        let files = files::read(&cx.world.files, &self.dir, Dialect::of(Some(&self.url)))?;
        let (place, history) = cx.cancel.unless_stopped(Box::pin(self.ask())).await??;
        if let Some(version) = history.dirty {
            return Err(Failure::new(format!("migration {version} stopped in its middle in {place}"))
                .help(format!("finish or undo it by hand, then correct row {version} of _sqlx_migrations")));
        }
        let compared = compare(&files, &history);
        let (chosen, left) = self.choose(&compared);
        let mut warnings = warnings(&compared, &chosen);
        if let Some(left) = left {
            warnings.push(left);
        }
        let before = cx.recorded.as_ref().map(|recorded| &recorded.receipt);
        let standing = State::of(&place, &history, &files, before);
        let proposal = if chosen.is_empty() {
            let at =
                compared.head.map_or_else(|| "nothing is applied".to_owned(), |head| format!("at {head}"));
            Proposal::up_to_date(at, outputs(&[], compared.head))
        } else {
            self.propose(&chosen, &compared, &place, &standing)
        };
        let standing = standing.to_json();
        Ok(Proposal {
            warnings,
            inputs: files
                .iter()
                .map(|file| (file.path.clone(), digest(file.script.text.as_bytes())))
                .collect(),
            baseline: facts(&place, &history),
            receipt: standing.clone(),
            standing,
            ..proposal
        })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        cx.world.masker.learn([&self.url]);
        let (place, history) = cx.cancel.unless_stopped(Box::pin(self.ask())).await??;
        Ok(facts(&place, &history))
    }

    /// The table tells. A file that may leave something behind and is not in it is a person's
    /// business, if it began.
    async fn reconcile(&self, open: &Open, cx: &Context) -> Result<Settled, Failure> {
        cx.world.masker.learn([&self.url]);
        let announced: BTreeSet<&str> = noted(open, "applying", "files");
        // Nothing is sent before that is written down.
        if announced.is_empty() {
            return Ok(Settled::NotDone);
        }
        // The folder may hold something else by now: names and numbers of then decide.
        let files = files::read(&cx.world.files, &self.dir, Dialect::of(Some(&self.url))).unwrap_or_default();
        let (place, history) = cx.cancel.unless_stopped(Box::pin(self.ask_alone())).await??;
        let number = |name: &str| name.split('_').next().and_then(|number| number.parse::<i64>().ok());
        let is_applied =
            |name: &str| history.applied.iter().any(|(version, _)| Some(*version) == number(name));
        let left: Vec<&str> = announced.iter().copied().filter(|name| !is_applied(name)).collect();
        let began: BTreeSet<&str> = noted(open, "begins", "file");
        if let Some(name) = left.iter().find(|name| began.contains(*name)) {
            return Ok(Settled::Ambiguous(format!(
                "{}/{name} began outside a transaction and is not recorded in _sqlx_migrations of {place}: what of it \
                 was done is not known",
                self.dir.trim_end_matches('/')
            )));
        }
        if let Some(version) = history.dirty {
            return Ok(Settled::Ambiguous(format!("migration {version} stopped in its middle in {place}")));
        }
        if !left.is_empty() {
            return Ok(Settled::NotDone);
        }
        let mut names: Vec<&str> = announced.into_iter().collect();
        names.sort_by_key(|name| number(name));
        let head = history.applied.iter().map(|(version, _)| *version).max();
        let before = cx.recorded.as_ref().map(|recorded| &recorded.receipt);
        Ok(Settled::Done(Done {
            summary: applied_in_words(&names),
            outputs: outputs(&names, head),
            receipt: State::of(&place, &history, &files, before).to_json(),
        }))
    }
}

/// Texts that were noted under a key, in one field or in a list of it.
fn noted<'a>(open: &'a Open, key: &str, field: &str) -> BTreeSet<&'a str> {
    let noted = open.notes.iter().filter(|(noted, _)| noted == key).map(|(_, data)| &data[field]);
    noted
        .flat_map(|data| data.as_array().map_or_else(|| std::slice::from_ref(data), Vec::as_slice))
        .filter_map(Json::as_str)
        .collect()
}

/// What the database alone says.
fn facts(place: &Place, history: &History) -> Json {
    let head = history.applied.iter().map(|(version, _)| *version).max();
    let rows: Vec<_> = history.applied.iter().map(|(version, sum)| (version, hex(sum))).collect();
    let sum: String = digest(json!(rows).to_string().as_bytes()).chars().take(8).collect();
    json!({
        "database": format!("{}/{}", place.host, place.database),
        "migration head": head,
        "applied migrations": format!("{} ({sum})", rows.len()),
    })
}

/// `0042_note.sql`, `3 migrations`
fn applied_in_words(names: &[&str]) -> String {
    match names {
        [name] => (*name).to_owned(),
        names => count(names.len(), "migration"),
    }
}

impl Migrate {
    /// What the database says. The connection does not outlive it.
    async fn ask(&self) -> Result<(Place, History), DatabaseError> {
        let mut database = Database::connect(&self.url, self.lock_timeout).await?;
        let history = database.history().await;
        let place = database.place().clone();
        database.close().await;
        Ok((place, history?))
    }

    /// The same once nobody else is at it: a session that was lost may still be working.
    async fn ask_alone(&self) -> Result<(Place, History), DatabaseError> {
        let mut database = Database::connect(&self.url, self.lock_timeout).await?;
        let history = match database.lock().await {
            Ok(()) => database.history().await,
            Err(error) => Err(error),
        };
        let place = database.place().clone();
        database.close().await;
        Ok((place, history?))
    }

    /// The pending files that are applied, and what is said of those that are not.
    fn choose<'a>(&self, compared: &Compared<'a>) -> (Vec<&'a File>, Option<String>) {
        let target = self.target.unwrap_or(i64::MAX);
        let wanted = compared.pending.iter().copied().filter(|file| file.script.version <= target);
        if self.phase != Some(Phase::Expand) {
            return (wanted.collect(), None);
        }
        let (mut chosen, mut left) = (Vec::new(), Vec::new());
        for file in wanted {
            // Files build on one another: nothing is applied past the one that must wait.
            if left.is_empty() && file.phase == Phase::Expand {
                chosen.push(file);
            } else {
                left.push(file.name.as_str());
            }
        }
        let said = (!left.is_empty())
            .then(|| format!("left for a step with phase \"contract\": {}", left.join(", ")));
        (chosen, said)
    }

    fn propose(
        &self,
        chosen: &[&File],
        compared: &Compared<'_>,
        place: &Place,
        standing: &State,
    ) -> Proposal {
        let mut proposal = Proposal::new(Action::Update, count(chosen.len(), "migration"));
        proposal.subject = subject(chosen);
        proposal.changes = chosen
            .iter()
            .map(|file| Change::new(file.name.clone(), None, file.phase.as_str().to_owned()))
            .collect();
        proposal.reversible = Reversible::ForwardOnly;
        let head = chosen.iter().map(|file| file.script.version).chain(compared.head).max();
        let names: Vec<&str> = chosen.iter().map(|file| file.name.as_str()).collect();
        proposal.outputs = outputs(&names, head);
        proposal.with(Apply {
            files: chosen.iter().map(|file| (*file).clone()).collect(),
            url: self.url.clone(),
            place: place.clone(),
            lock_timeout: self.lock_timeout,
            head: compared.head,
            standing: standing.clone(),
            timeout: self.attributes.timeout,
            grace: self.attributes.grace,
        })
    }
}

fn outputs(applied: &[&str], head: Option<i64>) -> Outputs {
    let mut outputs = Outputs::from([("applied".to_owned(), Value::texts(applied.iter().copied()))]);
    outputs.insert("head".to_owned(), head.map_or_else(|| Value::text(""), Value::Int));
    outputs
}

/// `0042_note.sql  expand`, `0042_note.sql, 0043_x.sql, and 2 more`
fn subject(files: &[&File]) -> String {
    match files {
        [file] => format!("{}  {}", file.name, file.phase.as_str()),
        [a, b] => format!("{}, {}", a.name, b.name),
        [a, b, more @ ..] => format!("{}, {}, and {} more", a.name, b.name, more.len()),
        [] => String::new(),
    }
}

fn warnings(compared: &Compared<'_>, chosen: &[&File]) -> Vec<String> {
    let mut warnings = Vec::new();
    for file in &compared.edited {
        warnings.push(format!("{} was changed after it was applied; the change has no effect", file.path));
    }
    for version in &compared.missing {
        warnings.push(format!("migration {version} is applied and has no file"));
    }
    for file in compared.late.iter().filter(|late| chosen.iter().any(|file| file.name == late.name)) {
        warnings.push(format!("{} comes after migrations with higher numbers", file.path));
    }
    for file in chosen {
        for finding in &file.findings {
            warnings.push(format!("{}: {}", file.line(finding.at), finding.what));
        }
        if file.needs_no_transaction {
            let path = &file.path;
            warnings.push(format!("{path}: CONCURRENTLY needs \"-- no-transaction\" as the first line"));
        }
    }
    warnings
}
