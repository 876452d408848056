//! What became of a build that nobody saw the end of. A half push is harmless;
//! a whole one that was not recorded any more would have to be built again, and
//! in a repository whose tags never move another build could not be pushed. So
//! the image that the engine had built is noted before it is pushed: what the
//! registry has under the tag of the content is ours if it is that one.

use super::DockerBuild;
use super::publish::is_image;
use super::record::{self, BuildRecord};
use crate::model::change::Action;
use crate::steps::{Context, Done, Failure, Open, Settled, Step};

pub(super) async fn reconcile(step: &DockerBuild, open: &Open, cx: &Context) -> Result<Settled, Failure> {
    if !step.existing {
        believe(step, open, cx).await?;
    }
    let proposal = step.plan(cx).await?;
    // A tag that is missing is put on by the step itself.
    Ok(match proposal.action {
        Action::UpToDate if proposal.effect.is_none() => Settled::Done(Done {
            summary: proposal.summary,
            outputs: proposal.outputs,
            receipt: proposal.receipt,
        }),
        _ => Settled::NotDone,
    })
}

/// Writes down what was pushed and is not in the store's records yet.
async fn believe(step: &DockerBuild, open: &Open, cx: &Context) -> Result<(), Failure> {
    let built = open.notes.iter().rev().find(|(key, _)| key == "built").map(|(_, note)| note);
    let text = |name: &str| built.and_then(|note| note.get(name)?.as_str());
    let (Some(noted), Some(id)) = (text("hash"), text("image")) else { return Ok(()) };
    let repository = step.repository(cx).await?;
    let prepared = step.prepare(cx, &repository).await?;
    let hash = prepared.content.hash();
    if hash.as_str() != noted || record::find(&cx.world.store, &repository, &hash)?.is_some() {
        return Ok(());
    }
    if let Some(image) = repository.image(&hash.tag()).await?.filter(|image| is_image(image, id)) {
        // Whether it passed its scan is not known: the step waits for that.
        BuildRecord::new(prepared.content, image.digest, None, cx.world.clock.now()).write(
            &cx.world.store,
            &repository,
            &step.sort(),
        )?;
    }
    Ok(())
}
