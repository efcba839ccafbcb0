//! `ProviderSync`: every store and every file of a provider.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{CancelReason, Claim, Outcome};
use rag_db::connections;
use rag_jobs::ProviderSync;
use tracing::Instrument as _;

use crate::context::Context;
use crate::halt::Halt;
use crate::sync;

pub(crate) async fn handle(
    job: ProviderSync,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("provider_sync", provider = job.provider_type, job.dry_run);
    let result = sync::provider::run(&context, &claim, &job).instrument(span).await;
    if let Some(error) = result.as_ref().err().and_then(Halt::error)
        && let Err(halt) = note(&job, &claim, &context, error).await
    {
        tracing::debug!(%halt, "why the sync failed could not be written down");
    }
    Ok(match result {
        // The job was completed with the last thing that was written.
        Ok(()) => Outcome::done(),
        Err(Halt::Stopped) if claim.reason() == Some(CancelReason::Requested) => Outcome::Cancelled,
        Err(halt @ (Halt::Retry { .. } | Halt::Fail { .. })) => {
            tracing::warn!(%halt, "the sync of a provider stops");
            halt.into_outcome()
        }
        Err(halt) => halt.into_outcome(),
    })
}

/// The connection says what its sync met, until one comes to its end.
async fn note(job: &ProviderSync, claim: &Claim, context: &Context, error: &str) -> Result<(), Halt> {
    let mut tx = context.pool.begin().await?;
    claim.fence(&mut tx).await?;
    let error = format!("the last sync failed: {error}");
    connections::set_sync_error(&mut tx, &job.provider_type, Some(&error)).await?;
    Ok(tx.commit().await?)
}
