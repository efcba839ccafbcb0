//! What a build leaves in its index when it pauses with an error, or is given up.
//!
//! Reads and writes the index, the build, and in the end the copies and attachments that the build had not begun.

use apalis_mariadb::Claim;
use rag_db::{builds, indexes};
use rag_domain::IndexingStatus;
use rag_jobs::IndexBuild;

use crate::context::Context;
use crate::step_error::StepError;

/// The build goes on later; until then its index says what was met.
pub(crate) async fn note_pause(
    job: &IndexBuild,
    claim: &Claim,
    context: &Context,
    error: &str,
) -> Result<(), StepError> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &job.domain_id, job.index_id).await?;
    claim.fence(&mut tx).await?;
    if let Some(index) = index {
        indexes::note_build_error(&mut tx, index.id, Some(error)).await?;
    }
    Ok(tx.commit().await?)
}

/// Ends the build as failed, unless index or build are gone or ended already.
pub(crate) async fn record(
    job: &IndexBuild,
    claim: &Claim,
    context: &Context,
    error: &str,
) -> Result<(), StepError> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &job.domain_id, job.index_id).await?;
    claim.fence(&mut tx).await?;
    let index = index.filter(|index| index.indexing_status == IndexingStatus::InProgress);
    if let Some(index) = &index {
        let error = format!("{error}{}", builds::what_stays(&mut tx, index).await?);
        indexes::mark_built(&mut tx, job.index_id, IndexingStatus::Failed, Some(&error)).await?;
    }
    let job_id = claim.job_id().to_string();
    if builds::find(&mut tx, &job_id)
        .await?
        .is_some_and(|build| build.finished_at.is_none())
    {
        builds::finish(&mut tx, &job_id).await?;
    }
    if let Some(index) = &index {
        let (copies, attachments) = builds::give_up_rest(&mut tx, index, error).await?;
        tracing::info!(copies, attachments, "what the build had not begun is given up");
    }
    Ok(tx.commit().await?)
}
