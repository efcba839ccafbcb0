//! `IndexSync`: what the provider says of one index.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_db::indexes;
use rag_jobs::IndexSync;
use tracing::Instrument as _;

use crate::context::Context;
use crate::step_error::StepError;
use crate::sync;

pub(crate) async fn handle(
    job: IndexSync,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("index_sync", index.id = %job.index_id, domain.id = %job.domain_id);
    let work = super::until_cancelled(&claim, sync::index::run(&context, &claim, &job));
    Ok(match work.instrument(span).await {
        // The job was completed with what was written.
        Ok(()) => Outcome::done(),
        Err(error) => {
            tracing::info!(%error, "the sync of an index pauses or ends");
            if let Some(error) = error.error()
                && let Err(error) = note(&job, &claim, &context, error).await
            {
                tracing::debug!(%error, "why the sync failed could not be written down");
            }
            error.into_outcome()
        }
    })
}

/// The index says what its sync met, until one succeeds.
async fn note(job: &IndexSync, claim: &Claim, context: &Context, error: &str) -> Result<(), StepError> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &job.domain_id, job.index_id).await?;
    claim.fence(&mut tx).await?;
    if let Some(index) = index {
        indexes::set_sync_error(&mut tx, index.id, Some(&format!("the last sync failed: {error}"))).await?;
    }
    Ok(tx.commit().await?)
}
