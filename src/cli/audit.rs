//! `flow audit verify [RUN]`

use serde_json::json;

use super::Done;
use super::session::Session;
use crate::exit::Exit;
use crate::journal::log::{self, ReadError};
use crate::model::names::RunId;
use crate::model::units::count;
use crate::report::{history, out};
use crate::world::store::Store;

/// Check what is recorded
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Verify(Verify),
}

/// Check that the journals are what was written: each record holds the digest of the one before it
#[derive(Debug, clap::Args)]
struct Verify {
    /// A run, or how its id begins; all runs without
    run: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What was found of a run: how many records, or what is wrong with one.
type Found = (RunId, Result<usize, ReadError>);

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    let What::Verify(args) = &args.what;
    let mut found: Vec<Found> = Vec::new();
    if let Some(run) = &args.run {
        let (store, run) = session.store_of_run(run)?;
        found.push(verify(&store, run));
    } else {
        for store in session.stores() {
            found.extend(store.list("runs")?.into_iter().map(|run| verify(&store, RunId::new(run))));
        }
    }
    let damaged = found.iter().filter(|(_, records)| records.is_err()).count();
    if args.json {
        let runs: Vec<_> = found
            .iter()
            .map(|(run, records)| match records {
                Ok(records) => json!({ "id": run, "whole": true, "records": records }),
                Err(error) => json!({ "id": run, "whole": false, "problem": error.to_string() }),
            })
            .collect();
        out::json(&history::audit_json(&runs));
    }
    for (_, records) in &found {
        if let Err(error) = records {
            out::note(&format!("damaged: {error}"));
        }
    }
    let runs = count(found.len(), "run");
    if damaged > 0 {
        out::note(&format!("{damaged} of {runs} cannot be believed"));
        return Ok(Exit::Failed);
    }
    if !args.json {
        let records: usize = found.iter().filter_map(|(_, records)| records.as_ref().ok()).sum();
        out::data(&format!("{runs}, {}: as they were written", count(records, "record")));
    }
    Ok(Exit::Success)
}

fn verify(store: &Store, run: RunId) -> Found {
    let records = log::read(store, &run).map(|records| records.len());
    (run, records)
}
