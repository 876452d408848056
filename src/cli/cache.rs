//! `flow cache stats|prune|verify`

use std::time::Duration;

use jiff::SignedDuration;

use super::Done;
use super::session::Session;
use crate::cache::Cache;
use crate::cache::local::Limits;
use crate::exit::Exit;
use crate::model::units::{count, parse_duration};
use crate::report::{cache as told, out};
use crate::world::World;
use crate::world::clock::Clock;

/// What steps that make files left in the cache of this machine
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// How much there is
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what was not used for long, and what is too much
    Prune {
        /// What may stay, the last used first: 500MB, 20GB
        #[arg(long, value_name = "SIZE", default_value = "10GB", value_parser = size)]
        max_size: u64,
        /// What was not made or restored for so long goes, unless it is a step's last success
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = age)]
        older_than: Duration,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read everything and name what is not as it was stored
    Verify {
        /// Remove what is broken; it is made again when it is needed
        #[arg(long)]
        repair: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let cache = Cache::new(&World::new(session.host.clone(), &session.root, session.store(None)?));
    match &args.command {
        Command::Stats { json } => {
            let (stats, steps) = (cache.local.stats()?, cache.successes.count()?);
            if *json {
                out::json(&told::stats_json(&stats, steps));
            } else {
                show(&told::stats(&session.look(), &stats, steps, Clock.now()));
            }
            Ok(Exit::Success)
        }
        Command::Prune { max_size, older_than, json } => {
            let older_than = SignedDuration::try_from(*older_than).unwrap_or(SignedDuration::MAX);
            let limits = Limits { max_size: *max_size, older_than };
            let Some(pruned) = cache.local.prune(limits, &cache.successes.keys()?, Clock.now())? else {
                return Ok(busy());
            };
            cache.successes.prune()?;
            if *json {
                out::json(&told::pruned_json(&pruned));
            } else {
                show(&told::pruned(&pruned));
            }
            Ok(Exit::Success)
        }
        Command::Verify { repair, json } => verify(session, &cache, *repair, *json),
    }
}

fn verify(session: &Session, cache: &Cache, repair: bool, json: bool) -> Done {
    let (checked, broken) = cache.local.verify()?;
    if repair && !broken.is_empty() && !cache.local.repair(&broken)? {
        return Ok(busy());
    }
    if json {
        out::json(&told::broken_json(checked, &broken, repair));
    } else {
        show(&told::broken(&session.look(), &broken));
        let checked = count(checked, "file");
        out::note(&match (broken.len(), repair) {
            (0, _) => format!("{checked} read, all as they were stored"),
            (wrong, true) => format!("{checked} read, {wrong} broken and removed"),
            (wrong, false) => {
                format!("{checked} read, {wrong} broken\n  remove them: flow cache verify --repair")
            }
        });
    }
    Ok(if broken.is_empty() || repair { Exit::Success } else { Exit::Failed })
}

fn show(lines: &[String]) {
    out::lines(lines);
}

/// Nothing that a running flow uses is removed.
fn busy() -> Exit {
    out::note("error: a flow uses the cache right now; nothing was removed");
    Exit::Locked
}

fn age(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a time such as 12h or 30d".to_owned())
}

/// `500MB`, `20 GB`, `0`: powers of 1000.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write a size such as 500MB or 20GB".to_owned();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("0", 0), ("12", 12), ("500MB", 500_000_000), ("2 gb", 2_000_000_000)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GB", "1.5GB", "5 apples", "99999999999TB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
