//! `IndexSync`: what the provider says of one index.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{CancelReason, Claim, Outcome};
use rag_db::indexes;
use rag_jobs::IndexSync;
use tracing::Instrument as _;

use crate::context::Context;
use crate::halt::Halt;
use crate::sync;

pub(crate) async fn handle(
    job: IndexSync,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("index_sync", index.id = %job.index_id, domain.id = %job.domain_id);
    let result = async {
        tokio::select! {
            result = sync::index::run(&context, &claim, &job) => result,
            () = claim.cancellation().cancelled() => Err(Halt::Stopped),
        }
    };
    Ok(match result.instrument(span).await {
        // The job was completed with what was written.
        Ok(()) => Outcome::done(),
        Err(Halt::Stopped) if claim.reason() == Some(CancelReason::Requested) => Outcome::Cancelled,
        Err(halt) => {
            tracing::info!(%halt, "the sync of an index pauses or ends");
            if let Some(error) = halt.error()
                && let Err(halt) = note(&job, &claim, &context, error).await
            {
                tracing::debug!(%halt, "why the sync failed could not be written down");
            }
            halt.into_outcome()
        }
    })
}

/// The index says what its sync met, until one succeeds.
async fn note(job: &IndexSync, claim: &Claim, context: &Context, error: &str) -> Result<(), Halt> {
    let mut tx = context.pool.begin().await?;
    let index = indexes::find_for_update(&mut tx, &job.domain_id, job.index_id).await?;
    claim.fence(&mut tx).await?;
    if let Some(index) = index {
        indexes::set_sync_error(&mut tx, index.id, Some(&format!("the last sync failed: {error}"))).await?;
    }
    Ok(tx.commit().await?)
}
