//! `policy { command … }`: a program of the project reads the preview and says
//! whether it may be done.

use serde_json::Value as Json;

use super::settings::Common;
use crate::model::secret::Secret;
use crate::steps::program::{Surroundings, harmless, judge, program};
use crate::steps::{Context, Failure, FailureClass};
use crate::world::process::{Ending, Tail, run, show_argv};

/// How many of its last lines a refusal shows.
const SHOWN_LINES: usize = 20;

impl Common {
    /// Asks the policy, if there is one. `preview` is the program's own JSON, whose sensitive values
    /// the caller has hidden; known secrets are hidden here. Refused by any exit but 0. It runs in the
    /// checkout wherever the program works: what may be done today is for today's policy to say.
    pub(in crate::steps) async fn judge(&self, preview: &Json, cx: &Context) -> Result<(), Failure> {
        let Some(argv) = &self.policy else { return Ok(()) };
        let text = preview.to_string();
        let attributes = self.local();
        let surroundings = Surroundings::new(&attributes, cx).await?;
        let folder = cx.world.files.locate(&self.dir)?;
        let mut program = program(argv, folder, surroundings.env.clone(), &attributes, cx);
        program.stdin = Some(Secret::new(cx.world.masker.mask(&text)));
        let mut tail = Tail::new(SHOWN_LINES, Some(cx.feed.clone()));
        let ending = run(&program, &cx.cancel, &cx.world.masker, &mut tail).await?;
        let shown = show_argv(argv);
        match ending {
            Ending::Exited(0) => Ok(()),
            Ending::Exited(_) => {
                Err(Failure::of(FailureClass::Refused, format!("the policy {shown} forbids this preview"))
                    .details(tail.into_lines())
                    .help("change what it names, or the policy"))
            }
            ending => harmless(judge(ending, tail.into_lines()))
                .map_err(|failure| failure.detail(format!("this was its policy: {shown}"))),
        }
    }
}
