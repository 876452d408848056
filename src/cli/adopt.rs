//! `flow adopt FLOW --env ENV`

use std::sync::Arc;

use super::Done;
use super::failure::CliError;
use super::plan::look_locked;
use super::selection::Selection;
use super::session::{Session, block_on};
use super::workspace::Subject;
use crate::exec::adopt;
use crate::exec::signals::Signals;
use crate::exit::Exit;
use crate::model::names::RunId;
use crate::model::units::count;
use crate::report::out;
use crate::world::cancel::Canceller;

/// Record what runs now as release 0; changes nothing but the record
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,

    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::Flow(self.selection.flow())
    }
}

pub(super) fn exec(session: &Session, args: &Args) -> Done {
    block_on(async {
        let canceller = Arc::new(Canceller::new());
        // No run will record them.
        let _signals = Signals::listen(Arc::clone(&canceller));
        // Under the lock: what a run is about to change is no state to go back to.
        let (prepared, observed, _locks) =
            look_locked(session, args.selection.request(), &canceller.view()).await?;
        if let Some(current) = &prepared.current {
            return Err(CliError::Adopted {
                environment: current.environment.to_string(),
                flow: current.flow.to_string(),
                id: current.id,
            });
        }
        let release = adopt::record(&prepared, &observed.plan, RunId::new("adopt"))?;
        if args.json {
            out::json(&release);
            return Ok(Exit::Success);
        }
        let look = session.look();
        let (id, environment) = (release.id, &release.environment);
        let as_wanted = observed.plan.to_run().count();
        let found = count(release.steps.len(), "step");
        out::data(&look.text(&format!("release {id} of {environment} records {found} as they are now")));
        for (step, recorded) in &release.steps {
            out::data(&look.text(&format!("  {step}  {}", recorded.kind)));
        }
        if as_wanted > 0 {
            let command = args.selection.command_line("plan");
            out::note(&look.text(&format!("  {} from the flow: {command}", differ(as_wanted))));
        }
        Ok(Exit::Success)
    })
}

fn differ(steps: usize) -> String {
    if steps == 1 { "1 step differs".to_owned() } else { format!("{steps} steps differ") }
}
