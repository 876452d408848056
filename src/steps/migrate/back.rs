//! A schema only goes forward: a rollback runs nothing, and says whether the
//! older code can live with what was applied since.
//!
//! The database is asked where its URL is known ([`Step::equip`]): also a run
//! that failed, or a person, may have applied something.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::facts;
use super::files::{self, Phase};
use super::lint::Dialect;
use super::outputs;
use super::state::{Migration, State};
use crate::model::change::Reversible;
use crate::model::secret::Secret;
use crate::model::settings::Ready;
use crate::model::units::count;
use crate::steps::back::{Stays, read};
use crate::steps::{Attributes, Context, Failure, FailureClass, Proposal, Step, Way};
use crate::world::database::Database;

/// The step that looks whether code of the release to return to can live with the schema.
pub(super) fn back(way: &Way) -> Result<Box<dyn Step>, Failure> {
    let Some(to) = way.to.as_ref().filter(|to| !to.is_null()) else {
        return Ok(Box::new(Stays::unrecorded("the schema", way.now.clone())));
    };
    let now = if way.now.is_null() { State::default() } else { read(&way.now)? };
    Ok(Box::new(Forward { now, to: read(to)?, today: None }))
}

/// Why older code could not live with what was applied since, as far as the records say.
pub(in crate::steps) fn barred(way: &Way) -> Option<String> {
    let now: State = read(&way.now).ok()?;
    let to: State = read(way.to.as_ref().filter(|to| !to.is_null())?).ok()?;
    let breaking: Vec<&Migration> = breaking(now.beyond(&to));
    (!breaking.is_empty()).then(|| refuse(&breaking).record.reason)
}

/// Those with which older code cannot live, or of which that is not known.
fn breaking<'a>(since: impl IntoIterator<Item = &'a Migration>) -> Vec<&'a Migration> {
    since.into_iter().filter(|migration| migration.phase != Some(Phase::Expand)).collect()
}

#[derive(Debug)]
struct Forward {
    now: State,
    to: State,
    today: Option<Today>,
}

/// What the flow says of the database today.
#[derive(Debug)]
struct Today {
    url: Secret,
    dir: String,
    lock_timeout: Duration,
}

#[async_trait]
impl Step for Forward {
    fn equip(&mut self, settings: &Ready, _: &Attributes) {
        let (Ok(Some(url)), Ok(dir)) = (settings.secret("url"), settings.text("dir")) else { return };
        let lock_timeout =
            settings.duration("lock-timeout").ok().flatten().unwrap_or(Duration::from_secs(10));
        // Other tools keep their own books.
        if self.to.place.is_some() {
            self.today = Some(Today { url, dir, lock_timeout });
        }
    }

    async fn plan(&self, cx: &Context) -> Result<Proposal, Failure> {
        let mut warnings = Vec::new();
        let (stands, baseline) = if let Some(today) = &self.today {
            today.ask(&self.now, cx).await?
        } else {
            if self.to.place.is_some() {
                warnings.push("the database was not asked: the flow does not say where it is".to_owned());
            }
            (self.now.clone(), Json::Null)
        };
        if let (Some(here), Some(there)) = (&stands.place, &self.to.place)
            && here != there
        {
            let reason = format!(
                "the release is of {}/{}, and the flow names {}/{}",
                there.host, there.database, here.host, here.database
            );
            return Err(Failure::of(FailureClass::Refused, reason)
                .help("a schema does not go back by naming another database: restore there what is needed"));
        }
        let gone: Vec<String> = self.to.beyond(&stands).map(ToString::to_string).collect();
        if !gone.is_empty() {
            let reason = format!("the database no longer has {}", gone.join(", "));
            return Err(Failure::missing(reason).help("find out who took it back, and apply it again"));
        }
        let since: Vec<&Migration> = stands.beyond(&self.to).collect();
        let breaking = breaking(since.iter().copied());
        if !breaking.is_empty() {
            return Err(refuse(&breaking));
        }
        let stay = since.iter().map(|migration| {
            format!("{migration} stays: it is an expand migration, older code lives with it")
        });
        warnings.extend(stay);
        let at = stands.head.map(|head| format!("stays at {head}"));
        let summary = match (at, since.len()) {
            (Some(at), _) => at,
            (None, 0) => "nothing was applied since".to_owned(),
            (None, since) => format!("{} stay", count(since, "migration")),
        };
        Ok(Proposal {
            warnings,
            baseline,
            reversible: if since.is_empty() { Reversible::None } else { Reversible::ForwardOnly },
            receipt: stands.to_json(),
            ..Proposal::up_to_date(summary, outputs(&[], stands.head))
        })
    }

