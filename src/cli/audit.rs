//! `flow audit verify [RUN]`

use serde_json::json;

use super::Done;
use super::failure::CliError;
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

pub(super) fn exec(projects: &[Session], args: &Args) -> Done {
    let What::Verify(args) = &args.what;
    let mut found: Vec<Found> = Vec::new();
    if let Some(run) = &args.run {
        let (store, run) = store_of_run(projects, run)?;
        found.push(verify(&store, run));
    } else {
        for store in projects.iter().flat_map(Session::stores) {
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

fn store_of_run(projects: &[Session], run: &str) -> Result<(Store, RunId), CliError> {
    let mut looked = projects.iter().map(|session| session.store_of_run(run));
    let mut last = looked.next().unwrap_or_else(|| Err(CliError::NoFolder("there is no store".to_owned())));
    for found in looked {
        last = last.or(found);
    }
    last
}

fn verify(store: &Store, run: RunId) -> Found {
    let records = log::read(store, &run).map(|records| records.len());
    (run, records)
}
