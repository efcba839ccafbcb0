//! `IndexCancel`: a build was cancelled while it waited, and the provider goes on with what it had been handed.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_connections::ConnectError;
use rag_db::{indexes, intents};
use rag_jobs::IndexCancel;
use serde_json::json;
use tracing::Instrument as _;

use crate::build::stop_indexing;
use crate::context::Context;
use crate::lease::Scope;
use crate::step_error::StepError;

/// Tells the provider to stop.
pub(crate) async fn handle(
    job: IndexCancel,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("index_cancel", index.id = %job.index_id, domain.id = %job.domain_id);
    let result = run(&job, &claim, &context).instrument(span).await;
    Ok(match result {
        Ok(batches) => Outcome::Done(json!({"batches_cancelled": batches})),
        Err(error) => error.into_outcome(),
    })
}

async fn run(job: &IndexCancel, claim: &Claim, context: &Context) -> Result<usize, StepError> {
    let mut db = context.pool.acquire().await?;
    let index = indexes::find(&mut db, &job.domain_id, job.index_id).await?;
    // The store of a deleted index goes as a whole.
    let Some(index) = index else { return Ok(0) };
    let store = index.external_id.as_deref().unwrap_or_default();
    if intents::is_store_retired(&mut db, &index.provider_type, store).await? {
        return Ok(0);
    }
    let provider = match context.connections.open(&mut db, &index.provider_type).await {
        Ok(provider) => provider,
        Err(ConnectError::Database(error)) => return Err(error.into()),
        // The provider cannot be told, and the next build must not wait for that.
        Err(error) => {
            tracing::warn!(%error, "the provider can't be told to stop indexing");
            return Ok(0);
        }
    };
    drop(db);
    let scope = Scope::new(context, claim, provider, &index.provider_type, &job.domain_id);
    super::until_cancelled(claim, stop_indexing(&scope, &index)).await
}