    async fn observe(&self, cx: &Context) -> Result<Json, Failure> {
        Ok(self.plan(cx).await?.baseline)
    }
}

impl Today {
    /// What the database has, each with what is known of its phase.
    async fn ask(&self, recorded: &State, cx: &Context) -> Result<(State, Json), Failure> {
        cx.world.masker.learn([&self.url]);
        let files = files::read(&cx.world.files, &self.dir, Dialect::of(Some(&self.url))).unwrap_or_default();
        let asking = Box::pin(async {
            let mut database = Database::connect(&self.url, self.lock_timeout).await?;
            let history = database.history().await;
            let place = database.place().clone();
            database.close().await;
            history.map(|history| (place, history))
        });
        let (place, history) = cx.cancel.unless_stopped(asking).await??;
        // A file of another branch may have the number of one that was applied: the record counts.
        let mut state = State::of(&place, &history, &[], Some(&json!(recorded)));
        let from_files = State::of(&place, &history, &files, None);
        for (known, file) in state.migrations.iter_mut().zip(from_files.migrations) {
            if known.phase.is_none() && files::is_applied_as_written(&files, file.version, &history) {
                *known = file;
            }
        }
        Ok((state, facts(&place, &history)))
    }
}

fn refuse(breaking: &[&Migration]) -> Failure {
    let names: Vec<String> = breaking.iter().map(ToString::to_string).collect();
    let known = breaking.iter().all(|migration| migration.phase.is_some());
    let reason = match (names.as_slice(), known) {
        ([one], true) => format!("{one} is a contract migration: older code cannot live with it"),
        ([one], false) => format!("whether older code can live with {one} is not known"),
        (many, true) => {
            format!("{} are contract migrations: older code cannot live with them", many.join(", "))
        }
        (many, false) => format!("whether older code can live with {} is not known", many.join(", ")),
    };
    Failure::of(FailureClass::Refused, reason)
        .detail("migrations only go forward, so it stays")
        .help("repair it with a newer release, or go back to a release that was made after it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing::Bench;

    fn state(migrations: &[(i64, Option<Phase>)]) -> State {
        let migrations = migrations.iter().map(|(version, phase)| Migration {
            version: Some(*version),
            name: Some(format!("{version}.sql")),
            phase: *phase,
        });
        State {
            place: None,
            head: migrations.clone().filter_map(|m| m.version).max(),
            migrations: migrations.collect(),
        }
    }

    #[tokio::test]
    async fn what_was_applied_since_decides() {
        let bench = Bench::new();
        let (expand, contract) = (Some(Phase::Expand), Some(Phase::Contract));
        let then = state(&[(1, contract), (2, expand)]);
        for (name, now, wanted) in [
            ("nothing since", state(&[(1, contract), (2, expand)]), "stays at 2"),
            (
                "expand",
                state(&[(1, contract), (2, expand), (3, expand)]),
                "stays at 3 | 3.sql stays: it is an expand migration, older code lives with it",
            ),
            (
                "contract",
                state(&[(1, contract), (2, expand), (3, contract)]),
                "3.sql is a contract migration: older code cannot live with it",
            ),
            (
                "nobody knows",
                state(&[(1, contract), (2, expand), (3, None)]),
                "whether older code can live with 3.sql is not known",
            ),
            ("taken back", state(&[(1, contract)]), "the database no longer has 2.sql"),
        ] {
            let way = Way { now: json!(now), to: Some(json!(then)) };
            let said = match back(&way).expect("a state").plan(&bench.cx).await {
                Ok(planned) => {
                    assert_eq!((planned.receipt, planned.effect.is_none()), (json!(now), true), "{name}");
                    std::iter::once(planned.summary).chain(planned.warnings).collect::<Vec<_>>().join(" | ")
                }
                Err(failure) => failure.record.reason,
            };
            assert_eq!(said, wanted, "{name}");
        }
    }
}
