//! `OrphanReconcile`: searches a provider for what we made there and no row references.

use std::convert::Infallible;

use apalis_core::task::data::Data;
use apalis_mariadb::{Claim, Outcome};
use rag_jobs::OrphanReconcile;
use tracing::Instrument as _;

use crate::context::Context;
use crate::lease::Scope;
use crate::orphans;
use crate::step_error::StepError;

/// Searches; the report is the job's output.
pub(crate) async fn handle(
    job: OrphanReconcile,
    claim: Claim,
    context: Data<Context>,
) -> Result<Outcome, Infallible> {
    let span = tracing::info_span!("orphan_reconcile", provider = job.provider_type);
    let result = run(&job, &claim, &context).instrument(span).await;
    Ok(result.map_or_else(StepError::into_outcome, Outcome::Done))
}

async fn run(
    job: &OrphanReconcile,
    claim: &Claim,
    context: &Context,
) -> Result<serde_json::Value, StepError> {
    let mut db = context.pool.acquire().await?;
    let provider = context.connections.open(&mut db, &job.provider_type).await?;
    drop(db);
    let scope = Scope::without_domain(context, claim, provider, &job.provider_type)?;
    let confirmed = job.confirmed_files.iter().cloned().collect();
    let report = super::until_cancelled(claim, orphans::search(&scope, job.mode, &confirmed)).await?;
    Ok(serde_json::to_value(report)?)
}
