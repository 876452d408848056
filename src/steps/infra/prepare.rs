//! `prepare { command …; inputs …; outputs … }`: local work that a program
//! needs before it can say anything, such as `npm ci`.
//!
//! It is no step: it leaves nothing outside the workspace, so the plan does it
//! too. With `inputs` it is left out while they, the argv and the outputs are
//! what they were after its last success; that is written down in
//! `.flow/cache/prepared`. Steps that share one wait for one another.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::settings::{Common, Prepare};
use super::workplace::Workplace;
use crate::steps::program::{Surroundings, harmless, judge, program};
use crate::steps::{Context, Failure};
use crate::world::depot::{Hold, Lock};
use crate::world::files::{Files, digest};
use crate::world::process::{Tail, run, show_argv};
use crate::world::walk::Matcher;

const SHOWN_LINES: usize = 20;
/// How often a lock is tried that another step has.
const TRY: Duration = Duration::from_millis(50);

/// What was there after the last success.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    inputs: String,
    outputs: String,
}

impl Common {
    /// Does the local work, unless nothing changed since it was done last.
    pub(in crate::steps) async fn prepare(&self, workplace: &Workplace, cx: &Context) -> Result<(), Failure> {
        let Some(prepare) = &self.prepare else { return Ok(()) };
        // A copy of sources is new each time.
        if workplace.is_unpacked() {
            return self.run_prepare(prepare, workplace, cx).await;
        }
        let place = prepare.place(&self.dir, cx);
        let _turn = turn(&place.with_extension("lock"), cx).await?;
        let inputs = digests(&prepare.inputs, &cx.world.files).await?;
        let then = cx.world.files.read(&place).ok();
        let then = then.and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
        if let (Some(then), false) = (then, prepare.inputs.is_empty())
            && then.inputs == inputs
            && then.outputs == digests(&prepare.outputs, &cx.world.files).await?
        {
            return Ok(());
        }
        self.run_prepare(prepare, workplace, cx).await?;
        if prepare.inputs.is_empty() {
            return Ok(());
        }
        for path in &prepare.outputs {
            if cx.world.files.metadata(&cx.world.files.locate(path)?)?.is_none() {
                return Err(Failure::new(format!("{} left no {path}", show_argv(&prepare.command)))
                    .help("correct outputs, or what the command makes"));
            }
        }
        // What it was made from, not what became of that meanwhile.
        let note = Note { inputs, outputs: digests(&prepare.outputs, &cx.world.files).await? };
        cx.world.files.write_unsynced(&place, json!(note).to_string().as_bytes())?;
        Ok(())
    }

    async fn run_prepare(
        &self,
        prepare: &Prepare,
        workplace: &Workplace,
        cx: &Context,
    ) -> Result<(), Failure> {
        let attributes = self.local();
        let surroundings = Surroundings::new(&attributes, cx).await?;
        let folder = workplace.folder(&self.dir)?;
        let program = program(&prepare.command, folder, surroundings.env.clone(), &attributes, cx);
        let mut tail = Tail::new(SHOWN_LINES, Some(cx.feed.clone()));
        let ending = run(&program, &cx.cancel, &cx.world.masker, &mut tail).await?;
        harmless(judge(ending, tail.into_lines()))
            .map_err(|failure| failure.detail(format!("this was prepare: {}", show_argv(&prepare.command))))
    }
}

impl Prepare {
    /// The file that says how it was after the last success: one for each command and folder.
    fn place(&self, dir: &str, cx: &Context) -> PathBuf {
        let name = digest(json!([self.command, self.inputs, self.outputs, dir]).to_string().as_bytes());
        let name: String = name.chars().take(16).collect();
        cx.world.files.root().join(".flow/cache/prepared").join(name)
    }
}

/// Waits until no other step does the same work.
async fn turn(path: &std::path::Path, cx: &Context) -> Result<Lock, Failure> {
    loop {
        if let Some(lock) = Lock::try_take(path, Hold::Alone)? {
            return Ok(lock);
        }
        cx.cancel.unless_stopped(cx.world.clock.pause(TRY)).await?;
    }
}

/// One digest over all that the globs match.
async fn digests(globs: &[String], files: &Files) -> Result<String, Failure> {
    let (globs, files) = (globs.to_vec(), files.clone());
    let work = move || {
        let matcher = Matcher::new(&globs, &[]).map_err(|error| Failure::new(error.to_string()))?;
        let listing = matcher.list(&files).map_err(|error| Failure::new(error.to_string()))?;
        Ok(listing.digest().to_string())
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(error.to_string()))?
}
