//! `ProviderSync`: every store and every file of a provider.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_db::connections;
use rag_jobs::ProviderSync;
use tracing::Instrument as _;

use crate::context::Context;
use crate::step_error::StepError;
use crate::sync;

pub(crate) async fn handle(
    job: ProviderSync,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("provider_sync", provider = job.provider_type, job.dry_run);
    let result = sync::provider::run(&context, &claim, &job).instrument(span).await;
    if let Some(error) = result.as_ref().err().and_then(StepError::error)
        && let Err(error) = note(&job, &claim, &context, error).await
    {
        tracing::debug!(%error, "why the sync failed could not be written down");
    }
    Ok(match result {
        // The job was completed with the last thing that was written.
        Ok(()) => Outcome::done(),
        Err(error @ (StepError::Retry { .. } | StepError::Fail { .. })) => {
            tracing::warn!(%error, "the sync of a provider stops");
            error.into_outcome()
        }
        Err(error) => error.into_outcome(),
    })
}

/// The connection says what its sync met, until one comes to its end.
async fn note(job: &ProviderSync, claim: &Claim, context: &Context, error: &str) -> Result<(), StepError> {
    let mut tx = context.pool.begin().await?;
    claim.fence(&mut tx).await?;
    let error = format!("the last sync failed: {error}");
    connections::set_sync_error(&mut tx, &job.provider_type, Some(&error)).await?;
    Ok(tx.commit().await?)
}
